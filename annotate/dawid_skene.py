"""Readers who err, each in a way of their own: Dawid and Skene's model of one yes / no question.

An image shows the finding with probability ``prevalence``; a reader says yes to a share ``sensitivity`` of those that
show it and no to a share ``specificity`` of the others, independently of the other readers given the truth. All of it is
estimated together by EM. The libraries that have it want scikit-learn and pandas (crowd-kit) or a model's
probabilities (cleanlab's consensus), and a label that leans on the probe's opinion could not test the probe.

References:
    Dawid and Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28(1), 1979.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SMOOTHING = 1.0
"""Answers of each kind that a reader is given on top, so that nobody is called infallible after a few images."""

ROUNDS, STILL = 2_000, 1e-10


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known about one image.

    Attributes:
        answers: Reader to 1.0 (yes) or 0.0 (no), of those who know.
        truth: What a star says; None without one.
    """

    answers: Mapping[str, float]
    truth: bool | None = None


@dataclass(frozen=True, slots=True)
class Readers:
    """How readers read.

    Attributes:
        prevalence: Share of the images that show the finding.
        sensitivity: Reader to the share of those to which they say yes.
        specificity: Reader to the share of the others to which they say no.
    """

    prevalence: float
    sensitivity: Mapping[str, float]
    specificity: Mapping[str, float]

    def probability(self, answers: Mapping[str, float]) -> float:
        """Probability that an image shows the finding, given who said what."""
        shows, shows_not = _log(self.prevalence), _log(1 - self.prevalence)
        for who in sorted(answers):
            sensitivity, specificity = self.sensitivity[who], self.specificity[who]
            yes = answers[who] == 1.0
            shows += _log(sensitivity if yes else 1 - sensitivity)
            shows_not += _log(1 - specificity if yes else specificity)
        return 1 / (1 + math.exp(min(shows_not - shows, 700.0)))


def fit_readers(readings: Iterable[Reading], smoothing: float = SMOOTHING) -> Readers:
    """Estimate prevalence and the readers' rates, from the share of yes on each image as a first guess.

    Args:
        readings: The images, each with at least one answer.
        smoothing: Answers of each kind that each reader is given on top; 0 = maximum likelihood.
    """
    kinds = Counter((tuple(sorted(one.answers.items())), one.truth) for one in readings)
    answered = [(dict(answers), truth, n) for (answers, truth), n in kinds.items()]
    shows = [_given(truth, sum(answers.values()) / len(answers)) for answers, truth, _ in answered]
    fitted = _rates(answered, shows, smoothing)
    for _ in range(ROUNDS):
        again = [_given(truth, fitted.probability(answers)) for answers, truth, _ in answered]
        change = max(abs(a - b) for a, b in zip(again, shows, strict=True))
        shows, fitted = again, _rates(answered, again, smoothing)
        if change < STILL:
            break
    return fitted


def _rates(
    answered: Sequence[tuple[dict[str, float], bool | None, int]], shows: Sequence[float], smoothing: float
) -> Readers:
    """The rates that are likeliest if each image shows the finding with these probabilities."""
    of_yes: dict[str, list[float]] = {}  # reader to the images read that show it, and the yes among them
    of_no: dict[str, list[float]] = {}
    for (answers, _, n), p in zip(answered, shows, strict=True):
        for who, answer in answers.items():
            for counts, weight, right in ((of_yes, n * p, 1.0), (of_no, n * (1 - p), 0.0)):
                held = counts.setdefault(who, [0.0, 0.0])
                held[0] += weight
                held[1] += weight * (answer == right)
    total = sum(n for _, _, n in answered)
    return Readers(
        prevalence=sum(n * p for (_, _, n), p in zip(answered, shows, strict=True)) / total,
        sensitivity={who: _share(read, right, smoothing) for who, (read, right) in of_yes.items()},
        specificity={who: _share(read, right, smoothing) for who, (read, right) in of_no.items()},
    )


def _share(read: float, right: float, smoothing: float) -> float:
    whole = read + 2 * smoothing
    return (right + smoothing) / whole if whole > 0 else 0.5


def _given(truth: bool | None, probability: float) -> float:
    return probability if truth is None else float(truth)


def _log(share: float) -> float:
    return math.log(max(share, 1e-300))
