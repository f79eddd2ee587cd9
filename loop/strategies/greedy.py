"""Greedy choices that depend on the distance to what is chosen already, exact and without looking at everything.

A distance to the nearest chosen image only shrinks as images are chosen, so one measured earlier is an upper bound for
ever. Rows whose bound is below the best exact score cannot win and are not read. A front of rows is kept exact; it grows,
from the highest bound down, until its best row beats every bound outside.

Reference: Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loop.strategies.distance import Float32, measure_nearest, to_nearest
from loop.strategies.pool import CHUNK, Rows, Vectors

Array = NDArray[np.float64]
Score = Callable[[Float32, "Rows | slice", int], Array]
"""Score of rows from their distances and the number of rows chosen so far; it never falls as a distance grows."""

FIRST = 256
"""Rows that the front begins with."""

FEW = 64
"""Labelled images that a whole pool is measured against."""

HELD = 32_768
"""Rows whose embeddings the front keeps in memory; those beyond are read again for each choice."""


@dataclass(slots=True)
class _Front:
    """Rows whose distance is exact."""

    vectors: Vectors
    rows: Rows = field(default_factory=lambda: np.empty(0, np.intp))
    distance: Float32 = field(default_factory=lambda: np.empty(0, np.float32))
    held: list[Float32] = field(default_factory=list)
    n_held: int = 0

    def extend(self, rows: Rows, distance: Float32, chosen: Float32) -> None:
        """Take rows in, and measure them against everything chosen so far, ``(n, d)``."""
        exact = distance.copy()
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            vectors = self.vectors.read(rows[part])  # (c, d)
            exact[part] = np.minimum(exact[part], to_nearest(vectors, chosen))
            if self.n_held == len(self.rows) + start and self.n_held < HELD:
                self.held.append(vectors)
                self.n_held += len(vectors)
        self.rows = np.concatenate([self.rows, rows])
        self.distance = np.concatenate([self.distance, exact])

    def read(self, row: int) -> Float32:
        """The embedding of a row that is in the front, shape ``(1, d)``."""
        at = int(np.flatnonzero(self.rows == row)[0])
        for vectors in self.held:
            if at < len(vectors):
                return vectors[at : at + 1]
            at -= len(vectors)
        return self.vectors.read(np.array([row]))

    def measure(self, chosen: Float32) -> None:
        """Shrink the distances by one more choice, ``(1, d)``."""
        start = 0
        for vectors in self.held:
            self._shrink(slice(start, start + len(vectors)), vectors, chosen)
            start += len(vectors)
        for at in range(start, len(self.rows), CHUNK):
            part = slice(at, at + CHUNK)
            self._shrink(part, self.vectors.read(self.rows[part]), chosen)

    def _shrink(self, part: slice, vectors: Float32, chosen: Float32) -> None:
        np.minimum(self.distance[part], to_nearest(vectors, chosen), out=self.distance[part])


def choose_greedily(
    vectors: Vectors,
    nearest: Float32,
    n: int,
    patients: Rows,
    score: Score,
    blocked: NDArray[np.bool_] | None = None,
    unseen: Float32 | None = None,
) -> list[tuple[int, float]]:
    """Choose the row of the highest score, n times, each time with the distances that the choices before it left.

    Ties go to the lowest row.

    Args:
        vectors: m images.
        nearest: Distance of each to the nearest labelled one, or more than that, shape ``(m,)``; finite.
        n: Rows wanted; fewer come back where no more may be chosen.
        patients: Number of each one's patient, shape ``(m,)``; a patient is chosen once.
        score: What is to be large.
        blocked: Rows that may not be chosen, shape ``(m,)``.
        unseen: Labelled images that `nearest` may not know of, shape ``(c, d)``; None = it knows of all.

    Returns:
        Row and score of each choice, in order.
    """
    free = np.ones(len(vectors), bool) if blocked is None else ~blocked
    outside = free.copy()  # free rows that the front does not hold
    front = _Front(vectors)
    near = [np.empty((0, vectors.dim), np.float32) if unseen is None else unseen]
    picks: list[tuple[int, float]] = []
    while len(picks) < n and free.any():
        bound = np.where(outside, score(nearest, slice(None), len(picks)), -np.inf)  # (m,)
        best, worth = _best(front, free, score, len(picks))
        while (highest := bound.max()) > -np.inf and highest >= worth:
            rows = _highest(bound, max(FIRST, len(front.rows)))
            front.extend(rows, nearest[rows], np.concatenate(near))
            outside[rows], bound[rows] = False, -np.inf
            best, worth = _best(front, free, score, len(picks))
        picks.append((best, worth))
        theirs = patients == patients[best]
        free[theirs] = outside[theirs] = False
        near.append(front.read(best))
        front.measure(near[-1])
    return picks


def measure_farthest(
    vectors: Vectors, labelled: Vectors, n: int, score: Score
) -> tuple[Float32, Float32 | None]:
    """Distances to the nearest labelled image, exact where the score is among the n highest, elsewhere too large at most.

    All rows are measured against a few labelled images, which tells of most that they are too near to matter. The others are
    measured against the rest, from the highest down, until n of them beat all that are left.

    Args:
        vectors: m images.
        labelled: Those to be far from.
        n: Rows whose distance is to be exact, at least.
        score: As in `choose_greedily`.

    Returns:
        Distances, shape ``(m,)``, and the labelled images that they may not know of, as `choose_greedily` takes them.
    """
    if len(labelled) <= 2 * FEW:
        return measure_nearest(vectors, labelled), None
    few, rest = np.split(labelled.read(np.arange(len(labelled))), [FEW])
    nearest = np.concatenate([to_nearest(vectors.read(rows), few) for rows in vectors.chunks()])  # (m,)
    is_exact = np.zeros(len(vectors), bool)
    while not is_exact.all():
        worth = score(nearest, slice(None), 0)  # (m,)
        if (worth[is_exact] >= worth[~is_exact].max()).sum() >= n:
            break
        rows = _highest(np.where(is_exact, -np.inf, worth), max(CHUNK, int(is_exact.sum())))
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            nearest[part] = np.minimum(nearest[part], to_nearest(vectors.read(part), rest))
        is_exact[rows] = True
    return nearest, rest


def _best(front: _Front, free: NDArray[np.bool_], score: Score, n_chosen: int) -> tuple[int, float]:
    """The front's best free row, the lowest of equals, and its score."""
    if not len(front.rows):
        return -1, -np.inf
    worth = np.where(free[front.rows], score(front.distance, front.rows, n_chosen), -np.inf)
    highest = worth.max()
    return int(front.rows[worth == highest].min()), float(highest)


def _highest(bound: Array, n: int) -> Rows:
    """The n highest finite bounds, and all that equal the last of them, from the lowest row up."""
    finite = int((bound > -np.inf).sum())
    least = np.partition(bound, -n)[-n] if n < finite else -np.inf
    rows = np.flatnonzero(bound >= least) if n < finite else np.flatnonzero(bound > -np.inf)
    return np.asarray(rows, np.intp)
