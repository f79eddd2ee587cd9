"""Pictures: what they show is checked as numbers, that no text overlaps as rectangles."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.special import expit, ndtr, ndtri

from forecasting.calibration import estimate_calibration
from forecasting.certificate import Asked, Evidence, weigh_evidence
from forecasting.curve import LearningCurve, curve_from_points
from forecasting.plots import CurveInfo, curve_info, draw_curves, plot_curve, plot_evidence, save
from forecasting.plots_reliability import plot_reliability, reliability_info
from forecasting.powerlaw import fit_bayes

NAMES = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]


def curve(name: str, n: int = 400, prevalence: float = 0.2, z: float = 1.4, k: float = 20.0) -> LearningCurve:
    sizes = np.asarray(np.geomspace(n / 10, 0.8 * n, 6), dtype=np.float64)
    effective = sizes * prevalence * (1 - prevalence)
    n_positive = round(n * prevalence)
    auc = ndtr(z / np.sqrt(1 + (k / effective) ** 0.9))
    return LearningCurve(name, n, n_positive, n - n_positive, sizes, effective, auc)


def infos(n: int, target: float | None = 0.88) -> list[CurveInfo]:
    curves = [
        curve(name, z=0.7 + 0.1 * i, prevalence=0.03 + 0.03 * i, k=5.0 + 8 * (i % 5))
        for i, name in enumerate(NAMES[:n])
    ]
    return [curve_info(c, f, target) for c, f in zip(curves, fit_bayes(curves), strict=True)]


def evidence(auc: float = 0.93, n_rounds: int = 14) -> Evidence:
    rng = np.random.default_rng(1)
    rounds = []
    for _ in range(n_rounds):
        y = (rng.random(25) < 0.3).astype(float)
        rounds.append(Asked(y, rng.standard_normal(25) + y * math.sqrt(2) * ndtri(auc)))
    return weigh_evidence(rounds, 0.88)


def test_the_info_holds_what_forecast_and_curve_say() -> None:
    one = curve("effusion")
    (forecast,) = fit_bayes([one])
    info = curve_info(one, forecast, 0.88, level=0.8)
    assert info.needed == forecast.labels_needed(0.88)
    assert (info.n_now, info.target, info.level) == (400, 0.88, 0.8)
    for i in (0, 30, 60):
        told = forecast.auc(info.grid[i], 0.8)
        assert (info.mean[i], info.low[i], info.high[i]) == (told.mean, told.low, told.high)
    assert info.grid[0] <= one.sizes[0]
    assert info.grid[-1] >= 4 * one.n
    assert (info.auc_low < info.auc).all()
    assert (info.auc_high <= 1).all()


def test_given_errors_are_the_error_bars() -> None:
    """1.645 standard errors each way hold 90 % of a normal distribution."""
    given = curve_from_points([50, 100, 200], [0.7, 0.75, 0.78], se=[0.03, 0.02, 0.01])
    info = curve_info(given, None)
    assert info.auc - info.auc_low == pytest.approx(1.6449 * np.array([0.03, 0.02, 0.01]), rel=1e-3)


def test_perfect_separation_of_few_items_has_a_long_error_bar() -> None:
    few = LearningCurve("x", 20, 3, 17, np.array([16.0]), np.array([2.1]), np.array([1.0]))
    assert curve_info(few, None).auc_low[0] < 0.85


def test_the_axis_ends_even_where_the_labels_needed_do_not() -> None:
    one = curve("effusion", z=0.8)
    (forecast,) = fit_bayes([one])
    info = curve_info(one, forecast, 0.95)
    assert info.needed is not None
    assert math.isinf(info.needed.high)
    assert info.grid[-1] <= 40 * one.n


def test_drawing_takes_an_ax_and_gives_it_back() -> None:
    above, below = Figure().subplots(2)
    assert plot_curve(infos(1)[0], above) is above
    assert plot_evidence(evidence(), below) is below


@pytest.mark.parametrize("n", [1, 2, 3, 5, 14])
@pytest.mark.parametrize("with_evidence", [False, True])
def test_no_text_overlaps_another_or_leaves_the_picture(n: int, with_evidence: bool) -> None:
    drawn = infos(n)
    figure = draw_curves(
        drawn,
        {info.finding: evidence((0.7, 0.85, 0.97)[i % 3], 40) for i, info in enumerate(drawn)}
        if with_evidence
        else None,
        "Chest X-rays, round 8",
    )
    boxes = text_boxes(figure)
    canvas = figure.bbox
    for (first, a), (second, b) in combinations(boxes, 2):
        assert not shrunk(a).overlaps(shrunk(b)), f"{first!r} lies on {second!r}"
    for text, box in boxes:
        assert canvas.x0 <= box.x0, text
        assert box.x1 <= canvas.x1, text
        assert canvas.y0 <= box.y0, text
        assert box.y1 <= canvas.y1, text


@pytest.mark.parametrize(("shift", "top"), [(0.0, 0.9), (-4.0, 0.2)])
def test_reliability_is_drawn_as_measured_and_its_axes_end_where_the_shares_do(
    shift: float, top: float
) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(shift, 1.5, 1000)
    told = estimate_calibration((rng.random(1000) < expit(logits)).astype(float), logits, np.arange(1000))
    assert told is not None
    info = reliability_info("effusion", told.curve, told.offset, told.scale, told.level)
    ax = Figure().subplots()
    assert plot_reliability(info, ax) is ax
    assert ax.get_xlim() == ax.get_ylim() == (0, info.top)
    assert info.top == pytest.approx(top)
    assert info.high.max() <= info.top < info.high.max() + 0.1
    points = ax.containers[0].get_children()[0]
    np.testing.assert_allclose(points.get_xydata(), [(one.predicted, one.observed) for one in told.curve])
    boxes = text_boxes(ax.figure)
    for (first, a), (second, b) in combinations(boxes, 2):
        assert not shrunk(a).overlaps(shrunk(b)), f"{first!r} lies on {second!r}"


def text_boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every visible text with its rectangle in pixels; tick labels outside their axis are not drawn."""
    figure.canvas.draw()
    hidden = set()
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not limits[0] <= tick.get_loc() <= limits[1]:
                    hidden |= {tick.label1, tick.label2}
    return [
        (text.get_text(), Text.get_window_extent(text))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def shrunk(box: Bbox) -> Bbox:
    return Bbox.from_extents(box.x0 + 1, box.y0 + 1, max(box.x1 - 1, box.x0 + 1), max(box.y1 - 1, box.y0 + 1))


def test_target_and_range_are_written_in_each_panel() -> None:
    texts = [text for text, _ in text_boxes(draw_curves(infos(3)))]
    assert texts.count("target\n.880") == 3
    assert sum(" to " in text or "at least" in text or "no limit" in text for text in texts) == 3
    assert "labels at the target, 80 %" in texts
    assert "90 % band" in texts


def test_a_curve_without_forecast_without_target_or_without_points_is_drawn_all_the_same() -> None:
    one = curve("effusion")
    empty = LearningCurve("hernia", 60, 2, 58, np.empty(0), np.empty(0), np.empty(0))
    (forecast,) = fit_bayes([empty])
    drawn = [
        curve_info(one, None, 0.9),
        curve_info(one, None),
        curve_info(empty, forecast, 0.9),
        curve_info(empty, None),
    ]
    figure = draw_curves(drawn)
    figure.canvas.draw()
    assert len(figure.axes) == 4


def test_nothing_to_draw_is_an_empty_picture() -> None:
    assert draw_curves([]).axes == []


def test_a_certificate_is_marked_where_it_was_won() -> None:
    won = evidence(0.95, 30)
    assert won.certified
    ax = plot_evidence(won, Figure().add_subplot())
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(marks) == 1
    first = next(i for i, log_e in enumerate(won.path, start=1) if log_e >= won.threshold)
    assert np.asarray(marks[0].get_xdata()) == [first]
    lost = plot_evidence(replace(won, certified=False, path=()), Figure().add_subplot())
    assert not [line for line in lost.lines if line.get_marker() == "o"]


def test_a_picture_is_saved_as_its_suffix_says(tmp_path: Path) -> None:
    figure = draw_curves(infos(1))
    save(figure, tmp_path / "curve.png")
    save(figure, tmp_path / "curve.SVG")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curve.SVG").read_text()
    with pytest.raises(ValueError, match=r"curve\.jpg"):
        save(figure, tmp_path / "curve.jpg")


def test_drawing_leaves_no_global_state() -> None:
    """pyplot keeps figures alive and picks a window system; nothing here imports it."""
    code = "import sys, forecasting.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
