"""`loop doctor` on a real Label Studio: a project that is well, and one that people meddled with."""

from __future__ import annotations

import io
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageOps
from studio_front import found_authority, front
from ward import Ward

from annotate.interface import make_interface
from annotate.studio import Studio
from loop import checks_studio

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = [pytest.mark.studio, pytest.mark.filterwarnings("ignore:The `parse_obj` method")]


@pytest.fixture
def ward(studio_server: ThrowawayServer, request: pytest.FixtureRequest) -> Iterator[Ward]:
    ward = Ward.open(studio_server, f"ward-{zlib.crc32(request.node.name.encode()):08x}")
    yield ward
    shutil.rmtree(ward.config.parent)


def not_well(found: dict[str, dict[str, str]]) -> dict[str, str]:
    """Checks that find fault, but for the forecast's: a ward has fewer images than one needs."""
    assert found["forecast"]["state"] == "warning"
    return {
        name: check["state"]
        for name, check in found.items()
        if check["state"] not in ("ok", "not checked") and name != "forecast"
    }


def test_before_the_start_a_healthy_ward_has_nothing_to_complain_of(ward: Ward, personal_token: str) -> None:
    for key in (ward.server.api_key, personal_token):
        found = ward.examine(key=key)
        assert not_well(found) == {}
        assert "not started" in found["project"]["fact"]
    assert "personal access token" in found["token"]["fact"]
    assert not (ward.config.parent / ward.config.parent.name).exists()


def test_a_started_project_is_well_and_is_left_as_it_was(ward: Ward, personal_token: str) -> None:
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    before = studio.project(project_id), studio.newest_change(project_id), studio.model_versions(project_id)
    for key in (ward.server.api_key, personal_token):
        found = ward.examine(key=key)
        assert not_well(found) == {}
        assert found["image"]["fact"].endswith("can be fetched, with a key only")
        assert found["batch"]["fact"].startswith("10 predictions")
        first, _ = studio.queue(project_id, 1)[0]
        assert found["next task"]["fact"].startswith(f"whoever comes new: task {first};")
    assert (
        studio.project(project_id),
        studio.newest_change(project_id),
        studio.model_versions(project_id),
    ) == before
    # no task was locked: the next one is still the first of the queue
    task = studio.next_task(project_id)
    assert task is not None
    assert task["id"] == studio.queue(project_id, 1)[0][0]


def test_a_project_that_is_to_be_adopted_is_looked_at_before(ward: Ward) -> None:
    studio = ward.studio
    fits = studio.create_project("fits", make_interface(["Edema", "Effusion", "Mass"]).xml)
    other = studio.create_project("asks for other things", make_interface(["Mass"]).xml)
    assert not_well(ward.examine("--set", f"label_studio.project_id={fits}")) == {}
    found = ward.examine("--set", f"label_studio.project_id={other}")
    assert not_well(found) == {"interface": "error"}
    assert "does not ask for Edema, Effusion" in found["interface"]["fact"]
    assert not_well(ward.examine("--set", "label_studio.project_id=987654")) == {"project": "error"}


def test_what_people_meddled_with_is_found(ward: Ward) -> None:
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    xml = studio.project(project_id).xml
    studio.update_project(
        project_id, sampling="Sequential sampling", maximum_annotations=2, show_collab_predictions=True
    )
    assert not_well(ward.examine()) == {"queue": "error", "annotations": "warning", "suggestions": "warning"}
    version = studio.project(project_id).model_version
    studio.update_project(project_id, sampling="Uncertainty sampling", maximum_annotations=1)
    studio.update_project(project_id, show_collab_predictions=False)  # which forgets the model version, too
    assert not_well(ward.examine()) == {"queue": "error"}
    studio.serve(project_id, version)
    assert not_well(ward.examine()) == {}
    studio.update_project(project_id, label_config=xml.replace("cannot tell", "perhaps"))
    assert not_well(ward.examine()) == {"interface": "error"}
    studio.update_project(project_id, label_config=xml)
    for task_id, _ in studio.queue(project_id, 3):
        studio._ask("deleting a task", "DELETE", f"api/tasks/{task_id}/")
    found = not_well(ward.examine())
    assert found["batch"] == "warning"
    studio.delete_project(project_id)
    assert not_well(ward.examine())["project"] == "error"


def test_an_image_that_annotators_cannot_see_or_that_is_another_one_is_found(ward: Ward) -> None:
    ward.start()
    images = ward.config.parent / "images"
    aside = ward.config.parent / "aside"
    shutil.copytree(images, aside)
    for path in images.iterdir():  # what the server reads is not what we took in
        Image.new("L", (16, 16), 7).save(path)
    found = ward.examine()
    assert found["images"]["state"] == "error"
    shutil.rmtree(images)
    found = ward.examine()
    assert found["image"]["state"] == "error"
    assert "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT" in found["image"]["fix"]
    aside.rename(images)
    assert not_well(ward.examine()) == {}
    (storage,) = ward.studio._ask(
        "listing", "GET", "api/storages/localfiles", params={"project": ward.project_id}
    )
    ward.studio._ask("deleting", "DELETE", f"api/storages/localfiles/{storage['id']}")
    found = ward.examine()
    assert found["image"]["state"] == "error"
    assert "serves to this project: none" in found["image"]["fact"]


def test_a_picture_that_differs_from_ours_is_an_error(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the document root of the server is another folder with files of the same names."""
    ward.start()
    true = Studio.image

    def other(self: Studio, address: str, *, known: bool = True) -> bytes:
        """The picture as a negative, or only packed anew."""
        with Image.open(io.BytesIO(true(self, address, known=known))) as image:
            (ImageOps.invert(image.convert("L")) if wrong else image).save(
                out := io.BytesIO(), "PNG", compress_level=0
            )
        return out.getvalue()

    monkeypatch.setattr(Studio, "image", other)
    wrong = False
    assert ward.examine()["image"]["state"] in ("ok", "warning")
    wrong = True
    found = ward.examine()
    assert found["image"]["state"] == "error"
    assert "wrong image" in found["image"]["fact"]


def test_what_each_annotator_gets_next_is_told_by_name(ward: Ward) -> None:
    ward.start()
    ward.label_next(9)
    (last,) = [task_id for task_id, done in ward.studio.queue(ward.project_id, 10) if not done]
    me = ward.studio.about().user
    assert f"{me}: task {last}, whoever comes new: task {last};" in ward.examine()["next task"]["fact"]
    ward.studio.submit(last, [], skipped=True)
    found = ward.examine()["next task"]
    assert found["state"] == "warning"
    assert f"{me}: nothing that was asked, whoever comes new: task {last};" in found["fact"]


def test_images_that_anybody_may_fetch_are_a_warning(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.start()
    true = Studio.image
    monkeypatch.setattr(Studio, "image", lambda self, address, known=True: true(self, address))
    assert not_well(ward.examine()) == {"image": "warning"}


def test_a_wrong_key_is_explained_and_the_rest_is_still_looked_at(ward: Ward) -> None:
    ward.start()
    found = ward.examine(key="0123456789" * 4)
    assert not_well(found) == {"token": "error"}
    assert "legacy token" in found["token"]["fact"]
    assert found["server"]["state"] == found["state"]["state"] == "ok"


def test_behind_tls_of_a_private_authority_it_looks_the_same(ward: Ward, tmp_path: Path) -> None:
    authority = found_authority(tmp_path)
    with front(ward.server.url, "/label-studio", authority) as proxy:
        args = ("--url", proxy.url, "--set", f"label_studio.ca_file={authority.ca}")
        assert not_well(ward.examine(*args)) == {}
        assert "ca_file" in ward.examine("--url", proxy.url)["server"]["fact"]
        started = ward.run("start", "--quiet", *args)
        assert started.exit_code == 0, started.output
        found = ward.examine(*args)
        assert not_well(found) == {}
        assert found["image"]["state"] == "ok"
        stepped = ward.run("step", "--json", *args)
        assert stepped.exit_code == 0, stepped.output


def test_a_member_list_makes_label_studio_draw_at_random(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Community edition has none and answers 404; others answer with the list."""
    ward.start()
    assert ward.studio.n_members(ward.project_id) == 0
    monkeypatch.setattr(Studio, "n_members", lambda *_: 3)
    check = checks_studio.check_members(ward.studio, ward.studio.project(ward.project_id))
    assert check.state == "warning"
    assert "3 members of its own" in check.fact
