"""The figures of a project's page in a notebook: pandas frames whose columns say what they hold.

>>> from loop import report
>>> told = report.load("loop.toml")                    # doctest: +SKIP
>>> told.findings[["finding", "now.mean", "verdict"]]  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

import pandas as pd

from loop.page.figures import Page, read_page
from loop.page.tables import TABLES, explain, tables_of
from loop.settings import load_settings

TIMES, DAYS = ("at", "decided_at", "last_at"), ("date", "date_low", "date_high", "first", "today")
NUMBERS = ("low", "high", "even", "hours_low", "hours_high", "money_low", "money_high", "budget", "per_week")


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Every figure of a project's page. Each frame's ``attrs`` hold ``about`` and, by column, ``columns``: what it holds and its unit.

    Attributes:
        page: The project, one row.
        findings: One row a finding.
        what_if: One row a decision and finding; without a finding, of the project.
        people: One row an annotator.
        times: How long readings take, one row a finding.
        days: Images first labelled on each day.
        agreement: One row a finding that was read twice.
        kappas: One row a pair of annotators and finding.
        readers: One row an annotator and finding.
        disputed: Images that got both answers.
        score: Earlier forecasts held against later labels, one row a horizon.
        history: One row a decision, oldest first.
        versions: One row a batch.
        curve_points: The measured points of the learning curves.
        calibration: What probabilities are worth, one row a finding.
        reliability: Probability and share of positives, one row a finding and fifth of the random images.
    """

    page: pd.DataFrame
    findings: pd.DataFrame
    what_if: pd.DataFrame
    people: pd.DataFrame
    times: pd.DataFrame
    days: pd.DataFrame
    agreement: pd.DataFrame
    kappas: pd.DataFrame
    readers: pd.DataFrame
    disputed: pd.DataFrame
    score: pd.DataFrame
    history: pd.DataFrame
    versions: pd.DataFrame
    curve_points: pd.DataFrame
    calibration: pd.DataFrame
    reliability: pd.DataFrame

    def columns(self) -> pd.DataFrame:
        """Every column of every frame with what it holds."""
        rows = [
            {"table": each.name, "column": column, "holds": said}
            for each in fields(self)
            for column, said in getattr(self, each.name).attrs["columns"].items()
        ]
        return pd.DataFrame(rows, columns=["table", "column", "holds"])


def load(state: str | PathLike[str], at: datetime | None = None) -> Report:
    """Load the figures of a project's page; Label Studio is not asked, and nothing is changed.

    Args:
        state: The project's configuration (``loop.toml``), which says where its state lies.
        at: The time that pace and dates are told for, UTC; None = now.

    Raises:
        BadInput: The configuration cannot be used, or the project was not started.
    """
    return frames_of(read_page(load_settings(Path(state), {}, {}), at or datetime.now(UTC)))


def frames_of(page: Page) -> Report:
    """The frames of a page that was computed already."""
    return Report(**{name: _frame(name, rows) for name, rows in tables_of(page).items()})


def _frame(table: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in frame.columns:
        own = column.rpartition(".")[2]
        if column in TIMES:
            frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601")
        elif own in DAYS and table != "kappas":
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
        elif own in NUMBERS:  # where none is known, pandas cannot tell that it is a number
            frame[column] = pd.to_numeric(frame[column])
    held: Mapping[str, str] = {column: explain(column) for column in frame.columns}
    frame.attrs.update(about=TABLES[table], columns=dict(held))
    return frame
