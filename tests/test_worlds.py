"""The labelled worlds of the benchmarks are what their names say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def worlds() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        return importlib.import_module("worlds")


@pytest.mark.parametrize("rare", ["normal", "viral"])
def test_each_image_of_a_rare_world_has_one_of_three_findings(
    worlds: ModuleType, tmp_path: Path, rare: str
) -> None:
    """Two findings that are the same column would count one hard class twice when findings are forecast together."""
    n = 300
    names = np.array([f"{i}.jpeg" for i in range(n)])
    kind = np.arange(n) % 3  # normal, bacterial, viral
    np.savez(tmp_path / "kermany_lite0_224.npz", feat=np.zeros((n, 4), np.float32), name=names)
    table = pd.DataFrame(
        {
            "file": names,
            "patient": [f"p{i}" for i in range(n)],
            "pneumonia": np.where(kind == 0, 0, 1),
            "bacterial": np.where(kind == 0, np.nan, np.where(kind == 1, 1.0, 0.0)),
        }
    )
    table.to_csv(tmp_path / "kermany_labels.csv", index=False)
    world = worlds.kermany_rare(tmp_path, rare)
    np.testing.assert_array_equal(world.y.sum(axis=1), 1)
    others = {"normal": "viral", "viral": "normal"}[rare]
    assert world.findings == (f"{rare} (rare)", "bacterial", others)
    assert world.y[:, 0].mean() == pytest.approx(0.06, abs=0.005)
    np.testing.assert_array_equal(world.y[:, 1:].sum(axis=0), [100, 100])
