"""From labels and features to a probe, a forecast, evidence and a decision: where the three rooms meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from forecasting.certificate import Evidence, Price, price, weigh_evidence
from forecasting.curve import LearningCurve, estimate_curves
from forecasting.errors import NoFit
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import Forecast, fit_bayes, prob_mean_reached
from forecasting.promises import promise_path
from forecasting.reasons import say_score
from forecasting.scorekeeping import Score, score_forecasts
from forecasting.stopping import Decision, ProjectDecision, Rules, Verdict, decide_finding, decide_project
from forecasting.together import certify_together, n_sharing
from forecasting.widening import narrow_form, widen
from loop.book import Book
from loop.features import Features
from loop.history import read_promises, take_looks
from loop.probe import Probe, Projection, fit_probe, make_scorer
from loop.report import (
    CurvePoint,
    EvidenceReport,
    FindingReport,
    ForecastReport,
    HorizonReport,
    IntervalReport,
    LabelsNeeded,
    NextBatch,
    PathReport,
    ScoreReport,
    StepReport,
)
from loop.settings import Settings


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything that a turn concludes from the labels so far.

    Attributes:
        probe: One logistic head a finding; a head without enough labels is not fitted.
        curves: Learning curve of each finding that can have one.
        forecasts: Its forecast, from ``forecast.from_labels`` labels on, as wide as the score says.
        evidence: What the certificate has seen, per finding.
        decisions: Verdict, reason, remedy and price per finding.
        project: CONTINUE or STOP, and why.
        bets: Whether the certificate may bet on the next batch's random images, per finding; decided
            before their labels exist.
        reports: The same, per finding, for people and files.
        score: How well the earlier forecasts held.
    """

    probe: Probe
    curves: Mapping[str, LearningCurve]
    forecasts: Mapping[str, Forecast]
    evidence: Mapping[str, Evidence]
    decisions: Mapping[str, Decision]
    project: ProjectDecision
    bets: Mapping[str, bool]
    reports: Mapping[str, FindingReport]
    score: Score


def assess(
    book: Book,
    features: Features,
    projection: Projection,
    settings: Settings,
    round_number: int,
    history: Sequence[StepReport] = (),
) -> Assessment:
    """Train the probe, refit the learning curves, weigh the certificate and decide.

    The same book and history give the same assessment: all randomness comes from ``[project.seed, round_number]``.

    Args:
        book: The labels, booked by stream.
        features: Embeddings of at least the book's items.
        projection: Standardisation and PCA of the pool.
        settings: Targets, rules and levels.
        round_number: The round whose labels are judged.
        history: Every earlier report: its forecasts are scored on the labels that came after it.
    """
    seeds = np.random.SeedSequence([settings.project.seed, round_number]).spawn(2)
    probe_rng, curve_rng = (np.random.default_rng(seed) for seed in seeds)
    names = book.findings
    rules = {name: rules_for(name, settings) for name in names}
    raw = features.read(book.items)  # (n, d)
    probe = fit_probe(raw, book.y, book.patients, names, projection, probe_rng)

    random = book.y[book.is_random]  # (n_random, K)
    positives = np.nansum(book.y == 1, axis=0)  # (K,)
    negatives = np.nansum(book.y == 0, axis=0)  # (K,)
    can_tell = [k for k in range(len(names)) if probe.fitted[k]]
    curves: dict[str, LearningCurve] = {}
    forecasts: dict[str, Forecast] = {}
    if can_tell and len(book.items) >= settings.forecast.from_labels:
        y = book.y[:, can_tell]
        estimated = estimate_curves(
            [names[k] for k in can_tell],
            y,
            book.patients,
            make_scorer(projection.transform(raw), y, probe.strength[can_tell]),
            curve_rng,
            is_random=book.is_random,
        )
        curves = {curve.finding: curve for curve in estimated}
        fitted = (
            fit_bayes(estimated, settings.read_prior())
            if settings.forecast.method == "bayes"
            else _fit_nls(estimated)
        )
        forecasts = {forecast.finding: forecast for forecast in fitted}
    score = score_forecasts(read_promises(history), take_looks(book, history), settings.forecast.level)
    forecasts = {name: widen(forecast, score.widening) for name, forecast in forecasts.items()}

    alpha, correction = settings.stop.alpha, settings.stop.correction
    evidence = certify_together(
        {
            name: weigh_evidence(book.asked[name], rules[name].target, rules[name].tolerance, alpha)
            for name in names
        },
        alpha,
        correction,
    )
    prices = {
        name: price(evidence[name], forecasts[name].auc(forecasts[name].n).mean, _prevalence(book, k))
        for k, name in enumerate(names)
        if name in forecasts
    }
    decisions = {
        name: decide_finding(
            name,
            forecasts.get(name),
            int(positives[k]),
            int(negatives[k]),
            evidence[name],
            prices.get(name),
            rules[name],
            n_random=(int((random[:, k] == 1).sum()), int((random[:, k] == 0).sum())),
        )
        for k, name in enumerate(names)
    }
    rule = settings.stop.rule if isinstance(settings.stop.rule, str) else tuple(settings.stop.rule)
    project = decide_project(
        list(decisions.values()),
        rule,
        settings.stop.evidence,
        len(book.items),
        settings.stop.budget,
        book.n_pool_left,
        p_mean=_prob_mean(forecasts, names, settings),
        alpha=alpha,
        n_sharing=n_sharing(len(names), correction),
    )
    return Assessment(
        probe=probe,
        curves=curves,
        forecasts=forecasts,
        evidence=evidence,
        decisions=decisions,
        project=project,
        bets={
            name: name in forecasts
            and forecasts[name].prob_reached(rules[name].target - rules[name].tolerance) >= 0.5
            for name in names
        },
        reports={
            name: report_finding(
                book,
                k,
                rules[name],
                forecasts.get(name),
                curves.get(name),
                evidence[name],
                prices.get(name),
                decisions[name],
                settings.forecast.level,
                _next_size(book, settings),
            )
            for k, name in enumerate(names)
        },
        score=score,
    )


def _fit_nls(curves: Sequence[LearningCurve]) -> list[Forecast]:
    """Fit what can be fitted; a curve that cannot has no forecast yet."""
    fitted = []
    for curve in curves:
        with suppress(NoFit):
            fitted.append(fit_nls(curve))
    return fitted


def rules_for(finding: str, settings: Settings) -> Rules:
    """The stopping rules of one finding, as the settings have them."""
    return Rules(
        target=settings.target_of(finding),
        alpha=settings.stop.alpha,
        tolerance=settings.stop.tolerance,
        forecast_from=settings.forecast.from_labels,
        n_sharing=n_sharing(len(settings.project.findings), settings.stop.correction),
    )


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
) -> FindingReport:
    """Put one finding's numbers and words side by side."""
    y = book.y[:, k]
    told = None
    if forecast is not None:
        n_next = next_size * float(np.mean(~np.isnan(y)))  # labels of this finding in the next batch
        told = report_forecast(forecast, rules.target, level, book.median_look_s, n_next)
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
            price_positives=_finite(cost.positives) if cost else None,
            price_labels=_finite(cost.labels) if cost else None,
        ),
        verdict=str(decision.verdict),
        reason=decision.reason,
        remedy=decision.remedy,
        price=decision.price,
        selection_bias_se=curve.bias_se if curve else None,
        design_effect=curve.design_effect if curve else 1.0,
        curve=report_curve(curve) if curve else (),
    )


def report_curve(curve: LearningCurve) -> tuple[CurvePoint, ...]:
    """The points of a curve as plain values."""
    points = zip(curve.sizes, curve.effective, curve.auc, strict=True)
    return tuple(CurvePoint(float(n), float(m), float(auc)) for n, m, auc in points)


def report_forecast(
    forecast: Forecast, target: float, level: float, median_look_s: float | None, n_next: float = 0.0
) -> ForecastReport:
    """Look at a forecast from now: AUC now, at four times the labels, far out, labels until the target, next batch.

    Beside them stands the promise in the form in which it will be scored.
    """
    fitted, widened = narrow_form(forecast)
    now, ahead, plateau = (
        IntervalReport(i.mean, i.low, i.high, i.level)
        for i in (
            forecast.auc(forecast.n, level),
            forecast.auc(4 * forecast.n, level),
            forecast.plateau(level),
        )
    )
    total = forecast.labels_needed(target)
    low, mid, high = (_to_go(n, forecast.n) for n in (total.low, total.median, total.high))
    tail = forecast.tail()
    return ForecastReport(
        method=forecast.method,
        now=now,
        at_4x=ahead,
        plateau=plateau,
        p_reached=forecast.prob_reached(target),
        p_reachable=forecast.prob_plateau(target),
        labels_needed=LabelsNeeded(
            low, mid, high, total.level, _hours(low, median_look_s), _hours(high, median_look_s)
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
        gain=IntervalReport(gain.mean, gain.low, gain.high, gain.level),
        p_reached=forecast.prob_reached(target, forecast.n + n_next),
    )


def _next_size(book: Book, settings: Settings) -> int:
    """Images that the next batch can hold."""
    budget = settings.stop.budget
    left = book.n_pool_left if budget is None else min(book.n_pool_left, budget - len(book.items))
    return max(0, min(settings.batch.size, left))


def _to_go(total: float, n: int) -> float | None:
    return max(total - n, 0.0) if np.isfinite(total) else None


def _hours(labels: float | None, median_look_s: float | None) -> float | None:
    return None if labels is None or median_look_s is None else labels * median_look_s / 3600


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _prevalence(book: Book, k: int) -> float:
    """Share of positives on the random stream's labels; of all labels where there are few; never 0."""
    for y in (book.y[book.is_random, k], book.y[:, k]):
        known = y[~np.isnan(y)]
        if (known == 1).sum() >= 5:
            break
    return float(((known == 1).sum() + 0.5) / (len(known) + 1))


def _prob_mean(forecasts: Mapping[str, Forecast], names: tuple[str, ...], settings: Settings) -> float | None:
    if settings.stop.rule != "mean":
        return None
    if len(forecasts) < len(names):
        return None  # a finding without a forecast keeps the mean open
    target = float(np.mean([settings.target_of(name) for name in names]))
    return prob_mean_reached([forecasts[name] for name in names], target)
