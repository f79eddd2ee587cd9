"""On STOP annotators are told in Label Studio, reversibly: title, instructions, and the queue if asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from ward import Ward

from annotate.errors import StudioUnavailable
from annotate.payloads import write_results
from annotate.studio import Notice, Studio
from loop.board import SAID, StudioBoard, stopped
from loop.settings import load_settings
from loop.simulate import Ticks
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

BEFORE = Notice("ward", "<b>Look twice.</b>", False, 1)


class Wall:
    """A project's notice without a server; ``breaks`` loses the next change."""

    def __init__(self, notice: Notice) -> None:
        self.held, self.breaks, self.n_changes = notice, False, 0

    def notice(self, project_id: int) -> Notice:
        return self.held

    def update_project(self, project_id: int, **fields: object) -> None:
        if self.breaks:
            self.breaks = False
            raise StudioUnavailable("gone")
        self.n_changes += 1
        told = self.held.to_fields() | fields
        self.held = Notice(
            told["title"], told["expert_instruction"], told["show_instruction"], told["maximum_annotations"]
        )


def board(wall: Wall, state: State, *, close: bool = False) -> StudioBoard:
    return StudioBoard(wall, 1, state, Ticks(), close)  # type: ignore[arg-type]


def test_a_stop_told_twice_is_told_once_and_put_back_to_the_letter() -> None:
    wall, state = Wall(BEFORE), State.create(":memory:")
    for _ in range(2):
        board(wall, state, close=True).stop("AUC <.9> is reached.")
    assert wall.n_changes == 1
    assert wall.held.title == "[STOP] ward"
    assert SAID in wall.held.instruction
    assert "&lt;.9&gt;" in wall.held.instruction
    assert wall.held.instruction.endswith(BEFORE.instruction)
    assert (wall.held.shows_instruction, wall.held.maximum_annotations) == (True, 0)
    for _ in range(2):
        board(wall, state).go_on()
    assert wall.held == BEFORE
    assert wall.n_changes == 2


def test_without_a_stop_nothing_is_put_back() -> None:
    wall = Wall(BEFORE)
    board(wall, State.create(":memory:")).go_on()
    assert (wall.held, wall.n_changes) == (BEFORE, 0)


@pytest.mark.parametrize("lost", ["stop", "go_on"])
def test_a_call_that_was_lost_is_made_by_the_next_command(lost: str) -> None:
    wall, state = Wall(BEFORE), State.create(":memory:")
    if lost == "go_on":
        board(wall, state).stop("Enough.")
    wall.breaks = True
    call = {"stop": lambda: board(wall, state).stop("Enough."), "go_on": lambda: board(wall, state).go_on()}[
        lost
    ]
    with pytest.raises(StudioUnavailable):
        call()
    call()
    assert (wall.held.title == "[STOP] ward") == (lost == "stop")
    board(wall, state).go_on()
    assert wall.held == BEFORE


def test_what_people_changed_after_the_stop_stays_theirs() -> None:
    wall, state = Wall(BEFORE), State.create(":memory:")
    board(wall, state, close=True).stop("Enough.")
    wall.update_project(1, title="ward, second reading", maximum_annotations=2)
    board(wall, state).go_on()
    assert wall.held == Notice("ward, second reading", BEFORE.instruction, False, 2)


def test_a_queue_that_people_closed_is_not_opened_by_us() -> None:
    wall, state = Wall(BEFORE), State.create(":memory:")
    board(wall, state).stop("Enough.")
    wall.update_project(1, maximum_annotations=0)
    board(wall, state).go_on()
    assert wall.held.maximum_annotations == 0


def test_a_long_title_keeps_to_label_studios_limit() -> None:
    assert len(stopped(Notice("x" * 50, "", False, 1), "", close=False).title) == 50


@pytest.fixture
def ward(studio_server: ThrowawayServer, request: pytest.FixtureRequest) -> Iterator[Ward]:
    ward = Ward.open(studio_server, "told-" + ("closed" if "True" in request.node.name else "open"))
    yield ward
    shutil.rmtree(ward.config.parent)


@pytest.mark.studio
@pytest.mark.parametrize("close", [False, True])
def test_a_real_project_says_stop_and_goes_on(ward: Ward, close: bool) -> None:
    with_close = ("--set", f"label_studio.close_on_stop={str(close).lower()}")
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    studio.update_project(project_id, expert_instruction="<p>Look <b>twice</b>.</p>", show_instruction=False)
    before, version = studio.notice(project_id), studio.project(project_id).model_version
    answer(studio, project_id, 10)

    result = ward.run("step", "--json", "--set", "stop.budget=10", *with_close)
    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (10, "STOP")
    told = studio.notice(project_id)
    assert told == stopped(before, json.loads(result.stdout)["reason"], close=close)
    assert studio.project(project_id).model_version == version
    looked_at = studio.next_task(project_id)  # locks it
    assert (looked_at is None) == close
    again = ward.run("step", "--json", "--set", "stop.budget=10", *with_close)
    assert again.exit_code == 10
    assert studio.notice(project_id) == told
    found = ward.examine("--set", "stop.budget=10")
    assert found["annotations"]["state"] == "ok"

    assert ward.run("step", "--dry-run", "--quiet", *with_close).exit_code == 0
    assert studio.notice(project_id) == told
    result = ward.run("step", "--json", *with_close)  # a larger budget: the loop goes on
    assert (result.exit_code, json.loads(result.stdout)["action"]) == (0, "pushed")
    assert not [w for w in json.loads(result.stdout)["warnings"] if "queue" in w]
    assert studio.notice(project_id) == before
    with State.open(load_settings(ward.config, {}, {}).state_url) as state:
        asked = [state.tasks()[pick.item] for pick in state.rounds()[-1].picks]
    begun = [] if looked_at is None else [int(looked_at["id"])]
    # what was begun is served first, for as long as the server keeps it for whom it was given to (5 s here)
    kept = [*begun, *(task_id for task_id in asked if task_id not in begun)][: len(asked)]
    assert answer(studio, project_id, len(asked)) in (kept, asked)


def answer(studio: Studio, project_id: int, n: int) -> list[int]:
    """Label the next n tasks as they are served; the first half of the answers is yes."""
    from annotate.interface import parse_interface

    interface, served = parse_interface(studio.project(project_id).xml), []
    for i in range(n):
        task = studio.next_task(project_id)
        assert task is not None
        served.append(int(task["id"]))
        answers = {"Edema": float(i % 2), "Effusion": float(i % 3 == 0)}
        studio.submit(served[-1], write_results(interface, answers), 3.0)
    return served
