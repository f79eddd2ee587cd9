"""The command `loop review`: labels that deserve a second look."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from loop.cli_options import api_key, as_json_option, configured, require_started, spoken, tell

if TYPE_CHECKING:
    from loop.settings import Settings


@click.command()
@configured
@spoken
@as_json_option
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows to print.")
@click.option(
    "--push",
    "push",
    metavar="N",
    type=click.IntRange(min=1),
    help="Have one more annotator look at the N images most in doubt, before the rest of the batch.",
)
def review(settings: Settings, quiet: bool, as_json: bool, top: int, push: int | None) -> None:
    """List the labels most in doubt: disputed among annotators, or contradicted by the other labels.

    Without --push Label Studio is not asked. Images of the random stream are listed only where annotators disagree, so
    that no correction leans on the probe; starred labels and images looked at again before are left out.

    \b
    Example:
      loop review -c loop.toml --push 20
    """
    from loop.review import push_review, read_review
    from loop.show_review import show_review
    from loop.start import opened

    require_started(settings)
    if push is None:
        found = read_review(settings)
    else:
        with opened(settings, api_key()) as loop:
            found = push_review(loop, push)
    tell(found, partial(show_review, top=top), quiet=quiet, as_json=as_json)
