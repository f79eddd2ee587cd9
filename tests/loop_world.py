"""A small labelled world for tests of the loop: Gaussian classes with a known difficulty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from annotate.records import Label, Pull, Receipt, Roll, Suggestion, Task
from loop.features import FeatureTable
from loop.items import Item, draw_streams
from loop.probe import fit_projection
from loop.project import Loop
from loop.settings import Settings, load_settings
from loop.simulate import EPOCH, Oracle, Ticks
from loop.state import State

FINDINGS = ("Effusion", "Pneumothorax")


@dataclass
class World:
    """Items, features and true labels; ``loop`` opens a loop over them with any desk and state."""

    folder: Path
    n: int = 600
    dim: int = 16
    separation: float = 2.0
    images_a_patient: int = 1
    seed: int = 0
    new_url: Callable[[], str] = lambda: ":memory:"  # where the next state is kept
    answers: dict[int, dict[str, float]] = field(init=False)
    items: list[Item] = field(init=False)
    features: FeatureTable = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        y = rng.random((self.n, 2)) < (0.4, 0.2)  # (n, 2)
        x = rng.normal(size=(self.n, self.dim))  # (n, dim)
        x[:, :2] += self.separation * y
        names = [f"{i:032x}" for i in range(self.n)]
        self.answers = {i: dict(zip(FINDINGS, map(float, y[i]), strict=True)) for i in range(self.n)}
        found = [
            Item(name, Path(f"{name}.png"), f"patient {i // self.images_a_patient}", "active", None, {})
            for i, name in enumerate(names)
        ]
        self.items = draw_streams(found, rng, self.n)
        self.features = FeatureTable(names, x.astype(np.float32))
        self.task_of = {name: i for i, name in enumerate(names)}

    def settings(self, **sections: str) -> Settings:
        """Settings with batch 50 and target .9, unless a section says otherwise."""
        text = {
            "project": f'name = "world"\nfindings = {list(FINDINGS)}',
            "images": 'source = "."',
            "batch": "size = 50",
            "stop": "target = 0.9",
        } | sections
        path = self.folder / "loop.toml"
        path.write_text("\n".join(f"[{name}]\n{body}" for name, body in text.items()))
        return load_settings(path, {}, {})

    def state(self, url: str | None = None) -> State:
        """A new state that holds the world's items and tasks."""
        state = State.create(url or self.new_url())
        state.add_items(self.items)
        state.add_tasks({i.item: self.task_of[i.item] for i in self.items if i.stream != "spare"}, EPOCH)
        return state

    def loop(self, state: State, desk: object | None = None, settings: Settings | None = None) -> Loop:
        """Open a loop; the desk is an oracle that answers at once unless another is given."""
        clock = Ticks()
        return Loop(
            settings or self.settings(),
            state,
            desk or Oracle(self.answers, clock),  # type: ignore[arg-type]
            self.features,
            fit_projection(self.features.read([i.item for i in self.items]), 0),
            clock,
        )


class Bench:
    """A desk with a person at it: tasks are answered when the test says so, edited, skipped or withdrawn."""

    overlap = timedelta(0)

    def __init__(self) -> None:
        self.served: list[tuple[str, tuple[Suggestion, ...]]] = []
        self._tasks: dict[int, tuple[Label, ...]] = {}
        self._changed: dict[int, datetime] = {}
        self._clock = Ticks()
        self.deleted: set[int] = set()
        self.serving = ""
        self.asked_no_more: list[int] = []

    def push(self, version: str, suggestions: tuple[Suggestion, ...]) -> Receipt:
        self.serving = version
        if version not in [v for v, _ in self.served]:
            self.served.append((version, tuple(suggestions)))
        return Receipt(version, len(suggestions), tuple(s.task_id for s in suggestions), ())

    def pull(self, since: datetime | None) -> Pull:
        tasks = tuple(
            Task(task_id, None, "", at, self._tasks[task_id])
            for task_id, at in self._changed.items()
            if since is None or at >= since
        )
        return Pull(tasks, max(self._changed.values(), default=None))

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        return set(task_ids) - self.deleted

    def keep_serving(self, version: str) -> tuple[str, ...]:
        return ()

    def go_back(self, version: str, n: int, suggestions: Sequence[Suggestion]) -> tuple[str, ...] | None:
        held = version in [v for v, _ in self.served]
        self.serving = version if held else self.serving
        return () if held else None

    def ask_no_more(self, task_ids: Sequence[int]) -> None:
        self.asked_no_more = list(task_ids)

    def unpush(self, versions: Sequence[str]) -> int:
        gone = [suggestions for v, suggestions in self.served if v in versions]
        self.served = [(v, suggestions) for v, suggestions in self.served if v not in versions]
        return sum(map(len, gone))

    def roll(self, up_to: int | None = None) -> Roll:
        return Roll(1_000_000, 1_000_000 - len(self.deleted))

    def answer(
        self, task_id: int, answers: dict[str, float], *, skipped: bool = False, who: str = "ann"
    ) -> None:
        """Answer a task, or answer it anew; other people's answers stay."""
        at = self._clock()
        before = self._tasks.get(task_id, ())
        own = [label for label in before if label.annotator == who]
        others = tuple(label for label in before if label.annotator != who)
        created = own[0].created_at if own else at
        label = Label(
            task_id
            if who == "ann"
            else own[0].annotation_id
            if own
            else 1_000_000 * (len(others) + 1) + task_id,
            task_id,
            who,
            created,
            at,
            8.0,
            skipped,
            False,
            {} if skipped else answers,
            None,
            f'"{at}"',
        )
        self._tasks[task_id], self._changed[task_id] = (*others, label), at

    def withdraw(self, task_id: int) -> None:
        """Delete the answer of a task."""
        self._tasks[task_id], self._changed[task_id] = (), self._clock()
