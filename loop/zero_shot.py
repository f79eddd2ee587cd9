"""Scores before the first label: images against texts, by a model that was trained on pairs of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from forecasting.auc import estimate_auc
from loop.book import Book
from loop.features import Features
from loop.probe import FEWEST_OF_CLASS
from loop.sections import PromptSettings
from loop.step_findings import IntervalReport

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors of length one, shape ``(t, p)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """What turns an image's projected embedding into one score a finding; fixed before any label exists.

    Attributes:
        fingerprint: Of the model with both towers; names the store of the images' embeddings.
        findings: K names.
        coef: Shape ``(p, K)``: of a text with the finding less one without it, times the model's logit scale.
        positive: Texts with a finding, by finding.
        negative: Texts without it.
    """

    fingerprint: str
    findings: tuple[str, ...]
    coef: NDArray[np.float32]
    positive: Mapping[str, tuple[str, ...]]
    negative: Mapping[str, tuple[str, ...]]

    @property
    def dim(self) -> int:
        """Length p of a projected embedding."""
        return len(self.coef)

    def to_fact(self) -> dict[str, Any]:
        """As the state keeps it."""
        return {
            "fingerprint": self.fingerprint,
            "findings": list(self.findings),
            "coef": self.coef.T.tolist(),
            "positive": {name: list(texts) for name, texts in self.positive.items()},
            "negative": {name: list(texts) for name, texts in self.negative.items()},
        }

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Scorer:
        """As it was kept."""
        return cls(
            fingerprint=fact["fingerprint"],
            findings=tuple(fact["findings"]),
            coef=np.array(fact["coef"], dtype=np.float32).T,
            positive={name: tuple(texts) for name, texts in fact["positive"].items()},
            negative={name: tuple(texts) for name, texts in fact["negative"].items()},
        )


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """A scorer, and the embeddings of the images in the space of its texts."""

    scorer: Scorer
    features: Features

    def score(self, items: Sequence[str]) -> NDArray[np.float64]:
        """Scores of some items, shape ``(n, K)``, higher = more positive; NaN where there is no embedding.

        A score is P(text with | text with or text without) as the model has it. No label has calibrated it: it orders
        images, and is no probability of the finding.
        """
        scores = np.full((len(items), len(self.scorer.findings)), np.nan)
        there = [row for row, item in enumerate(items) if self.features.has(item)]
        done = 0
        for some, vectors in self.features.chunks([items[row] for row in there]):
            rows = there[done : done + len(some)]
            scores[rows] = expit(vectors @ self.scorer.coef)  # (m, K)
            done += len(some)
        return scores


@dataclass(frozen=True, slots=True)
class ZeroShotReport:
    """Zero labels: how well the texts alone tell one finding, on random images.

    Attributes:
        auc: With its interval; None = too few positives or negatives of the random stream are labelled.
        positives: Random positives behind it.
        negatives: Random negatives behind it.
    """

    auc: IntervalReport | None
    positives: int
    negatives: int


def make_scorer(
    fingerprint: str, scale: float, embed_text: Embed, findings: Sequence[str], prompts: PromptSettings
) -> Scorer:
    """Turn prompts into a scorer: the texts of either side are averaged, each finding on its own.

    Args:
        fingerprint: Of the model with both towers.
        scale: By what a cosine is multiplied to give a logit.
        embed_text: The text tower.
        findings: K names.
        prompts: Templates and words.

    References:
        Averaging the vectors of several templates: Radford et al., ICML 2021, section 3.1.4. A text with against a text
        without: Tiu et al. (CheXzero), Nature Biomedical Engineering 6, 2022.
    """
    words = {name: prompts.words.get(name, name.replace("_", " ").lower()) for name in findings}
    sides = [
        {name: tuple(text.replace("{finding}", words[name]) for text in templates) for name in findings}
        for templates in (prompts.positive, prompts.negative)
    ]
    with_, without = (
        np.stack([_mean_direction(embed_text(texts[name])) for name in findings]) for texts in sides
    )  # (K, p) each
    return Scorer(fingerprint, tuple(findings), (scale * (with_ - without)).T, sides[0], sides[1])


def measure_zero_shot(zero_shot: ZeroShot, book: Book, level: float) -> dict[str, ZeroShotReport]:
    """Measure the texts on every labelled image of the random stream, which had no part in the scorer.

    Args:
        zero_shot: Fixed before any label.
        book: The labels.
        level: Level of the intervals.
    """
    random = np.flatnonzero(book.is_random)
    scores = zero_shot.score([book.items[row] for row in random])  # (n_random, K)
    told = {}
    for name in book.findings:
        if name not in zero_shot.scorer.findings:
            continue
        s = scores[:, zero_shot.scorer.findings.index(name)]
        y = np.where(np.isnan(s), np.nan, book.y[random, book.findings.index(name)])
        n1, n0 = int((y == 1).sum()), int((y == 0).sum())
        auc = None
        if min(n1, n0) >= FEWEST_OF_CLASS:  # as many as a curve needs
            found = estimate_auc(y, s)
            auc = IntervalReport(found.auc, *found.interval(level), level)
        told[name] = ZeroShotReport(auc, n1, n0)
    return told


def _mean_direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = vectors.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)
