"""The attenuation of a healthy chest, part by part, in units of what the air in the lungs takes away."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw
from scipy.special import expit

from loop.demo import anatomy as shape
from loop.demo.anatomy import LEFT, SIDES, Anatomy, Points
from loop.demo.radiograph import Plane, Sheet

_TRUNK, _KNOB, _COLUMN, _HILUM, _BREAST, _GAS = 1.75, 0.16, 0.26, 0.24, 0.26, 0.45
_RIB_BACK, _RIB_FRONT, _GIRDLE, _VESSEL, _AIRWAY = 0.25, 0.15, 0.28, 0.40, 0.13


def trunk(sheet: Sheet, a: Anatomy) -> Plane:
    """Soft tissue of trunk, neck and arms."""
    inside = sheet.fill([shape.body(a)])
    thick = sheet.depth(inside, 0.26)
    density = _TRUNK * a.habitus**0.5 * (0.92 + 0.10 * sheet.y)
    return np.asarray(density * thick)


def vessels(sheet: Sheet, a: Anatomy) -> Plane:
    """Lung markings, yet to be cut to the aerated lung."""
    lines, widths = zip(*(shape.vascular_tree(a, side) for side in SIDES), strict=True)
    return sheet.strokes(np.concatenate(lines), np.concatenate(widths)) * (_VESSEL * a.vessels)


def soft_parts(sheet: Sheet, a: Anatomy) -> Plane:
    """Everything without an edge: spine and great vessels, aortic knob, hila, breasts, gas in the stomach."""

    def total(x: Plane, y: Plane) -> Plane:
        column = np.exp(-0.5 * ((x - shape.spine_x(a, y)) / 0.088) ** 4)
        column *= 0.55 + 0.25 * np.tanh((y + 0.75) / 0.12) - 0.20 * np.tanh((y - 0.35) / 0.20)  # thin neck
        parts = _COLUMN * column + _KNOB * _ball(x - 0.07, y + 0.36, a.knob, 1.25 * a.knob)
        for side in SIDES:
            root = ((x - side * 0.145) / 0.05) ** 2 + ((y - shape.hilum_height(side) - 0.02) / 0.10) ** 2
            parts += _HILUM * a.vessels * np.exp(-root)
            parts += _BREAST * a.breast * _ball(x - side * 0.66 * a.chest, y - 0.22, 0.37, 0.36)
        if a.gas > 0.0:
            below = y - shape.dome_height(a, LEFT) - 0.055 - 0.75 * a.gas
            flat = expit((0.25 * a.gas - below) / 0.008)  # gas lies on fluid in who stands upright
            parts -= _GAS * flat * _ball(x - 0.57 * a.chest, below, 1.5 * a.gas, a.gas)
        return np.asarray(parts, dtype=np.float32)

    return sheet.soft(total)


def _ball(x: Plane, y: Plane, width: float, height: float) -> Plane:
    """Thickness of an ellipsoid about the origin."""
    return np.asarray(np.sqrt(np.clip(1.0 - (x / width) ** 2 - (y / height) ** 2, 0.0, None)))


def airway(sheet: Sheet, a: Anatomy) -> Plane:
    """Trachea and main bronchi, the air of which darkens the mediastinum."""
    tubes, draw = sheet.blank()
    for line, width in shape.trachea(a):
        draw.line(sheet.pixels(line, 2), fill=255, width=round(sheet.length(width, 2)), joint="curve")
    return _AIRWAY * sheet.haze(tubes)


def bones(sheet: Sheet, a: Anatomy, lungs: Plane) -> Plane:
    """Ribs, shoulder girdle and vertebrae; ribs stand out before air and drown in the abdomen."""
    back, on_back = sheet.blank()
    front, on_front = sheet.blank()
    girdle, on_girdle = sheet.blank()
    for side in SIDES:
        for number, posterior, anterior in shape.ribs(a, side):
            _band(sheet, on_back, posterior, np.full(len(posterior), 0.048), 120, 225)
            fade = np.linspace(0.044, 0.056, len(anterior))
            if number <= 8:
                _band(sheet, on_front, anterior, fade, 115, 190)
        _plate(sheet, on_girdle, shape.scapula(a, side), 55, 105)
        _plate(sheet, on_girdle, _disc(shape.humerus(a, side)[0], 0.115), 95, 150)
        _band(sheet, on_girdle, shape.humerus(a, side), np.full(20, 0.10), 105, 200)
        collar = shape.clavicle(a, side)
        _band(sheet, on_girdle, collar, 0.050 + 0.020 * np.abs(np.linspace(-1.0, 1.0, len(collar))), 125, 215)
    for x, y, half_width, half_height in shape.vertebrae(a):
        _plate(sheet, on_girdle, _block(x, y, half_width, half_height), 70, 125)
        for side in SIDES:
            _plate(
                sheet, on_girdle, _disc(np.array([x + side * half_width * 0.62, y - 0.01]), 0.014), 105, 175
            )
        _plate(sheet, on_girdle, _disc(np.array([x, y + half_height]), 0.012, 1.8), 110, 160)
    calcified = sheet.soft(
        lambda x, y: np.clip((np.abs(x) / a.chest - 0.40) / 0.30, 0.0, 1.0)
    )  # no cartilage
    ribs = _RIB_BACK * sheet.read(back) + _RIB_FRONT * sheet.read(front) * calcified
    ribs *= 0.55 + 0.45 * lungs
    return np.asarray(a.bone * (ribs + _GIRDLE * sheet.read(girdle)))


def _band(
    sheet: Sheet, draw_on: ImageDraw.ImageDraw, line: Points, width: Points, body: int, cortex: int
) -> None:
    """A flat bone along a line: faint inside, brighter at both edges."""
    step = np.empty_like(line)
    step[1:-1] = line[2:] - line[:-2]
    step[0], step[-1] = line[1] - line[0], line[-1] - line[-2]
    across = step[:, ::-1] * [-1.0, 1.0] * (width / 2.0 / np.hypot(step[:, 0], step[:, 1]))[:, None]  # (m, 2)
    ring = sheet.pixels(np.concatenate([line + across, (line - across)[::-1]]), 2)
    draw_on.polygon(ring, fill=body)
    for edge in (ring[: len(line)], ring[len(line) :]):
        draw_on.line(edge, fill=cortex, width=3)


def _plate(sheet: Sheet, draw_on: ImageDraw.ImageDraw, outline: Points, body: int, cortex: int) -> None:
    pixels = sheet.pixels(outline, 2)
    draw_on.polygon(pixels, fill=body)
    draw_on.line([*pixels, pixels[0]], fill=cortex, width=3)


def _disc(centre: Points, radius: float, stretch: float = 1.0) -> Points:
    t = np.linspace(0.0, 2.0 * np.pi, 28)
    return centre + radius * np.column_stack([np.cos(t), stretch * np.sin(t)])


def _block(x: float, y: float, half_width: float, half_height: float) -> Points:
    """A vertebral body: waisted sides, flat end plates."""
    t = np.linspace(-1.0, 1.0, 7)
    waist = half_width * (0.90 + 0.10 * t**2)
    right = np.column_stack([x + waist, y + half_height * t])
    left = np.column_stack([x - waist, y + half_height * t])
    return np.concatenate([right, left[::-1]])
