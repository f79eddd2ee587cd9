"""The terminal: a console, tables, a progress bar, and the cells that several of them hold. Computes nothing."""

from __future__ import annotations

import math
import os
import re
import sys
from functools import partial
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from forecasting.words import NO_LIMIT, auc_text, range_text
from loop.step_findings import IntervalReport
from loop.step_report import LabelCount

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
    """A console as wide as the terminal, or COLUMNS (110) where there is none; then no line ends in blanks."""
    # what users name is shown as it is: `[stop]` is no markup, and `timm:one:` holds no emoji
    make = partial(Console, highlight=False, markup=False, emoji=False, quiet=quiet)
    found = make()
    if found.is_terminal:
        return found
    return make(width=int(os.environ.get("COLUMNS", 110)), file=cast(TextIO, _Unpadded(sys.stdout)))


class _Unpadded:
    """A file for whole lines, which it writes without the blanks that fill them up to the width of a terminal."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(re.sub(r" +$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:
        return self._file.encoding


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


def verdict_text(verdict: str) -> Text:
    """A verdict in its colour."""
    return Text(verdict, style=COLOURS.get(verdict, ""))


def labels_line(count: LabelCount) -> str:
    """`200 labels (100 random, 98 active, 2 unasked)`."""
    parts = [
        f"{number} {what}"
        for number, what in (
            (count.random, "random"),
            (count.declared, "declared random"),
            (count.active, "active"),
            (count.unasked - count.declared, "unasked"),
        )
        if number
    ]
    return f"{count.total:,} labels" + (f" ({', '.join(parts)})" if parts else "")


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
