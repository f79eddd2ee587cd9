"""TypiClust covers what nothing labelled speaks for; a committee asks where its members disagree."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from modAL.disagreement import consensus_entropy
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from strategy_pools import gaussian_seen, pool_of, vectors

from loop.strategies import select_batch
from loop.strategies.committee import N_MEMBERS, committee, disagreement, train_members
from loop.strategies.pool import make_pool
from loop.strategies.typical import N_NEIGHBOURS, assign, find_clusters, measure_typicality, typiclust

Array = NDArray[np.float64]


def blobs(sizes: list[int], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [8 * np.eye(len(sizes))[i] + 0.3 * rng.normal(size=(n, len(sizes))) for i, n in enumerate(sizes)]
    ).astype(np.float32)


def blob_of(sizes: list[int]) -> NDArray[np.intp]:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_clusters_are_found_and_every_image_assigned_to_the_nearest() -> None:
    x = blobs([200, 100, 50, 50])
    centres = find_clusters(vectors(x), 12, np.random.default_rng(1))
    assigned = assign(vectors(x), centres)
    np.testing.assert_array_equal(assigned, cdist(x, centres).argmin(axis=1))
    purity = sum(np.bincount(blob_of([200, 100, 50, 50])[assigned == c]).max() for c in np.unique(assigned))
    assert purity == 400


def test_typicality_is_one_over_the_mean_distance_to_the_nearest_neighbours() -> None:
    x = blobs([60], 2)
    apart = np.sort(cdist(x.astype(float), x.astype(float)), axis=1)[:, 1 : N_NEIGHBOURS + 1]
    np.testing.assert_allclose(measure_typicality(x), 1 / apart.mean(axis=1), rtol=1e-3)
    assert np.isinf(measure_typicality(x[:1])).all()


def test_the_most_typical_of_the_largest_clusters_without_a_label_is_asked_first() -> None:
    x = blobs([100, 60, 40, 20])
    labelled = x[[0, 1, 100, 101]]
    pool = pool_of(x, np.full((220, 1), np.nan), labelled=labelled)
    asked = typiclust(pool, 4, np.random.default_rng(3))
    centres = find_clusters(pool.vectors, 8, np.random.default_rng(3))
    cluster = assign(pool.vectors, centres)
    spoken_for = set(assign(vectors(labelled), centres).tolist())
    sizes = {c: int((cluster == c).sum()) for c in range(8) if c not in spoken_for}
    wanted = sorted(sizes, key=lambda c: -sizes[c])[:4]
    assert [sizes[int(cluster[choice.row])] for choice in asked] == [sizes[c] for c in wanted]
    for choice in asked:
        members = np.flatnonzero(cluster == cluster[choice.row])
        assert choice.row == members[measure_typicality(x[members]).argmax()]
        assert choice.reason == f"typical of {len(members)} images; nothing labelled is like it"


def test_the_cold_start_needs_no_probability_and_asks_no_patient_twice() -> None:
    x = blobs([30, 30], 4)
    patients = np.arange(60) // 4
    asked = typiclust(
        pool_of(x, np.full((60, 2), np.nan), patients=list(patients)), 15, np.random.default_rng(5)
    )
    assert sorted(patients[[c.row for c in asked]]) == list(range(15))


class Members:
    """A committee as modAL asks for it."""

    def __init__(self, mean: Array) -> None:
        self.mean = mean

    def predict_proba(self, x: Any) -> Array:
        return np.column_stack([1 - self.mean, self.mean])


def test_disagreement_is_modals_consensus_entropy_less_the_members_own() -> None:
    votes = np.random.default_rng(6).random((5, 40, 2))
    told = disagreement(votes)
    for k in range(2):
        consensus = consensus_entropy(Members(votes[:, :, k].mean(axis=0)), votes[0])
        own = np.mean([entropy([1 - v, v]) for v in votes[:, :, k]], axis=0)
        np.testing.assert_allclose(told[:, k], consensus - own, atol=1e-12)
    np.testing.assert_allclose(disagreement(np.broadcast_to(votes[:1], votes.shape)), 0, atol=1e-12)


def test_a_member_without_a_head_has_no_vote() -> None:
    votes = np.random.default_rng(7).random((4, 10, 2))
    silent = np.concatenate([votes, np.full((2, 10, 2), np.nan)])
    np.testing.assert_allclose(disagreement(silent), disagreement(votes))
    assert np.isnan(disagreement(np.full((3, 4, 1), np.nan))).all()


def test_a_committee_asks_where_its_members_differ_most_and_is_trained_on_raw_embeddings() -> None:
    items = [f"{i:04d}" for i in range(200)]
    seen = gaussian_seen(items, 2, n_labelled=60)
    assert seen.probe is not None
    proba = seen.probe.predict(seen.features.read(items))
    pool = make_pool(items, proba, np.arange(200), ["a", "b"], seen, "committee")
    asked = committee(pool, 10, np.random.default_rng(8))
    coef, intercept = train_members(pool, np.random.default_rng(8))
    assert coef.shape == (6, N_MEMBERS * 2)
    logits = (seen.features.read(items) @ coef + intercept).reshape(200, N_MEMBERS, 2)
    told = disagreement(np.moveaxis(1 / (1 + np.exp(-logits.astype(float))), 1, 0)).mean(axis=1)
    assert {c.row for c in asked} == set(np.argsort(-told)[:10].tolist())
    for k in range(
        2
    ):  # every member has learnt the finding that it has the name of, each from other patients
        alike = np.corrcoef(np.column_stack([proba[:, k], logits[:, :, k]]).T)
        assert (alike[0, 1:] > 0.5).all()
        assert (alike[1, 2:] < 0.9999).all()


@pytest.mark.parametrize("strategy", ["typiclust", "k_center"])
def test_a_strategy_without_probabilities_works_before_any_head(strategy: str) -> None:
    items = [f"{i:04d}" for i in range(80)]
    seen = gaussian_seen(items, 2, n_labelled=0)
    picks = select_batch(
        strategy,
        10,
        0,
        (),
        items,
        np.full((80, 2), np.nan),
        items,
        ["a", "b"],
        np.random.default_rng(9),
        seen=seen,
    )
    assert Counter(p.strategy for p in picks) == {"random": 2, strategy: 8}
