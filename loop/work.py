"""How long people work on an image, from the seconds that Label Studio counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.special import ndtri

from annotate.records import Label
from loop.streams import LONGEST_LOOK_S

FEWEST = 10
"""Images with times below which nobody can say what the next one takes."""

LEVEL = 0.8


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of work behind an image that was labelled, all who read it together, what was skipped on the way included.

    Attributes:
        median_s: Median of a reading: what a person feels.
        low_s: Lower end of the 80 % interval of the mean an image: what labels cost. None below `FEWEST` images.
        high_s: Upper end.
        readings: Readings with a time.
    """

    median_s: float | None
    low_s: float | None
    high_s: float | None
    readings: int

    def hours(self, low: float | None, high: float | None) -> tuple[float | None, float | None]:
        """Hours of work behind images to be labelled, from few to many; None where nobody can say."""
        if self.low_s is None or self.high_s is None:
            return None, None
        return (
            None if low is None else low * self.low_s / 3600,
            None if high is None else high * self.high_s / 3600,
        )


def measure_work(labels: Iterable[Sequence[Label]], longest_s: float = LONGEST_LOOK_S) -> Work:
    """Measure the work from the labels of each image.

    The mean, not the median, is what adds up; its error is that of a ratio of sums over images (Cochran, Sampling
    Techniques, 3rd ed., section 6.4). An image with a reading without a time is left out.

    Args:
        labels: The labels of each image.
        longest_s: A longer look is a break and counts as this.
    """
    readings: list[float] = []
    seconds: list[float] = []
    done: list[float] = []
    for given in labels:
        times = [min(one.lead_time_s, longest_s) for one in given if one.lead_time_s is not None]
        read = [one for one in given if not one.skipped]
        readings += [min(one.lead_time_s, longest_s) for one in read if one.lead_time_s is not None]
        if given and len(times) == len(given):
            seconds.append(sum(times))
            done.append(float(bool(read)))
    middle = float(median(readings)) if readings else None
    if sum(done) < FEWEST:
        return Work(middle, None, None, len(readings))
    t, w = np.array(seconds), np.array(done)
    mean = t.sum() / w.sum()
    reach = float(ndtri(0.5 + LEVEL / 2)) * float(np.sqrt(((t - mean * w) ** 2).sum())) / w.sum()
    return Work(middle, float(max(0.0, mean - reach)), float(mean + reach), len(readings))
