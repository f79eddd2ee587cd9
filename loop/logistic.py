"""Many logistic regressions on the same items at once: findings, folds and strengths as columns.

Each column minimises, with the intercept ``b0`` free,

    sum_i log(1 + exp(-s_i (x_i b + b0))) + |b|^2 / (2 C)        s_i = +1, -1; an unknown label drops out,

which is scikit-learn's ``LogisticRegression(C=C)``. The items are first turned into their own eigenbasis,
exact for this penalty, so that n items in d dimensions cost as if in min(n, d); there the Hessian is nearly
the diagonal ``w s^2 + 1/C``, and L-BFGS that starts from it needs few steps.

References:
    Nocedal and Wright, Numerical Optimization, 2006, algorithm 7.4 (L-BFGS with a diagonal H0).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TOLERANCE = 1e-5
"""Newton decrement at which a column has converged: a training item's probability is then off by about half
of it at most."""

MEMORY = 8  # pairs of steps and gradients that L-BFGS keeps
BLOCK = 256  # columns solved together: bounds memory, and the history stays in the cache
LOOKS = 25  # evaluations of a line search; each shrinks its bracket by a tenth at least


@dataclass(frozen=True, slots=True, eq=False)
class LogisticFit:
    """The solution of each column.

    Attributes:
        coef: Shape ``(k, C)``; NaN where a class is missing.
        intercept: Shape ``(C,)``; NaN where a class is missing.
        decrement: How far from the optimum, shape ``(C,)``: the Newton decrement at the end, see `TOLERANCE`.
    """

    coef: Array
    intercept: Array
    decrement: Array


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Items in the coordinates of their own principal axes.

    Attributes:
        z: The items, shape ``(n, r)``, centred; ``r <= min(n, k)``.
        mean: What was subtracted, shape ``(k,)``.
        rotation: Orthonormal axes, shape ``(k, r)``: ``z = (x - mean) @ rotation``.
    """

    z: Array
    mean: Array
    rotation: Array


def rotate(x: Array) -> Basis:
    """Turn n items in k dimensions into at most min(n, k) coordinates, without loss.

    Args:
        x: Items, shape ``(n, k)``.
    """
    n, k = x.shape
    mean = x.mean(axis=0)
    centred = x - mean  # (n, k)
    if n > k:
        _, rotation = np.linalg.eigh(centred.T @ centred)  # (k, k)
        return Basis(centred @ rotation, mean, rotation)
    squares, axes = np.linalg.eigh(centred @ centred.T)  # (n,), (n, n)
    real = squares > 1e-12 * max(float(squares[-1]), np.finfo(float).tiny)  # the rest is rounding
    lengths, axes = np.sqrt(squares[real]), axes[:, real]  # (r,), (n, r)
    return Basis(axes * lengths, mean, centred.T @ (axes / lengths))


def fit_logistic(
    x: Array, y: Array, strength: Array, tolerance: float = TOLERANCE, max_iterations: int = 500
) -> LogisticFit:
    """Fit one L2-penalised logistic regression a column.

    The matrices are small: cap BLAS at one thread around it, or a busy machine makes it many times dearer.

    Args:
        x: Items, shape ``(n, k)``.
        y: Labels, shape ``(n, C)``: 1, 0, NaN = not in this column's training set.
        strength: scikit-learn's C of each column, shape ``(C,)``; larger = weaker penalty.
        tolerance: Newton decrement to reach.
        max_iterations: Steps after which a column is left as it is; `LogisticFit.decrement` tells.
    """
    k, n_columns = x.shape[1], y.shape[1]
    coef = np.full((k, n_columns), np.nan)
    intercept, decrement = np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    both = np.flatnonzero((y == 1).any(axis=0) & (y == 0).any(axis=0))
    if not both.size:
        return LogisticFit(coef, intercept, decrement)
    used = ~np.isnan(y[:, both]).all(axis=1)  # (n,)
    basis = rotate(x[used])
    design = np.column_stack([basis.z, np.ones(len(basis.z))])  # (n, r + 1)
    for start in range(0, len(both), BLOCK):
        columns = both[start : start + BLOCK]
        signs = np.nan_to_num(2 * y[used][:, columns] - 1)  # (n, C); 0 = not used
        beta, decrement[columns] = _minimise(
            design, np.ascontiguousarray(signs.T), 1 / strength[columns], tolerance, max_iterations
        )
        coef[:, columns] = basis.rotation @ beta[:, :-1].T  # (k, C)
        intercept[columns] = beta[:, -1] - basis.mean @ coef[:, columns]
    return LogisticFit(coef, intercept, decrement)


def _minimise(
    design: Array, signs: Array, penalty: Array, tolerance: float, max_iterations: int
) -> tuple[Array, Array]:
    """Solve a block of columns; returns coefficients ``(C, r + 1)``, intercept last, and decrements."""
    n_columns = len(signs)
    square = (design**2).mean(axis=0)  # (r + 1,)
    ridge = np.repeat(penalty[:, None], design.shape[1], axis=1)  # (C, r + 1)
    ridge[:, -1] = 0.0
    beta = np.zeros_like(ridge)
    beta[:, -1] = np.log((signs > 0).sum(axis=1) / (signs < 0).sum(axis=1))
    solved, decrement = beta.copy(), np.full(n_columns, np.inf)
    column = np.arange(n_columns)  # where each live row belongs

    eta = np.repeat(beta[:, -1:], len(design), axis=1)  # (C, n)
    pull = _pull(eta, signs)  # (C, n)
    gradient = pull @ design + ridge * beta  # (C, r + 1)
    history: deque[tuple[Array, Array, Array]] = deque(maxlen=MEMORY)
    for iteration in range(max_iterations + 1):
        size = np.abs(pull)
        weight = np.maximum((size - size * size).sum(axis=1), 1e-12)  # (C,) sum of p (1 - p)
        hessian = weight[:, None] * square + ridge  # (C, r + 1), its diagonal were all weights equal
        left = np.sqrt((gradient**2 / hessian).sum(axis=1))  # (C,)
        live = left > tolerance
        if not live.any() or iteration == max_iterations:
            solved[column], decrement[column] = beta, left
            break
        if live.mean() < 0.7:  # carry only what is still moving
            done = ~live
            solved[column[done]], decrement[column[done]] = beta[done], left[done]
            column, signs, ridge, beta = column[live], signs[live], ridge[live], beta[live]
            eta, gradient, hessian = eta[live], gradient[live], hessian[live]
            history = deque(((s[live], g[live], rho[live]) for s, g, rho in history), maxlen=MEMORY)

        direction = -_newton_step(gradient, hessian, history)  # (C, r + 1)
        step, change, pull = _search(design, signs, ridge, beta, eta, gradient, direction)
        moved = step[:, None] * direction
        beta, eta = beta + moved, eta + step[:, None] * change
        before, gradient = gradient, pull @ design + ridge * beta
        turned = gradient - before
        curvature = np.einsum("cr,cr->c", moved, turned)  # (C,) > 0: the loss is convex
        history.append((moved, turned, np.where(curvature > 0, 1 / np.maximum(curvature, 1e-300), 0.0)))
    return solved, decrement


def _pull(eta: Array, signs: Array) -> Array:
    """Derivative of the loss by the logit, ``-s / (1 + exp(s eta))``; 0 for an unused item."""
    with np.errstate(over="ignore"):
        return np.asarray(-signs / (1 + np.exp(signs * eta)))


def _newton_step(gradient: Array, hessian: Array, history: deque[tuple[Array, Array, Array]]) -> Array:
    """The two-loop recursion (algorithm 7.4), for all columns."""
    q = gradient.copy()
    alphas = []
    for moved, turned, rho in reversed(history):
        alpha = rho * np.einsum("cr,cr->c", moved, q)
        q -= alpha[:, None] * turned
        alphas.append(alpha)
    q /= hessian
    for (moved, turned, rho), alpha in zip(history, reversed(alphas), strict=True):
        q += (alpha - rho * np.einsum("cr,cr->c", turned, q))[:, None] * moved
    return q


def _search(
    design: Array, signs: Array, ridge: Array, beta: Array, eta: Array, gradient: Array, direction: Array
) -> tuple[Array, Array, Array]:
    """Find a step along which the slope at least halves; the loss is convex, so slopes alone suffice.

    Returns:
        Step ``(C,)``, change of the logits per unit step ``(C, n)``, pull at the new place ``(C, n)``.
    """
    change = direction @ design.T  # (C, n)
    first = np.einsum("cr,cr->c", gradient, direction)  # (C,) < 0
    linear = np.einsum("cr,cr->c", ridge * beta, direction)
    quadratic = np.einsum("cr,cr->c", ridge * direction, direction)
    step = np.ones(len(direction))
    pull = _pull(eta + change, signs)
    slope = np.einsum("cn,cn->c", pull, change) + linear + quadratic
    low, high = np.zeros_like(step), np.full_like(step, np.inf)
    slope_low, slope_high = first.copy(), np.zeros_like(step)
    for _ in range(LOOKS):
        off = np.flatnonzero(np.abs(slope) > 0.5 * np.abs(first))
        if not off.size:
            break
        short = off[slope[off] < 0]
        far = off[slope[off] > 0]
        low[short], slope_low[short] = step[short], slope[short]
        high[far], slope_high[far] = step[far], slope[far]
        bracketed = np.isfinite(high[off])
        step[off[~bracketed]] *= 2
        inside = off[bracketed]
        share = -slope_low[inside] / (slope_high[inside] - slope_low[inside])
        step[inside] = low[inside] + np.clip(share, 0.1, 0.9) * (high[inside] - low[inside])
        pull[off] = _pull(eta[off] + step[off, None] * change[off], signs[off])
        slope[off] = np.einsum("cn,cn->c", pull[off], change[off]) + linear[off] + step[off] * quadratic[off]
    return step, change, pull
