"""Fit a learning curve that somebody measured: a CSV in, a forecast and a picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.curve import LearningCurve, curve_from_points
from forecasting.errors import BadCurve
from forecasting.leastsquares import fit_nls
from forecasting.plots import curve_info, draw_curves, save
from forecasting.powerlaw import Forecast, fit_bayes
from forecasting.prior import PRIOR
from loop.errors import BadInput
from loop.priorfile import read_prior
from loop.report import IntervalReport, as_json


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
    """What a file of curves says, with what is needed to draw it."""

    told: tuple[CurveForecast, ...]
    curves: tuple[LearningCurve, ...]
    forecasts: tuple[Forecast, ...]

    def to_json(self) -> dict[str, Any]:
        """One object a finding."""
        return {"curves": as_json(self.told)}


def read_curves(path: Path) -> list[LearningCurve]:
    """Read learning curves from a CSV with ``n,auc`` and optionally ``se,positives,negatives,finding``.

    Raises:
        BadInput: The file is no CSV, a column is missing, or a number is impossible.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from None
    missing = [column for column in ("n", "auc") if column not in table]
    if missing:
        raise BadInput(
            f"{path} has no column {' and '.join(missing)}; it has {', '.join(map(str, table))}. A curve needs n and auc."
        )
    groups = table.groupby("finding", sort=False) if "finding" in table else [("", table)]
    curves = []
    for finding, rows in groups:
        rows = rows.sort_values("n")
        try:
            given = {
                name: rows[name].to_numpy(dtype=np.float64) if name in rows else None
                for name in ("se", "positives", "negatives")
            }
            curves.append(
                curve_from_points(
                    rows["n"].to_numpy(dtype=np.float64),
                    rows["auc"].to_numpy(dtype=np.float64),
                    finding=str(finding),
                    **given,
                )
            )
        except (BadCurve, ValueError) as error:
            where = f"{path}, {finding!s}" if finding else str(path)
            raise BadInput(f"{where}: {error}") from None
    return curves


def forecast_file(
    path: Path,
    at: Sequence[int],
    target: float | None,
    method: str,
    level: float,
    prior: Path | None = None,
) -> FileForecast:
    """Fit every curve of a file and answer what was asked.

    Args:
        path: The CSV.
        at: Numbers of labels to forecast the AUC at.
        target: AUC to reach.
        method: ``bayes`` or ``nls``.
        level: Level of the intervals.
        prior: A file that `loop prior fit` wrote; the shipped prior without one.

    Raises:
        BadInput: A file cannot be read, or the method has no use for a prior.
    """
    if prior is not None and method != "bayes":
        raise BadInput(f"--prior {prior}: only --method bayes has a prior. Leave one of the two out.")
    curves = read_curves(path)
    believed = PRIOR if prior is None else read_prior(prior).prior
    fitted = fit_bayes(curves, believed) if method == "bayes" else [fit_nls(curve) for curve in curves]
    return FileForecast(
        told=tuple(_tell(forecast, at, target, level) for forecast in fitted),
        curves=tuple(curves),
        forecasts=tuple(fitted),
    )


def draw_forecast(told: FileForecast, path: Path) -> None:
    """Draw the curves with their forecasts to a .png or .svg file."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise BadInput(f"--plot {path}: the picture must end in .png or .svg.")
    infos = [
        curve_info(curve, forecast, told_curve.target)
        for curve, forecast, told_curve in zip(told.curves, told.forecasts, told.told, strict=True)
    ]
    save(draw_curves(infos), path)


def _tell(forecast: Forecast, at: Sequence[int], target: float | None, level: float) -> CurveForecast:
    needed = None if target is None else forecast.labels_needed(target)
    plateau = forecast.plateau(level)
    tail = forecast.tail()
    ahead = {n: forecast.auc(n, level) for n in (at or (forecast.n, 4 * forecast.n))}
    return CurveForecast(
        finding=forecast.finding,
        method=forecast.method,
        plateau=IntervalReport(plateau.mean, plateau.low, plateau.high, plateau.level),
        at={n: IntervalReport(i.mean, i.low, i.high, i.level) for n, i in ahead.items()},
        target=target,
        p_reachable=None if target is None else forecast.prob_plateau(target),
        labels_needed=None
        if needed is None
        else tuple(n if np.isfinite(n) else None for n in (needed.low, needed.median, needed.high)),  # type: ignore[arg-type]
        labels_level=None if needed is None else needed.level,
        tail={"a": tail.a, "b": tail.b, "c": tail.c},
    )
