"""Our images and Label Studio's tasks: import what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from annotate.errors import StudioUnavailable
from annotate.interface import Interface
from annotate.payloads import Json, write_task
from annotate.studio import Studio

CHUNK = 2000  # tasks per import: about a second of the server's time
SETTLE_S = (
    60.0  # how long the number of tasks must stand still before an unclear import is believed to be over
)
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of our images.

    Attributes:
        task_ids: Item id to Label Studio's task id.
        n_new: Tasks that were imported just now.
        duplicates: Items with several tasks; the oldest task is used, the others are listed.
    """

    task_ids: Mapping[str, int]
    n_new: int
    duplicates: Mapping[str, tuple[int, ...]]


def ensure_tasks(
    studio: Studio,
    project_id: int,
    interface: Interface,
    wanted: Mapping[str, tuple[str, Json]],
    told: Callable[[int, int], None] | None = None,
    *,
    under_way: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Tasks:
    """Bring the project to a state where each image has a task; told twice, it changes nothing.

    Label Studio takes the same task as often as it is sent. So what is there is read first, only the rest is
    sent, in chunks, and in the end everything is read again. If something on the way sent a chunk twice, the tasks of
    this call that are too many are deleted: nobody has seen them yet.

    Args:
        studio: The server.
        project_id: The project.
        interface: Names the key of the task's data that holds the image.
        wanted: Item id to the image's address and what else the task should carry.
        told: Called with (tasks there, tasks wanted) after each chunk.
        under_way: An earlier call ended without knowing what became of its chunk: if tasks are missing, wait until
            their number stands still.
        sleep: Waits that many seconds; an argument so that waiting can be tested.

    Raises:
        StudioUnavailable: The outcome of a chunk is not known, and was waited for. Run it again with ``under_way``; what
            arrived is not sent twice.
    """
    there = _by_item(studio, project_id, wanted)
    if under_way and len(there) < len(wanted):
        _await_standstill(studio, project_id, sleep)
        there = _by_item(studio, project_id, wanted)
    before = {task_id for ids in there.values() for task_id in ids}
    missing = (item for item in wanted if item not in there)
    n_new = 0
    while chunk := list(islice(missing, CHUNK)):
        try:
            studio.import_tasks(project_id, [write_task(item, *wanted[item], interface) for item in chunk])
        except StudioUnavailable:
            _await_standstill(studio, project_id, sleep)
            raise
        n_new += len(chunk)
        if told is not None:
            told(len(there) + n_new, len(wanted))
    if n_new:
        there = _by_item(studio, project_id, wanted)
        doubled = {i for ids in there.values() for i in ids[1:]} - before
        if doubled:  # somebody may have met one in the queue already: what was said of it is never deleted
            doubled -= {int(row["id"]) for row in studio.annotated_tasks(project_id)}
        for surplus in sorted(doubled):
            studio.delete_task(surplus)
        there = {item: [i for i in ids if i not in doubled] for item, ids in there.items()}
    return Tasks(
        task_ids={item: ids[0] for item, ids in there.items()},
        n_new=n_new,
        duplicates={item: tuple(ids) for item, ids in there.items() if len(ids) > 1},
    )


def _await_standstill(studio: Studio, project_id: int, sleep: Callable[[float], None]) -> None:
    """Wait until the number of tasks stood still for a while: Label Studio carries out what nobody waits for."""
    before, still_s = studio.roll(project_id), 0.0
    while still_s < SETTLE_S:
        sleep(POLL_S)
        now = studio.roll(project_id)
        before, still_s = now, still_s + POLL_S if now == before else 0.0


def _by_item(studio: Studio, project_id: int, wanted: Mapping[str, Any]) -> dict[str, list[int]]:
    """Item id to the ids of its tasks, oldest first."""
    there: dict[str, list[int]] = {}
    for row in studio.tasks(project_id):
        item = str((row.get("data") or {}).get("item"))
        if item in wanted:
            there.setdefault(item, []).append(int(row["id"]))
    return there
