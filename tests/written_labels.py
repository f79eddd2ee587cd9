"""Labels as tests write them: who said what of one finding, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from annotate.records import Label

START = datetime(2026, 1, 1, tzinfo=UTC)


def label(annotator: str, answer: float | None, minute: int = 0, **changed: object) -> Label:
    """A label of Edema; None = not answered."""
    values: dict[str, object] = {
        "annotation_id": minute,
        "task_id": 1,
        "annotator": annotator,
        "created_at": START,
        "updated_at": START + timedelta(minutes=minute),
        "lead_time_s": None,
        "skipped": False,
        "ground_truth": False,
        "answers": {} if answer is None else {"Edema": answer},
        "problem": None,
        "raw": "{}",
    }
    return Label(**(values | changed))  # type: ignore[arg-type]
