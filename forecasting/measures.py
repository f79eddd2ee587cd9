"""How good the forecasts of a backtest were: error, interval and labels needed, by method and horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.auc import Array
from forecasting.backtest import HORIZONS, OURS, Backtest, Replay

N_RESAMPLES = 2000
FEWEST_CLUSTERS = 5
"""Independent groups of replays below which chance is not judged."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One method at one horizon. All methods are measured on the same replays; NaN = nothing to measure on.

    Attributes:
        replays: Forecasts.
        fitted: Share of them that the method could fit; for the others its forecast is the last point.
        error: Mean absolute error of AUC.
        bias: Mean of forecast less truth.
        excess_low: Lower end of the interval for its error less ours, from resampling whole data sets.
        excess_high: Upper end.
        intervals: Forecasts with an interval.
        covered: Share of the intervals that hold the truth.
        width: Their mean width.
        interval_score: Their mean width plus ``2 / (1 - level)`` times what the truth lies outside by.
        targets: Replays that asked for labels needed.
        octaves: Median of |log2(labels forecast / labels needed)|; infinite if half saw no limit.
        no_limit: Share without a limit visible, though the curve got there.
        in_range: Share of the 80 % ranges of labels needed that hold the true number.

    References:
        Interval score: Gneiting and Raftery, Journal of the American Statistical Association 102(477), 2007,
        equation 43.
    """

    replays: int
    fitted: float
    error: float
    bias: float
    excess_low: float
    excess_high: float
    intervals: int
    covered: float
    width: float
    interval_score: float
    targets: int
    octaves: float
    no_limit: float
    in_range: float


def measure(backtest: Backtest) -> dict[str, dict[str, Measure]]:
    """Measure every method at every horizon that was replayed: method to horizon to measure."""
    names = list(backtest.replays[0].told)
    measured: dict[str, dict[str, Measure]] = {name: {} for name in names}
    for horizon in HORIZONS:
        replays = [replay for replay in backtest.replays if replay.horizon == horizon]
        if not replays:
            continue
        ours = _errors(replays, OURS)
        clusters = _clusters(replays)
        for name in names:
            excess = _resampled(np.abs(_errors(replays, name)) - np.abs(ours), clusters, backtest.level)
            measured[name][horizon] = _measure(replays, name, backtest.level, excess)
    return measured


def _measure(replays: Sequence[Replay], name: str, level: float, excess: tuple[float, float]) -> Measure:
    told = [replay.told[name] for replay in replays]
    truth = np.array([replay.truth for replay in replays])  # (N,)
    error = _errors(replays, name)
    low, high = np.array([t.low for t in told]), np.array([t.high for t in told])
    given = ~np.isnan(low)
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)  # at most one of them is not 0
    needed = np.array([replay.needed for replay in replays])
    asked = ~np.isnan(needed)
    forecast = np.array([t.needed for t in told])[asked]
    least, most = (
        np.array(ends)[asked] for ends in zip(*((t.needed_low, t.needed_high) for t in told), strict=True)
    )
    ranged = ~np.isnan(least)
    within = (least <= needed[asked]) & (needed[asked] <= most)
    return Measure(
        replays=len(replays),
        fitted=_mean(np.array([t.fitted for t in told], float)),
        error=_mean(np.abs(error)),
        bias=_mean(error),
        excess_low=excess[0],
        excess_high=excess[1],
        intervals=int(given.sum()),
        covered=_mean((outside[given] == 0).astype(float)),
        width=_mean((high - low)[given]),
        interval_score=_mean((high - low + 2 / (1 - level) * outside)[given]),
        targets=int(asked.sum()),
        octaves=float(np.median(np.abs(np.log2(forecast / needed[asked])))) if asked.any() else math.nan,
        no_limit=_mean(np.isinf(forecast).astype(float)),
        in_range=_mean(within[ranged].astype(float)),
    )


def _errors(replays: Sequence[Replay], name: str) -> Array:
    return np.array([replay.told[name].auc - replay.truth for replay in replays])


def _clusters(replays: Sequence[Replay]) -> NDArray[np.intp]:
    """Numbers of the groups that do not share data: data sets, or within one of them repetitions, or findings."""
    for key in (
        [replay.dataset for replay in replays],
        [replay.repetition for replay in replays],
        [replay.finding for replay in replays],
    ):
        number = np.unique(key, return_inverse=True)[1]
        if number.max() + 1 >= FEWEST_CLUSTERS:
            break
    return number


def _resampled(excess: Array, clusters: NDArray[np.intp], level: float) -> tuple[float, float]:
    """Interval for a mean, resampling whole clusters; NaN where they are too few."""
    n_clusters = int(clusters.max()) + 1
    if n_clusters < FEWEST_CLUSTERS:
        return math.nan, math.nan
    total = np.bincount(clusters, excess, n_clusters)
    count = np.bincount(clusters, minlength=n_clusters)
    drawn = np.random.default_rng(0).integers(n_clusters, size=(N_RESAMPLES, n_clusters))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)  # (N_RESAMPLES,)
    low, high = np.quantile(means, (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan
