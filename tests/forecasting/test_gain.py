"""What a next batch brings: the difference of two points of one curve, with the difference's own interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from forecasting.curve import LearningCurve, curve_from_points
from forecasting.leastsquares import fit_nls
from forecasting.noise import correlation, point_variance
from forecasting.powerlaw import Forecast, fit_bayes
from forecasting.prior import PRIOR, cover, curve_auc

SIZES = np.array([25.0, 50, 100, 200, 400, 800])


def exact(method: str) -> tuple[Forecast, float]:
    """A forecast of nearly exact points, and what 200 labels after 800 truly bring."""
    if method == "nls":
        forecast = fit_nls(curve_from_points(SIZES, 0.9 - 1.2 * SIZES**-0.6, se=np.full(6, 1e-3)))
        return forecast, 1.2 * (800**-0.6 - 1000**-0.6)
    theta = np.array([[1.2, 3.0, -0.1]])
    auc = curve_auc(theta, SIZES / 4)[0]
    before, after = curve_auc(theta, [200.0, 250.0])[0]
    return fit_bayes([curve_from_points(SIZES, auc, se=np.full(6, 1e-3))])[0], float(after - before)


@pytest.mark.parametrize("method", ["bayes", "nls"])
def test_the_gain_on_a_known_curve_is_its_difference(method: str) -> None:
    forecast, truth = exact(method)
    gain = forecast.gain(200)
    assert gain.mean == pytest.approx(truth, abs=0.002)
    assert gain.low <= truth <= gain.high


@pytest.mark.parametrize("method", ["bayes", "nls"])
def test_gains_add_up_shrink_and_end_at_the_plateau(method: str) -> None:
    forecast, _ = exact(method)
    assert forecast.gain(0).mean == 0
    means = [forecast.gain(n).mean for n in (50, 100, 200, 400, math.inf)]
    assert means == sorted(means)
    assert means[1] < 2 * means[0]  # the second 50 bring less than the first
    assert means[-1] == pytest.approx(forecast.plateau().mean - forecast.auc(forecast.n).mean, abs=2e-3)
    wide, narrow = forecast.gain(100, 0.9), forecast.gain(100, 0.5)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert (wide.level, narrow.level) == (0.9, 0.5)


def test_the_interval_is_that_of_the_difference_and_not_of_two_auc() -> None:
    """AUC now is known to a few hundredths; what 50 more labels add to it is known far better."""
    auc = curve_auc(np.array([[1.2, 3.0, -0.1]]), SIZES[:4] / 4)[0]
    curve = curve_from_points(SIZES[:4], auc, se=np.full(4, 0.03))
    for forecast in (fit_bayes([curve])[0], fit_nls(curve)):
        now, gain = forecast.auc(forecast.n), forecast.gain(50)
        assert 0 <= gain.low <= gain.mean <= gain.high
        assert gain.high - gain.low < 0.6 * (now.high - now.low)


def test_intervals_of_the_gain_cover_it_in_worlds_from_the_prior() -> None:
    """150 curves from the prior, points with the noise that the fit takes for granted; 4 binomial errors, both sides."""
    rng = np.random.default_rng(4)
    draws = cover(PRIOR, 0)
    n, n_positive, repeats, level = 150, 45, 150, 0.9
    sizes = np.asarray(np.geomspace(0.1, 0.8, 6), dtype=np.float64) * n
    balance = (n_positive + 0.5) / (n + 1) * (1 - (n_positive + 0.5) / (n + 1))
    shape = np.linalg.cholesky(correlation(sizes, n))
    chance = draws.likelier.mean(axis=0)
    hits = 0
    for index in rng.choice(len(draws.theta), repeats, p=chance / chance.sum()):
        theta = draws.theta[index : index + 1]
        at = curve_auc(theta, sizes * balance)[0]
        sd = np.sqrt(point_variance(at, n_positive, n - n_positive))
        auc = np.clip(at + sd * (shape @ rng.standard_normal(6)), 0, 1)
        curve = LearningCurve("a", n, n_positive, n - n_positive, sizes, sizes * balance, auc)
        before, after = curve_auc(theta, [n * balance, (n + 50) * balance])[0]
        gain = fit_bayes([curve])[0].gain(50, level)
        hits += gain.low <= after - before <= gain.high
    low, high = binom.ppf([5e-5, 1 - 5e-5], repeats, level)
    assert low <= hits <= high
