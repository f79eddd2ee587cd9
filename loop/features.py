"""Embeddings on disk: a raw float16 file that is mapped, never loaded, and a log that says what is whole."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import compress, count
from mmap import ACCESS_READ, mmap
from operator import ne
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from loop.commits import BATCH, RECORD_BYTES, VOID, Batch, Record, pack, sync, sync_folder, unpack, whole
from loop.errors import BadInput, Unavailable
from loop.halves import as_slice, widen

ID_BYTES = 16  # an item id is 32 hexadecimal digits
ABOUT = "encoder.json"
FILES = ("vectors.f16", "items.bin", "commits.log")
ITEM = re.compile(r"[0-9a-f]{32}")
LARGEST = float(np.finfo(np.float16).max)
RUN = 256  # ids compared at once


class Features(Protocol):
    """Embeddings by item id."""

    @property
    def dim(self) -> int:
        """Dimensions d."""
        ...

    def has(self, item: str) -> bool:
        """Whether an item has an embedding."""
        ...

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, in their order, shape ``(n, d)``. A missing one is a KeyError."""
        ...

    def chunks(
        self, items: Sequence[str], size: int = 1024
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time: item ids and embeddings, shape ``(m, d)``."""
        ...


class FeatureTable:
    """Embeddings in memory, for data sets that fit."""

    def __init__(self, items: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._row = {item: row for row, item in enumerate(items)}
        self._vectors = vectors
        self.dim = int(vectors.shape[1])

    def has(self, item: str) -> bool:
        """Whether an item has an embedding."""
        return item in self._row

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, shape ``(n, d)``."""
        return self._vectors[[self._row[item] for item in items]]

    def chunks(
        self, items: Sequence[str], size: int = 1024
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
class About:
    """Whose embeddings a store holds: hash of weights and preprocessing, length of a vector, how it was asked for."""

    fingerprint: str
    dim: int
    spec: str


def read_about(folder: Path) -> About:
    """Read whose embeddings a store holds.

    Raises:
        BadInput: The description is damaged.
    """
    path = folder / ABOUT
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        about = About(str(held["fingerprint"]), int(held["dim"]), str(held.get("spec", "")))
        if about.dim < 1:
            raise ValueError(about.dim)
        return about
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} is damaged. Delete {folder}; the images are encoded again.") from None


def _write_about(folder: Path, about: About) -> None:
    with whole(folder / ABOUT) as draft:
        draft.write_text(json.dumps(asdict(about)), encoding="utf-8")


class FeatureStore:
    """Embeddings of one encoder on disk, readable while they are written.

    ``vectors.f16`` holds rows, ``items.bin`` their ids, ``commits.log`` one record a batch with checksums. Data
    and ids are synced before their record is: what the log names is whole, what it does not name is not there.
    A batch that went bad on the disk is declared void by another record; its items are missing until they are
    appended again. Opening checks the last batch, the one that a loss of power would hit; `verify` checks all.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._lock = FileLock(folder / "write.lock", timeout=0)
        if lacking := [name for name in FILES if not (folder / name).exists()]:
            for name in lacking:
                (folder / name).touch()
            sync_folder(folder)
        self._row: dict[str, int] = {}
        self._ids: list[str] = []  # by row; empty where a batch is void
        self._batches: dict[int, Batch] = {}  # those in force, by first row
        self._n_rows = self._n_records = self._n_cut_off = 0
        self.refresh()

    @classmethod
    def open(cls, folder: Path, fingerprint: str, dim: int, spec: str = "") -> FeatureStore:
        """Open a store, made if it is not there.

        Args:
            folder: The store's own.
            fingerprint: Hash of the encoder's weights and preprocessing.
            dim: Length of its vectors.
            spec: How it was asked for, kept to tell people; a store that knows one keeps it.

        Raises:
            BadInput: The folder holds embeddings of another encoder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        wanted = About(fingerprint, dim, spec)
        if not (folder / ABOUT).is_file():
            _write_about(folder, wanted)
        held = read_about(folder)
        if (held.fingerprint, held.dim) != (fingerprint, dim):
            raise BadInput(
                f"{folder} holds embeddings of another encoder ({held}); give this one a folder of its own."
            )
        if spec and not held.spec:
            _write_about(folder, wanted)
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
            Unavailable: Another process writes to this store, or the disk is full.
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
        with self.writing():
            new: dict[str, int] = {}
            for row, item in enumerate(items):
                if item not in self._row:
                    new.setdefault(item, row)
            if new:
                self._write(list(new), given[list(new.values())])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out, and know what they wrote. `append` does so itself; hold it over many appends.

        Raises:
            Unavailable: Another process writes to this store.
        """
        try:
            with self._lock:
                self.refresh()
                yield
        except Timeout:
            raise Unavailable(f"Another process encodes into {self.folder}. Wait for it to end.") from None

    def read(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of some items, shape ``(n, d)``. A missing one is a KeyError."""
        if not len(items):
            return np.empty((0, self.dim), dtype=np.float32)
        rows = self._find(list(items))
        with (self.folder / "vectors.f16").open("rb") as file:
            mapped = mmap(file.fileno(), self._n_rows * self._row_bytes, access=ACCESS_READ)
        return widen(np.frombuffer(mapped, np.float16).reshape(-1, self.dim)[as_slice(rows)])

    def chunks(
        self, items: Sequence[str], size: int = 1024
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        """The same, a chunk at a time; the whole is never in memory."""
        for start in range(0, len(items), size):
            some = items[start : start + size]
            yield some, self.read(some)

    def verify(self) -> Verification:
        """Check every batch against its checksums."""
        self.refresh()
        bad = tuple((batch.start, batch.n) for batch in self._bad_batches())
        return Verification(len(self), len(self._batches), bad + self.cut_off)

    @property
    def cut_off(self) -> tuple[tuple[int, int], ...]:
        """First row and number of rows at the end that are on record but not whole; opening a store finds them."""
        return ((self._n_rows, self._n_cut_off),) if self._n_cut_off else ()

    def drop_bad(self) -> Verification:
        """Declare bad batches void, so that their items are missing and may be appended again.

        Returns:
            What was found, as `verify` says it.

        Raises:
            Unavailable: Another process writes to this store.
        """
        with self.writing():
            found = self.verify()
            for start, n in found.bad:
                if (batch := self._batches.get(start)) is not None and batch.n == n:
                    self._record(VOID, batch)
            with (self.folder / "commits.log").open("r+b") as log:
                log.truncate(self._n_records * RECORD_BYTES)  # what follows a broken record
            self._forget()
            self.refresh()
        return found

    def refresh(self) -> None:
        """See what another process has committed since: only what the log gained is read."""
        log, known = self.folder / "commits.log", self._n_records * RECORD_BYTES
        if log.stat().st_size < known:
            self._forget()
            known = 0
        with log.open("rb") as file:
            file.seek(known)
            content = file.read()
        rows_there = min(
            (self.folder / "vectors.f16").stat().st_size // self._row_bytes,
            (self.folder / "items.bin").stat().st_size // ID_BYTES,
        )
        records = unpack(content)
        n_sound, end = self._count_sound(records, rows_there)
        void: set[int] = set()
        for kind, batch in filter(None, records[:n_sound]):
            if kind == VOID:
                void.add(batch.start)
            else:
                self._take(batch, self._read_ids(batch))
        self._n_records += n_sound
        if void:
            dropped = map(self._batches.pop, void & self._batches.keys())
            gone = {row for batch in dropped for row in range(batch.start, batch.start + batch.n)}
            self._row = {item: row for item, row in self._row.items() if row not in gone}
            for row in gone:
                self._ids[row] = ""
        behind = [b.start + b.n for kind, b in filter(None, records[n_sound:]) if kind == BATCH]
        self._n_cut_off = max(0, max(behind, default=0) - end)

    def _count_sound(self, records: Sequence[Record | None], rows_there: int) -> tuple[int, int]:
        """How many records come before the first that is torn, out of order, or names rows that are not there.

        The last batch must agree with its checksums too. Returns that count, and the row at which they end.
        """
        n_sound, ends = 0, [self._n_rows]
        for record in records:
            if record is None:
                break
            kind, batch = record
            if kind == BATCH:
                if batch.start != ends[-1] or batch.start + batch.n > rows_there:
                    break
                ends.append(batch.start + batch.n)
            n_sound += 1
        while n_sound and (last := records[n_sound - 1]) is not None and last[0] == BATCH:
            if self._agrees(last[1]):
                break
            n_sound -= 1
            ends.pop()
        return n_sound, ends[-1]

    @property
    def _row_bytes(self) -> int:
        return 2 * self.dim

    def _forget(self) -> None:
        self._row, self._ids, self._batches = {}, [], {}
        self._n_rows = self._n_records = self._n_cut_off = 0

    def _take(self, batch: Batch, items: Sequence[str]) -> None:
        self._batches[batch.start] = batch
        self._n_rows = batch.start + batch.n
        self._row.update(zip(items, range(batch.start, self._n_rows), strict=True))
        self._ids += items

    def _find(self, items: list[str]) -> NDArray[np.intp]:
        """Rows of some items. Where most are neighbours in the file, runs of them are told from the ids in its order."""
        n, first, last = len(items), self._row[items[0]], self._row[items[-1]]
        if not n <= last - first + 1 <= n + n // 16:
            return np.fromiter(map(self._row.__getitem__, items), np.intp, n)
        rows, at = np.empty(n, np.intp), 0
        while at < n:
            row = self._row[items[at]]
            here, there = items[at : at + RUN], self._ids[row : row + RUN]
            run = next(compress(count(), map(ne, here, there)), min(len(here), len(there)))
            rows[at : at + run] = np.arange(row, row + run)
            at += run
        return rows

    def _read_ids(self, batch: Batch) -> list[str]:
        ids = self._read_part("items.bin", batch, ID_BYTES)
        return [ids[at : at + ID_BYTES].hex() for at in range(0, len(ids), ID_BYTES)]

    def _read_part(self, name: str, batch: Batch, size: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(batch.start * size)
            return file.read(batch.n * size)

    def _agrees(self, batch: Batch) -> bool:
        vectors = zlib.crc32(self._read_part("vectors.f16", batch, self._row_bytes))
        ids = zlib.crc32(self._read_part("items.bin", batch, ID_BYTES))
        return (vectors, ids) == (batch.vectors_crc, batch.ids_crc)

    def _bad_batches(self) -> list[Batch]:
        return [batch for batch in self._batches.values() if not self._agrees(batch)]

    def _write(self, items: list[str], vectors: NDArray[Any]) -> None:
        start = self._n_rows
        data = np.ascontiguousarray(vectors, dtype=np.float16).tobytes()
        ids = b"".join(bytes.fromhex(item) for item in items)
        batch = Batch(start, len(items), zlib.crc32(data), zlib.crc32(ids))
        try:
            for name, offset, content in (
                ("vectors.f16", start * self._row_bytes, data),
                ("items.bin", start * ID_BYTES, ids),
            ):
                with (self.folder / name).open("r+b") as file:
                    file.truncate(offset)  # a torn tail that no record names
                    file.seek(offset)
                    file.write(content)
                    sync(file)
            self._record(BATCH, batch)
        except OSError as error:
            raise Unavailable(
                f"{self.folder} cannot be written: {error.strerror}. Make room or allow it, then run it again; "
                "what was committed stays."
            ) from None
        self._take(batch, items)

    def _record(self, kind: bytes, batch: Batch) -> None:
        """Write and sync one record behind the last sound one."""
        with (self.folder / "commits.log").open("r+b") as log:
            end = self._n_records * RECORD_BYTES
            log.truncate(end)
            log.seek(end)
            log.write(pack(kind, batch))
            sync(log)
        self._n_records += 1
