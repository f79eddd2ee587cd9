"""The plain values that cross the border between Label Studio and the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Label:
    """What one annotator submitted on one task, at its latest version.

    Attributes:
        annotation_id: Label Studio's id of the annotation.
        task_id: Label Studio's id of the task.
        annotator: Label Studio's user id, as text.
        created_at: First submission, UTC.
        updated_at: Latest change, UTC; with ``annotation_id`` it names a version.
        lead_time_s: Seconds the annotator had the task open, as Label Studio counted them.
        skipped: The annotator skipped the task; ``answers`` is then empty.
        ground_truth: Marked with Label Studio's star.
        answers: Finding to 1.0 (yes), 0.0 (no) or NaN (cannot tell, or not answered).
        problem: Why the annotation could not be read; None if it could.
        raw: The annotation as it came, JSON.
    """

    annotation_id: int
    task_id: int
    annotator: str
    created_at: datetime
    updated_at: datetime
    lead_time_s: float | None
    skipped: bool
    ground_truth: bool
    answers: Mapping[str, float]
    problem: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class Task:
    """Label Studio's row for one image, with all its labels.

    Attributes:
        task_id: Label Studio's id.
        item: Our item id, if the task carries one in ``data["item"]``.
        image: The address in the task's image field.
        updated_at: Latest change to the task or its annotations, UTC.
        labels: Every annotation on the task now; a deleted one is simply absent.
    """

    task_id: int
    item: str | None
    image: str
    updated_at: datetime
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """What changed in Label Studio since a watermark.

    Attributes:
        tasks: Each changed task with its whole, present set of labels.
        watermark: Where the next pull starts; stored only after ``tasks`` are stored. None = empty project.
    """

    tasks: tuple[Task, ...]
    watermark: datetime | None


@dataclass(frozen=True, slots=True)
class Roll:
    """How many tasks a project has. Ids are never given twice, so up to the same id it only falls, by deletion.

    Attributes:
        last_id: The newest task's id; 0 = no task.
        n_tasks: Tasks up to it.
    """

    last_id: int
    n_tasks: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One place in the queue that the loop asks Label Studio to serve.

    Attributes:
        task_id: The task to serve.
        rank: 1 = served first.
        probabilities: Finding to the probe's probability; None = nothing to show (random stream, no probe).
        readers: How many different people are to label it; those who did already count.
    """

    task_id: int
    rank: int
    probabilities: Mapping[str, float] | None
    readers: int = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What Label Studio was seen to hold after a push.

    Attributes:
        version: The model version under which the batch is served.
        n_served: Predictions read back under that version.
        queue: Task ids in the order Label Studio serves them, as read back.
        warnings: What looked odd, each with its remedy.
        gone: Tasks of the batch that do not exist any more.
    """

    version: str
    n_served: int
    queue: tuple[int, ...]
    warnings: tuple[str, ...]
    gone: tuple[int, ...] = ()
