"""Images of one patient are alike: what that does to the variance of an AUC.

All of it follows from placements: how many of the other class each item is on the right side of. Those of one
patient are drawn together, so their sum counts as one draw (Obuchowski, Biometrics 53(2), 1997).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.errors import TooFewLabels

Array = NDArray[np.float64]

FEW_PATIENTS = 10
"""Patients of the rarer class at which a measured design effect counts as much as the largest possible one."""


def place_items(y: Array, scores: Array) -> tuple[Array, Array]:
    """By item, how many of the other class it is on the right side of (ties count half), and how many it met.

    Args:
        y: Labels, shape ``(n,)``, NaN not known.
        scores: Shape ``(n,)``, NaN = no score.

    Returns:
        Two arrays ``(n,)``; 0 for items without label or score.
    """
    known = ~np.isnan(scores)
    won, met = np.zeros(len(y)), np.zeros(len(y))
    positive, negative = known & (y == 1), known & (y == 0)
    for mine, other, sign in ((positive, negative, 1.0), (negative, positive, -1.0)):
        theirs = np.sort(sign * scores[other])
        lower = np.searchsorted(theirs, sign * scores[mine], "left")
        won[mine] = (lower + np.searchsorted(theirs, sign * scores[mine], "right")) / 2
        met[mine] = len(theirs)
    return won, met


def design_effect(y: Array, won: Array, met: Array, groups: NDArray[Any]) -> float:
    """How many times the variance of an AUC is that of as many items of strangers; 1 if all are strangers.

    Args:
        y: Labels, shape ``(n,)``, NaN not known.
        won: Pairs that each item won, shape ``(n,)``, as from `place_items`.
        met: Pairs that it met, shape ``(n,)``.
        groups: The patient of each item, shape ``(n,)``.

    Returns:
        The ratio of Obuchowski's variance to DeLong's, at least 1 and at most what copies would have. A ratio from few
        patients of a class is noise, so it is drawn towards what copies would have, as by `FEW_PATIENTS` of them.
    """
    there = met > 0
    positive, negative = there & (y == 1), there & (y == 0)
    if min(positive.sum(), negative.sum()) < 2:
        return 1.0
    above, below = won[positive] / met[positive], won[negative] / met[negative]
    above, below = above - above.mean(), below - below.mean()
    mine = groups[positive], groups[negative]
    most = most_alike(*mine)
    single = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    if single <= 0 or min(len(np.unique(part)) for part in mine) < 2:
        return most
    measured = float(np.clip(clustered_variance(above, below, *mine) / single, 1.0, most))
    n_patients = min(len(np.unique(part)) for part in mine)
    trust = n_patients / (n_patients + FEW_PATIENTS)
    return trust * measured + (1 - trust) * most


def clustered_variance(
    above: Array, below: Array, group_of_positive: NDArray[Any], group_of_negative: NDArray[Any]
) -> float:
    """Variance of an AUC over groups drawn whole.

    Args:
        above: Placement of each positive less the AUC, shape ``(n1,)``.
        below: Placement of each negative less the AUC, shape ``(n0,)``.
        group_of_positive: Shape ``(n1,)``.
        group_of_negative: Shape ``(n0,)``.
    """
    names, of = np.unique(np.concatenate([group_of_positive, group_of_negative]), return_inverse=True)
    n1, n0, n_groups = len(above), len(below), len(names)
    n_with = [len(np.unique(part)) for part in (of[:n1], of[n1:])]
    if min(n_with) < 2:
        raise TooFewLabels(
            "an AUC by patient needs positives and negatives of at least 2 patients each, found positives of "
            f"{n_with[0]} and negatives of {n_with[1]}; label images of more patients"
        )
    total = (
        np.bincount(of[:n1], above, n_groups) / n1,
        np.bincount(of[n1:], below, n_groups) / n0,
    )  # (I,) each
    own = sum(k / (k - 1) * float(t @ t) for k, t in zip(n_with, total, strict=True))
    return own + 2 * n_groups / (n_groups - 1) * float(total[0] @ total[1])


def most_alike(group_of_positive: NDArray[Any], group_of_negative: NDArray[Any]) -> float:
    """The design effect if all items of a group were copies, where scores that separate perfectly hide it."""
    sizes = [np.unique(part, return_counts=True)[1] for part in (group_of_positive, group_of_negative)]
    return max(float((size @ size) / size.sum()) for size in sizes)
