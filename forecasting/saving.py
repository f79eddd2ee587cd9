"""What active selection has saved: labels in hand, held against random labels from the same project.

**Estimand.** Let A(m) be the expected AUC, on the archive (one image a patient, mean over the findings), of probes trained on m
labels drawn from the project's own mixture of random and active labels, and B(m) that of probes trained on m labels of the
random stream alone. The ratio rho is defined by A(m) = B(rho m): one label of the project is worth rho random labels. With n
labels in hand, active selection has saved S = (rho - 1) n labels; S < 0 says that it has cost some.

**Design.** Both curves are measured at the same sizes m, from a quarter to all of the random stream's labels, on the same random
images of patients that had no part in the training: nothing is tested on what a strategy picked, and nothing is extrapolated
to compare. If picks were as good as random draws, both arms would be draws from one population and A(m) - B(m) would be 0 on
average at each m, whatever the shape of the curves, so 0 lies in the interval with its nominal probability. Only how *many* labels
a difference is worth is read from a shape,

    A(m) = a - g m^-1/2,  B(m) = a - b m^-1/2,  so that  rho = (b / g)^2,

near the middle of what curves of this kind do. What is assumed besides: rho, measured with at most as many labels as the random
stream has, holds at n. The mixture is thinned as it is, later picks with earlier ones.

**Interval.** Patients are dealt into G groups; the covariance of (b, g) is the delete-a-group jackknife's, which leaves each group's
patients out of training and testing alike, so that both draws count. (Training without groups g and h serves to test h where g is
deleted, and g where h is: G (G + 1) / 2 trainings in all.) rho is in the interval if b - g rho^1/2 is not told from 0 by a t-test
with G - 1 degrees of freedom (Fieller): where the curves are flat the interval has no end, as it should not.

References:
    Fieller, J. R. Stat. Soc. B 16(2), 1954; Efron and Stein, Ann. Statist. 9(3), 1981; Shao and Tu, The Jackknife and
    Bootstrap, 1995, section 5.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from forecasting.auc import Array, Mask, Scorer, count_wins, score_in_blocks
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds

N_GROUPS = 10
N_DRAWS = 4
"""Draws of training sets, which between them use as much of the labels as they can."""

SHRINKAGE = 0.8
"""What the jackknife's error is multiplied by. It counts twice what training and test images bring about together (Efron and
Stein), which is most of the noise of two probes on the same images: over simulated worlds it was 1.15 to 1.75 times too wide."""

SHARES = np.geomspace(1 / 4, 1.0, 4)
"""Sizes of the training sets, as shares of the random stream's training labels."""

POWER = 0.5

FEWEST = 5
"""Positives and negatives that the random stream must hold of a finding that is to count."""

FEWEST_LABELS = 40
"""Labels of the random stream, and of the active part, below which nothing is measured."""

ROUNDING = 1e-9
"""AUC below which a slope is rounding: where every probe is perfect at every size, its sign means nothing."""

FARTHEST = 8.0
"""Worth of a label beyond which none is told: it would lie far outside of what was measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Saving:
    """What active selection has saved so far.

    Attributes:
        n: Labels in hand, random and active ones.
        n_random: Of these, random ones.
        findings: Which findings count, shape ``(K,)``.
        difference: A less B, mean over the sizes: AUC that the project's labels are ahead of as many random ones.
        difference_se: Its jackknife error.
        saved: Labels, the best guess; infinite where the curves do not say.
        low: Lower end of the interval; at least -n.
        high: Upper end; infinite = no end in sight.
        level: Of the interval.
        shows: 1 = it has saved labels, -1 = it has cost labels, 0 = nothing that can be shown.
    """

    n: int
    n_random: int
    findings: Mask
    difference: float
    difference_se: float
    saved: float
    low: float
    high: float
    level: float
    shows: int


def estimate_saving(
    y: Array,
    groups: NDArray[Any],
    is_random: Mask,
    scorer: Scorer,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Saving:
    """Say how many labels active selection has saved, against random labels of the same project.

    Args:
        y: Labels of the random stream and of the active part, shape ``(n, K)``: 1, 0, NaN not known.
        groups: The patient of each, shape ``(n,)``.
        is_random: Drawn from the random stream, shape ``(n,)``; the others were picked.
        scorer: Trains on each mask and scores every item; a head that it cannot train counts as an AUC of one half.
        rng: Deals patients and draws training sets.
        level: Of the interval.

    Raises:
        TooFewLabels: Too few of either kind, or no finding with enough positives and negatives in the random stream.
    """
    n, n_random = len(y), int(is_random.sum())
    if min(n_random, n - n_random) < FEWEST_LABELS:
        raise TooFewLabels(
            f"what selection saves needs {FEWEST_LABELS} random and {FEWEST_LABELS} active labels, found {n_random} and "
            f"{n - n_random}; go on labelling"
        )
    tested = y[is_random]
    counts = np.minimum((tested == 1).sum(axis=0), (tested == 0).sum(axis=0))  # (K,)
    counting = counts >= FEWEST
    if not counting.any():
        raise TooFewLabels(
            f"what selection saves needs {FEWEST} positives and {FEWEST} negatives of a finding in the random stream, found "
            f"{int(counts.max())}; go on labelling"
        )
    dealt = deal_patients(y, groups, is_random, rng)  # (n,)
    curves = _measure(
        y, dealt, is_random, counting, scorer, rng
    )  # (G + 1, 2, S), the last without a deletion
    slopes = np.array([fit_slopes(one) for one in curves])  # (G + 1, 2) b, g
    cov = jackknife(slopes[:-1])  # (2, 2)
    apart = (curves[:, 0] - curves[:, 1]).mean(axis=1)  # (G + 1,)
    quantile = float(student.ppf(0.5 + level / 2, N_GROUPS - 1))
    b, g = (float(slope) for slope in slopes[-1])
    low, high, shows = worth_interval(b, g, cov, quantile)
    best = (b / g) ** (1 / POWER) if min(b, g) > ROUNDING else math.inf
    return Saving(
        n=n,
        n_random=n_random,
        findings=counting,
        difference=float(apart[-1]),
        difference_se=float(np.sqrt(jackknife(apart[:-1, None])[0, 0])),
        saved=(best - 1) * n if best <= FARTHEST else math.inf,
        low=(low - 1) * n,
        high=(high - 1) * n if high <= FARTHEST else math.inf,
        level=level,
        shows=shows,
    )


def deal_patients(
    y: Array, groups: NDArray[Any], is_random: Mask, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Deal patients into `N_GROUPS` groups, shape ``(n,)``, so that each has its share of either stream; -1 = nothing known."""
    dealt = np.full(len(y), -1)
    dealt[is_random] = assign_folds(y[is_random], groups[is_random], N_GROUPS, rng)
    dealt[~is_random] = assign_folds(y[~is_random], groups[~is_random], N_GROUPS, rng)
    first = dict(zip(groups[is_random], dealt[is_random], strict=True))
    for row in np.flatnonzero(~is_random):  # a patient of both streams is in one group
        dealt[row] = first.get(groups[row], dealt[row])
    return dealt


def _measure(
    y: Array,
    dealt: NDArray[np.intp],
    is_random: Mask,
    counting: Mask,
    scorer: Scorer,
    rng: np.random.Generator,
) -> Array:
    """Mean AUC of both arms by size with each group deleted, and at last with none, shape ``(G + 1, 2, S)``."""
    everyone = [(g, g) for g in range(N_GROUPS)] + list(combinations(range(N_GROUPS), 2))
    masks: list[Mask] = []
    of: list[tuple[int, int, int, int]] = []  # groups left out, arm, size
    order = rank_within(dealt, is_random, rng)  # (n,)
    for turn in range(N_DRAWS):
        for g, h in everyone:
            kept = (dealt >= 0) & (dealt != g) & (dealt != h)
            for s, arms in enumerate(draw_arms(kept, is_random, (order + turn / N_DRAWS) % 1.0)):
                masks += arms
                of += [(g, h, 0, s), (g, h, 1, s)]
    shape = N_GROUPS + 1, 2, len(SHARES), y.shape[1]
    wins, pairs = np.zeros(shape), np.zeros(shape)
    rows = [np.flatnonzero(is_random & (dealt == g)) for g in range(N_GROUPS)]
    findings = np.flatnonzero(counting)
    for index, scores in score_in_blocks(scorer, np.array(masks), y.shape[1]):
        g, h, arm, s = of[index]
        for deleted, held in {(g, h), (h, g)} if g != h else {(N_GROUPS, g)}:
            for k in findings:
                won, met = _count(y[rows[held], k], scores[rows[held], k])
                wins[deleted, arm, s, k] += won
                pairs[deleted, arm, s, k] += met
    with np.errstate(invalid="ignore"):
        auc = wins / pairs
    return np.asarray(np.nanmean(auc[..., findings], axis=-1))


def _count(y: Array, scores: Array) -> tuple[float, float]:
    """Pairs won and pairs met; a head that could not be trained wins half of them."""
    if not np.isnan(scores).any():
        return count_wins(y, scores)
    met = float((y == 1).sum() * (y == 0).sum())
    return met / 2, met


def rank_within(dealt: NDArray[np.intp], is_random: Mask, rng: np.random.Generator) -> Array:
    """A random place on [0, 1) for each label, even within each group of each stream: a part takes the same share of all groups.

    Places do not depend on what is deleted, so that a deletion only removes labels: it moves no other into their place, which
    the jackknife would take for noise.
    """
    order = np.zeros(len(dealt))
    for part in (is_random, ~is_random):
        begin = rng.permutation(N_GROUPS) + 0.5
        for g in range(N_GROUPS):
            rows = np.flatnonzero(part & (dealt == g))
            order[rows] = (rng.permutation(len(rows)) + begin[g] / N_GROUPS) / max(1, len(rows))
    return order


def draw_arms(kept: Mask, is_random: Mask, order: Array) -> list[tuple[Mask, Mask]]:
    """Training sets of the project's mixture and of random labels, as many of either, by rising size.

    Args:
        kept: Labels that may train, shape ``(n,)``.
        is_random: Shape ``(n,)``.
        order: Place of each label on [0, 1), shape ``(n,)``; the lowest train first, so that the sets are nested.
    """
    thinned = is_random.mean()  # this share of the mixture is as many as all random labels
    return [(kept & (order < share * thinned), kept & is_random & (order < share)) for share in SHARES]


def fit_slopes(curves: Array) -> Array:
    """Least squares of ``a - g m^-1/2`` and ``a - b m^-1/2`` on the arms ``(2, S)`` of mixture and random labels; b and g."""
    x = SHARES**-POWER  # (S,)
    zero = np.zeros_like(x)
    design = np.column_stack([np.ones(2 * len(x)), np.append(zero, -x), np.append(-x, zero)])
    return np.asarray(np.linalg.lstsq(design, curves.reshape(-1), rcond=None)[0][1:])


def jackknife(deleted: Array) -> Array:
    """Covariance of an estimate from its values with each of G groups deleted, ``(G, p)``; see `SHRINKAGE`."""
    n_groups = len(deleted)
    centred = deleted - deleted.mean(axis=0)
    return np.asarray(SHRINKAGE**2 * (n_groups - 1) / n_groups * centred.T @ centred)


def worth_interval(b: float, g: float, cov: Array, quantile: float) -> tuple[float, float, int]:
    """All ratios rho for which ``b - g rho^1/2`` is not told from 0: lower end, upper end, and what that shows.

    Where 1 is not among them, the ends are those of the side of 1 on which the difference lies.
    """

    def told(w: Array) -> Mask:
        spread = cov[0, 0] - 2 * w * cov[0, 1] + w * w * cov[1, 1]
        return np.asarray(np.abs(b - g * w) > ROUNDING + quantile * np.sqrt(np.maximum(spread, 0.0)))

    w = np.linspace(0.0, 2 * FARTHEST**POWER, 4001)
    at_one = bool(told(np.array([1.0]))[0])
    shows = 0 if not at_one else (1 if b > g else -1)
    side = np.ones(len(w), bool) if not shows else (w > 1 if shows > 0 else w < 1)
    inside = w[side & ~told(w)]
    if not len(inside):  # the difference is told, its amount lies beyond what is looked at
        return (FARTHEST, math.inf, 1) if shows > 0 else (0.0, 0.0, -1)
    low, high = float(inside.min()) ** (1 / POWER), float(inside.max()) ** (1 / POWER)
    return low, math.inf if high > FARTHEST else high, shows
