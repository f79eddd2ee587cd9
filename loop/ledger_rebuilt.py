"""A ledger for a state that is older than its ledger, from its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, groupby
from typing import Any

from sqlalchemy import Connection, Table, func, select

from loop.booking import Row
from loop.ledger import Ledger


def rebuild(connection: Connection, tables: Mapping[str, Table]) -> None:
    """Book everything that a state without a ledger holds, in the order in which it was written.

    Args:
        connection: A transaction of the state.
        tables: The tables of the state by name.
    """

    def rows(table: str, *order: str) -> Iterator[Any]:
        t = tables[table]
        return iter(connection.execute(select(t).order_by(*(t.c[name] for name in order))))

    if connection.scalar(select(func.count()).select_from(tables["ledger"])):
        return
    ledger = Ledger(connection, tables)
    versions = [dict(row._mapping) for row in rows("annotations", "seq")]
    ordered = zip(accumulate((row["at"] for row in versions), max), versions, strict=True)
    events: list[tuple[str, int, Any]] = [
        (at, 0, [row for _, row in pulled]) for at, pulled in groupby(ordered, lambda one: one[0])
    ]
    lost = sorted((row.at, row.task_id) for row in rows("gone_tasks", "task_id"))
    events += [(at, 1, [i for _, i in found]) for at, found in groupby(lost, lambda one: one[0])]
    picks: dict[int, list[Row]] = {}
    for row in rows("picks", "number", "rank"):
        picks.setdefault(row.number, []).append(dict(row._mapping))
    events += [(row.at, 2, dict(row._mapping)) for row in rows("rounds", "number")]
    events += [(row.at, 3, dict(row._mapping)) for row in rows("reports", "seq")]
    for at, kind, told in sorted(events, key=lambda event: event[:2]):
        if kind == 3:
            ledger.add_decisions([told])
        elif kind == 2:
            ledger.add_round(told, picks.get(told["number"], ()))
        else:
            (ledger.add_gone if kind else ledger.add_labels)(told, at)
    if events:
        ledger.note_rebuilt()


def book_decisions(connection: Connection, tables: Mapping[str, Table]) -> None:
    """Book the decisions of a state that is older than their rows in the ledger."""
    t, ledger = tables["reports"], Ledger(connection, tables)
    made = [dict(row._mapping) for row in connection.execute(select(t).order_by(t.c.seq))]
    n_booked = sum(entry.fields()["event"] == "decided" for entry in ledger.entries())
    if made[n_booked:]:
        ledger.add_decisions(made[n_booked:])
        ledger.note_rebuilt()
