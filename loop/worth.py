"""What the labels in hand say about the loop itself: what selection has saved, and whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from forecasting.calibration import Calibration, estimate_calibration
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds
from forecasting.saving import FEWEST_LABELS, Saving, estimate_saving
from loop.book import Book
from loop.probe import Array, Probe, Projection, fit_parts, make_scorer

N_FOLDS = 10


def measure_saving(
    book: Book, features: NDArray[np.float32], projection: Projection, probe: Probe, rng: np.random.Generator
) -> Saving | None:
    """What active selection has saved so far; None where there are too few labels to tell.

    Labels that nobody asked for play no part: neither stream drew them.

    Args:
        book: The labels, booked by stream.
        features: Raw embeddings of its items, shape ``(n, d)``.
        projection: How the probe sees them.
        probe: The probe in force, whose strengths all training sets take.
        rng: Deals patients and draws training sets.
    """
    fitted = np.flatnonzero(probe.fitted)
    drawn = book.is_random & ~book.is_declared
    if not len(fitted) or min(drawn.sum(), book.is_active.sum()) < FEWEST_LABELS:
        return None
    rows = np.flatnonzero(drawn | book.is_active)
    y = book.y[np.ix_(rows, fitted)]
    scorer = make_scorer(projection.transform(features[rows]), y, probe.strength[fitted])
    try:
        return estimate_saving(y, book.patients[rows], drawn[rows], scorer, rng)
    except TooFewLabels:
        return None


def measure_calibration(
    book: Book, features: NDArray[np.float32], projection: Projection, probe: Probe, rng: np.random.Generator
) -> dict[str, Calibration]:
    """Calibration of each finding on the random stream, by probes that had not seen the patient; see `measure_saving`."""
    fitted = np.flatnonzero(probe.fitted)
    drawn = book.is_random & ~book.is_declared
    if not len(fitted) or not drawn.any():
        return {}
    y = book.y[:, fitted]
    try:
        folds = assign_folds(y, book.patients, N_FOLDS, rng)
    except TooFewLabels:
        return {}
    n_folds = int(folds.max()) + 1
    with threadpool_limits(1, "blas"):
        x = projection.transform(features)
        parts = folds[None, :] != np.arange(n_folds)[:, None]  # (V, n)
        told = fit_parts(x, y, parts, probe.strength[None, fitted])  # (V, n, F)
    logits: Array = np.full(y.shape, np.nan)
    for f in range(n_folds):
        logits[folds == f] = told[f, folds == f]
    measured = {
        probe.findings[k]: estimate_calibration(y[drawn, j], logits[drawn, j], book.patients[drawn])
        for j, k in enumerate(fitted)
    }
    return {name: one for name, one in measured.items() if one is not None}
