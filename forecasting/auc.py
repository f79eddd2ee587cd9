"""AUC and its error: of scores that a model gave to strangers, and of a model trained on the same few labels.

Two estimates, for two situations. `estimate_auc` is for independent scores (a test set, the random
stream): DeLong's error covers the draw of the items. `cross_fitted_auc` is for labels that must both
train and test: only pairs inside one fold are compared, because scores of different folds come from
different models and pooling them biases the AUC downwards, by .05 and more with few positives. Its
errors overlap between folds, so DeLong's formula would be 1.3 to 3 times too small; the Hanley-McNeil
error times 1.24 was right at every number of positives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from forecasting.clusters import clustered_variance, most_alike
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

Scorer = Callable[[Mask], Array]
"""Masks ``(B, n)`` over the labelled items to scores ``(B, n, K)``, each mask by its own probes.

Higher = more positive; a whole ``(b, :, k)`` is NaN where that head could not be trained.
"""

INFLATION = 1.24
"""Error of a cross-fitted AUC over the Hanley-McNeil error, measured over simulated and real worlds."""

BLOCK_BYTES = 64 * 2**20
"""Most memory that one call of a scorer may need for its answer."""


@dataclass(frozen=True, slots=True)
class AucEstimate:
    """An area under the ROC curve and how far it can be trusted.

    Attributes:
        auc: The estimate, on [0, 1].
        se: Its standard error, on [0, 1]; never 0.
        n_positive: Positives behind it.
        n_negative: Negatives behind it.
        design_effect: How many times the variance is what as many independent items would have; at least 1,
            and more where items of one patient are alike.
    """

    auc: float
    se: float
    n_positive: int
    n_negative: int
    design_effect: float = 1.0

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Bounds that hold the true AUC with at least probability `level`, inside [0, 1].

        All AUCs whose own Hanley-McNeil error, scaled to this estimate's, would reach the estimate: like
        Wilson's interval for a proportion it stays wide where few items separate perfectly. The scale is
        at least that of the design effect: near 1, DeLong's error alone covered 52 to 85 % of the time instead of 90.
        """
        n = self.n_positive, self.n_negative
        scale = max(
            float(np.sqrt(self.design_effect)),
            self.se / float(np.sqrt(hanley_mcneil(shrink(self.auc, *n), *n))),
        )
        grid = ndtr(np.linspace(-4.5, 4.5, 4001))
        reach = ndtri(0.5 + level / 2) * scale * np.sqrt(hanley_mcneil(grid, *n))
        inside = np.append(grid[np.abs(self.auc - grid) <= reach], self.auc)
        return float(inside.min()), float(inside.max())


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """Every item's score by probes that had seen neither it nor its patient.

    Attributes:
        scores: Shape ``(R, n, K)`` for R repeats; NaN where a head could not be trained.
        folds: Shape ``(R, n)``: the fold in which each item was scored; -1 for an item without any label.
    """

    scores: Array
    folds: NDArray[np.intp]


def estimate_auc(y: ArrayLike, scores: ArrayLike, groups: NDArray[Any] | None = None) -> AucEstimate:
    """Estimate the area under the ROC curve and its DeLong standard error.

    Args:
        y: Labels, shape ``(n,)``: 1 positive, 0 negative, NaN not known (left out).
        scores: The probe's scores, shape ``(n,)``, higher = more positive.
        groups: The patient of each item, shape ``(n,)``, whose items then count as alike as they are;
            None = each item is a patient of its own.

    Returns:
        AUC and standard error, both on [0, 1]. The error covers the draw of these items, not the draw
        of the training set; on items a strategy chose it means nothing. At perfect separation DeLong's
        error is 0, which says nothing: there the Hanley-McNeil error at a shrunken AUC stands in.

    Raises:
        TooFewLabels: Fewer than two positives or two negatives, or all of a class in one group.

    References:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44(3), 1988; fast form Sun and Xu, IEEE Signal
        Processing Letters 21(11), 2014; with groups Obuchowski, Biometrics 53(2), 1997.
    """
    y, scores = np.asarray(y, float), np.asarray(scores, float)
    positive, negative = scores[y == 1], scores[y == 0]
    n1, n0 = len(positive), len(negative)
    _require(n1, n0)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n1] - rankdata(positive)) / n0  # (n1,) share of negatives below each positive
    below = 1 - (ranks[n1:] - rankdata(negative)) / n1  # (n0,) share of positives above each negative
    auc = float(above.mean())
    variance = above.var(ddof=1) / n1 + below.var(ddof=1) / n0
    effect = 1.0
    if groups is not None:
        groups = np.asarray(groups)
        by_group = clustered_variance(above - auc, below - auc, groups[y == 1], groups[y == 0])
        effect = max(1.0, by_group / variance) if variance > 0 else most_alike(groups[y == 1], groups[y == 0])
        variance = by_group
    if variance <= 0:
        variance = effect * hanley_mcneil(shrink(auc, n1 / effect, n0 / effect), n1, n0)
    return AucEstimate(auc, float(np.sqrt(variance)), n1, n0, float(effect))


def hanley_mcneil(auc: ArrayLike, n_positive: ArrayLike, n_negative: ArrayLike) -> Array:
    """Variance of an AUC from its size and the counts alone, under negative exponential scores.

    Args:
        auc: AUC, any shape; kept inside [.0001, .9999], so that the variance is never 0.
        n_positive: Positives, broadcast against `auc`.
        n_negative: Negatives, broadcast against `auc`.

    References:
        Hanley and McNeil, Radiology 143(1), 1982, equation 2.
    """
    a = np.clip(np.asarray(auc, float), 1e-4, 1 - 1e-4)
    n1, n0 = np.asarray(n_positive, float), np.asarray(n_negative, float)
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    return np.asarray((a * (1 - a) + (n1 - 1) * (q1 - a**2) + (n0 - 1) * (q2 - a**2)) / (n1 * n0))


def shrink(auc: float, n_positive: float, n_negative: float) -> float:
    """Pull an AUC towards 1/2 by the weight of one effective item, so that none is 0 or 1."""
    effective = n_positive * n_negative / (n_positive + n_negative)
    return (auc * effective + 0.5) / (effective + 1)


def cross_fit(
    y: Array,
    groups: NDArray[Any],
    scorer: Scorer,
    rng: np.random.Generator,
    n_folds: int = 5,
    n_repeats: int = 5,
) -> CrossFit:
    """Score every labelled item by probes that saw neither it nor its group. All findings share the folds.

    Args:
        y: Labels, shape ``(n, K)``, NaN not known.
        groups: The patient of each item, shape ``(n,)``; a patient is never in two folds.
        scorer: Trains on each mask and scores every item.
        rng: Deals the folds; the same generator state gives the same folds.
        n_folds: Folds a repeat, fewer where there are fewer groups.
        n_repeats: How often to deal anew.

    Raises:
        TooFewLabels: All labels belong to one group.
    """
    folds = np.stack([assign_folds(y, groups, n_folds, rng) for _ in range(n_repeats)])  # (R, n)
    parts = [(r, f) for r in range(n_repeats) for f in range(folds[r].max() + 1)]
    masks = np.stack([(folds[r] >= 0) & (folds[r] != f) for r, f in parts])  # (B, n)
    scores = np.full((n_repeats, *y.shape), np.nan)  # (R, n, K)
    for b, given in score_in_blocks(scorer, masks, y.shape[1]):
        r, f = parts[b]
        held_out = folds[r] == f
        scores[r, held_out] = given[held_out]
    return CrossFit(scores, folds)


def cross_fitted_auc(
    y: Array, scores: Array, folds: NDArray[np.intp], keep: Mask | None = None
) -> AucEstimate:
    """AUC of one finding from cross-fitted scores: pairs inside a fold only, pooled over repeats.

    Args:
        y: Labels, shape ``(n,)``, NaN not known (left out).
        scores: Shape ``(R, n)``, NaN where the head could not be trained (left out).
        folds: Shape ``(R, n)``.
        keep: Compare only pairs of these items, shape ``(n,)``; for instance the randomly drawn ones.

    Returns:
        The AUC and 1.24 times its Hanley-McNeil error at a slightly shrunken AUC, so that four items
        that separate perfectly are not called certain.

    Raises:
        TooFewLabels: Fewer than two positives or two negatives, or no fold holds both.

    References:
        Airola et al., Computational Statistics and Data Analysis 55(4), 2011, on pooling over folds.
    """
    y = np.where(keep, y, np.nan) if keep is not None else y
    n1, n0 = int((y == 1).sum()), int((y == 0).sum())
    _require(n1, n0)
    wins = pairs = 0.0
    for repeat, dealt in zip(scores, folds, strict=True):
        for f in range(dealt.max() + 1):
            inside = dealt == f
            won, compared = count_wins(y[inside], repeat[inside])
            wins, pairs = wins + won, pairs + compared
    if not pairs:
        raise TooFewLabels(
            f"{n1} positives and {n0} negatives, but no fold holds both with a trained probe; "
            "label more items of the rarer class, from more patients"
        )
    auc = wins / pairs
    se = INFLATION * np.sqrt(hanley_mcneil(shrink(auc, n1, n0), n1, n0))
    return AucEstimate(auc, float(se), n1, n0)


def count_wins(y: Array, scores: Array) -> tuple[float, int]:
    """Pairs in which the positive scores higher (ties count half), and all pairs; NaN left out."""
    known = ~np.isnan(scores)
    positive, negative = scores[known & (y == 1)], np.sort(scores[known & (y == 0)])
    lower = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(lower.sum()) / 2, len(positive) * len(negative)


def score_in_blocks(scorer: Scorer, masks: Mask, n_findings: int) -> Iterator[tuple[int, Array]]:
    """Call a scorer on as many masks at once as fit in `BLOCK_BYTES`; yield each mask's scores ``(n, K)``."""
    n_masks, n = masks.shape
    block = max(1, BLOCK_BYTES // (8 * n * n_findings))
    for start in range(0, n_masks, block):
        scores = scorer(masks[start : start + block])  # (b, n, K)
        expected = (min(block, n_masks - start), n, n_findings)
        if scores.shape != expected:
            raise ValueError(
                f"the scorer gave scores of shape {scores.shape} where {expected} were asked for"
            )
        yield from enumerate(scores, start)


def _require(n_positive: int, n_negative: int) -> None:
    if min(n_positive, n_negative) < 2:
        raise TooFewLabels(
            f"an AUC needs at least 2 positives and 2 negatives, found {n_positive} and {n_negative}; "
            "label more items of the rarer class"
        )
