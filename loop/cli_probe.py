"""What leaves a project: the probe as a file and its scores of new images, and the evidence behind the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loop.cli_options import (
    EXISTING_FILE,
    as_json_option,
    configured,
    encoding,
    print_json,
    require_folder,
    spoken,
    tell,
)

if TYPE_CHECKING:
    from loop.settings import Settings


@click.command()
@click.argument(
    "out", metavar="PROBE", type=click.Path(dir_okay=False, path_type=Path), callback=require_folder
)
@configured
@spoken
@as_json_option
def export(out: Path, settings: Settings, quiet: bool, as_json: bool) -> None:
    """Write the probe that was trained last to PROBE, a .safetensors file.

    It holds one head a finding, the encoder that they need with its fingerprint, and what the last decision said of each
    finding, and mean and spread of the archive's embeddings, so that `loop predict` can tell images unlike them. It holds no image,
    no embedding of any and no label.

    \b
    Example:
      loop export probe.safetensors -c loop.toml
      loop predict new_images --probe probe.safetensors --out scores.csv
    """
    from loop.probefile import add_likeness, read_project_probe, write_probe_file
    from loop.show_probe import show_probe_file

    told = add_likeness(read_project_probe(settings), settings)
    write_probe_file(told, out)
    tell(told, show_probe_file(out), quiet=quiet, as_json=as_json)


@click.command()
@click.argument("source", metavar="IMAGES", type=click.Path(exists=True, path_type=Path))
@click.option("--probe", "file", required=True, type=EXISTING_FILE, help="What `loop export` wrote.")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=require_folder,
    help="The CSV to write: file, then a probability a finding.",
)
@click.option(
    "--encoder", "spec", help="Where the same encoder lies here, if the probe's own name of it does not fit."
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the embeddings here, so that the next run need not encode these images.",
)
@encoding
@spoken
@as_json_option
def predict(
    source: Path,
    file: Path,
    out: Path,
    spec: str | None,
    store: Path | None,
    batch_size: int,
    devices: str,
    allow_pickle: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score a folder, zip file or CSV manifest of new images with an exported probe.

    Says how many of them are unlike the archive that the probe was made on: nobody has measured what it says of such.

    \b
    Example:
      loop predict new_images --probe probe.safetensors --out scores.csv
    """
    from loop.encoders.embed import here
    from loop.encoders.reducing import load_reducing
    from loop.errors import BadInput
    from loop.pictures import find_pictures
    from loop.predict import score_pictures
    from loop.probefile import read_probe_file
    from loop.reduced import ReducedImages
    from loop.show import Progress
    from loop.show_probe import show_scored

    if out.suffix.lower() != ".csv":
        raise BadInput(f"--out {out}: scores are a table, so name a .csv file.")
    told, pictures = read_probe_file(file), find_pictures(source)
    copies = ReducedImages.inside(store or out.parent, told.side)
    encoders = load_reducing(spec or told.encoder, devices, allow_pickle, copies)
    with Progress(not (quiet or as_json)) as progress:
        scored = score_pictures(told, pictures, encoders[0], out, store, batch_size, progress, here(encoders))
    tell(scored, show_scored, quiet=quiet, as_json=as_json)


@click.command()
@click.argument(
    "out", metavar="PACK", type=click.Path(dir_okay=False, path_type=Path), callback=require_folder
)
@configured
@spoken
@as_json_option
def evidence(out: Path, settings: Settings, quiet: bool, as_json: bool) -> None:
    """Write all that a third party needs to check the verdict to PACK, a .zip file.

    The page, the ledger with its hash chain, the decision in force, frozen settings with every change of them, the probe with
    a model card, package versions, and a script that checks all this with nothing but Python. It holds no image.

    \b
    Example:
      loop evidence evidence.zip -c loop.toml
      loop verify evidence.zip
    """
    from loop.evidence import write_pack
    from loop.show_probe import show_pack

    tell(write_pack(settings, out), show_pack, quiet=quiet, as_json=as_json)


@click.command()
@click.argument("pack", type=EXISTING_FILE)
@spoken
@as_json_option
@click.pass_context
def verify(ctx: click.Context, pack: Path, quiet: bool, as_json: bool) -> None:
    """Check an evidence PACK: recompute the certificate's evidence and verdict from its ledger.

    The same as `python verify.py PACK` with the script in it, but by the program that is installed here.

    \b
    Exit status:
      0   nothing was changed, and what is said follows
      2   not so; the first contradiction is named

    \b
    Example:
      loop verify evidence.zip
    """
    from loop.evidence_check import Refused, check_pack, say

    try:
        told = check_pack(str(pack))
    except Refused as refused:
        click.echo(
            f"REFUSED: {pack}: {refused}.\nIt proves nothing. Ask for it anew where it came from, and compare its SHA-256 with theirs.",
            err=True,
        )
        ctx.exit(2)
    if as_json:
        print_json(told)
    elif not quiet:
        click.echo(say(told))
