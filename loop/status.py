"""Where a project stands, from the state alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from forecasting.plots import curve_info, draw_curves, save
from forecasting.powerlaw import Interval
from forecasting.words import listed
from loop.agreement import AgreementReport, measure_agreement, warn_of_ceilings
from loop.assess import Assessment, assess
from loop.book import Book
from loop.cold_start import open_zero_shot
from loop.errors import BadInput
from loop.opening import last_decision, open_book, open_book_of, project_pool, read_history
from loop.readings import asked_from_random, labels_by_item, readers_of, reviewed_at
from loop.settings import Settings
from loop.start import open_features
from loop.state import Rollback, State
from loop.step_report import LabelCount, StepReport, as_json
from loop.zero_shot import ZeroShotReport, measure_zero_shot


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One decision of the past: AUC is the mean over the findings that had a forecast.

    Attributes:
        undone: A rollback took it back.
    """

    round: int
    at: datetime
    labels: int
    verdict: str
    asked: int
    findings: Mapping[str, str]
    aucs: Mapping[str, float | None]
    undone: bool = False


@dataclass(frozen=True, slots=True)
class FindingCount:
    """Labels of one finding; the first two are of all streams.

    Attributes:
        random_unknown: Random images that were answered, but not this: "cannot tell", or annotators disagree.
    """

    positives: int
    negatives: int
    random_positives: int
    random_negatives: int
    unknown: int
    random_unknown: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a project stands.

    Attributes:
        labels: Images by stream and fate, of everything pulled so far.
        findings: Labels by finding and stream.
        outstanding: Images of the present batch that nobody had answered at the last pull.
        pool_left: Images that can still be asked.
        last: The decision in force; its findings hold AUC, forecast, verdict and evidence.
        history: Every decision, oldest first.
        problems: Images that could not be used, each with its reason.
        unreadable: Annotations that could not be read, each with its reason.
        amendments: What was changed in the frozen settings since the start.
        amending: What the settings given now would change in them at the next step.
        zero_shot: Zero labels, by finding: AUC of the texts that ordered the first batch; empty if none did.
        agreement: How well the annotators agree, by finding; empty while no image was labelled by two.
        warnings: Targets that the annotators' disagreement puts out of reach.
        rollbacks: Every going back to an earlier round, each as one sentence, oldest first.
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
    zero_shot: Mapping[str, ZeroShotReport] = field(default_factory=dict)
    agreement: Mapping[str, AgreementReport] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rollbacks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The status as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def read_status(settings: Settings) -> Status:
    """Read a project's status; Label Studio is not asked.

    Raises:
        BadInput: The project was not started.
    """
    with State.started(settings.state_url) as state:
        return status_of(settings, state)


def status_of(settings: Settings, state: State) -> Status:
    """The status of a project whose state is open."""
    labels = state.labels()
    book = open_book_of(state.items(), state, settings)
    reports = read_history(state)
    zero_shot = _zero_shot(settings, state, book)
    agreement = _agreement(settings, state, book)
    return Status(
        project=settings.project.name,
        folder=str(settings.folder),
        labels=book.count,
        findings={name: _count(book, k) for k, name in enumerate(book.findings)},
        outstanding=len(book.outstanding),
        batch_size=book.batch_size,
        pool_left=book.n_pool_left,
        last=last_decision(state),
        history=tuple(
            _line(report, zero_shot, undone)
            for report, undone in zip(reports, state.undone_reports(), strict=True)
        ),
        problems=tuple(f"{path}: {reason}" for path, reason in state.problems()),
        unreadable=tuple(
            f"task {label.task_id}, annotation {label.annotation_id}: {label.problem}"
            for given in labels.values()
            for label in given
            if label.problem is not None
        ),
        amendments=tuple(state.amendments()),
        amending=tuple(state.amending(settings.frozen_part())),
        zero_shot=zero_shot,
        agreement=agreement,
        warnings=warn_of_ceilings(agreement),
        rollbacks=tuple(_tell_rollback(one) for one in state.rollbacks()),
    )


def draw_project(settings: Settings, path: Path) -> None:
    """Draw the learning curves and the evidence of a project, from its state and embeddings alone.

    Raises:
        BadInput: The project was not started, or nothing can be drawn yet.
    """
    with State.started(settings.state_url) as state:
        zero_shot = _zero_shot(settings, state, open_book_of(state.items(), state, settings))
    draw_assessment(assess_again(settings), settings, path, zero_shot)


def assess_again(settings: Settings) -> Assessment:
    """Judge a project's labels as its next turn would, from its state and embeddings alone.

    Raises:
        BadInput: The project was not started, or has no label yet.
    """
    with State.started(settings.state_url) as state:
        features = open_features(settings, state)
        book, last = open_book(state, features, settings), state.n_rounds()
        if not book.items or not last:
            raise BadInput("There is no label yet, so there is no curve. Label the first batch, then step.")
        pool = [item.item for item in state.items() if features.has(item.item)]
        projection = project_pool(features, pool, settings)
        return assess(book, features, projection, settings, last, read_history(state))


def draw_assessment(
    last: Assessment, settings: Settings, path: Path, zero_shot: Mapping[str, ZeroShotReport] | None = None
) -> None:
    """Draw learning curves and evidence to a .png or .svg file, and what zero labels gave where it is known.

    Raises:
        BadInput: No finding has a curve yet.
    """
    infos = [
        replace(
            curve_info(curve, last.forecasts.get(name), settings.target_of(name), settings.forecast.level),
            zero=_interval((zero_shot or {}).get(name)),
        )
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
        random_unknown=book.random_unknown[book.findings[k]],
    )


def _agreement(settings: Settings, state: State, book: Book) -> dict[str, AgreementReport]:
    """How well the annotators agree; empty while no image was labelled by two."""
    labels = labels_by_item(state)
    if all(len(readers) < 2 for readers in readers_of(state).values()):
        return {}
    measured = measure_agreement(
        labels,
        {name: settings.target_of(name) for name in book.findings},
        random=asked_from_random(state.rounds()),
        reviewed=reviewed_at(state),
        level=settings.forecast.level,
        seed=settings.project.seed,
    )
    return {name: replace(told, by_majority=book.by_majority.get(name)) for name, told in measured.items()}


def _zero_shot(settings: Settings, state: State, book: Book) -> dict[str, ZeroShotReport]:
    """What zero labels gave, measured on the random stream; empty if the first batch was all random."""
    zero_shot = open_zero_shot(settings, state)
    return {} if zero_shot is None else measure_zero_shot(zero_shot, book, settings.forecast.level)


def _interval(told: ZeroShotReport | None) -> Interval | None:
    if told is None or told.auc is None:
        return None
    return Interval(told.auc.mean, told.auc.low, told.auc.high, told.auc.level)


def _line(report: StepReport, zero_shot: Mapping[str, ZeroShotReport], undone: bool) -> RoundLine:
    """A decision of the past; round 0 is the one that no label stood behind, so its AUCs are those of the texts."""
    before = {name: None if told.auc is None else told.auc.mean for name, told in zero_shot.items()}
    return RoundLine(
        round=report.round,
        at=report.at,
        labels=report.labels.total,
        verdict=report.verdict,
        asked=report.batch.size if report.batch else 0,
        findings={name: told.verdict for name, told in report.findings.items()},
        aucs=before if report.round == 0 else {name: told.auc for name, told in report.findings.items()},
        undone=undone,
    )


def _tell_rollback(rollback: Rollback) -> str:
    n = len(rollback.undone)
    undone = (
        f"{'round' if n == 1 else 'rounds'} {listed([str(number) for number in rollback.undone])} undone, with the "
        f"{'decision that asked it' if n == 1 else 'decisions that asked them'}"
        if n
        else "the verdict undone"
    )
    rest = "" if rollback.finished else "; Label Studio does not know yet, the next command tells it"
    return f"{rollback.at:%Y-%m-%d %H:%M}: back to round {rollback.to_round}, {undone}{rest}"
