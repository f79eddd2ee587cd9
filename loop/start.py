"""Set a project up, and open it again: images, embeddings, Label Studio, state."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout

from annotate.desk import StudioDesk
from annotate.interface import Interface, make_interface, parse_interface
from annotate.matching import ensure_tasks, match_existing
from annotate.studio import Studio
from loop.board import StudioBoard
from loop.cold_start import find_tower, open_zero_shot, score_by_texts
from loop.controller import ask_first_batch
from loop.encoders import Encoder
from loop.encoders.devices import load_on_devices
from loop.encoders.embed import here
from loop.encoders.encode import compare_to_float, encode_items
from loop.encoders.int8 import Nearness
from loop.encoders.reducing import named, reducing
from loop.errors import BadInput, Unavailable
from loop.features import FeatureStore
from loop.items import Item, draw_streams, ensure_patient_key, find_images, hash_images
from loop.opening import project_pool
from loop.project import Loop
from loop.reduced import ReducedImages
from loop.report import StepReport, as_json
from loop.serving import address_images
from loop.settings import Settings
from loop.state import State
from loop.stores import ENOUGH, Stores, list_stores, open_store
from loop.sync import sync

CHUNK = 5_000  # images uploaded and imported before the state notes their tasks


class Shows(Protocol):
    """Something that shows progress: what is being done, how many are done, of how many."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """What `loop start` found and did.

    Attributes:
        images: Images in our care.
        random: Of these, in the random stream.
        active: In the active part.
        spare: Set aside: other images of random-stream patients.
        encoded: Embeddings made now.
        already: Embeddings of images in our care that were there; images in neither number have none of this encoder.
        imported: Tasks made in Label Studio now; the others were there.
        problems: Images that could not be used, each with its reason.
        nearness: Of an int8 model, how near it is to float.
        report: The first batch.
    """

    project: str
    images: int
    patients: int
    random: int
    active: int
    spare: int
    encoder: str
    encoded: int
    already: int
    url: str
    project_id: int
    imported: int
    problems: tuple[str, ...]
    nearness: Nearness | None
    report: StepReport

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def start(settings: Settings, api_key: str, shows: Shows) -> Started:
    """Set a project up and ask the first batch. Told twice, it adds what is new and repeats nothing.

    Args:
        settings: The project's settings.
        api_key: Label Studio's key.
        shows: Told of the progress.

    Raises:
        BadInput: Images, encoder or settings cannot be used.
        AnnotateError: Label Studio refused or did not answer; run it again.
    """
    studio = Studio(settings.label_studio.url, api_key, ca_file=settings.ca_path)
    studio.about()  # a wrong address or key should be known before an hour of encoding
    settings.folder.mkdir(parents=True, exist_ok=True)
    with _alone(settings.folder), State.create(settings.state_url) as state:
        loaded = load_on_devices(
            settings.encoder.spec, settings.encoder.device, settings.encoder.allow_pickle
        )
        tower = find_tower(settings, state)
        encoders = reducing(loaded, ReducedImages.inside(settings.folder, settings.images.side))
        items, n_encoded, problems = _take_in(settings, state, encoders, shows)
        interface, project_id = _enter(settings, state, studio)
        n_imported, unclear = _import(settings, state, studio, project_id, interface, items, shows)
        state.add_problems(unclear, utc_now())
        if tower is not None:
            score_by_texts(
                settings, state, loaded[0], tower, items, partial(shows, "encoding for texts"), utc_now()
            )
        loop = _loop(settings, state, studio, project_id, interface)
        if state.last_round() is None:  # an adopted project may hold labels; what has one is not asked
            sync(loop.desk, state, utc_now())
        report = ask_first_batch(loop)
        streams = [item.stream for item in items]
        return Started(
            project=settings.project.name,
            images=len(items),
            patients=len({item.patient for item in items}),
            random=streams.count("random"),
            active=streams.count("active"),
            spare=streams.count("spare"),
            encoder=encoders[0].spec,
            encoded=n_encoded,
            already=sum(loop.features.has(item.item) for item in items) - n_encoded,
            url=studio.url,
            project_id=project_id,
            imported=n_imported,
            problems=tuple(f"{path}: {reason}" for path, reason in [*problems, *unclear]),
            nearness=compare_to_float(items, encoders[0], loop.features, settings.encoder.batch_size),
            report=report,
        )


@contextmanager
def opened(settings: Settings, api_key: str) -> Iterator[Loop]:
    """Open a started project for turns; only one process at a time has it.

    Raises:
        BadInput: The project was not started.
        Unavailable: Another `loop` command has it open.
    """
    with State.open(settings.state_url) as state, _alone(settings.folder):
        project = state.fact("project")
        if project is None:
            raise BadInput("The project was not set up to the end. Run `loop start` again.")
        studio = Studio(settings.label_studio.url, api_key, ca_file=settings.ca_path)
        if studio.url != project["url"]:
            raise BadInput(
                f"This project was started on {project['url']}, but the settings name {studio.url}. Labels of another "
                "server would be booked to our images. If the same Label Studio has moved, run `loop start` once."
            )
        yield _loop(settings, state, studio, int(project["id"]), parse_interface(project["xml"]))


def open_features(settings: Settings, state: State) -> FeatureStore:
    """Open the embeddings that the project was started with.

    Raises:
        BadInput: The project was not started, or the settings name another encoder.
    """
    made = state.fact("encoder")
    if made is None:
        raise BadInput("No image was encoded yet. Run `loop start` first.")
    if made["spec"] != (asked := named(settings.encoder.spec, settings.images.side)):
        raise BadInput(
            f"The embeddings were made with {made['spec']}, but [encoder] and [images] ask for {asked}. "
            "Run `loop start` to encode with the new one, or put the old one back."
        )
    return FeatureStore.open(settings.features_folder / made["fingerprint"], made["fingerprint"], made["dim"])


def list_features(settings: Settings, *, check: bool) -> Stores:
    """List the embeddings of every encoder in the project's folder.

    Args:
        settings: The project's settings.
        check: Check every batch against its checksums.

    Raises:
        BadInput: The project was not started, or nothing was encoded.
    """
    with State.open(settings.state_url) as state:
        made = state.fact("encoder") or {"fingerprint": "", "spec": ""}
        items = [item.item for item in state.items()]
    return list_stores(
        settings.features_folder,
        check=check,
        items=items,
        in_force=made["fingerprint"],
        specs={made["fingerprint"]: made["spec"]},
    )


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


def _take_in(
    settings: Settings, state: State, encoders: Sequence[Encoder], shows: Shows
) -> tuple[list[Item], int, list[tuple[str, str]]]:
    """Find, hash and encode the images, then split what could be encoded into streams, by patient."""
    found = find_images(
        settings.images_source, settings.images.patient, ensure_patient_key(settings.folder / "patient.key")
    )
    hashed = hash_images(found, lambda done, total: shows("hashing", done, total))
    encoder = encoders[0]
    store = open_store(settings.features_folder, encoder)
    report = encode_items(
        hashed.items,
        encoder,
        store,
        settings.encoder.batch_size,
        lambda done, total: shows("encoding", done, total),
        here(encoders),
    )
    problems = [*hashed.problems, *report.problems]
    _check_share(state.items(), store, encoder.spec)
    state.set_fact(
        "encoder", {"spec": encoder.spec, "fingerprint": encoder.fingerprint, "dim": encoder.dim}, utc_now()
    )
    doubtful = {path for path, _ in report.problems}
    usable = [item for item in hashed.items if store.has(item.item) and str(item.path) not in doubtful]
    if not usable:
        raise BadInput(
            f"None of the {len(found)} images in {settings.images_source} can be used: {problems[:3]}"
        )
    items = _split(settings, state.items(), usable)
    state.add_items(items)
    state.add_problems(problems, utc_now())
    return state.items(), report.encoded, problems


def _check_share(items: Sequence[Item], store: FeatureStore, spec: str) -> None:
    """Refuse an encoder under which most of the images that the project works with would be lost."""
    n = sum(store.has(item.item) for item in items)
    if n < ENOUGH * len(items):
        raise BadInput(
            f"{spec} has embeddings of {n:,} of the {len(items):,} images of this project; the others could not be asked, and "
            "their labels would not count. The project stays with its encoder: put the old one back, or give the missing "
            "images."
        )


def _split(settings: Settings, before: Sequence[Item], usable: Sequence[Item]) -> list[Item]:
    """Draw the streams once. Images that come later follow their patient; new patients join the active part."""
    if not before:
        rng = np.random.default_rng([settings.project.seed, 0])
        return draw_streams(usable, rng, len(usable))  # a budget may be raised; the stream cannot grow later
    known = {item.item: item.patient for item in before}
    moved = [i for i in usable if known.get(i.item, i.patient) != i.patient]
    if moved:
        raise BadInput(
            f"{len(moved)} images have another patient than when the project was started, e.g. {moved[0].path}. The "
            "streams were split by patient, so this cannot be mended afterwards: start again in a new folder."
        )
    stream_of = {item.patient: "spare" if item.stream in ("random", "spare") else "active" for item in before}
    return [
        Item(i.item, i.path, i.patient, stream_of.get(i.patient, "active"), None, i.metadata)  # type: ignore[arg-type]
        for i in usable
        if i.item not in known
    ]


def _enter(settings: Settings, state: State, studio: Studio) -> tuple[Interface, int]:
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
    if project.model_version.startswith("loop-") and not project.model_version.startswith(
        f"loop-{settings.project.name}-"
    ):
        raise BadInput(
            f"Label Studio project {project_id} is served by another loop ({project.model_version}). Two loops would "
            "overwrite each other's queue: give this one a project of its own."
        )
    interface = parse_interface(project.xml)
    _check_findings(settings, project_id, interface)
    if project.show_suggestions != settings.label_studio.show_suggestions:
        studio.update_project(project_id, show_collab_predictions=settings.label_studio.show_suggestions)
    state.set_fact("project", {"id": project_id, "url": studio.url, "xml": project.xml}, utc_now())
    return interface, project_id


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


def _check_findings(settings: Settings, project_id: int, interface: Interface) -> None:
    """Every finding must be asked; what nobody asks can never be reached."""
    missing = [finding for finding in settings.project.findings if finding not in interface.findings]
    if missing:
        raise BadInput(
            f"Label Studio project {project_id} does not ask for {', '.join(missing)}; it asks for "
            f"{', '.join(interface.findings)}. Set [project] findings to what it asks. To ask more, start a new project."
        )


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


def _import(
    settings: Settings,
    state: State,
    studio: Studio,
    project_id: int,
    interface: Interface,
    items: Sequence[Item],
    shows: Shows,
) -> tuple[int, list[tuple[str, str]]]:
    """Give every image that may be asked a task; returns how many were new, and the images left unclear."""
    before = state.tasks()
    open_ = [item for item in items if item.stream != "spare" and item.item not in before]
    unclear: Mapping[str, Sequence[int]] = {}
    if settings.label_studio.project_id is not None and open_:
        matches = match_existing(studio.tasks(project_id), interface, {i.item: i.path for i in open_})
        state.add_tasks(matches.task_ids, utc_now())
        unclear = matches.ambiguous
        open_ = [i for i in open_ if i.item not in matches.task_ids and i.item not in unclear]
    n_new = 0
    for first in range(
        0, len(open_), CHUNK
    ):  # what a chunk uploaded and imported survives a kill in the next
        chunk = open_[first : first + CHUNK]
        prepared = partial(_shifted, shows, "preparing", first, len(open_))
        addresses = address_images(settings, studio, project_id, chunk, prepared)
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
    paths = {item.item: str(item.path) for item in items}
    return n_new, [
        (paths[item], f"could be any of the tasks {', '.join(map(str, ids))}; not asked")
        for item, ids in unclear.items()
    ]


def _shifted(shows: Shows, what: str, before: int, total: int, done: int, of: int) -> None:
    """Show the progress of a chunk as progress of the whole."""
    shows(what, before + done, total)


def _loop(settings: Settings, state: State, studio: Studio, project_id: int, interface: Interface) -> Loop:
    _check_findings(settings, project_id, interface)
    features = open_features(settings, state)
    pool = [item.item for item in state.items() if features.has(item.item)]
    return Loop(
        settings,
        state,
        StudioDesk(studio, project_id, interface),
        features,
        project_pool(features, pool, settings),
        utc_now,
        open_zero_shot(settings, state) if state.last_round() is None else None,
        StudioBoard(studio, project_id, state, utc_now, settings.label_studio.close_on_stop),
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other `loop` commands away from the project while one changes it."""
    lock = FileLock(folder / "loop.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout:
        raise Unavailable(
            f"Another `loop` command is at work in {folder}. Wait for it, or end it (a `loop watch`?)."
        ) from None
