"""Uncertain, shared out over the findings that are still open, and spread out: the three aims of a batch in one.

1. Open findings together say which images stay in sight: those they are least sure of, a finding counting for more the fewer
   labels of its scarcer class there are.
2. Each open finding has a quota of the batch by the same weight, and offers what of these its own head is least sure of; a
   rare finding thereby offers what most looks like it.
3. Of what is offered, the one farthest from everything labelled or chosen is taken, finding by finding in turn.

What a near-duplicate of it is labelled already is asked only when nothing else is left. A finding with too few labels for a head
pulls by a provisional one; where there is not even that, the batch is what is typical of the archive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.strategies.distance import to_nearest
from loop.strategies.measures import highest_rows, how_unsure, mean_over_findings
from loop.strategies.pool import Choice, Pool, Rows
from loop.strategies.provisional import add_heads
from loop.strategies.typical import typiclust

Array = NDArray[np.float64]

IN_SIGHT = 4
"""Images that stay in sight for each one of the batch."""

OFFERED = 2
"""Of these, what a finding offers for each one of its quota."""

NEAR_DUPLICATE = 0.1
"""Share of the typical distance between an offered image and what is labelled below which it is a near-duplicate."""


def hybrid(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Choose by open findings in turn, each from what its head is least sure of, the farthest first."""
    if n == 0:
        return []
    pool, provisional = add_heads(pool)
    pulling = np.flatnonzero(pool.open & ~np.isnan(pool.proba).all(axis=0))  # (F,)
    if not len(pulling):  # nothing open has a head: all that have one pull
        pulling = np.flatnonzero(~np.isnan(pool.proba).all(axis=0))
    if not len(pulling):
        return typiclust(pool, n, rng)
    weight = weigh(count_scarcer(pool.labelled.y[:, pulling]))  # (F,)
    doubt = how_unsure(pool.proba[:, pulling])  # (m, F)
    rows = np.sort(least_sure(mean_over_findings(doubt, weight), IN_SIGHT * n, pool.patients))  # (c,)
    return _take_in_turn(pool, rows, n, pulling, share_out(n, weight), doubt[rows], provisional)


def count_scarcer(y: Array) -> Array:
    """Labels of the scarcer class of each finding, shape ``(F,)``."""
    return np.asarray(np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0)), np.float64)


def weigh(scarcer: Array) -> Array:
    """How much a finding counts, shape ``(F,)``: twice as much at a quarter of the labels of its scarcer class."""
    return np.asarray(1 / np.sqrt(1 + scarcer), np.float64)


def share_out(n: int, weight: Array) -> Rows:
    """Quotas of n images in proportion to weights, shape ``(F,)``, by largest remainder."""
    exact = n * weight / weight.sum()
    quotas: Rows = np.floor(exact).astype(np.intp)
    rest = np.argsort(-(exact - quotas), kind="stable")[: n - int(quotas.sum())]
    quotas[rest] += 1
    return quotas


def least_sure(doubt: Array, n: int, patients: Rows) -> Rows:
    """The n rows of most doubt, one a patient, ties by row; a row without a score is none of them."""
    known = np.flatnonzero(np.isfinite(doubt))
    return known[highest_rows(n, doubt[known], patients[known])]


def _take_in_turn(
    pool: Pool,
    rows: Rows,
    n: int,
    pulling: Rows,
    quotas: Rows,
    doubt: Array,
    provisional: NDArray[np.bool_],
) -> list[Choice]:
    patients, labelled = pool.patients[rows], pool.labelled.vectors  # (c,)
    offered = [
        np.isin(np.arange(len(rows)), least_sure(doubt[:, f], quota * OFFERED, patients))
        for f, quota in enumerate(quotas.tolist())
    ]
    vectors = pool.vectors.read(rows)  # (c, d)
    away = to_nearest(vectors, labelled.read(np.arange(len(labelled))))  # (c,)
    finite = away[np.isfinite(away)]
    near = NEAR_DUPLICATE * float(np.median(finite)) if len(finite) else -1.0  # no labels: nothing is near
    free = np.ones(len(rows), bool)
    chosen: list[Choice] = []

    def take(among: NDArray[np.bool_], f: int) -> None:
        best = int(np.flatnonzero(among)[away[among].argmax()])
        k = int(np.nanargmax(doubt[best])) if f < 0 else f
        finding = int(pulling[k])
        chosen.append(
            _say(pool, int(rows[best]), finding, doubt[best, k], away[best], bool(provisional[finding]))
        )
        np.logical_and(free, patients != patients[best], out=free)
        np.minimum(away, to_nearest(vectors, vectors[best : best + 1]), out=away)

    for f in [f for turn in range(int(quotas.max())) for f in np.flatnonzero(quotas > turn)]:
        if (among := free & offered[f] & (away > near)).any():
            take(among, int(f))
    while len(chosen) < n and free.any():  # what quotas could not find, near-duplicates last
        among = free & (away > near)
        take(among if among.any() else free, -1)
    return chosen


def _say(pool: Pool, row: int, k: int, doubt: float, away: float, provisional: bool) -> Choice:
    told = f"{pool.proba[row, k]:.2f}".replace("0.", ".")
    far = f", {away:.2f} from the nearest labelled" if np.isfinite(away) else ""
    few = " by a provisional head" if provisional else ""
    return Choice(row, f"{pool.findings[k]} is unsure{few} ({told}){far}", float(doubt))
