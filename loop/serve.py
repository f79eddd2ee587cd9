"""The lead's page over HTTP, with health and metrics for monitoring. Reads the state and writes nothing."""

from __future__ import annotations

import hmac
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request
from waitress import create_server

from annotate.errors import AnnotateError
from forecasting.errors import ForecastError
from loop.errors import BadInput, LoopError, first_line
from loop.metrics import CONTENT_TYPE, write_metrics
from loop.opening import read_seconds
from loop.page.figures import Page, page_of
from loop.page.write import POLICY, as_html
from loop.settings import Settings
from loop.state import State

SHORTEST_TOKEN = 16  # characters
LARGEST_REQUEST = 1 << 16  # bytes; nobody has to send more than a few headers
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The page as it was rendered last.

    Attributes:
        mark: Of the state that it shows.
        day: It names dates, and they move.
        seconds: That the last step took; None if nobody noted it.
    """

    mark: tuple[int, ...]
    day: date
    page: Page
    html: str
    seconds: float | None


class Viewer:
    """Renders the page when the state has changed since, or the day; else gives the one that is there."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self._view: View | None = None
        self._one_at_a_time = threading.Lock()

    def look(self) -> View:
        """The page of the state as it is now.

        Raises:
            LoopError: The state cannot be read.
        """
        with self._one_at_a_time, State.look_at_started(self._settings.state_url) as state:
            mark = state.mark()  # before the page: what comes meanwhile makes another one
            now = self._clock()
            view = self._view
            if view is None or (view.mark, view.day) != (mark, now.date()):
                page = page_of(self._settings, state, now)
                seconds = read_seconds(state, page.history[-1].at) if page.history else None
                self._view = view = View(mark, now.date(), page, as_html(page), seconds)
        return view


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_token(host: str, token: str) -> None:
    """Refuse to show the page to a network without a secret that can be guarded.

    Raises:
        BadInput: There is no token where one is needed, or it can be guessed or not be sent.
    """
    remedy = "Make one: export ANNOTATION_LOOP_SERVE_TOKEN=$(openssl rand -hex 32)"
    if not token and not is_loopback(host):
        raise BadInput(
            f"--host {host} can be reached from other machines, and ANNOTATION_LOOP_SERVE_TOKEN is not set. {remedy}"
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii()):
        raise BadInput(
            f"ANNOTATION_LOOP_SERVE_TOKEN needs {SHORTEST_TOKEN} characters or more, all of them ASCII. {remedy}"
        )


def create_app(settings: Settings, host: str, token: str, clock: Callable[[], datetime]) -> Flask:
    """The page at ``/``, ``/healthz`` and ``/metrics``; GET and HEAD only.

    Args:
        settings: Of a project that was started.
        host: Where it will listen. On loopback only names of this machine are answered to: another one is a page elsewhere
            whose name was pointed here.
        token: What a visitor has to know; empty = nothing.
        clock: The time now, UTC.

    Raises:
        BadInput: The token is missing or too weak.
    """
    require_token(host, token)
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    viewer, failures = Viewer(settings, clock), 0
    own_names = THIS_MACHINE | {host} if is_loopback(host) else None

    @app.before_request
    def admit() -> Response | None:
        if own_names is not None and urlsplit(f"//{request.host}").hostname not in own_names:
            return _plain(
                "This server answers to the names of its own machine only; let a proxy in front of it send Host: localhost.",
                421,
            )
        if token and not hmac.compare_digest(_given().encode(), token.encode()):
            refused = _plain(
                "A token is needed: as password with any name, or as Authorization: Bearer.", 401
            )
            refused.headers["WWW-Authenticate"] = 'Basic realm="annotation-loop", charset="UTF-8"'
            return refused
        return None

    @app.after_request
    def guard(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(AnnotateError)
    @app.errorhandler(ForecastError)
    @app.errorhandler(LoopError)
    @app.errorhandler(OSError)
    def say_unreadable(error: Exception) -> Response:
        nonlocal failures
        failures += 1
        if request.path != "/healthz":
            return _plain(str(error), 503)
        response = jsonify(status="unreadable", reason=first_line(error))
        response.status_code = 503
        return response

    @app.get("/")
    def page() -> str:
        return viewer.look().html

    @app.get("/healthz")
    def health() -> Response:
        with State.look_at_started(settings.state_url) as state:
            state.mark()
        return jsonify(status="ok")

    @app.get("/metrics")
    def metrics() -> Response:
        view = viewer.look()
        return Response(write_metrics(view.page, view.seconds, failures, clock()), content_type=CONTENT_TYPE)

    return app


def serve(app: Flask, host: str, port: int, ready: Callable[[], object]) -> None:
    """Answer until Ctrl-C or SIGTERM; from the main thread only.

    Args:
        app: See `create_app`.
        host: An address or a name of this machine.
        port: A free port.
        ready: Called once visitors can come.

    Raises:
        BadInput: Nobody can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        door = socket.create_server((host, port), family=family)
    except OSError as error:
        raise BadInput(
            f"Nobody can listen on {host}:{port}: {error.strerror or error}. Give --host an address of this machine and "
            "--port one that is free."
        ) from None
    limits = {"max_request_body_size": LARGEST_REQUEST, "max_request_header_size": LARGEST_REQUEST}
    server = create_server(app, sockets=[door], ident=None, **limits)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        ready()
        server.run()  # Ctrl-C and SystemExit end it
    finally:
        signal.signal(signal.SIGTERM, before)
        server.close()


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _given() -> str:
    """The token that a visitor gave; empty if none."""
    given = request.authorization
    if given is None:
        return ""
    return (
        given.token if given.type == "bearer" else given.password if given.type == "basic" else None
    ) or ""


def _plain(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, mimetype="text/plain")
