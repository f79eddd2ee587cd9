"""A scripted annotator: asks Label Studio for the next task as a person's browser does, and answers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import numpy as np

from annotate.interface import Interface
from annotate.payloads import path_in_address, write_results
from annotate.studio import Studio
from loop.errors import BadInput

MEDIAN_LEAD_TIME_S = 6.0  # for opening the image
MEDIAN_FINDING_S = 2.5  # for each finding
_WHOLE_QUEUE = 100_000

Answers = Mapping[str, Mapping[str, int | None]]


def label_queue(
    studio: Studio,
    project_id: int,
    interface: Interface,
    answers: Answers,
    n: int,
    rng: np.random.Generator,
    error_rate: float = 0.0,
    skip_rate: float = 0.0,
    labelled: Callable[[int], None] | None = None,
) -> int:
    """Label up to ``n`` tasks of the batch that Label Studio serves now, in the order it serves them.

    Args:
        studio: Label Studio, opened with the annotator's key.
        project_id: The project.
        interface: Its labelling interface.
        answers: Item id, or the image's path or the end of it, to finding to 1, 0 or None (cannot tell).
        n: How many tasks to label; skipped ones do not count.
        rng: Decides errors, skips and lead times.
        error_rate: Probability that a yes is given as no or a no as yes, for each finding.
        skip_rate: Probability that a task is skipped.
        labelled: Told the number of labels after each one, for a progress bar.

    Returns:
        How many were labelled: fewer than ``n`` where the batch ended before.

    Raises:
        BadInput: A task is served whose answer is not known.
    """
    batch = {task_id for task_id, done in studio.queue(project_id, _WHOLE_QUEUE) if not done}
    n_labelled = 0
    while n_labelled < n and batch:
        task = studio.next_task(project_id)
        if task is None or int(task["id"]) not in batch:
            break  # what is left was skipped before; Label Studio goes on with tasks nobody asked for
        task_id, data = int(task["id"]), task["data"]
        batch.discard(task_id)
        known = _look_up(answers, str(data.get("item", "")), str(data.get(interface.image_key, "")))
        skip, lead_time_s, given = _act(known, error_rate, skip_rate, rng)
        if skip:
            studio.submit(task_id, [], lead_time_s, skipped=True)
            continue
        studio.submit(task_id, write_results(interface, given), lead_time_s)
        n_labelled += 1
        if labelled is not None:
            labelled(n_labelled)
    return n_labelled


def _act(
    known: Mapping[str, int | None], error_rate: float, skip_rate: float, rng: np.random.Generator
) -> tuple[bool, float, dict[str, float]]:
    """Whether to skip, how long it took, and what is said; every task draws the same amount of chance."""
    skip = bool(rng.random() < skip_rate)
    pace = MEDIAN_LEAD_TIME_S + MEDIAN_FINDING_S * len(known)
    lead_time_s = round(pace * math.exp(rng.normal(0.0, 0.5)), 3)
    wrong = rng.random(len(known)) < error_rate  # (K,)
    given = {
        finding: math.nan if truth is None else float(truth ^ int(turned))
        for (finding, truth), turned in zip(known.items(), wrong, strict=True)
    }
    return skip, lead_time_s, given


def _look_up(answers: Answers, item: str, address: str) -> Mapping[str, int | None]:
    """The answer for an item id or, failing that, for the longest end of the image's path that is known."""
    if item in answers:
        return answers[item]
    parts = path_in_address(address).parts
    for start in range(len(parts)):
        tail = str(PurePosixPath(*parts[start:]))
        if tail in answers:
            return answers[tail]
    raise BadInput(
        f"nothing is known about the image {address!r} (item {item!r}): "
        "give the scripted annotator an answer under its item id, path or file name"
    )
