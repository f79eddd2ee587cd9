"""Forecasts written down so that later labels can be held against them, and what such labels show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from forecasting.powerlaw import Forecast

AHEAD = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
"""Times the labels of now at which a promise is written down; in between it is interpolated."""


@dataclass(frozen=True, slots=True)
class PathPoint:
    """A promise at one number of labels: the probit of the AUC is about normal.

    Attributes:
        n: Labels of the finding.
        center: Mean of the probit.
        sd: Its standard deviation as fitted, before any widening.
    """

    n: float
    center: float
    sd: float


@dataclass(frozen=True, slots=True)
class Promise:
    """A forecast as it was given.

    Attributes:
        finding: What it is about.
        round: The round whose labels were judged: those of later rounds did not exist.
        path: The AUC at growing numbers of labels, from those of that time on.
        widened: How many times as wide as fitted it was given.
        encoder: The frozen model; a promise says nothing about another one.
    """

    finding: str
    round: int
    path: tuple[PathPoint, ...]
    widened: float = 1.0
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What one round's fresh random labels showed about the model that scored them before.

    Attributes:
        finding: What was looked at.
        round: The round that asked these images.
        n: Labels of the finding behind the model.
        auc: Share of pairs in the right order.
        n_positive: Positives among them, at least 1.
        n_negative: Negatives, at least 1.
        encoder: The frozen model.
    """

    finding: str
    round: int
    n: int
    auc: float
    n_positive: int
    n_negative: int
    encoder: str = ""


def promise_path(forecast: Forecast, level: float = 0.9) -> tuple[PathPoint, ...]:
    """Write a forecast down so that its AUC at any later number of labels can be scored.

    Args:
        forecast: As fitted, not widened.
        level: Of the interval that the normal approximation reproduces.
    """
    reach = float(ndtri(0.5 + level / 2))
    path = []
    for times in AHEAD:
        told = forecast.auc(times * forecast.n, level)
        low, high = (float(ndtri(np.clip(bound, 1e-6, 1 - 1e-6))) for bound in (told.low, told.high))
        path.append(PathPoint(times * forecast.n, (low + high) / 2, (high - low) / (2 * reach)))
    return tuple(path)
