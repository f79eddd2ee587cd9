"""The way to Label Studio: whom to trust, what an answer is, and what a network's failure means."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from label_studio_sdk.core.api_error import ApiError

from annotate.errors import AnnotateError, StudioRefused, StudioUnavailable
from annotate.refusals import explain_connection, find_reason


@dataclass(frozen=True, slots=True)
class Greeting:
    """What Label Studio tells anybody.

    Attributes:
        version: Its release.
        at: Its clock, in whole seconds, UTC; None if it does not tell.
    """

    version: str
    at: datetime | None


def greet(url: str, *, ca_file: Path | None = None, timeout_s: float = 10.0) -> Greeting:
    """Ask a Label Studio for version and time, without a key. ``GET /api/version``.

    Raises:
        StudioUnavailable: Nobody answers, or not in Label Studio's language.
        StudioRefused: Its certificate is not trusted, or it asks for more than that.
    """
    url, what = plain_address(url), "asking its version"
    try:
        with httpx.Client(timeout=timeout_s, follow_redirects=True, verify=trusted(ca_file)) as client:
            response = client.get(f"{url}/api/version")
            release = read_answer(response)["release"]
    except ApiError as error:
        raise StudioUnavailable(
            f"What answers at {url} while {what} is no Label Studio (HTTP {error.status_code}): "
            f"{find_reason(error.body)}. Is the address right, sub-path included?"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise translated(what, url, error, str(error)) from None
    date = response.headers.get("date")
    return Greeting(str(release), None if date is None else parsedate_to_datetime(date))


def plain_address(url: str) -> str:
    """An address without user, password and closing slash."""
    return str(httpx.URL(url).copy_with(userinfo=b"")).rstrip("/")


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The authorities whose certificates are trusted: the public ones or SSL_CERT_FILE's, and those of a file.

    Raises:
        StudioRefused: The file is not there, or holds no certificate.
    """
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        raise StudioRefused(
            f"SSL_CERT_FILE or SSL_CERT_DIR names no certificates ({error}). Correct it, or unset it and set "
            "[label_studio] ca_file."
        ) from None
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            raise StudioRefused(
                f"[label_studio] ca_file = {ca_file} holds no certificates ({error.strerror or error}). Give the PEM file "
                "of the authority that signed Label Studio's certificate."
            ) from None
    return context


def refuse_moved(response: httpx.Response) -> None:
    """A redirected POST would arrive as a GET: say where the server is instead."""
    if response.has_redirect_location and response.request.method not in ("GET", "HEAD"):
        here, there = response.request.url, response.request.url.join(response.headers["location"])
        raise StudioRefused(
            f"Label Studio is not at {here.scheme}://{here.netloc.decode()} itself: it sends us on to "
            f"{there.scheme}://{there.netloc.decode()}{there.path.partition('api/')[0].rstrip('/')}. Give that as its address."
        )


def translated(what: str, url: str, error: Exception, said: str) -> AnnotateError:
    """What the network's library or a strange answer means; ``said`` is the error's text without keys."""
    if isinstance(error, httpx.TimeoutException):
        return StudioUnavailable(
            f"Label Studio at {url} did not answer in time while {what}. It may still be "
            "working on it; run the command again, it finds out by itself."
        )
    if isinstance(error, httpx.TooManyRedirects):
        return StudioRefused(
            f"What answers at {url} while {what} sends us in circles. Give the address as a browser shows it when you "
            "are logged in."
        )
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return explain_connection(what, url, said.strip().rstrip("."))
    return StudioUnavailable(  # no JSON, or not even text
        f"What answers at {url} while {what} does not speak Label Studio's language. Is the "
        "address right, sub-path included, and is no login page in between?"
    )


def read_answer(response: httpx.Response) -> Any:
    """The JSON of a good answer; what the SDK raises for a bad one."""
    refuse_bad(response)
    return response.json() if response.content else None


def refuse_bad(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = response.json()
    except ValueError:
        body = response.text
    raise ApiError(status_code=response.status_code, body=body)
