"""Embed images on more machines: each Ray worker runs what one machine runs, and this process alone writes."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loop.encoders import Encoder
from loop.encoders.embed import Embedded, Encodable, Workers, embed_here
from loop.errors import BadInput, LoopError, Unavailable, first_line
from loop.pictures import Picture

SHARE = 8  # batches that a worker takes at a time: it decodes ahead within them
Load = Callable[[], Sequence[Encoder]]


class RayWorker:
    """The encoder on a Ray worker; it embeds a share of the images at a time."""

    def __init__(self, load: Load, fingerprint: str, batch_size: int) -> None:
        self._encoders, self._batch_size = load(), batch_size
        found = self._encoders[0].fingerprint
        if found != fingerprint:
            raise BadInput(
                f"The encoder on {os.uname().nodename} has the fingerprint {found}, here it is {fingerprint}: other "
                "weights, or other versions of the libraries. Make the machines alike."
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with the images of a share in, a row with its batches out."""
        items = pickle.loads(row["share"])
        return {"embedded": pickle.dumps(list(embed_here(items, self._encoders, self._batch_size)))}


@contextmanager
def ray_cluster(address: str, n_workers: int) -> Iterator[bool]:
    """Join a Ray cluster, or start one on this machine for as long as it is needed; nothing is reported to Ray's makers.

    Args:
        address: ``local``, ``auto``, or that of a running cluster, e.g. ``10.0.0.1:6379``.
        n_workers: For ``local``, how many workers there shall be room for.

    Yields:
        Whether the cluster has GPUs.

    Raises:
        BadInput: Ray is not installed.
        Unavailable: No cluster answers there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is told by us, once
    try:
        import ray
    except ImportError:
        raise BadInput("--ray needs Ray: pip install 'annotation-loop[ray]'.") from None
    if address not in ("local", "auto"):
        _check_port(address)
    room: dict[str, Any] = (
        {"num_cpus": n_workers + 1, "include_dashboard": False} if address == "local" else {}
    )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **room)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"No Ray cluster answers at {address} ({first_line(error)}). Check the address, or take --ray local."
        ) from None
    try:
        yield bool(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def _check_port(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise Unavailable(
            f"No Ray cluster answers at {address} ({error}). Check the address, or take --ray local."
        ) from None


def on_ray(load: Load, fingerprint: str, n_workers: int, *, gpu: bool = False) -> Workers:
    """Workers that are Ray's, within `ray_cluster`. Images, weights and reduced copies must lie at the same paths everywhere.

    Args:
        load: Loads the encoder, once a worker.
        fingerprint: What its fingerprint must be.
        n_workers: Workers at the same time.
        gpu: Each worker takes a GPU.
    """

    def embed(items: Sequence[Encodable], batch_size: int) -> Iterator[Embedded]:
        import ray.data
        import ray.exceptions

        if not items:
            return
        logging.getLogger("ray").setLevel(logging.ERROR)  # advice to those who write for Ray
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        step = SHARE * batch_size
        rows = [
            {
                "share": pickle.dumps(
                    [Picture("", item.path, item.item) for item in items[first : first + step]]
                )
            }
            for first in range(0, len(items), step)
        ]
        shares = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayWorker,  # type: ignore[arg-type]  # a class, built once a worker
            fn_constructor_args=(load, fingerprint, batch_size),
            compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(rows))),
            num_gpus=1 if gpu else 0,
        )
        try:
            for row in shares.iter_rows():
                yield from pickle.loads(row["embedded"])
        except ray.exceptions.RayError as error:
            raise _translated(error) from None

    return embed


def _translated(error: BaseException) -> LoopError:
    """Our own error from a worker as it is; any other as a worker that failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LoopError):
            return type(cause)(str(cause).strip().splitlines()[-1])
        cause = getattr(cause, "cause", None) or cause.__cause__
    return Unavailable(
        f"A Ray worker failed: {str(error).strip().splitlines()[-1]}. What was committed stays; run it again."
    )
