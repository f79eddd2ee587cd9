"""Take the images in: found, hashed, encoded once, split by patient into streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loop.addresses import Address
from loop.encoders import Encoder
from loop.encoders.embed import here
from loop.encoders.encode import encode_items
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.find import fetch_found, find_images
from loop.items import Hashed, Item, draw_streams, ensure_patient_key, hash_images
from loop.progress import Shows, utc_now
from loop.serving import check_delivery
from loop.settings import Settings
from loop.state import State
from loop.stores import ENOUGH, open_store


def find_and_hash(settings: Settings, shows: Shows) -> Hashed:
    """Find the images, fetch those on servers, and name each by its content; reads every file once.

    Raises:
        BadInput: There are none, or they could not be shown to annotators.
    """
    key = ensure_patient_key(settings.folder / "patient.key")
    named = find_images(settings.images_source, settings.images.patient, key, settings.copies_folder)
    check_delivery(settings, named)
    source = settings.images_source
    found, not_fetched = fetch_found(
        named,
        key,
        lambda done, total: shows("fetching", done, total),
        source if isinstance(source, Address) else None,
    )
    hashed = hash_images(found, lambda done, total: shows("hashing", done, total))
    return Hashed(hashed.items, (*not_fetched, *hashed.problems))


def take_in(
    settings: Settings, state: State, encoders: Sequence[Encoder], hashed: Hashed, shows: Shows
) -> tuple[list[Item], int, list[tuple[str, str]]]:
    """Encode the images, then split what could be encoded into streams, by patient."""
    encoder = encoders[0]
    store = open_store(settings.features_folder, encoder)
    report = encode_items(
        hashed.items,
        encoder,
        store,
        settings.encoder.batch_size,
        lambda done, total: shows("encoding", done, total),
        here(encoders),
    )
    problems = [*hashed.problems, *report.problems]
    _check_share(state.items(), store, encoder.spec)
    state.set_fact(
        "encoder", {"spec": encoder.spec, "fingerprint": encoder.fingerprint, "dim": encoder.dim}, utc_now()
    )
    doubtful = {path for path, _ in report.problems}
    usable = [item for item in hashed.items if store.has(item.item) and str(item.path) not in doubtful]
    if not usable:
        raise BadInput(
            f"None of the {len({path for path, _ in problems})} images in {settings.images_source} can be used: {problems[:3]}"
        )
    items = _split(settings, state.items(), usable)
    state.add_items(items)
    state.add_problems(problems, utc_now())
    return state.items(), report.encoded, problems


def _check_share(items: Sequence[Item], store: FeatureStore, spec: str) -> None:
    """Refuse an encoder under which most of the images that the project works with would be lost."""
    n = sum(store.has(item.item) for item in items)
    if n < ENOUGH * len(items):
        raise BadInput(
            f"{spec} has embeddings of {n:,} of the {len(items):,} images of this project; the others could not be asked, and "
            "their labels would not count. The project stays with its encoder: put the old one back, or give the missing "
            "images."
        )


def _split(settings: Settings, before: Sequence[Item], usable: Sequence[Item]) -> list[Item]:
    """Draw the streams once. Images that come later follow their patient; new patients join the active part."""
    if not before:
        rng = np.random.default_rng([settings.project.seed, 0])
        return draw_streams(usable, rng, len(usable))  # a budget may be raised; the stream cannot grow later
    known = {item.item: item.patient for item in before}
    moved = [i for i in usable if known.get(i.item, i.patient) != i.patient]
    if moved:
        raise BadInput(
            f"{len(moved)} images have another patient than when the project was started, e.g. {moved[0].path}. The "
            "streams were split by patient, so this cannot be mended afterwards: start again in a new folder."
        )
    stream_of = {item.patient: "spare" if item.stream in ("random", "spare") else "active" for item in before}
    return [
        Item(i.item, i.path, i.patient, stream_of.get(i.patient, "active"), None, i.metadata)  # type: ignore[arg-type]
        for i in usable
        if i.item not in known
    ]
