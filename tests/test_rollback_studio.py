"""`loop rollback` on a real Label Studio: queue, version, predictions and title go back, annotations stay."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from ward import Ward

from annotate.interface import parse_interface
from annotate.payloads import write_results
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


@pytest.fixture
def ward(studio_server: ThrowawayServer) -> Iterator[Ward]:
    ward = Ward.open(studio_server, "undone")
    ward.start()
    yield ward
    ward.studio.delete_project(ward.project_id)
    shutil.rmtree(ward.config.parent)


def told(ward: Ward, command: str, *args: str, status: int = 0) -> dict[str, Any]:
    result = ward.run(command, *args, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def state_of(ward: Ward) -> State:
    return State.open(load_settings(ward.config, {}, {}).state_url)


def accept(ward: Ward, task_id: int, version: str) -> int:
    """Submit a suggestion as it is, as the page does: the annotation names the prediction that it was made from."""
    headers = {"Authorization": f"Token {ward.server.api_key}"}
    with httpx.Client(base_url=ward.server.url, headers=headers) as page:
        found = page.get("/api/predictions/", params={"task": task_id}).raise_for_status().json()
        prediction = next(one for one in found if one["model_version"] == version)
        xml = parse_interface(ward.studio.project(ward.project_id).xml)
        given = {
            "result": prediction["result"] or write_results(xml, {"Edema": 1.0, "Effusion": 1.0}),
            "parent_prediction": prediction["id"],
            "lead_time": 2.0,
        }
        made = page.post(f"/api/tasks/{task_id}/annotations/", json=given).raise_for_status().json()
        assert made["parent_prediction"] == prediction["id"]
        return int(made["id"])


def annotations(ward: Ward) -> dict[int, Any]:
    """Annotation to what it says, as Label Studio has it."""
    return {
        int(one["id"]): one["result"]
        for task in ward.studio.annotated_tasks(ward.project_id)
        for one in task["annotations"]
    }


def test_queue_version_and_predictions_go_back_and_no_annotation_is_lost(ward: Ward) -> None:
    studio, project_id = ward.studio, ward.project_id
    ward.label_next(10)
    assert told(ward, "step")["action"] == "pushed"
    second, before = studio.project(project_id).model_version, studio.queue(project_id, 100)
    done = ward.label_next(4)
    assert done == [task_id for task_id, _ in before[:4]]
    third = told(ward, "step", "--now")["batch"]["version"]
    later = [task_id for task_id, _ in studio.queue(project_id, 100)]
    taken = next(t for t in later if t not in dict(before))
    accepted = accept(ward, taken, third)
    said = annotations(ward)
    with state_of(ward) as state:
        facts = str((state.rounds(), state.readings(), state.reports()))

    planned = told(ward, "rollback", "2", "--dry-run")
    assert studio.project(project_id).model_version == third
    report = told(ward, "rollback", "2")
    assert (report["round"], report["undone"][0]["round"], report["outstanding"]) == (2, 3, 6)
    assert report["removed"] == len(later)
    assert planned["undone"][0]["version"] == third

    project = studio.project(project_id)
    assert (project.sampling, project.model_version) == ("Uncertainty sampling", second)
    assert third not in studio.model_versions(project_id)
    assert annotations(ward) == said
    assert accepted in said
    left = [task_id for task_id, full in studio.queue(project_id, 100) if not full]
    assert left == [task_id for task_id, _ in before if task_id not in (*done, taken)]
    with state_of(ward) as state:
        assert state.find_break() is None
        assert str((state.rounds(), state.readings(), state.reports())) == facts
        booked = [e.fields() for e in state.ledger() if e.fields().get("annotation") == accepted]
        assert [row["round"] for row in booked] == [3]
    assert [name for name, check in ward.examine().items() if check["state"] == "error"] == []
    assert "was put back" not in " ".join(told(ward, "step")["warnings"]), (
        "a waiting turn finds the queue its own"
    )

    assert ward.label_next(len(left)) == left, "annotators get what is left of the round, in its order"
    asked = told(ward, "step")
    assert (asked["action"], asked["batch"]["round"]) == ("pushed", 4)
    assert studio.project(project_id).model_version == asked["batch"]["version"]
    with state_of(ward) as state:
        assert state.find_break() is None
    assert ward.run("rollback", "7").exit_code == 2


@pytest.mark.parametrize("close", [False, True])
def test_a_stop_is_taken_back_from_title_instructions_and_queue(ward: Ward, close: bool) -> None:
    studio, project_id = ward.studio, ward.project_id
    before = studio.notice(project_id)
    ward.label_next(10)
    sets = ("--set", "stop.budget=10", "--set", f"label_studio.close_on_stop={str(close).lower()}")
    assert told(ward, "step", *sets, status=10)["verdict"] == "STOP"
    assert studio.notice(project_id).title.startswith("[STOP]")
    report = told(ward, "rollback", "1", *sets)
    assert (report["was"], report["verdict"], report["undone"]) == ("STOP", "CONTINUE", [])
    assert studio.notice(project_id) == before
    assert told(ward, "status")["last"]["verdict"] == "CONTINUE"
    again = ward.run("rollback", "1", *sets)
    assert again.exit_code == 2
    assert "nothing to undo" in again.output
    assert told(ward, "step", *sets, status=10)["verdict"] == "STOP"


@pytest.mark.parametrize("next_command", ["rollback", "step"])
def test_a_rollback_that_was_killed_is_completed_by_the_next_command(ward: Ward, next_command: str) -> None:
    studio, project_id = ward.studio, ward.project_id
    ward.label_next(10)
    first, said = studio.project(project_id).model_version, annotations(ward)
    served = first
    points = [f"{when}:{name}" for name in ("serve", "delete_predictions") for when in ("before", "after")]
    lost = [
        f"{when}:import_predictions" for when in ("before", "after")
    ]  # where the first batch must be pushed anew
    for n, point in enumerate(["after:add_rollback", *points, "before:confirm_rollback", *lost], start=1):
        asked = told(ward, "step")
        assert (asked["action"], asked["batch"]["round"]) == ("pushed", n + 1)
        if point in lost:
            studio.delete_predictions(project_id, served)
        kill_rollback(ward, point)
        if next_command == "rollback":
            assert [r["round"] for r in told(ward, "rollback", "1")["undone"]] == [n + 1]
        else:
            completed = told(ward, "step")
            assert completed["action"] == "completed"
            assert any("interrupted rollback" in line for line in completed["warnings"])
        served = f"{first}-u{n}" if point in lost else first
        project = studio.project(project_id)
        assert (project.sampling, project.model_version) == ("Uncertainty sampling", served)
        assert studio.model_versions(project_id) == {served: 10}
        assert annotations(ward) == said
        with state_of(ward) as state:
            assert len(state.rollbacks()) == n
            assert state.unfinished_rollback() is None
            assert (state.last_round() or state.rounds()[-1]).number == 1
            assert state.find_break() is None


def kill_rollback(ward: Ward, point: str) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(here / "killed_step.py"), "rollback", str(ward.config), point, "1"],
        env={
            **os.environ,
            "LABEL_STUDIO_API_KEY": ward.server.api_key,
            "PYTHONPATH": os.pathsep.join([str(here.parent), str(here), *sys.path]),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
