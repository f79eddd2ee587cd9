"""Where annotators' browsers find an image: on Label Studio's disk, uploaded to it, or at an address of the team's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from annotate.payloads import local_file_address
from annotate.studio import Studio
from loop.errors import BadInput
from loop.images import is_dicom, render_png
from loop.items import Item
from loop.settings import Settings


def address_images(
    settings: Settings,
    studio: Studio,
    project_id: int,
    items: Sequence[Item],
    told: Callable[[int, int], None],
) -> dict[str, str]:
    """Make sure that Label Studio can show each image; returns item id to address.

    DICOM images are shown as PNG renditions, made once in the project's folder.

    Args:
        settings: Says how images are delivered.
        studio: The server.
        project_id: The project whose annotators look at them.
        items: The images.
        told: Called with (images done, images in all).

    Raises:
        BadInput: A folder is not below the server's document root, or no address can be made.
    """
    shown = {item.item: _shown(item, settings.folder / "renditions") for item in items}
    delivery = settings.label_studio.delivery
    root = settings.document_root
    addresses: dict[str, str] = {}
    folders: list[Path] = []
    if delivery == "url":
        addresses = {item: url_of(settings, path) for item, path in shown.items()}
    elif delivery != "upload":
        folders = served_folders(shown.values(), settings)
        addresses = {
            item: local_file_address(path.relative_to(root).as_posix()) for item, path in shown.items()
        }
    for done, item in enumerate(items, start=1):  # only now: an address that cannot be made is known at once
        if is_dicom(item.path) and not shown[item.item].is_file():
            shown[item.item].parent.mkdir(parents=True, exist_ok=True)
            render_png(item.path, shown[item.item])
        told(done, len(items))
    for folder in folders:
        studio.ensure_local_files(project_id, folder)
    return _uploaded(studio, project_id, shown, told) if delivery == "upload" else addresses


def _shown(item: Item, renditions: Path) -> Path:
    """The file that is shown for an image."""
    return (renditions / f"{item.item}.png" if is_dicom(item.path) else item.path).resolve()


def _uploaded(
    studio: Studio, project_id: int, shown: Mapping[str, Path], told: Callable[[int, int], None]
) -> dict[str, str]:
    addresses = {}
    for done, (item, path) in enumerate(shown.items(), start=1):
        addresses[item] = studio.upload_image(project_id, path)
        told(done, len(shown))
    return addresses


def url_of(settings: Settings, path: Path) -> str:
    """Where an image can be fetched, if `url_prefix` serves the images' folder.

    Raises:
        BadInput: It lies elsewhere.
    """
    source = settings.images_folder
    if not path.is_relative_to(source):
        raise BadInput(
            f'{path} is not below {source}, so [label_studio] url_prefix gives it no address. Set delivery = "upload".'
        )
    return f"{settings.label_studio.url_prefix.rstrip('/')}/{quote(path.relative_to(source).as_posix())}"


def served_folders(paths: Iterable[Path], settings: Settings) -> list[Path]:
    """The folders that hold the images: few of them, and none with the project's own folder inside.

    Label Studio gives everything below a served folder to whoever may label, and the state says which images
    are random.

    Raises:
        BadInput: An image lies where Label Studio may not serve it from.
    """
    root, private = settings.document_root, settings.folder
    found = set()
    for path in paths:
        if root not in path.parent.parents:
            raise BadInput(
                f"{path} does not lie in a folder below [label_studio] document_root = {root}. Label Studio serves "
                "local files only from folders below its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT: set document_root "
                'to that folder, move the images below it, or set [label_studio] delivery = "upload".'
            )
        wide = (
            folder
            for folder in reversed(path.parents)
            if root in folder.parents
            and folder.is_relative_to(settings.images_folder)
            and not private.is_relative_to(folder)
        )
        folder = next(wide, path.parent)
        if private.is_relative_to(folder):
            raise BadInput(
                f"{path} lies beside the project's own folder {private}, which annotators must not see. Move the images "
                'to a folder of their own, set [project] folder elsewhere, or set [label_studio] delivery = "upload".'
            )
        found.add(folder)
    return sorted(found)
