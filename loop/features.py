"""Embeddings on disk: a raw float16 file that is mapped, never loaded, and a log that says what is whole."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from loop.errors import BadInput, Unavailable

ID_BYTES = 16  # an item id is 32 hexadecimal digits
RECORD = struct.Struct(
    "<4sQQIII"
)  # magic, start row, rows, crc of vectors, crc of ids, crc of the record before it
MAGIC = b"ALFS"
LARGEST = float(np.finfo(np.float16).max)


class Features(Protocol):
    """Embeddings by item id."""

    @property
    def dim(self) -> int:
        """Dimensions d."""
        ...

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, in their order, shape ``(n, d)``. A missing one is a KeyError."""
        ...

    def chunks(
        self, items: Sequence[str], size: int = 4096
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time: item ids and embeddings, shape ``(m, d)``."""
        ...


class FeatureTable:
    """Embeddings in memory, for data sets that fit."""

    def __init__(self, items: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._row = {item: row for row, item in enumerate(items)}
        self._vectors = vectors
        self.dim = int(vectors.shape[1])

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, shape ``(n, d)``."""
        return self._vectors[[self._row[item] for item in items]]

    def chunks(
        self, items: Sequence[str], size: int = 4096
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time."""
        for start in range(0, len(items), size):
            some = items[start : start + size]
            yield some, self.read(some)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of every batch found; ``bad`` holds the first row and the number of rows of each bad batch."""

    rows: int
    batches: int
    bad: tuple[tuple[int, int], ...]


class FeatureStore:
    """Embeddings of one encoder on disk, readable while they are written.

    ``vectors.f16`` holds rows, ``items.bin`` their ids, ``commits.log`` one record a batch with checksums. Data
    and ids are synced before their record is: what the log names is whole, what it does not name is not there.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._items: list[str] = []
        self._row: dict[str, int] = {}
        self._refresh()

    @classmethod
    def open(cls, folder: Path, fingerprint: str, dim: int) -> FeatureStore:
        """Open a store, made if it is not there.

        Raises:
            BadInput: The folder holds embeddings of another encoder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        about, wanted = folder / "encoder.json", {"fingerprint": fingerprint, "dim": dim}
        if about.is_file():
            if (held := json.loads(about.read_text())) != wanted:
                raise BadInput(
                    f"{folder} holds embeddings of another encoder ({held}); give this one a folder of its own."
                )
        else:
            draft = about.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(wanted))
            draft.replace(about)
        return cls(folder, dim)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> Sequence[str]:
        """Item ids in the order of their rows."""
        return tuple(self._items)

    def has(self, item: str) -> bool:
        """Whether an item is encoded."""
        return item in self._row

    def missing(self, items: Sequence[str]) -> list[str]:
        """Those that are not encoded yet."""
        return [item for item in items if item not in self._row]

    def append(self, items: Sequence[str], vectors: ArrayLike) -> None:
        """Add a batch; rows that are there already are left as they are.

        Args:
            items: Item ids, n of them.
            vectors: Shape ``(n, d)``, finite and inside float16's range.

        Raises:
            BadInput: A vector cannot be stored; the message names its item.
            Unavailable: Another process writes to this store.
        """
        given = np.asarray(vectors, dtype=np.float32)
        if given.shape != (len(items), self.dim):
            raise BadInput(
                f"{len(items)} items came with vectors of shape {given.shape}, not ({len(items)}, {self.dim})."
            )
        strange = ~(np.abs(given) <= LARGEST).all(axis=1)
        if strange.any():
            raise BadInput(
                f"The embedding of item {items[int(np.flatnonzero(strange)[0])]} is not finite or beyond float16."
            )
        try:
            with FileLock(self.folder / "write.lock", timeout=0):
                self._refresh()
                new = {item: row for row, item in enumerate(items) if item not in self._row}
                if new:
                    self._write(list(new), given[list(new.values())])
        except Timeout:
            raise Unavailable(f"Another process encodes into {self.folder}. Wait for it to end.") from None

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, shape ``(n, d)``. A missing one is a KeyError."""
        return self._read_rows(np.array([self._row[item] for item in items], dtype=np.int64))

    def chunks(
        self, items: Sequence[str], size: int = 4096
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time; the whole is never in memory."""
        for start in range(0, len(items), size):
            some = items[start : start + size]
            yield some, self.read(some)

    def verify(self) -> Verification:
        """Check every batch against its checksums."""
        self._refresh()
        records = self._records()
        bad = []
        with (self.folder / "vectors.f16").open("rb") as data, (self.folder / "items.bin").open("rb") as ids:
            for start, n, vectors_crc, ids_crc in records:
                data.seek(start * self._row_bytes)
                ids.seek(start * ID_BYTES)
                if (
                    zlib.crc32(data.read(n * self._row_bytes)) != vectors_crc
                    or zlib.crc32(ids.read(n * ID_BYTES)) != ids_crc
                ):
                    bad.append((start, n))
        return Verification(len(self), len(records), tuple(bad))

    @property
    def _row_bytes(self) -> int:
        return 2 * self.dim

    def _read_rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if not len(rows):
            return np.empty((0, self.dim), dtype=np.float32)
        mapped = np.memmap(
            self.folder / "vectors.f16", dtype=np.float16, mode="r", shape=(len(self), self.dim)
        )
        return np.asarray(mapped[rows], dtype=np.float32)

    def _write(self, items: list[str], vectors: NDArray[np.float32]) -> None:
        start = len(self)
        data = np.ascontiguousarray(vectors, dtype=np.float16).tobytes()
        ids = b"".join(bytes.fromhex(item) for item in items)
        for name, offset, content in (
            ("vectors.f16", start * self._row_bytes, data),
            ("items.bin", start * ID_BYTES, ids),
        ):
            with (self.folder / name).open("r+b") as file:
                file.truncate(offset)  # a torn tail that no record names
                file.seek(offset)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        body = RECORD.pack(MAGIC, start, len(items), zlib.crc32(data), zlib.crc32(ids), 0)[:-4]
        with (self.folder / "commits.log").open("r+b") as log:
            whole = len(self._records()) * RECORD.size
            log.truncate(whole)
            log.seek(whole)
            log.write(body + struct.pack("<I", zlib.crc32(body)))
            log.flush()
            os.fsync(log.fileno())
        self._refresh()

    def _records(self) -> list[tuple[int, int, int, int]]:
        """The log's whole records in unbroken order: start, rows, crc of vectors, crc of ids."""
        found: list[tuple[int, int, int, int]] = []
        log = (self.folder / "commits.log").read_bytes()
        rows = min(
            (self.folder / "vectors.f16").stat().st_size // self._row_bytes,
            (self.folder / "items.bin").stat().st_size // ID_BYTES,
        )
        expected = 0
        for offset in range(0, len(log) - RECORD.size + 1, RECORD.size):
            magic, start, n, vectors_crc, ids_crc, crc = RECORD.unpack_from(log, offset)
            if (
                magic != MAGIC
                or start != expected
                or zlib.crc32(log[offset : offset + RECORD.size - 4]) != crc
            ):
                break
            if start + n > rows:
                break
            found.append((start, n, vectors_crc, ids_crc))
            expected = start + n
        return found

    def _refresh(self) -> None:
        """See what was committed since."""
        for name in ("vectors.f16", "items.bin", "commits.log"):
            (self.folder / name).touch()
        records = self._records()
        rows = sum(n for _, n, _, _ in records)
        if rows > len(self._items):
            with (self.folder / "items.bin").open("rb") as ids:
                ids.seek(len(self._items) * ID_BYTES)
                fresh = ids.read((rows - len(self._items)) * ID_BYTES)
            for at in range(0, len(fresh), ID_BYTES):
                item = fresh[at : at + ID_BYTES].hex()
                self._row[item] = len(self._items)
                self._items.append(item)
