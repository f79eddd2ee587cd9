"""Learning curves from labels alone: what is held out, what is counted, what selection does to them."""

from __future__ import annotations

import numpy as np
import pytest
from gaussian_world import Array, GaussianWorld, make_ridge_scorer, patients

from forecasting.auc import Mask
from forecasting.curve import LearningCurve, curve_from_points, estimate_curves
from forecasting.errors import BadCurve, TooFewLabels
from forecasting.selection import difference_variance, shrink_bias

NAMES = ["effusion", "nodule", "hernia"]


def world(seed: int, n: int = 150) -> tuple[Array, Array]:
    return GaussianWorld(np.random.default_rng(seed), [2.0, 1.2, 1.5], [0.4, 0.15, 0.05], 20).draw(
        np.random.default_rng([seed, 1]), n
    )


def estimate(x: Array, y: Array, seed: int = 0, is_random: Mask | None = None) -> list[LearningCurve]:
    scorer = make_ridge_scorer(x, y, 10.0)
    names = NAMES[: y.shape[1]]
    return estimate_curves(
        names, y, patients(len(y)), scorer, np.random.default_rng(seed), is_random=is_random
    )


def assert_same(a: LearningCurve, b: LearningCurve) -> None:
    assert (a.finding, a.n, a.n_positive, a.n_negative) == (b.finding, b.n, b.n_positive, b.n_negative)
    assert (a.bias, a.bias_se) == pytest.approx((b.bias, b.bias_se), abs=1e-9)
    for one, other in ((a.sizes, b.sizes), (a.effective, b.effective), (a.auc, b.auc)):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_the_same_seed_gives_the_same_curve_and_another_seed_another() -> None:
    x, y = world(0)
    for a, b in zip(estimate(x, y), estimate(x, y), strict=True):
        assert_same(a, b)
    assert not np.array_equal(estimate(x, y, seed=1)[0].auc, estimate(x, y)[0].auc)


def test_items_without_any_label_change_nothing() -> None:
    x, y = world(1)
    rng = np.random.default_rng(2)
    more_x, more_y = np.vstack([rng.standard_normal((8, 20)), x]), np.vstack([np.full((8, 3), np.nan), y])
    groups = np.concatenate([[f"unlabelled-{i}" for i in range(8)], patients(len(y))])
    more = estimate_curves(
        NAMES, more_y, groups, make_ridge_scorer(more_x, more_y, 10.0), np.random.default_rng(0)
    )
    for a, b in zip(estimate(x, y), more, strict=True):
        assert_same(a, b)


def test_order_of_findings_is_irrelevant() -> None:
    x, y = world(3)
    turned = estimate_curves(
        NAMES[::-1],
        y[:, ::-1],
        patients(150),
        make_ridge_scorer(x, y[:, ::-1], 10.0),
        np.random.default_rng(0),
    )
    for a, b in zip(estimate(x, y), turned[::-1], strict=True):
        assert_same(a, b)


def test_training_sets_are_nested_and_never_hold_a_patient_who_is_scored() -> None:
    _, y = world(4, 90)
    groups, seen = patients(90, 3), []

    def spy(masks: Mask) -> Array:
        seen.append(masks)
        return np.random.default_rng(0).random((*masks.shape, 3))

    curves = estimate_curves(NAMES, y, groups, spy, np.random.default_rng(0))
    masks = np.concatenate(seen).reshape(20, 6, 90)  # 20 parts of 6 sizes
    for part in masks:
        assert (part[1:] >= part[:-1]).all()
        held_out = ~part[-1]
        assert 10 < held_out.sum() < 30
        assert not set(groups[held_out]) & set(groups[part[-1]])
    assert (masks[:5, -1].sum(axis=0) == 4).all()  # five folds hold each item out once
    share = masks.sum(axis=2).mean(axis=0) / 90
    np.testing.assert_allclose(share, np.geomspace(0.1, 0.8, 6), atol=0.03)
    assert curves[0].sizes[-1] == pytest.approx(72, abs=1)


def test_number_of_fits_does_not_grow_with_labels_or_findings() -> None:
    for n in (80, 400):
        x, y = world(5, n)
        asked = 0
        inner = make_ridge_scorer(x, y, 10.0)

        def counting(masks: Mask, inner=inner) -> Array:  # type: ignore[no-untyped-def]
            nonlocal asked
            asked += len(masks)
            return np.asarray(inner(masks))

        estimate_curves(NAMES, y, patients(n), counting, np.random.default_rng(0))
        assert asked == 120


def test_effective_size_is_that_of_the_training_parts() -> None:
    x, y = world(6, 400)
    for curve in estimate(x, y):
        share = curve.n_positive / curve.n
        np.testing.assert_allclose(curve.effective[-3:], curve.sizes[-3:] * share * (1 - share), rtol=0.2)
        assert (np.diff(curve.sizes) > 0).all()


def test_labels_unknown_for_one_finding_are_left_out_of_that_finding_only() -> None:
    x, y = world(7)
    y[::2, 1] = np.nan
    full, half, _ = estimate(x, y)
    assert (full.n, half.n) == (150, 75)
    assert half.n_positive + half.n_negative == 75
    assert half.sizes[-1] == pytest.approx(full.sizes[-1] / 2, rel=0.1)


def test_points_rise_to_the_true_auc_of_the_probe() -> None:
    """Mean over 30 simulated worlds of the last point less the exact AUC at that size."""
    differences, rises = [], []
    for seed in range(30):
        rng = np.random.default_rng([8, seed])
        truth = GaussianWorld(rng, [1.5], [0.4], 20)
        x, y = truth.draw(rng, 120)
        curve = estimate_curves(["a"], y, patients(120), make_ridge_scorer(x, y, 10.0), rng, n_repeats=10)[0]
        exact = []
        for _ in range(20):
            i = rng.permutation(120)[:96]
            centred = x[i] - x[i].mean(axis=0)
            target = centred.T @ (y[i, 0] - y[i, 0].mean())
            exact.append(truth.auc(np.linalg.solve(centred.T @ centred + 10 * np.eye(20), target), 0))
        differences.append(curve.auc[-1] - np.mean(exact))
        rises.append(curve.auc[-1] - curve.auc[0])
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(30) + 0.002
    assert np.mean(rises) > 0.05


def test_a_finding_without_positives_has_a_curve_without_points() -> None:
    x, y = world(9)
    y[:, 2] = 0
    curves = estimate(x, y)
    assert (curves[2].n_positive, len(curves[2].auc), len(curves[2].sizes)) == (0, 0, 0)
    assert len(curves[0].auc) == 6


def test_one_patient_alone_has_no_curve() -> None:
    with pytest.raises(TooFewLabels, match="more patients"):
        estimate_curves(
            ["a"],
            np.array([[0.0], [1.0]]),
            np.array([1, 1]),
            lambda m: np.zeros((*m.shape, 1)),
            np.random.default_rng(0),
        )


def test_images_of_one_patient_weigh_less_than_as_many_strangers() -> None:
    x, y = world(13, 120)
    strangers = estimate(x, y)[0]
    assert strangers.design_effect == 1
    copies_x, copies_y, of = np.repeat(x, 3, axis=0), np.repeat(y, 3, axis=0), np.repeat(np.arange(120), 3)
    told = estimate_curves(
        NAMES, copies_y, of, make_ridge_scorer(copies_x, copies_y, 10.0), np.random.default_rng(0)
    )[0]
    assert told.n == 3 * strangers.n
    assert told.design_effect == pytest.approx(3, rel=0.05)  # three copies tell what one does
    assert told.independent == pytest.approx((strangers.n_positive, strangers.n_negative), rel=0.05)


# ---------------------------------------------------------------- active selection


def test_all_random_items_leave_nothing_to_correct() -> None:
    x, y = world(10)
    for plain, told in zip(estimate(x, y), estimate(x, y, is_random=np.ones(150, bool)), strict=True):
        assert_same(plain, told)
        assert (told.bias, told.bias_se) == (0, 0)


def test_the_correction_is_the_shrunken_difference_to_random_pairs() -> None:
    x, y = world(11, 200)
    y = y[:, :1]
    is_random = np.arange(200) % 2 == 0
    plain, corrected = estimate(x, y)[0], estimate(x, y, is_random=is_random)[0]
    np.testing.assert_allclose(plain.auc - corrected.bias, corrected.auc, atol=1e-12)
    all_counts, random_counts = ((int(part.sum()), int((1 - part).sum())) for part in (y, y[is_random]))
    variance = difference_variance(plain.auc[-1], all_counts, random_counts)
    _, se = shrink_bias(np.zeros(1), np.array([variance]))
    assert corrected.bias_se >= se[0] * 0.99  # a difference of 0 speaks for the small scales
    assert 0 < abs(corrected.bias) < 0.02


def test_correction_brings_actively_chosen_labels_closer_to_the_truth() -> None:
    """Half of the labels are drawn from the less certain half of the pool, as a soft strategy picks."""
    errors: dict[str, list[float]] = {"plain": [], "corrected": []}
    for seed in range(25):
        rng = np.random.default_rng([12, seed])
        truth = GaussianWorld(rng, [3.0], [0.5], 10)
        pool_x, pool_y = truth.draw(rng, 1500)
        unsure = np.argsort(np.abs(pool_x[300:] @ truth.mu[0] - 4.5))[:600] + 300
        chosen = np.concatenate([np.arange(150), rng.permutation(unsure)[:150]])
        is_random = np.arange(300) < 150
        x, y = pool_x[chosen], pool_y[chosen]
        scorer = make_ridge_scorer(x, y, 10.0)
        centred = x - x.mean(axis=0)
        w = np.linalg.solve(centred.T @ centred + 10 * np.eye(10), centred.T @ (y[:, 0] - y.mean()))
        exact = truth.auc(w, 0)
        for kind, told in (("plain", None), ("corrected", is_random)):
            curve = estimate_curves(
                ["a"],
                y,
                patients(300),
                scorer,
                np.random.default_rng(seed),
                is_random=told,
                n_sizes=2,
                n_repeats=10,
            )[0]
            errors[kind].append(curve.auc[-1] - exact)
    assert np.mean(errors["plain"]) < -0.015
    assert abs(np.mean(errors["corrected"])) < 0.6 * abs(np.mean(errors["plain"]))


# ---------------------------------------------------------------- curves of others


def test_points_of_others_are_sorted_and_kept() -> None:
    curve = curve_from_points([400, 100], [0.8, 0.7], se=[0.01, 0.02], positives=[40, 10], finding="nodule")
    assert (curve.n, curve.n_positive, curve.n_negative, curve.finding) == (400, 40, 360, "nodule")
    assert curve.sizes.tolist() == [100, 400]
    assert curve.auc.tolist() == [0.7, 0.8]
    assert curve.se is not None
    assert curve.se.tolist() == [0.02, 0.01]
    np.testing.assert_allclose(curve.effective, [9, 36])


def test_without_counts_half_of_the_labels_are_taken_as_positive() -> None:
    assert curve_from_points([100], [0.8]).effective.tolist() == [25]


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"n": [], "auc": []}, "at least one point"),
        ({"n": [50, 0]}, "point 2 has n = 0"),
        ({"n": [50, np.nan]}, "point 2 has n = nan"),
        ({"auc": [0.7, 75.0]}, "point 2 has auc = 75.*not in percent"),
        ({"auc": [np.nan, 0.7]}, "point 1 has auc = nan"),
        ({"auc": [0.7]}, "1 values of auc for 2 sizes"),
        ({"se": [0.1, -0.1]}, "point 2 has se = -0.1"),
        ({"positives": [0, 10]}, "point 1 has positives = 0"),
        ({"positives": [50, 10]}, "point 1 has negatives = 0"),
        ({"positives": [30, 30], "negatives": [30, 30]}, "point 1 has positives \\+ negatives = 60"),
    ],
)
def test_nonsense_is_refused_by_row_and_column(change: dict[str, list[float]], fact: str) -> None:
    with pytest.raises(BadCurve, match=fact):
        curve_from_points(**({"n": [50, 100], "auc": [0.7, 0.8]} | change))  # type: ignore[arg-type]
