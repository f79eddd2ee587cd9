"""Picture of encoders compared: one panel a finding, one curve an encoder, told apart by dash, marker and shade."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from forecasting.curve import LearningCurve
from forecasting.plots import CurveInfo, curve_info, label_span
from forecasting.plots_style import (
    BLUE,
    GREY,
    INK,
    SMALL,
    TINY,
    mark_goal,
    mark_place,
    plain_text,
    quiet_axes,
    white_figure,
)
from forecasting.powerlaw import Forecast
from forecasting.words import auc_text, level_text, range_text

COLOURS = (INK, BLUE, "#c4691c", "#4d4d4d", "#5aa0d8", "#7a4a12")
"""Unlike their neighbours also in grey."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
ROW = 0.062  # of the axes' height: labels needed under one encoder
NAME = 46  # characters of an encoder's name


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonInfo:
    """What one panel shows.

    Attributes:
        finding: Its name.
        n_now: Labels known now.
        target: AUC to reach.
        level: Of the bands.
        curves: By encoder, all over the same numbers of labels.
    """

    finding: str
    n_now: int
    target: float
    level: float
    curves: Mapping[str, CurveInfo]


def comparison_info(
    encoders: Mapping[str, tuple[LearningCurve, Forecast]], target: float, level: float = 0.9
) -> ComparisonInfo:
    """Compute what the panel of one finding shows.

    Args:
        encoders: By name: the curve of the finding and its forecast.
        target: AUC to reach.
        level: Level of the bands.
    """
    spans = [label_span(curve, forecast.labels_needed(target)) for curve, forecast in encoders.values()]
    span = min(first for first, _ in spans), max(last for _, last in spans)
    first, _ = next(iter(encoders.values()))
    return ComparisonInfo(
        finding=first.finding,
        n_now=first.n,
        target=target,
        level=level,
        curves={
            name: curve_info(curve, forecast, target, level, span)
            for name, (curve, forecast) in encoders.items()
        },
    )


def plot_comparison(info: ComparisonInfo, ax: Axes) -> Axes:
    """Draw one finding: measured points, forecasts with their bands, and below them the labels needed."""
    curves = list(info.curves.values())
    for place, curve in enumerate(curves):
        style = _style(place)
        ax.fill_between(
            curve.grid, curve.low, curve.high, color=style["color"], alpha=0.09, linewidth=0, zorder=1
        )
        for edge in (curve.low, curve.high):
            ax.plot(
                curve.grid, edge, color=style["color"], linestyle=style["linestyle"], linewidth=0.5, zorder=2
            )
        ax.plot(curve.grid, curve.mean, **style, linewidth=1.7, zorder=4 - place / 100)
        ax.plot(
            curve.sizes,
            curve.auc,
            linestyle="",
            marker=MARKERS[place % len(MARKERS)],
            color=style["color"],
            markerfacecolor="white",
            markersize=4,
            zorder=5,
        )
    _set_axes(info, ax)
    mark_place(info.n_now, f"now {info.n_now:,}", ax)
    mark_goal(info.target, f"target\n{auc_text(info.target)}", ax)
    for place, curve in enumerate(curves):
        _draw_needed(curve, place, len(curves), ax)
    title = textwrap.shorten(info.finding, 38, placeholder="…")
    ax.set_title(plain_text(title), loc="left", fontsize=SMALL + 1, fontweight="bold", pad=12)
    return ax


def draw_comparison(infos: Sequence[ComparisonInfo]) -> Figure:
    """Draw one panel a finding and one legend for all."""
    n_columns = len(infos) if len(infos) <= 3 else 2 if len(infos) == 4 else 3
    n_rows = math.ceil(len(infos) / n_columns)
    handles = _legend(infos[0])
    panel, gap, left, right = (
        2.9,
        1.55,
        0.62,
        1.0,
    )  # inches; right of a panel stand its target and labels needed
    width = left + n_columns * panel + (n_columns - 1) * gap + right
    longest = max(len(str(handle.get_label())) for handle in handles)
    legend_columns = max(1, min(len(handles), int(width / (0.056 * longest + 0.75))))
    below = 0.2 * math.ceil(len(handles) / legend_columns) + 0.15
    height = 3.5 * n_rows + below + 0.2
    figure = white_figure(width, height)
    grid = figure.add_gridspec(
        n_rows,
        n_columns,
        left=left / width,
        right=1 - right / width,
        top=1 - 0.42 / height,
        bottom=(0.5 + below) / height,
        wspace=gap / panel,
        hspace=0.42,
    )
    for place, info in enumerate(infos):
        plot_comparison(info, figure.add_subplot(grid[place // n_columns, place % n_columns]))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=legend_columns,
        fontsize=TINY + 0.5,
        frameon=False,
        handlelength=3.2,
        columnspacing=1.4,
    )
    return figure


def _style(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}


def _set_axes(info: ComparisonInfo, ax: Axes) -> None:
    curves = list(info.curves.values())
    ax.set_xscale("log")
    first, last = float(curves[0].grid[0]), float(curves[0].grid[-1])
    ax.set_xlim(first * 0.95, last * 1.05)
    lowest = min(float(np.min(np.concatenate([c.auc, c.low, [info.target]]))) for c in curves)
    floor = math.floor(10 * max(0.0, min(lowest, 0.8))) / 10
    strip = ROW * len(curves) + 0.03  # of the axes' height, below the lowest AUC
    bottom = floor - (1.02 - floor) * strip / (1 - strip)
    ax.set_ylim(bottom, 1.02)
    ax.set_yticks(np.arange(floor, 1.01, 0.1))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: auc_text(y, 1)))
    decades = math.log10(last / first)
    subs = (1, 2, 5) if decades < 2.2 else (1, 3) if decades < 3.2 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("labels", fontsize=SMALL)
    ax.set_ylabel("AUC", fontsize=SMALL)
    quiet_axes(ax)


def _draw_needed(curve: CurveInfo, place: int, n_curves: int, ax: Axes) -> None:
    """The labels needed under one encoder: a line in the strip above the x axis, its marker at the median."""
    needed = curve.needed
    if needed is None:
        return
    left, right = ax.get_xlim()
    height = ROW * (n_curves - place - 0.35)
    style = _style(place)
    ax.annotate(
        range_text(needed.low, needed.high).removesuffix(", no upper limit visible"),
        (1.0, height),
        xycoords="axes fraction",
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=TINY - 0.5,
        color=style["color"],
        annotation_clip=False,
    )
    if needed.low >= right:
        return
    begin, end = max(needed.low, left), min(needed.high, right)
    both = ax.get_xaxis_transform()
    shape: dict[str, Any] = {"transform": both, "color": style["color"], "clip_on": False, "zorder": 6}
    ax.plot([begin, end], [height, height], transform=both, **style, linewidth=1.5, zorder=6)
    for x, goes_on, arrow in ((begin, needed.low < left, "<"), (end, needed.high > right, ">")):
        if goes_on:
            ax.plot([x], [height], marker=arrow, markersize=4, **shape)
    if begin <= needed.median <= end:
        marker = MARKERS[place % len(MARKERS)]
        ax.plot([needed.median], [height], marker=marker, markerfacecolor="white", markersize=4, **shape)


def _legend(info: ComparisonInfo) -> list[Any]:
    handles: list[Any] = [
        Line2D(
            [],
            [],
            **_style(place),
            linewidth=1.7,
            marker=MARKERS[place % len(MARKERS)],
            markerfacecolor="white",
            markersize=4,
            label=plain_text(name if len(name) <= NAME else f"{name[: NAME - 1]}…"),
        )
        for place, name in enumerate(info.curves)
    ]
    needed = next(iter(info.curves.values())).needed
    below = "" if needed is None else f"; below: labels at the target, {level_text(needed.level)}"
    band = Patch(
        facecolor="#e8e8e8", edgecolor=GREY, linewidth=0.5, label=f"{level_text(info.level)} band{below}"
    )
    return [*handles, band]
