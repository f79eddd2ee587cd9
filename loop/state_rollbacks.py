"""What the state knows of rollbacks: which rounds and decisions were undone, and whether Label Studio was seen to follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, inspect, select

from loop import schema
from loop.rows import Rollback, Row, read_rollback, write_time
from loop.state_facts import Facts, open_ledger


class Rollbacks(Facts):
    """Rollbacks are events: what they undo stays where it was written."""

    def add_rollback(self, to_round: int, at: datetime) -> Rollback | None:
        """Go back to a round, in one transaction, before anybody is told; None if nothing lies behind it.

        Undone are the rounds in force behind it, and every decision that was made since it was asked. Labels, scores and
        what the certificate has read stay.

        Raises:
            ValueError: The round is not in force.
        """
        with self._db.write() as connection:
            heads = schema.rounds.c
            gone = undone_rounds(connection)
            rounds = [
                n for n in connection.scalars(select(heads.number).order_by(heads.number)) if n not in gone
            ]
            if to_round not in rounds:
                raise ValueError(f"round {to_round} is not in force")
            undone = [number for number in rounds if number > to_round]
            reports = _reports_behind(connection, to_round)
            if not undone and not reports:
                return None
            number = (connection.scalar(select(func.max(schema.rollbacks.c.number))) or 0) + 1
            row: Row = {
                "number": number,
                "to_round": to_round,
                "undone": undone,
                "reports": reports,
                "at": write_time(at),
            }
            connection.execute(schema.rollbacks.insert(), row)
            open_ledger(connection).add_rollback(row)
            return read_rollback(connection.execute(_all().where(schema.rollbacks.c.number == number)).one())

    def rollbacks(self) -> list[Rollback]:
        """Every rollback, oldest first."""
        with self._db.read() as connection:
            return [read_rollback(row) for row in connection.execute(_all())] if _knows(connection) else []

    def unfinished_rollback(self) -> Rollback | None:
        """The rollback that was decided, but that Label Studio was not seen to follow; None if there is none."""
        return next((one for one in self.rollbacks() if not one.finished), None)

    def confirm_rollback(self, number: int, version: str, n_served: int, at: datetime) -> None:
        """Note that Label Studio serves the earlier round again: under which version, and how many predictions it has."""
        t = schema.restored
        with self._db.write() as connection:
            if connection.execute(select(t.c.number).where(t.c.number == number)).first() is None:
                row = {"number": number, "version": version, "n_served": n_served, "at": write_time(at)}
                connection.execute(t.insert(), row)

    def undone_rounds(self) -> set[int]:
        """Rounds that a rollback undid."""
        with self._db.read() as connection:
            return undone_rounds(connection)

    def undone_reports(self) -> list[bool]:
        """Of each report, oldest first, whether a rollback undid it."""
        with self._db.read() as connection:
            gone = undone_reports(connection)
            t = schema.reports.c
            return [seq in gone for seq in connection.scalars(select(t.seq).order_by(t.seq))]


def undone_rounds(connection: Connection) -> set[int]:
    """Rounds that a rollback undid, inside a transaction."""
    if not _knows(connection):
        return set()
    return {number for undone in connection.scalars(select(schema.rollbacks.c.undone)) for number in undone}


def undone_reports(connection: Connection) -> set[int]:
    """Reports that a rollback undid, by ``seq``."""
    if not _knows(connection):
        return set()
    return {seq for seqs in connection.scalars(select(schema.rollbacks.c.reports)) for seq in seqs}


def restored_push(connection: Connection, to_round: int) -> tuple[str, int] | None:
    """Version and number of predictions with which the last rollback to a round served it again; None without one."""
    if not _knows(connection):
        return None
    t, done = schema.rollbacks.c, schema.restored.c
    query = select(done.version, done.n_served).where(done.number == t.number, t.to_round == to_round)
    found = connection.execute(query.order_by(t.number.desc()).limit(1)).first()
    return None if found is None else (found.version, found.n_served)


def _reports_behind(connection: Connection, to_round: int) -> list[int]:
    """Decisions in force that were made since a round was asked, by ``seq``."""
    t, gone = schema.reports.c, undone_reports(connection)
    behind: list[int] = []
    for seq, report in connection.execute(select(t.seq, t.report).order_by(t.seq)):
        if ((report.get("batch") or {}).get("round")) == to_round:
            behind = []
        elif seq not in gone:
            behind.append(seq)
    return behind


def _all() -> Any:
    t, done = schema.rollbacks.c, schema.restored.c
    query = select(t.number, t.to_round, t.undone, t.at, done.number.label("finished"), done.version)
    return query.select_from(schema.rollbacks.outerjoin(schema.restored, t.number == done.number)).order_by(
        t.number
    )


def _knows(connection: Connection) -> bool:
    """Whether the state is of a release that can roll back; one that is only looked at may be older."""
    return inspect(connection).has_table(schema.rollbacks.name)
