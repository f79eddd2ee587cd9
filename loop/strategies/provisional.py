"""A finding with too few labels for a head of its own may still pull: what looks like its few positives is worth asking.

A head of the probe waits for five labels of each class, because an AUC or a suggestion from fewer would mislead people. A batch
is only a guess where to look, and of a rare finding one positive is a better guess than none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from loop.strategies.pool import Pool


def add_heads(pool: Pool) -> tuple[Pool, NDArray[np.bool_]]:
    """Score the pool by provisional heads, for open findings without a head of which a label of each class is known.

    They are trained with the strength that is taken where nothing can be compared. The pool streams by once, if there is one.

    Returns:
        The pool with their probabilities in place of NaN, and which findings they are of, shape ``(K,)``.
    """
    from loop.logistic import fit_logistic
    from loop.probe import CAUTIOUS

    y = pool.labelled.y
    known = (y == 1).any(axis=0) & (y == 0).any(axis=0)  # (K,)
    added = known & pool.open & np.isnan(pool.proba).all(axis=0)
    if not added.any():
        return pool, added
    x = pool.projection.transform(pool.labelled.vectors.raw(np.arange(len(y))))  # (n, k)
    fit = fit_logistic(x, y[:, added], np.full(int(added.sum()), CAUTIOUS))
    coef, intercept = pool.projection.fold(fit.coef, fit.intercept)
    weight = coef.astype(np.float32)  # (d, A)
    proba = pool.proba.copy()
    for rows in pool.vectors.chunks():
        proba[np.ix_(rows, np.flatnonzero(added))] = expit(pool.vectors.raw(rows) @ weight + intercept)
    return replace(pool, proba=proba), added
