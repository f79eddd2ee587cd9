"""The images in our care: named by their content, split by patient into random stream and active part."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from loop.errors import BadInput
from loop.find import Found
from loop.images import Readable

Stream = Literal["random", "active", "spare"]


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
