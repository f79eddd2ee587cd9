"""Whether probabilities mean what they say: calibration in the large, slope, Brier score, reliability curve, and the mend.

With l the logit of a predicted probability, the intercept is that of ``logit P(y = 1) = a + l`` (0 = as many positives as
predicted; above 0 = more) and the slope that of ``logit P(y = 1) = a + b l`` (1 = right; below 1 = too extreme). Errors are the
sandwich's, over patients. What mends them is a and b again, drawn towards 0 and 1: few labels should not make matters worse.

References:
    Cox, Biometrika 45, 1958; Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 17:230, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from forecasting.auc import Array

FEWEST = 10
"""Positives and negatives below which nothing is said: a slope of ten points is noise."""

N_BINS = 5
OFFSET_SD, SCALE_SD = 1.0, 0.5
"""Normal priors of the mend, around 0 and 1: a prevalence wrong by a factor of three, a slope between a half and three halves."""

SMALLEST = 0.1
"""Of the mend's scale: the order of the items is never turned round, and hardly ever lost."""

LARGEST = 30.0
"""A slope beyond which the probabilities separate the classes, and tell nothing of themselves."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One point of a reliability curve: items of similar probability.

    Attributes:
        predicted: Mean probability.
        observed: Share of positives.
        low: Lower end of its interval (Wilson).
        high: Upper end.
        n: Items.
    """

    predicted: float
    observed: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far one finding's probabilities can be taken at their word.

    Attributes:
        n: Items.
        predicted: Mean probability.
        observed: Share of positives.
        intercept: 0 = right in the large.
        slope: 1 = neither too extreme nor too timid.
        brier: Mean squared error of the probabilities; lower is better.
        brier_base: That of the share of positives, said of every item.
        level: Of the intervals.
        curve: The reliability curve, from the lowest probability to the highest.
        offset: What mends the probabilities: a logit l becomes ``offset + scale l``.
        scale: Above 0, so that the order of the items, and with it the AUC, stays.
    """

    n: int
    predicted: float
    observed: float
    intercept: Measured
    slope: Measured
    brier: Measured
    brier_base: float
    level: float
    curve: tuple[Bin, ...]
    offset: float
    scale: float


def estimate_calibration(
    y: Array, logits: Array, groups: NDArray[Any], level: float = 0.95
) -> Calibration | None:
    """Measure the calibration of probabilities of items that had no part in their training.

    Args:
        y: Labels, shape ``(n,)``, NaN not known.
        logits: Logits of the probabilities, shape ``(n,)``, NaN = none.
        groups: The patient of each item, shape ``(n,)``.
        level: Of the intervals.

    Returns:
        None below `FEWEST` positives or negatives, or where the probabilities separate the classes.
    """
    known = ~np.isnan(y) & ~np.isnan(logits)
    y, logits = y[known], logits[known]
    if min((y == 1).sum(), (y == 0).sum()) < FEWEST:
        return None
    _, patient = np.unique(groups[known], return_inverse=True)
    reach = float(ndtri(0.5 + level / 2))
    ones = np.ones((len(y), 1))
    intercept, intercept_se = _fit(ones, y, logits, patient)
    both, both_se = _fit(np.column_stack([ones, logits]), y, np.zeros(len(y)), patient)
    if not np.isfinite(both).all() or abs(both[1]) > LARGEST:
        return None
    offset, scale = _mend(y, logits)
    p = expit(logits)
    error = (y - p) ** 2
    brier = float(error.mean())
    brier_se = float(np.sqrt((np.bincount(patient, error - brier) ** 2).sum()) / len(y))
    share = float(y.mean())
    return Calibration(
        n=len(y),
        predicted=float(p.mean()),
        observed=share,
        intercept=_measured(intercept[0], intercept_se[0], reach),
        slope=_measured(both[1], both_se[1], reach),
        brier=_measured(brier, brier_se, reach),
        brier_base=share * (1 - share),
        level=level,
        curve=_curve(y, p, reach),
        offset=offset,
        scale=scale,
    )


def _mend(y: Array, logits: Array) -> tuple[float, float]:
    """Offset and scale that are likeliest after the labels, given their priors; Newton's method on a concave function."""
    x = np.column_stack([np.ones(len(y)), logits])
    middle, weight = np.array([0.0, 1.0]), np.diag([OFFSET_SD**-2, SCALE_SD**-2])
    beta = middle.copy()
    for _ in range(50):
        p = expit(x @ beta)
        hessian = x.T @ (x * (p * (1 - p))[:, None]) + weight
        step = np.linalg.solve(hessian, x.T @ (y - p) - weight @ (beta - middle))
        beta = beta + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0]), float(max(beta[1], SMALLEST))


def _measured(value: float, se: float, reach: float) -> Measured:
    return Measured(float(value), float(value - reach * se), float(value + reach * se))


def _fit(x: Array, y: Array, offset: Array, patient: NDArray[np.intp]) -> tuple[Array, Array]:
    """Logistic regression by Newton's method, and sandwich errors over patients; NaN where it does not converge."""
    beta: Array = np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(x @ beta + offset)
        hessian = x.T @ (x * (p * (1 - p))[:, None])
        if np.linalg.cond(hessian) > 1e12:
            return np.full(len(beta), np.nan), np.full(len(beta), np.nan)
        step = np.linalg.solve(hessian, x.T @ (y - p))
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    else:
        return np.full(len(beta), np.nan), np.full(len(beta), np.nan)
    pulls = np.column_stack([np.bincount(patient, column * (y - p)) for column in x.T])  # (P, r)
    bread = np.linalg.inv(hessian)
    return beta, np.sqrt(np.diag(bread @ (pulls.T @ pulls) @ bread))


def _curve(y: Array, p: Array, reach: float) -> tuple[Bin, ...]:
    """Bins of equally many items, with Wilson's interval of the share of positives."""
    bins = []
    for rows in np.array_split(np.argsort(p, kind="stable"), N_BINS):
        n, share = len(rows), float(y[rows].mean())
        middle = (share + reach**2 / (2 * n)) / (1 + reach**2 / n)
        half = reach * np.sqrt(share * (1 - share) / n + reach**2 / (4 * n * n)) / (1 + reach**2 / n)
        low, high = (
            min(max(0.0, middle - half), share),
            max(min(1.0, middle + half), share),
        )  # but for rounding
        bins.append(Bin(float(p[rows].mean()), share, float(low), float(high), n))
    return tuple(bins)
