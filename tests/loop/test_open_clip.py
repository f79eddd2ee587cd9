"""open_clip models: the vector and the preprocessing are those of the library, and no weight is ever random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
import transformers
from encoder_refusals import Trap, refusal
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from loop.encoders import load_encoder
from loop.encoders.text import load_text_tower

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
}
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 52), dtype=np.uint8)) for seed in (0, 1)
]


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture small enough to test with; no network, and a hub cache of its own."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", TINY)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def make_model(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return open_clip.create_model("tiny", **changes).eval()


def write_weights(path: Path, model: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def write_repository(folder: Path, model: Any, preprocessing: dict[str, Any]) -> Path:
    """The two files of a hub repository that matter here."""
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": preprocessing})
    )
    if model is not None:
        write_weights(folder / "open_clip_model.safetensors", model)
    return folder


def cache(tmp_path: Path, repository: str, model: Any) -> None:
    """What the hub's client would have left in its cache."""
    home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    write_repository(home / "snapshots" / "0123", model, HALVES)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123")


def embed(spec: str) -> NDArray[np.float32]:
    encoder = load_encoder(spec, "cpu")
    return encoder.embed([encoder.preprocess(picture) for picture in PICTURES])


def reference(model: Any, **preprocessing: Any) -> NDArray[np.float32]:
    """The vectors as a user of the library makes them."""
    transform = open_clip.image_transform(32, is_train=False, **preprocessing)
    with torch.inference_mode():
        vectors: NDArray[np.float32] = model.encode_image(
            torch.stack([transform(p) for p in PICTURES])
        ).numpy()
    return vectors


@pytest.mark.parametrize("kind", ["safetensors", "torch", "state_dict"])
def test_a_checkpoint_gives_the_models_own_vectors_twice_the_same(tmp_path: Path, kind: str) -> None:
    model = make_model()
    path = write_weights(tmp_path / "w.safetensors", model)
    if kind != "safetensors":
        path = tmp_path / "w.pt"
        held = model.state_dict()
        torch.save(
            held if kind == "torch" else {"state_dict": {f"module.{n}": t for n, t in held.items()}}, path
        )
    vectors = embed(f"open_clip:tiny@{path}")
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, reference(model), atol=1e-6)
    assert embed(f"open_clip:tiny@{path}").tobytes() == vectors.tobytes()


def test_one_changed_weight_of_the_image_tower_changes_the_fingerprint(tmp_path: Path) -> None:
    model = make_model()
    spec = f"open_clip:tiny@{write_weights(tmp_path / 'a.safetensors', model)}"
    before = load_encoder(spec, "cpu").fingerprint
    assert load_encoder(spec, "cpu").fingerprint == before
    with torch.no_grad():
        model.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    write_weights(tmp_path / "a.safetensors", model)
    assert load_encoder(spec, "cpu").fingerprint != before


def test_a_changed_preprocessing_changes_the_fingerprint(tmp_path: Path) -> None:
    spec = f"open_clip:tiny@{write_weights(tmp_path / 'a.safetensors', make_model())}"
    before = load_encoder(spec, "cpu").fingerprint
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": HALVES}))
    assert load_encoder(spec, "cpu").fingerprint != before


def test_a_checkpoint_is_prepared_as_the_file_beside_it_says(tmp_path: Path) -> None:
    model = make_model()
    folder = write_repository(tmp_path / "r", model, HALVES)
    vectors = embed(f"open_clip:tiny@{folder / 'open_clip_model.safetensors'}")
    np.testing.assert_allclose(vectors, reference(model, **HALVES), atol=1e-6)
    assert np.abs(vectors - reference(model)).max() > 1e-3
    (folder / "open_clip_config.json").write_text("{}")
    assert "preprocess_cfg" in refusal(f"open_clip:tiny@{folder / 'open_clip_model.safetensors'}")


def test_a_checkpoint_is_prepared_as_the_published_weights_of_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for SigLIP: all published weights are squashed and scaled to [-1, 1], so a local copy is too."""
    model = make_model()
    published = {"a": {**HALVES, "hf_hub": "org/a/"}, "b": {**HALVES, "hf_hub": "org/b/"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", published)
    spec = f"open_clip:tiny@{write_weights(tmp_path / 'w.safetensors', model)}"
    np.testing.assert_allclose(embed(spec), reference(model, **HALVES), atol=1e-6)
    published["b"]["resize_mode"] = "shortest"
    assert "differ in preprocessing" in refusal(spec)


def test_the_published_siglip_weights_agree_on_their_preprocessing() -> None:
    """The library's own table, which the rule above stands on."""
    tags = open_clip.list_pretrained_tags_by_model("ViT-B-16-SigLIP")
    about = [open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", tag) for tag in tags]
    assert {(tuple(told["mean"]), told["resize_mode"]) for told in about} == {((0.5, 0.5, 0.5), "squash")}


@pytest.mark.parametrize("quick", [True, False])
def test_published_weights_run_with_the_activation_they_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    """ViT-B-32@openai was trained with QuickGELU although the architecture's own activation is GELU."""
    model = make_model(force_quick_gelu=quick)
    cache(tmp_path, "org/tiny", model)
    published = {"known": {**HALVES, "hf_hub": "org/tiny/", "quick_gelu": quick}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", published)
    np.testing.assert_allclose(embed("open_clip:tiny@known"), reference(model, **HALVES), atol=1e-6)
    other = make_model(force_quick_gelu=not quick)
    other.load_state_dict(model.state_dict())
    assert np.abs(embed("open_clip:tiny@known") - reference(other, **HALVES)).max() > 1e-4


def test_a_repository_of_the_hub_is_read_from_the_cache_or_from_a_folder(tmp_path: Path) -> None:
    model = make_model()
    cache(tmp_path, "org/tiny", model)
    expected = reference(model, **HALVES)
    np.testing.assert_allclose(embed("open_clip:hf-hub:org/tiny"), expected, atol=1e-6)
    for name in ("one", "two"):
        write_repository(tmp_path / name, model, HALVES)
        np.testing.assert_allclose(embed(f"open_clip:local-dir:{tmp_path / name}"), expected, atol=1e-6)
    one, two = (load_encoder(f"open_clip:local-dir:{tmp_path / name}", "cpu") for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint  # where the folder lies changes no vector


def test_a_repository_without_weights_is_refused_and_not_filled_at_random(tmp_path: Path) -> None:
    cache(tmp_path, "org/tiny", None)
    write_repository(tmp_path / "folder", None, HALVES)
    assert "cannot be loaded" in refusal("open_clip:hf-hub:org/tiny")
    assert "open_clip_model.safetensors" in refusal(f"open_clip:local-dir:{tmp_path / 'folder'}")


@pytest.mark.parametrize(
    "config", ['{"model_cfg": ', '{"model_cfg": {"embed_dim": 16, "vision_cfg": {}, "text_cfg": {"x": 1}}}']
)
def test_a_configuration_that_cannot_be_used_is_refused(tmp_path: Path, config: str) -> None:
    folder = write_repository(tmp_path / "folder", make_model(), HALVES)
    (folder / "open_clip_config.json").write_text(config)
    assert "cannot be loaded" in refusal(f"open_clip:local-dir:{folder}")


def test_weights_that_are_not_here_are_refused_with_the_files_to_fetch(tmp_path: Path) -> None:
    told = refusal("open_clip:ViT-B-32@openai")
    assert "pretrained='openai'" in told
    assert str(tmp_path / "hub" / "models--timm--vit_base_patch32_clip_224.openai") in told
    assert "open_clip:ViT-B-32-quickgelu@/path/to/open_clip_model.safetensors" in told
    told = refusal("open_clip:hf-hub:org/absent")
    assert "models--org--absent" in told
    assert "open_clip:local-dir:/path/to/folder" in told


def test_what_does_not_exist_is_refused_with_the_nearest_that_does(tmp_path: Path) -> None:
    assert "ViT-B-32" in refusal("open_clip:ViT-B32@openai")
    assert "Did you mean laion2b_s34b_b79k" in refusal("open_clip:ViT-B-32@laion2b_s34b_b79")
    assert "has none" in refusal(f"open_clip:tiny@{tmp_path / 'gone.pt'}")
    assert "nothing is neither" in refusal("open_clip:ViT-B-32")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    model = make_model()
    held = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    first = next(name for name in held if name.startswith("visual.transformer"))
    save_file(
        {name: tensor for name, tensor in held.items() if name != first}, tmp_path / "lacks.safetensors"
    )
    assert first in refusal(f"open_clip:tiny@{tmp_path / 'lacks.safetensors'}")
    save_file({**held, first: torch.zeros(3)}, tmp_path / "shape.safetensors")
    assert "(3,)" in refusal(f"open_clip:tiny@{tmp_path / 'shape.safetensors'}")


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    torch.save({"visual.proj": Trap(tmp_path / "sprung")}, tmp_path / "w.pt")
    assert "besides plain weights" in refusal(f"open_clip:tiny@{tmp_path / 'w.pt'}")
    assert not (tmp_path / "sprung").exists()


def test_a_mark_in_the_name_of_a_folder_is_no_request(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "run #3" / "w.safetensors", make_model())
    assert embed(f"open_clip:tiny@{path}").shape == (2, 16)
    assert embed(f"open_clip:tiny@{path}#pooled").shape == (2, 64)


def test_the_pooled_vector_is_what_the_projection_is_given(tmp_path: Path) -> None:
    model = make_model()
    spec = f"open_clip:tiny@{write_weights(tmp_path / 'w.safetensors', model)}"
    pooled = embed(f"{spec}#pooled")
    assert pooled.shape == (2, 64)
    np.testing.assert_allclose(pooled @ model.visual.proj.detach().numpy(), embed(spec), rtol=1e-4, atol=1e-5)
    assert embed(f"{spec}#projected").tobytes() == embed(spec).tobytes()
    prints = {load_encoder(f"{spec}{kind}", "cpu").fingerprint for kind in ("", "#projected", "#pooled")}
    assert len(prints) == 2
    assert "it has #projected, #pooled" in refusal(f"{spec}#mean")


def test_the_fingerprint_of_both_towers_knows_heads_and_tokenizer_but_not_the_folder(tmp_path: Path) -> None:
    """None of them is a weight, and each changes vectors."""
    for name in ("a", "b"):
        write_repository(tmp_path / name, make_model(), HALVES)
    told = json.loads((tmp_path / "b" / "open_clip_config.json").read_text())

    def fingerprint(folder: str) -> str:
        return load_text_tower(f"open_clip:local-dir:{tmp_path / folder}", "cpu").fingerprint

    def of_images(folder: str) -> str:
        return load_encoder(f"open_clip:local-dir:{tmp_path / folder}", "cpu").fingerprint

    def rewrite(part: str, **changes: Any) -> None:
        told["model_cfg"][part] |= changes
        (tmp_path / "b" / "open_clip_config.json").write_text(json.dumps(told))

    prints = [fingerprint("a")]
    assert fingerprint("b") == prints[0]
    images = [of_images("a")]
    assert of_images("b") == images[0]
    rewrite("vision_cfg", head_width=32)
    prints.append(fingerprint("b"))
    images.append(of_images("b"))
    rewrite("text_cfg", heads=4)
    assert of_images("b") == images[-1]  # a text tower changes no vector of an image
    prints.append(fingerprint("b"))
    rewrite("text_cfg", hf_tokenizer_name="any")  # read from the folder
    for words in (["[PAD]", "[UNK]", "no", "effusion"], ["[PAD]", "[UNK]", "effusion", "no"]):
        built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        made = transformers.PreTrainedTokenizerFast(tokenizer_object=built, pad_token="[PAD]")
        made.save_pretrained(tmp_path / "b")
        prints.append(fingerprint("b"))
    rewrite("vision_cfg", pool_type="avg")
    images.append(of_images("b"))
    assert len(set(prints)) == len(prints)
    assert len(set(images)) == len(images)
