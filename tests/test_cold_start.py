"""`loop start` with texts on a real Label Studio: a small open_clip model in a hub repository's layout, made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from loop.cli import main
from loop.features import FeatureStore
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPARED = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}


def write_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "made-here", MODEL)
    torch.manual_seed(0)
    weights = open_clip.create_model("made-here").state_dict()
    folder.mkdir()
    save_file({name: t.contiguous() for name, t in weights.items()}, folder / "open_clip_model.safetensors")
    about = {"model_cfg": MODEL, "preprocess_cfg": PREPARED}
    (folder / "open_clip_config.json").write_text(json.dumps(about))


def test_a_start_with_texts_scores_half_of_the_first_batch_and_without_a_tower_is_refused(
    studio_server: ThrowawayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = studio_server.files_root / "cold"
    (folder / "images").mkdir(parents=True)
    write_model(folder / "model", monkeypatch)
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "images" / f"{i}.png")
    config = folder / "loop.toml"
    config.write_text(
        '[project]\nname = "cold"\nfindings = ["Effusion", "Mass"]\n'
        f'[label_studio]\nurl = "{studio_server.url}"\ndocument_root = "{studio_server.files_root}"\n'
        f'[encoder]\nspec = "open_clip:local-dir:{folder / "model"}"\ndevice = "cpu"\n'
        '[batch]\nsize = 10\ncold_start = "zero_shot"\n'
    )

    def start(*args: str) -> Result:
        return CliRunner().invoke(
            main,
            ["start", "-c", str(config), "--json", *args],
            env={"LABEL_STUDIO_API_KEY": studio_server.api_key},
        )

    refused = start("--set", "encoder.spec=timm:tf_efficientnet_lite0")
    assert refused.exit_code == 2
    assert "needs an encoder with a text tower, and timm:tf_efficientnet_lite0 has none" in refused.output

    begun = start()
    assert begun.exit_code == 0, begun.output
    batch = json.loads(begun.stdout)["report"]["batch"]
    assert (batch["random"], batch["active"], batch["strategy"]) == (5, 5, "zero_shot")
    settings = load_settings(config, {}, {})
    with State.open(settings.state_url) as state:
        (round_,) = state.rounds()
        told = state.fact("zero_shot")
    assert np.isfinite(round_.scores).all()
    assert told["positive"]["Mass"] == ["a chest X-ray with mass", "mass is present"]
    stored = FeatureStore.open(settings.folder / "zero_shot" / told["fingerprint"], told["fingerprint"], 16)
    assert len(stored) == 40
    again = start()
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["report"]["batch"]["version"] == round_.version
