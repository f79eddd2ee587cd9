"""The image processor that a repository ships, as a function that threads may call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor
from transformers.utils import logging

from loop.errors import BadInput, first_line

Transform = Callable[[Image.Image], torch.Tensor]
PROBES = (
    (97, 61),
    (40, 83),
    (64, 64),
)  # sizes, odd ones too, on which the short way must give the same bytes


@dataclass(frozen=True, slots=True)
class Steps:
    """Resize, crop, and a value for each grey: what image processors of vision towers do.

    Attributes:
        short: The short side after resizing; 0 = squashed to ``size``.
        size: Height and width after resizing where ``short`` is 0.
        resample: PIL's filter.
        crop: Height and width of the centre that is kept; None = all.
        values: What each grey becomes, shape ``(3, 256)``.
    """

    short: int
    size: tuple[int, int]
    resample: Image.Resampling
    crop: tuple[int, int] | None
    values: NDArray[np.float32] = field(repr=False)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Prepare an RGB image: ``(3, height, width)``."""
        height, width = self.size
        if self.short:
            least = min(image.size)
            width, height = (
                int(self.short * side / least) if side > least else self.short for side in image.size
            )
        pixels = np.asarray(image.resize((width, height), self.resample))  # (h, w, 3)
        if self.crop is not None:
            top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
            pixels = pixels[top : top + self.crop[0], left : left + self.crop[1]]
        return torch.from_numpy(np.stack([self.values[i][pixels[..., i]] for i in range(3)]))


def read_processor(folder: Path) -> tuple[Transform, str]:
    """The preprocessing a folder ships, and a text that says all it does.

    PIL does the resizing, as when these models were trained; torchvision's differs in the last bits. Where a
    processor's steps are the usual ones a short way is taken, provided that it gives the same bytes.

    Raises:
        BadInput: The folder's image processor cannot be used.
    """
    pictures = [_noise(*size) for size in PROBES]
    try:
        with silent():
            processor: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, backend="pil", trust_remote_code=False, local_files_only=True
            )

        def whole_way(image: Image.Image) -> torch.Tensor:
            pixels: torch.Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
            return pixels

        made = [whole_way(picture) for picture in pictures]
        shapes = sorted({tuple(pixels.shape) for pixels in made})
        said = sorted((key, value) for key, value in processor.to_dict().items() if not key.startswith("_"))
        short_way = _short_way(processor)
        usual = short_way is not None and all(
            torch.equal(short_way(picture), pixels) for picture, pixels in zip(pictures, made, strict=True)
        )
    except Exception as error:  # fields of any kind, or none: whatever they lead the library to
        raise BadInput(
            f"{folder}: its preprocessor_config.json cannot be used ({first_line(error)}). Copy it anew from the model's "
            "repository; if it is whole, the model cannot be used here."
        ) from None
    if len(shapes) > 1 or len(shapes[0]) != 3:
        raise BadInput(
            f"{folder}: its preprocessor_config.json cannot be used: images become {' or '.join(map(str, shapes))}, and not "
            "all of one shape (3, height, width)."
        )
    return short_way if short_way is not None and usual else whole_way, repr(said)


@contextmanager
def silent() -> Iterator[None]:
    """Keep transformers' reports, of weights that we do not want and the like, and its progress bar from the terminal."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _short_way(processor: Any) -> Steps | None:
    """The processor's steps, if they are the usual ones."""
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        return None
    if size is None or processor.resample is None:
        return None
    if not (size.shortest_edge or (size.height and size.width)) or size.longest_edge:
        return None
    ramp = np.tile(np.arange(256, dtype=np.uint8), (3, 1))[:, None]  # (3, 1, 256)
    scaled = processor.rescale(ramp, processor.rescale_factor)
    values = processor.normalize(scaled, processor.image_mean, processor.image_std)
    return Steps(
        short=int(size.shortest_edge or 0),
        size=(int(size.height or 0), int(size.width or 0)),
        resample=Image.Resampling(processor.resample),
        crop=(int(crop.height), int(crop.width)) if crop else None,
        values=np.ascontiguousarray(values[:, 0], dtype=np.float32),
    )


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
