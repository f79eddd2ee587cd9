"""A database, opened: its transactions, its migrations, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from loop import schema, triggers
from loop.errors import BadInput, LoopError, NotStarted, Unavailable

BUSY_S = 30.0  # how long to wait for another process that writes
MEMORY = ":memory:"


class Database:
    """Where the tables of `loop.schema` live. A transaction is written as a whole or not at all."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    @classmethod
    def create(cls, url: str) -> Database:
        """Open a database, made if it is not there, with its tables up to date.

        Args:
            url: A path, ``:memory:``, or an SQLAlchemy URL such as ``postgresql+psycopg://HOST/NAME``.

        Raises:
            BadInput: It cannot be used, or a newer release wrote it.
            Unavailable: It does not answer now.
        """
        if url != MEMORY and "://" not in url:
            try:
                Path(url).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(
                    f"The folder of {url} cannot be made: {error.strerror}. Set [project] folder."
                ) from None
        database = cls(_engine(url), url)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def open(cls, url: str, *, migrate: bool = True) -> Database:
        """Open a database that holds a state; see `create`.

        Args:
            url: As for `create`.
            migrate: Bring its tables up to date; False = leave them as they are, and open it read-only.

        Raises:
            NotStarted: There is none.
        """
        missing = NotStarted(f"not started: there is no state at {_hidden(url)}. Run `loop start` first.")
        if url == MEMORY:
            raise missing
        path = url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else url
        if "://" not in path and not Path(path).is_file():
            raise missing
        if "://" not in path and not Path(path).stat().st_size:
            raise NotStarted(
                f"not started: {_hidden(url)} is empty. If this project held labels, the file was lost: put a backup in its place. If it "
                "never began, run `loop start`."
            )
        database = cls(_engine(url, read_only=not migrate), url)
        try:
            if not database._done():
                raise missing
            if migrate or not database.behind():  # of one that is up to date it is a check: who wrote it?
                database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def copy(self) -> Database:
        """A copy in memory.

        Raises:
            BadInput: This is not SQLite.
        """
        if self._engine.dialect.name != "sqlite":
            raise BadInput(
                "A dry run works on a copy of the state, and only SQLite states can be copied. "
                "Run it without --dry-run, or keep the state in a file."
            )
        copy = Database(_engine(MEMORY), MEMORY)
        try:
            with self._engine.connect() as source, copy._engine.connect() as target:
                held: Any = source.connection.driver_connection
                held.backup(target.connection.driver_connection)
        except SQLAlchemyError as error:
            copy.close()
            raise self._translated(error) from error
        return copy

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes. It holds what it read until it ends: nobody writes in between."""
        try:
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that reads: all its queries see the same moment."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def rows(self, query: Select[Any]) -> list[Any]:
        """All rows of a query."""
        with self.read() as connection:
            return list(connection.execute(query))

    def value(self, query: Select[Any]) -> Any | None:
        """First column of the first row; None if there is no row."""
        with self.read() as connection:
            return connection.execute(query.limit(1)).scalar()

    def behind(self) -> list[str]:
        """The migrations that this release would do first."""
        done = self._done()
        return [name for number, (name, _) in enumerate(schema.MIGRATIONS, start=1) if number not in done]

    def _done(self) -> set[int]:
        """The migrations that this database has been through."""
        with self.read() as connection:
            return _done(connection)

    def _migrate(self) -> None:
        """Bring the tables up to date, in one transaction. A database that is, is only read."""
        wanted = set(range(1, len(schema.MIGRATIONS) + 1))
        done = self._done()
        if done - wanted:
            raise BadInput(
                f"The state {_hidden(self._name)} was written by a newer release of annotation-loop. "
                "Update this one: pip install -U annotation-loop"
            )
        if done == wanted:
            return
        with self.write() as connection:
            done = _done(connection)  # again: another process may just have done it
            for number, (name, migrate) in enumerate(schema.MIGRATIONS, start=1):
                if number not in done:
                    migrate(connection)
                    connection.execute(schema.migrations.insert(), {"number": number, "name": name})

    def _translated(self, error: SQLAlchemyError) -> LoopError:
        fact = str(getattr(error, "orig", None) or error).splitlines()[0]
        where = f"The state {_hidden(self._name)}"
        if isinstance(error, DatabaseError) and ("not a database" in fact or "malformed" in fact):
            return BadInput(
                f"{where} cannot be read ({fact}). Restore the file from a backup, or remove it and run "
                "`loop start`: the labels are still in Label Studio, the record of what was asked is not."
            )
        remedy = {
            triggers.UNLABELLED: "Its label arrived while the batch was chosen: run the command again, it chooses anew.",
            triggers.KEPT: "The state is the audit trail: what is known later is added, as a new row.",
            "locked": "Another program is writing to it: wait for it, then run the command again.",
            "disk is full": "Make room on the disk, then run the command again.",
            "readonly": "Give this user the right to write the file and its folder, then run the command again.",
            "unable to open": "See that its folder exists and that this user may write there, then run the command again.",
        }
        for sign, told in remedy.items():
            if sign in fact:
                return Unavailable(f"{where} cannot be read or written ({fact}). {told}")
        return Unavailable(
            f"{where} cannot be read or written ({fact}). What was under way was not stored; run the command again."
        )


def _engine(url: str, *, read_only: bool = False) -> Engine:
    try:
        if url == MEMORY:
            engine = create_engine(
                "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        elif "://" not in url or url.startswith("sqlite"):
            file = make_url(url) if "://" in url else URL.create("sqlite", database=url)
            engine = create_engine(file, connect_args={"timeout": BUSY_S})
        elif read_only:  # of a snapshot, so that no writer has to give way to it
            options = {"postgresql_readonly": True}
            return create_engine(url, isolation_level="REPEATABLE READ", execution_options=options)
        else:
            return create_engine(url, isolation_level="SERIALIZABLE")
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise BadInput(
            f"No state can be opened at {_hidden(url)}: {error}. Give a path, or an SQLAlchemy URL such as "
            "postgresql+psycopg://HOST/NAME after pip install 'annotation-loop[postgres]'."
        ) from None

    # The driver would begin a transaction before INSERT only, and then too late to be the only writer: begin ourselves.
    @event.listens_for(engine, "connect")
    def _careful(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        # with recursive triggers INSERT OR REPLACE, too, is refused where a row would be lost
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON")
        for pragma in (*pragmas, *(["query_only=ON"] if read_only else [])):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _done(connection: Connection) -> set[int]:
    if not inspect(connection).has_table("migrations"):
        return set()
    return set(connection.scalars(select(schema.migrations.c.number)))


def _hidden(url: str) -> str:
    """A database's name without its password."""
    if "://" not in url:
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition("://")[0] + "://..."
