"""What the state knows of rounds: batches, their pushes, the decisions behind them and the probes that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, select

from annotate.records import Receipt
from loop import schema
from loop.errors import Unavailable
from loop.rows import Round, read_round, write_picks, write_round, write_time
from loop.state_facts import Facts, insert, open_ledger
from loop.state_rollbacks import restored_push, undone_reports, undone_rounds

Readings = Mapping[tuple[int, str], Sequence[float]]
NOTHING: Readings = MappingProxyType({})


class Rounds(Facts):
    """Rounds, written before anybody is told of them."""

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
            insert(connection, schema.rounds, [write_round(round_)])
            insert(connection, schema.picks, picks := write_picks(round_))
            open_ledger(connection).add_readings(readings, write_time(round_.at))
            open_ledger(connection).add_round(write_round(round_), picks)
            _insert_report(connection, round_.number, report, round_.at, probe)

    def rounds(self) -> list[Round]:
        """Every batch asked, those that were undone included, oldest first."""
        with self._db.read() as connection:
            return _rounds(connection, None)

    def n_rounds(self) -> int:
        """Number of the batch that was committed last, undone or not; 0 before the first."""
        return self._db.value(select(func.max(schema.rounds.c.number))) or 0

    def last_round(self) -> Round | None:
        """The batch in force: the one asked last that was not undone; None before the first."""
        with self._db.read() as connection:
            number = _in_force(connection)
            return None if number is None else _rounds(connection, number)[0]

    def unconfirmed(self) -> Round | None:
        """The batch in force if it was committed, but not yet seen in Label Studio."""
        present, t = self.last_round(), schema.pushes.c
        if present is None or self._db.value(select(t.seq).where(t.number == present.number)) is not None:
            return None
        return present

    def last_push(self) -> tuple[str, int] | None:
        """Model version and number of predictions of the batch that is served; None before the first."""
        t = schema.pushes.c
        with self._db.read() as connection:
            pushes = connection.execute(select(t.number, t.version, t.n_served).order_by(t.number.desc()))
            gone = undone_rounds(connection)
            push = next((row for row in pushes if row.number not in gone), None)
            if push is None:
                return None
            return restored_push(connection, push.number) or (push.version, push.n_served)

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

    # -- decisions and probes ------------------------------------------------------------------------------------

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
            open_ledger(connection).add_readings(readings, write_time(at))
            _insert_report(connection, number, report, at, probe)

    def reports(self) -> list[dict[str, Any]]:
        """Every decision, those that were undone included, oldest first."""
        t = schema.reports.c
        return [row.report for row in self._db.rows(select(t.report).order_by(t.seq))]

    def last_report(self) -> dict[str, Any] | None:
        """The decision in force: the last one that was not undone; None before the first."""
        t = schema.reports.c
        with self._db.read() as connection:
            gone = undone_reports(connection)
            told = connection.execute(select(t.seq, t.report).order_by(t.seq.desc()))
            return next((row.report for row in told if row.seq not in gone), None)

    def probe(self, number: int | None = None) -> bytes | None:
        """The probe trained last, or last in a round; None if there is none."""
        t = schema.probes.c
        query = select(t.probe).order_by(t.seq.desc())
        found = self._db.value(query if number is None else query.where(t.number == number))
        return None if found is None else bytes(found)


def _in_force(connection: Connection) -> int | None:
    """Number of the batch asked last that was not undone."""
    t, gone = schema.rounds.c, undone_rounds(connection)
    numbers = connection.scalars(select(t.number).order_by(t.number.desc()))
    return next((number for number in numbers if number not in gone), None)


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
    seq = connection.scalar(select(func.max(schema.reports.c.seq)))
    open_ledger(connection).add_decisions([row | {"seq": seq}])
    if probe is not None:
        connection.execute(schema.probes.insert(), {"number": number, "probe": probe})
