"""Encode an archive once: batches that somebody embeds, committed in order, so that a kill costs the last ones only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loop.encoders import Encoder
from loop.encoders.embed import Encodable, Workers, embed_here, here
from loop.encoders.int8 import Int8Encoder, Nearness, measure_nearness
from loop.encoders.reducing import ReducingEncoder
from loop.encoders.table import TableEncoder
from loop.errors import BadInput
from loop.features import Features, FeatureStore

N_COMPARED = 32  # images of an int8 model that pass through its float model too


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What was encoded now, and what was left out: path and reason."""

    encoded: int
    problems: tuple[tuple[str, str], ...]


def encode_items(
    items: Sequence[Encodable],
    encoder: Encoder,
    store: FeatureStore,
    batch_size: int,
    told: Callable[[int, int], None] | None = None,
    workers: Workers | None = None,
) -> EncodeReport:
    """Encode what the store lacks, or holds damaged. A corrupt image is listed and left out, never fatal.

    Only this process writes to the store, whoever embeds.

    Args:
        items: The images; of those with equal content the first one is read.
        encoder: The frozen model.
        store: Where the vectors go; each batch is committed before the next.
        batch_size: Images a batch.
        told: Called with (images done, images in all).
        workers: Who embeds; None = this process, with the encoder given.

    Raises:
        Unavailable: Another process encodes into this store, or the disk is full; what was committed stays.
    """
    unique = {item.item: item for item in reversed(items)}
    if isinstance(encoder, TableEncoder):
        return _copy(list(unique.values()), encoder, store, batch_size, told)
    with store.writing():
        store.drop_bad()
        lacking = set(store.missing(list(unique)))
        todo = [item for item in items if item.item in lacking and unique[item.item] is item]
        problems: list[tuple[str, str]] = []
        done, encoded = len(unique) - len(todo), 0
        if told is not None:
            told(done, len(unique))
        for batch in (workers or here([encoder]))(todo, batch_size):
            if batch.items:
                store.append(batch.items, batch.vectors)
            problems += batch.problems
            encoded += len(batch.items)
            done += batch.n
            if told is not None:
                told(done, len(unique))
    return EncodeReport(encoded, tuple(problems))


def compare_to_float(
    items: Sequence[Encodable], encoder: Encoder, features: Features, batch_size: int
) -> Nearness | None:
    """Pass some images, up to `N_COMPARED`, through the float model of an int8 one too.

    Args:
        items: The images; those that have no vector are not looked at.
        encoder: The model; None is returned for others than int8, and where no image can be opened any more.
        features: Its vectors.
        batch_size: Images a batch.
    """
    model = _float_of(encoder)
    stored = list({item.item: item for item in items if features.has(item.item)}.values())
    if model is None or not stored:
        return None
    some = stored[:: -(-len(stored) // N_COMPARED)]
    passed = [batch for batch in embed_here(some, [model], batch_size) if batch.items]
    if not passed:
        return None
    ours = features.read([item for batch in passed for item in batch.items])  # (n, d)
    return measure_nearness(ours, np.concatenate([batch.vectors for batch in passed]))


def _float_of(encoder: Encoder) -> Encoder | None:
    """The float model behind an int8 one, shown the same images."""
    if isinstance(encoder, ReducingEncoder):
        inner = _float_of(encoder.encoder)
        return None if inner is None else ReducingEncoder(inner, encoder.copies)
    return encoder.model if isinstance(encoder, Int8Encoder) else None


def _copy(
    items: Sequence[Encodable],
    encoder: TableEncoder,
    store: FeatureStore,
    batch_size: int,
    told: Callable[[int, int], None] | None,
) -> EncodeReport:
    """Take over what somebody else computed; the images are not opened.

    Raises:
        BadInput: Images have other names, and so other rows, than when their embeddings were taken over.
    """
    found = encoder.find({item.item: Path(str(item.path)) for item in items})
    with store.writing():
        store.drop_bad()
        todo, held = store.missing(list(found.rows)), [item for item in found.rows if store.has(item)]
        for some, vectors in store.chunks(held):
            theirs = encoder.vectors([found.rows[item] for item in some]).astype(np.float16)
            if moved := int((vectors != theirs).any(axis=1).sum()):
                raise BadInput(
                    f"{moved} images have other rows of {encoder.path} than when they were taken over: they were renamed "
                    f"since. Give them their names back, or delete {store.folder} to take all over anew."
                )
        for start in range(0, len(todo), batch_size):
            some = todo[start : start + batch_size]
            store.append(some, encoder.vectors([found.rows[item] for item in some]))
        if told is not None:
            told(len(items), len(items))
    return EncodeReport(len(todo), found.problems)
