"""What disease does to the picture, from barely visible (severity 0) to florid (severity 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from loop.demo import anatomy as shape
from loop.demo.anatomy import SIDES, Anatomy
from loop.demo.radiograph import Plane, Sheet


def enlarged_heart(severity: float) -> float:
    """Cardiothoracic ratio of a heart that is too large; healthy ones stay below 0.52."""
    return 0.555 + 0.16 * severity


def pleural_fluid(sheet: Sheet, a: Anatomy, side: int, severity: float, rng: np.random.Generator) -> Plane:
    """Pleural fluid: 1 below a meniscus that climbs the chest wall."""
    angle = shape.angle_height(a, side)
    level = angle - 0.025 - 0.52 * severity**1.25
    climb = 0.09 + 0.11 * severity
    power = rng.uniform(2.0, 3.5)
    surface = sheet.soft(lambda x, y: level - climb * np.clip(np.abs(x) / a.chest, 0.0, 1.05) ** power)
    return np.asarray(expit((sheet.y - surface) / (0.014 + 0.022 * severity)))


def collapse(sheet: Sheet, a: Anatomy, side: int, mask: Plane, severity: float) -> tuple[Plane, Plane]:
    """Air around a shrunken lung: no markings beyond a thin pleural line.

    Args:
        sheet: Where to draw.
        a: Whose chest.
        side: Which lung.
        mask: 1 inside that lung's outline.
        severity: How far it has shrunk.

    Returns:
        Where there is only air, and the change of attenuation: pleural line, denser lung, darker air.
    """
    outline = shape.lung(a, side)
    hilum = np.array([side * 0.14, shape.hilum_height(side)])
    height = np.clip((0.25 - outline[:, 1]) / (0.25 - a.apex), 0.0, 1.0)  # 1 at the apex, 0 low down
    outer = np.clip(np.abs(outline[:, 0]) / a.chest, 0.0, 1.0)
    shrink = (0.12 + 0.36 * severity) * height**0.8 * np.clip(outer * 2.2 - 0.35, 0.0, 1.0)
    inner = outline + (hilum - outline) * shrink[:, None]
    left = sheet.fill([inner])
    beyond = mask * (1.0 - left)
    edge = inner[shrink > 0.03]
    line = sheet.strokes(edge[None], np.array([0.0075]))
    change = 0.30 * line + (0.10 * severity) * left * mask - 0.13 * beyond
    return beyond, np.asarray(change, dtype=np.float32)


def consolidation(
    sheet: Sheet,
    a: Anatomy,
    masks: Mapping[int, Plane],
    air: Plane,
    severity: float,
    rng: np.random.Generator,
) -> Plane:
    """A patch of filled air spaces: soft, uneven, crossed by bronchi that still hold air."""
    side = SIDES[rng.integers(2)]
    y = rng.uniform(-0.45, shape.dome_height(a, side) - 0.10)
    x = side * rng.uniform(0.24, 0.80 * float(shape.chest_wall(a, np.array(y))))
    radius = 0.12 + 0.14 * severity
    centres = np.array([x, y]) + rng.normal(0.0, 0.55 * radius, (5, 2))
    radii = radius * rng.uniform(0.45, 0.9, 5)

    def patch(x: Plane, y: Plane) -> Plane:
        blobs = [
            np.exp(-(np.square(x - cx) + np.square(y - cy)) / (r * r))
            for (cx, cy), r in zip(centres, radii, strict=True)
        ]
        return np.asarray(1.0 - np.exp(-1.1 * np.sum(blobs, axis=0, dtype=np.float32)))

    mottle = 1.0 + 0.22 * sheet.cloud(rng, 0.06) + 0.12 * sheet.cloud(rng, 0.025)
    away = np.arctan2(y - shape.hilum_height(side), abs(x) - 0.14)
    ways = away + np.array([-0.5, -0.1, 0.3, 0.6])
    steps = radius * np.column_stack([side * np.cos(ways), np.sin(ways)])  # (4, 2)
    twigs = np.array([x, y]) + steps[:, None] * np.array([-0.9, 0.0, 0.7])[:, None]  # (4, 3, 2)
    twigs[:, 1:] += rng.normal(0.0, 0.12 * radius, (4, 2, 2))
    open_air = 1.0 - 0.5 * sheet.strokes(twigs, np.full(4, 0.012))
    density = 0.20 + 0.42 * severity
    change = density * sheet.soft(patch) * np.clip(mottle, 0.2, None) * open_air * air * masks[side]
    return np.asarray(change)
