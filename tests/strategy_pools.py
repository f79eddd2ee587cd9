"""Pools for tests of strategies: made-up embeddings, labels and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop.features import FeatureTable
from loop.probe import fit_probe, fit_projection
from loop.strategies import Labelled, Pool, Seen, Vectors

Array = NDArray[np.float64]


def vectors(x: NDArray[np.float32]) -> Vectors:
    """Embeddings as they are."""
    ids = [f"{i:06d}" for i in range(len(x))]
    return Vectors(FeatureTable(ids, x), ids)


def gaussian_seen(
    items: Sequence[str], n_findings: int, *, n_labelled: int = 30, dim: int = 6, seed: int = 0
) -> Seen:
    """Embeddings for some items, and labelled items beside them whose first dimensions tell the findings."""
    rng = np.random.default_rng(seed)
    known = [f"labelled {i}" for i in range(n_labelled)]
    x = rng.normal(size=(len(items) + n_labelled, dim)).astype(np.float32)
    y = (x[len(items) :, :n_findings] + rng.normal(size=(n_labelled, n_findings)) > 0).astype(float)
    patients = np.array([f"labelled patient {i // 2}" for i in range(n_labelled)])
    projection = fit_projection(x, 0)
    findings = [f"f{k}" for k in range(n_findings)]
    probe = fit_probe(x[len(items) :], y, patients, findings, projection, rng) if n_labelled else None
    features = FeatureTable([*items, *known], x)
    return Seen(features, projection, known, y, patients, np.ones(n_findings, bool), probe)


def pool_of(
    x: NDArray[np.float32],
    proba: Array,
    *,
    patients: Sequence[int] | None = None,
    labelled: NDArray[np.float32] | None = None,
    y: Array | None = None,
    is_open: Sequence[bool] | None = None,
) -> Pool:
    """A pool of raw embeddings ``(m, d)`` and probabilities ``(m, K)``; every image a patient of its own unless told."""
    k = proba.shape[1]
    known = np.empty((0, x.shape[1]), np.float32) if labelled is None else labelled
    answers = np.zeros((len(known), k)) if y is None else y
    return Pool(
        [f"{i:06d}" for i in range(len(x))],
        np.arange(len(x)) if patients is None else np.array(patients),
        proba,
        [f"f{j}" for j in range(k)],
        vectors(x),
        Labelled(vectors(known), answers, np.array([f"labelled {i}" for i in range(len(known))])),
        np.ones(k, bool) if is_open is None else np.array(is_open),
        fit_projection(x, 0),
        None,
    )
