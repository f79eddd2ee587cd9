"""Two encoders on the same labels: which is better, and how many labels a change from one to the other saves.

Both curves are measured on the same images, folds and training sets, so an image that is hard for one encoder is mostly hard
for the other and their errors cancel in part. The points of both follow one Student-t whose margins are those of
`forecasting.powerlaw`, with

    corr(e_A(s), e_B(t)) = r R(s, t),

R the correlation between points of one curve, and r how alike the encoders place the same items (DeLong's correlation, by
patient), taken cautiously. Draws of both posteriors are paired and
weighted by how much likelier the two curves are together than apart. What is believed of either encoder before any
label is taken to be independent, which rather widens the difference than narrows it.

References:
    DeLong, DeLong and Clarke-Pearson, Biometrics 44(3), 1988; by patient Obuchowski, Biometrics 53(2), 1997.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from forecasting.auc import Array
from forecasting.clusters import FEW_PATIENTS
from forecasting.curve import LearningCurve
from forecasting.noise import LIKELIHOOD_DOF, correlation
from forecasting.powerlaw import (
    HORIZON,
    BayesForecast,
    Interval,
    LabelRange,
    label_range,
    log_likelihood_of,
    standardised,
    weighted_quantiles,
)
from forecasting.prior import curve_auc, size_at

N_PAIRS = 8192

SHARED = 0.9
"""What is believed of DeLong's correlation. Over 24 subsamples of 200 chest X-rays (NIH ChestX-ray14, three encoders, four
findings) points went together by .46 to .83, by .68 on average, about as DeLong says, for training sets are shared too."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The curve of one finding under one encoder, and its posterior."""

    curve: LearningCurve
    forecast: BayesForecast


@dataclass(frozen=True, slots=True)
class Switch:
    """What a change of the encoder brings to one finding.

    Attributes:
        finding: Its name.
        n: Labels known now.
        target: AUC to reach.
        correlation: Between the errors of a point under either encoder.
        gain: AUC that the change adds to the mean curve now.
        gain_plateau: AUC that it adds to the plateau.
        saved: Further labels to the target before the change, less those after it; negative = it costs labels,
            infinite = only one of the two gets there. Labels that are there already count for neither.
        p_saves: Probability that it saves a label or more.
        p_costs: Probability that it costs a label or more.
    """

    finding: str
    n: int
    target: float
    correlation: float
    gain: Interval
    gain_plateau: Interval
    saved: LabelRange
    p_saves: float
    p_costs: float

    @property
    def saves(self) -> bool:
        """Whether the data can tell that it saves labels."""
        return self.saved.low >= 1

    @property
    def costs(self) -> bool:
        """Whether the data can tell that it costs labels."""
        return self.saved.high <= -1


def shared_error(y: Array, groups: NDArray[Any], before: LearningCurve, after: LearningCurve) -> float:
    """How far the errors of two curves of one finding go together, on [0, 1).

    Args:
        y: Labels that both curves were measured on, shape ``(n,)``, NaN not known.
        groups: The patient of each item, shape ``(n,)``.
        before: Measured under one encoder.
        after: Under the other, with the same folds.

    Returns:
        Their correlation, drawn towards 0 where few patients show it; 0 where nothing shows it.
    """
    if before.placements is None or after.placements is None or not np.array_equal(before.sizes, after.sizes):
        return 0.0
    placed = np.stack([before.placements, after.placements])  # (2, n)
    there = ~np.isnan(placed).any(axis=0)
    positive, negative = there & (y == 1), there & (y == 0)
    n_patients = min(len(np.unique(groups[part])) for part in (positive, negative))
    if n_patients < 2:
        return 0.0
    pull = np.zeros(placed.shape)  # of each item on the AUC
    for part in (positive, negative):
        pull[:, part] = (placed[:, part] - placed[:, part].mean(axis=1, keepdims=True)) / part.sum()
    _, of = np.unique(groups, return_inverse=True)
    a, b = (np.bincount(of, weights) for weights in pull)
    spread = math.sqrt(float(a @ a) * float(b @ b))
    alike = max(0.0, float(a @ b) / spread) if spread > 0 else 0.0
    return SHARED * alike * n_patients / (n_patients + FEW_PATIENTS)


def compare_encoders(
    before: Fitted, after: Fitted, together: float, target: float, level: float = 0.9, widening: float = 1.0
) -> Switch:
    """Say what a change of the encoder brings to one finding, and how surely.

    Args:
        before: The finding under the encoder in use.
        after: Under the other one, on the same labels.
        together: Correlation of their errors, from `shared_error`.
        target: AUC to reach.
        level: Level of the intervals of AUC; labels are told at .8, as everywhere.
        widening: How many times as wide as fitted intervals are told (`forecasting.widening`).
    """
    chosen, weight = _pair(before, after, together)  # (2, N), (N,)
    pair = before.forecast, after.forecast
    n, balance = pair[0].n, pair[0].balance
    theta = [side.draws.theta[rows] for side, rows in zip(pair, chosen, strict=True)]  # two of (N, 3)
    auc_before, auc_after = (curve_auc(t, [balance * n, math.inf]) for t in theta)  # (N, 2)
    now, plateau = (auc_after - auc_before).T
    further = [np.maximum(size_at(t, target) / balance - n, 0.0) for t in theta]
    before_, after_ = (np.where(labels > HORIZON, np.inf, labels) for labels in further)
    never = np.isinf(before_) & np.isinf(after_)
    saved = np.where(never, 0.0, before_ - np.where(never, 0.0, after_))  # (N,)
    labels_level = 0.8
    farther = float(2 * ndtr(widening * ndtri(0.5 + labels_level / 2)) - 1)
    told = label_range(saved, weight, farther)
    p_saves, p_costs = (
        float(ndtr(ndtri(np.clip(weight[there].sum(), 1e-9, 1 - 1e-9)) / widening))
        for there in (saved >= 1, saved <= -1)
    )
    return Switch(
        finding=before.curve.finding,
        n=n,
        target=target,
        correlation=together,
        gain=_interval(now, weight, level, widening),
        gain_plateau=_interval(plateau, weight, level, widening),
        saved=LabelRange(told.low, told.median, told.high, labels_level),
        p_saves=p_saves,
        p_costs=p_costs,
    )


def _pair(before: Fitted, after: Fitted, together: float) -> tuple[NDArray[np.intp], Array]:
    """Draws of both posteriors, side by side, ``(2, N)``, and the weight of each pair, ``(N,)``."""
    uniform = qmc.Sobol(2, seed=np.random.default_rng(0)).random(N_PAIRS)  # (N, 2)
    chosen = np.stack(
        [
            np.searchsorted(np.cumsum(side.forecast.weight), u).clip(max=len(side.forecast.weight) - 1)
            for side, u in zip((before, after), uniform.T, strict=True)
        ]
    )
    if not len(before.curve.sizes) or together <= 0:
        return chosen, np.full(N_PAIRS, 1 / N_PAIRS)
    apart = sum(
        log_likelihood_of(side.curve, side.forecast.draws)[rows]
        for side, rows in zip((before, after), chosen, strict=True)
    )
    log_weight = _log_joint(before, after, chosen, together) - apart
    weight = np.exp(log_weight - log_weight.max())
    return chosen, weight / weight.sum()


def _log_joint(before: Fitted, after: Fitted, chosen: NDArray[np.intp], together: float) -> Array:
    """Student-t log likelihood of the points of both curves, of each pair of draws, ``(N,)``."""
    sides = list(zip((before, after), chosen, strict=True))
    told = [standardised(side.curve, side.forecast.draws.theta[rows]) for side, rows in sides]  # (N, P) each
    x, sd = (np.concatenate(part, axis=1) for part in zip(*told, strict=True))  # (N, 2P)
    n_points = len(before.curve.sizes)  # P
    ones = np.zeros((2, *x.shape))  # what active selection does is common to the points of one encoder
    ones[0, :, :n_points] = before.curve.bias_se / sd[:, :n_points]
    ones[1, :, n_points:] = after.curve.bias_se / sd[:, n_points:]
    points = correlation(before.curve.sizes, before.curve.n)  # (P, P)
    sigma = np.kron([[1.0, together], [together, 1.0]], points) + np.einsum("isp,isq->spq", ones, ones)
    distance = np.einsum("sp,sp->s", x, np.linalg.solve(sigma, x[:, :, None])[:, :, 0])
    tails = (LIKELIHOOD_DOF + 2 * n_points) * np.log1p(distance / LIKELIHOOD_DOF)
    return np.asarray(-0.5 * (tails + np.linalg.slogdet(sigma)[1]) - np.log(sd).sum(axis=1))


def _interval(values: Array, weight: Array, level: float, widening: float) -> Interval:
    mean = float(weight @ values)
    low, high = weighted_quantiles(values, weight, (0.5 - level / 2, 0.5 + level / 2))
    return Interval(mean, mean + widening * (low - mean), mean + widening * (high - mean), level)
