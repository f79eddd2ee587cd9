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
from loop.encoders.table import TableEncoder
from loop.errors import BadInput
from loop.reduced import HOW, ReducedImages


@dataclass(frozen=True, slots=True)
class ReducingEncoder:
    """An encoder that is shown reduced copies; how they are made is part of its name and fingerprint."""

    encoder: Encoder
    copies: ReducedImages

    @property
    def spec(self) -> str:
        """How it was asked for, with the side."""
        return named(self.encoder.spec, self.copies.side)

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.encoder.dim

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing, side and how images are reduced to it."""
        about = f"{self.encoder.fingerprint} reduced to {self.copies.side}, {HOW}"
        return hashlib.sha256(about.encode()).hexdigest()[:32]

    def preprocess(self, image: Image.Image) -> Any:
        """Bring a reduced copy into the model's input."""
        return self.encoder.preprocess(image)

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``."""
        return self.encoder.embed(inputs)


def named(spec: str, side: int) -> str:
    """How an encoder of reduced images is called; with side 0 as it is."""
    return f"{spec} (images of side {side})" if side else spec


def load_reducing(spec: str, devices: str, allow_pickle: str, copies: ReducedImages | None) -> list[Encoder]:
    """Load an encoder on devices, for reduced copies; see `load_on_devices` and `reducing`."""
    return reducing(load_on_devices(spec, devices, allow_pickle), copies)


def reducing(encoders: Sequence[Encoder], copies: ReducedImages | None) -> list[Encoder]:
    """The same encoders for reduced copies; None leaves them as they are.

    Raises:
        BadInput: The model looks at more pixels than the copies have, or at none.
    """
    if copies is None:
        return list(encoders)
    side = copies.side
    if isinstance(encoders[0], TableEncoder):
        raise BadInput(
            f"{encoders[0].spec} opens no image, so there is nothing to reduce: set [images] side = 0."
        )
    height, width = encoders[0].preprocess(Image.new("RGB", (side, side))).shape[-2:]
    if side < max(height, width):
        raise BadInput(
            f"{encoders[0].spec} looks at {height} x {width} pixels; a side of {side} would blur them. "
            f"Take at least {max(height, width)}, or 0 for images as they are."
        )
    return [ReducingEncoder(encoder, copies) for encoder in encoders]
