"""Pictures as pieces of a web page: SVG whose colours are the page's own, so that they turn dark with it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from matplotlib import rc_context
from matplotlib.axes import Axes

from forecasting.plots import CurveInfo, plot_curve
from forecasting.plots_reliability import ReliabilityInfo, plot_reliability
from forecasting.plots_style import white_figure

COLOURS = {  # what the pictures are drawn in, and the page's variable that stands for it
    "#1f5fa8": "var(--accent)",
    "#cfdcec": "var(--band)",
    "#8a8a8a": "var(--faint)",
    "#1a1a1a": "var(--ink)",
    "#555555": "var(--soft)",
    "#e6e6e6": "var(--rule)",
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
}
WIDTH, HEIGHT = 4.3, 3.0  # inches


def curve_svg(info: CurveInfo, key: str) -> str:
    """Draw one learning curve without its title, as an SVG element.

    Args:
        info: What it shows; no text of it but numbers is drawn.
        key: Distinct for each curve of a page: the names inside the SVG are made from it.

    Returns:
        The element, free of addresses, scripts and outside text; the same picture gives the same text.
    """
    return _as_svg(lambda ax: plot_curve(info, ax).set_title("", loc="left"), key, (0.115, 0.15, 0.79, 0.75))


def reliability_svg(info: ReliabilityInfo, key: str) -> str:
    """Draw one finding's reliability as an SVG element; see `curve_svg`."""
    return _as_svg(lambda ax: plot_reliability(info, ax), key, (0.145, 0.15, 0.79, 0.8))


def _as_svg(draw: Callable[[Axes], object], key: str, place: tuple[float, float, float, float]) -> str:
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": key, "font.family": "sans-serif"}):
        figure = white_figure(WIDTH, HEIGHT)
        draw(figure.add_axes(place))
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:xlink)?="[^"]*"|version="[^"]*"|(width|height)="[\d.]+pt")', "", svg)
    svg = re.sub(r'\sid="([\w.]+_\d+)"', "", svg)  # names that nothing refers to, the same in each picture
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", svg)
    for drawn, variable in COLOURS.items():
        svg = svg.replace(drawn, variable)
    svg = re.sub(r'stroke="none"|xlink:(?=href="#)', "", svg)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
