"""An encoder without torch, and pictures for it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.find import Found
from loop.items import Item, hash_images


@dataclass
class Pixels:
    """A picture of 4 by 4 greys is its own vector; it may stop in the middle, and takes its time."""

    stop_after: int = 1_000_000
    batches: list[int] = field(default_factory=list)
    spec: str = "pixels"
    dim: int = 16
    fingerprint: str = "pixels"
    batch_s: float = 0.0

    def preprocess(self, image: Image.Image) -> Any:
        return np.asarray(image.convert("L").resize((4, 4)), dtype=np.float32).reshape(16)

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        if len(self.batches) == self.stop_after:
            raise InterruptedError
        self.batches.append(len(inputs))
        time.sleep(self.batch_s)
        vectors = np.stack(list(inputs))
        vectors[vectors.max(axis=1) == 0] = np.inf  # a black picture makes this model overflow
        return vectors


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8))


def write_pictures(folder: Path, n: int) -> Path:
    """Small PNG files 000.png, 001.png, ... of greys at random."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        picture(i, (8, 8)).save(folder / f"{i:03}.png")
    return folder


def items_in(folder: Path) -> list[Item]:
    return list(hash_images([Found(path, None, {}) for path in sorted(folder.iterdir())]).items)


@dataclass
class NotedPixels(Pixels):
    """The same; notes how many images which process embedded."""

    folder: Path = Path()

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        with (self.folder / f"{os.getpid()}").open("a") as notes:
            notes.write(f"{len(inputs)}\n")
        return super().embed(inputs)


def noted_pixels(folder: Path, fingerprint: str = "pixels") -> list[NotedPixels]:
    folder.mkdir(exist_ok=True)
    return [NotedPixels(batch_s=0.05, folder=folder, fingerprint=fingerprint)]
