"""Learning curves that were measured to their end, perhaps several times: points to forecast from, and the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from forecasting.auc import Array
from forecasting.curve import LearningCurve, curve_from_points

FEWEST_REPETITIONS = 5
"""Repetitions from which on their spread serves as the error of a point."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """AUC by number of labels, as somebody measured it.

    Attributes:
        dataset: Findings of one data set are forecast together.
        finding: Its name.
        repetition: Which of several runs over the same data.
        n: Labels behind each point, shape ``(S,)``, rising.
        auc: The points, shape ``(S,)``.
        se: Their standard errors, shape ``(S,)``; None = not known.
        positives: Positives among the labels, shape ``(S,)``; None = not known.
        negatives: Negatives among them.
        shared: Whether the points share their items, so that their given errors move together.
    """

    dataset: str
    finding: str
    repetition: str
    n: Array
    auc: Array
    se: Array | None = None
    positives: Array | None = None
    negatives: Array | None = None
    shared: bool = False

    def until(self, n: float) -> LearningCurve:
        """The points on up to `n` labels.

        Raises:
            BadCurve: There is none, or they are no learning curve.
        """
        seen = int(np.searchsorted(self.n, n, side="right"))
        se, positives, negatives = (
            None if x is None else x[:seen] for x in (self.se, self.positives, self.negatives)
        )
        curve = curve_from_points(self.n[:seen], self.auc[:seen], se, positives, negatives, self.finding)
        return replace(curve, shared=self.shared)


@dataclass(frozen=True, slots=True, eq=False)
class TrueCurve:
    """What a curve really does: the mean over repetitions, linear in log n between the sizes measured.

    Attributes:
        n: Every size at which some repetition was measured and at least half of them can be read, ``(M,)``.
        auc: Their mean, shape ``(M,)``.
        sd: Their standard deviation, shape ``(M,)``; NaN for fewer than `FEWEST_REPETITIONS`.
    """

    n: Array
    auc: Array
    sd: Array

    def at(self, n: float) -> float:
        """AUC on `n` labels, inside the sizes measured."""
        return float(np.interp(math.log(n), np.log(self.n), self.auc))


def true_curve(repetitions: Sequence[MeasuredCurve]) -> TrueCurve:
    """Average the repetitions of one curve where at least half of them can be read."""
    sizes = np.unique(np.concatenate([curve.n for curve in repetitions]))  # (M,)
    read = np.stack(
        [np.interp(np.log(sizes), np.log(c.n), c.auc, left=np.nan, right=np.nan) for c in repetitions]
    )  # (R, M)
    count = (~np.isnan(read)).sum(axis=0)
    kept = 2 * count >= len(repetitions)
    read, count, sizes = read[:, kept], count[kept], sizes[kept]
    mean = np.nanmean(read, axis=0)
    enough = count >= FEWEST_REPETITIONS
    sd = np.sqrt(np.nansum((read - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    return TrueCurve(sizes, mean, np.where(enough, sd, np.nan))


def with_errors(curve: MeasuredCurve, truth: TrueCurve) -> tuple[MeasuredCurve, str]:
    """Give a curve's points errors, and say whence: ``given``, ``repetitions`` (their spread) or ``counts`` (none)."""
    if curve.se is not None:
        return curve, "given"
    sd = np.interp(np.log(curve.n), np.log(truth.n), truth.sd)  # (S,) NaN next to NaN
    if np.isnan(sd).any():
        return curve, "counts"
    return replace(curve, se=sd, shared=True), "repetitions"
