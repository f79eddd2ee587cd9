"""How far the points of a learning curve stray from the curve, and a single model from the mean curve.

The constants were measured on simulated worlds and on real chest X-rays (NIH ChestX-ray14, Kermany)
with ridge and logistic probes: 20 nested subsamples, cross-fitted, against the AUC on patients held apart. They are on
the wide side of what was measured: 90 % intervals then cover about 90 % of truths that have a small error themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from forecasting.auc import Array, hanley_mcneil

KAPPA = 1.3
"""Standard deviation of a point over the Hanley-McNeil error at the true AUC."""

FLOOR = 0.004
"""What no smooth curve follows: added to the error of every point, in AUC."""

GRAIN = 0.5
"""Share of one item of the rarer class that a point may be off by chance of its grain. The Hanley-McNeil
error vanishes at an AUC of 1, and two positives on top would otherwise prove it."""

LIKELIHOOD_DOF = 6.0
"""Degrees of freedom of the Student-t around the curve."""

_SAME, _DECAY = 0.96, 0.28
_JITTER_AT = np.log([2.0, 10.0, 40.0, 200.0])
_JITTER = np.array([0.12, 0.09, 0.06, 0.04])


def point_variance(auc: Array, n_positive: float, n_negative: float) -> Array:
    """Variance of a cross-fitted point where the curve has the AUC `auc`, any shape."""
    grain = GRAIN / max(min(n_positive, n_negative), 1)
    return KAPPA**2 * hanley_mcneil(auc, n_positive, n_negative) + grain**2 + FLOOR**2


def correlation(sizes: Array, n: float) -> Array:
    """Correlation between points that share their items: .96 exp(-.28 |ln(s / t)|) off the diagonal.

    Args:
        sizes: Labels in the training part of each point, shape ``(S,)``.
        n: Labels in all; sizes below ``.02 n`` count as that.

    Returns:
        Shape ``(S, S)``.
    """
    log_size = np.log(np.clip(sizes / n, 0.02, 1.0))
    shared: Array = _SAME * np.exp(-_DECAY * np.abs(log_size[:, None] - log_size[None, :]))  # (S, S)
    np.fill_diagonal(shared, 1.0)
    return shared


def model_jitter(effective: ArrayLike) -> Array:
    """Standard deviation, on the probit scale, of one trained model around the mean curve, and of a curve around its family.

    Args:
        effective: Effective size m of its training set; infinite at the plateau.
    """
    return np.asarray(np.interp(np.log(np.maximum(effective, 1e-6)), _JITTER_AT, _JITTER), float)
