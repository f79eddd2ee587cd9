"""Addresses of images on servers: what may be shown and stored of them, and where a copy lies. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit

from loop.errors import BadInput
from loop.suffixes import SUFFIXES

HTTP = ("http", "https")
SIGNS = re.compile(  # parts of a query that say who may read for how long, and not what is read
    r"x-(amz|goog|ms|oss|cos)-.*|.*(signature|token|credential).*|sig|policy|key-pair-id|expires?"
    r"|(google|aws|oss)access(key)?id",
    re.IGNORECASE,
)
SIGNS_ON_AZURE = re.compile(r"s[eprtv]|sk\w+|spr|sip|sdd")  # beside `sig`; elsewhere they might name an image


@dataclass(frozen=True, slots=True)
class Address:
    """An image on a server.

    Attributes:
        full: What it is fetched from, signature included; shown and stored nowhere.
        shown: The same without its query: what messages, state and tasks may hold.
        copy: Where its copy lies, below the folder of copies: server and path, as they are where files can be named so.
        whole: Whether ``shown`` alone leads to it.
    """

    full: str = field(repr=False)
    shown: str
    copy: PurePosixPath
    whole: bool

    def __str__(self) -> str:
        return self.shown

    @property
    def scheme(self) -> str:
        """http, https, s3 and so on."""
        return self.full.partition("://")[0].lower()

    @property
    def host(self) -> str:
        """The server, or the bucket."""
        return self.copy.parts[1]


def is_address(text: str) -> bool:
    """Whether a text names something on a server, not a path: ``C:\\x`` is a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text.strip()) is not None


def read_address(text: str) -> Address:
    """Read an address.

    Of HTTP addresses the query is kept secret; its parts that are no signature tell images of one path apart, so an address
    that is signed anew is the same image.

    Raises:
        BadInput: It holds a password, or names no object. The message does not repeat what is secret.
    """
    scheme, _, rest = text.strip().partition("://")
    scheme = scheme.lower()
    server = rest.partition("/")[0].partition("?")[0] if scheme in HTTP else rest.partition("/")[0]
    if "@" in server and (scheme in HTTP or ":" in server.rpartition("@")[0]):
        raise BadInput(
            f"an address at {server.rpartition('@')[2]} holds a name or password, which does not belong into a file that is "
            f"copied and shared. Take it out; {ask_for_key(scheme)}"
        )
    if scheme == "file" or not server:
        raise BadInput(f"{scheme}://{server} is no server's address; write a file's path as it is")
    if scheme not in HTTP:
        path = rest.partition("/")[2]
        return Address(text.strip(), f"{scheme}://{rest}", _copy(scheme, server, path, ""), True)
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"an address at {server} cannot be read ({error})") from None
    told = parse_qsl(parts.query, keep_blank_values=True)
    names = sorted(pair for pair in told if not SIGNS.fullmatch(pair[0]))
    if any(key == "sig" for key, _ in told):
        names = [pair for pair in names if not SIGNS_ON_AZURE.fullmatch(pair[0])]
    named = urlencode(names, errors="surrogatepass")
    return Address(
        text.strip().partition("#")[0],
        f"{scheme}://{parts.netloc}{parts.path}",
        _copy(scheme, parts.netloc, unquote(parts.path).removeprefix("/"), named),
        not parts.query,
    )


def identity(text: str) -> str:
    """What two addresses of one image have in common, signed or not; empty if it is no address of an image."""
    try:
        return read_address(text).copy.as_posix() if is_address(text) else ""
    except BadInput:
        return ""


def join(base: Address, name: str) -> str:
    """What a manifest's row names: an address, or a path beside the manifest on its server."""
    if is_address(name):
        return name
    if name.replace("\\", "/").startswith("//"):
        raise BadInput(f"{name} names a server but not how it is asked; write https:// before it")
    if base.scheme in HTTP:
        return urljoin(base.shown, name.replace("\\", "/"))
    return f"{base.shown.rpartition('/')[0]}/{name}"


def ask_for_key(scheme: str) -> str:
    """Where a key is given: in the environment alone."""
    if scheme in HTTP:
        return "export LOOP_IMAGES_AUTHORIZATION='Bearer ...' (or 'Basic ...') where you run the command."
    if scheme == "s3":
        return (
            "export AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=... (or AWS_PROFILE=...) where you run the command, and "
            "AWS_ENDPOINT_URL_S3=... for a store that is not Amazon's."
        )
    return f"give it where you run the command, as fsspec's {scheme} reads it."


def _copy(scheme: str, server: str, path: str, named: str) -> PurePosixPath:
    """Server and path; a digest where a part cannot be a file's name, and beside the name where a query tells images apart.

    In a store ``a`` may be an object although ``a/b`` is one: here files end like images or in a digest, and folders do not.
    """
    parts = path.split("/")
    folder = PurePosixPath(scheme, server.lower().replace(":", "_"))
    last = PurePosixPath(parts[-1] or "x")
    if not all(map(_can_be_a_name, parts)) or any(part.lower().endswith(SUFFIXES) for part in parts[:-1]):
        suffix = last.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", last.suffix) else ""
        return folder / f"{_digest(f'{path}?{named}')}{suffix}"
    if named:
        last = PurePosixPath(f"{last.stem}-{_digest(named)}{last.suffix}")
    elif not last.name.lower().endswith(SUFFIXES):
        last = PurePosixPath(f"{last.name}-{_digest(path)}")
    return folder.joinpath(*parts[:-1], last)


def _can_be_a_name(part: str) -> bool:
    return (
        bool(part)
        and not part.startswith(".")
        and part.isprintable()
        and "\\" not in part
        and len(part.encode(errors="surrogatepass")) <= 180
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
