"""Label Studio's own webhook wakes `loop watch`: the next poll is an hour away, so whatever happens is the ring's doing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ward import Ward

from annotate.errors import StudioRefused
from annotate.studio import Studio
from annotate.webhooks import ensure_webhook
from loop.bell import Bell
from loop.demo.server import ThrowawayServer
from loop.errors import BadInput
from loop.settings import load_settings
from loop.start import opened
from loop.step_report import StepReport
from loop.waking import woken
from loop.watch import watch

pytestmark = pytest.mark.studio

AN_HOUR = 3600.0
PATIENCE_S = 120.0
HERE = "127.0.0.1:0"


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayServer]:
    """A Label Studio that may call private addresses, as a team on one network runs it."""
    with pytest.MonkeyPatch.context() as env:
        env.setenv("SSRF_PROTECTION_ENABLED", "false")
        server = ThrowawayServer(files_root=tmp_path_factory.mktemp("files"), task_lock_ttl_s=5).start()
    yield server
    server.stop()


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


class Watch:
    """A watch in a thread of its own, and what it told."""

    def __init__(self, ward: Ward, listen: str = HERE, every_s: float = AN_HOUR) -> None:
        self.told: list[StepReport] = []
        self._bell: Bell | None = None
        self._settings = load_settings(ward.config, {}, {})
        self._how = listen, every_s, ward.server.api_key
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        listen, every_s, key = self._how
        with (
            opened(self._settings, key) as loop,
            woken(self._settings, key, loop, listen, None) as self._bell,
        ):
            watch(loop, every_s, self.told.append, self._bell)

    def __enter__(self) -> Watch:
        self._thread.start()
        until(lambda: self.told)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bell is not None:
            self._bell.end()
        self._thread.join()

    def outstanding(self) -> int:
        return self.told[-1].outstanding


def test_whatever_people_do_is_seen_at_once_and_the_webhook_goes_with_the_watch(
    open_server: ThrowawayServer,
) -> None:
    ward = Ward.open(open_server, "woken")
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    with Watch(ward) as watching:
        (hook,) = studio.webhooks(project_id)
        assert ward.examine()["webhooks"]["fact"] == f"a watch is woken at {hook['url']}"
        assert (hook["send_payload"], hook["is_active"]) == (False, True)
        assert watching.outstanding() == 10
        (task_id,) = ward.label_next(1)
        until(lambda: watching.outstanding() == 9)
        for annotation in next(studio.annotated_tasks(project_id))["annotations"]:
            studio._ask("deleting", "DELETE", f"api/annotations/{annotation['id']}/")
        until(lambda: watching.outstanding() == 10)
        studio.delete_task(task_id)
        until(lambda: watching.outstanding() == 9)
        ward.label_next(9)
        until(lambda: "pushed" in [report.action for report in watching.told])
    assert studio.webhooks(project_id) == []
    asked = [report.batch.round for report in watching.told if report.batch is not None]
    assert asked == [2]


def test_somebody_who_changes_the_queue_is_noticed_at_once(open_server: ThrowawayServer) -> None:
    ward = Ward.open(open_server, "shuffled")
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    with Watch(ward) as watching:
        studio.update_project(project_id, sampling="Sequential sampling")
        until(lambda: any("was put back" in line for report in watching.told for line in report.warnings))
    assert studio.project(project_id).sampling == "Uncertainty sampling"


def test_a_webhook_that_a_killed_watch_left_is_taken_over(open_server: ThrowawayServer) -> None:
    ward = Ward.open(open_server, "left")
    ward.start()
    studio, project_id = ward.studio, ward.project_id
    url = "http://127.0.0.1:9/"
    left = ensure_webhook(studio, project_id, url, {"X-Annotation-Loop": "of the one before"})
    again = ensure_webhook(studio, project_id, url, {"X-Annotation-Loop": "new"})
    assert again != left
    twin = studio.create_webhook(project_id, {"url": url, "actions": [], "headers": {}})
    other = studio.create_webhook(project_id, {"url": "http://127.0.0.1:10/", "actions": [], "headers": {}})
    elsewhere = {"url": "http://127.0.0.1:11/", "actions": [], "headers": {"X-Annotation-Loop": "old"}}
    moved = studio.create_webhook(project_id, elsewhere)
    assert len({again, twin, other, moved}) == 4
    told = ward.examine()
    assert told["webhooks"]["state"] == "warning"
    assert "nobody answers there" in told["webhooks"]["fact"]
    assert ensure_webhook(studio, project_id, url, {"X-Annotation-Loop": "new"}) == again
    assert {hook["id"] for hook in studio.webhooks(project_id)} == {again, other}


def test_where_label_studio_calls_no_private_address_the_reason_is_told_and_the_watch_polls(
    studio_server: ThrowawayServer, caplog: pytest.LogCaptureFixture
) -> None:
    ward = Ward.open(studio_server, "guarded")
    ward.start()
    with caplog.at_level(logging.WARNING), Watch(ward, every_s=0.5) as watching:
        assert "reserved network address" in caplog.text
        assert "SSRF_PROTECTION_ENABLED=false" in caplog.text
        assert "webhook.secret" in caplog.text
        ward.label_next(1)
        until(lambda: watching.outstanding() == 9)
    secret = (load_settings(ward.config, {}, {}).folder / "webhook.secret").read_text()
    assert secret not in caplog.text


def test_a_watch_goes_on_if_its_webhook_cannot_be_removed(
    open_server: ThrowawayServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = Ward.open(open_server, "kept")
    ward.start()

    def refused(self: Studio, webhook_id: int) -> None:
        raise StudioRefused("This key may not remove webhooks.")

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patched:
        patched.setattr(Studio, "delete_webhook", refused)
        with Watch(ward):
            pass
    assert "still registered" in caplog.text
    assert len(ward.studio.webhooks(ward.project_id)) == 1


def test_a_place_that_says_nothing_of_where_it_is_wants_an_address(open_server: ThrowawayServer) -> None:
    ward = Ward.open(open_server, "everywhere")
    ward.start()
    result = ward.run("watch", "--listen", "0.0.0.0:0")
    assert result.exit_code == 2
    assert "--listen-url" in result.output
    settings = load_settings(ward.config, {}, {})
    with opened(settings, open_server.api_key) as loop:
        with (
            pytest.raises(BadInput, match="HOST:PORT"),
            woken(settings, open_server.api_key, loop, "x", None),
        ):
            pass
        for bad, said in (("http://me:hunter2@host/", "holds a name"), ("host:80", "no address")):
            with (
                pytest.raises(BadInput, match=said) as refused,
                woken(settings, open_server.api_key, loop, HERE, bad),
            ):
                pass
            assert "hunter2" not in str(refused.value)
        with woken(settings, open_server.api_key, loop, "0.0.0.0:0", "http://127.0.0.1:9/loop/"):
            (hook,) = ward.studio.webhooks(ward.project_id)
            assert hook["url"] == "http://127.0.0.1:9/loop/"
    assert ward.studio.webhooks(ward.project_id) == []
