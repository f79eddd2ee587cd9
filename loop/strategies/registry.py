"""Strategies by name: ours, and those that a team's own package brings.

A package adds one by an entry point, in its `pyproject.toml`::

    [project.entry-points."annotation_loop.strategies"]
    ours = "our_package.module:choose"

`choose(pool, n, rng)` is a `loop.strategies.Strategy`. It is asked only once the probe has a head, unless it has an
attribute ``needs_probe = False``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from loop.errors import BadInput
from loop.strategies.badge import badge
from loop.strategies.committee import committee
from loop.strategies.hybrid import hybrid
from loop.strategies.pool import Choice, Pool, Strategy
from loop.strategies.spread import k_center, ranked_batch
from loop.strategies.typical import typiclust
from loop.strategynames import find_added, refuse_unknown

OURS: dict[str, Strategy] = {
    "ranked": ranked_batch,
    "k_center": k_center,
    "badge": badge,
    "typiclust": typiclust,
    "committee": committee,
    "hybrid": hybrid,
}
"""Those that look at embeddings; random, uncertainty, margin and entropy need none."""

WITHOUT_PROBE = ("k_center", "typiclust", "hybrid")


def find_strategy(name: str) -> tuple[Strategy, bool]:
    """A strategy that looks at embeddings, and whether it needs the probe to have a head.

    Raises:
        BadInput: There is none of this name, or it cannot be loaded.
    """
    if name in OURS:
        return OURS[name], name not in WITHOUT_PROBE
    added = find_added().get(name)
    if added is None:
        raise BadInput(refuse_unknown(name))
    try:
        loaded = added.load()
    except Exception as error:  # other people's code may fail in any way
        raise BadInput(
            f"The strategy {name!r} cannot be loaded from {added.value}: {type(error).__name__}: {error}. Mend that package, or "
            "set [batch] strategy to another."
        ) from error
    if not callable(loaded):
        raise BadInput(
            f"The strategy {name!r}, {added.value}, is no function of (pool, n, rng) but a {type(loaded).__name__}. Mend that "
            "package, or set [batch] strategy to another."
        )
    return cast(Strategy, loaded), bool(getattr(loaded, "needs_probe", True))


def run_strategy(name: str, strategy: Strategy, pool: Pool, n: int, rng: np.random.Generator) -> list[Choice]:
    """Choose at most n images, and check what came back.

    Raises:
        BadInput: Somebody else's strategy failed, or broke a law of a batch. Nothing was asked.
    """
    if name in OURS:
        return list(strategy(pool, n, rng))
    remedy = "Nothing was asked and nothing is lost; mend it, or set [batch] strategy to another."
    try:
        choices = list(strategy(pool, n, rng))
    except Exception as error:  # other people's code may fail in any way
        raise BadInput(f"The strategy {name!r} failed: {type(error).__name__}: {error}. {remedy}") from error
    if fault := find_fault(choices, pool, n):
        raise BadInput(f"The strategy {name!r} {fault}. {remedy}")
    return choices


def find_fault(choices: Sequence[object], pool: Pool, n: int) -> str:
    """The law of a batch that choices break, in words; empty if none."""
    if len(choices) > n:
        return f"chose {len(choices)} images where {n} were wanted"
    patients: set[int] = set()
    for choice in choices:
        if not isinstance(choice, Choice):
            return f"gave a {type(choice).__name__} where a loop.strategies.Choice belongs"
        if not 0 <= choice.row < len(pool):
            return f"chose row {choice.row} of a pool of {len(pool)}"
        if not 0 < choice.inclusion_probability <= 1:
            return f"gave an inclusion probability of {choice.inclusion_probability}, which is not on (0, 1]"
        if not choice.reason:
            return f"gave no reason for row {choice.row}"
        patient = int(pool.patients[choice.row])
        if patient in patients:
            return f"chose two images of one patient, the second in row {choice.row}"
        patients.add(patient)
    return ""
