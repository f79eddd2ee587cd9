"""From labels and features to a probe, a forecast, evidence and a decision: where the three rooms meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecasting.certificate import Evidence, price, weigh_evidence
from forecasting.curve import LearningCurve, estimate_curves
from forecasting.errors import NoFit
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import Forecast, fit_bayes, prob_mean_reached
from forecasting.scorekeeping import Score, score_forecasts
from forecasting.stopping import Decision, ProjectDecision, Rules, decide_finding, decide_project
from forecasting.together import certify_together, n_sharing
from forecasting.widening import widen
from loop.book import Book
from loop.features import Features
from loop.history import read_promises, take_looks
from loop.probe import Probe, Projection, fit_probe, make_scorer
from loop.settings import Settings
from loop.step_findings import FindingReport
from loop.step_report import StepReport
from loop.telling import report_finding
from loop.worth import measure_calibration


class Labelled(Protocol):
    """Labels as a probe and its learning curves need them, n of K findings; every `Book` is one."""

    @property
    def findings(self) -> tuple[str, ...]:
        """K names."""
        ...

    @property
    def y(self) -> NDArray[np.float64]:
        """Labels, shape ``(n, K)``: 1, 0, NaN = not known."""
        ...

    @property
    def patients(self) -> NDArray[np.str_]:
        """Shape ``(n,)``."""
        ...

    @property
    def is_random(self) -> NDArray[np.bool_]:
        """Drawn from the random stream, shape ``(n,)``."""
        ...


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
    names = book.findings
    rules = {name: rules_for(name, settings) for name in names}
    random = book.y[book.is_random]  # (n_random, K)
    positives = np.nansum(book.y == 1, axis=0)  # (K,)
    negatives = np.nansum(book.y == 0, axis=0)  # (K,)
    vectors = features.read(book.items)  # (n, d)
    probe, curves = fit_curves(book, vectors, projection, settings, round_number)
    calibration = measure_calibration(
        book, vectors, projection, probe, np.random.default_rng([settings.project.seed, round_number, 1])
    )
    forecasts = fit_forecasts(curves, settings)
    score = score_forecasts(read_promises(history), take_looks(book, history), settings.forecast.level)
    forecasts = {name: widen(forecast, score.widening) for name, forecast in forecasts.items()}

    evidence = weigh_all(book, settings)
    prices = {
        name: price(evidence[name], forecasts[name].auc(forecasts[name].n).mean, prevalence_of(book, k))
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
            n_patients=(_count_patients(book, k, 1), _count_patients(book, k, 0)),
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
        alpha=settings.stop.alpha,
        n_sharing=n_sharing(len(names), settings.stop.correction),
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
                calibration.get(name),
            )
            for k, name in enumerate(names)
        },
        score=score,
    )


def fit_curves(
    labelled: Labelled,
    features: NDArray[np.float32],
    projection: Projection,
    settings: Settings,
    round_number: int,
) -> tuple[Probe, dict[str, LearningCurve]]:
    """Train the probe and measure the learning curves.

    The same labels give the same folds and training sets, whatever the features: curves of two encoders are paired.

    Args:
        labelled: The labels, n of them.
        features: Raw embeddings, shape ``(n, d)``.
        projection: Standardisation and PCA of the pool.
        settings: ``project.seed``, and ``forecast.from_labels``.
        round_number: All randomness comes from ``[project.seed, round_number]``.

    Returns:
        The probe, and the curve of each finding that can have one.
    """
    seeds = np.random.SeedSequence([settings.project.seed, round_number]).spawn(2)
    probe_rng, curve_rng = (np.random.default_rng(seed) for seed in seeds)
    findings, y, patients = labelled.findings, labelled.y, labelled.patients
    probe = fit_probe(features, y, patients, findings, projection, probe_rng)
    can_tell = np.flatnonzero(probe.fitted)
    if not len(can_tell) or len(y) < settings.forecast.from_labels:
        return probe, {}
    known = y[:, can_tell]
    curves = estimate_curves(
        [findings[k] for k in can_tell],
        known,
        patients,
        make_scorer(projection.transform(features), known, probe.strength[can_tell]),
        curve_rng,
        is_random=labelled.is_random,
    )
    return probe, {curve.finding: curve for curve in curves}


def fit_forecasts(curves: Mapping[str, LearningCurve], settings: Settings) -> dict[str, Forecast]:
    """Fit the learning curves of one project by the method of the settings; deterministic."""
    if not curves:
        return {}
    estimated = list(curves.values())
    fitted: Sequence[Forecast] = (
        fit_bayes(estimated, settings.read_prior())
        if settings.forecast.method == "bayes"
        else _fit_nls(estimated)
    )
    return {forecast.finding: forecast for forecast in fitted}


def weigh_all(book: Book, settings: Settings) -> dict[str, Evidence]:
    """What the certificate has seen, per finding, where findings share alpha as the settings say."""
    told = {}
    for name in book.findings:
        rules = rules_for(name, settings)
        told[name] = weigh_evidence(book.asked[name], rules.target, rules.tolerance, rules.alpha)
    return dict(certify_together(told, settings.stop.alpha, settings.stop.correction))


def _count_patients(book: Book, k: int, value: int) -> int:
    """Patients with a label of this value."""
    return len(np.unique(book.patients[book.y[:, k] == value]))


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


def _next_size(book: Book, settings: Settings) -> int:
    """Images that the next batch can hold."""
    budget = settings.stop.budget
    left = book.n_pool_left if budget is None else min(book.n_pool_left, budget - len(book.items))
    return max(0, min(settings.batch.size, left))


def prevalence_of(book: Book, k: int) -> float:
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
