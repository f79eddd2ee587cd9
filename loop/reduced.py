"""Images reduced once and kept, so that the next encoder need not decode large files again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from loop.commits import whole
from loop.images import DAMAGED, Readable, open_image

RESAMPLING, GAP, DRAFT = Image.Resampling.BICUBIC, 3.0, 2
HOW = f"{RESAMPLING.name.lower()}, gap {GAP:g}, JPEG from {DRAFT} times the side"
"""All that makes the pixels of a copy, but the side: it names their folder and counts for an encoder's fingerprint."""


@dataclass(frozen=True, slots=True)
class ReducedImages:
    """Copies whose shorter side is at most ``side`` pixels, in PNG: a copy has the pixels that made it, without loss.

    Attributes:
        folder: Where the copies lie, named by content.
        side: Pixels of the shorter side; a smaller image stays as it is.
    """

    folder: Path
    side: int

    @classmethod
    def inside(cls, folder: Path, side: int) -> ReducedImages | None:
        """Copies in a hidden folder within another, which no walk over images finds; None for side 0."""
        name = f".reduced-{side}-{zlib.crc32(HOW.encode()):08x}"
        return cls(folder.absolute() / name, side) if side else None

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
        opened = open_image(path, least_side=DRAFT * self.side)
        image = reduce_image(opened, self.side)
        if image is opened:  # a copy would be no smaller
            return image
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole(kept, synced=False) as draft:  # a copy that is damaged is made again
            image.save(draft, format="PNG", compress_level=1)
        return image


def reduce_image(image: Image.Image, side: int) -> Image.Image:
    """Reduce an image to a shorter side of ``side`` pixels; one that is not larger stays as it is."""
    short = min(image.size)
    if short <= side:
        return image
    width, height = (max(1, round(length * side / short)) for length in image.size)
    return image.resize((width, height), RESAMPLING, reducing_gap=GAP)
