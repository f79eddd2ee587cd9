"""Encoders on the same labels: the learning curve under each, and what a change to it would save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasting.comparing import Fitted, Switch, compare_encoders, shared_error
from forecasting.powerlaw import Forecast, fit_bayes
from forecasting.widening import widen
from forecasting.words import auc_text, count_text, counted, level_text, range_text
from loop.assess import Labelled, fit_curves
from loop.errors import BadInput
from loop.features import Features
from loop.opening import project_pool
from loop.probe import FEWEST_OF_CLASS
from loop.settings import Settings
from loop.step_findings import CurvePoint, IntervalReport
from loop.step_report import as_json, finite
from loop.telling import report_interval

Range = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One finding under one encoder.

    Attributes:
        now: AUC of a probe trained on the labels there are; None = too few labels for a forecast.
        plateau: AUC with unlimited labels.
        p_reached: Probability that AUC now is at least the target.
        p_reachable: Probability that the plateau is.
        labels_needed: Labels for the target in all, as (low, median, high); None in it = no limit visible.
        labels_level: Probability that the range holds the number.
        curve: Points of the learning curve, smallest first.
    """

    now: IntervalReport | None = None
    plateau: IntervalReport | None = None
    p_reached: float | None = None
    p_reachable: float | None = None
    labels_needed: Range | None = None
    labels_level: float | None = None
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """One encoder: its name, the length of its vectors, and what each finding is under it."""

    encoder: str
    dim: int
    findings: Mapping[str, Candidate]


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """What a change of the encoder brings to one finding.

    Attributes:
        gain: AUC that it adds to the curve now.
        gain_plateau: AUC that it adds to the plateau.
        saved: Labels that it saves as (low, median, high), negative = costs; None in it = without limit on that side.
        saved_level: Probability that the range holds the number.
        p_saves: Probability that it saves a label or more.
        p_costs: Probability that it costs a label or more.
        correlation: Of the errors of both curves, which share their images.
        said: All of it as one sentence; empty where these labels cannot tell.
    """

    before: str
    after: str
    finding: str
    gain: IntervalReport
    gain_plateau: IntervalReport
    saved: Range
    saved_level: float
    p_saves: float
    p_costs: float
    correlation: float
    said: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Encoders on the same labels; the first is the one that a change would be from.

    Attributes:
        labels: Labelled images that all of them have.
        targets: AUC to reach, by finding.
        counts: Positives and negatives, by finding.
        left_out: What plays no part, each with its reason.
        curves: What is drawn: by finding and encoder, curve and forecast.
    """

    labels: int
    targets: Mapping[str, float]
    counts: Mapping[str, tuple[int, int]]
    level: float
    encoders: tuple[EncoderReport, ...]
    switches: tuple[SwitchReport, ...]
    left_out: tuple[str, ...]
    curves: Mapping[str, Mapping[str, tuple[Fitted, Forecast]]]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values, without what is only drawn."""
        names = ("labels", "targets", "level", "encoders", "switches", "left_out")
        return {
            **{name: as_json(getattr(self, name)) for name in names},
            "counts": {name: {"positives": n1, "negatives": n0} for name, (n1, n0) in self.counts.items()},
        }


def compare(
    encoders: Mapping[str, tuple[Features, Sequence[str], Sequence[str]]],
    labelled: Labelled,
    settings: Settings,
    round_number: int,
    widening: float = 1.0,
    left_out: tuple[str, ...] = (),
) -> Comparison:
    """Measure every encoder on the same labels, folds and training sets.

    Forecasts are Bayesian whatever ``[forecast] method`` says: a paired statement needs draws.

    Args:
        encoders: By name: its embeddings, the pool it is standardised on, the labelled images in the order of the labels.
        labelled: The labels, n of them.
        settings: Targets, levels, prior, probe and seed.
        round_number: As for `loop.assess.fit_curves`.
        widening: How many times as wide as fitted intervals are told.
        left_out: What plays no part, each with its reason.

    Raises:
        BadInput: Fewer labels than a curve needs, or none of the findings can have one.
    """
    if len(labelled.y) < settings.forecast.from_labels:
        raise BadInput(
            f"{counted(len(labelled.y), 'labelled image')} cannot tell encoders apart; a learning curve needs "
            f"{settings.forecast.from_labels}. Label more, then compare."
        )
    fitted: dict[str, dict[str, Fitted]] = {name: {} for name in labelled.findings}
    for name, (features, pool, items) in encoders.items():
        projection = project_pool(features, pool, settings)
        _, curves = fit_curves(labelled, features.read(items), projection, settings, round_number)
        forecasts = fit_bayes(list(curves.values()), settings.read_prior())
        for curve, forecast in zip(curves.values(), forecasts, strict=True):
            fitted[curve.finding][name] = Fitted(curve, forecast)
    if not any(fitted.values()):
        raise BadInput(
            f"No finding has {FEWEST_OF_CLASS} positives and {FEWEST_OF_CLASS} negatives, so none has a curve. Label more, "
            "then compare."
        )
    level = settings.forecast.level
    drawn = {
        finding: {name: (one, widen(one.forecast, widening)) for name, one in by_encoder.items()}
        for finding, by_encoder in fitted.items()
    }
    switches = [
        _switch(labelled, fitted[finding], before, after, finding, settings, widening)
        for finding in labelled.findings
        if fitted[finding]
        for before, *others in [list(encoders)]
        for after in others
    ]
    return Comparison(
        labels=len(labelled.y),
        targets={name: settings.target_of(name) for name in labelled.findings},
        counts={
            name: (int((labelled.y[:, k] == 1).sum()), int((labelled.y[:, k] == 0).sum()))
            for k, name in enumerate(labelled.findings)
        },
        level=level,
        encoders=tuple(
            EncoderReport(
                name,
                features.dim,
                {f: _candidate(drawn[f].get(name), settings.target_of(f), level) for f in labelled.findings},
            )
            for name, (features, _, _) in encoders.items()
        ),
        switches=tuple(switches),
        left_out=left_out,
        curves={finding: by_encoder for finding, by_encoder in drawn.items() if by_encoder},
    )


def say_switch(switch: Switch, before: str, after: str) -> str:
    """What a change of the encoder saves or costs, in one sentence; empty where the labels cannot tell."""
    if not (switch.saves or switch.costs):
        return ""
    low, middle, high = switch.saved.low, switch.saved.median, switch.saved.high
    verb, stays = "saves", before
    if switch.costs:
        low, middle, high, verb, stays = -high, -middle, -low, "costs", after
    level = level_text(switch.saved.level)
    said = f"{switch.finding}: switching from {before} to {after} {verb}"
    if np.isinf(middle):
        return (
            f"{said} at least {count_text(low)} labels ({level}): with {stays} the target of "
            f"{auc_text(switch.target)} may be out of reach."
        )
    return f"{said} about {count_text(middle)} labels ({level}: {range_text(low, high)})."


def _switch(
    labelled: Labelled,
    fitted: Mapping[str, Fitted],
    before: str,
    after: str,
    finding: str,
    settings: Settings,
    widening: float,
) -> SwitchReport:
    y = labelled.y[:, labelled.findings.index(finding)]
    together = shared_error(y, labelled.patients, fitted[before].curve, fitted[after].curve)
    target, level = settings.target_of(finding), settings.forecast.level
    switch = compare_encoders(fitted[before], fitted[after], together, target, level, widening)
    saved = switch.saved
    return SwitchReport(
        before=before,
        after=after,
        finding=finding,
        gain=report_interval(switch.gain),
        gain_plateau=report_interval(switch.gain_plateau),
        saved=(finite(saved.low), finite(saved.median), finite(saved.high)),
        saved_level=saved.level,
        p_saves=switch.p_saves,
        p_costs=switch.p_costs,
        correlation=switch.correlation,
        said=say_switch(switch, before, after),
    )


def _candidate(found: tuple[Fitted, Forecast] | None, target: float, level: float) -> Candidate:
    if found is None:
        return Candidate()
    curve, forecast = found[0].curve, found[1]
    needed = forecast.labels_needed(target)
    return Candidate(
        now=report_interval(forecast.auc(forecast.n, level)),
        plateau=report_interval(forecast.plateau(level)),
        p_reached=forecast.prob_reached(target),
        p_reachable=forecast.prob_plateau(target),
        labels_needed=(finite(needed.low), finite(needed.median), finite(needed.high)),
        labels_level=needed.level,
        curve=tuple(
            CurvePoint(float(n), float(m), float(auc))
            for n, m, auc in zip(curve.sizes, curve.effective, curve.auc, strict=True)
        ),
    )
