"""Learning curves from the labels alone: AUC over growing training sizes, each point scored out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forecasting.auc import (
    Array,
    Mask,
    Scorer,
    count_wins,
    score_in_blocks,
)
from forecasting.clusters import design_effect, place_items
from forecasting.errors import BadCurve
from forecasting.folds import assign_folds
from forecasting.selection import difference_variance, shrink_bias

SMALLEST_SHARE = 1 / 8
"""The smallest training size, as a share of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class LearningCurve:
    """AUC of one finding by number of labels.

    Attributes:
        finding: Its name.
        n: Labels known.
        n_positive: Positives among them.
        n_negative: Negatives among them.
        sizes: Known labels in the training part of each point, shape ``(S,)``, rising; S may be 0.
        effective: ``m = n1 n0 / (n1 + n0)`` of the training part (mean), shape ``(S,)``.
        auc: The points, shape ``(S,)``, corrected for active selection.
        bias: What was subtracted from every point for it; 0 where all items were drawn at random.
        bias_se: Standard deviation of what is still unknown of it, common to all points.
        design_effect: How many items of one patient weigh as one: the variance of the points over that of
            as many items of strangers; at least 1.
        placements: Share of the other class that each item was on the right side of, at the full training part, shape
            ``(n_items,)``; NaN for an item that met none. None for points that somebody else measured.
        se: Given errors of the points, shape ``(S,)``; None where points share their items, which are
            then as exact as Hanley-McNeil says at the curve.
        shared: Whether points with given errors share their items too, so that they stray together;
            otherwise they are independent of each other.
    """

    finding: str
    n: int
    n_positive: int
    n_negative: int
    sizes: Array
    effective: Array
    auc: Array
    bias: float = 0.0
    bias_se: float = 0.0
    se: Array | None = None
    shared: bool = False
    design_effect: float = 1.0
    placements: Array | None = None

    @property
    def independent(self) -> tuple[float, float]:
        """Positives and negatives, as many as strangers would be that tell as much."""
        return self.n_positive / self.design_effect, self.n_negative / self.design_effect


def estimate_curves(
    findings: Sequence[str],
    y: Array,
    groups: NDArray[Any],
    scorer: Scorer,
    rng: np.random.Generator,
    is_random: Mask | None = None,
    n_sizes: int = 6,
    n_repeats: int = 20,
    n_folds: int = 5,
) -> list[LearningCurve]:
    """Estimate the learning curve of each finding from the labels so far, without a test set.

    Each of `n_repeats` parts holds one fold of patients out and trains on nested, growing random sets
    of the other patients, up to all of them; pairs inside the held-out fold are counted and pooled over
    the parts. A point stands where at least half of the parts that can be tested had both classes to
    train on. Costs ``n_sizes * n_repeats`` fits, whatever the number of labels and findings.

    Items that a strategy chose bias the AUC, mostly downwards. The difference to the pairs of randomly
    drawn items measures it, noisily; shrunk towards 0 and towards the other findings (`forecasting.selection`) it is
    taken out of every point, and what stays unknown is carried along as `LearningCurve.bias_se`.

    Images of one patient are alike, so they tell less than as many strangers; how much less is measured on the
    scores themselves, by patient (`LearningCurve.design_effect`).

    Args:
        findings: K names.
        y: Labels, shape ``(n, K)``: 1, 0, NaN not known (left out, per finding).
        groups: The patient of each item, shape ``(n,)``: never in training and held out at once.
        scorer: Trains on each mask and scores every item.
        rng: Deals folds and training sets; the same state gives the same curves.
        is_random: Whether each item was drawn at random, shape ``(n,)``; None = all were.
        n_sizes: Points a curve, geometric from an eighth of the training part to all of it.
        n_repeats: Held-out parts.
        n_folds: Folds a deal.

    Returns:
        One curve a finding, in their order; without points where too few of a class are known.

    Raises:
        TooFewLabels: All labels belong to one group.
    """
    n_findings = len(findings)
    known = ~np.isnan(y)  # (n, K)
    drawn = np.ones(len(y), bool) if is_random is None else np.asarray(is_random, bool)
    held_out, masks = _nested_parts(y, groups, rng, n_sizes, n_repeats, n_folds)  # (B, n), (B, S, n)
    n_parts = len(held_out)

    shape = n_parts, n_sizes, n_findings
    wins, pairs = np.zeros(shape), np.zeros(shape)
    random_wins, random_pairs = np.zeros(n_findings), np.zeros(n_findings)  # at the full training part
    won, met = np.zeros(y.shape), np.zeros(y.shape)  # by each item there, (n, K)
    for index, scores in score_in_blocks(scorer, masks.reshape(-1, len(y)), n_findings):
        part, size = divmod(index, n_sizes)
        items = held_out[part]
        for k in range(n_findings):
            wins[part, size, k], pairs[part, size, k] = count_wins(y[items, k], scores[items, k])
            if size == n_sizes - 1:
                placed = place_items(y[items, k], scores[items, k])
                won[items, k] += placed[0]
                met[items, k] += placed[1]
                both = items & drawn
                counted = count_wins(y[both, k], scores[both, k])
                random_wins[k] += counted[0]
                random_pairs[k] += counted[1]

    flat = masks.reshape(-1, len(y)).astype(float)  # (B S, n)
    n1 = (flat @ (y == 1)).reshape(shape)  # positives in each training part
    n0 = (flat @ (y == 0)).reshape(shape)
    effective = n1 * n0 / np.maximum(n1 + n0, 1)
    total = np.maximum(pairs.sum(axis=0), 1)  # (S, K)
    auc, mean_size, mean_effective = (
        (x.sum(axis=0) / total) for x in (wins, (n1 + n0) * pairs, effective * pairs)
    )
    usable = (pairs > 0).sum(axis=0)  # (S, K) parts that tested a trained head
    stands = (usable > 0) & (2 * usable >= usable[-1])

    effect = [design_effect(y[:, k], won[:, k], met[:, k], groups) for k in range(n_findings)]
    bias: Array = np.zeros(n_findings)
    bias_se: Array = np.zeros(n_findings)
    if not drawn.all():
        delta, variance = np.zeros(n_findings), np.full(n_findings, np.inf)
        for k in np.flatnonzero(random_pairs):
            delta[k] = auc[-1, k] - random_wins[k] / random_pairs[k]
            of_all, of_random = (_counts(part, effect[k]) for part in (y[:, k], y[drawn, k]))
            variance[k] = difference_variance(auc[-1, k], of_all, of_random)
        bias, bias_se = shrink_bias(delta, variance)

    placements = np.where(met > 0, won / np.maximum(met, 1), np.nan)  # (n, K)
    curves = []
    for k, finding in enumerate(findings):
        points = _growing(mean_size[:, k], stands[:, k])
        curves.append(
            LearningCurve(
                finding=finding,
                n=int(known[:, k].sum()),
                n_positive=int((y[:, k] == 1).sum()),
                n_negative=int((y[:, k] == 0).sum()),
                sizes=mean_size[points, k],
                effective=mean_effective[points, k],
                auc=np.clip(auc[points, k] - bias[k], 0.0, 1.0),
                bias=float(bias[k]),
                bias_se=float(bias_se[k]),
                design_effect=effect[k],
                placements=placements[:, k],
            )
        )
    return curves


def curve_from_points(
    n: ArrayLike,
    auc: ArrayLike,
    se: ArrayLike | None = None,
    positives: ArrayLike | None = None,
    negatives: ArrayLike | None = None,
    finding: str = "",
) -> LearningCurve:
    """Make a learning curve of points that somebody else measured.

    Args:
        n: Labels behind each point, shape ``(S,)``.
        auc: AUC at each, shape ``(S,)``.
        se: Standard errors, shape ``(S,)``; points then count as independent.
        positives: Positives among the labels, shape ``(S,)``; half where neither count is given.
        negatives: Negatives among them; the rest where only positives are given.
        finding: Its name.

    Raises:
        BadCurve: No point, unequal lengths, a size below 1, an AUC outside [0, 1], a negative error,
            counts that are not positive or exceed the labels.
    """
    sizes, points = np.atleast_1d(np.asarray(n, float)), np.atleast_1d(np.asarray(auc, float))
    given = None if se is None else np.atleast_1d(np.asarray(se, float))
    n1, n0 = (None if c is None else np.atleast_1d(np.asarray(c, float)) for c in (positives, negatives))
    n1 = n1 if n1 is not None else (sizes / 2 if n0 is None else sizes - n0)
    n0 = n0 if n0 is not None else sizes - n1
    if not len(sizes):
        raise BadCurve("a learning curve needs at least one point, found none")
    for name, values in (("auc", points), ("se", given), ("positives", n1), ("negatives", n0)):
        if values is not None and values.shape != sizes.shape:
            raise BadCurve(f"{values.size} values of {name} for {sizes.size} sizes; give one for each point")
    _refuse(~(np.isfinite(sizes) & (sizes >= 1)), sizes, "n", "a size is a number of labels, at least 1")
    _refuse(~((points >= 0) & (points <= 1)), points, "auc", "an AUC lies between 0 and 1, not in percent")
    if given is not None:
        _refuse(~(np.isfinite(given) & (given >= 0)), given, "se", "a standard error is at least 0")
    _refuse(~(np.isfinite(n1) & (n1 > 0)), n1, "positives", "each point needs both classes")
    _refuse(~(np.isfinite(n0) & (n0 > 0)), n0, "negatives", "each point needs both classes")
    _refuse(n1 + n0 > sizes + 0.5, n1 + n0, "positives + negatives", "classes cannot exceed the labels")
    order = np.argsort(sizes, kind="stable")
    last = order[-1]
    return LearningCurve(
        finding=finding,
        n=round(float(sizes[last])),
        n_positive=max(1, round(float(n1[last]))),
        n_negative=max(1, round(float(n0[last]))),
        sizes=sizes[order],
        effective=(n1 * n0 / (n1 + n0))[order],
        auc=points[order],
        se=None if given is None else given[order],
    )


def _nested_parts(
    y: Array, groups: NDArray[Any], rng: np.random.Generator, n_sizes: int, n_repeats: int, n_folds: int
) -> tuple[Mask, Mask]:
    """Held-out folds ``(B, n)`` and, for each, growing sets of the other groups ``(B, S, n)``."""
    shares = np.geomspace(SMALLEST_SHARE, 1.0, n_sizes)
    held_out: list[Mask] = []
    masks: list[Mask] = []
    while len(held_out) < n_repeats:
        folds = assign_folds(y, groups, n_folds, rng)
        for f in range(folds.max() + 1):
            rest = np.flatnonzero((folds >= 0) & (folds != f))
            names, group_of = np.unique(groups[rest], return_inverse=True)
            place = rng.permutation(len(names))[group_of]  # (r,) when each item's group is its turn
            before = np.concatenate([[0], np.cumsum(np.bincount(place))[:-1]])[
                place
            ]  # items of earlier groups
            nested = np.zeros((n_sizes, len(y)), bool)
            nested[:, rest] = before[None, :] < shares[:, None] * len(rest)
            held_out.append(folds == f)
            masks.append(nested)
    return np.stack(held_out[:n_repeats]), np.stack(masks[:n_repeats])


def _counts(y: Array, effect: float) -> tuple[float, float]:
    return float((y == 1).sum()) / effect, float((y == 0).sum()) / effect


def _growing(sizes: Array, stands: Mask) -> NDArray[np.intp]:
    """Points that stand and are at least 2 % larger than the one before."""
    points: list[int] = []
    for s in np.flatnonzero(stands):
        if points and sizes[s] < 1.02 * sizes[points[-1]]:
            points.pop()  # two equal sets; the later one holds the full training part
        points.append(int(s))
    return np.array(points, dtype=np.intp)


def _refuse(bad: Mask, values: Array, name: str, fact: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BadCurve(f"point {row + 1} has {name} = {values[row]:g}: {fact}")
