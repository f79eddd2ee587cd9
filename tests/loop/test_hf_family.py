"""`hf:` towers, from folders as their repositories publish them: right class, right pixels, right vector, no random weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from encoder_refusals import Trap, refusal
from huggingface_hub.errors import GatedRepoError
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from loop.encoders import load_encoder
from loop.encoders.hf_family import TOKENIZER, load_hf_text
from loop.errors import BadInput

SIDE = 32
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "projection_size": 32,
}
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
    for seed, shape in enumerate([(40, 52), (97, 61), (36, 36)])
]


@dataclass(frozen=True)
class Published:
    """A repository in small: its model, its preprocessor_config.json, and what the two should do.

    Attributes:
        make: The whole model as it is published.
        processor: The file, as the repository has it.
        pooled: The vector, by the family's own forward pass.
        short: Side after resizing; None = squashed to the model's square.
    """

    make: Callable[[], Any]
    processor: dict[str, Any]
    pooled: Callable[[Any, torch.Tensor], torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: Image.Resampling = Image.Resampling.BICUBIC
    short: int | None = None


def make_clip() -> Any:
    vision = {**TOWER, "intermediate_size": 64, "projection_dim": 16}
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=vision, text_config={**TEXT, "projection_dim": 16}, projection_dim=16
        )
    )


def make_siglip() -> Any:
    return transformers.SiglipModel(
        transformers.SiglipConfig(vision_config={**TOWER, "intermediate_size": 64}, text_config=TEXT)
    )


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)
RAD_MEAN, RAD_STD = (0.5307, 0.5307, 0.5307), (0.2583, 0.2583, 0.2583)
NET_MEAN, NET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COMMON = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "rescale_factor": 1 / 255,
}
SQUARE = {"height": SIDE, "width": SIDE}
PUBLISHED = {
    "xray-clip": Published(
        make_clip,
        {
            **COMMON,
            "image_processor_type": "CLIPImageProcessor",
            "do_center_crop": False,
            "size": SQUARE,
            "crop_size": SQUARE,
            "resample": 3,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        },
        lambda model, x: model.vision_model(pixel_values=x).pooler_output,
        CLIP_MEAN,
        CLIP_STD,
    ),
    "xray-siglip": Published(
        make_siglip,
        {
            **COMMON,
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "size": SQUARE,
            "resample": 3,
            "image_mean": HALVES,
            "image_std": HALVES,
        },
        lambda model, x: model.get_image_features(pixel_values=x).pooler_output,
        HALVES,
        HALVES,
    ),
    "medsiglip": Published(
        make_siglip,
        {
            **COMMON,
            "image_processor_type": "SiglipImageProcessor",
            "size": SQUARE,
            "resample": 2,
            "image_mean": HALVES,
            "image_std": HALVES,
        },
        lambda model, x: model.vision_model(pixel_values=x).pooler_output,
        HALVES,
        HALVES,
        Image.Resampling.BILINEAR,
    ),
    "rad-dino": Published(
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**TOWER)),
        {
            **COMMON,
            "image_processor_type": "BitImageProcessor",
            "do_center_crop": True,
            "size": {"shortest_edge": SIDE},
            "crop_size": SQUARE,
            "resample": 3,
            "image_mean": RAD_MEAN,
            "image_std": RAD_STD,
        },
        lambda model, x: model(pixel_values=x).last_hidden_state[:, 0],
        RAD_MEAN,
        RAD_STD,
        short=SIDE,
    ),
    "dinov2-with-registers": Published(
        lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**TOWER)),
        {
            **COMMON,
            "image_processor_type": "BitImageProcessor",
            "do_center_crop": True,
            "size": {"shortest_edge": 37},
            "crop_size": SQUARE,
            "resample": 3,
            "image_mean": NET_MEAN,
            "image_std": NET_STD,
        },
        lambda model, x: model(pixel_values=x).last_hidden_state[:, 0],
        NET_MEAN,
        NET_STD,
        short=37,
    ),
    "vit": Published(
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**TOWER, intermediate_size=64)),
        {  # as written before there were image processors
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "ViTFeatureExtractor",
            "image_mean": HALVES,
            "image_std": HALVES,
            "resample": 2,
            "size": SIDE,
        },
        lambda model, x: model.vit(pixel_values=x).last_hidden_state[:, 0],
        HALVES,
        HALVES,
        Image.Resampling.BILINEAR,
    ),
}
every_kind = pytest.mark.parametrize("name", PUBLISHED)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network and an empty hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return tmp_path / "hub"


def make(name: str) -> Any:
    torch.manual_seed(0)
    return PUBLISHED[name].make().eval()


def publish(folder: Path, name: str) -> Any:
    """Write a repository's files; returns the model."""
    model = make(name)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED[name].processor))
    return model


def prepared(image: Image.Image, told: Published) -> torch.Tensor:
    """The pixels that a repository's file asks for, by PIL and NumPy alone."""
    size = (SIDE, SIDE)
    if told.short is not None:
        least = min(image.size)
        size = (
            told.short * image.size[0] // least,
            told.short * image.size[1] // least,
        )
    pixels = np.asarray(image.convert("RGB").resize(size, told.resample))
    top, left = (pixels.shape[0] - SIDE) // 2, (pixels.shape[1] - SIDE) // 2
    pixels = pixels[top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(
        ((pixels / 255 - np.array(told.mean)) / np.array(told.std)).transpose(2, 0, 1)
    ).float()


def embed(spec: str) -> NDArray[np.float32]:
    encoder = load_encoder(spec, "cpu")
    return encoder.embed([encoder.preprocess(picture) for picture in PICTURES])


@every_kind
def test_pixels_are_those_that_the_repository_asks_for(tmp_path: Path, name: str) -> None:
    publish(tmp_path / name, name)
    encoder = load_encoder(f"hf:{tmp_path / name}", "cpu")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / name, backend="pil")  # type: ignore[no-untyped-call]
    for picture in PICTURES:
        found = encoder.preprocess(picture)
        torch.testing.assert_close(found, prepared(picture, PUBLISHED[name]), rtol=0, atol=2e-6)
        reference = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(found, reference)


@every_kind
def test_the_vector_is_the_familys_own_and_the_same_each_time(tmp_path: Path, name: str) -> None:
    model = publish(tmp_path / name, name)
    vectors = embed(f"hf:{tmp_path / name}")
    batch = torch.stack([prepared(picture, PUBLISHED[name]) for picture in PICTURES])
    with torch.inference_mode():
        expected = PUBLISHED[name].pooled(model, batch).numpy()
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert embed(f"hf:{tmp_path / name}").tobytes() == vectors.tobytes()


def test_clip_gives_the_projected_vector_on_request(tmp_path: Path) -> None:
    model = publish(tmp_path / "a#b", "xray-clip")  # a mark in a folder's name is no request
    encoder = load_encoder(f"hf:{tmp_path / 'a#b'}#projected", "cpu")
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    with torch.inference_mode():
        expected = model.get_image_features(pixel_values=torch.stack(inputs)).pooler_output.numpy()
    assert encoder.dim == 16
    np.testing.assert_allclose(encoder.embed(inputs), expected, rtol=1e-4, atol=1e-5)
    pooled = load_encoder(f"hf:{tmp_path / 'a#b'}#pooled", "cpu")
    assert pooled.dim == 32
    assert pooled.fingerprint != encoder.fingerprint
    for name in ("xray-siglip", "rad-dino"):
        publish(tmp_path / name, name)
        assert "have no projection" in refusal(f"hf:{tmp_path / name}#projected")
    assert "#mean is no vector of this family; it has #pooled, #projected" in refusal(
        f"hf:{tmp_path / 'a#b'}#mean"
    )


@pytest.mark.parametrize("name", ["xray-clip", "rad-dino"])
def test_threads_prepare_the_same_bytes(tmp_path: Path, name: str) -> None:
    publish(tmp_path / name, name)
    encoder = load_encoder(f"hf:{tmp_path / name}", "cpu")
    alone = [encoder.preprocess(picture) for picture in PICTURES]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.preprocess, PICTURES * 20))
    assert all(torch.equal(found, alone[i % 3]) for i, found in enumerate(together))


def test_an_unusual_processor_is_used_as_it_is(tmp_path: Path) -> None:
    """Without rescaling there is no short way: the processor itself is called."""
    publish(tmp_path / "r", "xray-siglip")
    told = PUBLISHED["xray-siglip"].processor | {"do_rescale": False}
    (tmp_path / "r" / "preprocessor_config.json").write_text(json.dumps(told))
    encoder = load_encoder(f"hf:{tmp_path / 'r'}", "cpu")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "r", backend="pil")  # type: ignore[no-untyped-call]
    reference = processor(images=PICTURES[0].convert("RGB"), return_tensors="pt")["pixel_values"][0]
    assert float(reference.max()) > 100
    assert torch.equal(encoder.preprocess(PICTURES[0]), reference)


def test_dinov2_takes_other_sizes_than_its_position_table_was_made_for(tmp_path: Path) -> None:
    """As facebook/dinov2-base: made at 518 pixels, published with a processor for 224."""
    model = publish(tmp_path / "r", "rad-dino")
    told = PUBLISHED["rad-dino"].processor | {
        "size": {"shortest_edge": 48},
        "crop_size": {"height": 48, "width": 48},
    }
    (tmp_path / "r" / "preprocessor_config.json").write_text(json.dumps(told))
    encoder = load_encoder(f"hf:{tmp_path / 'r'}", "cpu")
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    assert inputs[0].shape == (3, 48, 48)
    with torch.inference_mode():
        expected = model(pixel_values=torch.stack(inputs)).pooler_output.numpy()
    np.testing.assert_allclose(encoder.embed(inputs), expected, rtol=1e-4, atol=1e-5)


def test_the_fingerprint_knows_weights_pixels_and_activation_but_not_the_folder(tmp_path: Path) -> None:
    publish(tmp_path / "a", "xray-siglip")
    prints = [load_encoder(f"hf:{tmp_path / 'a'}", "cpu").fingerprint]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load_encoder(f"hf:{tmp_path / 'b'}", "cpu").fingerprint == prints[0]
    changes: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
        ("preprocessor_config.json", lambda told: told.update(resample=2)),
        ("preprocessor_config.json", lambda told: told.update(image_mean=[0.4] * 3)),
        ("config.json", lambda told: told["vision_config"].update(hidden_act="gelu")),
    ]
    for file, change in changes:
        told = json.loads((tmp_path / "b" / file).read_text())
        change(told)
        (tmp_path / "b" / file).write_text(json.dumps(told))
        prints.append(load_encoder(f"hf:{tmp_path / 'b'}", "cpu").fingerprint)
    weights = load_file(tmp_path / "b" / "model.safetensors")
    weights["vision_model.embeddings.patch_embedding.bias"][0] += 1e-3
    save_file(weights, tmp_path / "b" / "model.safetensors", metadata={"format": "pt"})
    prints.append(load_encoder(f"hf:{tmp_path / 'b'}", "cpu").fingerprint)
    weights["text_model.head.bias"][0] += 1e-3  # the text tower counts for nothing
    save_file(weights, tmp_path / "b" / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(f"hf:{tmp_path / 'b'}", "cpu").fingerprint == prints[-1]
    assert len(set(prints)) == len(prints)


def cache(hub: Path, folder: Path, repository: str, commit: str = "0" * 40, ref: str = "main") -> None:
    """Lay files out as the hub's client does."""
    home = hub / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, home / "snapshots" / commit)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / ref).write_text(commit)


def test_a_repository_and_a_revision_are_read_from_the_cache(tmp_path: Path, offline: Path) -> None:
    publish(tmp_path / "old", "rad-dino")
    cache(offline, tmp_path / "old", "microsoft/rad-dino")
    told = PUBLISHED["rad-dino"].processor | {"image_mean": [0.4] * 3}
    (tmp_path / "old" / "preprocessor_config.json").write_text(json.dumps(told))
    cache(offline, tmp_path / "old", "microsoft/rad-dino", "1" * 40, "v2")
    main = load_encoder("hf:microsoft/rad-dino", "cpu")
    assert load_encoder(f"hf:microsoft/rad-dino@{'0' * 40}", "cpu").fingerprint == main.fingerprint
    tagged = load_encoder("hf:microsoft/rad-dino@v2", "cpu")
    assert load_encoder(f"hf:microsoft/rad-dino@{'1' * 40}", "cpu").fingerprint == tagged.fingerprint
    assert tagged.fingerprint != main.fingerprint == load_encoder("hf:microsoft/rad-dino", "cpu").fingerprint
    assert "`hf download microsoft/rad-dino --revision v3`" in refusal("hf:microsoft/rad-dino@v3")
    (offline / "models--microsoft--rad-dino" / "snapshots" / ("1" * 40) / "model.safetensors").unlink()
    said = refusal("hf:microsoft/rad-dino@v2")  # the name that was asked for, which the cache then knows
    assert "model.safetensors of" in said
    assert "--revision v2`" in said


def test_weights_in_several_files_and_in_a_torch_file_are_read(tmp_path: Path, offline: Path) -> None:
    model = publish(tmp_path / "r", "rad-dino")
    whole = load_encoder(f"hf:{tmp_path / 'r'}", "cpu").fingerprint
    (tmp_path / "r" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "r" / "pytorch_model.bin")
    cache(offline, tmp_path / "r", "org/torch")
    assert load_encoder("hf:org/torch", "cpu").fingerprint == whole
    (tmp_path / "r" / "pytorch_model.bin").unlink()
    model.save_pretrained(tmp_path / "r", max_shard_size="40KB")
    shards = sorted((tmp_path / "r").glob("model-*.safetensors"))
    assert len(shards) > 1
    cache(offline, tmp_path / "r", "org/shards")
    assert load_encoder("hf:org/shards", "cpu").fingerprint == whole
    shards[0].unlink()
    assert f"lacks {shards[0].name}" in refusal(f"hf:{tmp_path / 'r'}")


def test_a_pickled_torch_file_is_not_executed(tmp_path: Path) -> None:
    publish(tmp_path / "r", "rad-dino")
    (tmp_path / "r" / "model.safetensors").unlink()
    torch.save({"cls_token": Trap(tmp_path / "sprung")}, tmp_path / "r" / "pytorch_model.bin")
    assert "cannot be loaded as Dinov2Model" in refusal(f"hf:{tmp_path / 'r'}")
    assert not (tmp_path / "sprung").exists()


def test_no_code_of_a_repository_is_run(tmp_path: Path) -> None:
    publish(tmp_path / "r", "rad-dino")
    code = f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\nProcessor = None\n"
    (tmp_path / "r" / "code.py").write_text(code)
    for file, told in (("config.json", "AutoModel"), ("preprocessor_config.json", "AutoImageProcessor")):
        held = json.loads((tmp_path / "r" / file).read_text())
        (tmp_path / "r" / file).write_text(json.dumps(held | {"auto_map": {told: "code.Processor"}}))
    assert load_encoder(f"hf:{tmp_path / 'r'}", "cpu").dim == 32
    held = json.loads((tmp_path / "r" / "preprocessor_config.json").read_text())
    held["image_processor_type"] = "Processor"
    (tmp_path / "r" / "preprocessor_config.json").write_text(json.dumps(held))
    load_or_refuse(f"hf:{tmp_path / 'r'}")
    assert not (tmp_path / "sprung").exists()


def load_or_refuse(spec: str) -> None:
    try:
        load_encoder(spec, "cpu")
    except BadInput:
        return


def test_a_repository_that_is_not_here_says_what_goes_where(offline: Path) -> None:
    said = refusal("hf:microsoft/rad-dino")
    assert "config.json of microsoft/rad-dino is not on this machine" in said
    assert "config.json, preprocessor_config.json and model.safetensors" in said
    assert "`hf download microsoft/rad-dino`" in said
    assert str(offline / "models--microsoft--rad-dino") in said
    assert "gated" not in said


@pytest.mark.parametrize("lacks", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_an_incomplete_repository_says_what_it_lacks(tmp_path: Path, offline: Path, lacks: str) -> None:
    publish(tmp_path / "r", "rad-dino")
    (tmp_path / "r" / lacks).unlink()
    cache(offline, tmp_path / "r", "org/half")
    assert f"{lacks} of org/half is not on this machine" in refusal("hf:org/half")
    assert f"lacks {lacks}" in refusal(f"hf:{tmp_path / 'r'}")


def test_a_gated_repository_says_that_its_terms_must_be_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "It is gated: accept its terms on https://huggingface.co/"
    assert f"{told}google/medsiglip-448" in refusal("hf:google/medsiglip-448")  # known beforehand

    def refuse(*_: Any, **__: Any) -> None:
        from unittest.mock import Mock

        raise GatedRepoError("403 Client Error.", response=Mock(headers={}))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    assert f"{told}org/closed" in refusal("hf:org/closed")


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_whatever_stops_a_download_is_said_without_a_traceback(
    tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    publish(tmp_path / "r", "rad-dino")
    cache(offline, tmp_path / "r", "org/name")
    fetch = huggingface_hub.hf_hub_download

    def break_off(repository: str, asked: str, **rest: Any) -> str:
        if asked == file:
            raise OSError("No space left on device")
        return fetch(repository, asked, **rest)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", break_off)
    assert f"{file} of org/name is not on this machine and cannot be fetched (No space left" in refusal(
        "hf:org/name"
    )


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.json"])
def test_a_network_that_fails_does_not_mean_that_the_repository_lacks_a_file(
    tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Other weights, or another tokenizer, would be taken in its place."""
    model = publish(tmp_path / "r", "xray-clip")
    write_tokenizer(tmp_path / "r", 12)
    torch.save(model.state_dict(), tmp_path / "r" / "pytorch_model.bin")
    (tmp_path / "r" / file).unlink(missing_ok=True)
    cache(offline, tmp_path / "r", "org/name")
    assert load_hf_text("hf:org/name", "org/name", "cpu").scale > 0  # offline, the cache is all there is
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    fetch = partial(huggingface_hub.hf_hub_download, local_files_only=True)  # fails as without a connection
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(
        BadInput, match=f"{file} of org/name is not on this machine and cannot be fetched"
    ) as told:
        load_hf_text("hf:org/name", "org/name", "cpu")
    assert "HF_HUB_OFFLINE=1" in str(told.value)
    for absent in (file, *TOKENIZER, "model.safetensors.index.json"):  # as the client notes a 404
        noted = offline / "models--org--name" / ".no_exist" / ("0" * 40) / absent
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.touch()
    assert load_hf_text("hf:org/name", "org/name", "cpu").scale > 0


def test_what_is_no_tower_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "r", "rad-dino")
    config = tmp_path / "r" / "config.json"
    config.write_text('{"model_type": "dino2"}')
    assert "Did you mean dinov2" in refusal(f"hf:{tmp_path / 'r'}")
    config.write_text("{}")
    assert "names no `model_type`" in refusal(f"hf:{tmp_path / 'r'}")
    assert "there is no folder" in refusal(f"hf:{tmp_path / 'gone'}")
    assert "there is no folder" in refusal("hf:rad-dino")


def test_missing_weights_are_not_filled_at_random(tmp_path: Path) -> None:
    publish(tmp_path / "r", "xray-clip")
    weights = load_file(tmp_path / "r" / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "r" / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(f"hf:{tmp_path / 'r'}", "cpu").dim == 32
    assert "lacks 1 weights of CLIPVisionModelWithProjection, e.g. visual_projection" in refusal(
        f"hf:{tmp_path / 'r'}#projected"
    )
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, tmp_path / "r" / "model.safetensors", metadata={"format": "pt"})
    assert "post_layernorm.weight" in refusal(f"hf:{tmp_path / 'r'}")


@every_kind
def test_every_kind_of_tower_keeps_near_to_float_as_int8(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "r", name)
    ours, floats = embed(f"int8:hf:{tmp_path / 'r'}"), embed(f"hf:{tmp_path / 'r'}")
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(floats, axis=1)
    assert ((ours * floats).sum(1) / lengths).min() > 0.98
    assert np.abs(ours - floats).max() > 0


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "r", "xray-clip")
    (tmp_path / "r" / "preprocessor_config.json").write_text('{"image_processor_type": "Nothing"}')
    assert "preprocessor_config.json cannot be used" in refusal(f"hf:{tmp_path / 'r'}")
    (tmp_path / "r" / "preprocessor_config.json").write_text("{")
    assert "preprocessor_config.json cannot be used" in refusal(f"hf:{tmp_path / 'r'}")
    (tmp_path / "r" / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be loaded as CLIPVisionModel" in refusal(f"hf:{tmp_path / 'r'}")


@pytest.mark.parametrize(
    "changes",
    [
        {"image_mean": [0.5]},
        {"image_std": "x"},
        {"resample": "bicubic"},
        {"resample": 99},
        {"rescale_factor": "x"},
        {"do_center_crop": True, "crop_size": None},
        {"size": {"shortest_edge": 0}},
        {"size": None},
        {"image_processor_type": "Pix2StructImageProcessor"},
        {"image_processor_type": "VivitImageProcessor"},
        {"image_processor_type": "LlavaNextImageProcessor"},  # several crops of one image
        {"image_processor_type": "SegformerImageProcessor"},  # as wide as the image is
        None,
    ],
)
def test_a_processor_that_cannot_be_used_is_refused(tmp_path: Path, changes: dict[str, Any] | None) -> None:
    publish(tmp_path / "r", "rad-dino")
    told = [] if changes is None else PUBLISHED["rad-dino"].processor | changes
    (tmp_path / "r" / "preprocessor_config.json").write_text(json.dumps(told))
    assert f"{tmp_path / 'r'}: its preprocessor_config.json cannot be used" in refusal(f"hf:{tmp_path / 'r'}")


def test_a_tower_without_the_pooling_that_gives_its_vector_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "r", "xray-siglip")
    write_tokenizer(tmp_path / "r", 12)
    rewrite(tmp_path / "r" / "config.json", vision_config__vision_use_head=False)
    assert "vision_use_head = false" in refusal(f"hf:{tmp_path / 'r'}")
    with pytest.raises(BadInput, match="vision_use_head = false"):
        load_hf_text("hf:r", str(tmp_path / "r"), "cpu")


def test_a_processor_for_another_size_than_the_towers_is_refused(tmp_path: Path) -> None:
    """The 384 in a name is the starting checkpoint's; what counts is what config.json and processor say together."""
    publish(tmp_path / "r", "xray-siglip")
    told = PUBLISHED["xray-siglip"].processor | {"size": {"height": 24, "width": 24}}
    (tmp_path / "r" / "preprocessor_config.json").write_text(json.dumps(told))
    assert "makes images of 24 x 24, but the tower takes 32 x 32" in refusal(f"hf:{tmp_path / 'r'}")


WORDS = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", "no", "pneumothorax", "effusion", "there", "is"]


def write_tokenizer(folder: Path, longest: int, words: Sequence[str] = WORDS) -> None:
    """A tokenizer of a few words, as the files of a repository."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=built,
        pad_token="[PAD]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        unk_token="[UNK]",
        model_max_length=longest,
    ).save_pretrained(folder)


TEXTS = ["there is pneumothorax", "no pneumothorax", "effusion " * 40]


@pytest.mark.parametrize("name", ["xray-clip", "xray-siglip"])
def test_images_and_texts_lie_in_one_space(tmp_path: Path, name: str) -> None:
    model = publish(tmp_path / name, name)
    write_tokenizer(tmp_path / name, 12)
    spec = f"{tmp_path / name}"
    tower = load_hf_text(f"hf:{spec}", spec, "cpu")
    encoder = load_encoder(f"hf:{spec}", "cpu")
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    images, texts = tower.embed_images(inputs), tower.embed_text(TEXTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
    padding = "longest" if name == "xray-clip" else "max_length"
    tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=12, return_tensors="pt")
    assert tokens["input_ids"].shape == (3, 12)
    with torch.inference_mode():
        expected = model.get_text_features(**tokens).pooler_output
        shown = model.get_image_features(pixel_values=torch.stack(inputs)).pooler_output
    for found, reference in ((texts, expected), (images, shown)):
        unit = torch.nn.functional.normalize(reference, dim=-1).numpy()
        np.testing.assert_allclose(found, unit, rtol=1e-4, atol=1e-5)
        assert found.dtype == np.float32
    assert tower.scale == pytest.approx(model.logit_scale.exp().item())
    again = load_hf_text(f"hf:{spec}", spec, "cpu")
    assert again.fingerprint == tower.fingerprint
    assert again.embed_text(TEXTS).tobytes() == texts.tobytes()
    # SigLIP was trained on texts of full length: a short one must be padded to it.
    alone = tower.embed_text(TEXTS[:1])
    np.testing.assert_allclose(alone[0], texts[0], rtol=1e-4, atol=1e-5)


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; ``a__b`` is b of a."""
    told = json.loads(path.read_text())
    for name, value in changes.items():
        *parts, key = name.split("__")
        held = told
        for part in parts:
            held = held[part]
        held[key] = value
    path.write_text(json.dumps(told))


def test_the_fingerprint_of_both_towers_knows_all_that_changes_a_vector_of_either(tmp_path: Path) -> None:
    """It names the store of the embeddings that texts score: a stale one would be scored by other texts."""
    publish(tmp_path / "a", "xray-clip")
    write_tokenizer(tmp_path / "a", 12)
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def fingerprint(folder: Path) -> str:
        return load_hf_text(f"hf:{folder}", str(folder), "cpu").fingerprint

    prints = [fingerprint(tmp_path / "a")]
    assert fingerprint(tmp_path / "b") == prints[0]  # where the folder lies changes no vector
    config, processor = tmp_path / "b" / "config.json", tmp_path / "b" / "preprocessor_config.json"
    for tower in ("vision_config", "text_config"):
        for key, value in (("num_attention_heads", 4), ("hidden_act", "gelu"), ("layer_norm_eps", 1e-3)):
            rewrite(config, **{f"{tower}__{key}": value})
            prints.append(fingerprint(tmp_path / "b"))
    rewrite(config, text_config__eos_token_id=5)
    prints.append(fingerprint(tmp_path / "b"))
    rewrite(processor, image_mean=[0.4] * 3)
    prints.append(fingerprint(tmp_path / "b"))
    write_tokenizer(tmp_path / "b", 12, [*WORDS[:4], *reversed(WORDS[4:])])
    prints.append(fingerprint(tmp_path / "b"))
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("name", ["xray-clip", "xray-siglip"])
def test_images_and_texts_pass_a_cpu_in_parts_and_come_out_whole_and_in_order(
    tmp_path: Path, name: str
) -> None:
    publish(tmp_path / name, name)
    write_tokenizer(tmp_path / name, 12)
    tower = load_hf_text(f"hf:{name}", str(tmp_path / name), "cpu")
    encoder = load_encoder(f"hf:{tmp_path / name}", "cpu")
    inputs, texts = [encoder.preprocess(picture) for picture in PICTURES * 3], TEXTS * 3
    sizes: list[int] = []

    def counted(forward: Callable[[Any], torch.Tensor]) -> Callable[[Any], torch.Tensor]:
        return lambda part: (sizes.append(len(part)), forward(part))[1]  # type: ignore[func-returns-value]

    watched = replace(tower, forward=counted(tower.forward), read=counted(tower.read))
    with torch.inference_mode():
        whole = tower.forward(torch.stack(inputs)), tower.read(texts)
    for found, expected in zip((watched.embed_images(inputs), watched.embed_text(texts)), whole, strict=True):
        unit = torch.nn.functional.normalize(expected, dim=-1).numpy()
        np.testing.assert_allclose(found, unit, rtol=1e-4, atol=1e-5)
    assert sizes == [4, 4, 1, 4, 4, 1]


def test_a_text_tower_that_is_not_there_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "dino", "rad-dino")
    publish(tmp_path / "clip", "xray-clip")
    with pytest.raises(BadInput, match="dinov2 model has no text tower"):
        load_hf_text("hf:dino", str(tmp_path / "dino"), "cpu")
    with pytest.raises(BadInput, match="Copy tokenizer"):
        load_hf_text("hf:clip", str(tmp_path / "clip"), "cpu")
