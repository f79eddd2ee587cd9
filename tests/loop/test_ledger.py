"""Who labelled what and why it was asked: streams in scripted histories, and a chain in which no byte can be changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotate.records import Label, Pull, Receipt, Task
from loop import schema
from loop.chain import START, extend, find_break, seal
from loop.cli import main
from loop.items import Item
from loop.ledger import Ledger
from loop.ledger_check import check_ledger
from loop.ledgerfile import read_file, write_lines
from loop.state import Round, State
from loop.strategies import Pick

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCH = ("a", "b", "c")  # asked by round 1: a and b of the random stream, c active; their tasks are 1, 2, 3
TASK_OF = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}


def after(minutes: float) -> datetime:
    return AT + timedelta(minutes=minutes)


def label(
    item: str, made: float, *, by: str = "7", look: float = 5, at: float | None = None, **more: Any
) -> Label:
    """What an annotator said of an image, ``made`` minutes after the start and changed last ``at``."""
    task_id = TASK_OF[item]
    said = Label(
        annotation_id=10 * task_id + int(by),
        task_id=task_id,
        annotator=by,
        created_at=after(made),
        updated_at=after(made if at is None else at),
        lead_time_s=look,
        skipped=False,
        ground_truth=False,
        answers={"Effusion": 1.0, "Edema": float("nan")},
        problem=None,
        raw='{"id": 1}',
    )
    return replace(said, **more)


def skip(item: str, made: float, **more: Any) -> Label:
    return label(item, made, skipped=True, answers={}, **more)


class Project:
    """A state with five images, and annotators whose work is pulled when the test says so."""

    def __init__(self, url: str = ":memory:") -> None:
        self.state = State.create(url)
        self.state.add_items([Item(i, Path(f"{i}.png"), i, "random", n, {}) for n, i in enumerate(TASK_OF)])
        self.state.add_tasks(TASK_OF, AT)

    def ask(self, number: int, at: float, *items: str) -> None:
        """Commit and push a round: the last of its images is active, the others random."""
        picks = tuple(
            Pick(
                item,
                "active" if item == items[-1] and len(items) > 1 else "random",
                "uncertainty" if item == items[-1] and len(items) > 1 else "random",
                f"why {item}, then",
                0.25,
                float("nan"),
            )
            for item in items
        )
        scores = np.array([[0.1 * rank, np.nan] for rank in range(1, len(items) + 1)])
        version = f"loop-x-r{number:04d}"
        bets = {"Effusion": True, "Edema": False}
        round_ = Round(
            number,
            version,
            after(at),
            (0, number),
            "uncertainty",
            0,
            picks,
            ("Effusion", "Edema"),
            scores,
            bets,
        )
        self.state.add_round(round_, {"round": number}, None)
        self.state.confirm_push(number, Receipt(version, len(items), (), ()), after(at))

    def pull(
        self, at: float, *labels: Label, gone: tuple[str, ...] = (), empty: tuple[str, ...] = ()
    ) -> None:
        """Pull the whole sets of labels of the tasks named, as they stand ``at`` minutes after the start."""
        sets: dict[int, list[Label]] = {TASK_OF[item]: [] for item in empty}
        for one in labels:
            sets.setdefault(one.task_id, []).append(one)
        tasks = tuple(Task(i, None, "", after(at), tuple(given)) for i, given in sets.items())
        self.state.save_pull(Pull(tasks, after(at)), after(at))
        if gone:
            self.state.drop_tasks([TASK_OF[item] for item in gone], after(at + 0.1))

    def rows(self) -> list[dict[str, Any]]:
        assert self.state.find_break() is None
        return [entry.fields() for entry in self.state.ledger()]

    def told(self) -> list[tuple[Any, ...]]:
        """Event, image, stream and round of every row but those of a batch and its decision."""
        return [
            (r["event"], r.get("item"), r.get("stream"), r.get("round"))
            for r in self.rows()
            if r["event"] not in ("asked", "decided")
        ]


@pytest.fixture
def project(new_url: Callable[[], str]) -> Iterator[Project]:
    project = Project(new_url())
    yield project
    project.state.close()


# -- streams --------------------------------------------------------------------------------------------------


def test_an_asked_label_says_where_and_why_it_was_asked(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, label("c", 5, by="8"))
    row = project.rows()[-1]
    assert (row["seq"], len(row["raw_sha256"])) == (5, 64)
    assert {
        "event": "labelled",
        "item": "c",
        "task": 3,
        "annotator": "8",
        "created_at": "2026-03-01T12:05:00.000000+00:00",
        "at": "2026-03-01T12:10:00.000000+00:00",
        "answers": {"Effusion": 1.0, "Edema": None},
        "stream": "active",
        "round": 1,
        "rank": 3,
        "strategy": "uncertainty",
        "reason": "why c, then",
        "inclusion_probability": 0.25,
    }.items() <= row.items()
    assert row["scores"]["Effusion"] == pytest.approx(0.3)


def test_asked_images_stand_there_before_anybody_answers(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    *rows, decided = project.rows()
    assert (decided["event"], decided["decision"]) == ("decided", 1)
    assert [(r["event"], r["item"], r["stream"], r["rank"], r["bets"]["Effusion"]) for r in rows] == [
        ("asked", "a", "random", 1, True),
        ("asked", "b", "random", 2, True),
        ("asked", "c", "active", 3, True),
    ]


def test_labels_before_the_first_batch_are_outsiders(project: Project) -> None:
    project.pull(-5, label("d", -100))
    project.ask(1, 0, *BATCH)
    project.pull(5, label("e", -1))
    assert project.told() == [("labelled", "d", "outsider", None), ("labelled", "e", "outsider", None)]


def test_a_label_behind_a_finished_batch_is_an_overrun_and_one_within_it_an_outsider(
    project: Project,
) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), label("e", 2), skip("b", 3), label("c", 4), label("d", 5))
    assert project.told() == [
        ("labelled", "a", "random", 1),
        ("labelled", "e", "outsider", 1),
        ("skipped", "b", "random", 1),
        ("labelled", "c", "active", 1),
        ("labelled", "d", "overrun", 1),
    ]
    assert project.state.unasked() == {57: "outsider", 47: "overrun"}


def test_an_image_whose_task_is_gone_is_not_waited_for(project: Project) -> None:
    """When it was deleted nobody told; it is found when the batch is judged, and the booking follows."""
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), label("b", 2), label("d", 5), gone=("c",))
    assert project.told()[2:] == [
        ("labelled", "d", "outsider", 1),
        ("gone", "c", None, None),
        ("rebooked", "d", "overrun", 1),
    ]
    assert project.state.unasked() == {47: "overrun"}


def test_an_answer_that_arrives_later_books_an_outsider_anew(project: Project) -> None:
    """Annotator 8 had the last image open when the queue ran dry for annotator 7, and a pull came between."""
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), label("b", 2), label("d", 5))
    project.pull(12, label("c", 11, by="8", look=400))
    assert project.told()[2:] == [
        ("labelled", "d", "outsider", 1),
        ("labelled", "c", "active", 1),
        ("rebooked", "d", "overrun", 1),
    ]
    project.pull(20, label("d", 5, at=15, answers={"Effusion": 0.0}))
    project.pull(22, label("c", 11, by="8", look=400, at=21))
    assert project.told()[5:] == [("relabelled", "d", "overrun", 1), ("relabelled", "c", "active", 1)], "once"


def test_a_label_is_judged_by_the_batch_that_annotators_had(project: Project) -> None:
    """It was made after batch 1 was done and before batch 2 came; the pull that brings it comes later."""
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), label("b", 2), label("c", 3))
    project.ask(2, 12, "d")
    project.pull(20, label("e", 11))
    assert project.told()[-1] == ("labelled", "e", "overrun", 1)


def test_a_slow_clock_of_the_server_is_caught_by_our_pulls(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), label("b", 2), label("c", 3))
    project.ask(2, 12, "d")
    project.pull(15, label("a", 1, at=13))
    project.pull(20, label("e", 11))  # by its clock before round 2; but the pull at 15 did not bring it
    assert project.told()[-1] == ("labelled", "e", "outsider", 2)


def test_relabelled_skipped_and_unskipped_labels_keep_their_stream(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1))
    project.pull(20, skip("a", 1, at=15))
    project.pull(30, label("a", 1, at=25))
    project.ask(2, 40, "d", "e")
    project.pull(50, label("a", 1, at=45))
    assert project.told() == [
        (event, "a", "random", 1) for event in ("labelled", "skipped", "relabelled", "relabelled")
    ]
    assert all(row["rank"] == 1 for row in project.rows() if row.get("item") == "a")


def test_a_withdrawn_outsider_that_is_asked_then_is_random(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, label("d", 5))
    project.pull(20, empty=("d",))
    project.ask(2, 30, "d", "e")
    project.pull(40, label("d", 35, by="8"))
    project.pull(50, empty=("d",))
    assert project.told() == [
        ("labelled", "d", "outsider", 1),
        ("withdrawn", "d", "outsider", 1),
        ("labelled", "d", "random", 2),
        ("withdrawn", "d", "random", 2),
    ]


def test_an_image_asked_again_belongs_to_the_later_round(project: Project) -> None:
    """As the certificate reads it, with the later scores."""
    project.ask(1, 0, "a", "c")
    project.ask(2, 10, "b", "a", "d")
    project.pull(20, label("a", 5))
    assert project.told() == [("labelled", "a", "random", 2)]


def test_a_version_that_arrives_late_is_history(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(20, label("a", 1, at=15))
    project.pull(10, label("a", 1))
    assert project.told() == [("labelled", "a", "random", 1), ("late", "a", "random", 1)]


def test_a_task_that_is_none_of_ours_is_booked_without_an_image(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    project.pull(10, replace(label("a", 5), task_id=99))
    assert project.told() == [("labelled", None, "outsider", 1)]


def test_a_pull_told_twice_adds_no_row(project: Project) -> None:
    project.ask(1, 0, *BATCH)
    for _ in range(2):
        project.pull(10, label("a", 1), label("d", 5))
    assert len(project.told()) == 2


# -- any history ----------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from("abcde"), st.sampled_from("78"), st.booleans()),
        st.tuples(st.just("withdraw"), st.sampled_from("abcde")),
        st.tuples(st.just("delete"), st.sampled_from("abcde")),
        st.tuples(st.just("ask"), st.permutations("abcde"), st.integers(1, 3)),
        st.tuples(st.just("pull")),
    ),
    max_size=12,
)


def play(project: Project, steps: list[tuple[Any, ...]]) -> None:
    """Let things happen a minute apart; images with a label are not asked, and deleted ones neither."""
    now: dict[str, dict[str, Label]] = {item: {} for item in TASK_OF}
    gone: set[str] = set()
    changed: set[str] = set()
    number = 0
    for minute, (verb, *what) in enumerate([*steps, ("pull",)], start=1):
        if verb == "say":
            item, by, skipped = what
            held = now[item].get(by)
            made = minute if held is None else (held.created_at - AT).total_seconds() / 60
            now[item][by] = (skip if skipped else label)(item, made, by=by, at=minute)
            changed.add(item)
        elif verb == "withdraw":
            now[what[0]] = {}
            changed.add(what[0])
        elif verb == "delete":
            gone.add(what[0])
        else:
            labels = [one for item in sorted(changed - gone) for one in now[item].values()]
            project.pull(minute, *labels, empty=tuple(changed - gone), gone=tuple(sorted(gone)))
            changed = set()
            free = [item for item in what[0] if not now[item] and item not in gone] if verb == "ask" else []
            if free:
                number += 1
                project.ask(number, minute + 0.5, *free[: what[1]])


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_every_history_is_booked_row_by_row(steps: list[tuple[Any, ...]]) -> None:
    project = Project()
    play(project, steps)
    rows, state = project.rows(), project.state
    assert sum(r["event"] == "asked" for r in rows) == sum(len(r.picks) for r in state.rounds())
    asked = {pick.item for round_ in state.rounds() for pick in round_.picks}
    first: dict[int, dict[str, Any]] = {}
    standing = {one.annotation_id for given in state.labels().values() for one in given}
    last: dict[int, str] = {}
    for row in rows:
        if "annotation" in row:
            assert row["stream"] in ("random", "active", "overrun", "outsider")
            assert row["stream"] in ("overrun", "outsider") or row["item"] in asked
            last[row["annotation"]] = row["event"]
            first.setdefault(row["annotation"], row)
    assert {annotation for annotation, event in last.items() if event != "withdrawn"} == standing
    state.close()


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_a_state_without_a_ledger_gets_the_same_rows_from_its_tables(steps: list[tuple[Any, ...]]) -> None:
    """The migration books a finished history as it would have been booked while it happened."""
    project = Project()
    play(project, steps)
    before = [{k: v for k, v in row.items() if k != "seq"} for row in project.rows()]
    with project.state._db.write() as connection:
        connection.exec_driver_sql("DROP TABLE ledger")
        schema.keep_ledger(connection)
    after_ = [{k: v for k, v in row.items() if k != "seq"} for row in project.rows()]
    assert after_[: len(before)] == before
    assert [row["event"] for row in after_[len(before) :]] == (["rebuilt"] if before else [])
    project.state.close()


# -- tampering ------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The state of a short history, closed."""
    path = tmp_path / "world" / "state.db"
    project = Project(str(path))
    project.ask(1, 0, *BATCH)
    project.pull(10, label("a", 1), skip("b", 2), label("d", 5))
    project.pull(12, label("c", 11, by="8", look=400), empty=("a",), gone=("e",))
    project.state.close()
    return path


def tampered(path: Path, statement: str, *values: object) -> None:
    """Somebody who may write the file takes the triggers away first."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement, values).rowcount


def break_of(path: Path) -> int | None:
    with State.open(str(path)) as state:
        broken = state.find_break()
    return None if broken is None else broken.seq


def test_the_database_itself_refuses_to_change_a_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("UPDATE ledger SET row = '{}'", "DELETE FROM ledger"):
            with pytest.raises(sqlite3.IntegrityError, match="rows are never changed"):
                connection.execute(statement)


def test_any_changed_byte_of_the_chain_is_found_at_its_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, row, hash FROM ledger ORDER BY seq").fetchall()
    rng = np.random.default_rng(0)
    with State.open(str(path)) as state:
        assert state.find_break() is None
        with state._db.write() as connection:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER ledger_no_{verb}")
        for seq, row, hashed in rows:
            for column, value in (("row", row.encode()), ("hash", hashed.encode())):
                for place in range(len(value)):
                    changed = bytearray(value)
                    changed[place] ^= int(rng.integers(1, 256))
                    assert _break_if(state, column, seq, bytes(changed)) == seq
        assert state.find_break() is None


def _break_if(state: State, column: str, seq: int, value: bytes) -> int | None:
    """The first bad row if a text of the ledger were these bytes; the change is taken back."""
    with state._db._engine.connect() as connection:
        connection.exec_driver_sql(
            f"UPDATE ledger SET {column} = CAST(? AS TEXT) WHERE seq = ?", (value, seq)
        )
        broken = check_ledger(connection, schema.metadata.tables)
        connection.rollback()
    return None if broken is None else broken.seq


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("DELETE FROM ledger WHERE seq = 5", 5),
        ("UPDATE ledger SET seq = 100 WHERE seq = 2", 2),
        ("UPDATE ledger SET stream = 'random' WHERE stream = 'outsider'", 7),
        ("UPDATE ledger SET annotation_id = 1 WHERE seq = 5", 5),
        ("UPDATE ledger SET round = 2 WHERE seq = 6", 6),
        ('UPDATE annotations SET answers = \'{"Effusion": 0.0, "Edema": null}\' WHERE seq = 1', 5),
        ("UPDATE annotations SET annotator = '9' WHERE seq = 2", 6),
        ("UPDATE annotations SET raw = '{}' WHERE seq = 3", 7),
        ("DELETE FROM annotations WHERE seq = (SELECT MAX(seq) FROM annotations)", 9),
        ("UPDATE picks SET scores = '[0.9, null]' WHERE rank = 2", 2),
        ("UPDATE picks SET stream = 'random' WHERE rank = 3", 3),
        ("UPDATE picks SET inclusion_probability = 1 WHERE rank = 1", 1),
        ("UPDATE rounds SET bets = '{\"Effusion\": false}'", 1),
        ("UPDATE rounds SET at = '2026-03-01T11:00:00.000000+00:00'", 1),
        ("DELETE FROM rounds", 1),
        ('UPDATE reports SET report = \'{"round": 1, "verdict": "STOP"}\'', 4),
        ("DELETE FROM reports", 4),
        ("UPDATE tasks SET task_id = 33 WHERE item = 'd'", 7),
        ("DELETE FROM gone_tasks", 11),
        ("INSERT INTO gone_tasks (task_id, at) VALUES (4, '2026-03-01T12:30:00.000000+00:00')", 12),
        ("UPDATE annotations SET answers = '{' WHERE seq = 1", 1),
    ],
)
def test_a_change_of_what_the_rows_tell_of_is_found(path: Path, statement: str, row: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        events = [
            json.loads(r)["event"] for (r,) in connection.execute("SELECT row FROM ledger ORDER BY seq")
        ]
    assert events == [
        *["asked"] * 3,
        "decided",
        "labelled",
        "skipped",
        "labelled",
        "withdrawn",
        "labelled",
        "rebooked",
        "gone",
    ]
    tampered(path, statement)
    assert break_of(path) == row


def test_a_forger_who_seals_anew_is_found_by_the_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        rows = [json.loads(r) for (r,) in connection.execute("SELECT row FROM ledger ORDER BY seq")]
    rows[4]["annotator"] = "9"
    for entry in extend(0, START, rows):
        tampered(path, "UPDATE ledger SET row = ?, hash = ? WHERE seq = ?", entry.row, entry.hash, entry.seq)
    assert break_of(path) == 5


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)), min_size=1, max_size=6
    ),
    data=st.data(),
)
def test_a_chain_breaks_at_the_first_row_that_is_not_as_it_was(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    entries = extend(0, START, rows)
    assert find_break(entries) is None
    assert entries == extend(0, START, rows[:2]) + extend(
        min(2, len(rows)), entries[min(2, len(rows)) - 1].hash, rows[2:]
    )
    place = data.draw(st.integers(0, len(rows) - 1))
    other = replace(entries[place], row=entries[place].row + " ")
    for wrong in (other, replace(other, hash=seal(entries[place - 1].hash if place else START, other.row))):
        broken = find_break([*entries[:place], wrong, *entries[place + 1 :]])
        if place < len(rows) - 1 or wrong is other:
            assert broken is not None
            assert broken.seq in (place + 1, place + 2)
    if place < len(rows) - 1:
        broken = find_break(entries[:place] + entries[place + 1 :])
        assert broken is not None
        assert broken.seq == place + 1


# -- migration ------------------------------------------------------------------------------------------------


def test_an_older_state_gets_its_ledger_once_and_says_that_it_was_made_later(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        n_rows = connection.execute("SELECT COUNT(*) FROM ledger").fetchone()[0]
        connection.execute("DROP TABLE ledger")
        connection.execute("DELETE FROM migrations WHERE name = 'keep ledger'")
    for _ in range(2):
        with State.open(str(path)) as state:
            rows = [entry.fields() for entry in state.ledger()]
            assert state.find_break() is None
        assert [row["event"] for row in rows[n_rows:]] == ["rebuilt"]
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="never changed"),
    ):
        connection.execute("DELETE FROM ledger")


def test_decisions_from_before_they_were_sealed_are_sealed_once(path: Path) -> None:
    with State.open(str(path)) as state:
        state.add_rollback(1, after(80))
        state.add_report(1, {"round": 1, "verdict": "STOP"}, after(90))
        assert (rolled := state.add_rollback(1, after(99))) is not None
        assert state.ledger()[-1].fields()["decisions"] == [2]
        assert rolled.undone == ()
    with closing(sqlite3.connect(path)) as connection:
        rows = [json.loads(r) for (r,) in connection.execute("SELECT row FROM ledger ORDER BY seq")]
    old = [
        {name: value for name, value in row.items() if name != "decisions"}
        for row in rows
        if row["event"] != "decided"
    ]
    tampered(path, "DELETE FROM ledger")
    with State.open(str(path)) as state, state._db.write() as connection:
        Ledger(connection, schema.metadata.tables)._append(old)
    assert break_of(path) == len(old) + 1, "the decisions are missing"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM migrations WHERE name = 'seal decisions'")
    for _ in range(2):
        with State.open(str(path)) as state:
            assert state.find_break() is None
            events = [entry.fields()["event"] for entry in state.ledger()][len(old) :]
            assert events == ["decided", "decided", "rebuilt"]


def test_a_ledger_that_was_emptied_is_not_made_anew(path: Path) -> None:
    tampered(path, "DELETE FROM ledger")
    assert break_of(path) == 1


# -- files and commands ---------------------------------------------------------------------------------------


@pytest.fixture
def config(path: Path) -> Path:
    config = path.parent.parent / "loop.toml"
    config.write_text(
        '[project]\nname = "world"\nfindings = ["Effusion", "Edema"]\nfolder = "world"\n[images]\nsource = "."\n'
    )
    return config


def run(*args: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["ledger", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_any_changed_byte_of_an_export_is_found(tmp_path: Path, kind: str) -> None:
    project = Project()
    project.ask(1, 0, "a")
    project.pull(10, label("a", 1), label("d", 2, problem='it said "maybe", twice'))
    out = tmp_path / f"ledger{kind}"
    whole = "".join(write_lines(project.state.ledger(), kind)).encode()
    rng = np.random.default_rng(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        line = whole.count(b"\n", 0, place) + (kind == ".jsonl")  # 0: the header
        for wrong in (changed, whole[:place] + whole[place + 1 :]):
            out.write_bytes(wrong)
            broken = read_file(out)[1]
            assert broken is not None, bytes(wrong)
            assert broken.seq <= line + 1 or line == 0
    for more in (b"\n", b" ", whole):
        out.write_bytes(whole + more)
        assert read_file(out)[1] is not None
    out.write_bytes(whole)
    assert read_file(out) == (project.state.ledger(), None)


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_an_export_says_what_the_state_says(config: Path, path: Path, kind: str) -> None:
    out = config.with_name(f"ledger{kind}")
    run("-c", config, "--out", out, "-q")
    with State.open(str(path)) as state:
        assert read_file(out) == (state.ledger(), None)
    status, told = run("verify", out, "-c", config)
    assert (status, "11 rows, each as it was written" in told, "the state of world" in told) == (
        0,
        True,
        True,
    )
    assert run("verify", out, "-c", config.with_name("none.toml"))[0] == 0


def test_an_older_export_is_a_beginning_of_the_state(config: Path, path: Path) -> None:
    out = config.with_name("ledger.csv")
    run("-c", config, "--out", out)
    with State.open(str(path)) as state:
        state.save_pull(Pull((Task(4, None, "", after(60), ()),), after(60)), after(60))
    status, told = run("verify", out, "-c", config, "--json")
    assert (status, json.loads(told)["newer"]) == (0, 1)


def test_rows_removed_from_the_end_of_the_state_are_found_by_an_export(config: Path, path: Path) -> None:
    out = config.with_name("ledger.jsonl")
    run("-c", config, "--out", out)
    tampered(path, "DELETE FROM ledger WHERE seq = 11")
    tampered(path, "DELETE FROM gone_tasks")
    assert run("verify", "-c", config)[0] == 0, "the state alone cannot know"
    status, told = run("verify", out, "-c", config, "--json")
    assert (status, json.loads(told)["bad_row"]) == (2, 11)


def test_rows_removed_from_the_end_are_found_by_the_hash_that_was_kept(config: Path, path: Path) -> None:
    head = json.loads(run("-c", config, "--json")[1])["head"]
    assert run("verify", "-c", config, "--head", head.upper())[0] == 0
    with State.open(str(path)) as state:
        state.add_report(1, {"round": 1, "verdict": "CONTINUE"}, after(60))
    assert run("verify", "-c", config, "--head", head)[0] == 0, "it stands further up now"
    tampered(path, "DELETE FROM ledger WHERE seq >= 11")
    tampered(path, "DELETE FROM gone_tasks")
    tampered(path, "DELETE FROM reports WHERE seq = 2")
    assert run("verify", "-c", config)[0] == 0
    status, told = run("verify", "-c", config, "--head", head, "--json")
    assert (status, json.loads(told)["bad_row"], head[:12] in told) == (2, 11, True)
    status, told = run("verify", "-c", config, "--head", head[:12])
    assert (status, "64 digits" in told) == (2, True)


def test_an_export_of_another_project_is_told_apart(config: Path, tmp_path: Path) -> None:
    other = Project()
    other.ask(1, 3, *BATCH)
    out = tmp_path / "other.csv"
    out.write_text("".join(write_lines(other.state.ledger(), ".csv")))
    status, told = run("verify", out, "-c", config, "--json")
    assert (status, json.loads(told)["bad_row"]) == (2, 1)


def test_verify_names_the_first_bad_row_and_ends_with_status_2(config: Path, path: Path) -> None:
    assert run("verify", "-c", config)[0] == 0
    tampered(path, "UPDATE annotations SET answers = '{\"Effusion\": 0.0}' WHERE seq = 1")
    status, told = run("verify", "-c", config)
    assert status == 2
    assert "row 5 is the first that is not as it was written" in " ".join(told.split())
    assert "answers" in told


def test_the_ledger_is_printed_and_given_as_json(config: Path) -> None:
    status, told = run("-c", config, "--last", "4")
    assert status == 0
    assert "the last 4 of 11 rows" in told
    assert "rebooked" in told
    assert "1 skipped random" in told
    rows = json.loads(run("-c", config, "--json")[1])["rows"]
    assert [row["seq"] for row in rows] == list(range(1, 12))
    assert all(len(row["hash"]) == 64 for row in rows)


def test_a_file_of_another_kind_and_a_project_not_started_are_refused(config: Path, tmp_path: Path) -> None:
    status, told = run("-c", config, "--out", tmp_path / "ledger.txt")
    assert (status, ".jsonl" in told) == (2, True)
    config.write_text(config.read_text().replace('"world"', '"nowhere"'))
    status, told = run("-c", config)
    assert (status, "loop start" in told) == (2, True)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"event": st.just("labelled")},
            optional={
                "reason": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                "rank": st.integers(),
                "utility": st.floats(allow_nan=False, allow_infinity=False),
                "skipped": st.booleans(),
                "scores": st.dictionaries(
                    st.sampled_from(["A", "B, C", "D\n:"]), st.none() | st.floats(0, 1)
                ),
            },
        ),
        max_size=5,
    ),
    kind=st.sampled_from([".csv", ".jsonl"]),
)
@example(rows=[{"event": "labelled", "reason": "\r"}], kind=".csv")
def test_whatever_a_row_holds_comes_back_from_a_file(
    rows: list[dict[str, Any]], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = extend(0, START, rows)
    out = tmp_path_factory.mktemp("any") / f"ledger{kind}"
    out.write_bytes("".join(write_lines(entries, kind)).encode())
    assert read_file(out) == (entries, None)
