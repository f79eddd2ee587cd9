"""Projects whose images lie on a web server or in S3, on a real Label Studio."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dicom_files import write_dicom
from image_server import ImageServer
from PIL import Image
from s3_connections import drop_s3_connections

import loop.demo.server
from annotate.payloads import path_in_address
from annotate.studio import Studio
from loop.cli import main
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

KEY = "Bearer s3cr3t-of-the-images"
NAMES = [f"{i:02d}.png" for i in range(30)]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageServer]:
    files = {}
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / name)
        files[f"/cxr/{name}"] = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
    feat = rng.normal(size=(len(NAMES), 8)).astype(np.float32)
    np.savez(tmp_path / "table.npz", feat=feat, name=np.array(NAMES))
    with ImageServer(files) as server:
        yield server


def configure(folder: Path, name: str, source: str, more: str) -> Path:
    config = folder / "loop.toml"
    config.write_text(
        f'[project]\nname = "{name}"\nfindings = ["Effusion"]\n[images]\nsource = "{source}"\n'
        f'[label_studio]\n{more}\n[encoder]\nspec = "features:{folder / "table.npz"}"\n[batch]\nsize = 10\n'
    )
    return config


def run(server: ThrowawayServer, config: Path, command: str, *args: str, **env: str) -> Result:
    variables = {"LABEL_STUDIO_API_KEY": server.api_key, "LABEL_STUDIO_URL": server.url, **env}
    return CliRunner().invoke(main, [command, "-c", str(config), *args], env=variables)


def addresses(server: ThrowawayServer, config: Path) -> list[str]:
    with State.open(load_settings(config, {}, {}).state_url) as state:
        project = state.fact("project")
    assert project is not None
    studio = Studio(server.url, server.api_key)
    return [row["data"]["image"] for row in studio.tasks(int(project["id"]))]


def test_images_behind_a_key_are_uploaded_and_the_key_is_found_nowhere(
    studio_server: ThrowawayServer, tmp_path: Path, images: ImageServer
) -> None:
    images.key = KEY
    rows = "".join(f"{images.url}/cxr/{name}?X-Amz-Signature=s1gned\n" for name in NAMES)
    (tmp_path / "all.csv").write_text(f"file\n{rows}")
    config = configure(tmp_path, "behind-a-key", "all.csv", "")
    result = run(studio_server, config, "start", LOOP_IMAGES_AUTHORIZATION=KEY)
    assert result.exit_code == 2, result.output
    assert 'delivery = "url"' in result.output
    assert not images.asked  # nothing was fetched in vain
    config = configure(tmp_path, "behind-a-key", "all.csv", 'delivery = "upload"')
    refused = run(studio_server, config, "start")
    assert refused.exit_code == 2, refused.output
    assert "may not be read (HTTP 401)" in " ".join(refused.output.split())
    told = run(studio_server, config, "start", "--verbose", LOOP_IMAGES_AUTHORIZATION=KEY)
    assert told.exit_code == 0, told.output
    again = run(studio_server, config, "start", "--verbose", "--json", LOOP_IMAGES_AUTHORIZATION=KEY)
    assert json.loads(again.stdout)["imported"] == 0
    doctor = run(studio_server, config, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert checks["images"]["state"] == checks["image"]["state"] == "ok", checks
    for output in (result.output, refused.output, told.output, again.output, doctor.output):
        assert "s3cr3t" not in output
        assert "s1gned" not in output
    for path in (tmp_path / "behind-a-key").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"s3cr3t" not in content, path
        assert b"s1gned" not in content, path
    shown = addresses(studio_server, config)
    assert len(shown) == 30
    assert all(address.startswith("/data/upload/") for address in shown)
    assert images.asked.total() < 2 * 30  # the first refusal ended it; then each image was fetched once


def test_annotators_browsers_fetch_open_images_from_where_they_lie(
    studio_server: ThrowawayServer, tmp_path: Path, images: ImageServer
) -> None:
    rows = "".join(f"{images.url}/cxr/{name}\n" for name in NAMES)
    images.files["/cxr/all.csv"] = f"file\n{rows}".encode()
    config = configure(tmp_path, "open-images", f"{images.url}/cxr/all.csv", 'delivery = "url"')
    result = run(studio_server, config, "start")
    assert result.exit_code == 0, result.output
    shown = addresses(studio_server, config)
    assert sorted(shown) == sorted(f"{images.url}/cxr/{name}" for name in NAMES)
    assert httpx.get(shown[0]).content == images.files[shown[0].removeprefix(images.url)]
    images.files["/cxr/all.csv"] = f"file\n{images.url}/cxr/00.png?sig=s1gned\n".encode()
    result = run(studio_server, config, "start")
    assert result.exit_code == 2, result.output
    assert "a signature would be shown to annotators" in " ".join(result.output.split())
    assert "s1gned" not in result.output


def test_a_server_that_goes_away_costs_what_was_not_fetched_yet(
    studio_server: ThrowawayServer, tmp_path: Path, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import loop.fetch

    monkeypatch.setattr(loop.fetch, "PAUSES_S", (0.01,))
    rows = "".join(f"{images.url}/cxr/{name}\n" for name in NAMES)
    (tmp_path / "all.csv").write_text(f"file\n{rows}")
    config = configure(tmp_path, "goes-away", "all.csv", 'delivery = "upload"')
    images.fails["/cxr/29.png"] = 2
    result = run(studio_server, config, "start")
    assert result.exit_code == 1, result.output
    assert "29.png could not be fetched (HTTP 503)" in " ".join(result.output.split())
    result = run(studio_server, config, "start")
    assert result.exit_code == 0, result.output
    assert {path: n for path, n in images.asked.items() if n != 1} == {"/cxr/29.png": 3}


def test_the_doctor_looks_at_images_on_servers_before_and_after_their_copies_are_there(
    studio_server: ThrowawayServer, tmp_path: Path, images: ImageServer
) -> None:
    def examine() -> dict[str, str]:
        told = run(studio_server, config, "doctor", "--json")
        return {check["name"]: check["state"] for check in json.loads(told.stdout)["checks"]}

    (tmp_path / "all.csv").write_text("file\n" + "".join(f"{images.url}/cxr/{name}\n" for name in NAMES))
    config = configure(tmp_path, "looked-at", "all.csv", "")
    assert examine()["delivery"] == "error"  # they lie on no disk of Label Studio's
    config = configure(tmp_path, "looked-at", "all.csv", 'delivery = "upload"')
    before = examine()
    assert (before["images"], before["delivery"], before["disk"]) == ("not checked", "ok", "ok")
    assert not images.asked
    assert run(studio_server, config, "start").exit_code == 0
    assert examine()["images"] == "ok"
    shutil.rmtree(tmp_path / "looked-at" / "fetched")
    after = examine()
    assert (after["images"], after["image"], after["delivery"]) == ("ok", "ok", "ok")
    again = run(studio_server, config, "start", "--json")
    assert again.exit_code == 0, again.output
    assert (json.loads(again.stdout)["encoded"], json.loads(again.stdout)["images"]) == (0, 30)
    assert set(images.asked.values()) == {2}


def test_a_dicom_file_on_a_server_is_rendered_and_uploaded_and_its_patient_is_known(
    studio_server: ThrowawayServer, tmp_path: Path, images: ImageServer
) -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for i, patient in enumerate(["Müller", "Müller", "Meier"]):
        written = write_dicom(tmp_path / "x", pixels + i, PatientID=patient)
        images.files[f"/wado/{i}.dcm"] = written.read_bytes()
        written.unlink()
    feat = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    np.savez(tmp_path / "table.npz", feat=feat, name=np.array([f"{i}.dcm" for i in range(3)]))
    (tmp_path / "all.csv").write_text("file\n" + "".join(f"{images.url}/wado/{i}.dcm\n" for i in range(3)))
    config = configure(tmp_path, "dicom-on-a-server", "all.csv", 'delivery = "url"')
    refused = run(studio_server, config, "start")
    assert refused.exit_code == 2, refused.output
    assert "DICOM file, which browsers do not show" in " ".join(refused.output.split())
    config = configure(tmp_path, "dicom-on-a-server", "all.csv", 'delivery = "upload"')
    started = run(studio_server, config, "start", "--json")
    assert started.exit_code == 0, started.output
    assert json.loads(started.stdout)["patients"] == 2
    assert all(address.endswith(".png") for address in addresses(studio_server, config))


def test_label_studio_shows_images_in_s3_through_a_storage_of_its_own(
    tmp_path: Path, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loop.demo.server import ThrowawayServer

    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'annotation-loop[s3]'")
    moto = pytest.importorskip(
        "moto.server", reason="moto is not installed: pip install 'annotation-loop[dev]'"
    )
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    key = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-s3"}
    for name, value in {**key, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in {"SSRF_PROTECTION_ENABLED": "false", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setitem(loop.demo.server._QUIET, name, value)  # a store on this machine is refused else
    studio_server = ThrowawayServer(files_root=tmp_path)
    try:
        studio_server.start()
        files: Any = s3fs.S3FileSystem()
        files.mkdir("ward")
        for name in NAMES:
            files.pipe(f"ward/cxr/{name}", images.files[f"/cxr/{name}"])
        s3fs.S3FileSystem.clear_instance_cache()
        config = configure(tmp_path, "in-s3", "s3://ward/cxr", 'delivery = "url"')
        result = run(studio_server, config, "start")
        assert result.exit_code == 2, result.output
        assert "has no S3 storage of the bucket ward" in " ".join(result.output.split())
        with State.open(load_settings(config, {}, {}).state_url) as state:
            project = state.fact("project")
        assert project is not None
        storage = {
            "project": project["id"], "bucket": "ward", "prefix": "cxr", "s3_endpoint": f"http://{host}:{port}",
            "aws_access_key_id": key["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": key["AWS_SECRET_ACCESS_KEY"],
            "region_name": "us-east-1", "use_blob_urls": True, "presign": False, "title": "ward",
        }  # fmt: skip
        mine = {"Authorization": f"Token {studio_server.api_key}"}
        made = httpx.post(f"{studio_server.url}/api/storages/s3", json=storage, headers=mine, timeout=60)
        assert made.status_code == 201, made.text
        result = run(studio_server, config, "start")
        assert result.exit_code == 0, result.output
        assert "s3cr3t" not in result.output
        studio = Studio(studio_server.url, studio_server.api_key)
        shown = {row["data"]["item"]: row["data"]["image"] for row in studio.tasks(int(project["id"]))}
        assert len(shown) == len(NAMES)
        with State.open(load_settings(config, {}, {}).state_url) as state:
            lies_at = {item.item: item.metadata["file"] for item in state.items()}
        item, address = next(iter(shown.items()))
        assert address.startswith("/tasks/")  # Label Studio fetches it, with the key of its storage
        seen = httpx.get(studio_server.url + address, headers=mine, follow_redirects=True, timeout=60)
        assert seen.content == images.files[lies_at[item].removeprefix("s3://ward")]
        assert path_in_address(address).as_posix() == lies_at[item].removeprefix("s3://ward/")
        doctor = run(studio_server, config, "doctor", "--json")
        checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
        assert checks["images"]["state"] == checks["image"]["state"] == checks["delivery"]["state"] == "ok", (
            checks
        )
    finally:
        studio_server.stop()
        server.stop()
        drop_s3_connections()
