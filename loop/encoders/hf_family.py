"""`hf:` models: vision towers of transformers, chosen by what their config.json says, prepared as they ship it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from loop.encoders.frozen import FrozenEncoder, FrozenTextTower, freeze, freeze_text_tower
from loop.encoders.hf_images import read_processor, silent
from loop.encoders.hub import WEIGHTS, find_folder
from loop.encoders.specs import did_you_mean, split_vector
from loop.errors import BadInput, first_line

VOCABULARY = ("tokenizer.json", "vocab.json", "spiece.model")
TOKENIZER = (
    *VOCABULARY,
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
SAID = (  # what changes a vector and is no weight
    "hidden_act",
    "image_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_register_tokens",
    "patch_size",
    "use_swiglu_ffn",
)
SAID_OF_TEXT = (*SAID, "eos_token_id")  # where the text ends stands its vector


@dataclass(frozen=True, slots=True)
class Tower:
    """How a kind of vision tower is loaded, and which of its outputs is the vector.

    Attributes:
        pooled: Class of the tower.
        vector: The pooled vector, from the tower's output.
        projected: Class of the tower with its projection; empty if the kind has none.
        resizes: Whether its position table follows the image's size.
        options: Further arguments of the class.
    """

    pooled: str
    vector: Callable[[Any], Any] = lambda out: out.pooler_output
    projected: str = ""
    resizes: bool = False
    options: tuple[tuple[str, Any], ...] = ()


CLIP = Tower("CLIPVisionModel", projected="CLIPVisionModelWithProjection")
SIGLIP = Tower("SiglipVisionModel")
TOWERS = {
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "dinov2": Tower("Dinov2Model", resizes=True),
    "dinov2_with_registers": Tower("Dinov2WithRegistersModel", resizes=True),
    # Many checkpoints lack the tanh pooler, which would then be random.
    "vit": Tower(
        "ViTModel", lambda out: out.last_hidden_state[:, 0], options=(("add_pooling_layer", False),)
    ),
}


def load_hf(spec: str, name: str, device: str) -> FrozenEncoder:
    """Load a vision tower of transformers; no code of a repository is run.

    The vector, by ``model_type``: ``clip`` = class token after the last layer norm, with ``#projected`` the image
    embedding beside the text; ``siglip`` = attention pooling, which is its image embedding, so it has no other;
    ``dinov2``, ``dinov2_with_registers`` (RAD-DINO is the former) and ``vit`` = class token after the last layer norm.
    None is normalised.

    Args:
        spec: How it was asked for.
        name: ``ORG/NAME``, ``ORG/NAME@REVISION`` or a folder with config.json, preprocessor_config.json and
            model.safetensors; ``#projected`` behind it asks for the projected vector.
        device: ``auto`` or a torch device.

    Raises:
        BadInput: Its files are not here and cannot be fetched, or are of another kind.
    """
    place, kind = split_vector(spec, name, "pooled", "projected")
    folder = find_folder(spec, place)
    model_type, tower = _find_tower(folder)
    if kind == "projected" and not tower.projected:
        raise BadInput(
            f"[encoder] spec = {spec!r}: {model_type} models have no projection besides their pooled vector. Leave "
            "#projected out."
        )
    model = _loaded(folder, tower.projected if kind == "projected" else tower.pooled, dict(tower.options))

    def forward(images: torch.Tensor) -> torch.Tensor:
        out = model(pixel_values=images)
        vectors: torch.Tensor = out.image_embeds if kind == "projected" else tower.vector(out)
        return vectors

    transform, said = read_processor(folder)
    _check_size(folder, transform, model.config, tower)
    about = f"hf {model_type} {kind} {_said_of(model.config, SAID)} {said}"
    return freeze(spec, model, forward, transform, about, device)


def load_hf_text(spec: str, name: str, device: str) -> FrozenTextTower:
    """Load a CLIP or SigLIP with its text tower.

    Args:
        spec: How it was asked for.
        name: As for `load_hf`; which vector is asked for makes no difference.
        device: ``auto`` or a torch device.

    Raises:
        BadInput: It has no text tower, or its files are not here and cannot be fetched.
    """
    place, _ = split_vector(spec, name, "pooled", "projected")
    folder = find_folder(spec, place, TOKENIZER)
    model_type, _ = _find_tower(folder)
    if model_type not in ("clip", "siglip"):
        raise BadInput(
            f"[encoder] spec = {spec!r}: a {model_type} model has no text tower; CLIP and SigLIP have."
        )
    model = _loaded(folder, "CLIPModel" if model_type == "clip" else "SiglipModel", {})
    tokenizer = _read_tokenizer(folder)
    longest = int(model.config.text_config.max_position_embeddings)
    padding = (
        "longest" if model_type == "clip" else "max_length"
    )  # SigLIP was trained on texts of full length

    def tokens(texts: Sequence[str]) -> Any:
        return tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")

    vision, text = model.config.vision_config, model.config.text_config
    transform, said = read_processor(folder)
    _check_size(folder, transform, vision, TOWERS[model_type])
    towers = f"{_said_of(vision, SAID)} {_said_of(text, SAID_OF_TEXT)}"
    return freeze_text_tower(
        model,
        lambda images: model.get_image_features(pixel_values=images).pooler_output,
        lambda tokens: model.get_text_features(**tokens).pooler_output,
        tokens,
        f"hf text {model_type} {towers} {said} {type(tokenizer).__name__} {_tokenizer_hashes(folder)}",
        device,
    )


def _read_tokenizer(folder: Path) -> Any:
    """The tokenizer that a folder ships; without its files the library would make an empty one."""
    reason = "there is none"
    if any((folder / file).is_file() for file in VOCABULARY):
        try:
            with silent():
                return transformers.AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True
                )
        except Exception as error:  # damaged files, or of another kind: whatever they lead the library to
            reason = first_line(error)
    raise BadInput(
        f"{folder}: the text tower's tokenizer cannot be used ({reason}). Copy tokenizer.json, tokenizer_config.json and "
        "special_tokens_map.json of the model's repository there, or what it has in their place."
    )


def _tokenizer_hashes(folder: Path) -> list[tuple[str, str]]:
    held = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in held]


def _said_of(config: Any, keys: Sequence[str]) -> list[tuple[str, Any]]:
    return [(key, getattr(config, key, None)) for key in keys]


def _find_tower(folder: Path) -> tuple[str, Tower]:
    try:
        model_type = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{folder / 'config.json'} names no `model_type`, as a repository for transformers does."
        ) from None
    if model_type not in TOWERS:
        raise BadInput(
            f"{folder} holds a {model_type!r}; of transformers these can be used: {', '.join(TOWERS)}."
            f"{did_you_mean(model_type, TOWERS)} Other models may be found as timm: or open_clip:."
        )
    return model_type, TOWERS[model_type]


def _loaded(folder: Path, kind: str, options: dict[str, Any]) -> Any:
    """A model with all its weights from the folder, in float32; one that would be random is refused."""
    safe = (folder / WEIGHTS[0]).is_file() or (folder / WEIGHTS[1]).is_file()
    try:
        with silent():
            model, found = getattr(transformers, kind).from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=safe,  # what is no safetensors is read with weights_only=True
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # damaged files, or of another kind: whatever their bytes lead the library to
        raise BadInput(f"{folder} cannot be loaded as {kind}: {first_line(error)}") from None
    if not getattr(getattr(model.config, "vision_config", model.config), "vision_use_head", True):
        raise BadInput(
            f"{folder}: its image tower was published without the pooling that gives the vector (vision_use_head = false). "
            "Take a model that has it."
        )
    if lacking := sorted(found["missing_keys"]):
        raise BadInput(
            f"{folder} lacks {len(lacking)} weights of {kind}, e.g. {lacking[0]}: config.json and weights do not belong "
            "together, or the part that was asked for is not there."
        )
    return model


def _check_size(folder: Path, transform: Callable[..., torch.Tensor], config: Any, tower: Tower) -> None:
    """Check that the image processor makes what the tower takes."""
    from PIL import Image

    made = tuple(transform(Image.new("RGB", (64, 48))).shape[1:])
    size = config.image_size
    wanted = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    if made != wanted and not tower.resizes:
        raise BadInput(
            f"{folder}: the image processor makes images of {made[0]} x {made[1]}, but the tower takes {wanted[0]} x "
            f"{wanted[1]}. preprocessor_config.json and config.json do not belong together."
        )
