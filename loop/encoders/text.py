"""Text towers: images and texts in one space, so that a text can score an image before any label exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loop.errors import BadInput


class TextTower(Protocol):
    """A model trained on pairs of images and texts.

    Attributes:
        fingerprint: Hash of all its weights, of the preprocessing and of the tokenizer.
        scale: By what a cosine is multiplied to give a logit.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing and tokenizer."""
        ...

    @property
    def scale(self) -> float:
        """By what a cosine is multiplied to give a logit."""
        ...

    def embed_images(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of images prepared by the encoder of the same spec, shape ``(n, p)``, of length one."""
        ...

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, shape ``(t, p)``, of length one; a text longer than the tower reads is cut."""
        ...


def load_text_tower(spec: str, device: str = "auto", allow_pickle: str = "") -> TextTower:
    """Load the model of an encoder with its text tower: any of open_clip, CLIP and SigLIP of transformers, CheXzero.

    Args:
        spec: As for `loop.encoders.load_encoder`.
        device: Likewise.
        allow_pickle: Likewise.

    Raises:
        BadInput: The family or the model has no text tower, or its files are not on this machine.
    """
    family, _, name = spec.partition(":")
    if family == "open_clip":
        from loop.encoders.open_clip_family import load_open_clip_text

        return load_open_clip_text(spec, name, device, allow_pickle)
    if family == "hf":
        from loop.encoders.hf_family import load_hf_text

        return load_hf_text(spec, name, device)
    if family == "int8":  # texts meet images in float
        return load_text_tower(name, device, allow_pickle)
    if family == "chexzero":
        from loop.encoders.chexzero_family import load_chexzero_text

        return load_chexzero_text(spec, name, device, allow_pickle)
    raise BadInput(
        f'[batch] cold_start = "zero_shot" needs an encoder with a text tower, and {spec} has none. Take one that has, e.g. '
        'open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, or set cold_start = "random".'
    )
