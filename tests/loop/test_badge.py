"""BADGE: factored distances are those of the gradients, and draws are those of k-means++ on them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from strategy_pools import pool_of, vectors

from loop.strategies import badge as badge_module
from loop.strategies.badge import _Gradients, badge, draw_spread, gradient_factors

Array = NDArray[np.float64]


def gradients(x: NDArray[np.float32], proba: Array) -> Array:
    """The embedding that is never built in the product, shape ``(m, K d)``, by the definition of the loss."""
    believed = (proba >= 0.5).astype(float)
    return ((proba - believed)[:, :, None] * x[:, None, :]).reshape(len(x), -1)


def world(m: int, seed: int = 0) -> tuple[NDArray[np.float32], Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, 4)).astype(np.float32), rng.random((m, 3))


def test_factored_distances_are_those_of_the_gradients() -> None:
    x, proba = world(200)
    held = _Gradients(vectors(x), gradient_factors(proba))
    dense = gradients(x, proba)
    np.testing.assert_allclose(held.squares, (dense**2).sum(axis=1), rtol=1e-5)
    drawn = [3, 77, 120]
    np.testing.assert_allclose(
        held.apart(np.arange(200), x, drawn), cdist(dense, dense[drawn]) ** 2, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("tries", [64, 1])
def test_draws_have_the_frequencies_of_k_means_plus_plus(tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs and the third of 6 rows over 6,000 runs against the exact chances; 5 standard deviations.

    With one try a window, all distances are measured anew again and again: the distribution is the same.
    """
    monkeypatch.setattr(badge_module, "TRIES", tries)
    x, proba = world(6, 1)
    dense = gradients(x, proba)
    apart = cdist(dense, dense) ** 2
    exact: dict[tuple[int, ...], float] = {}
    first = (dense**2).sum(axis=1) / (dense**2).sum()
    for i in range(6):
        for j in range(6):
            for k in range(6):
                if len({i, j, k}) == 3:
                    both = np.minimum(apart[i], apart[j])
                    exact[i, j, k] = first[i] * apart[i, j] / apart[i].sum() * both[k] / both.sum()
    assert sum(exact.values()) == pytest.approx(1)
    n_runs = 6_000
    rng = np.random.default_rng(2)
    pull = gradient_factors(proba)
    pool = vectors(x)
    seen = Counter(tuple(d.row for d in draw_spread(pool, pull, 3, np.arange(6), rng)) for _ in range(n_runs))
    for drawn, p in exact.items():
        assert abs(seen[drawn] - n_runs * p) < 5 * np.sqrt(n_runs * p * (1 - p)) + 1
    assert set(seen) <= set(exact)


def test_the_booked_probability_of_the_first_and_second_are_exact() -> None:
    x, proba = world(30, 3)
    dense = gradients(x, proba)
    first, second = draw_spread(
        vectors(x), gradient_factors(proba), 2, np.arange(30), np.random.default_rng(4)
    )
    p = (dense**2).sum(axis=1) / (dense**2).sum()
    apart = ((dense - dense[first.row]) ** 2).sum(axis=1)
    assert first.probability == pytest.approx(p[first.row], rel=1e-4)
    expected = 1 - (1 - p[second.row]) * (1 - apart[second.row] / apart.sum())
    assert second.probability == pytest.approx(expected, rel=1e-3)
    assert second.distance == pytest.approx(np.sqrt(apart[second.row]), rel=1e-3)


def test_a_patient_is_drawn_once_and_everybody_is_drawn_in_the_end() -> None:
    x, proba = world(60, 5)
    patients = np.arange(60) // 3
    drawn = draw_spread(vectors(x), gradient_factors(proba), 40, patients, np.random.default_rng(6))
    assert sorted(patients[[d.row for d in drawn]]) == list(range(20))
    assert all(0 < d.probability <= 1 for d in drawn)


def test_images_that_no_head_scores_pull_nothing() -> None:
    x, proba = world(20, 7)
    proba[:15] = np.nan
    choices = badge(pool_of(x, proba), 20, np.random.default_rng(8))
    assert {choice.row for choice in choices} == set(range(15, 20))
    assert badge(pool_of(x, np.full((20, 3), np.nan)), 5, np.random.default_rng(9)) == []
