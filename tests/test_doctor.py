"""`loop doctor`: each check ends as it should, nothing is changed, nothing hangs, and no key is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from loop_world import World
from PIL import Image
from sqlalchemy import create_engine, text

from annotate.studio import Project
from annotate.wire import Greeting
from loop import checks_studio
from loop.checks import Known
from loop.cli import main
from loop.controller import ask_first_batch
from loop.encoders.presence import weights_are_here, weights_file
from loop.settings import load_settings
from loop.simulate import EPOCH
from loop.state import State

KEY = "0123456789abcdef0123456789abcdef01234567"
NOBODY = "http://127.0.0.1:9"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def examined(config: Path, *args: str, key: str | None = KEY) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(
        main,
        ["doctor", "-c", str(config), "--json", *args],
        env={"LABEL_STUDIO_API_KEY": key, "LABEL_STUDIO_URL": None},
    )
    assert result.stdout, (result.output, result.exception)
    assert KEY not in result.output
    told = json.loads(result.stdout)
    assert told["ok"] == (result.exit_code == 0)
    return result.exit_code, told


def by_name(told: Mapping[str, Any]) -> dict[str, Any]:
    return {check["name"]: check for check in told["checks"]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    images = tmp_path / "archive" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(images / f"{i}.png")
    path = tmp_path / "loop.toml"
    path.write_text(
        '[project]\nname = "ward"\nfindings = ["Edema", "Effusion"]\n[images]\nsource = "archive/images"\n'
        f'[label_studio]\nurl = "{NOBODY}"\n'
    )
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_before_the_start_and_without_a_server_each_check_says_so_and_nothing_is_made(config: Path) -> None:
    before = snapshot(config.parent)
    status, told = examined(config)
    checks = by_name(told)
    assert status == 2
    assert {name for name, check in checks.items() if check["state"] == "error"} == {"server"}
    assert "Is it running" in checks["server"]["fact"]
    assert "not started" in checks["state"]["fact"]
    assert checks["images"]["fact"].startswith("4 images; 4 of them opened")
    assert "will be written" in checks["disk"]["fact"]
    assert snapshot(config.parent) == before


def test_settings_that_cannot_be_read_are_the_one_finding(config: Path) -> None:
    config.write_text(config.read_text().replace("findings", "fndings"))
    status, told = examined(config)
    assert status == 2
    assert [check["name"] for check in told["checks"]] == ["settings"]
    assert "findings" in told["checks"][0]["fact"]


def test_a_server_that_never_answers_does_not_hold_us_up(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_studio, "TIMEOUT_S", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        status, told = examined(config, "--url", f"http://127.0.0.1:{deaf.getsockname()[1]}")
    assert time.monotonic() - began < 5
    assert status == 2
    assert "did not answer in time" in by_name(told)["server"]["fact"]


@pytest.mark.parametrize(
    ("sets", "name", "state", "said"),
    [
        ("encoder.spec=resnet50", "encoder", "error", "names no encoder"),
        ("encoder.spec=timm:resnet50@none.pth", "encoder", "error", "none.pth is not there"),
        ("encoder.spec=hf:no/such-model", "encoder", "warning", "not on this machine"),
        ("encoder.allow_pickle=other.pt", "pickle", "warning", "can run any code"),
        ("images.source=elsewhere", "images", "error", "Set [images] source"),
    ],
)
def test_what_is_wrong_on_this_machine_is_found(
    config: Path, sets: str, name: str, state: str, said: str
) -> None:
    check = by_name(examined(config, "--set", sets)[1])[name]
    assert (check["state"], check["fix"] != "") == (state, True)
    assert said in check["fact"]


def test_images_that_cannot_be_served_are_known_before_they_are_encoded(config: Path) -> None:
    assert by_name(examined(config)[1])["delivery"]["state"] == "ok"
    for sets, said in (
        ((f"label_studio.document_root={config.parent / 'elsewhere'}",), "does not lie in a folder below"),
        (("project.folder=archive/images/ward",), "lies beside the project's own folder"),
    ):
        check = by_name(examined(config, *(part for each in sets for part in ("--set", each)))[1])["delivery"]
        assert check["state"] == "error"
        assert said in check["fact"]


def test_a_damaged_image_is_found(config: Path) -> None:
    (config.parent / "archive" / "images" / "0.png").write_bytes(b"\x89PNG nothing")
    check = by_name(examined(config)[1])["images"]
    assert check["state"] == "warning"
    assert "0.png" in check["fact"]


def test_a_full_disk_is_an_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(config.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    check = by_name(examined(config)[1])["disk"]
    assert check["state"] == "error"
    assert check["fact"].startswith("1.0 kB free")
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert "may not be written" in by_name(examined(config)[1])["disk"]["fact"]


@pytest.fixture
def started(config: Path) -> Path:
    """A state as `loop start` leaves one, of images that are no files."""
    folder = config.parent / "ward"
    folder.mkdir()
    world = World(config.parent, n=30)
    with world.state(str(folder / "state.db")) as state:
        ask_first_batch(world.loop(state, settings=load_settings(config, {}, {})))
    return config


def test_too_few_images_for_a_forecast_are_a_warning_before_the_start(config: Path) -> None:
    check = by_name(examined(config)[1])["forecast"]
    assert check["state"] == "warning"
    assert check["fact"].startswith("Only 4 images can be labelled, and forecasts begin at 50 labels")
    assert check["fix"].startswith("Give [images] source more images")
    check = by_name(examined(config, "--set", "images.source=elsewhere")[1])["forecast"]
    assert check["state"] == "not checked"


def test_too_few_images_or_too_small_a_budget_for_a_forecast_is_a_warning_afterwards(started: Path) -> None:
    def told(*sets: str) -> tuple[str, str]:
        check = by_name(examined(started, *(part for each in sets for part in ("--set", each)))[1])[
            "forecast"
        ]
        return check["state"], check["fact"]

    assert told()[1].startswith("Only 30 images can be labelled")
    assert told("forecast.from_labels=30") == (
        "ok",
        "30 images to label and no budget; forecasts begin at 30 labels",
    )
    state, fact = told("forecast.from_labels=30", "stop.budget=29")
    assert state == "warning"
    assert fact.startswith("[stop] budget = 29 ends labelling, and forecasts begin at 30 labels")


def test_a_start_that_was_refused_is_told_as_not_started(config: Path) -> None:
    (config.parent / "ward").mkdir()
    World(config.parent, n=30).state(str(config.parent / "ward" / "state.db")).close()
    check = by_name(examined(config)[1])["state"]
    assert (check["state"], check["fact"][:12]) == ("warning", "not started:")
    assert "loop start" in check["fix"]


def test_images_that_are_gone_are_an_error_once_they_are_in_our_care(started: Path) -> None:
    check = by_name(examined(started)[1])["images"]
    assert check["state"] == "error"
    assert "No such file" in check["fact"]


def test_a_source_that_was_changed_after_the_start_is_looked_at(started: Path) -> None:
    check = by_name(examined(started)[1])["source"]
    assert check["state"] == "warning"
    assert "are not in the project, e.g. " in check["fact"]
    check = by_name(examined(started, "--set", "images.source=elsewhere")[1])["source"]
    assert (check["state"], "elsewhere" in check["fact"]) == ("warning", True)


def test_weights_of_an_encoder_that_was_named_after_the_start_are_looked_for(started: Path) -> None:
    with State.open(str(started.parent / "ward" / "state.db")) as state:
        state.set_fact("encoder", {"spec": "timm:a", "fingerprint": "0", "dim": 8}, EPOCH)
    check = by_name(examined(started, "--set", "encoder.spec=hf:no/such-model")[1])["encoder"]
    assert check["state"] == "error"
    assert check["fact"].endswith("ask for hf:no/such-model, whose weights are not on this machine")


def test_a_state_is_only_looked_at(started: Path) -> None:
    before = snapshot(started.parent)
    assert by_name(examined(started)[1])["state"]["fact"].startswith("30 images")
    assert snapshot(started.parent) == before


def test_a_state_of_another_release_is_told_and_left_as_it_is(started: Path) -> None:
    engine = create_engine(f"sqlite:///{started.parent / 'ward' / 'state.db'}")
    with engine.begin() as connection:
        (newest,) = connection.execute(text("SELECT max(number) FROM migrations")).one()
        connection.execute(text(f"DELETE FROM migrations WHERE number = {newest}"))
    check = by_name(examined(started)[1])["state"]
    assert check["state"] == "warning"
    assert "an older release wrote it" in check["fact"]
    with engine.begin() as connection:
        assert connection.execute(text("SELECT max(number) FROM migrations")).one() == (newest - 1,)
        connection.execute(text(f"INSERT INTO migrations VALUES ({newest}, 'x'), (999, 'of the future')"))
    engine.dispose()
    check = by_name(examined(started)[1])["state"]
    assert check["state"] == "error"
    assert "newer release" in check["fact"]


def test_a_state_that_is_none_is_an_error_and_the_server_is_looked_at_all_the_same(started: Path) -> None:
    (started.parent / "ward" / "state.db").write_bytes(b"no database, but long enough to be read as one" * 40)
    told = by_name(examined(started)[1])
    assert told["state"]["state"] == told["server"]["state"] == "error"


def test_another_command_at_work_is_told(started: Path) -> None:
    with FileLock(started.parent / "ward" / "loop.lock"):
        assert by_name(examined(started)[1])["lock"]["state"] == "warning"
    assert by_name(examined(started)[1])["lock"]["state"] == "ok"


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [
        ("1.23.2", "ok", ""),
        ("1.22.0", "warning", "older than"),
        ("1.16.0", "warning", "no personal access tokens"),
        ("2.0", "warning", "newer than"),
        ("nightly", "warning", "other than"),
    ],
)
def test_a_release_that_was_not_measured_is_told(version: str, state: str, said: str) -> None:
    check = checks_studio.check_version("http://host", Greeting(version, None))
    assert check.state == state
    assert said in check.fact


@pytest.mark.parametrize(
    ("theirs", "state", "said"),
    [
        (NOW, "ok", "to 1 s"),
        (NOW - timedelta(seconds=3), "ok", "to 2 s"),
        (NOW - timedelta(minutes=10), "warning", "ours is 599 s ahead of the server's. Each call"),
        (NOW + timedelta(seconds=90), "warning", "ours is 90 s behind the server's"),
        (None, "not checked", "no time"),
    ],
)
def test_clocks_that_disagree_are_told(theirs: datetime | None, state: str, said: str) -> None:
    """The server tells whole seconds, so that much of a difference may be none."""
    check = checks_studio.check_clock(Greeting("1.23.2", theirs), NOW, NOW)
    assert check.state == state
    assert said in check.fact


def project(**changed: Any) -> Project:
    held = {
        "project_id": 1, "title": "ward", "xml": "", "sampling": "Uncertainty sampling", "model_version": "loop-ward-r0001-0",
        "maximum_annotations": 1, "show_suggestions": False, "n_tasks": 30,
    }  # fmt: skip
    return Project(**(held | changed))


def known(**changed: Any) -> Known:
    held = {
        "behind": (),
        "project": None,
        "encoder": None,
        "images": (),
        "tasks": {},
        "served": ("loop-ward-r0001-0", 50),
        "unfinished": False,
    }
    return Known(**(held | changed))


def test_a_queue_that_somebody_reset_is_an_error() -> None:
    assert checks_studio.check_queue(project(), known()).state == "ok"
    assert checks_studio.check_queue(project(sampling="Sequential sampling"), known()).state == "error"
    assert checks_studio.check_queue(project(model_version=""), known()).state == "error"
    assert checks_studio.check_queue(project(), known(served=None)).state == "ok"


def test_a_project_that_another_loop_serves_is_not_adopted(config: Path) -> None:
    settings = load_settings(config, {}, {})
    for version, state in (
        ("", "ok"),
        ("their-model", "ok"),
        ("loop-ward-r0001-0", "ok"),
        ("loop-b-r0001-0", "error"),
    ):
        assert checks_studio.check_adoption(settings, project(model_version=version)).state == state


def test_a_state_at_an_address_that_holds_none_yet_is_not_started(config: Path) -> None:
    url = f"sqlite:///{config.parent / 'elsewhere.db'}"
    assert "not started" in by_name(examined(config, "--set", f"project.state={url}")[1])["state"]["fact"]


def test_how_many_annotations_an_image_takes_is_told() -> None:
    assert [checks_studio.check_annotations(project(maximum_annotations=n)).state for n in (0, 1, 2)] == [
        "warning",
        "ok",
        "warning",
    ]


def test_a_project_beyond_sqlites_smallest_limit_is_a_warning() -> None:
    assert checks_studio.check_variables(project(n_tasks=32_765), None).state == "ok"
    large = checks_studio.check_variables(project(n_tasks=40_000), None)
    assert large.state == "warning"
    assert "getlimit(9)" in large.fix


def test_where_weights_lie_is_read_off_the_spec(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.touch()
    for spec in (
        f"timm:resnet50@{file}?size=512",
        f"chexzero:{file}",
        f"features:{file}",
        f"int8:open_clip:ViT-B-32@{file}",
    ):
        assert weights_file(spec) == file
        assert weights_are_here(spec) is True
    assert weights_are_here("timm:tf_efficientnet_lite0") is True
    assert weights_file("open_clip:ViT-B-32@openai") is None
    assert weights_are_here("hf:no/such-model") is False
    assert weights_are_here("timm:no_such_model") is None
