"""The design effect of cross-fitted scores: against independent scores, strangers and copies."""

from __future__ import annotations

import numpy as np
import pytest

from forecasting.auc import count_wins, estimate_auc
from forecasting.clusters import FEW_PATIENTS, design_effect, most_alike, place_items


@pytest.mark.parametrize("seed", range(5))
def test_placements_of_one_fold_have_the_design_effect_of_independent_scores(seed: int) -> None:
    """Drawn towards that of copies by as much as the patients of the rarer class are few."""
    rng = np.random.default_rng([31, seed])
    groups = rng.integers(0, 25, 90)
    y = (rng.random(90) < 0.4).astype(float)
    scores = y + rng.normal(size=90) + rng.normal(size=25)[groups]
    scores[:5], y[5:8] = np.nan, np.nan
    won, met = place_items(y, scores)
    there = ~np.isnan(scores) & ~np.isnan(y)
    assert won[y == 1].sum() == won[y == 0].sum() == count_wins(y, scores)[0]
    assert (met[~there] == 0).all()
    mine = groups[there & (y == 1)], groups[there & (y == 0)]
    measured = estimate_auc(y[there], scores[there], groups[there]).design_effect
    n_patients = min(len(np.unique(part)) for part in mine)
    expected = (n_patients * min(measured, most_alike(*mine)) + FEW_PATIENTS * most_alike(*mine)) / (
        n_patients + FEW_PATIENTS
    )
    assert design_effect(y, won, met, groups) == pytest.approx(expected)


def test_two_patients_with_many_images_are_not_many_positives() -> None:
    rng = np.random.default_rng(33)
    told = []
    for _ in range(40):
        y = np.repeat([1.0, 0.0], [40, 60])
        groups = np.concatenate([np.repeat([0, 1], 20), np.arange(2, 62)])
        scores = rng.normal(size=62)[groups] + 0.3 * rng.normal(size=100) + y
        told.append(design_effect(y, *place_items(y, scores), groups))
    assert min(told) > 10  # of 20 that copies would have; measured alone it is often 1


def test_strangers_have_no_design_effect() -> None:
    rng = np.random.default_rng(32)
    y = (rng.random(60) < 0.3).astype(float)
    assert design_effect(y, *place_items(y, rng.normal(size=60) + y), np.arange(60)) == pytest.approx(1)


def test_a_perfect_separation_hides_the_design_effect_so_the_largest_counts() -> None:
    y, groups = np.repeat([0.0, 1.0], 20), np.repeat(np.arange(10), 4)
    assert design_effect(y, *place_items(y, y.copy()), groups) == pytest.approx(4)
