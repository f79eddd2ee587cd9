"""The whole loop on a real Label Studio with real chest X-rays: import to STOP, killed and gone on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from killed_step import START_POINTS, STEP_POINTS

from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.cli import main
from loop.demo.annotator import label_queue
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = [pytest.mark.studio, pytest.mark.cxr]

N_IMAGES = 300


class Team:
    """A hospital team: images on disk, a configuration, a scripted annotator with the known labels."""

    def __init__(
        self,
        server: ThrowawayServer,
        cxr: Path,
        name: str,
        target: float,
        batch: int = 50,
        n_images: int = N_IMAGES,
    ) -> None:
        self.server = server
        self.folder = server.files_root / name
        images = self.folder / "images"
        images.mkdir(parents=True)
        rows = list(csv.DictReader((cxr / "kermany_labels.csv").read_text().splitlines()))
        chosen = np.random.default_rng(0).permutation(len(rows))[:n_images]
        with zipfile.ZipFile(cxr / "kermany_224.zip") as archive:
            for i in chosen:
                archive.extract(rows[i]["file"], images)
        self.answers = {rows[i]["file"]: {"Pneumonia": int(rows[i]["pneumonia"])} for i in chosen}
        (images / "manifest.csv").write_text(
            "file,patient\n" + "".join(f"{rows[i]['file']},{rows[i]['patient']}\n" for i in chosen)
        )
        self.config = self.folder / "loop.toml"
        self.config.write_text(
            f'[project]\nname = "{name}"\nfindings = ["Pneumonia"]\n'
            '[images]\nsource = "images/manifest.csv"\n'
            f'[label_studio]\nurl = "{server.url}"\ndocument_root = "{server.files_root}"\n'
            f"[batch]\nsize = {batch}\n"
            f"[stop]\ntarget = {target}\nbudget = 300\n"
        )

    def run(self, command: str, *args: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(
            main,
            [command, "-c", str(self.config), "--json", *args],
            env={"LABEL_STUDIO_API_KEY": self.server.api_key},
        )
        assert result.exit_code in (0, 10), result.output
        assert self.server.api_key not in result.output
        return result.exit_code, json.loads(result.stdout)

    def state(self) -> State:
        return State.open(load_settings(self.config, {}, {}).state_url)

    @property
    def studio(self) -> Studio:
        return Studio(self.server.url, self.server.api_key)

    @property
    def project_id(self) -> int:
        with self.state() as state:
            return int(state.fact("project")["id"])

    def label(self, n: int) -> int:
        project = self.studio.project(self.project_id)
        return label_queue(
            self.studio,
            self.project_id,
            parse_interface(project.xml),
            self.answers,
            n,
            np.random.default_rng(0),
        )


def test_from_import_to_stop_on_real_chest_x_rays(studio_server: ThrowawayServer, cxr: Path) -> None:
    team = Team(studio_server, cxr, "kermany", target=0.9)
    status, begun = team.run("start")
    assert begun["images"] == N_IMAGES
    assert begun["report"]["batch"]["random"] == 50
    status, waiting = team.run("step")
    assert (status, waiting["action"], waiting["outstanding"]) == (0, "waiting", 50)

    for _ in range(8):
        team.label(50)
        status, report = team.run("step")
        if status == 10:
            break
    assert status == 10
    assert report["verdict"] == "STOP"
    finding = report["findings"]["Pneumonia"]
    assert finding["verdict"] in ("LIKELY REACHED", "CERTIFIED")
    assert finding["auc"] > 0.9
    assert report["labels"]["total"] < 300

    with team.state() as state:  # every label in the state is the annotator's, and each image was asked once
        tasks = {task_id: item for item, task_id in state.tasks().items()}
        file_of = {item.item: item.path.name for item in state.items()}
        labels = state.labels()
        assert len(labels) == report["labels"]["total"]
        for task_id, given in labels.items():
            (label,) = given
            assert label.answers == {k: float(v) for k, v in team.answers[file_of[tasks[task_id]]].items()}
        asked = [pick.item for round_ in state.rounds() for pick in round_.picks]
        assert len(asked) == len(set(asked))


def test_what_label_studio_serves_is_the_batch_in_its_order(
    studio_server: ThrowawayServer, cxr: Path
) -> None:
    team = Team(studio_server, cxr, "order", target=0.99, batch=10, n_images=60)
    team.run("start")
    with team.state() as state:
        tasks, picks = state.tasks(), state.rounds()[0].picks
    served = []
    for _ in range(10):
        task = team.studio.next_task(team.project_id)
        assert task is not None
        served.append(int(task["id"]))
        interface = parse_interface(team.studio.project(team.project_id).xml)
        team.studio.submit(served[-1], interface.write({"Pneumonia": 1.0}), 3.0)
    assert served == [tasks[pick.item] for pick in picks]


def test_starting_again_imports_nothing_twice(studio_server: ThrowawayServer, cxr: Path) -> None:
    team = Team(studio_server, cxr, "again", target=0.99, batch=10, n_images=60)
    _, first = team.run("start")
    _, second = team.run("start")
    assert (second["imported"], second["encoded"]) == (0, 0)
    assert first["imported"] == team.studio.project(team.project_id).n_tasks > 0
    assert first["report"]["batch"] == second["report"]["batch"]


def test_an_edited_and_a_deleted_annotation_are_seen(studio_server: ThrowawayServer, cxr: Path) -> None:
    team = Team(studio_server, cxr, "edited", target=0.99, batch=10, n_images=60)
    team.run("start")
    team.label(10)
    team.run("step")
    studio = team.studio
    interface = parse_interface(studio.project(team.project_id).xml)
    with team.state() as state:
        edited, deleted = (given[0] for given in list(state.labels().values())[:2])
    other = 1.0 - edited.answers["Pneumonia"]
    result = {"result": interface.write({"Pneumonia": other})}
    studio._ask("editing", "PATCH", f"api/annotations/{edited.annotation_id}/", json=result)
    studio._ask("deleting", "DELETE", f"api/annotations/{deleted.annotation_id}/")

    _, report = team.run("step")
    assert report["labels"]["total"] == 9
    with team.state() as state:
        labels = state.labels()
        assert deleted.task_id not in labels
        assert labels[edited.task_id][0].answers == {"Pneumonia": other}
        history = [label.answers for label in state.label_history() if label.task_id == edited.task_id]
        assert history == [edited.answers, {"Pneumonia": other}]


def test_the_demo_runs_to_stop_on_real_images(cxr: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((cxr / "kermany_labels.csv").read_text().splitlines()))
    chosen = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))[:160]]
    with zipfile.ZipFile(cxr / "kermany_224.zip") as archive:
        archive.extractall(tmp_path / "images", [row["file"] for row in chosen])
    labels = tmp_path / "labels.csv"
    lines = [f"{row['file']},{row['patient']},{row['pneumonia']}" for row in chosen]
    labels.write_text("\n".join(["file,patient,pneumonia", *lines]) + "\n")
    before = signal.getsignal(signal.SIGTERM)
    try:
        result = CliRunner().invoke(
            main,
            [
                "demo",
                "--images",
                str(tmp_path / "images"),
                "--labels",
                str(labels),
                "--target",
                "0.99",
                "--batch",
                "30",
                "--max-labels",
                "60",
                "--out",
                str(tmp_path / "out"),
                "--json",
            ],
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [r["labels"] for r in told["rounds"]] == [30, 60]
    assert told["verdict"] == "STOP"
    assert told["rounds"][-1]["findings"]["pneumonia"]["true_auc"] > 0.7
    assert (tmp_path / "out" / "learning-curves.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(
        main, ["demo", "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    )
    assert again.exit_code == 2
    assert "--labels" in again.output


def kill(team: Team, command: str, point: str) -> None:
    """Run a command that ends with SIGKILL at a point."""
    killed = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_step.py")), command, str(team.config), point],
        env=os.environ | {"LABEL_STUDIO_API_KEY": team.server.api_key},
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


@pytest.mark.parametrize("name", START_POINTS)
def test_a_start_killed_anywhere_is_completed_by_the_next(
    studio_server: ThrowawayServer, cxr: Path, name: str
) -> None:
    project = f"start-{name.replace('_', '-')}"
    team = Team(studio_server, cxr, project, target=0.99, batch=10, n_images=40)
    kill(team, "start", f"after:{name}")
    _, begun = team.run("start")
    with team.state() as state:
        (first,) = state.rounds()
        mark = state.fact("mark")
    listed = team.studio._ask("listing", "GET", "api/projects/", params={"page_size": 1000})["results"]
    assert [p["id"] for p in listed if p["description"] == mark] == [begun["project_id"]]
    items = [row["data"]["item"] for row in team.studio.tasks(team.project_id)]
    assert len(items) == len(set(items)) == begun["random"] + begun["active"]
    assert team.studio.model_versions(team.project_id) == {first.version: 10}


@pytest.mark.parametrize("point", [f"{when}:{name}" for name in STEP_POINTS for when in ("before", "after")])
def test_a_step_killed_anywhere_is_completed_by_the_next(
    studio_server: ThrowawayServer, cxr: Path, point: str
) -> None:
    team = Team(
        studio_server, cxr, point.replace(":", "-").replace("_", "-"), target=0.99, batch=10, n_images=60
    )
    team.run("start")
    team.label(10)
    _, planned = team.run("step", "--dry-run")  # the batch as it would be asked if nothing happened

    kill(team, "step", point)
    team.run("step")

    with team.state() as state:
        first, second = state.rounds()
        assert second.version == planned["batch"]["version"]  # its name holds the hash of the batch
        assert state.unconfirmed() is None
        assert [len(given) for given in state.labels().values()] == [1] * 10
        assert len(state.label_history()) == 10
    assert team.studio.model_versions(team.project_id) == {first.version: 10, second.version: 10}
    assert team.studio.project(team.project_id).model_version == second.version
    _, report = team.run("step")
    assert (report["action"], report["outstanding"]) == ("waiting", 10)
