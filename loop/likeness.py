"""Images unlike those of the archive: what a probe says of them, nobody has measured.

An image counts as unlike if it lies farther from the archive's centre, in embeddings standardised on the archive, than all but one
in a hundred of the archive's own images lie from the centre of others of them. Between two hospitals' chest X-rays (some hundreds,
EfficientNet-Lite0) this finds one in six to two in three of the other's images, about as many as distances in principal components do:
the count tells, not the single image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from loop.probe import Array, Features, Projection, fit_projection

FEWEST = 100
"""Images of an archive below which nothing is measured: one in a hundred of them would be nobody."""

SHARE = 0.01
"""Of the archive's own images that count as unlike."""

CHANCE, FEW = 0.001, 0.03
"""A warning takes more than this share, and so many that as many images of the archive hold them with less than this probability.
Images of few patients flock, so that in thousands of an archive's own images two in a hundred were met."""

STEP = 1 / 16
"""Of the spread: what is kept is so coarse that two exports, one image apart, do not tell that image by their difference."""

CHUNK = 4096
"""Images looked at together: their standardised values are float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Where an archive's images lie; sums over all of them, none of any.

    Attributes:
        mean: Of the raw embeddings, shape ``(d,)``, float32, in steps of `STEP` of a power of two near the spread.
        scale: Their standard deviations, shape ``(d,)``, float32, to the same precision.
        radius: Root mean square of the standardised values beyond which an image counts as unlike.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    radius: float

    def find_unlike(self, features: Features) -> NDArray[np.bool_]:
        """Which of some raw embeddings ``(n, d)`` are unlike, shape ``(n,)``."""
        seen = Projection(self.mean.astype(float), self.scale.astype(float), None)
        far = np.zeros(len(features), bool)
        for start in range(0, len(features), CHUNK):
            part = slice(start, start + CHUNK)
            far[part] = _distance(seen, features[part]) > self.radius
        return far


def measure_likeness(sample: Features, rng: np.random.Generator) -> Likeness | None:
    """Measure where an archive's images lie; None where there are too few.

    Args:
        sample: Raw embeddings of images drawn from the archive, shape ``(n, d)``.
        rng: Deals them into halves: each half's distances are to the centre of the other.
    """
    if len(sample) < FEWEST:
        return None
    halves = np.array_split(rng.permutation(len(sample)), 2)
    distances: list[Any] = []
    for rows, others in (halves, halves[::-1]):
        distances += [*_distance(fit_projection(sample[others], 0), sample[rows])]
    whole = fit_projection(sample, 0)
    step = STEP * 2.0 ** np.floor(np.log2(whole.scale))  # (d,)
    return Likeness(
        (np.round(whole.mean / step) * step).astype(np.float32),
        (np.round(whole.scale / step) * step).astype(np.float32),
        float(np.quantile(distances, 1 - SHARE)),
    )


def is_beyond_chance(n_unlike: int, n: int) -> bool:
    """Whether so many of n images are hardly ever unlike where they are the archive's own."""
    return bool(n_unlike > FEW * n and binom.sf(n_unlike - 1, n, SHARE) < CHANCE)


def _distance(projection: Projection, features: Features) -> Array:
    standard = projection.transform(features)  # (n, d)
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", standard, standard) / standard.shape[1]))
