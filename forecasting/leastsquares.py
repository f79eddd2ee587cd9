"""The classical least-squares power law, a - b n^-c: the paper's method, and what the forecast is compared with.

On AUC points that come from the labels themselves it is no stop signal: more than half of the stops on
``fit(n) >= target`` were false. It is here to be compared with.
"""

from __future__ import annotations

import math
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from forecasting.auc import INFLATION, Array, hanley_mcneil, shrink
from forecasting.curve import LearningCurve
from forecasting.errors import NoFit
from forecasting.noise import FLOOR, correlation
from forecasting.powerlaw import N_JOINT, Forecast, Interval, LabelRange, Tail, label_range

_LOWEST, _HIGHEST = (0.5, 0.0, 0.01), (1.0, 50.0, 3.0)  # of a, b, c
_RATES = np.geomspace(_LOWEST[2], _HIGHEST[2], 48)


@dataclass(frozen=True, slots=True, eq=False)
class LeastSquaresForecast:
    """A fitted curve and a parametric bootstrap around it.

    Attributes:
        finding: Its name.
        n: Labels known now.
        fitted: The least-squares curve.
        a: Plateaus of the bootstrap, shape ``(N_JOINT,)``.
        b: Its factors.
        c: Its exponents.
    """

    finding: str
    n: int
    fitted: Tail
    a: Array
    b: Array
    c: Array
    method: str = "nls"

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """AUC on `n` labels: the fitted curve, bounds from the bootstrap."""
        values = self.joint_draws(n)
        low, high = np.quantile(values, (0.5 - level / 2, 0.5 + level / 2))
        fitted = float(_auc(self.fitted.a, self.fitted.b, self.fitted.c, n))
        return Interval(fitted, min(float(low), fitted), max(float(high), fitted), level)

    def median(self, n: float) -> float:
        """Median of the bootstrap with `n` labels."""
        return float(np.median(self.joint_draws(n)))

    def gain(self, n_more: float, level: float = 0.9) -> Interval:
        """AUC that `n_more` labels add: the fitted curve's, bounds from the bootstrap."""
        values = self.joint_draws(self.n + n_more) - self.joint_draws()
        low, high = np.quantile(values, (0.5 - level / 2, 0.5 + level / 2))
        fitted = self.auc(self.n + n_more).mean - self.auc(self.n).mean
        return Interval(fitted, min(float(low), fitted), max(float(high), fitted), level)

    def plateau(self, level: float = 0.9) -> Interval:
        """AUC with labels without end: a."""
        return self.auc(math.inf, level)

    def prob_reached(self, target: float, n: float | None = None) -> float:
        """Share of the bootstrap with AUC >= target on `n` labels."""
        return float((self.joint_draws(n) >= target).mean())

    def prob_plateau(self, target: float) -> float:
        """Share of the bootstrap with a >= target."""
        return self.prob_reached(target, math.inf)

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """Labels at which the curve reaches the target: ``(b / (a - target))^(1 / c)``."""
        above = self.a > target
        gap = np.where(above, self.a - target, 1.0)
        with np.errstate(over="ignore"):  # beyond any number of labels is infinite, and said to be
            labels = np.where(above, (self.b / gap) ** (1 / self.c), np.inf)
        return label_range(labels, np.full(len(labels), 1 / len(labels)), level)

    def tail(self) -> Tail:
        """The fitted curve itself."""
        return self.fitted

    def joint_draws(self, n: float | None = None) -> Array:
        """AUC on `n` labels over the bootstrap, shape ``(N_JOINT,)``; independent between findings."""
        return _auc(self.a, self.b, self.c, self.n if n is None else n)


def fit_nls(curve: LearningCurve) -> Forecast:
    """Fit a - b n^-c with 1/2 <= a <= 1, b >= 0 by least squares, weighted where errors are given.

    Bounds come from a parametric bootstrap: points redrawn around the fit, with the given errors or, for
    points that share their items, with the error and correlation of cross-fitted AUCs, and fitted again.

    Raises:
        NoFit: Fewer than three points, or no convergence.
    """
    if len(curve.auc) < 3:
        raise NoFit(
            f"{curve.finding or 'the curve'} has {len(curve.auc)} points, three parameters need at least 3; "
            "label more, or use the method bayes"
        )
    if curve.se is None:
        counts = curve.independent
        sd = INFLATION * math.sqrt(float(hanley_mcneil(shrink(float(curve.auc[-1]), *counts), *counts)))
        error: Array = np.full(len(curve.auc), sd)
    else:
        error = np.sqrt(curve.se**2 + FLOOR**2)
    together = curve.se is None or curve.shared
    shared = correlation(curve.sizes, curve.n) if together else np.eye(len(curve.auc))
    fitted = _fit(curve, error)

    rng = np.random.default_rng(zlib.crc32(curve.finding.encode()) ^ zlib.crc32(curve.auc.tobytes()))
    noise = rng.standard_normal((N_JOINT, len(error))) @ np.linalg.cholesky(shared).T * error  # (D, S)
    noise += curve.bias_se * rng.standard_normal((N_JOINT, 1))
    redrawn = _auc(fitted.a, fitted.b, fitted.c, curve.sizes) + noise
    a, b, c = _refit(curve.sizes, redrawn, error)
    return LeastSquaresForecast(curve.finding, curve.n, fitted, a, b, c)


def _fit(curve: LearningCurve, error: Array) -> Tail:
    start = min(max(float(curve.auc.max()), 0.55), 0.99), 0.5, 0.5
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # its covariance is not used
            found, _ = curve_fit(
                lambda n, a, b, c: a - b * n**-c,
                curve.sizes,
                curve.auc,
                p0=start,
                sigma=error,
                bounds=(_LOWEST, _HIGHEST),
                max_nfev=2000,
            )
    except RuntimeError as error_of_scipy:
        raise NoFit(
            f"least squares did not converge on the {len(curve.auc)} points of {curve.finding or 'the curve'}; "
            "label more, or use the method bayes"
        ) from error_of_scipy
    a, b, c = (float(x) for x in found)
    return Tail(a, b, c)


def _refit(sizes: Array, points: Array, error: Array) -> tuple[Array, Array, Array]:
    """Bounded least squares on many curves at once: a and b in closed form at each exponent of a grid.

    Args:
        sizes: Shape ``(S,)``.
        points: Shape ``(D, S)``.
        error: Shape ``(S,)``.

    References:
        Golub and Pereyra, SIAM Journal on Numerical Analysis 10(2), 1973 (variable projection).
    """
    (a_low, b_low, _), (a_high, b_high, _) = _LOWEST, _HIGHEST
    weight = error**-2 / (error**-2).sum()  # (S,)
    mean = points @ weight  # (D,)
    best = np.full(len(points), np.inf)
    a, b, c = (np.empty(len(points)) for _ in range(3))
    for rate in _RATES:
        x = sizes**-rate  # (S,)
        x_mean = float(x @ weight)
        spread = float(((x - x_mean) ** 2) @ weight)
        slope = -(points - mean[:, None]) @ (weight * (x - x_mean)) / spread  # (D,) free b
        slope = np.clip(slope, b_low, b_high)
        height = mean + slope * x_mean  # (D,) best a at that b
        held = np.clip(height, a_low, a_high)
        at_bound = (held[:, None] - points) @ (weight * x) / float(x**2 @ weight)  # best b at that a
        slope = np.where(held == height, slope, np.clip(at_bound, b_low, b_high))
        misfit = (points - held[:, None] + slope[:, None] * x) ** 2 @ weight
        better = misfit < best
        best[better], a[better], b[better], c[better] = misfit[better], held[better], slope[better], rate
    return a, b, c


def _auc(a: Array | float, b: Array | float, c: Array | float, n: Array | float) -> Array:
    """a - b n^-c, kept inside [0, 1]."""
    decay = np.where(np.isinf(n), 0.0, np.power(np.where(np.isinf(n), 1.0, n), -np.asarray(c)))
    return np.clip(a - b * decay, 0.0, 1.0)
