"""Second readers on a real Label Studio: who is served which image, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from colleague import sign_up

from annotate.payloads import write_results
from annotate.records import Suggestion
from annotate.studio import Studio

if TYPE_CHECKING:
    from annotate.conftest import Workplace

pytestmark = pytest.mark.studio


@pytest.fixture
def colleague(place: Workplace) -> Iterator[Studio]:
    with sign_up(place.studio, f"colleague{place.project_id}") as studio:
        yield studio


def work(who: Studio, place: Workplace) -> int | None:
    """Label the next task as somebody gets it; None if there is none."""
    task = who.next_task(place.project_id)
    if task is None:
        return None
    who.submit(int(task["id"]), write_results(place.interface, {"Edema": 0.0, "Effusion": 1.0}), 1.0)
    return int(task["id"])


def ask(tasks: list[int], twice: dict[int, int]) -> list[Suggestion]:
    return [Suggestion(t, rank, None, twice.get(t, 1)) for rank, t in enumerate(tasks, start=1)]


def test_the_chosen_images_and_no_others_are_read_by_a_second_person_in_the_order_of_the_queue(
    place: Workplace, colleague: Studio
) -> None:
    order = [place.tasks[i] for i in (7, 1, 4, 0, 9)]
    twice = {order[0]: 2, order[2]: 2}
    receipt = place.desk.push("loop-r1", ask(order, twice))
    assert receipt.warnings == ()
    assert [work(place.studio, place) for _ in range(3)] == order[:3]
    # the colleague gets the first and the third only, then what nobody has read
    assert [work(colleague, place) for _ in range(3)] == [order[0], order[2], order[3]]
    assert work(place.studio, place) == order[4]
    labels = {task.task_id: len(task.labels) for task in place.desk.pull(None).tasks}
    assert labels == {order[0]: 2, order[1]: 1, order[2]: 2, order[3]: 1, order[4]: 1}


def test_both_get_a_doubly_read_image_at_the_same_time(place: Workplace, colleague: Studio) -> None:
    place.desk.push("loop-r1", ask([place.tasks[3], place.tasks[5]], {place.tasks[3]: 2}))
    for who in (place.studio, colleague):
        task = who.next_task(place.project_id)
        assert task is not None
        assert task["id"] == place.tasks[3]


def test_a_finished_image_is_opened_again_for_one_more_reader(place: Workplace, colleague: Studio) -> None:
    place.desk.push("loop-r1", ask(list(place.tasks[:2]), {}))
    assert work(place.studio, place) == place.tasks[0]
    receipt = place.desk.push("loop-v1", ask([place.tasks[0], place.tasks[1]], {place.tasks[0]: 2}))
    assert receipt.queue == (place.tasks[0], place.tasks[1])
    assert receipt.warnings == ()
    assert work(place.studio, place) == place.tasks[1]  # who has read it does not get it again
    assert work(colleague, place) == place.tasks[0]
    labels = {task.task_id: len(task.labels) for task in place.desk.pull(None).tasks}
    assert labels == {place.tasks[0]: 2, place.tasks[1]: 1}


def test_a_push_told_again_asks_for_no_third_reader(place: Workplace, colleague: Studio) -> None:
    asked = ask(list(place.tasks[:2]), {place.tasks[0]: 2})
    place.desk.push("loop-r1", asked)
    assert work(place.studio, place) == work(colleague, place) == place.tasks[0]
    place.desk.push("loop-r1", asked)
    assert place.studio.queue(place.project_id, 2) == [(place.tasks[0], True), (place.tasks[1], False)]
    assert place.studio.readers(place.project_id, [place.tasks[0]]) == {place.tasks[0]: (2, 2)}


def test_what_the_loop_changes_otherwise_leaves_the_number_of_readers(place: Workplace) -> None:
    place.desk.push("loop-r1", ask(list(place.tasks[:2]), {place.tasks[0]: 2}))
    place.studio.update_project(place.project_id, title="another title", show_collab_predictions=True)
    replace(place.desk).push("loop-r2", ask(list(place.tasks[2:4]), {}))
    assert place.studio.readers(place.project_id, list(place.tasks[:2])) == {
        place.tasks[0]: (2, 0),
        place.tasks[1]: (1, 0),
    }


def test_a_second_reading_that_is_no_longer_wanted_is_released(place: Workplace, colleague: Studio) -> None:
    first, second, third = place.tasks[:3]
    place.desk.push("loop-r1", ask([first, second, third], {first: 2, second: 2}))
    assert work(place.studio, place) == first
    for _ in range(2):
        place.desk.ask_no_more([first, second])
        assert place.studio.readers(place.project_id, [first, second]) == {first: (1, 1), second: (1, 0)}
    assert place.desk.go_back("loop-r1", 3, ask([first, second, third], {})) == ()
    assert work(colleague, place) == second, "the first has its one reader"
