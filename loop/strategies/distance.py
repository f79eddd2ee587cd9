"""Distances to the nearest of some centres, for a pool that streams by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loop.strategies.pool import Rows, Vectors

Float32 = NDArray[np.float32]

BLOCK = 2048
"""Centres that one product takes: with a chunk of the pool, 8 MB of distances."""


def squared_distances(vectors: Float32, centres: Float32) -> Float32:
    """Squared Euclidean distances, shape ``(m, n)``, by ``|x|^2 + |c|^2 - 2 x c``; never negative."""
    squares: Float32 = np.einsum("md,md->m", vectors, vectors)[:, None] + np.einsum(
        "nd,nd->n", centres, centres
    )
    squares -= 2 * (vectors @ centres.T)
    np.maximum(squares, 0, out=squares)
    return squares


def to_nearest(vectors: Float32, centres: Float32) -> Float32:
    """Distance of each vector to the nearest centre, shape ``(m,)``; infinite if there is none.

    Which centre is nearest is told by products; how near it is, by the difference, so that small distances are exact.
    """
    nearest = np.full(len(vectors), np.inf, np.float32)
    for start in range(0, len(centres), BLOCK):
        block = centres[start : start + BLOCK]
        which = find_nearest(vectors, block) if len(block) > 1 else np.zeros(len(vectors), np.intp)
        apart = vectors - block[which]  # (m, d)
        np.minimum(nearest, np.sqrt(np.einsum("md,md->m", apart, apart)), out=nearest)
    return nearest


def find_nearest(vectors: Float32, centres: Float32) -> Rows:
    """The nearest centre of each vector, shape ``(m,)``: the term ``|x|^2`` is the same for all."""
    products = vectors @ centres.T  # (m, n)
    products -= np.einsum("nd,nd->n", centres, centres) / 2
    return np.asarray(products.argmax(axis=1), np.intp)


def measure_nearest(pool: Vectors, labelled: Vectors, nearest: Float32 | None = None) -> Float32:
    """Distance of each image of a pool to its nearest labelled one, in one pass of bounded memory.

    Args:
        pool: m images; a chunk of them is held at once.
        labelled: n images; all are held.
        nearest: What is known from fewer labels, shape ``(m,)``; it is not changed.

    Returns:
        Shape ``(m,)``, float32; infinite where nothing is labelled.
    """
    measured = np.full(len(pool), np.inf, np.float32) if nearest is None else nearest.copy()
    if not len(labelled):
        return measured
    centres = labelled.read(np.arange(len(labelled)))  # (n, d)
    for rows in pool.chunks():
        measured[rows] = np.minimum(measured[rows], to_nearest(pool.read(rows), centres))
    return measured


def find_most_central(pool: Vectors) -> int:
    """Row nearest to the mean of a pool: where to begin with nothing labelled."""
    if not len(pool):
        raise ValueError("an empty pool has no centre")
    mean = np.zeros(pool.dim)
    for rows in pool.chunks():
        mean += pool.read(rows).sum(axis=0, dtype=np.float64)
    centre = (mean / len(pool)).astype(np.float32)[None]  # (1, d)
    best, least = 0, np.inf
    for rows in pool.chunks():
        away = to_nearest(pool.read(rows), centre)  # (c,)
        if away.min() < least:
            best, least = int(rows[away.argmin()]), float(away.min())
    return best


def same_patient(patients: Rows, row: int) -> NDArray[np.bool_]:
    """Whose images may not be asked beside this one, shape ``(m,)``; itself too."""
    return np.asarray(patients == patients[row])
