"""Why Label Studio said no, and what to do about it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotate.errors import AnnotateError, StudioRefused, StudioUnavailable

WHERE_KEYS_ARE = (
    "Create a personal access token in Label Studio, Account & Settings, and set LABEL_STUDIO_API_KEY to it."
)


def explain(url: str, what: str, status: int, body: Any, secret: str) -> AnnotateError:
    """Turn a refusing answer into an error that names the reason and the remedy.

    Args:
        url: The server, for the message.
        what: What we were doing, as "pulling from project 3".
        status: HTTP status.
        body: The answer, JSON or text.
        secret: The key, taken out of whatever the server echoes.
    """
    reason = find_reason(body).replace(secret, "[key]").rstrip(".")
    if status >= 500 or status in (408, 429):
        return StudioUnavailable(
            f"Label Studio at {url} failed while {what} (HTTP {status}): {reason}. It may have stored "
            "something all the same; run the command again, it finds out by itself."
        )
    remedy = {
        401: _remedy_for_key(reason),
        403: "The key's owner is not allowed to do this; use the key of a member of the project.",
        404: "Check the address, the project's id, and that the key's owner may see the project.",
    }.get(status, "")
    if "LOCAL_FILES" in reason:
        remedy = (
            "The folder must lie strictly below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT of the Label Studio "
            "server, which must run with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true."
        )
    return StudioRefused(f"Label Studio refused {what} (HTTP {status}): {reason}. {remedy}".strip())


def find_reason(body: Any) -> str:
    """The server's reason in one line, whatever form it took."""
    if isinstance(body, Mapping):
        for key in ("validation_errors", "detail"):
            if body.get(key):
                return find_reason(body[key])
        return "; ".join(f"{key}: {find_reason(value)}" for key, value in body.items())[:600]
    if isinstance(body, list):
        return "; ".join(find_reason(value) for value in body)[:600]
    text = " ".join(str(body).split())
    return (
        "an HTML page instead of an answer" if text.lower().startswith(("<!doctype", "<html")) else text[:600]
    )


def _remedy_for_key(reason: str) -> str:
    if "legacy" in reason.lower():
        return f"This is a legacy token, and the organization has them switched off. {WHERE_KEYS_ARE}"
    if "wrong type" in reason.lower():
        return (
            "This is an access token, which lives for five minutes. Give the personal access token itself, "
            "which Account & Settings shows once when it is made."
        )
    return f"The key is unknown, expired or revoked. {WHERE_KEYS_ARE}"
