"""Going back to an earlier round: queue, version and verdict return; labels, scores and evidence stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from loop_world import FINDINGS, Bench, World

from annotate.errors import StudioUnavailable
from loop.cli import main
from loop.controller import ask_first_batch, step
from loop.errors import BadInput
from loop.opening import read_book
from loop.project import Loop
from loop.readings import DOUBLE_READS
from loop.rollback import complete_rollback, rehearse_rollback, roll_back
from loop.show_rollback import show_rollback
from loop.show_status import show_status
from loop.state import State
from loop.status import read_status


class Wall:
    """A board: what annotators read."""

    def __init__(self) -> None:
        self.says_stop = False

    def stop(self, reason: str) -> None:
        self.says_stop = True

    def go_on(self) -> None:
        self.says_stop = False


class Ward:
    """A world with a person at the desk, whose loop has asked some rounds."""

    def __init__(self, folder: Path, **sections: str) -> None:
        self.world = World(folder)
        self.bench = Bench()
        self.wall = Wall()
        settings = self.world.settings(**sections)
        settings.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.world.state(settings.state_url)
        self.loop: Loop = replace(self.world.loop(self.state, self.bench, settings), board=self.wall)
        ask_first_batch(self.loop)

    def label(self, share: float = 1.0) -> list[int]:
        """Answer a share of the batch that is served, in its order; returns the tasks."""
        served = next(batch for version, batch in self.bench.served if version == self.bench.serving)
        tasks = [suggestion.task_id for suggestion in served][: round(share * len(served))]
        for task_id in tasks:
            self.bench.answer(task_id, self.world.answers[task_id])
        return tasks

    def ask(self, n: int) -> None:
        """Label what is served and step until n rounds were asked."""
        while self.state.n_rounds() < n:
            self.label()
            assert step(self.loop, force=True).action == "pushed"


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Ward]:
    """A ward whose state is a file."""
    ward = Ward(tmp_path)
    yield ward
    ward.state.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ward(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ward]:
    if request.param == "sqlite":
        yield request.getfixturevalue("filed")
        return
    url = request.getfixturevalue("postgres_url")
    ward = Ward(tmp_path, project=f'name = "world"\nfindings = {list(FINDINGS)}\nstate = "{url}"')
    yield ward
    ward.state.close()


def facts_of(state: State) -> Any:
    """All that a rollback must leave alone."""
    rounds = [(r.number, r.picks, r.scores.tolist(), dict(r.bets)) for r in state.rounds()]
    return str((state.labels(), rounds, state.readings(), state.reports(), state.amendments(), state.probe()))


# -- what returns, and what stays --------------------------------------------------------------------------


def test_batch_queue_version_and_verdict_return_and_everything_else_stays(ward: Ward) -> None:
    ward.ask(4)
    ward.label(0.4)
    step(ward.loop)  # pulls the labels, waits for the rest
    second = ward.state.rounds()[1]
    before, entries = facts_of(ward.state), ward.state.ledger()
    report = roll_back(ward.loop, 2)
    assert facts_of(ward.state) == before
    assert ward.bench.serving == second.version == report.version
    assert [version for version, _ in ward.bench.served] == [r.version for r in ward.state.rounds()[:2]]
    assert (present := ward.state.last_round()) is not None
    assert present.number == 2
    assert ward.state.last_push() == (second.version, 50)
    asked = ward.state.last_report()
    assert asked is not None
    assert asked["batch"]["round"] == 2
    assert [r.round for r in report.undone] == [3, 4]
    assert (report.undone[1].answered, report.removed, report.outstanding) == (20, 100, 0)
    assert ward.state.ledger()[: len(entries)] == entries
    told = ward.state.ledger()[len(entries)].fields()
    assert (told["event"], told["to_round"], told["undone"]) == ("rolled back", 2, [3, 4])
    assert ward.state.find_break() is None


def test_the_next_turn_judges_all_labels_and_asks_under_a_new_number(ward: Ward) -> None:
    ward.ask(4)
    ward.label(0.4)
    roll_back(ward.loop, 2)
    n = len(ward.state.labels())
    report = step(ward.loop)
    assert (report.action, report.round, report.labels.total) == ("pushed", 4, n)
    assert report.batch is not None
    assert report.batch.round == 5
    assert ward.state.undone_rounds() == {3, 4}
    assert ward.bench.serving == ward.state.rounds()[-1].version
    ward.ask(7)
    assert ward.state.find_break() is None


def test_a_batch_with_images_left_is_waited_for_again(ward: Ward) -> None:
    ward.label(0.5)
    assert step(ward.loop, force=True).action == "pushed"
    report = roll_back(ward.loop, 1)
    assert (report.outstanding, report.asked) == (25, 50)
    told = step(ward.loop)
    assert (told.action, told.round, told.outstanding) == ("waiting", 1, 25)
    ward.label()
    assert step(ward.loop).action == "pushed"


def test_a_stop_is_taken_back_by_naming_the_last_round(tmp_path: Path) -> None:
    ward = Ward(tmp_path, stop="target = 0.9\nbudget = 50")
    ward.label()
    assert step(ward.loop).verdict == "STOP"
    assert ward.wall.says_stop
    report = roll_back(ward.loop, 1)
    assert (report.undone, report.was, report.verdict) == ((), "STOP", "CONTINUE")
    assert not ward.wall.says_stop
    status = read_status(ward.loop.settings)
    assert status.last is not None
    assert status.last.verdict == "CONTINUE"
    assert [line.undone for line in status.history] == [False, True]
    larger = replace(ward.loop, settings=ward.world.settings(stop="target = 0.9\nbudget = 200"))
    assert step(larger).action == "pushed"
    ward.state.close()


# -- the random stream -------------------------------------------------------------------------------------


def random_of(ward: Ward, number: int) -> list[str]:
    return [p.item for p in ward.state.rounds()[number - 1].picks if p.stream == "random"]


def test_random_images_that_nobody_answered_come_first_again_and_are_read_once(ward: Ward) -> None:
    """Those that were answered keep the score that they were asked with, and are evidence at the next look."""
    ward.ask(3)
    answered = set(ward.label(0.5))
    roll_back(ward.loop, 2)
    task_of = ward.world.task_of
    asked = random_of(ward, 3)
    left = [item for item in asked if task_of[item] not in answered]
    book = read_book(ward.loop)
    assert list(book.random_next[: len(left)]) == sorted(
        left, key=lambda item: next(i.position or 0 for i in ward.world.items if i.item == item)
    )
    assert step(ward.loop).action == "pushed"
    assert set(left) <= set(random_of(ward, 4))
    ward.label()
    step(ward.loop)
    book = read_book(ward.loop)
    for name in book.findings:
        read = {asked.round: asked for asked in book.asked[name]}
        third, fourth = ward.state.rounds()[2], ward.state.rounds()[3]
        prefix = next((i for i, item in enumerate(asked) if item in left), len(asked))
        rows = [i for i, p in enumerate(third.picks) if p.stream == "random"][:prefix]
        np.testing.assert_array_equal(read[3].scores, third.scores_of(name)[rows])
        assert len(read[4].scores) == len(random_of(ward, 4))
        n = sum(len(one.scores) for one in read.values())
        seen = [i for r in (2, 3, 4) for i in random_of(ward, r)]
        assert n <= len(seen)
        assert np.isnan(read[4].y).sum() == 0, "no image of the fourth round was read before"
        assert fourth.number == 4


def test_what_the_certificate_has_read_is_neither_changed_nor_extended_by_going_back(ward: Ward) -> None:
    """The second round was judged with one random image open; its late answer must not slip in behind the third's."""
    ward.ask(2)
    served = next(batch for version, batch in ward.bench.served if version == ward.bench.serving)
    late = ward.world.task_of[random_of(ward, 2)[3]]
    for suggestion in served:
        if suggestion.task_id != late:
            ward.bench.answer(suggestion.task_id, ward.world.answers[suggestion.task_id])
    step(ward.loop)
    ward.label()
    step(ward.loop)
    read = {key: y for key, y in ward.state.readings().items() if key[0] < 3}
    assert {len(y) for key, y in read.items() if key[0] == 2} == {3}
    roll_back(ward.loop, 2)
    ward.bench.answer(late, ward.world.answers[late])
    step(ward.loop)
    ward.ask(6)
    after = ward.state.readings()
    for key, y in read.items():
        np.testing.assert_array_equal(after[key], y)


def test_a_label_that_comes_after_its_round_was_undone_is_booked_to_it(ward: Ward) -> None:
    ward.ask(3)
    roll_back(ward.loop, 2)
    picks = {p.item: p.stream for p in ward.state.rounds()[2].picks}
    chosen = [next(item for item, s in picks.items() if s == stream) for stream in ("random", "active")]
    for item in chosen:
        task_id = ward.world.task_of[item]
        ward.bench.answer(task_id, ward.world.answers[task_id])
    step(ward.loop, force=True)
    booked = {
        row["item"]: (row["stream"], row["round"], row["scores"])
        for row in (entry.fields() for entry in ward.state.ledger())
        if row["event"] == "labelled"
    }
    for item in chosen:
        stream, number, scores = booked[item]
        third = ward.state.rounds()[2]
        row = [p.item for p in third.picks].index(item)
        assert (stream, number) == (picks[item], 3)
        assert list(scores.values()) == pytest.approx(third.scores[row])


# -- crashes -----------------------------------------------------------------------------------------------


class Lost(Exception):
    """The process died here."""


POINTS: list[tuple[str, str]] = [
    ("state", "add_rollback"),
    ("board", "go_on"),
    ("desk", "ask_no_more"),
    ("desk", "go_back"),
    ("desk", "unpush"),
    ("state", "confirm_rollback"),
]


def dying(owner: Any, name: str, when: str) -> Callable[..., Any]:
    real, lives = getattr(owner, name), [True]

    def call(*args: Any, **named: Any) -> Any:
        if when == "before" and lives.pop():
            raise Lost
        told = real(*args, **named)
        if lives and lives.pop():
            raise Lost
        return told

    return call


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("part", "name"), POINTS)
@pytest.mark.parametrize("next_command", ["rollback", "step"])
def test_a_rollback_that_died_anywhere_is_completed_by_the_next_command(
    filed: Ward, monkeypatch: pytest.MonkeyPatch, part: str, name: str, when: str, next_command: str
) -> None:
    ward = filed
    ward.ask(3)
    ward.wall.says_stop = True
    with monkeypatch.context() as patched:
        owner = {"state": ward.state, "board": ward.wall, "desk": ward.bench}[part]
        patched.setattr(owner, name, dying(owner, name, when))
        with pytest.raises(Lost):
            roll_back(ward.loop, 1)
    written = ward.state.rollbacks() != []
    if next_command == "rollback":
        if written and ward.state.unfinished_rollback() is None:
            with pytest.raises(BadInput, match="nothing to undo"):
                roll_back(ward.loop, 1)
        else:
            assert [r.round for r in roll_back(ward.loop, 1).undone] == [2, 3]
    elif ward.state.unfinished_rollback() is not None:
        told = step(ward.loop)
        assert told.action == "completed"
        assert "interrupted rollback to round 1" in told.warnings[0]
    if not written and next_command == "step":
        assert ward.state.undone_rounds() == set()
        return
    assert complete_rollback(ward.loop) is None
    assert (ward.state.undone_rounds(), len(ward.state.rollbacks())) == ({2, 3}, 1)
    assert ward.bench.serving == ward.state.rounds()[0].version
    assert [version for version, _ in ward.bench.served] == [ward.bench.serving]
    assert not ward.wall.says_stop
    assert ward.state.find_break() is None
    assert step(ward.loop).batch is not None


def test_a_round_that_was_never_pushed_is_not_pushed_after_it_was_undone(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.ask(2)
    ward.label()
    with monkeypatch.context() as patched:
        patched.setattr(ward.bench, "push", lambda *args: (_ for _ in ()).throw(StudioUnavailable("gone")))
        with pytest.raises(StudioUnavailable):
            step(ward.loop)
    assert ward.state.unconfirmed() is not None
    roll_back(ward.loop, 2)
    assert ward.state.unconfirmed() is None
    assert step(ward.loop).action == "pushed"
    assert [version[-13:-9] for version, _ in ward.bench.served] == ["0001", "0002", "0004"]


def test_a_batch_that_the_server_lost_is_pushed_anew(ward: Ward) -> None:
    ward.ask(2)
    first = ward.state.rounds()[0]
    ward.bench.unpush([first.version])
    report = roll_back(ward.loop, 1)
    assert report.warnings == ()
    assert ward.bench.serving == f"{first.version}-u1"
    assert ward.state.last_push() == (f"{first.version}-u1", 50)
    ward.ask(4)
    third = ward.state.rounds()[2].version
    ward.bench.unpush([third])
    roll_back(ward.loop, 3)
    assert [version for version, _ in ward.bench.served] == [f"{first.version}-u1", f"{third}-u2"]
    roll_back(ward.loop, 1)
    assert [version for version, _ in ward.bench.served] == [f"{first.version}-u1"], (
        "nothing behind it is left"
    )


def test_second_readings_and_a_review_stay_open_and_draws_of_undone_rounds_do_not(tmp_path: Path) -> None:
    """What people have begun to read twice in rounds that stand is in front again; what an undone round drew is released."""
    ward = Ward(tmp_path, labels="double_reads = 0.5")
    world, bench, state = ward.world, ward.bench, ward.state
    drawn: list[list[int]] = []
    for _ in range(2):
        drawn.append([world.task_of[item] for item in state.facts(DOUBLE_READS)[-1]["items"]])
        ward.label()
        step(ward.loop, force=True)
    somebody = drawn[0][0]
    bench.answer(somebody, world.answers[somebody], who="bob")  # there is a second reader
    report = roll_back(ward.loop, 2)
    third = [world.task_of[item] for item in state.facts(DOUBLE_READS)[2]["items"]]
    assert sorted(bench.asked_no_more) == sorted(third)
    assert report.warnings == ()
    version, queue = next((v, q) for v, q in bench.served if v == bench.serving)
    assert version.endswith("-u1")
    open_ = [s.task_id for s in queue if s.readers == 2]
    assert set(third).isdisjoint(open_)
    asked = {world.task_of[pick.item] for pick in state.rounds()[1].picks}
    assert [s.task_id for s in queue][: len(drawn[0]) - 1] == [t for t in open_ if t not in asked], (
        "first the first round's"
    )
    assert somebody not in open_
    ward.state.close()


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (3, "nothing to undo"),
        (4, "no round 4; rounds in force: 1, 2, 3"),
        (0, "first batch cannot be undone"),
        (-1, "no round -1"),
    ],
)
def test_what_cannot_be_undone_is_refused_and_nothing_changes(ward: Ward, number: int, said: str) -> None:
    ward.ask(3)
    before = facts_of(ward.state), ward.state.ledger(), ward.bench.serving
    for undo in (
        lambda: roll_back(ward.loop, number),
        lambda: rehearse_rollback(ward.loop.settings, number),
    ):
        with pytest.raises(BadInput, match=said):
            undo()
    assert ward.state.rollbacks() == []
    assert (facts_of(ward.state), ward.state.ledger(), ward.bench.serving) == before


def test_a_round_that_was_undone_cannot_be_gone_back_to(ward: Ward) -> None:
    ward.ask(3)
    roll_back(ward.loop, 1)
    with pytest.raises(BadInput, match=r"Round 2 was undone itself.*in force: 1\. Its labels count"):
        roll_back(ward.loop, 2)


def test_going_back_twice_undoes_each_time_what_lies_behind(ward: Ward) -> None:
    ward.ask(3)
    roll_back(ward.loop, 2)
    ward.ask(5)
    assert [r.round for r in roll_back(ward.loop, 2).undone] == [4, 5]
    assert [r.round for r in roll_back(ward.loop, 1).undone] == [2]
    assert [(one.to_round, one.undone) for one in ward.state.rollbacks()] == [
        (2, (3,)),
        (2, (4, 5)),
        (1, (2,)),
    ]
    assert ward.bench.serving == ward.state.rounds()[0].version


# -- what is told ------------------------------------------------------------------------------------------


def test_a_dry_run_tells_the_same_and_changes_nothing(ward: Ward) -> None:
    ward.ask(3)
    ward.label(0.3)
    step(ward.loop)
    before = facts_of(ward.state), ward.state.ledger(), ward.bench.serving, list(ward.bench.served)
    config = ward.world.folder / "loop.toml"
    result = CliRunner().invoke(main, ["rollback", "1", "-c", str(config), "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["action"] == "rolled back (dry run)"
    assert ward.state.rollbacks() == []
    assert (facts_of(ward.state), ward.state.ledger(), ward.bench.serving, ward.bench.served) == before
    done = roll_back(ward.loop, 1).to_json()
    assert {**done, "action": "", "removed": 0} == {**told, "action": ""}


def test_a_dry_run_tells_of_a_rollback_that_is_under_way(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.ask(3)
    with monkeypatch.context() as patched:
        patched.setattr(ward.bench, "go_back", dying(ward.bench, "go_back", "before"))
        with pytest.raises(Lost):
            roll_back(ward.loop, 1)
    told = rehearse_rollback(ward.loop.settings, 1)
    assert ([r.round for r in told.undone], told.action) == ([2, 3], "rolled back (dry run)")
    assert ward.state.unfinished_rollback() is not None
    assert "the next command tells it" in read_status(ward.loop.settings).rollbacks[0]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_ledger_with_a_rollback_is_exported_and_verified(filed: Ward, kind: str) -> None:
    """Before the rollback, a file has no column for it, as files from before there were any."""
    filed.ask(2)
    config, out = str(filed.world.folder / "loop.toml"), filed.world.folder / f"ledger.{kind}"
    for n in range(2):
        result = CliRunner().invoke(main, ["ledger", "-c", config, "--out", str(out), "-q"])
        assert result.exit_code == 0, result.output
        assert ("to_round" in out.read_text()) == (n == 1)
        result = CliRunner().invoke(main, ["ledger", "verify", str(out), "-c", config])
        assert result.exit_code == 0, result.output
        if n == 0:
            roll_back(filed.loop, 1)
    result = CliRunner().invoke(main, ["ledger", "-c", config])
    assert "back to round 1; rounds undone: 2" in " ".join(result.output.split())


def test_people_read_what_was_undone_and_how_to_go_on(ward: Ward, capsys: pytest.CaptureFixture[str]) -> None:
    ward.ask(3)
    ward.label(0.3)
    show_rollback(roll_back(ward.loop, 1))
    said = " ".join(capsys.readouterr().out.split())
    assert "back to round 1: 50 of its 50 images are answered, 0 outstanding" in said
    assert "15 of 50 images answered, and kept" in said
    assert "Ask round 4 with `loop step`" in said
    show_status(read_status(ward.loop.settings))
    said = " ".join(capsys.readouterr().out.split())
    assert "back to round 1, rounds 2 and 3 undone, with the decisions that asked them" in said
    assert said.count("(undone)") == 2


def test_an_overrun_after_a_rollback_is_told_from_an_outsider_by_the_batch_that_is_served_again(
    ward: Ward,
) -> None:
    """The first batch is finished, so whoever labels on has run dry; the second, which is not, plays no part any more."""
    ward.ask(2)
    roll_back(ward.loop, 1)
    asked = {p.item for r in ward.state.rounds() for p in r.picks}
    stranger = next(i.item for i in ward.world.items if i.item not in asked and i.stream == "active")
    task_id = ward.world.task_of[stranger]
    ward.bench.answer(task_id, ward.world.answers[task_id])
    step(ward.loop, force=True)
    row = next(
        entry.fields()
        for entry in ward.state.ledger()
        if entry.fields().get("item") == stranger and entry.fields()["event"] == "labelled"
    )
    assert (row["stream"], row["round"]) == ("overrun", 1)
