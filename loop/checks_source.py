"""The images that the settings name: enough for a forecast, and once the project was started, its own. Nothing is changed."""

from __future__ import annotations

from forecasting.words import counted
from loop.batch import doubt_archive
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


def check_enough(settings: Settings, known: Known | None) -> Check:
    """Are there images, and labels in the budget, for a forecast? One image a patient of the random stream is asked."""
    try:
        there = (
            sum(item.stream != "spare" for item in known.images)
            if known is not None and known.images
            else len(
                find_images(settings.images_source, settings.images.patient, None, settings.copies_folder)
            )
        )
    except LoopError as error:
        return Check("forecast", "not checked", str(error))
    if told := doubt_archive(settings, there):
        fact, remedy = told
        return Check(
            "forecast", "warning", fact, f"{remedy.capitalize()}, or the project will end without a forecast."
        )
    budget = settings.stop.budget
    within = "no budget" if budget is None else f"a budget of {counted(budget, 'label')}"
    return Check(
        "forecast",
        "ok",
        f"{counted(there, 'image')} to label and {within}; forecasts begin at {settings.forecast.from_labels} labels",
    )
