"""The lead's page over HTTP: what `loop report` writes, fresh after each step, for those who may see it."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from loop_world import World
from ward_days import WardDays

pytest.importorskip("waitress", reason="waitress is not installed: pip install 'annotation-loop[serve]'")
parser = pytest.importorskip("prometheus_client.parser", reason="pip install 'annotation-loop[serve]'")

from flask.testing import FlaskClient  # noqa: E402

from forecasting.stopping import Verdict  # noqa: E402
from loop import schema  # noqa: E402
from loop.cli import main  # noqa: E402
from loop.controller import ask_first_batch, step  # noqa: E402
from loop.errors import BadInput, Unavailable  # noqa: E402
from loop.metrics import write_metrics  # noqa: E402
from loop.page.figures import read_page  # noqa: E402
from loop.page.write import POLICY, as_html  # noqa: E402
from loop.project import Loop  # noqa: E402
from loop.serve import Viewer, create_app, is_loopback  # noqa: E402
from loop.state import State  # noqa: E402

TOKEN = "correct-horse-battery-staple"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def begun(folder: Path, n: int) -> Iterator[Loop]:
    """A ward after two batches, its state in a file."""
    world = World(folder, n=n)
    settings = world.settings(batch="size = 50\nfinished_share = 1.0")
    desk = WardDays(world.answers)
    with world.state(settings.state_url) as state:
        loop = replace(world.loop(state, desk, settings), clock=desk.clock)
        ask_first_batch(loop)
        step(loop)
        yield loop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """A ward that goes on."""
    yield from begun(tmp_path, 600)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A ward at rest."""
    yield from begun(tmp_path_factory.mktemp("ward"), 300)


def client(loop: Loop, host: str = "127.0.0.1", token: str = "") -> FlaskClient:
    return create_app(loop.settings, host, token, lambda: NOW).test_client()


def metrics_of(text: bytes) -> dict[tuple[str, str], float]:
    """Name and first label to value, as Prometheus reads them."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_page_is_the_one_that_loop_report_writes(still: Loop) -> None:
    answer = client(still).get("/")
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.text == as_html(read_page(still.settings, NOW))
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in answer.text


def test_the_page_is_rendered_anew_only_when_the_state_or_the_day_is_another(loop: Loop) -> None:
    now = NOW
    viewer = Viewer(loop.settings, lambda: now)
    first = viewer.look()
    assert viewer.look() is first
    step(loop)
    second = viewer.look()
    assert second.page.labels > first.page.labels
    assert second.html != first.html
    assert viewer.look() is second
    now += timedelta(days=1)
    assert viewer.look() is not second


def test_the_metrics_are_the_figures_of_the_page(still: Loop) -> None:
    answer = client(still).get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    told, page = metrics_of(answer.data), read_page(still.settings, NOW)
    assert told["annotation_loop_labels", ""] == page.labels
    assert told["annotation_loop_pending", ""] == page.outstanding
    for row in page.findings:
        assert row.now is not None
        assert told["annotation_loop_auc", row.finding] == row.now.mean
        assert told["annotation_loop_auc_low", row.finding] == row.now.low
        assert told["annotation_loop_auc_high", row.finding] == row.now.high
        assert told["annotation_loop_p_reached", row.finding] == row.p_reached
        assert told["annotation_loop_target", row.finding] == row.target
    assert told["annotation_loop_last_step_age_seconds", ""] == (NOW - page.history[-1].at).total_seconds()
    assert told["annotation_loop_errors", "image"] == told["annotation_loop_errors", "annotation"] == 0
    assert told["annotation_loop_read_failures_total", ""] == 0


def test_the_verdict_of_a_finding_is_one_of_all_verdicts_even_without_a_forecast(still: Loop) -> None:
    page = read_page(still.settings, NOW)
    early = replace(page.findings[1], now=None, p_reached=None, verdict="CANNOT TELL")
    text = write_metrics(replace(page, findings=(page.findings[0], early)), None, 0, NOW).decode()
    told = {
        (sample.labels["finding"], sample.labels["verdict"]): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "annotation_loop_verdict"
    }
    assert {verdict for _, verdict in told} == set(Verdict)
    for row in (page.findings[0], early):
        assert [each for each in Verdict if told[row.finding, each]] == [row.verdict]
    assert metrics_of(text.encode())["annotation_loop_target", early.finding] == early.target


def test_the_seconds_of_the_last_step_are_those_of_its_clock_and_left_out_where_nobody_noted_them(
    loop: Loop,
) -> None:
    began = loop.clock()
    step(loop)
    ended = loop.clock()
    seconds = metrics_of(client(loop).get("/metrics").data)["annotation_loop_last_step_duration_seconds", ""]
    assert 300 < seconds < (ended - began).total_seconds()  # the push alone takes five minutes of its clock
    page = read_page(loop.settings, NOW)
    assert ("annotation_loop_last_step_duration_seconds", "") not in metrics_of(
        write_metrics(page, None, 0, NOW)
    )


def test_a_hostile_name_of_a_finding_stays_a_label(still: Loop) -> None:
    page, name = read_page(still.settings, NOW), 'a"} 1\nannotation_loop_labels 9\\'
    hostile = replace(page, findings=(replace(page.findings[0], finding=name),))
    told = metrics_of(write_metrics(hostile, None, 0, NOW))
    assert ("annotation_loop_auc", name) in told
    assert told["annotation_loop_labels", ""] == page.labels


def test_a_state_that_cannot_be_read_is_503_everywhere_and_counted_until_it_is_back(loop: Loop) -> None:
    visitor, path = client(loop), Path(loop.settings.state_url)
    assert visitor.get("/healthz").json == {"status": "ok"}
    loop.state.close()
    path.rename(path.with_suffix(".away"))
    for address in ("/", "/metrics", "/healthz"):
        answer = visitor.get(address)
        assert answer.status_code == 503
        assert "not started" in answer.text
    told = visitor.get("/healthz").json
    assert told is not None
    assert told["status"] == "unreadable"
    path.with_suffix(".away").rename(path)
    assert visitor.get("/healthz").status_code == 200
    assert metrics_of(visitor.get("/metrics").data)["annotation_loop_read_failures_total", ""] == 4


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_get_and_head_is_answered(still: Loop, method: str) -> None:
    visitor = client(still)
    before = still.state.mark()
    assert visitor.open("/", method=method).status_code == 405
    assert visitor.head("/").status_code == 200
    assert visitor.head("/").data == b""
    assert still.state.mark() == before


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "GET", {}, 200),
        ("/metrics", "GET", {}, 200),
        ("/healthz", "GET", {}, 200),
        ("/none", "GET", {}, 404),
        ("/", "POST", {}, 405),
        ("/", "GET", {"Host": "evil.example"}, 421),
    ],
)
def test_every_answer_has_the_security_headers(
    still: Loop, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    answer = client(still).open(path, method=method, headers=headers)
    assert answer.status_code == status
    told = {name: answer.headers[name] for name in answer.headers.keys()}  # noqa: SIM118  # also of its own class
    assert (
        told.items()
        >= {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
        }.items()
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8765", 200),
        ("evil.example:8765", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_answered_to(still: Loop, host: str, status: int) -> None:
    assert client(still).get("/healthz", headers={"Host": host}).status_code == status


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (basic("anybody", TOKEN), 200),
        (basic("", TOKEN), 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe9\xff", 401),
        (basic(TOKEN, ""), 401),
        (basic(TOKEN, "wrong"), 401),
        ("Basic not-base64!", 401),
        (f"Digest {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_beyond_loopback_nobody_comes_in_without_the_token(
    still: Loop, given: str | None, status: int
) -> None:
    visitor = client(still, "0.0.0.0", TOKEN)
    headers = {} if given is None else {"Authorization": given}
    for address in ("/", "/metrics", "/healthz"):
        answer = visitor.get(address, headers={"Host": "lead.example"} | headers)
        assert answer.status_code == status
        assert TOKEN not in answer.text
    assert visitor.get(f"/?token={TOKEN}").status_code == 401  # an address is logged and remembered
    refused = visitor.get("/none")
    assert refused.status_code == 401  # what there is, is nobody's business
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    assert refused.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.0.7", False),
        ("localhost.example", False),
    ],
)
def test_only_loopback_is_loopback(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


def run(*args: str | Path, token: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(
        main, ["serve", *map(str, args)], env={"ANNOTATION_LOOP_SERVE_TOKEN": token, "LABEL_STUDIO_URL": None}
    )
    return done.exit_code, done.output


@pytest.mark.parametrize("token", [None, "", "short", "naïve" * 5])
def test_beyond_loopback_it_does_not_start_without_a_good_token(still: Loop, token: str | None) -> None:
    status, told = run("-c", still.settings.project.folder, token=token)
    status, told = run("-c", config_of(still), "--host", "0.0.0.0", token=token)
    assert status == 2
    assert "export ANNOTATION_LOOP_SERVE_TOKEN=" in told
    assert not token or token not in told


def config_of(loop: Loop) -> Path:
    return Path(loop.settings.state_url).parent.parent / "loop.toml"


def test_a_project_that_was_not_started_is_told_at_once(tmp_path: Path) -> None:
    World(tmp_path).settings()
    status, told = run("-c", tmp_path / "loop.toml")
    assert status == 2
    assert "loop start" in told


def test_a_missing_library_is_named_with_its_extra(still: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loop.serve")
    monkeypatch.setitem(sys.modules, "waitress", None)
    status, told = run("-c", config_of(still))
    assert status == 2
    assert "waitress" in told
    assert "annotation-loop[serve]" in told


def test_a_port_that_is_taken_is_told(still: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, told = run("-c", config_of(still), "--port", str(taken.getsockname()[1]))
    assert status == 2
    assert "--port" in told


def test_what_is_served_cannot_be_written(still: Loop) -> None:
    with (
        State.look_at_started(still.settings.state_url) as state,
        pytest.raises(Unavailable, match="readonly"),
    ):
        state.set_fact("a", 1, NOW)


def test_a_state_of_an_older_release_is_told_and_left_as_it_is(
    still: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, ("of tomorrow", lambda _: None)])
    with pytest.raises(BadInput, match="loop status"):
        State.look_at_started(still.settings.state_url)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_process_serves_a_page_that_follows_the_steps_and_ends_cleanly(loop: Loop) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "loop", "serve", "-v", "-c", config_of(loop), "--port", str(port)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "ANNOTATION_LOOP_SERVE_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert url in process.stdout.readline()

        def fetch(path: str, token: str = TOKEN) -> str:
            asked = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert "Server" not in answer.headers
                return str(answer.read().decode())

        assert fetch("/healthz").strip() == '{"status":"ok"}'
        before = fetch("/")
        step(loop)
        after = fetch("/")
        assert before != after
        assert f"{read_page(loop.settings, NOW).labels} labelled images" in after
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"/?token={TOKEN}", "wrong")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert TOKEN not in rest
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
