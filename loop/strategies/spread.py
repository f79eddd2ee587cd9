"""Strategies that spread a batch out: k-center (core-set) and modAL's ranked batch, by the lazy greedy of `greedy`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.strategies.distance import Float32, find_most_central, to_nearest
from loop.strategies.greedy import Score, choose_greedily, measure_farthest
from loop.strategies.measures import how_unsure, mean_over_findings, name_findings
from loop.strategies.pool import Choice, Pool, Rows, Vectors

Array = NDArray[np.float64]


def k_center(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Ask what lies farthest from everything labelled or chosen, again and again.

    References:
        Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, ICLR 2018
        (its greedy form, algorithm 1).
    """
    return [
        Choice(row, f"farthest from everything labelled: {worth:.2f} away", worth)
        for row, worth in choose_farthest(pool.vectors, pool.labelled.vectors, n, pool.patients, _known(pool))
    ]


def choose_farthest(
    vectors: Vectors,
    labelled: Vectors,
    n: int,
    patients: Rows,
    nearest: Float32 | None = None,
    blocked: NDArray[np.bool_] | None = None,
) -> list[tuple[int, float]]:
    """Farthest first: rows and their distance when chosen. With nothing labelled it begins with the most central row."""

    def distance(away: Float32, _: Rows | slice, __: int) -> Array:
        return away.astype(np.float64)

    return _begin(vectors, labelled, n, patients, distance, nearest, blocked)


def ranked_batch(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Ask what is both uncertain and unlike everything labelled or chosen, as modAL's ranked batch does."""
    by_finding = how_unsure(pool.proba)  # (m, K)
    uncertainty = np.maximum(mean_over_findings(by_finding), 0.0)  # (m,)
    return [
        Choice(
            row,
            f"uncertain and unlike what is labelled: {name_findings(pool.findings, by_finding[row], pool.proba[row])}",
            worth,
        )
        for row, worth in choose_ranked(
            pool.vectors, pool.labelled.vectors, uncertainty, n, pool.patients, _known(pool)
        )
    ]


def choose_ranked(
    vectors: Vectors,
    labelled: Vectors,
    uncertainty: Array,
    n: int,
    patients: Rows,
    nearest: Float32 | None = None,
) -> list[tuple[int, float]]:
    """The rows of `modAL.batch.ranked_batch` and their scores.

    With a share a of the images still unlabelled, a score is ``a (1 - 1 / (1 + distance)) + (1 - a) uncertainty``.

    References:
        Cardoso, Silva, Canuto, Moro and Goncalves, Ranked batch-mode active learning, Information Sciences 379, 2017.
    """
    m, n_labelled = len(vectors), len(labelled)

    def rank(away: Float32, rows: Rows | slice, n_chosen: int) -> Array:
        unlabelled = (m - n_chosen) / (m + n_labelled)
        return unlabelled * (1 - 1 / (1 + away.astype(np.float64))) + (1 - unlabelled) * uncertainty[rows]

    return _begin(vectors, labelled, n, patients, rank, nearest, None)


def _known(pool: Pool) -> Float32 | None:
    """Distances to the nearest labelled image that somebody keeps; None if nobody does."""
    return None if pool.measure is None else pool.measure(pool.items)


def _begin(
    vectors: Vectors,
    labelled: Vectors,
    n: int,
    patients: Rows,
    score: Score,
    nearest: Float32 | None,
    blocked: NDArray[np.bool_] | None,
) -> list[tuple[int, float]]:
    """Choose greedily; with nothing labelled, the most central row first."""
    if n == 0 or not len(vectors):
        return []
    unseen = None
    if nearest is None:
        nearest, unseen = measure_farthest(vectors, labelled, 2 * n, score)
    if np.isfinite(nearest).all():
        return choose_greedily(vectors, nearest, n, patients, score, blocked, unseen)
    nearest, first = nearest.copy(), find_most_central(vectors)
    centre = vectors.read(np.array([first]))  # (1, d)
    for rows in vectors.chunks():
        nearest[rows] = to_nearest(vectors.read(rows), centre)
    taken = patients == patients[first]
    taken = taken if blocked is None else taken | blocked

    def later(away: Float32, rows: Rows | slice, n_chosen: int) -> Array:
        return score(away, rows, n_chosen + 1)

    return [(first, 0.0), *choose_greedily(vectors, nearest, n - 1, patients, later, taken)]
