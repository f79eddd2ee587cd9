"""The Label Studio project of ours: made, or one that existed adopted, with a task for each image."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from annotate.importing import ensure_tasks
from annotate.interface import Interface, make_interface, parse_interface
from annotate.matching import Matches, Sought, match_existing
from annotate.studio import Project, Studio
from loop.addresses import identity
from loop.errors import BadInput
from loop.first_look import require_seen
from loop.images import is_dicom
from loop.items import Item
from loop.opening import check_findings
from loop.progress import Shows, utc_now
from loop.serving import address_images, is_copy
from loop.settings import Settings
from loop.state import State

CHUNK = 5_000  # images uploaded and imported before the state notes their tasks


def enter_project(settings: Settings, state: State, studio: Studio) -> tuple[Interface, int]:
    """Create the Label Studio project, or enter the one that exists; its interface must decide our findings."""
    known = state.fact("project")
    if known is not None:
        return _enter_again(settings, state, studio, known)
    if settings.label_studio.project_id is None:
        project_id = _create(settings, state, studio)
    else:
        project_id = settings.label_studio.project_id
    # Label Studio's own copy is what counts: it may write the XML anew.
    project = studio.project(project_id)
    ours = re.compile(rf"loop-{re.escape(settings.project.name)}-[rv]\d{{4,}}-")
    if project.model_version.startswith("loop-") and not ours.match(project.model_version):
        raise BadInput(
            f"Label Studio project {project_id} is served by another loop ({project.model_version}). Two loops would "
            "overwrite each other's queue: give this one a project of its own."
        )
    interface = parse_interface(project.xml)
    check_findings(settings, project_id, interface)
    if project.show_suggestions != settings.label_studio.show_suggestions:
        _show_suggestions(settings, studio, project)
    state.set_fact("project", {"id": project_id, "url": studio.url, "xml": project.xml}, utc_now())
    return interface, project_id


def _show_suggestions(settings: Settings, studio: Studio, project: Project) -> None:
    """Show or hide suggestions; hiding them alone would make Label Studio forget which version it serves."""
    fields: dict[str, Any] = {"show_collab_predictions": settings.label_studio.show_suggestions}
    if project.model_version:
        fields["model_version"] = project.model_version
    studio.update_project(project.project_id, **fields)


def _enter_again(
    settings: Settings, state: State, studio: Studio, known: Mapping[str, Any]
) -> tuple[Interface, int]:
    """Enter the project that was set up before; on a server that has moved, make sure that it is the same."""
    project_id = int(known["id"])
    if settings.label_studio.project_id not in (None, project_id):
        raise BadInput(
            f"This project was started with Label Studio project {project_id}, but [label_studio] project_id is "
            f"{settings.label_studio.project_id}. Give the other one a configuration and a folder of its own."
        )
    if studio.url != known["url"]:
        there = {int(row["id"]): (row.get("data") or {}).get("item") for row in studio.tasks(project_id)}
        strange = [
            item for item, task_id in state.tasks().items() if there.get(task_id, "") not in (None, item)
        ]
        if strange:
            raise BadInput(
                f"{studio.url} is not the server that this project was started on ({known['url']}): {len(strange)} of "
                "its tasks are missing or belong to other images. Use another folder to start there."
            )
        state.set_fact("project", {**known, "url": studio.url}, utc_now())
    return parse_interface(known["xml"]), project_id


def _create(settings: Settings, state: State, studio: Studio) -> int:
    """Create the Label Studio project once, even if an earlier start died before it saw the answer."""
    mark = state.fact("mark")
    if mark is None:
        mark = f"annotation-loop {settings.project.name} {uuid.uuid4().hex[:12]}"
        state.set_fact("mark", mark, utc_now())
    elif (project_id := studio.find_project(mark)) is not None:
        return project_id
    return studio.create_project(
        settings.label_studio.title or settings.project.name,
        make_interface(settings.project.findings).xml,
        description=mark,
        show_suggestions=settings.label_studio.show_suggestions,
    )


def import_images(
    settings: Settings,
    state: State,
    studio: Studio,
    project_id: int,
    interface: Interface,
    items: Sequence[Item],
    shows: Shows,
) -> int:
    """Give every image that may be asked a task; returns how many were new.

    Raises:
        BadInput: The tasks of an adopted project cannot be told apart.
    """
    before = state.tasks()
    open_ = [item for item in items if item.stream != "spare" and item.item not in before]
    if settings.label_studio.project_id is not None and open_:
        state.add_tasks(_match(settings, studio, project_id, interface, items, before), utc_now())
        there = state.tasks()
        open_ = [item for item in open_ if item.item not in there]
    n_new = 0
    for first in range(
        0, len(open_), CHUNK
    ):  # what a chunk uploaded and imported survives a kill in the next
        chunk = open_[first : first + CHUNK]
        prepared = partial(_shifted, shows, "preparing", first, len(open_))
        addresses = address_images(settings, studio, project_id, chunk, prepared)
        if not first:  # a task keeps its address, so a wrong one is found before there are tasks
            _see_first(settings, studio, project_id, chunk[0], addresses)
        under_way = bool(state.fact("importing"))
        state.set_fact("importing", True, utc_now())
        wanted: dict[str, tuple[str, dict[str, Any]]] = {
            item: (address, {}) for item, address in addresses.items()
        }
        tasks = ensure_tasks(studio, project_id, interface, wanted, under_way=under_way)
        state.add_tasks(tasks.task_ids, utc_now())
        state.set_fact("importing", False, utc_now())
        n_new += tasks.n_new
        shows("importing", first + len(chunk), len(open_))
    return n_new


def see_early(
    settings: Settings, state: State, studio: Studio, project_id: int, items: Sequence[Item]
) -> None:
    """Before hours of encoding, refuse settings under which annotators would see no image.

    What is uploaded, and DICOM, which may turn out not to be an image, is looked at when tasks are made.

    Raises:
        BadInput: Label Studio does not show the first image.
    """
    served = settings.label_studio
    first = next((item for item in items if not is_dicom(item.path)), None)
    if first is None or served.delivery == "upload" or served.project_id is not None or state.tasks():
        return
    addresses = address_images(settings, studio, project_id, [first], lambda done, of: None)
    _see_first(settings, studio, project_id, first, addresses)


def _see_first(
    settings: Settings, studio: Studio, project_id: int, item: Item, addresses: Mapping[str, str]
) -> None:
    """Refuse an address under which no image is; what only a task resolves (s3://...) is looked at when there is one."""
    address = addresses[item.item]
    if "://" not in address or address.startswith(("http://", "https://")):
        require_seen(settings, studio, project_id, item, address)


def _match(
    settings: Settings,
    studio: Studio,
    project_id: int,
    interface: Interface,
    items: Sequence[Item],
    before: Mapping[str, int],
) -> Mapping[str, int]:
    """Item id to task id, of images that had no task ``before`` and are found in a project that existed.

    Raises:
        BadInput: A task could be several images, or an image several tasks; or a data key that no task has.
    """
    key, known = settings.label_studio.match_by, set(before.values())
    sought = {
        item.item: Sought(item.path, _address_of(settings, item), str(item.metadata.get(key, "")))
        for item in items
        if item.item not in before
    }
    rows = [row for row in studio.tasks(project_id) if int(row["id"]) not in known]
    if key and rows and not any(key in (row.get("data") or {}) for row in rows):
        keys = sorted({name for row in rows for name in row.get("data") or {}})
        raise BadInput(
            f"No task of Label Studio project {project_id} has {key!r} in its data; they have {', '.join(keys)}. Set "
            "[label_studio] match_by to the one that names the image, or leave it out to match by the image's address."
        )
    matches = match_existing(rows, interface, sought, identity, key)
    asked = {item.item for item in items if item.stream != "spare"}
    if asked & matches.ambiguous.keys():
        raise BadInput(_told_ambiguous(project_id, matches, {item.item: str(item.path) for item in items}))
    return matches.task_ids


def _address_of(settings: Settings, item: Item) -> str:
    """Where an image lies on a server, as `identity` writes it; empty if it lies on disk."""
    if not is_copy(settings, item.path):
        return ""
    return item.path.relative_to(settings.copies_folder).as_posix()


def _told_ambiguous(project_id: int, matches: Matches, paths: Mapping[str, str]) -> str:
    """Which tasks and images cannot be told apart, some of them, and what to do."""
    told = []
    for item, ids in matches.ambiguous.items():
        tasks = f"task{'s' if len(ids) > 1 else ''} {' and '.join(map(str, ids))}"
        rivals = [paths[rival] for rival in matches.rivals.get(item, ())]
        told.append(f"{tasks} could be {' or '.join([paths[item], *rivals])}")
    return (
        f"{len(told):,} images cannot be told apart from the tasks of Label Studio project {project_id}: "
        f"{'; '.join(told[:3])}{'; ...' if len(told) > 3 else ''}. Where an image has two tasks, delete one of them in the Data "
        "Manager (keep the one with the labels); where a task could be two images, let a key of the tasks' data say which: "
        "[label_studio] match_by names it, and the manifest has a column of that name."
    )


def _shifted(shows: Shows, what: str, before: int, total: int, done: int, of: int) -> None:
    """Show the progress of a chunk as progress of the whole."""
    shows(what, before + done, total)
