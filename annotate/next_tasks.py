"""What Label Studio gives each annotator next, told from what one key may see; nothing is locked.

The rules are those of Label Studio 1.23 (``projects/functions/next_task.py``), as measured. Which image somebody has open
is known to that person alone: they get it first, and while they have it nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


def order_for(person: int | None, queue: Sequence[Place], habits: Habits) -> list[int]:
    """The tasks of the queue that somebody gets, in order, but for those that others have open; their own comes first.

    Args:
        person: Label Studio's user id; None = somebody who annotated none of them.
        queue: In Label Studio's order.
        habits: The project's.
    """
    open_ = [
        place for place in queue if not place.is_done and all(said.person != person for said in place.said)
    ]
    if habits.several_first:
        open_ = [place for place in open_ if place.readers > 1] or open_
    return [place.task_id for place in open_ if _n_counted(place, person, habits) < place.readers]


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
    place_of = {place.task_id: place for place in queue}
    there = [place_of[task_id] for task_id in wanted if task_id in place_of]
    seen = {said.person for place in queue for said in place.said}
    withheld: dict[int | None, int] = {}
    for person in (None, *sorted(seen)):
        given = set(order_for(person, queue, habits))
        theirs = [p for p in there if not p.is_done and all(said.person != person for said in p.said)]
        late = [p for p in theirs if p.task_id not in given]
        if habits.several_first and any(p.readers == 1 for p in late):
            told.append(
                "Label Studio gives images for several readers before all others (show_overlap_first), whatever their place in "
                'the batch. Set {"show_overlap_first": false} over the API, where the order must hold.'
            )
            habits = Habits(habits.skip_queue)  # said once; what else is withheld is told of all images
            late = [p for p in theirs if p.task_id not in order_for(person, queue, habits)]
        if late:
            withheld[person] = len(late)
    if withheld:
        names = [
            f"{_name(people, person)} ({n})" for person, n in withheld.items() if person is not None
        ] or ["somebody who comes new"]
        told.append(
            f"Images that somebody skipped are kept for who skipped them (skip_queue = {habits.skip_queue}): Label Studio does not "
            f'give them to {", ".join(names)}, and nobody else finishes them. Set {{"skip_queue": "REQUEUE_FOR_OTHERS"}} over '
            "the API."
        )
    if there and order_for(None, queue, habits):
        through = [person for person in sorted(seen) if not order_for(person, queue, habits)]
        if through:
            names = [_name(people, person) for person in through]
            told.append(
                f"Nothing that is asked is left for {', '.join(names)}, who answered all of it: what Label Studio gives them "
                "next, nobody asked for. The rest waits for others."
            )
    return told


def _n_counted(place: Place, person: int | None, habits: Habits) -> int:
    """How many of its annotations Label Studio counts when it asks whether one more is wanted."""
    by_others = [said for said in place.said if not said.starred]
    if habits.skip_queue == "REQUEUE_FOR_OTHERS":
        return sum(not said.skipped or said.person == person for said in by_others)
    if habits.skip_queue == "REQUEUE_FOR_ME":
        return sum(not said.skipped or said.person != person for said in by_others)
    return len(by_others)


def _name(people: Mapping[int, str], person: int | None) -> str:
    return people.get(person or 0, f"user {person}")
