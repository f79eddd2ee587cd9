"""What speaks against a declaration that the labels from before the first batch are a random sample of the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import fisher_exact

from forecasting.auc import cross_fit, cross_fitted_auc
from forecasting.errors import TooFewLabels
from loop.book import Book
from loop.features import Features
from loop.items import Item
from loop.probe import CAUTIOUS, Projection, make_scorer

LEAST = 20  # images of each kind
DOUBT = 0.01  # level of the test on labels, for all findings together
MOST = 500  # images of each kind whose embeddings are compared
UNLIKE, ERRORS = 0.65, 4.0  # AUC of telling them apart, and its distance from one half in standard errors


def doubt_declaration(
    book: Book, items: Sequence[Item], features: Features, projection: Projection, seed: int
) -> list[str]:
    """Say how the declared images differ from the others, in their embeddings and in their labels.

    Embeddings speak before any new label: if a probe tells declared images from the rest, over folds of patients, somebody
    chose them. Labels are compared with those of images that the loop drew itself, by Fisher's exact test.

    Args:
        book: The labels.
        items: Every image that can be asked or was labelled.
        features: Embeddings of at least these.
        projection: How the probe sees them.
        seed: Draws the images that are compared; the same seed gives the same answer.

    Returns:
        One sentence with its remedy; none if nothing speaks against it.
    """
    if not book.is_declared.any():
        return []
    doubts = [*_unlike(book, items, features, projection, seed), *_other_shares(book)]
    if not doubts:
        return []
    return [
        f"The labels that were there before the first batch are declared random, but do not look it: {'; '.join(doubts)}. Where "
        'they were chosen, set [labels] existing = "outsider": AUC and prevalence are then measured without them.'
    ]


def _other_shares(book: Book) -> list[str]:
    drawn = book.is_random & ~book.is_declared
    told = []
    for k, name in enumerate(book.findings):
        groups = (book.y[book.is_declared, k], book.y[drawn, k])
        table = np.array([[(y == value).sum() for value in (1, 0)] for y in groups])
        if table.sum(axis=1).min() < LEAST:
            continue
        if fisher_exact(table).pvalue < DOUBT / len(book.findings):
            declared, random = (f"{yes} of {yes + no}" for yes, no in table)
            told.append(f"{name} is positive in {declared} of them, and in {random} images drawn at random")
    return told


def _unlike(
    book: Book, items: Sequence[Item], features: Features, projection: Projection, seed: int
) -> list[str]:
    declared = [item for item, is_declared in zip(book.items, book.is_declared, strict=True) if is_declared]
    patient_of = {item.item: item.patient for item in items if features.has(item.item)}
    others = sorted(patient_of.keys() - set(declared))
    n = min(len(declared), len(others), MOST)
    if n < LEAST:
        return []
    rng = np.random.default_rng([seed, 0])
    chosen = [str(item) for kind in (declared, others) for item in rng.choice(kind, n, replace=False)]
    y = np.repeat([1.0, 0.0], n)[:, None]  # (2n, 1)
    x = projection.transform(features.read(chosen))  # (2n, k)
    patients = np.array([patient_of[item] for item in chosen])
    try:
        fitted = cross_fit(y, patients, make_scorer(x, y, np.array([CAUTIOUS])), rng, n_repeats=2)
        auc = cross_fitted_auc(y[:, 0], fitted.scores[:, :, 0], fitted.folds)
    except TooFewLabels:
        return []
    if auc.auc < UNLIKE or auc.auc - 0.5 < ERRORS * auc.se:
        return []
    return [f"by their embeddings alone they are told from the other images with an AUC of {auc.auc:.2f}"]
