"""What people read in the terminal. Takes results, prints them; computes nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from forecasting.words import (
    NO_LIMIT,
    auc_text,
    counted,
    gain_text,
    level_text,
    probability_text,
    range_text,
    signed_text,
)
from loop.report import BatchReport, FindingReport, ForecastReport, IntervalReport, LabelCount, StepReport

if TYPE_CHECKING:
    from loop.start import Started
    from loop.status import Status
    from loop.zero_shot import ZeroShotReport

SURE = 1.645
"""Standard errors to either side of a 90 % interval."""

COLOURS = {
    "CERTIFIED": "bold green",
    "LIKELY REACHED": "green",
    "KEEP LABELLING": "yellow",
    "CANNOT TELL": "dim",
    "OUT OF REACH": "red",
    "STOP": "bold green",
    "CONTINUE": "bold yellow",
}


def console(quiet: bool = False) -> Console:
    """A console as wide as the terminal, or COLUMNS (110) where there is none."""
    # what users name is shown as it is: `[stop]` is no markup, and `timm:one:` holds no emoji
    make = partial(Console, highlight=False, markup=False, emoji=False, quiet=quiet)
    found = make()
    return found if found.is_terminal else make(width=int(os.environ.get("COLUMNS", 110)))


def plain_table(title: str | None = None) -> Table:
    """A table without lines, its title to the left."""
    return Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


class Progress:
    """A progress bar with rate and time left, made visible or not."""

    def __init__(self, visible: bool) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not visible,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done of ``what``."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, rate="")
        self._bars.update(self._tasks[what], completed=done, total=total)
        speed = (
            self._bars.tasks[self._tasks[what]].finished_speed or self._bars.tasks[self._tasks[what]].speed
        )
        if speed:
            self._bars.update(self._tasks[what], rate=f"{speed:,.0f}/s")


def show_start(begun: Started) -> None:
    """What `loop start` found and did."""
    out = console()
    out.print(
        Text.assemble((begun.project, "bold"), f": {begun.images:,} images of {begun.patients:,} patients")
    )
    out.print(
        f"  {begun.random:,} in the random stream, {begun.active:,} in the active part, {begun.spare:,} set aside "
        "(other images of random-stream patients)"
    )
    out.print(f"  embeddings: {begun.encoder}, {embeddings_text(begun)}")
    if begun.nearness is not None:
        out.print(Text(f"  {begun.nearness}"))
    out.print(f"  Label Studio: project {begun.project_id} at {begun.url}, {begun.imported:,} tasks imported")
    for line in begun.problems[:10]:
        out.print(Text(f"  left out: {line}", style="yellow"))
    if len(begun.problems) > 10:
        out.print(f"  ... and {len(begun.problems) - 10} more; `loop status` lists them all")
    show_step(begun.report)


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
        (count.unasked - count.overrun, "labelled without having been asked, picked by hand"),
        (count.unknown, "answered, but with no finding known (cannot tell, or annotators disagree)"),
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
                line.verdict,
                *map(auc_cell, aucs),
            )
        out.print(table)
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


def embeddings_text(begun: Started) -> str:
    """`39 new, 0 already there`, and how many images have none, if any."""
    none = begun.images - begun.encoded - begun.already
    told = f"{begun.encoded:,} new, {begun.already:,} already there"
    return told + (f", {none:,} missing: not found, or not readable" if none else "")


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


def verdict_text(verdict: str) -> Text:
    """A verdict in its colour."""
    return Text(verdict, style=COLOURS.get(verdict, ""))


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


def labels_line(count: LabelCount) -> str:
    """`200 labels (100 random, 98 active, 2 unasked)`."""
    parts = [
        f"{number} {what}"
        for number, what in ((count.random, "random"), (count.active, "active"), (count.unasked, "unasked"))
        if number
    ]
    return f"{count.total:,} labels" + (f" ({', '.join(parts)})" if parts else "")


def random_text(count: LabelCount, unknown: Mapping[str, int]) -> str:
    """`Random stream: 125 images asked, 123 answered; skipped: 2 (2 %); cannot tell: Effusion 1 (1 %), ...`."""

    def share(number: int) -> str:
        return f"{number} ({100 * number / count.random_asked:.0f} %)"

    told = ", ".join(f"{name} {share(number)}" for name, number in unknown.items())
    warned = (
        " What is left out here the certificate never sees."
        if count.random_skipped or any(unknown.values())
        else ""
    )
    return (
        f"Random stream: {counted(count.random_asked, 'image')} asked, {count.random_answered:,} answered; skipped: "
        f"{share(count.random_skipped)}; cannot tell, or annotators disagree: {told}.{warned}"
    )


def auc_cell(auc: float | None) -> str:
    """`.871`; empty where there is none."""
    return "" if auc is None else auc_text(auc)


def interval_cell(interval: IntervalReport) -> str:
    """`.871 (.83-.90)`; the level stands below the table."""
    return f"{auc_text(interval.mean)} ({auc_text(interval.low, 2)}-{auc_text(interval.high, 2)})"


def needed_cell(low: float | None, high: float | None) -> str:
    """`90 to 520`, `at least 90`, `not bounded yet` or `no limit visible`, from a range whose None means no limit."""
    text = range_text(math.inf if low is None else low, math.inf if high is None else high)
    return text.removesuffix(f", no upper {NO_LIMIT.removeprefix('no ')}")


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


def zero_shot_text(told: Mapping[str, ZeroShotReport]) -> str:
    """`Zero labels: ...`: how well the texts of the first batch tell each finding."""
    parts = [
        f"{name} {interval_cell(one.auc)}"
        if one.auc is not None
        else f"{name} not known yet ({one.positives} yes, {one.negatives} no)"
        for name, one in told.items()
    ]
    return f"Zero labels (round 0): AUC of the texts alone, on the random images labelled so far: {', '.join(parts)}."


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
        f"At the annotators' median pace: {low:.1f} hours or more"
        if high is None
        else f"At the annotators' median pace: {low:.1f} to {high:.1f} hours"
    )
