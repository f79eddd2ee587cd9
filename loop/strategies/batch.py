"""Choose the next batch: a share of the random stream, the rest where the probe is least sure.

Utilities have one sign, higher = asked sooner. Selection in the active part stays soft: a fifth of it is
drawn at random, so that what a probe believes today does not decide alone what it may learn tomorrow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loop.errors import BadInput
from loop.settings import STRATEGIES
from loop.strategies.measures import COLD, largest_over_findings, mean_over_findings, say, utilities

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pick:
    """An item that is to be asked, and why.

    Attributes:
        item: Its id.
        stream: ``random`` or ``active``.
        strategy: The rule that chose it; ``random`` also for the random floor of the active part.
        reason: The same in words.
        inclusion_probability: With which probability that rule would have chosen it; 1 if it left no choice.
        utility: Its utility under the batch's strategy; NaN where none was computed.
    """

    item: str
    stream: str
    strategy: str
    reason: str
    inclusion_probability: float
    utility: float


def select_batch(
    strategy: str,
    size: int,
    random_share: float,
    random_next: Sequence[str],
    active_items: Sequence[str],
    active_proba: Array,
    active_patients: Sequence[str],
    findings: Sequence[str],
    rng: np.random.Generator,
    random_floor: float = 0.2,
) -> list[Pick]:
    """Choose a batch, in the order in which to ask it.

    ``round(size * random_share)`` items are the next of the random stream. The others are active: the
    highest utilities, but for the random floor, which draws a patient uniformly and one of their images.
    Never two images of one patient are active in a batch. A side that runs short is filled up by the
    other, each item booked to the stream it comes from. The order of the batch is random: a place in the
    queue tells nothing of the stream. The order of the pool plays no part; ties go by item id.

    Args:
        strategy: One of `STRATEGIES`, or `COLD`.
        size: Items wanted; fewer come back only if the pool allows no more.
        random_share: Share of the batch from the random stream, on [0, 1].
        random_next: The random stream's unlabelled items, in its order.
        active_items: Unlabelled items of the active part, m of them.
        active_proba: The probe's probabilities, shape ``(m, K)``; a column of NaN = no head.
        active_patients: Patient of each, m of them.
        findings: K names, for the reasons.
        rng: Draws the floor and the order.
        random_floor: Share of the active items drawn at random; all of them if no head is fitted.

    Raises:
        BadInput: There is no such strategy.
    """
    if strategy not in (*STRATEGIES, COLD):
        raise BadInput(f"There is no strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}.")
    size = max(size, 0)
    n_patients = len(set(active_patients))
    n_random = min(round(size * random_share), len(random_next))
    n_active = min(size - n_random, n_patients)
    n_random = min(size - n_active, len(random_next))

    stream = [
        Pick(item, "random", "random", "next of the random stream", n_random / len(random_next), math.nan)
        for item in random_next[:n_random]
    ]
    fitted = np.flatnonzero(~np.isnan(active_proba).all(axis=0))  # (F,)
    if strategy == "random" or not fitted.size:
        why = "drawn at random" if strategy == "random" else "drawn at random: no finding has a head yet"
        active = _draw(n_active, active_items, active_patients, set(), None, why, rng)
    else:
        scores = active_proba[:, fitted]  # (m, F)
        by_finding = np.column_stack([utilities(strategy, p) for p in scores.T])  # (m, F)
        utility = (largest_over_findings if strategy == COLD else mean_over_findings)(by_finding)  # (m,)
        rows = _highest(n_active - round(random_floor * n_active), utility, active_items, active_patients)
        names = [findings[k] for k in fitted]
        active = [
            Pick(
                active_items[i],
                "active",
                strategy,
                say(strategy, names, by_finding[i], scores[i]),
                1.0,
                float(utility[i]),
            )
            for i in rows
        ]
        taken = {active_patients[i] for i in rows}
        why = "drawn at random from the rest of the active part"
        active += _draw(n_active - len(rows), active_items, active_patients, taken, utility, why, rng)
    batch = stream + active
    return [batch[i] for i in rng.permutation(len(batch))]


def _highest(n: int, utility: Array, items: Sequence[str], patients: Sequence[str]) -> list[int]:
    """Rows of the n highest utilities, one a patient."""
    rows: list[int] = []
    seen: set[str] = set()
    for i in _by_utility(utility, items):
        if len(rows) == n:
            break
        if patients[i] not in seen:
            seen.add(patients[i])
            rows.append(i)
    return rows


def _by_utility(utility: Array, items: Sequence[str]) -> Iterator[int]:
    """Rows from the highest utility down, ties by item id; lazily, for few rows of many are wanted."""
    order = np.argsort(-utility)
    starts = np.flatnonzero(np.diff(utility[order], prepend=np.inf))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield from sorted(order[start:stop].tolist(), key=items.__getitem__)


def _draw(
    n: int,
    items: Sequence[str],
    patients: Sequence[str],
    taken: set[str],
    utility: Array | None,
    reason: str,
    rng: np.random.Generator,
) -> list[Pick]:
    """Draw n patients that are not taken, uniformly, and of each an image, uniformly."""
    if n == 0:
        return []
    images: dict[str, list[int]] = defaultdict(list)
    for i, patient in enumerate(patients):
        if patient not in taken:
            images[patient].append(i)
    names = sorted(images)
    picks = []
    for j in rng.choice(len(names), n, replace=False):
        theirs = sorted(images[names[j]], key=items.__getitem__)
        i = theirs[rng.integers(len(theirs))]
        probability = n / len(names) / len(theirs)
        known = math.nan if utility is None else float(utility[i])
        picks.append(Pick(items[i], "active", "random", reason, probability, known))
    return picks
