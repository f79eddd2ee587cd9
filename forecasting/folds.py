"""Folds by patient, for several findings at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.errors import TooFewLabels


def assign_folds(
    y: NDArray[np.float64], groups: NDArray[Any], n_folds: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Deal whole groups into folds so that each finding's scarce class is spread as evenly as they allow.

    The scarcest class of all findings is dealt first, group by group in random order, each to the fold
    that has fewest of it; what is left goes to the smallest fold (iterative stratification, by group).

    Args:
        y: Labels, shape ``(n, K)``, NaN not known.
        groups: Shape ``(n,)``.
        n_folds: Folds wanted; at most the number of groups are dealt.
        rng: Shuffles the groups.

    Returns:
        The fold of each item, shape ``(n,)``; -1 for an item without any known label, which therefore
        changes nothing.

    Raises:
        TooFewLabels: All labels belong to one group.

    References:
        Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, ECML PKDD 2011.
    """
    labelled = ~np.isnan(y).all(axis=1)
    names, group_of = np.unique(groups[labelled], return_inverse=True)
    n_groups = len(names)
    if n_groups < 2:
        raise TooFewLabels(
            f"all {labelled.sum()} labels belong to {n_groups} patient, cross-fitting needs at least 2; "
            "label images of more patients"
        )
    n_folds = min(n_folds, n_groups)
    known = y[labelled]  # (l, K)
    rarer = np.where((known == 1).sum(axis=0) <= (known == 0).sum(axis=0), 1.0, 0.0)  # (K,)
    scarce = np.zeros((n_groups, y.shape[1]))
    np.add.at(scarce, group_of, known == rarer)  # (G, K) items of the scarce class in each group
    weight = np.bincount(group_of, minlength=n_groups)  # (G,) items

    shuffled = rng.permutation(n_groups)
    fold = np.full(n_groups, -1)
    size = [0] * n_folds

    def deal(waiting: NDArray[np.intp], counts: NDArray[np.float64], load: list[float]) -> None:
        for g in waiting:
            f = min(range(n_folds), key=lambda i: (load[i], size[i]))
            fold[g] = f
            load[f] += counts[g]
            size[f] += int(weight[g])

    def scarcest(
        k: int,
    ) -> tuple[float, bytes]:  # the labels themselves break ties: names and order do not matter
        return float(scarce[:, k].sum()), known[:, k].tobytes()

    for k in sorted(range(y.shape[1]), key=scarcest):
        load = [float(scarce[fold == f, k].sum()) for f in range(n_folds)]
        deal(shuffled[(fold[shuffled] < 0) & (scarce[shuffled, k] > 0)], scarce[:, k], load)
    deal(shuffled[fold[shuffled] < 0], np.zeros(n_groups), [0.0] * n_folds)

    folds = np.full(len(y), -1)
    folds[labelled] = fold[group_of]
    return folds
