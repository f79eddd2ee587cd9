"""Update a column of distances and end the process with SIGKILL after some chunks. Called by the kill test.

python killed_nearest.py FOLDER N_LABELLED AFTER_CHUNKS      0 = to the end
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.features import FeatureTable
from loop.nearest import MARK, update_nearest
from loop.probe import fit_projection
from loop.strategies.pool import CHUNK

N_CHUNKS = MARK + 5
M, D = (N_CHUNKS - 1) * CHUNK + 200, 4
IDS = [f"{i:06d}" for i in range(M + 50)]


class Counted(FeatureTable):
    """Embeddings that count the chunks of the pool that were read, and may end the process."""

    n_read = 0
    last = 0

    def read(self, items: list[str]) -> NDArray[np.float32]:  # type: ignore[override]
        if len(items) > 100:
            if self.last and self.n_read == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.n_read += 1
        return super().read(items)


def run(folder: Path, n_labelled: int, last: int) -> tuple[NDArray[np.float32], int]:
    """The column, and how many chunks were read for it."""
    x = np.random.default_rng(0).normal(size=(len(IDS), D)).astype(np.float32)
    features = Counted(IDS, x)
    features.last = last
    projection = fit_projection(x, 0)
    column = update_nearest(folder / "n.f32", IDS[:M], features, projection, IDS[M : M + n_labelled])
    return np.asarray(column), features.n_read


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
