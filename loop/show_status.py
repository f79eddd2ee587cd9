"""What `loop status` prints: where the project stands, and how it came there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from forecasting.calibration import FEWEST
from forecasting.words import auc_text, counted, level_text, listed
from loop.show import auc_cell, console, interval_cell, labels_line, plain_table
from loop.show_step import show_step
from loop.step_findings import FindingReport
from loop.step_report import LabelCount

if TYPE_CHECKING:
    from loop.status import Status
    from loop.zero_shot import ZeroShotReport


def show_status(status: Status) -> None:
    """Labels, findings, history: where the project stands."""
    out = console()
    if status.last is not None:
        show_step(status.last)
    out.print()
    out.print(
        f"Now: {labels_line(status.labels)}; {status.outstanding} of {status.batch_size} outstanding; {status.pool_left:,} images left to ask."
    )
    count = status.labels
    for number, what in (
        (count.overrun, "labelled without having been asked, after the queue had run dry"),
        (
            count.declared,
            "labelled before the first batch, declared random by [labels] existing; the certificate does not read them",
        ),
        (
            count.unasked - count.overrun - count.declared,
            "labelled without having been asked, picked by hand or before the first batch",
        ),
        (count.unknown, "answered, but with no finding known (cannot tell, or annotators disagree)"),
        (count.unread, "answered, but in no way that can be read: listed below"),
        (count.skipped, "skipped"),
        (count.set_aside, "labelled but set aside: another image of a random-stream patient"),
        (count.foreign, "labelled tasks that are none of our images"),
    ):
        if number:
            out.print(f"  {number:,} {what}")
    if count.random_asked:
        out.print(random_text(count, {name: held.random_unknown for name, held in status.findings.items()}))
    table = plain_table("Labels by finding")
    for column in ("finding", "yes", "no", "of these random: yes", "no", "not known"):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, held in status.findings.items():
        table.add_row(
            name,
            *(str(n) for n in (held.positives, held.negatives, held.random_positives, held.random_negatives)),
            str(held.unknown),
        )
    out.print(table)
    if status.last is not None:
        show_calibration(status.last.findings)
        for said in reliability_lines(status.last.findings):
            out.print(Text(said))
    if status.zero_shot:
        out.print(Text(zero_shot_text(status.zero_shot)))
    if status.history:
        table = plain_table("History")
        for column in ("round", "at", "labels", "asked", "verdict"):
            table.add_column(column, justify="right" if column in ("round", "labels", "asked") else "left")
        names = list(status.history[-1].aucs)
        for name in names[:6]:
            table.add_column(f"AUC {name}", justify="right")
        for line in status.history:
            aucs = [line.aucs.get(name) for name in names[:6]]
            table.add_row(
                str(line.round),
                f"{line.at:%Y-%m-%d %H:%M}",
                f"{line.labels:,}",
                str(line.asked),
                f"{line.verdict} (undone)" if line.undone else line.verdict,
                *map(auc_cell, aucs),
            )
        out.print(table)
    for told in status.rollbacks:
        out.print(Text(f"rolled back: {told}", style="yellow"))
    for change in status.amendments:
        if status.last is None or change not in status.last.amendments:  # those are told above
            out.print(Text(f"changed since the start: {change}", style="yellow"))
    for change in status.amending:
        out.print(
            Text(
                f"not in force yet: {change}; the next `loop step` stores it as an amendment", style="yellow"
            )
        )
    for left_out in (*status.problems, *status.unreadable):
        out.print(Text(f"left out: {left_out}", style="yellow"))


def show_calibration(findings: Mapping[str, FindingReport]) -> None:
    """Whether probabilities mean what they say, by finding; nothing before it can be told."""
    told = {name: one.calibration for name, one in findings.items() if one.calibration is not None}
    if not told:
        return
    level = level_text(next(iter(told.values())).level)
    table = plain_table(f"Probabilities on random images of patients new to the probe ({level} intervals)")
    for column in (
        "finding",
        "predicted",
        "positive",
        "intercept (0)",
        "slope (1)",
        "Brier",
        "of the base rate",
    ):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, one in told.items():
        table.add_row(
            name,
            level_text(one.predicted),
            level_text(one.observed),
            *(f"{m.value:.2f} ({m.low:.2f} to {m.high:.2f})" for m in (one.intercept, one.slope)),
            f"{auc_text(one.brier.value)} ({auc_text(one.brier.low)} to {auc_text(one.brier.high)})",
            auc_text(one.brier_base),
        )
    console().print(table)


def reliability_lines(findings: Mapping[str, FindingReport]) -> list[str]:
    """`Effusion, said > positive by fifths of these images, in %: 2 > 3, 9 > 8, ...`, and of which findings nothing can be told."""
    lines = [
        f"{name}, said > positive by fifths of these images, in %: "
        + ", ".join(f"{100 * one.predicted:.0f} > {100 * one.observed:.0f}" for one in told.calibration.curve)
        for name, told in findings.items()
        if told.calibration is not None
    ]
    missing = [name for name, told in findings.items() if told.calibration is None]
    if missing:
        lines.append(
            f"What probabilities are worth is not known yet of {listed(missing)}: that takes {FEWEST} positives and {FEWEST} negatives "
            "on random images, whose classes the probe does not part without a miss."
        )
    return lines


def random_text(count: LabelCount, unknown: Mapping[str, int]) -> str:
    """`Random stream: 125 images asked, 123 answered; skipped: 2 (2 %); cannot tell: Effusion 1 (1 %), ...`."""

    def share(number: int) -> str:
        return f"{number} ({100 * number / count.random_asked:.0f} %)"

    told = ", ".join(f"{name} {share(number)}" for name, number in unknown.items())
    taken = f"; picked by hand before their turn: {count.random_taken:,} more" if count.random_taken else ""
    unread = f"; not readable: {share(count.random_unread)}" if count.random_unread else ""
    left_out = (count.random_skipped, count.random_unread, count.random_taken, *unknown.values())
    warned = " What is left out here the certificate never sees." if any(left_out) else ""
    return (
        f"Random stream: {counted(count.random_asked, 'image')} asked, {count.random_answered:,} answered; skipped: "
        f"{share(count.random_skipped)}; cannot tell, or annotators disagree: {told}{unread}{taken}.{warned}"
    )


def zero_shot_text(told: Mapping[str, ZeroShotReport]) -> str:
    """`Zero labels: ...`: how well the texts of the first batch tell each finding."""
    parts = [
        f"{name} {interval_cell(one.auc)}"
        if one.auc is not None
        else f"{name} not known yet ({one.positives} yes, {one.negatives} no)"
        for name, one in told.items()
    ]
    return f"Zero labels (round 0): AUC of the texts alone, on the random images labelled so far: {', '.join(parts)}."
