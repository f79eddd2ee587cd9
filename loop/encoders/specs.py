"""What is common to specs of every family. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from loop.errors import BadInput


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest known names; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" Did you mean {', '.join(near)}?" if near else ""


def split_vector(spec: str, name: str, *kinds: str) -> tuple[str, str]:
    """A name without its ``#KIND``, and the kind of vector that this asks for; without one, the first of the kinds.

    Raises:
        BadInput: The family has no such vector.
    """
    plain, mark, kind = name.rpartition("#")
    if not mark or "/" in kind:  # a folder may be named so
        return name, kinds[0]
    if kind not in kinds:
        raise BadInput(
            f"[encoder] spec = {spec!r}: #{kind} is no vector of this family; it has {', '.join(f'#{k}' for k in kinds)}."
        )
    return plain, kind
