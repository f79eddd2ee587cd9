"""How far each image is from the nearest labelled one: a column that is kept beside the embeddings and only ever updated.

Measuring it anew costs a product of the pool with every label; a new label can only shrink it, so what is kept is brought
up to date with the labels that came since. Shrinking twice changes nothing: an update that was killed goes on where its
last mark stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from loop.commits import whole
from loop.features import Features, FeatureStore
from loop.probe import Projection
from loop.strategies.distance import to_nearest
from loop.strategies.pool import CHUNK, Vectors

MARK = 64
"""Chunks between two marks."""


@dataclass(frozen=True, slots=True)
class _About:
    """What a column holds.

    Attributes:
        key: Hash of the images and of how they are seen.
        labelled: Labelled images that every row knows of.
        coming: Those that rows before `n_done` know of besides.
        n_done: Rows that are up to date with `coming`.
    """

    key: str
    labelled: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    n_done: int = 0


def keep_nearest(
    store: FeatureStore,
    project: str,
    items: Callable[[], Iterable[str]],
    projection: Projection,
    labelled: Sequence[str],
) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Keep a project's column beside its embeddings; what is returned tells the distances of some of the items.

    Nothing is measured before it is asked.
    """

    def measure(some: Sequence[str]) -> NDArray[np.float32]:
        held = sorted(item for item in items() if store.has(item))
        column = update_nearest(store.folder / f"nearest-{project}.f32", held, store, projection, labelled)
        return np.asarray(column[np.searchsorted(held, some)])

    return measure


def update_nearest(
    path: Path, items: Sequence[str], features: Features, projection: Projection, labelled: Sequence[str]
) -> NDArray[np.float32]:
    """Bring a column up to date; it is made if it is not there, and anew if a label was withdrawn or the pool changed.

    Args:
        path: The column's file; a description lies beside it, ``.json``.
        items: m images.
        features: Embeddings of these and of the labelled.
        projection: How strategies see embeddings.
        labelled: n images.

    Returns:
        Distances, shape ``(m,)``, infinite with nothing labelled: mapped from the file, so that they are in memory only
        where they are looked at.
    """
    key = _key(items, projection)
    about = _read(path)
    known = set(about.labelled) | set(about.coming)
    fits = (
        about.key == key
        and known <= set(labelled)
        and path.is_file()
        and path.stat().st_size == 4 * len(items)
    )
    if not fits:
        with whole(path) as draft:
            np.full(len(items), np.inf, np.float32).tofile(draft)
        about = _About(key)
        _write(path, about)
    if not len(items):
        return np.empty(0, np.float32)
    column = np.memmap(path, np.float32, "r+", shape=(len(items),))
    coming = tuple(sorted(set(labelled) - set(about.labelled)))
    if coming:
        n_done = about.n_done if about.coming == coming else 0
        _shrink(path, column, items, features, projection, _About(key, about.labelled, coming, n_done))
    return column


def _shrink(
    path: Path,
    column: np.memmap[tuple[int], np.dtype[np.float32]],
    items: Sequence[str],
    features: Features,
    projection: Projection,
    about: _About,
) -> None:
    """Shrink by the labels that came, a chunk at a time, with a mark now and then."""
    _write(path, about)
    pool = Vectors(features, items, projection)
    centres = Vectors(features, about.coming, projection).read(np.arange(len(about.coming)))  # (n, d)
    with threadpool_limits(1, "blas"):
        for turn, start in enumerate(range(about.n_done, len(items), CHUNK)):
            rows = np.arange(start, min(start + CHUNK, len(items)))
            column[rows] = np.minimum(column[rows], to_nearest(pool.read(rows), centres))
            if turn % MARK == MARK - 1:
                column.flush()  # the rows come before the mark that names them
                _write(path, _About(about.key, about.labelled, about.coming, int(rows[-1]) + 1))
    column.flush()
    _write(path, _About(about.key, tuple(sorted({*about.labelled, *about.coming}))))


def _key(items: Sequence[str], projection: Projection) -> str:
    seen = hashlib.sha256("\n".join(items).encode())
    seen.update(projection.mean.tobytes() + projection.scale.tobytes())
    return seen.hexdigest()


def _read(path: Path) -> _About:
    """The description; that of an empty column if it is missing or damaged."""
    try:
        held = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return _About(str(held["key"]), tuple(held["labelled"]), tuple(held["coming"]), int(held["n_done"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return _About("")


def _write(path: Path, about: _About) -> None:
    with whole(path.with_suffix(".json")) as draft:
        draft.write_text(json.dumps(asdict(about)), encoding="utf-8")
