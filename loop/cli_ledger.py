"""`loop ledger`: who labelled what, and why it was asked."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import click

from loop.cli_options import (
    EXISTING_FILE,
    as_json_option,
    config_option,
    read_settings,
    require_folder,
    spoken,
    tell,
)

BAD_LEDGER = 2


def _require_hash(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", value):
        raise click.BadParameter("a hash has 64 digits from 0 to f; `loop ledger` prints the last one.")
    return value


@click.group(invoke_without_command=True)
@config_option()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=require_folder,
    help="Export every row to this .csv or .jsonl file.",
)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Print this many rows, the latest.",
)
@spoken
@as_json_option
@click.pass_context
def ledger(ctx: click.Context, config: Path, out: Path | None, last: int, quiet: bool, as_json: bool) -> None:
    """Show who labelled what, and why it was asked.

    One row for every image that was asked (stream, round, rank, strategy, reason, inclusion probability, scores), every
    version of every label, skips, withdrawals and deleted tasks. Labels that nobody asked for are booked as overrun (the
    queue had run dry), outsider (picked by hand) or declared (see [labels] existing). Each row holds the hash of the one before.

    \b
    Example:
      loop ledger -c loop.toml --out ledger.csv
    """
    if ctx.invoked_subcommand is not None:
        return
    from loop.ledgerfile import tell_ledger
    from loop.show_ledger import show_ledger

    tell(
        tell_ledger(read_settings(config), out), partial(show_ledger, last=last), quiet=quiet, as_json=as_json
    )


@ledger.command()
@click.argument("file", type=EXISTING_FILE, required=False)
@config_option()
@click.option(
    "--head",
    metavar="HASH",
    callback=_require_hash,
    help="The last hash, as an earlier run printed it: its row must still be there.",
)
@spoken
@as_json_option
@click.pass_context
def verify(
    ctx: click.Context, file: Path | None, config: Path, head: str | None, quiet: bool, as_json: bool
) -> None:
    """Check that no row was changed: of the state, or of an exported FILE and against the state.

    The state's rows are also held against its tables of picks, labels and decisions. Where there is no configuration, a
    FILE is checked alone. Rows that were removed from the end are found by --head, or by an export kept elsewhere.

    \b
    Exit status:
      0   every row is as it was written
      2   one is not; the first of them is named

    \b
    Example:
      loop ledger verify -c loop.toml
      loop ledger verify ledger.csv -c loop.toml
    """
    from loop.ledgerfile import verify_file, verify_state
    from loop.show_ledger import show_verified

    if file is None:
        found = verify_state(read_settings(config), head)
    else:
        found = verify_file(file, read_settings(config) if config.is_file() else None, head)
    tell(found, show_verified, quiet=quiet and found.ok, as_json=as_json)
    ctx.exit(0 if found.ok else BAD_LEDGER)
