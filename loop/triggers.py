"""What the database itself refuses: to change a row, to score an image whose label is known, to add to a batch that was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection, text

UNLABELLED = "was labelled before its scores were written"
TOLD = "was told to the annotators before this image was added"
KEPT = "rows are never changed"

LABELLED = """EXISTS (
    SELECT 1 FROM current_annotations AS a WHERE a.task_id = (
        SELECT t.task_id FROM tasks AS t
        WHERE t.item = NEW.item AND t.task_id NOT IN (SELECT g.task_id FROM gone_tasks AS g)
        ORDER BY t.seq DESC LIMIT 1))"""
PUSHED = "EXISTS (SELECT 1 FROM pushes AS p WHERE p.number = NEW.number)"


def keep(connection: Connection, tables: Sequence[str]) -> None:
    """Refuse every change of rows of these tables; `refuse` comes first."""
    _run(connection, _kept_by_sqlite if _is_sqlite(connection) else _kept_by_postgres, tables)


def refuse(connection: Connection, tables: Sequence[str]) -> None:
    """Refuse every change of rows of these tables, hindsight, and additions to what was told."""
    _run(connection, _for_sqlite if _is_sqlite(connection) else _for_postgres, tables)


def _run(
    connection: Connection, say: Callable[[Sequence[str]], Iterator[str]], tables: Sequence[str]
) -> None:
    for statement in say(tables):
        connection.execute(text(statement))


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _kept_by_sqlite(tables: Sequence[str]) -> Iterator[str]:
    for table in tables:
        for verb in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table}, {KEPT}'); END"
            )


def _kept_by_postgres(tables: Sequence[str]) -> Iterator[str]:
    for table in tables:
        yield (
            f"CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def _for_sqlite(tables: Sequence[str]) -> Iterator[str]:
    yield from _kept_by_sqlite(tables)
    for name, case, fact in (
        ("scores_before_labels", LABELLED, f"an image {UNLABELLED}"),
        ("picks_before_push", PUSHED, f"a batch {TOLD}"),
    ):
        yield f"CREATE TRIGGER {name} BEFORE INSERT ON picks WHEN {case} BEGIN SELECT RAISE(ABORT, '{fact}'); END"


def _for_postgres(tables: Sequence[str]) -> Iterator[str]:
    yield (
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ', {KEPT}'; END $$"
    )
    yield from _kept_by_postgres(tables)
    yield (
        "CREATE FUNCTION refuse_hindsight() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {LABELLED} THEN RAISE EXCEPTION 'an image {UNLABELLED}'; END IF; "
        f"IF {PUSHED} THEN RAISE EXCEPTION 'a batch {TOLD}'; END IF; RETURN NEW; END $$"
    )
    yield (
        "CREATE TRIGGER scores_before_labels BEFORE INSERT ON picks "
        "FOR EACH ROW EXECUTE FUNCTION refuse_hindsight()"
    )
