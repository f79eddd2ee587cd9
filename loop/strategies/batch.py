"""Choose the next batch: a share of the random stream, the rest by a strategy.

Utilities have one sign, higher = asked sooner. Selection in the active part stays soft: a fifth of it is
drawn at random, so that what a probe believes today does not decide alone what it may learn tomorrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from loop.strategies.measures import COLD, ask_highest
from loop.strategies.pool import Choice, Rows, Seen, make_pool
from loop.strategies.registry import find_strategy, run_strategy

Array = NDArray[np.float64]

BY_PROBABILITY = ("uncertainty", "margin", "entropy", COLD)


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
    seen: Seen | None = None,
) -> list[Pick]:
    """Choose a batch, in the order in which to ask it.

    ``round(size * random_share)`` items are the next of the random stream. The others are active: what the
    strategy chooses, but for the random floor, which draws a patient uniformly and one of their images.
    Never two images of one patient are active in a batch. A side that runs short is filled up by the
    other, each item booked to the stream it comes from. The order of the batch is random: a place in the
    queue tells nothing of the stream. The order of the pool plays no part; ties go by item id.

    Args:
        strategy: Name of a strategy, or `COLD`.
        size: Items wanted; fewer come back only if the pool allows no more.
        random_share: Share of the batch from the random stream, on [0, 1].
        random_next: The random stream's unlabelled items, in its order.
        active_items: Unlabelled items of the active part, m of them.
        active_proba: The probe's probabilities, shape ``(m, K)``; a column of NaN = no head.
        active_patients: Patient of each, m of them.
        findings: K names, for the reasons.
        rng: Draws the floor and the order.
        random_floor: Share of the active items drawn at random; all of them if no head is fitted and the strategy
            needs one.
        seen: What a strategy that looks at embeddings may see; others need none.

    Raises:
        BadInput: There is no such strategy, or it failed.
    """
    rule = None
    needs_probe = True
    if strategy not in ("random", *BY_PROBABILITY):
        rule, needs_probe = find_strategy(strategy)
    size = max(size, 0)
    order = sorted(range(len(active_items)), key=active_items.__getitem__)
    items = [active_items[i] for i in order]
    names = sorted(set(active_patients))
    number = {name: j for j, name in enumerate(names)}
    patients = np.array([number[active_patients[i]] for i in order], np.intp)  # (m,)
    proba = active_proba[np.array(order, np.intp)]  # (m, K)
    n_random = min(round(size * random_share), len(random_next))
    n_active = min(size - n_random, len(names))
    n_random = min(size - n_active, len(random_next))

    stream = [
        Pick(item, "random", "random", "next of the random stream", n_random / len(random_next), math.nan)
        for item in random_next[:n_random]
    ]
    fitted = np.flatnonzero(~np.isnan(proba).all(axis=0))  # (F,)
    utility: Array = np.full(len(items), math.nan)
    choices: list[Choice] = []
    if strategy == "random":
        why = "drawn at random"
    elif needs_probe and not fitted.size:
        why = "drawn at random: no finding has a head yet"
    else:
        why = "drawn at random from the rest of the active part"
        n_chosen = n_active - round(random_floor * n_active)
        if rule is None:
            told = [findings[k] for k in fitted]
            choices, utility = ask_highest(strategy, proba[:, fitted], told, patients, n_chosen)
        elif n_chosen:
            pool = make_pool(items, proba, patients, findings, seen, strategy)
            with threadpool_limits(1, "blas"):
                choices = run_strategy(strategy, rule, pool, n_chosen, rng)
    active = [
        Pick(items[c.row], "active", strategy, c.reason, c.inclusion_probability, c.utility) for c in choices
    ]
    taken = np.unique(patients[[c.row for c in choices]])
    active += _draw(n_active - len(choices), items, patients, taken, utility, why, rng)
    batch = stream + active
    return [batch[i] for i in rng.permutation(len(batch))]


def _draw(
    n: int,
    items: Sequence[str],
    patients: Rows,
    taken: Rows,
    utility: Array,
    reason: str,
    rng: np.random.Generator,
) -> list[Pick]:
    """Draw n patients that are not taken, uniformly, and of each an image, uniformly."""
    if n == 0:
        return []
    by_patient = np.argsort(patients, kind="stable")  # rows, patient by patient, each one's in order
    starts = np.searchsorted(patients[by_patient], np.arange(patients.max() + 2))
    left = np.setdiff1d(patients, taken)
    picks = []
    for j in rng.choice(len(left), n, replace=False):
        theirs = by_patient[starts[left[j]] : starts[left[j] + 1]]
        i = theirs[rng.integers(len(theirs))]
        probability = n / len(left) / len(theirs)
        picks.append(Pick(items[i], "active", "random", reason, probability, float(utility[i])))
    return picks
