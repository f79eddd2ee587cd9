"""Label Studio's predictions, and the queue that they make."""

from __future__ import annotations

from collections.abc import Sequence

from annotate.connection import Connection, filtered
from annotate.payloads import Json


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
        scored = filtered("predictions_score", "less_or_equal", "Number", 1)  # no prediction, no score
        query = {
            "filters": {"conjunction": "and", "items": [scored]},
            "ordering": ["tasks:predictions_score"],
        }
        found: list[tuple[int, bool]] = []
        for page in range(1, -(-n // self._page_size) + 1):
            rows = self._page(
                f"reading the queue of project {project_id}",
                project_id,
                "id,is_labeled",
                "task_only",
                query,
                page=page,
            )
            found += [(int(row["id"]), bool(row["is_labeled"])) for row in rows]
            if len(rows) < self._page_size:
                break
        return found[:n]
