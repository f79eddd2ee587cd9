"""Pictures of reliability: the share of positives that was seen against the probability that was said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy.special import expit, logit

from forecasting.calibration import Bin
from forecasting.plots_style import BLUE, DASHED, INK, POINTS, SMALL, quiet_axes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityInfo:
    """What a picture of one finding's reliability shows.

    Attributes:
        finding: Its name.
        predicted: Mean probability of each bin, ascending, shape ``(B,)``.
        observed: Share of positives, shape ``(B,)``.
        low: Lower ends of its intervals, shape ``(B,)``.
        high: Upper ends.
        grid: Probabilities at which the mend is drawn, shape ``(G,)``.
        mended: What they are mended to.
        top: Where both axes end: rare findings have no large probabilities.
        level: Of the intervals.
    """

    finding: str
    predicted: Array
    observed: Array
    low: Array
    high: Array
    grid: Array
    mended: Array
    top: float
    level: float


def reliability_info(
    finding: str, bins: Sequence[Bin], offset: float, scale: float, level: float
) -> ReliabilityInfo:
    """Compute what a picture of one finding's reliability shows.

    Args:
        finding: Its name.
        bins: The reliability curve, from the lowest probability to the highest.
        offset: Of the mend: a logit l becomes ``offset + scale l``.
        scale: Of the mend.
        level: Of the bins' intervals.
    """
    columns = [[one.predicted, one.observed, one.low, one.high] for one in bins]
    predicted, observed, low, high = np.array(columns).T  # (B,) each
    grid = np.linspace(max(predicted[0], 1e-4), min(predicted[-1], 1 - 1e-4), 61)  # (G,)
    mended = expit(offset + scale * logit(grid))
    highest = max(float(high.max()), float(predicted[-1]), float(mended.max()))
    return ReliabilityInfo(
        finding=finding,
        predicted=predicted,
        observed=observed,
        low=low,
        high=high,
        grid=grid,
        mended=mended,
        top=min(1.0, math.ceil(10 * highest) / 10),
        level=level,
    )


def plot_reliability(info: ReliabilityInfo, ax: Axes) -> Axes:
    """Draw what was seen against what was said, with intervals, the diagonal of those that agree, and the mend."""
    ax.plot([0, info.top], [0, info.top], color=INK, linewidth=0.9, linestyle=DASHED, zorder=2)
    ax.plot(info.grid, info.mended, color=BLUE, linewidth=1.8, zorder=3)
    ax.errorbar(
        info.predicted,
        info.observed,
        yerr=(np.maximum(info.observed - info.low, 0), np.maximum(info.high - info.observed, 0)),
        **POINTS,
        clip_on=False,
    )
    for axis, limit in ((ax.xaxis, ax.set_xlim), (ax.yaxis, ax.set_ylim)):
        limit(0, info.top)
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    ax.set_xlabel("probability that was said", fontsize=SMALL)
    ax.set_ylabel("positive", fontsize=SMALL)
    quiet_axes(ax)
    return ax
