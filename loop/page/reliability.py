"""Whether probabilities mean what they say: what the last decision measured on the random stream, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forecasting.calibration import FEWEST, Bin
from forecasting.plots_reliability import ReliabilityInfo, reliability_info
from forecasting.words import level_text
from loop.book import Book
from loop.step_findings import CalibrationReport, FindingReport


@dataclass(frozen=True, slots=True)
class Reliability:
    """One finding's probabilities, held against labels of random images whose patients had not trained the probe.

    Attributes:
        positives: Positives of the random stream now.
        negatives: Negatives.
        said: What the probabilities are worth, in words.
        told: As the last decision measured it; None where there are too few labels to tell.
    """

    positives: int
    negatives: int
    said: str
    told: CalibrationReport | None


def read_reliability(findings: Mapping[str, FindingReport], book: Book) -> dict[str, Reliability]:
    """What the last decision told of each finding's probabilities, and why it told nothing."""
    drawn = book.y[book.is_random & ~book.is_declared]  # (n_random, K)
    counts = {
        name: (int(np.sum(drawn[:, k] == 1)), int(np.sum(drawn[:, k] == 0)))
        for k, name in enumerate(book.findings)
    }
    return {
        name: Reliability(*counts[name], say_reliability(one.calibration, *counts[name]), one.calibration)
        for name, one in findings.items()
        if name in counts
    }


def say_reliability(told: CalibrationReport | None, positives: int, negatives: int) -> str:
    """`Of 120 random images 38 % were expected to be positive, and 31 % were. ...`: no more than the intervals show."""
    if told is None and min(positives, negatives) < FEWEST:
        return (
            f"Not known yet: that takes {FEWEST} positives and {FEWEST} negatives among the random images, and there are "
            f"{positives:,} and {negatives:,}."
        )
    if told is None:
        return (
            "Not known: the last decision had fewer labels, or the model parts the classes of these images without a miss, which "
            "says nothing of its probabilities."
        )
    seen = (
        f"Of {told.n:,} random images {_percent(told.predicted)} were expected to be positive, and "
        f"{_percent(told.observed)} were."
    )
    wrong = []
    if told.intercept.high < 0:
        wrong.append("too high for this archive")
    elif told.intercept.low > 0:
        wrong.append("too low for this archive")
    if told.slope.high < 1:
        wrong.append("too extreme: high ones are too high and low ones too low")
    elif told.slope.low > 1:
        wrong.append("too timid: high ones are too low and low ones too high")
    if not wrong:
        return f"{seen} No error of the probabilities can be told from chance ({level_text(told.level)} intervals)."
    return f"{seen} Probabilities are {', and '.join(wrong)}. The model that is exported is mended as the line shows."


def draw_info(finding: str, told: CalibrationReport) -> ReliabilityInfo:
    """What a picture of it shows."""
    bins = [Bin(one.predicted, one.observed, one.low, one.high, one.n) for one in told.curve]
    return reliability_info(finding, bins, told.offset, told.scale, told.level)


def _percent(share: float) -> str:
    """`38 %`, and below ten a digit more."""
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"
