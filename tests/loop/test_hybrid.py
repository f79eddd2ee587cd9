"""The hybrid: quotas of open and rare findings, doubt, distance, and no near-duplicate."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from strategy_pools import pool_of

from loop.strategies.hybrid import IN_SIGHT, count_scarcer, hybrid, least_sure, share_out, weigh
from loop.strategies.provisional import add_heads
from loop.strategies.typical import typiclust

Array = NDArray[np.float64]


def directions(m: int, d: int, seed: int) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).normal(size=(m, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def ask(n: int, proba: Array, **known: object) -> list[tuple[int, str]]:
    x = directions(len(proba), 16, 0)
    labelled = directions(40, 16, 1)
    y = np.zeros((40, proba.shape[1]))
    y[:20, 0] = 1  # f0 is common
    y[:1, 1:] = 1  # the others are rare
    pool = pool_of(x, proba, labelled=labelled, **({"y": y} | known))  # type: ignore[arg-type]
    return [(c.row, c.reason.split()[0]) for c in hybrid(pool, n, np.random.default_rng(0))]


def test_a_quota_is_twice_as_large_at_a_quarter_of_the_labels_of_the_scarcer_class() -> None:
    assert share_out(30, weigh(np.array([3.0, 15.0]))).tolist() == [20, 10]
    for n in range(40):
        quotas = share_out(n, weigh(np.array([0.0, 3.0, 50.0, 7.0])))
        assert quotas.sum() == n
        assert quotas[0] >= quotas[1] >= quotas[3] >= quotas[2]
    y = np.array([[1, 0], [1, np.nan], [0, 0], [1, 1]])
    assert count_scarcer(y).tolist() == [1, 1]


def test_a_rare_finding_has_the_larger_part_of_the_batch() -> None:
    proba = np.random.default_rng(2).random((400, 2)) * (1, 0.2)
    pulled = Counter(finding for _, finding in ask(40, proba))
    assert pulled["f1"] > 1.5 * pulled["f0"]


def test_a_finding_that_has_reached_its_target_pulls_no_more() -> None:
    proba = np.random.default_rng(3).random((400, 2))
    assert {finding for _, finding in ask(40, proba, is_open=[True, False])} == {"f0"}
    assert {finding for _, finding in ask(40, proba, is_open=[False, True])} == {"f1"}
    assert {finding for _, finding in ask(40, proba, is_open=[False, False])} == {
        "f0",
        "f1",
    }  # STOP is not ours


def test_what_is_chosen_is_among_what_its_finding_is_least_sure_of() -> None:
    proba = np.random.default_rng(4).random((400, 1))
    rows = [row for row, _ in ask(20, proba)]
    order = np.argsort(np.abs(proba[:, 0] - 0.5)).tolist()
    assert set(rows) <= set(order[: 20 * IN_SIGHT])
    assert set(rows) != set(order[:20])  # and spread out, not only the least sure


def test_a_near_duplicate_of_what_is_labelled_is_asked_only_when_nothing_else_is_left() -> None:
    x, labelled = directions(30, 16, 5), directions(10, 16, 6)
    x[:10] = labelled + 1e-4
    proba = np.full((30, 1), 0.4)
    proba[:10] = 0.5  # the least sure of all
    y = np.array([[1.0]] * 5 + [[0.0]] * 5)
    pool = pool_of(x, proba, labelled=labelled, y=y)
    chosen = [c.row for c in hybrid(pool, 30, np.random.default_rng(0))]
    assert sorted(chosen) == list(range(30))
    assert set(chosen[:20]) == set(range(10, 30))


def test_two_copies_of_one_image_are_not_in_one_batch_while_there_are_others() -> None:
    x = directions(40, 16, 7)
    x[20:] = x[:20]  # each image twice, under two patients
    pool = pool_of(x, np.full((40, 1), 0.4), labelled=directions(10, 16, 8), y=np.eye(10, 1))
    chosen = [c.row % 20 for c in hybrid(pool, 20, np.random.default_rng(0))]
    assert len(set(chosen)) == 20


def test_no_two_images_of_one_patient_whatever_the_quotas() -> None:
    proba = np.random.default_rng(9).random((200, 3))
    patients = np.arange(200) // 10
    rows = [row for row, _ in ask(20, proba, patients=patients.tolist())]
    assert sorted(patients[rows]) == list(range(20))


def test_only_the_least_sure_image_of_a_patient_is_offered() -> None:
    doubt = np.array([0.1, 0.5, 0.4, np.nan, 0.3, 0.45])
    assert least_sure(doubt, 2, np.array([0, 1, 1, 2, 3, 1])).tolist() == [1, 4]
    assert least_sure(doubt, 9, np.array([0, 1, 1, 2, 3, 1])).tolist() == [1, 4, 0]


def test_without_labels_the_most_central_of_what_is_offered_still_comes() -> None:
    pool = pool_of(directions(30, 4, 10), np.random.default_rng(11).random((30, 2)))
    assert len(hybrid(pool, 10, np.random.default_rng(0))) == 10


def test_without_any_head_the_batch_is_typical_of_the_archive() -> None:
    labelled = directions(12, 16, 13)
    pool = pool_of(directions(60, 16, 12), np.full((60, 2), np.nan), labelled=labelled, y=np.zeros((12, 2)))
    asked = hybrid(pool, 10, np.random.default_rng(0))
    assert asked == typiclust(pool, 10, np.random.default_rng(0))
    assert hybrid(pool, 0, np.random.default_rng(0)) == []
    one = pool_of(directions(1, 16, 17), np.full((1, 2), np.nan), labelled=labelled, y=np.zeros((12, 2)))
    (last,) = hybrid(one, 1, np.random.default_rng(0))
    assert last.reason.startswith("typical of 1 image;")


def test_a_finding_with_two_positives_already_asks_what_looks_like_them() -> None:
    rng = np.random.default_rng(14)
    x = rng.normal(size=(300, 16)).astype(np.float32)
    alike = np.arange(30)
    x[alike, 0] += 6  # one image in ten has the finding
    labelled = rng.normal(size=(50, 16)).astype(np.float32)
    labelled[:2, 0] += 6
    y = np.column_stack([np.eye(50)[:2].sum(axis=0), rng.random(50) < 0.5])
    proba = np.column_stack([np.full(300, np.nan), rng.random(300)])
    pool = pool_of(x, proba, labelled=labelled, y=y)
    asked = [c for c in hybrid(pool, 20, rng) if c.reason.startswith("f0")]
    assert np.mean(np.isin([c.row for c in asked], alike)) > 0.4  # four times as many as in the pool
    assert len(asked) > 10
    assert all("by a provisional head" in c.reason for c in asked)
    assert np.isnan(pool.proba[:, 0]).all()  # nobody else's pool is changed


def test_a_finding_that_is_reached_or_has_one_class_only_gets_no_provisional_head() -> None:
    x, labelled = directions(40, 8, 15), directions(10, 8, 16)
    y = np.column_stack([np.eye(10, 1), np.eye(10, 1), np.zeros((10, 1)), np.eye(10, 1)])
    proba = np.full((40, 4), np.nan)
    proba[:, 3] = 0.25
    pool = pool_of(x, proba, labelled=labelled, y=y, is_open=[True, False, True, True])
    filled, added = add_heads(pool)
    assert added.tolist() == [True, False, False, False]
    assert np.isfinite(filled.proba).all(axis=0).tolist() == [True, False, False, True]
    assert (filled.proba[:, 3] == 0.25).all()
