"""How well people agree about one yes / no question: Cohen's kappa, Krippendorff's alpha, and their intervals.

Images come in *kinds*: all images with as many readings and as many yes among them are alike to every measure here. A
measure is a function of the weights of the kinds, so its posterior is drawn by drawing weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from forecasting.auc import Array

DRAWS = 4_000

JEFFREYS = 0.5
"""Images of each kind that are believed in before any."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its interval.

    Attributes:
        value: As measured; NaN where the images cannot tell, such as when all answers are the same.
        low: Lower end of the interval; NaN as above.
        high: Upper end.
        level: Posterior probability of the interval.
    """

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """Images counted by kind.

    Attributes:
        yes: Yes among the readings of each kind, shape ``(T,)``.
        reads: Readings of each kind, shape ``(T,)``; at least two.
        counts: Images of each kind, shape ``(T,)``; kinds that were possible and did not occur count 0.
    """

    yes: NDArray[np.intp]
    reads: NDArray[np.intp]
    counts: NDArray[np.intp]

    @property
    def n(self) -> int:
        """Images."""
        return int(self.counts.sum())

    @property
    def prior(self) -> Array:
        """Images of each kind that are believed in before any, shape ``(T,)``: one and a half in all.

        Half an image of each kind where all are read twice (Jeffreys); images read more often get their share of it.
        """
        share = (
            (self.reads[:, None] == self.reads) @ self.counts / max(self.n, 1)
        )  # (T,) of images read as often
        return np.asarray(1.5 * share / (self.reads + 1))


def count_kinds(yes: ArrayLike, reads: ArrayLike) -> Kinds:
    """Count the images by kind; images with fewer than two readings say nothing about agreement.

    Args:
        yes: Yes among the readings of each image, shape ``(n,)``.
        reads: Readings of each image, shape ``(n,)``.
    """
    y, r = np.asarray(yes, dtype=np.intp), np.asarray(reads, dtype=np.intp)
    y, r = y[r >= 2], r[r >= 2]
    kinds = [(k, size) for size in np.unique(r) for k in range(size + 1)]
    return Kinds(
        yes=np.array([k for k, _ in kinds], dtype=np.intp),
        reads=np.array([size for _, size in kinds], dtype=np.intp),
        counts=np.array([int(((y == k) & (r == size)).sum()) for k, size in kinds], dtype=np.intp),
    )


def krippendorff_alpha(weights: Array, yes: NDArray[np.intp], reads: NDArray[np.intp]) -> Array:
    """Krippendorff's alpha for two categories and any number of readings an image.

    Args:
        weights: Images of each kind, shape ``(..., T)``.
        yes: Shape ``(T,)``.
        reads: Shape ``(T,)``.

    Returns:
        Alpha, shape ``(...,)``: 1 = always agreed, 0 = as by chance; NaN where all answers are the same.

    References:
        Krippendorff, Computing Krippendorff's alpha-reliability, 2011, section C.
    """
    values = weights @ reads  # (...)
    ones = weights @ yes
    observed = weights @ (2 * yes * (reads - yes) / (reads - 1))
    expected = 2 * ones * (values - ones) / np.maximum(values - 1, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan))


def cohen_kappa(table: Array) -> Array:
    """Cohen's kappa of two people.

    Args:
        table: Images that both, neither, the first alone and the second alone said yes to, shape ``(..., 4)``.

    Returns:
        Kappa, shape ``(...,)``; NaN where both said the same of everything and never the other.

    References:
        Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20(1), 1960.
    """
    both, neither, first, second = np.moveaxis(table / table.sum(axis=-1, keepdims=True), -1, 0)
    a, b = both + first, both + second  # shares of yes
    chance = a * b + (1 - a) * (1 - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(chance < 1, (both + neither - chance) / (1 - chance), np.nan))


def estimate(
    measure: Callable[[Array], Any],
    counts: NDArray[np.intp],
    level: float,
    rng: np.random.Generator,
    prior: Array | float = JEFFREYS,
) -> Estimate:
    """Estimate a measure of the weights of kinds, with its interval.

    The interval is that of the posterior under Jeffreys's prior, half an image of each kind: as the bootstrap over
    images where there are many, and honest where a kind was not seen yet. Ten agreements in ten do not make it 1 to 1.

    Args:
        measure: Weights, shape ``(..., T)``, to the measure, shape ``(...,)``.
        counts: Images of each kind, shape ``(T,)``.
        level: Level of the interval.
        rng: Draws the posterior.
        prior: Images of each kind that are believed in before any.
    """
    value = float(measure(counts.astype(np.float64))) if counts.sum() else math.nan
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, level)
    draws = measure(rng.dirichlet(counts + prior, DRAWS) * counts.sum())  # (DRAWS,)
    low, high = np.nanquantile(draws, (0.5 - level / 2, 0.5 + level / 2))
    return Estimate(value, float(min(low, value)), float(max(high, value)), level)


def estimate_alpha(kinds: Kinds, level: float, rng: np.random.Generator) -> Estimate:
    """Krippendorff's alpha of some images, with its interval."""
    return estimate(
        lambda weights: krippendorff_alpha(weights, kinds.yes, kinds.reads),
        kinds.counts,
        level,
        rng,
        kinds.prior,
    )


def estimate_kappa(first: Array, second: Array, level: float, rng: np.random.Generator) -> Estimate:
    """Cohen's kappa of two people on the images that both answered, with its interval.

    Args:
        first: Answers, 1 or 0, shape ``(n,)``.
        second: The other's, shape ``(n,)``.
        level: Level of the interval.
        rng: Draws the posterior.
    """
    a, b = np.asarray(first) == 1, np.asarray(second) == 1
    table = np.array([(a & b).sum(), (~a & ~b).sum(), (a & ~b).sum(), (~a & b).sum()], dtype=np.intp)
    return estimate(cohen_kappa, table, level, rng)


def estimate_share(hits: int, n: int, level: float) -> Estimate:
    """A share with Wilson's interval, which stays inside [0, 1] and is not empty at its ends.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22(158), 1927.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, level)
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    centre = (hits + z2 / 2) / (n + z2)
    reach = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return Estimate(hits / n, max(0.0, centre - reach), min(1.0, centre + reach), level)
