"""A webhook of a Label Studio project, registered once and taken away again: it wakes whoever waits for labels."""

from __future__ import annotations

from collections.abc import Mapping

from annotate.payloads import Json
from annotate.studio import Studio

ACTIONS = (
    "ANNOTATION_CREATED",  # skips, too
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)


HEADER = "X-Annotation-Loop"
"""What the calls of our webhooks carry, and by what we know them."""


def ensure_webhook(studio: Studio, project_id: int, url: str, headers: Mapping[str, str]) -> int:
    """Have Label Studio call an address whenever labels change, without saying which; told twice, it is registered once.

    One that a killed watch of this project left, here or at another address, is removed.

    Args:
        studio: The server.
        project_id: The project.
        url: Where it calls; as Label Studio's machine knows it.
        headers: Sent with each call. Whoever may see the project's settings can read them there.

    Returns:
        The webhook's id.

    Raises:
        StudioRefused: The key lacks the right, or Label Studio calls no such address.
        StudioUnavailable: No answer; tell it again.
    """
    wanted = {
        "url": url,
        "headers": dict(headers),
        "actions": sorted(ACTIONS),
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
    }
    kept: int | None = None
    for held in studio.webhooks(project_id):
        if held["url"] != url and not is_ours(held):
            continue
        if kept is None and {**held, "actions": sorted(held["actions"])}.items() >= wanted.items():
            kept = int(held["id"])
        else:
            studio.delete_webhook(int(held["id"]))
    return studio.create_webhook(project_id, wanted) if kept is None else kept


def is_ours(webhook: Json) -> bool:
    """Whether a watch registered a webhook."""
    return HEADER in (webhook.get("headers") or {})
