"""A proxy between the loop and a real Label Studio that spoils chosen calls, the way networks do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Spoil = Literal[
    "lose the answer",
    "lose the request",
    "double",
    "answer 502",  # and carry it out
    "answer 500",  # and do nothing
    "delay",  # until the client's patience may have ended
    "come late",  # the client is cut off, and what it sent arrives later all the same
]


class SpoilingProxy(ThreadingHTTPServer):
    """Forwards everything; spoils each call whose path contains ``path``, up to ``times`` times, or one by its number."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.path, self.spoil, self.times = "", "double", 0
        self.number = -1
        self.seen: list[str] = []
        self.late: list[threading.Thread] = []
        self.late_s = 3.0
        self.meanwhile: tuple[str, int, Callable[[], None]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spoil_next(self, path: str, how: Spoil, times: int = 1) -> None:
        """Spoil the next ``times`` calls to addresses that contain ``path``."""
        self.path, self.spoil, self.times = path, how, times

    def do_before(self, path: str, nth: int, action: Callable[[], None]) -> None:
        """Do something once, just before the nth call from now on to an address that contains ``path``, 1 = the next."""
        self.meanwhile = path, nth, action

    def spoil_call(self, number: int, how: Spoil) -> None:
        """Spoil the call that comes as this one from now on, 0 = the next."""
        self.number, self.spoil = len(self.seen) + number, how

    def await_late(self) -> None:
        """Wait until what comes late has arrived."""
        for thread in self.late:
            thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SpoilingProxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        if self.server.meanwhile is not None and self.server.meanwhile[0] in self.path:
            path, left, action = self.server.meanwhile
            self.server.meanwhile = (path, left - 1, action) if left > 1 else None
            if left == 1:
                action()
        how = None
        if self.server.times and self.server.path in self.path:
            self.server.times -= 1
            how = self.server.spoil
        if self.server.number == len(self.server.seen) - 1:
            how = self.server.spoil
        if how == "come late":
            self.server.late.append(threading.Thread(target=self._arrive_late, args=(body,)))
            self.server.late[-1].start()
        if how in ("lose the request", "come late"):
            self.close_connection = True
            return
        if how == "answer 500":
            self._answer(500, [], b"Internal error")
            return
        if how == "delay":
            time.sleep(self.server.late_s)
        answer = self._upstream(body)
        if how == "double":
            answer = self._upstream(body)
        if how == "lose the answer":
            self.close_connection = True
            return
        self._answer(*((502, [], b"Bad gateway") if how == "answer 502" else answer))

    def _arrive_late(self, body: bytes) -> None:
        time.sleep(self.server.late_s)
        self._upstream(body)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
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
