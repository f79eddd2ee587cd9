"""An encoder that sees reduced images: other pixels, so another encoder as far as stored rows are concerned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.encoders import Encoder
from loop.encoders.devices import load_on_devices
from loop.errors import BadInput


@dataclass(frozen=True, slots=True)
class ReducingEncoder:
    """An encoder with the side to which images are reduced beforehand, by `loop.reduced`, in its name and fingerprint."""

    encoder: Encoder
    side: int

    @property
    def spec(self) -> str:
        """How it was asked for, with the side."""
        return named(self.encoder.spec, self.side)

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.encoder.dim

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing and side."""
        about = f"{self.encoder.fingerprint} reduced to {self.side}, bicubic, gap 3, JPEG from twice the side"
        return hashlib.sha256(about.encode()).hexdigest()[:32]

    def preprocess(self, image: Image.Image) -> Any:
        """Bring a reduced image into the model's input."""
        return self.encoder.preprocess(image)

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``."""
        return self.encoder.embed(inputs)


def named(spec: str, side: int) -> str:
    """How an encoder of reduced images is called; with side 0 as it is."""
    return f"{spec} (images of side {side})" if side else spec


def load_reducing(spec: str, devices: str, allow_pickle: str, side: int) -> list[Encoder]:
    """Load an encoder on devices, for images of a side; see `load_on_devices` and `reducing`."""
    return reducing(load_on_devices(spec, devices, allow_pickle), side)


def reducing(encoders: Sequence[Encoder], side: int) -> list[Encoder]:
    """The same encoders for reduced images; side 0 leaves them as they are.

    Raises:
        BadInput: The model looks at more pixels than the side has.
    """
    if not side:
        return list(encoders)
    height, width = encoders[0].preprocess(Image.new("RGB", (side, side))).shape[-2:]
    if side < max(height, width):
        raise BadInput(
            f"{encoders[0].spec} looks at {height} x {width} pixels; a side of {side} would blur them. "
            f"Take at least {max(height, width)}, or 0 for images as they are."
        )
    return [ReducingEncoder(encoder, side) for encoder in encoders]
