"""How well a project's annotators agree, and what their disagreement costs: from the labels in the state alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

import numpy as np

from annotate.consensus import Votes, count_votes, majority
from annotate.records import Label
from forecasting.agreement import Estimate, count_kinds, estimate_alpha, estimate_kappa, estimate_share
from forecasting.ceiling import Ceiling, estimate_ceiling
from forecasting.words import auc_text, interval_text
from loop.step_findings import IntervalReport

ENOUGH_RANDOM = 30
"""Doubly read images of the random stream from which on the ceiling rests on them alone: a strategy's picks are harder."""


@dataclass(frozen=True, slots=True)
class KappaReport:
    """Cohen's kappa of two annotators on the images that both answered; null where all answers are the same."""

    first: str
    second: str
    images: int
    kappa: IntervalReport | None


@dataclass(frozen=True, slots=True)
class AnnotatorReport:
    """How often an annotator says what the majority of the others says; images on which those tie are left out."""

    annotator: str
    images: int
    agreed: int
    share: IntervalReport | None


@dataclass(frozen=True, slots=True)
class CeilingReport:
    """The best AUC that labels with errors allow.

    Attributes:
        labels: Of the labels as they are, some read once, some more often, if as many findings are missed as invented.
        auc: Of labels of one reading each.
        lowest: The least that labels of one reading each allow, whatever way the annotators err.
        highest: The most.
        images: Images read twice or more, behind it.
        random_only: They are all of the random stream.
        target: What the finding must reach.
        above: The target lies above the whole interval of ``labels``.
    """

    labels: IntervalReport
    auc: IntervalReport
    lowest: float
    highest: float
    images: int
    random_only: bool
    target: float
    above: bool


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """What is known of one finding's labels from images that several people read.

    Attributes:
        images: Images that two or more people answered; a second look that `loop review` asked for does not count.
        disagreed: Of these, where not all said the same.
        ties: Images that are not known because as many said yes as no, second looks included.
        cannot_tell: Images that are not known because everybody who labelled them could not tell, or did not answer.
        alpha: Krippendorff's alpha; null where all answers are the same.
        kappas: Cohen's kappa of each two annotators.
        annotators: Each against the others.
        ceiling: Null where too few images were read twice.
        by_majority: Why the majority decides although the settings ask for Dawid and Skene; null if it does not.
    """

    images: int
    disagreed: int
    ties: int
    cannot_tell: int
    alpha: IntervalReport | None
    kappas: tuple[KappaReport, ...]
    annotators: tuple[AnnotatorReport, ...]
    ceiling: CeilingReport | None
    by_majority: str | None = None


def measure_agreement(
    labels: Mapping[str, Sequence[Label]],
    targets: Mapping[str, float],
    *,
    random: Collection[str],
    reviewed: Mapping[str, datetime],
    level: float,
    seed: int,
) -> dict[str, AgreementReport]:
    """Measure how well annotators agree on each finding.

    Args:
        labels: Image to its current labels.
        targets: Finding to the AUC that it must reach; names the findings.
        random: Images asked from the random stream.
        reviewed: Image to when a second look at it was asked for: those are picked because they are disputed or
            doubted, so what came after is no sample of how people agree.
        level: Level of the intervals.
        seed: Makes the intervals repeatable.
    """
    votes = {item: count_votes(given) for item, given in sorted(labels.items())}
    unbidden = {item: count_votes(_before(labels[item], reviewed.get(item))) for item in votes}
    return {
        finding: _measure(finding, votes, unbidden, target, random, level, np.random.default_rng([seed, k]))
        for k, (finding, target) in enumerate(targets.items())
    }


def warn_of_ceilings(agreement: Mapping[str, AgreementReport]) -> tuple[str, ...]:
    """Say which targets lie above what the labels allow, and what can be done."""
    return tuple(
        f"{finding}: the target {auc_text(told.ceiling.target)} lies above {auc_text(told.ceiling.labels.mean)} "
        f"({interval_text(told.ceiling.labels.low, told.ceiling.labels.high, told.ceiling.labels.level)}), the best AUC that "
        "these labels allow, by how annotators disagree. More labels of the same kind do not help. Agree on what counts as "
        f"{finding}, have more people read each image ([labels] double_reads), or lower the target."
        for finding, told in agreement.items()
        if told.ceiling is not None and told.ceiling.above
    )


def ceiling_text(ceiling: CeilingReport) -> str:
    """What the ceiling is, what it rests on and what it assumes."""
    stream = "random images" if ceiling.random_only else "images"
    return (
        f"Best AUC that these labels allow: {_text(ceiling.labels)}; labels of one reading each: {_text(ceiling.auc)}, "
        f"{auc_text(ceiling.lowest)} to {auc_text(ceiling.highest)} whatever way people err. From {ceiling.images} {stream} read "
        "twice; the first two if as many findings are missed as invented."
    )


def _text(interval: IntervalReport) -> str:
    return f"{auc_text(interval.mean)} ({interval_text(interval.low, interval.high, interval.level)})"


def _measure(
    finding: str,
    votes: Mapping[str, Votes],
    unbidden: Mapping[str, Votes],
    target: float,
    random: Collection[str],
    level: float,
    rng: np.random.Generator,
) -> AgreementReport:
    answers = {item: one.answers(finding) for item, one in unbidden.items()}
    repeated = {item: said for item, said in answers.items() if len(said) >= 2}
    said_now = [one.deciding(finding) for one in votes.values() if one.labels]
    people = sorted({who for said in repeated.values() for who in said}, key=_by_number)
    yes = {item: sum(said.values()) for item, said in repeated.items()}
    kinds = count_kinds(list(yes.values()), [len(said) for said in repeated.values()])
    return AgreementReport(
        images=len(repeated),
        disagreed=sum(0 < yes[item] < len(said) for item, said in repeated.items()),
        ties=sum(bool(said) and math.isnan(majority(said.values())) for said in said_now),
        cannot_tell=sum(not said for said in said_now),
        alpha=_interval(estimate_alpha(kinds, level, rng)),
        kappas=tuple(
            _kappa(first, second, pairs, level, rng)
            for first, second in combinations(people, 2)
            if (pairs := [(s[first], s[second]) for s in repeated.values() if first in s and second in s])
        ),
        annotators=tuple(_against_others(who, repeated, level) for who in people),
        ceiling=_ceiling(repeated, [len(said) for said in said_now if said], target, random, level, rng),
    )


def _kappa(
    first: str, second: str, pairs: Sequence[tuple[float, float]], level: float, rng: np.random.Generator
) -> KappaReport:
    both = np.array(pairs)  # (n, 2)
    return KappaReport(
        first, second, len(pairs), _interval(estimate_kappa(both[:, 0], both[:, 1], level, rng))
    )


def _against_others(who: str, repeated: Mapping[str, Mapping[str, float]], level: float) -> AnnotatorReport:
    compared = [
        (said[who], consensus)
        for said in repeated.values()
        if who in said
        and not math.isnan(consensus := majority(answer for other, answer in said.items() if other != who))
    ]
    agreed = sum(own == consensus for own, consensus in compared)
    return AnnotatorReport(
        who, len(compared), agreed, _interval(estimate_share(agreed, len(compared), level))
    )


def _ceiling(
    repeated: Mapping[str, Mapping[str, float]],
    reads: Sequence[int],
    target: float,
    random: Collection[str],
    level: float,
    rng: np.random.Generator,
) -> CeilingReport | None:
    of_random = [said for item, said in repeated.items() if item in random]
    used = of_random if len(of_random) >= ENOUGH_RANDOM else list(repeated.values())
    found: Ceiling | None = estimate_ceiling(
        count_kinds([sum(said.values()) for said in used], [len(said) for said in used]), reads, level, rng
    )
    if found is None:
        return None
    labels, auc = _interval(found.labels), _interval(found.auc)
    if labels is None or auc is None:
        return None
    return CeilingReport(
        labels=labels,
        auc=auc,
        lowest=found.lowest,
        highest=found.highest,
        images=found.n,
        random_only=len(used) == len(of_random),
        target=target,
        above=target > labels.high,
    )


def _interval(estimate: Estimate) -> IntervalReport | None:
    if math.isnan(estimate.value):
        return None
    return IntervalReport(estimate.value, estimate.low, estimate.high, estimate.level)


def _before(labels: Sequence[Label], at: datetime | None) -> list[Label]:
    return [label for label in labels if at is None or label.updated_at < at]


def _by_number(who: str) -> tuple[int, str]:
    """Label Studio's users in the order of their ids."""
    return (int(who) if who.isdecimal() else -1, who)
