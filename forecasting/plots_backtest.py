"""The picture of a backtest: one row of panels for the error, one for the intervals, a panel a horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from forecasting.backtest import HORIZONS, OURS
from forecasting.measures import Measure
from forecasting.plots_style import BLUE, DASHED, GREY, INK, SMALL, TINY, white_figure
from forecasting.words import auc_text, level_text

ASKED = {"2x": "at 2x the labels", "4x": "at 4x", "16x": "at 16x", "last": "at the last size"}


def draw_backtest(measures: Mapping[str, Mapping[str, Measure]], level: float) -> Figure:
    """Draw error and coverage of every method by horizon: ours as a filled dot, the others hollow.

    Args:
        measures: Method to horizon to measure.
        level: Level of the intervals.
    """
    horizons = [horizon for horizon in HORIZONS if horizon in measures[OURS]]
    width = 1.5 + 1.75 * len(horizons)
    figure = white_figure(width, 4.6)
    panels = figure.subplots(
        2,
        len(horizons),
        sharey=True,
        squeeze=False,
        gridspec_kw={
            "left": 1.15 / width,
            "right": 1 - 0.12 / width,
            "top": 0.9,
            "bottom": 0.1,
            "hspace": 0.5,
        },
    )
    most = max(measures[name][horizon].error for name in measures for horizon in horizons)
    for column, horizon in enumerate(horizons):
        error, cover = panels[:, column]
        plot_measure(measures, horizon, lambda m: m.error, lambda m: auc_text(m.error), error)
        error.set_xlim(0, 1.45 * most)
        count = measures[OURS][horizon].replays
        error.set_title(f"{ASKED[horizon]} ({count:,})", loc="left", fontsize=SMALL, fontweight="bold")
        error.set_xlabel("mean absolute error", fontsize=TINY)
        plot_measure(
            measures, horizon, lambda m: m.covered, lambda m: auc_text(m.width, 2), cover, texts_at=1.12
        )
        cover.axvline(level, color=INK, linewidth=0.9, linestyle=DASHED, zorder=2)
        cover.set_xlim(0, 1.4)
        cover.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        cover.set_xlabel("truth inside", fontsize=TINY)
    panels[1, 0].set_title(
        f"{level_text(level)} intervals: how often they hold the truth, and their mean width",
        loc="left",
        fontsize=SMALL,
        fontweight="bold",
    )
    return figure


def plot_measure(
    measures: Mapping[str, Mapping[str, Measure]],
    horizon: str,
    value: Callable[[Measure], float],
    text: Callable[[Measure], str],
    ax: Axes,
    texts_at: float | None = None,
) -> Axes:
    """Draw one number of every method at one horizon as a dot with a text; a method without it gets no dot.

    Args:
        measures: Method to horizon to measure.
        horizon: The horizon drawn.
        value: Where the dot lies.
        text: What is written.
        ax: Where to draw.
        texts_at: Where all texts stand; None = each beside its dot.
    """
    for row, (name, by_horizon) in enumerate(measures.items()):
        place, ours = value(by_horizon[horizon]), name == OURS
        if math.isnan(place):
            continue
        ax.hlines(row, 0, place, color=BLUE if ours else GREY, linewidth=1.6 if ours else 0.7, zorder=2)
        ax.plot(
            place,
            row,
            "o",
            markersize=5.5,
            color=BLUE if ours else INK,
            markerfacecolor=BLUE if ours else "white",
            markeredgewidth=0.9,
            zorder=3,
        )
        ax.annotate(
            text(by_horizon[horizon]),
            (place if texts_at is None else texts_at, row),
            xytext=(5 if texts_at is None else 0, 0),
            textcoords="offset points",
            va="center",
            fontsize=TINY,
            fontweight="bold" if ours else "normal",
        )
    ax.set_yticks(np.arange(len(measures)), list(measures), fontsize=TINY)
    ax.set_ylim(len(measures) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize=TINY, length=3, width=0.6)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    return ax
