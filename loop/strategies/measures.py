"""How much an answer about an item would tell: modAL's measures for one finding, and the mean over findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from loop.strategies.pool import Choice

Array = NDArray[np.float64]

COLD = "zero_shot"
"""How a first batch is chosen by scores that no label has calibrated: what most looks like a finding, each in turn."""

_MOST = {
    "uncertainty": "most uncertain",
    "margin": "smallest margin",
    "entropy": "highest entropy",
    COLD: "highest zero-shot score",
}


def utilities(strategy: str, proba: Array) -> Array:
    """Utility of asking each item about one finding, higher = sooner, by modAL's measures.

    Args:
        strategy: ``uncertainty`` (1 - the larger class probability), ``margin`` (the two classes'
            difference, negated), ``entropy`` (in nats) or `COLD` (share of the items that score no higher).
        proba: Probability of the finding, shape ``(m,)``.
    """
    if strategy == COLD:
        return np.asarray(
            rankdata(proba, "max", nan_policy="omit") / max(1, np.isfinite(proba).sum()), np.float64
        )
    from modAL.uncertainty import classifier_entropy, classifier_margin, classifier_uncertainty

    head = _Head(np.column_stack([1 - proba, proba]))  # (m, 2)
    if strategy == "uncertainty":
        return np.asarray(classifier_uncertainty(head, proba), np.float64)
    if strategy == "margin":
        return -np.asarray(classifier_margin(head, proba), np.float64)
    return np.asarray(classifier_entropy(head, proba), np.float64)


def how_unsure(proba: Array) -> Array:
    """1 - the larger class probability: modAL's uncertainty, without the seconds that importing modAL takes. NaN stays NaN."""
    return np.asarray(1 - np.maximum(1 - proba, proba), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """What modAL takes for a classifier: its answers for the pool, ``(m, 2)``, already known."""

    proba: Array

    def predict_proba(self, _: Array) -> Array:
        return self.proba


def mean_over_findings(by_finding: Array, weight: Array | None = None) -> Array:
    """Mean utility over the findings that have a score, ``(m,)``; an item without any comes last.

    Args:
        by_finding: Utilities, shape ``(m, K)``; NaN = no score.
        weight: How much each finding counts, shape ``(K,)``; default: as much as the others.
    """
    counts = np.ones(by_finding.shape[1]) if weight is None else weight
    known = ~np.isnan(by_finding)  # (m, K)
    whole = np.where(known, counts, 0.0).sum(axis=1)  # (m,)
    total = np.where(known, by_finding * counts, 0.0).sum(axis=1)
    return np.asarray(np.where(whole > 0, total / np.where(whole > 0, whole, 1.0), -np.inf), np.float64)


def largest_over_findings(by_finding: Array) -> Array:
    """Largest utility over the findings, ``(m,)``: the top of each finding is asked before the second of any."""
    return np.asarray(np.where(np.isnan(by_finding), -np.inf, by_finding).max(axis=1), np.float64)


def highest_rows(n: int, utility: Array, patients: NDArray[np.intp]) -> list[int]:
    """Rows of the n highest utilities, one a patient, ties by row."""
    few = _at_least_highest(4 * n, utility)  # one look at the top does, but for patients with many images
    rows = _one_a_patient(n, few, utility, patients)
    return rows if len(rows) == n else _one_a_patient(n, np.arange(len(utility)), utility, patients)


def _at_least_highest(n: int, utility: Array) -> NDArray[np.intp]:
    """Rows of the n highest utilities and of all that equal the last of them, from the first up."""
    if n >= len(utility):
        return np.arange(len(utility))
    return np.flatnonzero(utility >= np.partition(utility, -n)[-n]) if n else np.empty(0, np.intp)


def _one_a_patient(n: int, among: NDArray[np.intp], utility: Array, patients: NDArray[np.intp]) -> list[int]:
    rows: list[int] = []
    seen: set[int] = set()
    for i in among[np.argsort(-utility[among], kind="stable")].tolist():
        if len(rows) == n:
            break
        if (patient := int(patients[i])) not in seen:
            seen.add(patient)
            rows.append(i)
    return rows


def ask_highest(
    strategy: str, pool_proba: Array, findings: Sequence[str], patients: NDArray[np.intp], n: int
) -> tuple[list[Choice], Array]:
    """Ask the highest mean utility over the findings; of zero-shot scores, the highest of any finding.

    Returns:
        The choices, and every utility, shape ``(m,)``.
    """
    by_finding = np.column_stack([utilities(strategy, p) for p in pool_proba.T])  # (m, K)
    utility = (largest_over_findings if strategy == COLD else mean_over_findings)(by_finding)  # (m,)
    return [
        Choice(
            i,
            f"{_MOST[strategy]}: {name_findings(findings, by_finding[i], pool_proba[i])}",
            float(utility[i]),
        )
        for i in highest_rows(n, utility, patients)
    ], utility


def name_findings(names: Sequence[str], utility: Array, proba: Array) -> str:
    """The findings that speak loudest for an item, and their probabilities: why it came to the top."""
    loudest = [k for k in np.argsort(-utility, kind="stable") if proba[k] == proba[k]][:3]
    return ", ".join(f"{names[k]} {proba[k]:.2f}".replace(" 0.", " .") for k in loudest)
