"""The best AUC that labels with errors allow, estimated from images that several people read.

The model: each image shows the finding or not, T = 1 or 0, and a reading L errs independently of the other readings, and
of the score, given T. Let m = P(L = 1), a = P(T = 1 | L = 1), b = P(T = 0 | L = 0). A score that has AUC A against the truth has

    A_L = 1/2 + (a + b - 1) (A - 1/2)                                                            (1)

against one reading, so that even the truth itself, A = 1, is measured as (a + b) / 2: the ceiling.

Two readings of an image have covariance c = pi (1 - pi) d^2, with pi = P(T = 1) and d = P(L = 1 | T = 1) - P(L = 1 | T = 0), and
kappa = c / (m (1 - m)) is their chance-corrected agreement. From a + b - 1 = cov(T, L) / (m (1 - m)) = pi (1 - pi) d / (m (1 - m)):

    a + b - 1 = sqrt(kappa) sqrt(pi (1 - pi) / (m (1 - m)))                                       (2)

Readings alone do not tell pi. If readers say yes as often as the finding is there, pi = m, missed and invented findings
balance, and

    ceiling = (1 + sqrt(kappa)) / 2                                                               (3)

Without that assumption, both error rates being at least 0 bounds pi by kappa m / (kappa m + 1 - m), where every error is an
invented finding, and m / (m + kappa (1 - m)), where every error is a missed one; there a + b - 1 is kappa / (kappa m + 1 - m)
and kappa / (m + kappa (1 - m)). Between the two lies what (2) allows.

Where some images were read several times, and ties left out, the labels are better than one reading. With pi = m a reader
says yes to m + sqrt(kappa) (1 - m) of the images that show the finding and to m (1 - sqrt(kappa)) of the others, which gives a and b
of majorities, and (a + b) / 2 is the ceiling of the labels as they are.

Mistakes that all readers share are no noise in this model: a probe can learn them, and no repetition shows them.

References:
    Menon, van Rooyen, Ong and Williamson, Learning from corrupted binary labels via class-probability estimation, ICML
    2015, section 4 (equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from forecasting.agreement import Estimate, Kinds, estimate
from forecasting.auc import Array

FEWEST = 20
"""Images with two readings or more before a ceiling is told."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best AUC against single readings, and against the labels as they are.

    Attributes:
        auc: If missed and invented findings balance, with its interval.
        labels: The same of the labels as they are, majorities of as many readings as there were.
        lowest: The least that single readings allow, however errors split, at the measured agreement.
        highest: The most.
        n: Images with two readings or more behind it.
    """

    auc: Estimate
    labels: Estimate
    lowest: float
    highest: float
    n: int


def estimate_ceiling(
    kinds: Kinds, reads: ArrayLike, level: float, rng: np.random.Generator
) -> Ceiling | None:
    """Estimate the best AUC that any score can have against labels that rest on few readings.

    Args:
        kinds: Images by readings and yes among them: those from which the readers are known.
        reads: Readings of each labelled image, shape ``(n,)``: those that the AUC is measured on.
        level: Level of the interval.
        rng: Draws the posterior.

    Returns:
        None where fewer than `FEWEST` images were read twice, or all answers are the same.
    """
    if kinds.n < FEWEST:
        return None
    share, kappa = (float(x) for x in measure_noise(kinds.counts.astype(np.float64), kinds.yes, kinds.reads))
    if np.isnan(kappa):
        return None
    sizes, counts = np.unique(np.asarray(reads, dtype=np.intp), return_counts=True)

    def ceiling_of(sizes: NDArray[np.intp], counts: NDArray[np.intp]) -> Estimate:
        def measure(weights: Array) -> Array:
            return ceiling_of_majorities(*measure_noise(weights, kinds.yes, kinds.reads), sizes, counts)

        return estimate(measure, kinds.counts, level, rng, kinds.prior)

    single = ceiling_of(np.array([1]), np.array([1]))
    labels = ceiling_of(sizes, counts) if len(sizes) and sizes.max() > 1 else single
    lowest, highest = bound_ceiling(share, kappa)
    return Ceiling(single, labels, lowest, highest, kinds.n)


def measure_noise(weights: Array, yes: NDArray[np.intp], reads: NDArray[np.intp]) -> tuple[Array, Array]:
    """Measure how often a reading says yes, and how much of its variance two readings of an image share.

    Every image counts the same, however often it was read.

    Args:
        weights: Images of each kind, shape ``(..., T)``.
        yes: Shape ``(T,)``.
        reads: Shape ``(T,)``, at least 2.

    Returns:
        m and kappa, each of shape ``(...,)``; kappa on [0, 1], NaN where all answers are the same.
    """
    total = weights.sum(axis=-1)
    m = weights @ (yes / reads) / total
    pairs = weights @ (yes * (yes - 1) / (reads * (reads - 1))) / total  # P(both say yes)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = np.where((m > 0) & (m < 1), (pairs - m**2) / (m * (1 - m)), np.nan)
    return np.asarray(m), np.asarray(np.clip(kappa, 0.0, 1.0))


def ceiling_of_majorities(
    share: Array, kappa: Array, sizes: NDArray[np.intp], counts: NDArray[np.intp]
) -> Array:
    """The best AUC against majorities of several readings, ties left out, if missed and invented findings balance.

    Args:
        share: How often a reading says yes, m, shape ``(...)``.
        kappa: Chance-corrected agreement of two readings, shape ``(...)``.
        sizes: Readings an image, shape ``(S,)``, at least 1.
        counts: Images with as many, shape ``(S,)``.

    Returns:
        Shape ``(...)``; (1 + sqrt(kappa)) / 2 where every image is read once.
    """
    m, root = np.asarray(share), np.sqrt(kappa)
    right = {label: np.zeros(m.shape) for label in (0, 1)}  # P(label, and it is the truth)
    given = {label: np.zeros(m.shape) for label in (0, 1)}  # P(label)
    for prevalence, says_yes, truth in ((m, m + root * (1 - m), 1), (1 - m, m * (1 - root), 0)):
        for size, count in zip(sizes, counts, strict=True):
            votes = np.arange(size + 1)
            chances = np.asarray(binom.pmf(votes, size, np.asarray(says_yes)[..., None]))  # (..., size + 1)
            for label, wins in ((1, 2 * votes > size), (0, 2 * votes < size)):
                chance = count * prevalence * chances[..., wins].sum(axis=-1)
                given[label] += chance
                right[label] += chance * (label == truth)
    return np.asarray((right[1] / given[1] + right[0] / given[0]) / 2)


def bound_ceiling(share: float, kappa: float) -> tuple[float, float]:
    """The least and the most that the ceiling can be, whatever share of the errors are missed findings.

    Args:
        share: How often a reading says yes, m; inside (0, 1).
        kappa: Chance-corrected agreement of two readings, on [0, 1].
    """
    m = share
    if kappa <= 0:
        return 0.5, 0.5
    invented = kappa * m / (kappa * m + 1 - m)  # pi where every error is an invented finding
    missed = m / (m + kappa * (1 - m))  # pi where every error is a missed one

    def ceiling(prevalence: float) -> float:
        slope = np.sqrt(kappa * prevalence * (1 - prevalence) / (m * (1 - m)))  # (eq. 2)
        return float(0.5 + min(slope, 1.0) / 2)

    middle = min(max(0.5, invented), missed)  # pi (1 - pi) is largest at 1/2
    return min(ceiling(invented), ceiling(missed)), ceiling(middle)
