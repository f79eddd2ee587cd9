"""Who labelled what, on a real Label Studio: the queue runs dry there, and an image is picked by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from annotate.interface import make_interface
from annotate.payloads import write_results
from annotate.studio import Studio
from loop.cli import main
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


def test_what_the_queue_served_is_told_from_what_was_picked(studio_server: ThrowawayServer) -> None:
    folder = studio_server.files_root / "ledger"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(40)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "images" / name)
    np.savez(folder / "a.npz", feat=rng.normal(size=(40, 8)).astype(np.float32), name=np.array(names))
    config = folder / "loop.toml"
    config.write_text(
        '[project]\nname = "ledger"\nfindings = ["Effusion"]\n'
        f'[label_studio]\nurl = "{studio_server.url}"\ndocument_root = "{studio_server.files_root}"\n'
        f'[batch]\nsize = 8\n[encoder]\nspec = "features:{folder / "a.npz"}"\n'
    )

    def run(*args: str | Path) -> str:
        env = {"LABEL_STUDIO_API_KEY": studio_server.api_key}
        done = CliRunner().invoke(main, [*map(str, args), "-c", str(config)], env=env)
        assert done.exit_code == 0, done.output
        return done.stdout

    project_id = json.loads(run("start", "--json"))["project_id"]
    interface = make_interface(["Effusion"])
    (database,) = folder.rglob("state.db")
    with State.open(str(database)) as state, Studio(studio_server.url, studio_server.api_key) as studio:
        batch = [state.tasks()[pick.item] for pick in state.rounds()[0].picks]
        by_hand = next(task_id for task_id in state.tasks().values() if task_id not in batch)
        studio.submit(by_hand, write_results(interface, {"Effusion": 1.0}), 3.0)
        served = []
        for _ in range(len(batch) + 2):
            task = studio.next_task(project_id)
            assert task is not None
            served.append(int(task["id"]))
            studio.submit(served[-1], write_results(interface, {"Effusion": float(len(served) % 2)}), 0.01)
    assert served[:8] == batch

    run("step")
    out = folder / "ledger.csv"
    told = json.loads(run("ledger", "--json"))["rows"]
    labelled = {row["task"]: row["stream"] for row in told if row["event"] == "labelled"}
    assert labelled == {by_hand: "outsider"} | dict.fromkeys(batch, "random") | dict.fromkeys(
        served[8:], "overrun"
    )
    assert Counter(row["event"] for row in told) == {"asked": 16, "labelled": 11, "read": 1}
    count = json.loads(run("status", "--json"))["labels"]
    assert (count["random"], count["unasked"], count["overrun"]) == (8, 3, 2)
    run("ledger", "--out", out)
    assert studio_server.api_key not in out.read_text()
    assert "28 rows, each as it was written" in run("ledger", "verify", out)
