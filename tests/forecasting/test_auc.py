"""AUC against scikit-learn, the definition and published figures; folds; cross-fitting by its laws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gaussian_world import Array, GaussianWorld, make_ridge_scorer, patients
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from forecasting.auc import (
    Mask,
    cross_fit,
    cross_fitted_auc,
    estimate_auc,
    hanley_mcneil,
    score_in_blocks,
)
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds


def delong_by_definition(y: Array, scores: Array) -> tuple[float, float]:
    """AUC and variance by all m n comparisons (DeLong et al. 1988, equations 4 and 5)."""
    x, z = scores[y == 1], scores[y == 0]
    psi = (x[:, None] > z[None, :]) + 0.5 * (x[:, None] == z[None, :])
    return float(psi.mean()), psi.mean(1).var(ddof=1) / len(x) + psi.mean(0).var(ddof=1) / len(z)


# Outcome by WFNS grade 1..5 of the 113 patients of `aSAH` in R's pROC (Turck et al. 2010), counted from its
# placements in its tests/testthat/helper-deLongPlacementsCpp-expected.R; var(r.wfns) from test-var.R there.
WFNS_GOOD, WFNS_POOR = (37, 20, 3, 8, 4), (2, 12, 1, 8, 18)


# S100B of the same patients, at its 50 values .03 to 2.07: agrees with all 113 placements there, and
# var(r.s100b) in test-var.R.
# fmt: off
S100B_GOOD = (
    0, 5, 3, 2, 6, 6, 6, 7, 4, 0, 3, 4, 4, 3, 2, 1, 2, 0, 0, 1, 0, 0, 0, 1, 0,
    1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 2, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
)
S100B_POOR = (
    1, 0, 0, 0, 3, 1, 2, 2, 1, 1, 2, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 1,
    1, 1, 0, 1, 0, 1, 0, 2, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1,
)
# fmt: on


def items_of(negatives: tuple[int, ...], positives: tuple[int, ...]) -> tuple[Array, Array]:
    grades = np.arange(len(negatives))
    scores = np.concatenate([np.repeat(grades, negatives), np.repeat(grades, positives)]).astype(float)
    return np.repeat([0.0, 1.0], [sum(negatives), sum(positives)]), scores


@pytest.mark.parametrize(
    ("good", "poor", "auc", "variance"),
    [
        (WFNS_GOOD, WFNS_POOR, 0.823678861788618, 0.00146991470882363),
        (S100B_GOOD, S100B_POOR, 0.731368563685637, 0.00266868245717244),
    ],
)
def test_auc_and_delong_variance_equal_those_of_r_proc(
    good: tuple[int, ...], poor: tuple[int, ...], auc: float, variance: float
) -> None:
    estimate = estimate_auc(*items_of(good, poor))
    assert estimate.auc == pytest.approx(auc, abs=1e-13)
    assert estimate.se**2 == pytest.approx(variance, abs=1e-15)
    assert (estimate.n_positive, estimate.n_negative) == (41, 72)


def test_the_interval_that_r_proc_prints_is_delongs_error_around_the_auc() -> None:
    """``ci.auc(aSAH$outcome, aSAH$s100b)`` prints "95% CI: 0.6301-0.8326 (DeLong)": AUC -+ 1.96 errors.

    Ours is Wilson's kind, which is not symmetric: nearer to 1/2 at both ends, and hardly of another width.
    """
    estimate = estimate_auc(*items_of(S100B_GOOD, S100B_POOR))
    plain = estimate.auc + np.array([-1, 1]) * norm.ppf(0.975) * estimate.se
    assert plain.round(4).tolist() == [0.6301, 0.8326]
    low, high = estimate.interval(0.95)
    assert low < plain[0]
    assert high < plain[1]
    assert high - low == pytest.approx(plain[1] - plain[0], rel=0.1)


def test_the_rating_example_of_hanley_and_mcneil_comes_out_as_printed() -> None:
    # Radiology 143(1), 1982, table I: 109 CT images rated 1..5, W = .893; with DeLong's error in Stata's
    # manual, [R] roctab: area 0.8932, standard error 0.0307.
    estimate = estimate_auc(*items_of((33, 6, 6, 11, 2), (3, 2, 2, 11, 33)))
    assert round(estimate.auc, 4) == 0.8932
    assert round(estimate.se, 4) == 0.0307


@pytest.mark.parametrize(("auc", "n1", "n0"), [(0.6, 1, 1), (0.7, 3, 20), (0.9, 15, 8), (0.97, 10, 40)])
def test_hanley_mcneil_is_the_variance_under_exponential_scores(auc: float, n1: int, n0: int) -> None:
    rng, repeats = np.random.default_rng([n1, n0]), 20_000
    x = rng.exponential(auc / (1 - auc), (repeats, n1, 1))  # P(x > z) = auc for z ~ Exp(1)
    found = (x > rng.exponential(1.0, (repeats, 1, n0))).mean(axis=(1, 2))
    squares = (found - auc) ** 2
    assert abs(squares.mean() - hanley_mcneil(auc, n1, n0)) < 4 * squares.std() / np.sqrt(repeats)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=25),
    st.lists(st.integers(0, 6), min_size=2, max_size=25),
)
def test_fast_form_equals_scikit_learn_and_the_definition_with_ties(pos: list[int], neg: list[int]) -> None:
    y = np.array([1.0] * len(pos) + [0.0] * len(neg))
    scores = np.array(pos + neg, float)
    auc, variance = delong_by_definition(y, scores)
    estimate = estimate_auc(y, scores)
    assert estimate.auc == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    assert estimate.auc == pytest.approx(auc, abs=1e-12)
    if variance > 1e-12:
        assert estimate.se**2 == pytest.approx(variance, rel=1e-9)
    assert estimate.se > 0


def test_items_with_unknown_labels_and_their_order_change_nothing() -> None:
    rng = np.random.default_rng(1)
    y, scores = (rng.random(60) < 0.4).astype(float), rng.standard_normal(60)
    more_y, more_scores = np.append(y, [np.nan] * 7), np.append(scores, rng.standard_normal(7))
    shuffle = rng.permutation(67)
    plain, more = estimate_auc(y, scores), estimate_auc(more_y[shuffle], more_scores[shuffle])
    assert (more.auc, more.n_positive, more.n_negative) == (plain.auc, plain.n_positive, plain.n_negative)
    assert more.se == pytest.approx(plain.se, rel=1e-12)


def test_perfect_separation_of_four_items_is_not_certain() -> None:
    estimate = estimate_auc([1, 1, 0, 0], [4.0, 3.0, 2.0, 1.0])
    low, high = estimate.interval(0.9)
    assert estimate.auc == 1
    assert estimate.se > 0.2
    assert low < 0.6
    assert high == 1


@pytest.mark.parametrize("y", [[1, 0, 0, 0], [1, 1, 1, 0], [np.nan, 1, 0, 0], []])
def test_fewer_than_two_of_a_class_are_refused_with_the_remedy(y: list[float]) -> None:
    with pytest.raises(TooFewLabels, match=r"at least 2 positives and 2 negatives.*label more"):
        estimate_auc(y, np.arange(len(y), dtype=float))


@pytest.mark.parametrize(
    ("separation", "n1", "n0"), [(0.5, 8, 60), (1.2, 5, 100), (2.3, 30, 200), (3.3, 50, 50)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(separation: float, n1: int, n0: int) -> None:
    rng = np.random.default_rng([n1, n0])
    truth = GaussianWorld(rng, [separation], [0.5], 2)
    auc = truth.auc(truth.mu[0], 0)
    y = np.repeat([1.0, 0.0], [n1, n0])
    repeats, hits = 400, 0
    for _ in range(repeats):
        low, high = estimate_auc(y, rng.standard_normal(n1 + n0) + separation * y).interval(0.9)
        hits += low <= auc <= high
    assert hits >= binom.ppf(1e-4, repeats, 0.9)


def test_a_higher_level_widens_the_interval_inside_zero_and_one() -> None:
    estimate = estimate_auc([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.4, 0.2, 0.1])
    bounds = [estimate.interval(level) for level in (0.5, 0.8, 0.9, 0.99)]
    assert all(0 <= low <= estimate.auc <= high <= 1 for low, high in bounds)
    assert all(b[0] < a[0] and b[1] >= a[1] for a, b in pairwise(bounds))


# ---------------------------------------------------------------- patients with many images


def obuchowski_by_definition(y: Array, scores: Array, groups: Array) -> float:
    """Variance of an AUC over clusters, patient by patient (Obuchowski 1997, section 2)."""
    x, z = scores[y == 1], scores[y == 0]
    psi = (x[:, None] > z[None, :]) + 0.5 * (x[:, None] == z[None, :])
    auc, v10, v01 = psi.mean(), psi.mean(axis=1), psi.mean(axis=0)
    of_x, of_z = groups[y == 1], groups[y == 0]
    m, n, patients_all = len(x), len(z), set(groups[(y == 1) | (y == 0)].tolist())
    s10 = s01 = s11 = 0.0
    for patient in patients_all:
        a = v10[of_x == patient].sum() - (of_x == patient).sum() * auc
        b = v01[of_z == patient].sum() - (of_z == patient).sum() * auc
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    i, i10, i01 = len(patients_all), len(set(of_x.tolist())), len(set(of_z.tolist()))
    s10, s01, s11 = s10 * i10 / ((i10 - 1) * m), s01 * i01 / ((i01 - 1) * n), s11 * i / (i - 1)
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 12))
def test_variance_by_patient_equals_its_definition_with_ties(seed: int, n_patients: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.append(rng.integers(0, n_patients, 40), [0, 1, 2, 3])
    y = np.append(rng.choice([0.0, 1.0, np.nan], 40, p=[0.5, 0.4, 0.1]), [1, 1, 0, 0])
    scores = rng.integers(0, 7, 44).astype(float)
    estimate = estimate_auc(y, scores, groups)
    assert estimate.auc == estimate_auc(y, scores).auc
    if (variance := obuchowski_by_definition(y, scores, groups)) > 1e-12:
        assert estimate.se**2 == pytest.approx(variance, rel=1e-9)
    assert estimate.se > 0


def test_patients_of_one_image_each_change_nothing() -> None:
    y, scores = items_of(S100B_GOOD, S100B_POOR)
    plain, by_patient = estimate_auc(y, scores), estimate_auc(y, scores, patients(113))
    assert by_patient.se == pytest.approx(plain.se, rel=1e-12)
    assert by_patient.interval() == pytest.approx(plain.interval(), rel=1e-9)


def test_the_same_image_many_times_is_one_image() -> None:
    """Each image five times: DeLong's error falls by the root of five, the one by patient hardly moves."""
    y, scores = items_of(WFNS_GOOD, WFNS_POOR)
    once, groups = estimate_auc(y, scores), np.repeat(patients(113), 5)
    copied = estimate_auc(np.repeat(y, 5), np.repeat(scores, 5), groups)
    assert copied.se == pytest.approx(once.se, rel=1e-12)
    assert copied.design_effect == pytest.approx(5, rel=0.05)
    assert copied.interval() == pytest.approx(once.interval(), abs=0.005)
    assert estimate_auc(np.repeat(y, 5), np.repeat(scores, 5)).se < once.se / 2


def test_perfect_separation_of_four_patients_is_not_certain_however_many_images_they_have() -> None:
    y, groups = np.repeat([1.0, 0.0], 40), np.repeat(patients(4), 20)
    estimate = estimate_auc(y, y + np.linspace(0, 0.5, 80), groups)
    assert estimate.auc == 1
    assert estimate.interval(0.9)[0] < 0.65
    assert estimate_auc(y, y + np.linspace(0, 0.5, 80)).interval(0.9)[0] > 0.9


@pytest.mark.parametrize("groups", [["a", "a", "b", "c"], ["a", "b", "c", "c"]])
def test_a_class_of_one_patient_is_refused_with_the_remedy(groups: list[str]) -> None:
    with pytest.raises(TooFewLabels, match=r"at least 2 patients each.*more patients"):
        estimate_auc([1, 1, 0, 0], np.arange(4.0), np.array(groups))


@pytest.mark.parametrize(
    ("auc", "alike", "by_patient"),
    [(0.8, 0.8, True), (0.9, 0.95, True), (0.97, 0.95, True), (0.85, 0.5, False)],
)
def test_intervals_by_patient_hold_the_truth_where_images_of_a_patient_are_alike(
    auc: float, alike: float, by_patient: bool
) -> None:
    """60 patients of 1 to 10 images; a finding is the patient's, or each image's own.

    `alike` is the correlation of two scores of one patient within a class. Where the finding is the patient's,
    counting images is wrong, and the simulation shows it.
    """
    rng, repeats, hits, naive = np.random.default_rng([round(100 * auc)]), 400, 0, 0
    for _ in range(repeats):
        groups = np.repeat(np.arange(60), rng.integers(1, 11, 60))
        ill = rng.random(60) < 0.4
        y = (ill[groups] if by_patient else rng.random(len(groups)) < 0.4).astype(float)
        noise = np.sqrt(alike) * rng.standard_normal(60)[groups]
        noise += np.sqrt(1 - alike) * rng.standard_normal(len(groups))
        scores = np.sqrt(2) * norm.ppf(auc) * y + noise
        low, high = estimate_auc(y, scores, groups).interval(0.9)
        hits += low <= auc <= high
        low, high = estimate_auc(y, scores).interval(0.9)
        naive += low <= auc <= high
    assert hits >= binom.ppf(1e-3, repeats, 0.9)
    if by_patient:
        assert naive < 0.75 * repeats


# ---------------------------------------------------------------- folds


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 4))
def test_a_patient_is_in_one_fold_and_every_labelled_item_in_some(seed: int, n_folds: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 25, 80)
    y = np.where(rng.random((80, k)) < 0.3, np.nan, (rng.random((80, k)) < 0.2).astype(float))
    folds = assign_folds(y, groups, n_folds, rng)
    labelled = ~np.isnan(y).all(axis=1)
    assert ((folds >= 0) == labelled).all()
    for group in np.unique(groups[labelled]):
        assert len(np.unique(folds[labelled & (groups == group)])) == 1


def test_rare_positives_are_spread_over_the_folds() -> None:
    rng = np.random.default_rng(3)
    y = np.zeros((200, 2))
    y[rng.choice(200, 10, replace=False), 0] = 1
    y[rng.choice(200, 100, replace=False), 1] = 1
    folds = assign_folds(y, patients(200), 5, rng)
    assert np.bincount(folds, y[:, 0]).tolist() == [2.0] * 5
    assert np.ptp(np.bincount(folds, y[:, 1])) <= 1
    assert np.ptp(np.bincount(folds)) <= 4


def test_neither_names_nor_order_of_findings_change_the_folds() -> None:
    y = (np.random.default_rng(4).random((90, 3)) < [0.1, 0.1, 0.5]).astype(float)
    groups = patients(90, 2)
    a = assign_folds(y, groups, 5, np.random.default_rng(9))
    b = assign_folds(y[:, [2, 0, 1]], groups, 5, np.random.default_rng(9))
    assert (a == b).all()


def test_labels_of_one_patient_cannot_be_cross_fitted() -> None:
    with pytest.raises(TooFewLabels, match="1 patient"):
        assign_folds(np.array([[0.0], [1.0], [1.0]]), np.array(["a", "a", "a"]), 5, np.random.default_rng(0))


# ---------------------------------------------------------------- cross-fitting


def world(seed: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return GaussianWorld(rng, [1.5, 1.0], [0.3, 0.15], 12).draw(rng, n)


def test_no_item_is_scored_by_a_probe_that_saw_its_patient() -> None:
    _, y = world(0, 60)
    groups = patients(60, 3)
    seen: list[Array] = []

    def spy(masks: Mask) -> Array:
        seen.extend(masks)
        return np.broadcast_to(np.arange(len(masks))[:, None, None], (len(masks), 60, 2)).astype(float)

    fit = cross_fit(y, groups, spy, np.random.default_rng(0), n_folds=4, n_repeats=3)
    masks = np.array(seen)  # (12, n); each item's score is the number of its mask
    for r in range(3):
        for i in range(60):
            trained_on = masks[int(fit.scores[r, i, 0])]
            assert not trained_on[groups == groups[i]].any()


def test_cross_fitted_auc_counts_pairs_inside_a_fold_only() -> None:
    rng = np.random.default_rng(5)
    y = (rng.random(50) < 0.4).astype(float)
    scores, folds = rng.integers(0, 6, (3, 50)).astype(float), rng.integers(0, 4, (3, 50))  # with ties
    wins = pairs = 0.0
    for r in range(3):
        for i in np.flatnonzero(y == 1):
            for j in np.flatnonzero(y == 0):
                if folds[r, i] == folds[r, j]:
                    wins += (scores[r, i] > scores[r, j]) + 0.5 * (scores[r, i] == scores[r, j])
                    pairs += 1
    estimate = cross_fitted_auc(y, scores, folds)
    assert estimate.auc == pytest.approx(wins / pairs, abs=1e-12)
    # a constant added to one fold's scores is another model's offset, and must not matter
    moved = scores + 100.0 * folds
    assert cross_fitted_auc(y, moved, folds).auc == pytest.approx(estimate.auc, abs=1e-12)


def test_keeping_some_items_equals_having_only_them() -> None:
    rng = np.random.default_rng(6)
    y = (rng.random(80) < 0.4).astype(float)
    scores, folds = rng.standard_normal((2, 80)), rng.integers(0, 3, (2, 80))
    keep = rng.random(80) < 0.6
    kept = cross_fitted_auc(y, scores, folds, keep=keep)
    assert kept == cross_fitted_auc(y[keep], scores[:, keep], folds[:, keep])
    assert kept.se > cross_fitted_auc(y, scores, folds).se


def test_unlabelled_items_change_nothing_in_a_cross_fit() -> None:
    x, y = world(7, 70)
    rng = np.random.default_rng(8)
    more_x = np.vstack([x, rng.standard_normal((9, 12))])
    more_y = np.vstack([y, np.full((9, 2), np.nan)])
    groups, more_groups = patients(70), np.append(patients(70), [f"a-{i}" for i in range(9)])
    plain = cross_fit(y, groups, make_ridge_scorer(x, y, 5.0), np.random.default_rng(1))
    more = cross_fit(more_y, more_groups, make_ridge_scorer(more_x, more_y, 5.0), np.random.default_rng(1))
    for k in range(2):
        a = cross_fitted_auc(y[:, k], plain.scores[:, :, k], plain.folds)
        b = cross_fitted_auc(more_y[:, k], more.scores[:, :, k], more.folds)
        assert a.auc == pytest.approx(b.auc, abs=1e-9)
        assert (a.n_positive, a.n_negative) == (b.n_positive, b.n_negative)


def test_cross_fitted_error_is_never_zero_at_perfect_separation() -> None:
    y = np.array([1.0, 1.0, 0.0, 0.0])
    estimate = cross_fitted_auc(y, np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([[0, 1, 0, 1]]))
    low, high = estimate.interval(0.9)
    assert estimate.auc == 1
    assert low < 0.55
    assert high == 1


def test_a_head_that_was_never_trained_has_no_auc() -> None:
    y = np.array([1.0, 1.0, 0.0, 0.0])
    with pytest.raises(TooFewLabels, match="no fold holds both"):
        cross_fitted_auc(y, np.full((2, 4), np.nan), np.zeros((2, 4), dtype=int))


def test_masks_are_scored_in_blocks_of_bounded_memory() -> None:
    sizes: list[int] = []

    def scorer(masks: Mask) -> Array:
        sizes.append(len(masks))
        return np.zeros((*masks.shape, 14)) + masks[:, :1, None]

    masks = np.random.default_rng(0).random((40, 30_000)) < 0.5
    answers = dict(score_in_blocks(scorer, masks, 14))
    assert max(sizes) * 30_000 * 14 * 8 <= 64 * 2**20
    assert [answers[b][0, 0] for b in range(40)] == masks[:, 0].astype(float).tolist()


def test_cross_fitted_intervals_hold_the_auc_of_the_probe_on_new_images() -> None:
    """Simulated worlds, 30 to 80 labels: 90 % intervals against the exact AUC of the probe on all labels."""
    repeats, hits, rng = 150, 0, np.random.default_rng(11)
    for _ in range(repeats):
        truth = GaussianWorld(rng, [rng.uniform(0.6, 2.5)], [0.3], 15)
        x, y = truth.draw(rng, int(rng.integers(30, 80)))
        if not 3 <= y.sum() <= len(y) - 3:
            hits += 1  # not spoken about
            continue
        fit = cross_fit(y, patients(len(y)), make_ridge_scorer(x, y, 15.0), rng, n_repeats=3)
        low, high = cross_fitted_auc(y[:, 0], fit.scores[:, :, 0], fit.folds).interval(0.9)
        centred = x - x.mean(axis=0)
        w = np.linalg.solve(centred.T @ centred + 15 * np.eye(15), centred.T @ (y[:, 0] - y.mean()))
        hits += low <= truth.auc(w, 0) <= high
    assert hits >= binom.ppf(1e-3, repeats, 0.9)
