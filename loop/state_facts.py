"""Facts of the state by name, and how its parts write rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from loop import schema
from loop.database import Database
from loop.ledger import Ledger
from loop.rows import Row, write_time

CHUNK = 5_000  # rows an insert
IDS = 500  # ids a query


class Facts:
    """What is known by a name: the project's id, the encoder, what is under way."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def set_fact(self, key: str, value: Any, at: datetime) -> None:
        """Note a fact of JSON-ready values; the latest one counts, all are kept."""
        t = schema.facts
        value = as_read(value)
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


def open_ledger(connection: Connection) -> Ledger:
    """The ledger, inside a transaction."""
    return Ledger(connection, schema.metadata.tables)


def insert(connection: Connection, table: Any, rows: Sequence[Row]) -> None:
    """Add rows to a table, a few thousand at a time."""
    for chunk in chunks(rows, CHUNK):
        connection.execute(table.insert(), list(chunk))


def chunks(all_: Sequence[Any], size: int = IDS) -> list[Sequence[Any]]:
    """A sequence in parts that a query can take."""
    return [all_[start : start + size] for start in range(0, len(all_), size)]


def as_read(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))
