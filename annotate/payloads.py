"""Label Studio's JSON to records and back. Pure: the only module that knows the shape of the JSON."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from annotate.errors import BadAnswer
from annotate.interface import Interface
from annotate.records import Label, Suggestion, Task

Json = Mapping[str, Any]


def read_task(task: Json, interface: Interface) -> Task:
    """Read one task with its whole set of annotations."""
    data = task.get("data") or {}
    item = data.get("item")
    return Task(
        task_id=int(task["id"]),
        item=None if item is None else str(item),
        image=str(data.get(interface.image_key) or ""),
        updated_at=read_time(task["updated_at"]),
        labels=tuple(read_label(a, int(task["id"]), interface) for a in task.get("annotations") or ()),
    )


def read_label(annotation: Json, task_id: int, interface: Interface) -> Label:
    """Read one annotation. What cannot be understood is kept raw with the reason, never dropped."""
    skipped = bool(annotation.get("was_cancelled"))
    answers: dict[str, float] = {}
    problem = None
    if not skipped:
        try:
            answers = interface.read(annotation.get("result") or [])
        except BadAnswer as error:
            problem = str(error)
    by = annotation.get("completed_by")
    lead_time = annotation.get("lead_time")
    created = annotation["created_at"]
    return Label(
        annotation_id=int(annotation["id"]),
        task_id=task_id,
        annotator=str(by.get("id") if isinstance(by, Mapping) else by),
        created_at=read_time(created),
        updated_at=read_time(annotation.get("updated_at") or created),
        lead_time_s=None if lead_time is None else float(lead_time),
        skipped=skipped,
        ground_truth=bool(annotation.get("ground_truth")),
        answers=answers,
        problem=problem,
        raw=json.dumps(annotation, sort_keys=True, ensure_ascii=False),
    )


def write_prediction(suggestion: Suggestion, n: int, version: str, interface: Interface) -> dict[str, Any]:
    """Write a suggestion as the prediction that places its task in the queue.

    Label Studio serves ascending scores and drops scores outside [0, 1] without a word, so the place in the
    queue goes as ``rank / (n + 1)``: strictly increasing, strictly inside.

    Args:
        suggestion: The task and its rank, 1 = served first.
        n: Size of the batch, at least the largest rank.
        version: The model version that the round is served under.
        interface: Turns probabilities into shown answers; no probabilities, nothing shown.
    """
    if not 1 <= suggestion.rank <= n:
        raise ValueError(f"rank {suggestion.rank} of task {suggestion.task_id} is outside 1 to {n}")
    shown = interface.write(suggestion.probabilities) if suggestion.probabilities else []
    return {
        "task": suggestion.task_id,
        "score": suggestion.rank / (n + 1),
        "model_version": version,
        "result": shown,
    }


def write_task(item: str, image: str, extra: Json, interface: Interface) -> dict[str, Any]:
    """Write a task to import; our item id and the image's address win over the extra data."""
    return {"data": {**extra, "item": item, interface.image_key: image}}


def read_time(text: str) -> datetime:
    """Read a time stamp as UTC."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def write_time(time: datetime) -> str:
    """Write a time stamp the way Label Studio's filters want it: microseconds and Z."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def local_file_address(relative: str) -> str:
    """The address under which Label Studio serves a file below its document root.

    >>> local_file_address("cxr/a b.png")
    '/data/local-files/?d=cxr/a%20b.png'
    """
    return f"/data/local-files/?d={quote(relative)}"


def path_in_address(address: str) -> PurePosixPath:
    """The file path that an image address carries, decoded; Label Studio's upload prefix is taken off.

    >>> path_in_address("/data/local-files/?d=cxr/a%20b.png")
    PurePosixPath('cxr/a b.png')
    >>> path_in_address("/data/upload/3/6126ea65-a_b.png")
    PurePosixPath('a_b.png')
    >>> path_in_address(r"C:\\images\\chest\\1.png")
    PurePosixPath('images/chest/1.png')
    >>> path_in_address("s3://bucket/chest/1.png?versionId=4")
    PurePosixPath('chest/1.png')
    >>> path_in_address("/tasks/7/resolve/?fileuri=czM6Ly9idWNrZXQvY2hlc3QvMS5wbmc=")  # as a task in a cloud storage is listed
    PurePosixPath('chest/1.png')
    """
    parts = urlsplit(address.strip())
    if parts.path.rstrip("/").endswith("/resolve") and (stored := parse_qs(parts.query).get("fileuri")):
        return path_in_address(b64decode(stored[0] + "==").decode(errors="replace"))
    if local := parse_qs(parts.query).get("d"):
        return PurePosixPath(local[0].replace("\\", "/"))
    if len(parts.scheme) == 1:  # the drive of a Windows path
        parts = urlsplit(address.replace("\\", "/")[2:])
    path = PurePosixPath(unquote(parts.path).replace("\\", "/").lstrip("/"))
    if "data/upload/" in parts.path:
        return PurePosixPath(re.sub(r"^[0-9a-f]{8}-", "", path.name))
    return path


def write_results(interface: Interface, answers: Mapping[str, float]) -> Sequence[dict[str, Any]]:
    """Write an annotator's answers (1.0, 0.0, NaN = cannot tell) as an annotation's ``result``.

    A finding that is left out is not answered. "Cannot tell" is written where the interface offers it.
    """
    written = interface.write(answers)
    for control in interface.controls:
        unsure = next((c for c in control.choices if c.says == "unsure"), None)
        asked = [answers[f] for f in control.findings if f in answers]
        if unsure is not None and asked and all(a != a for a in asked):
            value = {"choices": [list(unsure.path) if control.nested else unsure.label]}
            part = {
                "from_name": control.name,
                "to_name": interface.image_name,
                "type": "choices",
                "value": value,
            }
            written.append(part)
    return written
