"""Images reduced once and kept, so that the next encoder need not decode large files again."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from loop.images import DAMAGED, Readable, open_image


@dataclass(frozen=True, slots=True)
class ReducedImages:
    """Copies whose shorter side is at most ``side`` pixels, in PNG: a copy has the pixels that made it, without loss.

    Attributes:
        folder: Where the copies lie, named by content.
        side: Pixels of the shorter side; a smaller image stays as it is.
    """

    folder: Path
    side: int

    def open(self, item: str, path: Readable) -> Image.Image:
        """Open the copy of an image, made if it is not there or damaged; safe in threads and between processes.

        Raises:
            BadImage: There is no copy, and the image cannot be opened.
        """
        kept = self.folder / item[:2] / f"{item}.png"
        try:
            with Image.open(kept, formats=("PNG",)) as copy:
                copy.load()
                return copy
        except DAMAGED:
            pass
        image = reduce_image(open_image(path, least_side=2 * self.side), self.side)
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f".{item}.{os.getpid()}.{threading.get_ident()}")
        try:
            image.save(draft, format="PNG", compress_level=1)
            draft.replace(kept)
        finally:
            draft.unlink(missing_ok=True)
        return image


def reduce_image(image: Image.Image, side: int) -> Image.Image:
    """Reduce an image to a shorter side of ``side`` pixels; one that is not larger stays as it is."""
    short = min(image.size)
    if short <= side:
        return image
    width, height = (max(1, round(length * side / short)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
