"""Encode an archive once: decode ahead in threads, commit batch by batch, go on after a kill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from loop.encoders import Encoder
from loop.encoders.table import TableEncoder
from loop.features import FeatureStore, storable
from loop.images import BadImage, open_image
from loop.items import Item

N_THREADS = 4
AHEAD = 2  # batches decoded before they are needed


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What was encoded now, and what was left out: path and reason."""

    encoded: int
    problems: tuple[tuple[str, str], ...]


def encode_items(
    items: Sequence[Item],
    encoder: Encoder,
    store: FeatureStore,
    batch_size: int,
    told: Callable[[int, int], None] | None = None,
) -> EncodeReport:
    """Encode what the store lacks, or holds damaged. A corrupt image is listed and left out, never fatal.

    Args:
        items: The images.
        encoder: The frozen model.
        store: Where the vectors go; each batch is committed before the next.
        batch_size: Images a batch.
        told: Called with (images done, images in all).

    Raises:
        Unavailable: Another process encodes into this store, or the disk is full; what was committed stays.
    """
    if isinstance(encoder, TableEncoder):
        return _copy(items, encoder, store, batch_size, told)
    with store.writing():
        return _encode(items, encoder, store, batch_size, told)


def _encode(
    items: Sequence[Item],
    encoder: Encoder,
    store: FeatureStore,
    batch_size: int,
    told: Callable[[int, int], None] | None,
) -> EncodeReport:
    store.drop_bad()
    lacking = set(store.missing([item.item for item in items]))
    todo = [item for item in items if item.item in lacking]
    problems: list[tuple[str, str]] = []
    done = len(items) - len(todo)
    encoded = 0
    if told is not None:
        told(done, len(items))
    for batch in _decoded(todo, encoder, batch_size):
        good = [(item, ready) for item, ready in batch if not isinstance(ready, BadImage)]
        problems += [
            (str(item.path), str(bad).removeprefix(f"{item.path}: "))
            for item, bad in batch
            if isinstance(bad, BadImage)
        ]
        if good:
            vectors = encoder.embed([ready for _, ready in good])  # (n good, d)
            fits = storable(vectors)
            store.append([item.item for (item, _), fit in zip(good, fits, strict=True) if fit], vectors[fits])
            problems += [
                (str(item.path), "its embedding is not finite or beyond float16")
                for (item, _), fit in zip(good, fits, strict=True)
                if not fit
            ]
            encoded += int(fits.sum())
        done += len(batch)
        if told is not None:
            told(done, len(items))
    return EncodeReport(encoded, tuple(problems))


def _copy(
    items: Sequence[Item],
    encoder: TableEncoder,
    store: FeatureStore,
    batch_size: int,
    told: Callable[[int, int], None] | None,
) -> EncodeReport:
    """Take over what somebody else computed; the images are not opened."""
    found = encoder.find({item.item: item.path for item in items})
    with store.writing():
        store.drop_bad()
        todo = store.missing(list(found.rows))
        for start in range(0, len(todo), batch_size):
            some = todo[start : start + batch_size]
            store.append(some, encoder.vectors([found.rows[item] for item in some]))
        if told is not None:
            told(len(items), len(items))
    return EncodeReport(len(todo), found.problems)


def _decoded(items: Sequence[Item], encoder: Encoder, batch_size: int) -> Iterator[list[tuple[Item, Any]]]:
    """Batches of items with their model input, or the reason why there is none."""

    def prepare(item: Item) -> Any:
        try:
            return encoder.preprocess(open_image(item.path))
        except BadImage as error:
            return error

    pool = ThreadPoolExecutor(N_THREADS, thread_name_prefix="decode")
    try:
        waiting: deque[tuple[Sequence[Item], list[Future[Any]]]] = deque()
        starts = iter(range(0, len(items), batch_size))
        while True:
            while len(waiting) <= AHEAD and (start := next(starts, None)) is not None:
                some = items[start : start + batch_size]
                waiting.append((some, [pool.submit(prepare, item) for item in some]))
            if not waiting:
                return
            some, futures = waiting.popleft()
            yield [(item, future.result()) for item, future in zip(some, futures, strict=True)]
    finally:
        pool.shutdown(cancel_futures=True)  # stopped in the middle: nothing more is decoded
