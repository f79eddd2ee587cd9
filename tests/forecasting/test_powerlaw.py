"""The forecast against brute-force integration, its own closed forms, and worlds whose truth is known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from gaussian_world import Array, GaussianWorld, make_ridge_scorer, patients, ridge
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from forecasting.auc import hanley_mcneil
from forecasting.curve import LearningCurve, curve_from_points, estimate_curves
from forecasting.noise import correlation, model_jitter
from forecasting.powerlaw import Forecast, fit_bayes, prob_mean_reached
from forecasting.prior import PRIOR, Prior, cover, curve_auc, size_at

SHARES = np.asarray(np.geomspace(0.1, 0.8, 6), dtype=np.float64)


def curve_of(
    theta: tuple[float, float, float],
    n: int,
    n_positive: int,
    finding: str = "a",
    bias_se: float = 0.0,
    shift: Array | float = 0.0,
) -> LearningCurve:
    """Points on a known curve, as cross-fitting of n labels would have them."""
    sizes = SHARES * n
    effective = sizes * n_positive * (n - n_positive) / n**2
    auc = np.clip(curve_auc(np.array([theta]), effective)[0] + shift, 0, 1)
    return LearningCurve(finding, n, n_positive, n - n_positive, sizes, effective, auc, bias_se=bias_se)


def summary(forecast: Forecast) -> list[float]:
    now, ahead, needed = forecast.auc(forecast.n), forecast.auc(4 * forecast.n), forecast.labels_needed(0.85)
    return [
        now.mean,
        now.low,
        now.high,
        ahead.mean,
        ahead.low,
        ahead.high,
        needed.low,
        forecast.prob_reached(0.8),
    ]


# ---------------------------------------------------------------- the family


def test_the_curve_starts_at_one_half_and_ends_at_its_plateau() -> None:
    theta = np.array([[1.3, 3.0, -0.2], [0.4, 1.0, 0.3]])
    values = curve_auc(theta, [1e-9, 1.0, 10.0, 100.0, 1e9, np.inf])  # (2, 6)
    assert (np.diff(values, axis=1) >= 0).all()
    np.testing.assert_allclose(values[:, 0], 0.5, atol=1e-3)
    np.testing.assert_allclose(values[:, -1], ndtr(theta[:, 0]), atol=1e-12)
    np.testing.assert_allclose(curve_auc(theta, math.exp(3.0))[0], ndtr(1.3 / math.sqrt(2)))  # m = k


def test_size_at_inverts_the_curve_and_is_infinite_above_the_plateau() -> None:
    theta = np.array([[1.3, 3.0, -0.2]])
    for auc in (0.6, 0.75, 0.89):
        np.testing.assert_allclose(curve_auc(theta, size_at(theta, auc))[0], auc, atol=1e-9)
    assert size_at(theta, 0.91)[0] == math.inf
    assert size_at(theta, 0.5)[0] == 0


def test_far_out_the_curve_is_the_reported_tail() -> None:
    forecast = fit_bayes([curve_of((1.2, 3.0, -0.1), 2000, 800)])[0]
    tail = forecast.tail()
    assert 0.5 < tail.a < 1
    exact = float(ndtr(1.2))
    assert tail.a == pytest.approx(exact, abs=0.02)
    for n in (20_000, 80_000):
        assert tail.a - tail.b * n**-tail.c == pytest.approx(forecast.auc(n).mean, abs=0.01)


def test_noise_model_is_on_the_wide_side_of_what_was_measured() -> None:
    """The prototype measured .095, .066, .048 and .029 on ridge probes at m = 2, 10, 40 and 200."""
    r = correlation(np.array([10.0, 20.0, 80.0]), 100)
    assert r[0, 1] == pytest.approx(0.96 * math.exp(-0.28 * math.log(2)))
    assert np.linalg.eigvalsh(r).min() > 0
    told = model_jitter([2, 10, 40, 200, np.inf])
    assert (told >= [0.095, 0.066, 0.048, 0.029, 0.029]).all()
    assert (np.diff(told) <= 0).all()
    assert model_jitter([20])[0] == pytest.approx((told[1] + told[2]) / 2)  # linear in log m


# ---------------------------------------------------------------- the posterior


@pytest.mark.parametrize(
    ("n", "n_positive", "lowest", "highest"),
    [(200, 40, (0.0, -4.0, -1.6), (3.3, 9.0, 1.0)), (4000, 800, (0.6, 0.0, -1.6), (2.4, 9.0, 1.0))],
)
def test_posterior_equals_integration_over_a_grid(
    n: int, n_positive: int, lowest: tuple[float, ...], highest: tuple[float, ...]
) -> None:
    """One finding, hardly any effect of the data set: prior t_4 times Student-t_6 likelihood on a fine grid.

    The second posterior is so sharp that it is drawn again.
    """
    prior = Prior(between=(1e-3, 1e-3, 1e-3), correlation=-0.5)
    bias_se, n_negative = 2 / n, n - n_positive
    shift = np.array([0.02, 0.0, -0.01, 0.01, 0.0, 0.01]) * math.sqrt(200 / n)
    curve = curve_of((0.9, 3.5, -0.3), n, n_positive, bias_se=bias_se, shift=shift)
    steps = zip(lowest, highest, (70, 70, 50), strict=True)
    axes = [np.linspace(*step) for step in steps]
    theta = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    within = np.diag(np.square(prior.within))
    within[0, 1] = within[1, 0] = -0.5 * prior.within[0] * prior.within[1]
    away = theta - np.array(prior.mean)
    log_p = -3.5 * np.log1p(np.einsum("si,ij,sj->s", away, np.linalg.inv(within), away) / 4)
    model = curve_auc(theta, curve.effective)
    grain = 0.5 / n_positive
    sd = np.sqrt(1.44 * hanley_mcneil(model, n_positive, n_negative) + 0.004**2 + grain**2)
    covariance = sd[:, :, None] * correlation(curve.sizes, n) * sd[:, None, :] + bias_se**2
    residual = curve.auc - model
    distance = np.einsum("sp,sp->s", residual, np.linalg.solve(covariance, residual[:, :, None])[:, :, 0])
    log_p += -0.5 * np.linalg.slogdet(covariance)[1] - 6.0 * np.log1p(distance / 6)
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()

    forecast = fit_bayes([curve], prior=prior)[0]
    share = (n_positive + 0.5) / (n + 1)
    for labels in (n, 4 * n, 100 * n):
        m = labels * share * (1 - share)
        probit = ndtri(np.clip(curve_auc(theta, m)[:, 0], 1e-9, 1 - 1e-9))
        jitter = float(model_jitter(m))
        mean = float(weight @ ndtr(probit / math.sqrt(1 + jitter**2)))
        interval = forecast.auc(labels, 0.9)
        assert interval.mean == pytest.approx(mean, abs=0.004)
        for target, above in ((interval.low, 0.95), (mean, None), (interval.high, 0.05)):
            exact = float(weight @ ndtr((probit - ndtri(target)) / jitter))
            expected = forecast.prob_reached(target, labels) if above is None else above
            assert exact == pytest.approx(expected, abs=0.03 if above is None else 0.012)


def test_two_fits_are_equal_to_the_bit_even_after_the_draws_are_made_anew() -> None:
    curves = [curve_of((1.0, 3.0, 0.0), 200, 30)]
    first = summary(fit_bayes(curves)[0])
    cover.cache_clear()
    assert summary(fit_bayes(curves)[0]) == first


@pytest.mark.parametrize("n", [60, 400, 20_000])
def test_another_scrambling_gives_nearly_the_same_forecast(n: int) -> None:
    """Also where a posterior is so sharp that few of the first draws have weight."""
    curves = [curve_of((1.1, 3.0, -0.3), n, n // 5)]
    one, other = (fit_bayes(curves, seed=seed)[0] for seed in (1, 2))
    np.testing.assert_allclose(summary(one)[:6], summary(other)[:6], atol=0.006)


def test_order_of_findings_is_irrelevant() -> None:
    shapes = (0.7, 20, "a"), (1.5, 40, "b"), (1.1, 6, "c")
    curves = [curve_of((z, 3.0, 0.0), 150, p, finding=f) for z, p, f in shapes]
    there, back = fit_bayes(curves), fit_bayes(curves[::-1])[::-1]
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(summary(one), summary(other), rtol=1e-9)
    assert prob_mean_reached(there, 0.8) == pytest.approx(prob_mean_reached(back, 0.8), abs=1e-9)


def test_a_finding_without_points_learns_from_its_siblings() -> None:
    blank = LearningCurve("rare", 100, 0, 100, np.array([]), np.array([]), np.array([]))
    with_good, with_poor = (
        fit_bayes([blank] + [curve_of((z, 2.0, 0.0), 2000, 500, finding=f"{i}") for i in range(6)])[0]
        for z in (2.2, 0.3)
    )
    assert with_good.plateau().mean > fit_bayes([blank])[0].plateau().mean > with_poor.plateau().mean


def test_siblings_tell_how_fast_an_embedding_learns_and_little_of_how_far_a_finding_gets() -> None:
    """One hard, rare finding among easy ones keeps a wide plateau; measured on replays, see benchmarks/README.md."""
    blank = LearningCurve("rare", 100, 0, 100, np.array([]), np.array([]), np.array([]))
    siblings = [curve_of((1.5, 3.0, 0.0), 2000, 500, finding=f"{i}") for i in range(6)]
    left = []
    for forecast in (fit_bayes([blank])[0], fit_bayes([blank, *siblings])[0]):
        theta, weight = forecast.draws.theta, forecast.weight
        left.append(np.sqrt(weight @ np.square(theta - weight @ theta)))  # (3,) spreads of z, ln k, ln c
    plateau, speed, _ = left[1] / left[0]
    assert plateau > 0.97
    assert speed < 0.7


def test_two_positives_that_separate_perfectly_do_not_convince() -> None:
    sizes = np.array([20.0, 40.0])
    lucky = LearningCurve("a", 50, 2, 48, sizes, np.array([0.9, 1.5]), np.array([1.0, 1.0]))
    forecast = fit_bayes([lucky])[0]
    now = forecast.auc(50)
    assert now.high - now.low > 0.3
    assert forecast.prob_reached(0.95) < 0.3


def test_an_unknown_selection_bias_widens_every_interval() -> None:
    widths = []
    for bias_se in (0.0, 0.01, 0.02, 0.05):
        now = fit_bayes([curve_of((1.2, 3.0, 0.0), 3000, 900, bias_se=bias_se)])[0].auc(3000)
        widths.append(now.high - now.low)
    assert (np.diff(widths) > 0).all()


def test_given_errors_are_used_and_more_exact_points_give_narrower_forecasts() -> None:
    n = np.array([50.0, 100, 200, 400, 800])
    auc = curve_auc(np.array([[1.2, 3.0, -0.2]]), n / 4)[0]
    wide, narrow = (
        fit_bayes([curve_from_points(n, auc, se=np.full(5, se))])[0].auc(3200) for se in (0.05, 0.005)
    )
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert narrow.mean == pytest.approx(curve_auc(np.array([[1.2, 3.0, -0.2]]), 800)[0, 0], abs=0.015)


# ---------------------------------------------------------------- what a lead asks


def test_a_target_above_the_plateau_is_called_unreachable() -> None:
    flat = curve_from_points([250, 500, 1000, 2000, 4000], [0.735, 0.742, 0.741, 0.745, 0.744], se=[0.01] * 5)
    forecast = fit_bayes([flat])[0]
    assert forecast.prob_plateau(0.9) < 0.02
    assert forecast.labels_needed(0.9).low == math.inf
    from_labels = fit_bayes([curve_of((0.65, 0.0, 0.2), 4000, 1500)])[0]
    assert from_labels.prob_plateau(0.85) < 0.05
    assert from_labels.prob_plateau(0.7) > 0.9


@pytest.mark.parametrize("target", [0.8, 0.85])
def test_an_easy_curve_yields_a_range_that_holds_the_truth(target: float) -> None:
    theta = (1.5, 3.0, -0.1)
    forecast = fit_bayes([curve_of(theta, 400, 120)])[0]
    truth = size_at(np.array([theta]), target)[0] / (120.5 / 401 * (1 - 120.5 / 401))
    needed = forecast.labels_needed(target, level=0.8)
    assert needed.low <= truth <= needed.high
    assert needed.high < 40 * needed.low  # a range that says something


def test_answers_are_consistent_with_each_other() -> None:
    forecast = fit_bayes([curve_of((1.1, 3.5, -0.2), 300, 60)])[0]
    targets = [0.6, 0.7, 0.8, 0.9, 0.99]
    for n in (50, 300, 5000, None):
        reached = [forecast.prob_reached(t, n) for t in targets]
        assert reached == sorted(reached, reverse=True)
    assert forecast.prob_reached(0.8) == forecast.prob_reached(0.8, forecast.n)
    assert forecast.plateau() == forecast.auc(math.inf)
    means = [forecast.auc(n).mean for n in (30, 100, 300, 3000, math.inf)]
    assert means == sorted(means)
    for level in (0.5, 0.9):
        interval = forecast.auc(1200, level)
        assert interval.level == level
        assert forecast.prob_reached(interval.low, 1200) == pytest.approx(0.5 + level / 2, abs=0.01)
        assert forecast.prob_reached(interval.high, 1200) == pytest.approx(0.5 - level / 2, abs=0.01)
    needed = forecast.labels_needed(0.8)
    assert needed.low <= needed.median <= needed.high
    assert forecast.labels_needed(0.8, 0.5).low >= needed.low


def test_the_mean_over_findings_is_judged_jointly() -> None:
    curves = [curve_of((z, 3.0, 0.0), 200, 40, finding=f"{z}") for z in (0.6, 1.0, 1.4)]
    forecasts = fit_bayes(curves)
    for forecast in forecasts:
        p, error = forecast.prob_reached(0.75), 4 * 0.5 / math.sqrt(2048)
        assert prob_mean_reached([forecast], 0.75) == pytest.approx(p, abs=error)
    mean = float(np.mean([f.auc(f.n).mean for f in forecasts]))
    assert prob_mean_reached(forecasts, mean) == pytest.approx(0.5, abs=0.12)
    assert prob_mean_reached(forecasts, mean + 0.15) < 0.02
    # findings share the data set's effect: their mean is less sure than that of strangers
    joint = np.std(np.mean([f.joint_draws() for f in forecasts], axis=0))
    rng = np.random.default_rng(0)
    strangers = np.std(np.mean([rng.permutation(f.joint_draws()) for f in forecasts], axis=0))
    assert joint > strangers


# ---------------------------------------------------------------- calibration


def test_forecasts_cover_the_auc_now_and_at_four_times_the_labels_in_simulated_worlds() -> None:
    """Three findings, prevalence 5 to 45 %, 60 to 250 labels; the truth is exact for the trained ridge probe."""
    worlds, hits_now, hits_ahead, spoken, errors, last = 40, 0, 0, 0, [], []
    for seed in range(worlds):
        rng = np.random.default_rng([2024, seed])
        d = int(rng.integers(10, 40))
        truth = GaussianWorld(rng, list(rng.uniform(0.8, 3.0, 3)), list(rng.uniform(0.05, 0.45, 3)), d)
        n = int(rng.integers(60, 250))
        x, y = truth.draw(rng, 4 * n)
        curves = estimate_curves(
            ["a", "b", "c"], y[:n], patients(n), make_ridge_scorer(x[:n], y[:n], d), rng, n_repeats=10
        )
        for k, forecast in enumerate(fit_bayes(curves)):
            if min(curves[k].n_positive, curves[k].n_negative) < 3:
                continue
            spoken += 1
            now, ahead = forecast.auc(n), forecast.auc(4 * n)
            hits_now += now.low <= truth.auc(ridge(x[:n], y[:n, k], d), k) <= now.high
            at_4n = truth.auc(ridge(x, y[:, k], d), k)
            hits_ahead += ahead.low <= at_4n <= ahead.high
            errors.append(abs(ahead.mean - at_4n))
            last.append(abs(curves[k].auc[-1] - at_4n))
    assert spoken > 100
    for hits in (hits_now, hits_ahead):
        assert hits >= binom.ppf(1e-3, spoken, 0.88)
    assert np.mean(errors) < 0.06
    assert np.mean(errors) < 0.8 * np.mean(last)  # better than the last value


@pytest.mark.cxr
def test_forecasts_from_150_real_labels_beat_the_last_value(cxr: Path) -> None:
    """Kermany pneumonia: frozen features of real chest X-rays, 600 labels ahead, test patients apart."""
    with np.load(cxr / "kermany_lite0_224.npz") as table:
        names, feat = [str(name) for name in table["name"]], table["feat"].astype(float)
    with (cxr / "kermany_labels.csv").open(newline="") as lines:
        rows = {row["file"]: row for row in csv.DictReader(lines)}
    y = np.array([[float(rows[name]["pneumonia"])] for name in names])
    groups = np.array([rows[name]["patient"] for name in names])
    feat = (feat - feat.mean(axis=0)) / (feat.std(axis=0) + 1e-9)
    feat = feat @ np.linalg.qr(np.random.default_rng(0).standard_normal((feat.shape[1], 60)))[0]
    errors, last = [], []
    for seed in range(6):
        rng = np.random.default_rng([7, seed])
        held_out = np.isin(groups, rng.permutation(np.unique(groups))[: len(np.unique(groups)) // 3])
        pool = rng.permutation(np.flatnonzero(~held_out))
        few = pool[:150]
        curve = estimate_curves(
            ["pneumonia"], y[few], groups[few], make_ridge_scorer(feat[few], y[few], 60.0), rng, n_repeats=10
        )[0]
        w = ridge(feat[pool[:600]], y[pool[:600], 0], 60.0)
        scores = feat[held_out] @ w
        positive = y[held_out, 0] == 1
        exact = float((scores[positive][:, None] > scores[~positive][None, :]).mean())
        errors.append(abs(fit_bayes([curve])[0].auc(600).mean - exact))
        last.append(abs(curve.auc[-1] - exact))
    assert np.mean(errors) < 0.05
    assert np.mean(errors) < np.mean(last)


def test_the_shipped_prior_is_the_documented_one() -> None:
    assert Prior() == PRIOR
    plateau = fit_bayes([LearningCurve("a", 10, 0, 10, np.array([]), np.array([]), np.array([]))])[
        0
    ].plateau()
    assert plateau.mean == pytest.approx(0.845, abs=0.01)  # around .885, skewed downwards
    assert plateau.low < 0.7


def test_findings_that_err_together_do_not_make_their_mean_surer() -> None:
    """Eight noisy looks at one label: their mean is hardly better known than one of them."""
    sizes, effective = np.array([40.0, 80.0, 160.0]), np.array([8.0, 16.0, 32.0])
    auc = np.array([0.72, 0.77, 0.80])
    curves = [LearningCurve(f"copy {k}", 200, 60, 140, sizes, effective, auc) for k in range(8)]
    forecasts = fit_bayes(curves)
    spread = np.sort([f.joint_draws() for f in forecasts], axis=1).mean(axis=0)
    of_one = np.std(forecasts[0].joint_draws())
    assert spread.std() > 0.9 * of_one
    target = forecasts[0].auc(200).mean - 1.5 * of_one
    assert prob_mean_reached(forecasts, target) <= forecasts[0].prob_reached(target) + 0.02
