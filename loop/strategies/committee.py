"""A committee of probes, each trained on other patients of the same labels: ask where they disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from loop.strategies.measures import highest_rows, mean_over_findings, name_findings
from loop.strategies.pool import Choice, Pool

Array = NDArray[np.float64]

N_MEMBERS = 8

SHARE = 0.632
"""Share of the patients that teach a member: as many different ones as a bootstrap has."""


def committee(pool: Pool, n: int, rng: np.random.Generator) -> Sequence[Choice]:
    """Ask where probes disagree that were each trained on a draw of the patients, at the probe's own strengths."""
    coef, intercept = train_members(pool, rng)  # (d, C K), (C K,)
    by_finding = np.full(pool.proba.shape, np.nan)
    for rows in pool.vectors.chunks():
        logits = pool.vectors.raw(rows) @ coef + intercept  # (c, C K)
        votes = expit(logits.astype(np.float64)).reshape(len(rows), -1, len(pool.findings))
        by_finding[rows] = disagreement(np.moveaxis(votes, 1, 0))
    utility = mean_over_findings(by_finding)  # (m,)
    return [
        Choice(
            row,
            f"probes disagree: {name_findings(pool.findings, by_finding[row], pool.proba[row])}",
            float(utility[row]),
        )
        for row in highest_rows(n, utility, pool.patients)
    ]


def disagreement(proba: Array) -> Array:
    """Entropy of the members' mean less the mean of their entropies, in nats, shape ``(m, K)``.

    This is the mutual information of label and member (BALD); 0 = all agree.

    Args:
        proba: Members' probabilities, shape ``(C, m, K)``; a member without a head has NaN and no vote.

    References:
        Houlsby, Huszar, Ghahramani and Lengyel, Bayesian active learning for classification and preference learning, 2011.
    """
    votes = ~np.isnan(proba)  # (C, m, K)
    n_votes = votes.sum(axis=0)  # (m, K)
    p = np.where(votes, proba, 0.0)
    doubt = np.where(votes, entr(p) + entr(1 - p), 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = p.sum(axis=0) / n_votes  # (m, K)
        told = entr(mean) + entr(1 - mean) - doubt / n_votes
    return np.asarray(np.where(n_votes > 0, np.maximum(told, 0.0), np.nan), np.float64)


def train_members(pool: Pool, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train the members, all in one fit.

    Returns:
        Coefficients ``(d, C K)`` and intercepts ``(C K,)`` on raw embeddings, member by member; NaN where a draw
        lacks a class, or the probe has no head.
    """
    from loop.logistic import fit_logistic
    from loop.probe import CAUTIOUS, CURVE_TOLERANCE

    labelled, n_findings = pool.labelled, len(pool.findings)
    strength = np.full(n_findings, CAUTIOUS) if pool.probe is None else pool.probe.strength  # (K,)
    x = pool.projection.transform(labelled.vectors.raw(np.arange(len(labelled.y))))  # (n, k)
    names, patient = np.unique(labelled.patients, return_inverse=True)
    taught = rng.permuted(np.tile(np.arange(len(names)) < round(SHARE * len(names)), (N_MEMBERS, 1)), axis=1)[
        :, patient
    ]  # (C, n)
    y = np.where(taught[:, :, None], labelled.y, np.nan)  # (C, n, K)
    both = (y == 1).any(axis=1) & (y == 0).any(axis=1) & ~np.isnan(strength)  # (C, K)
    coef = np.full((pool.vectors.dim, *both.shape), np.nan, np.float32)
    intercept = np.full(both.shape, np.nan, np.float32)
    if both.any():
        columns = np.moveaxis(y, 1, 0)[:, both]  # (n, B)
        fit = fit_logistic(x, columns, np.broadcast_to(strength, both.shape)[both], CURVE_TOLERANCE)
        coef[:, both], intercept[both] = pool.projection.fold(fit.coef, fit.intercept)
    return coef.reshape(pool.vectors.dim, -1), intercept.reshape(-1)
