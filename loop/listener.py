"""A doorbell for Label Studio: its webhook rings, and the watch looks at once instead of at its next poll.

Label Studio's Community edition calls a webhook inside the annotator's own request and waits up to a second for the
answer, so the answer comes before anything else. What is sent is thrown away: a webhook is a hint, and the pull finds out
what is true. Who does not know the secret cannot ring.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from annotate.webhooks import HEADER
from loop.bell import Bell
from loop.commits import whole
from loop.errors import BadInput

LARGEST_BODY = 1 << 20  # bytes; without a payload, as we register it, Label Studio sends about 35
MOST_AT_ONCE = 32  # deliveries; more wait a moment, then they are hung up on
PATIENCE_S = 0.25  # less than the second that Label Studio waits, and an annotator with it
SLOWEST_S = 5.0  # between two parts of a request
EVERYWHERE = ("", "0.0.0.0", "::")

log = logging.getLogger(__name__)


def read_place(text: str) -> tuple[str, int]:
    """``HOST:PORT`` as host and port.

    Raises:
        BadInput: It is not that.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != text or "@" in text:
        raise BadInput(f"--listen {text!r} is no HOST:PORT. Write for example --listen 192.168.0.7:8090.")
    return host, port


def require_plain(url: str) -> None:
    """Refuse an address that Label Studio cannot call, or that holds what must not be shown.

    Raises:
        BadInput: It is no http address, or holds a name, a password or a query.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("--listen-url is no address. Write for example --listen-url http://192.168.0.7:8090/.")
    if "@" in parts.netloc or parts.query:
        raise BadInput(
            f"--listen-url at {parts.hostname} holds a name, a password or a query; whoever may see the project's settings could "
            "read it there. Take it out: calls are told from strangers' by a secret header."
        )


def ensure_secret(path: Path) -> str:
    """The secret of a project's webhook, made the first time; only its owner can read the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not path.stat().st_size:
        with whole(path) as draft, open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(32))
    held = path.read_text().strip()
    if len(held) < 16:
        raise BadInput(
            f"{path} holds no secret. Remove the file: the next `loop watch --listen` makes another."
        )
    return held


@contextmanager
def listening(host: str, port: int, secret: str, bell: Bell) -> Iterator[int]:
    """Let deliveries ring a bell, from other threads, until the context ends.

    Args:
        host: Address to listen on, and no other.
        port: Port there; 0 = a free one.
        secret: What the header `HEADER` of a delivery has to hold.
        bell: Rung once a delivery was answered.

    Yields:
        The port.

    Raises:
        BadInput: Nobody can listen there.
    """
    try:
        server = _Server((host, port), secret, bell)
    except OSError as error:
        raise BadInput(
            f"Nobody can listen on {host}:{port}: {error.strerror or error}. Give --listen an address of this machine and a "
            "port that is free."
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="listener", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], secret: str, bell: Bell) -> None:
        self.secret, self.bell = secret.encode(), bell
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        super().__init__(place, _Delivery)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(timeout=PATIENCE_S):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a delivery from %s broke off", client_address)


class _Delivery(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOWEST_S
    server_version, sys_version = "annotation-loop", ""

    def do_POST(self) -> None:  # the name is http.server's
        given = self.headers.get(HEADER, "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.server.secret):
            self._answer(HTTPStatus.FORBIDDEN)
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        left = int(length)
        while left and (
            part := self.rfile.read(min(left, 1 << 16))
        ):  # read, for who is hung up on may miss the answer
            left -= len(part)
        self._answer(HTTPStatus.OK)
        self.server.bell.ring()

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
