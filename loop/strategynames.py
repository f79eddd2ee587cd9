"""The names that `[batch] strategy` takes: ours, and those of packages that add one. Nothing is imported for a name."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

STRATEGIES = (
    "random",
    "uncertainty",
    "margin",
    "entropy",
    "ranked",
    "k_center",
    "badge",
    "typiclust",
    "committee",
    "hybrid",
)

GROUP = "annotation_loop.strategies"
"""Entry points by which a package adds a strategy."""


def find_added() -> dict[str, EntryPoint]:
    """Strategies that installed packages add; one that has a name of ours is not found."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in STRATEGIES}


def refuse_unknown(name: str) -> str:
    """What is wrong with a name that no strategy has, and which there are; empty if one has it."""
    known = (*STRATEGIES, *find_added())
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"There is no strategy {name!r}; choose one of {', '.join(known)}.{hint} A package of your own adds one by the "
        f'entry point group "{GROUP}".'
    )
