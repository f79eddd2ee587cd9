"""Agreement of people, against published and independent figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from forecasting.agreement import (
    Kinds,
    cohen_kappa,
    count_kinds,
    estimate_alpha,
    estimate_kappa,
    estimate_share,
    krippendorff_alpha,
)


def alpha_of(kinds: Kinds) -> float:
    return float(krippendorff_alpha(kinds.counts.astype(float), kinds.yes, kinds.reads))


def by_image(readers: list[list[float]]) -> Kinds:
    answers = np.array(readers)  # (readers, n)
    return count_kinds((answers == 1).sum(axis=0), (~np.isnan(answers)).sum(axis=0))


def test_alpha_is_krippendorffs_own_example() -> None:
    """Krippendorff, Computing Krippendorff's alpha-reliability, 2011, section A: two observers, binary, alpha = .095."""
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert alpha_of(by_image([meg, owen])) == pytest.approx(0.095, abs=5e-4)


def test_alpha_with_missing_readings_is_that_of_the_krippendorff_package() -> None:
    """krippendorff 0.9.0, alpha(M, level_of_measurement="nominal"), run in an environment of its own: .5961538461538461."""
    n = math.nan
    readers = [
        [1, 0, 0, 1, n, 0, 1, 0, n, 1, 0, 0],
        [1, 0, 1, 1, 0, 0, n, 0, 1, 1, n, 0],
        [n, 0, 0, 1, 0, 1, 1, n, 1, 0, 0, n],
    ]
    assert alpha_of(by_image(readers)) == pytest.approx(0.5961538461538461, abs=1e-12)


def test_kappa_is_cohens() -> None:
    """The textbooks' table (20 yes and 15 no in common, 5 and 10 apart) has kappa .4; random answers as scikit-learn."""
    assert float(cohen_kappa(np.array([20.0, 15.0, 5.0, 10.0]))) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    first = (rng.random(80) < 0.3).astype(float)
    second = np.where(rng.random(80) < 0.8, first, 1 - first)
    measured = estimate_kappa(first, second, 0.9, rng)
    assert measured.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert measured.low < measured.value < measured.high


def test_answers_that_are_all_the_same_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    assert math.isnan(estimate_kappa(np.zeros(9), np.zeros(9), 0.9, rng).value)
    assert math.isnan(estimate_alpha(count_kinds([0] * 9, [2] * 9), 0.9, rng).value)
    assert math.isnan(estimate_alpha(count_kinds([1, 1], [1, 1]), 0.9, rng).value)  # read once


def test_ten_agreements_in_ten_are_not_called_certain() -> None:
    measured = estimate_alpha(count_kinds([2] * 5 + [0] * 5, [2] * 10), 0.9, np.random.default_rng(0))
    assert measured.value == 1.0
    assert measured.low < 0.85


@pytest.mark.parametrize(("n", "measure"), [(60, "alpha"), (60, "kappa"), (200, "alpha")])
def test_nine_of_ten_intervals_hold_the_truth(n: int, measure: str) -> None:
    """600 projects: a 90 % interval may fail as often as a coin of .90 less .025 for small samples would, at p = .001."""
    prevalence, sensitivity, specificity = 0.3, 0.85, 0.93
    m = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    truth = prevalence * (1 - prevalence) * (sensitivity + specificity - 1) ** 2 / (m * (1 - m))
    rng, held, projects = np.random.default_rng(1), 0, 600
    for _ in range(projects):
        shows = rng.random(n) < prevalence
        yes = rng.random((2, n)) < np.where(shows, sensitivity, 1 - specificity)
        found = (
            estimate_alpha(count_kinds(yes.sum(axis=0), np.full(n, 2)), 0.9, rng)
            if measure == "alpha"
            else estimate_kappa(yes[0].astype(float), yes[1].astype(float), 0.9, rng)
        )
        held += found.low <= truth <= found.high
    assert binomtest(held, projects, 0.875, alternative="less").pvalue > 0.001, held / projects


def test_one_image_that_many_read_does_not_widen_the_interval_of_all() -> None:
    pairs = [2] * 30 + [0] * 60 + [1] * 10, [2] * 100
    alone = estimate_alpha(count_kinds(*pairs), 0.9, np.random.default_rng(0))
    with_one = estimate_alpha(count_kinds([*pairs[0], 5], [*pairs[1], 5]), 0.9, np.random.default_rng(0))
    assert with_one.low == pytest.approx(alone.low, abs=0.02)
    assert count_kinds(*pairs).prior.tolist() == [0.5, 0.5, 0.5]


def test_a_share_has_wilsons_interval() -> None:
    """statsmodels' and R's prop.test(8, 10, correct = FALSE): .490 to .943 at 95 %."""
    share = estimate_share(8, 10, 0.95)
    assert (share.low, share.high) == (pytest.approx(0.4901625, abs=1e-6), pytest.approx(0.9433178, abs=1e-6))
    perfect = estimate_share(10, 10, 0.95)
    assert perfect.high == 1.0
    assert perfect.low == pytest.approx(0.7224672, abs=1e-6)
    assert math.isnan(estimate_share(0, 0, 0.9).value)
