"""Whether annotators can see the images in Label Studio, and nobody else; and what the server does not tell."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from annotate.errors import AnnotateError, StudioRefused
from annotate.interface import parse_interface
from annotate.next_tasks import order_for, tell_detours
from annotate.studio import Project, Studio
from annotate.webhooks import is_ours
from loop.checks import Check, Known
from loop.first_look import compare_image, how_served, tell_unseen
from loop.items import Item
from loop.settings import Settings

NOT_STARTED = "not started: `loop start` sets the project up"


def look_at_served(
    settings: Settings, known: Known | None, studio: Studio, project: Project | None
) -> Iterator[Check]:
    """Can annotators see the images, and nobody else? What the server does not tell is said."""
    if project is not None and known is not None and known.tasks:
        yield from tried("image", lambda: check_image(settings, known, studio, project))
    else:
        yield Check("image", "not checked", NOT_STARTED, how_served(settings))
    yield Check(
        "task lock",
        "not checked",
        "Label Studio does not tell TASK_LOCK_TTL; by default an image that somebody opened and left is theirs for a day",
        "Where that holds a batch up, run Label Studio with TASK_LOCK_TTL=3600.",
    )
    yield from tried("webhooks", lambda: check_webhooks(studio, project))


def check_webhooks(studio: Studio, project: Project | None) -> Check:
    """Does Label Studio call a watch, and does anybody answer? Each call that nobody answers costs an annotator a second."""
    held = studio.webhooks(project.project_id) if project is not None else []
    urls = [str(hook["url"]) for hook in held if is_ours(hook)]
    if not urls:
        return Check(
            "webhooks",
            "ok",
            "none are needed: the loop asks by itself, so Label Studio's guard against local addresses may stay closed",
        )
    if silent := [url for url in urls if not _answers(url)]:
        return Check(
            "webhooks",
            "warning",
            f"Label Studio calls {silent[0]} whenever somebody labels, and nobody answers there, seen from here: each annotator "
            "waits for it, up to a second an image",
            "If no `loop watch --listen` runs there, one was killed: start it again, or remove the webhook in the project's "
            "settings (Webhooks).",
        )
    return Check("webhooks", "ok", f"a watch is woken at {', '.join(urls)}")


def _answers(url: str) -> bool:
    """Whether somebody listens at an address."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        with socket.create_connection((parts.hostname, port), timeout=2.0):
            return True
    except OSError:
        return False


def check_next(studio: Studio, project: Project, known: Known) -> Check:
    """What does each annotator get next, as far as it can be told without their keys?"""
    if known.served is None or project.maximum_annotations != 1 or project.model_version != known.served[0]:
        return Check("next task", "not checked", "the queue is not the loop's, see above and below")
    places = studio.places(project.project_id, known.served[1])
    habits, people = replace(studio.habits(project.project_id), n_members=0), studio.people()
    seen = sorted({said.person for place in places for said in place.said})
    first = {person: order_for(person, places, habits)[:1] for person in (*seen, None)}
    told = ", ".join(
        f"{'whoever comes new' if person is None else people.get(person, f'user {person}')}: "
        + (f"task {order[0]}" if order else "nothing that was asked")
        for person, order in first.items()
    )
    fact = f"{told}; who has an image open gets that one first, and nobody else does"
    if detours := tell_detours(people, places, [place.task_id for place in places], habits):
        return Check("next task", "warning", f"{fact}. {' '.join(detours)}")
    return Check("next task", "ok", fact)


@dataclass(frozen=True, slots=True)
class _Tried:
    """An image of a task, and where Label Studio says that it is."""

    item: Item
    address: str


def check_image(settings: Settings, known: Known, studio: Studio, project: Project) -> Check:
    """Can an image of a task be fetched through Label Studio, is it ours, and is it refused to strangers?"""
    tried = _pick(known, studio, project)
    if tried is None:
        return Check(
            "image",
            "error",
            "the tasks that were tried are not in the project (any more)",
            "Run `loop start`: it imports what is missing.",
        )
    try:
        content = studio.image(tried.address)
    except AnnotateError as error:
        fact = tell_unseen(studio, project.project_id, studio.shown(tried.address), error)
        return Check("image", "error", fact, how_served(settings))
    if (wrong := compare_image(settings, tried.item, studio.shown(tried.address), content)) is not None:
        return Check("image", "error", *wrong)
    try:
        studio.image(tried.address, known=False)
    except StudioRefused:
        return Check("image", "ok", f"{studio.shown(tried.address)} can be fetched, with a key only")
    except AnnotateError:
        pass
    return Check(
        "image",
        "warning",
        f"{studio.shown(tried.address)} can be fetched by anybody who reaches the server, without a key",
        "Patients' images should be behind a login: local files of Label Studio are; see what serves these.",
    )


def _pick(known: Known, studio: Studio, project: Project) -> _Tried | None:
    """The first of a few tasks that is still there."""
    key = parse_interface(project.xml).image_key
    item_of = {item.item: item for item in known.images}
    tasks = list(known.tasks.items())
    for item, task_id in tasks[:: max(1, len(tasks) // 3)][:3]:
        data = studio.task_data(project.project_id, task_id)
        if data is not None and item in item_of and data.get(key):
            return _Tried(item_of[item], str(data[key]))
    return None


def tried(name: str, check: Callable[[], Check]) -> Iterator[Check]:
    """A check that a server may refuse to let us make."""
    try:
        yield check()
    except AnnotateError as error:
        yield Check(name, "not checked", str(error))
