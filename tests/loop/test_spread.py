"""k-center and ranked batch: pick by pick the same as modAL, scikit-activeml and the plain O(n^2) greedy."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from modAL.batch import uncertainty_batch_sampling
from modAL.uncertainty import classifier_uncertainty
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from strategy_pools import pool_of, vectors

from loop.features import FeatureTable
from loop.strategies import Vectors, greedy
from loop.strategies.distance import find_most_central, measure_nearest
from loop.strategies.spread import choose_farthest, choose_ranked, k_center, ranked_batch

Float32 = NDArray[np.float32]
Array = NDArray[np.float64]


def clusters(m: int, d: int, seed: int) -> Float32:
    """Unequal clusters: bounds go stale at different speeds."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(7, d)) * rng.uniform(0.2, 4, (7, 1))
    return (centres[rng.integers(7, size=m)] + rng.normal(size=(m, d))).astype(np.float32)


def line(m: int, d: int, seed: int) -> Float32:
    """Nearly one-dimensional: every choice shrinks many distances."""
    rng = np.random.default_rng(seed)
    return (rng.random((m, 1)) * np.ones(d) + 1e-3 * rng.normal(size=(m, d))).astype(np.float32)


def far_first(x: Float32, labelled: Float32, n: int, patients: NDArray[np.intp]) -> list[int]:
    """The definition, with all distances in double precision."""
    away = cdist(x.astype(float), labelled.astype(float)).min(axis=1)
    free = np.ones(len(x), bool)
    rows: list[int] = []
    while len(rows) < n and free.any():
        row = int(np.where(free, away, -1).argmax())
        rows.append(row)
        free &= patients != patients[row]
        away = np.minimum(away, cdist(x.astype(float), x[row : row + 1].astype(float))[:, 0])
    return rows


@dataclass
class Learner:
    """What modAL's ranked batch asks of a learner."""

    X_training: Float32 | None
    proba: Array
    on_transformed: bool = False

    def predict_proba(self, x: Float32) -> Array:
        return self.proba


@pytest.mark.parametrize("shape", [clusters, line])
@pytest.mark.parametrize("n_labelled", [1, 40, 400])
def test_farthest_first_is_the_plain_greedy_pick_by_pick(shape: object, n_labelled: int) -> None:
    x = shape(1500, 12, 1)  # type: ignore[operator]
    pool, labelled = x[n_labelled:], x[:n_labelled]
    alone = np.arange(len(pool))
    rows = [row for row, _ in choose_farthest(vectors(pool), vectors(labelled), 80, alone)]
    assert rows == far_first(pool, labelled, 80, alone)


def test_a_patient_is_chosen_once_and_the_rest_is_the_plain_greedy_without_them() -> None:
    x = clusters(600, 5, 2)
    patients = np.arange(590) // 4
    rows = [row for row, _ in choose_farthest(vectors(x[10:]), vectors(x[:10]), 148, patients)]
    assert rows == far_first(x[10:], x[:10], 148, patients)
    assert len(set(patients[rows])) == len(rows) == 148  # all there are


@pytest.mark.parametrize("n_labelled", [30, 300])
def test_farthest_first_is_scikit_activemls_core_set(n_labelled: int) -> None:
    pool_strategies = pytest.importorskip("skactiveml.pool", reason="scikit-activeml is not installed")
    x = clusters(900, 16, 3)
    y = np.where(np.arange(900) < n_labelled, 0.0, np.nan)
    theirs = pool_strategies.CoreSet(random_state=0).query(x, y, batch_size=50)
    ours = choose_farthest(vectors(x[n_labelled:]), vectors(x[:n_labelled]), 50, np.arange(900 - n_labelled))
    assert [row + n_labelled for row, _ in ours] == theirs.tolist()


@pytest.mark.parametrize("n_labelled", [150, 400])
def test_what_labelled_images_say_of_few_rows_is_asked_from_the_highest_down(
    monkeypatch: pytest.MonkeyPatch, n_labelled: int
) -> None:
    """The rest of the labelled is met by some rows only, and the highest 100 are exact; others are too large if at all."""
    monkeypatch.setattr(greedy, "CHUNK", 64)
    x = np.random.default_rng(12).normal(size=(4000, 32)).astype(np.float32)
    x *= np.random.default_rng(13).uniform(0.2, 1, (4000, 1)).astype(np.float32)
    pool, labelled = vectors(x[n_labelled:]), vectors(x[:n_labelled])
    exact = measure_nearest(pool, labelled)
    nearest, unseen = greedy.measure_farthest(pool, labelled, 100, lambda away, _, __: away.astype(float))
    assert unseen is not None
    np.testing.assert_array_equal(unseen, x[greedy.FEW : n_labelled])
    assert (nearest >= exact * (1 - 1e-6)).all()
    highest = np.argsort(-exact)[:100]
    np.testing.assert_allclose(nearest[highest], exact[highest], rtol=1e-6)
    assert (nearest > exact * (1 + 1e-6)).mean() > 0.3
    alone = np.arange(len(pool))
    assert choose_farthest(pool, labelled, 80, alone) == choose_farthest(pool, labelled, 80, alone, exact)


@pytest.mark.parametrize("shape", [clusters, line])
@pytest.mark.parametrize("n_labelled", [1, 40, 200])
def test_the_ranked_batch_is_modals_pick_by_pick(shape: object, n_labelled: int) -> None:
    x = shape(400, 8, 4)  # type: ignore[operator]
    p = np.random.default_rng(5).random(400 - n_labelled)
    learner = Learner(x[:n_labelled], np.column_stack([1 - p, p]))
    pool = x[n_labelled:]
    theirs, _ = uncertainty_batch_sampling(learner, pool, n_instances=60)
    doubt = classifier_uncertainty(learner, pool)
    ours = choose_ranked(vectors(pool), vectors(x[:n_labelled]), doubt, 60, np.arange(len(pool)))
    assert [row for row, _ in ours] == list(theirs)
    told = ranked_batch(pool_of(pool, p[:, None], labelled=x[:n_labelled]), 60, np.random.default_rng(0))
    assert [choice.row for choice in told] == list(theirs)
    assert all(choice.reason.startswith("uncertain and unlike") for choice in told)


def test_with_nothing_labelled_both_begin_with_the_most_central_image() -> None:
    x = clusters(300, 4, 6)
    central = int(cdist(x.astype(float), x.astype(float).mean(axis=0)[None]).argmin())
    assert find_most_central(vectors(x)) == central
    pool = pool_of(x, np.random.default_rng(0).random((300, 2)))
    for strategy in (k_center, ranked_batch):
        assert strategy(pool, 5, np.random.default_rng(0))[0].row == central
    rows = [choice.row for choice in k_center(pool, 20, np.random.default_rng(0))]
    others = np.delete(np.arange(300), central)
    plain = far_first(x[others], x[[central]], 19, np.arange(299))
    assert rows == [central, *others[plain].tolist()]


def test_equal_images_are_chosen_from_the_first_row_up() -> None:
    x = np.zeros((50, 3), np.float32)
    assert [row for row, _ in choose_farthest(vectors(x), vectors(x[:1] + 1), 4, np.arange(50))] == [
        0,
        1,
        2,
        3,
    ]


def test_a_front_that_outgrows_what_it_may_hold_reads_again_and_chooses_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = line(1200, 6, 7)
    held = choose_farthest(vectors(x[2:]), vectors(x[:2]), 60, np.arange(1198))
    monkeypatch.setattr(greedy, "HELD", 300)
    assert choose_farthest(vectors(x[2:]), vectors(x[:2]), 60, np.arange(1198)) == held


def test_a_lazy_choice_reads_a_small_part_of_what_the_plain_one_does() -> None:
    class Counted(FeatureTable):
        n = 0

        def read(self, items: list[str]) -> Float32:  # type: ignore[override]
            self.n += len(items)
            return super().read(items)

    x = np.random.default_rng(8).normal(size=(6000, 64)).astype(np.float32)
    ids = [f"{i:06d}" for i in range(5700)]
    table = Counted(ids, x[300:])
    nearest = measure_nearest(vectors(x[300:]), vectors(x[:300]))
    choose_farthest(Vectors(table, ids), vectors(x[:300]), 100, np.arange(5700), nearest)
    assert table.n < 0.02 * 5700 * 100


def test_distances_of_a_pool_that_streams_by_are_those_of_double_precision() -> None:
    x = clusters(9000, 24, 9)
    measured = measure_nearest(vectors(x[50:]), vectors(x[:50]))
    np.testing.assert_allclose(
        measured, cdist(x[50:].astype(float), x[:50].astype(float)).min(axis=1), rtol=1e-4
    )


def test_distances_may_be_measured_as_labels_arrive() -> None:
    x = clusters(700, 10, 10)
    pool = vectors(x[60:])
    early = measure_nearest(pool, vectors(x[:40]))
    before = early.copy()
    np.testing.assert_array_equal(
        measure_nearest(pool, vectors(x[40:60]), early), measure_nearest(pool, vectors(x[:60]))
    )
    np.testing.assert_array_equal(early, before)


def test_a_mapped_pool_is_never_in_memory(tmp_path: Path) -> None:
    """60,000 embeddings of 256 dimensions are 31 MB on disk and 61 MB as floats; less than half of that is taken."""
    m, d = 60_000, 256
    mapped = np.memmap(tmp_path / "vectors.f16", np.float16, "w+", shape=(m, d))
    rng = np.random.default_rng(11)
    for start in range(0, m, 5000):
        mapped[start : start + 5000] = rng.normal(size=(5000, d))
    ids = [f"{i:06d}" for i in range(m)]
    pool = Vectors(FeatureTable(ids, mapped), ids)  # type: ignore[arg-type]
    labelled = vectors(rng.normal(size=(200, d)).astype(np.float32))
    patients = np.arange(m)
    tracemalloc.start()
    picks = choose_farthest(pool, labelled, 20, patients)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(picks) == 20
    assert peak < 30e6
