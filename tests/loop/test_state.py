"""The state's laws: told twice is told once, order plays no part, nothing a person said is lost, all or nothing.

`StateContract` holds them for any database; a backend inherits it and says where its databases are.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, event, text

from annotate.records import Label, Pull, Receipt, Task
from loop import schema
from loop.errors import BadInput, Unavailable
from loop.items import Item
from loop.state import PullCount, Round, State
from loop.strategies import Pick

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def label(annotation_id: int, task_id: int = 1, *, at: float = 0, yes: float = 1.0, **more: object) -> Label:
    """What an annotator said ``at`` seconds after the start."""
    said = Label(
        annotation_id=annotation_id,
        task_id=task_id,
        annotator="7",
        created_at=AT,
        updated_at=after(at),
        lead_time_s=8.5,
        skipped=False,
        ground_truth=False,
        answers={"Effusion": yes, "Edema": float("nan")},
        problem=None,
        raw='{"id": 1}',
    )
    return replace(said, **more)  # type: ignore[arg-type]


def task(task_id: int, *labels: Label, at: float | None = None) -> Task:
    """A task as it stands ``at`` seconds after the start; by default at its latest label."""
    changed = max((given.updated_at for given in labels), default=AT) if at is None else after(at)
    return Task(task_id, None, "", changed, labels)


def pull(*tasks: Task, watermark: float | None = 0) -> Pull:
    return Pull(tasks, None if watermark is None else after(watermark))


def item(name: str, position: int | None = 0) -> Item:
    return Item(name, Path(f"{name}.png"), f"patient {name}", "random", position, {"view": "PA"})


def round_(number: int, *items: str, findings: tuple[str, ...] = ("Effusion", "Edema")) -> Round:
    picks = tuple(Pick(i, "random", "random", "next", 0.25, float("nan")) for i in items)
    scores = np.full((len(items), len(findings)), np.nan)
    scores[:, 0] = 0.1 * number
    return Round(
        number=number,
        version=f"loop-x-r{number:04d}",
        at=after(number),
        seed=(0, number),
        strategy="uncertainty",
        n_labels=10 * number,
        picks=picks,
        findings=findings,
        scores=scores,
        bets={"Effusion": True, "Edema": False},
    )


def truth(state: State) -> dict[int, dict[int, tuple[datetime, float]]]:
    """Task to annotation to what it says now."""
    return {
        task_id: {given.annotation_id: (given.updated_at, given.answers["Effusion"]) for given in labels}
        for task_id, labels in state.labels().items()
    }


def by_hand(state: State, statement: str) -> None:
    """What somebody might do to the database; the comment hides it from the watch over our own statements."""
    with state._db.write() as connection:
        connection.execute(text(f"/* by hand */ {statement}".replace(":", r"\:")))


class StateContract:
    """What every backend keeps."""

    @pytest.fixture(autouse=True)
    def _only_grows(self) -> Iterator[None]:
        """No row is ever changed or removed."""
        changes: list[str] = []

        def watch(connection: object, cursor: object, statement: str, *rest: object) -> None:
            if statement.lstrip().upper().startswith(("UPDATE", "DELETE", "REPLACE", "INSERT OR")):
                changes.append(statement)

        event.listen(Engine, "before_cursor_execute", watch)
        yield
        event.remove(Engine, "before_cursor_execute", watch)
        assert changes == []

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    @pytest.fixture
    def state(self, url: str) -> Iterator[State]:
        with State.create(url) as state:
            yield state

    # -- facts, images, tasks -----------------------------------------------------------------------------------

    def test_the_latest_fact_counts(self, state: State) -> None:
        assert state.fact("project") is None
        for value in ({"id": 3, "xml": "<View/>"}, [1, 2.5, None, True], {"id": 4}):
            state.set_fact("project", value, AT)
            assert state.fact("project") == value
        state.set_fact("encoder", "x", AT)
        assert state.fact("project") == {"id": 4}

    def test_a_fact_may_return_to_what_it_was(self, state: State) -> None:
        for value in ("a", "b", "a"):
            state.set_fact("key", value, AT)
        assert state.fact("key") == "a"

    def test_images_come_back_as_they_were_taken_in(self, state: State) -> None:
        items = [item("b", 3), item("a", None), replace(item("c"), metadata={})]
        state.add_items(items)
        assert state.items() == items

    def test_an_image_that_is_known_stays_as_it_is(self, state: State) -> None:
        state.add_items([item("a"), item("a")])
        state.add_items([replace(item("a"), stream="active", position=None), item("b")])
        assert state.items() == [item("a"), item("b")]

    def test_images_that_came_later_are_listed_too(self, state: State) -> None:
        for name in "abc":
            state.add_items([item(name)])
            state.items().clear()
        assert state.items() == [item(name) for name in "abc"]

    def test_problems_are_noted_once(self, state: State) -> None:
        for _ in range(2):
            state.add_problems(
                [("x.png", "truncated"), (Path("y.png"), "no image"), ("x.png", "truncated")], AT
            )
        assert state.problems() == [("x.png", "truncated"), ("y.png", "no image")]

    def test_the_latest_task_of_an_image_counts(self, state: State) -> None:
        state.add_items([item("a"), item("b")])
        for _ in range(2):
            state.add_tasks({"a": 1, "b": 2}, AT)
        assert state.tasks() == {"a": 1, "b": 2}
        state.add_tasks({"a": 9}, AT)
        assert state.tasks() == {"a": 9, "b": 2}

    def test_a_task_of_an_image_that_is_not_in_our_care_is_refused(self, state: State) -> None:
        with pytest.raises(Unavailable, match=r"(?i)foreign key"):
            state.add_tasks({"nobody": 1}, AT)
        assert state.tasks() == {}

    # -- labels -------------------------------------------------------------------------------------------------

    def test_a_label_comes_back_as_it_was_given(self, state: State) -> None:
        given = label(1, skipped=True, ground_truth=True, lead_time_s=None, raw="é\n", answers={})
        assert state.save_pull(pull(task(1, given, label(2, problem="no such choice"))), AT) == PullCount(
            2, 0, 0, 1
        )
        first, second = state.labels()[1]
        assert first == given
        assert second.problem == "no such choice"
        assert second.answers["Effusion"] == 1.0
        assert np.isnan(second.answers["Edema"])

    def test_times_come_back_to_the_microsecond_with_their_zone(self, state: State) -> None:
        east = AT.astimezone(timezone(timedelta(hours=5)))
        state.save_pull(Pull((task(1, label(1, created_at=east)),), east), AT)
        (given,) = state.labels()[1]
        assert given.created_at == AT
        assert given.created_at.tzinfo is not None
        assert state.watermark() == AT
        whole = AT.replace(microsecond=0)
        state.save_pull(pull(task(2, label(2, 2, updated_at=whole)), watermark=1), AT)
        assert state.labels()[2][0].updated_at == whole

    def test_a_time_without_a_zone_is_refused(self, state: State) -> None:
        with pytest.raises(ValueError, match="time zone"):
            state.set_fact("key", 1, AT.replace(tzinfo=None))

    def test_a_corrected_label_replaces_the_old_one_and_history_keeps_both(self, state: State) -> None:
        old, new = label(1, at=0, yes=1.0), label(1, at=60, yes=0.0)
        assert state.save_pull(pull(task(1, old)), AT) == PullCount(1, 0, 0, 0)
        assert state.save_pull(pull(task(1, new)), AT) == PullCount(0, 1, 0, 0)
        assert truth(state) == {1: {1: (after(60), 0.0)}}
        assert [(v.updated_at, v.answers["Effusion"]) for v in state.label_history()] == [
            (AT, 1.0),
            (after(60), 0.0),
        ]

    def test_a_withdrawn_label_is_gone_and_history_keeps_it(self, state: State) -> None:
        state.save_pull(pull(task(1, label(1), label(2)), task(2, label(3, 2))), AT)
        assert state.save_pull(pull(task(1, label(2), at=5)), AT) == PullCount(0, 0, 1, 0)
        assert {task_id: set(labels) for task_id, labels in truth(state).items()} == {1: {2}, 2: {3}}
        assert state.save_pull(pull(task(1, at=6)), AT) == PullCount(0, 0, 1, 0)
        assert set(truth(state)) == {2}
        assert [v.annotation_id for v in state.label_history()] == [1, 2, 3]

    def test_a_label_that_was_withdrawn_may_come_back(self, state: State) -> None:
        for stood in (task(1, label(1), at=0), task(1, at=1), task(1, label(1), at=2)):
            state.save_pull(pull(stood), AT)
        assert truth(state) == {1: {1: (AT, 1.0)}}

    def test_a_task_that_a_pull_leaves_out_keeps_its_labels(self, state: State) -> None:
        state.save_pull(pull(task(1, label(1))), AT)
        state.save_pull(pull(task(2, label(2, 2))), AT)
        assert set(truth(state)) == {1, 2}

    def test_two_annotators_of_one_image_both_count(self, state: State) -> None:
        state.save_pull(pull(task(1, label(1), label(2, annotator="8", yes=0.0))), AT)
        assert [given.annotator for given in state.labels()[1]] == ["7", "8"]

    def test_pulling_the_same_twice_changes_nothing(self, state: State) -> None:
        brought = pull(task(1, label(1), label(2)), task(2, label(3, 2, problem="?")), task(3))
        state.save_pull(brought, AT)
        before = truth(state), state.label_history(), state.watermark()
        assert state.save_pull(brought, after(9)) == PullCount(0, 0, 0, 0)
        assert str((truth(state), state.label_history(), state.watermark())) == str(before)

    def test_what_label_studio_says_of_a_labels_age_is_no_new_version(self, state: State) -> None:
        state.save_pull(pull(task(1, label(1, raw='{"created_ago": "1 minute"}'))), AT)
        again = state.save_pull(pull(task(1, label(1, raw='{"created_ago": "2 minutes"}'))), AT)
        assert again == PullCount(0, 0, 0, 0)

    def test_a_change_that_left_the_time_alone_is_seen(self, state: State) -> None:
        """Bulk actions in Label Studio set the star without touching ``updated_at``."""
        state.save_pull(pull(task(1, label(1))), AT)
        assert state.save_pull(pull(task(1, label(1, ground_truth=True))), AT) == PullCount(0, 1, 0, 0)
        assert state.labels()[1][0].ground_truth

    def test_one_task_told_twice_in_a_pull_counts_as_it_stands_last(self, state: State) -> None:
        old, new = task(1, label(1), label(2), at=1), task(1, label(1, at=5, yes=0.0), at=5)
        state.save_pull(pull(new, old), AT)
        assert truth(state) == {1: {1: (after(5), 0.0)}}

    def test_a_late_pull_adds_to_the_history_and_changes_nothing_else(self, state: State) -> None:
        state.save_pull(pull(task(1, label(1, at=60, yes=0.0), at=60)), AT)
        late = pull(task(1, label(1, yes=1.0), label(2), at=1))
        for _ in range(2):
            assert state.save_pull(late, AT) == PullCount(0, 0, 0, 0)
            assert truth(state) == {1: {1: (after(60), 0.0)}}
            assert [(v.annotation_id, v.updated_at) for v in state.label_history()] == [
                (1, AT),
                (2, AT),
                (1, after(60)),
            ]

    def test_the_next_pull_starts_where_the_last_one_ended(self, state: State) -> None:
        assert state.watermark() is None
        for seconds in (5.0, 7.0):
            state.save_pull(pull(watermark=seconds), AT)
            assert state.watermark() == after(seconds)

    def test_a_pull_of_many_tasks_is_stored(self, state: State) -> None:
        """More than a query's ids and an insert's rows at once."""
        many = pull(*(task(n, label(n, n)) for n in range(1, 6_001)))
        assert state.save_pull(many, AT) == PullCount(6_000, 0, 0, 0)
        assert state.save_pull(many, AT) == PullCount(0, 0, 0, 0)
        assert len(state.labels()) == 6_000

    # -- rounds -------------------------------------------------------------------------------------------------

    @pytest.fixture
    def stocked(self, state: State) -> State:
        state.add_items([item("a"), item("b")])
        return state

    def test_a_round_comes_back_as_it_was_asked(self, stocked: State) -> None:
        assert stocked.last_round() is None
        asked = replace(
            round_(1, "b", "a"), picks=(Pick("b", "active", "margin", "smallest margin", 1.0, -0.1), round_(1, "a").picks[0])
        )  # fmt: skip
        stocked.add_round(asked, {"round": 1}, b"probe")
        (found,) = stocked.rounds()
        np.testing.assert_array_equal(found.scores, asked.scores)
        assert found.picks[0] == asked.picks[0]
        assert np.isnan(found.picks[1].utility)
        for name in ("number", "version", "at", "seed", "strategy", "n_labels", "findings", "bets"):
            assert getattr(found, name) == getattr(asked, name), name

    def test_scores_are_found_by_finding_whatever_the_order_later(self, stocked: State) -> None:
        stocked.add_round(round_(1, "a", findings=("Edema", "Effusion")), {}, None)
        found = stocked.rounds()[0]
        np.testing.assert_array_equal(found.scores_of("Edema"), [0.1])
        np.testing.assert_array_equal(found.scores_of("Effusion"), [np.nan])
        np.testing.assert_array_equal(found.scores_of("Nodule"), [np.nan])

    def test_a_round_of_nothing_can_be_kept(self, stocked: State) -> None:
        stocked.add_round(round_(1), {}, None)
        assert stocked.rounds()[0].scores.shape == (0, 2)

    def test_committing_the_same_round_twice_changes_nothing(self, stocked: State) -> None:
        for _ in range(2):
            stocked.add_round(round_(1, "a"), {"round": 1}, b"probe")
        assert len(stocked.rounds()) == len(stocked.reports()) == 1

    def test_another_round_under_the_same_number_is_refused(self, stocked: State) -> None:
        stocked.add_round(round_(1, "a"), {}, None)
        with pytest.raises(Unavailable, match="Run the command again"):
            stocked.add_round(replace(round_(1, "b"), version="another"), {}, None)
        assert stocked.rounds()[0].picks[0].item == "a"

    def test_scores_of_an_image_that_is_labelled_already_are_refused(self, stocked: State) -> None:
        """They could have been made with its label: the certificate and the score rest on their not having been."""
        stocked.add_tasks({"a": 1, "b": 2}, AT)
        stocked.save_pull(pull(task(1, label(1))), AT)
        with pytest.raises(Unavailable, match=r"was labelled before its scores.*run the command again"):
            stocked.add_round(round_(1, "b", "a"), {"round": 1}, b"probe")
        assert (stocked.rounds(), stocked.reports(), stocked.probe()) == ([], [], None)
        stocked.add_round(round_(1, "b"), {"round": 1}, b"probe")
        stocked.save_pull(
            pull(task(2, label(2, 2))), AT
        )  # an image that was asked is labelled: as it should be
        assert len(stocked.rounds()) == 1

    def test_an_image_whose_label_was_withdrawn_may_be_scored_anew(self, stocked: State) -> None:
        stocked.add_tasks({"a": 1}, AT)
        stocked.save_pull(pull(task(1, label(1))), AT)
        stocked.save_pull(pull(task(1, at=5)), AT)
        stocked.add_round(round_(1, "a"), {}, None)
        assert stocked.rounds()[0].picks[0].item == "a"

    def test_labels_of_a_task_that_is_gone_do_not_stand_in_the_way(self, stocked: State) -> None:
        stocked.add_tasks({"a": 1}, AT)
        stocked.save_pull(pull(task(1, label(1))), AT)
        stocked.drop_tasks([1], AT)
        stocked.add_tasks({"a": 9}, AT)
        stocked.add_round(round_(1, "a"), {}, None)
        stocked.save_pull(pull(task(9, label(9, 9))), AT)
        with pytest.raises(Unavailable, match="was labelled before"):
            stocked.add_round(round_(2, "a"), {}, None)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE picks SET scores = '[0.99, 0.99]'",
            "UPDATE picks SET stream = 'random'",
            "DELETE FROM picks",
            "UPDATE rounds SET bets = '{}'",
            "UPDATE annotations SET answers = '{}'",
            "DELETE FROM annotations",
            "UPDATE reports SET report = '{}'",
            "DELETE FROM reports",
            "UPDATE amendments SET settings = '{}'",
            "DELETE FROM amendments",
        ],
    )
    def test_what_was_written_down_cannot_be_changed_afterwards(self, stocked: State, statement: str) -> None:
        stocked.add_round(round_(1, "a"), {"round": 1}, b"probe")
        stocked.save_pull(pull(task(1, label(1))), AT)
        stocked.amend({"stop.target": 0.9}, AT)
        with pytest.raises(Unavailable, match="rows are never changed"):
            by_hand(stocked, statement)
        np.testing.assert_array_equal(stocked.rounds()[0].scores, [[0.1, np.nan]])
        assert (len(stocked.labels()), stocked.reports()) == (1, [{"round": 1}])

    def test_a_batch_that_annotators_were_told_of_gets_no_more_images(self, stocked: State) -> None:
        stocked.add_round(round_(1, "a"), {}, None)
        late = (
            "INSERT INTO picks (number, rank, item, stream, strategy, reason, inclusion_probability, scores) "
            "VALUES (1, {rank}, 'b', 'random', 'random', '', 1.0, '[0.9, 0.9]')"
        )
        stocked.confirm_push(1, Receipt("loop-x-r0001", 1, (5,), ()), AT)
        with pytest.raises(Unavailable, match="was told to the annotators"):
            by_hand(stocked, late.format(rank=2))
        assert [p.item for p in stocked.rounds()[0].picks] == ["a"]

    def test_a_round_that_cannot_be_kept_leaves_nothing_behind(self, stocked: State) -> None:
        with pytest.raises(Unavailable):
            stocked.add_round(round_(1, "a", "a"), {"round": 1}, b"probe")  # one image twice
        assert (stocked.rounds(), stocked.reports(), stocked.probe()) == ([], [], None)

    def test_a_round_waits_until_its_push_was_confirmed(self, stocked: State) -> None:
        assert stocked.unconfirmed() is None
        stocked.add_round(round_(1, "a"), {}, None)
        assert (waiting := stocked.unconfirmed()) is not None
        assert waiting.number == 1
        for _ in range(2):
            stocked.confirm_push(1, Receipt("loop-x-r0001", 1, (5,), ("odd",)), AT)
            assert stocked.unconfirmed() is None
        stocked.add_round(round_(2, "b"), {}, None)
        assert (waiting := stocked.unconfirmed()) is not None
        assert waiting.number == 2
        assert (last := stocked.last_round()) is not None
        assert last.number == 2

    # -- rollbacks ----------------------------------------------------------------------------------------------

    @pytest.fixture
    def three(self, state: State) -> State:
        """Three rounds that were asked and served, and a STOP behind them."""
        state.add_items([item(name) for name in "abc"])
        for number, name in enumerate("abc", start=1):
            report = {"verdict": "CONTINUE", "batch": {"round": number}}
            state.add_round(round_(number, name), report, b"probe")
            state.confirm_push(number, Receipt(f"loop-x-r{number:04d}", 1, (), ()), after(number))
        state.add_report(3, {"verdict": "STOP", "batch": None}, AT)
        return state

    def test_a_rollback_puts_an_earlier_round_in_force_and_removes_nothing(self, three: State) -> None:
        before = str((three.rounds(), three.reports(), three.probe()))
        done = three.add_rollback(1, after(9))
        assert done is not None
        assert (done.number, done.to_round, done.undone, done.at) == (1, 1, (2, 3), after(9))
        assert str((three.rounds(), three.reports(), three.probe())) == before
        assert (last := three.last_round()) is not None
        assert (last.number, three.n_rounds(), three.undone_rounds()) == (1, 3, {2, 3})
        assert three.undone_reports() == [False, True, True, True]
        assert (three.last_report() or {})["batch"] == {"round": 1}
        assert (three.last_push(), three.unconfirmed()) == (("loop-x-r0001", 1), None)

    def test_a_rollback_is_a_row_of_the_ledger(self, three: State) -> None:
        before = three.ledger()
        three.add_rollback(2, after(9))
        *rows, last = three.ledger()
        assert rows == before
        told = last.fields()
        assert (told["event"], told["to_round"], told["undone"]) == ("rolled back", 2, [3])
        assert three.find_break() is None

    def test_a_rollback_is_unfinished_until_label_studio_followed(self, three: State) -> None:
        assert three.unfinished_rollback() is None
        three.add_rollback(2, after(9))
        assert (waiting := three.unfinished_rollback()) is not None
        assert (waiting.number, waiting.finished, waiting.version) == (1, False, None)
        for version in ("loop-x-r0002-b", "another"):  # told twice is told once
            three.confirm_rollback(1, version, 7, after(10))
            assert three.unfinished_rollback() is None
            assert three.last_push() == ("loop-x-r0002-b", 7)
        assert [one.version for one in three.rollbacks()] == ["loop-x-r0002-b"]

    def test_a_verdict_alone_can_be_undone_once(self, three: State) -> None:
        assert (done := three.add_rollback(3, after(9))) is not None
        assert done.undone == ()
        assert three.undone_reports() == [False, False, False, True]
        assert three.add_rollback(3, after(10)) is None
        assert len(three.rollbacks()) == 1

    def test_what_was_undone_cannot_be_gone_back_to_and_new_rounds_go_on_behind_it(
        self, three: State
    ) -> None:
        three.add_rollback(1, after(9))
        for number in (2, 3, 4, 0):
            with pytest.raises(ValueError, match="not in force"):
                three.add_rollback(number, after(10))
        three.add_round(round_(4, "b"), {"verdict": "CONTINUE", "batch": {"round": 4}}, None)
        assert (last := three.last_round()) is not None
        assert last.number == 4
        assert (waiting := three.unconfirmed()) is not None
        assert waiting.number == 4
        assert (done := three.add_rollback(1, after(11))) is not None
        assert (done.number, done.undone) == (2, (4,))
        assert three.undone_reports() == [False, True, True, True, True]

    @pytest.mark.parametrize("table", ["rollbacks", "restored"])
    def test_a_rollback_is_never_changed(self, three: State, table: str) -> None:
        three.add_rollback(1, after(9))
        three.confirm_rollback(1, "loop-x-r0001", 1, after(10))
        for change in (f"UPDATE {table} SET at = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(Unavailable, match="audit trail"):
                by_hand(three, change)

    def test_a_rollback_that_the_ledger_does_not_know_is_found(self, three: State) -> None:
        three.add_rollback(2, after(9))
        by_hand(
            three,
            "INSERT INTO rollbacks (number, to_round, undone, reports, at) VALUES (2, 1, '[2]', '[]', '2026')",
        )
        assert (broken := three.find_break()) is not None
        assert "rollbacks" in broken.problem

    # -- reports, probes, amendments ----------------------------------------------------------------------------

    def test_every_decision_is_kept_with_and_without_a_batch(self, stocked: State) -> None:
        stocked.add_round(round_(1, "a"), {"verdict": "CONTINUE", "auc": None}, b"one")
        stocked.add_report(1, {"verdict": "STOP"}, AT, b"two")
        stocked.add_report(1, {"verdict": "STOP"}, AT)
        assert [told["verdict"] for told in stocked.reports()] == ["CONTINUE", "STOP", "STOP"]

    def test_a_probe_is_found_by_round_or_as_the_last(self, stocked: State) -> None:
        assert stocked.probe() is None
        stocked.add_round(round_(1, "a"), {}, b"\x00one")
        stocked.add_round(round_(2, "b"), {}, b"two")
        stocked.add_report(2, {}, AT, b"three")
        assert (stocked.probe(), stocked.probe(1), stocked.probe(2)) == (b"three", b"\x00one", b"three")
        assert stocked.probe(9) is None

    def test_frozen_settings_that_change_are_told_with_what_changed(self, state: State) -> None:
        first = {"stop.target": 0.9, "stop.rule": ("a", "b"), "findings": ["a"]}
        assert state.amending(first) == []
        for _ in range(2):
            state.amend(first, AT)
        assert state.amendments() == []
        assert state.amending(first) == []
        assert state.amending({**first, "stop.target": 0.8}) == ["stop.target from 0.9 to 0.8"]
        assert state.amendments() == []
        state.amend({**first, "stop.target": 0.8}, AT)
        state.amend({**first, "stop.target": 0.8, "stop.alpha": 0.1}, after(3600))
        assert state.amendments() == [
            "2026-03-01 12:00: stop.target from 0.9 to 0.8",
            "2026-03-01 13:00: stop.alpha from its default to 0.1",
        ]
        state.amend(first, AT)
        assert len(state.amendments()) == 3

    def test_a_target_of_one_finding_that_changes_is_told_alone(self, state: State) -> None:
        state.amend({"stop.target": {"Edema": 0.8, "Effusion": 0.9}}, AT)
        state.amend({"stop.target": {"Edema": 0.8, "Effusion": 0.85}}, after(60))
        state.amend({"stop.target": 0.85}, after(120))
        assert state.amendments() == [
            "2026-03-01 12:01: stop.target.Effusion from 0.9 to 0.85",
            "2026-03-01 12:02: stop.target from {'Edema': 0.8, 'Effusion': 0.85} to 0.85",
        ]

    # -- the ledger ---------------------------------------------------------------------------------------------

    def test_what_was_asked_and_said_and_read_stands_in_the_ledger(self, state: State) -> None:
        state.add_items([item("a"), item("b")])
        state.add_tasks({"a": 1, "b": 2}, AT)
        state.add_round(round_(1, "a"), {"round": 1}, None)
        state.save_pull(pull(task(1, label(1)), task(2, label(2, 2, raw=""))), after(5))
        state.save_pull(pull(task(1, at=6), watermark=6), after(7))
        state.drop_tasks([2], after(8))
        readings = {(1, "Effusion"): [1.0, float("nan")]}
        for _ in range(2):
            state.add_report(1, {"round": 1}, after(9), None, readings)
        assert state.amendments() == []
        state.add_report(1, {"round": 1}, after(70), None, {(1, "Effusion"): [0.0, float("nan"), 1.0]})
        assert [(row.get("event"), row.get("stream")) for row in (e.fields() for e in state.ledger())] == [
            ("asked", "random"),
            ("decided", None),
            ("labelled", "random"),
            ("labelled", "outsider"),
            ("withdrawn", "random"),
            ("withdrawn", "outsider"),  # with its task
            ("gone", None),
            ("read", None),
            ("decided", None),
            ("decided", None),
            ("read", None),
            ("decided", None),
        ]
        assert state.find_break() is None
        assert state.unasked() == {2: "outsider"}
        assert str(state.readings()) == "{(1, 'Effusion'): (0.0, nan, 1.0)}"
        assert state.amendments() == [
            "2026-03-01 12:01: the certificate's evidence for Effusion was corrected on 1 label that it had counted"
        ]

    # -- the database -------------------------------------------------------------------------------------------

    def test_a_state_is_there_when_it_is_opened_again(self, url: str) -> None:
        with State.create(url) as state:
            state.add_items([item("a")])
            state.save_pull(pull(task(1, label(1))), AT)
            state.add_round(round_(1, "a"), {"round": 1}, b"probe")
        for again in (State.open, State.create):
            with again(url) as state:
                assert [i.item for i in state.items()] == ["a"]
                assert truth(state) == {1: {1: (AT, 1.0)}}
                assert len(state.rounds()) == len(state.reports()) == 1

    def test_many_images_are_taken_in_and_listed(self, state: State) -> None:
        many = [item(f"{n:032x}", n) for n in range(100_000)]
        state.add_items(many)
        state.add_items(many[-10:])
        state.add_tasks({i.item: n for n, i in enumerate(many)}, AT)
        assert state.items() == many
        assert len(state.tasks()) == 100_000


class TestSqliteFile(StateContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "project" / "state.db")


class TestSqliteUrl(StateContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'state.db'}"


class TestMemory(StateContract):
    @pytest.fixture
    def url(self) -> str:
        return ":memory:"

    def test_a_state_is_there_when_it_is_opened_again(self, url: str) -> None:
        with pytest.raises(BadInput, match="loop start"):
            State.open(url)


class TestPostgres(StateContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url

    def test_a_database_without_a_state_is_a_project_not_started(self, url: str) -> None:
        with pytest.raises(BadInput, match="loop start"):
            State.open(url)

    def test_a_dry_run_says_that_it_needs_sqlite(self, state: State) -> None:
        with pytest.raises(BadInput, match="--dry-run"):
            state.sandbox()


# -- order of arrival -----------------------------------------------------------------------------------------

EDITS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["say", "delete"]), st.booleans()), max_size=6)


def snapshots(edits: list[tuple[int, str, bool]], task_id: int) -> list[Task]:
    """A task as it stood after each edit, a second apart."""
    now: dict[int, Label] = {}
    told = []
    for second, (annotation, verb, yes) in enumerate(edits, start=1):
        if verb == "say":
            now[annotation] = label(10 * task_id + annotation, task_id, at=second, yes=float(yes))
        else:
            now.pop(annotation, None)
        told.append(task(task_id, *now.values(), at=second))
    return told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=EDITS, second=EDITS, data=st.data())
def test_the_order_of_arrival_does_not_matter(
    first: list[tuple[int, str, bool]], second: list[tuple[int, str, bool]], data: st.DataObject
) -> None:
    """Whatever people did to two tasks, and in whichever order the pulls came, the latest one is the truth."""
    all_ = [*snapshots(first, 1), *snapshots(second, 2)]
    order = data.draw(st.permutations(all_))
    expected = {
        stood[-1].task_id: {x.annotation_id: (x.updated_at, x.answers["Effusion"]) for x in stood[-1].labels}
        for stood in (snapshots(first, 1), snapshots(second, 2))
        if stood and stood[-1].labels
    }
    with State.create(":memory:") as straight, State.create(":memory:") as shuffled:
        for stood in all_:
            straight.save_pull(pull(stood), AT)
        for stood in order:
            shuffled.save_pull(pull(stood), AT)
            shuffled.save_pull(pull(stood), AT)
        assert truth(straight) == truth(shuffled) == expected
        histories = [
            [(v.annotation_id, v.updated_at) for v in state.label_history()] for state in (straight, shuffled)
        ]
        assert set(histories[0]) == set(histories[1])


# -- a copy to try things on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["state.db", ":memory:"])
def test_a_sandbox_knows_everything_and_changes_nothing(tmp_path: Path, url: str) -> None:
    with State.create(url if url == ":memory:" else str(tmp_path / url)) as state:
        state.add_items([item("a"), item("b")])
        state.save_pull(pull(task(1, label(1))), AT)
        state.add_round(round_(1, "a"), {"round": 1}, b"probe")
        with state.sandbox() as copy:
            assert str(copy.rounds()) == str(state.rounds())
            assert truth(copy) == truth(state)
            copy.save_pull(pull(task(1, at=5), watermark=9), AT)
            copy.add_round(round_(2, "b"), {"round": 2}, None)
            copy.set_fact("project", 1, AT)
        assert truth(state) == {1: {1: (AT, 1.0)}}
        assert len(state.rounds()) == len(state.reports()) == 1
        assert state.fact("project") is None
        assert state.watermark() == AT


# -- death ----------------------------------------------------------------------------------------------------

DEADLY = """
import os, signal, sys
from sqlalchemy import Engine, event
from test_state import AT, item, label, pull, round_, task
from loop.state import State

url, verb, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
state, inserts = State.create(url), 0

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    global inserts
    inserts += statement.startswith("INSERT")
    if inserts == n:
        os.kill(os.getpid(), signal.SIGKILL)

if verb == "save_pull":
    labels = label(1, at=5, yes=0.0), label(2)
    state.save_pull(pull(task(1, *labels), task(2, label(3, 2)), watermark=9), AT)
else:
    state.add_round(round_(2, "b", "a"), {"round": 2}, b"two")
"""


@pytest.mark.parametrize(
    ("verb", "n"),
    [*(("save_pull", n) for n in (1, 2, 3, 99)), *(("add_round", n) for n in (1, 2, 3, 4, 99))],
)
def test_a_process_killed_inside_a_transaction_leaves_all_of_it_or_nothing(
    tmp_path: Path, verb: str, n: int
) -> None:
    """SIGKILL after the n-th INSERT, before its commit; 99 = after the end."""
    url = str(tmp_path / "state.db")
    with State.create(url) as state:
        state.add_items([item("a"), item("b")])
        state.save_pull(pull(task(1, label(1))), AT)
        state.add_round(round_(1, "a"), {"round": 1}, b"one")
    done = subprocess.run(
        [sys.executable, "-c", DEADLY, url, verb, str(n)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    killed = n < 99
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    with State.open(url) as state:
        asked, told = [r.number for r in state.rounds()], [r["round"] for r in state.reports()]
        assert asked == told == ([1] if killed or verb == "save_pull" else [1, 2])
        assert state.probe() == (b"one" if killed or verb == "save_pull" else b"two")
        whole = {1: {1: (after(5), 0.0), 2: (AT, 1.0)}, 2: {3: (AT, 1.0)}}
        if killed or verb == "add_round":
            assert (truth(state), state.watermark()) == ({1: {1: (AT, 1.0)}}, AT)
        else:
            assert (truth(state), state.watermark()) == (whole, after(9))


# -- what a file can be ---------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state with one label in it, closed."""
    path = tmp_path / "state.db"
    with State.create(str(path)) as state:
        state.save_pull(pull(task(1, label(1))), AT)
    return path


def test_a_project_that_was_not_started_says_so(tmp_path: Path) -> None:
    for url in (tmp_path / "none.db", tmp_path, f"sqlite:///{tmp_path / 'none.db'}"):
        with pytest.raises(BadInput, match="Run `loop start` first"):
            State.open(str(url))
    assert not list(tmp_path.iterdir())


def test_a_start_that_died_before_the_first_table_is_a_project_not_started(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    with pytest.raises(BadInput, match="loop start"):
        State.open(str(tmp_path / "state.db"))
    State.create(str(tmp_path / "state.db")).close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("The annotators' notes. " * 100)
    for way in (State.open, State.create):
        with pytest.raises(BadInput, match="Restore the file from a backup"):
            way(str(path))
    assert path.read_text().startswith("The annotators' notes.")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"\[project\] folder"):
        State.create(str(tmp_path / "file" / "state.db"))


@pytest.mark.parametrize("url", ["nonsense://x", "postgresql+psycopg://ann:s3cr3t@127.0.0.1:9/loop"])
def test_an_address_that_leads_nowhere_is_refused_without_its_password(url: str) -> None:
    with pytest.raises((BadInput, Unavailable)) as refused:
        State.create(url)
    assert "s3cr3t" not in str(refused.value)


def test_a_state_is_kept_in_write_ahead_mode(path: Path) -> None:
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]


# -- migrations -----------------------------------------------------------------------------------------------


def raw(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_an_empty_database_gets_every_table_and_the_view(path: Path) -> None:
    found = {name for (name,) in raw(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    assert found == {*schema.metadata.tables, "current_annotations"}
    numbers = [number for (number,) in raw(path, "SELECT number FROM migrations ORDER BY number")]
    assert numbers == list(range(1, len(schema.MIGRATIONS) + 1))


def test_a_row_cannot_be_replaced_either(path: Path) -> None:
    with State.open(str(path)) as state:
        state.add_items([item("a")])
        state.add_round(round_(1, "a"), {}, None)
        with pytest.raises(Unavailable, match="rows are never changed"):
            by_hand(state, "INSERT OR REPLACE INTO picks SELECT * FROM picks")


def test_a_state_of_the_first_tables_learns_to_refuse_hindsight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "old.db")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        with State.create(url) as state:
            state.add_items([item("a")])
            state.add_round(round_(1, "a"), {"round": 1}, None)
    with State.open(url) as state:
        with pytest.raises(Unavailable, match="rows are never changed"):
            by_hand(state, "UPDATE picks SET scores = '[1, 1]'")
        assert len(state.rounds()) == 1


def test_an_older_state_is_migrated_once_and_keeps_its_labels(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def add_reviews(connection: Connection) -> None:
        ran.append("reviews")
        Table("reviews", MetaData(), Column("seq", Integer, primary_key=True)).create(connection)
        connection.execute(text("ALTER TABLE annotations ADD COLUMN review TEXT"))

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("reviews", add_reviews)])
    for way in (State.open, State.open, State.create):
        with way(str(path)) as state:
            assert truth(state) == {1: {1: (AT, 1.0)}}
    assert ran == ["reviews"]
    assert raw(path, "SELECT * FROM reviews") == []


def test_a_migration_that_fails_leaves_the_state_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE reviews (seq INTEGER)"))
        connection.execute(text("CREATE TABLE reviews (seq INTEGER)"))

    before = raw(path, "SELECT * FROM sqlite_master")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("half", half)])
        with pytest.raises(Unavailable, match="already exists"):
            State.open(str(path))
    assert raw(path, "SELECT * FROM sqlite_master") == before
    with State.open(str(path)) as state:
        assert truth(state) == {1: {1: (AT, 1.0)}}


def test_a_state_from_before_there_were_rollbacks_can_be_looked_at_and_learns_them(path: Path) -> None:
    with State.open(str(path)) as state:
        state.add_items([item("a")])
        state.add_round(round_(1, "a"), {"batch": {"round": 1}}, None)
        state.confirm_push(1, Receipt("loop-x-r0001", 1, (), ()), AT)
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("restored", "rollbacks"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DELETE FROM migrations WHERE name = 'keep rollbacks'")
    with State.look(str(path)) as state:
        assert state.behind() == ["keep rollbacks"]
        assert (state.last_push(), state.unconfirmed(), state.unfinished_rollback()) == (
            ("loop-x-r0001", 1),
            None,
            None,
        )
        assert (state.rollbacks(), state.undone_reports()) == ([], [False])
    with State.open(str(path)) as state:
        state.add_report(1, {"verdict": "STOP"}, AT)
        assert state.add_rollback(1, AT) is not None
        assert state.find_break() is None
        with pytest.raises(Unavailable, match="audit trail"):
            by_hand(state, "DELETE FROM rollbacks")


def test_a_state_of_a_newer_release_is_refused_and_left_alone(path: Path) -> None:
    raw(path, "INSERT INTO migrations (number, name) VALUES (99, 'from the future')")
    for way in (State.open, State.create):
        with pytest.raises(BadInput, match=r"newer release.*pip install -U annotation-loop"):
            way(str(path))


# -- labels are never lost in silence -------------------------------------------------------------------------


def test_labels_that_the_database_refuses_are_an_error_and_the_pull_is_repeated(path: Path) -> None:
    raw(path, "CREATE TRIGGER no BEFORE INSERT ON annotations BEGIN SELECT RAISE(ABORT, 'no'); END")
    with State.open(str(path)) as state:
        with pytest.raises(Unavailable, match="run the command again"):
            state.save_pull(pull(task(2, label(2, 2)), watermark=9), AT)
        assert state.watermark() == AT
        raw(path, "DROP TRIGGER no")
        assert state.save_pull(pull(task(2, label(2, 2)), watermark=9), AT) == PullCount(1, 0, 0, 0)


def test_a_full_disk_says_so_and_loses_nothing(path: Path) -> None:
    def tiny(connection: sqlite3.Connection, record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    many = pull(*(task(n, label(n, n)) for n in range(1, 2_000)), watermark=9)
    event.listen(Engine, "connect", tiny)
    try:
        with State.open(str(path)) as state, pytest.raises(Unavailable, match="Make room on the disk"):
            state.save_pull(many, AT)
    finally:
        event.remove(Engine, "connect", tiny)
    with State.open(str(path)) as state:
        assert (truth(state), state.watermark()) == ({1: {1: (AT, 1.0)}}, AT)
        assert state.save_pull(many, AT).new == 1_998


def test_a_state_that_another_program_writes_can_be_read_and_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.database.BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with State.open(str(path)) as state:
            assert truth(state) == {1: {1: (AT, 1.0)}}
            with pytest.raises(Unavailable, match="Another program is writing"):
                state.save_pull(pull(task(2, label(2, 2))), AT)
            other.execute("ROLLBACK")
            assert state.save_pull(pull(task(2, label(2, 2))), AT) == PullCount(1, 0, 0, 0)
    finally:
        other.close()


def test_a_state_that_is_looked_at_can_be_read_while_it_is_written_and_cannot_be_written(
    tmp_path: Path,
) -> None:
    """Whatever its folder is called."""
    url = str(tmp_path / "50 % of #1?" / "state.sqlite")
    with State.create(url) as state, State.look(url) as looked:
        state.set_fact("pace", 1, AT)
        assert looked.fact("pace") == 1
        with pytest.raises(Unavailable, match="readonly"):
            looked.set_fact("pace", 2, AT)
    with State.look(url) as looked:  # nobody else has it open
        assert looked.fact("pace") == 1


def test_a_state_on_a_server_that_is_looked_at_cannot_be_written(postgres_url: str) -> None:
    with State.create(postgres_url) as state, State.look(postgres_url) as looked:
        state.set_fact("pace", 1, AT)
        assert looked.fact("pace") == 1
        with pytest.raises(Unavailable, match="read-only"):
            looked.set_fact("pace", 2, AT)


def test_a_state_has_another_mark_after_whatever_was_added(tmp_path: Path) -> None:
    url = str(tmp_path / "state.sqlite")
    with State.create(url) as state, State.look(url) as looked:
        marks = [looked.mark()]
        for change in (
            lambda: state.add_items([item("a")]),
            lambda: state.add_tasks({"a": 1}, AT),
            lambda: state.set_fact("pace", 1, AT),
            lambda: state.set_fact("pace", 2, AT),
            lambda: state.save_pull(pull(task(1, label(1))), AT),
            lambda: state.save_pull(pull(task(1, label(1, at=1, yes=0.0))), AT),
            lambda: state.drop_tasks({1}, AT),
            lambda: state.add_report(0, {"at": "now"}, AT),
            lambda: state.amend({"target": 0.9}, AT),
        ):
            change()
            assert looked.mark() not in marks
            marks.append(looked.mark())
            assert looked.mark() == marks[-1]


def test_what_a_writer_has_read_stays_true_until_it_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second writer between the look and the leap is kept out; it may try again."""
    monkeypatch.setattr("loop.database.BUSY_S", 0.05)
    with State.open(str(path)) as first, State.open(str(path)) as second:
        kept_out: list[bool] = []

        def cut_in(connection: object, cursor: object, statement: str, *rest: object) -> None:
            if statement.startswith("SELECT facts") and not kept_out:
                kept_out.append(True)
                with pytest.raises(Unavailable, match="Another program is writing"):
                    second.set_fact("key", "second", AT)

        event.listen(Engine, "after_cursor_execute", cut_in)
        try:
            first.set_fact("key", "first", AT)
        finally:
            event.remove(Engine, "after_cursor_execute", cut_in)
        assert kept_out
        assert second.fact("key") == "first"
        second.set_fact("key", "second", AT)
        assert first.fact("key") == "second"
