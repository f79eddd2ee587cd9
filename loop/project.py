"""A project, opened for its turns: settings, state, and where its annotators work and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from annotate.records import Receipt, Suggestion
from loop.features import Features
from loop.probe import Projection
from loop.settings import Settings
from loop.state import State
from loop.sync import Source
from loop.zero_shot import ZeroShot

Clock = Callable[[], datetime]


class Desk(Source, Protocol):
    """Where annotators work: labels come from it, batches go to it."""

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        """Serve a batch in the order of its ranks. Told twice, it changes nothing."""
        ...

    def keep_serving(self, version: str) -> tuple[str, ...]:
        """Put the queue back to a version that was pushed, if somebody changed it; says so as a warning."""
        ...

    def go_back(self, version: str, n: int, suggestions: Sequence[Suggestion]) -> tuple[str, ...] | None:
        """Serve a version again that was pushed earlier, with warnings; None if it is not held any more."""
        ...

    def ask_no_more(self, task_ids: Sequence[int]) -> None:
        """Have tasks no longer served to more people than every task is."""
        ...

    def unpush(self, versions: Sequence[str]) -> int:
        """Remove what was pushed under these versions; labels stay. Returns how many suggestions."""
        ...


class Board(Protocol):
    """Where annotators read whether to go on: the project's title and instructions."""

    def stop(self, reason: str) -> None:
        """Say that labelling is to stop. Told twice, it changes nothing."""
        ...

    def go_on(self) -> None:
        """Put back what was there before the stop, if there was one."""
        ...


@dataclass(frozen=True, slots=True)
class Loop:
    """Everything one turn needs, opened.

    Attributes:
        board: Where annotators are told of a stop; None = nowhere.
        zero_shot: What scores images before the first label; None = the first batch is all random.
    """

    settings: Settings
    state: State
    desk: Desk
    features: Features
    projection: Projection
    clock: Clock
    zero_shot: ZeroShot | None = None
    board: Board | None = None
