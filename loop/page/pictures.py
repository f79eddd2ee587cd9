"""Small pictures of the images that a page names; only where somebody asked for them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from loop.images import BadImage, open_image
from loop.page.people import Disputed
from loop.settings import Settings
from loop.state import State

SIDE = 160  # pixels of the longer side
QUALITY = 75  # of the JPEG

log = logging.getLogger(__name__)


def read_images(settings: Settings, disputed: Iterable[Disputed]) -> dict[str, str]:
    """Small pictures of the disputed images of a project, by item; see `draw_small`.

    Raises:
        BadInput: The project was not started.
    """
    with State.started(settings.state_url) as state:
        paths = {item.item: item.path for item in state.items()}
    return draw_small((one.item for one in disputed), paths)


def draw_small(items: Iterable[str], paths: Mapping[str, Path]) -> dict[str, str]:
    """Item to its picture as a ``data:`` address, at most `SIDE` pixels wide and high; what cannot be opened is left out.

    Nothing of a file but its pixels comes along: no EXIF, no DICOM tag. What is burned into the pixels does.
    """
    drawn: dict[str, str] = {}
    for item in items:
        if item in drawn or item not in paths:
            continue
        try:
            image = open_image(paths[item], SIDE)
        except (BadImage, OSError) as error:
            log.warning("%s is not on the page: %s", item, error)
            continue
        image.thumbnail((SIDE, SIDE))
        small = BytesIO()
        image.save(small, "JPEG", quality=QUALITY, exif=b"")
        drawn[item] = f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode('ascii')}"
    return drawn
