"""The probe against scikit-learn's pipeline, on real chest X-rays and on small worlds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from forecasting.folds import assign_folds
from loop.errors import BadInput
from loop.logistic import fit_logistic
from loop.probe import (
    CAUTIOUS,
    STRENGTHS,
    Probe,
    choose_strengths,
    fit_parts,
    fit_probe,
    fit_projection,
    make_scorer,
)

Array = NDArray[np.float64]
FINDINGS = ("pneumonia", "bacterial")


def world(
    n: int, d: int, signal: float, seed: int = 0, n_findings: int = 1
) -> tuple[NDArray[np.float32], Array, NDArray[np.str_]]:
    """Features, labels and patients with two images each; the first features tell the findings."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, n_findings)) < 0.4).astype(float)
    x = rng.normal(size=(n, d))
    x[:, :n_findings] += signal * y
    return (x * 2 + 5).astype(np.float32), y, np.array([f"patient {i // 2}" for i in range(n)])


@pytest.fixture(scope="module")
def kermany(cxr: Path) -> tuple[NDArray[np.float32], Array, NDArray[np.str_]]:
    """EfficientNet-Lite0 features of 3,481 paediatric chest X-rays, labels ``(n, 2)``, patients."""
    with np.load(cxr / "kermany_lite0_224.npz") as file:
        features, names = file["feat"].astype(np.float32), file["name"]
    table = pd.read_csv(cxr / "kermany_labels.csv").set_index("file").loc[names]
    return features, table[list(FINDINGS)].to_numpy(float), table["patient"].to_numpy(str)


def test_a_projection_is_a_standard_scaler_and_a_pca() -> None:
    """scikit-learn's StandardScaler and PCA; components have no sign, so distances are compared."""
    sample = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    sample[:, :5] *= 4
    sample[:, 5] = sample[:, 0] + 0.1 * sample[:, 5]
    projection = fit_projection(sample, 4)
    pipeline = make_pipeline(StandardScaler(), PCA(4, svd_solver="full")).fit(sample.astype(float))
    ours, theirs = projection.transform(sample), pipeline.transform(sample.astype(float))
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3)


@pytest.mark.parametrize("n_components", [0, 30, 400])
def test_without_components_to_drop_the_features_are_only_standardised(n_components: int) -> None:
    sample = world(50, 30, 0.0)[0]
    projection = fit_projection(sample, n_components)
    assert projection.components is None
    np.testing.assert_allclose(
        projection.transform(sample), StandardScaler().fit_transform(sample.astype(float)), atol=1e-5
    )


def test_a_small_sample_gives_as_many_components_as_it_has() -> None:
    projection = fit_projection(world(20, 50, 0.0)[0], 40)
    assert projection.components is not None
    assert projection.components.shape == (50, 19)  # 20 items less their mean


def test_a_constant_feature_is_harmless() -> None:
    features, y, patients = world(60, 10, 2.0)
    features[:, 3], features[:, 7] = 0.0, 1000.1
    for n_components in (0, 5):
        projection = fit_projection(features, n_components)
        assert np.isfinite(projection.transform(features)).all()
        probe = fit_probe(features, y, patients, ["f"], projection, np.random.default_rng(0))
        assert np.isfinite(probe.predict(features)).all()


def test_nothing_to_standardise_on_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadInput, match="loop start"):
        fit_projection(np.empty((0, 8), np.float32), 4)


def test_features_that_are_not_finite_are_refused_with_the_remedy() -> None:
    features = world(20, 8, 0.0)[0]
    features[3, 2] = np.inf
    with pytest.raises(BadInput, match=r"1 of 8 features.*loop features verify"):
        fit_projection(features, 4)


def test_a_probe_on_raw_features_says_what_its_heads_say_on_projected_ones() -> None:
    features, y, patients = world(80, 40, 1.5, n_findings=2)
    projection = fit_projection(features, 10)
    probe = fit_probe(features, y, patients, ["a", "b"], projection, np.random.default_rng(0))
    x = projection.transform(features)
    fit = fit_logistic(x, y, probe.strength)
    np.testing.assert_allclose(probe.predict(features), expit(x @ fit.coef + fit.intercept), atol=1e-5)


@pytest.mark.cxr
def test_the_probe_is_scikit_learns_pipeline_on_real_features(
    kermany: tuple[NDArray[np.float32], Array, NDArray[np.str_]],
) -> None:
    """StandardScaler and PCA on the pool, then LogisticRegression at the strength the probe chose."""
    features, y, patients = kermany
    rng = np.random.default_rng(0)
    labelled = rng.choice(len(y), 200, replace=False)
    test = ~np.isin(patients, patients[labelled])
    probe = fit_probe(
        features[labelled], y[labelled], patients[labelled], FINDINGS, fit_projection(features, 256), rng
    )
    eyes = make_pipeline(StandardScaler(), PCA(256, svd_solver="covariance_eigh"))
    seen = eyes.fit_transform(features.astype(float))
    ours = probe.predict(features)
    for k in range(2):
        train = labelled[~np.isnan(y[labelled, k])]
        reference = LogisticRegression(C=probe.strength[k], tol=1e-8, max_iter=10_000)
        theirs = reference.fit(seen[train], y[train, k]).predict_proba(seen)[:, 1]
        np.testing.assert_allclose(ours[:, k], theirs, atol=1e-3)
        asked = test & ~np.isnan(y[:, k])
        assert roc_auc_score(y[asked, k], ours[asked, k]) == pytest.approx(
            roc_auc_score(y[asked, k], theirs[asked]), abs=1e-3
        )


@pytest.mark.cxr
def test_at_equal_choices_every_auc_is_that_of_scikit_learns_cross_validation(
    kermany: tuple[NDArray[np.float32], Array, NDArray[np.str_]],
) -> None:
    """LogisticRegressionCV on the same strengths and folds of whole patients, for a common finding, one that is known for half
    of the images, and one at 3 %: the AUC of every fold at every strength, and on new patients at the strength it chose."""
    features, y, patients = kermany
    rng = np.random.default_rng(3)
    x = fit_projection(features, 256).transform(features)
    rare = np.where(rng.random(len(y)) < 0.03, y[:, 1], np.where(y[:, 1] == 1, np.nan, 0.0))
    y = np.column_stack([y, rare])
    train = rng.choice(len(y), 500, replace=False)
    test = ~np.isin(patients, patients[train])
    own, x_own = y[train], x[train]
    assert 0.01 < np.nanmean(own[:, 2]) < 0.05
    folds = assign_folds(own, patients[train], 5, np.random.default_rng(1))
    strengths = STRENGTHS[::2]
    parts = np.repeat(folds[None, :] != np.arange(5)[:, None], len(strengths), axis=0)  # fold by fold
    logits = fit_parts(x_own, own, parts, np.tile(strengths, 5)[:, None]).reshape(5, len(strengths), -1, 3)
    for k in range(3):
        known = np.flatnonzero(~np.isnan(own[:, k]))
        cv = [
            (np.flatnonzero(folds[known] != f), np.flatnonzero(folds[known] == f))
            for f in range(5)
            if len(np.unique(own[known][folds[known] == f, k])) == 2
        ]
        theirs = LogisticRegressionCV(
            Cs=strengths,
            cv=cv,
            l1_ratios=(0.0,),
            scoring="roc_auc",
            tol=1e-7,
            max_iter=5_000,
            use_legacy_attributes=False,
        ).fit(x_own[known], own[known, k])
        told = theirs.scores_.reshape(len(cv), len(strengths))
        tested = [f for f in range(5) if len(np.unique(own[known][folds[known] == f, k])) == 2]
        for row, f in enumerate(tested):
            out = known[folds[known] == f]
            ours = [roc_auc_score(own[out, k], logits[f, s, out, k]) for s in range(len(strengths))]
            np.testing.assert_allclose(ours, told[row], atol=1e-3)
        fit = fit_logistic(x_own, own[:, k : k + 1], np.atleast_1d(theirs.C_))
        asked = test & ~np.isnan(y[:, k])
        assert roc_auc_score(y[asked, k], (x[asked] @ fit.coef + fit.intercept)[:, 0]) == pytest.approx(
            roc_auc_score(y[asked, k], theirs.decision_function(x[asked])), abs=1e-3
        )


def test_small_fits_run_on_one_blas_thread() -> None:
    """Whatever the caller allows: on a busy machine more threads make small fits many times dearer."""
    features, y, patients = world(60, 8, 1.0)
    seen: list[set[int]] = []

    class Watched(np.ndarray):  # type: ignore[type-arg]
        """Notes the threads of every product that it takes part in."""

        def __matmul__(self, other: Array) -> Array:
            seen.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
            return np.asarray(self) @ other

    x = fit_projection(features, 0).transform(features)
    with threadpool_limits(2, "blas"):
        score = make_scorer(x.view(Watched), y, np.ones(1))
        score(np.ones((2, 60), bool))
        choose_strengths(x.view(Watched), y, patients, np.random.default_rng(0))
        after = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert seen
    assert set().union(*seen) == {1}
    assert after == {2}


@pytest.mark.cxr
def test_aucs_on_new_patients_are_those_of_the_published_table(
    kermany: tuple[NDArray[np.float32], Array, NDArray[np.str_]],
) -> None:
    """The table of the data's README at 200 labels and C = .01; the probe's own strength does no worse."""
    features, y, patients = kermany
    x = fit_projection(features, 256).transform(features)
    unique = np.unique(patients)
    fixed, chosen = np.empty((8, 2)), np.empty((8, 2))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        held = np.isin(patients, rng.permutation(unique)[: len(unique) // 3])
        for k in range(2):
            known = ~np.isnan(y[:, k])
            train = rng.permutation(np.flatnonzero(known & ~held))[:200]
            test = known & held
            own = choose_strengths(x[train], y[train, k : k + 1], patients[train], rng)
            for aucs, strength in ((fixed, np.array([0.01])), (chosen, own)):
                fit = fit_logistic(x[train], y[train, k : k + 1], strength)
                aucs[seed, k] = roc_auc_score(y[test, k], (x[test] @ fit.coef + fit.intercept)[:, 0])
    error = fixed.std(axis=0, ddof=1) / np.sqrt(8)  # of the mean over subsets and test patients
    assert (np.abs(fixed.mean(axis=0) - (0.980, 0.744)) < 4 * error + 0.0005).all()
    assert (
        chosen.mean(axis=0) > fixed.mean(axis=0) - 4 * (chosen - fixed).std(axis=0, ddof=1) / np.sqrt(8)
    ).all()


def test_a_rare_finding_is_not_fitted_and_says_so() -> None:
    features, y, patients = world(80, 12, 1.5, n_findings=3)
    y[:, 1] = 0.0
    y[:4, 1] = 1.0
    probe = fit_probe(
        features, y, patients, ["a", "rare", "c"], fit_projection(features, 0), np.random.default_rng(0)
    )
    assert probe.fitted.tolist() == [True, False, True]
    assert np.isnan(probe.predict(features)).all(axis=0).tolist() == [False, True, False]
    assert np.isnan(probe.strength).tolist() == [False, True, False]
    assert probe.not_fitted() == {"rare": "4 positives and 76 negatives are known, a head needs 5 of each"}
    y[4, 1] = 1.0
    again = fit_probe(
        features, y, patients, ["a", "rare", "c"], fit_projection(features, 0), np.random.default_rng(0)
    )
    assert again.fitted.all()
    assert again.not_fitted() == {}


def test_without_any_label_no_head_is_fitted() -> None:
    features, y, patients = world(6, 4, 0.0)
    projection = fit_projection(features, 0)
    for known in (slice(0, 0), slice(0, 6)):
        probe = fit_probe(
            features[known], y[known] * np.nan, patients[known], ["f"], projection, np.random.default_rng(0)
        )
        assert np.isnan(probe.predict(features)).all()


def test_an_item_whose_label_is_not_known_changes_nothing() -> None:
    features, y, patients = world(90, 15, 1.5)
    projection = fit_projection(features, 0)
    y[60:] = np.nan
    with_them = fit_probe(features, y, patients, ["f"], projection, np.random.default_rng(0))
    without = fit_probe(features[:60], y[:60], patients[:60], ["f"], projection, np.random.default_rng(0))
    np.testing.assert_allclose(with_them.predict(features), without.predict(features), atol=1e-6)
    assert (with_them.n_positive, with_them.n_negative) == (without.n_positive, without.n_negative)


def test_a_probe_survives_storage_and_equal_probes_have_equal_bytes() -> None:
    features, y, patients = world(60, 8, 1.5, n_findings=2)
    y[:, 1] = 1.0
    probe, again = (
        fit_probe(
            features, y, patients, ["Épanchement", "b"], fit_projection(features, 0), np.random.default_rng(0)
        )
        for _ in range(2)
    )
    assert probe.to_bytes() == again.to_bytes()
    back = Probe.from_bytes(probe.to_bytes())
    assert back.findings == ("Épanchement", "b")
    assert back.not_fitted() == probe.not_fitted()
    np.testing.assert_array_equal(back.predict(features), probe.predict(features))


@pytest.mark.parametrize("stored", [b"", b"no probe", b"PK\x03\x04 half of one"])
def test_bytes_that_are_no_probe_are_refused(stored: bytes) -> None:
    with pytest.raises(BadInput, match="stored probe"):
        Probe.from_bytes(stored)


def test_the_strength_is_the_one_that_a_plain_loop_over_scikit_learn_chooses() -> None:
    """Out-of-fold log loss by LogisticRegression, fold by fold, then the one-standard-error rule.

    Each patient has two images that are nearly one, so that an error which took them for two would choose
    a weaker penalty.
    """
    rng = np.random.default_rng(0)
    y = np.repeat((rng.random((60, 1)) < 0.4).astype(float), 2, axis=0)
    x = np.repeat(rng.normal(size=(60, 30)), 2, axis=0) + 0.1 * rng.normal(size=(120, 30))
    x[:, :1] += 1.2 * y
    patients = np.repeat([f"patient {i}" for i in range(60)], 2)
    folds = assign_folds(y, patients, 5, np.random.default_rng(0))
    loss = np.empty((120, len(STRENGTHS)))
    for s, strength in enumerate(STRENGTHS):
        for f in range(5):
            out = folds == f
            head = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(x[~out], y[~out, 0])
            p = head.predict_proba(x[out])[:, 1]
            loss[out, s] = [log_loss([a], [b], labels=[0, 1]) for a, b in zip(y[out, 0], p, strict=True)]

    def simplest(losses: Array) -> float:
        worse = losses - losses[:, [losses.sum(axis=0).argmin()]]
        within = worse.mean(axis=0) <= worse.std(axis=0) / np.sqrt(len(worse))
        return float(STRENGTHS[np.flatnonzero(within)[0]])

    by_patient = simplest(loss.reshape(60, 2, -1).sum(axis=1))
    assert STRENGTHS[0] < by_patient < simplest(loss)
    assert choose_strengths(x, y, patients, np.random.default_rng(0)) == [by_patient]


def test_noise_asks_for_the_strongest_penalty_and_signal_for_a_weaker_one() -> None:
    chosen = []
    for signal in (0.0, 3.0):
        features, y, patients = world(300, 20, signal, seed=4)
        x = fit_projection(features, 0).transform(features)
        chosen.append(choose_strengths(x, y, patients, np.random.default_rng(0))[0])
    assert chosen[0] == STRENGTHS[0]
    assert chosen[1] > 10 * chosen[0]


def test_patients_never_span_a_fold_so_copies_of_an_image_do_not_flatter() -> None:
    """Each image four times over with noise as labels: split by image, a weak penalty would seem to work."""
    rng = np.random.default_rng(5)
    x = np.repeat(rng.normal(size=(40, 30)), 4, axis=0)
    y = np.repeat((rng.random((40, 1)) < 0.5).astype(float), 4, axis=0)
    patients = np.repeat([f"p{i}" for i in range(40)], 4)
    by_patient = choose_strengths(x, y, patients, np.random.default_rng(0))[0]
    by_image = choose_strengths(x, y, np.arange(160), np.random.default_rng(0))[0]
    assert by_patient == STRENGTHS[0]
    assert by_image > by_patient


def test_a_finding_with_few_of_a_class_takes_the_strength_of_all_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone, its noise asks for the strongest penalty; a far commoner finding says otherwise."""
    features, y, patients = world(300, 20, 3.0, seed=6, n_findings=2)
    x = fit_projection(features, 0).transform(features)
    y[:, 1] = 0.0
    y[np.random.default_rng(1).choice(300, 9, replace=False), 1] = 1.0
    together = choose_strengths(x, y, patients, np.random.default_rng(0))
    monkeypatch.setattr("loop.probe.MIN_OWN", 9)
    own = choose_strengths(x, y, patients, np.random.default_rng(0))
    assert own[0] == together[0]
    assert own[1] == STRENGTHS[0] < together[1]


def test_labels_of_one_patient_leave_nothing_to_compare() -> None:
    features, y, _ = world(30, 6, 1.0)
    assert choose_strengths(features.astype(float), y, np.zeros(30), np.random.default_rng(0)) == [CAUTIOUS]


def test_a_scorer_trains_on_the_masked_items_only_and_scores_all() -> None:
    """scikit-learn's LogisticRegression on each mask; labels outside of it play no part."""
    features, y, _ = world(70, 90, 1.0, seed=7, n_findings=2)
    x = fit_projection(features, 0).transform(features)
    rng = np.random.default_rng(7)
    y[rng.random(y.shape) < 0.1] = np.nan
    strength = np.array([0.01, 0.3])
    masks = rng.random((3, 70)) < 0.5
    scores = make_scorer(x, y, strength)(masks)
    assert scores.shape == (3, 70, 2)
    for b, mask in enumerate(masks):
        for k in range(2):
            train = mask & ~np.isnan(y[:, k])
            reference = LogisticRegression(C=strength[k], tol=1e-9, max_iter=10_000).fit(
                x[train], y[train, k]
            )
            np.testing.assert_allclose(expit(scores[b, :, k]), reference.predict_proba(x)[:, 1], atol=1e-3)
    flipped = make_scorer(x, np.where(masks[0][:, None], y, 1 - y), strength)(masks[:1])
    np.testing.assert_allclose(
        expit(flipped[0]), expit(scores[0]), atol=1e-4
    )  # alone in its fit, to tolerance


def test_a_head_without_both_classes_in_its_mask_scores_not_a_number() -> None:
    features, y, _ = world(40, 6, 1.0, n_findings=2)
    masks = np.zeros((3, 40), bool)
    masks[0] = y[:, 0] == 1
    masks[1] = True
    scores = make_scorer(features.astype(float), y, np.ones(2))(masks)
    assert np.isnan(scores[0, :, 0]).all()
    assert np.isfinite(scores[0, :, 1]).all()
    assert np.isfinite(scores[1]).all()
    assert np.isnan(scores[2]).all()
