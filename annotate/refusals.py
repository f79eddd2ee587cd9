"""Why Label Studio said no, and what to do about it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.errors import AnnotateError, StudioRefused, StudioUnavailable
from annotate.tokens import WHERE_KEYS_ARE, Token

LONGEST = 600  # characters of a server's reason

UNCERTIFIED = {  # what OpenSSL says of a certificate, and the remedy
    "hostname mismatch": "Use the name for which it was made as Label Studio's address, or have one made for this name.",
    "ip address mismatch": "Use the name for which it was made as Label Studio's address, or have one made for this one.",
    "has expired": "Have it renewed, and see that this machine's clock is right.",
    "not yet valid": "See that this machine's clock is right.",
    "": (
        "Set [label_studio] ca_file (or SSL_CERT_FILE) to the PEM file of the authority that signed it; whoever runs the "
        "server has it."
    ),
}


def explain(what: str, url: str, status: int, body: Any, token: Token) -> AnnotateError:
    """Turn a refusing answer into an error that names the reason and the remedy.

    Args:
        what: What we were doing, as "pulling from project 3".
        url: The server, for the message.
        status: HTTP status.
        body: The answer, JSON or text. Whoever asked takes keys out of what is said.
        token: What we showed to be let in.
    """
    reason = find_reason(body).rstrip(".")
    told = f"(HTTP {status}): {reason}." if reason else f"(HTTP {status}), without a reason."
    if status >= 500 or status in (408, 429):
        return StudioUnavailable(
            f"Label Studio at {url} failed while {what} {told} It may have stored "
            "something all the same; run the command again, it finds out by itself."
        )
    remedy = {
        401: _remedy_for_key(reason.lower(), token),
        403: "The key's owner is not allowed to do this; use the key of a member of the project.",
        404: "Check the address, the project's id, and that the key's owner may see the project.",
    }.get(status, "")
    if "LOCAL_FILES" in reason:
        remedy = (
            "The folder must lie strictly below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT of the Label Studio "
            "server, which must run with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true."
        )
    return StudioRefused(f"Label Studio refused {what} {told} {remedy}".strip())


def explain_connection(what: str, url: str, said: str) -> AnnotateError:
    """Turn a connection that did not come about into an error; a certificate that is not trusted is no outage.

    Args:
        what: What we were doing.
        url: The server.
        said: What the network's library said.
    """
    if "CERTIFICATE_VERIFY_FAILED" in said:
        fact = said.partition("certificate verify failed: ")[2].partition(" (_ssl")[0].rstrip(".") or said
        remedy = next(remedy for sign, remedy in UNCERTIFIED.items() if sign in fact.lower())
        return StudioRefused(
            f"The certificate of Label Studio at {url} is not trusted while {what}: {fact}. {remedy}"
        )
    if "[SSL" in said and url.startswith("https:"):
        return StudioRefused(
            f"What answers at {url} while {what} does not speak TLS as it should ({said}). If it has no certificate, its "
            "address begins with http://."
        )
    return StudioUnavailable(
        f"Label Studio at {url} cannot be reached while {what}: {said or 'it hung up'}. Is it running, and is the address "
        "right?"
    )


def find_reason(body: Any) -> str:
    """The server's reason in one line, whatever form it took."""
    return _said(body)[:LONGEST]


def _said(body: Any) -> str:
    if isinstance(body, Mapping):
        for key in ("validation_errors", "detail"):
            if body.get(key):
                return _said(body[key])
        return "; ".join(f"{key}: {_said(value)}" for key, value in body.items())
    if isinstance(body, list):
        return "; ".join(_said(value) for value in body)
    text = " ".join(str(body).split())
    return "an HTML page instead of an answer" if text.lower().startswith(("<!doctype", "<html")) else text


def _remedy_for_key(reason: str, token: Token) -> str:
    """What to do about a refused key; ``reason`` in lower case."""
    if "legacy" in reason:
        return (
            "This is a legacy token, and the organization has them switched off. "
            f"{WHERE_KEYS_ARE} (Or an owner switches legacy tokens on: Organization, Access Token Settings.)"
        )
    if "wrong type" in reason or token.kind == "access token":
        return (
            "This is an access token, which lives for five minutes. Give the personal access token itself, "
            "which Account & Settings shows once when it is made."
        )
    if token.kind == "personal access token":
        ended = (
            ""
            if token.expires_at is None
            else f" It says of itself that it ends on {token.expires_at:%F %R} UTC."
        )
        return (
            "This is a personal access token, and it has expired, was revoked, or was made by another Label Studio; or "
            f"personal access tokens are switched off.{ended} {WHERE_KEYS_ARE} Nothing is lost; run the command again then."
        )
    if token.kind == "legacy token":
        return (
            "This is a legacy token (40 hexadecimal digits) that no user of this Label Studio has: it was reset, or is "
            f"another server's. {WHERE_KEYS_ARE}"
        )
    return (
        "This is neither a personal access token (three parts with dots, beginning with eyJ) nor a legacy token (40 "
        f"hexadecimal digits); was it copied as a whole? {WHERE_KEYS_ARE}"
    )
