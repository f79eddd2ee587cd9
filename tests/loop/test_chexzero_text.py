"""CheXzero's text tower: CLIP's own tokens, the model's own directions, and what cannot read texts is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from loop_world import World
from PIL import Image

from loop.cold_start import find_tower, score_by_texts
from loop.encoders import load_encoder
from loop.encoders.text import load_text_tower
from loop.errors import BadInput
from loop.items import Item
from loop.simulate import EPOCH

TEXTS = ["a chest X-ray with effusion", "No Effusion", "", "long " * 100]
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 52), dtype=np.uint8)) for seed in (0, 1)
]


def make_clip(vocabulary: int = 49408) -> Any:
    """A CLIP of OpenAI's layout that reads 77 tokens; CheXzero's is wider and deeper."""
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"layers": 1, "width": 64, "head_width": 64, "patch_size": 32, "image_size": 64},  # type: ignore[arg-type]
        text_cfg={"context_length": 77, "vocab_size": vocabulary, "width": 64, "heads": 1, "layers": 2},  # type: ignore[arg-type]
        quick_gelu=True,
    ).eval()


def write(folder: Path, weights: dict[str, torch.Tensor]) -> str:
    """A checkpoint as CheXzero's training writes it; the spec that asks for it."""
    torch.save(weights, folder / "best.pt")
    return f"chexzero:{folder}/best.pt"


def test_the_tower_gives_the_models_own_directions(tmp_path: Path) -> None:
    model = make_clip()
    spec = write(tmp_path, model.state_dict())
    tower, encoder = load_text_tower(spec, "cpu"), load_encoder(spec, "cpu")
    inputs = [encoder.preprocess(picture) for picture in PICTURES]
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(TEXTS)  # the library's choice for OpenAI's weights
    with torch.inference_mode():
        texts = model.encode_text(tokens, normalize=True).numpy()
        images = model.encode_image(torch.stack(inputs), normalize=True).numpy()
    found, seen = tower.embed_text(TEXTS), tower.embed_images(inputs)
    assert found.dtype == seen.dtype == np.float32
    np.testing.assert_allclose(found, texts, atol=1e-6)
    np.testing.assert_allclose(seen, images, atol=1e-6)
    for vectors in (found, seen):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    own = encoder.embed(inputs)
    np.testing.assert_allclose(seen, own / np.linalg.norm(own, axis=1, keepdims=True), atol=1e-6)
    assert tower.scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_texts_become_the_tokens_that_clip_was_trained_with(tmp_path: Path) -> None:
    """Against the ids of `a photo of a cat` that Bumblebee's tests hold, from another implementation of CLIP's tokenizer."""
    model = make_clip()
    tower = load_text_tower(write(tmp_path, model.state_dict()), "cpu")
    ids = torch.zeros(1, 77, dtype=torch.long)
    ids[0, :7] = torch.tensor([49406, 320, 1125, 539, 320, 2368, 49407])
    with torch.inference_mode():
        expected = model.encode_text(ids, normalize=True).numpy()
    np.testing.assert_allclose(tower.embed_text(["A photo of  a cat"]), expected, atol=1e-6)


def test_one_changed_weight_of_the_text_tower_changes_its_fingerprint_and_not_the_encoders(
    tmp_path: Path,
) -> None:
    model = make_clip()
    spec = write(tmp_path, model.state_dict())
    tower, encoder = load_text_tower(spec, "cpu").fingerprint, load_encoder(spec, "cpu").fingerprint
    assert load_text_tower(spec, "cpu").fingerprint == tower != encoder
    with torch.no_grad():
        model.text_projection[0, 0] += 1e-3
    write(tmp_path, model.state_dict())
    assert load_text_tower(spec, "cpu").fingerprint != tower
    assert load_encoder(spec, "cpu").fingerprint == encoder


def test_a_checkpoint_that_cannot_read_texts_is_refused(tmp_path: Path) -> None:
    held = make_clip().state_dict()
    visual = {name: tensor for name, tensor in held.items() if name.startswith("visual.")}
    for weights, fact in (
        (visual, "lacks text_projection"),
        ({n: t for n, t in held.items() if n != "transformer.resblocks.0.ln_1.bias"}, "lacks 1 weights"),
        ({n: t for n, t in held.items() if n != "logit_scale"}, "lacks 1 weights"),
        (make_clip(vocabulary=50).state_dict(), 'set [batch] cold_start = "random"'),
    ):
        with pytest.raises(BadInput) as caught:
            load_text_tower(write(tmp_path, weights), "cpu")
        assert fact in str(caught.value)
    load_encoder(f"chexzero:{tmp_path}/best.pt", "cpu")  # whatever its texts are written in


def test_a_project_can_start_with_chexzeros_texts(tmp_path: Path) -> None:
    model = make_clip()
    spec = write(tmp_path, model.state_dict())
    items = []
    for i, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{i}.png")
        items.append(Item(f"{i:032x}", tmp_path / f"{i}.png", str(i), "active", None, {}))
    world = World(tmp_path)
    settings = world.settings(
        batch='cold_start = "zero_shot"', encoder=f'spec = "{spec}"\ndevice = "cpu"', prompts="words = {}"
    )
    with world.state() as state:
        tower = find_tower(settings, state)
        assert tower is not None
        encoder = load_encoder(spec, "cpu")
        zero_shot = score_by_texts(settings, state, encoder, tower, items, lambda *_: None, EPOCH)
    found = zero_shot.score([item.item for item in items])  # (2, K)
    image = tower.embed_images([encoder.preprocess(PICTURES[0])])[0]
    sides = [
        tower.embed_text([text.replace("{finding}", "effusion") for text in texts]).mean(axis=0)
        for texts in (settings.prompts.positive, settings.prompts.negative)
    ]
    with_, without = (side / np.linalg.norm(side) for side in sides)
    expected = 1 / (1 + np.exp(-tower.scale * image @ (with_ - without)))
    assert found[0, 0] == pytest.approx(expected, rel=2e-2)
    assert found.shape == (2, 2)
