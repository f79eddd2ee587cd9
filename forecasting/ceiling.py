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

Mistakes that all readers share are no noise in this model: a probe can learn them, and no repetition shows them.

References:
    Menon, van Rooyen, Ong and Williamson, Learning from corrupted binary labels via class-probability estimation, ICML
    2015, section 4 (equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecasting.agreement import Estimate, Kinds, estimate
from forecasting.auc import Array

FEWEST = 20
"""Images with two readings or more before a ceiling is told."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best AUC against single readings.

    Attributes:
        auc: If missed and invented findings balance, with its interval.
        lowest: The least that the same readings allow, however errors split, at the measured agreement.
        highest: The most.
        n: Images with two readings or more behind it.
    """

    auc: Estimate
    lowest: float
    highest: float
    n: int


def estimate_ceiling(kinds: Kinds, level: float, rng: np.random.Generator) -> Ceiling | None:
    """Estimate the best AUC that any score can have against labels that each rest on one reading.

    Args:
        kinds: Images by readings and yes among them.
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
    auc = estimate(
        lambda weights: (1 + np.sqrt(measure_noise(weights, kinds.yes, kinds.reads)[1])) / 2,
        kinds.counts,
        level,
        rng,
        kinds.prior,
    )
    lowest, highest = bound_ceiling(share, kappa)
    return Ceiling(auc, lowest, highest, kinds.n)


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
