"""The command `loop rollback`: go back to an earlier round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loop.cli_options import api_key, as_json_option, configured, require_started, spoken, tell

if TYPE_CHECKING:
    from loop.settings import Settings


@click.command()
@click.argument("number", metavar="ROUND", type=int)
@configured
@spoken
@as_json_option
@click.option(
    "--dry-run", is_flag=True, help="Show what would be undone; change nothing, ask Label Studio nothing."
)
def rollback(settings: Settings, quiet: bool, as_json: bool, number: int, dry_run: bool) -> None:
    """Go back to an earlier round: its batch, queue and verdict are in force again, later ones are undone.

    Labels stay, and so does everything that was scored or counted. The next `loop step` judges all of them and asks a
    new batch. To take a STOP back, name the last round.

    \b
    Example:
      loop rollback 3 -c loop.toml --dry-run
    """
    from loop.rollback import rehearse_rollback, roll_back
    from loop.show_rollback import show_rollback
    from loop.start import opened

    require_started(settings)
    if dry_run:
        done = rehearse_rollback(settings, number)
    else:
        with opened(settings, api_key()) as loop:
            done = roll_back(loop, number)
    tell(done, show_rollback, quiet=quiet, as_json=as_json)
