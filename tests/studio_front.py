"""A reverse proxy in front of a real Label Studio, as hospitals run it: TLS of their own authority, a sub-path."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Authority:
    """Files of a private authority, and of a server's certificate that it signed."""

    ca: Path
    certificate: Path
    key: Path


def found_authority(folder: Path, *, name: str = "IP:127.0.0.1", days: int = 2) -> Authority:
    """Make an authority and have it sign a certificate for a name, by OpenSSL."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, request, key, certificate, extra = (
        folder / file for file in ("ca.pem", "ca.key", "server.csr", "server.key", "server.pem", "server.ext")
    )
    extra.write_text(f"subjectAltName={name}\nbasicConstraints=CA:FALSE\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    for command in (
        [*new, "-x509", "-days", "2", "-subj", "/CN=Hospital Authority", "-keyout", ca_key, "-out", ca],
        [*new, "-subj", "/CN=label-studio", "-keyout", key, "-out", request],
        ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
         "-days", str(days), "-extfile", extra, "-out", certificate],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return Authority(ca, certificate, key)


class Front(ThreadingHTTPServer):
    """Forwards what is asked below a path; ``moved_to`` redirects everything instead."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str, path: str, authority: Authority | None, moved_to: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.path, self.moved_to = urlsplit(upstream).netloc, path, moved_to
        self.seen: list[str] = []
        self.late_s = 0.0  # how far the clock that it tells is behind
        scheme = "http"
        if authority is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate, authority.key)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        inside = self.path.startswith(self.server.path + "/")
        if self.server.moved_to:
            target = self.server.moved_to + self.path.removeprefix(self.server.path)
            status, headers, content = 301, [("Location", target)], b""
        elif not inside:
            status, headers, content = 404, [("Content-Type", "text/html")], b"<!DOCTYPE html><html>nginx"
        else:
            status, headers, content = self._upstream(self.path.removeprefix(self.server.path), body)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _upstream(self, path: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection.request(self.command, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _forward  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def front(
    upstream: str, path: str = "", authority: Authority | None = None, moved_to: str = ""
) -> Iterator[Front]:
    """Run a reverse proxy for as long as the block lasts."""
    with Front(upstream, path, authority, moved_to) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
