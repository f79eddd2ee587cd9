"""A project of two annotators on a real Label Studio: double reads, agreement, a review, by the commands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from colleague import sign_up
from ward import Ward

from annotate.interface import make_interface
from annotate.payloads import write_results
from annotate.studio import Studio

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

INTERFACE = make_interface(["Effusion"])


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


def test_two_annotators_from_the_first_batch_to_a_review(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(
        studio_server,
        "two",
        n_images=80,
        findings=["Effusion"],
        batch=20,
        more="[labels]\ndouble_reads = 0.5",
    )
    begun = ward.tell("start")
    project_id = begun["project_id"]
    assert begun["report"]["batch"]["double"] == 10
    assert begun["report"]["warnings"] == []
    with ward.studio as ann, sign_up(ann, "second-reader") as bob:
        by_ann = work(ann, project_id, lambda task_id: float(task_id % 2))
        assert len(by_ann) == 20
        by_bob = work(bob, project_id, lambda task_id: float(task_id % 2 and task_id % 3 > 0), limit=7)
        assert set(by_bob) < set(by_ann)
        report = ward.tell("step")
        assert (report["action"], report["warnings"]) == ("pushed", [])

        told = ward.tell("status")["agreement"]["Effusion"]
        disagreed = sum(t % 2 == 1 and t % 3 == 0 for t in by_bob)
        assert (told["images"], told["disagreed"], told["ties"]) == (7, disagreed, disagreed)

        # three second readings were left: the colleague gets them first, and the first reader never
        left = [task_id for task_id, full in ann.queue(project_id, 200) if not full][:3]
        assert set(left) < set(by_ann) - set(by_bob)
        of_batch = work(ann, project_id, lambda _: 1.0, limit=4)
        assert not set(left) & set(of_batch)
        assert work(bob, project_id, lambda task_id: 1.0 - task_id % 2, limit=3) == left

        listed = ward.tell("review")
        assert {doubt["label"] for doubt in listed["doubts"]} >= {None}
        pushed = ward.tell("review", "--push", "2")
        assert pushed["pushed"] == 2
        assert "nobody twice" in pushed["warnings"][-1]  # both have read them; a third person is needed
        with sign_up(ann, "third-reader") as cat:
            reviewed = work(cat, project_id, lambda task_id: float(task_id % 2), limit=2)
            assert set(reviewed) == {doubt["task_id"] for doubt in pushed["doubts"]}
            (next_,) = work(cat, project_id, lambda _: 1.0, limit=1)
            assert next_ not in by_ann  # then the batch goes on
        waiting = ward.tell("step")
        assert (waiting["action"], waiting["warnings"]) == ("waiting", [])  # the review is still served
        agreement = ward.tell("status")["agreement"]["Effusion"]
        assert agreement["images"] == 10 + (
            next_ in of_batch
        )  # a second look that was asked for is no sample of how people agree
        assert agreement["ties"] == disagreed + 3 - 2  # the third voice settled two
        assert ward.tell("review")["reviewed"] == 2


def test_second_readings_outlast_a_queue_that_was_closed_and_opened_again(
    studio_server: ThrowawayServer,
) -> None:
    ward = Ward.open(
        studio_server,
        "twice",
        n_images=60,
        findings=["Effusion"],
        batch=10,
        more="[labels]\ndouble_reads = 1.0",
    )
    project_id = ward.tell("start")["project_id"]
    closing = ("--set", "label_studio.close_on_stop=true", "--set", "stop.budget=10")
    with ward.studio as ann, sign_up(ann, "late-reader") as bob:
        by_ann = work(ann, project_id, lambda task_id: float(task_id % 2))
        by_bob = work(bob, project_id, lambda task_id: float(task_id % 2), limit=4)
        assert ward.tell("step", *closing)["verdict"] == "STOP"
        assert ann.next_task(project_id) is None
        assert bob.next_task(project_id) is None
        assert ward.tell("step")["action"] == "pushed"  # the budget was raised: the loop goes on
        left = [task_id for task_id in by_ann if task_id not in by_bob]
        assert work(bob, project_id, lambda _: 1.0, limit=len(left)) == left
        assert not set(work(ann, project_id, lambda _: 1.0, limit=5)) & set(by_ann)
