"""What a turn reads before it judges: the book of all labels, earlier reports, and the pool's projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from annotate.interface import Interface, parse_interface
from loop.book import Book, keep_book
from loop.errors import BadInput
from loop.features import Features
from loop.items import Item
from loop.probe import Projection, fit_projection
from loop.project import Loop
from loop.settings import Settings
from loop.state import State
from loop.step_report import StepReport

SAVING = "saving"  # the fact that holds it
TURN = "turn"  # the fact that holds how long the last one took
PROJECTION_SAMPLE = 20_000  # images; mean, deviation and components of a pool need no more


def read_book(loop: Loop, *, recount: bool = False) -> Book:
    """Book every label that the state holds, of images that have an embedding."""
    return open_book(loop.state, loop.features, loop.settings, recount=recount)


def open_book(state: State, features: Features, settings: Settings, *, recount: bool = False) -> Book:
    """As `read_book`, without a desk."""
    held = [item for item in state.items() if features.has(item.item)]
    return open_book_of(held, state, settings, recount=recount)


def open_book_of(items: Sequence[Item], state: State, settings: Settings, *, recount: bool = False) -> Book:
    """Book the labels of some of the images.

    Raises:
        BadInput: The settings name a finding that nobody is asked for.
    """
    require_asked(settings, state)
    there = {item.item for item in items}
    present = state.last_round()
    tasks = {item: task_id for item, task_id in state.tasks().items() if item in there}
    return keep_book(
        items,
        tasks,
        state.labels(),
        state.rounds(),
        settings.project.findings,
        state.unasked(),
        state.readings(),
        recount=recount,
        consensus=settings.labels.consensus,
        present=None if present is None else present.number,
    )


def read_history(state: State) -> list[StepReport]:
    """Every report so far, oldest first."""
    return [StepReport.from_json(told) for told in state.reports()]


def last_decision(state: State) -> StepReport | None:
    """The decision in force, with what selection has saved; None before the first."""
    told = state.last_report()
    return None if told is None else read_decision(state, told)


def read_decision(state: State, told: Mapping[str, Any]) -> StepReport:
    """A stored decision, with what selection has saved if it is the last one: that is measured when the batch is out."""
    saving = state.fact(SAVING) or {}
    measured = {"saving": saving["saving"]} if saving.get("at") == told["at"] else {}
    return StepReport.from_json({**told, **measured})


def read_seconds(state: State, decided_at: datetime) -> float | None:
    """Seconds that the turn of a decision took, from its pull to its end; None if it was cut short, or is not the last one."""
    turn = state.fact(TURN) or {}
    return float(turn["seconds"]) if turn and datetime.fromisoformat(turn["at"]) == decided_at else None


def project_pool(features: Features, items: Sequence[str], settings: Settings) -> Projection:
    """Standardise on the pool and find its principal components; labels play no part.

    The sample is drawn by ``project.seed``, so the same pool always gives the same projection.
    """
    rng = np.random.default_rng([settings.project.seed, 0])
    chosen = rng.choice(len(items), min(len(items), PROJECTION_SAMPLE), replace=False)
    return fit_projection(features.read([items[i] for i in np.sort(chosen)]), settings.probe.components)


def require_asked(settings: Settings, state: State) -> None:
    """Refuse settings that name a finding which the project's annotators are not asked for.

    Raises:
        BadInput: There is one.
    """
    if (project := state.fact("project")) is not None:
        check_findings(settings, int(project["id"]), parse_interface(project["xml"]))


def check_findings(settings: Settings, project_id: int, interface: Interface) -> None:
    """Every finding must be asked; what nobody asks can never be reached."""
    missing = [finding for finding in settings.project.findings if finding not in interface.findings]
    if missing:
        raise BadInput(
            f"Label Studio project {project_id} does not ask for {', '.join(missing)}; it asks for "
            f"{', '.join(interface.findings)}. Set [project] findings to what it asks. To ask more, start a new project."
        )
