"""How tests ask for an encoder that must be refused, and what a pickle could do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop.encoders import load_encoder
from loop.errors import BadInput


def refusal(spec: str, device: str = "cpu", allow_pickle: str = "") -> str:
    """The reason why an encoder is refused."""
    with pytest.raises(BadInput) as caught:
        load_encoder(spec, device, allow_pickle)
    return str(caught.value)


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))
