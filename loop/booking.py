"""The rows of the ledger, from the rows of the tables that they tell of. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from loop.streams import Answer

Row = dict[str, Any]

OVERRUN, OUTSIDER = "overrun", "outsider"
DECLARED = "declared"  # there before the first batch, and declared random by the settings
UNASKED = (OVERRUN, OUTSIDER, DECLARED)
EXISTING = "existing"  # the fact that says so
VERSIONS = (
    "labelled",
    "relabelled",
    "skipped",
    "withdrawn",
    "late",
)  # events that are a row of `annotations`
WHY = ("rank", "strategy", "reason", "inclusion_probability")
BOOKING = ("stream", "round", *WHY, "scores")


def asked_row(head: Mapping[str, Any], pick: Mapping[str, Any]) -> Row:
    """One image of a batch, from its two rows."""
    findings = head.get("findings", ())
    return {
        "event": "asked",
        "at": head.get("at"),
        "round": pick["number"],
        "version": head.get("version"),
        "bets": head.get("bets"),
        **{name: pick[name] for name in WHY},
        "item": pick["item"],
        "stream": pick["stream"],
        "utility": pick["utility"],
        "scores": dict(zip(findings, pick["scores"], strict=False)),
    }


def said_row(row: Mapping[str, Any]) -> Row:
    """One version of a label, from its row; the raw annotation as its SHA-256."""
    same = (
        "at",
        "annotator",
        "created_at",
        "updated_at",
        "lead_time_s",
        "ground_truth",
        "answers",
        "problem",
    )
    return {
        **{name: row[name] for name in same},
        "skipped": bool(row["skipped"]),
        "annotation": row["annotation_id"],
        "task": row["task_id"],
        "raw_sha256": hashlib.sha256(row["raw"].encode()).hexdigest(),
    }


def gone_row(task_id: int, at: str) -> Row:
    """A task that was found deleted."""
    return {"event": "gone", "at": at, "task": task_id}


def read_row(number: int, finding: str, y: Sequence[float], at: str) -> Row:
    """The labels that the certificate has read of one round and finding, in the order asked; NaN becomes null."""
    told = [None if value != value else float(value) for value in y]
    return {"event": "read", "at": at, "round": number, "finding": finding, "y": told}


def rolled_row(row: Mapping[str, Any]) -> Row:
    """A going back to an earlier round, from its row: the rounds and the decisions that it undid."""
    return {
        "event": "rolled back",
        "at": row["at"],
        "to_round": row["to_round"],
        "undone": list(row["undone"]),
        "decisions": list(row["reports"]),
    }


def decided_row(row: Mapping[str, Any]) -> Row:
    """A decision, from the row of its report: the verdict, and the SHA-256 of all that was said with it."""
    report = row["report"]
    told = json.dumps(report, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return {
        "event": "decided",
        "at": row["at"],
        "decision": row["seq"],
        "verdict": report.get("verdict"),
        "verdicts": {name: one.get("verdict") for name, one in report.get("findings", {}).items()},
        "report_sha256": hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest(),
    }


def kept_fields(fields: Row) -> Row:
    """What a row that books a label anew repeats."""
    return {n: fields.get(n) for n in ("item", "task", "annotation", "annotator", "created_at", "round")}


def event_of(row: Row, before: Row | None) -> str:
    """What a version of a label is, after what the ledger last said of it."""
    for event in ("withdrawn", "late", "skipped"):
        if row[event]:
            return event
    return "labelled" if before is None else "relabelled"


def read_answer(row: Mapping[str, Any], pulled_at: str) -> Answer:
    """A version of a label as an answer that takes its image out of the queue."""
    return Answer(
        row["annotator"],
        datetime.fromisoformat(row["created_at"]),
        row.get("lead_time_s"),
        datetime.fromisoformat(pulled_at),
    )


def end_answer(answer: Answer, at: str) -> Answer:
    """The same answer, missed by a pull."""
    return replace(answer, withdrawn_at=datetime.fromisoformat(at))


def lookup_of(fields: Mapping[str, Any]) -> Row:
    """Under what a row is found again."""
    return {
        "annotation_id": fields.get("annotation"),
        "stream": fields.get("stream"),
        "round": fields.get("round"),
    }
