"""Who labelled what, and why it was asked: a hash-chained row for every pick and every version of a label.

Written in the transaction that writes the facts themselves, so it knows what was known then. Where later answers show that
a label picked by hand was an overrun after all, a row says so; no row changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, groupby
from typing import Any

from sqlalchemy import Connection, LargeBinary, Table, cast, func, select

from loop.chain import START, Broken, Entry, extend, find_break
from loop.streams import Answer, find_batch, ran_dry

Row = dict[str, Any]

OVERRUN, OUTSIDER = "overrun", "outsider"
UNASKED = (OVERRUN, OUTSIDER)
IDS = 500  # ids a query
VERSIONS = (
    "labelled",
    "relabelled",
    "skipped",
    "withdrawn",
    "late",
)  # events that are a row of `annotations`
WHY = ("rank", "strategy", "reason", "inclusion_probability")
BOOKING = ("stream", "round", *WHY, "scores")
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
        asked = [_asked(head, pick) for pick in picks]
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
        pushed, pull_before = self._pushed(), self._pull_before(at)
        batches: dict[int, list[list[Answer]]] = {}
        booked: list[Row] = []
        for row in rows:
            item, before = item_of.get(row["task_id"]), held.get(row["annotation_id"])
            if before is not None:
                booking = {name: before.get(name) for name in BOOKING}
            elif item in picks:
                booking = picks[item]
            else:
                label = _answer(row, at)
                number = find_batch(pushed, label, pull_before)
                if number is not None and number not in batches:
                    batches[number] = self._batch(number, at)
                dry = number is not None and ran_dry(batches[number], label)
                booking = {"stream": OVERRUN if dry else OUTSIDER, "round": number}
            told = _said(row) | {"event": _event(row, before), "item": item} | booking
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
        self._append([_gone(task_id, at) | {"item": item_of.get(task_id)} for task_id in task_ids])
        self._rebook(task_ids, at)

    def build(self) -> None:
        """Book everything that a state without a ledger holds, in the order in which it was written."""
        t = self._t
        if self._db.scalar(select(func.count()).select_from(t["ledger"])):
            return
        versions = [dict(row._mapping) for row in self._rows(t["annotations"], "seq")]
        ordered = zip(accumulate((row["at"] for row in versions), max), versions, strict=True)
        events: list[tuple[str, int, Any]] = [
            (at, 0, [row for _, row in pulled]) for at, pulled in groupby(ordered, lambda one: one[0])
        ]
        lost = sorted((row.at, row.task_id) for row in self._rows(t["gone_tasks"], "task_id"))
        events += [(at, 1, [i for _, i in found]) for at, found in groupby(lost, lambda one: one[0])]
        picks: dict[int, list[Row]] = {}
        for row in self._rows(t["picks"], "number", "rank"):
            picks.setdefault(row.number, []).append(dict(row._mapping))
        events += [(row.at, 2, dict(row._mapping)) for row in self._rows(t["rounds"], "number")]
        for at, kind, told in sorted(events, key=lambda event: event[:2]):
            if kind == 2:
                self.add_round(told, picks.get(told["number"], ()))
            else:
                (self.add_gone if kind else self.add_labels)(told, at)
        if events:
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

    def find_break(self) -> Broken | None:
        """The first row that was changed, or that the tables contradict; None if all is as it was written."""
        t = self._t["ledger"].c
        raw = self._db.dialect.name == "sqlite"  # where a text may hold bytes that are none

        def text_of(column: Any) -> Any:
            return cast(column, LargeBinary) if raw else column

        entries: list[Entry] = []
        lookups: list[tuple[Any, ...]] = []
        for row in self._db.execute(
            select(
                t.seq, text_of(t.row), text_of(t.hash), t.annotation_id, text_of(t.stream), t.round
            ).order_by(t.seq)
        ):
            seq, line, hashed, annotation_id, stream, number = (_text(value) for value in row)
            entries.append(Entry(seq, line, hashed))
            lookups.append((annotation_id, stream, number))
        if (broken := find_break(entries)) is not None:
            return broken
        for entry, lookup in zip(entries, lookups, strict=True):
            if lookup != tuple(_lookup(entry.fields()).values()):
                return Broken(entry.seq, f"row {entry.seq} is filed under another label, stream or round")
        return self._contradicted(entries)

    def _contradicted(self, entries: Sequence[Entry]) -> Broken | None:
        """The first row that says something else than the tables of picks, labels and deleted tasks."""
        t = self._t
        booked: dict[str, list[tuple[int, Row]]] = {"picks": [], "annotations": [], "gone_tasks": []}
        for entry in entries:
            fields = entry.fields()
            table = {"asked": "picks", "gone": "gone_tasks"}.get(fields["event"], "annotations")
            if table != "annotations" or fields["event"] in VERSIONS:
                booked[table].append((entry.seq, fields))
        try:
            heads = {row.number: row._mapping for row in self._rows(t["rounds"], "number")}
            facts = {
                "picks": [
                    _asked(heads.get(row.number, {}), row._mapping)
                    for row in self._rows(t["picks"], "number", "rank")
                ],
                "annotations": [_said(row._mapping) for row in self._rows(t["annotations"], "seq")],
                "gone_tasks": [_gone(row.task_id, row.at) for row in self._rows(t["gone_tasks"], "task_id")],
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return Broken(1, f"the tables of picks and labels cannot be read: {error}")
        booked["gone_tasks"].sort(key=lambda one: one[1].get("task", 0))
        found: list[Broken] = []
        for table, rows in booked.items():
            for (seq, fields), fact in zip(rows, facts[table], strict=False):
                wrong = [name for name in fact if fields.get(name) != fact[name]]
                if wrong:
                    found.append(
                        Broken(seq, f"the table {table} contradicts row {seq} about {', '.join(wrong)}")
                    )
                    break
            else:
                if len(rows) != len(facts[table]):
                    last = entries[-1].seq if entries else 0
                    seq = rows[len(facts[table])][0] if len(rows) > len(facts[table]) else last + 1
                    found.append(
                        Broken(seq, f"the table {table} has {len(facts[table])} rows, the ledger {len(rows)}")
                    )
        return min(found, key=lambda one: one.seq, default=None)

    # -- inside -------------------------------------------------------------------------------------------------

    def _append(self, rows: Sequence[Row]) -> None:
        t = self._t["ledger"]
        tail = self._db.execute(select(t.c.seq, t.c.hash).order_by(t.c.seq.desc()).limit(1)).first()
        seq, before = (tail.seq, tail.hash) if tail else (0, START)
        entries = extend(seq, before, rows)
        for some in _chunks(list(zip(entries, rows, strict=True)), 10 * IDS):
            self._db.execute(
                t.insert(),
                [{"seq": e.seq, "row": e.row, "hash": e.hash} | _lookup(row) for e, row in some],
            )

    def _rebook(self, task_ids: Sequence[int], at: str) -> None:
        """Book as overruns the labels that were booked as outsiders before the answers of their batch had come."""
        ledger, t = self._t["ledger"].c, self._t
        touched: set[int] = set()
        for ids in _chunks(task_ids):
            query = select(t["picks"].c.number).join(t["tasks"], t["tasks"].c.item == t["picks"].c.item)
            touched.update(self._db.scalars(query.where(t["tasks"].c.task_id.in_(ids)).distinct()))
        for number in sorted(touched):
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
            if not outsiders:
                continue
            batch = self._batch(number, at)
            self._append(
                [
                    _kept(rows[-1]) | {"event": "rebooked", "at": at, "stream": OVERRUN}
                    for rows in outsiders
                    if ran_dry(batch, _answer(rows[0], rows[0]["at"]))
                ]
            )

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
                told = _asked(dict(row._mapping), dict(row._mapping))
                found[row.item] = {name: told.get(name) for name in BOOKING}
        return found

    def _pushed(self) -> dict[int, datetime]:
        """Round to when it was seen in Label Studio, of rounds in the ledger."""
        last = self._db.scalar(select(func.max(self._t["ledger"].c.round))) or 0
        t = self._t["pushes"].c
        query = select(t.number, t.at).where(t.number <= last)
        return {number: datetime.fromisoformat(at) for number, at in self._db.execute(query)}

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
                        standing[one] = _answer(dict(row._mapping), row.at)
                        of_item.append(standing[one])
                elif one in standing:
                    ended = standing.pop(one)
                    of_item.remove(ended)
                    of_item.append(_withdrawn(ended, row.at))
        return list(answers.values())

    def _rows(self, table: Table, *order: str) -> Iterator[Any]:
        return iter(self._db.execute(select(table).order_by(*(table.c[name] for name in order))))


def _asked(head: Mapping[str, Any], pick: Mapping[str, Any]) -> Row:
    """One image of a batch, from its two rows."""
    findings = head.get("findings", ())
    return {
        "event": "asked",
        "at": head.get("at"),
        "round": pick["number"],
        "version": head.get("version"),
        "bets": head.get("bets"),
        **{name: pick[name] for name in WHY},
        "item": pick["item"],
        "stream": pick["stream"],
        "utility": pick["utility"],
        "scores": dict(zip(findings, pick["scores"], strict=False)),
    }


def _said(row: Mapping[str, Any]) -> Row:
    """One version of a label, from its row; the raw annotation as its SHA-256."""
    same = (
        "at",
        "annotator",
        "created_at",
        "updated_at",
        "lead_time_s",
        "ground_truth",
        "answers",
        "problem",
    )
    return {
        **{name: row[name] for name in same},
        "skipped": bool(row["skipped"]),
        "annotation": row["annotation_id"],
        "task": row["task_id"],
        "raw_sha256": hashlib.sha256(row["raw"].encode()).hexdigest(),
    }


def _gone(task_id: int, at: str) -> Row:
    return {"event": "gone", "at": at, "task": task_id}


def _kept(fields: Row) -> Row:
    """What a row that books a label anew repeats."""
    return {n: fields.get(n) for n in ("item", "task", "annotation", "annotator", "created_at", "round")}


def _event(row: Row, before: Row | None) -> str:
    for event in ("withdrawn", "late", "skipped"):
        if row[event]:
            return event
    return "labelled" if before is None else "relabelled"


def _answer(row: Mapping[str, Any], pulled_at: str) -> Answer:
    return Answer(
        row["annotator"],
        datetime.fromisoformat(row["created_at"]),
        row.get("lead_time_s"),
        datetime.fromisoformat(pulled_at),
    )


def _withdrawn(answer: Answer, at: str) -> Answer:
    return Answer(
        answer.annotator,
        answer.created_at,
        answer.lead_time_s,
        answer.pulled_at,
        datetime.fromisoformat(at),
    )


def _lookup(fields: Mapping[str, Any]) -> Row:
    """Under what a row is found again."""
    return {
        "annotation_id": fields.get("annotation"),
        "stream": fields.get("stream"),
        "round": fields.get("round"),
    }


def _text(value: Any) -> Any:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _chunks(all_: Sequence[Any], size: int = IDS) -> list[Sequence[Any]]:
    return [all_[start : start + size] for start in range(0, len(all_), size)]
