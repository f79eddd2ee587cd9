"""Bring the state to what Label Studio holds: changed labels, withdrawn labels, deleted tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from annotate.records import Pull, Roll
from loop.state import PullCount, State


class Source(Protocol):
    """Where labels come from: Label Studio, or the oracle of a simulation."""

    @property
    def overlap(self) -> timedelta:
        """How much later than it is dated a change may become visible."""
        ...

    def pull(self, since: datetime | None) -> Pull:
        """Every task that changed at or after a time, each with its whole set of labels; None = every annotated one."""
        ...

    def roll(self, up_to: int | None = None) -> Roll:
        """Count the tasks there, those with an id up to ``up_to`` or all."""
        ...

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        """Which of these tasks are (still) there."""
        ...


def sync(source: Source, state: State, at: datetime) -> PullCount:
    """Pull what changed and find the labelled tasks that were deleted. Told twice, it changes nothing.

    A pull looks back by the overlap behind the last known change, because a change may become visible late. Once a pull
    that came so much later than that change was first seen has found nothing newer, all before it is settled, and is
    read no more: looking at a project where nothing happens costs next to nothing, however many tasks it has.

    A deleted task leaves no trace in a pull, so the tasks are counted: up to the newest one of the last count their
    number falls only if some were deleted. Then every task that is labelled or in the present batch is looked for, and
    the labels of those that are gone are withdrawn. (A push looks for the tasks of its batch itself.) A sync that died
    anywhere is completed by the next one: the new count is noted last.

    Args:
        source: Where the labels are.
        state: What is known.
        at: The time now, UTC.

    Raises:
        AnnotateError: Label Studio refused or did not answer; sync again.
    """
    count = _pull(source, state, at)
    before, now = state.roll(), source.roll()
    if before is None or _fell(source, before, now):
        watched = sorted({*state.labels(), *_asked(state)})
        withdrawn = state.drop_tasks(set(watched) - source.existing(watched), at)
        count = replace(count, deleted=count.deleted + withdrawn)
    state.note_roll(now, at)
    return count


def _pull(source: Source, state: State, at: datetime) -> PullCount:
    known, settled = state.watermark(), state.settled()
    if known is None:
        return state.save_pull(source.pull(None), at)
    since = known - source.overlap if settled is None else max(known - source.overlap, settled)
    pull = source.pull(since)
    latest = known if pull.watermark is None else max(known, pull.watermark)
    count = state.save_pull(replace(pull, watermark=latest), at)
    first_seen = state.watermark_seen()
    if latest == known != settled and first_seen is not None and at - first_seen >= source.overlap:
        state.settle(known, at)
    return count


def _asked(state: State) -> list[int]:
    present, tasks = state.last_round(), state.tasks()
    return [] if present is None else [tasks[pick.item] for pick in present.picks if pick.item in tasks]


def _fell(source: Source, before: Roll, now: Roll) -> bool:
    return (now if now.last_id == before.last_id else source.roll(before.last_id)).n_tasks != before.n_tasks
