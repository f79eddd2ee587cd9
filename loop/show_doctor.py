"""What `loop doctor` prints."""

from __future__ import annotations

from rich.text import Text

from forecasting.words import counted
from loop.doctor import Examination
from loop.show import console, plain_table

LOOKS = {"ok": "green", "warning": "yellow", "error": "bold red", "not checked": "dim"}


def show_examination(told: Examination) -> None:
    """A line a check, below it what to do; at the end how many are not well."""
    out = console()
    table = plain_table()
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for check in told.checks:
        said = Text(check.fact)
        if check.fix:
            said.append(f"\n{check.fix}", style="dim")
        table.add_row(Text(check.state, style=LOOKS[check.state]), check.name, said)
    out.print(table)
    errors, warnings = told.count("error"), told.count("warning")
    if not errors and not warnings:
        out.print(Text("All is well.", style="green"))
    else:
        out.print(
            Text(
                f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.",
                style=LOOKS["error" if errors else "warning"],
            )
        )
