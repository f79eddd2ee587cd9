"""The curve families that the forecast is measured against: fitted by `scipy.optimize.curve_fit`, as others do.

    last value   AUC(n) = AUC now
    pow3         AUC(n) = a - b n^-c             plain (no bounds), bounded, or weighted by size
    mmf          AUC(n) = a - b / (1 + (n / h)^c)
    pow4         AUC(n) = a - b (1 + n / h)^-c

They know neither labels nor siblings: they see points and sizes. Intervals come from the covariance of the
fit by the delta method, with Student's t on points less parameters.

References:
    pow3: Cortes et al., NeurIPS 6, 1993. Weights: Figueroa et al., BMC Medical Informatics and Decision Making
    12:8, 2012. mmf (Morgan, Mercer and Flodin) and pow4 are the two that did best among 16 families in the
    Learning Curve Database: Mohr, Viering, Loog and van Rijn, ECML PKDD 2022. There they are written
    (a b + c n^d) / (b + n^d), b being h^d, and a - b (n + d)^-c, where b has swallowed an h^c.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import ndtri
from scipy.stats import t as student

from forecasting.auc import INFLATION, Array, hanley_mcneil, shrink
from forecasting.curve import LearningCurve
from forecasting.powerlaw import HORIZON, Interval, LabelRange

MOST_EVALUATIONS = 2000
"""Evaluations of a curve after which a fit counts as not converged."""

_STEPS: Array = np.asarray(
    np.geomspace(1, HORIZON, 801), float
)  # labels over labels now at which a crossing is looked for


class Extrapolation(Protocol):
    """What a method answers about one curve. Every `forecasting.powerlaw.Forecast` is one."""

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """AUC on `n` labels; bounds are NaN where the method has none."""

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """Labels at which the curve reaches the target, in all; bounds are NaN where the method has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A curve a - b s(n) with a few parameters, and how it is fitted.

    Attributes:
        name: Its name in tables.
        shape: Sizes ``(M,)`` and the parameters of s to s ``(M,)``; falls to 0, analytic in the parameters.
        grid: Parameters of s from which the best start is chosen, each shape ``(G,)``.
        bounds: Lowest and highest of a, b and the parameters of s; None = free.
        by_size: Whether the j-th of m points weighs j / m, instead of all the same.
    """

    name: str
    shape: Callable[..., Any]
    grid: tuple[Array, ...]
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None
    by_size: bool = False

    def value(self, n: Any, a: Any, b: Any, *rest: Any) -> Any:
        """AUC on `n` labels."""
        return a - b * self.shape(n, *rest)

    def gradient(self, n: Any, *parameters: float) -> Array:
        """Its derivatives by the parameters, shape ``(M, P)``, exact by a complex step."""
        steps = np.array(parameters) + 1e-30j * np.eye(len(parameters))  # (P, P)
        sizes = np.atleast_1d(np.asarray(n, float))
        return np.stack([self.value(sizes, *step).imag for step in steps], axis=1) / 1e-30


@dataclass(frozen=True, slots=True, eq=False)
class FittedFamily:
    """A fitted curve.

    Attributes:
        family: Its family.
        n: Labels of the last point.
        parameters: Shape ``(P,)``.
        covariance: Of the parameters, shape ``(P, P)``; infinite where points are no more than parameters.
        dof: Points less parameters.
    """

    family: Family
    n: int
    parameters: Array
    covariance: Array
    dof: int

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """AUC on `n` labels, kept inside [0, 1]; the interval is that of the mean curve."""
        value = float(np.clip(self.family.value(n, *self.parameters), 0, 1))
        if self.dof < 1 or not np.isfinite(self.covariance).all():
            return Interval(value, math.nan, math.nan, level)
        gradient = self.family.gradient(n, *self.parameters)[0]  # (P,)
        variance = float(gradient @ self.covariance @ gradient)  # delta method
        reach = float(student.ppf(0.5 + level / 2, self.dof)) * math.sqrt(max(variance, 0.0))
        return Interval(value, max(value - reach, 0.0), min(value + reach, 1.0), level)

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """The first crossing from now on, one number without bounds; the labels of now if it lies behind."""
        sizes = self.n * _STEPS
        with np.errstate(over="ignore", invalid="ignore"):
            curve = np.asarray(self.family.value(sizes, *self.parameters))
        return LabelRange(math.nan, first_crossing(sizes, curve, target), math.nan, level)


@dataclass(frozen=True, slots=True)
class LastValue:
    """No curve at all: AUC stays what it is.

    Attributes:
        n: Labels of the last point.
        value: Its AUC.
        se: Its standard error.
    """

    n: int
    value: float
    se: float

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """The last point, with its own error."""
        reach = float(ndtri(0.5 + level / 2)) * self.se
        return Interval(self.value, max(self.value - reach, 0.0), min(self.value + reach, 1.0), level)

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """The labels of now, or no limit visible."""
        return LabelRange(math.nan, self.n if self.value >= target else math.inf, math.nan, level)


def keep_last(curve: LearningCurve) -> LastValue:
    """Forecast the last point for ever; its error is the one given, or Hanley and McNeil's, inflated."""
    last, counts = float(curve.auc[-1]), (curve.n_positive, curve.n_negative)
    if curve.se is None:
        return LastValue(
            curve.n, last, INFLATION * math.sqrt(float(hanley_mcneil(shrink(last, *counts), *counts)))
        )
    return LastValue(curve.n, last, float(curve.se[-1]))


def fit_family(family: Family, curve: LearningCurve) -> FittedFamily | None:
    """Fit a family to the points of a curve, or say None: too few points, or no convergence."""
    m, n_parameters = len(curve.auc), len(family.grid) + 2
    if m < n_parameters:
        return None
    weight = np.arange(1, m + 1) / m if family.by_size else np.ones(m)  # (m,)
    options: dict[str, Any] = {"p0": (min(max(float(curve.auc.max()), 0.55), 0.99), 0.5, 0.5)}
    if family.bounds is None:
        options |= {"maxfev": MOST_EVALUATIONS}
    else:
        start = _best_start(family, curve, weight, family.bounds)
        options = {"p0": start, "bounds": family.bounds, "max_nfev": MOST_EVALUATIONS, "jac": family.gradient}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)  # no covariance: said by the missing interval
            found, covariance = curve_fit(family.value, curve.sizes, curve.auc, sigma=weight**-0.5, **options)
    except RuntimeError:  # SciPy's word for no convergence
        return None
    return FittedFamily(family, curve.n, found, covariance, m - n_parameters)


def first_crossing(sizes: Array, curve: Array, target: float) -> float:
    """Size at which a curve first reaches a target, interpolated on log size; infinite if it never does.

    Args:
        sizes: Rising, shape ``(M,)``.
        curve: AUC there, shape ``(M,)``.
        target: AUC to reach.
    """
    above = np.flatnonzero(curve >= target)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return float(sizes[0])
    share = (target - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(np.exp(np.log(sizes[i - 1]) + share * np.log(sizes[i] / sizes[i - 1])))


def _best_start(
    family: Family, curve: LearningCurve, weight: Array, bounds: tuple[tuple[float, ...], tuple[float, ...]]
) -> Array:
    """The best parameters on the family's grid, a and b by linear regression at each, kept inside the bounds."""
    grid = np.stack(np.meshgrid(*family.grid, indexing="ij"), axis=-1).reshape(
        -1, len(family.grid)
    )  # (G, P-2)
    share = weight / weight.sum()
    shape = family.shape(curve.sizes[None, :], *grid.T[:, :, None])  # (G, m)
    centred = shape - (shape @ share)[:, None]
    b = -(centred @ (share * curve.auc)) / np.maximum(centred**2 @ share, 1e-12)  # (G,)
    b = np.clip(b, bounds[0][1], bounds[1][1])
    a = np.clip(share @ curve.auc + b * (shape @ share), bounds[0][0], bounds[1][0])
    best = np.argmin(np.square(curve.auc - a[:, None] + b[:, None] * shape) @ share)
    inside = 1e-6 * (np.array(bounds[1]) - np.array(bounds[0]))  # the optimiser cannot start on a bound
    return np.clip([a[best], b[best], *grid[best]], bounds[0] + inside, bounds[1] - inside)


def _power(n: Any, c: Any) -> Any:
    return n**-c


def _mmf(n: Any, c: Any, log_h: Any) -> Any:
    return 1 / (1 + np.exp(c * (np.log(n) - log_h)))


def _early_power(n: Any, c: Any, log_h: Any) -> Any:
    return (1 + n * np.exp(-log_h)) ** -c


_SPEEDS: Array = np.asarray(np.geomspace(0.1, 2.5, 8), float)  # of c
_PLACES: Array = np.log(np.asarray(np.geomspace(1, 1e4, 9), float))  # of ln h
_BOUNDS3 = (0.5, 0.0, 0.01), (1.0, 50.0, 3.0)
_BOUNDS4 = (0.5, 0.0, 0.01, -2.0), (1.0, 1.0, 5.0, 15.0)

PLAIN = Family("pow3, plain", _power, (_SPEEDS,), None)
"""What a first script does: `curve_fit` without bounds, from a = the best AUC so far and b = c = 1/2."""

BOUNDED = Family("pow3, bounded", _power, (_SPEEDS,), _BOUNDS3)
"""1/2 <= a <= 1, b >= 0, c > 0."""

WEIGHTED = Family("pow3, weighted", _power, (_SPEEDS,), _BOUNDS3, by_size=True)
"""Figueroa et al.: later points, made of more labels and nearer to what is forecast, weigh more."""

MMF = Family("mmf", _mmf, (_SPEEDS, _PLACES), _BOUNDS4)
"""From a - b at no labels to a, half-way at h."""

POW4 = Family("pow4", _early_power, (_SPEEDS, _PLACES), _BOUNDS4)
"""A power law that starts h labels early: finite at no labels."""

FAMILIES = (PLAIN, BOUNDED, WEIGHTED, MMF, POW4)
