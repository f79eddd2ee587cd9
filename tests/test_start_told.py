"""What `loop start` tells of embeddings on a real Label Studio, and of the first batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from loop.cli import main

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


def write_table(path: Path, names: list[str], seed: int) -> None:
    feat = np.random.default_rng(seed).normal(size=(len(names), 8)).astype(np.float32)
    np.savez(path, feat=feat, name=np.array(names))


def test_only_embeddings_that_were_there_are_told_as_already_there(studio_server: ThrowawayServer) -> None:
    folder = studio_server.files_root / "told"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(40)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "images" / name)
    (folder / "images" / "broken.png").write_bytes(b"no image")
    write_table(folder / "a.npz", names, seed=0)
    write_table(folder / "b.npz", names[1:], seed=1)
    config = folder / "loop.toml"
    config.write_text(
        '[project]\nname = "told"\nfindings = ["Effusion"]\n'
        f'[label_studio]\nurl = "{studio_server.url}"\ndocument_root = "{studio_server.files_root}"\n'
        "[batch]\nsize = 10\n"
    )

    def start(table: str, *args: str) -> str:
        done = CliRunner().invoke(
            main,
            ["start", "-c", str(config), "--set", f"encoder.spec=features:{folder / table}", *args],
            env={"LABEL_STUDIO_API_KEY": studio_server.api_key},
        )
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
