"""What every torch encoder shares: a frozen model, its fingerprint, and a forward pass without surprises."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from loop.errors import BadInput, first_line

CPU_BATCH = 4
"""Images of one forward pass on a CPU. Layers of more give their memory back to the system and take it anew, which cost
half of the time of EfficientNet-Lite0 and a third of ResNet-50's."""


@dataclass(frozen=True, slots=True)
class FrozenEncoder:
    """A frozen torch model.

    Attributes:
        spec: How it was asked for.
        dim: Length of its vectors.
        fingerprint: Hash of weights and preprocessing.
        transform: An RGB image to a tensor, shape ``(channels, height, width)``.
        model: Holds the weights.
        forward: Tensors ``(n, channels, height, width)`` to vectors ``(n, dim)``.
        device: Where the model lies.
    """

    spec: str
    dim: int
    fingerprint: str
    transform: Callable[[Image.Image], torch.Tensor]
    model: torch.nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Bring an image into the model's input, shape ``(channels, height, width)``."""
        return self.transform(image.convert("RGB"))

    def embed(self, inputs: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Vectors of preprocessed images, shape ``(n, dim)``."""
        return embed_in_parts(lambda part: self.forward(_stacked(part, self.device)), inputs, self.device)


@dataclass(frozen=True, slots=True)
class FrozenTextTower:
    """A frozen torch model with its text tower: images and texts in one space.

    Attributes:
        fingerprint: Hash of all weights, of the preprocessing and of the tokenizer.
        scale: By what a cosine is multiplied to give a logit.
        forward: Images ``(n, channels, height, width)`` to vectors ``(n, p)``.
        read: Texts to vectors ``(t, p)``.
        device: Where the model lies.
    """

    fingerprint: str
    scale: float
    forward: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[Sequence[str]], torch.Tensor]
    device: torch.device

    def embed_images(self, inputs: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Vectors of images prepared by the encoder of the same spec, shape ``(n, p)``, of length one."""
        return self._unit(lambda part: self.forward(_stacked(part, self.device)), inputs)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, shape ``(t, p)``, of length one; a text longer than the tower reads is cut."""
        return self._unit(self.read, texts)

    def _unit(self, forward: Callable[[Any], torch.Tensor], inputs: Sequence[Any]) -> NDArray[np.float32]:
        vectors = torch.from_numpy(embed_in_parts(forward, inputs, self.device))
        return np.asarray(torch.nn.functional.normalize(vectors, dim=-1).numpy(), dtype=np.float32)


def embed_in_parts(
    forward: Callable[[Any], torch.Tensor], inputs: Sequence[Any], device: torch.device
) -> NDArray[np.float32]:
    """Vectors of images or texts, shape ``(n, p)``: on a CPU `CPU_BATCH` at a time, in half precision on CUDA only.

    Args:
        forward: Some of the inputs, a slice, to their vectors.
        inputs: All of them.
        device: Where the model lies.
    """
    size = CPU_BATCH if device.type == "cpu" else len(inputs)
    with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
        parts = [
            forward(inputs[start : start + size]).float().cpu().numpy()  # (m, p)
            for start in range(0, len(inputs), size)
        ]
    return np.asarray(np.concatenate(parts), dtype=np.float32)


def _stacked(images: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    return torch.stack(list(images)).to(device)  # (m, c, h, w)


def freeze(
    spec: str,
    model: torch.nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor],
    transform: Callable[[Image.Image], torch.Tensor],
    about: str,
    device: str,
) -> FrozenEncoder:
    """Freeze a model into an encoder; its vector length is measured, not guessed.

    Args:
        spec: How it was asked for.
        model: What the image passes through; its weights and kinds of layers count for the fingerprint.
        forward: How it gives the vector.
        transform: The preprocessing.
        about: A text that says the architecture and everything the preprocessing does.
        device: ``auto`` or a torch device.

    Raises:
        BadInput: The device is not there, or the model does not take what the preprocessing makes.
    """
    fingerprint, place = _settled(model, about, device)
    probe = transform(Image.new("RGB", (64, 64)))[None].to(place)  # (1, c, h, w)
    try:
        with torch.inference_mode():
            dim = int(forward(probe).shape[1])
    except Exception as error:  # a model of any kind: whatever these pixels lead it to
        height, width = probe.shape[-2:]
        raise BadInput(
            f"[encoder] spec = {spec!r}: this model does not take images of {height} x {width} pixels as they are prepared "
            f"for it ({first_line(error)}). Ask for the size that it was made for, or copy its files anew: they may not "
            "belong together."
        ) from None
    return FrozenEncoder(spec, dim, fingerprint, transform, model, forward, place)


def freeze_text_tower(
    model: Any,
    forward: Callable[[torch.Tensor], torch.Tensor],
    read: Callable[[Any], torch.Tensor],
    tokens: Callable[[Sequence[str]], Any],
    about: str,
    device: str,
) -> FrozenTextTower:
    """Freeze a model with both towers.

    Args:
        model: It, with its ``logit_scale``.
        forward: Images to vectors, as `FrozenTextTower` has it.
        read: Tokens on the device to vectors.
        tokens: Texts to tokens.
        about: A text that says the architecture and everything that the preprocessing and the tokenizer do.
        device: ``auto`` or a torch device.
    """
    fingerprint, place = _settled(model, about, device)
    scale = float(model.logit_scale.exp())
    return FrozenTextTower(
        fingerprint, scale, forward, lambda texts: read(tokens(list(texts)).to(place)), place
    )


def _settled(model: torch.nn.Module, about: str, device: str) -> tuple[str, torch.device]:
    """Freeze a model on its device: its fingerprint and the device."""
    model.eval().requires_grad_(False)
    layers = sorted({type(part).__name__ for part in model.modules()})  # GELU or QuickGELU: equal weights
    fingerprint = fingerprint_of(model.state_dict(), f"{about} {' '.join(layers)}")
    place = choose_device(device)
    model.to(place, torch.float32)  # half precision comes from autocast, and on CUDA only
    return fingerprint, place


def fingerprint_of(weights: Mapping[str, torch.Tensor], about: str) -> str:
    """Hash weights (names, shapes, bytes) and what is said about the model to 32 hexadecimal digits."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def choose_device(device: str) -> torch.device:
    """The device asked for; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        BadInput: It is not there.
    """
    if device == "auto":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a machine without a driver is no reason to warn
            if torch.cuda.is_available():
                return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"Device {device!r} cannot be used here ({first_line(error, 120)}). Ask for auto, cpu, cuda, cuda:1 or mps."
        ) from None
    return place
