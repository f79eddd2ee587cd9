"""Images by name, from a folder, a manifest or a zip file that is read where it lies: nothing is unpacked."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from loop.errors import BadInput
from loop.find import find_images
from loop.images import Readable, says_dicom
from loop.items import content_id
from loop.suffixes import SUFFIXES

MOST_BYTES = 2**30  # of one file in a zip; beyond it the zip is an attack
UNREADABLE = (EOFError, NotImplementedError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that is encoded for a table.

    Attributes:
        name: As the manifest says it, or its path in the folder or zip file.
        path: Where it lies.
        item: The hash of its content; empty as long as nobody computed it.
    """

    name: str
    path: Readable
    item: str = ""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a zip file."""

    archive: Path
    member: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open for reading; it is unpacked into memory.

        Raises:
            OSError: It is damaged, encrypted or far too large.
        """
        try:
            held = _opened(self.archive)
            size = held.getinfo(self.member).file_size
            if size > MOST_BYTES:
                raise OSError(f"unpacked it would be {size:,} bytes, which no X-ray is")
            return io.BytesIO(held.read(self.member))
        except (KeyError, *UNREADABLE) as error:
            raise OSError(f"cannot be unpacked: {error}") from None


def find_pictures(source: Path, *, flat: bool = False) -> list[Picture]:
    """Find the images of a folder tree, of a CSV manifest (column ``file``) or of a zip file.

    A zip file of one folder counts as that folder. No tag of a DICOM file is read here.

    Args:
        source: The folder, manifest or zip file.
        flat: Name an image by its file's name alone, without folders.

    Raises:
        BadInput: No such source, no image in it, a manifest that cannot be used, or two images of one name.
    """
    if source.is_file() and zipfile.is_zipfile(source):
        found = _in_zip(source)
    elif source.suffix.lower() == ".zip" and source.is_file():
        raise BadInput(f"{source} is no zip file, or a truncated one. Fetch it again.")
    else:
        found = [Picture(image.name, image.path) for image in find_images(source, key=None)]
    if flat:
        found = [Picture(PurePosixPath(picture.name).name, picture.path) for picture in found]
    first: dict[str, Picture] = {}
    for picture in found:
        if (other := first.setdefault(picture.name, picture)) is not picture:
            raise BadInput(
                f"{other.path} and {picture.path} would both be named {picture.name!r}. "
                f"{'Leave --flat out, so that names keep their folders.' if flat else 'Rename one of them.'}"
            )
    return found


def hash_pictures(
    found: Sequence[Picture], told: Callable[[int, int], None]
) -> tuple[list[Picture], list[tuple[str, str]]]:
    """Give pictures their item id; equal files have equal ones.

    Args:
        found: The pictures.
        told: Called with (done, of how many).

    Returns:
        The pictures that can be read, and path and reason of the others.
    """
    hashed, problems = [], []
    for done, picture in enumerate(found, start=1):
        try:
            hashed.append(Picture(picture.name, picture.path, content_id(picture.path)))
        except OSError as error:
            problems.append((str(picture.path), f"cannot be read: {error.strerror or error}"))
        told(done, len(found))
    return hashed, problems


@lru_cache(maxsize=4)
def _opened(archive: Path) -> zipfile.ZipFile:
    """A zip file with its directory read once; threads may read from it."""
    return zipfile.ZipFile(archive)


def _in_zip(source: Path) -> list[Picture]:
    try:
        held = _opened(source)
        names = sorted(_image_names(held))
    except UNREADABLE as error:
        raise BadInput(f"{source} cannot be read as a zip file: {error}") from None
    if not names:
        raise BadInput(f"{source} holds no image (PNG, JPEG or DICOM).")
    tops = {name[: name.find("/") + 1] for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    return [Picture(name.removeprefix(top), ZipMember(source, name)) for name in names]


def _image_names(held: zipfile.ZipFile) -> Iterator[str]:
    """Members that are images by their name's end, or by their first bytes: archives name DICOM files by UID."""
    for info in held.infolist():
        path = PurePosixPath(info.filename)
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in path.parts):
            continue
        if path.suffix.lower() in SUFFIXES or _says_dicom(held, info):
            yield info.filename


def _says_dicom(held: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    try:
        with held.open(info) as file:
            return says_dicom(file)
    except (OSError, *UNREADABLE):
        return False
