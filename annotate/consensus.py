"""Several annotators, one answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from annotate.records import Label


def agree(labels: Iterable[Label], findings: Sequence[str]) -> dict[str, float]:
    """Bring all labels of one image to one answer per finding.

    Each annotator's latest label counts; one that was skipped or cannot be read counts for nothing. Labels
    with Label Studio's star decide alone. Among those who know, the majority wins: "cannot tell" is no vote.

    Args:
        labels: Every label of one task or item.
        findings: The findings asked for.

    Returns:
        Every finding to 1.0, 0.0 or NaN: a tie, or nobody knows.
    """
    latest: dict[str, Label] = {}
    starred: dict[str, Label] = {}
    for label in sorted(labels, key=lambda one: (one.updated_at, one.annotation_id)):
        latest[label.annotator] = label
        if label.ground_truth and _counts(label):
            starred[label.annotator] = label
    voters = list(starred.values()) or [label for label in latest.values() if _counts(label)]
    return {finding: _majority([v.answers.get(finding, math.nan) for v in voters]) for finding in findings}


def _counts(label: Label) -> bool:
    return not label.skipped and label.problem is None


def _majority(votes: Sequence[float]) -> float:
    yes, no = votes.count(1.0), votes.count(0.0)
    return math.nan if yes == no else float(yes > no)
