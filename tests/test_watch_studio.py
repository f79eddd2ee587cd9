"""`loop watch` at a real Label Studio: it waits while nothing happens, and is back after the server was."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pixels_encoder import write_pictures

from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.bell import Bell
from loop.controller import step
from loop.demo.annotator import label_queue
from loop.demo.server import ThrowawayServer
from loop.settings import load_settings
from loop.start import opened, start
from loop.step_report import StepReport
from loop.watch import watch

pytestmark = pytest.mark.studio

BATCH, N_IMAGES = 6, 24
PATIENCE_S = 120.0
N_LOOKS = 10


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def test_a_watch_survives_a_restart_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "files" / "images", N_IMAGES)
    names = np.array(sorted(path.name for path in (tmp_path / "files" / "images").iterdir()))
    feat = np.random.default_rng(0).normal(size=(N_IMAGES, 8)).astype(np.float32)
    np.savez(tmp_path / "features.npz", feat=feat, name=names)
    told: list[StepReport] = []
    bell = Bell()
    with ThrowawayServer(files_root=tmp_path / "files") as server, caplog.at_level(logging.WARNING):
        config = tmp_path / "loop.toml"
        config.write_text(
            '[project]\nname = "watched"\nfindings = ["Edema"]\n[images]\nsource = "files/images"\n'
            f'[label_studio]\nurl = "{server.url}"\n[encoder]\nspec = "features:{tmp_path / "features.npz"}"\n'
            f"[batch]\nsize = {BATCH}\n[stop]\ntarget = 0.9\n"
        )
        settings = load_settings(config, {}, {})
        project_id = start(settings, server.api_key, lambda what, done, total: None).project_id

        with opened(settings, server.api_key) as loop:
            step(loop)
            for _ in range(N_LOOKS):
                assert step(loop).action == "waiting"

        def keep_watch() -> None:
            with opened(settings, server.api_key) as loop:
                watch(loop, 0.5, told.append, bell)

        watcher = threading.Thread(target=keep_watch)
        watcher.start()
        try:
            until(lambda: bool(told))
            assert (told[0].action, told[0].outstanding) == ("waiting", BATCH)
            server.restart(away_s=12.0)  # the client itself tries again for some seconds
            until(lambda: "cannot be reached" in caplog.text)
            assert "Trying again in 1 s" in caplog.text
            studio = Studio(server.url, server.api_key)
            interface = parse_interface(studio.project(project_id).xml)
            answers = {str(name): {"Edema": i % 2} for i, name in enumerate(names)}
            label_queue(studio, project_id, interface, answers, BATCH, np.random.default_rng(0))
            until(lambda: "pushed" in [report.action for report in told])
        finally:
            bell.end()
            watcher.join()
