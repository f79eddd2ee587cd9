"""Pull and push against a real Label Studio: nothing lost, nothing doubled, the order ours."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from studio_proxy import Spoil, spoiling_proxy

from annotate import importing
from annotate.consensus import agree
from annotate.errors import BadInterface, PushUnconfirmed, StudioUnavailable
from annotate.importing import ensure_tasks
from annotate.interface import parse_interface
from annotate.payloads import write_prediction, write_results, write_task
from annotate.records import Pull, Suggestion
from annotate.studio import Studio

if TYPE_CHECKING:
    from annotate.conftest import Workplace
    from annotate.desk import StudioDesk
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

YES_NO = {"Edema": 1.0, "Effusion": 0.0}


def batch(task_ids: list[int], random: list[int] | None = None) -> list[Suggestion]:
    """Suggestions in this order; tasks in ``random`` carry none."""
    return [
        Suggestion(t, rank, None if t in (random or []) else {"Edema": 0.8, "Effusion": 0.3})
        for rank, t in enumerate(task_ids, start=1)
    ]


def by_task(pull: Pull) -> dict[int, list[dict[str, float]]]:
    return {task.task_id: [dict(label.answers) for label in task.labels] for task in pull.tasks}


def test_a_pull_sees_what_was_made_edited_skipped_and_deleted(place: Workplace) -> None:
    made, edited, skipped, deleted, odd = place.tasks[:5]
    ids = {t: place.label(t, YES_NO) for t in (made, edited, deleted)}
    place.studio.submit(skipped, [], skipped=True)
    place.studio.submit(
        odd, [{"from_name": "gone", "to_name": "image", "type": "choices", "value": {"choices": ["yes"]}}]
    )
    first = place.desk.pull(None)
    assert {t.task_id for t in first.tasks} == {made, edited, skipped, deleted, odd}
    assert by_task(first)[made] == [YES_NO]
    of = {t.task_id: t for t in first.tasks}
    assert of[made].item == "item00"
    assert (of[made].labels[0].annotation_id, of[made].labels[0].lead_time_s) == (ids[made], 3.0)
    assert of[skipped].labels[0].skipped
    assert "no control 'gone'" in (of[odd].labels[0].problem or "")
    assert '"gone"' in of[odd].labels[0].raw

    changed = write_results(place.interface, {"Edema": math.nan, "Effusion": 1.0})
    place.studio._ask("editing", "PATCH", f"api/annotations/{ids[edited]}/", json={"result": changed})
    place.studio._ask("deleting", "DELETE", f"api/annotations/{ids[deleted]}/")
    second = place.desk.pull(first.watermark)
    (answers,) = by_task(second)[edited]
    assert math.isnan(answers["Edema"])
    assert answers["Effusion"] == 1.0
    assert by_task(second)[deleted] == []
    assert second.watermark is not None
    assert first.watermark is not None
    assert second.watermark > first.watermark
    assert deleted not in by_task(place.desk.pull(None))


def test_pulling_twice_changes_nothing(place: Workplace) -> None:
    for task_id in place.tasks:
        place.label(task_id, YES_NO)
    first = place.desk.pull(None)
    assert len(first.tasks) == 12  # three pages of five
    assert first.watermark is not None
    again = place.desk.pull(first.watermark - timedelta(minutes=5))
    assert {t.task_id: t for t in again.tasks} == {t.task_id: t for t in first.tasks}
    assert again.watermark is not None
    assert again.watermark <= first.watermark  # the latest change that the first page shows


def test_the_watermark_is_what_was_there_before_the_tasks_were_read(place: Workplace) -> None:
    place.label(place.tasks[0], YES_NO)

    class Slow(Studio):
        """Somebody labels while the pages are read."""

        def newest_change(self, project_id: int) -> datetime | None:
            newest = super().newest_change(project_id)
            place.label(place.tasks[1], YES_NO)
            return newest

    slow = object.__new__(Slow)
    slow.__dict__.update(place.studio.__dict__)
    pull = replace(place.desk, studio=slow).pull(None)
    late = place.studio.newest_change(place.project_id)
    assert pull.watermark is not None
    assert late is not None
    assert pull.watermark < late
    assert place.tasks[1] in by_task(place.desk.pull(pull.watermark))


def test_an_empty_project_has_no_watermark(studio: Studio, place: Workplace) -> None:
    empty = studio.create_project("empty", place.interface.xml)
    assert replace(place.desk, project_id=empty).pull(None) == Pull((), None)
    studio.delete_project(empty)


def test_two_annotators_are_kept_apart_and_brought_to_one_answer(place: Workplace) -> None:
    name = f"reader{place.project_id}"
    reader = {"email": f"{name}@example.com", "username": name}
    other = place.studio._create("adding a reader", "api/users/", reader)
    task_id = place.tasks[0]
    place.label(task_id, YES_NO)
    answer = {
        "result": write_results(place.interface, {"Edema": 0.0, "Effusion": 0.0}),
        "completed_by": other["id"],
    }
    place.studio._create("labelling as another", f"api/tasks/{task_id}/annotations/", answer)
    (task,) = place.desk.pull(None).tasks
    assert len({label.annotator for label in task.labels}) == 2
    agreed = agree(task.labels, place.interface.findings)
    assert math.isnan(agreed["Edema"])
    assert agreed["Effusion"] == 0.0


def test_the_queue_is_served_in_the_order_of_the_ranks(place: Workplace) -> None:
    order = [place.tasks[i] for i in (7, 2, 9, 0, 4, 11, 5)]
    receipt = place.desk.push("loop-r1", batch(order, random=order[::2]))
    assert (receipt.version, receipt.n_served, receipt.queue, receipt.warnings) == (
        "loop-r1",
        7,
        tuple(order),
        (),
    )
    project = place.studio.project(place.project_id)
    assert (project.sampling, project.model_version) == ("Uncertainty sampling", "loop-r1")
    assert place.work_through(7) == order


def test_reading_the_queue_back_locks_no_task(place: Workplace) -> None:
    place.desk.push("loop-r1", batch(list(place.tasks[:3])))
    place.desk.push("loop-r2", batch(list(place.tasks[5:8])))
    assert place.work_through(1) == [place.tasks[5]]  # a lock on round 1 would come back first


def test_an_annotator_sees_no_suggestion_on_a_random_image(place: Workplace) -> None:
    random, active = place.tasks[3], place.tasks[4]
    place.desk.push("loop-r1", batch([random, active], random=[random]))
    shown = {}
    for _ in range(2):
        task = place.studio.next_task(place.project_id)
        assert task is not None
        shown[int(task["id"])] = task["predictions"][0]["result"]
        place.label(int(task["id"]), YES_NO)
    assert shown[random] == []
    assert place.interface.read(shown[active]) == YES_NO


def test_pushing_twice_changes_nothing(place: Workplace) -> None:
    suggestions = batch(list(place.tasks[:6]))
    first = place.desk.push("loop-r1", suggestions)
    assert place.desk.push("loop-r1", suggestions) == first
    assert place.studio.model_versions(place.project_id) == {"loop-r1": 6}


def test_an_earlier_round_stays_and_is_served_no_more(place: Workplace) -> None:
    place.desk.push("loop-r1", batch(list(place.tasks[:4])))
    place.work_through(1)
    receipt = place.desk.push("loop-r2", batch([place.tasks[9], place.tasks[2]]))
    assert receipt.queue == (place.tasks[9], place.tasks[2])
    assert place.studio.model_versions(place.project_id) == {"loop-r1": 4, "loop-r2": 2}


def test_what_was_labelled_meanwhile_is_not_missed_in_the_queue(place: Workplace) -> None:
    place.label(place.tasks[1], YES_NO)
    receipt = place.desk.push("loop-r1", batch(list(place.tasks[:3])))
    assert receipt.queue == (place.tasks[0], place.tasks[2])
    assert receipt.warnings == ()


def test_a_deleted_task_is_left_out_with_a_warning(place: Workplace) -> None:
    place.studio._ask("deleting a task", "DELETE", f"api/tasks/{place.tasks[1]}/")
    receipt = place.desk.push("loop-r1", batch(list(place.tasks[:3])))
    assert receipt.queue == (place.tasks[0], place.tasks[2])
    assert "1 of 3 tasks" in receipt.warnings[0]
    assert receipt.gone == (place.tasks[1],)


def test_an_order_that_somebody_changed_is_put_back_with_a_warning(place: Workplace) -> None:
    order = [place.tasks[i] for i in (7, 2, 9)]
    place.desk.push("loop-r1", batch(order))
    assert place.desk.keep_serving("loop-r1") == ()
    place.studio.update_project(place.project_id, sampling="Sequential sampling")
    (told,) = place.desk.keep_serving("loop-r1")
    assert "'Sequential sampling'" in told
    assert place.desk.keep_serving("loop-r1") == ()
    assert place.work_through(3) == order


def test_settings_that_change_the_order_are_told(place: Workplace) -> None:
    place.studio.update_project(place.project_id, maximum_annotations=2)
    receipt = place.desk.push("loop-r1", batch(list(place.tasks[:3])))
    assert "takes 2 annotations" in receipt.warnings[0]
    place.studio.update_project(place.project_id, maximum_annotations=0)
    assert "closed" in place.desk.push("loop-r1", batch(list(place.tasks[:3]))).warnings[0]


@pytest.mark.parametrize(
    ("how", "served_as", "versions"),
    [
        ("lose the answer", "loop-r1", {"loop-r1": 3}),
        ("answer 502", "loop-r1", {"loop-r1": 3}),
        ("lose the request", "loop-r1-b", {"loop-r1-b": 3}),
        ("double", "loop-r1-b", {"loop-r1": 6, "loop-r1-b": 3}),
    ],
)
def test_a_spoiled_push_leaves_exactly_one_copy_in_the_queue(
    place: Workplace, studio_server: ThrowawayServer, how: Spoil, served_as: str, versions: dict[str, int]
) -> None:
    order = [place.tasks[i] for i in (4, 3, 2)]
    with spoiling_proxy(studio_server.url) as proxy:
        desk = place.through(proxy.url, studio_server.api_key)
        proxy.spoil_next("import/predictions", how)
        receipt = desk.push("loop-r1", batch(order))
        assert desk.push("loop-r1", batch(order)) == receipt
    assert (receipt.version, receipt.queue, receipt.warnings) == (served_as, tuple(order), ())
    assert place.studio.model_versions(place.project_id) == versions
    assert place.work_through(3) == order


def one_by_one(desk: StudioDesk) -> StudioDesk:
    """The desk as it sends a batch in a large project."""
    return replace(desk, import_below=0)


def test_in_a_large_project_a_batch_is_sent_one_by_one_and_served_in_the_same_order(place: Workplace) -> None:
    order = [place.tasks[i] for i in (7, 2, 9)]
    suggestions = batch(order, random=order[1:2])
    receipt = one_by_one(place.desk).push("loop-r1", suggestions)
    assert (receipt.version, receipt.queue, receipt.warnings) == ("loop-r1", tuple(order), ())
    assert place.desk.push("loop-r1", suggestions) == receipt
    assert place.studio.model_versions(place.project_id) == {"loop-r1": 3}
    assert place.work_through(3) == order


@pytest.mark.parametrize(
    ("how", "stored"),
    [
        ("lose the answer", {"loop-r1": 1}),
        ("answer 502", {"loop-r1": 1}),
        ("lose the request", {}),
        ("double", {"loop-r1": 4}),
        ("answer 500", {}),
        ("come late", {"loop-r1": 1}),
    ],
)
def test_a_batch_that_was_spoiled_on_its_way_one_by_one_is_abandoned(
    place: Workplace, studio_server: ThrowawayServer, how: Spoil, stored: dict[str, int]
) -> None:
    order = [place.tasks[i] for i in (4, 3, 2)]
    with spoiling_proxy(studio_server.url) as proxy:
        desk = one_by_one(place.through(proxy.url, studio_server.api_key))
        proxy.spoil_next("api/predictions", how)
        receipt = desk.push("loop-r1", batch(order))
        proxy.await_late()
        assert desk.push("loop-r1", batch(order)) == receipt
    assert (receipt.version, receipt.queue, receipt.warnings) == ("loop-r1-b", tuple(order), ())
    assert place.studio.model_versions(place.project_id) == stored | {"loop-r1-b": 3}
    assert place.work_through(3) == order


@pytest.mark.parametrize("alone", [True, False], ids=["one by one", "one import"])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_a_task_that_is_deleted_while_a_batch_is_sent_is_left_out_and_told(
    place: Workplace, studio_server: ThrowawayServer, alone: bool, which: int
) -> None:
    """The first was sent already, the second is about to be, the last comes later."""
    order = list(place.tasks[:4])
    lost = order[which]
    with spoiling_proxy(studio_server.url) as proxy:
        desk = place.through(proxy.url, studio_server.api_key)
        desk = one_by_one(desk) if alone else desk
        path, nth = ("api/predictions", 2) if alone else ("import/predictions", 1)
        proxy.do_before(path, nth, lambda: place.studio.delete_task(lost))
        receipt = desk.push("loop-r1", batch(order))
    assert receipt.gone == (lost,)
    assert receipt.queue == tuple(t for t in order if t != lost)
    assert receipt.warnings[0].startswith("1 of 4 tasks of this batch were deleted")
    held = place.studio.model_versions(place.project_id)
    assert held[receipt.version] == 3
    assert alone is False or held == {"loop-r1": 3}


@pytest.mark.parametrize("alone", [True, False], ids=["one by one", "one import"])
def test_a_batch_whose_tasks_are_all_deleted_while_it_is_sent_ends_no_turn(
    place: Workplace, studio_server: ThrowawayServer, alone: bool
) -> None:
    order = list(place.tasks[:3])

    def delete_all() -> None:
        for task_id in order:
            place.studio.delete_task(task_id)

    with spoiling_proxy(studio_server.url) as proxy:
        desk = place.through(proxy.url, studio_server.api_key)
        desk = one_by_one(desk) if alone else desk
        proxy.do_before("predictions", 1, delete_all)
        receipt = desk.push("loop-r1", batch(order))
    assert (receipt.gone, receipt.n_served, receipt.queue) == (tuple(order), 0, ())


def test_a_push_that_was_stored_before_the_loop_died_is_not_repeated(place: Workplace) -> None:
    suggestions = batch(list(place.tasks[:5]))
    rows = [write_prediction(s, 5, "loop-r1", place.interface) for s in suggestions]
    place.studio.import_predictions(place.project_id, rows)
    assert place.desk.push("loop-r1", suggestions).version == "loop-r1"
    assert place.studio.model_versions(place.project_id) == {"loop-r1": 5}


def test_a_half_stored_push_is_abandoned_for_a_new_name(place: Workplace) -> None:
    suggestions = batch(list(place.tasks[:5]))
    rows = [write_prediction(s, 5, "loop-r1", place.interface) for s in suggestions]
    place.studio.import_predictions(place.project_id, rows[:2])
    receipt = replace(place.desk, sleep=lambda _: None).push("loop-r1", suggestions)
    assert (receipt.version, receipt.queue) == ("loop-r1-b", tuple(place.tasks[:5]))


def test_a_push_that_never_fits_is_told_and_leaves_the_queue_alone(
    place: Workplace, studio_server: ThrowawayServer
) -> None:
    place.desk.push("loop-r1", batch(list(place.tasks[:2])))
    with spoiling_proxy(studio_server.url) as proxy:
        desk = place.through(proxy.url, studio_server.api_key)
        proxy.spoil_next("import/predictions", "double", times=9)
        with pytest.raises(PushUnconfirmed, match="instead of 3 predictions"):
            desk.push("loop-r2", batch(list(place.tasks[3:6])))
    assert place.studio.project(place.project_id).model_version == "loop-r1"


def test_a_server_that_goes_away_in_a_push_is_unavailable_and_the_next_push_completes_it(
    place: Workplace, studio_server: ThrowawayServer
) -> None:
    with spoiling_proxy(studio_server.url) as proxy:
        desk = place.through(proxy.url, studio_server.api_key)
        proxy.spoil_next("api/projects/", "answer 502", times=99)
        with pytest.raises(StudioUnavailable):
            desk.push("loop-r1", batch(list(place.tasks[:3])))
    assert place.desk.push("loop-r1", batch(list(place.tasks[:3]))).queue == tuple(place.tasks[:3])


def test_a_changed_interface_stops_pull_and_push_with_the_remedy(place: Workplace) -> None:
    renamed = place.interface.xml.replace('value="cannot tell"', 'value="perhaps"')
    place.studio.update_project(place.project_id, label_config=renamed)
    with pytest.raises(BadInterface, match=r"gone .*cannot tell.* new .*perhaps.* Restore it"):
        place.desk.pull(None)
    with pytest.raises(BadInterface, match="Restore it"):
        place.desk.push("loop-r1", batch(list(place.tasks[:3])))


def test_missing_tasks_are_imported_once_and_duplicates_are_told(place: Workplace) -> None:
    wanted = {f"item{i:02d}": (f"/data/local-files/?d=cxr/{i}.png", {"age": 40 + i}) for i in range(10, 15)}
    first = ensure_tasks(place.studio, place.project_id, place.interface, wanted)
    assert (first.n_new, first.duplicates) == (3, {})
    assert first.task_ids["item10"] == place.tasks[10]
    assert set(first.task_ids) == set(wanted)
    again = ensure_tasks(place.studio, place.project_id, place.interface, wanted)
    assert (again.n_new, again.task_ids) == (0, first.task_ids)
    (twin,) = place.studio.import_tasks(place.project_id, [{"data": {"item": "item10", "image": "x"}}])
    doubled = ensure_tasks(place.studio, place.project_id, place.interface, wanted)
    assert doubled.duplicates == {"item10": (place.tasks[10], twin)}
    assert doubled.task_ids == first.task_ids


@pytest.mark.parametrize(
    "how", ["double", "lose the answer", "lose the request", "come late", "answer 502", "answer 500"]
)
def test_an_import_that_went_wrong_on_the_way_leaves_each_image_once(
    place: Workplace, studio_server: ThrowawayServer, monkeypatch: pytest.MonkeyPatch, how: Spoil
) -> None:
    monkeypatch.setattr(importing, "SETTLE_S", 4.0)
    wanted = {f"item{i:02d}": (f"/data/local-files/?d=cxr/{i}.png", {}) for i in range(10, 15)}
    with spoiling_proxy(studio_server.url) as proxy:
        studio = Studio(proxy.url, studio_server.api_key)
        proxy.spoil_next("/import", how)
        try:
            tasks = ensure_tasks(studio, place.project_id, place.interface, wanted)
        except StudioUnavailable:
            tasks = ensure_tasks(studio, place.project_id, place.interface, wanted, under_way=True)
        proxy.await_late()
    there = {int(row["id"]): row["data"]["item"] for row in place.studio.tasks(place.project_id)}
    assert sorted(there.values()) == [f"item{i:02d}" for i in range(15)]
    assert {there[task_id]: task_id for task_id in tasks.task_ids.values()} == tasks.task_ids
    assert tasks.duplicates == {}


def test_an_import_that_is_still_under_way_is_waited_for(
    place: Workplace, studio_server: ThrowawayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop was killed while it waited for the answer, and was started again at once."""
    monkeypatch.setattr(importing, "SETTLE_S", 4.0)
    wanted = {f"item{i:02d}": (f"/data/local-files/?d=cxr/{i}.png", {}) for i in range(20, 23)}
    rows = [write_task(item, *told, place.interface) for item, told in wanted.items()]
    with spoiling_proxy(studio_server.url) as proxy:
        proxy.spoil_next("/import", "come late")
        with pytest.raises(StudioUnavailable):
            Studio(proxy.url, studio_server.api_key).import_tasks(place.project_id, rows)
        tasks = ensure_tasks(place.studio, place.project_id, place.interface, wanted, under_way=True)
        proxy.await_late()
    assert (tasks.n_new, tasks.duplicates, set(tasks.task_ids)) == (0, {}, set(wanted))


def test_a_deleted_task_is_seen_in_the_count_even_if_others_were_imported(place: Workplace) -> None:
    before = place.desk.roll()
    assert (before.last_id, before.n_tasks) == (place.tasks[-1], 12)
    place.studio.delete_task(place.tasks[3])
    place.studio.import_tasks(place.project_id, [{"data": {"image": "/x.png"}}])
    assert place.desk.roll().n_tasks == 12
    assert place.desk.roll(before.last_id) == replace(before, n_tasks=11)


def test_tick_boxes_with_nothing_ticked_are_an_accepted_prediction(studio: Studio) -> None:
    xml = (
        '<View><Image name="img" value="$image"/><Choices name="path" toName="img" choice="multiple">'
        '<Choice value="Edema"/><Choice value="Effusion"/></Choices></View>'
    )
    interface = parse_interface(xml)
    project_id = studio.create_project("tick boxes", xml)
    (task_id,) = studio.import_tasks(project_id, [{"data": {"image": "/x.png"}}])
    row = write_prediction(Suggestion(task_id, 1, {"Edema": 0.1, "Effusion": 0.2}), 1, "v", interface)
    assert studio.import_predictions(project_id, [row]) == 1
    studio.submit(task_id, row["result"])
    studio.delete_project(project_id)
