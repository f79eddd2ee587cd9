"""Frozen foundation models: an image in, a vector out. The only torch in the house."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.errors import BadInput

EXAMPLES = {
    "timm": "timm:tf_efficientnet_lite0, timm:resnet50.a1_in1k, timm:NAME@CHECKPOINT, timm:NAME@CHECKPOINT?size=512",
    "open_clip": "open_clip:ViT-B-32@openai, open_clip:ARCH@CHECKPOINT, open_clip:hf-hub:ORG/NAME",
    "hf": "hf:microsoft/rad-dino, hf:ORG/NAME@REVISION, hf:/path/to/folder, hf:ORG/NAME#projected",
    "torchxrayvision": "torchxrayvision:densenet121-res224-all, torchxrayvision:NAME@FILE",
    "chexzero": "chexzero:CHECKPOINT",
    "features": "features:TABLE.npz",
    "int8": "int8:hf:microsoft/rad-dino, int8:SPEC",
}


class Encoder(Protocol):
    """A frozen model that turns images into vectors.

    Attributes:
        spec: How it was asked for.
        dim: Length of its vectors.
        fingerprint: Hash of weights and preprocessing; equal fingerprints give equal vectors.
    """

    @property
    def spec(self) -> str:
        """How it was asked for."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights and preprocessing."""
        ...

    def preprocess(self, image: Image.Image) -> Any:
        """Bring an image into the model's input, a tensor of shape ``(channels, height, width)``; safe in threads."""
        ...

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``."""
        ...


def load_encoder(spec: str, device: str = "auto", allow_pickle: str = "") -> Encoder:
    """Load an encoder.

    Args:
        spec: ``family:name``, e.g. ``timm:tf_efficientnet_lite0``, ``open_clip:ViT-B-32@openai`` or
            ``hf:microsoft/rad-dino``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        allow_pickle: Name of the one checkpoint file that may be loaded although it is a pickle, which can run any code.

    Raises:
        BadInput: No such family or model, or its weights are not on this machine and cannot be fetched.
    """
    family, _, name = spec.partition(":")
    match family if name else "":
        case "timm":
            from loop.encoders.timm_family import load_timm

            return load_timm(spec, name, device, allow_pickle)
        case "open_clip":
            from loop.encoders.open_clip_family import load_open_clip

            return load_open_clip(spec, name, device, allow_pickle)
        case "hf":
            from loop.encoders.hf_family import load_hf

            return load_hf(spec, name, device)
        case "torchxrayvision":
            from loop.encoders.xrv_family import load_torchxrayvision

            return load_torchxrayvision(spec, name, device, allow_pickle)
        case "chexzero":
            from loop.encoders.chexzero_family import load_chexzero

            return load_chexzero(spec, name, device, allow_pickle)
        case "features":
            from loop.encoders.table import open_table

            return open_table(spec, name)
        case "int8":
            from loop.encoders.int8 import load_int8

            return load_int8(spec, name, device, allow_pickle)
    near = difflib.get_close_matches(family, EXAMPLES, n=1)
    meant = f" Did you mean {near[0]}:{name or 'NAME'}?" if near else ""
    examples = "; ".join(EXAMPLES.values())
    raise BadInput(
        f"[encoder] spec = {spec!r} names no encoder.{meant} Examples: {examples}. `loop encoders list` names them all."
    )
