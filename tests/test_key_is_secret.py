"""The key is in nothing that is written: output, logs, tracebacks, state, project folder; however it is spelled."""

from __future__ import annotations

import base64
import json
import logging
import re
import shutil
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from studio_front import front
from ward import Ward

from annotate.studio import Studio

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = [pytest.mark.studio, pytest.mark.filterwarnings("ignore:The `parse_obj` method")]

JWT = re.compile(rb"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}")


def spellings(key: str) -> set[bytes]:
    """The key as it is, URL-encoded, and in base64 at each place at which it may begin; of a JWT its signature, too."""
    found = {key, quote(key, safe="")}
    if key.count(".") == 2:
        found.add(key.rpartition(".")[2])
    for before in range(3):
        encoded = base64.b64encode(b" " * before + key.encode()).decode()
        inner = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]  # what the neighbours do not change
        found |= {inner, inner.translate({43: "-", 47: "_"})}
    return {each.encode() for each in found}


def test_the_search_finds_a_key_in_base64_wherever_it_stands() -> None:
    key = "0123456789abcdef" * 2 + "01234567"
    for header in (f"Token {key}", f"x{key} and more", key):
        written = base64.b64encode(header.encode())
        assert any(each in written for each in spellings(key)), header


class _Echo(BaseHTTPRequestHandler):
    """The worst of servers: whatever is asked, it repeats the key in every spelling."""

    server: EchoServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        said = f"{self.headers.get('Authorization', '')} {body}"
        said = f"{said} {quote(said, safe='')} {' '.join(base64.b64encode(w.encode()).decode() for w in said.split())}"
        for word in re.findall(r"[\w+/.=-]{30,}", said):
            said += " " + base64.urlsafe_b64encode(word.encode()).decode()
        content = json.dumps({"detail": said}) if self.server.status != 200 else f"<html>{said}</html>"
        self.send_response_only(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class EchoServer(ThreadingHTTPServer):
    """Answers everything with one status."""

    daemon_threads = True
    status = 400


@contextmanager
def echo(status: int) -> Iterator[str]:
    with EchoServer(("127.0.0.1", 0), _Echo) as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Written:
    """Everything that commands write, as bytes."""

    def __init__(self, ward: Ward, key: str, log: pytest.LogCaptureFixture) -> None:
        self.ward, self.key, self.log, self.told = ward, key, log, b""

    def run(self, command: str, *args: str, fails: bool = True) -> str:
        result = self.ward.run(command, "--verbose", *args, key=self.key)
        assert (result.exit_code != 0) == fails, result.output
        error = "".join(traceback.format_exception(result.exception)) if result.exception else ""
        self.told += f"{result.output}\n{result.stderr}\n{error}\n".encode()
        return result.output

    def all(self) -> bytes:
        files = [path for path in self.ward.config.parent.rglob("*") if path.is_file()]
        assert [path for path in files if path.name == "state.db"]
        return b"\n".join([self.told, self.log.text.encode(), *(path.read_bytes() for path in files)])


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_the_key_is_in_nothing_that_is_written(
    studio_server: ThrowawayServer,
    personal_token: str,
    kind: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        logging.Logger, "setLevel", lambda *_: None
    )  # nobody quietens a library's debug lines
    for name in ("", "httpx", "httpcore", "label_studio", "loop", "annotate"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]
    ward = Ward.open(studio_server, f"secret-{kind}")
    key = studio_server.api_key if kind == "legacy" else personal_token
    written = Written(ward, key, caplog)

    written.run("start", fails=False)
    written.run("step", fails=False)
    written.run("status", fails=False)
    written.run("doctor", fails=False)

    for status in (400, 401, 403, 404, 200):
        with echo(status) as url:
            for command in ("start", "doctor"):
                written.run(command, "--url", url)
    with echo(500) as url:
        assert "[key]" in written.run("start", "--url", url)
    with front(studio_server.url, moved_to="https://labels.example") as proxy:
        written.run("start", "--url", proxy.url)
    written.run("doctor", "--url", "http://127.0.0.1:9")
    written.run("doctor", "--url", studio_server.url.replace("http:", "https:"))
    written.run("step", "--url", "http://127.0.0.1:9")
    for command in ("step", "doctor"):  # given in the wrong place
        written.run(command, "--set", f"label_studio.url={key}")
        written.run(command, "--set", f"project.state=postgresql+nothing://{key}/x")

    studio, project_id = ward.studio, ward.project_id
    xml = studio.project(project_id).xml
    studio.update_project(project_id, label_config=xml.replace("cannot tell", "perhaps"))
    for command in ("step", "doctor"):
        written.run(command)
    studio.update_project(project_id, label_config=xml)

    def crash(self: Studio, *_: object) -> None:
        raise RuntimeError(f"a mistake of ours in {self!r}")

    monkeypatch.setattr(Studio, "project", crash)
    written.run("step")
    assert b"a mistake of ours" in written.told
    assert b"Traceback" in written.told

    everything = written.all()
    assert "DEBUG" in caplog.text
    assert len(everything) > 100_000
    assert not [each for each in spellings(key) if each in everything]
    assert not JWT.search(everything)  # neither a session's token
    shutil.rmtree(ward.config.parent)
