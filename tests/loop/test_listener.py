"""The doorbell: it answers before anything else, rings for who knows the secret, and for nobody else."""

from __future__ import annotations

import http.client
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from annotate.webhooks import HEADER
from loop.bell import Bell
from loop.errors import BadInput
from loop.listener import LARGEST_BODY, MOST_AT_ONCE, ensure_secret, listening, read_place

SECRET = "s" * 43
HOST = "127.0.0.1"
PATIENCE_S = 60.0


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def port(bell: Bell) -> Iterator[int]:
    with listening(HOST, 0, SECRET, bell) as port:
        yield port


def deliver(
    port: int,
    body: bytes = b'{"action": "ANNOTATION_CREATED"}',
    *,
    secret: str | None = SECRET,
    verb: str = "POST",
    **headers: str,
) -> int:
    """Call the webhook; returns the status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
    try:
        known = {} if secret is None else {HEADER: secret}
        connection.request(verb, "/", body, known | {k.replace("_", "-"): v for k, v in headers.items()})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_delivery_rings(port: int, bell: Bell) -> None:
    assert deliver(port) == 200
    assert bell.wait(PATIENCE_S)
    assert not bell.wait(0)


@pytest.mark.parametrize(
    "body", [b"", b"no JSON \xff", b'{"action": "PROJECT_DELETED", "annotation": {"id": -1}}']
)
def test_what_is_sent_plays_no_part(port: int, bell: Bell, body: bytes) -> None:
    assert deliver(port, body) == 200
    assert bell.wait(PATIENCE_S)


@pytest.mark.parametrize("secret", [None, "", SECRET[:-1], f"{SECRET}s", "é" * 43])
def test_who_does_not_know_the_secret_does_not_ring(port: int, bell: Bell, secret: str | None) -> None:
    assert deliver(port, secret=secret) == 403
    assert not bell.wait(0.2)


def test_nothing_but_a_post_rings(port: int, bell: Bell) -> None:
    for verb in ("GET", "PUT", "DELETE"):
        assert deliver(port, verb=verb) == 501
    assert not bell.wait(0.2)


@pytest.mark.parametrize("length", [str(LARGEST_BODY + 1), "9" * 30, "-1", "many"])
def test_a_body_that_is_too_large_is_not_read(port: int, bell: Bell, length: str) -> None:
    with socket.create_connection((HOST, port), PATIENCE_S) as line:
        line.sendall(
            f"POST / HTTP/1.1\r\nHost: x\r\n{HEADER}: {SECRET}\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        assert line.recv(1000).split()[1] == b"413"
    assert not bell.wait(0.2)


def test_a_body_of_the_largest_size_is_taken(port: int, bell: Bell) -> None:
    assert deliver(port, b"x" * LARGEST_BODY) == 200
    assert bell.wait(PATIENCE_S)


def test_many_deliveries_at_once_are_all_answered_and_one_ring_is_left(port: int, bell: Bell) -> None:
    with ThreadPoolExecutor(MOST_AT_ONCE // 2) as crowd:
        assert set(crowd.map(lambda _: deliver(port), range(5 * MOST_AT_ONCE))) == {200}
    assert bell.wait(PATIENCE_S)


def test_who_says_nothing_does_not_keep_others_from_ringing(port: int, bell: Bell) -> None:
    with (
        socket.create_connection((HOST, port), PATIENCE_S),
        socket.create_connection((HOST, port), PATIENCE_S),
    ):
        assert deliver(port) == 200
        assert bell.wait(PATIENCE_S)


def test_a_crowd_that_holds_every_place_is_let_go_after_a_while(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop.listener._Delivery.timeout", 0.2)
    with listening(HOST, 0, SECRET, bell) as port:
        crowd = [socket.create_connection((HOST, port), PATIENCE_S) for _ in range(MOST_AT_ONCE)]
        for line in crowd:
            assert line.recv(1) == b"", "hung up on"
            line.close()
        while True:  # the last place is given back a moment after its line
            try:
                assert deliver(port) == 200
                break
            except (ConnectionError, http.client.HTTPException):
                continue
    assert bell.wait(0)


def test_it_is_deaf_once_the_watch_is_over(bell: Bell) -> None:
    before = threading.active_count()
    with listening(HOST, 0, SECRET, bell) as port:
        assert deliver(port) == 200
    with pytest.raises(ConnectionRefusedError):
        deliver(port)
    assert threading.active_count() <= before + 1


def test_a_port_that_is_taken_is_named(bell: Bell) -> None:
    with (
        listening(HOST, 0, SECRET, bell) as port,
        pytest.raises(BadInput, match=f"127.0.0.1:{port}: .*in use"),
        listening(HOST, port, SECRET, bell),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "place"),
    [("127.0.0.1:8090", ("127.0.0.1", 8090)), ("ward.local:1", ("ward.local", 1)), ("[::1]:80", ("::1", 80))],
)
def test_a_place_is_read(text: str, place: tuple[str, int]) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8090",
        ":8090",
        "host",
        "host:",
        "host:port",
        "host:99999",
        "http://host:80",
        "a@b:80",
        "host:80/x",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="HOST:PORT"):
        read_place(text)


def test_the_secret_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "project" / "webhook.secret"
    secret = ensure_secret(path)
    assert len(secret) >= 40
    assert ensure_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_secret(tmp_path / "other.secret") != secret
    path.write_text("")  # a process was killed before it could write
    assert len(ensure_secret(path)) >= 40
    path.write_text("\n")
    with pytest.raises(BadInput, match="Remove the file"):
        ensure_secret(path)
