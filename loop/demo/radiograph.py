"""From outlines to an X-ray picture: attenuation is summed along the beam, then exposed and developed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import distance_transform_edt, gaussian_filter

from loop.demo.anatomy import Points

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pose:
    """How a patient stood before the detector and how the picture was exposed.

    Attributes:
        scale: Magnification, 1 = the unit square fills the picture.
        turn: Rotation in the picture's plane, radians.
        shift: Offset of the centre, units of half the picture.
        photons: Photons a pixel behind lung; fewer = more noise.
        brightness: Where lung comes to lie, 0 black to 1 white.
        contrast: Steepness of the film's curve, 1 = average.
        collimation: Unexposed border, share of half the picture.
    """

    scale: float
    turn: float
    shift: tuple[float, float]
    photons: float
    brightness: float
    contrast: float
    collimation: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw a stance and an exposure."""
    return Pose(
        scale=rng.uniform(0.92, 1.04),
        turn=rng.normal(0.0, 0.022),
        shift=(rng.normal(0.0, 0.02), rng.normal(0.02, 0.02)),
        photons=rng.uniform(900.0, 3500.0),
        brightness=rng.uniform(0.26, 0.40),
        contrast=rng.uniform(0.85, 1.15),
        collimation=rng.uniform(0.0, 0.035) if rng.random() < 0.5 else 0.0,
    )


class Sheet:
    """A square of pixels on which outlines in unit coordinates become planes of attenuation."""

    def __init__(self, size: int, pose: Pose):
        self.size = size
        self.pose = pose
        c, s = np.cos(pose.turn), np.sin(pose.turn)
        self._turn = pose.scale * np.array([[c, -s], [s, c]])  # unit -> turned unit
        line = ((np.arange(size) + 0.5) / (size / 2.0) - 1.0).astype(np.float32)  # (size,)
        u, v = line - np.float32(pose.shift[0]), (line - np.float32(pose.shift[1]))[:, None]
        back = np.linalg.inv(self._turn).astype(np.float32)
        self.x: Plane = back[0, 0] * u + back[0, 1] * v  # (size, size)
        self.y: Plane = back[1, 0] * u + back[1, 1] * v

    def pixels(self, points: Points, fine: int = 1) -> list[tuple[float, float]]:
        """Unit coordinates ``(m, 2)`` to pixels of a picture ``fine`` times as large."""
        at = (points @ self._turn.T + np.asarray(self.pose.shift) + 1.0) * (self.size * fine / 2.0)
        return list(zip(*at.T.tolist(), strict=True))

    def length(self, units: float, fine: int = 1) -> float:
        """A length in units to pixels of a picture ``fine`` times as large."""
        return units * self.pose.scale * self.size * fine / 2.0

    def fill(self, outlines: Iterable[Points]) -> Plane:
        """1 inside, 0 outside, smooth at the edge."""
        picture, draw = self.blank()
        for outline in outlines:
            draw.polygon(self.pixels(outline, 2), fill=255)
        return self.read(picture)

    def depth(self, inside: Plane, reach: float, coarse: int = 4) -> Plane:
        """Thickness of a rounded body with this silhouette, 0 at its edge, 1 from ``reach`` inwards."""
        small = inside[coarse // 2 :: coarse, coarse // 2 :: coarse] > 0.5
        distance = gaussian_filter(
            distance_transform_edt(small).astype(np.float32), 0.8
        )  # (size/coarse, size/coarse)
        u = np.clip((distance + np.float32(0.3)) / np.float32(self.length(reach) / coarse), 0.0, 1.0)
        return self._enlarge(np.sqrt(u * (2.0 - u))) * inside

    def soft(self, formula: Callable[[Plane, Plane], Plane]) -> Plane:
        """A smooth function of x and y, evaluated at every fourth pixel and drawn out."""
        return self._enlarge(formula(self.x[1::4, 1::4], self.y[1::4, 1::4]))

    def strokes(self, lines: Points, widths: Points) -> Plane:
        """Lines ``(m, k, 2)`` of widths ``(m,)`` in units; wider ones are thicker, so denser."""
        picture, draw = self.blank()
        order = np.argsort(widths)
        flat = self.pixels(lines[order].reshape(-1, 2), 2)
        k = lines.shape[1]
        for i, pixels in enumerate((widths[order] * self.length(1.0, 2)).tolist()):
            value = int(min(40.0 + 9.0 * pixels, 255.0))
            draw.line(flat[i * k : (i + 1) * k], fill=value, width=max(1, round(pixels)))
        return self.read(picture)

    def blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """A black picture twice as fine as the sheet, to draw on."""
        picture = Image.new("L", (2 * self.size, 2 * self.size))
        return picture, ImageDraw.Draw(picture)

    def read(self, picture: Image.Image) -> Plane:
        """A fine picture as a plane on [0, 1]."""
        return np.asarray(picture.reduce(2), dtype=np.float32) / np.float32(255.0)

    def haze(self, picture: Image.Image) -> Plane:
        """A fine picture as a plane on [0, 1] with soft edges."""
        return self._enlarge(np.asarray(picture.reduce(8), dtype=np.float32) / np.float32(255.0))

    def cloud(self, rng: np.random.Generator, grain: float) -> Plane:
        """Smooth random texture, mean 0, standard deviation about 1; grain in units."""
        n = max(4, round(2.0 / grain))
        return self._enlarge(rng.standard_normal((n, n), dtype=np.float32), Image.Resampling.BICUBIC)

    def _enlarge(self, small: Plane, how: Image.Resampling = Image.Resampling.BILINEAR) -> Plane:
        return np.asarray(Image.fromarray(small).resize((self.size, self.size), how))


def develop(attenuation: Plane, lung: Plane, pose: Pose, rng: np.random.Generator) -> Image.Image:
    """Expose and develop: quantum noise, film curve anchored on lung and soft tissue, collimated border.

    Args:
        attenuation: Line integrals, shape ``(size, size)``.
        lung: 1 where lung is, to anchor the exposure.
        pose: Photons, brightness and contrast.
        rng: Source of the noise.

    Returns:
        An 8-bit grey picture, bone white.
    """
    size = attenuation.shape[0]
    inner = attenuation[size // 10 : -size // 10 : 4, size // 8 : -size // 8 : 4]
    aerated = lung[size // 10 : -size // 10 : 4, size // 8 : -size // 8 : 4] > 0.9
    low = float(np.median(inner[aerated])) if aerated.any() else float(np.percentile(inner, 20))
    high = float(np.percentile(inner[~aerated], 70))
    # sd of -log(count) is 1 / sqrt(count), and counts fall with attenuation
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    noise *= np.exp((attenuation - np.float32(low)) * np.float32(0.6)) / np.float32(np.sqrt(pose.photons))
    at_low, at_high = _logit(pose.brightness), _logit(0.86)
    slope = pose.contrast * (at_high - at_low) / max(high - low, 0.2)
    film = (attenuation + noise - np.float32(low)) * np.float32(slope) + np.float32(at_low)
    grey = np.float32(250.0) / (np.float32(1.0) + np.exp(-film))
    if pose.collimation > 0.0:
        edge = round(pose.collimation * size / 2.0)
        frame = np.full((size, size), 4.0, dtype=np.float32)
        frame[edge : size - edge, edge : size - edge] = grey[edge : size - edge, edge : size - edge]
        grey = frame
    picture = Image.fromarray(grey.astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(0.8))


def _logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))
