"""Turn images into the table of embeddings that `loop simulate` reads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loop.commits import whole
from loop.encoders import Encoder
from loop.encoders.embed import Workers
from loop.encoders.encode import compare_to_float, encode_items
from loop.encoders.int8 import Nearness
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.pictures import Picture, hash_pictures
from loop.step_report import as_json
from loop.stores import open_store

CHUNK = 4096  # rows in memory


@dataclass(frozen=True, slots=True)
class Tabled:
    """What `loop encode` did.

    Attributes:
        out: The table.
        store: Where the embeddings are kept: what is there is not encoded again.
        encoder: How it was asked for.
        fingerprint: Hash of its weights and preprocessing.
        dim: Length of a vector.
        images: Images that were found.
        rows: Of these, in the table.
        encoded: Embeddings made now; the others were there.
        problems: Images that are not in the table, each with its reason.
        nearness: Of an int8 model, how near it is to float.
    """

    out: str
    store: str
    encoder: str
    fingerprint: str
    dim: int
    images: int
    rows: int
    encoded: int
    problems: tuple[str, ...]
    nearness: Nearness | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def encode_table(
    pictures: Sequence[Picture],
    encoder: Encoder,
    out: Path,
    stores: Path,
    batch_size: int,
    shows: Callable[[str, int, int], None],
    workers: Workers | None = None,
) -> Tabled:
    """Encode images into an ``.npz`` with ``feat`` (n, d), float16, and ``name`` (n,). Run again, it goes on.

    Args:
        pictures: What `find_pictures` found.
        encoder: The frozen model.
        out: The table; it appears whole or not at all.
        stores: Folder for the embeddings, one folder an encoder, as in a project's ``features``.
        batch_size: Images a batch.
        shows: Told of the progress: what is done, how many, of how many.
        workers: Who embeds; None = this process.

    Raises:
        BadInput: None of the images can be used.
        Unavailable: Another process encodes into this store, or the disk is full; what was committed stays.
    """
    hashed, problems = hash_pictures(pictures, lambda done, total: shows("hashing", done, total))
    store = open_store(stores, encoder)
    report = encode_items(
        hashed,
        encoder,
        store,
        batch_size,
        lambda done, total: shows("encoding", done, total),
        workers,
    )
    problems += report.problems
    known = {path for path, _ in problems}
    kept = [picture for picture in hashed if store.has(picture.item) and str(picture.path) not in known]
    if not kept:
        listed = "; ".join(f"{path}: {reason}" for path, reason in problems[:3])
        raise BadInput(f"None of the {len(pictures):,} images can be used: {listed}")
    bad = {picture.item: picture for picture in hashed if str(picture.path) in known}
    problems += [
        (str(picture.path), f"same content as {bad[picture.item].path}")
        for picture in hashed
        if not store.has(picture.item) and str(picture.path) not in known
    ]
    write_table(out, store, kept)
    return Tabled(
        out=str(out),
        store=str(store.folder),
        encoder=encoder.spec,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        images=len(pictures),
        rows=len(kept),
        encoded=report.encoded,
        problems=tuple(f"{path}: {reason}" for path, reason in problems),
        nearness=compare_to_float(kept, encoder, store, batch_size),
    )


def write_table(out: Path, store: FeatureStore, pictures: Sequence[Picture]) -> None:
    """Write ``feat`` and ``name`` chunk by chunk; equal pictures give equal bytes."""
    shape = {"descr": "<f2", "fortran_order": False, "shape": (len(pictures), store.dim)}
    with whole(out) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("feat.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, shape)  # type: ignore[no-untyped-call]
            for _, vectors in store.chunks([picture.item for picture in pictures], CHUNK):
                file.write(np.ascontiguousarray(vectors, dtype="<f2").tobytes())  # (m, d)
        with archive.open("name.npy", "w", force_zip64=True) as file:
            names = np.array([picture.name for picture in pictures], dtype=np.str_)  # (n,)
            np.lib.format.write_array(file, names, allow_pickle=False)  # type: ignore[no-untyped-call]
