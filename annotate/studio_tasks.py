"""Label Studio's tasks and annotations: read by page and by change, created once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from annotate.connection import Connection, filtered
from annotate.errors import StudioRefused
from annotate.payloads import Json, read_time, write_time
from annotate.records import Roll

_TASK_FIELDS = (  # Label Studio applies the list to nested objects too, so it names the annotations' fields
    "id,data,updated_at,is_labeled,annotations,result,was_cancelled,ground_truth,completed_by,created_at,lead_time,"
    "parent_prediction"
)


class Tasks(Connection):
    """Calls about tasks and annotations."""

    def tasks(self, project_id: int) -> Iterator[Json]:
        """Every task's ``id`` and ``data``."""
        return self._listed(
            f"listing the tasks of project {project_id}", project_id, "id,data", "task_only", []
        )

    def changed_tasks(self, project_id: int, since: datetime) -> Iterator[list[Json]]:
        """Tasks that changed at or after a time, with their annotations, page by page; deleting one is a change too."""
        changed = filtered("updated_at", "greater_or_equal", "Datetime", write_time(since))
        return self._pages(f"pulling from project {project_id}", project_id, _TASK_FIELDS, "all", [changed])

    def annotated_tasks(self, project_id: int) -> Iterator[Json]:
        """Tasks that hold any annotation, skips included, with their annotations."""
        annotated = filtered("annotators", "empty", "List", "false")  # total_annotations can be stale
        return self._listed(
            f"pulling from project {project_id}", project_id, _TASK_FIELDS, "all", [annotated]
        )

    def newest_change(self, project_id: int) -> datetime | None:
        """When a task of the project last changed; None for a project without tasks."""
        page = self._page(
            f"reading the latest change of project {project_id}", project_id, "id,updated_at", "task_only",
            {"ordering": ["-tasks:updated_at"]}, page_size=1,
        )  # fmt: skip
        return read_time(page[0]["updated_at"]) if page else None

    def roll(self, project_id: int, up_to: int | None = None) -> Roll:
        """Count the project's tasks, those with an id up to ``up_to`` or all: one small request."""
        what, items = f"counting the tasks of project {project_id}", []
        if up_to is not None:
            items = [filtered("id", "less_or_equal", "Number", up_to)]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["-tasks:id"]}
        listed = self._list(what, project_id, "id", "task_only", query, page_size=1)
        return Roll(max((int(row["id"]) for row in listed["tasks"]), default=0), int(listed["total"]))

    def existing(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """Which of these tasks the project (still) has."""
        what, found = f"looking for tasks of project {project_id}", set()
        for start in range(0, len(task_ids), self._page_size):
            some = list(task_ids[start : start + self._page_size])
            query = {"filters": {"conjunction": "and", "items": [filtered("id", "in_list", "List", some)]}}
            found |= {int(task["id"]) for task in self._page(what, project_id, "id", "task_only", query)}
        return found

    def import_tasks(self, project_id: int, tasks: Sequence[Json]) -> list[int]:
        """Create tasks, in one transaction; told twice, there are twice as many. ``POST .../import``.

        Returns:
            Their ids, in order.
        """
        answer = self._create(
            f"importing {len(tasks)} tasks into project {project_id}",
            f"api/projects/{project_id}/import?return_task_ids=true",
            list(tasks),
            timeout_s=900.0,
        )
        return [int(i) for i in answer["task_ids"]]

    def delete_task(self, task_id: int) -> None:
        """Delete a task with whatever hangs on it. ``DELETE /api/tasks/{id}/``."""
        self._ask(f"deleting task {task_id}", "DELETE", f"api/tasks/{task_id}/")

    def next_task(self, project_id: int) -> Json | None:
        """The task the key's owner gets now; None when there is none. ``GET /api/projects/{id}/next``.

        This *locks* the task for that user, for a day by default. It is for annotators, human or scripted; to
        look at the queue use :meth:`queue`.
        """
        what = f"asking project {project_id} for the next task"
        try:
            task: Json = self._read(what, f"api/projects/{project_id}/next")
        except StudioRefused as error:
            if "There are no tasks" in str(error):
                return None
            raise
        return task

    def submit(
        self, task_id: int, result: Sequence[Json], lead_time_s: float | None = None, *, skipped: bool = False
    ) -> int:
        """Create an annotation as the key's owner. ``POST /api/tasks/{id}/annotations/``. Returns its id."""
        given = {"result": list(result), "was_cancelled": skipped}
        made = self._create(
            f"submitting an annotation of task {task_id}",
            f"api/tasks/{task_id}/annotations/",
            given if lead_time_s is None else given | {"lead_time": lead_time_s},
        )
        return int(made["id"])
