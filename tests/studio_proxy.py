"""A proxy between the loop and a real Label Studio that spoils chosen calls, the way networks do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Spoil = Literal["lose the answer", "lose the request", "double", "answer 502"]


class SpoilingProxy(ThreadingHTTPServer):
    """Forwards everything; spoils each call whose path contains ``path``, up to ``times`` times."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.path, self.spoil, self.times = "", "double", 0
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spoil_next(self, path: str, how: Spoil, times: int = 1) -> None:
        """Spoil the next ``times`` calls to addresses that contain ``path``."""
        self.path, self.spoil, self.times = path, how, times

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SpoilingProxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        how = None
        if self.server.times and self.server.path in self.path:
            self.server.times -= 1
            how = self.server.spoil
        if how == "lose the request":
            self.close_connection = True
            return
        answer = self._upstream(body)
        if how == "double":
            answer = self._upstream(body)
        if how == "lose the answer":
            self.close_connection = True
            return
        status, headers, content = (502, [], b"Bad gateway") if how == "answer 502" else answer
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _forward  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def spoiling_proxy(upstream: str) -> Iterator[SpoilingProxy]:
    """Run a proxy in front of a server for as long as the block lasts."""
    with SpoilingProxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
