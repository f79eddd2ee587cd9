"""What is told of one finding, as plain values: AUC, forecast, evidence, calibration, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
        hours_low: Hours of work for ``low``, by the lower end of the mean seconds behind an image; null without a history of times.
        hours_high: For ``high``, by the upper end.
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
        offset: What mends the probabilities: a logit l becomes ``offset + scale l``; `loop export` does it.
        scale: Above 0.
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
    offset: float = 0.0
    scale: float = 1.0


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
