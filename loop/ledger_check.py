"""Whether the ledger is as it was written, and whether the tables of the state still say what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, Table, cast, select

from loop.booking import VERSIONS, Row, asked_row, decided_row, gone_row, lookup_of, rolled_row, said_row
from loop.chain import Broken, Entry, find_break, without_empty

TABLE_OF = {
    "asked": "picks",
    "gone": "gone_tasks",
    "rolled back": "rollbacks",
    "decided": "reports",
} | dict.fromkeys(VERSIONS, "annotations")
LATER = ("decisions",)  # fields that rows from before there were any lack; a row that has one seals it


def check_ledger(connection: Connection, tables: Mapping[str, Table]) -> Broken | None:
    """The first row that was changed, or that the tables contradict; None if all is as it was written.

    Args:
        connection: A transaction of the state.
        tables: The tables of the state by name.
    """
    entries, filed = _read(connection, tables["ledger"])
    if (broken := find_break(entries)) is not None:
        return broken
    for entry, lookup in zip(entries, filed, strict=True):
        if lookup != tuple(lookup_of(entry.fields()).values()):
            return Broken(entry.seq, "it is filed under another label, stream or round")
    booked: dict[str, list[Row]] = {table: [] for table in TABLE_OF.values()}
    for fields in (entry.fields() for entry in entries):
        if fields["event"] in TABLE_OF:
            booked[TABLE_OF[fields["event"]]].append(fields)
    booked["gone_tasks"].sort(key=lambda fields: (fields["at"], fields["task"]))
    try:
        facts = _read_facts(connection, tables)
        pairs = set(map(tuple, connection.execute(select(tables["tasks"].c.item, tables["tasks"].c.task_id))))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Broken(1, f"the tables of picks and labels cannot be read: {error}")
    found = [_compare(table, rows, facts[table], len(entries)) for table, rows in booked.items()]
    strange = next(
        (
            Broken(fields["seq"], f"the table tasks does not know its task {fields['task']}")
            for rows in booked.values()
            for fields in rows
            if "item" in fields and "task" in fields and (fields["item"], fields["task"]) not in pairs
        ),
        None,
    )
    return min((one for one in (*found, strange) if one is not None), key=lambda one: one.seq, default=None)


def _read(connection: Connection, ledger: Table) -> tuple[list[Entry], list[tuple[Any, ...]]]:
    """Every row with what it is filed under; a text that was changed may hold bytes that are none."""
    t = ledger.c
    texts: list[Any] = [t.row, t.hash, t.stream]
    if connection.dialect.name == "sqlite":
        texts = [cast(column, LargeBinary) for column in texts]
    query = select(t.seq, *texts, t.annotation_id, t.round).order_by(t.seq)
    found = [tuple(map(_decoded, row)) for row in connection.execute(query)]
    return [Entry(*row[:3]) for row in found], [(row[4], row[3], row[5]) for row in found]


def _decoded(value: Any) -> Any:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _read_facts(connection: Connection, tables: Mapping[str, Table]) -> dict[str, list[Row]]:
    """What the tables say, as rows of the ledger in their order."""

    def rows(table: str, *order: str) -> list[Any]:
        t = tables[table]
        return [
            dict(row._mapping) for row in connection.execute(select(t).order_by(*(t.c[n] for n in order)))
        ]

    heads = {row["number"]: row for row in rows("rounds", "number")}
    return {
        "picks": [asked_row(heads[row["number"]], row) for row in rows("picks", "number", "rank")],
        "annotations": [said_row(row) for row in rows("annotations", "seq")],
        "reports": [decided_row(row) for row in rows("reports", "seq")],
        "rollbacks": [rolled_row(row) for row in rows("rollbacks", "number")],
        "gone_tasks": [gone_row(row["task_id"], row["at"]) for row in rows("gone_tasks", "at", "task_id")],
    }


def _compare(table: str, rows: Sequence[Row], facts: Sequence[Row], n_entries: int) -> Broken | None:
    """The first row that a table contradicts, or that only one of the two has."""
    for fields, fact in zip(rows, facts, strict=False):
        told = without_empty(fact)
        held = [name for name in fact if name != "event" and (name in fields or name not in LATER)]
        wrong = [name for name in held if fields.get(name) != told.get(name)]
        if wrong:
            return Broken(fields["seq"], f"the table {table} contradicts it about {', '.join(wrong)}")
    if len(rows) == len(facts):
        return None
    seq = rows[len(facts)]["seq"] if len(rows) > len(facts) else n_entries + 1
    return Broken(seq, f"the table {table} has {len(facts)} rows, the ledger {len(rows)} of them")
