"""A forecast made more cautious: the same curve, its uncertainty stretched on the probit scale.

When kept scores show that intervals were too narrow (`forecasting.scorekeeping`), every posterior is
stretched around its median by one factor: probit A' = m + factor (probit A - m), m = probit of the median. Intervals
and every probability follow from that; the mean and the curve itself stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from forecasting.auc import Array
from forecasting.powerlaw import Forecast, Interval, LabelRange, Tail

EDGE = 1e-6
"""AUCs nearer to 0 and 1 than this are taken as this near: the probit of 1 is infinite."""


@dataclass(frozen=True, slots=True)
class Widened:
    """A forecast whose uncertainty is `factor` times as large.

    Attributes:
        forecast: As it was fitted.
        factor: Above 1.
    """

    forecast: Forecast
    factor: float

    @property
    def method(self) -> str:
        """Name of the method behind it."""
        return self.forecast.method

    @property
    def finding(self) -> str:
        """Name of the finding."""
        return self.forecast.finding

    @property
    def n(self) -> int:
        """Labels known now."""
        return self.forecast.n

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """The same mean; the distance of either bound from the median, as probits, times the factor."""
        told = self.forecast.auc(n, level)
        low, high = self._stretched(np.array([told.low, told.high]), n, self.factor)
        return Interval(told.mean, min(float(low), told.low), max(float(high), told.high), level)

    def median(self, n: float) -> float:
        """The same median."""
        return self.forecast.median(n)

    def gain(self, n_more: float, level: float = 0.9) -> Interval:
        """The same mean gain; its bounds are those of the gain, `factor` times as far from it."""
        told = self.forecast.gain(n_more, level)
        low, high = (told.mean + self.factor * (bound - told.mean) for bound in (told.low, told.high))
        return Interval(told.mean, max(low, 0.0), high, level)

    def plateau(self, level: float = 0.9) -> Interval:
        """AUC with labels without end."""
        return self.auc(np.inf, level)

    def prob_reached(self, target: float, n: float | None = None) -> float:
        """P(AUC >= target): the probability that the narrow forecast gives to a target less far from the mean."""
        n = self.n if n is None else n
        return self.forecast.prob_reached(float(self._stretched(target, n, 1 / self.factor)), n)

    def prob_plateau(self, target: float) -> float:
        """P(plateau >= target)."""
        return self.prob_reached(target, np.inf)

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """The narrow forecast's range at the level that, of a normal quantity, lies `factor` times as far out."""
        farther = float(2 * ndtr(self.factor * ndtri(0.5 + level / 2)) - 1)
        told = self.forecast.labels_needed(target, farther)
        return LabelRange(told.low, told.median, told.high, level)

    def tail(self) -> Tail:
        """The same curve."""
        return self.forecast.tail()

    def joint_draws(self, n: float | None = None) -> Array:
        """The narrow forecast's draws, each moved away from the mean."""
        n = self.n if n is None else n
        return self._stretched(self.forecast.joint_draws(n), n, self.factor)

    def _stretched(self, auc: Array | float, n: float, factor: float) -> Array:
        middle = ndtri(np.clip(self.median(n), EDGE, 1 - EDGE))  # a skewed posterior's mean may lie far off
        return np.asarray(ndtr(middle + factor * (ndtri(np.clip(auc, EDGE, 1 - EDGE)) - middle)))


def widen(forecast: Forecast, factor: float) -> Forecast:
    """Stretch a forecast; one that is stretched already is stretched from its narrow form.

    Raises:
        ValueError: The factor is below 1. A score never narrows an interval.
    """
    if factor < 1:
        raise ValueError(
            f"the factor is {factor}; intervals are widened, never narrowed: it must be at least 1."
        )
    narrow, _ = narrow_form(forecast)
    return narrow if factor == 1 else Widened(narrow, factor)


def narrow_form(forecast: Forecast) -> tuple[Forecast, float]:
    """A forecast as it was fitted, and how much wider it is told."""
    return (forecast.forecast, forecast.factor) if isinstance(forecast, Widened) else (forecast, 1.0)
