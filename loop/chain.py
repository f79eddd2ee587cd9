"""Rows that each seal the one before: a change of any of them, or of their order, breaks every hash behind it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

START = "0" * 64
"""What the first row seals."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger.

    Attributes:
        seq: Its number, from 1 without a gap.
        row: Its fields as canonical JSON, ``seq`` among them.
        hash: SHA-256 of the hash before and the row, hexadecimal.
    """

    seq: int
    row: str
    hash: str

    def fields(self) -> dict[str, Any]:
        """The row's fields; what is not there is not known, or does not apply."""
        told: dict[str, Any] = json.loads(self.row)
        return told


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not as it was written, and what is wrong with it."""

    seq: int
    problem: str


def without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields less those that are None, an empty text or an empty table: a CSV cannot tell them apart."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", {})}


def write_row(fields: Mapping[str, Any]) -> str:
    """Fields as canonical JSON: sorted, without blanks, without those that hold nothing."""
    return json.dumps(
        without_empty(fields), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def seal(before: str, row: str) -> str:
    """The hash of a row that follows the hash ``before``."""
    return hashlib.sha256(f"{before}{row}".encode(errors="surrogateescape")).hexdigest()


def extend(seq: int, before: str, rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Chain rows to the entry number ``seq`` with the hash ``before``; 0 and `START` where there is none."""
    entries = []
    for fields in rows:
        seq += 1
        row = write_row({**fields, "seq": seq})
        before = seal(before, row)
        entries.append(Entry(seq, row, before))
    return entries


def find_break(entries: Iterable[Entry]) -> Broken | None:
    """The first entry that does not follow from the ones before; None if all do."""
    before = START
    for number, entry in enumerate(entries, start=1):
        if entry.seq != number:
            return Broken(number, f"it is missing; row {entry.seq} stands in its place")
        if entry.hash != seal(before, entry.row):
            return Broken(number, "its hash does not belong to it: one of the two was changed")
        if not entry.row.startswith("{") or entry.fields().get("seq") != number:
            return Broken(number, "it has another number")
        before = entry.hash
    return None
