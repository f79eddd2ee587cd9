"""Two encoders on the same labels: what is shared cancels, what is said of the difference holds, and nothing else is said."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from gaussian_world import Array, make_ridge_scorer, patients, ridge
from scipy.special import ndtr
from scipy.stats import binom, multivariate_t

from forecasting.comparing import SHARED, Fitted, Switch, _log_joint, compare_encoders, shared_error
from forecasting.curve import LearningCurve, curve_from_points, estimate_curves
from forecasting.noise import correlation, point_variance
from forecasting.powerlaw import fit_bayes
from forecasting.prior import curve_auc

DIM, PREVALENCE, STRENGTH, N = 8, 0.3, 5.0, 120
ALIKE = 0.8  # correlation of the two encoders' noise
TARGET = 0.78


def draw(rng: np.random.Generator, n: int, separations: tuple[float, ...]) -> tuple[Array, list[Array]]:
    """Labels ``(n,)``, and features ``(n, d)`` under each encoder, whose noise is shared in part."""
    y = (rng.random(n) < PREVALENCE).astype(float)
    common = rng.standard_normal((n, DIM))
    features = []
    for separation in separations:
        x = math.sqrt(ALIKE) * common + math.sqrt(1 - ALIKE) * rng.standard_normal((n, DIM))
        x[:, 0] += separation * y
        features.append(x)
    return y, features


@cache
def true_curve(separation: float) -> tuple[Array, Array]:
    """Labels and the mean AUC of a probe trained on them, in closed form for each of many training sets."""
    rng = np.random.default_rng(9)
    sizes = np.geomspace(20, 5000, 12)
    means = []
    for n in sizes:
        aucs = []
        for _ in range(max(6, int(5000 / n))):
            y, (x,) = draw(rng, int(n), (separation,))
            w = ridge(x, y, STRENGTH)
            aucs.append(float(ndtr(w[0] * separation / math.sqrt(2) / np.linalg.norm(w))))
        means.append(np.mean(aucs))
    return sizes, np.maximum.accumulate(means)


def further(separation: float, target: float) -> float:
    """Labels that a project of `N` still needs."""
    sizes, aucs = true_curve(separation)
    return max(0.0, float(np.exp(np.interp(target, aucs, np.log(sizes)))) - N)


def measured(seed: int, separations: tuple[float, float]) -> tuple[Fitted, Fitted, float]:
    y, features = draw(np.random.default_rng([seed, 0]), N, separations)
    sides = []
    for x in features:
        (curve,) = estimate_curves(
            ["f"],
            y[:, None],
            patients(N),
            make_ridge_scorer(x, y[:, None], STRENGTH),
            np.random.default_rng(seed),
        )
        sides.append(Fitted(curve, fit_bayes([curve])[0]))
    return sides[0], sides[1], shared_error(y, patients(N), sides[0].curve, sides[1].curve)


@cache
def replayed(separations: tuple[float, float], n_repeats: int = 24) -> list[tuple[Switch, Switch]]:
    """Projects in one world: what is said of the change with and without what the curves share."""
    told = []
    for seed in range(n_repeats):
        before, after, together = measured(seed, separations)
        told.append(
            (
                compare_encoders(before, after, together, TARGET),
                compare_encoders(before, after, 0.0, TARGET),
            )
        )
    return told


def given(auc: tuple[float, ...], positives: int = 60, negatives: int = 140) -> Fitted:
    n = np.array([25.0, 50.0, 100.0, 200.0])
    share = positives / (positives + negatives)
    curve = replace(curve_from_points(n, auc, positives=n * share, negatives=n * (1 - share)), finding="f")
    return Fitted(curve, fit_bayes([curve])[0])


def test_what_is_said_of_a_better_encoder_holds_as_often_as_it_claims() -> None:
    """Over projects of a world whose true curves are known; bounds are what chance allows once in a thousand."""
    told = [paired for paired, _ in replayed((1.2, 1.6))]
    saved = further(1.2, TARGET) - further(1.6, TARGET)
    assert saved > 20
    held = sum(s.saved.low <= saved <= s.saved.high for s in told)
    assert held >= binom.ppf(1e-3, len(told), 0.8)
    gain = np.interp(math.log(N), np.log(true_curve(1.6)[0]), true_curve(1.6)[1] - true_curve(1.2)[1])
    held = sum(s.gain.low <= gain <= s.gain.high for s in told)
    assert held >= binom.ppf(1e-3, len(told), 0.9)
    assert not any(s.costs for s in told)
    assert any(s.saves for s in told)


def test_an_equal_encoder_is_rarely_said_to_save_or_to_cost_labels() -> None:
    told = [paired for paired, _ in replayed((1.3, 1.3))]
    for said in (sum(s.saves for s in told), sum(s.costs for s in told)):
        assert said <= binom.ppf(0.999, len(told), 0.1)


def test_the_shared_images_make_the_difference_surer_than_either_curve() -> None:
    told = replayed((1.2, 1.6))
    width, apart = (np.mean([s[i].gain.high - s[i].gain.low for s in told]) for i in (0, 1))
    assert width < 0.85 * apart
    assert all(0 < paired.correlation < SHARED for paired, _ in told)


def test_the_joint_likelihood_is_that_of_a_multivariate_t() -> None:
    """Against SciPy, with the covariance written out; what active selection does is common to one encoder's points."""
    before, after = given((0.6, 0.64, 0.7, 0.73)), given((0.62, 0.68, 0.72, 0.78))
    after = Fitted(replace(after.curve, bias_se=0.03), after.forecast)
    chosen = np.array([[0, 5, 900], [3, 70, 12]])
    found = _log_joint(before, after, chosen, 0.4)
    expected = []
    shape = np.kron([[1, 0.4], [0.4, 1]], correlation(before.curve.sizes, before.curve.n))
    for a, b in chosen.T:
        model = [
            curve_auc(side.forecast.draws.theta[[row]], side.curve.effective)[0]
            for side, row in ((before, a), (after, b))
        ]
        sd = np.sqrt(np.concatenate([point_variance(m, 60, 140) for m in model]))
        sigma = shape * np.outer(sd, sd)
        sigma[4:, 4:] += 0.03**2
        points = np.concatenate([before.curve.auc, after.curve.auc])
        expected.append(multivariate_t(np.concatenate(model), sigma, df=6).logpdf(points))
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=1e-8)


def test_curves_without_shared_errors_differ_as_their_forecasts_do() -> None:
    before, after = given((0.6, 0.64, 0.7, 0.73)), given((0.62, 0.68, 0.72, 0.78))
    told = compare_encoders(before, after, 0.0, 0.8)
    plateaus = [side.forecast.plateau().mean for side in (before, after)]
    assert told.gain_plateau.mean == pytest.approx(plateaus[1] - plateaus[0], abs=0.002)
    back = compare_encoders(after, before, 0.0, 0.8)
    assert back.gain.mean == pytest.approx(-told.gain.mean, abs=0.002)
    assert (back.p_saves, back.p_costs) == pytest.approx((told.p_costs, told.p_saves), abs=0.02)


def test_labels_that_are_there_already_are_not_saved() -> None:
    told = compare_encoders(given((0.8, 0.86, 0.9, 0.92)), given((0.88, 0.92, 0.95, 0.96)), 0.4, 0.6)
    assert (told.saved.low, told.saved.high, told.p_saves) == (0, 0, pytest.approx(0, abs=1e-6))
    assert not told.saves


def test_an_encoder_that_never_gets_there_makes_the_saving_unlimited_and_two_of_them_none() -> None:
    flat, steep = given((0.6, 0.6, 0.6, 0.6), 6000, 14000), given((0.8, 0.83, 0.85, 0.87), 6000, 14000)
    told = compare_encoders(flat, steep, 0.4, 0.85)
    assert told.saves
    assert math.isinf(told.saved.high)
    back = compare_encoders(steep, flat, 0.4, 0.85)
    assert back.costs
    assert back.saved.low == -math.inf
    neither = compare_encoders(flat, flat, 0.4, 0.9)
    assert (neither.saved.low, neither.saved.median, neither.saved.high) == (0, 0, 0)


def test_forecasts_that_failed_make_the_difference_wider_too() -> None:
    before, after = given((0.6, 0.64, 0.7, 0.73)), given((0.62, 0.68, 0.72, 0.78))
    narrow, wide = (compare_encoders(before, after, 0.3, 0.8, widening=w) for w in (1.0, 2.0))
    assert wide.gain.high - wide.gain.low == pytest.approx(2 * (narrow.gain.high - narrow.gain.low))
    assert wide.saved.low <= narrow.saved.low
    assert wide.saved.high >= narrow.saved.high
    assert abs(wide.p_saves - 0.5) < abs(narrow.p_saves - 0.5)


def placed(placements: Array) -> LearningCurve:
    return replace(given((0.6, 0.64, 0.7, 0.73)).curve, placements=placements)


def test_shared_errors_are_delongs_correlation_drawn_towards_none_by_few_patients() -> None:
    rng = np.random.default_rng(3)
    y = np.repeat([1.0, 0.0], (40, 90))
    a = rng.random(130)
    b = 0.6 * a + 0.4 * rng.random(130)
    found = shared_error(y, patients(130), placed(a), placed(b))
    cov = sum(np.cov(a[y == c], b[y == c], ddof=0) / (y == c).sum() for c in (1, 0))  # DeLong's, (2, 2)
    delong = cov[0, 1] / math.sqrt(cov[0, 0] * cov[1, 1])
    assert found == pytest.approx(delong * SHARED * 40 / 50)
    assert shared_error(y, patients(130), placed(a), placed(rng.random(130))) < 0.2 * found
    few = np.r_[:5, 40:130]
    assert shared_error(y[few], patients(130)[few], placed(a[few]), placed(b[few])) < 0.6 * found


def test_curves_measured_elsewhere_share_nothing_that_is_known() -> None:
    curve = given((0.6, 0.64, 0.7, 0.73)).curve
    assert shared_error(np.ones(4), patients(4), curve, curve) == 0
