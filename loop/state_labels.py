"""What the state knows of labels: every version that a pull brought, what was withdrawn, and the ledger of it all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, select

from annotate.records import Label, Pull, Task
from loop import schema
from loop.booking import EXISTING, OUTSIDER
from loop.chain import Broken, Entry
from loop.ledger_check import check_ledger
from loop.rows import PullCount, Row, read_label, read_time, same_version, write_label, write_time
from loop.state_facts import Facts, chunks, insert, open_ledger

PULLS = 50  # pulls that are looked through


class Labels(Facts):
    """Labels as they were pulled; the present truth is a view of them."""

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
            insert(connection, schema.annotation_versions, rows)
            insert(connection, schema.sightings, sightings)
            rows += _insert_late(connection, late, when | {"late": True})
            open_ledger(connection).add_labels(rows, told)
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
            return open_ledger(connection).unasked()

    def drop_tasks(self, task_ids: Iterable[int], at: datetime) -> int:
        """Note tasks that were deleted in Label Studio, and withdraw their labels; returns how many labels.

        Their images have no task any more, until one is added. The history keeps the labels.
        """
        t, gone, when = schema.gone_tasks, sorted(set(task_ids)), {"late": False, "at": write_time(at)}
        with self._db.write() as connection:
            known = set(connection.scalars(select(t.c.task_id)))
            insert(connection, t, [{"task_id": i, "at": write_time(at)} for i in gone if i not in known])
            lost = [label for by_id in _current_labels(connection, gone).values() for label in by_id.values()]
            rows = [write_label(label) | when | {"withdrawn": True} for label in lost]
            insert(connection, schema.annotation_versions, rows)
            ledger = open_ledger(connection)
            ledger.add_labels(rows, write_time(at))
            ledger.add_gone([task_id for task_id in gone if task_id not in known], write_time(at))
        return len(rows)

    def declare_existing(self, how: str, at: datetime) -> None:
        """Note how labels that were there before the first batch are booked, ``outsider`` or ``random``; see `Ledger.declare`."""
        if how == (self.fact(EXISTING) or OUTSIDER):
            return
        with self._db.write() as connection:
            connection.execute(schema.facts.insert(), {"key": EXISTING, "value": how, "at": write_time(at)})
            open_ledger(connection).declare(write_time(at))

    # -- the ledger ---------------------------------------------------------------------------------------------

    def ledger(self) -> list[Entry]:
        """Who labelled what and why it was asked: every row, oldest first; see `loop.ledger`."""
        with self._db.read() as connection:
            return open_ledger(connection).entries()

    def readings(self) -> dict[tuple[int, str], tuple[float, ...]]:
        """Round and finding to the labels that the certificate has read of it, in the order asked; NaN: not known."""
        with self._db.read() as connection:
            return open_ledger(connection).readings()

    def find_break(self) -> Broken | None:
        """The first row of the ledger that was changed, or that the state contradicts; None if there is none."""
        with self._db.read() as connection:
            return check_ledger(connection, schema.metadata.tables)


def _current_labels(connection: Connection, task_ids: Sequence[int] | None) -> dict[int, dict[int, Label]]:
    """Task id to annotation id to label, of some tasks or of all."""
    t = schema.current_annotations
    query = select(t).order_by(t.c.task_id, t.c.annotation_id)
    queries = [query] if task_ids is None else [query.where(t.c.task_id.in_(ids)) for ids in chunks(task_ids)]
    found: dict[int, dict[int, Label]] = {}
    for chunk in queries:
        for row in connection.execute(chunk):
            found.setdefault(row.task_id, {})[row.annotation_id] = read_label(row)
    return found


def _seen(connection: Connection, task_ids: Sequence[int]) -> dict[int, str]:
    """Task id to the latest change of the task that is known."""
    t = schema.sightings.c
    found: dict[int, str] = {}
    for ids in chunks(task_ids):
        query = select(t.task_id, t.updated_at).where(t.task_id.in_(ids)).order_by(t.updated_at)
        found.update(map(tuple, connection.execute(query)))
    return found


def _insert_late(connection: Connection, tasks: Sequence[Task], when: Row) -> list[Row]:
    """Keep the versions that arrived late and are not in the history yet; they are returned."""
    t = schema.annotation_versions
    kept: list[Row] = []
    for task in tasks:
        known = [read_label(row) for row in connection.execute(select(t).where(t.c.task_id == task.task_id))]
        unknown = [label for label in task.labels if not any(same_version(label, held) for held in known)]
        rows = [write_label(label) | when for label in unknown]
        insert(connection, t, rows)
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
