"""A backtest as people read it in the terminal: error, intervals, labels needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.table import Table
from rich.text import Text

from forecasting.backtest import FEWEST_POINTS, OURS, Backtest
from forecasting.measures import Measure
from forecasting.words import auc_text, counted, level_text
from loop.curvefile import FileBacktest
from loop.show import console, plain_table

SOURCES = {
    "given": "the column se",
    "repetitions": "the spread of repetitions",
    "counts": "the counts of positives and negatives, as that of a cross-fitted AUC",
}


def show_backtest(told: FileBacktest) -> None:
    """Three tables, one row a method and one column a horizon."""
    out = console()
    backtest, measures = told.backtest, told.measures
    out.print(
        f"{counted(backtest.n_curves, 'curve')}; {backtest.n_cuts:,} of {counted(backtest.n_cuts_possible, 'replay')}"
    )
    out.print(Text(f"For {OURS}, the error of a point comes from {_sources(backtest)}.", style="dim"))
    level = level_text(backtest.level)
    for title, cell in (
        ("Mean absolute error of AUC; * differs from ours beyond chance", _error_cell),
        (f"{level} intervals: share that holds the truth, mean width", _interval_cell),
        ("Labels needed for the AUC there: median |log2| error, share without a limit visible", _needed_cell),
    ):
        out.print(f"\n{title}")
        out.print(_table(measures, cell))
    out.print(
        Text(
            f"\nColumns: labels asked about over labels seen, and replays. A curve is replayed from {FEWEST_POINTS} points "
            "on. What could not be fitted says the last value, without an interval: "
            f"{_unfitted(measures)}.",
            style="dim",
        )
    )


def _table(measures: Mapping[str, Mapping[str, Measure]], cell: Callable[[str, Measure], str]) -> Table:
    table = plain_table()
    table.add_column("method")
    for horizon, measure in measures[OURS].items():
        table.add_column(f"{horizon} ({measure.replays:,})", justify="right")
    for name, by_horizon in measures.items():
        cells = (cell(name, measure) for measure in by_horizon.values())
        table.add_row(name, *cells, style="bold" if name == OURS else "")
    return table


def _error_cell(name: str, measure: Measure) -> str:
    beyond_chance = measure.excess_low > 0 or measure.excess_high < 0  # NaN is neither
    return auc_text(measure.error) + ("*" if beyond_chance and name != OURS else " ")


def _interval_cell(name: str, measure: Measure) -> str:
    return f"{measure.covered:.0%} {auc_text(measure.width, 2)}" if measure.intervals else ""


def _needed_cell(name: str, measure: Measure) -> str:
    if math.isnan(measure.octaves):
        return ""
    octaves = "∞" if math.isinf(measure.octaves) else f"{measure.octaves:.1f}"
    return f"{octaves} {measure.no_limit:>4.0%}"


def _unfitted(measures: Mapping[str, Mapping[str, Measure]]) -> str:
    shares = {name: 1 - by_horizon["last"].fitted for name, by_horizon in measures.items()}
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > 0) or "none"


def _sources(backtest: Backtest) -> str:
    used = {source: n for source, n in backtest.errors.items() if n}
    return " and ".join(
        SOURCES[source] + (f" ({counted(n, 'curve')})" if len(used) > 1 else "") for source, n in used.items()
    )
