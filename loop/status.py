"""Where a project stands, from the state alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from forecasting.plots import curve_info, draw_curves, save
from loop.assess import Assessment, assess
from loop.book import Book, keep_book
from loop.controller import open_book, project_pool, read_history
from loop.errors import BadInput
from loop.report import LabelCount, StepReport, as_json
from loop.settings import Settings
from loop.start import open_features
from loop.state import State


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One decision of the past: AUC is the mean over the findings that had a forecast."""

    round: int
    at: datetime
    labels: int
    verdict: str
    asked: int
    findings: Mapping[str, str]
    aucs: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class FindingCount:
    """Labels of one finding; the first two are of all streams."""

    positives: int
    negatives: int
    random_positives: int
    random_negatives: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a project stands.

    Attributes:
        labels: Images by stream and fate, of everything pulled so far.
        findings: Labels by finding and stream.
        outstanding: Images of the present batch that nobody had answered at the last pull.
        pool_left: Images that can still be asked.
        last: The last decision; its findings hold AUC, forecast, verdict and evidence.
        history: Every decision, oldest first.
        problems: Images that could not be used, each with its reason.
        unreadable: Annotations that could not be read, each with its reason.
        amendments: What was changed in the frozen settings since the start.
        amending: What the settings given now would change in them at the next step.
    """

    project: str
    folder: str
    labels: LabelCount
    findings: Mapping[str, FindingCount]
    outstanding: int
    batch_size: int
    pool_left: int
    last: StepReport | None
    history: tuple[RoundLine, ...]
    problems: tuple[str, ...]
    unreadable: tuple[str, ...]
    amendments: tuple[str, ...]
    amending: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The status as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def read_status(settings: Settings) -> Status:
    """Read a project's status; Label Studio is not asked.

    Raises:
        BadInput: The project was not started.
    """
    with State.open(settings.state_url) as state:
        labels = state.labels()
        book = keep_book(state.items(), state.tasks(), labels, state.rounds(), settings.project.findings)
        reports = read_history(state)
        return Status(
            project=settings.project.name,
            folder=str(settings.folder),
            labels=book.count,
            findings={name: _count(book, k) for k, name in enumerate(book.findings)},
            outstanding=len(book.outstanding),
            batch_size=book.batch_size,
            pool_left=book.n_pool_left,
            last=reports[-1] if reports else None,
            history=tuple(_line(report) for report in reports),
            problems=tuple(f"{path}: {reason}" for path, reason in state.problems()),
            unreadable=tuple(
                f"task {label.task_id}, annotation {label.annotation_id}: {label.problem}"
                for given in labels.values()
                for label in given
                if label.problem is not None
            ),
            amendments=tuple(state.amendments()),
            amending=tuple(state.amending(settings.frozen_part())),
        )


def draw_project(settings: Settings, path: Path) -> None:
    """Draw the learning curves and the evidence of a project, from its state and embeddings alone.

    Raises:
        BadInput: The project was not started, or nothing can be drawn yet.
    """
    draw_assessment(assess_again(settings), settings, path)


def assess_again(settings: Settings) -> Assessment:
    """Judge a project's labels as its next turn would, from its state and embeddings alone.

    Raises:
        BadInput: The project was not started, or has no label yet.
    """
    with State.open(settings.state_url) as state:
        features = open_features(settings, state)
        book, last = open_book(state, features, settings), state.last_round()
        if not book.items or last is None:
            raise BadInput("There is no label yet, so there is no curve. Label the first batch, then step.")
        pool = [item.item for item in state.items() if features.has(item.item)]
        projection = project_pool(features, pool, settings)
        return assess(book, features, projection, settings, last.number, read_history(state))


def draw_assessment(last: Assessment, settings: Settings, path: Path) -> None:
    """Draw learning curves and evidence to a .png or .svg file.

    Raises:
        BadInput: No finding has a curve yet.
    """
    infos = [
        curve_info(curve, last.forecasts.get(name), settings.target_of(name), settings.forecast.level)
        for name, curve in last.curves.items()
    ]
    if not infos:
        raise BadInput("No finding has enough labels for a curve yet. Go on labelling.")
    save(draw_curves(infos, {name: last.evidence[name] for name in last.curves}), path)


def _count(book: Book, k: int) -> FindingCount:
    y, random = book.y[:, k], book.y[book.is_random, k]
    return FindingCount(
        positives=int((y == 1).sum()),
        negatives=int((y == 0).sum()),
        random_positives=int((random == 1).sum()),
        random_negatives=int((random == 0).sum()),
        unknown=int((y != y).sum()),
    )


def _line(report: StepReport) -> RoundLine:
    return RoundLine(
        round=report.round,
        at=report.at,
        labels=report.labels.total,
        verdict=report.verdict,
        asked=report.batch.size if report.batch else 0,
        findings={name: told.verdict for name, told in report.findings.items()},
        aucs={name: told.auc for name, told in report.findings.items()},
    )
