"""What Label Studio gives each annotator next: our prediction, from one key, against what each gets by their own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from colleague import sign_up

from annotate.next_tasks import Habits, Place, Said, order_for, tell_detours
from annotate.payloads import write_results
from annotate.records import Suggestion
from annotate.studio import Studio

if TYPE_CHECKING:
    from annotate.conftest import Workplace

SKIPS = ("REQUEUE_FOR_OTHERS", "REQUEUE_FOR_ME", "IGNORE_SKIPPED")
DEFAULT = Habits()


def test_who_answered_a_task_gets_it_no_more_and_a_skipped_one_goes_to_others() -> None:
    queue = [
        Place(1, False, 1, (Said(7, True, False),)),
        Place(2, True, 1, (Said(7, False, False),)),
        Place(3, False, 2, (Said(7, False, False),)),
        Place(4, False),
    ]
    assert order_for(7, queue, DEFAULT) == [4]
    assert order_for(8, queue, DEFAULT) == order_for(None, queue, DEFAULT) == [1, 3, 4]
    assert order_for(8, queue, DEFAULT, {1: 1, 3: 1}) == [4]
    assert order_for(8, queue, Habits("REQUEUE_FOR_ME")) == [3, 4]
    assert order_for(8, queue, Habits(several_first=True)) == [3]


def test_who_gets_something_else_is_told_by_name_with_the_cause() -> None:
    skipped = [Place(1, False, 1, (Said(7, True, False),)), Place(2, False)]
    people = {7: "ann@example.com"}
    assert tell_detours(people, skipped, [1, 2], DEFAULT) == []
    (told,) = tell_detours(people, skipped, [1, 2], Habits("REQUEUE_FOR_ME"))
    assert "skip_queue = REQUEUE_FOR_ME" in told
    assert "whoever comes new (1)" in told
    (told,) = tell_detours(people, [Place(1, False, 2, (Said(7, False, False),))], [1], DEFAULT)
    assert told.startswith("Nothing that is asked is left for ann@example.com")
    (told,) = tell_detours({}, [Place(1, False, 2), Place(2, False)], [1, 2], Habits(several_first=True))
    assert "show_overlap_first" in told
    (told,) = tell_detours({}, [Place(1, False)], [1], Habits(n_members=3))
    assert "3 members" in told
    (told,) = tell_detours({}, [Place(1, False)], [1], Habits(stars_first=True))
    assert "starred images first" in told


@pytest.mark.studio
@pytest.mark.parametrize(
    ("settings", "several"),
    [
        ({}, False),
        ({}, True),
        ({"skip_queue": "REQUEUE_FOR_ME"}, False),
        ({"skip_queue": "IGNORE_SKIPPED"}, True),
        ({"show_overlap_first": True}, True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_everybody_gets_what_was_predicted_for_them(
    place: Workplace, settings: dict[str, Any], several: bool
) -> None:
    """Three people with keys of their own open, answer and skip; the third signs up later. Their locks are known here."""
    rng = np.random.default_rng(len(settings) + 2 * several)
    studio, project_id = place.studio, place.project_id
    studio.update_project(project_id, **settings)
    chosen = [place.tasks[i] for i in rng.permutation(12)[:7]]
    asked = [Suggestion(t, rank, None, 1 + (several and rank % 3 == 1)) for rank, t in enumerate(chosen, 1)]
    place.desk.push("loop-r1", asked)
    habits = studio.habits(project_id)
    names = [f"{who}{project_id}" for who in ("ann", "bob", "cat")]
    readers: dict[int, Studio] = {}
    n_checked = 0

    def predicted(person: int, open_: dict[int, int]) -> list[int]:
        queue = studio.places(project_id, 20)
        elsewhere = Counter(task_id for other, task_id in open_.items() if other != person)
        return order_for(person, queue, habits, elsewhere)

    def join() -> None:
        name = names[len(readers)]
        reader = sign_up(studio, name)
        ids = {email: person for person, email in studio.people().items()}
        readers[ids[f"{name}@example.com"]] = reader

    join()
    join()
    for turn in range(12):
        if turn == 2:
            join()
        open_: dict[int, int] = {}
        for person, reader in readers.items():
            order = predicted(person, open_)
            got = reader.next_task(project_id)
            if not order:
                assert got is None or got["id"] not in chosen or habits.skip_queue == "REQUEUE_FOR_ME"
                if got is not None:
                    reader.submit(int(got["id"]), write_results(place.interface, {"Edema": 1.0}), 1.0)
                continue
            assert got is not None
            assert int(got["id"]) == order[0], (turn, person)
            open_[person] = order[0]
            n_checked += 1
        for person, task_id in open_.items():  # what somebody has open comes back to them
            again = readers[person].next_task(project_id)
            assert again is not None
            assert int(again["id"]) == task_id
            skips = bool(rng.random() < 0.4)
            result = [] if skips else write_results(place.interface, {"Edema": 1.0, "Effusion": 0.0})
            readers[person].submit(task_id, result, 1.0, skipped=skips)
        if not open_:
            break
    assert n_checked >= 7
    for reader in readers.values():
        reader.close()


@pytest.mark.studio
def test_after_a_push_it_is_told_by_name_who_is_not_served_what_is_asked(place: Workplace) -> None:
    with sign_up(place.studio, f"dan{place.project_id}") as dan:
        place.label(place.tasks[0], {"Edema": 1.0})
        dan.submit(place.tasks[1], [], skipped=True)
        asked = [Suggestion(t, rank, None, 2 - (rank > 1)) for rank, t in enumerate(place.tasks[:2], 1)]
        assert place.desk.push("loop-r1", asked).warnings == ()
        place.studio.update_project(place.project_id, skip_queue="REQUEUE_FOR_ME")
        told = " ".join(place.desk.push("loop-r1", asked).warnings)
        mine = place.studio.about().user
        assert f"does not give them to whoever comes new (1), {mine} (1)" in told
        assert f"Nothing that is asked is left for {mine}, who answered all of it" in told
        gets = dan.next_task(place.project_id)
        assert gets is not None
        assert gets["id"] == place.tasks[0]
