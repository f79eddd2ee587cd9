"""What `loop doctor` looks at on this machine: state, disk, encoder, embeddings, images. Nothing is changed."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from loop.checks import Check, Known, Verdict
from loop.checks_source import check_enough, check_source
from loop.encoders import EXAMPLES
from loop.encoders.catalogue import list_encoders
from loop.encoders.presence import weights_are_here, weights_file
from loop.encoders.reducing import named
from loop.errors import LoopError
from loop.find import Found, find_images
from loop.images import BadImage, is_dicom, open_image
from loop.items import content_id
from loop.serving import check_delivery as check_delivery_of
from loop.serving import is_copy, served_folders, url_of
from loop.settings import Settings
from loop.stores import list_stores

N_SAMPLE = 12  # images that are opened
ROW_BYTES = 3_000  # of the state, an image: itself, its task, an annotation as it came
ROOM = 1 << 30  # what a disk should have left besides
UNKNOWN_DIM = 2_048


def look_here(settings: Settings, known: Known | None) -> Iterator[Check]:
    """Look at everything on this machine."""
    yield check_state(settings, known)
    yield check_lock(settings.folder)
    yield check_images(settings, known)
    if known is not None:
        yield check_source(settings, known)
    yield check_enough(settings, known)
    yield check_delivery(settings, known)
    yield check_encoder(settings, known)
    yield check_pickle(settings)
    yield check_embeddings(settings, known)
    yield check_disk(settings, known)


def check_state(settings: Settings, known: Known | None) -> Check:
    """Is there a state, and of this release?"""
    if known is None:
        return Check("state", "ok", "not started: `loop start` makes it")
    if known.behind:
        return Check(
            "state",
            "warning",
            f"an older release wrote it ({', '.join(known.behind)} will be done)",
            "Keep a copy of it; the next command brings it up to date, and the older release cannot read it then.",
        )
    if not known.started:
        return Check(
            "state",
            "warning",
            "not started: the last `loop start` was refused or interrupted before a batch was asked",
            "Run `loop start` again: it says what is missing, and what it did is kept.",
        )
    if known.unfinished:
        return Check(
            "state",
            "warning",
            "a push or a rollback was begun and not confirmed",
            "Run `loop step`: it ends it.",
        )
    return Check("state", "ok", f"{len(known.images):,} images, {len(known.tasks):,} tasks, of this release")


def check_lock(folder: Path) -> Check:
    """Is another command at work? The lock is taken for a moment, if there is one."""
    if not (folder / "loop.lock").is_file():
        return Check("lock", "ok", "no `loop` command is at work")
    try:
        with FileLock(folder / "loop.lock", timeout=0):
            return Check("lock", "ok", "no `loop` command is at work")
    except Timeout:
        return Check(
            "lock",
            "warning",
            f"another `loop` command is at work in {folder}",
            "If it is a `loop watch`, all is well: it steps by itself. Else wait for it, or end it.",
        )
    except OSError as error:
        return Check(
            "lock",
            "error",
            f"{folder / 'loop.lock'} cannot be opened ({error.strerror})",
            "Run as the user who owns the project's folder.",
        )


def check_images(settings: Settings, known: Known | None) -> Check:
    """Are the images still there, and the same? A sample is opened."""
    try:
        n, paths = _sample_of(settings, known)
    except LoopError as error:
        return Check("images", "error", str(error), "See [images] in the configuration.")
    away = [path for path in paths if is_copy(settings, path) and not path.is_file()]
    if len(away) == len(paths):
        return Check(
            "images",
            "not checked" if known is None else "ok",
            f"{n:,} images on servers, without a copy here; `loop start` fetches them",
        )
    bad = [reason for path, item in paths.items() if path not in away and (reason := _wrong(path, item))]
    if not bad:
        return Check("images", "ok", f"{n:,} images; {len(paths) - len(away)} of them opened")
    state: Verdict = "error" if known is not None or len(bad) == len(paths) else "warning"
    return Check(
        "images",
        state,
        f"{len(bad)} of {len(paths)} images tried cannot be used, e.g. {bad[0]}",
        "Put them back (is the disk mounted?); an image is known by its content, a moved one is found by `loop start`.",
    )


def check_delivery(settings: Settings, known: Known | None) -> Check:
    """Can the images be given to annotators from where they lie? `loop start` would know only after encoding them."""
    delivery = settings.label_studio.delivery
    try:
        if known is None:
            check_delivery_of(settings, _find(settings))
        paths = [path.resolve() for path in _sample_of(settings, known)[1] if not is_copy(settings, path)]
        if delivery == "local-files":
            served_folders([path for path in paths if not is_dicom(path)], settings)
        elif delivery == "url":
            for path in paths:
                url_of(settings, path)
    except LoopError as error:
        return Check("delivery", "error", str(error))
    how = {
        "local-files": f"Label Studio reads the images from its disk, below {settings.document_root}",
        "upload": "the images are uploaded to Label Studio",
        "url": f"annotators' browsers fetch the images from {settings.label_studio.url_prefix or 'where they lie'}",
    }
    return Check("delivery", "ok", how[delivery])


def check_encoder(settings: Settings, known: Known | None) -> Check:
    """Are the encoder's weights here?"""
    spec = settings.encoder.spec
    family, _, name = spec.partition(":")
    if family not in EXAMPLES or not name:
        return Check("encoder", "error", f"{spec!r} names no encoder", "See `loop encoders list`.")
    asked = named(spec, settings.images.side)
    made = known.encoder if known else None
    if made and made["spec"] != asked:
        weights = {
            True: "are here",
            False: "are not on this machine",
            None: "are looked for when they are loaded",
        }
        return Check(
            "encoder",
            "error",
            f"the images were encoded with {made['spec']}, the settings ask for {asked}, whose weights "
            + weights[weights_are_here(spec)],
            "Run `loop start` to encode with the new one, or put the old one back.",
        )
    here = weights_are_here(spec)
    if here:
        return Check("encoder", "ok", f"the weights of {spec} are here")
    if here is None:
        return Check(
            "encoder",
            "not checked",
            f"whether the weights of {spec} are here is known when they are loaded",
            "Where there is no network, name a checkpoint file on this machine.",
        )
    file = weights_file(spec)
    fact = f"{file} is not there" if file else f"the weights of {spec} are not on this machine"
    fix = (
        "Put the file there."
        if file
        else "Fetch them where there is a network; README, Encoders, says what goes where."
    )
    if made:
        return Check("encoder", "warning", f"{fact}; only new images need them", fix)
    return Check("encoder", "error" if file else "warning", f"{fact}; `loop start` needs them", fix)


def check_pickle(settings: Settings) -> Check:
    """May a pickle run code?"""
    allowed, file = settings.encoder.allow_pickle, weights_file(settings.encoder.spec)
    if not allowed:
        return Check("pickle", "ok", "no file may run code: pickled checkpoints are refused")
    if file is not None and file.name != allowed:
        return Check(
            "pickle",
            "warning",
            f'[encoder] allow_pickle = "{allowed}" is not the checkpoint that is read ({file.name})',
            "Remove it, or name that file.",
        )
    return Check(
        "pickle",
        "warning",
        f"{allowed} is loaded although it may be a pickle, which can run any code",
        "Save its state_dict() as safetensors once, name that file in [encoder] spec, and remove allow_pickle.",
    )


def check_embeddings(settings: Settings, known: Known | None) -> Check:
    """Has every image an embedding, and is the last batch of them sound?"""
    if known is None or known.encoder is None:
        return Check("embeddings", "ok", "not started: `loop start` makes them")
    fingerprint = known.encoder["fingerprint"]
    try:
        found = list_stores(
            settings.features_folder, check=False, items=[i.item for i in known.images], in_force=fingerprint
        )
    except LoopError as error:
        return Check("embeddings", "error", str(error), "Run `loop start`: it encodes what is missing.")
    ours = next((store for store in found.stores if store.in_force), None)
    if ours is None:
        return Check(
            "embeddings",
            "error",
            f"{settings.features_folder} has none of the encoder in force",
            "Put the folder back, or run `loop start`: it encodes all images again.",
        )
    if ours.problems:
        return Check(
            "embeddings", "error", ours.problems[0], "Run `loop features verify`, then `loop start`."
        )
    if ours.missing:
        return Check(
            "embeddings",
            "warning",
            f"{ours.missing:,} of {len(known.images):,} images have none, and are not asked",
            "Run `loop start`: it encodes what is missing.",
        )
    return Check("embeddings", "ok", f"all {len(known.images):,} images have one ({ours.dim} numbers)")


def check_disk(settings: Settings, known: Known | None) -> Check:
    """Is there room for what will be written, and may we write?"""
    folder = settings.folder
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Check(
            "disk",
            "error",
            f"{folder} may not be written",
            "Set [project] folder, or give this user the right.",
        )
    free, needed = shutil.disk_usage(folder).free, _bytes_needed(settings, known)
    fact = f"{_size(free)} free in {folder}; about {_size(needed)} will be written"
    if free < needed:
        return Check("disk", "error", fact, "Make room, or set [project] folder to another disk.")
    if free < needed + ROOM:
        return Check("disk", "warning", fact, "Make room: the state must never run out of it.")
    return Check("disk", "ok", fact)


def _bytes_needed(settings: Settings, known: Known | None) -> int:
    """What is still to be written, roughly: state, embeddings, small copies, pictures of DICOM files."""
    if known is not None and known.encoder is not None:
        return ROW_BYTES * len(known.images)
    try:
        found = _find(settings)
    except LoopError:
        return 0
    spec = settings.encoder.spec.removeprefix("int8:").partition("#")[0]
    dim = next(
        (e.dim for e in list_encoders() if e.dim and spec in (e.spec, e.spec.partition("#")[0])), UNKNOWN_DIM
    )
    a_picture = sum(path.stat().st_size for path in _paths(_sample(found)) if is_dicom(path)) / max(
        1, len(_sample(found))
    )
    each = ROW_BYTES + 2 * dim + settings.images.side**2 + a_picture / 2  # 8 bits of 16
    return int(len(found) * each) + sum(image.n_bytes for image in found)


def _sample_of(settings: Settings, known: Known | None) -> tuple[int, dict[Path, str]]:
    """Number of images, and some of them: path to hash, which is empty where no image is in our care yet."""
    if known is not None and known.images:
        return len(known.images), {item.path: item.item for item in _sample(known.images)}
    found = _find(settings)
    return len(found), {each.path: "" for each in _sample(found)}


def _find(settings: Settings) -> list[Found]:
    return find_images(settings.images_source, settings.images.patient, None, settings.copies_folder)


def _paths(found: Sequence[Any]) -> list[Path]:
    return [each.path for each in found]


def _sample(all_: Sequence[Any]) -> Sequence[Any]:
    """Some, evenly spaced."""
    return all_[:: max(1, -(-len(all_) // N_SAMPLE))]


def _wrong(path: Path, item: str) -> str | None:
    """Why an image cannot be used; None if it can. ``item`` is its hash; empty if it has none yet."""
    try:
        if item and content_id(path) != item:
            return f"{path} has other content than when it was taken in"
        open_image(path)
    except BadImage as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return None


def _size(n_bytes: float) -> str:
    power = min(4, int(math.log10(max(1.0, n_bytes))) // 3)
    shown = n_bytes / 1000**power
    return f"{shown:.{1 if shown < 10 and power else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
