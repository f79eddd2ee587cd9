"""Learning curves that somebody measured: a CSV in, a forecast or a backtest and a picture out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.auc import Array
from forecasting.backtest import Backtest, Progress, run_backtest
from forecasting.curve import LearningCurve, curve_from_points
from forecasting.errors import BadCurve, NoFit
from forecasting.leastsquares import fit_nls
from forecasting.measured import MeasuredCurve
from forecasting.measures import Measure, measure
from forecasting.plots import curve_info, draw_curves, save
from forecasting.plots_backtest import draw_backtest
from forecasting.powerlaw import Forecast, fit_bayes
from forecasting.prior import PRIOR
from loop.errors import BadInput
from loop.priorfile import read_prior
from loop.step_findings import IntervalReport
from loop.step_report import as_json, finite
from loop.telling import report_interval

NEEDED, OPTIONAL = ("n", "auc"), ("se", "positives", "negatives")
"""Columns of numbers: what a curve needs, and what it may say besides."""


@dataclass(frozen=True, slots=True)
class CurveForecast:
    """What one curve says.

    Attributes:
        finding: Its name in the file; empty if the file has no ``finding`` column.
        plateau: AUC with unlimited labels.
        at: Number of labels to AUC.
        target: The AUC asked for; None if none was.
        p_reachable: Probability that the plateau is at least the target.
        labels_needed: Total labels for the target as (low, median, high); None = no limit visible.
        labels_level: Probability that the range holds the number.
        tail: ``a``, ``b``, ``c`` of AUC = a - b n^-c.
    """

    finding: str
    method: str
    plateau: IntervalReport
    at: dict[int, IntervalReport]
    target: float | None
    p_reachable: float | None
    labels_needed: tuple[float | None, float | None, float | None] | None
    labels_level: float | None
    tail: dict[str, float]


@dataclass(frozen=True, slots=True)
class FileForecast:
    """What a file of curves says, with what is needed to draw it.

    Attributes:
        told: One a curve that could be fitted.
        curves: All curves.
        forecasts: Their forecasts; None where there is no fit.
        unfitted: By finding, why there is none.
        half_assumed: The file has neither counts nor errors, so half of the labels were taken to be positive.
        prior: Name of the prior's file; None = the shipped one.
    """

    told: tuple[CurveForecast, ...]
    curves: tuple[LearningCurve, ...]
    forecasts: tuple[Forecast | None, ...]
    unfitted: Mapping[str, str]
    half_assumed: bool
    prior: str | None

    def to_json(self) -> dict[str, Any]:
        """One object a finding, and why others have none."""
        return {
            "curves": as_json(self.told),
            "unfitted": dict(self.unfitted),
            "half_assumed": self.half_assumed,
            "prior": self.prior,
        }


@dataclass(frozen=True, slots=True)
class FileBacktest:
    """How forecasts did on the curves of a file: every replay, and the measures by method and horizon."""

    backtest: Backtest
    measures: dict[str, dict[str, Measure]]

    def to_json(self) -> dict[str, Any]:
        """Measures first, then every replay; labels needed are null where no limit is visible."""
        return {"methods": as_json(self.measures), **as_json(self.backtest)}


def read_curves(path: Path) -> list[LearningCurve]:
    """Read learning curves from a CSV with ``n,auc`` and optionally ``se,positives,negatives,finding``.

    Raises:
        BadInput: The file is no CSV or has no rows, a column or a number is missing, or a number is impossible.
    """
    curves = []
    for named, rows in _groups(_read_table(path), ("finding",)):
        try:
            n, auc = _numbers(rows, "n"), _numbers(rows, "auc")
            curves.append(curve_from_points(n, auc, *_optional(rows), finding=named["finding"]))
        except BadCurve as error:
            raise BadInput(f"{_where(path, named)}: {error}") from None
    return curves


def read_measured(path: Path) -> list[MeasuredCurve]:
    """Read measured curves from a CSV with ``n,auc`` and optionally ``dataset,finding,repetition,positives,negatives,se``.

    Raises:
        BadInput: As `read_curves`, or one curve has two points at the same size.
    """
    curves = []
    for named, rows in _groups(_read_table(path), ("dataset", "finding", "repetition")):
        try:
            n, auc = _numbers(rows, "n"), _numbers(rows, "auc")
            names = named["dataset"], named["finding"], named["repetition"]
            curve = MeasuredCurve(*names, n, auc, *_optional(rows))
            curve.until(np.inf)  # refuses what is no curve
        except BadCurve as error:
            raise BadInput(f"{_where(path, named)}: {error}") from None
        if twice := n[1:][np.diff(n) == 0].tolist():
            raise BadInput(
                f"{_where(path, named)} has two points at n = {twice[0]:g}; name repeated runs in a column repetition, "
                "and different curves in a column finding or dataset."
            )
        curves.append(curve)
    return curves


def forecast_file(
    path: Path,
    at: Sequence[int],
    target: float | None,
    method: str,
    level: float,
    prior: Path | None = None,
) -> FileForecast:
    """Fit every curve of a file and answer what was asked; a curve that cannot be fitted is told as such.

    Args:
        path: The CSV.
        at: Numbers of labels to forecast the AUC at.
        target: AUC to reach.
        method: ``bayes`` or ``nls``.
        level: Level of the intervals.
        prior: A file that `loop prior fit` wrote; the shipped prior without one.

    Raises:
        BadInput: A file cannot be read, no curve can be fitted, or the method has no use for a prior.
    """
    if prior is not None and method != "bayes":
        raise BadInput(f"--prior {prior}: only --method bayes has a prior. Leave one of the two out.")
    curves = read_curves(path)
    believed = PRIOR if prior is None else read_prior(prior).prior
    fitted: list[Forecast | None] = []
    unfitted: dict[str, str] = {}
    if method == "bayes":
        fitted += fit_bayes(curves, believed)
    else:
        for curve in curves:
            try:
                fitted.append(fit_nls(curve))
            except NoFit as error:
                fitted.append(None)
                unfitted[curve.finding] = str(error)
    if len(unfitted) == len(curves):
        raise BadInput(f"{path}, no fit: {'; '.join(unfitted.values())} (--method bayes).")
    return FileForecast(
        told=tuple(_tell(forecast, at, target, level) for forecast in fitted if forecast is not None),
        curves=tuple(curves),
        forecasts=tuple(fitted),
        unfitted=unfitted,
        half_assumed=not {"positives", "negatives", "se"} & set(_read_table(path)),
        prior=None if prior is None else prior.name,
    )


def backtest_file(
    path: Path, level: float, least_n: int, most_cuts: int | None, seed: int, progress: Progress | None = None
) -> FileBacktest:
    """Replay forecasts on every curve of a file and measure them; see `forecasting.backtest.run_backtest`."""
    try:
        backtest = run_backtest(read_measured(path), level, least_n, most_cuts, seed, progress=progress)
    except BadCurve as error:
        raise BadInput(f"{path}: {error}") from None
    return FileBacktest(backtest, measure(backtest))


def draw_measures(told: FileBacktest, path: Path) -> None:
    """Draw error and coverage of every method to a .png or .svg file."""
    save(draw_backtest(told.measures, told.backtest.level), path)


def draw_forecast(told: FileForecast, path: Path) -> None:
    """Draw the curves with their forecasts to a .png or .svg file."""
    target = told.told[0].target
    pairs = zip(told.curves, told.forecasts, strict=True)
    save(draw_curves([curve_info(curve, forecast, target) for curve, forecast in pairs]), path)


def _tell(forecast: Forecast, at: Sequence[int], target: float | None, level: float) -> CurveForecast:
    needed = None if target is None else forecast.labels_needed(target)
    tail = forecast.tail()
    return CurveForecast(
        finding=forecast.finding,
        method=forecast.method,
        plateau=report_interval(forecast.plateau(level)),
        at={n: report_interval(forecast.auc(n, level)) for n in (at or (forecast.n, 4 * forecast.n))},
        target=target,
        p_reachable=None if target is None else forecast.prob_plateau(target),
        labels_needed=None
        if needed is None
        else (finite(needed.low), finite(needed.median), finite(needed.high)),
        labels_level=None if needed is None else needed.level,
        tail={"a": tail.a, "b": tail.b, "c": tail.c},
    )


SEMICOLONS = "Commas must stand between columns, not semicolons, and a point in numbers: 0.85."


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from None
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise BadInput(
            f"{path} has no column {' and '.join(missing)}; it has {', '.join(map(str, table))}. "
            + (SEMICOLONS if any(";" in str(column) for column in table) else "A curve needs n and auc.")
        )
    if table.empty:
        raise BadInput(f"{path} has a header but no rows. Write one row a point.")
    for column in [name for name in (*NEEDED, *OPTIONAL) if name in table]:
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        for row in np.flatnonzero(np.isnan(numbers))[:1]:
            written = table[column].iloc[row]
            raise BadInput(
                f"{path}: row {row + 1} below the header has {'nothing' if pd.isna(written) else repr(written)} in column "
                f"{column}. Write a number there."
            )
        table[column] = numbers
    return table


def _groups(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Rows of each curve by rising n, with what its name columns say; empty where there is no such column."""
    there = [name for name in names if name in table]
    if not there:
        return [(dict.fromkeys(names, ""), table.sort_values("n", kind="stable"))]
    return [
        (
            dict.fromkeys(names, "") | dict(zip(there, map(str, values), strict=True)),
            rows.sort_values("n", kind="stable"),
        )
        for values, rows in table.groupby(there, sort=False, dropna=False)
    ]


def _optional(rows: pd.DataFrame) -> tuple[Array | None, Array | None, Array | None]:
    """What the file may say of each point: its error, the positives and the negatives behind it."""
    se, positives, negatives = (_numbers(rows, name) if name in rows else None for name in OPTIONAL)
    return se, positives, negatives


def _numbers(rows: pd.DataFrame, name: str) -> Array:
    return rows[name].to_numpy(dtype=np.float64)


def _where(path: Path, named: Mapping[str, str]) -> str:
    return ", ".join([str(path), *filter(None, named.values())])
