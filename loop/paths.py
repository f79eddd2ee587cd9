"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path

from loop.errors import BadInput


def expand_home(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` and ``~user`` replaced by the folder they mean.

    Raises:
        BadInput: There is no such user here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise BadInput(
            f"{path}: there is no user {Path(path).parts[0].removeprefix('~')!r} here, or no home folder. Write the path in full."
        ) from None
