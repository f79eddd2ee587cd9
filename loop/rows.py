"""Records to rows of the state and back. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate.records import Label
from loop.items import Item
from loop.step_report import finite
from loop.strategies import Pick

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PullCount:
    """What a pull changed: annotations new, changed and withdrawn; and how many of them cannot be read."""

    new: int
    changed: int
    deleted: int
    unreadable: int


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One batch as it was asked.

    Attributes:
        number: 1 = the first, all random or by zero-shot scores.
        version: Its name in Label Studio.
        at: When it was committed, UTC.
        seed: What its random draws came from.
        strategy: How the active part was chosen.
        n_labels: Labelled images at that time.
        picks: In rank order.
        findings: K names, of the columns of ``scores``.
        scores: Probabilities by the probe in force when asked, or zero-shot scores, shape ``(n_picks, K)``; NaN where there
            were none.
        bets: Finding to whether the certificate may bet on this round.
    """

    number: int
    version: str
    at: datetime
    seed: tuple[int, ...]
    strategy: str
    n_labels: int
    picks: tuple[Pick, ...]
    findings: tuple[str, ...]
    scores: NDArray[np.float64]
    bets: Mapping[str, bool]

    def scores_of(self, finding: str) -> NDArray[np.float64]:
        """One finding's scores, shape ``(n_picks,)``; NaN if it was none of the findings then."""
        if finding not in self.findings:
            return np.full(len(self.picks), np.nan)
        return self.scores[:, self.findings.index(finding)]


@dataclass(frozen=True, slots=True)
class Rollback:
    """One going back to an earlier round.

    Attributes:
        number: 1 = the first.
        to_round: The round that is in force again.
        undone: Rounds that it undid.
        at: When it was decided, UTC.
        finished: Whether Label Studio was seen to follow.
        version: The version served since then; None = it is not finished.
    """

    number: int
    to_round: int
    undone: tuple[int, ...]
    at: datetime
    finished: bool
    version: str | None


def write_time(at: datetime) -> str:
    """A time as it is stored: UTC with microseconds."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; give times as UTC")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def read_time(at: str) -> datetime:
    """A stored time, timezone-aware."""
    return datetime.fromisoformat(at)


def write_item(item: Item) -> Row:
    """An image as a row."""
    return {
        "item": item.item,
        "path": str(item.path),
        "patient": item.patient,
        "stream": item.stream,
        "position": item.position,
        "metadata": dict(item.metadata),
    }


def read_item(row: Any) -> Item:
    """An image from its row."""
    return Item(row.item, Path(row.path), row.patient, row.stream, row.position, row.metadata)


def write_label(label: Label) -> Row:
    """What a label says, as a row; equal rows are the same version."""
    return {
        "annotation_id": label.annotation_id,
        "task_id": label.task_id,
        "annotator": label.annotator,
        "created_at": write_time(label.created_at),
        "updated_at": write_time(label.updated_at),
        "lead_time_s": label.lead_time_s,
        "skipped": label.skipped,
        "ground_truth": label.ground_truth,
        "answers": {name: finite(value) for name, value in label.answers.items()},
        "problem": label.problem,
        "raw": label.raw,
    }


def read_label(row: Any) -> Label:
    """A label from its row."""
    return Label(
        annotation_id=row.annotation_id,
        task_id=row.task_id,
        annotator=row.annotator,
        created_at=read_time(row.created_at),
        updated_at=read_time(row.updated_at),
        lead_time_s=row.lead_time_s,
        skipped=row.skipped,
        ground_truth=row.ground_truth,
        answers={name: _number(value) for name, value in row.answers.items()},
        problem=row.problem,
        raw=row.raw,
    )


def same_version(a: Label, b: Label) -> bool:
    """Whether two labels are one version: the same annotation, changed last at the same time, saying the same.

    The raw annotation plays no part: Label Studio writes passing facts into it, such as its age in words.
    """
    ours, theirs = write_label(a), write_label(b)
    return {**ours, "raw": ""} == {**theirs, "raw": ""}


def write_round(round_: Round) -> Row:
    """The head of a batch as a row."""
    return {
        "number": round_.number,
        "version": round_.version,
        "at": write_time(round_.at),
        "seed": list(round_.seed),
        "strategy": round_.strategy,
        "n_labels": round_.n_labels,
        "findings": list(round_.findings),
        "bets": {name: bool(bet) for name, bet in round_.bets.items()},
    }


def write_picks(round_: Round) -> list[Row]:
    """The images of a batch as rows, each with its scores."""
    return [
        {
            "number": round_.number,
            "rank": rank,
            "item": pick.item,
            "stream": pick.stream,
            "strategy": pick.strategy,
            "reason": pick.reason,
            "inclusion_probability": float(pick.inclusion_probability),
            "utility": finite(pick.utility),
            "scores": [finite(score) for score in scores],
        }
        for rank, (pick, scores) in enumerate(zip(round_.picks, round_.scores, strict=True), start=1)
    ]


def read_round(head: Any, rows: Sequence[Any]) -> Round:
    """A batch from its head and its images in rank order."""
    findings = tuple(head.findings)
    scores = np.array([[_number(score) for score in row.scores] for row in rows], dtype=np.float64)
    return Round(
        number=head.number,
        version=head.version,
        at=read_time(head.at),
        seed=tuple(head.seed),
        strategy=head.strategy,
        n_labels=head.n_labels,
        picks=tuple(
            Pick(r.item, r.stream, r.strategy, r.reason, r.inclusion_probability, _number(r.utility))
            for r in rows
        ),
        findings=findings,
        scores=scores.reshape(len(rows), len(findings)),  # (n_picks, K)
        bets=head.bets,
    )


def read_rollback(row: Any) -> Rollback:
    """A rollback from its row, joined with the one that finished it."""
    undone, finished = tuple(row.undone), row.finished is not None
    return Rollback(row.number, row.to_round, undone, read_time(row.at), finished, row.version)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
