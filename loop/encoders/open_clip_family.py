"""`open_clip:` models: the image tower, with the preprocessing that its weights ship."""

from __future__ import annotations

import os
from pathlib import Path

import open_clip
import torch
from huggingface_hub import constants

from loop.encoders.frozen import FrozenEncoder, did_you_mean, fill, freeze, read_weights
from loop.errors import BadInput


def load_open_clip(spec: str, name: str, device: str) -> FrozenEncoder:
    """Load an open_clip model; its vector is ``encode_image``, not normalised.

    Args:
        spec: How it was asked for.
        name: ``ARCH@PRETRAINED_TAG``, ``ARCH@CHECKPOINT`` or ``hf-hub:ORG/NAME``.
        device: ``auto`` or a torch device.

    Raises:
        BadInput: No such architecture or tag, or its weights are not on this machine and cannot be fetched.
    """
    if name.startswith("hf-hub:"):
        model, transform = _fetched(name, None)
        return _frozen(spec, name, model, transform, device)
    arch, _, weights = name.partition("@")
    if arch not in open_clip.list_models():
        raise BadInput(
            f"open_clip has no architecture {arch!r}.{did_you_mean(arch, open_clip.list_models())}"
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights in tags:
        model, transform = _fetched(arch, weights)
        return _frozen(spec, arch, model, transform, device)
    path = Path(weights).expanduser()
    if not weights or not path.is_file():
        raise BadInput(
            f"[encoder] spec = {spec!r}: {weights or 'nothing'} is neither a checkpoint on this machine nor one of the "
            f"pretrained tags of {arch}: {', '.join(tags) or 'it has none'}.{did_you_mean(weights, tags)}"
        )
    held = read_weights(path)
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=None)
    fill(model, held, path, "visual.")
    return _frozen(spec, arch, model, transform, device)


def _fetched(arch: str, tag: str | None) -> tuple[torch.nn.Module, object]:
    try:
        model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=tag)
    except Exception as error:  # the hub's client raises a dozen kinds of its own
        call = f"open_clip.create_model({arch!r}{f', pretrained={tag!r}' if tag else ''})"
        raise BadInput(
            f"The weights of open_clip:{arch}{f'@{tag}' if tag else ''} are not on this machine and cannot be fetched "
            f"({str(error).splitlines()[0][:160]}). To work offline, call {call} on a machine with a network and copy "
            f"what it fetched, {_place(arch, tag)}, to the same place here; or give a checkpoint: "
            "open_clip:ARCH@/path/to/model.safetensors."
        ) from None
    return model, transform


def _place(arch: str, tag: str | None) -> str:
    """Where the hub's client, or open_clip itself, looks for weights on this machine."""
    if tag is None:
        repository = arch.removeprefix("hf-hub:")
    else:
        about = open_clip.get_pretrained_cfg(arch, tag)
        repository = os.path.dirname(about.get("hf_hub", ""))
        if not repository:
            return str(Path("~/.cache/clip").expanduser() / os.path.basename(about.get("url", "")))
    return str(Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}")


def _frozen(spec: str, arch: str, model: torch.nn.Module, transform: object, device: str) -> FrozenEncoder:
    """Freeze the image tower; a text tower, which a checkpoint may lack, counts for nothing."""
    encode: object = model.encode_image
    return freeze(spec, model.visual, encode, transform, f"open_clip {arch} {transform!r}", device)  # type: ignore[arg-type]
