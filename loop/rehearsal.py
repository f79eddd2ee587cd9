"""A turn that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from annotate.records import Pull, Receipt, Roll, Suggestion
from loop.controller import step
from loop.project import Desk, Loop
from loop.step_report import StepReport


def rehearse(loop: Loop, *, force: bool = False, recount: bool = False) -> StepReport:
    """Take a turn that changes nothing: on a copy of the state, without a push."""
    with loop.state.sandbox() as state:
        report = step(
            replace(loop, state=state, desk=_Rehearsal(loop.desk), board=None), force=force, recount=recount
        )
    return replace(report, action=f"{report.action} (dry run)")


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A desk that reads and does not write."""

    desk: Desk

    @property
    def overlap(self) -> timedelta:
        return self.desk.overlap

    def pull(self, since: datetime | None) -> Pull:
        return self.desk.pull(since)

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        return Receipt(version, len(suggestions), tuple(s.task_id for s in suggestions), ())

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        return self.desk.existing(task_ids)

    def roll(self, up_to: int | None = None) -> Roll:
        return self.desk.roll(up_to)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        return ()

    def go_back(self, version: str, n: int, suggestions: Sequence[Suggestion]) -> tuple[str, ...] | None:
        return ()

    def ask_no_more(self, task_ids: Sequence[int]) -> None:
        pass

    def unpush(self, versions: Sequence[str]) -> int:
        return 0
