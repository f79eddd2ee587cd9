"""`loop encoders list`: every family, what is known of it, and whether its weights are here; nothing is asked of a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from click.testing import CliRunner

from loop.cli import main
from loop.encoders import EXAMPLES, load_encoder
from loop.encoders.catalogue import XRV_FOLDER, is_gated, list_encoders
from loop.encoders.xrv_family import _library
from loop.errors import BadInput


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and an empty home."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def listed(*args: str) -> str:
    result = CliRunner().invoke(main, ["encoders", "list", *args], env={"COLUMNS": "110"})
    assert result.exit_code == 0, result.output
    return result.output


def rows() -> dict[str, dict[str, Any]]:
    return {row["spec"]: row for row in json.loads(listed("--json"))["encoders"]}


def test_every_family_is_there_with_its_facts() -> None:
    found = rows()
    assert {row["family"] for row in found.values()} == set(EXAMPLES)
    for row in found.values():
        assert row["spec"].startswith(f"{row['family']}:")
        assert row["licence"]
        assert row["weights"]
        assert row["here"] in (True, False, None)
        assert row["family"] == "features" or (row["pixels"] > 100 and row["dim"] >= 512)
    assert len([spec for spec in found if spec.startswith("hf:StanfordAIMI/")]) == 8
    assert found["hf:google/medsiglip-448"]["gated"]
    assert is_gated("google/medsiglip-448")
    assert not is_gated("microsoft/rad-dino")


def test_each_spec_stands_on_a_line_of_its_own_to_be_copied() -> None:
    lines = [line.split() for line in listed().splitlines()]
    for known in list_encoders():
        assert [words for words in lines if words[3:] == [known.spec]], known.spec


def test_the_packaged_weights_are_here_and_their_numbers_are_right() -> None:
    row = rows()["timm:tf_efficientnet_lite0"]
    assert row["here"] is True
    encoder = load_encoder(row["spec"], "cpu")
    assert encoder.dim == row["dim"]


def test_weights_are_here_once_their_files_are(offline: Path) -> None:
    assert not any(row["here"] for row in rows().values() if row["weights"].startswith(("Hugging", "GitHub")))
    home = offline / "hub" / "models--microsoft--rad-dino"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123")
    (home / "snapshots" / "0123").mkdir(parents=True)
    (home / "snapshots" / "0123" / "config.json").touch()
    assert rows()["hf:microsoft/rad-dino"]["here"] is False  # no weights yet
    (home / "snapshots" / "0123" / "model.safetensors").touch()
    assert rows()["hf:microsoft/rad-dino"]["here"] is True
    xrv = _library().models.model_urls
    for name in ("densenet121-res224-all", "resnet50-res512-all"):
        file = XRV_FOLDER.expanduser() / xrv[name]["weights_url"].rsplit("/", 1)[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        assert rows()[f"torchxrayvision:{name}"]["here"] is True
        assert rows()[f"torchxrayvision:{name}"]["pixels"] == xrv[name]["input_resolution"]


def test_what_is_said_to_be_missing_is_refused_when_it_is_asked_for() -> None:
    """Each example is understood: the refusal is about its weights, not about its name."""
    for spec, row in rows().items():
        if row["here"] or row["family"] == "torchxrayvision":
            continue
        with pytest.raises(BadInput) as caught:
            load_encoder(spec, "cpu")
        assert "names no encoder" not in str(caught.value), spec
        assert any(
            said in str(caught.value)
            for said in ("not on this machine", "cannot be loaded", "no checkpoint at", "must be an .npz")
        ), str(caught.value)
