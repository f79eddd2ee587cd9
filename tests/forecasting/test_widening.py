"""A widened forecast: the same curve, more cautious in every answer, and coherent with itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from forecasting.curve import LearningCurve, curve_from_points
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import Forecast, fit_bayes, prob_mean_reached
from forecasting.stopping import Rules, Verdict, decide_finding
from forecasting.widening import Widened, narrow_form, widen


def learning_curve() -> LearningCurve:
    sizes = np.array([50.0, 100.0, 200.0, 400.0])
    return curve_from_points(sizes, 0.9 - 0.9 * sizes**-0.5, se=np.full(4, 0.02), finding="a")


@pytest.fixture(params=["bayes", "nls"])
def narrow(request: pytest.FixtureRequest) -> Forecast:
    return fit_bayes([learning_curve()])[0] if request.param == "bayes" else fit_nls(learning_curve())


def test_a_factor_of_one_changes_nothing_and_less_is_refused(narrow: Forecast) -> None:
    assert widen(narrow, 1.0) is narrow
    with pytest.raises(ValueError, match="never narrowed"):
        widen(narrow, 0.9)


def test_widening_twice_is_widening_once_by_the_last_factor(narrow: Forecast) -> None:
    assert widen(widen(narrow, 2.0), 1.5) == Widened(narrow, 1.5)
    assert narrow_form(widen(narrow, 1.5)) == (narrow, 1.5)
    assert narrow_form(narrow) == (narrow, 1.0)


@pytest.mark.parametrize("times", [1.0, 4.0, math.inf])
def test_the_mean_stays_and_the_bounds_move_away_by_the_factor_as_probits(
    narrow: Forecast, times: float
) -> None:
    n = times * narrow.n
    told, wider = narrow.auc(n), widen(narrow, 1.5).auc(n)
    assert (wider.mean, wider.level) == (told.mean, told.level)
    for before, after in ((told.low, wider.low), (told.high, wider.high)):
        distance = ndtri(np.clip([before, after], 1e-6, 1 - 1e-6)) - ndtri(narrow.median(n))
        if before < 1 - 1e-6:
            assert distance[1] == pytest.approx(1.5 * distance[0], abs=1e-4)
    assert wider.low <= told.low <= told.mean <= told.high <= wider.high
    if times == math.inf:
        assert widen(narrow, 1.5).plateau() == wider


def test_a_least_squares_fit_at_the_edge_stays_near_its_own_bootstrap() -> None:
    """Where the fitted plateau is 1, its probit is infinite: stretched from there, intervals would hold anything."""
    curve = curve_from_points([50, 100, 200, 400], [0.6, 0.7, 0.8, 0.9], positives=[10, 20, 40, 80])
    narrow = fit_nls(curve)
    told, wider = narrow.plateau(), widen(narrow, 2.3).plateau()
    assert told.mean > 0.99
    assert wider.low <= told.low
    assert wider.low > 0.3 * told.low  # before: below .001
    assert wider.high >= told.high


def test_the_identity_is_that_of_the_narrow_forecast(narrow: Forecast) -> None:
    wider = widen(narrow, 1.5)
    assert (wider.finding, wider.method, wider.n) == (narrow.finding, narrow.method, narrow.n)
    assert wider.tail() == narrow.tail()


def test_probabilities_agree_with_the_draws(narrow: Forecast) -> None:
    """Up to the error of a share among 2,048 draws: 3 sqrt(.25 / 2048) = .033."""
    wider = widen(narrow, 1.7)
    for n in (None, 4.0 * narrow.n):
        draws = wider.joint_draws(n)
        for target in (0.75, 0.8, 0.82, 0.84, 0.9):
            assert wider.prob_reached(target, n) == pytest.approx((draws >= target).mean(), abs=0.034)


def test_every_probability_comes_nearer_to_one_half(narrow: Forecast) -> None:
    wider = widen(narrow, 1.5)
    middle = narrow.median(narrow.n)
    for target in np.linspace(0.6, 0.95, 15):
        was, now = narrow.prob_reached(target), wider.prob_reached(target)
        assert (now <= was) if target < middle else (now >= was)
        was, now = narrow.prob_plateau(target), wider.prob_plateau(target)
        assert (now <= was) if target < narrow.median(math.inf) else (now >= was)


def test_the_range_of_labels_needed_holds_the_narrow_one(narrow: Forecast) -> None:
    before, after = narrow.labels_needed(0.86), widen(narrow, 1.5).labels_needed(0.86)
    assert after.low <= before.low
    assert after.high >= before.high
    assert (after.median, after.level) == (before.median, before.level)


def test_the_mean_over_findings_is_less_sure_too() -> None:
    forecasts = fit_bayes([replace(learning_curve(), finding=name) for name in "abc"])
    wider = [widen(forecast, 2.0) for forecast in forecasts]
    assert prob_mean_reached(wider, 0.8) < prob_mean_reached(forecasts, 0.8)


def test_a_finding_that_was_likely_reached_is_not_any_more_where_earlier_intervals_failed() -> None:
    forecast = fit_bayes([learning_curve()])[0]
    target = forecast.auc(forecast.n, 0.96).low  # reached with probability .98
    verdicts = [
        decide_finding("a", told, 50, 150, None, None, Rules(target)).verdict
        for told in (forecast, widen(forecast, 2.0))
    ]
    assert verdicts == [Verdict.LIKELY_REACHED, Verdict.KEEP_LABELLING]
