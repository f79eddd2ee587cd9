"""The `loop report` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli_options import as_json_option, configured, print_json, require_folder, spoken

if TYPE_CHECKING:
    from loop.settings import Settings


@click.command()
@configured
@spoken
@as_json_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=require_folder,
    help="Write the page here. Default: report.html in the project's folder.",
)
@click.option(
    "--csv",
    "tables",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write its figures into this folder, too: one CSV a table.",
)
@click.option(
    "--with-images",
    is_flag=True,
    help="With --out: show small pictures of the disputed images. The file then holds images of patients.",
)
def report(
    settings: Settings, quiet: bool, as_json: bool, out: Path | None, tables: Path | None, with_images: bool
) -> None:
    """Write the project lead's page: one HTML file that opens from disk, prints, and needs no network.

    Verdict, findings, learning curves, what-if, people and history, from the state alone. Each step writes it, too,
    unless [project] report = false.

    \b
    Example:
      loop report -c loop.toml --out report.html
    """
    from datetime import UTC, datetime

    from loop.errors import BadInput
    from loop.page.figures import read_page
    from loop.page.pictures import read_images
    from loop.page.write import SHOWN, write_csv, write_page

    if with_images and out is None:
        raise BadInput("--with-images needs --out: a page with images of patients is written where you say.")

    page = read_page(settings, datetime.now(UTC))
    if tables is not None:
        write_csv(page, tables)
    if as_json and out is None:
        print_json(page.to_json())
        return
    path = out or settings.page_path
    images = read_images(settings, page.disputed[:SHOWN]) if with_images else {}
    write_page(page, path, images)
    if with_images and not images and not quiet:
        click.echo(
            "There is no image to show: readers disagree on none, or the files are not here.", err=True
        )
    if as_json:
        print_json(page.to_json())
    elif not quiet:
        click.echo(f"{page.headline.verdict}. {page.headline.sentence}\nWrote {path}")
        if tables is not None:
            click.echo(f"Wrote the tables of {tables}; columns.csv says what they hold")
