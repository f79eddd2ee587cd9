"""One image is fetched as an annotator's browser would, before anybody is served: a broken one is told to us, not to them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image

from annotate.errors import AnnotateError, StudioRefused, StudioUnavailable
from annotate.studio import Studio
from loop.errors import BadInput
from loop.images import DAMAGED
from loop.items import Item, content_id
from loop.settings import Settings


def require_seen(settings: Settings, studio: Studio, project_id: int, item: Item, address: str) -> str:
    """Make sure that annotators will see an image.

    Args:
        settings: Say how images are delivered.
        studio: The server.
        project_id: Whose annotators look.
        item: The image.
        address: As it stands, or will stand, in a task's data.

    Returns:
        A doubt, if another server shows the image and keeps it from us: what it gives to browsers cannot be told. Else nothing.

    Raises:
        BadInput: It is not there, or is another image.
        StudioUnavailable: Label Studio does not answer now.
    """
    shown = studio.shown(address)
    try:
        content = studio.image(address)
    except (StudioRefused, StudioUnavailable) as error:
        if studio.has(address) and isinstance(error, StudioUnavailable):
            raise
        if studio.has(address) or "(HTTP 404)" in str(error):
            fact = tell_unseen(studio, project_id, shown, error)
            raise _refusal(fact, how_served(settings)) from None
        return (
            f"{shown} could not be fetched from this machine, so whether annotators see it is not known ({error}) Open the "
            "project in a browser and look, before people begin."
        )
    if (wrong := compare_image(settings, item, shown, content)) is not None:
        raise _refusal(*wrong)
    return ""


def _refusal(fact: str, fix: str) -> BadInput:
    return BadInput(
        f"Annotators would not see the images, so nothing was asked. {fact.rstrip('.')}. {fix} Then run `loop start` "
        "again: it goes on from here."
    )


def tell_unseen(studio: Studio, project_id: int, address: str, error: AnnotateError) -> str:
    """An image that was not given out: why, and from which folders one would be."""
    if "local-files" not in address:
        return f"{address}: {error}"
    folders = ", ".join(studio.local_folders(project_id)) or "none"
    return f"{address}: {error} Folders it serves to this project: {folders}."


def compare_image(settings: Settings, item: Item, address: str, content: bytes) -> tuple[str, str] | None:
    """What is wrong with an image that was given out, and what to do; None if it is ours."""
    if not content:
        return f"{address} is empty", how_served(settings)
    path = item.path
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg") or not path.is_file():
        return None
    if content_id(path) != item.item or path.read_bytes() == content or _same_pixels(path, content):
        return None
    return (
        f"{address} shows another picture than {path}: annotators would label the wrong image",
        "See that [label_studio] document_root (or url_prefix) means the same folder on both machines.",
    )


def _same_pixels(path: Path, content: bytes) -> bool:
    """Whether an image on its way was only packed anew, as some proxies do."""
    try:
        with Image.open(path) as ours, Image.open(BytesIO(content)) as theirs:
            return (
                ours.size == theirs.size and ours.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()
            )
    except DAMAGED:
        return False


def how_served(settings: Settings) -> str:
    """What lets Label Studio show the images."""
    match settings.label_studio.delivery:
        case "local-files":
            return (
                "Label Studio must run with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
                f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={settings.document_root}, and the project needs a Local Files storage "
                "on a folder below it that holds the images (`loop start` adds it)."
            )
        case "upload":
            return "The images are uploaded to Label Studio: see that its data folder was not emptied."
    return f"Annotators' browsers fetch the images from {settings.label_studio.url_prefix or 'where they lie'}: see that it serves them."
