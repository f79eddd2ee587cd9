"""What `loop step` and `loop watch` print: verdicts with the numbers behind them, and the next batch."""

from __future__ import annotations

from collections.abc import Mapping

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from forecasting.words import auc_text, counted, gain_text, level_text, probability_text, signed_text
from loop.show import COLOURS, console, interval_cell, labels_line, needed_cell, plain_table, verdict_text
from loop.step_findings import FindingReport, ForecastReport
from loop.step_report import BatchReport, StepReport

SURE = 1.645
"""Standard errors to either side of a 90 % interval."""


def show_step(report: StepReport) -> None:
    """One verdict a finding and one for the project, with the numbers behind them."""
    out = console()
    out.print()
    out.print(
        Text.assemble((report.project, "bold"), f" · round {report.round} · {labels_line(report.labels)}")
    )
    if report.findings:
        out.print(findings_table(report.findings))
        first = next((told.forecast for told in report.findings.values() if told.forecast), None)
        if first is not None:
            out.print(
                Text(
                    f"AUC with its {level_text(first.now.level)} interval; more labels as the "
                    f"{level_text(first.labels_needed.level)} range; P: probability that the target is reached now",
                    style="dim",
                )
            )
        for name, told in report.findings.items():
            out.print(
                Text.assemble(
                    (f"{name}: ", "bold"),
                    (told.verdict, COLOURS.get(told.verdict, "")),
                    f". {told.reason} {told.remedy}",
                )
            )
            for line in (
                selection_text(told),
                told.forecast and next_text(told.forecast),
                told.forecast and hours_text(told.forecast),
                told.price,
            ):
                if line:
                    out.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))
    out.print()
    if report.score is not None:
        out.print(Text(report.score.said))
    if report.saving is not None:
        out.print(Text(report.saving.said))
    out.print(Text.assemble((report.verdict, COLOURS[report.verdict]), f": {report.reason} {report.remedy}"))
    if report.next_gain is not None and report.verdict == "CONTINUE" and len(report.findings) > 1:
        out.print(
            f"The next batch brings {gain_text(report.next_gain)} AUC, mean of the findings that keep labelling."
        )
    if report.batch is not None:
        word = "Would ask" if "dry run" in report.action else "Asked"
        out.print(
            f"{word} round {report.batch.round}: {counted(report.batch.size, 'image')}, {batch_text(report.batch)}. "
            f"Model version {report.batch.version}."
        )
    for line in report.amendments:
        out.print(Text(f"changed since the start: {line}", style="yellow"))
    for line in report.warnings:
        out.print(Text(f"warning: {line}", style="yellow"))


def show_waiting(report: StepReport) -> None:
    """One line while a batch is being labelled."""
    out = console()
    out.print(f"{report.at:%H:%M:%S}  {report.reason}")
    for line in report.warnings:
        out.print(Text(f"warning: {line}", style="yellow"))


def batch_text(batch: BatchReport) -> str:
    """`25 from the random stream, 25 by uncertainty`; a part that is empty is not told."""
    how = {
        "random": "drawn at random from the active part",
        "zero_shot": "by what the texts find",
        "ranked": "by modAL's ranked batch",
        "k_center": "by k-center",
        "badge": "by BADGE",
        "typiclust": "by what is typical",
        "committee": "by a committee of probes",
        "hybrid": "by the hybrid of doubt, open findings and distance",
    }
    parts = (
        (batch.random, "from the random stream"),
        (batch.active, how.get(batch.strategy, f"by {batch.strategy}")),
    )
    told = [(number, where) for number, where in parts if number]
    said = f"all {told[0][1]}" if len(told) == 1 else ", ".join(f"{number} {where}" for number, where in told)
    return f"{said}; {batch.double} of them by two annotators" if batch.double else said


def findings_table(findings: Mapping[str, FindingReport]) -> Table:
    """One row a finding: labels, AUC, forecast, target, labels needed, verdict."""
    table = plain_table()
    table.add_column("finding")
    for column in ("yes", "no", "AUC now", "at 4x labels", "target", "more labels", "P"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name, told in findings.items():
        ahead: ForecastReport | None = told.forecast
        table.add_row(
            name,
            str(told.positives),
            str(told.negatives),
            interval_cell(ahead.now) if ahead else "",
            interval_cell(ahead.at_4x) if ahead else "",
            auc_text(told.target),
            needed_cell(ahead.labels_needed.low, ahead.labels_needed.high) if ahead else "",
            probability_text(ahead.p_reached) if ahead else "",
            verdict_text(told.verdict),
        )
    return table


def selection_text(told: FindingReport) -> str:
    """What active selection does to a finding's measured AUC; empty where nothing was selected, or it is not known."""
    if told.selection_bias is None or not told.selection_bias_se:
        return ""
    reach = SURE * told.selection_bias_se
    low, high = (signed_text(told.selection_bias + side) for side in (-reach, reach))
    return (
        f"What was picked moves the measured AUC by {signed_text(told.selection_bias)} (90 %: {low} to {high}); that is "
        "taken out, and what is not known of it widens the interval."
    )


def next_text(ahead: ForecastReport) -> str:
    """What the next batch brings to a finding; empty where none can be asked."""
    coming = ahead.next_batch
    if coming is None:
        return ""
    gain = coming.gain
    return (
        f"The next {counted(round(coming.labels), 'label')} bring {gain_text(gain.mean)} AUC ({level_text(gain.level)}: "
        f"{auc_text(gain.low)} to {auc_text(gain.high)}); the target is then reached with probability "
        f"{probability_text(coming.p_reached)}."
    )


def hours_text(ahead: ForecastReport) -> str:
    """What the labels needed mean in hours; empty without a history of times."""
    low, high = ahead.labels_needed.hours_low, ahead.labels_needed.hours_high
    if low is None or (low if high is None else high) < 0.05:
        return ""
    return (
        f"At the annotators' pace: {low:.1f} hours or more"
        if high is None
        else f"At the annotators' pace: {low:.1f} to {high:.1f} hours"
    )
