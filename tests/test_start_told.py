"""What `loop start` tells of embeddings on a real Label Studio, and of the first batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ward import Ward

from annotate.interface import make_interface

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


def write_table(path: Path, names: list[str], seed: int) -> None:
    feat = np.random.default_rng(seed).normal(size=(len(names), 8)).astype(np.float32)
    np.savez(path, feat=feat, name=np.array(names))


def test_only_embeddings_that_were_there_are_told_as_already_there(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "told", n_images=40, findings=["Effusion"])
    folder = ward.config.parent
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "images" / "broken.png").write_bytes(b"no image")
    write_table(folder / "a.npz", names, seed=0)
    write_table(folder / "b.npz", names[1:], seed=1)

    def start(table: str, *args: str) -> str:
        done = ward.run("start", "--set", f"encoder.spec=features:{folder / table}", *args)
        assert done.exit_code == 0, done.output
        return done.stdout

    told = " ".join(start("a.npz").split())
    assert "a.npz, 40 new, 0 already there Label Studio" in told
    assert "Asked round 1: 10 images, all from the random stream. Model version" in told
    begun: dict[str, Any] = json.loads(start("a.npz", "--json"))
    assert (begun["images"], begun["encoded"], begun["already"]) == (40, 0, 40)
    told = " ".join(start("b.npz").split())
    assert "b.npz, 39 new, 0 already there, 1 missing: not found, or not readable" in told
    begun = json.loads(start("b.npz", "--json"))
    assert (begun["images"], begun["encoded"], begun["already"]) == (40, 0, 39)


def test_images_that_annotators_would_not_see_refuse_the_start_and_leave_nothing_half_done(
    studio_server: ThrowawayServer,
) -> None:
    ward = Ward.open(studio_server, "unseen", findings=["Effusion"])
    wrong = ("--set", f"label_studio.document_root={studio_server.files_root.parent}")
    refused = ward.run("start", *wrong)
    assert refused.exit_code == 2, refused.output
    assert "Annotators would not see the images" in refused.output
    assert "no image there (HTTP 404)." in refused.output
    assert "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT" in refused.output
    assert list(ward.studio.tasks(ward.project_id)) == []
    assert not (ward.config.parent / "annotation-loop" / "features").exists()  # told before hours of encoding
    for command in ("status", "step", "watch", "review", "report", "ledger", "doctor"):
        told = ward.run(command, *(("--json",) if command == "doctor" else ()))
        assert told.exit_code == (0 if command == "doctor" else 2), told.output
        assert "not started" in told.output, command
        assert "loop start" in told.output, command

    begun = ward.tell("start")
    assert (begun["imported"], begun["report"]["batch"]["size"]) == (30, 10)
    (told,) = begun["report"]["warnings"]
    assert told.startswith("Only 30 images can be labelled, and forecasts begin at 50 labels")
    assert ward.examine()["image"]["state"] == "ok"


def test_an_image_that_broke_after_its_task_was_made_is_told_before_anybody_is_asked(
    studio_server: ThrowawayServer,
) -> None:
    ward = Ward.open(studio_server, "broken-later", findings=["Effusion"])
    studio = ward.studio
    ward.start()
    adopted = Ward.open(studio_server, "adopting", findings=["Effusion"])
    images = adopted.config.parent / "images"
    rows = [{"data": {"image": f"/data/local-files/?d=adopting/images/{i:02d}.png"}} for i in range(30)]
    project_id = studio.create_project("adopted", make_interface(["Effusion"]).xml)
    studio.import_tasks(project_id, rows)
    by = ("--set", f"label_studio.project_id={project_id}")
    refused = adopted.run("start", *by)  # no storage serves the folder to this project
    assert refused.exit_code == 2, refused.output
    assert "serves to this project: none" in refused.output
    assert studio.project(project_id).model_version == ""
    assert studio.next_task(project_id)["predictions"] == []  # type: ignore[index]
    studio.ensure_local_files(project_id, images)
    begun = adopted.tell("start", *by)
    assert begun["imported"] == 0
    assert begun["report"]["batch"]["size"] == 10


def test_hiding_suggestions_keeps_the_version_that_a_project_serves(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "hidden", findings=["Effusion"])
    studio = ward.studio
    interface = make_interface(["Effusion"])
    project_id = studio.create_project("served", interface.xml, show_suggestions=True)
    rows = [{"data": {"image": f"/data/local-files/?d=hidden/images/{i:02d}.png"}} for i in range(30)]
    task_id = studio.import_tasks(project_id, rows)[0]
    studio.add_prediction({"task": task_id, "score": 0.5, "model_version": "theirs", "result": []})
    studio.serve(project_id, "theirs")
    studio.update_project(project_id, show_collab_predictions=False)
    assert studio.project(project_id).model_version == ""  # what hiding alone does
    studio.update_project(project_id, show_collab_predictions=True, model_version="theirs")

    refused = ward.run("start", "--set", f"label_studio.project_id={project_id}")
    assert refused.exit_code == 2, refused.output  # no storage, so nothing of ours was pushed
    project = studio.project(project_id)
    assert (project.show_suggestions, project.model_version) == (False, "theirs")


def test_a_first_batch_that_is_smaller_than_asked_says_why(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "small", n_images=12, findings=["Effusion"])
    begun = ward.tell("start")
    assert begun["report"]["batch"]["size"] == 6
    told, few = begun["report"]["warnings"]
    assert few.startswith("Only 12 images can be labelled, and forecasts begin at 50 labels")
    assert told.startswith(
        "The first batch has 6 of the 10 images of [batch] size: a first batch is all random, and"
    )
