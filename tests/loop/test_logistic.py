"""The batched solver against scikit-learn, and the laws that any exact solution obeys."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from loop.logistic import BLOCK, TOLERANCE, LogisticFit, fit_logistic, rotate

Array = NDArray[np.float64]


def world(n: int, k: int, prevalence: float, noise: float, seed: int) -> tuple[Array, Array, Array]:
    """Items to train on, their labels, and 500 more items; axes of very different length, off centre."""
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(3, 0.05, k)
    x, more = (rng.normal(size=(m, k)) * lengths + 0.5 for m in (n, 500))
    logits = x[:, :3].sum(axis=1) + noise * rng.normal(size=n)
    return x, (logits > np.quantile(logits, 1 - prevalence)).astype(float), more


def proba(fit: LogisticFit, x: Array) -> Array:
    return expit(x @ fit.coef + fit.intercept)


@pytest.mark.parametrize(
    ("n", "k", "strength", "prevalence", "noise"),
    [
        (60, 300, 1e-2, 0.4, 1.0),
        (60, 300, 1.0, 0.4, 1.0),
        (500, 40, 1e-4, 0.3, 1.0),
        (500, 40, 1.0, 0.3, 1.0),
        (300, 5, 1e2, 0.3, 0.0),
        (400, 50, 1.0, 2 / 400, 1.0),
        (400, 50, 1.0, 398 / 400, 1.0),
        (2, 10, 1.0, 0.5, 1.0),
    ],
    ids=[
        "fewer items than dimensions, strong penalty",
        "fewer items than dimensions, weak penalty",
        "more items, strong penalty",
        "more items, weak penalty",
        "separable",
        "two positives of 400",
        "two negatives of 400",
        "two items",
    ],
)
def test_a_column_is_what_scikit_learn_finds(
    n: int, k: int, strength: float, prevalence: float, noise: float
) -> None:
    """scikit-learn's LogisticRegression, lbfgs, run to a gradient of 1e-9."""
    x, y, more = world(n, k, prevalence, noise, seed=n + k)
    fit = fit_logistic(x, y[:, None], np.array([strength]))
    reference = LogisticRegression(C=strength, tol=1e-9, max_iter=100_000).fit(x, y)
    for items in (x, more):
        np.testing.assert_allclose(proba(fit, items)[:, 0], reference.predict_proba(items)[:, 1], atol=1e-3)
    assert fit.decrement[0] <= TOLERANCE
    truth = more[:, :3].sum(axis=1) > 1.5
    theirs = roc_auc_score(truth, reference.decision_function(more))
    assert roc_auc_score(truth, proba(fit, more)[:, 0]) == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("seed", [11, 32, 37])
def test_features_with_wild_outliers_converge(seed: int) -> None:
    """Worlds in which a whole Newton step overshoots so far that only a line search comes back."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 10))
    x[rng.random((80, 10)) < 0.1] *= 20
    y = (rng.permutation(80) < 2).astype(float)
    fit = fit_logistic(5 * x, y[:, None], np.array([1.0]))
    assert fit.decrement[0] <= TOLERANCE
    reference = LogisticRegression(C=1.0, tol=1e-9, max_iter=100_000).fit(5 * x, y)
    np.testing.assert_allclose(proba(fit, 5 * x)[:, 0], reference.predict_proba(5 * x)[:, 1], atol=1e-3)


def test_at_the_solution_the_gradient_vanishes() -> None:
    x, y, _ = world(200, 30, 0.3, 1.0, seed=1)
    fit = fit_logistic(x, y[:, None], np.array([0.1]), tolerance=1e-9)
    residual = proba(fit, x)[:, 0] - y
    np.testing.assert_allclose(x.T @ residual + fit.coef[:, 0] / 0.1, 0.0, atol=1e-6)
    assert residual.sum() == pytest.approx(0.0, abs=1e-6)


def test_columns_do_not_know_of_each_other() -> None:
    """More columns than a block holds, of all strengths and with labels missing here and there."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 12))
    y = (x @ rng.normal(size=(12, BLOCK + 30)) + rng.normal(size=(40, BLOCK + 30)) > 0).astype(float)
    y[rng.random(y.shape) < 0.3] = np.nan
    strength = 10 ** rng.uniform(-4, 1, y.shape[1])
    together = fit_logistic(x, y, strength)
    for c in (0, 17, BLOCK - 1, BLOCK, BLOCK + 29):
        alone = fit_logistic(x, y[:, [c]], strength[[c]])
        np.testing.assert_allclose(proba(together, x)[:, c], proba(alone, x)[:, 0], atol=1e-4)


def test_an_unknown_label_is_as_if_the_item_were_not_there() -> None:
    x, y, more = world(120, 20, 0.4, 1.0, seed=3)
    known = np.random.default_rng(3).random(120) < 0.6
    masked = fit_logistic(x, np.where(known, y, np.nan)[:, None], np.array([0.5]))
    dropped = fit_logistic(x[known], y[known, None], np.array([0.5]))
    np.testing.assert_allclose(proba(masked, more), proba(dropped, more), atol=1e-9)


def test_a_column_of_one_class_is_not_a_number_and_disturbs_no_other() -> None:
    x, y, _ = world(50, 8, 0.4, 1.0, seed=4)
    nothing = np.full(50, np.nan)
    fit = fit_logistic(x, np.column_stack([np.ones(50), y, np.zeros(50), nothing]), np.ones(4))
    assert np.isnan(fit.coef).all(axis=0).tolist() == [True, False, True, True]
    assert np.isnan(fit.intercept).tolist() == [True, False, True, True]
    np.testing.assert_allclose(fit.coef[:, 1], fit_logistic(x, y[:, None], np.ones(1)).coef[:, 0], atol=1e-4)


def test_every_item_twice_at_half_the_strength_changes_nothing() -> None:
    x, y, more = world(80, 150, 0.3, 1.0, seed=5)
    once = fit_logistic(x, y[:, None], np.array([0.2]))
    twice = fit_logistic(np.vstack([x, x]), np.tile(y, 2)[:, None], np.array([0.1]))
    np.testing.assert_allclose(proba(once, more), proba(twice, more), atol=1e-4)


def test_exchanging_the_classes_exchanges_the_probabilities() -> None:
    x, y, more = world(80, 20, 0.1, 1.0, seed=6)
    fit = fit_logistic(x, np.column_stack([y, 1 - y]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(proba(fit, more).sum(axis=1), 1.0, atol=1e-4)


def test_constant_and_repeated_features_do_no_harm() -> None:
    x, y, more = world(60, 10, 0.4, 1.0, seed=7)
    plain = fit_logistic(x, y[:, None], np.array([1.0]))
    wide, wide_more = (np.column_stack([items, np.full(len(items), 7.0)]) for items in (x, more))
    constant = fit_logistic(wide, y[:, None], np.array([1.0]))
    np.testing.assert_allclose(proba(constant, wide_more), proba(plain, more), atol=1e-4)
    doubled = fit_logistic(np.hstack([x, x]) / np.sqrt(2), y[:, None], np.array([1.0]))
    np.testing.assert_allclose(
        proba(doubled, np.hstack([more, more]) / np.sqrt(2)), proba(plain, more), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (1, 5)])
def test_a_rotation_keeps_distances_and_needs_no_more_axes_than_items(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(8).normal(size=shape) + 3.0
    basis = rotate(x)
    assert basis.z.shape[1] <= min(shape)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(basis.z @ basis.z.T, centred @ centred.T, atol=1e-9)
    np.testing.assert_allclose(centred @ basis.rotation, basis.z, atol=1e-9)
    np.testing.assert_allclose(basis.rotation.T @ basis.rotation, np.eye(basis.z.shape[1]), atol=1e-9)


def test_a_column_that_was_not_given_time_to_converge_says_so() -> None:
    x, y, _ = world(200, 30, 0.3, 1.0, seed=9)
    assert fit_logistic(x, y[:, None], np.array([1.0]), max_iterations=1).decrement[0] > TOLERANCE
