"""`open_clip:` models: the image tower, with the preprocessing that its weights ship; on request with the text tower."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from loop.encoders.frozen import FrozenEncoder, FrozenTextTower, freeze, freeze_text_tower
from loop.encoders.hub import cache_folder
from loop.encoders.specs import did_you_mean, split_vector
from loop.encoders.weights import fill, read_weights
from loop.errors import BadInput, first_line
from loop.paths import expand_home

CONFIG = "open_clip_config.json"
UNUSABLE = (  # what open_clip, torch and the hub's client raise for files that are absent, damaged or of another kind
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
SHIPPED = ("mean", "std", "interpolation", "resize_mode")


def load_open_clip(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenEncoder:
    """Load an open_clip model; its vector is ``encode_image``, the image embedding beside the text, not normalised.

    With ``#pooled`` behind the name it is what the projection into that space is given: for a probe often the better one.

    A checkpoint file gets the preprocessing of an ``open_clip_config.json`` beside it; without one, that of the
    architecture's published weights. Its activation is the architecture's: weights trained with QuickGELU, such as
    OpenAI's, need the one whose name ends in ``-quickgelu``.

    Args:
        spec: How it was asked for.
        name: ``ARCH@PRETRAINED_TAG``, ``ARCH@CHECKPOINT``, ``hf-hub:ORG/NAME`` or ``local-dir:FOLDER``, a folder
            with the files of a hub repository.
        device: ``auto`` or a torch device.
        allow_pickle: Name of a checkpoint that may be loaded although it is a pickle.

    Raises:
        BadInput: No such architecture or tag, or its weights are not on this machine and cannot be fetched.
    """
    name, kind = split_vector(spec, name, "projected", "pooled")
    arch, model = _load(spec, name, "visual.", allow_pickle)
    return _frozen(spec, arch, model, device, kind)


def load_open_clip_text(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenTextTower:
    """Load an open_clip model with its text tower and tokenizer.

    Args:
        spec: How it was asked for.
        name: As for `load_open_clip`.
        device: ``auto`` or a torch device.
        allow_pickle: See `load_open_clip`.

    Raises:
        BadInput: As `load_open_clip`, or the weights of the text tower or the tokenizer's files are not here.
    """
    name, _ = split_vector(spec, name, "projected", "pooled")
    arch, model = _load(spec, name, "", allow_pickle)
    try:
        tokens: Any = open_clip.get_tokenizer(arch)
    except UNUSABLE as error:
        raise BadInput(
            f"The tokenizer of {spec} cannot be loaded ({first_line(error)}). To work offline, copy the tokenizer files of its "
            'repository beside its weights, or set [batch] cold_start = "random".'
        ) from None
    towers: Any = model
    made = open_clip.get_model_config(arch)  # heads and the like, which are no weights
    about = f"open_clip text {made} {_transform(towers)!r} {say_tokenizer(tokens)}"
    return freeze_text_tower(towers, towers.encode_image, towers.encode_text, tokens, about, device)


def say_tokenizer(tokens: Any) -> str:
    """What a tokenizer does: its kind, vocabulary and rules."""
    held = getattr(tokens, "tokenizer", tokens)  # one of transformers, or open_clip's own
    if (backend := getattr(held, "backend_tokenizer", None)) is not None:
        rules = backend.to_str()
    else:
        rules = sorted((held.encoder if held is tokens else held.get_vocab()).items())
    marks = [getattr(held, key, None) for key in ("special_tokens_map", "padding_side", "truncation_side")]
    return f"{type(tokens).__name__} {type(held).__name__} {marks} {rules}"


def _load(spec: str, name: str, part: str, allow_pickle: str) -> tuple[str, torch.nn.Module]:
    """The architecture and the model; weights whose name starts with ``part`` must all be there."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, _created(name, None)
    arch, _, weights = name.partition("@")
    if arch not in open_clip.list_models():
        raise BadInput(
            f"open_clip has no architecture {arch!r}.{did_you_mean(arch, open_clip.list_models())}"
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights in tags:
        return arch, _created(arch, weights)
    path = expand_home(weights)
    if not weights or not path.is_file():
        raise BadInput(
            f"[encoder] spec = {spec!r}: {weights or 'nothing'} is neither a checkpoint on this machine nor one of the "
            f"pretrained tags of {arch}: {', '.join(tags) or 'it has none'}.{did_you_mean(weights, tags)}"
        )
    held = read_weights(path, allow_pickle)
    preprocessing = _read_preprocessing(arch, tags, path)
    try:
        model = open_clip.create_model(arch, pretrained_text=False, force_preprocess_cfg=preprocessing)
    except (ImportError, RuntimeError) as error:  # a text tower of transformers, which is not installed
        raise BadInput(f"open_clip cannot build {arch}: {first_line(error)}") from None
    fill(model, held, path, part)
    return arch, model


def _created(arch: str, tag: str | None) -> torch.nn.Module:
    """A model with published weights and the activation they were trained with; never one with random weights."""
    quick_gelu = bool(tag and open_clip.get_pretrained_cfg(arch, tag).get("quick_gelu"))
    try:
        model: torch.nn.Module = open_clip.create_model(
            arch, tag, force_quick_gelu=quick_gelu, pretrained_text=False, require_pretrained=True
        )
    except UNUSABLE as error:
        asked = f"open_clip:{arch}{f'@{tag}' if tag else ''} cannot be loaded ({first_line(error)})."
        if arch.startswith("local-dir:"):
            raise BadInput(
                f"{asked} The folder must hold {CONFIG} and open_clip_model.safetensors."
            ) from None
        call = f"open_clip.create_model({arch!r}{f', pretrained={tag!r}' if tag else ''})"
        folder = (
            " or, with its files in one folder, open_clip:local-dir:/path/to/folder" if tag is None else ""
        )
        exact = f"{arch.removesuffix('-quickgelu')}-quickgelu" if quick_gelu else arch
        file = f" or open_clip:{exact}@/path/to/open_clip_model.safetensors" if tag else ""
        raise BadInput(
            f"{asked} To work offline, call {call} on a machine with a network and copy what it fetched, "
            f"{_place(arch, tag)}, to the same place here; or give{(folder + file).removeprefix(' or')}."
        ) from None
    return model


def _read_preprocessing(arch: str, tags: Sequence[str], path: Path) -> dict[str, Any]:
    """What a checkpoint ships, or else what all published weights of its architecture share."""
    beside = path.with_name(CONFIG)
    if beside.is_file():
        try:
            told: Mapping[str, Any] = json.loads(beside.read_text(encoding="utf-8"))["preprocess_cfg"]
            return dict(told)
        except (KeyError, TypeError, ValueError):
            raise BadInput(
                f"{beside} holds no `preprocess_cfg`, as a hub repository's {CONFIG} does."
            ) from None
    known: list[dict[str, Any]] = []
    for tag in tags:
        about = open_clip.get_pretrained_cfg(arch, tag)
        shipped = {name: about[name] for name in SHIPPED if name in about}
        if shipped not in known:
            known.append(shipped)
    if len(known) > 1:
        raise BadInput(
            f"The published weights of {arch} differ in preprocessing, so {path.name} does not say how to prepare an "
            f"image. Put its {CONFIG} beside it, with mean, std and resize_mode under `preprocess_cfg`."
        )
    return known[0] if known else {}


def _place(arch: str, tag: str | None) -> str:
    """Where the hub's client, or open_clip itself, looks for weights on this machine."""
    if tag is None:
        repository = arch.removeprefix("hf-hub:")
    else:
        about = open_clip.get_pretrained_cfg(arch, tag)
        repository = os.path.dirname(about.get("hf_hub", ""))
        if not repository:
            return str(Path("~/.cache/clip").expanduser() / os.path.basename(about.get("url", "")))
    return str(cache_folder(repository))


def _frozen(spec: str, arch: str, model: torch.nn.Module, device: str, kind: str) -> FrozenEncoder:
    """Freeze the image tower; a text tower, which a checkpoint may lack, counts for nothing."""
    tower: Any = model.visual
    transform = _transform(model)
    encode: Any = model.encode_image
    made = open_clip.get_model_config(
        arch
    )  # heads and the like, which are no weights; not where they come from
    said = [made[key] for key in ("embed_dim", "vision_cfg")]
    if kind == "pooled":
        _drop_projection(spec, tower)
    return freeze(spec, tower, encode, transform, f"open_clip {kind} {said} {transform!r}", device)


def _drop_projection(spec: str, tower: Any) -> None:
    """Leave an image tower at its pooled vector."""
    if getattr(tower, "proj", None) is not None:
        tower.proj = None
    elif hasattr(tower, "trunk") and hasattr(tower, "head"):
        tower.head = torch.nn.Identity()
    else:
        raise BadInput(f"[encoder] spec = {spec!r}: this tower pools and projects in one. Leave #pooled out.")


def _transform(model: Any) -> Any:
    return image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
