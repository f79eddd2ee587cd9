"""Uncertain, shared out over the findings that are still open, and spread out: the three aims of a batch in one.

1. Each open finding offers what its own head is least sure of; a rare finding thereby offers what most looks like it.
2. Each has a quota of the batch, larger the fewer labels of its scarcer class there are.
3. Of what is offered, the one farthest from everything labelled or chosen is taken, finding by finding in turn.

What a near-duplicate of it is labelled already is asked only when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.strategies.distance import to_nearest
from loop.strategies.measures import utilities
from loop.strategies.pool import Choice, Pool, Rows

Array = NDArray[np.float64]

OFFERED = 5
"""Images that a finding offers for each one of its quota."""

NEAR_DUPLICATE = 0.1
"""Share of the typical distance between an offered image and what is labelled below which it is a near-duplicate."""


def hybrid(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Choose by open findings in turn, each from what its head is least sure of, the farthest first."""
    pulling = np.flatnonzero(pool.open & ~np.isnan(pool.proba).all(axis=0))  # (F,)
    if not len(pulling):  # nothing open has a head: all that have one pull
        pulling = np.flatnonzero(~np.isnan(pool.proba).all(axis=0))
    if n == 0 or not len(pulling):
        return []
    quotas = share_out(n, count_scarcer(pool.labelled.y[:, pulling]))  # (F,)
    doubt = np.column_stack([utilities("uncertainty", p) for p in pool.proba[:, pulling].T])  # (m, F)
    offers = [
        offer(column, max(n, quota * OFFERED), pool.patients)
        for column, quota in zip(doubt.T, quotas, strict=True)
    ]
    return _take_in_turn(pool, n, pulling, quotas, offers, doubt)


def count_scarcer(y: Array) -> Array:
    """Labels of the scarcer class of each finding, shape ``(F,)``."""
    return np.asarray(np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0)), np.float64)


def share_out(n: int, scarcer: Array) -> Rows:
    """Quotas of n images, shape ``(F,)``, in proportion to ``1 / sqrt(1 + scarcer)``, by largest remainder.

    Four times as few labels of the scarcer class = twice the quota.
    """
    wish = 1 / np.sqrt(1 + scarcer)  # (F,)
    exact = n * wish / wish.sum()
    quotas: Rows = np.floor(exact).astype(np.intp)
    rest = np.argsort(-(exact - quotas), kind="stable")[: n - int(quotas.sum())]
    quotas[rest] += 1
    return quotas


def offer(doubt: Array, n: int, patients: Rows) -> Rows:
    """The n rows of most doubt, one a patient, ties by row."""
    known = np.flatnonzero(~np.isnan(doubt))
    order = known[np.argsort(-doubt[known], kind="stable")]
    few = order[: 4 * n] if len(order) > 4 * n else order
    first = np.sort(np.unique(patients[few], return_index=True)[1])
    if len(first) < n and len(few) < len(order):
        first, few = np.sort(np.unique(patients[order], return_index=True)[1]), order
    return np.asarray(few[first[:n]], np.intp)


def _take_in_turn(
    pool: Pool, n: int, pulling: Rows, quotas: Rows, offers: Sequence[Rows], doubt: Array
) -> list[Choice]:
    rows = np.unique(np.concatenate(offers))  # (c,)
    mine = [np.isin(rows, offered) for offered in offers]  # F times (c,)
    vectors = pool.vectors.read(rows)  # (c, d)
    labelled = pool.labelled.vectors
    away = to_nearest(vectors, labelled.read(np.arange(len(labelled))))  # (c,)
    finite = away[np.isfinite(away)]
    near = (
        NEAR_DUPLICATE * float(np.median(finite)) if len(finite) else -1.0
    )  # nothing labelled: nothing is near
    free = np.ones(len(rows), bool)
    chosen: list[Choice] = []

    def take(among: NDArray[np.bool_], f: int | None) -> None:
        best = int(np.flatnonzero(among)[away[among].argmax()])
        speaks = int(np.nanargmax(doubt[rows[best]])) if f is None else f
        chosen.append(
            _say(pool, int(rows[best]), int(pulling[speaks]), doubt[rows[best], speaks], away[best])
        )
        np.logical_and(free, pool.patients[rows] != pool.patients[rows[best]], out=free)
        np.minimum(away, to_nearest(vectors, vectors[best : best + 1]), out=away)

    turns = [f for turn in range(quotas.max()) for f in np.flatnonzero(quotas > turn)]
    for f in turns:
        if (among := free & mine[f] & (away > near)).any():
            take(among, f)
    while len(chosen) < n and free.any():  # what quotas could not find, near-duplicates last
        among = free & (away > near)
        take(among if among.any() else free, None)
    return chosen


def _say(pool: Pool, row: int, k: int, doubt: float, away: float) -> Choice:
    told = f"{pool.proba[row, k]:.2f}".replace("0.", ".")
    far = f", {away:.2f} from the nearest labelled" if np.isfinite(away) else ""
    return Choice(row, f"{pool.findings[k]} is unsure ({told}){far}", float(doubt))
