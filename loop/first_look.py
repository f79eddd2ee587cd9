"""One image is fetched as an annotator's browser would, before anybody is served: a broken one is told to us, not to them."""

from __future__ import annotations

from annotate.errors import StudioRefused, StudioUnavailable
from annotate.studio import Studio
from loop.checks import Check
from loop.checks_served import compare_image, tell_unseen
from loop.errors import BadInput
from loop.items import Item
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
    try:
        content = studio.image(address)
    except (StudioRefused, StudioUnavailable) as error:
        if studio.has(address) and isinstance(error, StudioUnavailable):
            raise
        if studio.has(address) or "(HTTP 404)" in str(error):
            raise _refusal(tell_unseen(settings, studio, project_id, address, error)) from None
        return (
            f"{address} could not be fetched from this machine, so whether annotators see it is not known ({error}) Open the "
            "project in a browser and look, before people begin."
        )
    if (wrong := compare_image(settings, item, address, content)) is not None:
        raise _refusal(wrong)
    return ""


def _refusal(wrong: Check) -> BadInput:
    return BadInput(
        f"Annotators would not see the images, so nothing was asked. {wrong.fact.rstrip('.')}. {wrong.fix} Then run `loop start` "
        "again: it goes on from here."
    )
