"""The best AUC that noisy labels allow: the algebra, simulated readers, and what cannot be known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from forecasting.agreement import count_kinds
from forecasting.ceiling import FEWEST, bound_ceiling, ceiling_of_majorities, estimate_ceiling, measure_noise


def true_ceiling(prevalence: float, sensitivity: float, specificity: float) -> float:
    m = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    return (prevalence * sensitivity / m + (1 - prevalence) * specificity / (1 - m)) / 2


def balanced(prevalence: float, sensitivity: float) -> float:
    """The specificity at which as many findings are invented as missed."""
    return 1 - prevalence * (1 - sensitivity) / (1 - prevalence)


def agreement(prevalence: float, sensitivity: float, specificity: float) -> tuple[float, float]:
    """m and kappa of such readers."""
    m = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    return m, prevalence * (1 - prevalence) * (sensitivity + specificity - 1) ** 2 / (m * (1 - m))


@pytest.mark.parametrize(("prevalence", "sensitivity", "specificity"), [(0.3, 0.8, 0.9), (0.05, 0.7, 0.98)])
def test_no_score_is_measured_above_the_ceiling_not_even_the_truth(
    prevalence: float, sensitivity: float, specificity: float
) -> None:
    """Equation 1 on 200,000 images: an AUC's standard error is at most 1 / sqrt(12 n_scarce) = .0025, times 4."""
    rng, n = np.random.default_rng(0), 200_000
    shows = rng.random(n) < prevalence
    read = rng.random(n) < np.where(shows, sensitivity, 1 - specificity)
    ceiling = true_ceiling(prevalence, sensitivity, specificity)
    assert roc_auc_score(read, shows) == pytest.approx(ceiling, abs=0.01)
    score = rng.normal(size=n) + 1.2 * shows
    of_truth = roc_auc_score(shows, score)
    assert roc_auc_score(read, score) == pytest.approx(0.5 + (2 * ceiling - 1) * (of_truth - 0.5), abs=0.01)


def test_balanced_errors_give_one_half_and_half_the_root_of_kappa() -> None:
    for prevalence, sensitivity in ((0.5, 0.9), (0.2, 0.8), (0.03, 0.6)):
        specificity = balanced(prevalence, sensitivity)
        _, kappa = agreement(prevalence, sensitivity, specificity)
        assert (1 + np.sqrt(kappa)) / 2 == pytest.approx(true_ceiling(prevalence, sensitivity, specificity))


def test_the_bounds_hold_whatever_way_readers_err_and_are_reached() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        prevalence, sensitivity, specificity = rng.uniform((0.02, 0.5, 0.55), (0.98, 1.0, 1.0))
        low, high = bound_ceiling(*agreement(prevalence, sensitivity, specificity))
        assert low - 1e-9 <= true_ceiling(prevalence, sensitivity, specificity) <= high + 1e-9
    for sensitivity, specificity in ((1.0, 0.9), (0.7, 1.0)):  # all invented, all missed
        low, high = bound_ceiling(*agreement(0.1, sensitivity, specificity))
        ceiling = true_ceiling(0.1, sensitivity, specificity)
        assert min(abs(ceiling - low), abs(ceiling - high)) < 1e-9


@pytest.mark.parametrize(("prevalence", "sensitivity", "n"), [(0.3, 0.85, 60), (0.1, 0.8, 150)])
def test_nine_of_ten_intervals_hold_the_ceiling(prevalence: float, sensitivity: float, n: int) -> None:
    """600 projects of readers whose errors balance; tolerance as for alpha: .025 for small samples, at p = .001."""
    specificity = balanced(prevalence, sensitivity)
    truth = true_ceiling(prevalence, sensitivity, specificity)
    noise = (np.array(x) for x in agreement(prevalence, sensitivity, specificity))
    of_labels = float(ceiling_of_majorities(*noise, np.array([1, 2]), np.array([3, 1])))
    rng, held, held_of_labels, projects = np.random.default_rng(2), 0, 0, 600
    for _ in range(projects):
        shows = rng.random(n) < prevalence
        yes = (rng.random((2, n)) < np.where(shows, sensitivity, 1 - specificity)).sum(axis=0)
        found = estimate_ceiling(count_kinds(yes, np.full(n, 2)), [1, 1, 1, 2], 0.9, rng)
        assert found is not None
        assert found.lowest <= found.auc.value <= found.highest + 1e-12
        held += found.auc.low <= truth <= found.auc.high
        held_of_labels += found.labels.low <= of_labels <= found.labels.high
    for n_held in (held, held_of_labels):
        assert binomtest(n_held, projects, 0.875, alternative="less").pvalue > 0.001, n_held / projects


@pytest.mark.parametrize("reads", [[1], [2], [3], [1, 2], [1, 1, 1, 2, 3]])
def test_majorities_have_the_ceiling_that_the_truth_is_measured_at(reads: list[int]) -> None:
    """200,000 images, errors that balance, ties left out; the tolerance is that of one reading."""
    rng, n, prevalence, sensitivity = np.random.default_rng(4), 200_000, 0.2, 0.8
    specificity = balanced(prevalence, sensitivity)
    shows = rng.random(n) < prevalence
    r = rng.choice(reads, n)
    yes = rng.binomial(r, np.where(shows, sensitivity, 1 - specificity))
    known = 2 * yes != r
    sizes, counts = np.unique(r, return_counts=True)
    share, kappa = agreement(prevalence, sensitivity, specificity)
    ceiling = float(ceiling_of_majorities(np.array(share), np.array(kappa), sizes, counts))
    assert roc_auc_score((2 * yes > r)[known], shows[known]) == pytest.approx(ceiling, abs=0.01)
    if reads == [1]:
        assert ceiling == pytest.approx((1 + np.sqrt(kappa)) / 2)


def test_a_third_reading_of_some_images_changes_nothing_but_the_width() -> None:
    rng, n = np.random.default_rng(3), 40_000
    shows = rng.random(n) < 0.3
    yes = rng.random((3, n)) < np.where(shows, 0.85, 0.05)  # (3, n)
    reads = np.where(rng.random(n) < 0.5, 3, 2)
    kinds = count_kinds(np.where(reads == 3, yes.sum(axis=0), yes[:2].sum(axis=0)), reads)
    m, kappa = measure_noise(kinds.counts.astype(float), kinds.yes, kinds.reads)
    assert (float(m), float(kappa)) == pytest.approx(agreement(0.3, 0.85, 0.95), abs=0.02)


def test_few_or_one_sided_pairs_have_no_ceiling() -> None:
    rng = np.random.default_rng(0)
    assert estimate_ceiling(count_kinds([1] * (FEWEST - 1), [2] * (FEWEST - 1)), [2], 0.9, rng) is None
    assert estimate_ceiling(count_kinds([0] * 50, [2] * 50), [2], 0.9, rng) is None


def test_readers_who_agree_as_by_chance_leave_no_auc_at_all() -> None:
    rng = np.random.default_rng(0)
    found = estimate_ceiling(count_kinds([0] * 25 + [1] * 50 + [2] * 25, [2] * 100), [1, 2], 0.9, rng)
    assert found is not None
    assert found.auc.value == found.labels.value == 0.5
    assert (found.lowest, found.highest) == (0.5, 0.5)
