"""The watch steps by itself, survives an absent Label Studio, and ends cleanly."""

from __future__ import annotations

import os
import signal
import threading
from datetime import datetime
from pathlib import Path

import pytest
from loop_world import Bench, World

from annotate.errors import StudioUnavailable
from annotate.records import Pull
from loop.bell import Bell
from loop.controller import ask_first_batch
from loop.step_report import StepReport
from loop.watch import watch

A_MOMENT = 0.01  # seconds between looks


class Eager(Bench):
    """A bench at which every batch is answered a look after it was served."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.n_pulls = 0

    def pull(self, since: datetime | None) -> Pull:
        self.n_pulls += 1
        pulled = super().pull(since)
        for suggestion in self.served[-1][1]:
            if suggestion.task_id not in self._tasks:
                self.answer(suggestion.task_id, self.world.answers[suggestion.task_id])
        return pulled


class Absent(Eager):
    """The same, but it does not answer the first two times."""

    def pull(self, since: datetime | None) -> Pull:
        if self.n_pulls < 2:
            self.n_pulls += 1
            raise StudioUnavailable("Label Studio cannot be reached.")
        return super().pull(since)


@pytest.mark.parametrize("kind", [Eager, Absent])
def test_it_steps_until_stop_without_being_told(tmp_path: Path, kind: type[Eager]) -> None:
    world = World(tmp_path)
    told: list[StepReport] = []
    with world.state() as state:
        loop = world.loop(state, kind(world), world.settings(stop="target = 0.75\nbudget = 300"))
        ask_first_batch(loop)
        last = watch(loop, A_MOMENT, told.append)
    assert last is not None
    assert last.verdict == "STOP"
    assert told[-1] == last
    assert [r.action for r in told].count("waiting") >= 1


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_turn_and_gives_the_signal_its_meaning_back(
    tmp_path: Path, sent: int
) -> None:
    world = World(tmp_path)
    before = signal.getsignal(sent)
    with world.state() as state:
        loop = world.loop(state, Bench())
        ask_first_batch(loop)
        last = watch(loop, 3600.0, lambda report: os.kill(os.getpid(), sent))
    assert last is not None
    assert last.action == "waiting"
    assert signal.getsignal(sent) == before


def test_it_can_be_ended_from_outside(tmp_path: Path) -> None:
    world = World(tmp_path)
    bell = Bell()
    told: list[StepReport] = []
    with world.state() as state:
        loop = world.loop(state, Bench())
        ask_first_batch(loop)

        def tell(report: StepReport) -> None:
            told.append(report)
            bell.end()

        watch(loop, 3600.0, tell, bell)
    assert len(told) == 1


def test_a_ring_makes_it_look_at_once_and_labels_that_came_during_a_look_are_not_missed(
    tmp_path: Path,
) -> None:
    """The poll is an hour away: every look but the first is a ring's."""
    world, bell, bench = World(tmp_path), Bell(), Bench()
    told: list[StepReport] = []
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        tasks = [suggestion.task_id for suggestion in bench.served[-1][1]]

        def tell(report: StepReport) -> None:
            told.append(report)
            if report.action == "pushed":
                bell.end()
                return
            half = tasks[:25] if len(told) == 1 else tasks
            for task_id in half:  # while the watch is at it
                bench.answer(task_id, world.answers[task_id])
                bell.ring()

        watch(loop, 3600.0, tell, bell)
    assert [(r.action, r.outstanding) for r in told] == [("waiting", 50), ("waiting", 25), ("pushed", 0)]


def test_many_rings_are_one_look(tmp_path: Path) -> None:
    world, bell = World(tmp_path), Bell()
    desk = Counting()
    with world.state() as state:
        loop = world.loop(state, desk)
        ask_first_batch(loop)

        def ring(n: int) -> None:
            for _ in range(n):
                bell.ring()

        crowd = [threading.Thread(target=ring, args=(1000,)) for _ in range(4)]

        def tell(report: StepReport) -> None:
            for one in crowd:
                one.start()
            for one in crowd:
                one.join()
            desk.looked = bell.end  # at the second look

        watch(loop, 3600.0, tell, bell)
    assert desk.n_pulls == 2


class Counting(Bench):
    """A bench that counts the looks, and says when there is another."""

    def __init__(self) -> None:
        super().__init__()
        self.n_pulls = 0
        self.looked = lambda: None

    def pull(self, since: datetime | None) -> Pull:
        self.n_pulls += 1
        self.looked()
        return super().pull(since)
