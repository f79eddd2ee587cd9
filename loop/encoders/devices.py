"""The same model on every device that was asked for."""

from __future__ import annotations

from loop.encoders import Encoder, load_encoder
from loop.encoders.table import TableEncoder
from loop.errors import BadInput

THREADS_A_GPU = 2  # one computes while the other brings the next batch


def load_on_devices(spec: str, devices: str, allow_pickle: str = "") -> list[Encoder]:
    """Load an encoder for each thread that shall compute with it.

    Args:
        spec: See `load_encoder`.
        devices: One device, or several with commas: ``cuda:0,cuda:1``; ``all`` = every CUDA device.
        allow_pickle: See `load_encoder`.

    Raises:
        BadInput: As `load_encoder`; or there is no CUDA device, or two devices hold different weights.
    """
    names = [name.strip() for name in devices.split(",")]
    if names == ["all"]:
        import torch

        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if not names:
            raise BadInput("There is no CUDA device here for `all`; ask for auto or cpu.")
    encoders = [load_encoder(spec, name, allow_pickle) for name in names]
    if len({encoder.fingerprint for encoder in encoders}) > 1:
        raise BadInput(f"The weights of {spec} changed while they were loaded. Run it again.")
    return [encoder for encoder in encoders for _ in range(_threads(encoder))]


def _threads(encoder: Encoder) -> int:
    if isinstance(encoder, TableEncoder):
        return 1
    from loop.encoders.frozen import FrozenEncoder

    on_gpu = isinstance(encoder, FrozenEncoder) and encoder.device.type == "cuda"
    return THREADS_A_GPU if on_gpu else 1
