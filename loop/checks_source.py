"""Whether the images that the settings name now are those of the project, once it was started. Nothing is changed."""

from __future__ import annotations

from forecasting.words import counted
from loop.checks import Check, Known
from loop.errors import LoopError
from loop.find import find_images
from loop.settings import Settings


def check_source(settings: Settings, known: Known) -> Check:
    """What would the next `loop start` find new? Images are known by their path here; it knows them by their content."""
    source = settings.images_source
    try:
        found = find_images(source, settings.images.patient, None, settings.copies_folder)
    except LoopError as error:
        return Check(
            "source",
            "warning",
            str(error),
            "Only a `loop start` that is to find new images needs it: see [images].",
        )
    held = {item.path for item in known.images}
    new = [image.path for image in found if image.path not in held and str(image.path) not in known.left_out]
    if not new:
        return Check("source", "ok", f"{source} has no image that the project does not have")
    return Check(
        "source",
        "warning",
        f"{counted(len(new), 'image')} of the {len(found):,} in {source} are not in the project, e.g. {new[0]}",
        "Run `loop start`: it takes them in, but for those that it has already, elsewhere. What cannot be read stays out.",
    )
