"""Commands about encoders: which there are."""

from __future__ import annotations

import click

from loop.cli_options import as_json_option, spoken, tell


@click.group()
def encoders() -> None:
    """Choose the frozen model behind the features."""


@encoders.command("list")
@spoken
@as_json_option
def list_(quiet: bool, as_json: bool) -> None:
    """List the families of encoders: how to ask for one, its sizes, source and licence, and whether it is here.

    \b
    Example:
      loop encoders list
    """
    from loop.show_encoders import look_up_encoders, show_encoders

    tell(look_up_encoders(), show_encoders, quiet=quiet, as_json=as_json)
