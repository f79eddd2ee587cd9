"""Images in S3 and other object stores, through fsspec: listed and read, never written."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from loop.addresses import HTTP, Address, ask_for_key
from loop.errors import BadInput, Unavailable
from loop.suffixes import SUFFIXES

MOST_BYTES = 2**30  # of one image; beyond it is something else


class Missing(OSError):
    """What an address names is not there, or is no image; the others can be."""


def list_images(folder: Address) -> dict[str, int]:
    """List the images below a folder of an object store: full address to size in bytes.

    Objects whose names could be a DICOM UID are listed too; fetching tells whether they are images.

    Raises:
        BadInput: A web server, which has no listing; no such store, bucket or folder; a refused key.
        Unavailable: The store does not answer.
    """
    if folder.scheme in HTTP:
        raise BadInput(
            f"{folder} is on a web server, and those have no listing of their files that can be relied on. Give [images] "
            "source a CSV manifest with the addresses in the column `file`."
        )
    store, path = _store(folder)
    try:
        with _Translating(folder):
            found: Mapping[str, Mapping[str, Any]] = store.find(path, detail=True)
    except Missing:
        found = {}
    listed = {
        f"{folder.scheme}://{name.lstrip('/')}": int(about.get("size") or 0)
        for name, about in sorted(found.items())
        if about.get("type") != "directory" and _may_be_image(name.removeprefix(path))
    }
    if not listed:
        raise BadInput(
            f"{folder} holds no image (PNG, JPEG or DICOM). Is it spelt right, and may the key list it?"
        )
    return listed


def save_object(address: Address, draft: Path) -> None:
    """Write an object to a file.

    Raises:
        Missing: It is not there, or too large.
        BadInput: The key was refused.
        Unavailable: No answer.
    """
    store, path = _store(address)
    with _Translating(address):
        check_size(int(store.size(path) or 0))
        store.get_file(path, str(draft))


def refused(address: Address, fact: str, *, signed: bool = False) -> BadInput:
    """The error of a key that was refused; ``signed``: the address holds a signature."""
    if signed:
        remedy = "its signature has expired, or is not for it: write the manifest anew with fresh ones"
    else:
        remedy = ask_for_key(address.scheme)
    return BadInput(
        f"{address} may not be read ({fact}). What was fetched stays; {remedy.rstrip('.')}. (Some stores say so of what is not "
        "there, too.)"
    )


def check_size(n: int) -> None:
    """Refuse what is too large for an image.

    Raises:
        Missing: It is.
    """
    if n > MOST_BYTES:
        raise Missing(f"has {n:,} bytes or more, which no X-ray has")


class _Translating:
    """Errors of an object store in our own words: those of fsspec, and of the library behind a store, whichever it is."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, Missing):
            return
        s3: Any = sys.modules.get("botocore.exceptions")
        if isinstance(error, FileNotFoundError):
            raise Missing("is not there") from None
        if isinstance(error, PermissionError):
            raise refused(self._address, "the store refuses it") from None
        if s3 and isinstance(error, (s3.NoCredentialsError, s3.PartialCredentialsError, s3.ProfileNotFound)):
            raise refused(self._address, "no key is given") from None
        if isinstance(error, OSError) or _is_foreign(error):
            elsewhere = (
                " For a store that is not Amazon's export AWS_ENDPOINT_URL_S3=..."
                if self._address.scheme == "s3" and not os.environ.get("AWS_ENDPOINT_URL_S3")
                else ""
            )
            raise Unavailable(
                f"{self._address} could not be fetched ({type(error).__name__}). What was fetched stays: run it again.{elsewhere}"
            ) from None


def _is_foreign(error: BaseException) -> bool:
    """Whether a library made an error class of its own for it; what Python itself raises would be a mistake of ours."""
    return isinstance(error, Exception) and type(error).__module__.partition(".")[0] not in (
        "builtins",
        "annotate",
        "loop",
    )


def _store(address: Address) -> tuple[Any, str]:
    """The file system that keeps an address, and its path there."""
    import fsspec

    if "::" in address.full or address.scheme in ("local", "filecache", "simplecache", "blockcache"):
        raise BadInput(f"{address.scheme}:// is no store of images; write http, https, s3 or another store")
    try:
        with _Translating(address):
            return fsspec.core.url_to_fs(address.full)  # type: ignore[no-any-return]
    except ImportError:
        extra = (
            "pip install 'annotation-loop[s3]'" if address.scheme == "s3" else "see fsspec's documentation"
        )
        raise BadInput(f"{address.scheme}:// needs a library that is not installed: {extra}.") from None
    except ValueError:
        raise BadInput(f"{address.scheme}:// is no store that is known; write http, https or s3.") from None


def _may_be_image(name: str) -> bool:
    """By the end of its name; archives name DICOM files by UID."""
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    return path.suffix.lower() in SUFFIXES or path.suffix[1:].isdigit() or not path.suffix
