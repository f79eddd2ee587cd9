"""TypiClust: with few labels, ask what is typical of the parts of the archive that nothing labelled speaks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forecasting.words import counted
from loop.strategies.distance import Float32, find_nearest, squared_distances, to_nearest
from loop.strategies.pool import Choice, Pool, Rows, Vectors

MOST_CLUSTERS = 500
SAMPLE = 10_000
"""Images that the clusters are found on; all are then assigned to them."""

N_NEIGHBOURS = 20
"""Neighbours in its cluster that make an image typical, as in the paper."""

MEMBERS = 1_000
"""Images of a cluster that are compared with each other; of more, as many are drawn."""

N_TURNS = 10


def typiclust(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Ask the most typical image of the largest clusters without a label, then of those with the fewest labels.

    The clusters are as many as there are labels and images to ask; no probability is looked at.

    References:
        Hacohen, Dekel and Weinshall, Active learning on a budget: opposite strategies suit high and low budgets, ICML 2022.
    """
    if n == 0:
        return []
    n_clusters = min(len(pool.labelled.y) + n, MOST_CLUSTERS, len(pool))
    centres = find_clusters(pool.vectors, n_clusters, rng)  # (C, d)
    cluster = assign(pool.vectors, centres)  # (m,)
    n_labelled = np.bincount(assign(pool.labelled.vectors, centres), minlength=n_clusters)  # (C,)
    free = np.ones(len(pool), bool)
    chosen: list[Choice] = []
    while len(chosen) < n and free.any():
        size = np.bincount(cluster[free], minlength=n_clusters)  # (C,)
        largest = int(np.lexsort((-size, np.where(size > 0, n_labelled, np.iinfo(np.int64).max)))[0])
        members = np.flatnonzero(free & (cluster == largest))
        if len(members) > MEMBERS:
            members = np.sort(rng.choice(members, MEMBERS, replace=False))
        typical = measure_typicality(pool.vectors.read(members))
        best = int(typical.argmax())
        row = int(members[best])
        how = "nothing labelled is like it" if n_labelled[largest] == 0 else "few labels are like it"
        chosen.append(
            Choice(row, f"typical of {counted(int(size[largest]), 'image')}; {how}", float(typical[best]))
        )
        n_labelled[largest] += 1
        free &= pool.patients != pool.patients[row]
    return chosen


def find_clusters(vectors: Vectors, n_clusters: int, rng: np.random.Generator) -> Float32:
    """Centres of k-means on a sample, shape ``(C, d)``; a cluster that runs empty keeps its centre."""
    rows = np.sort(rng.choice(len(vectors), min(len(vectors), max(SAMPLE, n_clusters)), replace=False))
    sample = vectors.read(rows)  # (s, d)
    few = rng.choice(len(sample), min(len(sample), 4 * n_clusters), replace=False)
    centres = sample[few][_begin(sample[few], n_clusters, rng)]  # (C, d)
    for _ in range(N_TURNS):
        mine = find_nearest(sample, centres)  # (s,)
        order = np.argsort(mine, kind="stable")
        there, starts = np.unique(mine[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)  # (t, d)
        centres[there] = sums / np.diff([*starts, len(order)])[:, None]
    return centres


def _begin(sample: Float32, n_clusters: int, rng: np.random.Generator) -> list[int]:
    """Rows to begin with, by k-means++; where fewer differ, rows come twice."""
    chosen = [int(rng.integers(len(sample)))]
    squares = np.full(len(sample), np.inf)
    while len(chosen) < n_clusters:
        np.minimum(squares, to_nearest(sample, sample[chosen[-1:]]).astype(np.float64) ** 2, out=squares)
        total = squares.sum()
        chosen.append(int(rng.choice(len(sample), p=squares / total if total > 0 else None)))
    return chosen


def assign(vectors: Vectors, centres: Float32) -> Rows:
    """Nearest centre of each image, shape ``(m,)``, in chunks."""
    nearest = np.empty(len(vectors), np.intp)
    for rows in vectors.chunks():
        nearest[rows] = find_nearest(vectors.read(rows), centres)
    return nearest


def measure_typicality(members: Float32) -> NDArray[np.float64]:
    """One over the mean distance to the nearest neighbours among the members, shape ``(m,)``; infinite for one alone."""
    if len(members) == 1:
        return np.array([np.inf])
    k = min(N_NEIGHBOURS, len(members) - 1)
    centred = members - members.mean(axis=0)  # small numbers round less
    squares = squared_distances(centred, centred)  # (m, m)
    np.fill_diagonal(squares, np.inf)
    nearest = np.sqrt(np.partition(squares, k - 1, axis=1)[:, :k])  # (m, k)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / nearest.mean(axis=1), np.float64)
