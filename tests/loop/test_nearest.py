"""The kept column of distances: the same as measured anew, whatever came, went or was killed in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import killed_nearest
import numpy as np
import pytest
from killed_nearest import IDS, N_CHUNKS, M, run
from loop_world import World

from loop.controller import ask_first_batch, step
from loop.features import FeatureStore, FeatureTable
from loop.nearest import MARK, update_nearest
from loop.probe import fit_projection
from loop.strategies import Vectors
from loop.strategies.distance import measure_nearest

X = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)
NAMES = [f"{i:03d}" for i in range(300)]
TABLE = FeatureTable(NAMES, X)
PROJECTION = fit_projection(X, 0)


def anew(items: list[str], labelled: list[str]) -> np.ndarray:
    return measure_nearest(Vectors(TABLE, items, PROJECTION), Vectors(TABLE, labelled, PROJECTION))


def kept(path: Path, items: list[str], labelled: list[str]) -> np.ndarray:
    return np.asarray(update_nearest(path / "n.f32", items, TABLE, PROJECTION, labelled))


def test_a_column_that_followed_the_labels_is_the_one_measured_anew(tmp_path: Path) -> None:
    pool = NAMES[100:]
    for n in (0, 1, 1, 20, 100):
        np.testing.assert_allclose(kept(tmp_path, pool, NAMES[:n]), anew(pool, NAMES[:n]), rtol=1e-6)


@pytest.mark.parametrize(
    "change", ["a label is withdrawn", "an image is added", "the file is torn", "the description is damaged"]
)
def test_what_cannot_be_shrunk_is_measured_anew(tmp_path: Path, change: str) -> None:
    pool, labelled = NAMES[100:], NAMES[:50]
    kept(tmp_path, pool, labelled)
    if change == "a label is withdrawn":
        labelled = NAMES[1:50]
    if change == "an image is added":
        pool = NAMES[90:]
    if change == "the file is torn":
        (tmp_path / "n.f32").write_bytes(b"\0" * 100)
    if change == "the description is damaged":
        (tmp_path / "n.json").write_text('{"key"')
    np.testing.assert_allclose(kept(tmp_path, pool, labelled), anew(pool, labelled), rtol=1e-6)


def test_only_new_labels_are_measured(tmp_path: Path) -> None:
    assert run(tmp_path, 30, 0)[1] == N_CHUNKS
    assert run(tmp_path, 30, 0)[1] == 0
    assert run(tmp_path, 31, 0)[1] == N_CHUNKS


def test_an_update_that_was_killed_goes_on_at_its_last_mark(tmp_path: Path) -> None:
    run(tmp_path, 10, 0)
    script = Path(killed_nearest.__file__)
    for last in (3, MARK + 2):  # before the first mark, and behind it
        done = subprocess.run([sys.executable, script, tmp_path, "40", str(last)], check=False, timeout=300)
        assert done.returncode == -signal.SIGKILL
    column, n_read = run(tmp_path, 40, 0)
    assert n_read == N_CHUNKS - MARK
    unharmed = tmp_path / "unharmed"
    unharmed.mkdir()
    run(unharmed, 10, 0)
    np.testing.assert_array_equal(column, run(unharmed, 40, 0)[0])


def test_labels_that_come_while_an_update_lies_killed_are_in_the_next(tmp_path: Path) -> None:
    script = Path(killed_nearest.__file__)
    subprocess.run([sys.executable, script, tmp_path, "40", str(MARK + 2)], check=False, timeout=300)
    column, _ = run(tmp_path, 45, 0)
    x = np.random.default_rng(0).normal(size=(len(IDS), killed_nearest.D)).astype(np.float32)
    table, projection = FeatureTable(IDS, x), fit_projection(x, 0)
    expected = measure_nearest(
        Vectors(table, IDS[:M], projection), Vectors(table, IDS[M : M + 45], projection)
    )
    np.testing.assert_allclose(column, expected, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["k_center", "ranked"])
def test_a_project_with_a_store_keeps_its_column_there_and_asks_the_same(
    tmp_path: Path, strategy: str
) -> None:
    world = World(tmp_path, n=300)
    settings = world.settings(batch=f'size = 30\nstrategy = "{strategy}"', stop="target = 0.99\nbudget = 150")
    ids = [item.item for item in world.items]
    store = FeatureStore.open(tmp_path / "store", "f" * 32, world.dim)
    store.append(ids, world.features.read(ids))
    batches = []
    for features in (store, FeatureTable(ids, store.read(ids))):
        with world.state() as state:
            loop = replace(world.loop(state, settings=settings), features=features)
            ask_first_batch(loop)
            for _ in range(3):
                step(loop)
            batches.append(
                [[(p.item, p.utility) for p in r.picks if p.strategy == strategy] for r in state.rounds()]
            )
    assert (tmp_path / "store" / "nearest-world.f32").is_file()
    assert [[item for item, _ in picks] for picks in batches[0]] == [
        [item for item, _ in picks] for picks in batches[1]
    ]
    assert sum(map(len, batches[0])) == 36
    assert FeatureStore.open(tmp_path / "store", "f" * 32, world.dim).verify().bad == ()
