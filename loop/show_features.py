"""What people read about embeddings: whose are stored, what a check found, what was encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from loop.show import console, plain_table

if TYPE_CHECKING:
    from loop.stores import Stored, Stores
    from loop.table import Tabled

MOST_LISTED = 10


def show_tabled(told: Tabled) -> None:
    """What `loop encode` wrote, and what it left out."""
    out = console()
    for line in told.problems[:MOST_LISTED]:
        out.print(Text(f"left out: {line}", style="yellow"))
    if len(told.problems) > MOST_LISTED:
        out.print(f"... and {len(told.problems) - MOST_LISTED:,} more; --json lists them all")
    out.print(
        Text(
            f"Wrote {told.out}: {told.rows:,} of {told.images:,} images, vectors of {told.dim:,} by {told.encoder}; "
            f"{told.encoded:,} encoded now."
        )
    )
    if told.nearness is not None:
        out.print(Text(str(told.nearness)))


def show_stores(held: Stores) -> None:
    """One row an encoder."""
    out = console()
    table = plain_table()
    for column in ("encoder", "vector", "rows", "missing", "MiB", "last written", "fingerprint"):
        left = column in ("encoder", "last written", "fingerprint")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for stored in held.stores:
        table.add_row(
            Text(_name(stored), style="bold" if stored.in_force else ""),
            f"{stored.dim:,}" if stored.dim else "",
            f"{stored.rows:,}",
            "" if stored.missing is None else f"{stored.missing:,}",
            f"{stored.size_bytes / 2**20:,.1f}",
            f"{stored.written:%Y-%m-%d %H:%M}" if stored.written else "",
            stored.fingerprint[:8],
        )
    out.print(Text(held.folder))
    out.print(table)
    if any(stored.in_force for stored in held.stores):
        out.print("The project works with the first one.")
    _show_problems(held)


def show_verification(checked: Stores) -> None:
    """What `loop features verify` found."""
    out = console()
    for stored in checked.stores:
        state = "damaged" if stored.problems else "whole"
        out.print(Text(f"{_name(stored)}: {stored.rows:,} embeddings, {state}"))
    _show_problems(checked)
    if checked.ok:
        out.print("Every batch agrees with its checksums.")


def _show_problems(held: Stores) -> None:
    out = console()
    for stored in held.stores:
        for line in stored.problems:
            out.print(Text(f"{_name(stored)}: {line}", style="red"))
    if not held.ok:
        out.print(
            "Encode the bad rows again: run `loop start`, or the same `loop encode` with this --store, once more."
        )


def _name(stored: Stored) -> str:
    return stored.encoder or f"(encoder not noted) {stored.fingerprint[:8]}"
