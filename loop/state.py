"""What the project knows: images, labels, rounds and settings. With `loop.database`, `loop.schema` and its own parts the only SQL.

Facts are added, never changed: the present truth about labels is a view, everything else is the latest row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, Self

from sqlalchemy import func, select

from loop import schema
from loop.database import Database
from loop.errors import BadInput, NotStarted
from loop.rows import PullCount, Rollback, Round, write_time
from loop.state_facts import as_read, open_ledger
from loop.state_images import Images
from loop.state_labels import Labels
from loop.state_rollbacks import Rollbacks
from loop.state_rounds import NOTHING, Readings, Rounds

__all__ = ["NOTHING", "PullCount", "Readings", "Rollback", "Round", "State"]

NOT_STARTED = (
    "not started: the last `loop start` was refused or interrupted before a batch was asked. Run `loop start` again; it "
    "says what is missing, and what it did is kept."
)
DEFAULT = "its default"  # said of a setting that was left out
FORMERLY = {"stop.correction": "none"}  # how a state was run that does not know the setting yet


class State(Images, Labels, Rounds, Rollbacks):
    """The project's memory; each method is one transaction, and telling it twice changes nothing."""

    @classmethod
    def create(cls, url: str) -> State:
        """Open a state, made if it is not there.

        Args:
            url: A path, ``:memory:``, or an SQLAlchemy URL such as ``postgresql+psycopg://HOST/NAME``.

        Raises:
            BadInput: It is no state, or a newer release wrote it.
            Unavailable: The database does not answer now.
        """
        return cls(Database.create(url))

    @classmethod
    def open(cls, url: str) -> State:
        """Open a state that exists; see `create`.

        Raises:
            BadInput: It does not exist.
        """
        return cls(Database.open(url))

    @classmethod
    def started(cls, url: str) -> State:
        """Open the state of a project that was started to the end, so that its first batch is written down; see `create`.

        Raises:
            NotStarted: It does not exist, or `loop start` was refused or interrupted.
        """
        state = cls.open(url)
        if not state.n_rounds():
            state.close()
            raise NotStarted(NOT_STARTED)
        return state

    @classmethod
    def look(cls, url: str) -> State:
        """Open a state that exists to read from it only, as whichever release wrote it left it; see `behind`.

        Raises:
            NotStarted: It does not exist.
            BadInput: A newer release wrote it.
        """
        return cls(Database.open(url, migrate=False))

    @classmethod
    def look_at_started(cls, url: str) -> State:
        """Open the state of a started project to read from it only; see `look`.

        Raises:
            NotStarted: It does not exist, or `loop start` was refused or interrupted.
            BadInput: Another release wrote it.
        """
        state = cls.look(url)
        try:
            if state.behind():
                raise BadInput(
                    "An older release of annotation-loop wrote this state. Run `loop status`: it brings it up to date."
                )
            if not state.n_rounds():
                raise NotStarted(NOT_STARTED)
        except BaseException:
            state.close()
            raise
        return state

    def mark(self) -> tuple[int, ...]:
        """How far each table has grown. Rows are only added, so the same mark is the same state."""
        tables = schema.metadata.sorted_tables
        ends = [select(func.max(t.c.seq) if "seq" in t.c else func.count()).select_from(t) for t in tables]
        return tuple(end or 0 for end in self._db.rows(select(*(end.scalar_subquery() for end in ends)))[0])

    def behind(self) -> list[str]:
        """What this release would change in the tables first; empty if it wrote them."""
        return self._db.behind()

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def sandbox(self) -> State:
        """A copy in memory, to try things on.

        Raises:
            BadInput: The state is not SQLite.
        """
        return State(self._db.copy())

    # -- settings -----------------------------------------------------------------------------------------------

    def amend(self, settings: Mapping[str, Any], at: datetime) -> None:
        """Freeze the settings the first time; later, note them if they differ."""
        t = schema.amendments
        frozen = as_read(dict(settings))
        with self._db.write() as connection:
            latest = connection.scalar(select(t.c.settings).order_by(t.c.seq.desc()).limit(1))
            if latest != frozen:
                connection.execute(t.insert(), {"settings": frozen, "at": write_time(at)})

    def amending(self, settings: Mapping[str, Any]) -> list[str]:
        """What these settings would change in the frozen ones: what `amend` would note now."""
        t = schema.amendments.c
        frozen = [row.settings for row in self._db.rows(select(t.settings).order_by(t.seq))]
        return _changes(frozen[-1], as_read(dict(settings))) if frozen else []

    def frozen(self) -> list[dict[str, Any]]:
        """The frozen settings as they were at the start and after each change of them, with the time."""
        t = schema.amendments.c
        return [
            {"at": row.at, "settings": row.settings}
            for row in self._db.rows(select(t.settings, t.at).order_by(t.seq))
        ]

    def amendments(self) -> list[str]:
        """What was changed since the start, in the frozen settings or in the certificate's evidence, each change as one
        sentence, oldest first."""
        t = schema.amendments.c
        frozen = [(row.settings, row.at) for row in self._db.rows(select(t.settings, t.at).order_by(t.seq))]
        told = [(at, ", ".join(_changes(before, after))) for (before, _), (after, at) in pairwise(frozen)]
        with self._db.read() as connection:
            told += open_ledger(connection).corrections()
        return [
            f"{at[:16].replace('T', ' ')}: {change}" for at, change in sorted(told, key=lambda one: one[0])
        ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, a table such as stop.target line by line."""
    told: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, FORMERLY.get(key, DEFAULT)), after.get(key, DEFAULT)
        if isinstance(old, dict) and isinstance(new, dict):
            told += [f"{key}.{change}" for change in _changes(old, new)]
        elif old != new:
            told.append(f"{key} from {old} to {new}")
    return told
