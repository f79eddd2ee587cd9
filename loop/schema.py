"""Tables and migrations of the state. Facts are only added; the current truth is a view.

Times are text, ISO 8601 in UTC with microseconds, so that they sort as they follow each other.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from loop import triggers
from loop.ledger_rebuilt import book_decisions, rebuild

metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("key", String(40), nullable=False, index=True),
    Column("value", JSON, nullable=False),
    Column("at", String(32), nullable=False),
)
items = Table(
    "items",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("item", String(64), nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("patient", Text, nullable=False),
    Column("stream", String(10), nullable=False),
    Column("position", Integer),
    Column("metadata", JSON, nullable=False),
)
problems = Table(
    "problems",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String(32), nullable=False),
    UniqueConstraint("path", "reason"),
)
tasks = Table(
    "tasks",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("item", String(64), ForeignKey("items.item"), nullable=False, index=True),
    Column("task_id", BigInteger, nullable=False),
    Column("at", String(32), nullable=False),
    UniqueConstraint("item", "task_id"),
)
gone_tasks = Table(  # deleted in Label Studio
    "gone_tasks",
    metadata,
    Column("task_id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
)
pulls = Table(
    "pulls",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("watermark", String(32)),
    Column("n_tasks", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)
sightings = Table(  # how far a task was known at each pull that brought a later change of it
    "sightings",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("task_id", BigInteger, nullable=False, index=True),
    Column("updated_at", String(32), nullable=False),
    Column("at", String(32), nullable=False),
)
annotation_versions = Table(  # one row a version; a withdrawn annotation ends with a row that says so
    "annotations",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("annotation_id", BigInteger, nullable=False),
    Column("task_id", BigInteger, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("lead_time_s", Float),
    Column("skipped", Boolean, nullable=False),
    Column("ground_truth", Boolean, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("problem", Text),
    Column("raw", Text, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("late", Boolean, nullable=False),  # came after a later truth of its task: history, never current
    Column("at", String(32), nullable=False),
    Index("by_annotation", "annotation_id", "seq"),
    Index("by_task", "task_id"),
)
rounds = Table(
    "rounds",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", String(120), nullable=False, unique=True),
    Column("at", String(32), nullable=False),
    Column("seed", JSON, nullable=False),
    Column("strategy", String(40), nullable=False),
    Column("n_labels", Integer, nullable=False),
    Column("findings", JSON, nullable=False),  # names the columns of picks.scores
    Column("bets", JSON, nullable=False),
)
picks = Table(
    "picks",
    metadata,
    Column("number", Integer, ForeignKey("rounds.number"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("item", String(64), ForeignKey("items.item"), nullable=False, index=True),
    Column("stream", String(10), nullable=False),
    Column("strategy", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("inclusion_probability", Float, nullable=False),
    Column("utility", Float),
    Column("scores", JSON, nullable=False),  # one probability a finding, null where no head was
    UniqueConstraint("number", "item"),
)
probes = Table(
    "probes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("number", Integer, nullable=False, index=True),
    Column("probe", LargeBinary, nullable=False),
)
pushes = Table(
    "pushes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("number", Integer, ForeignKey("rounds.number"), nullable=False, unique=True),
    Column("version", String(120), nullable=False),
    Column("n_served", Integer, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("at", String(32), nullable=False),
)
reports = Table(
    "reports",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("report", JSON, nullable=False),
    Column("at", String(32), nullable=False),
)
amendments = Table(
    "amendments",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("at", String(32), nullable=False),
)
ledger = Table(  # one row a pick, a version of a label or a deleted task, each sealing the one before
    "ledger",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("annotation_id", BigInteger, index=True),  # these three are in the row, too: to find it
    Column("stream", String(10)),
    Column("round", Integer, index=True),
    Column("row", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)
rollbacks = Table(  # a going back to an earlier round; what it undid stays in its tables
    "rollbacks",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("to_round", Integer, ForeignKey("rounds.number"), nullable=False),
    Column("undone", JSON, nullable=False),  # numbers of rounds
    Column("reports", JSON, nullable=False),  # seq of the decisions that went with them
    Column("at", String(32), nullable=False),
)
restored = Table(  # rollbacks that Label Studio was seen to follow, as `pushes` are of rounds
    "restored",
    metadata,
    Column("number", Integer, ForeignKey("rollbacks.number"), primary_key=True, autoincrement=False),
    Column("version", String(120), nullable=False),
    Column("n_served", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)
migrations = Table(
    "migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(80), nullable=False),
)

current_annotations = annotation_versions.to_metadata(
    MetaData(), name="current_annotations"
)  # a view, made below

CURRENT_ANNOTATIONS = """
CREATE VIEW current_annotations AS
SELECT * FROM annotations AS a
WHERE NOT a.withdrawn AND NOT a.late
  AND a.seq = (SELECT MAX(b.seq) FROM annotations AS b WHERE b.annotation_id = a.annotation_id AND NOT b.late)
"""


def first_tables(connection: Connection) -> None:
    """Everything that release 0.1 keeps."""
    metadata.create_all(connection)
    connection.execute(text(CURRENT_ANNOTATIONS))


KEPT_TABLES = (  # those that the first migration made; a later table brings its own triggers
    "facts",
    "items",
    "problems",
    "tasks",
    "gone_tasks",
    "pulls",
    "sightings",
    "annotations",
    "rounds",
    "picks",
    "probes",
    "pushes",
    "reports",
    "amendments",
)


def refuse_hindsight(connection: Connection) -> None:
    """What was written down stays, and an image is scored before its label exists: the database refuses the rest."""
    triggers.refuse(connection, KEPT_TABLES)


def keep_ledger(connection: Connection) -> None:
    """Who labelled what, and why it was asked, hash-chained; a state that is older than its ledger gets one."""
    for table in (ledger, rollbacks, restored):  # it reads the others to tell which batch annotators had
        table.create(connection, checkfirst=True)
    rebuild(connection, metadata.tables)
    triggers.keep(connection, [ledger.name])


def keep_rollbacks(connection: Connection) -> None:
    """Going back to an earlier round, as an event."""
    for table in (rollbacks, restored):
        table.create(connection, checkfirst=True)
    triggers.keep(connection, [rollbacks.name, restored.name])


def seal_decisions(connection: Connection) -> None:
    """Decisions are rows of the ledger; those that were made before are chained now, which a row says."""
    book_decisions(connection, metadata.tables)


Migration = Callable[[Connection], None]

MIGRATIONS: list[
    tuple[str, Migration]
] = [  # a new one goes to the end, and leaves a state that has it as it is
    ("first tables", first_tables),
    ("refuse hindsight", refuse_hindsight),
    ("keep ledger", keep_ledger),
    ("keep rollbacks", keep_rollbacks),
    ("seal decisions", seal_decisions),
]
