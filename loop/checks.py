"""What a check of `loop doctor` says, and what the state knows of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loop.board import FACT as BEFORE_STOP
from loop.errors import NotStarted
from loop.items import Item
from loop.readings import served_now
from loop.settings import Settings
from loop.state import State

Verdict = Literal["ok", "warning", "error", "not checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: "ok"; "warning": it works, but not as it should; "error": a command will fail, or labels will go wrong;
            "not checked": it cannot be told now.
        fact: What was found.
        fix: What to do; empty if nothing.
    """

    name: str
    state: Verdict
    fact: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What the state holds, read once.

    Attributes:
        behind: Changes of its tables that this release has still to make.
        project: Id, address and labelling interface of the Label Studio project; None = not set up yet.
        encoder: What the images were encoded with; None = they were not.
        images: Every image in our care.
        tasks: Item id to task id.
        served: Model version and number of predictions that were pushed last.
        unfinished: Whether a push or a rollback was begun and not confirmed.
        closed: Whether the loop closed the queue, on STOP.
        left_out: Paths of images that could not be used.
        started: Whether a batch was asked; if not, `loop start` was refused or interrupted.
    """

    behind: Sequence[str]
    project: Mapping[str, Any] | None
    encoder: Mapping[str, Any] | None
    images: Sequence[Item]
    tasks: Mapping[str, int]
    served: tuple[str, int] | None
    unfinished: bool
    closed: bool = False
    left_out: frozenset[str] = frozenset()
    started: bool = True


def read_known(settings: Settings) -> Known | None:
    """Read the state without changing it; None if there is none yet.

    Raises:
        LoopError: It is there and cannot be read.
    """
    try:
        state = State.look(settings.state_url)
    except NotStarted:
        return None
    with state:
        return Known(
            behind=state.behind(),
            project=state.fact("project"),
            encoder=state.fact("encoder"),
            images=state.items(),
            tasks=state.tasks(),
            served=served_now(state),
            unfinished=state.unconfirmed() is not None or state.unfinished_rollback() is not None,
            closed=bool((state.fact(BEFORE_STOP) or {}).get("closed")),
            left_out=frozenset(path for path, _ in state.problems()),
            started=state.n_rounds() > 0,
        )
