"""The watch steps by itself, survives an absent Label Studio, and ends cleanly."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from pathlib import Path

import pytest
from loop_world import Bench, World

from annotate.errors import StudioUnavailable
from annotate.records import Pull
from loop.bell import Bell
from loop.controller import ask_first_batch
from loop.report import StepReport
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
