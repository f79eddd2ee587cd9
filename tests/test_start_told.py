"""What `loop start` tells of embeddings on a real Label Studio, and of the first batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ward import Ward

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


def write_table(path: Path, names: list[str], seed: int) -> None:
    feat = np.random.default_rng(seed).normal(size=(len(names), 8)).astype(np.float32)
    np.savez(path, feat=feat, name=np.array(names))


def test_only_embeddings_that_were_there_are_told_as_already_there(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "told", n_images=40, findings=["Effusion"])
    folder = ward.config.parent
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "images" / "broken.png").write_bytes(b"no image")
    write_table(folder / "a.npz", names, seed=0)
    write_table(folder / "b.npz", names[1:], seed=1)

    def start(table: str, *args: str) -> str:
        done = ward.run("start", "--set", f"encoder.spec=features:{folder / table}", *args)
        assert done.exit_code == 0, done.output
        return done.stdout

    told = " ".join(start("a.npz").split())
    assert "a.npz, 40 new, 0 already there Label Studio" in told
    assert "Asked round 1: 10 images, all from the random stream. Model version" in told
    begun: dict[str, Any] = json.loads(start("a.npz", "--json"))
    assert (begun["images"], begun["encoded"], begun["already"]) == (40, 0, 40)
    told = " ".join(start("b.npz").split())
    assert "b.npz, 39 new, 0 already there, 1 missing: not found, or not readable" in told
    begun = json.loads(start("b.npz", "--json"))
    assert (begun["images"], begun["encoded"], begun["already"]) == (40, 0, 39)
