"""A ward that labels a simulated archive on working days: people with names, times that vary, a calendar that moves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from annotate.records import Label, Pull, Receipt, Roll, Suggestion, Task

BEGIN = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday


class WardDays:
    """A desk, and the clock of its loop: each push is labelled over the next working days, by two people in turn."""

    overlap = timedelta(0)

    def __init__(
        self, answers: dict[int, dict[str, float]], people: Sequence[str] = ("3", "7"), a_day: int = 30
    ) -> None:
        self._answers, self._people, self._a_day = answers, people, a_day
        self._rng = np.random.default_rng(0)
        self._labels: dict[int, tuple[Label, ...]] = {}
        self._left = 0
        self.now = BEGIN

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        for suggestion in suggestions:
            if suggestion.task_id not in self._labels:
                self._label(suggestion.task_id)
        self.now += timedelta(minutes=5)
        return Receipt(version, len(suggestions), tuple(s.task_id for s in suggestions), ())

    def _label(self, task_id: int) -> None:
        if self._left == 0:
            self.now = (self.now + timedelta(days=1)).replace(hour=8, minute=0)
            while self.now.weekday() > 4:
                self.now += timedelta(days=1)
            self._left = int(self._rng.poisson(self._a_day)) + 1
        self._left -= 1
        truth = self._answers[task_id]
        twice = self._rng.random() < 0.15
        first = task_id % len(self._people)
        readers = [self._people[first], self._people[(first + 1) % len(self._people)]][: 2 if twice else 1]
        told = []
        for k, who in enumerate(readers):
            seconds = float(self._rng.lognormal(np.log(22), 0.6))
            if self._rng.random() < 0.03:
                seconds += 3000  # a coffee break
            self.now += timedelta(seconds=min(seconds, 300))
            said = {f: 1 - y if k and self._rng.random() < 0.12 else y for f, y in truth.items()}
            told.append(
                Label(
                    2 * task_id + k, task_id, who, self.now, self.now, seconds, False, False, said, None, "{}"
                )
            )
        self._labels[task_id] = tuple(told)

    def pull(self, since: datetime | None) -> Pull:
        tasks = tuple(
            Task(task_id, None, "", given[-1].updated_at, given)
            for task_id, given in self._labels.items()
            if since is None or given[-1].updated_at >= since
        )
        return Pull(tasks, max((given[-1].updated_at for given in self._labels.values()), default=None))

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        return set(task_ids)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        return ()

    def roll(self, up_to: int | None = None) -> Roll:
        return Roll(len(self._answers), len(self._answers))
