"""A real web server of images on this machine: with a key, with failures on demand, and a record of what was asked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class ImageServer:
    """Serves bytes by path.

    Attributes:
        files: Path to bytes.
        key: What ``Authorization`` must be; None = open to all.
        signature: What the query must hold; None = nothing.
        fails: Path to how often it answers 503 before it serves.
        moved: Path to the address that it redirects to.
        wait_s: Seconds before an answer.
        asked: Requests by path.
        keys: Every ``Authorization`` that was sent.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.key: str | None = None
        self.signature: str | None = None
        self.fails: Counter[str] = Counter()
        self.moved: dict[str, str] = {}
        self.wait_s = 0.0
        self.asked: Counter[str] = Counter()
        self.keys: set[str | None] = set()

    def __enter__(self) -> ImageServer:
        ours = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ours.answer(self)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = urlsplit(request.path)
        path = unquote(parts.path)
        self.asked[path] += 1
        time.sleep(self.wait_s)
        self.keys.add(request.headers.get("Authorization"))
        body, status = self.files.get(path, b"gone"), 200 if path in self.files else 404
        if self.fails[path] > 0:
            self.fails[path] -= 1
            status, body = 503, b"later"
        if self.key is not None and request.headers.get("Authorization") != self.key:
            status, body = 401, b"who are you?"
        if self.signature is not None and self.signature not in parts.query:
            status, body = 403, b"expired"
        if path in self.moved:
            status, body = 302, b""
        request.send_response(status)
        if path in self.moved:
            request.send_header("Location", self.moved[path])
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            request.wfile.write(body)
