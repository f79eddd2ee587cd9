"""Keeping score: what forecasts promised against what fresh labels then showed, and what follows for the next.

A round's random images are scored by the probe in force before their labels exist, so the AUC of these
scores is an honest, noisy *look* at a probe trained on n labels. Every *promise*, a stored forecast made
before that round was asked, is held against it: the one of the same n (now), of about n / 2 and of n / 4.

One round has few positives, so consecutive rounds are pooled into blocks of at least `FEWEST` positives
and negatives: pairs inside a round only, rounds weighted by their effective images n1 n0 / (n1 + n0).
Of block i with weights v, observed AUC x_i and promised A_i = sum_r v_r A_r,

    x_i - E A_i ~ (0, u N_i + w^2 s_i^2),    N_i = sum_r v_r^2 HM(A_r, n1_r, n0_r),

where s_i is the forecast's own standard deviation, w how much too small it is, HM the Hanley-McNeil
variance of the fresh images at the promised AUC, and u how far that is off for these scores (where both
classes spread alike it is 1.4 times too large at AUC .85, 5 positives and 20 negatives, and 1.8 times at
.95). Forecasts of one finding err together:
they share labels, so between promises made at n and m > n labels the errors correlate by sqrt(n / m), as
those of a posterior that learns at the rate 1 / sqrt(n) do. That tells the two apart: scatter from block
to block is noise, what stays is the forecast's error. u and w are found from the normal likelihood of all
findings together, a look that several horizons were held against counted once, under log-normal priors
around 1: little evidence changes nothing. w never narrows, w >= 1, and goes no further than `WIDEST`.

An interval has *held* if x_i lies inside the central `level` of a beta distribution with the mean and
variance above, at the width at which the promise was given; half a pair of rounding is allowed for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import ArrayLike
from scipy.special import betainc, ndtr

from forecasting.auc import Array, hanley_mcneil
from forecasting.promises import Look, Promise

HORIZONS = (1, 2, 4)
"""Times the labels of the promise at which it is held against a look."""

FEWEST = 5
"""Positives, and negatives, of fresh labels behind a block."""

FEWEST_SCORED = 10
"""Intervals scored, below which nothing is concluded."""

PRIOR_SD, NOISE_SD = 0.5, 0.3
"""Standard deviations of log w and of log u before any look."""

WIDEST = 3.0
"""Intervals are never made wider than this many times."""

_FACTORS = np.arange(10, round(10 * WIDEST) + 1) / 10  # (W,) w, to one digit: what is said is what is done
_NOISES = np.geomspace(0.5, 1.25, 10)  # (U,) u
_NODES, _WEIGHTS = hermegauss(21)


@dataclass(frozen=True, slots=True)
class HorizonScore:
    """The score at one horizon.

    Attributes:
        horizon: Times the labels of the promise.
        scored: Intervals held against fresh labels.
        held: Those that held.
        error: Observed less promised AUC, on average; below 0 = promises were too high.
        error_se: Its standard error.
    """

    horizon: int
    scored: int
    held: int
    error: float
    error_se: float


@dataclass(frozen=True, slots=True)
class Score:
    """How well promises were kept so far.

    Attributes:
        level: Of the intervals.
        horizons: Per horizon at which something was scored.
        widening: How many times as wide as fitted intervals must be from now on; 1 = as they are.
    """

    level: float
    horizons: tuple[HorizonScore, ...] = ()
    widening: float = 1.0

    @property
    def scored(self) -> int:
        """Intervals held against fresh labels."""
        return sum(told.scored for told in self.horizons)

    @property
    def held(self) -> int:
        """Those that held."""
        return sum(told.held for told in self.horizons)

    @property
    def coverage(self) -> float | None:
        """Share that held; None before the first."""
        return self.held / self.scored if self.scored else None


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Blocks of one finding at one horizon, each attribute of shape ``(B,)``.

    Attributes:
        n: Labels behind the promise, on average.
        observed: AUC seen.
        mean: AUC promised.
        sd: Its standard deviation as fitted.
        given: The same, as the promise was given.
        noise: Variance of the fresh labels.
        step: Half of what one more pair in the right order adds to ``observed``.
    """

    n: Array
    observed: Array
    mean: Array
    sd: Array
    given: Array
    noise: Array
    step: Array


def score_forecasts(promises: Sequence[Promise], looks: Sequence[Look], level: float = 0.9) -> Score:
    """Hold promises against looks whose labels came after them.

    Args:
        promises: Every forecast given, of all findings; those of one round in the order given.
        looks: Every round's fresh labels, of all findings.
        level: Of the intervals that are counted.

    Returns:
        How many held and by how much they were off, per horizon, and the widening that follows.
    """
    series: list[tuple[str, int, _Blocks]] = []
    for finding in sorted({look.finding for look in looks}):
        ours = sorted((p for p in promises if p.finding == finding and p.path), key=lambda p: p.round)
        seen = sorted((look for look in looks if look.finding == finding), key=lambda look: look.round)
        for horizon in HORIZONS:
            blocks = _pool(_pair(ours, seen, horizon))
            if blocks is not None:
                series.append((finding, horizon, blocks))
    noise, widening = _judge(series)
    scores = tuple(
        _score_horizon(horizon, [blocks for _, h, blocks in series if h == horizon], noise, level)
        for horizon in HORIZONS
        if any(h == horizon for _, h, _ in series)
    )
    enough = sum(told.scored for told in scores) >= FEWEST_SCORED
    return Score(level, scores, widening if enough else 1.0)


def _pair(promises: Sequence[Promise], looks: Sequence[Look], horizon: int) -> list[tuple[Promise, Look]]:
    """Give each look the promise that was made before it, nearest to this many times fewer labels."""
    if not promises:
        return []
    latest_first = promises[::-1]  # of promises at the same n, the one made last is found first
    n = np.log([look.n for look in looks])[:, None]  # (L, 1)
    away = np.abs(n - np.log([horizon * p.path[0].n for p in latest_first]))  # (L, P)
    before = np.array([p.round for p in latest_first]) < np.array([look.round for look in looks])[:, None]
    same = np.array([p.encoder for p in latest_first]) == np.array([look.encoder for look in looks])[:, None]
    away = np.where(before & same & (away < np.log(2) / 2), away, np.inf)
    nearest, found = np.argmin(away, axis=1), np.isfinite(away.min(axis=1))  # (L,)
    return [(latest_first[p], look) for look, p, ok in zip(looks, nearest, found, strict=True) if ok]


def _pool(pairs: Sequence[tuple[Promise, Look]]) -> _Blocks | None:
    """Pool consecutive rounds until both classes suffice; what is left over waits for more."""
    block: list[int] = []  # of each pair
    positives = negatives = waiting = 0
    for _, look in pairs:
        positives, negatives, waiting = (
            positives + look.n_positive,
            negatives + look.n_negative,
            waiting + 1,
        )
        if min(positives, negatives) >= FEWEST:
            block += [block[-1] + 1 if block else 0] * waiting
            positives = negatives = waiting = 0
    if not block:
        return None
    pairs = pairs[: len(block)]
    n1 = np.array([look.n_positive for _, look in pairs], float)
    n0 = np.array([look.n_negative for _, look in pairs], float)
    effective = n1 * n0 / (n1 + n0)
    share = effective / np.bincount(block, effective)[block]  # (L,)
    mean, sd, given = _promised(pairs)
    step = np.full(block[-1] + 1, np.inf)
    np.minimum.at(step, block, share / (n1 * n0) / 2)

    def pooled(values: ArrayLike) -> Array:
        return np.asarray(np.bincount(block, np.asarray(values, float)), float)

    return _Blocks(
        n=pooled(share * [promise.path[0].n for promise, _ in pairs]),
        observed=pooled(share * [look.auc for _, look in pairs]),
        mean=pooled(share * mean),
        sd=pooled(share * sd),
        given=pooled(share * given),
        noise=pooled(share**2 * hanley_mcneil(mean, n1, n0)),
        step=step,
    )


def _promised(pairs: Sequence[tuple[Promise, Look]]) -> tuple[Array, Array, Array]:
    """AUC promised for each look: mean, standard deviation as fitted, and as given; each ``(L,)``."""
    at = []
    for promise, look in pairs:
        n, center, sd = np.array([(point.n, point.center, point.sd) for point in promise.path]).T
        here, n = np.log(look.n), np.log(n)
        at.append((np.interp(here, n, center), np.interp(here, n, sd), promise.widened))
    center, sd, widened = np.array(at).T  # (L,) each
    mean, fitted = _moments(center, sd)
    return mean, fitted, _moments(center, sd * widened)[1]


def _moments(center: Array, sd: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of Phi(center + sd Z), Z standard normal."""
    auc = ndtr(center[:, None] + sd[:, None] * _NODES)  # (L, Q)
    share = _WEIGHTS / _WEIGHTS.sum()
    mean = auc @ share
    return mean, np.sqrt(np.square(auc - mean[:, None]) @ share)


def _score_horizon(horizon: int, findings: Sequence[_Blocks], noise: float, level: float) -> HorizonScore:
    """Count what held, and average the errors over the findings' blocks by their precision."""
    held = total = 0
    weight = weighted = square = 0.0  # of precisions, of errors by precision, of the variance of that sum
    for blocks in findings:
        spread = np.minimum(noise * blocks.noise + blocks.given**2, 0.99 * blocks.mean * (1 - blocks.mean))
        size = blocks.mean * (1 - blocks.mean) / spread - 1  # a + b of the beta distribution
        a, b = blocks.mean * size, (1 - blocks.mean) * size
        below = betainc(a, b, np.maximum(blocks.observed - blocks.step, 0.0))
        upto = betainc(a, b, np.minimum(blocks.observed + blocks.step, 1.0))
        held += int(((below <= 0.5 + level / 2) & (upto >= 0.5 - level / 2)).sum())
        total += len(blocks.mean)
        precision = 1 / (noise * blocks.noise + blocks.sd**2)
        weight += float(precision.sum())
        weighted += float(precision @ (blocks.observed - blocks.mean))
        square += float(precision @ (np.diag(noise * blocks.noise) + _shared(blocks)) @ precision)
    return HorizonScore(horizon, total, held, weighted / weight, square**0.5 / weight)


def _shared(blocks: _Blocks) -> Array:
    """Covariance of the promises' errors as claimed, ``(B, B)``."""
    ratio = blocks.n[:, None] / blocks.n
    return np.asarray(np.outer(blocks.sd, blocks.sd) * np.sqrt(np.minimum(ratio, 1 / ratio)))


def _judge(series: Sequence[tuple[str, int, _Blocks]]) -> tuple[float, float]:
    """How noisy looks are and how much too narrow promises: the mean of u, the posterior mode of w."""
    horizons = Counter(finding for finding, _, _ in series)
    log_posterior = -0.5 * np.square(np.log(_NOISES) / NOISE_SD)[:, None] - 0.5 * np.square(
        np.log(_FACTORS) / PRIOR_SD
    )  # (U, W)
    for finding, _, blocks in series:
        scale = 1 / np.sqrt(blocks.noise)
        # V = u N + w^2 S = N^(1/2) B (u + w^2 L) B' N^(1/2): one decomposition for all u and w
        size, basis = np.linalg.eigh(_shared(blocks) * np.outer(scale, scale))
        along = np.square(basis.T @ (scale * (blocks.observed - blocks.mean)))  # (B,)
        forecast = np.square(_FACTORS)[:, None] * np.maximum(size, 0.0)  # (W, B)
        variance = _NOISES[:, None, None] + forecast  # (U, W, B)
        log_posterior -= 0.5 * (np.log(variance) + along / variance).sum(axis=2) / horizons[finding]
    posterior = np.exp(log_posterior - log_posterior.max())
    noise = float(posterior.sum(axis=1) @ _NOISES / posterior.sum())
    return noise, float(_FACTORS[np.argmax(posterior.sum(axis=0))])
