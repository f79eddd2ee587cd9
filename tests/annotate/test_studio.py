"""The calls, against a real Label Studio: what they bring, and how a refusal is told."""

from __future__ import annotations

import base64
import io
import json
import socket
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from annotate.errors import StudioRefused, StudioUnavailable
from annotate.interface import make_interface
from annotate.payloads import local_file_address, write_task
from annotate.refusals import explain
from annotate.studio import Studio
from annotate.tokens import Token

if TYPE_CHECKING:
    from annotate.conftest import Workplace
    from loop.demo.server import ThrowawayServer


def test_an_address_or_key_that_cannot_be_one_is_refused_before_any_call() -> None:
    with pytest.raises(StudioRefused, match="http://HOST:PORT"):
        Studio("localhost:8080", "key")
    for key in ("", " ", "two words", "sch\u00f6n"):
        with pytest.raises(StudioRefused, match="personal access token"):
            Studio("http://localhost:8080", key)


def test_an_expired_token_is_refused_without_a_call() -> None:
    part = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=")
        for p in ({"alg": "HS256"}, {"exp": 1})
    ]
    with pytest.raises(StudioRefused, match="expired") as caught:
        Studio("http://localhost:8080", ".".join([*part, "c2lnbmF0dXJl"]))
    assert part[1] not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_is_gone_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        studio = Studio(f"http://127.0.0.1:{free.getsockname()[1]}", "a" * 40)
        with pytest.raises(StudioUnavailable, match="Is it running") as caught:
            studio.import_predictions(1, [])
    assert "a" * 40 not in "".join(traceback.format_exception(caught.value)) + repr(studio)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            {"detail": "legacy token authentication has been disabled for this organization"},
            "personal access",
        ),
        (401, {"detail": "Token has wrong type"}, "five minutes"),
        (403, {"detail": "No."}, "member of the project"),
        (
            400,
            {"detail": "Validation error", "validation_errors": {"title": ["too long"]}},
            "title: too long",
        ),
        (404, "<!DOCTYPE html><html>", "HTML page"),
    ],
)
def test_a_refusal_names_the_reason_and_the_remedy(status: int, body: object, said: str) -> None:
    error = explain("reading", "http://host", status, body, Token("legacy token", None))
    assert isinstance(error, StudioRefused)
    assert said in str(error)


@pytest.mark.studio
def test_it_says_who_and_where_we_are(studio: Studio) -> None:
    about = studio.about()
    assert about.version.startswith("1.")
    assert about.token == Token("legacy token", None)
    assert "@" in about.user


@pytest.mark.studio
def test_a_wrong_key_is_refused_and_shown_nowhere(studio_server: ThrowawayServer) -> None:
    key = "0123456789abcdef" * 2 + "deadbeef"
    studio = Studio(studio_server.url, key)
    with pytest.raises(StudioRefused, match="Account & Settings") as caught:
        studio.about()
    assert key not in "".join(traceback.format_exception(caught.value)) + repr(studio) + repr(caught.value)


@pytest.mark.studio
@pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # inside the SDK
def test_a_personal_access_token_opens_the_same_doors(studio_server: ThrowawayServer) -> None:
    mine = {"Authorization": f"Token {studio_server.api_key}"}
    with httpx.Client(base_url=studio_server.url, headers=mine) as browser:
        token = browser.post("/api/token/").raise_for_status().json()["token"]
        studio = Studio(studio_server.url, token)
        assert studio.about().token.kind == "personal access token"
        access = browser.post("/api/token/refresh/", json={"refresh": token}).json()["access"]
        with pytest.raises(StudioRefused, match="five minutes"):
            Studio(studio_server.url, access).about()
        browser.post("/api/token/blacklist/", json={"refresh": token})


@pytest.mark.studio
def test_a_project_that_is_not_there_is_refused(studio: Studio) -> None:
    for call in (studio.project, studio.newest_change, studio.next_task, studio.model_versions):
        with pytest.raises(StudioRefused, match="404"):
            call(987654)
    with pytest.raises(StudioRefused, match="404"):
        list(studio.tasks(987654))


@pytest.mark.studio
def test_a_project_is_made_read_and_changed(studio: Studio) -> None:
    interface = make_interface(["Edema", "Éf <&> usion"])
    project_id = studio.create_project(
        "made", interface.xml, instruction="<b>Look</b>", show_suggestions=False
    )
    project = studio.project(project_id)
    assert (project.title, project.xml, project.show_suggestions, project.n_tasks) == (
        "made",
        interface.xml,
        False,
        0,
    )
    assert studio.newest_change(project_id) is None
    assert studio.next_task(project_id) is None
    studio.update_project(project_id, title="renamed")
    assert studio.project(project_id).title == "renamed"
    with pytest.raises(StudioRefused, match="3 to 50"):
        studio.create_project("ab", interface.xml)
    with pytest.raises(StudioRefused, match="label_config"):
        studio.create_project("bad", "<View><Choices name='a' toName='b'/></View>")
    studio.delete_project(project_id)
    with pytest.raises(StudioRefused, match="404"):
        studio.project(project_id)


@pytest.mark.studio
def test_a_folder_becomes_a_storage_once_and_serves_its_images(
    place: Workplace, studio_server: ThrowawayServer
) -> None:
    folder = studio_server.files_root / "cxr here"
    folder.mkdir(exist_ok=True)
    Image.new("L", (8, 8), 77).save(folder / "a b.png")
    first = place.studio.ensure_local_files(place.project_id, folder)
    assert place.studio.ensure_local_files(place.project_id, folder) == first
    mine = {"Authorization": f"Token {studio_server.api_key}"}
    got = httpx.get(studio_server.url + local_file_address("cxr here/a b.png"), headers=mine)
    assert Image.open(io.BytesIO(got.content)).getpixel((0, 0)) == 77
    with pytest.raises(StudioRefused, match="DOCUMENT_ROOT"):
        place.studio.ensure_local_files(place.project_id, studio_server.files_root)


@pytest.mark.studio
def test_an_image_is_uploaded_without_making_a_task(
    place: Workplace, studio_server: ThrowawayServer, tmp_path: Path
) -> None:
    Image.new("L", (8, 8), 55).save(tmp_path / "one two.png")
    address = place.studio.upload_image(place.project_id, tmp_path / "one two.png")
    assert place.studio.project(place.project_id).n_tasks == 12
    got = httpx.get(studio_server.url + address, headers={"Authorization": f"Token {studio_server.api_key}"})
    assert Image.open(io.BytesIO(got.content)).getpixel((0, 0)) == 55


@pytest.mark.studio
def test_tasks_are_listed_over_all_pages(place: Workplace) -> None:
    rows = list(place.studio.tasks(place.project_id))
    assert [int(row["id"]) for row in rows] == list(place.tasks)  # twelve tasks, five a page
    assert [row["data"]["item"] for row in rows] == [f"item{i:02d}" for i in range(12)]
    assert place.studio.existing(place.project_id, [*place.tasks, 999999]) == set(place.tasks)


@pytest.mark.studio
def test_a_task_deleted_between_two_pages_hides_no_other(place: Workplace) -> None:
    rows = place.studio.tasks(place.project_id)
    seen = [int(next(rows)["id"]) for _ in range(5)]
    place.studio._ask("deleting a task", "DELETE", f"api/tasks/{place.tasks[0]}/")
    seen += [int(row["id"]) for row in rows]
    assert seen == list(place.tasks)


@pytest.mark.studio
def test_a_task_without_an_image_is_refused_with_the_servers_reason(place: Workplace) -> None:
    with pytest.raises(StudioRefused, match="image"):
        place.studio.import_tasks(place.project_id, [{"data": {"item": "x"}}])
    assert place.studio.project(place.project_id).n_tasks == 12
    assert write_task("x", "", {}, place.interface)["data"]["image"] == ""
