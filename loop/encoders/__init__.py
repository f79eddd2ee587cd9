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
    "timm": "timm:tf_efficientnet_lite0, timm:resnet50.a1_in1k, timm:NAME@CHECKPOINT",
    "open_clip": "open_clip:ViT-B-32@openai, open_clip:ARCH@CHECKPOINT, open_clip:hf-hub:ORG/NAME",
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
        """Bring an image into the model's input, a tensor of shape ``(3, height, width)``; safe in threads."""
        ...

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``."""
        ...


def load_encoder(spec: str, device: str = "auto") -> Encoder:
    """Load an encoder.

    Args:
        spec: ``family:name``, e.g. ``timm:tf_efficientnet_lite0`` or ``open_clip:ViT-B-32@openai``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        BadInput: No such family or model, or its weights are not on this machine and cannot be fetched.
    """
    family, _, name = spec.partition(":")
    if family == "timm" and name:
        from loop.encoders.timm_family import load_timm

        return load_timm(spec, name, device)
    if family == "open_clip" and name:
        from loop.encoders.open_clip_family import load_open_clip

        return load_open_clip(spec, name, device)
    near = difflib.get_close_matches(family, EXAMPLES, n=1)
    meant = f" Did you mean {near[0]}:{name or 'NAME'}?" if near else ""
    examples = "; ".join(EXAMPLES.values())
    raise BadInput(f"[encoder] spec = {spec!r} names no encoder.{meant} Examples: {examples}.")
