"""Pictures of learning curves and evidence: what is drawn is computed first, and can be tested without ink.

One accent blue on greys; every meaning also has a line style, a marker or a hatch, so that black-and-white print
and colour-blind eyes lose nothing.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.special import ndtri

from forecasting.auc import shrink
from forecasting.certificate import Evidence
from forecasting.curve import LearningCurve
from forecasting.noise import point_variance
from forecasting.plots_style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    POINTS,
    SMALL,
    TINY,
    ZERO_ROOM,
    mark_goal,
    mark_place,
    mark_zero,
    plain_text,
    quiet_axes,
    white_figure,
)
from forecasting.powerlaw import Forecast, Interval, LabelRange
from forecasting.words import auc_text, level_text, range_text

FARTHEST = 40  # times the labels of now: beyond it the axis ends, and a range goes on as an arrow


@dataclass(frozen=True, slots=True, eq=False)
class CurveInfo:
    """What a picture of one learning curve shows.

    Attributes:
        finding: Its name.
        n_now: Labels known now.
        sizes: Labels behind each measured point, shape ``(S,)``.
        auc: The points, shape ``(S,)``.
        auc_low: Lower ends of their error bars, at `level`, shape ``(S,)``.
        auc_high: Upper ends.
        grid: Labels at which the forecast is drawn, shape ``(G,)``; empty without a forecast.
        mean: The forecast, shape ``(G,)``.
        low: Lower edge of its band, at `level`, shape ``(G,)``.
        high: Upper edge.
        target: AUC to reach; None if there is none.
        needed: Labels needed for it, in all; None without target or forecast.
        level: Level of error bars and band.
        zero: AUC before the first label, by texts alone; None = not known.
    """

    finding: str
    n_now: int
    sizes: NDArray[np.float64]
    auc: NDArray[np.float64]
    auc_low: NDArray[np.float64]
    auc_high: NDArray[np.float64]
    grid: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    target: float | None
    needed: LabelRange | None
    level: float
    zero: Interval | None = None


def curve_info(
    curve: LearningCurve,
    forecast: Forecast | None,
    target: float | None = None,
    level: float = 0.9,
    span: tuple[float, float] | None = None,
) -> CurveInfo:
    """Compute what a picture of one learning curve shows.

    Args:
        curve: The measured points.
        forecast: Their forecast; None = only the points.
        target: AUC to reach; None = no target.
        level: Level of error bars and band.
        span: First and last number of labels at which the forecast is drawn; None = what it asks for.
    """
    reach = float(ndtri(0.5 + level / 2)) * _point_sd(curve)  # (S,)
    needed = forecast.labels_needed(target) if forecast is not None and target is not None else None
    grid: NDArray[np.float64] = np.empty(0)
    if forecast is not None:
        grid = np.asarray(np.geomspace(*(span or label_span(curve, needed)), 61))  # (G,)
    told = [forecast.auc(n, level) for n in grid] if forecast is not None else []
    return CurveInfo(
        finding=curve.finding,
        n_now=curve.n,
        sizes=curve.sizes,
        auc=curve.auc,
        auc_low=np.clip(curve.auc - reach, 0, 1),
        auc_high=np.clip(curve.auc + reach, 0, 1),
        grid=grid,
        mean=np.array([i.mean for i in told]),
        low=np.array([i.low for i in told]),
        high=np.array([i.high for i in told]),
        target=target,
        needed=needed,
        level=level,
    )


def plot_curve(info: CurveInfo, ax: Axes) -> Axes:
    """Draw one learning curve: points, forecast with band, target, labels now, labels needed."""
    past, ahead = info.grid <= info.n_now, info.grid >= info.n_now
    ax.fill_between(info.grid, info.low, info.high, color=LIGHT, linewidth=0, zorder=1)
    for edge in (info.low, info.high):
        ax.plot(info.grid, edge, color=BLUE, linewidth=0.5, alpha=0.6, zorder=2)
    ax.plot(info.grid[past], info.mean[past], color=BLUE, linewidth=1.8, zorder=4)
    ax.plot(info.grid[ahead], info.mean[ahead], color=BLUE, linewidth=1.8, linestyle=(0, (4, 1.6)), zorder=4)
    ax.errorbar(
        info.sizes,
        info.auc,
        yerr=(info.auc - info.auc_low, info.auc_high - info.auc),
        **POINTS,
    )
    mark_place(info.n_now, f"now {info.n_now:,}", ax)
    _set_axes(info, ax)
    if info.target is not None:
        mark_goal(info.target, f"target\n{auc_text(info.target)}", ax)
    if info.needed is not None:
        _draw_needed(info.needed, ax)
    if info.zero is not None:
        mark_zero(info.zero.mean, (info.zero.low, info.zero.high), ax)
    ax.set_title(
        plain_text(textwrap.shorten(info.finding, 38, placeholder="…")),
        loc="left",
        fontsize=SMALL + 1,
        fontweight="bold",
        pad=12,
    )
    return ax


def plot_evidence(evidence: Evidence, ax: Axes) -> Axes:
    """Draw the certificate's capital after each positive, on a log scale, and the line that certifies."""
    path = np.array([0.0, *evidence.path])
    ax.step(np.arange(len(path)), path, where="post", color=BLUE, linewidth=1.3, zorder=3)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=1)
    mark_goal(evidence.threshold, f"certifies\nx{math.exp(evidence.threshold):.0f}", ax)
    if evidence.certified:
        first = int(np.argmax(path >= evidence.threshold))
        ax.plot(first, path[first], "o", color=BLUE, markersize=5, markeredgecolor=INK, zorder=4)
    ax.set_xlim(0, max(len(path) - 1, 10))
    ax.set_ylim(min(path.min(), -0.5) - 0.3, max(path.max(), evidence.threshold) + 0.5)
    lowest, highest = (math.trunc(end / math.log(10)) for end in ax.get_ylim())
    step = math.ceil((highest - lowest + 1) / 4)
    powers = [
        power for power in range(lowest, highest + 1) if power % step == 0
    ]  # 10^0 is always one of them
    names = [f"{10.0**power:g}" if -2 <= power <= 3 else f"$10^{{{power}}}$" for power in powers]
    ax.set_yticks([power * math.log(10) for power in powers], names)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel(f"random positives (AUC tested {auc_text(evidence.tested)})", fontsize=TINY)
    ax.set_ylabel("capital", fontsize=TINY)
    quiet_axes(ax)
    return ax


def draw_curves(
    infos: Sequence[CurveInfo], evidences: Mapping[str, Evidence] | None = None, title: str | None = None
) -> Figure:
    """Draw one panel a finding, under it the certificate's capital where there is one, and one legend for all.

    Args:
        infos: One a finding, drawn in this order.
        evidences: By finding; None = curves only.
        title: Above everything; None = no title.
    """
    n_columns = _columns(len(infos))
    n_rows = max(1, math.ceil(len(infos) / n_columns))
    panel = 3.1 if evidences is None else 4.3  # inches
    width = max(3.4 * n_columns + 0.6, 5.2)
    legend_columns = 3 if n_columns < 3 else 6
    legend_rows = 6 // legend_columns
    height = panel * n_rows + (0.34 if title else 0.06) + 0.25 * legend_rows
    figure = white_figure(width, height)
    grid = figure.add_gridspec(
        n_rows,
        n_columns,
        left=0.62 / width,
        right=1 - 0.62 / width,
        top=1 - ((0.34 if title else 0.06) + 0.36) / height,
        bottom=(0.5 + 0.25 * legend_rows + 0.12) / height,
        wspace=0.36 if evidences is None else 0.46,
        hspace=0.46 if evidences is None else 0.36,
    )
    for place, info in enumerate(infos):
        cell = grid[place // n_columns, place % n_columns]
        if evidences is None:
            plot_curve(info, figure.add_subplot(cell))
            continue
        both = cell.subgridspec(2, 1, height_ratios=(2.5, 1), hspace=0.5)
        plot_curve(info, figure.add_subplot(both[0]))
        if info.finding in evidences:
            plot_evidence(evidences[info.finding], figure.add_subplot(both[1]))
    if infos:
        figure.legend(
            handles=_legend(max(infos, key=lambda info: (info.needed is not None, info.zero is not None))),
            loc="lower center",
            ncols=legend_columns,
            fontsize=TINY + 0.5,
            frameon=False,
            handlelength=2.4,
            columnspacing=1.4,
        )
    if title:
        figure.suptitle(title, x=0.62 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=11)
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Save as the suffix says, PNG or SVG; the same picture gives the same bytes.

    Raises:
        ValueError: Another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise ValueError(f"{path.name}: a picture is saved as .png or .svg.")
    figure.savefig(path, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)


def _point_sd(curve: LearningCurve) -> NDArray[np.float64]:
    if curve.se is not None:
        return curve.se
    counts = curve.independent
    at = np.array([shrink(float(auc), *counts) for auc in curve.auc])  # (S,)
    return np.sqrt(point_variance(at, *counts) + curve.bias_se**2)


def label_span(curve: LearningCurve, needed: LabelRange | None) -> tuple[float, float]:
    """First and last number of labels on the axis."""
    first = min([float(curve.n), *curve.sizes]) * 0.85
    ends = [4.0 * curve.n]
    if needed is not None:
        ends += [1.25 * x for x in (needed.low, needed.median, needed.high) if math.isfinite(x)]
    return max(first, 1.0), max(min(max(ends), FARTHEST * curve.n), 1.0 + first)


def _set_axes(info: CurveInfo, ax: Axes) -> None:
    ax.set_xscale("log")
    ends = info.grid[[0, -1]] if len(info.grid) else np.array([*info.sizes, info.n_now])
    first, last = float(ends.min()) * 0.95, float(ends.max()) * 1.05
    if info.zero is not None:
        first *= (first / last) ** ZERO_ROOM
    ax.set_xlim(first, last)
    shown = np.concatenate(
        [
            info.auc_low,
            info.low[info.grid >= 0.9 * float(np.min(ends))],
            [info.target or 1.0, 1.0 if info.zero is None else info.zero.low],
        ]
    )
    floor = math.floor(10 * max(0.0, min(float(np.min(shown)), 0.7))) / 10
    ax.set_ylim(
        floor - 0.22 * (1 - floor), 1.0 + 0.02 * (1 - floor)
    )  # the strip below holds the labels needed
    ax.set_yticks(np.arange(floor, 1.01, 0.1 if floor > 0.35 else 0.2))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: auc_text(y, 1)))
    decades = math.log10(float(ends.max()) / float(ends.min()))
    ax.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,))
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("labels", fontsize=SMALL)
    ax.set_ylabel("AUC", fontsize=SMALL)
    quiet_axes(ax)


def _draw_needed(needed: LabelRange, ax: Axes) -> None:
    """A bracket in the strip above the x axis; an arrow where it goes on."""
    left, right = ax.get_xlim()
    strip = 0.045  # of the axes' height
    text = range_text(needed.low, needed.high).removesuffix(", no upper limit visible")
    if needed.low >= right:
        place, align = 0.98, "right"
    else:
        begin, end = max(needed.low, left), min(needed.high, right)
        both = ax.get_xaxis_transform()
        style: dict[str, Any] = {"color": BLUE, "linewidth": 2.2, "solid_capstyle": "butt", "zorder": 6}
        ax.plot([begin, end], [strip, strip], transform=both, **style)
        for x, goes_on, marker in ((begin, needed.low < left, "<"), (end, needed.high > right, ">")):
            shape: dict[str, Any] = {"marker": marker if goes_on else "|", "markersize": 6 if goes_on else 8}
            ax.plot(
                [x],
                [strip],
                transform=both,
                color=BLUE,
                markeredgewidth=1.8,
                clip_on=False,
                zorder=6,
                **shape,
            )
        place = math.log(math.sqrt(begin * end) / left) / math.log(right / left)
        align = "left" if place < 0.3 else "right" if place > 0.7 else "center"
        place = {"left": max(place - 0.2, 0.02), "right": min(place + 0.2, 0.98), "center": place}[align]
    ax.text(
        place,
        strip + 0.04,
        text,
        transform=ax.transAxes,
        ha=align,
        va="bottom",
        fontsize=TINY,
        color=BLUE,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        zorder=7,
    )


def _legend(info: CurveInfo) -> list[Any]:
    level = level_text(info.level)
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            markerfacecolor="white",
            markersize=3.8,
            linewidth=0.8,
            label=f"measured, {level} error",
        ),
        Line2D([], [], color=BLUE, linewidth=1.8, label="fitted curve"),
        Line2D([], [], color=BLUE, linewidth=1.8, linestyle=(0, (4, 1.6)), label="forecast"),
        Patch(facecolor=LIGHT, edgecolor=BLUE, linewidth=0.5, label=f"{level} band"),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=":", label="labels now"),
    ]
    if info.zero is not None:
        handles.append(
            Line2D(
                [],
                [],
                color=BLUE,
                marker="D",
                markerfacecolor="white",
                markersize=4.5,
                linewidth=0.9,
                label=f"zero labels: texts alone, {level}",
            )
        )
    if info.needed is not None:
        said = f"labels at the target, {level_text(info.needed.level)}"
        handles.append(
            Line2D(
                [], [], color=BLUE, linewidth=2.2, marker="|", markersize=8, markeredgewidth=1.8, label=said
            )
        )
    return handles


def _columns(n: int) -> int:
    return max(n, 1) if n <= 3 else 2 if n == 4 else 3 if n <= 6 else 4
