"""A project of two annotators on a real Label Studio: double reads, agreement, a review, by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from colleague import sign_up
from PIL import Image

from annotate.interface import make_interface
from annotate.payloads import write_results
from annotate.studio import Studio
from loop.cli import main

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

INTERFACE = make_interface(["Effusion"])


@pytest.fixture
def config(studio_server: ThrowawayServer) -> Path:
    """Eighty images of noise, and a configuration that asks batches of 20, half of them of two people."""
    folder = studio_server.files_root / "two"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(80)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(folder / "images" / name)
    np.savez(folder / "t.npz", feat=rng.normal(size=(80, 8)).astype(np.float32), name=np.array(names))
    path = folder / "loop.toml"
    path.write_text(
        '[project]\nname = "two"\nfindings = ["Effusion"]\n'
        f'[label_studio]\nurl = "{studio_server.url}"\ndocument_root = "{studio_server.files_root}"\n'
        f'[encoder]\nspec = "features:{folder / "t.npz"}"\n'
        "[batch]\nsize = 20\n[labels]\ndouble_reads = 0.5\n"
    )
    return path


def work(who: Studio, project_id: int, says: Any, limit: int = 100) -> list[int]:
    """Label what the loop's queue serves somebody, until it serves what nobody asked for."""
    asked = {task_id for task_id, _ in who.queue(project_id, 200)}
    done: list[int] = []
    while len(done) < limit:
        task = who.next_task(project_id)
        if task is None or int(task["id"]) not in asked:
            break
        done.append(int(task["id"]))
        who.submit(done[-1], write_results(INTERFACE, {"Effusion": says(done[-1])}), 2.0)
    return done


def test_two_annotators_from_the_first_batch_to_a_review(
    config: Path, studio_server: ThrowawayServer
) -> None:
    def run(*args: str) -> dict[str, Any]:
        key = {"LABEL_STUDIO_API_KEY": studio_server.api_key}
        done = CliRunner().invoke(main, [args[0], "-c", str(config), "--json", *args[1:]], env=key)
        assert done.exit_code == 0, done.output
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    begun = run("start")
    project_id = begun["project_id"]
    assert begun["report"]["batch"]["double"] == 10
    assert begun["report"]["warnings"] == []
    with (
        Studio(studio_server.url, studio_server.api_key) as ann,
        sign_up(ann, "second-reader") as bob,
    ):
        by_ann = work(ann, project_id, lambda task_id: float(task_id % 2))
        assert len(by_ann) == 20
        by_bob = work(bob, project_id, lambda task_id: float(task_id % 2 and task_id % 3 > 0), limit=7)
        assert set(by_bob) < set(by_ann)
        report = run("step")
        assert (report["action"], report["warnings"]) == ("pushed", [])

        told = run("status")["agreement"]["Effusion"]
        disagreed = sum(t % 2 == 1 and t % 3 == 0 for t in by_bob)
        assert (told["images"], told["disagreed"], told["ties"]) == (7, disagreed, disagreed)

        # three second readings were left: the colleague gets them first, and the first reader never
        left = [task_id for task_id, full in ann.queue(project_id, 200) if not full][:3]
        assert set(left) < set(by_ann) - set(by_bob)
        of_batch = work(ann, project_id, lambda _: 1.0, limit=4)
        assert not set(left) & set(of_batch)
        assert work(bob, project_id, lambda task_id: 1.0 - task_id % 2, limit=3) == left

        listed = run("review")
        assert {doubt["label"] for doubt in listed["doubts"]} >= {None}
        pushed = run("review", "--push", "2")
        assert pushed["pushed"] == 2
        assert "nobody twice" in pushed["warnings"][-1]  # both have read them; a third person is needed
        with sign_up(ann, "third-reader") as cat:
            reviewed = work(cat, project_id, lambda task_id: float(task_id % 2), limit=2)
            assert set(reviewed) == {doubt["task_id"] for doubt in pushed["doubts"]}
            (next_,) = work(cat, project_id, lambda _: 1.0, limit=1)
            assert next_ not in by_ann  # then the batch goes on
        waiting = run("step")
        assert waiting["action"] == "waiting"
        agreement = run("status")["agreement"]["Effusion"]
        assert agreement["images"] == 10 + (
            next_ in of_batch
        )  # a second look that was asked for is no sample of how people agree
        assert agreement["ties"] == disagreed + 3 - 2  # the third voice settled two
        assert run("review")["reviewed"] == 2
