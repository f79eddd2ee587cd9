"""The picture of a backtest: dots stand where the measures are, ours apart without colour, no text on another."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from drawn_texts import texts

from forecasting.backtest import method_names
from forecasting.measures import Measure
from forecasting.plots_backtest import draw_backtest


@pytest.fixture
def measures() -> dict[str, dict[str, Measure]]:
    rng = np.random.default_rng(0)
    one = Measure(500, 1.0, 0.03, 0.0, 0.0, 0.0, 500, 0.88, 0.12, 0.2, 300, 1.5, 0.3, math.nan)
    return {
        name: {
            horizon: replace(one, error=float(rng.uniform(0.01, 0.09)), covered=float(rng.uniform(0.2, 1)))
            for horizon in ("2x", "4x", "16x", "last")
        }
        for name in method_names()
    }


def test_every_dot_stands_at_its_measure(measures: dict[str, dict[str, Measure]]) -> None:
    figure = draw_backtest(measures, 0.9)
    errors, covers = figure.axes[:4], figure.axes[4:]
    for horizon, error, cover in zip(measures["bayes"], errors, covers, strict=True):
        by_method = [by_horizon[horizon] for by_horizon in measures.values()]
        dots = [line for line in error.lines if line.get_marker() == "o"]
        assert [float(line.get_xdata()[0]) for line in dots] == [m.error for m in by_method]  # type: ignore[index]
        dots = [line for line in cover.lines if line.get_marker() == "o"]
        assert [float(line.get_xdata()[0]) for line in dots] == [m.covered for m in by_method]  # type: ignore[index]
        assert [line for line in cover.lines if list(line.get_xdata()) == [0.9, 0.9]]  # type: ignore[arg-type]
        assert [line.get_markerfacecolor() == "white" for line in dots] == [False] + 6 * [True]


def test_a_method_without_an_interval_has_no_dot_among_the_intervals(
    measures: dict[str, dict[str, Measure]],
) -> None:
    measures["pow4"]["2x"] = replace(measures["pow4"]["2x"], covered=math.nan, intervals=0, width=math.nan)
    figure = draw_backtest(measures, 0.9)
    dots = [[line for line in ax.lines if line.get_marker() == "o"] for ax in figure.axes]
    assert [len(panel) for panel in dots] == [7, 7, 7, 7, 6, 7, 7, 7]


def test_no_text_lies_on_another_or_outside(measures: dict[str, dict[str, Measure]]) -> None:
    figure = draw_backtest(measures, 0.9)
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(figure)]
    overlapping = [
        (a, b)
        for (a, one), (b, other) in combinations(boxes, 2)
        if min(one.x1, other.x1) - max(one.x0, other.x0) > 1
        and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
    ]
    assert not overlapping
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for _, box in boxes)
