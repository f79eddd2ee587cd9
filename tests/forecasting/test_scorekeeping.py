"""The score's laws: only later labels count, order plays no part, honest intervals stay, narrow ones are widened."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from forecasting.auc import count_wins, hanley_mcneil
from forecasting.curve import LearningCurve, curve_from_points
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import fit_bayes
from forecasting.promises import AHEAD, Look, PathPoint, Promise, promise_path
from forecasting.reasons import say_score
from forecasting.scorekeeping import FEWEST_SCORED, WIDEST, HorizonScore, Score, score_forecasts

MIDDLE, SPREAD = 1.2, 0.4  # of the findings' heights, as probits; the forecaster of the world knows both


def project(
    seed: int,
    n_findings: int = 5,
    n_rounds: int = 16,
    narrow: float = 1.0,
    widened: float = 1.0,
    sd_at_50: float = 0.35,
) -> tuple[list[Promise], list[Look]]:
    """A project in which forecasts err as a Bayesian's do who is right about everything, but claims sd / `narrow`.

    A finding's curve is Phi(z / sqrt(1 + 60 / n)) with z ~ N(1.2, .4^2). After n labels z has been seen with
    error sd_at_50 sqrt(50 / n), labels adding up as in a random walk. 25 random images a round, 10 to 40 % of
    them positive, are scored by a binormal model of that AUC.
    """
    rng = np.random.default_rng(seed)
    promises, looks = [], []
    for finding in (f"finding {k}" for k in range(n_findings)):
        prevalence, z, walk = rng.uniform(0.1, 0.4), rng.normal(MIDDLE, SPREAD), 0.0
        for number in range(1, n_rounds + 1):
            n = 50 * number
            walk += math.sqrt(50) * rng.standard_normal()
            seen, known, before = z + sd_at_50 * math.sqrt(50) * walk / n, n / 50 / sd_at_50**2, SPREAD**-2
            belief, sd = (before * MIDDLE + known * seen) / (before + known), (before + known) ** -0.5
            height = {ahead: 1 / math.sqrt(1 + 60 / (ahead * n)) for ahead in AHEAD}
            path = tuple(PathPoint(a * n, belief * h, sd * h / narrow) for a, h in height.items())
            promises.append(Promise(finding, number, path, widened))
            y = (rng.random(25) < prevalence).astype(float)
            won, pairs = count_wins(y, rng.standard_normal(25) + y * math.sqrt(2) * z * height[1])
            if pairs:
                looks.append(Look(finding, number + 1, n, won / pairs, int(y.sum()), int((1 - y).sum())))
    return promises, looks


def point(n: float, auc: float, sd: float) -> PathPoint:
    return PathPoint(n, float(ndtri(auc)), sd)


def promise(round_: int = 1, n: int = 50, auc: float = 0.8, sd: float = 0.2, **more: object) -> Promise:
    """The same AUC whatever the labels."""
    return replace(Promise("a", round_, (point(n, auc, sd), point(16 * n, auc, sd))), **more)  # type: ignore[arg-type]


def look(round_: int = 2, n: int = 50, auc: float = 0.8, counts: tuple[int, int] = (10, 15)) -> Look:
    return Look("a", round_, n, auc, *counts)


# -- what counts ----------------------------------------------------------------------------------------------


def test_without_looks_there_is_no_score_and_no_widening() -> None:
    for promises in ([], [promise()]):
        score = score_forecasts(promises, [])
        assert (score.scored, score.coverage, score.widening, score.horizons) == (0, None, 1.0, ())


def test_looks_without_a_promise_are_no_score() -> None:
    assert score_forecasts([], [look()]).scored == 0


def test_labels_that_came_before_the_forecast_are_never_used() -> None:
    """A promise of round 3 has seen the labels of rounds 1 to 3."""
    late = promise(3, auc=0.99, sd=0.01)
    for number in (1, 2, 3):
        assert score_forecasts([late], [look(number)]).scored == 0
    assert score_forecasts([late], [look(4)]).scored == 1


def test_a_forecast_says_nothing_about_another_encoder_or_finding() -> None:
    assert score_forecasts([promise(encoder="timm:x")], [look()]).scored == 0
    assert score_forecasts([promise(finding="b")], [look()]).scored == 0


def test_each_look_is_held_against_now_and_against_half_and_a_quarter_of_its_labels() -> None:
    promises = [promise(k, n=50 * k) for k in (1, 2, 4)]
    score = score_forecasts(promises, [look(5, n=200)])
    assert [(told.horizon, told.scored) for told in score.horizons] == [(1, 1), (2, 1), (4, 1)]
    assert [told.horizon for told in score_forecasts(promises[:1], [look(5, n=120)]).horizons] == [2]
    assert score_forecasts(promises[:1], [look(5, n=400)]).scored == 0  # eight times as many


def test_of_two_forecasts_on_the_same_labels_the_later_one_is_scored() -> None:
    wrong, right = promise(auc=0.55, sd=0.01), promise(auc=0.8, sd=0.01)
    assert score_forecasts([wrong, right], [look()]).horizons[0].error == pytest.approx(0, abs=1e-3)


def test_a_promise_is_read_between_the_numbers_of_labels_it_was_written_at() -> None:
    rising = Promise("a", 1, (point(100, 0.7, 0.001), point(400, 0.9, 0.001)))
    half_way = float(ndtr((ndtri(0.7) + ndtri(0.9)) / 2))  # 200 is half way on the log scale
    told = score_forecasts([rising], [look(2, n=200, auc=half_way)]).horizons[0]
    assert (told.horizon, told.error) == (2, pytest.approx(0, abs=1e-4))


# -- pooling --------------------------------------------------------------------------------------------------


def test_rounds_are_pooled_until_both_classes_suffice_and_the_rest_waits() -> None:
    promises = [promise(k, n=50 * k) for k in range(1, 6)]
    looks = [look(k + 1, n=50 * k, counts=(2, 23)) for k in range(1, 6)]
    (told,) = score_forecasts(promises[:1], looks[:1]).horizons or (HorizonScore(1, 0, 0, 0, 0),)
    assert told.scored == 0  # 2 positives
    assert score_forecasts(promises, looks).horizons[0].scored == 1  # 6 of 10 positives; 4 wait


def test_a_pooled_look_weighs_its_rounds_by_their_effective_images() -> None:
    """Two rounds of 4 + 6 and 1 + 9 images: effective 2.4 and .9, AUC .9 and .5."""
    promises = [promise(1, n=50, auc=0.8, sd=1e-4), promise(2, n=60, auc=0.8, sd=1e-4)]
    looks = [look(2, n=50, auc=0.9, counts=(4, 6)), look(3, n=60, auc=0.5, counts=(1, 9))]
    told = score_forecasts(promises, looks).horizons[0]
    share = 2.4 / 3.3
    assert told.error == pytest.approx(share * 0.9 + (1 - share) * 0.5 - 0.8, abs=1e-4)
    noise = share**2 * hanley_mcneil(0.8, 4, 6) + (1 - share) ** 2 * hanley_mcneil(0.8, 1, 9)
    assert (
        0.7 * math.sqrt(noise) < told.error_se < 1.2 * math.sqrt(noise)
    )  # up to u, known from one look hardly


def test_perfect_separation_is_no_miss_of_a_high_forecast_and_one_of_a_sure_low_one() -> None:
    for auc, held in ((0.97, 1), (0.6, 0)):
        assert score_forecasts([promise(auc=auc, sd=0.02)], [look(auc=1.0, counts=(8, 17))]).held == held


# -- order and determinism ------------------------------------------------------------------------------------


def test_the_order_of_findings_and_of_arrival_does_not_matter() -> None:
    promises, looks = project(3)
    rng = np.random.default_rng(0)
    shuffled = [[given[i] for i in rng.permutation(len(given))] for given in (promises, looks)]
    assert score_forecasts(*shuffled) == score_forecasts(promises, looks)  # type: ignore[arg-type]


# -- coverage and widening, by simulation ---------------------------------------------------------------------


@cache
def scores(n: int, n_findings: int, narrow: float, widened: float = 1.0) -> list[Score]:
    return [score_forecasts(*project(seed, n_findings, 16, narrow, widened)) for seed in range(n)]


def coverage(told: list[Score]) -> tuple[float, float]:
    """Mean over projects, and its standard error: looks of one project are dependent, projects are not."""
    each = np.array([score.coverage for score in told])
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))


def test_honest_intervals_hold_as_often_as_they_say() -> None:
    """Up to 2 %: the noise of fresh labels starts from a formula that is too large for a binormal model."""
    share, error = coverage(scores(20, 40, 1.0))
    assert error < 0.005
    assert abs(share - 0.9) < 0.02 + 3 * error


def test_honest_intervals_are_left_alone() -> None:
    small, large = scores(100, 5, 1.0), scores(20, 40, 1.0)
    assert np.median([score.widening for score in small]) == 1.0
    assert np.mean([score.widening for score in small]) < 1.15
    assert np.mean([score.widening for score in large]) < 1.15


def test_intervals_half_as_wide_as_the_truth_become_about_twice_as_wide() -> None:
    """More findings say more; with few the prior holds back."""
    few, many = (
        np.mean([score.widening for score in told]) for told in (scores(100, 5, 2.0), scores(20, 40, 2.0))
    )
    assert 1.2 < few < many
    assert 1.7 < many < 2.3


def test_after_widening_the_next_intervals_hold() -> None:
    """Learn the factor in one half of the projects and score what is given with it in the other half."""
    factor = float(np.mean([score.widening for score in scores(20, 40, 2.0)]))
    before, after = (
        [score_forecasts(*project(100 + seed, 40, 16, 2.0, widened)) for seed in range(20)]
        for widened in (1.0, factor)
    )
    gain = np.subtract([score.coverage for score in after], [score.coverage for score in before])
    assert gain.mean() > 3 * gain.std(ddof=1) / math.sqrt(20) > 0
    share, error = coverage(after)
    assert abs(share - 0.9) < 0.02 + 3 * error


def test_what_was_given_wider_is_scored_wider_and_judged_as_it_was_fitted() -> None:
    """Else a widened forecast would look fine and the next one be narrow again."""
    narrow, wide = scores(20, 40, 2.0), scores(20, 40, 2.0, 2.0)
    assert coverage(wide)[0] > coverage(narrow)[0]
    assert [score.widening for score in wide] == [score.widening for score in narrow]


def test_the_signed_error_is_as_sure_as_it_says() -> None:
    """|z| of 100 projects at each horizon: its square has mean 1, give or take sqrt(2 / 100) and the formula's 30 %."""
    for horizon in (1, 2, 4):
        z = [h.error / h.error_se for s in scores(100, 5, 1.0) for h in s.horizons if h.horizon == horizon]
        assert len(z) == 100
        assert 0.6 < np.mean(np.square(z)) < 1.3 + 3 * math.sqrt(2 / 100)


def test_a_forecast_that_is_far_too_sure_is_widened_to_the_limit_and_no_further() -> None:
    promises, looks = project(0, 40, narrow=5.0)
    assert score_forecasts(promises, looks).widening == WIDEST


def test_too_few_looks_conclude_nothing() -> None:
    promises = [promise(k, n=50 * k, auc=0.99, sd=0.01) for k in range(1, FEWEST_SCORED)]
    looks = [look(k + 1, n=50 * k, auc=0.5) for k in range(1, FEWEST_SCORED)]
    now_only = [replace(p, finding=f"{k}") for k, p in enumerate(promises)]
    apart = [replace(seen, finding=f"{k}") for k, seen in enumerate(looks)]
    score = score_forecasts(now_only, apart)
    assert (score.scored, score.held, score.widening) == (FEWEST_SCORED - 1, 0, 1.0)
    again = [*now_only, promise(1)], [*apart, look(2, auc=0.5)]
    assert score_forecasts(*again).widening > 1.0


# -- a forecast written down ----------------------------------------------------------------------------------


def learning_curve() -> LearningCurve:
    sizes = np.array([50.0, 100.0, 200.0, 400.0])
    return curve_from_points(sizes, 0.9 - 0.9 * sizes**-0.5, se=np.full(4, 0.02), finding="a")


@pytest.mark.parametrize("method", ["bayes", "nls"])
def test_a_path_gives_back_the_intervals_of_the_forecast(method: str) -> None:
    curve = learning_curve()
    forecast = fit_bayes([curve])[0] if method == "bayes" else fit_nls(curve)
    path = promise_path(forecast)
    assert [p.n for p in path] == [times * forecast.n for times in AHEAD]
    for written in path:
        told = forecast.auc(written.n)
        reach = ndtri(0.95) * written.sd
        low, high = ndtr(written.center - reach), ndtr(written.center + reach)
        assert (low, high) == (pytest.approx(told.low, abs=1e-5), pytest.approx(told.high, abs=1e-5))
        assert ndtr(written.center / math.sqrt(1 + written.sd**2)) == pytest.approx(told.mean, abs=0.01)


# -- words ----------------------------------------------------------------------------------------------------


def test_a_score_is_said_with_its_level_its_counts_and_what_follows() -> None:
    told = (HorizonScore(1, 20, 18, 0.0, 0.1), HorizonScore(2, 15, 13, 0.0, 0.1))
    assert say_score(Score(0.9, told)) == (
        "Our 90 % intervals for AUC so far: 31 of 35 held against fresh random labels (89 %, expected 90 %; "
        "18 of 20 now, 13 of 15 at 2x the labels); no widening needed."
    )
    assert say_score(Score(0.9, told, 1.4)).endswith("from now on intervals are 1.4 times as wide as fitted.")
    assert say_score(Score(0.9)) == ""
    assert "3 of 3 held" in (early := say_score(Score(0.9, (HorizonScore(1, 3, 3, 0.0, 0.1),))))
    assert "too early to judge" in early
