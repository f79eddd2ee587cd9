"""Who labelled what, on a real Label Studio: the queue runs dry there, and an image is picked by hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from ward import Ward

from annotate.interface import make_interface
from annotate.payloads import write_results

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio


def test_what_the_queue_served_is_told_from_what_was_picked(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "ledger", n_images=40, findings=["Effusion"], batch=8)
    project_id = ward.tell("start")["project_id"]
    interface = make_interface(["Effusion"])
    with ward.state() as state, ward.studio as studio:
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

    ward.tell("step")
    told = ward.tell("ledger")["rows"]
    labelled = {row["task"]: row["stream"] for row in told if row["event"] == "labelled"}
    assert labelled == {by_hand: "outsider"} | dict.fromkeys(batch, "random") | dict.fromkeys(
        served[8:], "overrun"
    )
    assert Counter(row["event"] for row in told) == {"asked": 16, "decided": 2, "labelled": 11, "read": 1}
    count = ward.tell("status")["labels"]
    assert (count["random"], count["unasked"], count["overrun"]) == (8, 3, 2)
    out = ward.config.with_name("ledger.csv")
    assert ward.run("ledger", "--out", str(out)).exit_code == 0
    assert studio_server.api_key not in out.read_text()
    assert "30 rows, each as it was written" in ward.run("ledger", "verify", str(out)).output
