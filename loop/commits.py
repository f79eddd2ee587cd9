"""The record of a feature store's commits, one line of bytes a batch, and how files come onto the disk whole."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_FIELDS = struct.Struct("<4sQQII")  # kind, first row, rows, crc of vectors, crc of ids
_CRC = struct.Struct("<I")  # crc of these fields
RECORD_BYTES = _FIELDS.size + _CRC.size
BATCH, VOID = b"ALFS", b"ALFV"  # a batch was written; the batch that starts at this row is no longer valid


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were written together, with the checksums of their bytes."""

    start: int
    n: int
    vectors_crc: int
    ids_crc: int


Record = tuple[bytes, Batch]


def pack(kind: bytes, batch: Batch) -> bytes:
    """One record."""
    fields = _FIELDS.pack(kind, batch.start, batch.n, batch.vectors_crc, batch.ids_crc)
    return fields + _CRC.pack(zlib.crc32(fields))


def unpack(content: bytes) -> list[Record | None]:
    """The records of a log, in order; None stands for one that is damaged. A torn end is left out."""
    return [
        _unpack(content[at : at + RECORD_BYTES])
        for at in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES)
    ]


def _unpack(record: bytes) -> Record | None:
    fields = record[: _FIELDS.size]
    kind, start, n, vectors_crc, ids_crc = _FIELDS.unpack(fields)
    if kind not in (BATCH, VOID) or _CRC.unpack(record[_FIELDS.size :]) != (zlib.crc32(fields),):
        return None
    return kind, Batch(start, n, vectors_crc, ids_crc)


@contextmanager
def whole(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A draft beside a file, to be written in the block; the file appears whole at its end, or not at all.

    Args:
        path: The file; an older one is replaced.
        synced: Bring the content onto the disk before the name; without it a loss of power may leave a torn file.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield draft
        if synced:
            with draft.open("rb+") as file:
                sync(file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sync(file: IO[Any]) -> None:
    """Bring what was written to a file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring new names in a folder onto the disk, where the system can."""
    if os.name == "posix":
        held = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)
