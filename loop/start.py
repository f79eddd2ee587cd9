"""Set a project up, and open it again: images, embeddings, Label Studio, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from annotate.desk import StudioDesk
from annotate.interface import Interface, parse_interface
from annotate.studio import Studio
from loop.adopt import enter_project, import_images, see_early
from loop.board import StudioBoard
from loop.cold_start import find_tower, open_zero_shot, score_by_texts
from loop.controller import ask_first_batch
from loop.encoders.devices import load_on_devices
from loop.encoders.encode import compare_to_float
from loop.encoders.int8 import Nearness
from loop.encoders.presence import weights_are_here, weights_file
from loop.encoders.reducing import named, reducing
from loop.errors import BadInput, Unavailable
from loop.features import FeatureStore
from loop.first_look import require_seen
from loop.intake import find_and_hash, take_in
from loop.items import Item
from loop.opening import check_findings, project_pool
from loop.progress import Shows, utc_now
from loop.project import Loop
from loop.reduced import ReducedImages
from loop.settings import Settings
from loop.state import State
from loop.step_report import StepReport, as_json
from loop.stores import Stores, list_stores
from loop.sync import sync


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
    about = settings.encoder
    load = partial(load_on_devices, about.spec, about.device, about.allow_pickle)
    to_fetch = weights_file(about.spec) is None and weights_are_here(about.spec) is False
    loaded = [] if to_fetch else load()  # a wrong encoder is told first; only a long download waits
    studio = Studio(settings.label_studio.url, api_key, ca_file=settings.ca_path)
    studio.about()  # a wrong address or key should be known before an hour of encoding
    loaded = loaded or load()
    settings.folder.mkdir(parents=True, exist_ok=True)
    with _alone(settings.folder), State.create(settings.state_url) as state:
        tower = find_tower(settings, state)
        encoders = reducing(loaded, ReducedImages.inside(settings.folder, settings.images.side))
        # what is wrong with a project that exists is told before the images are read
        adopted = settings.label_studio.project_id is not None
        entered = enter_project(settings, state, studio) if adopted else None
        hashed = find_and_hash(settings, shows)
        interface, project_id = entered or enter_project(settings, state, studio)
        see_early(settings, state, studio, project_id, hashed.items)
        items, n_encoded, problems = take_in(settings, state, encoders, hashed, shows)
        n_imported = import_images(settings, state, studio, project_id, interface, items, shows)
        if tower is not None:
            score_by_texts(
                settings, state, loaded[0], tower, items, partial(shows, "encoding for texts"), utc_now()
            )
        loop = _loop(settings, state, studio, project_id, interface)
        if state.last_round() is None:  # an adopted project may hold labels; what has one is not asked
            state.declare_existing(settings.labels.existing, utc_now())
            sync(loop.desk, state, utc_now())
        report = ask_first_batch(
            loop, partial(_see, settings, studio, project_id, interface, state.tasks(), items)
        )
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
            problems=tuple(f"{path}: {reason}" for path, reason in problems),
            nearness=compare_to_float(items, encoders[0], loop.features, settings.encoder.batch_size),
            report=report,
        )


def _see(
    settings: Settings,
    studio: Studio,
    project_id: int,
    interface: Interface,
    tasks: Mapping[str, int],
    items: Sequence[Item],
    asked: str,
) -> str:
    """Make sure that annotators see an image that they are to be asked; see `require_seen`."""
    data = studio.task_data(project_id, tasks[asked])
    if data is None:
        return ""  # deleted: the push leaves it out, and says so
    item = next(item for item in items if item.item == asked)
    return require_seen(settings, studio, project_id, item, str(data.get(interface.image_key, "")))


@contextmanager
def opened(settings: Settings, api_key: str) -> Iterator[Loop]:
    """Open a started project for turns; only one process at a time has it.

    Raises:
        BadInput: The project was not started.
        Unavailable: Another `loop` command has it open.
    """
    with State.started(settings.state_url) as state, _alone(settings.folder):
        project = state.fact("project") or {}  # a batch is asked last, so it is there
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


def _loop(settings: Settings, state: State, studio: Studio, project_id: int, interface: Interface) -> Loop:
    check_findings(settings, project_id, interface)
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
