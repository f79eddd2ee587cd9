"""`torchxrayvision:` models: classifiers of chest radiographs, their pooled features; grey values in [-1024, 1024]."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from loop.encoders.catalogue import XRV_FOLDER
from loop.encoders.frozen import FrozenEncoder, freeze
from loop.encoders.specs import did_you_mean
from loop.encoders.weights import fill, read_weights
from loop.errors import BadInput, first_line
from loop.paths import expand_home

KINDS = ("densenet121-", "resnet50-")
VALUES = ((2 * (np.arange(256, dtype=np.float32) / 255) - 1.0) * 1024).astype(np.float32)  # of each grey


def load_torchxrayvision(spec: str, name: str, device: str, allow_pickle: str = "") -> FrozenEncoder:
    """Load a model of torchxrayvision; its vector is the pooled feature before the classifier (1024 or 2048).

    The DenseNets are published as pickled whole models, which can run any code: they are loaded only if the file is
    allowed by name. A state dictionary saved from one needs no permission.

    Args:
        spec: How it was asked for.
        name: ``densenet121-res224-all`` and its siblings or ``resnet50-res512-all``; ``NAME@FILE`` if its weights do not
            lie in the library's own folder.
        device: ``auto`` or a torch device.
        allow_pickle: Name of a weights file that may be loaded although it is a pickle.

    Raises:
        BadInput: The library is not installed, has no such model, or its weights are not here or not allowed.
    """
    xrv = _library()
    model_name, _, file = name.partition("@")
    known = {key: held for key, held in xrv.models.model_urls.items() if key.startswith(KINDS)}
    if model_name not in known:
        raise BadInput(
            f"torchxrayvision has no model {model_name!r}; it has {', '.join(known)}.{did_you_mean(model_name, known)}"
        )
    about = known[model_name]
    path = expand_home(file) if file else _own_file(xrv, model_name, about["weights_url"], allow_pickle)
    weights = read_weights(path, allow_pickle)
    part, forward = (
        _dense(xrv, weights, path) if model_name.startswith("densenet") else _residual(weights, path)
    )
    preprocessing = Preprocessing(int(about["input_resolution"]))
    return freeze(spec, part, forward, preprocessing, f"torchxrayvision {preprocessing!r}", device)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The library's own: grey values from -1024 to 1024, the centre square, resized as scikit-image does."""

    size: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Prepare an image: ``(1, size, size)``."""
        grey = np.asarray(image.convert("L"))  # (h, w)
        height, width = grey.shape
        side = min(height, width)
        top, left = height // 2 - side // 2, width // 2 - side // 2
        square = VALUES[grey[top : top + side, left : left + side]]
        return torch.from_numpy(_resize(square, self.size)[None])


def _resize(square: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """What ``skimage.transform.resize`` makes of a square with its defaults, shape ``(size, size)``.

    To make it smaller is written out, in the same order of operations, hence to the last bit: that takes a fifth of the
    time, and DenseNet-121's many small layers wait for every thread that holds the interpreter.
    """
    side = len(square)
    if side < size:
        from skimage.transform import resize

        made = resize(square, (size, size), mode="constant", preserve_range=True)  # type: ignore[no-untyped-call]
        return np.asarray(made, dtype=np.float32)
    smooth = gaussian_filter(square, (side / size - 1) / 2, mode="grid-constant")
    at = (np.arange(size) + 0.5) * (side / size) - 0.5
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, side - 1)
    weight = at - low  # (size,), of the pixel at `high`
    upper, lower = smooth[low] * (1 - weight)[:, None], smooth[high] * weight[:, None]  # (size, side)
    made = upper.take(low, axis=1) * (1 - weight)  # (size, size)
    made += upper.take(high, axis=1) * weight
    made += lower.take(low, axis=1) * (1 - weight)
    made += lower.take(high, axis=1) * weight
    return np.asarray(made.astype(np.float32).clip(square.min(), square.max()))


def _library() -> Any:
    try:
        with warnings.catch_warnings():  # importing it silences all warnings for good
            import torchxrayvision
    except ImportError:
        raise BadInput("torchxrayvision is not installed: pip install 'annotation-loop[xrv]'.") from None
    return torchxrayvision


def _own_file(xrv: Any, name: str, url: str, allow_pickle: str) -> Path:
    """The library's own copy of the weights, fetched if it may be; what would be refused is not fetched."""
    from huggingface_hub import constants

    path = XRV_FOLDER.expanduser() / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    absent = (
        f"The weights of torchxrayvision:{name} are not on this machine. To work offline, copy {url} to {path}, or anywhere "
        f'and set [encoder] spec = "torchxrayvision:{name}@/path/to/{path.name}".'
    )
    if name.startswith("densenet") and path.name != allow_pickle:
        raise BadInput(
            f"{absent} They are a pickled model, which can run any code when it is loaded: if you trust them, set [encoder] "
            f'allow_pickle = "{path.name}".'
        )
    if constants.HF_HUB_OFFLINE:
        raise BadInput(f"{absent} Nothing is fetched, because HF_HUB_OFFLINE is set.")
    whole = path.with_name(f".{path.name}.{os.getpid()}")  # older versions of the library write in place
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            xrv.utils.download(url, os.fspath(whole))
        whole.replace(path)
    except OSError as error:  # requests' errors are OSErrors
        raise BadInput(f"{absent} They cannot be fetched ({first_line(error, 160)}).") from None
    finally:
        whole.unlink(missing_ok=True)
    return path


def _dense(xrv: Any, weights: dict[str, torch.Tensor], path: Path) -> tuple[torch.nn.Module, Any]:
    model = xrv.models.DenseNet()
    fill(model, weights, path, "features.")
    return model.features, model.features2


def _residual(weights: dict[str, torch.Tensor], path: Path) -> tuple[torch.nn.Module, Any]:
    from torchvision.models import resnet50

    model: Any = resnet50(weights=None)
    model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    model.fc = torch.nn.Identity()
    fill(model, weights, path)
    return model, model
