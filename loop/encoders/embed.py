"""Embed images in this process: threads decode ahead, one thread a device computes; batches leave in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loop.encoders import Encoder
from loop.encoders.reducing import ReducingEncoder
from loop.features import storable
from loop.images import BadImage, Readable, open_image

N_THREADS = max(4, min(16, os.cpu_count() or 1))
AHEAD = 2  # batches decoded before they are needed


class Encodable(Protocol):
    """An image to encode."""

    @property
    def item(self) -> str:
        """Its id, the hash of its content."""
        ...

    @property
    def path(self) -> Readable:
        """Where it lies."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch that went through an encoder.

    Attributes:
        n: Images in the batch.
        items: Ids of those that have a vector, m of them.
        vectors: Shape ``(m, d)``, finite and inside float16's range.
        problems: Path and reason of the others.
    """

    n: int
    items: tuple[str, ...]
    vectors: NDArray[np.float32]
    problems: tuple[tuple[str, str], ...]


Workers = Callable[[Sequence[Encodable], int], Iterator[Embedded]]
"""Whoever embeds images, given with their batch size: vectors batch by batch, in the order of the images."""


def here(encoders: Sequence[Encoder]) -> Workers:
    """Workers that are threads of this process; see `embed_here`."""
    return lambda items, batch_size: embed_here(items, encoders, batch_size)


def embed_here(
    items: Sequence[Encodable], encoders: Sequence[Encoder], batch_size: int
) -> Iterator[Embedded]:
    """Embed images batch by batch, in their order.

    Batches have the same images whatever was stopped before, how many encoders there are and which is the faster one.

    Args:
        items: The images.
        encoders: The same model, once for each thread that computes; several for several devices.
        batch_size: Images a batch.
    """

    copies = encoders[0].copies if isinstance(encoders[0], ReducingEncoder) else None

    def prepare(item: Encodable) -> Any:
        try:
            image = copies.open(item.item, item.path) if copies else open_image(item.path)
            return encoders[0].preprocess(image)
        except BadImage as error:
            return error

    def compute(some: Sequence[Encodable], inputs: Sequence[Future[Any]]) -> Embedded:
        ready = [future.result() for future in inputs]
        encoder = free.get()
        try:
            return embed_batch(some, ready, encoder)
        finally:
            free.put(encoder)

    free: SimpleQueue[Encoder] = SimpleQueue()
    for encoder in encoders:
        free.put(encoder)
    decoding = ThreadPoolExecutor(N_THREADS, thread_name_prefix="decode")
    computing = ThreadPoolExecutor(len(encoders), thread_name_prefix="embed")
    try:
        waiting: deque[Future[Embedded]] = deque()
        starts = iter(range(0, len(items), batch_size))
        while True:
            while len(waiting) < AHEAD + len(encoders) and (start := next(starts, None)) is not None:
                some = items[start : start + batch_size]
                inputs = [decoding.submit(prepare, item) for item in some]
                waiting.append(computing.submit(compute, some, inputs))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:  # stopped in the middle: nothing more is decoded
        computing.shutdown(wait=False, cancel_futures=True)
        decoding.shutdown(cancel_futures=True)
        computing.shutdown()


def embed_batch(items: Sequence[Encodable], ready: Sequence[Any], encoder: Encoder) -> Embedded:
    """Embed one batch.

    Args:
        items: Its images.
        ready: For each the model's input, or the `BadImage` that says why there is none.
        encoder: The frozen model.
    """
    problems = [
        (str(item.path), str(bad).removeprefix(f"{item.path}: "))
        for item, bad in zip(items, ready, strict=True)
        if isinstance(bad, BadImage)
    ]
    good = [item for item, each in zip(items, ready, strict=True) if not isinstance(each, BadImage)]
    if not good:
        return Embedded(len(items), (), np.empty((0, encoder.dim), dtype=np.float32), tuple(problems))
    vectors = encoder.embed([each for each in ready if not isinstance(each, BadImage)])  # (n good, d)
    fits = storable(vectors)  # (n good,)
    problems += [
        (str(item.path), "its embedding is not finite or beyond float16")
        for item, fit in zip(good, fits, strict=True)
        if not fit
    ]
    kept = tuple(item.item for item, fit in zip(good, fits, strict=True) if fit)
    return Embedded(len(items), kept, vectors[fits], tuple(problems))
