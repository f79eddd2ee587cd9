"""What active selection does to a cross-fitted AUC, measured against randomly drawn items and taken out.

A strategy asks what the probe is unsure of, so the pairs of its picks are harder than the archive's: with half of
the labels chosen by uncertainty the AUC of all pairs lay up to .03 below that of random pairs on chest X-rays, and up
to .09 in simulated worlds. The difference between all pairs and random pairs measures this bias, noisily. It is
shrunk towards 0 and towards the other findings; how far is learnt from the findings themselves, by averaging over the
scale of the biases.
"""

from __future__ import annotations

import numpy as np

from forecasting.auc import Array, hanley_mcneil, shrink
from forecasting.noise import KAPPA

SCALES = np.array([0.02, 0.04, 0.08, 0.16])
"""Standard deviations, in AUC, that the biases of one project may have before looking."""

SCALE_WEIGHTS = np.array([0.15, 0.3, 0.35, 0.2])
"""Prior probability of each."""

SHARED = 0.5
"""Share of their variance which is common to the findings of one project."""


def shrink_bias(delta: Array, variance: Array) -> tuple[Array, Array]:
    """Posterior mean and standard deviation of each finding's selection bias.

    At one scale s, biases are normal with standard deviation s and correlation `SHARED`, and `delta` strays from them
    with its variance; for one finding the mean is then ``delta s^2 / (s^2 + v)``. The scales are averaged by
    their prior probability and by how well they explain all differences together.

    Args:
        delta: AUC on all pairs less AUC on random pairs, shape ``(K,)``.
        variance: Variance of `delta`, shape ``(K,)``; infinite where it could not be measured.
    """
    n_findings = len(delta)
    seen = np.isfinite(variance)
    alike = SHARED + (1 - SHARED) * np.eye(n_findings)  # (K, K)
    means, variances, log_weight = [], [], np.log(SCALE_WEIGHTS)
    for g, scale in enumerate(SCALES):
        prior = scale**2 * alike
        spread = prior[np.ix_(seen, seen)] + np.diag(variance[seen])  # of delta
        gain = np.linalg.solve(spread, prior[seen])  # (seen, K)
        means.append(gain.T @ delta[seen])
        variances.append(np.diag(prior - prior[:, seen] @ gain))
        log_weight[g] -= 0.5 * (
            np.linalg.slogdet(spread)[1] + delta[seen] @ np.linalg.solve(spread, delta[seen])
        )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()  # (G,)
    mean = weight @ np.array(means)  # (K,)
    variance_of_all = weight @ (np.array(variances) + (np.array(means) - mean) ** 2)  # (K,)
    return mean, np.sqrt(np.clip(variance_of_all, 0.0, None))


def difference_variance(auc: float, counts: tuple[float, float], random_counts: tuple[float, float]) -> float:
    """Variance of AUC on all pairs less AUC on random pairs: the random items are part of all.

    Args:
        auc: AUC on all pairs.
        counts: Positives and negatives among all items, as many as are independent.
        random_counts: The same among the random ones.
    """
    at = shrink(auc, *counts)
    more = float(hanley_mcneil(at, *random_counts) - hanley_mcneil(at, *counts))
    return KAPPA**2 * max(more, 1e-6)
