"""`open_clip:` models: the image tower, with the preprocessing that its weights ship."""

from __future__ import annotations

import difflib
from pathlib import Path

import open_clip
import torch

from loop.encoders.frozen import FrozenEncoder, freeze, read_weights
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
        return _frozen(spec, model, transform, device)
    arch, _, weights = name.partition("@")
    if arch not in open_clip.list_models():
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        raise BadInput(
            f"open_clip has no architecture {arch!r}. " + (f"Did you mean {', '.join(near)}?" if near else "")
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights in tags:
        model, transform = _fetched(arch, weights)
        return _frozen(spec, model, transform, device)
    path = Path(weights).expanduser()
    if not weights or not path.is_file():
        raise BadInput(
            f"[encoder] spec = {spec!r}: {weights or 'nothing'} is neither a checkpoint on this machine nor one of the "
            f"pretrained tags of {arch}: {', '.join(tags) or 'it has none'}."
        )
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=None)
    missing, _ = model.load_state_dict(read_weights(path), strict=False)
    if lacking := [key for key in missing if key.startswith("visual.")]:
        raise BadInput(
            f"{path} lacks {len(lacking)} weights of {arch}'s image tower, e.g. {lacking[0]}: another architecture?"
        )
    return _frozen(spec, model, transform, device)


def _fetched(arch: str, tag: str | None) -> tuple[torch.nn.Module, object]:
    try:
        model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=tag)
    except Exception as error:  # the hub's client raises a dozen kinds of its own
        raise BadInput(
            f"The weights of open_clip:{arch}{f'@{tag}' if tag else ''} are not on this machine and cannot be fetched "
            f"({str(error).splitlines()[0][:160]}). To work offline, copy the repository's files into the hub cache "
            "(HF_HOME) of this machine, or give a checkpoint: open_clip:ARCH@/path/to/open_clip_model.safetensors."
        ) from None
    return model, transform


def _frozen(spec: str, model: torch.nn.Module, transform: object, device: str) -> FrozenEncoder:
    encode: object = model.encode_image
    return freeze(spec, model, encode, transform, f"open_clip {transform!r}", device)  # type: ignore[arg-type]
