"""Picture of a plan: random images that certifying takes, against the AUC the models will have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from forecasting.planning import Plan
from forecasting.plots_style import BLUE, INK, SMALL, TINY, mark_place, quiet_axes, white_figure
from forecasting.words import auc_text, level_text

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
COLOURS = (INK, BLUE, "#6b6b6b")
GAP = 9.0  # points between the names of two lines, at least


@dataclass(frozen=True, slots=True, eq=False)
class PlanInfo:
    """What a picture of one plan shows.

    Attributes:
        target: AUC to reach.
        tested: AUC that is tested.
        power: Probability of having the certificate by then.
        auc: The models' AUCs, shape ``(M,)``, rising.
        prevalences: Shares of positives, rarest first; one line each.
        labels: Random images needed, shape ``(P, M)``; NaN = not in sight.
    """

    target: float
    tested: float
    power: float
    auc: NDArray[np.float64]
    prevalences: tuple[float, ...]
    labels: NDArray[np.float64]


def plan_info(plan: Plan) -> PlanInfo:
    """Compute what a picture of one plan shows."""
    found = {(need.prevalence, need.auc): need.labels for need in plan.needs}
    aucs, prevalences = (sorted({key[i] for key in found}) for i in (1, 0))
    labels = np.array([[found[p, auc] for auc in aucs] for p in prevalences])  # (P, M)
    return PlanInfo(
        target=plan.target,
        tested=plan.tested,
        power=plan.power,
        auc=np.array(aucs),
        prevalences=tuple(prevalences),
        labels=np.where(np.isfinite(labels), labels, np.nan),
    )


def plot_plan(info: PlanInfo, ax: Axes) -> Axes:
    """Draw one line a prevalence, named at its right end; labels are on a log scale."""
    for place, labels in enumerate(info.labels):
        ax.plot(
            info.auc,
            labels,
            color=COLOURS[place % len(COLOURS)],
            linestyle=DASHES[place % len(DASHES)],
            linewidth=1.4,
            marker=MARKERS[place % len(MARKERS)],
            markersize=4.5,
            markerfacecolor="white",
            zorder=3,
        )
    ax.set_yscale("log")
    room = max(0.02, 0.12 * float(np.ptp(info.auc)))
    ax.set_xlim(min(float(info.auc[0]), info.target) - room / 2, float(info.auc[-1]) + room / 2)
    seen = info.labels[np.isfinite(info.labels)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (100.0, 10_000.0)
    ax.set_ylim(low / 1.6, high * 1.6)
    mark_place(info.target, f"target {auc_text(info.target)}", ax)
    _name_lines(info, ax)
    digits = 2 if np.allclose(100 * info.auc, np.round(100 * info.auc), atol=1e-6) else 3
    ax.set_xticks(info.auc, [auc_text(auc, digits) for auc in info.auc])
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1, 3)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    unseen = "" if np.isfinite(info.labels).all() else " (no point: not in sight)"
    ax.set_xlabel(f"AUC the model has{unseen}", fontsize=SMALL)
    ax.set_ylabel("random images", fontsize=SMALL)
    quiet_axes(ax)
    return ax


def draw_plans(infos: Sequence[PlanInfo]) -> Figure:
    """Draw one panel a target."""
    n_columns = min(len(infos), 3)
    n_rows = math.ceil(len(infos) / n_columns)
    width, height = 4.3 * n_columns + 0.4, 3.7 * n_rows
    figure = white_figure(width, height, ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    for place, info in enumerate(infos):
        ax = plot_plan(info, figure.add_subplot(n_rows, n_columns, place + 1))
        ax.set_title(
            f"To certify an AUC above {auc_text(info.tested)} with {level_text(info.power)} probability",
            loc="left",
            fontsize=SMALL + 0.5,
            fontweight="bold",
            pad=13,
        )
    return figure


def _name_lines(info: PlanInfo, ax: Axes) -> None:
    """Write each prevalence beside the last point of its line, or that it has none; names keep their distance."""
    ends = [np.flatnonzero(np.isfinite(labels)) for labels in info.labels]
    height = ax.bbox.height * 72 / ax.figure.dpi  # points
    bottom, top = np.log(ax.get_ylim())
    taken = -math.inf
    for place in sorted(
        range(len(ends)), key=lambda i: info.labels[i, ends[i][-1]] if len(ends[i]) else math.inf
    ):
        text = f"{level_text(info.prevalences[place])} positive"
        if not len(ends[place]):
            text += ": not in sight"
        at = info.labels[place, ends[place][-1]] if len(ends[place]) else math.exp(top)
        wanted = (math.log(at) - bottom) / (top - bottom) * height  # points above the axis
        taken = max(wanted, taken + GAP)
        last = float(info.auc[ends[place][-1]]) if len(ends[place]) else float(info.auc[-1])
        ax.annotate(
            text,
            (last, at),
            xytext=(7, taken - wanted),
            textcoords="offset points",
            va="center",
            fontsize=TINY,
            color=COLOURS[place % len(COLOURS)],
            annotation_clip=False,
        )
