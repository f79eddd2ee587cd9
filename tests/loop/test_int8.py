"""`int8:` encoders: near the float model, alone in their vectors, refused where they are of no use."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime.quantization
import open_clip
import pytest
import timm
import torch
import transformers
from click.testing import CliRunner
from encoder_refusals import refusal
from PIL import Image
from safetensors.torch import save_file

from loop.cli import main
from loop.encoders import load_encoder
from loop.encoders.encode import compare_to_float, encode_items
from loop.encoders.int8 import FAR, measure_nearness
from loop.encoders.reducing import ReducingEncoder
from loop.encoders.text import load_text_tower
from loop.pictures import find_pictures, hash_pictures
from loop.reduced import ReducedImages
from loop.stores import open_store


def test_nearness_is_that_of_the_vectors_and_of_their_spread() -> None:
    rng = np.random.default_rng(0)
    floats = rng.normal(size=(50, 8)).astype(np.float32) + 10  # all images share much
    same = measure_nearness(floats, floats)
    assert (same.cosine, same.lowest, same.spread_cosine) == pytest.approx((1, 1, 1))
    strange = rng.normal(size=(50, 8)).astype(np.float32) + 10
    far = measure_nearness(strange, floats)
    assert far.cosine > 0.95
    assert abs(far.spread_cosine) < 0.4  # that of strangers in 8 dimensions is about 1/sqrt(8)
    assert "loop encoders compare" in str(far)
    assert "loop encoders compare" not in str(same)
    alone = measure_nearness(np.zeros((1, 8), np.float32), floats[:1])
    assert (alone.lowest, alone.spread_cosine) == (0, None)  # one image has no spread
    assert "mean" not in str(alone)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small vision transformer of timm, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    return f"timm:test_vit@{path}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of noise and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(40):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((200, 180)).save(folder / f"{i:02}.png")
    (folder / "none.png").write_text("no image")
    return folder


def embed(spec: str, folder: Path, n: int = 6) -> np.ndarray:
    encoder = load_encoder(spec, "cpu")
    images = [Image.open(path) for path in sorted(folder.glob("*.png"))[:n]]
    return encoder.embed([encoder.preprocess(image) for image in images])


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.asarray((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1))


def save_dinov2(folder: Path) -> str:
    config = transformers.Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=14
    )
    torch.manual_seed(0)
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    ).save_pretrained(folder)
    return f"hf:{folder}"


def save_open_clip(folder: Path) -> str:
    torch.manual_seed(0)
    path = folder / "clip.safetensors"
    weights = open_clip.create_model("ViT-S-32", pretrained=None).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return f"open_clip:ViT-S-32@{path}"


@pytest.mark.parametrize("save", [save_dinov2, save_open_clip])
def test_transformers_of_every_family_keep_near_to_float(
    save: object, tmp_path: Path, pictures: Path
) -> None:
    spec = save(tmp_path)  # type: ignore[operator]
    assert cosines(embed(f"int8:{spec}", pictures), embed(spec, pictures)).min() > 0.98


def test_vectors_are_int8s_own_and_the_same_again_in_any_company(vit: str, pictures: Path) -> None:
    ours, floats = embed(f"int8:{vit}", pictures), embed(vit, pictures)
    assert cosines(ours, floats).min() > 0.98
    assert np.abs(ours - floats).max() > 1e-4  # it is not the float model that answers
    np.testing.assert_array_equal(embed(f"int8:{vit}", pictures), ours)
    np.testing.assert_array_equal(embed(f"int8:{vit}", pictures, n=1), ours[:1])


def test_it_is_another_encoder_with_the_same_preprocessing(vit: str, pictures: Path) -> None:
    ours, floats = load_encoder(f"int8:{vit}"), load_encoder(vit, "cpu")
    assert ours.fingerprint not in ("", floats.fingerprint)
    assert (ours.spec, ours.dim) == (f"int8:{vit}", floats.dim)
    image = Image.open(pictures / "00.png")
    assert torch.equal(ours.preprocess(image), floats.preprocess(image))


def test_encoding_tells_how_near_it_is_on_the_images_themselves(
    vit: str, pictures: Path, tmp_path: Path
) -> None:
    args = ["encode", str(pictures), "--encoder", f"int8:{vit}", "--out", str(tmp_path / "t.npz")]
    result = CliRunner().invoke(main, [*args, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["rows"], told["nearness"]["n"]) == (40, 20)  # every second one, below N_COMPARED
    assert FAR < told["nearness"]["spread_cosine"] < 1
    shown = CliRunner().invoke(main, [*args[:-1], str(tmp_path / "u.npz")], env={"COLUMNS": "200"})
    assert "int8 against float on 20 images: cosine" in shown.output
    again = json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)
    assert again["encoded"] == 0
    assert again["nearness"] == told["nearness"]  # a run that was stopped before it told loses nothing


def test_of_reduced_images_the_float_model_sees_the_reduced_ones_too(
    vit: str, pictures: Path, tmp_path: Path
) -> None:
    copies = ReducedImages(tmp_path / "copies", 170)
    items, _ = hash_pictures(find_pictures(pictures), lambda done, total: None)
    ours, floats = (ReducingEncoder(load_encoder(spec, "cpu"), copies) for spec in (f"int8:{vit}", vit))
    stores = [open_store(tmp_path, encoder) for encoder in (ours, floats)]
    for encoder, store in zip((ours, floats), stores, strict=True):
        encode_items(items, encoder, store, 8)
    told = compare_to_float(items, ours, stores[0], 8)
    assert compare_to_float(items, floats, stores[1], 8) is None
    some = [item.item for item in items if stores[1].has(item.item)][::2]
    rows = [np.concatenate([vectors for _, vectors in store.chunks(some)]) for store in stores]
    assert told is not None
    assert told.lowest == pytest.approx(cosines(*(r.astype(np.float32) for r in rows)).min(), abs=1e-5)


def test_models_of_convolutions_are_refused() -> None:
    said = refusal("int8:timm:tf_efficientnet_lite0")
    assert "convolutions" in said
    assert "this one without it" in said


def test_what_is_no_float_model_or_no_cpu_is_refused(vit: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", feat=np.ones((1, 4), np.float32), name=np.array(["a"]))
    assert "no float model behind" in refusal(f"int8:features:{tmp_path}/t.npz")
    assert "no float model behind" in refusal("int8:int8:nothing")
    assert 'device = "cpu"' in refusal(f"int8:{vit}", "cuda")
    assert "names no encoder" in refusal("int8:nothing")


def test_texts_meet_images_in_float(tmp_path: Path) -> None:
    spec = save_open_clip(tmp_path)
    assert load_text_tower(f"int8:{spec}", "cpu").fingerprint == load_text_tower(spec, "cpu").fingerprint


def test_images_that_cannot_be_opened_any_more_are_not_compared(
    vit: str, pictures: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(pictures, tmp_path / "there")
    encoder = load_encoder(f"int8:{vit}")
    items, _ = hash_pictures(find_pictures(folder), lambda done, total: None)
    store = open_store(tmp_path, encoder)
    encode_items(items, encoder, store, 8)
    shutil.rmtree(folder)
    assert compare_to_float(items, encoder, store, 8) is None


def test_the_fingerprint_is_that_of_the_graph_that_runs(vit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library may make the same model int8 in another way: other vectors, so other rows."""
    before = load_encoder(f"int8:{vit}").fingerprint
    assert load_encoder(f"int8:{vit}").fingerprint == before
    quantize = onnxruntime.quantization.quantize_dynamic
    monkeypatch.setattr(
        onnxruntime.quantization,
        "quantize_dynamic",
        lambda *args, **options: quantize(*args, **options | {"reduce_range": False}),
    )
    assert load_encoder(f"int8:{vit}").fingerprint != before


def test_what_cannot_be_written_as_onnx_and_a_missing_extra_are_said(
    vit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no rule for\nthis")

    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", fail)
        assert "cannot be made int8 (no rule for). Use it without int8:" in refusal(f"int8:{vit}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'annotation-loop[int8]'" in refusal(f"int8:{vit}")
