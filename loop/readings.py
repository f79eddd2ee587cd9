"""Who reads what: images for a second reader, readings that are still open, and the queue made of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from annotate.records import Label, Receipt, Suggestion
from loop.rows import Round
from loop.state import State
from loop.strategies import COLD

DOUBLE_READS, REVIEW, REVIEW_PUSHED = "double_reads", "review", "review_pushed"
"""Facts of the state: the images of a batch that two people read, those of a review, item to readers, and where a review
was put."""


def draw_double_reads(round_: Round, share: float) -> tuple[str, ...]:
    """Draw the images of a batch that a second person reads too; the same batch and share give the same images.

    What the probe or a reader said of an image plays no part, so what the pairs tell holds for the whole batch.

    Args:
        round_: The batch.
        share: Of its images; the count is rounded up or down at random, so that it is right on average.
    """
    rng = np.random.default_rng([*round_.seed, 2])
    n = int(np.floor(share * len(round_.picks) + rng.random()))
    chosen = rng.permutation(len(round_.picks))[:n]
    return tuple(round_.picks[i].item for i in np.sort(chosen))


def note_double_reads(state: State, round_: Round, share: float, at: datetime) -> None:
    """Note who is drawn for a second reading before anybody is told; what was noted for a batch stays."""
    if share > 0 and all(noted["round"] != round_.number for noted in state.facts(DOUBLE_READS)):
        items = dict.fromkeys(draw_double_reads(round_, share), 2)
        state.set_fact(DOUBLE_READS, {"round": round_.number, "items": items}, at)


def wanted_readers(state: State) -> dict[str, int]:
    """Item to the number of people who are to read it, of the images that more than one is asked to read."""
    return _most([*_double_reads(state, undone=False), *state.facts(REVIEW)])


def undone_readings(state: State) -> list[str]:
    """Images that an undone batch wanted to be read twice, and that nothing else does."""
    wanted = wanted_readers(state)
    return [item for item in _most(_double_reads(state, undone=True)) if item not in wanted]


def reviewed_at(state: State) -> dict[str, datetime]:
    """Item to when a second look at it was first asked for."""
    found: dict[str, datetime] = {}
    for noted in state.facts(REVIEW):
        for item in noted["items"]:
            found.setdefault(item, datetime.fromisoformat(noted["at"]))
    return found


def note_review_pushed(state: State, version: str, receipt: Receipt, at: datetime) -> None:
    """Note that a review was seen in Label Studio, before the batch that was served."""
    told = {
        "version": version,
        "served": receipt.version,
        "n_served": receipt.n_served,
        "before": _batch_served(state),
    }
    state.set_fact(REVIEW_PUSHED, told, at)


def served_now(state: State) -> tuple[str, int] | None:
    """Model version and number of predictions of the queue that annotators have: the present batch's, or a review's that
    was put before it; None before the first push."""
    reviews = state.facts(REVIEW_PUSHED)
    if reviews and reviews[-1].get("before") == _batch_served(state):
        return reviews[-1]["served"], reviews[-1]["n_served"]
    return state.last_push()


def labels_by_item(state: State) -> dict[str, tuple[Label, ...]]:
    """Item to its current labels, of the images that have any."""
    labels = state.labels()
    return {item: labels[task_id] for item, task_id in state.tasks().items() if labels.get(task_id)}


def asked_from_random(rounds: Sequence[Round]) -> frozenset[str]:
    """Images that the random stream asked."""
    return frozenset(pick.item for round_ in rounds for pick in round_.picks if pick.stream == "random")


def readers_of(state: State) -> dict[str, set[str]]:
    """Item to the people who have labelled it; who skipped it has not."""
    return {
        item: {label.annotator for label in labels if not label.skipped}
        for item, labels in labels_by_item(state).items()
    }


def open_readings(state: State, *, double: bool) -> list[str]:
    """Images that were read, but by fewer people than asked, and that somebody is there to read.

    Label Studio gives an image to nobody twice: where nobody else labels in this project, nothing is open.

    Args:
        state: What was noted and labelled so far.
        double: Whether double reads are still wanted; reviews are.
    """
    wanted = wanted_readers(state) if double else _most(state.facts(REVIEW))
    if not wanted:
        return []
    readers = readers_of(state)
    everybody = set().union(*readers.values())
    return [
        item for item, n in wanted.items() if 0 < len(readers.get(item, ())) < n and everybody - readers[item]
    ]


def order_queue(
    state: State, round_: Round, *, double: bool, first: Collection[str] = ()
) -> list[Suggestion]:
    """The queue: what has to be read first, open second readings, then the batch.

    A suggestion is shown on an image of the active part only, and only where scores were calibrated by labels; never on
    one that several people read: they would lean on the same suggestion and seem to agree.

    Args:
        state: What was noted and labelled so far.
        round_: The batch.
        double: Whether open double reads of earlier batches are still wanted.
        first: Images of a review.
    """
    wanted, tasks = wanted_readers(state), state.tasks()
    shown: Mapping[str, dict[str, float] | None] = {
        pick.item: None
        if pick.stream == "random" or round_.strategy == COLD or pick.item in wanted
        else {f: float(p) for f, p in zip(round_.findings, score, strict=True) if p == p}
        for pick, score in zip(round_.picks, round_.scores, strict=True)
    }
    order = dict.fromkeys([*first, *open_readings(state, double=double), *shown])
    return [
        Suggestion(tasks[item], rank, shown.get(item), wanted.get(item, 1))
        for rank, item in enumerate((item for item in order if item in tasks), start=1)
    ]


def _batch_served(state: State) -> list[Any]:
    """What tells whether another batch was served since: the version served, and the rollbacks so far."""
    push = state.last_push()
    return [None if push is None else push[0], len(state.rollbacks())]


def _double_reads(state: State, *, undone: bool) -> list[Any]:
    """What was drawn for second readings in batches that are in force, or that a rollback undid."""
    gone = state.undone_rounds()
    return [noted for noted in state.facts(DOUBLE_READS) if (noted["round"] in gone) == undone]


def _most(facts: Sequence[Any]) -> dict[str, int]:
    """Item to the largest number of readers that any of the facts asks for."""
    wanted: dict[str, int] = {}
    for noted in facts:
        for item, n in noted["items"].items():
            wanted[item] = max(n, wanted.get(item, 1))
    return wanted
