"""The classical fit a - b n^-c: exact on exact points, honest about what it cannot do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from forecasting.curve import LearningCurve, curve_from_points
from forecasting.errors import NoFit
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import prob_mean_reached

SIZES = np.array([25.0, 50, 100, 200, 400, 800])


def test_exact_points_give_back_the_power_law() -> None:
    forecast = fit_nls(curve_from_points(SIZES, 0.9 - 1.2 * SIZES**-0.6, se=np.full(6, 1e-3)))
    tail = forecast.tail()
    assert (tail.a, tail.b, tail.c) == pytest.approx((0.9, 1.2, 0.6), rel=1e-3)
    assert forecast.auc(3200).mean == pytest.approx(0.9 - 1.2 * 3200**-0.6, abs=1e-4)
    needed = forecast.labels_needed(0.88)
    assert needed.low <= (1.2 / 0.02) ** (1 / 0.6) <= needed.high
    assert forecast.prob_plateau(0.95) == 0
    assert forecast.labels_needed(0.95).low == math.inf


def test_point_estimate_equals_scipys_unbounded_fit_where_bounds_do_not_bind() -> None:
    auc = 0.85 - 0.9 * SIZES**-0.5 + np.random.default_rng(0).normal(0, 0.004, 6)
    se = np.linspace(0.02, 0.004, 6)
    found, _ = curve_fit(
        lambda n, a, b, c: a - b * n**-c, SIZES, auc, p0=(0.85, 0.9, 0.5), sigma=np.hypot(se, 0.004)
    )
    tail = fit_nls(curve_from_points(SIZES, auc, se=se)).tail()
    assert (tail.a, tail.b, tail.c) == pytest.approx(tuple(found), rel=0.01)


def test_a_point_with_a_large_error_hardly_counts() -> None:
    auc = 0.9 - 1.2 * SIZES**-0.6
    auc[2] = 0.55
    se = np.where(np.arange(6) == 2, 0.5, 0.002)
    assert fit_nls(curve_from_points(SIZES, auc, se=se)).tail().a == pytest.approx(0.9, abs=0.01)
    assert abs(fit_nls(curve_from_points(SIZES, auc, se=np.full(6, 0.002))).tail().a - 0.9) > 0.01


def test_bootstrap_intervals_cover_a_curve_that_is_a_power_law() -> None:
    rng, hits, repeats = np.random.default_rng(3), 0, 120
    truth = 0.88 - 1.0 * 1600**-0.5
    for _ in range(repeats):
        auc = 0.88 - 1.0 * SIZES**-0.5 + rng.normal(0, 0.01, 6)
        interval = fit_nls(curve_from_points(SIZES, auc, se=np.full(6, 0.01))).auc(1600)
        hits += interval.low <= truth <= interval.high
    assert hits >= 0.8 * repeats


def test_bootstrap_lies_around_the_fit_where_the_plateau_is_at_its_bound() -> None:
    forecast = fit_nls(curve_from_points(SIZES, 1.1 - 1.3 * SIZES**-0.35, se=np.full(6, 1e-4)))
    assert forecast.tail().a == pytest.approx(1, abs=1e-6)
    for n in (25, 100, 800):
        assert np.median(forecast.joint_draws(n)) == pytest.approx(forecast.auc(n).mean, abs=0.004)


def test_few_positives_give_wide_intervals() -> None:
    auc = 0.85 - 0.9 * SIZES**-0.5
    widths = []
    for n_positive in (5, 50):
        curve = LearningCurve("a", 1000, n_positive, 1000 - n_positive, SIZES, SIZES / 4, auc)
        interval = fit_nls(curve).auc(1000)
        widths.append(interval.high - interval.low)
    assert widths[0] > 2 * widths[1]


def test_fewer_than_three_points_are_refused_with_the_remedy() -> None:
    with pytest.raises(NoFit, match=r"effusion has 2 points.*method bayes"):
        fit_nls(curve_from_points([50, 100], [0.7, 0.75], finding="effusion"))


def test_hostile_curves_stay_inside_the_bounds() -> None:
    rng = np.random.default_rng(4)
    shapes = [np.full(6, 0.5), np.full(6, 1.0), np.linspace(0.9, 0.6, 6), rng.random(6), np.zeros(6)]
    for auc in shapes:
        forecast = fit_nls(curve_from_points(SIZES, auc))
        for interval in (forecast.auc(1), forecast.auc(800), forecast.plateau()):
            assert 0 <= interval.low <= interval.mean <= interval.high <= 1
        assert forecast.labels_needed(0.7).low >= 0


def test_it_answers_the_same_questions_as_the_bayesian_forecast_and_the_same_twice() -> None:
    curve = curve_from_points(SIZES, 0.85 - 0.9 * SIZES**-0.5, finding="nodule")
    one, other = fit_nls(curve), fit_nls(curve)
    assert (one.method, one.finding, one.n) == ("nls", "nodule", 800)
    assert one.auc(3200) == other.auc(3200)
    assert prob_mean_reached([one], 0.8) == pytest.approx(one.prob_reached(0.8))
    assert one.prob_reached(0.8) >= one.prob_reached(0.85)
