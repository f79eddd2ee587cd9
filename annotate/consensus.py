"""Several annotators, one answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from annotate.dawid_skene import Reading, fit_readers
from annotate.records import Label

Key = TypeVar("Key", bound=Hashable)
Rule = Literal["majority", "dawid_skene"]

ENOUGH_REPEATS = 30
"""Images that three or more people must have answered before a finding is weighed by Dawid and Skene's model."""


@dataclass(frozen=True, slots=True)
class Votes:
    """What counts of all that was said about one image.

    Attributes:
        labels: Annotator to the label that counts: the latest, neither skipped nor unreadable.
        starred: Annotators whose label carries Label Studio's star; they decide alone.
    """

    labels: Mapping[str, Label]
    starred: frozenset[str]

    def answers(self, finding: str) -> dict[str, float]:
        """Annotator to 1.0 or 0.0, of those who know."""
        said = ((who, label.answers.get(finding, math.nan)) for who, label in self.labels.items())
        return {who: answer for who, answer in said if answer == answer}  # NaN differs from itself

    def deciding(self, finding: str) -> dict[str, float]:
        """As `answers`, of those who decide: everybody, or the starred alone."""
        said = self.answers(finding)
        return {who: said[who] for who in said if who in self.starred} if self.starred else said


@dataclass(frozen=True, slots=True)
class Consensus(Generic[Key]):
    """One answer an image and finding.

    Attributes:
        answers: Image to finding to 1.0, 0.0 or NaN: a tie, or nobody knows.
        by_majority: Finding to why the majority decided although the model was asked for; empty if it was not.
    """

    answers: Mapping[Key, Mapping[str, float]]
    by_majority: Mapping[str, str]


def agree(labels: Iterable[Label], findings: Sequence[str]) -> dict[str, float]:
    """Bring all labels of one image to one answer per finding, by majority.

    Each annotator's latest label counts; one that was skipped or cannot be read counts for nothing. Labels
    with Label Studio's star decide alone. Among those who know, the majority wins: "cannot tell" is no vote.

    Args:
        labels: Every label of one task or item.
        findings: The findings asked for.

    Returns:
        Every finding to 1.0, 0.0 or NaN: a tie, or nobody knows.
    """
    votes = count_votes(labels)
    return {finding: majority(votes.deciding(finding).values()) for finding in findings}


def agree_all(
    labels: Mapping[Key, Iterable[Label]], findings: Sequence[str], rule: Rule = "majority"
) -> Consensus[Key]:
    """Bring all labels of many images to one answer per image and finding.

    By ``dawid_skene`` an answer in dispute goes to whom the model believes: readers differ in how often they see
    what is there and what is not, and that is learnt from the images that three or more of them answered. What
    nobody disputes, a single reading included, stays as it was said; stars decide alone.

    Pairs are not enough: prevalence cannot be told from the readers' errors before three people answered the same
    images. With fewer than `ENOUGH_REPEATS` of those a finding goes by majority, and the reason is told.

    Args:
        labels: Every label, by image.
        findings: The findings asked for.
        rule: How readers who disagree are brought together.
    """
    votes = {key: count_votes(given) for key, given in labels.items()}
    answers = {key: {f: majority(one.deciding(f).values()) for f in findings} for key, one in votes.items()}
    by_majority: dict[str, str] = {}
    for finding in findings if rule == "dawid_skene" else ():
        repeated = sum(len(one.answers(finding)) >= 3 for one in votes.values())
        if repeated < ENOUGH_REPEATS:
            by_majority[finding] = (
                f"{repeated} of the {ENOUGH_REPEATS} images needed were answered by three or more people; until then "
                "the majority decides"
            )
            continue
        # in the order of the keys' text, so that the order of arrival is irrelevant to the last digit
        known = {key: _reading(votes[key], finding) for key in sorted(votes, key=str)}
        readers = fit_readers([reading for reading in known.values() if reading.answers])
        for key, one in votes.items():
            said = one.deciding(finding)
            if not one.starred and len(set(said.values())) > 1:
                answers[key][finding] = _decided(readers.probability(said))
    return Consensus(answers, by_majority)


def count_votes(labels: Iterable[Label]) -> Votes:
    """Find what counts among the labels of one image."""
    latest: dict[str, Label] = {}
    starred: dict[str, Label] = {}
    for label in sorted(labels, key=lambda one: (one.updated_at, one.annotation_id)):
        latest[label.annotator] = label
        if label.ground_truth and _counts(label):
            starred[label.annotator] = label
    voters = {who: label for who, label in latest.items() if _counts(label)}
    return Votes(voters | starred, frozenset(starred))


def majority(votes: Iterable[float]) -> float:
    """What more voters say, 1.0 or 0.0; NaN for a tie."""
    said = list(votes)
    yes, no = said.count(1.0), said.count(0.0)
    return math.nan if yes == no else float(yes > no)


def _counts(label: Label) -> bool:
    return not label.skipped and label.problem is None


def _reading(votes: Votes, finding: str) -> Reading:
    truth = majority(votes.deciding(finding).values()) if votes.starred else math.nan
    return Reading(votes.answers(finding), None if truth != truth else truth == 1.0)


def _decided(probability: float) -> float:
    return math.nan if abs(probability - 0.5) < 1e-9 else float(probability > 0.5)
