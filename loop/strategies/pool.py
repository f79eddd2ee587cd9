"""What a strategy sees, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from loop.errors import BadInput
from loop.features import Features
from loop.halves import as_slice

if TYPE_CHECKING:
    from loop.probe import Probe, Projection

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

CHUNK = 1024
"""Embeddings held at once while a pool streams by: with 768 dimensions 3 MB in float32, which stay near the processor."""


class Vectors:
    """Embeddings of some images by row, read when they are wanted: a pool of any size streams by in chunks.

    With a projection they are standardised on the pool and brought to length one, so that a Euclidean distance
    is one of directions, and the encoder's scale plays no part.
    """

    def __init__(
        self, features: Features, items: Sequence[str], projection: Projection | None = None
    ) -> None:
        self._features, self._items = features, items
        self.dim = features.dim
        self._shift = None if projection is None else projection.mean.astype(np.float32)  # (d,)
        self._scale = None if projection is None else (1 / projection.scale).astype(np.float32)  # (d,)

    def __len__(self) -> int:
        return len(self._items)

    def raw(self, rows: Rows) -> NDArray[np.float32]:
        """As the encoder made them, shape ``(r, d)``."""
        run = as_slice(rows)
        items = (
            self._items[run] if isinstance(run, slice) else list(map(self._items.__getitem__, run.tolist()))
        )
        return np.asarray(self._features.read(items), np.float32)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """As strategies see them, shape ``(r, d)``."""
        vectors = self.raw(rows)
        if self._shift is None or self._scale is None:
            return vectors
        vectors = (vectors - self._shift) * self._scale  # (r, d)
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def chunks(self, size: int = CHUNK) -> Iterator[Rows]:
        """Rows from the first to the last, a chunk at a time."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What strategies may look at besides the probabilities.

    Attributes:
        features: Embeddings of the active items and of the labelled ones.
        projection: Standardisation of the pool.
        items: Labelled items, n of them.
        y: Their labels, shape ``(n, K)``: 1, 0, NaN = not known.
        patients: Their patients, shape ``(n,)``.
        open: Findings whose target is not reached yet, shape ``(K,)``.
        probe: The probe that these labels trained; None before there is one.
        measure: What tells of some active items how far the nearest labelled one is, without measuring all anew; None =
            nothing is kept.
    """

    features: Features
    projection: Projection
    items: Sequence[str]
    y: Array
    patients: NDArray[np.str_]
    open: NDArray[np.bool_]
    probe: Probe | None = None
    measure: Callable[[Sequence[str]], NDArray[np.float32]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """What is labelled already, n images: as `Seen`, with embeddings by row."""

    vectors: Vectors
    y: Array
    patients: NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The unlabelled images of the active part, m of them, in the order of their ids.

    Attributes:
        items: Ids.
        patients: A number for each patient, shape ``(m,)``: equal = the same patient.
        proba: The probe's probabilities, shape ``(m, K)``; NaN = no head, or no score.
        findings: K names.
        vectors: Embeddings.
        labelled: What is known already.
        open: Findings whose target is not reached yet, shape ``(K,)``.
        projection: Standardisation of the pool.
        probe: The probe; None before there is one.
        measure: See `Seen`; most strategies look at few distances and do not ask.
    """

    items: Sequence[str]
    patients: Rows
    proba: Array
    findings: Sequence[str]
    vectors: Vectors
    labelled: Labelled
    open: NDArray[np.bool_]
    projection: Projection
    probe: Probe | None = None
    measure: Callable[[Sequence[str]], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Choice:
    """One image that a strategy asks.

    Attributes:
        row: Its place in the pool.
        reason: Why, in words.
        utility: Higher = sooner; the strategy's own scale.
        inclusion_probability: With which probability the rule would have chosen it, on (0, 1]; 1 = it left no choice.
    """

    row: int
    reason: str
    utility: float
    inclusion_probability: float = 1.0


class Strategy(Protocol):
    """A pure rule: the same pool, n and random stream give the same images."""

    def __call__(self, pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
        """Choose n images of the pool, the most wanted first, no two of one patient.

        The pool has at least n patients.
        """
        ...


def make_pool(
    items: Sequence[str], proba: Array, patients: Rows, findings: Sequence[str], seen: Seen | None, name: str
) -> Pool:
    """Bring together what a strategy sees.

    Raises:
        BadInput: There are no embeddings, and the strategy needs them.
    """
    if seen is None:
        raise BadInput(f"The strategy {name!r} looks at embeddings, and there are none here.")
    return Pool(
        items,
        patients,
        proba,
        findings,
        Vectors(seen.features, items, seen.projection),
        Labelled(Vectors(seen.features, seen.items, seen.projection), seen.y, seen.patients),
        seen.open,
        seen.projection,
        seen.probe,
        seen.measure,
    )
