"""BADGE: sample images whose gradients are long and unlike, without ever building a gradient.

The gradient of one finding's loss, at the label that the probe believes, is ``a_k x`` with ``a_k = p_k - [p_k >= .5]``. All
findings together it is ``a (x) x`` in K d dimensions, and the distance of two of them needs no more than
``|a|^2 |x|^2 + |b|^2 |y|^2 - 2 (a b) (x y)``.

References:
    Ash, Zhang, Krishnamurthy, Langford and Agarwal, Deep batch active learning by diverse, uncertain gradient lower
    bounds, ICLR 2020. Arthur and Vassilvitskii, k-means++, SODA 2007.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.strategies.measures import how_unsure, name_findings
from loop.strategies.pool import Choice, Pool, Rows, Vectors

Array = NDArray[np.float64]

TRIES = 64
"""Proposals drawn at once; after four times as many without a choice, all distances are measured anew."""


def badge(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Draw images by k-means++ on their gradients; what is drawn is soft, and its probability is booked."""
    pull = gradient_factors(pool.proba)  # (m, K)
    picks = draw_spread(
        pool.vectors, pull, n, pool.patients, rng, np.asarray(np.isnan(pool.proba).all(axis=1))
    )
    by_finding = how_unsure(pool.proba)  # (m, K)
    return [
        Choice(
            pick.row,
            f"long gradient, unlike the others: {name_findings(pool.findings, by_finding[pick.row], pool.proba[pick.row])}",
            pick.distance,
            pick.probability,
        )
        for pick in picks
    ]


def gradient_factors(proba: Array) -> Array:
    """The factor of each finding's gradient beside the embedding, shape ``(m, K)``; 0 where there is no score."""
    return np.asarray(np.where(np.isnan(proba), 0.0, proba - (proba >= 0.5)), np.float64)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row that was drawn.

    Attributes:
        row: Its place.
        distance: Of its gradient to the nearest drawn before it; to zero for the first.
        probability: That it would have been drawn by now, the draws before it given: at least this, for it is reckoned
            with distances as they were when all were last measured.
    """

    row: int
    distance: float
    probability: float


def draw_spread(
    vectors: Vectors,
    pull: Array,
    n: int,
    patients: Rows,
    rng: np.random.Generator,
    blocked: NDArray[np.bool_] | None = None,
) -> list[Drawn]:
    """Draw rows with a chance in proportion to the squared distance of their gradient to the nearest drawn one.

    The distribution is exactly that of k-means++. A row is proposed by its distance as it was measured once, which is an
    upper bound, and kept with the chance of the present one over it: only rows that are proposed are read. Where too
    many proposals fail, all distances are measured anew in one pass.

    Args:
        vectors: m images, x.
        pull: Their gradients' factors, shape ``(m, K)``.
        n: Rows wanted; fewer come back where no gradient is left that differs from those drawn.
        patients: Number of each one's patient, shape ``(m,)``; a patient is drawn once.
        rng: Draws.
        blocked: Rows that may not be drawn, shape ``(m,)``.
    """
    gradients = _Gradients(vectors, pull)
    free = np.ones(len(vectors), bool) if blocked is None else ~blocked
    bound = np.where(free, gradients.squares, 0.0)  # (m,) the first is drawn by length
    if n == 0 or not bound.any():
        return []
    totals = [float(bound.sum())]
    rows = [int(rng.choice(len(bound), p=bound / totals[0]))]
    drawn = [Drawn(rows[0], float(np.sqrt(bound[rows[0]])), float(bound[rows[0]] / totals[0]))]
    free &= patients != patients[rows[0]]
    bound, n_measured = gradients.measure(np.full(len(bound), np.inf), rows), 1
    while len(rows) < n:
        bound = np.where(free, bound, 0.0)
        cumulated = np.cumsum(bound)
        total = float(cumulated[-1])
        if total <= 0:
            break
        for row, squared in _propose(gradients, bound, cumulated, rows, n_measured, n, free, patients, rng):
            before = np.minimum.accumulate(gradients.to_drawn(row, rows[:-1]))  # (drawn,)
            totals.append(total)
            chances = np.concatenate([gradients.squares[[row]], before]) / totals
            drawn.append(Drawn(row, float(np.sqrt(squared)), float(1 - np.prod(1 - np.minimum(chances, 1)))))
        if n_measured < len(rows) < n:
            bound, n_measured = gradients.measure(bound, rows[n_measured:]), len(rows)
    return drawn


def _propose(
    gradients: _Gradients,
    bound: Array,
    cumulated: Array,
    rows: list[int],
    n_measured: int,
    n: int,
    free: NDArray[np.bool_],
    patients: Rows,
    rng: np.random.Generator,
) -> Iterator[tuple[int, float]]:
    """Draw by rejection until n are drawn or too many proposals fail; `rows` and `free` are kept up to date."""
    n_failed = 0
    while True:
        proposed = np.searchsorted(cumulated, rng.random(TRIES) * cumulated[-1], side="right")
        proposed = np.minimum(proposed, len(bound) - 1)
        now = bound[proposed]  # (t,)
        x = gradients.read(proposed)  # (t, d)
        if len(rows) > n_measured:
            now = np.minimum(now, gradients.apart(proposed, x, rows[n_measured:]).min(axis=1))
        threshold = rng.random(TRIES) * bound[proposed]
        for t, row in enumerate(proposed.tolist()):
            if not free[row] or threshold[t] >= now[t]:
                n_failed += 1
                continue
            n_failed = 0
            squared = float(now[t])
            gradients.hold(row, x[t])
            rows.append(row)
            free &= patients != patients[row]
            now[t + 1 :] = np.minimum(
                now[t + 1 :], gradients.apart(proposed[t + 1 :], x[t + 1 :], [row])[:, 0]
            )
            yield row, squared
            if len(rows) == n:
                return
        if n_failed >= 4 * TRIES:
            return


class _Gradients:
    """Gradients ``a (x) x`` of m images, kept as their two factors."""

    def __init__(self, vectors: Vectors, pull: Array) -> None:
        self._vectors = vectors
        self._pull = pull.astype(np.float32)  # (m, K)
        self._held: dict[int, NDArray[np.float32]] = {}  # embeddings of what is drawn
        self.squares = np.einsum("mk,mk->m", self._pull, self._pull, dtype=np.float64)  # (m,)
        for rows in vectors.chunks():
            x = vectors.read(rows)
            self.squares[rows] *= np.einsum("md,md->m", x, x)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Embeddings, shape ``(r, d)``."""
        return self._vectors.read(rows)

    def hold(self, row: int, x: NDArray[np.float32]) -> None:
        """Remember the embedding of a drawn row, shape ``(d,)``."""
        self._held[row] = x

    def to_drawn(self, row: int, drawn: list[int]) -> Array:
        """Squared distances of a drawn gradient to others, shape ``(n,)``."""
        return self.apart(np.array([row]), self._held[row][None], drawn).ravel()

    def measure(self, bound: Array, drawn: list[int]) -> Array:
        """Squared distance of every gradient to the nearest drawn one, shape ``(m,)``, where it is below a bound."""
        measured = bound.copy()
        for rows in self._vectors.chunks():
            apart = self.apart(rows, self._vectors.read(rows), drawn)  # (c, n)
            measured[rows] = np.minimum(measured[rows], apart.min(axis=1))
        return measured

    def apart(self, rows: Rows, x: NDArray[np.float32], drawn: list[int]) -> Array:
        """Squared distances of gradients with embeddings ``(r, d)`` to those of drawn rows, shape ``(r, n)``."""
        for row in drawn:
            if row not in self._held:
                self._held[row] = self._vectors.read(np.array([row]))[0]
        y = np.stack([self._held[row] for row in drawn])  # (n, d)
        alike = (self._pull[rows] @ self._pull[drawn].T) * (x @ y.T)  # (r, n)
        squares = self.squares[rows][:, None] + self.squares[drawn] - 2 * alike
        squares[rows[:, None] == np.array(drawn)] = 0.0  # itself, but for rounding
        return np.asarray(np.maximum(squares, 0.0), np.float64)
