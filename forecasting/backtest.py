"""Replay forecasts on learning curves whose end is known.

Every curve is cut after each of its points; each method sees the points up to there and is asked for the
AUC at 2, 4 and 16 times as many labels and at the last size measured, for its interval there, and for the
labels that the AUC there takes. All methods are judged on the same replays.

The truth is the measured curve, interpolated on log n and never continued; where a curve was repeated, the
mean over its repetitions, because a single later point is as noisy as the points that were forecast from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.curve import LearningCurve
from forecasting.errors import BadCurve
from forecasting.families import FAMILIES, Extrapolation, first_crossing, fit_family, keep_last
from forecasting.measured import MeasuredCurve, TrueCurve, true_curve, with_errors
from forecasting.powerlaw import fit_bayes
from forecasting.prior import PRIOR, Prior

OURS = "bayes"
"""The method whose error the others' are compared with."""

HORIZONS = {"2x": 2.0, "4x": 4.0, "16x": 16.0, "last": math.inf}
"""Names of what is asked, and times the labels; infinity stands for the last size measured."""

FEWEST_POINTS = 3
"""Points from which on a curve is replayed: a power law has three parameters."""

LEAST_RISE = 0.005
"""AUC by which a target must lie above the curve of now: on a flat curve, labels needed has no answer."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Told:
    """What one method said.

    Attributes:
        auc: Its forecast; the last point where it could not be fitted.
        low: Lower end of its interval; NaN if it gave none.
        high: Upper end.
        needed: Labels needed in all, never fewer than there were; infinite = no limit visible.
        needed_low: Lower end of its range; NaN if it gave none.
        needed_high: Upper end.
        fitted: False where it could not be fitted.
    """

    auc: float
    low: float
    high: float
    needed: float
    needed_low: float
    needed_high: float
    fitted: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """One question put to all methods.

    Attributes:
        n: Labels that the methods had seen.
        horizon: A key of `HORIZONS`.
        at: Labels asked about.
        truth: AUC there.
        needed: First size at which the true curve reaches that AUC; NaN where that was not asked, because
            the curve had been there before, or rose by less than `LEAST_RISE`.
        told: By method.
    """

    dataset: str
    finding: str
    repetition: str
    n: int
    horizon: str
    at: float
    truth: float
    needed: float
    told: dict[str, Told]


@dataclass(frozen=True, slots=True)
class Backtest:
    """All replays, and what they rest on.

    Attributes:
        replays: One a curve, cut and horizon.
        level: Level of the intervals.
        n_curves: Curves read.
        n_cuts: Cuts replayed.
        n_cuts_possible: Cuts there are.
        errors: Curves by what their points' errors were taken from: ``given``, ``repetitions`` or ``counts``.
    """

    replays: tuple[Replay, ...]
    level: float
    n_curves: int
    n_cuts: int
    n_cuts_possible: int
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Curves of one repetition of one data set, and where they are cut."""

    curves: tuple[MeasuredCurve, ...]
    n: float
    judged: tuple[bool, ...]


def run_backtest(
    curves: Sequence[MeasuredCurve],
    level: float = 0.9,
    least_n: int = 1,
    most_cuts: int | None = None,
    seed: int = 0,
    prior: Prior = PRIOR,
    progress: Progress | None = None,
) -> Backtest:
    """Replay every forecast that the curves allow.

    Our method sees all findings of one data set and repetition at once, as it does in a project; the others
    see one curve at a time. Points without a given error are taken to stray as far as repetitions do at
    their size, if there are enough of them, and otherwise as cross-fitted points of their counts do. Both
    kinds stray together: within a repetition the same images come back at every size.

    Args:
        curves: One a data set, finding and repetition.
        level: Level of the intervals.
        least_n: Labels from which on curves are cut.
        most_cuts: Replay a random sample of the cuts; None = all.
        seed: Draws that sample.
        prior: What our method believes of curves beforehand.
        progress: Told what is done, of how much.

    Raises:
        BadCurve: No curve has enough points, and a later one to be judged by.
    """
    truths = {key: true_curve(same) for key, same in _grouped(curves, lambda c: (c.dataset, c.finding))}
    informed, errors = [], {"given": 0, "repetitions": 0, "counts": 0}
    for curve in curves:
        seen, source = with_errors(curve, truths[curve.dataset, curve.finding])
        informed.append(seen)
        errors[source] += 1
    possible = _cuts(informed, truths, least_n)
    if not possible:
        longest = max((len(curve.n) for curve in curves), default=0)
        raise BadCurve(
            f"nothing to replay: a curve needs {FEWEST_POINTS} points from {least_n:,} labels on and a later one to be "
            f"judged by, the longest of {len(curves):,} has {longest}; measure at more sizes"
        )
    cuts = possible
    if most_cuts is not None and most_cuts < len(possible):
        drawn = np.random.default_rng(seed).choice(len(possible), most_cuts, replace=False)
        cuts = [possible[i] for i in np.sort(drawn)]
    replays: list[Replay] = []
    for done, cut in enumerate(cuts, 1):
        replays += _replay(cut, truths, level, prior)
        if progress is not None:
            progress("replays", done, len(cuts))
    return Backtest(tuple(replays), level, len(curves), len(cuts), len(possible), errors)


def method_names() -> tuple[str, ...]:
    """Every method, ours first."""
    return OURS, "last value", *(family.name for family in FAMILIES)


def _cuts(
    curves: Sequence[MeasuredCurve], truths: dict[tuple[str, str], TrueCurve], least_n: int
) -> list[_Cut]:
    """Cuts after which at least one curve has grown, has enough points, and is measured further on."""
    cuts = []
    for _, together in _grouped(curves, lambda c: (c.dataset, c.repetition)):
        for n in np.unique(np.concatenate([curve.n for curve in together])):
            judged = tuple(
                bool(
                    n >= least_n
                    and n in curve.n[FEWEST_POINTS - 1 :]
                    and truths[curve.dataset, curve.finding].n[-1] > n
                )
                for curve in together
            )
            if any(judged):
                cuts.append(_Cut(tuple(together), float(n), judged))
    return cuts


def _replay(cut: _Cut, truths: dict[tuple[str, str], TrueCurve], level: float, prior: Prior) -> list[Replay]:
    begun = [
        (curve, judged) for curve, judged in zip(cut.curves, cut.judged, strict=True) if curve.n[0] <= cut.n
    ]
    seen = [curve.until(cut.n) for curve, _ in begun]
    pooled = fit_bayes(seen, prior)
    replays = []
    for (measured, judged), curve, ours in zip(begun, seen, pooled, strict=True):
        if not judged:
            continue
        alone = [fit_family(family, curve) for family in FAMILIES]
        methods = dict(zip(method_names(), (ours, keep_last(curve), *alone), strict=True))
        truth = truths[measured.dataset, measured.finding]
        for horizon, times in HORIZONS.items():
            at = float(truth.n[-1]) if math.isinf(times) else times * cut.n
            if at > truth.n[-1]:
                continue
            target = truth.at(at)
            needed = first_crossing(truth.n, truth.auc, target)
            asked = needed > cut.n and max(truth.at(cut.n) + LEAST_RISE, 0.5) < target < 1
            replays.append(
                Replay(
                    measured.dataset,
                    measured.finding,
                    measured.repetition,
                    curve.n,
                    horizon,
                    at,
                    target,
                    needed if asked else math.nan,
                    {name: _ask(method, curve, at, target, level) for name, method in methods.items()},
                )
            )
    return replays


def _ask(method: Extrapolation | None, curve: LearningCurve, at: float, target: float, level: float) -> Told:
    """What a method says; one that could not be fitted says the last point, without an interval."""
    answer = keep_last(curve) if method is None else method
    interval, labels = answer.auc(at, level), answer.labels_needed(target)
    return Told(
        auc=interval.mean,
        low=math.nan if method is None else interval.low,
        high=math.nan if method is None else interval.high,
        needed=max(labels.median, curve.n),
        needed_low=labels.low if math.isnan(labels.low) else max(labels.low, curve.n),
        needed_high=labels.high if math.isnan(labels.high) else max(labels.high, curve.n),
        fitted=method is not None,
    )


def _grouped(
    curves: Sequence[MeasuredCurve], key: Callable[[MeasuredCurve], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[MeasuredCurve]]]:
    groups: dict[tuple[str, str], list[MeasuredCurve]] = {}
    for curve in curves:
        groups.setdefault(key(curve), []).append(curve)
    return list(groups.items())
