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


@dataclass(frozen=True, slots=True)
class IntervalReport:
    """A value on [0, 1] with the interval that holds it at probability ``level``."""

    mean: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class LabelsNeeded:
    """Labels still to be made for the target, as a range; None where no limit is visible.

    Attributes:
        low: Additional labels of this finding at the lower end of the range.
        median: In the middle of it.
        high: At the upper end.
        level: Probability that the range holds the number, given the forecast.
        hours_low: ``low`` at the annotators' median pace so far, hours; null without a history of times.
        hours_high: ``high`` at the same pace, hours.
    """

    low: float | None
    median: float | None
    high: float | None
    level: float
    hours_low: float | None = None
    hours_high: float | None = None


@dataclass(frozen=True, slots=True)
class NextBatch:
    """What the labels of one more batch are expected to bring to a finding.

    Attributes:
        labels: Labels of this finding in it: as large a share of its images as so far.
        gain: AUC that they add to the mean curve; the interval is that of the difference.
        p_reached: Probability that AUC is at least the target after them.
    """

    labels: float
    gain: IntervalReport
    p_reached: float


@dataclass(frozen=True, slots=True)
class PathReport:
    """AUC promised at one number of labels: its probit is about normal. Later labels are held against it.

    Attributes:
        n: Labels of the finding.
        center: Mean of the probit.
        sd: Its standard deviation as fitted, before any widening.
    """

    n: float
    center: float
    sd: float


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """The learning curve of one finding, looked at from now.

    Attributes:
        method: ``bayes`` or ``nls``.
        now: AUC of a probe trained on the labels so far.
        at_4x: AUC after four times the labels.
        plateau: AUC with unlimited labels.
        p_reached: Probability that AUC now is at least the target.
        p_reachable: Probability that the plateau is at least the target.
        labels_needed: Additional labels until the target.
        tail: ``a``, ``b``, ``c`` of AUC = a - b n^-c, the curve far out.
        next_batch: What one more batch brings; None where none can be asked.
        path: The promise, as it will be scored; empty in reports from before scores were kept.
        widened: How many times as wide as fitted intervals are, because earlier ones failed.
    """

    method: str
    now: IntervalReport
    at_4x: IntervalReport
    plateau: IntervalReport
    p_reached: float
    p_reachable: float
    labels_needed: LabelsNeeded
    tail: Mapping[str, float | None]
    next_batch: NextBatch | None = None
    path: tuple[PathReport, ...] = ()
    widened: float = 1.0


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """How far the certificate has come, on random images scored before their labels existed.

    Attributes:
        tested: The AUC that is tested: target minus tolerance.
        log_e: Log of the largest capital so far.
        needed: Log capital that certifies: log(m / alpha), where m findings share alpha.
        positives: Positives of the random stream used so far.
        negatives: Negatives used so far.
        unknown: Random images that were skipped or answered "cannot tell"; leaving out hard ones flatters.
        price_positives: Further random positives needed, at the AUC of the forecast; null = not in sight.
        price_labels: The same in labels of the random stream.
    """

    tested: float
    log_e: float
    needed: float
    positives: int
    negatives: int
    unknown: int
    price_positives: float | None
    price_labels: float | None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a learning curve, less what active selection does to it.

    Attributes:
        n: Known labels of the finding behind it, a mean over training parts.
        effective: Effective size ``n1 n0 / (n1 + n0)``, likewise.
        auc: Out of fold.
    """

    n: float
    effective: float
    auc: float


@dataclass(frozen=True, slots=True)
class MeasuredReport:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BinReport:
    """A point of a reliability curve: mean probability and share of positives of ``n`` images, with the interval of the share."""

    predicted: float
    observed: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Whether a finding's probabilities mean what they say, on random images whose patients had not trained the probe.

    Attributes:
        n: Images.
        predicted: Mean probability.
        observed: Share of positives.
        intercept: 0 = right in the large; above 0 = more positives than predicted.
        slope: 1 = right; below 1 = the probabilities are too extreme.
        brier: Mean squared error of the probabilities.
        brier_base: That of the share of positives, said of every image.
        level: Of the intervals.
        curve: Reliability curve.
    """

    n: int
    predicted: float
    observed: float
    intercept: MeasuredReport
    slope: MeasuredReport
    brier: MeasuredReport
    brier_base: float
    level: float
    curve: tuple[BinReport, ...]


@dataclass(frozen=True, slots=True)
class FindingReport:
    """One finding after a turn: what is known, what is forecast, what is decided, and why.

    Attributes:
        selection_bias: What active selection did to the AUC of every point; taken out of it.
        selection_bias_se: Standard deviation of what is still unknown of it.
        design_effect: How many images of one patient weigh as one in the error of the AUC; 1 = all are strangers.
        curve: Points of the learning curve, smallest first; what `loop prior fit` reads.
        calibration: Of the probabilities; null below 10 random positives or negatives.
    """

    target: float
    positives: int
    negatives: int
    unknown: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    auc_crossfit: float | None
    selection_bias: float | None
    forecast: ForecastReport | None
    evidence: EvidenceReport | None
    verdict: str
    reason: str
    remedy: str
    price: str
    selection_bias_se: float | None = None
    design_effect: float = 1.0
    curve: tuple[CurvePoint, ...] = ()
    calibration: CalibrationReport | None = None


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
