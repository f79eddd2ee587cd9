"""A simulated world whose true AUC is known in closed form, and a ridge probe that is fast in batches."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from forecasting.auc import Scorer

Array = NDArray[np.float64]


class GaussianWorld:
    """x ~ N(sum_k y_k mu_k, I) with independent findings y_k ~ Bernoulli(prevalence_k)."""

    def __init__(self, rng: np.random.Generator, separations: list[float], prevalences: list[float], d: int):
        directions = np.linalg.qr(rng.standard_normal((d, len(separations))))[0].T  # (K, d)
        self.mu = directions * np.array(separations)[:, None]
        self.prevalence = np.array(prevalences)

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """Features (n, d) and labels (n, K)."""
        y = (rng.random((n, len(self.mu))) < self.prevalence).astype(float)
        return y @ self.mu + rng.standard_normal((n, self.mu.shape[1])), y

    def auc(self, w: Array, k: int) -> float:
        """P(w'x of a positive of finding k > w'x of a negative), over all the others' states."""
        others = [j for j in range(len(self.mu)) if j != k]
        total = 0.0
        for one, other in product(product((0, 1), repeat=len(others)), repeat=2):
            chance = shift = 0.0
            chance = 1.0
            for j, a, b in zip(others, one, other, strict=True):
                p = self.prevalence[j]
                chance *= (p if a else 1 - p) * (p if b else 1 - p)
                shift += (a - b) * float(w @ self.mu[j])
            total += chance * float(ndtr((w @ self.mu[k] + shift) / (np.sqrt(2) * np.linalg.norm(w))))
        return total


def ridge(x: Array, y: Array, strength: float) -> Array:
    """Weights (d,) of one finding; NaN where a class is missing."""
    known = ~np.isnan(y)
    x, y = x[known] - x[known].mean(axis=0), y[known]
    if y.min() == y.max():
        return np.full(x.shape[1], np.nan)
    return np.asarray(np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (y - y.mean())))


def make_ridge_scorer(x: Array, y: Array, strength: float) -> Scorer:
    """All masks of a call as one batch of normal equations; the intercept is a lightly penalised column."""
    design = np.column_stack([x, np.ones(len(x))])  # (n, p)
    n, p = design.shape
    outer = (design[:, :, None] * design[:, None, :]).reshape(n, p * p)
    penalty = strength * np.eye(p)
    penalty[-1, -1] = 1e-6

    def scorer(masks: NDArray[np.bool_]) -> Array:
        scores = np.full((len(masks), n, y.shape[1]), np.nan)
        for k in range(y.shape[1]):
            used = masks & ~np.isnan(y[:, k])  # (B, n)
            target = np.nan_to_num(y[:, k])
            n_positive, n_used = used @ target, used.sum(axis=1)
            both = (n_positive > 0) & (n_positive < n_used)
            weight = used[both].astype(float)  # (b, n)
            normal = (weight @ outer).reshape(-1, p, p) + penalty
            right = (weight * target) @ design  # (b, p)
            w = np.linalg.solve(normal, right[:, :, None])[:, :, 0]  # (b, p)
            scores[both, :, k] = w @ design.T
        return scores

    return scorer


def patients(n: int, images_each: int = 1) -> NDArray[Any]:
    """A patient's name for each of n items."""
    return np.array([f"patient-{i // images_each:05d}" for i in range(n)])
