"""Weights from files: read without running anything in them, and loaded only where they fit."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from loop.encoders.specs import did_you_mean
from loop.errors import BadInput, first_line

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


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
        reason, objects = first_line(error), _find_objects(path, error)
    if not objects:
        raise BadInput(f"{path} is damaged, or no checkpoint of torch ({reason}). Copy it anew.")
    if path.name != allow_pickle:
        raise BadInput(
            f"{path} holds {objects} besides plain weights. They can run any code, so they are refused. Save its weights as "
            f'safetensors; or, if you trust whom it comes from, set [encoder] allow_pickle = "{path.name}" '
            f"(loop encode --allow-pickle {path.name})."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the source of the pickled classes has changed since
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise BadInput(f"{path} cannot be unpickled: {first_line(error)}") from None


def _find_objects(path: Path, error: Exception) -> str:
    """What a file holds that torch does not take for weights; empty if it cannot even be read."""
    said = str(error)
    if found := re.search(r"GLOBAL (\S+) was not an allowed global", said):
        return f"pickled objects ({found[1]})"
    if "TorchScript" in said:
        return "a program of TorchScript"
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80" or zipfile.is_zipfile(path)
    return "pickled objects" if pickled and isinstance(error, pickle.UnpicklingError) else ""
