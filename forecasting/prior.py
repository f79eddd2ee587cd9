"""What is believed about learning curves before the first label, and the draws that carry it.

    AUC(m) = Phi(z / sqrt(1 + (k / m)^c)),    theta = (z, ln k, ln c)
    theta_j = mean + b + e_j,   b ~ N(0, diag(between^2)),   e_j ~ t_dof(0, W)

z is the plateau on the probit scale, k the effective size at which the curve is half-way (in variance),
c its speed; b belongs to the data set and its embedding, e_j to one finding. A linear discriminant in
high dimension has just this curve, with c = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import chi2, qmc

from forecasting.auc import Array

N_DRAWS = 8192
N_AIMED = 1024
N_EFFECTS = 512
NEGLIGIBLE = 1e-5  # share of the likeliest effect's weight below which an effect plays no part in `aim`
BOUNDS = np.array([[0.0, -4.0, -1.6], [3.3, 9.0, 1.0]])
"""Lowest and highest theta: plateaus of .5 to .9995."""

_LARGEST_SIZE = 1e12  # stands for infinity


@dataclass(frozen=True, slots=True)
class Prior:
    """Where curves lie before any label, on the scale (z, ln k, ln c).

    The shipped values are round numbers: a median plateau of .885 (its mean is .838), half-way at an effective size of 20. They
    were chosen on simulated worlds and on halves of public chest X-rays (NIH ChestX-ray14, Kermany) and widened
    until forecasts covered there; moving the plateau by .2 moves the forecast error on X-rays by about .001 and in
    simulated worlds by .005. The findings of a data set share their speed more than their plateau: how fast an embedding
    learns says much about the next finding, how far a finding gets says little.

    Attributes:
        mean: Centre.
        between: Standard deviations between data sets and embeddings.
        within: Scales between findings of one data set.
        correlation: Between z and ln k, inside a data set.
        dof: Degrees of freedom between findings: low = a finding may be unlike its siblings.
    """

    mean: tuple[float, float, float] = (1.2, 3.0, -0.15)
    between: tuple[float, float, float] = (0.2, 1.6, 0.2)
    within: tuple[float, float, float] = (0.62, 0.85, 0.391)
    correlation: float = 0.0
    dof: float = 4.0


PRIOR = Prior()

SHIPPED_FROM = (
    "round numbers, chosen on simulated worlds and on halves of public chest X-rays (NIH ChestX-ray14, Kermany), widened "
    "until forecasts covered there"
)
"""Where the numbers of `PRIOR` come from, for people."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Draws of theta, and how likely each is under each draw of the data set's effect.

    Attributes:
        free: Draws of theta as the prior has it, shape ``(S, 3)``.
        theta: The same, kept where curves make sense, shape ``(S, 3)``.
        jitter: Standard normal, shape ``(S,)``: where one trained model lies around its mean curve.
        likelier: Importance weights, shape ``(G, S)``.
        effects: Draws of b, shape ``(G, 3)``.
    """

    free: Array
    theta: Array
    jitter: Array
    likelier: Array
    effects: Array


@lru_cache(maxsize=8)
def cover(prior: Prior, seed: int) -> Draws:
    """Cover the prior with scrambled Sobol sequences, once for each prior and seed."""
    uniform = qmc.Sobol(3, seed=np.random.default_rng([seed, 1])).random(N_EFFECTS)  # (G, 3)
    effects = ndtri(np.clip(uniform, 1e-5, 1 - 1e-5)) * np.array(prior.between)  # (G, 3) b ~ N(0, between)
    wide = _within(prior) + np.diag(np.square(prior.between))
    free, jitter, log_proposal = _student(np.array(prior.mean), wide, prior.dof, N_DRAWS, seed)
    likelier = np.exp(log_density(free, effects, prior) - log_proposal)  # (G, S)
    likelier /= likelier.mean(axis=1, keepdims=True)
    return Draws(free, np.clip(free, *BOUNDS), jitter, likelier, effects)


def aim(prior: Prior, seed: int, draws: Draws, weight: Array, effect: Array, siblings: Array) -> Draws:
    """Draw again where a sharp posterior lies, so that it rests on many draws and not on a few.

    Args:
        prior: The prior of `draws`.
        seed: Scrambles the sequence.
        draws: Draws so far.
        weight: Their posterior weights, shape ``(S,)``.
        effect: Posterior weight of each effect, shape ``(G,)``; those that are ruled out are left out.
        siblings: Weight of each effect by the other findings alone, shape ``(G,)``.

    Returns:
        Draws with the effect averaged out: `Draws.likelier` has one row.
    """
    centre = weight @ draws.free
    away = draws.free - centre
    spread = 1.5 * (away.T * weight) @ away + 1e-3 * _within(prior)
    free, jitter, log_proposal = _student(centre, spread, 5.0, N_AIMED, seed)
    believed = effect > NEGLIGIBLE * effect.max()  # (G,)
    density = log_density(free, draws.effects[believed], prior) - log_proposal  # (g, S)
    likelier = siblings[believed] @ np.exp(density - density.max())
    return Draws(free, np.clip(free, *BOUNDS), jitter, likelier[None, :], draws.effects)


def _student(centre: Array, scale: Array, dof: float, n: int, seed: int) -> tuple[Array, Array, Array]:
    """Sobol draws ``(n, 3)`` of t_dof(centre, scale), a normal beside each, and their log density but a constant."""
    standard, jitter = _standard(dof, n, seed)
    centred = standard @ np.linalg.cholesky(scale).T  # (n, 3)
    distance = np.einsum("sj,sj->s", standard, standard)
    return centre + centred, jitter, -0.5 * (dof + 3) * np.log1p(distance / dof)


@lru_cache(maxsize=16)
def _standard(dof: float, n: int, seed: int) -> tuple[Array, Array]:
    """Sobol draws of t_dof(0, I), ``(n, 3)``, and a normal beside each, ``(n,)``."""
    uniform = np.clip(qmc.Sobol(5, seed=np.random.default_rng([seed, 0])).random(n), 1e-5, 1 - 1e-5)  # (n, 5)
    tail = np.sqrt(dof / chi2.ppf(uniform[:, 3], dof))  # (n,)
    return ndtri(uniform[:, :3]) * tail[:, None], ndtri(uniform[:, 4])


def log_density(free: Array, effects: Array, prior: Prior) -> Array:
    """log p(theta | b) = log t_dof(theta; mean + b, within), but a constant, shape ``(G, S)``."""
    centred = free - np.array(prior.mean)
    precision = np.linalg.inv(_within(prior))
    own = np.einsum("si,ij,sj->s", centred, precision, centred)
    shift = np.einsum("gi,ij,gj->g", effects, precision, effects)
    distance = shift[:, None] - 2 * effects @ precision @ centred.T + own[None, :]
    return np.asarray(-0.5 * (prior.dof + 3) * np.log1p(distance / prior.dof))


def _within(prior: Prior) -> Array:
    within = np.diag(np.square(prior.within))
    within[0, 1] = within[1, 0] = prior.correlation * prior.within[0] * prior.within[1]
    return np.asarray(within)


def curve_auc(theta: Array, effective: ArrayLike) -> Array:
    """AUC of each curve at each effective size.

    Args:
        theta: ``(z, ln k, ln c)``, shape ``(S, 3)``.
        effective: m, shape ``(M,)``; infinity is the plateau.

    Returns:
        Shape ``(S, M)``.
    """
    return np.asarray(ndtr(curve_probit(theta, effective)))


def curve_probit(theta: Array, effective: ArrayLike) -> Array:
    """The same on the probit scale, ``z / sqrt(1 + (k / m)^c)``, shape ``(S, M)``."""
    m = np.clip(np.atleast_1d(np.asarray(effective, float)), 1e-9, None)
    log_m = np.log(np.where(np.isinf(m), _LARGEST_SIZE, m))  # (M,)
    z, log_k, log_c = theta.T[:, :, None]  # each (S, 1)
    slower = np.exp(np.exp(log_c) * (log_k - log_m))  # (S, M) (k / m)^c
    slower[:, np.isinf(m)] = 0.0
    return np.asarray(z / np.sqrt(1 + slower))


def size_at(theta: Array, auc: float) -> Array:
    """Effective size at which each curve reaches an AUC: ``m = k ((z / z_T)^2 - 1)^(-1/c)``.

    Args:
        theta: Shape ``(S, 3)``.
        auc: Below 1.

    Returns:
        Shape ``(S,)``; 0 for an AUC of 1/2 or less, infinite where the plateau is lower.
    """
    z, log_k, log_c = theta.T
    z_target = float(ndtri(auc))
    if z_target <= 0:
        return np.zeros(len(theta))
    reaches = z > z_target
    ratio = np.where(reaches, (z / z_target) ** 2 - 1, 1.0)
    return np.where(reaches, np.exp(np.minimum(log_k - np.log(ratio) / np.exp(log_c), 700.0)), np.inf)
