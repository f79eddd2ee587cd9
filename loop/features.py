"""Embeddings on disk: a raw float16 file that is mapped, never loaded, and a log that says what is whole."""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from loop.errors import BadInput, Unavailable

ID_BYTES = 16  # an item id is 32 hexadecimal digits
RECORD = struct.Struct("<4sQQIII")  # magic, first row, rows, crc of vectors, crc of ids, crc of these fields
BATCH, VOID = b"ALFS", b"ALFV"  # a batch was written; the batch that starts at this row is no longer valid
FILES = ("vectors.f16", "items.bin", "commits.log")
ITEM = re.compile(r"[0-9a-f]{32}")
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


def storable(vectors: ArrayLike) -> NDArray[np.bool_]:
    """Which vectors, shape ``(n, d)``, are finite and inside float16's range; shape ``(n,)``."""
    return np.asarray((np.abs(np.asarray(vectors)) <= LARGEST).all(axis=1))


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of every batch found.

    Attributes:
        rows: Embeddings in force.
        batches: Batches that hold them.
        bad: First row and number of rows of each batch that does not agree with its checksum.
    """

    rows: int
    batches: int
    bad: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    start: int
    n: int
    vectors_crc: int
    ids_crc: int


@dataclass(frozen=True, slots=True)
class _Log:
    """What the log says: batches in unbroken order, those declared void, whole records, rows after a broken one."""

    batches: tuple[_Batch, ...]
    void: frozenset[int]
    n_records: int
    n_cut_off: int

    @property
    def rows(self) -> int:
        return self.batches[-1].start + self.batches[-1].n if self.batches else 0

    @property
    def in_force(self) -> list[_Batch]:
        return [batch for batch in self.batches if batch.start not in self.void]


class FeatureStore:
    """Embeddings of one encoder on disk, readable while they are written.

    ``vectors.f16`` holds rows, ``items.bin`` their ids, ``commits.log`` one record a batch with checksums. Data
    and ids are synced before their record is: what the log names is whole, what it does not name is not there.
    A batch that went bad on the disk is declared void by another record; its items are missing until they are
    appended again.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        for name in FILES:
            if not (folder / name).exists():
                (folder / name).touch()
        self._row: dict[str, int] = {}
        self._log = _Log((), frozenset(), 0, 0)
        self.refresh()

    @classmethod
    def open(cls, folder: Path, fingerprint: str, dim: int) -> FeatureStore:
        """Open a store, made if it is not there.

        Raises:
            BadInput: The folder holds embeddings of another encoder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        about, wanted = folder / "encoder.json", {"fingerprint": fingerprint, "dim": dim}
        if not about.is_file():
            draft = about.with_suffix(f".{os.getpid()}")
            with draft.open("w", encoding="utf-8") as file:
                json.dump(wanted, file)
                _sync(file)
            draft.replace(about)
        try:
            held = json.loads(about.read_text(encoding="utf-8"))
        except ValueError:
            raise BadInput(f"{about} is damaged. Delete {folder}; the images are encoded again.") from None
        if held != wanted:
            raise BadInput(
                f"{folder} holds embeddings of another encoder ({held}); give this one a folder of its own."
            )
        return cls(folder, dim)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def items(self) -> Sequence[str]:
        """Item ids in the order of their rows."""
        return tuple(self._row)

    def has(self, item: str) -> bool:
        """Whether an item is encoded."""
        return item in self._row

    def missing(self, items: Sequence[str]) -> list[str]:
        """Those that are not encoded yet."""
        return [item for item in items if item not in self._row]

    def append(self, items: Sequence[str], vectors: ArrayLike) -> None:
        """Add a batch; rows that are there already are left as they are.

        Args:
            items: Item ids, n of them, 32 hexadecimal digits each. Of equal ones the first counts.
            vectors: Shape ``(n, d)``, finite and inside float16's range.

        Raises:
            BadInput: A vector cannot be stored; the message names its item.
            Unavailable: Another process writes to this store.
        """
        given = np.asarray(vectors)
        if given.shape != (len(items), self.dim):
            raise BadInput(
                f"{len(items)} items came with vectors of shape {given.shape}, not ({len(items)}, {self.dim})."
            )
        fits = storable(given)
        if not fits.all():
            raise BadInput(
                f"The embedding of item {items[int(np.argmin(fits))]} is not finite or beyond float16."
            )
        for item in items:
            if not ITEM.fullmatch(item):
                raise BadInput(f"{item!r} is no item id: 32 hexadecimal digits, in lower case.")
        with self._writing():
            new: dict[str, int] = {}
            for row, item in enumerate(items):
                if item not in self._row:
                    new.setdefault(item, row)
            if new:
                self._write(list(new), given[list(new.values())])

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, shape ``(n, d)``. A missing one is a KeyError."""
        rows = np.array([self._row[item] for item in items], dtype=np.int64)
        if not len(rows):
            return np.empty((0, self.dim), dtype=np.float32)
        mapped = np.memmap(
            self.folder / "vectors.f16", dtype=np.float16, mode="r", shape=(self._log.rows, self.dim)
        )
        return np.asarray(mapped[rows], dtype=np.float32)

    def chunks(
        self, items: Sequence[str], size: int = 4096
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time; the whole is never in memory."""
        for start in range(0, len(items), size):
            some = items[start : start + size]
            yield some, self.read(some)

    def verify(self) -> Verification:
        """Check every batch against its checksums."""
        self.refresh()
        bad = [(batch.start, batch.n) for batch in self._bad_batches()]
        if self._log.n_cut_off:
            bad.append((self._log.rows, self._log.n_cut_off))
        return Verification(len(self), len(self._log.in_force), tuple(bad))

    def drop_bad(self) -> Verification:
        """Declare bad batches void, so that their items are missing and may be appended again.

        Returns:
            What was found, as `verify` says it.

        Raises:
            Unavailable: Another process writes to this store.
        """
        with self._writing():
            found = self.verify()
            bad = set(found.bad)
            for batch in self._log.in_force:
                if (batch.start, batch.n) in bad:
                    self._record(VOID, batch)
            with (self.folder / "commits.log").open("r+b") as log:
                log.truncate(self._read_log().n_records * RECORD.size)  # what follows a broken record
            self.refresh()
        return found

    def refresh(self) -> None:
        """See what another process has committed since."""
        log = self._read_log()
        if log == self._log:
            return
        with (self.folder / "items.bin").open("rb") as file:
            if log.batches[: len(self._log.batches)] == self._log.batches and log.void == self._log.void:
                fresh = log.in_force[len(self._log.in_force) :]
            else:
                self._row, fresh = {}, log.in_force
            for batch in fresh:
                file.seek(batch.start * ID_BYTES)
                ids = file.read(batch.n * ID_BYTES)
                for i in range(batch.n):
                    self._row[ids[i * ID_BYTES : (i + 1) * ID_BYTES].hex()] = batch.start + i
        self._log = log

    @property
    def _row_bytes(self) -> int:
        return 2 * self.dim

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other writers out, and know what they wrote."""
        try:
            with FileLock(self.folder / "write.lock", timeout=0):
                self.refresh()
                yield
        except Timeout:
            raise Unavailable(f"Another process encodes into {self.folder}. Wait for it to end.") from None

    def _bad_batches(self) -> list[_Batch]:
        bad = []
        with (self.folder / "vectors.f16").open("rb") as data, (self.folder / "items.bin").open("rb") as ids:
            for batch in self._log.in_force:
                data.seek(batch.start * self._row_bytes)
                ids.seek(batch.start * ID_BYTES)
                vectors_crc = zlib.crc32(data.read(batch.n * self._row_bytes))
                ids_crc = zlib.crc32(ids.read(batch.n * ID_BYTES))
                if (vectors_crc, ids_crc) != (batch.vectors_crc, batch.ids_crc):
                    bad.append(batch)
        return bad

    def _write(self, items: list[str], vectors: NDArray[Any]) -> None:
        start = self._log.rows
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
                _sync(file)
        self._record(BATCH, _Batch(start, len(items), zlib.crc32(data), zlib.crc32(ids)))
        self.refresh()

    def _record(self, magic: bytes, batch: _Batch) -> None:
        body = RECORD.pack(magic, batch.start, batch.n, batch.vectors_crc, batch.ids_crc, 0)[:-4]
        with (self.folder / "commits.log").open("r+b") as log:
            end = self._read_log().n_records * RECORD.size
            log.truncate(end)
            log.seek(end)
            log.write(body + struct.pack("<I", zlib.crc32(body)))
            _sync(log)

    def _read_log(self) -> _Log:
        """The log up to its first record that is torn, out of order, or names rows that are not there."""
        content = (self.folder / "commits.log").read_bytes()
        there = min(
            (self.folder / "vectors.f16").stat().st_size // self._row_bytes,
            (self.folder / "items.bin").stat().st_size // ID_BYTES,
        )
        batches: list[_Batch] = []
        void: set[int] = set()
        expected = n_records = furthest = 0
        unbroken = True
        for offset in range(0, len(content) - RECORD.size + 1, RECORD.size):
            magic, start, n, vectors_crc, ids_crc, crc = RECORD.unpack_from(content, offset)
            sound = magic in (BATCH, VOID) and zlib.crc32(content[offset : offset + RECORD.size - 4]) == crc
            if magic == BATCH:
                unbroken = unbroken and sound and start == expected and start + n <= there
            unbroken = unbroken and sound
            if not unbroken:
                furthest = max(furthest, start + n if sound else 0)
                continue
            n_records += 1
            if magic == VOID:
                void.add(start)
            else:
                batches.append(_Batch(start, n, vectors_crc, ids_crc))
                expected = start + n
        return _Log(tuple(batches), frozenset(void), n_records, max(0, furthest - expected))


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
