"""The images in our care: found, named by their content, split by patient into random stream and active part."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from loop.addresses import Address, is_address, join
from loop.errors import BadInput
from loop.fetch import Wanted, fetch_file, fetch_images, list_images, read_wanted
from loop.images import SUFFIXES, BadImage, Readable, is_dicom, read_patient_id
from loop.manifest import read_rows

Stream = Literal["random", "active", "spare"]


@dataclass(frozen=True, slots=True)
class Found:
    """An image file as it was found.

    Attributes:
        path: Where it lies.
        patient: Whose it is; None = not known.
        metadata: Further columns of the manifest.
        name: As the manifest says it, or the path relative to the folder.
        wanted: Of an image on a server, from where its copy comes; None = it was found on disk.
        n_bytes: Its size, where a listing told it; else 0.
    """

    path: Path
    patient: str | None
    metadata: Mapping[str, str]
    name: str = ""
    wanted: Wanted | None = None
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """An image in our care.

    Attributes:
        item: First 32 hexadecimal digits of the SHA-256 of the file's bytes.
        path: Where the file lies.
        patient: Whose it is; an image of its own where nothing is known.
        stream: ``random``, ``active``, or ``spare``: another image of a random-stream patient, never asked.
        position: Place in the random stream's fixed order; None elsewhere.
        metadata: Further columns of the manifest.
    """

    item: str
    path: Path
    patient: str
    stream: Stream
    position: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hashed:
    """Images named by content, with what had to be left out: path and reason."""

    items: tuple[Item, ...]
    problems: tuple[tuple[str, str], ...]


def find_images(
    source: Path | Address,
    patient: str = "",
    key: bytes | None = b"annotation-loop",
    copies: Path | None = None,
) -> list[Found]:
    """Find the images of a folder tree or of a CSV manifest, on disk or on a server. Images on servers are not fetched yet.

    Args:
        source: A folder, or a CSV with the column ``file`` (relative to the CSV, or an address), optionally ``patient``, and
            any metadata columns.
        patient: For a folder: a regular expression on the relative path whose one group is the patient. Where it
            says nothing, a DICOM file's PatientID does.
        key: Key of the hash that stands for a DICOM PatientID. The default is no secret, so whoever knows it can
            try every number: give each project its own, `ensure_patient_key`. None = PatientID is not read.
        copies: Folder for copies of images on servers; None = there may be none.

    Raises:
        BadInput: No such source, no image in it, or a manifest that cannot be used.
        Unavailable: A server does not answer.
    """
    if isinstance(source, Address):
        found = _on_server(source, patient, copies)
    elif source.is_dir():
        found = _walk(source, patient, key)
    elif source.is_file():
        found = _read_manifest(source, source, key, copies)
    else:
        raise BadInput(
            f"There is no {source}. Set [images] source to the images' folder or to a CSV manifest."
        )
    if not found:
        raise BadInput(f"{source} holds no image (PNG, JPEG or DICOM).")
    return found


def fetch_found(
    found: Sequence[Found], key: bytes | None, told: Callable[[int, int], None]
) -> tuple[list[Found], tuple[tuple[str, str], ...]]:
    """Fetch the images that lie on servers, once; see `fetch_images`.

    Returns:
        What is on disk now, with the patients that DICOM files name, and address and reason of what is not.
    """
    wanted = [image.wanted for image in found if image.wanted is not None]
    problems = fetch_images(wanted, told, sum(image.n_bytes for image in found))
    here = [image for image in found if image.wanted is None or image.path.is_file()]
    return [
        replace(image, patient=_dicom_patient(image.path, key))
        if image.wanted and image.patient is None
        else image
        for image in here
    ], tuple(problems)


def ensure_patient_key(path: Path) -> bytes:
    """Read a project's secret key, made at random the first time and readable by its owner only.

    It must outlive the project: with another key a known patient's new images would look like a new patient's.

    Raises:
        BadInput: The file is damaged.
    """
    if not path.is_file():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # of two at once the first counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = path.read_bytes()
    if not re.fullmatch(rb"[0-9a-f]{64}", key):
        raise BadInput(
            f"{path} is damaged. Restore it from a backup; with another key patients are not known again."
        )
    return key


def hash_images(found: Sequence[Found], told: Callable[[int, int], None] | None = None) -> Hashed:
    """Name images by their content. What cannot be read is listed; of equal files the first one stays.

    Args:
        found: The files.
        told: Called with (done, of how many).
    """
    items: dict[str, Item] = {}
    problems = []
    for done, image in enumerate(found, start=1):
        try:
            name = content_id(image.path)
        except OSError as error:
            problems.append((str(image.path), f"cannot be read: {error.strerror or error}"))
        else:
            if name in items:
                problems.append((str(image.path), f"same content as {items[name].path}; asked once"))
            else:
                patient = image.patient if image.patient is not None else f"image {name}"
                items[name] = Item(name, image.path, patient, "active", None, image.metadata)
        if told is not None:
            told(done, len(found))
    return Hashed(tuple(items.values()), tuple(problems))


def content_id(path: Readable) -> str:
    """The item id of a file: the first 32 hexadecimal digits of the SHA-256 of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]  # type: ignore[arg-type]


def draw_streams(items: Sequence[Item], rng: np.random.Generator, n_random_max: int) -> list[Item]:
    """Split images by patient into the random stream and the active part.

    The random stream holds one random image of each of at most half of the patients, in a fixed random order.
    These patients' other images are spare: asking them would show the probe a patient it is tested on.

    Args:
        items: The images, in any order.
        rng: Where the draw comes from.
        n_random_max: As many as the budget may need.

    Returns:
        The images with stream and position, sorted by id.
    """
    ordered = sorted(items, key=lambda item: item.item)
    of_patient: dict[str, list[Item]] = {}
    for item in ordered:
        of_patient.setdefault(item.patient, []).append(item)
    patients = sorted(of_patient)
    n_random = min(len(patients) // 2, n_random_max)
    chosen = [patients[i] for i in rng.permutation(len(patients))[:n_random]]
    placed: dict[str, tuple[Stream, int | None]] = {}
    for position, patient in enumerate(chosen):
        theirs = of_patient[patient]
        asked = int(rng.integers(len(theirs)))
        for i, item in enumerate(theirs):
            placed[item.item] = ("random", position) if i == asked else ("spare", None)
    active: tuple[Stream, int | None] = ("active", None)
    drawn = ((item, placed.get(item.item, active)) for item in ordered)
    return [replace(item, stream=stream, position=position) for item, (stream, position) in drawn]


def _walk(folder: Path, pattern: str, key: bytes | None) -> list[Found]:
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if path.suffix.lower() not in SUFFIXES and not is_dicom(path):  # archives name DICOM files by UID
            continue
        name = path.relative_to(folder).as_posix()
        found.append(Found(path, _patient(path, folder, pattern, key), {}, name))
    return found


def _patient(path: Path, folder: Path, pattern: str, key: bytes | None) -> str | None:
    match = re.search(pattern, path.relative_to(folder).as_posix()) if pattern else None
    return match[1] if match and match[1] else _dicom_patient(path, key)


def _dicom_patient(path: Path, key: bytes | None) -> str | None:
    """A keyed hash of PatientID; None where there is none."""
    if key is None or not is_dicom(path):
        return None
    try:
        name = read_patient_id(path)
    except BadImage:
        return None  # the encoder will say what is wrong with it
    return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:32] if name else None


def _on_server(source: Address, pattern: str, copies: Path | None) -> list[Found]:
    """A manifest on a server, or the folder of an object store."""
    if copies is None:
        raise BadInput(f"{source} is on a server; here images must be on disk.")
    if source.shown.lower().endswith(".csv"):
        fetch_file(source, copies / source.copy)
        return _read_manifest(copies / source.copy, source, None, copies)
    found = []
    for address, n_bytes in list_images(source).items():
        wanted = read_wanted(address, copies)
        name = address.removeprefix(f"{source.full.rstrip('/')}/")
        match = re.search(pattern, name) if pattern else None
        patient = match[1] if match and match[1] else None
        found.append(Found(wanted.path, patient, {"file": wanted.address.shown}, name, wanted, n_bytes))
    return found


def _read_manifest(file: Path, source: Path | Address, key: bytes | None, copies: Path | None) -> list[Found]:
    """The images that a manifest names; ``source`` is where it comes from."""
    found: list[Found] = []
    line_of: dict[Path, int] = {}
    for line, row in read_rows(file):
        named = row.pop("file").strip()
        try:
            image = _named(named, row, file, source, key, copies)
        except BadInput as error:
            raise BadInput(f"{source}, line {line}: {error}") from None
        if image.path in line_of:
            raise BadInput(
                f"{source}, line {line}: {image.name} stands in line {line_of[image.path]} too; keep one row an image."
            )
        line_of[image.path] = line
        found.append(image)
    return found


def _named(
    name: str, row: dict[str, str], file: Path, source: Path | Address, key: bytes | None, copies: Path | None
) -> Found:
    """The image of a row: on a server, or a file beside the manifest."""
    patient = row.pop("patient", "").strip() or None
    if name and (isinstance(source, Address) or is_address(name)):
        if copies is None:
            raise BadInput(f"{name.partition('?')[0]} is on a server; here images must be on disk.")
        wanted = read_wanted(join(source, name) if isinstance(source, Address) else name, copies)
        return Found(wanted.path, patient, row | {"file": wanted.address.shown}, wanted.address.shown, wanted)
    path = file.parent / name
    if not name or not path.is_file():
        raise BadInput(
            f"there is no file {path if name else '(empty)'}. Paths are absolute or relative to the manifest."
        )
    return Found(path, patient or _dicom_patient(path, key), row, name)
