"""Where annotators' browsers find an image: on Label Studio's disk, uploaded to it, or at an address of the team's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from annotate.payloads import local_file_address
from annotate.studio import Studio
from loop.addresses import HTTP
from loop.errors import BadInput
from loop.find import Found
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
        addresses = {item.item: address_of(settings, item, shown[item.item]) for item in items}
        _check_buckets(studio, project_id, addresses.values())
    elif delivery != "upload":
        if fetched := [item for item in items if is_copy(settings, item.path)]:
            raise BadInput(_not_on_its_disk(len(fetched)))
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


def check_delivery(settings: Settings, found: Sequence[Found]) -> None:
    """Refuse what could not be shown to annotators, before any image is fetched.

    Raises:
        BadInput: Label Studio reads its disk, and images lie on servers; or they can be fetched with a signature only.
    """
    remote = [image.wanted.address for image in found if image.wanted is not None]
    served = settings.label_studio
    if remote and served.delivery == "local-files" and served.project_id is None:
        raise BadInput(_not_on_its_disk(len(remote)))
    signed = [address for address in remote if not address.whole]
    if signed and served.delivery == "url" and not served.url_prefix:
        raise BadInput(
            f"{len(signed):,} addresses have a query, e.g. that of {signed[0]}: a signature would be shown to annotators, and "
            'expires. Set [label_studio] delivery = "upload", or url_prefix to where browsers can fetch the images.'
        )


def is_copy(settings: Settings, path: Path) -> bool:
    """Whether a file is our copy of an image on a server."""
    return path.is_relative_to(settings.copies_folder)


def _not_on_its_disk(n: int) -> str:
    return (
        f"{n:,} images lie on servers, not on Label Studio's disk. Set [label_studio] delivery = \"url\", if annotators' "
        'browsers may fetch them from there, or "upload", and a copy of each is sent to Label Studio.'
    )


def address_of(settings: Settings, item: Item, shown: Path) -> str:
    """Where a browser fetches an image: below `url_prefix`, or where it lies on its server.

    Raises:
        BadInput: It has no such address.
    """
    if settings.label_studio.url_prefix:
        return url_of(settings, shown)
    if not is_copy(settings, item.path):
        raise BadInput(
            f'{item.path} lies on disk, so [label_studio] delivery = "url" needs url_prefix, the address under which the '
            "images folder can be fetched."
        )
    address = item.metadata["file"]
    if shown != item.path.resolve():
        raise BadInput(
            f'{address} is a DICOM file, which browsers do not show. Set [label_studio] delivery = "upload": it is rendered '
            "as PNG and sent to Label Studio."
        )
    scheme, _, rest = address.partition("://")
    if scheme not in HTTP:
        return address
    server, slash, path = rest.partition("/")
    return f"{scheme}://{server}{slash}{quote(path, safe='/%:@!$&*+,;=~()')}"


def _check_buckets(studio: Studio, project_id: int, addresses: Iterable[str]) -> None:
    """Label Studio signs s3:// addresses for browsers, if the project has a storage of their bucket."""
    stores = {address.partition("://")[0] for address in addresses} - set(HTTP)
    if strange := stores - {"s3"}:
        raise BadInput(
            f'Label Studio shows no {strange.pop()}:// addresses that come from us. Set [label_studio] delivery = "upload", or '
            "url_prefix to where browsers can fetch the images."
        )
    if "s3" not in stores:
        return
    wanted = {urlsplit(address).netloc for address in addresses if address.startswith("s3://")}
    if lacking := sorted(wanted - studio.s3_buckets(project_id)):
        raise BadInput(
            f"Label Studio project {project_id} has no S3 storage of the bucket {lacking[0]}, so it cannot show s3:// addresses. Add "
            "it to the project (Settings, Cloud Storage, Add Source Storage, AWS S3; no sync) and run `loop start` again, or set "
            '[label_studio] delivery = "upload".'
        )


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
