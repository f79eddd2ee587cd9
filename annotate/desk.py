"""The desk where annotators work: labels pulled from a Label Studio project, batches pushed to it.

Both directions may be repeated at any time. A pull reads whole sets of annotations and says where the next
one begins; a push reads back what the server holds before it believes that anything was stored.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from annotate.errors import BadInterface
from annotate.interface import Interface, parse_interface
from annotate.next_tasks import tell_detours
from annotate.outbox import SUFFIXES, Outbox
from annotate.payloads import read_task, read_time
from annotate.records import Pull, Receipt, Roll, Suggestion, Task
from annotate.studio import Project, Studio

ORDERED = "Uncertainty sampling"  # the order that follows the loop's ranks


@dataclass(frozen=True, slots=True)
class StudioDesk:
    """One Label Studio project as a place to pull from and push to.

    Attributes:
        studio: The server.
        project_id: The project.
        interface: Its labelling interface as it was when the loop was started.
        settle_s: How long an unclear count must stand still before it is believed.
        sleep: Waits that many seconds; an argument so that waiting can be tested.
        import_below: Tasks of the project, for each prediction of a batch, below which the batch is sent by one import.
            An import rewrites the counters of every task (about .1 ms each), and a prediction of its own takes about 20 ms.
        overlap: How much later than it is dated a change may become visible, out of order on PostgreSQL.
    """

    studio: Studio
    project_id: int
    interface: Interface
    settle_s: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    overlap: timedelta = timedelta(minutes=5)
    import_below: int = 200

    def pull(self, since: datetime | None) -> Pull:
        """Read every task that changed since a watermark, each with its whole, present set of labels.

        The new watermark is the latest change that the first page shows (or, of a first pull, that there was before it),
        so nothing that changes while later pages are read lies before it. The labelling interface is looked at last, so
        that what was read under a changed one is never returned. A deleted task is not seen here; see `roll`.

        Args:
            since: Read what changed at or after; None = everything that was ever annotated.

        Raises:
            BadInterface: Somebody changed the meaning of the labelling interface.
            StudioUnavailable: No answer. Nothing is lost; pull again.
        """
        if since is None:
            watermark = self.studio.newest_change(self.project_id)
            pages = iter([list(self.studio.annotated_tasks(self.project_id))])
        else:
            pages = self.studio.changed_tasks(self.project_id, since)
            first = next(pages)
            watermark = max([since, *(read_time(row["updated_at"]) for row in first)])
            pages = chain([first], pages)
        tasks: dict[int, Task] = {}
        for row in chain.from_iterable(pages):
            task = read_task(row, self.interface)
            tasks[task.task_id] = task
        self.check_interface()
        return Pull(tuple(tasks.values()), watermark)

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        """Serve a batch in the order of its ranks; told twice, it changes nothing.

        The predictions are sent at most once under each name. If the outcome is unclear, the count is read
        until it stands still; if it is wrong then, the name is abandoned for ``version`` with a suffix. The
        project is switched to the new version only after its count was read back.

        Args:
            version: Name of the round, unique to this batch.
            suggestions: The batch; tasks that were deleted in Label Studio are left out with a warning.

        Returns:
            What Label Studio was seen to hold, with a warning where its queue is not ours.

        Raises:
            PushUnconfirmed: The server keeps storing something else than what was sent.
            StudioRefused: The server rejects the batch.
            StudioUnavailable: No answer. Push again later.
        """
        n_tasks = self.check_interface().n_tasks
        outbox = Outbox(
            self.studio, self.project_id, self.interface, self.settle_s, self.sleep, self.import_below
        )
        name, batch = version, outbox.left(sorted(suggestions, key=lambda s: s.rank))
        queue: tuple[int, ...] = ()
        doubts: list[str] = []
        if batch:
            self._ask_readers(batch)
            name, batch = outbox.store(version, batch, n_tasks)
        if batch:
            self.studio.serve(self.project_id, name)
            queue, doubts = self._read_back(name, batch, len(batch))
        held = {s.task_id for s in batch}
        gone = tuple(s.task_id for s in suggestions if s.task_id not in held)
        if gone:
            doubts.insert(
                0,
                f"{len(gone)} of {len(suggestions)} tasks of this batch were deleted in Label Studio and left "
                "out. Import the images again with `loop start` if that was a mistake.",
            )
        return Receipt(name, len(batch), queue, tuple(doubts), gone)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        """Put the queue back to a version that was pushed, if somebody changed the project's settings.

        Label Studio's page of settings knows no "Uncertainty sampling": who saves it ends the order.

        Returns:
            What was put back, as a warning; empty where nothing had changed.
        """
        project = self.studio.project(self.project_id)
        if (project.sampling, project.model_version) == (ORDERED, version):
            return ()
        self.studio.serve(self.project_id, version)
        return (
            f"Somebody set the project to '{project.sampling}' with model version '{project.model_version}': the "
            f"queue was put back to '{version}'. What was labelled meanwhile was not in the loop's order.",
        )

    def go_back(self, version: str, n: int, suggestions: Sequence[Suggestion]) -> tuple[str, ...] | None:
        """Serve a version again that was pushed earlier, as it was pushed.

        Args:
            version: Its name.
            n: How many predictions it had.
            suggestions: What of it is still wanted, in its order.

        Returns:
            Warnings, where the queue was read back and is not ours; None if the server does not hold the n predictions
            any more.
        """
        if self.studio.model_versions(self.project_id).get(version) != n:
            return None
        project = self.studio.project(self.project_id)
        if (project.sampling, project.model_version) != (ORDERED, version):
            self.studio.serve(self.project_id, version)
        there = self.studio.existing(self.project_id, [s.task_id for s in suggestions])
        return tuple(self._read_back(version, [s for s in suggestions if s.task_id in there], n)[1])

    def ask_no_more(self, task_ids: Sequence[int]) -> None:
        """Have tasks served to as many people as every task of the project is, and no longer to more."""
        n = self.studio.project(self.project_id).maximum_annotations
        if not task_ids or n == 0:
            return
        for task_id, (asked, labelled) in self.studio.readers(self.project_id, task_ids).items():
            if asked > n:
                self.studio.ask_readers(task_id, n, done=labelled >= n)

    def unpush(self, versions: Sequence[str]) -> int:
        """Remove the predictions of versions under whatever name they were stored; annotations made from them stay.

        Returns:
            How many predictions were removed now; told twice, the second time none.
        """
        held = self.studio.model_versions(self.project_id)
        names = [name for version in versions for suffix in SUFFIXES if held.get(name := version + suffix)]
        for name in names:
            self.studio.delete_predictions(self.project_id, name)
        return sum(held[name] for name in names)

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        """Which of these tasks the project (still) has."""
        return self.studio.existing(self.project_id, task_ids)

    def roll(self, up_to: int | None = None) -> Roll:
        """Count the project's tasks, those with an id up to ``up_to`` or all."""
        return self.studio.roll(self.project_id, up_to)

    def check_interface(self) -> Project:
        """Read the project and make sure that its choices still mean what they meant.

        Raises:
            BadInterface: A control or choice was renamed, added or removed since the loop was started.
        """
        project = self.studio.project(self.project_id)
        now = parse_interface(project.xml)
        if now.fingerprint != self.interface.fingerprint:
            was, is_ = (Counter(_choices(i)) for i in (self.interface, now))
            raise BadInterface(
                f"The labelling interface of project {self.project_id} ('{project.title}') was changed: "
                f"gone {sorted(was - is_) or 'nothing'}, new {sorted(is_ - was) or 'nothing'}. Labels given "
                "before and after would not mean the same. Restore it in the project's settings (Labeling "
                "Interface), or start a new loop on it."
            )
        return project

    def _ask_readers(self, batch: Sequence[Suggestion]) -> None:
        """Have the tasks that several people are to read served until they have; never asks for fewer than before."""
        wanted = {s.task_id: s.readers for s in batch if s.readers > 1}
        if not wanted or self.studio.project(self.project_id).maximum_annotations == 0:
            return
        asked = self.studio.readers(self.project_id, list(wanted))
        for task_id, n in wanted.items():
            if task_id in asked and asked[task_id][0] < n:
                self.studio.ask_readers(task_id, n)

    def _read_back(
        self, name: str, batch: Sequence[Suggestion], n_held: int
    ) -> tuple[tuple[int, ...], list[str]]:
        """Read the queue of n predictions as Label Studio orders it, taking no locks, and compare it with the batch."""
        project = self.studio.project(self.project_id)
        warnings = []
        if project.model_version != name or project.sampling != ORDERED:
            warnings.append(
                f"Label Studio serves '{project.sampling}' with model version '{project.model_version}', not "
                f"'{name}': somebody changed the project's settings at this moment. Run `loop step` again."
            )
        if project.maximum_annotations == 0:
            warnings.append(
                "The queue is closed (maximum_annotations is 0). Set it to 1 to let people go on."
            )
        if project.maximum_annotations > 1:
            warnings.append(
                f"Each image takes {project.maximum_annotations} annotations: Label Studio first fills up "
                "images that somebody else has begun, then follows the loop's order."
            )
        places = self.studio.places(self.project_id, n_held + 1)
        served = [place.task_id for place in places if not place.is_done]
        done = {place.task_id for place in places if place.is_done}
        expected = [s.task_id for s in batch if s.task_id not in done]
        if served != expected and project.maximum_annotations != 0 and not warnings:
            first = next(
                (i for i, pair in enumerate(zip(served, expected, strict=False)) if len(set(pair)) > 1), None
            )
            where = "its end" if first is None else f"place {first + 1}"
            warnings.append(
                f"Label Studio's queue ({len(served)} tasks) is not the loop's ({len(expected)}) from "
                f"{where} on: tasks were deleted, or another tool writes predictions under the same version."
            )
        if not warnings:
            habits = self.studio.habits(self.project_id)
            people = self.studio.people() if any(place.said for place in places) else {}
            warnings += tell_detours(people, places, expected, habits)
        return tuple(served), warnings


def _choices(interface: Interface) -> list[str]:
    return [f"{control.name}: {choice.label}" for control in interface.controls for choice in control.choices]
