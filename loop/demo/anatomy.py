"""The shapes of one drawn chest, as lines and outlines on the unit square.

Coordinates: x from -1 to 1 towards the patient's left (the viewer's right, as radiographs are hung), y from
-1 (neck) to 1 (abdomen). A side is -1 for the patient's right and +1 for the left. Outlines are ``(m, 2)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

Points = NDArray[np.floating[Any]]

RIGHT, LEFT = -1, 1
SIDES = (RIGHT, LEFT)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What makes one patient differ from the next; lengths in units of half the picture.

    Attributes:
        chest: Half the inner width of the thorax.
        apex: Height of the lung apices.
        dome: Height of the right diaphragm dome; lower on the picture = deeper breath.
        dome_drop: How much lower the left dome stands.
        depth: Costophrenic angle below the dome.
        heart_ratio: Cardiothoracic ratio without disease.
        heart_share: Share of the heart's width that lies on the patient's left.
        heart_tilt: 0 = upright heart of a slim chest, 1 = lying heart.
        knob: Radius of the aortic knob.
        habitus: Thickness of soft tissue, 1 = average.
        breast: Breast shadow, 0 = none.
        rib_pitch: Distance between neighbouring ribs at the spine.
        rib_fall: How much lower the front end of a rib stands than its back end.
        bone: Density of bone, 1 = average.
        scoliosis: Sideways bend of the spine.
        vessels: Prominence of lung vessels, 1 = average.
        gas: Radius of the gastric bubble, 0 = none.
        arms: How far the arms are held away from the chest.
        tree: Seed of the vascular tree.
    """

    chest: float
    apex: float
    dome: float
    dome_drop: float
    depth: float
    heart_ratio: float
    heart_share: float
    heart_tilt: float
    knob: float
    habitus: float
    breast: float
    rib_pitch: float
    rib_fall: float
    bone: float
    scoliosis: float
    vessels: float
    gas: float
    arms: float
    tree: int


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a patient."""
    return Anatomy(
        chest=rng.uniform(0.64, 0.73),
        apex=rng.uniform(-0.79, -0.72),
        dome=rng.uniform(0.24, 0.42),
        dome_drop=rng.uniform(0.02, 0.09),
        depth=rng.uniform(0.20, 0.28),
        heart_ratio=float(np.clip(rng.normal(0.45, 0.03), 0.38, 0.52)),
        heart_share=rng.uniform(0.60, 0.68),
        heart_tilt=rng.uniform(0.0, 1.0),
        knob=rng.uniform(0.045, 0.075),
        habitus=rng.uniform(0.75, 1.35),
        breast=rng.uniform(0.4, 1.0) if rng.random() < 0.5 else 0.0,
        rib_pitch=rng.uniform(0.112, 0.128),
        rib_fall=rng.uniform(0.40, 0.52),
        bone=rng.uniform(0.75, 1.2),
        scoliosis=rng.normal(0.0, 0.012),
        vessels=rng.uniform(0.75, 1.3),
        gas=rng.uniform(0.07, 0.14) if rng.random() < 0.7 else 0.0,
        arms=rng.uniform(0.0, 1.0),
        tree=int(rng.integers(2**31)),
    )


def _closed(points: list[tuple[float, float]], n: int = 160) -> Points:
    """A smooth closed outline through the points; chord length as parameter."""
    ring = np.asarray([*points, points[0]], dtype=float)  # (m + 1, 2)
    t = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T) ** 0.5)])
    return np.asarray(CubicSpline(t, ring, bc_type="periodic")(np.linspace(0.0, t[-1], n)))  # (n, 2)


def _open(points: list[tuple[float, float]], n: int = 40) -> Points:
    """A smooth open line through the points, without overshoot."""
    line = np.asarray(points, dtype=float)
    t = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.asarray(PchipInterpolator(t, line)(np.linspace(0.0, t[-1], n)))  # (n, 2)


def angle_height(a: Anatomy, side: int) -> float:
    """Height of the costophrenic angle."""
    return dome_height(a, side) + a.depth


def dome_height(a: Anatomy, side: int) -> float:
    """Height of the diaphragm's dome."""
    return a.dome + (a.dome_drop if side == LEFT else 0.0)


def chest_wall(a: Anatomy, y: Points) -> Points:
    """Half the inner width of the thorax at height y, from the apex down."""
    u = np.clip((y - a.apex) / (0.35 - a.apex), 0.0, 1.3)
    return np.asarray(a.chest * np.interp(u, _WALL_U, _WALL_W))


_WALL_U = np.linspace(0.0, 1.3, 53)
_WALL_W = np.asarray(
    PchipInterpolator(
        [0.0, 0.06, 0.15, 0.3, 0.5, 0.75, 1.0, 1.3], [0.42, 0.58, 0.71, 0.83, 0.92, 0.98, 1.0, 1.0]
    )(_WALL_U)
)


def lung(a: Anatomy, side: int) -> Points:
    """Outline of one lung, diaphragm and costophrenic angle included."""
    dome, angle = dome_height(a, side), angle_height(a, side)
    heights = np.linspace(a.apex + 0.035, angle - 0.03, 26)
    lateral = np.column_stack([chest_wall(a, heights) * 0.985, heights])
    top = _open([(0.13, a.apex + 0.20), (0.17, a.apex + 0.07), (0.26, a.apex), tuple(lateral[0])], 16)
    w = a.chest
    base = _open(
        [
            tuple(lateral[-1]),
            (w * 0.975, angle),
            (w * 0.94, angle - 0.05),
            (w * 0.82, dome + a.depth * 0.30),
            (w * 0.66, dome + a.depth * 0.05),
            (w * 0.50, dome),
            (w * 0.34, dome + a.depth * 0.12),
            (w * 0.20, dome + a.depth * 0.42),
            (w * 0.11, dome + a.depth * 0.6),
        ],
        40,
    )
    medial = _open([tuple(base[-1]), (0.085, 0.1), (0.10, -0.25), (0.13, a.apex + 0.20)], 20)
    outline = np.concatenate([top, lateral, base, medial])
    return np.asarray(outline * [side, 1.0])


def heart(a: Anatomy, ratio: float) -> Points:
    """Outline of heart and great vessels for a cardiothoracic ratio."""
    width = 2.0 * a.chest * ratio
    left, right = width * a.heart_share, width * (1.0 - a.heart_share)
    low = a.dome + a.dome_drop + 0.13
    apex = low - 0.10 - 0.05 * (1.0 - a.heart_tilt)
    top = apex - 0.27 - 0.18 * (1.0 - a.heart_tilt) - 0.10 * left  # where the left ventricle begins
    return _closed(
        [
            (0.02, -0.66),
            (0.095, -0.52),
            (0.115, -0.40),
            (0.115, -0.27),
            (0.13 + 0.12 * left, min(top, -0.10)),
            (0.62 * left + 0.05, apex - 0.27),
            (0.92 * left, apex - 0.11),
            (left, apex + 0.005),
            (0.93 * left, apex + 0.09),
            (0.5 * left, low + 0.05),
            (-0.3 * right, low + 0.05),
            (-0.84 * right, low - 0.05),
            (-right, low - 0.20),
            (-0.88 * right, low - 0.36),
            (-0.115, -0.24),
            (-0.110, -0.42),
            (-0.085, -0.58),
        ]
    )


def body(a: Anatomy) -> Points:
    """Outline of neck, shoulders, upper arms and trunk."""
    flank = a.chest + 0.10 + 0.09 * (a.habitus - 0.75)
    arm = 1.02 + 0.12 * a.arms
    right_half = [
        (0.19 + 0.05 * a.habitus, -1.3),
        (0.195 + 0.05 * a.habitus, -1.0),
        (0.23 + 0.05 * a.habitus, -0.93),
        (0.36 + 0.03 * a.habitus, -0.87),
        (0.62, -0.82),
        (0.92, -0.74),
        (1.08, -0.58),
        (1.25, -0.2),
        (1.30, 0.15),
        (arm + 0.06, 0.18),
        (flank + 0.06, 0.06 + 0.05 * a.arms),
        (flank, 0.22),
        (flank - 0.01, 0.6),
        (flank + 0.02, 1.3),
    ]
    half = _open(right_half, 80)
    return np.concatenate([half, half[::-1] * [-1.0, 1.0]])


def ribs(a: Anatomy, side: int) -> Iterator[tuple[int, Points, Points]]:
    """Each rib's number, posterior arc and anterior arc; a rib is a sloping ring seen from behind."""
    for number in range(1, 11):
        start = a.apex - 0.01 + a.rib_pitch * (number - 1) * (0.86 + 0.018 * number)
        fall = a.rib_fall * (0.50 + 0.50 * min(number, 7) / 7.0)
        wall = float(chest_wall(a, np.array(start + fall / 2.0)))
        if number == 1:
            wall *= 0.86
        t = np.linspace(np.arcsin(0.085 / wall), np.pi * 0.76, 44)
        x = wall * np.sin(t) ** (0.9 if number > 2 else 1.0)
        y = start + fall * (1.0 - np.cos(t)) / 2.0 - 0.02 * np.exp(-(((t - 0.35) / 0.25) ** 2))
        line = np.column_stack([x * side, y])
        split = int(np.searchsorted(t, np.pi / 2.0))
        yield number, line[: split + 3], line[split - 2 :]


def clavicle(a: Anatomy, side: int) -> Points:
    """Centre line of the clavicle, from sternum to shoulder."""
    y = a.apex + 0.235
    return _open(
        [(0.075, y + 0.015), (0.20, y - 0.02), (0.40, y - 0.11), (0.60, y - 0.165), (0.84, y - 0.15)]
    ) * [
        side,
        1.0,
    ]


def scapula(a: Anatomy, side: int) -> Points:
    """Outline of the shoulder blade, mostly drawn clear of the lung."""
    inner = a.chest * 0.90 + 0.05 * a.arms
    return _closed(
        [
            (inner, -0.58),
            (inner + 0.10, -0.70),
            (0.90, -0.68),
            (0.90, -0.50),
            (0.84, -0.36),
            (inner + 0.12, -0.05),
            (inner + 0.06, 0.03),
            (inner + 0.01, -0.20),
        ]
    ) * [side, 1.0]


def humerus(a: Anatomy, side: int) -> Points:
    """Centre line of the upper arm's bone; its first point is the centre of the head."""
    return _open([(0.95, -0.60), (1.02, -0.45), (1.08 + 0.06 * a.arms, 0.2)], 20) * [side, 1.0]


def spine_x(a: Anatomy, y: Points) -> Points:
    """Centre of the spine at height y."""
    return np.asarray(a.scoliosis * np.sin(2.2 * y + 0.6))


def vertebrae(a: Anatomy) -> Iterator[tuple[float, float, float, float]]:
    """Centre x, y, half width and half height of each vertebral body, from the neck down."""
    y, height = -1.02, 0.085
    while y < 1.05:
        yield float(spine_x(a, np.array(y))), y, 0.068 + 0.014 * (y + 1.0) / 2.0, height / 2.0 * 0.84
        y += height
        height = min(height * 1.035, 0.135)


def trachea(a: Anatomy) -> list[tuple[Points, float]]:
    """Centre lines and widths of trachea and main bronchi."""
    carina = (0.005, -0.27)
    return [
        (_open([(0.0, -1.2), (0.0, -0.8), (-0.012, -0.45), carina], 20), 0.062),
        (_open([carina, (-0.06, -0.18), (-0.11, -0.12)], 10), 0.036),
        (_open([carina, (0.07, -0.20), (0.12, -0.17)], 10), 0.030),
    ]


def vascular_tree(a: Anatomy, side: int) -> tuple[Points, Points]:
    """Lung vessels, wide at the hilum and branching outwards.

    Returns:
        Bent lines, shape ``(m, 3, 2)``, and their widths, shape ``(m,)``.
    """
    rng = np.random.default_rng([a.tree, side + 1])
    n = 13
    angle = np.linspace(-1.35, 1.45, n) + rng.normal(0.0, 0.10, n)  # 0 = straight outwards, positive = down
    start = np.column_stack([0.13 + 0.02 * np.cos(angle), hilum_height(side) + 0.075 * np.sin(angle)])
    start += rng.normal(0.0, 0.012, (n, 2))
    length = rng.uniform(0.11, 0.19, n) * np.where(angle > 0.3, 1.2, 1.0)
    width = rng.uniform(0.009, 0.020, n) * np.where(angle > 0.3, 1.25, 0.9)
    artery = np.array([[0.10, -0.05], [0.145, 0.01], [0.175, 0.14]])
    artery[:, 1] += hilum_height(side)
    lines, widths = [artery[None]], [np.array([0.030])]
    for _ in range(6):
        bend = angle + rng.normal(0.0, 0.25, len(angle))
        middle = start + 0.5 * length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
        end = middle + 0.5 * length[:, None] * np.column_stack([np.cos(bend), np.sin(bend)])
        lines.append(np.stack([start, middle, end], axis=1))  # (m, 3, 2)
        widths.append(width)
        spread = rng.uniform(0.2, 0.6, len(angle))
        angle = np.concatenate([bend + spread, bend - spread * rng.uniform(0.4, 1.0, len(angle))])
        width = np.tile(width, 2) * rng.uniform(0.60, 0.80, len(angle))
        length = np.tile(length, 2) * rng.uniform(0.60, 0.92, len(angle))
        start = np.tile(end, (2, 1))
        alive = (width > 0.0026) & (start[:, 0] > 0.05) & (start[:, 0] < a.chest)
        start, angle, length, width = start[alive], angle[alive], length[alive], width[alive]
    return np.concatenate(lines) * [side, 1.0], np.concatenate(widths)


def hilum_height(side: int) -> float:
    """Height of the hilum; the left one stands higher."""
    return -0.08 if side == LEFT else -0.03
