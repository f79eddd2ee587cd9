"""How others read labels from Label Studio and push to it: the official examples, each as two functions.

Written anew from what the sources do, on the official SDK's own calls, so that requests and bytes are theirs:

* ``SdkExample``: HumanSignal/label-studio-sdk, ``examples/active_learning/active_learning.py`` (commit 72c3156).
* ``MlBackend``: HumanSignal/label-studio-ml-backend, ``label_studio_ml/examples/sklearn_text_classifier/model.py``
  (commit 005a6fe); its ``bert_classifier`` reads the same way. It trains at each event ``ANNOTATION_CREATED`` or
  ``ANNOTATION_UPDATED``, so it reads once a label; one reading is measured here. It pushes nothing: Label Studio asks it.

Both call the SDK's ``Project.get_labeled_tasks``: whole tasks, 100 a page, every time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from label_studio_sdk._legacy import Client

Rows = Mapping[int, list[str]]  # task id to what trains the model: one row an answer


class SdkExample:
    """Trains on the first annotation of each completed task; scores ten tasks at random."""

    name = "SDK example"
    batch = 10

    def __init__(self, url: str, api_key: str, project_id: int, seed: int = 0) -> None:
        self.client = Client(url, api_key)
        self.project = self.client.get_project(project_id)
        self._random = random.Random(seed)

    def pull(self) -> Rows:
        """The first choice of the first part of the first annotation."""
        self._labelled = self.project.get_labeled_tasks()
        return {
            int(task["id"]): [task["annotations"][0]["result"][0]["value"]["choices"][0]]
            for task in self._labelled
        }

    def push(self) -> str:
        """Ten predictions of random unlabelled tasks, each a call; the version is named by the number of labels."""
        drawn = self._random.sample(self.project.get_unlabeled_tasks_ids(), self.batch)
        version = f"model_{len(self._labelled)}"
        for task in self.project.get_tasks(selected_ids=drawn):
            result = [
                {"from_name": "Edema", "to_name": "image", "type": "choices", "value": {"choices": ["yes"]}}
            ]
            self.project.create_prediction(task["id"], result, score=0.5, model_version=version)
        self.project.set_model_version(version)
        return version


class MlBackend:
    """Trains on every annotation that is not skipped and not empty."""

    name = "ML backend"

    def __init__(self, url: str, api_key: str, project_id: int) -> None:
        self.client = Client(url, api_key)
        self.project_id = project_id

    def pull(self) -> Rows:
        """The first choice of the first part of each annotation."""
        project = self.client.get_project(self.project_id)
        rows: dict[int, list[str]] = {}
        for task in project.get_labeled_tasks():
            for annotation in task["annotations"]:
                if annotation.get("result") and not annotation.get("was_cancelled"):
                    rows.setdefault(int(task["id"]), []).append(
                        annotation["result"][0]["value"]["choices"][0]
                    )
        return rows


def watch_session(client: Client, told: Any) -> None:
    """Tell of each request of a peer: bytes sent and received, as they went over the wire."""

    def note(response: Any, *_: Any, **__: Any) -> None:
        request, _ = response.request, response.content  # read to its end
        told(len(request.url) + len(request.body or b""), response.raw.tell())

    client.session.hooks["response"].append(note)
