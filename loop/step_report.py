"""What one turn of the loop has to say, as plain values: printed, stored, and given out as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

from loop.step_findings import FindingReport


@dataclass(frozen=True, slots=True)
class LabelCount:
    """Images by what happened to them.

    Attributes:
        total: Images with at least one answer known, used for training.
        random: Of these, asked from the random stream.
        active: Of these, asked from the active part.
        unasked: Of these, labelled without having been asked; less ``overrun`` and ``declared``, they were picked by hand.
        unknown: Images answered, but with no finding known (cannot tell, disagreement).
        skipped: Images skipped by everyone who saw them.
        unreadable: Annotations that could not be read; kept raw, see ``loop status``.
        unread: Images of which no answer could be read; they are not among the unknown.
        foreign: Labelled tasks that are none of our images.
        set_aside: Labelled images of a random-stream patient other than the asked one; they do not train.
        overrun: Of the unasked, labelled after the queue had run dry.
        declared: Of the unasked, there before the first batch, and declared a random sample by the settings.
        random_asked: Images of the random stream that were asked so far.
        random_answered: Of these, answered; a skip is an answer.
        random_skipped: Of these, skipped by everyone who saw them: they tell the certificate nothing.
        random_unread: Of these, images of which no answer could be read: as little.
        random_taken: Images of the random stream that somebody picked by hand before it was their turn: never evidence.
    """

    total: int
    random: int
    active: int
    unasked: int
    unknown: int
    skipped: int
    unreadable: int
    foreign: int
    set_aside: int
    overrun: int = 0
    random_asked: int = 0
    random_answered: int = 0
    random_skipped: int = 0
    random_taken: int = 0
    declared: int = 0
    unread: int = 0
    random_unread: int = 0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The batch that annotators see next; ``double`` of its images are read by two of them."""

    round: int
    version: str
    size: int
    random: int
    active: int
    strategy: str
    double: int = 0


@dataclass(frozen=True, slots=True)
class HorizonReport:
    """Earlier intervals at one horizon against the fresh random labels that came after them.

    Attributes:
        horizon: Times the labels of the promise: 1 = AUC now.
        scored: Intervals scored.
        held: Those that held.
        error: Observed less promised AUC, on average.
        error_se: Its standard error.
    """

    horizon: int
    scored: int
    held: int
    error: float
    error_se: float


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """How well earlier forecasts of this project held.

    Attributes:
        level: Of the intervals.
        scored: Intervals scored.
        held: Those that held.
        coverage: Share that held; null before the first.
        widening: How many times as wide as fitted this report's intervals are; 1 = as they are.
        said: All of it as one sentence.
        horizons: The same by horizon.
    """

    level: float
    scored: int
    held: int
    coverage: float | None
    widening: float
    said: str
    horizons: tuple[HorizonReport, ...]


@dataclass(frozen=True, slots=True)
class SavingReport:
    """What active selection has saved so far, against random labels.

    Attributes:
        n: Random and active labels behind it.
        saved: Labels; null = the curves do not say how many.
        low: Lower end of the interval; below 0 = labels that it may have cost.
        high: Upper end; null = no end in sight.
        level: Of the interval.
        shows: 1 = it has saved labels, -1 = it has cost labels, 0 = nothing that can be shown.
        difference: AUC that the project's labels are ahead of as many random ones, mean over findings and sizes.
        difference_se: Its standard error.
        said: All of it as one sentence.
    """

    n: int
    saved: float | None
    low: float
    high: float | None
    level: float
    shows: int
    difference: float
    difference_se: float
    said: str


@dataclass(frozen=True, slots=True)
class TrialReport:
    """How the strategy did against random on the random labels that are there, before it chose the batch.

    Attributes:
        strategy: What was tried.
        n: Random labels.
        difference: AUC by the strategy less AUC at random.
        low: Lower end of its interval.
        high: Upper end; below 0 = it is worse.
        level: Of the interval.
        trusted: Whether it chose the batch.
    """

    strategy: str
    n: int
    difference: float
    low: float
    high: float
    level: float
    trusted: bool


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one turn saw, decided and did.

    Attributes:
        project: The project's name.
        round: The round whose labels were judged; the batch asked, if any, belongs to the next one.
        at: When, UTC.
        action: ``pushed``, ``waiting``, ``stopped``, ``completed`` (an interrupted turn was finished),
            each with `` (dry run)`` behind it if nothing was changed.
        labels: Images by stream and fate.
        pulled: Annotations new, changed or withdrawn in this pull.
        outstanding: Images of the present batch that nobody has answered yet.
        verdict: CONTINUE or STOP.
        batch: What was asked, if anything.
        amendments: Settings changed after the start, each as one sentence.
        warnings: What looked odd, each with its remedy.
        next_gain: AUC that the next batch is expected to bring, mean over the findings that keep labelling.
        score: How well earlier forecasts held; null before there is one, and while a batch is waited for.
        encoder: The frozen model behind the features.
        saving: What active selection has saved; null while there are too few labels to tell.
        trial: How the strategy did against random on the labels that are there; null below 80 random ones.
        settings: The frozen settings and the budget by which it was decided; empty where an older release decided.
    """

    project: str
    round: int
    at: datetime
    action: str
    verdict: str
    reason: str
    remedy: str
    labels: LabelCount
    pulled: int
    outstanding: int
    findings: Mapping[str, FindingReport] = field(default_factory=dict)
    batch: BatchReport | None = None
    amendments: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    next_gain: float | None = None
    score: ScoreReport | None = None
    encoder: str = ""
    saving: SavingReport | None = None
    trial: TrialReport | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready values; what is not a finite number becomes null."""
        told: dict[str, Any] = as_json(self)
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> StepReport:
        """Read a stored report back, of this release or an earlier one."""
        report: StepReport = _reader().validate_python(dict(told))
        return report


@cache
def _reader() -> TypeAdapter[StepReport]:
    """Made once: making it is dearer than reading a hundred reports."""
    from pydantic import TypeAdapter

    return TypeAdapter(StepReport)


def as_json(value: Any) -> Any:
    """Turn reports into JSON-ready values: dataclasses to objects, times and days to ISO 8601, NaN and infinity to null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    return finite(value)


def finite(value: float) -> float | None:
    """A number as JSON can hold it: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None
