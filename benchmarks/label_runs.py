"""Kept runs of `bench_labels.py`: AUC by finding after so many labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZES = (100, 200, 400, 800)
ALL = "all"
"""Instead of a strategy: everything is labelled."""
ALONE = "_alone"
"""Behind the name of a strategy that is run without a random stream and a random floor."""
TYPICAL = "+typiclust"
"""Behind a name: the active part of the first batch, too, is chosen, by what is typical."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One strategy with one seed.

    Attributes:
        n: Labels, shape ``(T,)``.
        auc: Shape ``(T, K)``; .5 for a finding without a head, or one that the test half cannot measure.
        plateau: AUC with all labels, shape ``(K,)``; NaN where even those give no head, or the test half no AUC.
        prevalence: Shape ``(K,)``.
    """

    n: Array
    auc: Array
    plateau: Array
    prevalence: Array

    def at(self, sizes: Sequence[int], of: NDArray[np.bool_] | None = None) -> Array:
        """Mean AUC over some findings after so many labels, shape ``(S,)``: a pool that ends before keeps its last."""
        mean = (self.auc if of is None else self.auc[:, of]).mean(axis=1)  # (T,)
        return mean[np.maximum(np.searchsorted(self.n, sizes, "right") - 1, 0)]


Runs = dict[str, dict[int, Run]]
"""By strategy and seed."""


def read(folder: Path, world: str, strategies: Sequence[str]) -> Runs:
    """What is kept of a world."""
    found: Runs = {}
    for strategy in strategies:
        for path in sorted(folder.glob(f"{world}-{strategy}-*.json")):
            seed = int(path.stem.rsplit("-", 1)[1])
            whole = folder / f"{world}-{ALL}-{seed}.json"
            if not whole.exists():
                continue
            kept = json.loads(path.read_text())
            n = np.array(sorted(map(int, kept["auc"])), float)
            auc = np.array([kept["auc"][str(int(one))] for one in n], float)
            (plateau,) = json.loads(whole.read_text())["auc"].values()
            found.setdefault(strategy, {})[seed] = Run(
                n, np.nan_to_num(auc, nan=0.5), np.array(plateau, float), np.array(kept["prevalence"])
            )
    return found
