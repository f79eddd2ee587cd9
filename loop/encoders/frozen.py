"""What every torch encoder shares: a frozen model, its fingerprint, and a forward pass without surprises."""

from __future__ import annotations

import argparse
import difflib
import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from loop.errors import BadInput, first_line

CPU_BATCH = 4
"""Images of one forward pass on a CPU. Layers of more give their memory back to the system and take it anew, which cost
half of the time of EfficientNet-Lite0 and a third of ResNet-50's."""

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


@dataclass(frozen=True, slots=True)
class FrozenEncoder:
    """A frozen torch model.

    Attributes:
        spec: How it was asked for.
        dim: Length of its vectors.
        fingerprint: Hash of weights and preprocessing.
        transform: An RGB image to a tensor, shape ``(channels, height, width)``.
        forward: Tensors ``(n, channels, height, width)`` to vectors ``(n, dim)``.
        device: Where the model lies.
    """

    spec: str
    dim: int
    fingerprint: str
    transform: Callable[[Image.Image], torch.Tensor]
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
    return FrozenEncoder(spec, dim, fingerprint, transform, forward, place)


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
        raise BadInput(f"[encoder] device = {device!r} cannot be used here: {first_line(error)}") from None
    return place


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest known names; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" Did you mean {', '.join(near)}?" if near else ""


def split_vector(spec: str, name: str, *kinds: str) -> tuple[str, str]:
    """A name without its ``#KIND``, and the kind of vector that this asks for; without one, the first of the kinds.

    Raises:
        BadInput: The family has no such vector.
    """
    plain, mark, kind = name.rpartition("#")
    if not mark or "/" in kind:  # a folder may be named so
        return name, kinds[0]
    if kind not in kinds:
        raise BadInput(
            f"[encoder] spec = {spec!r}: #{kind} is no vector of this family; it has {', '.join(f'#{k}' for k in kinds)}."
        )
    return plain, kind


def fill(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: Path, part: str = "") -> None:
    """Load weights into a model; those whose name starts with ``part`` must all be there and fit.

    Raises:
        BadInput: They belong to another architecture.
    """
    wanted = model.state_dict()
    lacking = [name for name in wanted if name.startswith(part) and name not in weights]
    if lacking:
        raise BadInput(
            f"{source} lacks {len(lacking)} weights of the model, e.g. {lacking[0]}: it belongs to another architecture."
        )
    for name, tensor in weights.items():
        if name.startswith(part) and name in wanted and wanted[name].shape != tensor.shape:
            raise BadInput(
                f"{source} holds {name} in shape {tuple(tensor.shape)}, but the model has {tuple(wanted[name].shape)}: "
                "it belongs to another architecture or another image size."
            )
    model.load_state_dict({n: t for n, t in weights.items() if n.startswith(part)}, strict=False)


def read_weights(path: Path, allow_pickle: str = "") -> dict[str, torch.Tensor]:
    """Read a state dictionary from safetensors or a torch file; nothing in the file is executed.

    Args:
        path: The file.
        allow_pickle: Name of the one file whose pickled objects are executed all the same, at the user's word.

    Raises:
        BadInput: No such file, no weights inside, or pickled objects that were not allowed.
    """
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in CHECKPOINTS and file.is_file())
        found = (
            f"Give one of those in it: {', '.join(inside)}."
            if inside
            else f"Give a file; this one holds none ({', '.join(CHECKPOINTS)})."
        )
        raise BadInput(f"{path} is a folder and no checkpoint. {found}")
    if not path.is_file():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadInput(f"There is no checkpoint at {path}.{did_you_mean(path.name, beside)}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise BadInput(f"{path} is no safetensors file: {error}") from None
    held = _read_torch(path, allow_pickle)
    if isinstance(held, torch.nn.Module):
        for part in held.modules():  # models pickled by torch before 1.6 lack what state_dict() reads
            part.__dict__.setdefault("_non_persistent_buffers_set", set())
        held = held.state_dict()
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not all(isinstance(v, torch.Tensor) for v in held.values()):
        raise BadInput(f"{path} holds no state dictionary.")
    return {str(name).removeprefix("module."): tensor for name, tensor in held.items()}


def _read_torch(path: Path, allow_pickle: str) -> Any:
    """What a torch file holds: plain weights, or any objects in the one file that is allowed by name."""
    try:
        # MAE's checkpoints keep their arguments in a namespace
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol: what cannot be read is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        reason = first_line(error)
    if path.name != allow_pickle:
        raise BadInput(
            f"{path} holds no plain weights ({reason}). Pickled objects can run any code, so they are refused. Save its "
            f'weights as safetensors; or, if you trust whom it comes from, set [encoder] allow_pickle = "{path.name}".'
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the source of the pickled classes has changed since
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise BadInput(f"{path} cannot be unpickled: {first_line(error)}") from None
