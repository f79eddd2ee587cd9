"""Go back to an earlier round: its batch, queue and verdict are in force again; what people said and what was scored stays.

Nothing is deleted from the state. A rollback is an event that is written down before anybody is told, so one that died
anywhere is completed by the next command. Never undone are labels, scores given when an image was asked, what the
certificate has read, frozen settings, and the score kept of forecasts: else a round could be taken back because its
outcome was bad. No number is given twice, and the images of an undone round keep their stream and their scores:

- one that is labelled stays booked to the stream and round that asked it, whenever the label comes;
- one that nobody has answered goes back to its pool. A random image comes first in the next batch, as after any round
  that was cut short, with the score of the probe in force then: the certificate has not read it yet, and reads it once.

The round that is gone back to takes no late answers into the certificate if it was judged before: what was looked at does
not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from annotate.records import Label
from loop.errors import BadInput
from loop.project import Loop
from loop.readings import REVIEW, open_readings, order_queue, undone_readings
from loop.rows import Rollback, Round
from loop.settings import Settings
from loop.state import State
from loop.step_report import StepReport, as_json
from loop.sync import sync


@dataclass(frozen=True, slots=True)
class UndoneRound:
    """A round that is taken back.

    Attributes:
        asked: Images that it asked.
        answered: Of these, answered so far; their labels stay.
        random_open: Images of the random stream that nobody has answered: they come first in the next batch.
        active_open: Images of the active part that nobody has answered: they may be chosen again.
    """

    round: int
    version: str
    asked: int
    answered: int
    random_open: int
    active_open: int


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """What going back to a round does, or would do.

    Attributes:
        action: ``rolled back``, or ``rolled back (dry run)``.
        round: The round that is in force again.
        version: Its model version in Label Studio.
        outstanding: Its images that nobody has answered: the queue.
        asked: Its images.
        undone: The rounds behind it, oldest first.
        verdict: CONTINUE, as when the round was asked.
        was: The verdict before.
        removed: Predictions that were removed from Label Studio now.
        next_round: Number of the batch that the next turn asks.
        warnings: What looked odd, each with its remedy.
    """

    project: str
    action: str
    round: int
    version: str
    outstanding: int
    asked: int
    undone: tuple[UndoneRound, ...]
    verdict: str
    was: str
    next_round: int
    removed: int = 0
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def rehearse_rollback(settings: Settings, number: int) -> RollbackReport:
    """What `roll_back` would do, by what was pulled so far; Label Studio is not asked.

    Raises:
        BadInput: The project was not started, there is no such round, or nothing lies behind it.
    """
    with State.open(settings.state_url) as state:
        under_way = state.unfinished_rollback()
        planned = (
            _tell_rollback(settings, state, under_way)
            if under_way is not None and under_way.to_round == number
            else _plan(settings, state, number)
        )
    return replace(planned, action=f"{planned.action} (dry run)")


def roll_back(loop: Loop, number: int) -> RollbackReport:
    """Go back to a round. A rollback that was interrupted is completed first.

    Raises:
        BadInput: There is no such round, or nothing lies behind it.
        AnnotateError: Label Studio refused or did not answer. If the rollback was written down, the next command
            completes it.
    """
    state = loop.state
    before, completed = state.unfinished_rollback(), complete_rollback(loop)
    if before is not None and completed is not None and before.to_round == number:
        return completed
    sync(loop.desk, state, loop.clock())  # what was said until now is booked to the batch that annotators had
    planned = _plan(loop.settings, state, number)
    state.add_rollback(number, loop.clock())
    done = complete_rollback(loop)
    return planned if done is None else replace(planned, removed=done.removed, warnings=done.warnings)


def complete_rollback(loop: Loop) -> RollbackReport | None:
    """Have Label Studio follow a rollback that was written down; None if it did already. Told twice, it changes nothing."""
    state = loop.state
    rollback = state.unfinished_rollback()
    if rollback is None:
        return None
    present = next(round_ for round_ in state.rounds() if round_.number == rollback.to_round)
    if loop.board is not None:
        loop.board.go_on()
    tasks = state.tasks()
    loop.desk.ask_no_more([tasks[item] for item in undone_readings(state) if item in tasks])
    double = loop.settings.labels.double_reads > 0
    suggestions = order_queue(state, present, double=double)
    version, n_served = state.last_push() or (present.version, 0)
    as_it_was = set(open_readings(state, double=double)) <= {pick.item for pick in present.picks}
    warnings = loop.desk.go_back(version, n_served, suggestions) if n_served and as_it_was else None
    later = _later_versions(state, rollback)
    if warnings is None:  # second readings of other images are open now, or its predictions were removed
        later += [present.version, version]
        receipt = loop.desk.push(f"{present.version}-u{rollback.number}", suggestions)
        version, n_served, warnings = receipt.version, receipt.n_served, receipt.warnings
        state.drop_tasks(receipt.gone, loop.clock())
    removed = loop.desk.unpush([name for name in dict.fromkeys(later) if name != version])
    state.confirm_rollback(rollback.number, version, n_served, loop.clock())
    report = _tell_rollback(loop.settings, state, rollback)
    return replace(report, removed=removed, warnings=warnings)


def _plan(settings: Settings, state: State, number: int) -> RollbackReport:
    """What lies behind a round that is in force.

    Raises:
        BadInput: There is no such round, or nothing lies behind it.
    """
    rounds, gone = state.rounds(), state.undone_rounds()
    in_force = [round_ for round_ in rounds if round_.number not in gone]
    if not in_force:
        raise BadInput("No batch was asked yet, so there is nothing to undo. Run `loop start` first.")
    known = ", ".join(str(round_.number) for round_ in in_force)
    if number in gone:
        raise BadInput(
            f"Round {number} was undone itself, and cannot be gone back to; rounds in force: {known}. Its labels count, "
            "and its images are asked again by the next `loop step`."
        )
    present = next((round_ for round_ in in_force if round_.number == number), None)
    if present is None:
        raise BadInput(
            f"There is no round {number}; rounds in force: {known}. The first batch cannot be undone: start again in "
            "another folder instead."
            if number < 1
            else f"There is no round {number}; rounds in force: {known}."
        )
    undone = [round_ for round_ in in_force if round_.number > number]
    last = state.last_report() or {}
    if not undone and (last.get("batch") or {}).get("round") == number:
        raise BadInput(
            f"Round {number} is the last one, and no verdict follows it: there is nothing to undo."
        )
    return _tell(settings, state, present, undone, was=str(last.get("verdict", "")))


def _tell_rollback(settings: Settings, state: State, rollback: Rollback) -> RollbackReport:
    """A rollback that was written down."""
    rounds = {round_.number: round_ for round_ in state.rounds()}
    undone = [rounds[number] for number in rollback.undone]
    return _tell(settings, state, rounds[rollback.to_round], undone, was="")


def _tell(
    settings: Settings, state: State, present: Round, undone: Sequence[Round], was: str
) -> RollbackReport:
    tasks, labels = state.tasks(), state.labels()
    asked = [pick.item for pick in present.picks if pick.item in tasks]
    return RollbackReport(
        project=settings.project.name,
        action="rolled back",
        round=present.number,
        version=present.version,
        outstanding=sum(not labels.get(tasks[item]) for item in asked),
        asked=len(asked),
        undone=tuple(_tell_round(round_, tasks, labels) for round_ in undone),
        verdict="CONTINUE",
        was=was,
        next_round=state.n_rounds() + 1,
    )


def _tell_round(
    round_: Round, tasks: Mapping[str, int], labels: Mapping[int, Sequence[Label]]
) -> UndoneRound:
    there = [pick for pick in round_.picks if pick.item in tasks]
    open_ = [pick.stream for pick in there if not labels.get(tasks[pick.item])]
    return UndoneRound(
        round=round_.number,
        version=round_.version,
        asked=len(round_.picks),
        answered=len(there) - len(open_),
        random_open=open_.count("random"),
        active_open=open_.count("active"),
    )


def _later_versions(state: State, rollback: Rollback) -> list[str]:
    """What was pushed behind the round: its undone successors, once or again, and reviews that were put before one of them."""
    undone = [round_ for round_ in state.rounds() if round_.number in rollback.undone]
    since = min((round_.at for round_ in undone), default=rollback.at)
    reviews = [told["version"] for told in state.facts(REVIEW) if datetime.fromisoformat(told["at"]) >= since]
    restored = [one.version for one in state.rollbacks() if one.version and one.to_round in rollback.undone]
    return [*(round_.version for round_ in undone), *reviews, *restored]


def tell_completed(report: RollbackReport, now: StepReport) -> StepReport:
    """A turn that did nothing but complete an interrupted rollback."""
    said = f"An interrupted rollback to round {report.round} was completed. Run `loop step` again for the next turn."
    return replace(now, action="completed", warnings=(*now.warnings, said, *report.warnings))
