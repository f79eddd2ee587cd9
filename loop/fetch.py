"""Images on servers are fetched once, many at a time; from web servers here, from object stores by `object_store`."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from loop.addresses import HTTP, Address, read_address
from loop.commits import whole
from loop.errors import BadInput, LoopError, Unavailable
from loop.images import says_dicom
from loop.object_store import Missing, check_size, refused, save_object

KEY = "LOOP_IMAGES_AUTHORIZATION"
TIMEOUT_S = 60.0  # without a byte
PAUSES_S = (1.0, 5.0)  # before a request is tried again
N_AT_ONCE = 8
BUSY = (408, 425, 429, 500, 502, 503, 504)
CHUNK = 1 << 20
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image to be fetched.

    Attributes:
        address: From where.
        path: Where its copy shall lie.
    """

    address: Address
    path: Path


def read_wanted(text: str, copies: Path) -> Wanted:
    """What a row of a manifest or a listing names; see `read_address`."""
    address = read_address(text)
    return Wanted(address, copies / address.copy)


def fetch_file(address: Address, out: Path) -> None:
    """Fetch one file, a manifest say, anew.

    Raises:
        BadInput: It is not there, or the key is refused.
        Unavailable: The server does not answer.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _Reader([address]) as reader, whole(out) as draft:
        try:
            reader.save(address, draft)
        except Missing as error:
            raise BadInput(f"{address}: {error}.") from None


def fetch_images(
    wanted: Sequence[Wanted],
    told: Callable[[int, int], None] | None = None,
    n_bytes: int = 0,
    source: Address | None = None,
) -> list[tuple[str, str]]:
    """Fetch what is not here yet; each copy appears whole or not at all, so a killed fetch goes on where it was.

    Args:
        wanted: The images.
        told: Called with (images here, of how many).
        n_bytes: Size of all of them, if it is known: without room for them nothing is fetched.
        source: Where their manifest lies, if that is on a server too: a key is for one server.

    Returns:
        Address and reason of what is not there, or is no image.

    Raises:
        BadInput: A key was refused, or there is no room. What was fetched stays.
        Unavailable: A server does not answer. What was fetched stays.
    """
    todo = [each for each in wanted if not each.path.is_file()]
    if not todo:
        return []
    _check_room(todo, n_bytes)
    problems, done, stop = [], len(wanted) - len(todo), threading.Event()

    def fetch(each: Wanted) -> str | None:
        try:
            return None if stop.is_set() else _fetch(reader, each)
        except LoopError:  # refused or away: what waits is not begun
            stop.set()
            raise

    everywhere = [*([] if source is None else [source]), *(each.address for each in wanted)]
    with _Reader(everywhere) as reader, ThreadPoolExecutor(N_AT_ONCE, "fetch") as pool:
        try:
            for each, problem in zip(todo, pool.map(fetch, todo), strict=True):
                if problem is not None:
                    problems.append((str(each.address), problem))
                done += 1
                if told is not None:
                    told(done, len(wanted))
        finally:
            stop.set()
    return problems


def _fetch(reader: _Reader, each: Wanted) -> str | None:
    """Why there is no copy; None if there is one now."""
    try:
        each.path.parent.mkdir(parents=True, exist_ok=True)
        with whole(each.path) as draft:
            reader.save(each.address, draft)
            with draft.open("rb") as file:
                if not says_dicom(file) and not file.read(8).startswith(STARTS):
                    raise Missing(
                        "what the server gave is no PNG, JPEG or DICOM (a page that asks to log in?)"
                    )
    except Missing as error:
        return str(error)
    except OSError as error:
        raise Unavailable(
            f"{each.path} cannot be written ({error.strerror or error}). Make room, or give this user the right, and run it again."
        ) from None
    return None


class _Reader:
    """Reads objects from whatever keeps them; threads may share it."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        hosts = sorted({each.host for each in addresses if each.scheme in HTTP})
        key = os.environ.get(KEY, "").strip()
        if not key.isascii() or not key.isprintable():
            raise BadInput(f"{KEY} holds characters that no key has. Copy it again.")
        if key and len(hosts) > 1:
            raise BadInput(
                f"{KEY} is set, and the images lie on {len(hosts)} servers ({', '.join(hosts[:3])}): each would be shown the "
                "key. Give each server a configuration of its own, or addresses that are signed."
            )
        self._http = httpx.Client(
            timeout=httpx.Timeout(TIMEOUT_S, connect=10.0),
            follow_redirects=True,
            headers={"Authorization": key} if key else {},
            limits=httpx.Limits(max_connections=N_AT_ONCE),
        )

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def save(self, address: Address, draft: Path) -> None:
        """Write an object to a file.

        Raises:
            Missing: It is not there, or too large.
            BadInput: The key was refused.
            Unavailable: No answer.
        """
        if address.scheme not in HTTP:
            save_object(address, draft)
            return
        for pause_s in (*PAUSES_S, None):
            try:
                self._stream(address, draft)
                return
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects):
                raise Missing("is no address that can be fetched") from None
            except httpx.DecodingError:
                raise Missing("came packed in a way that cannot be read") from None
            except (httpx.TransportError, _Busy) as error:
                if pause_s is None:
                    why = str(error) if isinstance(error, _Busy) else type(error).__name__
                    raise Unavailable(
                        f"{address} could not be fetched ({why}). What was fetched stays: run it again."
                    ) from None
                time.sleep(pause_s)

    def _stream(self, address: Address, draft: Path) -> None:
        with self._http.stream("GET", address.full) as answer:
            if answer.status_code in BUSY:
                raise _Busy(f"HTTP {answer.status_code}")
            if answer.status_code in (401, 403, 407):
                signed = answer.status_code == 403 and not address.whole
                raise refused(address, f"HTTP {answer.status_code}", signed=signed)
            if answer.status_code != 200:
                raise Missing(f"is not there (HTTP {answer.status_code})")
            check_size(int(answer.headers.get("content-length") or 0))
            n = 0
            with draft.open("wb") as file:
                for chunk in answer.iter_bytes(CHUNK):
                    n += len(chunk)
                    check_size(n)
                    file.write(chunk)


class _Busy(Exception):
    """The server asks to come back."""


def _check_room(todo: Sequence[Wanted], n_bytes: int) -> None:
    folder = todo[0].path.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise BadInput(
            f"The images to fetch have {n_bytes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free in {folder}. Make room, or set "
            "[project] folder to another disk: a copy of each image is kept there."
        )
