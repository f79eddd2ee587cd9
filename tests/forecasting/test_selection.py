"""What active selection does to an AUC, and how it is taken out: laws and an independent reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from forecasting.auc import hanley_mcneil, shrink
from forecasting.noise import KAPPA
from forecasting.selection import SCALE_WEIGHTS, SCALES, SHARED, difference_variance, shrink_bias


@pytest.mark.parametrize("delta", [-0.15, -0.03, 0.0, 0.01])
@pytest.mark.parametrize("variance", [1e-5, 1e-3, 1e-2])
def test_one_finding_has_the_posterior_that_quadrature_finds(delta: float, variance: float) -> None:
    bias = np.linspace(-1.2, 1.2, 240_001)
    density = norm.pdf(delta, bias, np.sqrt(variance)) * sum(
        w * norm.pdf(bias, 0, s) for w, s in zip(SCALE_WEIGHTS, SCALES, strict=True)
    )
    density /= density.sum()
    mean = density @ bias
    sd = np.sqrt(density @ (bias - mean) ** 2)
    told, se = shrink_bias(np.array([delta]), np.array([variance]))
    assert (told[0], se[0]) == (pytest.approx(mean, abs=1e-6), pytest.approx(sd, rel=1e-4))


def test_two_findings_have_the_posterior_that_a_grid_finds() -> None:
    delta, variance = np.array([-0.06, -0.01]), np.array([4e-4, 2e-3])
    axis = np.linspace(-0.6, 0.6, 1201)
    b = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)  # (M, M, 2)
    prior = np.zeros(b.shape[:2])
    for w, s in zip(SCALE_WEIGHTS, SCALES, strict=True):
        covariance = s**2 * np.array([[1, SHARED], [SHARED, 1]])
        distance = np.einsum("xyi,ij,xyj->xy", b, np.linalg.inv(covariance), b)
        prior += w * np.exp(-distance / 2) / np.sqrt(np.linalg.det(covariance))
    density = prior * norm.pdf(delta, b, np.sqrt(variance)).prod(axis=-1)
    density /= density.sum()
    mean = np.einsum("xy,xyi->i", density, b)
    sd = np.sqrt(np.einsum("xy,xyi->i", density, (b - mean) ** 2))
    told, se = shrink_bias(delta, variance)
    np.testing.assert_allclose(told, mean, atol=1e-4)
    np.testing.assert_allclose(se, sd, rtol=1e-3)


def test_findings_lend_each_other_precision() -> None:
    bias, se = shrink_bias(np.array([-0.03, -0.03, 0.0]), np.array([1e-5, 1e-5, np.inf]))
    assert bias[2] < -0.01  # never measured, but its siblings are
    assert se[0] < se[2]


def test_a_project_whose_findings_are_far_off_is_believed() -> None:
    """One fixed scale would take out a fraction of a bias that it holds to be impossible."""
    bias, _ = shrink_bias(np.full(5, -0.12), np.full(5, 0.03**2))
    assert (bias < -0.1).all()
    calm, _ = shrink_bias(np.array([0.02, -0.02, 0.01, -0.01, 0.0]), np.full(5, 0.03**2))
    assert (np.abs(calm) < 0.01).all()


def test_nothing_measured_leaves_the_prior() -> None:
    bias, se = shrink_bias(np.zeros(2), np.full(2, np.inf))
    np.testing.assert_allclose(bias, 0)
    np.testing.assert_allclose(se, np.sqrt(SCALE_WEIGHTS @ SCALES**2))


def test_the_order_of_findings_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    delta, variance = rng.normal(0, 0.05, 6), rng.uniform(1e-4, 1e-2, 6)
    order = rng.permutation(6)
    for there, here in zip(
        shrink_bias(delta[order], variance[order]), shrink_bias(delta, variance), strict=True
    ):
        np.testing.assert_allclose(there, here[order])


def test_the_variance_of_a_difference_is_that_of_a_part_and_its_whole() -> None:
    at = shrink(0.8, 40, 160)
    expected = KAPPA**2 * (hanley_mcneil(at, 20, 80) - hanley_mcneil(at, 40, 160))
    assert difference_variance(0.8, (40, 160), (20, 80)) == pytest.approx(float(expected))
    assert difference_variance(0.8, (40, 160), (40, 160)) > 0  # all random: nothing to tell, but never exact
