"""The forecast: a power law on the probit scale for every finding, fitted to all findings together.

    AUC(m) = Phi(z / sqrt(1 + (k / m)^c)),    m = n p (1 - p)

It starts at .5, never exceeds 1 and flattens at Phi(z); far out it is the classical a - b n^-c with
a = Phi(z), b = phi(z) z k^c / 2 (in m) and the same c. The posterior is a weighting of fixed draws
(`forecasting.prior`): nothing is searched for, so nothing fails to converge, and the same curves give
the same numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from forecasting.auc import Array
from forecasting.curve import LearningCurve
from forecasting.noise import FLOOR, LIKELIHOOD_DOF, correlation, model_jitter, point_variance
from forecasting.prior import PRIOR, Draws, Prior, aim, cover, curve_auc, curve_probit, size_at

N_JOINT = 2048
"""Equally weighted draws that several findings share, for statements about their mean."""

FEWEST_DRAWS = 400
"""Effective draws below which a posterior is drawn again, closer."""

HORIZON = 1e7
"""More labels than this count as no limit visible."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An AUC: its mean, and bounds that hold it with probability `level`."""

    mean: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class LabelRange:
    """Labels needed in all: bounds that hold the number with probability `level`; infinite = no limit visible."""

    low: float
    median: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Tail:
    """The classical power law a - b n^-c, n in labels of the finding."""

    a: float
    b: float
    c: float


class Forecast(Protocol):
    """What every method answers about one finding. n counts its known labels; None = those there are now."""

    @property
    def method(self) -> str:
        """Name of the method, ``bayes`` or ``nls``."""

    @property
    def finding(self) -> str:
        """Name of the finding."""

    @property
    def n(self) -> int:
        """Labels known now."""

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """AUC of the probe trained on `n` labels."""

    def median(self, n: float) -> float:
        """AUC that `n` labels reach with probability one half."""

    def gain(self, n_more: float, level: float = 0.9) -> Interval:
        """AUC that `n_more` labels add to the mean curve; bounds are those of the difference."""

    def plateau(self, level: float = 0.9) -> Interval:
        """AUC with labels without end."""

    def prob_reached(self, target: float, n: float | None = None) -> float:
        """P(AUC >= target) with `n` labels."""

    def prob_plateau(self, target: float) -> float:
        """P(plateau >= target): whether this encoder can get there at all."""

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """Labels of this finding at which the curve reaches the target, in all, not in addition."""

    def tail(self) -> Tail:
        """The curve far out, as a - b n^-c."""

    def joint_draws(self, n: float | None = None) -> Array:
        """Equally weighted draws of AUC with `n` labels, ``(N_JOINT,)``, dependent as findings of one fit are."""


@dataclass(frozen=True, slots=True, eq=False)
class BayesForecast:
    """Posterior of one finding's curve.

    Attributes:
        finding: Its name.
        n: Labels known now.
        balance: ``p (1 - p)``, effective size over labels.
        draws: Curves, and where one trained model lies around each.
        weight: Posterior weight of each draw, shape ``(S,)``, sum 1.
        likelihood: Of the points under each draw, up to a factor, shape ``(S,)``.
        effects: Posterior draws of the data set's effect, shared by all findings of the fit: indices of
            shape ``(N_JOINT,)``.
    """

    finding: str
    n: int
    balance: float
    draws: Draws
    weight: Array
    likelihood: Array
    effects: NDArray[np.intp]
    method: str = "bayes"

    def auc(self, n: float, level: float = 0.9) -> Interval:
        """AUC of the probe trained on `n` labels."""
        values = self._draws(n)
        low, high = weighted_quantiles(values, self.weight, (0.5 - level / 2, 0.5 + level / 2))
        return Interval(float(self.weight @ values), low, high, level)

    def median(self, n: float) -> float:
        """AUC that `n` labels reach with probability one half."""
        return weighted_quantiles(self._draws(n), self.weight, (0.5,))[0]

    def gain(self, n_more: float, level: float = 0.9) -> Interval:
        """AUC that `n_more` labels add to the mean curve, draw by draw."""
        effective = self.balance * np.array([self.n, self.n + n_more])
        values = np.diff(curve_auc(self.draws.theta, effective))[:, 0]  # (S,)
        low, high = weighted_quantiles(values, self.weight, (0.5 - level / 2, 0.5 + level / 2))
        return Interval(float(self.weight @ values), low, high, level)

    def plateau(self, level: float = 0.9) -> Interval:
        """AUC with labels without end."""
        return self.auc(math.inf, level)

    def prob_reached(self, target: float, n: float | None = None) -> float:
        """P(AUC >= target) with `n` labels."""
        return min(1.0, float(self.weight[self._draws(self.n if n is None else n) >= target].sum()))

    def prob_plateau(self, target: float) -> float:
        """P(plateau >= target)."""
        return self.prob_reached(target, math.inf)

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        """Labels at which the mean curve reaches the target, in closed form for each draw."""
        labels = size_at(self.draws.theta, target) / self.balance  # (S,)
        return label_range(labels, self.weight, level)

    def tail(self) -> Tail:
        """The tail of the posterior mean curve."""
        z, log_k, log_c = (float(x) for x in self.weight @ self.draws.theta)
        c = math.exp(log_c)
        density = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return Tail(float(ndtr(z)), density * z * math.exp(c * log_k) / 2 * self.balance**-c, c)

    def joint_draws(self, n: float | None = None) -> Array:
        """Equally weighted draws of AUC with `n` labels, shape ``(N_JOINT,)``.

        Given the effect, findings are independent; each draws with a generator of its own name and points.
        """
        own = zlib.crc32(self.finding.encode()) ^ zlib.crc32(self.likelihood.tobytes())
        uniform = np.random.default_rng(own).random(len(self.effects))
        chosen = np.empty(len(self.effects), dtype=np.intp)
        for effect in np.unique(self.effects):
            here = self.effects == effect
            mass = np.cumsum(self.likelihood * self.draws.likelier[effect])  # (S,)
            chosen[here] = np.searchsorted(mass, uniform[here] * mass[-1]).clip(max=len(mass) - 1)
        return self._draws(self.n if n is None else n)[chosen]

    def _draws(self, n: float) -> Array:
        effective = n * self.balance
        around = self.draws.jitter * model_jitter(effective)
        return np.asarray(ndtr(curve_probit(self.draws.theta, effective)[:, 0] + around))  # (S,)


def fit_bayes(curves: Sequence[LearningCurve], prior: Prior = PRIOR, seed: int = 0) -> list[BayesForecast]:
    """Fit the probit power law to the curves of one project, pooled over its findings.

    Deterministic, and indifferent to the order of the findings. A curve without points gets the prior
    and what its siblings say.

    Args:
        curves: One a finding.
        prior: Where curves lie before any label.
        seed: Scrambles the fixed draws.
    """
    if not curves:
        return []
    draws = cover(prior, seed)
    log_likelihood = np.stack([log_likelihood_of(curve, draws) for curve in curves])  # (J, S)
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    # evidence of each finding under each effect b_g, and the weight of b_g: w_g ~ prod_j E_jg
    evidence = np.maximum(likelihood @ draws.likelier.T / len(draws.theta), 1e-300)  # (J, G)
    log_weight = np.log(evidence).sum(axis=0)
    effect = np.exp(log_weight - log_weight.max())
    effect /= effect.sum()  # (G,)
    posterior = likelihood * ((effect / evidence) @ draws.likelier)  # (J, S)
    posterior /= posterior.sum(axis=1, keepdims=True)

    steps = (np.arange(N_JOINT) + 0.5) / N_JOINT
    effects = np.searchsorted(np.cumsum(effect), steps).clip(max=len(effect) - 1)  # (N_JOINT,)
    forecasts: list[BayesForecast] = []
    for j, curve in enumerate(curves):
        forecast = BayesForecast(
            curve.finding, curve.n, _balance(curve), draws, posterior[j], likelihood[j], effects
        )
        forecasts.append(_sharpen(forecast, curve, effect, effect / evidence[j], prior, seed))
    return forecasts


def prob_mean_reached(forecasts: Sequence[Forecast], target: float) -> float:
    """P(mean AUC over findings >= target) with the labels there are now, as if all findings erred together.

    They share images, readers and the bias of selection, and how closely they err together is not known; the spread
    of the mean is then largest, so that above one half the probability is rather too small than too large.
    """
    draws = [np.sort(forecast.joint_draws()) for forecast in forecasts]  # each (N_JOINT,)
    mean = np.mean(draws, axis=0)
    return float((mean >= target).mean())


def label_range(labels: Array, weight: Array, level: float) -> LabelRange:
    """Weighted quantiles of labels needed; beyond the horizon no limit is visible."""
    order = np.argsort(labels, kind="stable")
    reached = np.cumsum(weight[order])
    at = np.searchsorted(reached, np.array([0.5 - level / 2, 0.5, 0.5 + level / 2]) * reached[-1])
    low, median, high = (math.inf if x > HORIZON else float(x) for x in labels[order][at])
    return LabelRange(low, median, high, level)


def _sharpen(
    forecast: BayesForecast, curve: LearningCurve, effect: Array, siblings: Array, prior: Prior, seed: int
) -> BayesForecast:
    """Draw again, at most three times, while a posterior rests on fewer than `FEWEST_DRAWS` draws."""
    for _ in range(3):
        if 1 / np.square(forecast.weight).sum() >= FEWEST_DRAWS:
            break
        draws = aim(prior, seed, forecast.draws, forecast.weight, effect, siblings)
        log_likelihood = log_likelihood_of(curve, draws)
        likelihood = np.exp(log_likelihood - log_likelihood.max())
        weight = likelihood * draws.likelier[0]
        forecast = replace(
            forecast,
            draws=draws,
            weight=weight / weight.sum(),
            likelihood=likelihood,
            effects=np.zeros(N_JOINT, dtype=np.intp),
        )
    return forecast


def log_likelihood_of(curve: LearningCurve, draws: Draws) -> Array:
    """Student-t log likelihood of the points under each draw, shape ``(S,)``."""
    if not len(curve.auc):
        return np.zeros(len(draws.theta))
    residual, sd = standardised(curve, draws.theta)  # (S, P)
    together = curve.se is None or curve.shared
    shape = np.linalg.inv(correlation(curve.sizes, curve.n)) if together else np.eye(len(curve.auc))  # (P, P)
    # Sigma = D R D + beta^2 1 1', so its inverse and determinant follow from those of R (Sherman-Morrison)
    ones = curve.bias_se / sd  # (S, P)
    distance = np.einsum("sp,pq,sq->s", residual, shape, residual)
    common = 1 + np.einsum("sp,pq,sq->s", ones, shape, ones)
    distance -= np.einsum("sp,pq,sq->s", residual, shape, ones) ** 2 / common
    tails = (LIKELIHOOD_DOF + len(curve.auc)) * np.log1p(distance / LIKELIHOOD_DOF)
    return np.asarray(-0.5 * tails - np.log(sd).sum(axis=1) - 0.5 * np.log(common))


def standardised(curve: LearningCurve, theta: Array) -> tuple[Array, Array]:
    """How far the points of a curve lie from each of some draws ``(S, 3)``, in their errors, and these; ``(S, P)`` both."""
    model = curve_auc(theta, curve.effective)
    if curve.se is None:
        variance = point_variance(model, *curve.independent)
    else:
        variance = np.broadcast_to(np.square(curve.se) + FLOOR**2, model.shape)
    sd = np.sqrt(variance)
    return (curve.auc - model) / sd, sd


def _balance(curve: LearningCurve) -> float:
    share = (curve.n_positive + 0.5) / (curve.n_positive + curve.n_negative + 1)
    return share * (1 - share)


def weighted_quantiles(values: Array, weight: Array, levels: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of weighted draws ``(S,)``, interpolated."""
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(weight[order]) - weight[order] / 2
    return tuple(float(q) for q in np.interp(levels, middle, values[order]))
