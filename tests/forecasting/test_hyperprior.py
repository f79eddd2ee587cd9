"""Priors from finished projects: worlds whose hyperparameters are known, and what must never happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gaussian_world import Array
from scipy.stats import binom

from forecasting.curve import LearningCurve
from forecasting.hyperprior import BASE_FINDINGS, BASE_PROJECTS, SMALLEST_SCALE, fit_prior
from forecasting.noise import FLOOR, correlation, point_variance
from forecasting.powerlaw import fit_bayes
from forecasting.prior import PRIOR, Prior, curve_auc

SHARES = np.asarray(np.geomspace(0.1, 0.8, 6), dtype=np.float64)


def draw_theta(rng: np.random.Generator, prior: Prior, n_findings: int) -> Array:
    """Curves of the findings of one project of a world, shape ``(J, 3)``."""
    within = np.diag(np.square(prior.within))
    within[0, 1] = within[1, 0] = prior.correlation * prior.within[0] * prior.within[1]
    effect = rng.standard_normal(3) * prior.between
    normal = rng.standard_normal((n_findings, 3)) @ np.linalg.cholesky(within).T
    tail = np.sqrt(rng.chisquare(prior.dof, n_findings) / prior.dof)
    theta = prior.mean + effect + normal / tail[:, None]
    return np.clip(theta, [0.0, -4.0, -1.6], [3.3, 9.0, 1.0])


def draw_project(
    rng: np.random.Generator, prior: Prior, n: int, n_findings: int = 4
) -> tuple[list[LearningCurve], Array]:
    """What a project of `n` labels tells of its curves, with the noise that points have, and the truth."""
    theta = draw_theta(rng, prior, n_findings)
    curves = []
    for j in range(n_findings):
        n_positive = max(3, round(n * rng.uniform(0.1, 0.5)))
        sizes = SHARES * n
        effective = sizes * n_positive * (n - n_positive) / n**2
        exact = curve_auc(theta[j : j + 1], effective)[0]
        error = np.linalg.cholesky(correlation(sizes, n)) @ rng.standard_normal(len(sizes))
        auc = np.clip(exact + error * np.sqrt(point_variance(exact, n_positive, n - n_positive)), 0, 1)
        curves.append(LearningCurve(f"{j}", n, n_positive, n - n_positive, sizes, effective, auc))
    return curves, theta


def measure_project(rng: np.random.Generator, prior: Prior, n_findings: int = 4) -> list[LearningCurve]:
    """Curves of a project as a large test set would tell them, from 20 to 40,000 labels."""
    sizes = np.asarray(np.geomspace(20, 40_000, 12), dtype=np.float64)
    auc = curve_auc(draw_theta(rng, prior, n_findings), sizes / 4)  # (J, 12)
    auc = np.clip(auc + FLOOR * rng.standard_normal(auc.shape), 0, 1)
    exact = np.zeros(len(sizes))
    return [
        LearningCurve(f"{j}", 40_000, 20_000, 20_000, sizes, sizes / 4, auc[j], se=exact)
        for j in range(n_findings)
    ]


def test_without_finished_projects_the_prior_is_what_it_was() -> None:
    blank = LearningCurve("a", 10, 0, 10, np.array([]), np.array([]), np.array([]))
    assert fit_prior([]) == PRIOR
    assert fit_prior([[], [blank]]) == PRIOR


def test_many_well_measured_projects_tell_the_world_they_come_from() -> None:
    """Against what known theta would give, within four standard errors of 30 projects of 4 findings."""
    world = Prior(mean=(0.8, 4.2, 0.1), between=(0.2, 0.7, 0.15), within=(0.3, 0.6, 0.25), correlation=0.2)
    rng, n_projects = np.random.default_rng(1), 30
    fitted = fit_prior([measure_project(rng, world) for _ in range(n_projects)])
    n_findings, n_base = 4 * n_projects, BASE_PROJECTS * BASE_FINDINGS
    share = n_projects / (BASE_PROJECTS + n_projects)
    for i in range(3):
        mean = share * world.mean[i] + (1 - share) * PRIOR.mean[i]
        # Student's t with 4 degrees of freedom has twice the variance of its scale
        error = math.sqrt((world.between[i] ** 2 + 2 * world.within[i] ** 2 / 4) / n_projects)
        assert abs(fitted.mean[i] - mean) < 4 * error
        far = PRIOR.between[i] ** 2 + (PRIOR.mean[i] - mean) ** 2
        near = world.between[i] ** 2 + (world.mean[i] - mean) ** 2
        between = math.sqrt(share * near + (1 - share) * far)
        assert abs(math.log(fitted.between[i] / between)) < 4 / math.sqrt(2 * n_projects)
        squares = n_base * PRIOR.within[i] ** 2 + n_findings * world.within[i] ** 2
        within = math.sqrt(squares / (n_base + n_findings))
        assert abs(math.log(fitted.within[i] / within)) < 4 / math.sqrt(2 * n_findings)
    together = [
        p.correlation * p.within[0] * p.within[1] * n for p, n in ((PRIOR, n_base), (world, n_findings))
    ]
    correlated = sum(together) / (n_base + n_findings) / (fitted.within[0] * fitted.within[1])
    assert abs(fitted.correlation - correlated) < 4 / math.sqrt(n_findings)


def test_forecasts_of_the_next_project_get_better_and_still_cover() -> None:
    """A world unlike the shipped prior, high plateaus and fast curves: 12 finished projects, 25 new ones.

    Of what knowing the world would bring, more than a quarter is had.
    """
    world = Prior(mean=(2.0, 1.5, 0.1), between=(0.2, 0.5, 0.15), within=(0.3, 0.5, 0.25), correlation=0.0)
    rng = np.random.default_rng(2)
    fitted = fit_prior([draw_project(rng, world, 500)[0] for _ in range(12)])
    priors = {"shipped": PRIOR, "fitted": fitted, "world": world}
    errors: dict[str, list[float]] = {name: [] for name in priors}
    hits = dict.fromkeys(priors, 0)
    for _ in range(25):
        curves, theta = draw_project(rng, world, 80)
        for name, prior in priors.items():
            for j, forecast in enumerate(fit_bayes(curves, prior)):
                share = (curves[j].n_positive + 0.5) / 81
                truth = curve_auc(theta[j : j + 1], 320 * share * (1 - share))[0, 0]
                ahead = forecast.auc(320)
                errors[name].append(abs(ahead.mean - truth))
                hits[name] += ahead.low <= truth <= ahead.high
    shipped, ours, best = (float(np.mean(errors[name])) for name in priors)
    assert best < ours < shipped - (shipped - best) / 4
    assert all(hit >= binom.ppf(1e-3, 100, 0.88) for hit in hits.values())


def test_one_project_moves_the_prior_a_little_and_towards_itself() -> None:
    high = Prior(mean=(2.2, 3.2, -0.15), between=(0.01, 0.01, 0.01), within=(0.05, 0.1, 0.1))
    (curves, _) = draw_project(np.random.default_rng(3), high, 2000)
    fitted = fit_prior([curves])
    assert PRIOR.mean[0] < fitted.mean[0] < PRIOR.mean[0] + 1.5 * (2.2 - PRIOR.mean[0]) / (BASE_PROJECTS + 1)
    assert fitted.between[0] > 0.8 * PRIOR.between[0]
    assert fitted.within[0] > 0.8 * PRIOR.within[0]


def test_equal_projects_leave_a_spread_even_where_the_base_hardly_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = SHARES * 50_000
    auc = curve_auc(np.array([[1.3, 3.2, -0.15]]), sizes / 4)[0]
    same = LearningCurve("a", 50_000, 25_000, 25_000, sizes, sizes / 4, auc)
    leant = fit_prior([[same] * 2] * 15)
    monkeypatch.setattr("forecasting.hyperprior.BASE_PROJECTS", 0.1)
    bare = fit_prior([[same] * 2] * 15)
    assert leant.between[0] > PRIOR.between[0] * math.sqrt(BASE_PROJECTS / (BASE_PROJECTS + 15))
    assert bare.between[0] == pytest.approx(SMALLEST_SCALE * PRIOR.between[0])
    for name in ("between", "within"):
        scales = zip(getattr(bare, name), getattr(PRIOR, name), strict=True)
        assert all(after >= SMALLEST_SCALE * before for after, before in scales)
    assert abs(bare.correlation) < 1


def test_the_same_projects_give_the_same_prior_in_any_order() -> None:
    rng = np.random.default_rng(4)
    projects = [draw_project(rng, PRIOR, 200)[0] for _ in range(3)]
    once = fit_prior(projects)
    assert fit_prior(projects) == once
    back = fit_prior([curves[::-1] for curves in projects[::-1]])
    for name in ("mean", "between", "within", "correlation"):
        assert getattr(back, name) == pytest.approx(getattr(once, name), abs=1e-9)


def test_what_is_not_fitted_stays_as_the_base_has_it() -> None:
    base = Prior(dof=7.0)
    assert fit_prior([draw_project(np.random.default_rng(5), PRIOR, 100)[0]], base).dof == 7.0
