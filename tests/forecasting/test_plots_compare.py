"""The picture of encoders compared: each stands out without colour, numbers are those of the forecasts, no text on another."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from drawn_texts import texts
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from forecasting.curve import curve_from_points
from forecasting.plots_compare import (
    COLOURS,
    DASHES,
    MARKERS,
    ComparisonInfo,
    comparison_info,
    draw_comparison,
)
from forecasting.powerlaw import fit_bayes
from forecasting.words import range_text

NAMES = (
    "timm:tf_efficientnet_lite0",
    "open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    "c",
)


def info(finding: str = "Effusion", shift: float = 0.0) -> ComparisonInfo:
    encoders = {}
    for place, name in enumerate(NAMES):
        auc = np.array([0.6, 0.66, 0.72, 0.76]) + 0.03 * place + shift
        curve = curve_from_points([25, 50, 100, 200], auc, positives=[5, 10, 20, 40], finding=finding)
        encoders[name] = (curve, fit_bayes([curve])[0])
    return comparison_info(encoders, 0.8)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return draw_comparison([info(), info("Pneumothorax", 0.1), info("Nodule", -0.08)])


def test_every_encoder_has_a_dash_and_a_marker_of_its_own_and_a_grey_unlike_its_neighbours() -> None:
    assert len({str(dash) for dash in DASHES}) == len(set(MARKERS)) == len(set(COLOURS)) == len(DASHES)
    greys = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in COLOURS]
    assert min(abs(a - b) for a, b in pairwise(greys)) > 0.1


def test_points_curves_and_labels_needed_stand_where_the_forecasts_are(figure: Figure) -> None:
    told = info()
    ax = figure.axes[0]
    lines = [line for line in ax.lines if isinstance(line, Line2D)]
    for place, curve in enumerate(told.curves.values()):
        mine = [line for line in lines if line.get_color() == COLOURS[place]]
        assert any(
            np.array_equal(line.get_xdata(), curve.sizes) and line.get_marker() == MARKERS[place]
            for line in mine
        )
        (mean,) = [line for line in mine if np.array_equal(line.get_ydata(), curve.mean)]
        assert mean.get_linewidth() > 1.5
        assert curve.needed is not None
        said = range_text(curve.needed.low, curve.needed.high).removesuffix(", no upper limit visible")
        assert [t for t in texts(figure) if t.get_text() == said and t.get_color() == COLOURS[place]]
    assert len({tuple(curve.grid) for curve in told.curves.values()}) == 1


def test_no_text_lies_on_another_or_outside(figure: Figure) -> None:
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts(figure)]
    for (a, box), (b, other) in combinations(boxes, 2):
        assert not box.overlaps(other) or box.width == 0 or other.width == 0, (a, b)
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y0 >= 0, text
        assert box.y1 <= figure.bbox.height, text


def test_a_long_name_is_cut_in_the_legend_and_one_panel_is_enough() -> None:
    drawn = draw_comparison([replace(info(), finding="x" * 60)])
    legend = drawn.legends[0]
    assert legend.get_texts()[1].get_text().endswith("…")
    assert legend.get_texts()[0].get_text() == NAMES[0]
