"""What the project knows. With `loop.database` and `loop.schema` the only SQL.

Facts are added, never changed: the present truth about labels is a view, everything else is the latest row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import Connection, func, select

from annotate.records import Label, Pull, Receipt, Roll, Task
from loop import schema
from loop.booking import EXISTING, OUTSIDER
from loop.chain import Broken, Entry
from loop.database import Database
from loop.errors import Unavailable
from loop.items import Item
from loop.ledger import Ledger
from loop.ledger_check import check_ledger
from loop.rows import (
    PullCount,
    Round,
    Row,
    read_item,
    read_label,
    read_round,
    read_time,
    same_version,
    write_item,
    write_label,
    write_picks,
    write_round,
    write_time,
)

__all__ = ["PullCount", "Round", "State"]

CHUNK = 5_000  # rows an insert
IDS = 500  # ids a query
PULLS = 50  # pulls that are looked through
Readings = Mapping[tuple[int, str], Sequence[float]]
NOTHING: Readings = MappingProxyType({})
DEFAULT = "its default"  # said of a setting that was left out
FORMERLY = {"stop.correction": "none"}  # how a state was run that does not know the setting yet


class State:
    """The project's memory; each method is one transaction, and telling it twice changes nothing."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._items: list[Item] = []  # as read last; images are only added, so as many are the same

    @classmethod
    def create(cls, url: str) -> State:
        """Open a state, made if it is not there.

        Args:
            url: A path, ``:memory:``, or an SQLAlchemy URL such as ``postgresql+psycopg://HOST/NAME``.

        Raises:
            BadInput: It is no state, or a newer release wrote it.
            Unavailable: The database does not answer now.
        """
        return cls(Database.create(url))

    @classmethod
    def open(cls, url: str) -> State:
        """Open a state that exists; see `create`.

        Raises:
            BadInput: It does not exist.
        """
        return cls(Database.open(url))

    @classmethod
    def look(cls, url: str) -> State:
        """Open a state that exists to read from it, as whichever release wrote it left it; see `behind`.

        Raises:
            NotStarted: It does not exist.
            BadInput: A newer release wrote it.
        """
        return cls(Database.open(url, migrate=False))

    def behind(self) -> list[str]:
        """What this release would change in the tables first; empty if it wrote them."""
        return self._db.behind()

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def sandbox(self) -> State:
        """A copy in memory, to try things on.

        Raises:
            BadInput: The state is not SQLite.
        """
        return State(self._db.copy())

    # -- facts, images, tasks -----------------------------------------------------------------------------------

    def set_fact(self, key: str, value: Any, at: datetime) -> None:
        """Note a fact of JSON-ready values; the latest one counts, all are kept."""
        t = schema.facts
        value = _as_read(value)
        with self._db.write() as connection:
            latest = connection.execute(
                select(t.c.value).where(t.c.key == key).order_by(t.c.seq.desc()).limit(1)
            ).first()
            if latest is None or latest.value != value:
                connection.execute(t.insert(), {"key": key, "value": value, "at": write_time(at)})

    def fact(self, key: str) -> Any | None:
        """The latest fact under a key; None if there is none."""
        t = schema.facts.c
        return self._db.value(select(t.value).where(t.key == key).order_by(t.seq.desc()))

    def facts(self, key: str) -> list[Any]:
        """Every fact that was ever noted under a key, oldest first."""
        t = schema.facts.c
        return [row.value for row in self._db.rows(select(t.value).where(t.key == key).order_by(t.seq))]

    def declare_existing(self, how: str, at: datetime) -> None:
        """Note how labels that were there before the first batch are booked, ``outsider`` or ``random``; see `Ledger.declare`."""
        if how == (self.fact(EXISTING) or OUTSIDER):
            return
        with self._db.write() as connection:
            connection.execute(schema.facts.insert(), {"key": EXISTING, "value": how, "at": write_time(at)})
            _ledger(connection).declare(write_time(at))

    def add_items(self, items: Iterable[Item]) -> None:
        """Take images into care; one that is known stays as it is."""
        with self._db.write() as connection:
            known = set(connection.scalars(select(schema.items.c.item)))
            new = {item.item: item for item in items if item.item not in known}
            _insert(connection, schema.items, [write_item(item) for item in new.values()])

    def items(self) -> list[Item]:
        """Every image in our care, in the order they came."""
        t = schema.items
        with self._db.read() as connection:
            if connection.scalar(select(func.count()).select_from(t)) != len(self._items):
                self._items = [read_item(row) for row in connection.execute(select(t).order_by(t.c.seq))]
        return list(self._items)

    def add_problems(self, found: Iterable[tuple[Path | str, str]], at: datetime) -> None:
        """Note images that could not be used, each with its reason."""
        t = schema.problems.c
        with self._db.write() as connection:
            known = {tuple(row) for row in connection.execute(select(t.path, t.reason))}
            new = dict.fromkeys((str(path), reason) for path, reason in found)
            rows = [{"path": p, "reason": r, "at": write_time(at)} for p, r in new if (p, r) not in known]
            _insert(connection, schema.problems, rows)

    def problems(self) -> list[tuple[str, str]]:
        """Images that could not be used: path and reason."""
        t = schema.problems.c
        return [(path, reason) for path, reason in self._db.rows(select(t.path, t.reason).order_by(t.seq))]

    def add_tasks(self, task_ids: Mapping[str, int], at: datetime) -> None:
        """Note Label Studio's task of each image in our care; the latest one counts."""
        t = schema.tasks.c
        with self._db.write() as connection:
            known = {(item, task_id) for item, task_id in connection.execute(select(t.item, t.task_id))}
            rows = [
                {"item": item, "task_id": task_id, "at": write_time(at)}
                for item, task_id in task_ids.items()
                if (item, task_id) not in known
            ]
            _insert(connection, schema.tasks, rows)

    def drop_tasks(self, task_ids: Iterable[int], at: datetime) -> int:
        """Note tasks that were deleted in Label Studio, and withdraw their labels; returns how many labels.

        Their images have no task any more, until one is added. The history keeps the labels.
        """
        t, gone, when = schema.gone_tasks, sorted(set(task_ids)), {"late": False, "at": write_time(at)}
        with self._db.write() as connection:
            known = set(connection.scalars(select(t.c.task_id)))
            _insert(connection, t, [{"task_id": i, "at": write_time(at)} for i in gone if i not in known])
            lost = [label for by_id in _current_labels(connection, gone).values() for label in by_id.values()]
            rows = [write_label(label) | when | {"withdrawn": True} for label in lost]
            _insert(connection, schema.annotation_versions, rows)
            ledger = _ledger(connection)
            ledger.add_labels(rows, write_time(at))
            ledger.add_gone([task_id for task_id in gone if task_id not in known], write_time(at))
        return len(rows)

    def note_roll(self, roll: Roll, at: datetime) -> None:
        """Note how many tasks Label Studio had when the labelled ones were last known to be there."""
        self.set_fact("roll", [roll.last_id, roll.n_tasks], at)

    def roll(self) -> Roll | None:
        """The count noted last; None before the first."""
        noted = self.fact("roll")
        return None if noted is None else Roll(*noted)

    def tasks(self) -> dict[str, int]:
        """Item id to task id, of the tasks that were not deleted."""
        t, gone = schema.tasks.c, select(schema.gone_tasks.c.task_id)
        query = select(t.item, t.task_id).where(t.task_id.not_in(gone)).order_by(t.seq)
        return dict(map(tuple, self._db.rows(query)))

    # -- labels -------------------------------------------------------------------------------------------------

    def save_pull(self, pull: Pull, at: datetime) -> PullCount:
        """Store a pull: new versions, withdrawals, then the watermark, all or nothing.

        A task's labels are replaced as a whole: one that is known and was not returned was withdrawn. A
        task that arrives after a later truth of it is known adds to the history and changes nothing else,
        so pulls may arrive in any order.

        Raises:
            Unavailable: The database could not store it. Nothing of this pull was stored; pull again.
        """
        new = changed = deleted = unreadable = 0
        told, when = write_time(at), {"withdrawn": False, "late": False, "at": write_time(at)}
        rows: list[Row] = []
        sightings: list[Row] = []
        ids = list({task.task_id for task in pull.tasks})
        with self._db.write() as connection:
            current = _current_labels(connection, ids)
            seen = _seen(connection, ids)
            late: list[Task] = []
            for task in pull.tasks:
                updated_at = write_time(task.updated_at)
                if updated_at < seen.get(task.task_id, ""):
                    late.append(task)
                    continue
                if updated_at > seen.get(task.task_id, ""):
                    sightings.append({"task_id": task.task_id, "updated_at": updated_at, "at": told})
                before = current.get(task.task_id, {})
                now = {label.annotation_id: label for label in task.labels}
                for annotation_id, label in now.items():
                    held = before.get(annotation_id)
                    if held is not None and same_version(held, label):
                        continue
                    new, changed = (new + 1, changed) if held is None else (new, changed + 1)
                    unreadable += label.problem is not None
                    rows.append(write_label(label) | when)
                for annotation_id in before.keys() - now.keys():
                    deleted += 1
                    rows.append(write_label(before[annotation_id]) | when | {"withdrawn": True})
                seen[task.task_id], current[task.task_id] = updated_at, now
            brought = bool(rows)
            _insert(connection, schema.annotation_versions, rows)
            _insert(connection, schema.sightings, sightings)
            rows += _insert_late(connection, late, when | {"late": True})
            _ledger(connection).add_labels(rows, told)
            _note_watermark(connection, pull, told, brought)
        return PullCount(new, changed, deleted, unreadable)

    def watermark(self) -> datetime | None:
        """Where the next pull starts; None before the first."""
        found = self._db.value(_latest_watermark())
        return None if found is None else read_time(found)

    def watermark_seen(self) -> datetime | None:
        """When the present watermark was first noted; None before the first."""
        t = schema.pulls.c
        rows = self._db.rows(select(t.watermark, t.at).order_by(t.seq.desc()).limit(PULLS))
        same = [row.at for row in takewhile(lambda row: row.watermark == rows[0].watermark, rows)]
        return read_time(same[-1]) if same else None

    def settle(self, watermark: datetime, at: datetime) -> None:
        """Note that every change up to a watermark has been read."""
        self.set_fact("settled", write_time(watermark), at)

    def settled(self) -> datetime | None:
        """Up to when every change has been read for certain; None before it was ever quiet."""
        noted = self.fact("settled")
        return None if noted is None else read_time(noted)

    def labels(self) -> dict[int, tuple[Label, ...]]:
        """Task id to its current labels; what was withdrawn is left out."""
        with self._db.read() as connection:
            found = _current_labels(connection, None)
        return {task_id: tuple(by_id.values()) for task_id, by_id in found.items()}

    def label_history(self) -> list[Label]:
        """Every version of every label that was ever pulled, oldest change first; withdrawals are not versions."""
        t = schema.annotation_versions
        query = select(t).where(~t.c.withdrawn).order_by(t.c.updated_at, t.c.annotation_id, t.c.seq)
        return [read_label(row) for row in self._db.rows(query)]

    def unasked(self) -> dict[int, str]:
        """Annotation id to ``overrun``, ``outsider`` or ``declared``, of labels that nobody had asked for when they were pulled."""
        with self._db.read() as connection:
            return _ledger(connection).unasked()

    # -- the ledger ---------------------------------------------------------------------------------------------

    def ledger(self) -> list[Entry]:
        """Who labelled what and why it was asked: every row, oldest first; see `loop.ledger`."""
        with self._db.read() as connection:
            return _ledger(connection).entries()

    def readings(self) -> dict[tuple[int, str], tuple[float, ...]]:
        """Round and finding to the labels that the certificate has read of it, in the order asked; NaN: not known."""
        with self._db.read() as connection:
            return _ledger(connection).readings()

    def find_break(self) -> Broken | None:
        """The first row of the ledger that was changed, or that the state contradicts; None if there is none."""
        with self._db.read() as connection:
            return check_ledger(connection, schema.metadata.tables)

    # -- rounds -------------------------------------------------------------------------------------------------

    def add_round(
        self, round_: Round, report: Mapping[str, Any], probe: bytes | None, readings: Readings = NOTHING
    ) -> None:
        """Commit a batch with its scores, its report, its probe and what the certificate read in one transaction, before anyone is told.

        The database itself refuses scores of an image whose label is known already, and any later change of them.

        Raises:
            Unavailable: Another process committed another batch under this number, or an image of it is labelled.
        """
        t = schema.rounds.c
        with self._db.write() as connection:
            held = connection.scalar(select(t.version).where(t.number == round_.number))
            if held == round_.version:
                return
            if held is not None:
                raise Unavailable(
                    f"Round {round_.number} was committed by another process as {held}. Run the command again: "
                    "it goes on from there."
                )
            _insert(connection, schema.rounds, [write_round(round_)])
            _insert(connection, schema.picks, picks := write_picks(round_))
            _ledger(connection).add_readings(readings, write_time(round_.at))
            _ledger(connection).add_round(write_round(round_), picks)
            _insert_report(connection, round_.number, report, round_.at, probe)

    def rounds(self) -> list[Round]:
        """Every batch asked, oldest first."""
        with self._db.read() as connection:
            return _rounds(connection, None)

    def last_round(self) -> Round | None:
        """The batch asked last; None before the first."""
        t = schema.rounds.c
        return self._round(select(t.number).order_by(t.number.desc()))

    def unconfirmed(self) -> Round | None:
        """The batch that was committed, but not yet seen in Label Studio."""
        t = schema.rounds.c
        confirmed = select(schema.pushes.c.number)
        return self._round(select(t.number).where(t.number.not_in(confirmed)).order_by(t.number))

    def last_push(self) -> tuple[str, int] | None:
        """Model version and number of predictions of the batch that was served last; None before the first."""
        t = schema.pushes.c
        rows = self._db.rows(select(t.version, t.n_served).order_by(t.number.desc()).limit(1))
        return (rows[0].version, rows[0].n_served) if rows else None

    def confirm_push(self, number: int, receipt: Receipt, at: datetime) -> None:
        """Note that a batch was seen in Label Studio."""
        t = schema.pushes
        with self._db.write() as connection:
            if connection.execute(select(t.c.seq).where(t.c.number == number)).first() is not None:
                return
            row = {
                "number": number,
                "version": receipt.version,
                "n_served": receipt.n_served,
                "warnings": list(receipt.warnings),
                "at": write_time(at),
            }
            connection.execute(t.insert(), row)

    def served_version(self) -> str | None:
        """What Label Studio was seen to serve last; None before the first push, or where all its tasks were gone."""
        t = schema.pushes.c
        latest = self._db.rows(select(t.version, t.n_served).order_by(t.number.desc()).limit(1))
        return latest[0].version if latest and latest[0].n_served else None

    def _round(self, number: Any) -> Round | None:
        with self._db.read() as connection:
            found = connection.scalar(number.limit(1))
            return None if found is None else _rounds(connection, found)[0]

    # -- reports, probes, amendments ----------------------------------------------------------------------------

    def add_report(
        self,
        number: int,
        report: Mapping[str, Any],
        at: datetime,
        probe: bytes | None = None,
        readings: Readings = NOTHING,
    ) -> None:
        """Note a decision that asked no batch, the probe it was made with, and what the certificate read."""
        with self._db.write() as connection:
            _ledger(connection).add_readings(readings, write_time(at))
            _insert_report(connection, number, report, at, probe)

    def reports(self) -> list[dict[str, Any]]:
        """Every decision, oldest first."""
        t = schema.reports.c
        return [row.report for row in self._db.rows(select(t.report).order_by(t.seq))]

    def probe(self, number: int | None = None) -> bytes | None:
        """The probe trained last, or last in a round; None if there is none."""
        t = schema.probes.c
        query = select(t.probe).order_by(t.seq.desc())
        found = self._db.value(query if number is None else query.where(t.number == number))
        return None if found is None else bytes(found)

    def amend(self, settings: Mapping[str, Any], at: datetime) -> None:
        """Freeze the settings the first time; later, note them if they differ."""
        t = schema.amendments
        frozen = _as_read(dict(settings))
        with self._db.write() as connection:
            latest = connection.scalar(select(t.c.settings).order_by(t.c.seq.desc()).limit(1))
            if latest != frozen:
                connection.execute(t.insert(), {"settings": frozen, "at": write_time(at)})

    def amending(self, settings: Mapping[str, Any]) -> list[str]:
        """What these settings would change in the frozen ones: what `amend` would note now."""
        t = schema.amendments.c
        frozen = [row.settings for row in self._db.rows(select(t.settings).order_by(t.seq))]
        return _changes(frozen[-1], _as_read(dict(settings))) if frozen else []

    def amendments(self) -> list[str]:
        """What was changed since the start, in the frozen settings or in the certificate's evidence, each change as one
        sentence, oldest first."""
        t = schema.amendments.c
        frozen = [(row.settings, row.at) for row in self._db.rows(select(t.settings, t.at).order_by(t.seq))]
        told = [(at, ", ".join(_changes(before, after))) for (before, _), (after, at) in pairwise(frozen)]
        with self._db.read() as connection:
            told += _ledger(connection).corrections()
        return [
            f"{at[:16].replace('T', ' ')}: {change}" for at, change in sorted(told, key=lambda one: one[0])
        ]


def _current_labels(connection: Connection, task_ids: Sequence[int] | None) -> dict[int, dict[int, Label]]:
    """Task id to annotation id to label, of some tasks or of all."""
    t = schema.current_annotations
    query = select(t).order_by(t.c.task_id, t.c.annotation_id)
    chunks = [query] if task_ids is None else [query.where(t.c.task_id.in_(ids)) for ids in _chunks(task_ids)]
    found: dict[int, dict[int, Label]] = {}
    for chunk in chunks:
        for row in connection.execute(chunk):
            found.setdefault(row.task_id, {})[row.annotation_id] = read_label(row)
    return found


def _seen(connection: Connection, task_ids: Sequence[int]) -> dict[int, str]:
    """Task id to the latest change of the task that is known."""
    t = schema.sightings.c
    found: dict[int, str] = {}
    for ids in _chunks(task_ids):
        query = select(t.task_id, t.updated_at).where(t.task_id.in_(ids)).order_by(t.updated_at)
        found.update(map(tuple, connection.execute(query)))
    return found


def _ledger(connection: Connection) -> Ledger:
    return Ledger(connection, schema.metadata.tables)


def _insert_late(connection: Connection, tasks: Sequence[Task], when: Row) -> list[Row]:
    """Keep the versions that arrived late and are not in the history yet; they are returned."""
    t = schema.annotation_versions
    kept: list[Row] = []
    for task in tasks:
        known = [read_label(row) for row in connection.execute(select(t).where(t.c.task_id == task.task_id))]
        unknown = [label for label in task.labels if not any(same_version(label, held) for held in known)]
        rows = [write_label(label) | when for label in unknown]
        _insert(connection, t, rows)
        kept += rows
    return kept


def _latest_watermark() -> Any:
    return select(schema.pulls.c.watermark).order_by(schema.pulls.c.seq.desc()).limit(1)


def _note_watermark(connection: Connection, pull: Pull, at: str, brought_labels: bool) -> None:
    """Note the pull, unless it brought nothing and ended where the one before ended."""
    watermark = None if pull.watermark is None else write_time(pull.watermark)
    if brought_labels or watermark != connection.scalar(_latest_watermark()):
        row = {"watermark": watermark, "n_tasks": len(pull.tasks), "at": at}
        connection.execute(schema.pulls.insert(), row)


def _rounds(connection: Connection, number: int | None) -> list[Round]:
    """One batch, or all of them, oldest first."""
    heads, picks = select(schema.rounds), select(schema.picks)
    if number is not None:
        heads = heads.where(schema.rounds.c.number == number)
        picks = picks.where(schema.picks.c.number == number)
    of_round: dict[int, list[Any]] = {}
    for row in connection.execute(picks.order_by(schema.picks.c.number, schema.picks.c.rank)):
        of_round.setdefault(row.number, []).append(row)
    found = connection.execute(heads.order_by(schema.rounds.c.number))
    return [read_round(head, of_round.get(head.number, [])) for head in found]


def _insert_report(
    connection: Connection, number: int, report: Mapping[str, Any], at: datetime, probe: bytes | None
) -> None:
    row = {"number": number, "report": dict(report), "at": write_time(at)}
    connection.execute(schema.reports.insert(), row)
    if probe is not None:
        connection.execute(schema.probes.insert(), {"number": number, "probe": probe})


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, a table such as stop.target line by line."""
    told: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, FORMERLY.get(key, DEFAULT)), after.get(key, DEFAULT)
        if isinstance(old, dict) and isinstance(new, dict):
            told += [f"{key}.{change}" for change in _changes(old, new)]
        elif old != new:
            told.append(f"{key} from {old} to {new}")
    return told


def _insert(connection: Connection, table: Any, rows: Sequence[Row]) -> None:
    for chunk in _chunks(rows, CHUNK):
        connection.execute(table.insert(), list(chunk))


def _chunks(all_: Sequence[Any], size: int = IDS) -> list[Sequence[Any]]:
    return [all_[start : start + size] for start in range(0, len(all_), size)]


def _as_read(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))
