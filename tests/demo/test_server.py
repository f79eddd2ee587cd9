"""The throwaway Label Studio: really started, really gone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.demo import server as server_module
from loop.demo.server import HOST, ThrowawayServer, install, template
from loop.errors import BadInput, Unavailable


def fetch(server: ThrowawayServer, path: str, body: dict[str, object] | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Token {server.api_key}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(server.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayServer]:
    root = tmp_path_factory.mktemp("root")
    (root / "images").mkdir()
    (root / "images" / "a.png").write_bytes(b"not really a picture")
    with ThrowawayServer(root) as server:
        yield server


@pytest.mark.studio
def test_its_api_key_opens_an_empty_label_studio(running: ThrowawayServer) -> None:
    status, body = fetch(running, "/api/projects")
    assert status == 200
    assert json.loads(body)["count"] == 0


@pytest.mark.studio
def test_it_runs_the_version_that_was_asked_for(running: ThrowawayServer) -> None:
    assert json.loads(fetch(running, "/api/version")[1])["release"] == server_module.VERSION


@pytest.mark.studio
def test_it_serves_images_below_its_files_root(running: ThrowawayServer) -> None:
    status, body = fetch(running, "/api/projects", {"title": "phantoms"})
    assert status == 201
    storage: dict[str, object] = {
        "project": json.loads(body)["id"],
        "path": str(running.files_root / "images"),
        "use_blob_urls": True,
    }
    assert fetch(running, "/api/storages/localfiles/", storage)[0] == 201
    assert fetch(running, "/data/local-files/?d=images/a.png") == (200, b"not really a picture")


@pytest.mark.studio
def test_nobody_outside_this_machine_can_reach_it(running: ThrowawayServer) -> None:
    port = int(running.url.rsplit(":", 1)[1])
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1, little-endian


@pytest.mark.studio
def test_stopping_ends_the_process_and_removes_its_data(tmp_path: Path) -> None:
    with ThrowawayServer(tmp_path, task_lock_ttl_s=5) as server:
        home = server.log.parent
        port = int(server.url.rsplit(":", 1)[1])
        assert home.is_dir()
    server.stop()  # twice is no error
    assert not home.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=5)


@pytest.mark.studio
def test_a_port_that_somebody_else_took_is_noticed(tmp_path: Path) -> None:
    """Label Studio would silently move on to another port, and we would talk to a stranger."""
    venv = install()
    home = shutil.copytree(template() / "data", tmp_path / "data")
    login = server_module.Login("nobody@example.com", "", "0" * 40)
    with socket.socket() as stranger:
        stranger.bind((HOST, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        process = server_module._spawn(venv, home, port, {})
        try:
            log = home / "server.log"
            end = time.monotonic() + 120
            while "in use" not in log.read_text() and time.monotonic() < end:
                time.sleep(0.2)
            assert server_module._wait(process, log, port, login, limit_s=60) is False
        finally:
            server_module._kill(process)


@pytest.mark.studio
def test_the_login_of_the_template_is_readable_by_its_owner_only() -> None:
    login = template() / "login.json"
    assert stat.S_IMODE(login.stat().st_mode) == 0o600
    assert stat.S_IMODE(login.parent.stat().st_mode) == 0o700


def test_a_missing_files_root_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a folder"):
        ThrowawayServer(tmp_path / "nowhere")


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-python cannot be run"):
        install(tmp_path, python="no-such-python")


def offline_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point pip at one folder and at nothing else."""
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_empty_wheel(folder: Path) -> None:
    """A distribution with Label Studio's name and version and nothing in it (PEP 427)."""
    info = f"label_studio-{server_module.VERSION}.dist-info"
    with zipfile.ZipFile(folder / f"label_studio-{server_module.VERSION}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: label-studio\nVersion: {server_module.VERSION}\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_a_failing_installation_says_where_its_log_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_index(tmp_path / "index", monkeypatch)
    with pytest.raises(Unavailable, match=r"pip\.log ends with") as error:
        install(tmp_path / "cache")
    assert f"label-studio=={server_module.VERSION}" in str(error.value)
    assert not list((tmp_path / "cache").glob("*/complete"))


def test_a_half_installed_environment_is_built_again_and_a_whole_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_empty_wheel(offline_index(tmp_path / "index", monkeypatch))
    half = tmp_path / "cache" / f"label-studio-{server_module.VERSION}"
    half.mkdir(parents=True)
    (half / "leftover").touch()
    venv = install(tmp_path / "cache")
    assert venv == half
    assert not (half / "leftover").exists()
    assert list(venv.glob(f"lib/python*/site-packages/label_studio-{server_module.VERSION}.dist-info"))
    (half / "kept").touch()
    install(tmp_path / "cache")
    assert (half / "kept").exists()


@pytest.mark.studio
def test_a_throwaway_server_for_ones_own_folder_says_how_to_use_it_and_is_gone_in_the_end(
    tmp_path: Path,
) -> None:
    program = [sys.executable, "-c", "from loop.cli import main; main()", "demo", "--serve", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as loop:
        assert loop.stdout is not None
        told = {}
        for line in loop.stdout:
            name, _, value = line.strip().removeprefix("export ").partition("=")
            told[name.strip()] = value.strip()
            if name.startswith("document_root"):
                break
        headers = {"Authorization": f"Token {told['LABEL_STUDIO_API_KEY']}"}
        request = urllib.request.Request(f"{told['LABEL_STUDIO_URL']}/api/projects", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        assert told["document_root"] == f'"{tmp_path.resolve()}"'
        loop.terminate()
        assert loop.wait(30) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(request, timeout=5)
