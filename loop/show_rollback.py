"""What `loop rollback` prints."""

from __future__ import annotations

from rich.text import Text

from forecasting.words import counted
from loop.rollback import RollbackReport, UndoneRound
from loop.show import console


def show_rollback(report: RollbackReport) -> None:
    """What is undone, what stays, and how to go on."""
    out = console()
    done, would = ("would be", "would ") if "dry run" in report.action else ("was", "")
    out.print(
        Text.assemble(
            (report.project, "bold"),
            f" · back to round {report.round}: {report.asked - report.outstanding} of its "
            f"{counted(report.asked, 'image')} are answered, {report.outstanding} outstanding",
        )
    )
    for round_ in report.undone:
        out.print(f"  round {round_.round} {done} undone ({round_.version}): {undone_text(round_)}")
    if report.was and report.was != report.verdict:
        out.print(f"  the verdict {report.was} {done} undone")
    if not would:
        out.print(
            f"  Label Studio serves {report.version}; {counted(report.removed, 'place')} in its queue taken back"
        )
    out.print(
        f"{report.verdict}: "
        + (
            "Label what is left of the batch, or ask"
            if report.outstanding
            else "Its batch is finished, so the queue holds nothing that is asked. Ask"
        )
        + f" round {report.next_round} with `loop step{' --now' if report.outstanding else ''}`."
        + (
            " By the same settings it would say STOP again: change them first."
            if report.was == "STOP"
            else ""
        )
    )
    for line in report.warnings:
        out.print(Text(f"warning: {line}", style="yellow"))


def undone_text(round_: UndoneRound) -> str:
    """`30 of 50 answered, and kept; of the others 8 random images come first in the next batch, 12 may be chosen again`."""
    told = f"{round_.answered} of {counted(round_.asked, 'image')} answered, and kept"
    again = [
        f"{counted(number, kind)} {what}"
        for number, kind, what in (
            (round_.random_open, "random image", "to be asked first in the next batch"),
            (round_.active_open, "other", "back in the pool"),
        )
        if number
    ]
    return "; ".join([told, *again])
