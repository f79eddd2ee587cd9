"""Results told as report records: numbers and words side by side, for people and files. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from forecasting.calibration import Calibration
from forecasting.certificate import Evidence, Price
from forecasting.curve import LearningCurve
from forecasting.powerlaw import Forecast, Interval
from forecasting.promises import promise_path
from forecasting.reasons import say_saving, say_score
from forecasting.saving import Saving
from forecasting.scorekeeping import Score
from forecasting.stopping import Decision, Rules, Verdict
from forecasting.widening import narrow_form
from forecasting.words import counted
from loop.book import Book
from loop.step_findings import (
    BinReport,
    CalibrationReport,
    CurvePoint,
    EvidenceReport,
    FindingReport,
    ForecastReport,
    IntervalReport,
    LabelsNeeded,
    MeasuredReport,
    NextBatch,
    PathReport,
)
from loop.step_report import HorizonReport, LabelCount, SavingReport, ScoreReport, TrialReport, finite
from loop.strategy_trial import Trial
from loop.work import Work

TAKEN = 0.05
"""Share of the random stream above which images that were picked by hand out of it are worth a warning."""


def report_finding(
    book: Book,
    k: int,
    rules: Rules,
    forecast: Forecast | None,
    curve: LearningCurve | None,
    evidence: Evidence,
    cost: Price | None,
    decision: Decision,
    level: float,
    next_size: int,
    calibration: Calibration | None = None,
) -> FindingReport:
    """Put one finding's numbers and words side by side."""
    y = book.y[:, k]
    told = None
    if forecast is not None:
        n_next = next_size * float(np.mean(~np.isnan(y)))  # labels of this finding in the next batch
        told = report_forecast(forecast, rules.target, level, book.work, n_next)
    return FindingReport(
        target=rules.target,
        positives=int((y == 1).sum()),
        negatives=int((y == 0).sum()),
        unknown=int(np.isnan(y).sum()),
        auc=told.now.mean if told else None,
        auc_low=told.now.low if told else None,
        auc_high=told.now.high if told else None,
        auc_crossfit=float(curve.auc[-1]) if curve and len(curve.auc) else None,
        selection_bias=curve.bias if curve else None,
        forecast=told,
        evidence=EvidenceReport(
            tested=evidence.tested,
            log_e=evidence.log_e,
            needed=evidence.threshold,
            positives=evidence.n_positive,
            negatives=evidence.n_negative,
            unknown=evidence.n_unknown,
            price_positives=finite(cost.positives) if cost else None,
            price_labels=finite(cost.labels) if cost else None,
        ),
        verdict=str(decision.verdict),
        reason=decision.reason,
        remedy=decision.remedy,
        price=decision.price,
        selection_bias_se=curve.bias_se if curve else None,
        design_effect=curve.design_effect if curve else 1.0,
        curve=report_curve(curve) if curve else (),
        calibration=report_calibration(calibration),
    )


def report_curve(curve: LearningCurve) -> tuple[CurvePoint, ...]:
    """The points of a curve as plain values."""
    points = zip(curve.sizes, curve.effective, curve.auc, strict=True)
    return tuple(CurvePoint(float(n), float(m), float(auc)) for n, m, auc in points)


def report_interval(interval: Interval) -> IntervalReport:
    """An interval as plain values."""
    return IntervalReport(interval.mean, interval.low, interval.high, interval.level)


def report_forecast(
    forecast: Forecast, target: float, level: float, work: Work | None, n_next: float = 0.0
) -> ForecastReport:
    """Look at a forecast from now: AUC now, at four times the labels, far out, labels until the target, next batch.

    Beside them stands the promise in the form in which it will be scored.
    """
    fitted, widened = narrow_form(forecast)
    now, ahead, plateau = (
        report_interval(i)
        for i in (
            forecast.auc(forecast.n, level),
            forecast.auc(4 * forecast.n, level),
            forecast.plateau(level),
        )
    )
    total = forecast.labels_needed(target)
    low, mid, high = (finite(max(n - forecast.n, 0.0)) for n in (total.low, total.median, total.high))
    tail = forecast.tail()
    return ForecastReport(
        method=forecast.method,
        now=now,
        at_4x=ahead,
        plateau=plateau,
        p_reached=forecast.prob_reached(target),
        p_reachable=forecast.prob_plateau(target),
        labels_needed=LabelsNeeded(
            low, mid, high, total.level, *(work.hours(low, high) if work else (None, None))
        ),
        tail={"a": tail.a, "b": tail.b, "c": tail.c},
        next_batch=_next_batch(forecast, target, level, n_next) if n_next > 0 else None,
        path=tuple(PathReport(point.n, point.center, point.sd) for point in promise_path(fitted, level)),
        widened=widened,
    )


def report_score(score: Score) -> ScoreReport | None:
    """Put a score's numbers and words side by side; None before there is one."""
    if not score.scored:
        return None
    return ScoreReport(
        level=score.level,
        scored=score.scored,
        held=score.held,
        coverage=score.coverage,
        widening=score.widening,
        said=say_score(score),
        horizons=tuple(
            HorizonReport(told.horizon, told.scored, told.held, told.error, told.error_se)
            for told in score.horizons
        ),
    )


def report_saving(saving: Saving | None) -> SavingReport | None:
    """Put what was saved in numbers and words."""
    if saving is None:
        return None
    return SavingReport(
        n=saving.n,
        saved=finite(saving.saved),
        low=saving.low,
        high=finite(saving.high),
        level=saving.level,
        shows=saving.shows,
        difference=saving.difference,
        difference_se=saving.difference_se,
        said=say_saving(saving),
    )


def report_trial(trial: Trial | None, trusted: bool) -> TrialReport | None:
    """A trial as plain values."""
    if trial is None:
        return None
    return TrialReport(trial.strategy, trial.n, trial.difference, trial.low, trial.high, trial.level, trusted)


def report_calibration(told: Calibration | None) -> CalibrationReport | None:
    """A calibration as plain values."""
    if told is None:
        return None
    intercept, slope, brier = (
        MeasuredReport(one.value, one.low, one.high) for one in (told.intercept, told.slope, told.brier)
    )
    return CalibrationReport(
        n=told.n,
        predicted=told.predicted,
        observed=told.observed,
        intercept=intercept,
        slope=slope,
        brier=brier,
        brier_base=told.brier_base,
        level=told.level,
        curve=tuple(BinReport(b.predicted, b.observed, b.low, b.high, b.n) for b in told.curve),
        offset=told.offset,
        scale=told.scale,
    )


def mean_gain(reports: Iterable[FindingReport]) -> float | None:
    """AUC that the next batch is expected to bring, mean over the findings that keep labelling; None = nobody can say."""
    gains = [
        told.forecast.next_batch.gain.mean
        for told in reports
        if told.verdict == Verdict.KEEP_LABELLING and told.forecast and told.forecast.next_batch
    ]
    return float(np.mean(gains)) if gains else None


def _next_batch(forecast: Forecast, target: float, level: float, n_next: float) -> NextBatch:
    gain = forecast.gain(n_next, level)
    return NextBatch(
        labels=n_next,
        gain=report_interval(gain),
        p_reached=forecast.prob_reached(target, forecast.n + n_next),
    )


def tell_unreadable(n: int) -> list[str]:
    """A warning if some annotations could not be read; nobody should go on giving such ones."""
    if not n:
        return []
    return [
        f"{counted(n, 'annotation')} could not be read and said nothing: `loop status` lists each with its reason."
    ]


def tell_taken(count: LabelCount) -> list[str]:
    """A warning if so many random images were picked by hand that those left may be no fair sample of the archive."""
    n = count.random_taken
    if n <= TAKEN * (count.random_asked + n):
        return []
    return [
        f"Picked by hand before their turn: {counted(n, 'image')} of the random stream, beside {count.random_asked:,} that were "
        "asked. They are no evidence, and if they were picked for what they show, those left are no fair sample and the "
        "certificate can err: ask annotators to label what the queue gives them."
    ]


def tell_revised(revised: Mapping[str, int]) -> list[str]:
    """What a project lead should know about labels that were changed after the certificate had counted them."""
    told = [f"{name} {n}" for name, n in revised.items() if n]
    if not told:
        return []
    return [
        f"Labels of random images were changed or withdrawn after the certificate had counted them ({', '.join(told)}). It keeps "
        "them as it read them; the probe and the forecast use them as they are now. Where they were mistakes, "
        "`loop step --recount` corrects the evidence, once; that is stored and shown with every verdict."
    ]
