"""What all pictures share: ink, sizes, a white figure, marks across it, quiet axes."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine

BLUE, LIGHT, GREY, INK = "#1f5fa8", "#cfdcec", "#8a8a8a", "#1a1a1a"
SMALL, TINY = 8.0, 7.0  # points of type
DASHED = (0, (6, 3))  # a goal: what is to be reached
POINTS: dict[str, Any] = {
    "fmt": "o",
    "color": INK,
    "markerfacecolor": "white",
    "markersize": 3.8,
    "elinewidth": 0.8,
    "capsize": 2,
    "zorder": 5,
}
"""What was measured, with its errors, as `Axes.errorbar` takes it."""
ZERO_ROOM = 0.12  # of the decades of a log axis: room to its left for zero labels, which it does not have


def white_figure(width: float, height: float, layout: LayoutEngine | None = None) -> Figure:
    """An empty figure of so many inches that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain_text(text: str) -> str:
    """A name from outside as matplotlib draws it unread: between two dollar signs it would see mathematics."""
    return text.replace("$", r"\$")


def mark_place(x: float, text: str, ax: Axes) -> None:
    """A dotted line up from a place on the x axis, its name above the axes."""
    ax.axvline(x, color=GREY, linewidth=0.9, linestyle=":", zorder=2.6)
    ax.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=TINY,
        color="#555555",
    )


def mark_goal(y: float, text: str, ax: Axes) -> None:
    """A dashed line across the axes at what is to be reached, its name to the right."""
    ax.axhline(y, color=INK, linewidth=0.9, linestyle=DASHED, zorder=2.7)
    ax.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=TINY,
        color=INK,
        annotation_clip=False,
    )


def mark_zero(auc: float, interval: tuple[float, float], ax: Axes) -> None:
    """A diamond with its interval at zero labels, in the room to the left of a log axis; a faint line breaks the axis."""
    at, beside = 0.035, ax.get_yaxis_transform()  # share of the axes' width
    ax.plot([at, at], interval, transform=beside, color=BLUE, linewidth=0.9, zorder=5)
    diamond = {"marker": "D", "markersize": 4.5, "markerfacecolor": "white"}
    ax.plot([at], [auc], transform=beside, color=BLUE, zorder=6, **diamond)  # type: ignore[arg-type]
    ax.plot([2 * at, 2 * at], [0, 1], transform=ax.transAxes, color="#e6e6e6", linewidth=0.8, zorder=1)
    ax.annotate(
        "0",
        (at, 0.0),
        xycoords="axes fraction",
        xytext=(0, -6),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=TINY,
    )


def quiet_axes(ax: Axes) -> None:
    """Thin ticks and spines, two of them gone, and a faint grid behind."""
    ax.tick_params(labelsize=TINY, length=3, width=0.6)
    ax.tick_params(which="minor", length=1.8, width=0.4)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_linewidth(0.7)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.5, zorder=0)
    ax.set_axisbelow(True)
