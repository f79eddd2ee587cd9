"""Find the images of a project: in a folder, by a manifest, on servers; and whose they are."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from loop.addresses import Address, is_address, join
from loop.errors import BadInput
from loop.fetch import Wanted, fetch_file, fetch_images, read_wanted
from loop.images import BadImage, is_dicom, read_patient_id
from loop.manifest import read_rows
from loop.object_store import list_images
from loop.suffixes import SUFFIXES


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
    found: Sequence[Found],
    key: bytes | None,
    told: Callable[[int, int], None],
    source: Address | None = None,
) -> tuple[list[Found], tuple[tuple[str, str], ...]]:
    """Fetch the images that lie on servers, once; see `fetch_images`.

    Returns:
        What is on disk now, with the patients that DICOM files name, and address and reason of what is not.
    """
    wanted = [image.wanted for image in found if image.wanted is not None]
    problems = fetch_images(wanted, told, sum(image.n_bytes for image in found), source)
    here = [image for image in found if image.wanted is None or image.path.is_file()]
    return [
        replace(image, patient=_dicom_patient(image.path, key))
        if image.wanted and image.patient is None
        else image
        for image in here
    ], tuple(problems)


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
        with TemporaryDirectory() as folder:  # it may hold signatures: not kept
            fetch_file(source, file := Path(folder) / "manifest.csv")
            return _read_manifest(file, source, None, copies)
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
