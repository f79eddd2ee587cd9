"""What the project knows, in one database. The only SQL."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from annotate.records import Label, Pull, Receipt
from loop import schema
from loop.errors import BadInput, LoopError, Unavailable
from loop.items import Item
from loop.strategies import Pick

BUSY_S = 30.0
CHUNK = 5_000  # rows an insert


@dataclass(frozen=True, slots=True)
class PullCount:
    """What a pull changed: annotations new, changed and withdrawn; and how many of them cannot be read."""

    new: int
    changed: int
    deleted: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Round:
    """One batch as it was asked.

    Attributes:
        number: 1 = the first, all random.
        version: Its name in Label Studio.
        at: When it was committed, UTC.
        seed: What its random draws came from.
        strategy: How the active part was chosen.
        n_labels: Labelled images at that time.
        picks: In rank order.
        scores: Probabilities by the probe in force when asked, shape ``(n_picks, K)``; NaN where there was none.
        bets: Finding to whether the certificate may bet on this round.
    """

    number: int
    version: str
    at: datetime
    seed: tuple[int, ...]
    strategy: str
    n_labels: int
    picks: tuple[Pick, ...]
    scores: NDArray[np.float64]
    bets: Mapping[str, bool]


class State:
    """The project's memory. Facts are added, never changed; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def create(cls, url: str) -> State:
        """Open a state, made if it is not there.

        Args:
            url: A path, ``:memory:``, or an SQLAlchemy URL such as ``postgresql+psycopg://HOST/NAME``.
        """
        state = cls(_engine(url))
        try:
            state._migrate()
        except BaseException:
            state.close()
            raise
        return state

    @classmethod
    def open(cls, url: str) -> State:
        """Open a state that exists.

        Raises:
            BadInput: It does not, or a newer release wrote it.
        """
        if "://" not in url and url != ":memory:" and not Path(url).is_file():
            raise BadInput(
                f"There is no state at {url}: the project was not started. Run `loop start` first."
            )
        return cls.create(url)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def sandbox(self) -> State:
        """A copy in memory, to try things on.

        Raises:
            BadInput: The state is not SQLite.
        """
        if self._engine.dialect.name != "sqlite":
            raise BadInput("--dry-run works on a copy of the state, which only SQLite states have.")
        copy = _engine(":memory:")
        source, target = self._engine.raw_connection(), copy.raw_connection()
        try:
            assert isinstance(source.driver_connection, sqlite3.Connection)
            assert isinstance(target.driver_connection, sqlite3.Connection)
            source.driver_connection.backup(target.driver_connection)
        finally:
            source.close()
            target.close()
        return State(copy)

    # -- facts, images, tasks -----------------------------------------------------------------------------------

    def set_fact(self, key: str, value: Any, at: datetime) -> None:
        """Note a fact; the latest one counts, all are kept."""
        with self._write() as connection:
            connection.execute(schema.facts.insert(), {"key": key, "value": value, "at": _written(at)})

    def fact(self, key: str) -> Any | None:
        """The latest fact under a key; None if there is none."""
        query = (
            select(schema.facts.c.value).where(schema.facts.c.key == key).order_by(schema.facts.c.seq.desc())
        )
        return self._one(query.limit(1))

    def add_items(self, items: Iterable[Item]) -> None:
        """Take images into care; one that is known stays as it is."""
        with self._write() as connection:
            known = set(connection.scalars(select(schema.items.c.item)))
            rows = [
                {
                    "item": i.item,
                    "path": str(i.path),
                    "patient": i.patient,
                    "stream": i.stream,
                    "position": i.position,
                    "metadata": dict(i.metadata),
                }
                for i in items
                if i.item not in known
            ]
            _insert(connection, schema.items, rows)

    def items(self) -> list[Item]:
        """Every image in our care, in the order they came."""
        t = schema.items.c
        query = select(t.item, t.path, t.patient, t.stream, t.position, t.metadata).order_by(t.seq)
        return [
            Item(item, Path(path), patient, stream, position, found)
            for item, path, patient, stream, position, found in self._all(query)
        ]

    def add_problems(self, found: Iterable[tuple[Path | str, str]], at: datetime) -> None:
        """Note images that could not be used, each with its reason; told twice, it is noted once."""
        with self._write() as connection:
            known = {
                (p, r)
                for p, r in connection.execute(select(schema.problems.c.path, schema.problems.c.reason))
            }
            new = dict.fromkeys((str(path), reason) for path, reason in found)
            rows = [{"path": p, "reason": r, "at": _written(at)} for p, r in new if (p, r) not in known]
            _insert(connection, schema.problems, rows)

    def problems(self) -> list[tuple[str, str]]:
        """Images that could not be used: path and reason."""
        t = schema.problems.c
        return [(path, reason) for path, reason in self._all(select(t.path, t.reason).order_by(t.seq))]

    def add_tasks(self, task_ids: Mapping[str, int], at: datetime) -> None:
        """Note Label Studio's task of each image; the latest one counts."""
        with self._write() as connection:
            t = schema.tasks.c
            known = {(item, task_id) for item, task_id in connection.execute(select(t.item, t.task_id))}
            rows = [
                {"item": item, "task_id": task_id, "at": _written(at)}
                for item, task_id in task_ids.items()
                if (item, task_id) not in known
            ]
            _insert(connection, schema.tasks, rows)

    def tasks(self) -> dict[str, int]:
        """Item id to task id."""
        t = schema.tasks.c
        return dict(tuple(row) for row in self._all(select(t.item, t.task_id).order_by(t.seq)))

    # -- labels -------------------------------------------------------------------------------------------------

    def save_pull(self, pull: Pull, at: datetime) -> PullCount:
        """Store a pull in one transaction: new versions, withdrawals, then the watermark. Told twice, it is stored once.

        A task's annotations are replaced as a whole: one that is known and was not returned was withdrawn.

        Raises:
            Unavailable: The database could not store it. Nothing of this pull was stored; pull again.
        """
        new = changed = deleted = unreadable = 0
        rows = []
        with self._write() as connection:
            known = self._current(connection, [task.task_id for task in pull.tasks])
            for task in pull.tasks:
                before = known.get(task.task_id, {})
                for label in task.labels:
                    held = before.get(label.annotation_id)
                    if held is not None and (held.updated_at, held.raw) == (label.updated_at, label.raw):
                        continue
                    new, changed = (new + 1, changed) if held is None else (new, changed + 1)
                    unreadable += label.problem is not None
                    rows.append(_label_row(label, False, at))
                present = {label.annotation_id for label in task.labels}
                for gone in (held for annotation_id, held in before.items() if annotation_id not in present):
                    deleted += 1
                    rows.append(_label_row(gone, True, at))
            _insert(connection, schema.annotations, rows)
            connection.execute(
                schema.pulls.insert(),
                {
                    "watermark": None if pull.watermark is None else _written(pull.watermark),
                    "n_tasks": len(pull.tasks),
                    "at": _written(at),
                },
            )
        return PullCount(new, changed, deleted, unreadable)

    def watermark(self) -> datetime | None:
        """Where the next pull starts; None before the first."""
        found = self._one(select(schema.pulls.c.watermark).order_by(schema.pulls.c.seq.desc()).limit(1))
        return None if found is None else _read_time(found)

    def labels(self) -> dict[int, tuple[Label, ...]]:
        """Task id to its current labels."""
        with self._read() as connection:
            return {task: tuple(by_id.values()) for task, by_id in self._current(connection, None).items()}

    def label_history(self) -> list[Label]:
        """Every version of every label that was ever pulled, oldest first; withdrawals are not versions."""
        t = schema.annotations
        return [_label(row) for row in self._all(select(t).where(~t.c.withdrawn).order_by(t.c.seq))]

    def _current(self, connection: Connection, task_ids: Sequence[int] | None) -> dict[int, dict[int, Label]]:
        names = ", ".join(column.name for column in schema.annotations.c)
        query = f"SELECT {names} FROM current_annotations"
        rows: list[Any] = []
        if task_ids is None:
            rows = list(connection.execute(text(query).columns(*schema.annotations.c)))
        else:
            for start in range(0, len(task_ids), 500):
                ids = ", ".join(str(int(i)) for i in task_ids[start : start + 500])
                rows += connection.execute(
                    text(f"{query} WHERE task_id IN ({ids})").columns(*schema.annotations.c)
                )
        found: dict[int, dict[int, Label]] = {}
        for row in sorted(rows, key=lambda row: (row.task_id, row.annotation_id)):
            found.setdefault(row.task_id, {})[row.annotation_id] = _label(row)
        return found

    # -- rounds -------------------------------------------------------------------------------------------------

    def add_round(self, round_: Round, report: Mapping[str, Any], probe: bytes | None) -> None:
        """Commit a batch with its scores, its report and its probe in one transaction, before anyone is told."""
        at = _written(round_.at)
        with self._write() as connection:
            connection.execute(
                schema.rounds.insert(),
                {
                    "number": round_.number,
                    "version": round_.version,
                    "at": at,
                    "seed": list(round_.seed),
                    "strategy": round_.strategy,
                    "n_labels": round_.n_labels,
                    "bets": dict(round_.bets),
                },
            )
            _insert(
                connection,
                schema.picks,
                [
                    {
                        "number": round_.number,
                        "rank": rank,
                        "item": pick.item,
                        "stream": pick.stream,
                        "strategy": pick.strategy,
                        "reason": pick.reason,
                        "inclusion_probability": float(pick.inclusion_probability),
                        "utility": _finite(pick.utility),
                        "scores": [_finite(score) for score in scores],
                    }
                    for rank, (pick, scores) in enumerate(
                        zip(round_.picks, round_.scores, strict=True), start=1
                    )
                ],
            )
            self._insert_report(connection, round_.number, report, at, probe)

    def rounds(self) -> list[Round]:
        """Every batch asked, oldest first."""
        with self._read() as connection:
            by_round: dict[int, list[Any]] = {}
            for row in connection.execute(
                select(schema.picks).order_by(schema.picks.c.number, schema.picks.c.rank)
            ):
                by_round.setdefault(row.number, []).append(row)
            heads = list(connection.execute(select(schema.rounds).order_by(schema.rounds.c.number)))
        return [_round(head, by_round.get(head.number, [])) for head in heads]

    def last_round(self) -> Round | None:
        """The batch asked last; None before the first."""
        found = self.rounds()
        return found[-1] if found else None

    def unconfirmed(self) -> Round | None:
        """The batch that was committed, but not yet seen in Label Studio."""
        confirmed = set(self._scalars(select(schema.pushes.c.number)))
        return next((r for r in self.rounds() if r.number not in confirmed), None)

    def confirm_push(self, number: int, receipt: Receipt, at: datetime) -> None:
        """Note that a batch was seen in Label Studio; told twice, it is noted once."""
        with self._write() as connection:
            if connection.scalar(select(func.count()).where(schema.pushes.c.number == number)):
                return
            connection.execute(
                schema.pushes.insert(),
                {
                    "number": number,
                    "version": receipt.version,
                    "n_served": receipt.n_served,
                    "warnings": list(receipt.warnings),
                    "at": _written(at),
                },
            )

    # -- reports, probes, amendments ----------------------------------------------------------------------------

    def add_report(
        self, number: int, report: Mapping[str, Any], at: datetime, probe: bytes | None = None
    ) -> None:
        """Note a decision that asked no batch."""
        with self._write() as connection:
            self._insert_report(connection, number, report, _written(at), probe)

    def reports(self) -> list[dict[str, Any]]:
        """Every decision, oldest first."""
        return [
            dict(told)
            for told in self._scalars(select(schema.reports.c.report).order_by(schema.reports.c.seq))
        ]

    def probe(self) -> bytes | None:
        """The probe trained last; None before the first."""
        found = self._one(select(schema.probes.c.probe).order_by(schema.probes.c.seq.desc()).limit(1))
        return None if found is None else bytes(found)

    def amend(self, settings: Mapping[str, Any], at: datetime) -> None:
        """Freeze the settings; later, note what differs. Told the same again, nothing is noted."""
        latest = self._one(
            select(schema.amendments.c.settings).order_by(schema.amendments.c.seq.desc()).limit(1)
        )
        if latest == dict(settings):
            return
        with self._write() as connection:
            connection.execute(schema.amendments.insert(), {"settings": dict(settings), "at": _written(at)})

    def amendments(self) -> list[str]:
        """What was changed in the frozen settings since the start, each change as one sentence, oldest first."""
        t = schema.amendments.c
        frozen = list(self._all(select(t.settings, t.at).order_by(t.seq)))
        told = []
        for (before, _), (after, at) in pairwise(frozen):
            changes = [
                f"{key} from {before.get(key)} to {after.get(key)}"
                for key in sorted({*before, *after})
                if before.get(key) != after.get(key)
            ]
            told.append(f"{at[:16].replace('T', ' ')}: {', '.join(changes)}")
        return told

    def _insert_report(
        self, connection: Connection, number: int, report: Mapping[str, Any], at: str, probe: bytes | None
    ) -> None:
        connection.execute(schema.reports.insert(), {"number": number, "report": dict(report), "at": at})
        if probe is not None:
            connection.execute(schema.probes.insert(), {"number": number, "probe": probe})

    # -- the database -------------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        with self._write() as connection:
            done: set[int] = set()
            if inspect(connection).has_table("migrations"):
                done = set(connection.scalars(select(schema.migrations.c.number)))
            if done and max(done) > len(schema.MIGRATIONS):
                raise BadInput(
                    "This state was written by a newer release of annotation-loop. Update: pip install -U annotation-loop"
                )
            for number, (name, migrate) in enumerate(schema.MIGRATIONS, start=1):
                if number not in done:
                    migrate(connection)
                    connection.execute(schema.migrations.insert(), {"number": number, "name": name})

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except LoopError:
            raise
        except SQLAlchemyError as error:
            raise _translated(error) from error

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _translated(error) from error

    def _all(self, query: Any) -> list[Any]:
        with self._read() as connection:
            return list(connection.execute(query))

    def _scalars(self, query: Any) -> list[Any]:
        with self._read() as connection:
            return list(connection.scalars(query))

    def _one(self, query: Any) -> Any | None:
        found = self._scalars(query)
        return found[0] if found else None


def _engine(url: str) -> Engine:
    if url == ":memory:":
        return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    if "://" in url:
        return create_engine(url)
    Path(url).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{url}", connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def _careful(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _translated(error: SQLAlchemyError) -> LoopError:
    fact = str(getattr(error, "orig", None) or error)
    if isinstance(error, DatabaseError) and ("not a database" in fact or "malformed" in fact):
        return BadInput(
            f"The state cannot be read ({fact}). Restore it from a backup; labels are still in Label Studio."
        )
    return Unavailable(
        f"The state could not be read or written ({fact}). Nothing of this step was stored; see to disk and rights, then run it again."
    )


def _insert(connection: Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(rows), CHUNK):
        connection.execute(table.insert(), list(rows[start : start + CHUNK]))


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def _read_time(at: str) -> datetime:
    return datetime.fromisoformat(at)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _label_row(label: Label, withdrawn: bool, at: datetime) -> dict[str, Any]:
    return {
        "annotation_id": label.annotation_id,
        "task_id": label.task_id,
        "annotator": label.annotator,
        "created_at": _written(label.created_at),
        "updated_at": _written(label.updated_at),
        "lead_time_s": label.lead_time_s,
        "skipped": label.skipped,
        "ground_truth": label.ground_truth,
        "answers": {name: _finite(value) for name, value in label.answers.items()},
        "problem": label.problem,
        "raw": label.raw,
        "withdrawn": withdrawn,
        "at": _written(at),
    }


def _label(row: Any) -> Label:
    return Label(
        annotation_id=row.annotation_id,
        task_id=row.task_id,
        annotator=row.annotator,
        created_at=_read_time(row.created_at),
        updated_at=_read_time(row.updated_at),
        lead_time_s=row.lead_time_s,
        skipped=bool(row.skipped),
        ground_truth=bool(row.ground_truth),
        answers={name: _number(value) for name, value in row.answers.items()},
        problem=row.problem,
        raw=row.raw,
    )


def _round(head: Any, rows: Sequence[Any]) -> Round:
    return Round(
        number=head.number,
        version=head.version,
        at=_read_time(head.at),
        seed=tuple(head.seed),
        strategy=head.strategy,
        n_labels=head.n_labels,
        picks=tuple(
            Pick(r.item, r.stream, r.strategy, r.reason, r.inclusion_probability, _number(r.utility))
            for r in rows
        ),
        scores=np.array([[_number(score) for score in r.scores] for r in rows], dtype=np.float64).reshape(
            len(rows), -1
        ),
        bets={name: bool(bet) for name, bet in head.bets.items()},
    )
