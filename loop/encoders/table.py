"""`features:` tables: embeddings that somebody else computed, found by the images' names. No torch."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.errors import BadInput
from loop.features import storable
from loop.paths import expand_home


@dataclass(frozen=True, slots=True)
class FoundRows:
    """The row of each image, by item id; and the images without one: path and reason."""

    rows: Mapping[str, int]
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TableEncoder:
    """A table of embeddings in an encoder's place: it looks images up, and cannot take in new ones.

    Attributes:
        spec: How it was asked for.
        dim: Length of its vectors.
        fingerprint: Hash of the whole table.
        path: The file.
        names: The images, n of them.
        table: Their vectors, shape ``(n, dim)``.
    """

    spec: str
    dim: int
    fingerprint: str
    path: Path
    names: Sequence[str]
    table: NDArray[Any]

    def find(self, paths: Mapping[str, Path]) -> FoundRows:
        """Find each image's row: the one whose name its path ends with, the longest of several.

        Args:
            paths: Image files by item id.
        """
        row_of = {name: row for row, name in enumerate(self.names)}
        rows: dict[str, int] = {}
        for item, path in paths.items():
            tails = ("/".join(path.parts[first:]) for first in range(1, len(path.parts)))
            ends = (path.as_posix(), *tails)
            if (name := next((end for end in ends if end in row_of), None)) is not None:
                rows[item] = row_of[name]
        shared = Counter(rows.values())
        problems = []
        for item, path in paths.items():
            if item not in rows:
                problems.append((str(path), f"{self.path.name} has no row for it"))
            elif shared[rows[item]] > 1:
                name = self.names[rows.pop(item)]
                problems.append(
                    (
                        str(path),
                        f"{self.path.name} says {name}, which several images are called; name it by its folder too",
                    )
                )
        return FoundRows(rows, tuple(problems))

    def vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of some rows, shape ``(n, dim)``."""
        return np.asarray(self.table[list(rows)], dtype=np.float32)

    def preprocess(self, image: Image.Image) -> Any:
        """Refuse: a picture without a name has no row."""
        raise BadInput(
            f"{self.path} is a table of embeddings and no model; it knows only the images that it names."
        )

    def embed(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """Refuse, as `preprocess` does."""
        raise BadInput(
            f"{self.path} is a table of embeddings and no model; it knows only the images that it names."
        )


def open_table(spec: str, name: str) -> TableEncoder:
    """Open a table of embeddings as an encoder.

    Args:
        spec: How it was asked for.
        name: An ``.npz`` with ``feat`` (n, d) and ``name`` (n,): file names, or the ends of paths with ``/``.

    Raises:
        BadInput: No such file, another content, a name that stands there twice, or values beyond float16.
    """
    path = expand_home(name)
    table, found = read_table(path)
    names = [PurePosixPath(name).as_posix() for name in found]  # ./a.png is a.png
    twice = [held for held, n in Counter(names).items() if n > 1]
    if twice:
        raise BadInput(f"{path} names {twice[0]!r} twice; keep one row an image.")
    if not (fits := storable(table)).all():
        raise BadInput(
            f"{path}: the row of {names[int(np.argmin(fits))]!r} is beyond float16; scale the table."
        )
    digest = hashlib.sha256(f"features {table.shape} {table.dtype}".encode())
    digest.update(np.ascontiguousarray(table).tobytes())
    digest.update("\n".join(found).encode(errors="surrogateescape"))
    return TableEncoder(spec, int(table.shape[1]), digest.hexdigest()[:32], path, tuple(names), table)


def read_table(path: Path) -> tuple[NDArray[Any], list[str]]:
    """Read a table of embeddings: vectors, shape ``(n, d)``, and the name of each.

    Raises:
        BadInput: The file is missing, no such table, or holds NaN.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            feat, names = stored["feat"], [str(name) for name in stored["name"]]
    except (EOFError, OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error):
        raise BadInput(
            f"{path} cannot be used as features: it must be an .npz with arrays `feat` (n, d) and `name` (n,)."
        ) from None
    if feat.dtype.kind not in "fiu":
        raise BadInput(f"{path}: `feat` holds {feat.dtype}, not real numbers.")
    if feat.ndim != 2 or not feat.size or len(feat) != len(names):
        raise BadInput(
            f"{path}: `feat` has shape {feat.shape} and `name` has {len(names)} entries; they must agree."
        )
    if not np.isfinite(feat).all():
        raise BadInput(f"{path}: `feat` holds NaN or infinity; encode these images again.")
    return feat, names
