"""Label Studio's predictions, and the queue that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from annotate.connection import Connection, filtered
from annotate.errors import StudioRefused
from annotate.next_tasks import Habits, Place, Said
from annotate.payloads import Json

SCORED = filtered("predictions_score", "less_or_equal", "Number", 1)  # no prediction, no score


class Queue(Connection):
    """Calls about predictions and the queue."""

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Number of predictions under each model version. ``GET /api/projects/{id}/model-versions/``."""
        counts = self._read(
            f"counting the predictions of project {project_id}", f"api/projects/{project_id}/model-versions/"
        )
        return {str(version): int(n) for version, n in counts.items()}

    def import_predictions(self, project_id: int, predictions: Sequence[Json]) -> int:
        """Create predictions; told twice, there are twice as many. ``POST .../import/predictions``.

        Returns:
            How many were stored. Label Studio drops what it does not like without an error, so compare.
        """
        answer = self._create(
            f"sending {len(predictions)} predictions to project {project_id}",
            f"api/projects/{project_id}/import/predictions",
            list(predictions),
            timeout_s=1800.0,
        )
        return int(answer["created"])

    def add_prediction(self, prediction: Json) -> int:
        """Create one prediction; told twice, there are two. ``POST /api/predictions/``.

        Costs the same however many tasks the project has; an import rewrites the counters of every task.

        Returns:
            Its id.
        """
        what = f"sending a prediction of task {prediction['task']}"
        return int(self._create(what, "api/predictions/", dict(prediction))["id"])

    def delete_predictions(self, project_id: int, version: str) -> None:
        """Delete a model version's predictions. ``DELETE /api/projects/{id}/model-versions/``, about 20 ms each.

        Annotations that were made from one stay. A version that is served leaves the project without one: serve another
        first.
        """
        what = f"removing the predictions of {version} from project {project_id}"
        path = f"api/projects/{project_id}/model-versions/"
        self._ask(what, "DELETE", path, json={"model_version": version}, request_options={"timeout": 1800.0})

    def readers(self, project_id: int, task_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """How many people each of these tasks asks for, and how many labelled it; tasks that were deleted are left out."""
        what = f"reading how many people tasks of project {project_id} ask for"
        found: dict[int, tuple[int, int]] = {}
        for start in range(0, len(task_ids), self._page_size):
            some = list(task_ids[start : start + self._page_size])
            query = {"filters": {"conjunction": "and", "items": [filtered("id", "in_list", "List", some)]}}
            rows = self._page(what, project_id, "id,overlap,total_annotations", "task_only", query)
            found |= {
                int(row["id"]): (int(row["overlap"]), int(row.get("total_annotations") or 0)) for row in rows
            }
        return found

    def ask_readers(self, task_id: int, n: int, *, done: bool = False) -> None:
        """Serve a task until n different people have labelled it; ``done``: they have. ``PATCH /api/tasks/{id}/``.

        The Community edition takes the number for a single task in its API only: there it follows the queue's order,
        while the project's ``maximum_annotations`` would put every begun task first. A task that was finished for fewer
        is open again.
        """
        asked = {"overlap": n, "is_labeled": done}
        self._ask(f"asking {n} people to label task {task_id}", "PATCH", f"api/tasks/{task_id}/", json=asked)

    def queue(self, project_id: int, n: int) -> list[tuple[int, bool]]:
        """The first n tasks that have a prediction of the version served, lowest score first.

        Returns:
            Task id, and whether it has all its annotations already (it is then served no more).
        """
        return [(place.task_id, place.is_done) for place in self._queued(project_id, n)]

    def places(self, project_id: int, n: int) -> list[Place]:
        """As `queue`, with who annotated each task; see `order_for`."""
        queued = self._queued(project_id, n)
        annotated = filtered("annotators", "empty", "List", "false")
        query = {"filters": {"conjunction": "and", "items": [SCORED, annotated]}}
        fields = "id,annotations,completed_by,was_cancelled,ground_truth"
        said: dict[int, tuple[Said, ...]] = {}
        for page in range(1, -(-n // self._page_size) + 1):
            what = f"reading who annotated the queue of project {project_id}"
            rows = self._page(what, project_id, fields, "all", query, page=page)
            said |= {
                int(row["id"]): tuple(
                    Said(int(one["completed_by"]), bool(one["was_cancelled"]), bool(one["ground_truth"]))
                    for one in row["annotations"]
                    if one["completed_by"] is not None  # whose account was deleted asks for nothing more
                )
                for row in rows
            }
            if len(rows) < self._page_size:
                break
        return [replace(place, said=said.get(place.task_id, ())) for place in queued]

    def _queued(self, project_id: int, n: int) -> list[Place]:
        query = {
            "filters": {"conjunction": "and", "items": [SCORED]},
            "ordering": ["tasks:predictions_score"],
        }
        found: list[Place] = []
        for page in range(1, -(-n // self._page_size) + 1):
            rows = self._page(
                f"reading the queue of project {project_id}",
                project_id,
                "id,is_labeled,overlap",
                "task_only",
                query,
                page=page,
            )
            found += [Place(int(row["id"]), bool(row["is_labeled"]), int(row["overlap"])) for row in rows]
            if len(rows) < self._page_size:
                break
        return found[:n]

    def habits(self, project_id: int) -> Habits:
        """What moves single annotators away from the queue. ``GET /api/projects/{id}/``."""
        fields = "skip_queue,show_overlap_first,annotator_evaluation_enabled"
        got = self._read(f"reading project {project_id}", f"api/projects/{project_id}/", {"include": fields})
        return Habits(
            str(got.get("skip_queue") or "REQUEUE_FOR_OTHERS"),
            bool(got.get("show_overlap_first")),
            bool(got.get("annotator_evaluation_enabled")),
            self.n_members(project_id),
        )

    def n_members(self, project_id: int) -> int:
        """How many users were made members of the project itself; the Community edition knows none."""
        what = f"counting the members of project {project_id}"
        try:
            members = self._read(what, f"api/projects/{project_id}/members/")
        except StudioRefused as error:
            if "(HTTP 404)" in str(error):
                return 0
            raise
        return len(members["results"] if isinstance(members, dict) else members)

    def people(self) -> dict[int, str]:
        """User id to e-mail address of everybody in the organization. ``GET /api/users/``."""
        listed = self._read("listing the users", "api/users/")
        return {int(user["id"]): str(user["email"]) for user in listed}
