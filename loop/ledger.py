"""Who labelled what, and why it was asked: a hash-chained row for every pick and every version of a label.

Written in the transaction that writes the facts themselves, so it knows what was known then. Where later answers show that
a label picked by hand was an overrun after all, a row says so; no row changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, func, select

from forecasting.words import counted
from loop.booking import (
    BOOKING,
    DECLARED,
    EXISTING,
    OUTSIDER,
    OVERRUN,
    UNASKED,
    Row,
    asked_row,
    decided_row,
    end_answer,
    event_of,
    gone_row,
    kept_fields,
    lookup_of,
    read_answer,
    read_row,
    rolled_row,
    said_row,
)
from loop.chain import START, Entry, extend
from loop.streams import Answer, find_batch, ran_dry

IDS = 500  # ids a query
REBUILT = "the rows above were chained when the state was migrated, not when they were written"


class Ledger:
    """The ledger of one state, inside one of its transactions.

    Args:
        connection: The transaction.
        tables: The tables of the state by name.
    """

    def __init__(self, connection: Connection, tables: Mapping[str, Table]) -> None:
        self._db, self._t = connection, tables

    # -- growing ------------------------------------------------------------------------------------------------

    def add_round(self, head: Row, picks: Iterable[Row]) -> None:
        """Book what a batch asks; `head` and `picks` as they were written."""
        asked = [asked_row(head, pick) for pick in picks]
        tasks = self._tasks_of([row["item"] for row in asked])
        self._append([row | {"task": next(iter(tasks.get(row["item"], ())), None)} for row in asked])

    def add_labels(self, rows: Sequence[Row], at: str) -> None:
        """Book versions of labels that one pull brought, in the order in which they were written."""
        if not rows:
            return
        ids = [row["annotation_id"] for row in rows]
        held = self._held(ids)
        item_of = self._items_of([row["task_id"] for row in rows])
        picks = self._picks_of(list(item_of.values()))
        served, pull_before = self._served(), self._pull_before(at)
        declared = self._declared() and self._first_asked() is None
        batches: dict[int, list[list[Answer]]] = {}
        booked: list[Row] = []
        for row in rows:
            item, before = item_of.get(row["task_id"]), held.get(row["annotation_id"])
            if before is not None:
                booking = {name: before.get(name) for name in BOOKING}
            elif item in picks:
                booking = picks[item]
            elif declared:
                booking = {"stream": DECLARED, "round": None}
            else:
                label = read_answer(row, at)
                number = find_batch(served, label, pull_before)
                if number is not None and number not in batches:
                    batches[number] = self._batch(number, at)
                dry = number is not None and ran_dry(batches[number], label)
                booking = {"stream": OVERRUN if dry else OUTSIDER, "round": number}
            told = said_row(row) | {"event": event_of(row, before), "item": item} | booking
            booked.append(told)
            if told["event"] == "withdrawn":
                held.pop(row["annotation_id"], None)
            elif told["event"] != "late":
                held[row["annotation_id"]] = told
        self._append(booked)
        self._rebook([row["task_id"] for row in rows], at)

    def add_gone(self, task_ids: Sequence[int], at: str) -> None:
        """Book tasks that were found deleted in Label Studio."""
        item_of = self._items_of(task_ids)
        self._append([gone_row(task_id, at) | {"item": item_of.get(task_id)} for task_id in task_ids])
        self._rebook(task_ids, at)

    def add_readings(self, readings: Mapping[tuple[int, str], Sequence[float]], at: str) -> None:
        """Book what the certificate has read, where it is more than before or was corrected."""
        rows = [read_row(*key, y, at) for key, y in sorted(readings.items())]
        held = {(row["round"], row["finding"]): row["y"] for row in self._read_rows()}
        self._append([row for row in rows if held.get((row["round"], row["finding"])) != row["y"]])

    def declare(self, at: str) -> None:
        """Book the labels that were there before the first batch as the settings now say: declared random, or outsiders."""
        t, first = self._t["ledger"].c, self._first_asked()
        query = select(t.annotation_id).where(t.stream.in_((OUTSIDER, DECLARED)), t.round.is_(None))
        if first is not None:
            query = query.where(t.seq < first)
        stream = DECLARED if self._declared() else OUTSIDER
        held = self._held(list(self._db.scalars(query.distinct().order_by(t.annotation_id))))
        self._append(
            [
                kept_fields(row) | {"event": "rebooked", "at": at, "stream": stream}
                for row in held.values()
                if row["stream"] != stream
            ]
        )

    def add_rollback(self, row: Row) -> None:
        """Book a going back to an earlier round, from its row."""
        self._append([rolled_row(row)])

    def add_decisions(self, rows: Iterable[Row]) -> None:
        """Book decisions, from the rows of their reports."""
        self._append([decided_row(row) for row in rows])

    def note_rebuilt(self) -> None:
        """Book that the rows so far were chained afterwards."""
        self._append([{"event": "rebuilt", "reason": REBUILT}])

    # -- reading ------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Every row, oldest first."""
        return [Entry(row.seq, row.row, row.hash) for row in self._rows(self._t["ledger"], "seq")]

    def unasked(self) -> dict[int, str]:
        """Annotation to the stream that it was last booked to, of those that nobody asked for."""
        t = self._t["ledger"].c
        query = select(t.annotation_id, t.stream).where(t.stream.in_(UNASKED)).order_by(t.seq)
        return dict(map(tuple, self._db.execute(query)))

    def readings(self) -> dict[tuple[int, str], tuple[float, ...]]:
        """Round and finding to the labels that the certificate has read, in the order asked; NaN: not known."""
        return {
            (row["round"], row["finding"]): tuple(math.nan if y is None else y for y in row["y"])
            for row in self._read_rows()
        }

    def corrections(self) -> list[tuple[str, str]]:
        """Every time that labels were counted otherwise than before: when, and a sentence."""
        held: dict[tuple[int, str], list[float | None]] = {}
        told: dict[tuple[str, str], int] = {}
        for row in self._read_rows():
            key = row["round"], row["finding"]
            n = sum(before != now for before, now in zip(held.get(key, []), row["y"], strict=False))
            if n:
                told[row["at"], row["finding"]] = told.get((row["at"], row["finding"]), 0) + n
            held[key] = row["y"]
        return [
            (
                at,
                f"the certificate's evidence for {finding} was corrected on {counted(n, 'label')} that it had counted",
            )
            for (at, finding), n in told.items()
        ]

    # -- inside -------------------------------------------------------------------------------------------------

    def _append(self, rows: Sequence[Row]) -> None:
        t = self._t["ledger"]
        tail = self._db.execute(select(t.c.seq, t.c.hash).order_by(t.c.seq.desc()).limit(1)).first()
        seq, before = (tail.seq, tail.hash) if tail else (0, START)
        entries = extend(seq, before, rows)
        for some in _chunks(list(zip(entries, rows, strict=True)), 10 * IDS):
            self._db.execute(
                t.insert(),
                [{"seq": e.seq, "row": e.row, "hash": e.hash} | lookup_of(row) for e, row in some],
            )

    def _read_rows(self) -> list[Row]:
        t = self._t["ledger"].c
        query = select(t.seq, t.row, t.hash).where(t.round.is_not(None), t.stream.is_(None)).order_by(t.seq)
        return [Entry(*row).fields() for row in self._db.execute(query)]

    def _rebook(self, task_ids: Sequence[int], at: str) -> None:
        """Book as overruns the labels that were booked as outsiders before the answers of their batch had come."""
        ledger, t = self._t["ledger"].c, self._t
        touched: set[int] = set()
        for ids in _chunks(task_ids):
            query = select(t["picks"].c.number).join(t["tasks"], t["tasks"].c.item == t["picks"].c.item)
            touched.update(self._db.scalars(query.where(t["tasks"].c.task_id.in_(ids)).distinct()))
        for number in sorted(touched):
            if not all(
                batch := self._batch(number, at)
            ):  # an image nobody has answered: it has not run dry yet
                continue
            told: dict[int, list[Row]] = {}
            query = select(ledger.seq, ledger.row, ledger.hash)
            query = query.where(ledger.round == number, ledger.stream.in_(UNASKED)).order_by(ledger.seq)
            for row in self._db.execute(query):
                fields = Entry(*row).fields()
                if fields["event"] == "withdrawn":
                    told.pop(fields["annotation"], None)
                else:
                    told.setdefault(fields["annotation"], []).append(fields)
            outsiders = [rows for rows in told.values() if rows[-1]["stream"] == OUTSIDER]
            self._append(
                [
                    kept_fields(rows[-1]) | {"event": "rebooked", "at": at, "stream": OVERRUN}
                    for rows in outsiders
                    if ran_dry(batch, read_answer(rows[0], rows[0]["at"]))
                ]
            )

    def _declared(self) -> bool:
        t = self._t["facts"].c
        query = select(t.value).where(t.key == EXISTING).order_by(t.seq.desc()).limit(1)
        return self._db.scalar(query) == "random"

    def _first_asked(self) -> int | None:
        """The row with which the first batch was asked; None before it."""
        t = self._t["ledger"].c
        query = select(func.min(t.seq)).where(t.round.is_not(None), t.annotation_id.is_(None))
        found: int | None = self._db.scalar(query)
        return found

    def _held(self, annotation_ids: Sequence[int]) -> dict[int, Row]:
        """Annotation to what the ledger last said of it, of those that stand."""
        t = self._t["ledger"].c
        found: dict[int, Row] = {}
        for ids in _chunks(annotation_ids):
            query = select(t.seq, t.row, t.hash).where(t.annotation_id.in_(ids)).order_by(t.seq)
            for row in self._db.execute(query):
                fields = Entry(*row).fields()
                if fields["event"] == "withdrawn":
                    found.pop(fields["annotation"], None)
                elif fields["event"] == "rebooked":
                    found.get(fields["annotation"], {}).update(stream=fields["stream"])
                elif fields["event"] != "late":
                    found[fields["annotation"]] = fields
        return found

    def _items_of(self, task_ids: Sequence[int]) -> dict[int, str]:
        t = self._t["tasks"].c
        found: dict[int, str] = {}
        for ids in _chunks(task_ids):
            query = select(t.task_id, t.item).where(t.task_id.in_(ids)).order_by(t.seq)
            found.update(map(tuple, self._db.execute(query)))
        return found

    def _tasks_of(self, items: Sequence[str]) -> dict[str, list[int]]:
        """Item to its tasks, the latest first."""
        t = self._t["tasks"].c
        found: dict[str, list[int]] = {}
        for some in _chunks(items):
            query = select(t.item, t.task_id).where(t.item.in_(some)).order_by(t.seq.desc())
            for item, task_id in self._db.execute(query):
                found.setdefault(item, []).append(task_id)
        return found

    def _picks_of(self, items: Sequence[str]) -> dict[str, Row]:
        """Item to the booking of the round that asked it last, of rounds in the ledger."""
        ledger, t, rounds = self._t["ledger"].c, self._t["picks"], self._t["rounds"]
        last = self._db.scalar(select(func.max(ledger.round))) or 0
        found: dict[str, Row] = {}
        for some in _chunks(items):
            query = select(t, rounds.c.findings).join(rounds, rounds.c.number == t.c.number)
            query = query.where(t.c.item.in_(some), t.c.number <= last).order_by(t.c.number)
            for row in self._db.execute(query):
                told = asked_row(dict(row._mapping), dict(row._mapping))
                found[row.item] = {name: told.get(name) for name in BOOKING}
        return found

    def _served(self) -> list[tuple[int, datetime]]:
        """Each batch with the time from which annotators had it, of rounds in the ledger; after a rollback, again."""
        last = self._db.scalar(select(func.max(self._t["ledger"].c.round))) or 0
        t, back, done = self._t["pushes"].c, self._t["rollbacks"].c, self._t["restored"].c
        served = list(self._db.execute(select(t.number, t.at).where(t.number <= last)))
        served += self._db.execute(select(back.to_round, done.at).where(back.number == done.number))
        return sorted(((number, datetime.fromisoformat(at)) for number, at in served), key=lambda one: one[1])

    def _pull_before(self, at: str) -> datetime | None:
        t = self._t["pulls"].c
        found = self._db.scalar(select(func.max(t.at)).where(t.at < at))
        return None if found is None else datetime.fromisoformat(found)

    def _batch(self, number: int, at: str) -> list[list[Answer]]:
        """Per image of a round that still has a task, all answers known at a time."""
        t, gone, said = self._t["picks"].c, self._t["gone_tasks"].c, self._t["annotations"]
        items = list(self._db.scalars(select(t.item).where(t.number == number)))
        tasks = self._tasks_of(items)
        lost = set(self._db.scalars(select(gone.task_id).where(gone.at <= at)))
        tasks = {item: ids for item, ids in tasks.items() if set(ids) - lost}
        item_of = {task_id: item for item, ids in tasks.items() for task_id in ids}
        answers: dict[str, list[Answer]] = {item: [] for item in tasks}
        standing: dict[int, Answer] = {}
        for ids in _chunks(list(item_of)):
            query = select(said).where(said.c.task_id.in_(ids), said.c.at <= at, ~said.c.late)
            for row in self._db.execute(query.order_by(said.c.seq)):
                one, of_item = row.annotation_id, answers[item_of[row.task_id]]
                if not row.withdrawn:
                    if one not in standing:
                        standing[one] = read_answer(dict(row._mapping), row.at)
                        of_item.append(standing[one])
                elif one in standing:
                    ended = standing.pop(one)
                    of_item.remove(ended)
                    of_item.append(end_answer(ended, row.at))
        return list(answers.values())

    def _rows(self, table: Table, *order: str) -> Iterator[Any]:
        return iter(self._db.execute(select(table).order_by(*(table.c[name] for name in order))))


def _chunks(all_: Sequence[Any], size: int = IDS) -> list[Sequence[Any]]:
    return [all_[start : start + size] for start in range(0, len(all_), size)]
