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

N_DRAWS = 4096
N_EFFECTS = 512
_LOWEST, _HIGHEST = np.array([0.0, -4.0, -1.6]), np.array([3.3, 9.0, 1.0])
_LARGEST_SIZE = 1e12  # stands for infinity


@dataclass(frozen=True, slots=True)
class Prior:
    """Where curves lie before any label, on the scale (z, ln k, ln c).

    The shipped values are round numbers: a plateau around .90, half-way at an effective size of 25. They
    were chosen on simulated worlds and on public chest X-rays (NIH ChestX-ray14, Kermany) and widened
    until forecasts covered there; moving the plateau by .2 moves the forecast error by less than .003.

    Attributes:
        mean: Centre.
        between: Standard deviations between data sets and embeddings.
        within: Scales between findings of one data set.
        correlation: Between z and ln k, inside a data set.
        dof: Degrees of freedom between findings: low = a finding may be unlike its siblings.
    """

    mean: tuple[float, float, float] = (1.3, 3.2, -0.15)
    between: tuple[float, float, float] = (0.35, 1.4, 0.2)
    within: tuple[float, float, float] = (0.456, 1.043, 0.391)
    correlation: float = -0.5
    dof: float = 4.0


PRIOR = Prior()


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Draws of theta that cover the prior, and how likely each is under each draw of the data set's effect.

    Attributes:
        theta: Shape ``(S, 3)``.
        jitter: Standard normal, shape ``(S,)``: where one trained model lies around its mean curve.
        likelier: Importance weights, shape ``(S, G)``, mean 1 over the S draws.
    """

    theta: Array
    jitter: Array
    likelier: Array


@lru_cache(maxsize=8)
def cover(prior: Prior, seed: int) -> Draws:
    """Draw theta and effects by scrambled Sobol sequences, once for each prior and seed."""
    for_draws = qmc.Sobol(5, seed=np.random.default_rng([seed, 0])).random(N_DRAWS)  # (S, 5)
    uniform: Array = np.clip(for_draws, 1e-5, 1 - 1e-5)
    for_effects = qmc.Sobol(3, seed=np.random.default_rng([seed, 1])).random(N_EFFECTS)  # (G, 3)
    effects = ndtri(np.clip(for_effects, 1e-5, 1 - 1e-5)) * np.array(
        prior.between
    )  # (G, 3) b ~ N(0, between)

    within = np.diag(np.square(prior.within))
    within[0, 1] = within[1, 0] = prior.correlation * prior.within[0] * prior.within[1]
    both = within + np.diag(np.square(prior.between))
    # theta ~ t_dof(mean, between + within), the proposal
    tail = np.sqrt(prior.dof / chi2.ppf(uniform[:, 3], prior.dof))  # (S,)
    centred = ndtri(uniform[:, :3]) @ np.linalg.cholesky(both).T * tail[:, None]  # (S, 3)
    # p(theta | b) = t_dof(mean + b, within)
    proposed = np.einsum("si,ij,sj->s", centred, np.linalg.inv(both), centred)  # (S,)
    precision = np.linalg.inv(within)
    cross = centred @ precision @ effects.T  # (S, G)
    own = np.einsum("si,ij,sj->s", centred, precision, centred)
    shift = np.einsum("gi,ij,gj->g", effects, precision, effects)
    given = own[:, None] - 2 * cross + shift[None, :]  # (S, G) Mahalanobis from mean + b
    log_ratio = np.log1p(proposed / prior.dof)[:, None] - np.log1p(given / prior.dof)
    likelier = np.exp(0.5 * (prior.dof + 3) * log_ratio)
    likelier /= likelier.mean(axis=0)

    theta = np.clip(np.array(prior.mean) + centred, _LOWEST, _HIGHEST)
    return Draws(theta, ndtri(uniform[:, 4]), likelier)


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
