"""What `loop status` prints of the annotators' agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from forecasting.words import auc_text, level_text
from loop.agreement import AgreementReport, ceiling_text
from loop.show import auc_cell, console, plain_table
from loop.step_findings import IntervalReport

if TYPE_CHECKING:
    from loop.status import Status

MOST = 6
"""Pairs of annotators and annotators that are shown a finding; --json holds all."""


def show_agreement(status: Status) -> None:
    """One row a finding, then who agrees with whom, then the best AUC that the labels allow; nothing of one annotator."""
    agreement, out = status.agreement, console()
    if not agreement:
        return
    table = plain_table("Agreement, on images that two or more people answered")
    for column in ("finding", "images", "disagreed", "alpha", "kappa of two", "ceiling", "target"):
        table.add_column(column, justify="left" if column == "finding" else "right", no_wrap=True)
    for name, told in agreement.items():
        most = max(told.kappas, key=lambda pair: pair.images, default=None)
        table.add_row(
            name,
            f"{told.images:,}",
            f"{told.disagreed:,}",
            _cell(told.alpha),
            _cell(most.kappa) if most else "",
            _cell(told.ceiling.labels) if told.ceiling else "",
            auc_cell(told.ceiling.target) if told.ceiling else "",
        )
    out.print(table)
    first = next((told.alpha for told in agreement.values() if told.alpha), None)
    if first is not None:
        out.print(
            Text(
                f"alpha: Krippendorff's; kappa: Cohen's, of the two who share most images; with {level_text(first.level)} "
                "intervals. 1 = always agree, 0 = as by chance.",
                style="dim",
            )
        )
    for name, told in agreement.items():
        _show_finding(out, name, told)
    for line in status.warnings:
        out.print(Text(f"warning: {line}", style="yellow"))


def _show_finding(out: Console, name: str, told: AgreementReport) -> None:
    lines = []
    if told.ties or told.cannot_tell:
        lines.append(f"Not known: {told.ties:,} ties, {told.cannot_tell:,} cannot tell or not answered.")
    if told.annotators:
        shown = (
            f"{one.annotator}: {one.agreed} of {one.images}"
            + (f" ({_range(one.share)})" if one.share else "")
            for one in told.annotators[:MOST]
        )
        lines.append(
            f"As the majority of the others, by annotator: {', '.join(shown)}{_more(len(told.annotators))}."
        )
    if len(told.kappas) > 1:
        shown = (
            f"{pair.first} and {pair.second}: {_cell(pair.kappa) or 'not defined'} on {pair.images}"
            for pair in told.kappas[:MOST]
        )
        lines.append(f"Kappa: {', '.join(shown)}{_more(len(told.kappas))}.")
    if told.ceiling is not None:
        lines.append(ceiling_text(told.ceiling))
    if told.by_majority is not None:
        lines.append(f"Disputes: {told.by_majority}.")
    if lines:
        out.print(Text(name, style="bold"))
    for line in lines:
        out.print(Padding(Text(line), (0, 0, 0, 4)))


def _cell(interval: IntervalReport | None) -> str:
    return "" if interval is None else f"{_number(interval.mean, 3)} ({_range(interval)})"


def _range(interval: IntervalReport) -> str:
    return f"{_number(interval.low, 2)} to {_number(interval.high, 2)}"


def _number(value: float, digits: int) -> str:
    """`.71`, `-.16`: agreement may be below chance."""
    return auc_text(value, digits) if value >= 0 else f"-{auc_text(-value, digits)}"


def _more(n: int) -> str:
    return f" and {n - MOST} more (--json)" if n > MOST else ""
