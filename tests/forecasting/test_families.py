"""Rival curve families: equal to SciPy on their published formulas, exact on exact points, honest intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime, curve_fit
from scipy.stats import t

from forecasting.auc import INFLATION, Array, hanley_mcneil, shrink
from forecasting.curve import curve_from_points
from forecasting.families import (
    BOUNDED,
    FAMILIES,
    MMF,
    PLAIN,
    POW4,
    WEIGHTED,
    Family,
    first_crossing,
    fit_family,
    keep_last,
)

SIZES = np.array([16.0, 23, 32, 45, 64, 91, 128, 181, 256, 362])
NOISY = 0.9 - 1.2 * SIZES**-0.6 + np.random.default_rng(0).normal(0, 0.006, len(SIZES))

WORLDS = {
    PLAIN: (0.9, 1.2, 0.6),
    BOUNDED: (0.9, 1.2, 0.6),
    WEIGHTED: (0.9, 1.2, 0.6),
    MMF: (0.93, 0.5, 0.8, math.log(30)),
    POW4: (0.95, 0.45, 0.6, math.log(20)),
}


def pow3(n: Array, a: float, b: float, c: float) -> Array:
    return a - b * n**-c


def lcdb_mmf(n: Array, a: float, b: float, c: float, d: float) -> Array:
    return (a * b + c * n**d) / (b + n**d)


def lcdb_pow4(n: Array, a: float, b: float, c: float, d: float) -> Array:
    return a - b * (n + d) ** -c


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_finds_its_own_noise_free_curve(family: Family) -> None:
    parameters = WORLDS[family]
    fitted = fit_family(family, curve_from_points(SIZES, family.value(SIZES, *parameters)))
    assert fitted is not None
    assert fitted.auc(20_000).mean == pytest.approx(family.value(20_000.0, *parameters), abs=1e-4)
    assert fitted.parameters == pytest.approx(parameters, abs=0.01)
    target = float(family.value(3000.0, *parameters))
    assert fitted.labels_needed(target).median == pytest.approx(3000, rel=0.02)


@pytest.mark.parametrize("weighted", [False, True])
def test_pow3_equals_scipys_fit_with_its_interval(weighted: bool) -> None:
    """Figueroa's weights j / m are SciPy's sigma to the power -2."""
    sigma = (np.arange(1, 11) / 10) ** -0.5 if weighted else None
    found, covariance = curve_fit(pow3, SIZES, NOISY, p0=(0.9, 1, 0.5), sigma=sigma)
    gradient = approx_fprime(found, lambda p: pow3(1000.0, *p), 1e-7)
    reach = t.ppf(0.95, 7) * math.sqrt(gradient @ covariance @ gradient)
    for family in (WEIGHTED,) if weighted else (PLAIN, BOUNDED):
        fitted = fit_family(family, curve_from_points(SIZES, NOISY))
        assert fitted is not None
        told = fitted.auc(1000)
        assert told.mean == pytest.approx(pow3(1000.0, *found), abs=1e-5)
        assert (told.high - told.low) / 2 == pytest.approx(reach, rel=1e-3)


@pytest.mark.parametrize(
    ("family", "published", "start"),
    [(MMF, lcdb_mmf, (0.5, 30.0, 0.9, 1.0)), (POW4, lcdb_pow4, (0.9, 3.0, 1.0, 10.0))],
    ids=["mmf", "pow4"],
)
def test_four_parameter_families_are_those_of_the_learning_curve_database(
    family: Family, published: object, start: tuple[float, ...]
) -> None:
    auc = 0.9 - 0.4 * (1 + SIZES / 20) ** -1.1 + np.random.default_rng(5).normal(0, 0.002, len(SIZES))
    found, _ = curve_fit(published, SIZES, auc, p0=start, maxfev=20_000)
    fitted = fit_family(family, curve_from_points(SIZES, auc))
    assert fitted is not None
    for n in (20.0, 300.0, 3000.0):
        assert fitted.auc(n).mean == pytest.approx(published(n, *found), abs=2e-4)  # type: ignore[operator]


def test_intervals_cover_the_curve_of_a_power_law_world() -> None:
    """Independent normal errors: 400 intervals at 90 % cover 360 on average, standard deviation 6."""
    rng, hits, repeats = np.random.default_rng(1), 0, 400
    truth = float(pow3(724.0, 0.9, 1.2, 0.6))
    for _ in range(repeats):
        points = pow3(SIZES, 0.9, 1.2, 0.6) + rng.normal(0, 0.003, len(SIZES))
        fitted = fit_family(PLAIN, curve_from_points(SIZES, points))
        assert fitted is not None
        told = fitted.auc(724)
        hits += told.low <= truth <= told.high
    assert abs(hits - 0.9 * repeats) <= 4 * math.sqrt(repeats * 0.9 * 0.1)


def test_as_many_parameters_as_points_give_no_interval_and_fewer_points_no_fit() -> None:
    fitted = fit_family(BOUNDED, curve_from_points(SIZES[:3], NOISY[:3]))
    assert fitted is not None
    assert math.isnan(fitted.auc(500).low)
    assert fit_family(POW4, curve_from_points(SIZES[:3], NOISY[:3])) is None


def test_a_fit_that_does_not_converge_says_so() -> None:
    steep = curve_from_points(SIZES, np.linspace(0.5, 0.95, len(SIZES)) ** 2)
    assert fit_family(PLAIN, steep) is None
    assert fit_family(BOUNDED, steep) is not None


def test_hostile_curves_stay_inside_zero_and_one() -> None:
    rng = np.random.default_rng(4)
    for auc in (np.full(10, 0.5), np.ones(10), np.zeros(10), np.linspace(0.9, 0.6, 10), rng.random(10)):
        for family in FAMILIES:
            fitted = fit_family(family, curve_from_points(SIZES, auc))
            if fitted is None:
                continue
            for n in (1, 362, 1e6):
                told = fitted.auc(n)
                assert 0 <= told.mean <= 1
                assert math.isnan(told.low) or 0 <= told.low <= told.mean <= told.high <= 1
            assert fitted.labels_needed(0.99).median >= 362


def test_the_last_value_stays_with_the_error_of_its_point() -> None:
    given = keep_last(curve_from_points([50, 100], [0.7, 0.8], se=[0.04, 0.02]))
    told = given.auc(10_000)
    assert (told.mean, told.low, told.high) == pytest.approx((0.8, 0.8 - 1.6449 * 0.02, 0.8 + 1.6449 * 0.02), abs=1e-5)  # fmt: skip
    counted = keep_last(curve_from_points([50, 100], [0.7, 0.8], positives=[5, 10]))
    assert counted.se == pytest.approx(
        INFLATION * math.sqrt(float(hanley_mcneil(shrink(0.8, 10, 90), 10, 90)))
    )
    assert given.labels_needed(0.8).median == 100
    assert given.labels_needed(0.81).median == math.inf


def test_a_crossing_is_found_between_sizes_on_the_log_scale() -> None:
    sizes, curve = np.array([100.0, 400, 1600]), np.array([0.7, 0.8, 0.9])
    assert first_crossing(sizes, curve, 0.75) == pytest.approx(200)
    assert first_crossing(sizes, curve, 0.6) == 100
    assert first_crossing(sizes, curve, 0.95) == math.inf
