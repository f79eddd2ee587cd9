"""The ledger as a file, CSV or JSON lines: written whole, and checked to the byte."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop.chain import START, Broken, Entry, find_break, write_row
from loop.commits import whole
from loop.errors import BadInput
from loop.settings import Settings
from loop.state import State
from loop.step_report import as_json

TEXTS = ("at", "event", "stream", "item", "annotator", "created_at", "updated_at", "strategy", "reason", "version", "problem", "raw_sha256", "finding", "verdict", "report_sha256")  # fmt: skip
BY_FINDING = ("answers", "scores", "bets", "verdicts")
COLUMNS = (
    "seq", "at", "event", "stream", "item", "task", "annotation", "annotator", "created_at", "updated_at", "lead_time_s", "skipped",
    "ground_truth", "answers", "round", "rank", "strategy", "reason", "inclusion_probability", "utility", "scores", "bets", "version",
    "problem", "raw_sha256", "finding", "y", "to_round", "undone", "decisions", "decision", "verdict", "verdicts", "report_sha256",
)  # fmt: skip
"""In the order of a CSV; ``hash`` comes behind them. Those of `BY_FINDING` have one column a finding."""
WHERE_KNOWN = ("to_round", "undone", "decisions", "decision", "verdict", "verdicts", "report_sha256")
"""Written where a row has one: files from before there were any stay as they are."""


@dataclass(frozen=True, slots=True)
class ProjectLedger:
    """The ledger of a project.

    Attributes:
        entries: Every row, oldest first.
        out: The file that it was exported to.
    """

    project: str
    entries: tuple[Entry, ...]
    out: str | None = None

    @property
    def head(self) -> str:
        """Hash of the last row: who keeps it can tell whether any row was changed or removed."""
        return self.entries[-1].hash if self.entries else START

    def to_json(self) -> dict[str, Any]:
        """The rows as JSON-ready values, each with its hash; without them if they went to a file."""
        told = {"project": self.project, "n_rows": len(self.entries), "head": self.head, "out": self.out}
        rows = [entry.fields() | {"hash": entry.hash} for entry in self.entries]
        return told if self.out else told | {"rows": rows}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the ledger found.

    Attributes:
        checked: What was checked: a file, or the state.
        rows: Rows in it.
        head: Hash of its last row, as it says.
        compared: The state that a file was compared with; None = there was none, or the state itself was checked.
        newer: Rows that the state has beyond the file.
        bad_row: The first row that is not as it was written; None = all are.
        problem: What is wrong with it.
    """

    checked: str
    rows: int
    head: str
    compared: str | None = None
    newer: int = 0
    bad_row: int | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Every row is as it was written."""
        return self.bad_row is None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {"ok": self.ok} | dict(as_json(self))


def tell_ledger(settings: Settings, out: Path | None = None) -> ProjectLedger:
    """Read a project's ledger, and export it if a file is named.

    Raises:
        BadInput: The project was not started, or the file ends neither in .csv nor in .jsonl.
    """
    if out is not None:
        _require_kind(out)
    with State.started(settings.state_url) as state:
        told = ProjectLedger(settings.project.name, tuple(state.ledger()), None if out is None else str(out))
    if out is not None:
        with whole(out) as draft:
            draft.write_bytes("".join(write_lines(told.entries, out.suffix.lower())).encode())
    return told


def verify_state(settings: Settings, kept: str | None = None) -> Verified:
    """Check the ledger of a project's state: its chain, and what the tables say.

    Args:
        settings: The project's settings.
        kept: Hash of a row, as it was kept elsewhere; that row must still be there.

    Raises:
        BadInput: The project was not started.
    """
    with State.started(settings.state_url) as state:
        broken = state.find_break()
        entries = state.ledger() if broken is None else []
    told = Verified(_name(settings), len(entries), entries[-1].hash if entries else START)
    broken = broken or _find_missing(entries, kept)
    return told if broken is None else _spoilt(told, broken)


def verify_file(path: Path, settings: Settings | None, kept: str | None = None) -> Verified:
    """Check an exported ledger, alone or against the state that it was exported from.

    Args:
        path: The file.
        settings: The project's settings; None = there is no state to compare with.
        kept: Hash of a row, as it was kept elsewhere; that row must still be there.

    Raises:
        BadInput: The file cannot be read, or ends neither in .csv nor in .jsonl; the project was not started.
    """
    entries, broken = read_file(path)
    told = Verified(str(path), len(entries), entries[-1].hash if entries else START)
    broken = broken or _find_missing(entries, kept)
    if broken is not None or settings is None:
        return told if broken is None else _spoilt(told, broken)
    with State.started(settings.state_url) as state:
        if (broken := state.find_break()) is not None:
            broken = Broken(broken.seq, f"the state itself is not as it was written: {broken.problem}")
            return _spoilt(replace(told, compared=_name(settings)), broken)
        held = state.ledger()
    told = replace(told, compared=_name(settings), newer=max(0, len(held) - len(entries)))
    other = next(
        (ours.seq for ours, theirs in zip(entries, held, strict=False) if ours.hash != theirs.hash), None
    )
    if other is not None:
        return _spoilt(told, Broken(other, "the state has another row there"))
    if len(held) < len(entries):
        return _spoilt(
            told, Broken(len(held) + 1, f"the state ends with row {len(held)}: later rows were removed")
        )
    return told


def write_lines(entries: Sequence[Entry], kind: str) -> list[str]:
    """The lines of a ``.csv``, its header first, or of a ``.jsonl``."""
    told = [(entry.fields(), entry.hash) for entry in entries]
    if kind == ".jsonl":
        return [f"{write_row(fields | {'hash': hashed})}\n" for fields, hashed in told]
    columns = [c for c in COLUMNS if c not in WHERE_KNOWN or any(c in fields for fields, _ in told)]
    names = {
        column: sorted({name for fields, _ in told for name in fields.get(column, {})})
        for column in BY_FINDING
    }
    header: list[tuple[str, str | None]] = [
        (column, name) for column in columns for name in (names[column] if column in BY_FINDING else [None])
    ]
    rows = [[column if name is None else f"{column}:{name}" for column, name in header] + ["hash"]]
    rows += [[_cell(fields, *place) for place in header] + [hashed] for fields, hashed in told]
    return [_csv_line(row) for row in rows]


def read_file(path: Path) -> tuple[list[Entry], Broken | None]:
    """Read an exported ledger, up to the first row that is not as it was written.

    Raises:
        BadInput: The file cannot be read, or ends neither in .csv nor in .jsonl.
    """
    kind = _require_kind(path)
    try:
        found = path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}. Name a file that `loop ledger --out` wrote."
        ) from None
    entries: list[Entry] = []
    try:
        for fields in _parse_csv(found) if kind == ".csv" else map(json.loads, found.split("\n")[:-1]):
            hashed = fields.pop("hash")
            entries.append(Entry(fields["seq"], write_row(fields), hashed))
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error):
        return entries, Broken(len(entries) + 1, "it cannot be read")
    if (broken := find_break(entries)) is not None:
        return entries, broken
    lines, end = write_lines(entries, kind), 0
    for number, line in enumerate(lines, start=0 if kind == ".csv" else 1):
        end += len(line)
        if found[end - len(line) : end] != line:
            return entries, Broken(
                number, f"{f'row {number}' if number else 'the header'} is not written as it was"
            )
    if end != len(found):
        return entries, Broken(len(entries) + 1, f"something stands behind row {len(entries)}")
    return entries, None


def _parse_csv(text: str) -> Iterator[dict[str, Any]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(rows, [])
    for row in rows:
        fields: dict[str, Any] = {}
        for place, cell in zip(header, row, strict=True):
            column, colon, name = place.partition(":")
            if cell == "":
                continue
            if colon:
                fields.setdefault(column, {})[name] = json.loads(cell)
            else:
                fields[column] = cell if column in (*TEXTS, "hash") else json.loads(cell)
        yield fields


def _cell(fields: dict[str, Any], column: str, name: str | None) -> str:
    held = fields if name is None else fields.get(column, {})
    key = column if name is None else name
    if key not in held:
        return ""
    return str(held[key]) if name is None and column in TEXTS else json.dumps(held[key], allow_nan=False)


def _csv_line(row: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    bare = any("\r" in cell for cell in row)  # which the csv module would leave without quotes
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(row)
    return line.getvalue()


def _require_kind(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        raise BadInput(f"{path}: a ledger is a .csv or a .jsonl file.")
    return kind


def _find_missing(entries: Sequence[Entry], kept: str | None) -> Broken | None:
    """What is wrong if no row has a hash that was kept elsewhere."""
    if kept is None or any(entry.hash == kept.strip().lower() for entry in entries):
        return None
    return Broken(
        len(entries) + 1,
        f"no row has the hash {kept.strip()[:12]}... that was kept: rows were removed from the end, or all of them written anew",
    )


def _name(settings: Settings) -> str:
    return f"the state of {settings.project.name}"  # its address may hold a password


def _spoilt(told: Verified, broken: Broken) -> Verified:
    return replace(told, bad_row=broken.seq, problem=broken.problem)
