"""What the state knows of images: which are in our care, which could not be used, and their tasks in Label Studio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select

from annotate.records import Roll
from loop import schema
from loop.database import Database
from loop.items import Item
from loop.rows import read_item, write_item, write_time
from loop.state_facts import Facts, insert


class Images(Facts):
    """Images and tasks; both are only added."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._items: list[Item] = []  # as read last; images are only added, so as many are the same

    def add_items(self, items: Iterable[Item]) -> None:
        """Take images into care; one that is known stays as it is."""
        with self._db.write() as connection:
            known = set(connection.scalars(select(schema.items.c.item)))
            new = {item.item: item for item in items if item.item not in known}
            insert(connection, schema.items, [write_item(item) for item in new.values()])

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
            insert(connection, schema.problems, rows)

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
            insert(connection, schema.tasks, rows)

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
