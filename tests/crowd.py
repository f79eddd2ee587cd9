"""A crowd at a real Label Studio: everything that people and tools do to a project, at once and at random."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from annotate.errors import StudioRefused, StudioUnavailable
from annotate.interface import Interface
from annotate.payloads import write_results
from annotate.records import Label
from annotate.studio import Studio

FINDINGS = ("Edema", "Effusion")
SHARES = {
    "create": 34,
    "edit": 15,
    "skip": 8,
    "turn skip": 8,
    "star": 6,
    "delete annotation": 9,
    "delete task": 3,
    "import": 4,
    "import labelled": 3,
    "spoil": 4,
    "predict": 2,
    "clear tasks": 2,
    "delete tasks": 2,
}
RACED = ("HTTP 404", "HTTP 500", "does not exist")
SPOILT: tuple[Any, ...] = (
    [{"foo": 1}],
    [{"from_name": "gone", "to_name": "image", "type": "choices", "value": {"choices": ["yes"]}}],
    [{"from_name": "Edema", "to_name": "image", "type": "choices", "value": {"choices": ["perhaps"]}}],
    [{"from_name": "Edema", "to_name": "image", "type": "choices", "value": {"choices": ["yes", "no"]}}],
    [{"from_name": "Edema", "to_name": "image", "type": "choices", "value": {"choices": [{"yes": 1}]}}],
    [{"from_name": "Edema", "to_name": "image", "type": "choices", "value": {}}],
)


class Crowd:
    """Several people and tools that work on one project; what they did is counted, not remembered."""

    def __init__(
        self, studio: Studio, project_id: int, interface: Interface, annotators: Sequence[int]
    ) -> None:
        self.studio, self.project_id, self.interface, self.annotators = (
            studio, project_id, interface, annotators,
        )  # fmt: skip
        self.done: Counter[str] = Counter()
        self.raced = 0
        self._lock = threading.Lock()
        self._tasks = [int(task["id"]) for task in studio.tasks(project_id)]
        self._annotations: list[int] = []
        self._labelled: list[int] = []
        self._faults: list[BaseException] = []

    def work(self, n_operations: int, n_at_once: int, seed: int) -> None:
        """Do that many operations, shared by so many threads, each with chances of its own."""
        threads = [
            threading.Thread(target=self._work, args=(n_operations, np.random.default_rng([seed, i])))
            for i in range(n_at_once)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self._faults, self._faults

    def _work(self, n: int, rng: np.random.Generator) -> None:
        shares = np.array(list(SHARES.values())) / sum(SHARES.values())
        try:
            while self.done.total() < n:
                what = str(rng.choice(list(SHARES), p=shares))
                try:
                    self._act(what, rng)
                except (StudioRefused, StudioUnavailable) as error:
                    if not any(sign in str(error) for sign in RACED):
                        raise
                    self.raced += (
                        1  # somebody else has just deleted it; Label Studio says 404, or 500 in the act
                    )
                else:
                    with self._lock:
                        self.done[what] += 1
        except BaseException as error:
            self._faults.append(error)

    def _act(self, what: str, rng: np.random.Generator) -> None:
        task_id, annotation_id = self._drawn(self._tasks, rng), self._drawn(self._annotations, rng)
        by = int(rng.choice(self.annotators))
        annotation = f"api/annotations/{annotation_id}/"
        said = {"result": self._answer(rng), "completed_by": by, "lead_time": float(rng.integers(1, 60))}
        if what == "create":
            self._submit(task_id, said)
        elif what == "spoil":
            self._submit(task_id, said | {"result": SPOILT[rng.integers(len(SPOILT))]})
        elif what == "skip":
            self._submit(task_id, said | {"result": [], "was_cancelled": True})
        elif what in ("import", "import labelled"):
            tasks: list[dict[str, Any]] = [
                {"data": {"image": f"/data/local-files/?d=x/{rng.integers(10**6)}.png"}} for _ in range(3)
            ]
            if what == "import labelled":
                tasks[0]["annotations"] = [{"result": self._answer(rng), "completed_by": by}]
            self._tasks.extend(self.studio.import_tasks(self.project_id, tasks))
        elif what == "predict":
            row = {"task": task_id, "score": float(rng.random()), "model_version": "crowd", "result": []}
            self.studio._ask("predicting", "POST", "api/predictions/", json=row)
        elif what == "delete task":
            self._ask("DELETE", f"api/tasks/{self._drawn(self._labelled, rng) or task_id}/")
        elif what in ("clear tasks", "delete tasks"):
            action = "delete_tasks_annotations" if what == "clear tasks" else "delete_tasks"
            some = {"all": False, "included": [task_id, self._drawn(self._tasks, rng)]}
            self._ask(
                "POST", f"api/dm/actions/?id={action}&project={self.project_id}", {"selectedItems": some}
            )
        elif annotation_id is None:
            self._submit(task_id, said)
        elif what == "delete annotation":
            self._ask("DELETE", annotation)
        elif what == "edit":
            self._ask("PATCH", annotation, {"result": self._answer(rng)})
        elif what == "turn skip":
            self._ask("PATCH", annotation, {"was_cancelled": bool(rng.integers(2))})
        else:
            self._ask("PATCH", annotation, {"ground_truth": bool(rng.integers(2))})

    def _submit(self, task_id: int | None, said: Mapping[str, Any]) -> None:
        made = self.studio._create("labelling", f"api/tasks/{task_id}/annotations/", said)
        self._annotations.append(int(made["id"]))
        self._labelled.append(int(made["task"]))

    def _ask(self, method: str, path: str, said: Any = None) -> None:
        self.studio._ask("changing", method, path, json=said)

    def _answer(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        values = rng.choice([1.0, 0.0, np.nan], size=len(FINDINGS))
        return list(write_results(self.interface, dict(zip(FINDINGS, values.tolist(), strict=True))))

    @staticmethod
    def _drawn(ids: Sequence[int], rng: np.random.Generator) -> int | None:
        """One of the newest forty or so: people work on what is there, and edits pile up on few tasks."""
        return None if not ids else ids[-1 - int(min(len(ids) - 1, rng.exponential(30)))]


def compare(
    studio: Studio, project_id: int, interface: Interface, held: Mapping[int, Sequence[Label]]
) -> list[str]:
    """What the state holds against a full export, field by field; returns every difference."""
    exported = studio._ask(
        "exporting", "GET", f"api/projects/{project_id}/export",
        params={"exportType": "JSON", "download_all_tasks": "true"},
    )  # fmt: skip
    true = {(task["id"], a["id"]): a for task in exported for a in task["annotations"]}
    ours = {(task_id, label.annotation_id): label for task_id, given in held.items() for label in given}
    found = [f"{key} is not held" for key in true.keys() - ours.keys()]
    found += [f"{key} is held and not there" for key in ours.keys() - true.keys()]
    for key in true.keys() & ours.keys():
        there, label = true[key], ours[key]
        facts = {
            "result": (_result(there), _result(json.loads(label.raw))),
            "skipped": (there["was_cancelled"], label.skipped),
            "star": (there["ground_truth"], label.ground_truth),
            "annotator": (str(_user(there["completed_by"])), label.annotator),
            "lead time": (there["lead_time"], label.lead_time_s),
            "changed": (datetime.fromisoformat(there["updated_at"]), label.updated_at),
            "readable": (_readable(interface, there), label.problem is None),
        }
        found += [
            f"{key} {name}: {truth} there, {mine} held"
            for name, (truth, mine) in facts.items()
            if truth != mine
        ]
    return sorted(found)


def _readable(interface: Interface, annotation: Mapping[str, Any]) -> bool:
    known = {control.name: {c.label for c in control.choices} for control in interface.controls}
    return annotation["was_cancelled"] or all(
        isinstance(part.get("from_name"), str)
        and part["from_name"] in known
        and isinstance((part.get("value") or {}).get("choices"), list)
        and len(part["value"]["choices"]) == 1
        and set(part["value"]["choices"]) <= known[part["from_name"]]
        for part in annotation["result"]
    )


def _result(annotation: Mapping[str, Any]) -> Any:
    return annotation.get("result") or []


def _user(by: Any) -> Any:
    return by["id"] if isinstance(by, dict) else by
