"""Replays of known curves: nothing of the future is seen, the truth is the measured curve, measures are as by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from forecasting.auc import Array
from forecasting.backtest import Backtest, Replay, Told, method_names, run_backtest
from forecasting.curve import curve_from_points
from forecasting.errors import BadCurve
from forecasting.measured import MeasuredCurve, true_curve
from forecasting.measures import Measure, measure
from forecasting.noise import FLOOR, model_jitter
from forecasting.powerlaw import fit_bayes
from forecasting.prior import PRIOR, curve_auc, curve_probit

SIZES = 50.0 * 2 ** np.arange(6)  # 50 to 1,600


def curve(
    finding: str = "effusion",
    dataset: str = "",
    repetition: str = "",
    a: float = 0.9,
    shift: Array | float = 0.0,
    se: float | None = 0.01,
) -> MeasuredCurve:
    auc = a - 1.2 * SIZES**-0.6 + shift
    return MeasuredCurve(
        dataset, finding, repetition, SIZES, auc, None if se is None else np.full(len(SIZES), se)
    )


def asked(backtest: Backtest, n: int, horizon: str) -> Replay:
    (found,) = [r for r in backtest.replays if r.n == n and r.horizon == horizon]
    return found


# ---------------------------------------------------------------- replays


def test_every_cut_from_three_points_on_is_asked_as_far_as_the_curve_was_measured() -> None:
    backtest = run_backtest([curve()])
    assert [(r.n, r.horizon, r.at) for r in backtest.replays] == [
        (200, "2x", 400), (200, "4x", 800), (200, "last", 1600),
        (400, "2x", 800), (400, "4x", 1600), (400, "last", 1600),
        (800, "2x", 1600), (800, "last", 1600),
    ]  # fmt: skip
    assert asked(backtest, 200, "4x").truth == pytest.approx(0.9 - 1.2 * 800**-0.6)
    assert asked(backtest, 200, "4x").needed == pytest.approx(800)
    assert set(asked(backtest, 200, "4x").told) == set(method_names())


def test_no_method_sees_what_comes_after_the_cut() -> None:
    later = np.where(SIZES > 400, 0.05, 0.0)
    one, other = (asked(run_backtest([curve(shift=s)]), 400, "4x") for s in (0.0, later))
    assert one.truth != other.truth
    for name in method_names():
        assert one.told[name].auc == other.told[name].auc


def test_our_forecast_is_the_one_of_the_prefix() -> None:
    told = asked(run_backtest([curve()], level=0.8), 400, "4x").told["bayes"]
    auc = 0.9 - 1.2 * SIZES[:4] ** -0.6
    (forecast,) = fit_bayes([curve_from_points(SIZES[:4], auc, np.full(4, 0.01), finding="effusion")])
    expected = forecast.auc(1600, 0.8)
    assert (told.auc, told.low, told.high) == (expected.mean, expected.low, expected.high)
    assert told.needed == forecast.labels_needed(0.9 - 1.2 * 1600**-0.6).median


def test_findings_of_one_data_set_are_pooled_and_data_sets_are_not() -> None:
    two = [curve("mass", a=0.95), curve("hernia", a=0.8, se=0.03)]
    apart = [replace(c, dataset=c.finding) for c in two]

    def told(curves: list[MeasuredCurve]) -> Told:
        (found,) = [r for r in run_backtest(curves).replays if (r.finding, r.n, r.horizon) == ("hernia", 200, "4x")]  # fmt: skip
        return found.told["bayes"]

    together = fit_bayes([c.until(200) for c in two])[1].auc(800).mean
    alone = fit_bayes([two[1].until(200)])[0].auc(800).mean
    assert told(two).auc == together
    assert told(apart).auc == alone
    assert together != alone


def test_the_truth_is_the_mean_over_repetitions_where_half_of_them_can_be_read() -> None:
    one = MeasuredCurve("", "", "1", np.array([100.0, 400, 1600]), np.array([0.70, 0.80, 0.90]))
    two = MeasuredCurve("", "", "2", np.array([100.0, 1600]), np.array([0.72, 0.88]))
    three = MeasuredCurve("", "", "3", np.array([100.0, 400, 6400]), np.array([0.71, 0.80, 0.90]))
    truth = true_curve([one, two, three])
    np.testing.assert_array_equal(truth.n, [100, 400, 1600])
    np.testing.assert_allclose(truth.auc, [0.71, 0.80, (0.90 + 0.88 + 0.85) / 3])
    assert truth.at(200) == pytest.approx(0.755)  # half-way on the log scale
    assert np.isnan(truth.sd).all()


def test_points_without_an_error_take_the_spread_of_five_repetitions() -> None:
    shifts = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])  # standard deviation sqrt(.00025)
    curves = [curve(repetition=str(i), shift=shift, se=None) for i, shift in enumerate(shifts)]
    backtest = run_backtest(curves)
    assert backtest.errors == {"given": 0, "repetitions": 5, "counts": 0}
    told = next(r for r in backtest.replays if (r.repetition, r.n, r.horizon) == ("0", 200, "4x"))
    informed = replace(curves[0], se=np.full(6, math.sqrt(0.00025)), shared=True)
    assert told.told["bayes"].auc == pytest.approx(fit_bayes([informed.until(200)])[0].auc(800).mean)
    assert run_backtest(curves[:4]).errors == {"given": 0, "repetitions": 0, "counts": 4}
    assert told.truth == pytest.approx(0.9 - 1.2 * 800**-0.6)


def test_points_that_stray_together_say_less_than_independent_ones() -> None:
    apart, together = (
        fit_bayes([replace(curve(se=0.02), shared=shared).until(1600)])[0].auc(1600)
        for shared in (False, True)
    )
    assert together.high - together.low > 1.2 * (apart.high - apart.low)


def test_a_method_that_cannot_be_fitted_says_the_last_value_without_an_interval() -> None:
    told = asked(run_backtest([curve()]), 200, "4x").told["pow4"]  # three points, four parameters
    assert not told.fitted
    assert told.auc == pytest.approx(0.9 - 1.2 * 200**-0.6)
    assert math.isnan(told.low)


def test_labels_needed_are_not_asked_on_a_flat_curve() -> None:
    flat = MeasuredCurve("", "", "", SIZES, np.array([0.8, 0.81, 0.81, 0.812, 0.812, 0.814]))
    assert all(math.isnan(r.needed) for r in run_backtest([flat]).replays)


def test_a_sample_of_replays_is_the_same_twice() -> None:
    curves = [curve(dataset=str(i), shift=0.001 * i) for i in range(6)]
    one, other = (run_backtest(curves, most_cuts=4, seed=1) for _ in range(2))
    assert one == other
    assert (one.n_cuts, one.n_cuts_possible) == (4, 18)
    assert run_backtest(curves, most_cuts=4, seed=2) != one
    assert {r.n for r in run_backtest(curves, least_n=700).replays} == {800}


def test_curves_that_are_too_short_are_refused_with_the_remedy() -> None:
    short = replace(curve(), n=SIZES[:3], auc=curve().auc[:3], se=None)
    with pytest.raises(BadCurve, match=r"3 points.*longest of 1 has 3; measure at more sizes"):
        run_backtest([short])


def test_our_intervals_cover_a_world_drawn_from_the_prior() -> None:
    """80 projects, each with its own effect: 90 % intervals cover 72 on average, standard deviation 2.7.

    The point at four times the labels is one trained model's, without the error of a test set.
    """
    rng, sizes, curves = np.random.default_rng(7), np.array([50.0, 100, 200, 400, 1600]), []
    within = np.diag(np.square(PRIOR.within))
    within[0, 1] = within[1, 0] = PRIOR.correlation * PRIOR.within[0] * PRIOR.within[1]
    for i in range(80):
        own = rng.multivariate_normal(np.zeros(3), within) * math.sqrt(PRIOR.dof / rng.chisquare(PRIOR.dof))
        theta = np.clip(PRIOR.mean + rng.normal(0, PRIOR.between) + own, [0, -4, -1.6], [3.3, 9, 1])[None]
        auc = curve_auc(theta, sizes / 4)[0] + rng.normal(0, math.hypot(0.02, FLOOR), len(sizes))
        at_last = curve_probit(theta, sizes[-1:] / 4)[0, 0] + rng.normal(0, model_jitter(sizes[-1] / 4))
        auc[-1] = ndtr(at_last)
        curves.append(MeasuredCurve(str(i), "", "", sizes, np.clip(auc, 0, 1), np.full(len(sizes), 0.02)))
    backtest = run_backtest(curves, least_n=400)
    found = [r for r in backtest.replays if (r.n, r.horizon) == (400, "4x")]
    hits = sum(r.told["bayes"].low <= r.truth <= r.told["bayes"].high for r in found)
    assert len(found) == 80
    assert abs(hits - 72) <= 3 * 2.7


# ---------------------------------------------------------------- measures


def told(auc: float, reach: float = 0.05, needed: float = 400.0, fitted: bool = True) -> Told:
    return Told(auc, auc - reach, auc + reach, needed, needed / 2, needed * 2, fitted)


def backtest_of(*rows: tuple[float, float, Told, Told]) -> Backtest:
    replays = [
        Replay(str(i), "", "", 100, "4x", 400, truth, needed, {"bayes": ours, "other": other})
        for i, (truth, needed, ours, other) in enumerate(rows)
    ]
    return Backtest(tuple(replays), 0.9, len(rows), len(rows), len(rows), {})


def test_measures_are_those_computed_by_hand() -> None:
    backtest = backtest_of(
        (0.80, 400, told(0.82), told(0.90)),  # error .02 inside; .10, outside by .05
        (0.90, 800, told(0.86, needed=3200), told(0.88, needed=math.inf)),  # 2 octaves; no limit
        (0.70, math.nan, told(0.73), Told(0.73, math.nan, math.nan, math.inf, math.nan, math.nan, False)),
    )
    measured = measure(backtest)
    ours, other = measured["bayes"]["4x"], measured["other"]["4x"]
    assert (ours.replays, ours.fitted, other.fitted) == (3, 1, pytest.approx(2 / 3))
    assert ours.error == pytest.approx((0.02 + 0.04 + 0.03) / 3)
    assert ours.bias == pytest.approx((0.02 - 0.04 + 0.03) / 3)
    assert (ours.covered, ours.width, ours.interval_score) == pytest.approx((1, 0.1, 0.1))
    assert (other.intervals, other.covered, other.width) == (2, 0.5, pytest.approx(0.1))
    assert other.interval_score == pytest.approx(0.1 + (2 / 0.1) * 0.05 / 2)
    assert (ours.targets, ours.octaves, ours.no_limit) == (2, 1, 0)  # median of 0 and 2
    assert (other.octaves, other.no_limit) == (math.inf, 0.5)
    assert ours.in_range == 0.5  # 1,600 to 6,400 does not hold 800
    assert math.isnan(other.excess_low)  # three data sets are too few to speak of chance


def test_chance_is_judged_over_whole_data_sets() -> None:
    always = [(0.8, math.nan, told(0.82), told(0.83)) for _ in range(8)]
    (one,) = measure(backtest_of(*always))["other"].values()
    assert (one.excess_low, one.excess_high) == pytest.approx((0.01, 0.01))
    mixed = [(0.8, math.nan, told(0.82), told(0.82 + 0.02 * (-1) ** i)) for i in range(8)]
    (one,) = measure(backtest_of(*mixed))["other"].values()
    assert one.excess_low < 0 < one.excess_high


def test_a_horizon_that_nothing_reaches_is_left_out() -> None:
    measured = measure(run_backtest([curve()]))
    assert list(measured) == list(method_names())
    assert list(measured["bayes"]) == ["2x", "4x", "last"]
    assert isinstance(measured["bayes"]["2x"], Measure)
