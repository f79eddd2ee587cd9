"""What a sync reads again, and when it stops doing so."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from loop_world import Bench, World

from annotate.records import Pull
from loop.simulate import EPOCH
from loop.sync import sync

ANSWERS = {"Effusion": 1.0, "Pneumothorax": 0.0}


class Late(Bench):
    """A bench whose changes may become visible up to a minute late; notes what was read again."""

    overlap = timedelta(minutes=1)

    def __init__(self) -> None:
        super().__init__()
        self.read: list[datetime | None] = []
        self.hidden: set[int] = set()

    def pull(self, since: datetime | None) -> Pull:
        self.read.append(since)
        pulled = super().pull(since)
        seen = tuple(task for task in pulled.tasks if task.task_id not in self.hidden)
        return Pull(seen, max((task.updated_at for task in seen), default=since))


def test_a_change_that_becomes_visible_late_is_read_and_a_quiet_project_is_not_read_again(
    tmp_path: Path,
) -> None:
    world, bench = World(tmp_path), Late()
    with world.state() as state:
        start = EPOCH + timedelta(hours=1)
        bench.answer(1, ANSWERS)
        bench.answer(2, ANSWERS)
        bench.hidden = {1}
        for seconds in (0, 20):
            sync(bench, state, start + timedelta(seconds=seconds))
        assert set(state.labels()) == {2}
        bench.hidden = set()
        sync(bench, state, start + timedelta(seconds=40))
        assert set(state.labels()) == {1, 2}
        assert state.settled() is None

        sync(bench, state, start + timedelta(seconds=70))
        assert state.settled() == state.watermark() == bench._changed[2]
        sync(bench, state, start + timedelta(seconds=90))
        assert bench.read[-2:] == [bench._changed[2] - bench.overlap, bench._changed[2]]

        bench.answer(
            3, ANSWERS
        )  # what comes after the quiet is read with an overlap again, not beyond the settled time
        sync(bench, state, start + timedelta(seconds=100))
        sync(bench, state, start + timedelta(seconds=110))
        assert set(state.labels()) == {1, 2, 3}
        assert bench.read[-1] == bench._changed[2]


def test_a_watermark_never_goes_back(tmp_path: Path) -> None:
    """The task that changed last was deleted."""
    world, bench = World(tmp_path), Late()
    with world.state() as state:
        bench.answer(1, ANSWERS)
        bench.answer(2, ANSWERS)
        sync(bench, state, EPOCH)
        known = state.watermark()
        del bench._tasks[2], bench._changed[2]
        sync(bench, state, EPOCH + timedelta(seconds=5))
        assert state.watermark() == known
