"""A batch's predictions, stored exactly once: sent without blind retries, and believed when they were counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annotate.errors import PushUnconfirmed, StudioRefused, StudioUnavailable
from annotate.interface import Interface
from annotate.payloads import write_prediction
from annotate.records import Suggestion
from annotate.studio import Studio

SUFFIXES = ("", "-b", "-c", "-d")
"""Of a version's name; one whose outcome is unclear and wrong is abandoned for the next."""

POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Outbox:
    """Where predictions of a project go out; the fields are those of :class:`annotate.desk.StudioDesk`."""

    studio: Studio
    project_id: int
    interface: Interface
    settle_s: float
    sleep: Callable[[float], None]
    import_below: int

    def left(self, batch: Sequence[Suggestion]) -> list[Suggestion]:
        """What of a batch has a task still."""
        there = self.studio.existing(self.project_id, [s.task_id for s in batch])
        return [s for s in batch if s.task_id in there]

    def store(self, version: str, batch: list[Suggestion], n_tasks: int) -> tuple[str, list[Suggestion]]:
        """Have the batch stored exactly once under some name, less the tasks that are deleted meanwhile."""
        send = self._import if n_tasks < self.import_below * len(batch) else self._add
        counts = self.studio.model_versions(self.project_id)
        seen = [version + suffix for suffix in SUFFIXES if counts.get(version + suffix)]
        for name in reversed(seen):
            if self._settled(name, len(batch)) == len(batch):
                return name, batch
        fresh = SUFFIXES[SUFFIXES.index(seen[-1].removeprefix(version)) + 1 :] if seen else SUFFIXES
        found = counts
        for name in (version + suffix for suffix in fresh):
            try:
                created = send(self._predictions(name, batch))
            except StudioUnavailable:
                created = None  # it may have stored all, some or nothing
                if send == self._add:  # or one of them twice and another never, which no count tells
                    continue
            except StudioRefused:
                left = self.left(batch)
                if len(left) == len(batch):
                    raise
                batch = left  # a task was deleted at this very moment
                if not batch:
                    return name, batch
                continue
            if created is not None and created < len(batch):
                batch = self.left(batch)
            found = {name: self._settled(name, len(batch))}
            if found[name] != len(batch):
                batch = self.left(batch)  # with a task go its predictions
            if found[name] == len(batch):
                return name, batch
            if created is not None and created < len(batch):
                break  # dropped on purpose: it would be dropped again
        raise PushUnconfirmed(
            f"Label Studio holds {found} instead of {len(batch)} predictions of '{version}'. The queue was "
            "left as it was. Look at the server's log, then run `loop step` again."
        )

    def _import(self, predictions: Sequence[dict[str, object]]) -> int:
        return self.studio.import_predictions(self.project_id, predictions)

    def _add(self, predictions: Sequence[dict[str, object]]) -> int:
        """One by one, less those whose tasks were deleted since; how many there are."""
        n = 0
        for each in predictions:
            try:
                self.studio.add_prediction(each)
                n += 1
            except StudioRefused:
                if self.studio.existing(self.project_id, [int(str(each["task"]))]):
                    raise
        return n

    def _predictions(self, name: str, batch: Sequence[Suggestion]) -> list[dict[str, object]]:
        last = batch[-1].rank
        return [write_prediction(s, last, name, self.interface) for s in batch]

    def _settled(self, name: str, wanted: int) -> int:
        """Count the predictions under a name: at once if as many as wanted, else when it stands still."""
        count = self.studio.model_versions(self.project_id).get(name, 0)
        still_s = 0.0
        while count != wanted and still_s < self.settle_s:
            self.sleep(POLL_S)
            again = self.studio.model_versions(self.project_id).get(name, 0)
            still_s = still_s + POLL_S if again == count else 0.0
            count = again
        return count
