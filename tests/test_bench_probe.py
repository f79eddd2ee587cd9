"""What the benchmark of the probe holds against us is what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import bench_probe
        import probe_peers
    finally:
        sys.path.remove(str(BENCHMARKS))
    return bench_probe, probe_peers


def test_a_sampled_part_trains_and_tests_on_different_labels_and_one_with_too_few_costs_nothing(
    scripts: tuple[ModuleType, ModuleType],
) -> None:
    _, peers = scripts
    rng = np.random.default_rng(0)
    y = (rng.random((300, 1)) < 0.4).astype(float)
    noise = rng.normal(size=(300, 100))
    run = peers.sample_cell(noise, y, np.ones(1), rng)
    assert 0.3 < run() < 0.7  # 240 labels of 100 dimensions of noise are separated, others are not
    assert peers.sample_cell(noise + y, y, np.ones(1), rng)() > 0.9
    assert peers.sample_cell(noise, y, np.array([0.02]), rng) is None
    assert peers.sample_cell(noise, np.zeros((300, 1)), np.ones(1), rng) is None


def test_all_parts_are_told_from_those_that_were_drawn(
    scripts: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _ = scripts
    drawn = iter([lambda: None, None, lambda: None, None])
    monkeypatch.setattr(bench, "sample_cell", lambda *_: next(drawn))
    monkeypatch.setattr(bench, "clock", lambda _: 3.0)
    world = bench.World.__new__(bench.World)
    world.seen, world.y, world.fitted = np.zeros((4, 1)), np.zeros((4, 2)), np.arange(2)
    seconds, said = world.time_cells(4)
    assert seconds == 1.5 * 6 * 20 * 2
    assert said.startswith("from 4 of 240 parts, 2 of them with too few of a class; standard error ")


def test_a_peer_that_is_not_installed_is_told(scripts: tuple[ModuleType, ModuleType]) -> None:
    bench, _ = scripts

    def absent() -> None:
        import no_such_peer  # type: ignore[import-not-found]  # noqa: F401

    assert bench.clock_peer(absent) == (None, "not installed: no_such_peer")
