"""What Label Studio gives each annotator next, told from what one key may see; nothing is locked.

The rules are those of Label Studio 1.23 (``projects/functions/next_task.py``), as measured. Which image somebody has open
is known to that person alone: they get it first, and while they have it nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

NOWHERE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Said:
    """That somebody annotated a task.

    Attributes:
        person: Label Studio's user id.
        skipped: They skipped it.
        starred: It is marked as ground truth; such ones do not count.
    """

    person: int
    skipped: bool
    starred: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue.

    Attributes:
        task_id: The task.
        is_done: It has all its annotations.
        readers: How many annotations it takes.
        said: Those that it has.
    """

    task_id: int
    is_done: bool
    readers: int = 1
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Habits:
    """Settings of a project that move single annotators away from its queue.

    Attributes:
        skip_queue: What becomes of a skipped task: ``REQUEUE_FOR_OTHERS`` (the default), ``REQUEUE_FOR_ME`` or
            ``IGNORE_SKIPPED``.
        several_first: Tasks for several readers are given out before all others.
        stars_first: Starred tasks are given out first, at random.
        n_members: Users who were made members of the project itself.
    """

    skip_queue: str = "REQUEUE_FOR_OTHERS"
    several_first: bool = False
    stars_first: bool = False
    n_members: int = 0


def order_for(
    person: int | None, queue: Sequence[Place], habits: Habits, open_elsewhere: Mapping[int, int] = NOWHERE
) -> list[int]:
    """The tasks of the queue that somebody gets, in order; one that they have open themselves comes before.

    Args:
        person: Label Studio's user id; None = somebody who annotated none of them.
        queue: In Label Studio's order.
        habits: The project's.
        open_elsewhere: Task to how many other people have it open, where that is known.
    """
    left = [place for place in queue if not place.is_done and person not in _people_of(place)]
    if habits.several_first:
        left = [place for place in left if place.readers > 1] or left
    return [
        place.task_id
        for place in left
        if _n_counted(place, person, habits) + open_elsewhere.get(place.task_id, 0) < place.readers
    ]


def tell_detours(
    people: Mapping[int, str], queue: Sequence[Place], wanted: Sequence[int], habits: Habits
) -> list[str]:
    """Whom Label Studio gives something else than they are asked, and why, each cause as a warning.

    Args:
        people: User id to name; those without are named by their number.
        queue: In Label Studio's order.
        wanted: Tasks in the loop's order.
        habits: The project's.
    """
    told = []
    if habits.n_members > 1:
        told.append(
            f"The project has {habits.n_members} members of its own: Label Studio draws what each annotator gets at random from "
            "the batch. Remove them from the project (they stay in the organization), where the order must hold."
        )
    if habits.stars_first:
        told.append(
            "The project evaluates annotators: Label Studio gives starred images first, at random. Set "
            '{"annotator_evaluation_enabled": false} over the API, where the order must hold.'
        )
    if habits.several_first and len({place.readers > 1 for place in queue if not place.is_done}) > 1:
        told.append(
            "Label Studio gives images for several readers before all others (show_overlap_first), whatever their place in the "
            'batch. Set {"show_overlap_first": false} over the API, where the order must hold.'
        )
    of_place = Habits(habits.skip_queue)
    place_of = {place.task_id: place for place in queue}
    there = [place_of[task_id] for task_id in wanted if task_id in place_of]
    seen = sorted({said.person for place in queue for said in place.said})
    given = {person: order_for(person, there, of_place) for person in (None, *seen)}
    withheld = {
        person: n
        for person, order in given.items()
        if (n := sum(not p.is_done and person not in _people_of(p) for p in there) - len(order))
    }
    if withheld:
        names = [f"{_name(people, person)} ({n})" for person, n in withheld.items()]
        told.append(
            f"Images that somebody skipped are kept for who skipped them (skip_queue = {habits.skip_queue}): Label Studio does not "
            f'give them to {", ".join(names)}. Set {{"skip_queue": "REQUEUE_FOR_OTHERS"}} over the API.'
        )
    through = [_name(people, person) for person in seen if not given[person]]
    if given[None] and through:
        told.append(
            f"Nothing that is asked is left for {', '.join(through)}, who answered all of it: what Label Studio gives them next, "
            "nobody asked for. The rest waits for others."
        )
    return told


def _people_of(place: Place) -> set[int]:
    return {said.person for said in place.said}


def _n_counted(place: Place, person: int | None, habits: Habits) -> int:
    """How many of its annotations Label Studio counts when it asks whether one more is wanted."""
    counted = [said for said in place.said if not said.starred]
    if habits.skip_queue == "REQUEUE_FOR_OTHERS":
        return sum(not said.skipped or said.person == person for said in counted)
    if habits.skip_queue == "REQUEUE_FOR_ME":
        return sum(not said.skipped or said.person != person for said in counted)
    return len(counted)


def _name(people: Mapping[int, str], person: int | None) -> str:
    return "whoever comes new" if person is None else people.get(person, f"user {person}")
