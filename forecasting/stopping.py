"""When to stop: a verdict per finding and for the project, each with its reason, its remedy and its price.

LIKELY REACHED is a forecast, calibrated by simulation. CERTIFIED is a theorem. No sentence blurs the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from forecasting.certificate import Evidence, Price
from forecasting.reasons import (
    LEVEL,
    say_certificate,
    say_labels_needed,
    say_no_forecast_yet,
    say_now,
    say_price,
    say_too_few,
    say_what_is_missing,
)
from forecasting.words import auc_text, counted, interval_text, level_text, listed, probability_text

if TYPE_CHECKING:
    from forecasting.powerlaw import Forecast


SPENT = ("The budget of ", "No image is left to ask.")
"""How a reason begins where a project stops with findings open, because nothing more may be labelled."""


class Verdict(StrEnum):
    """Where one finding stands."""

    CANNOT_TELL = "CANNOT TELL"
    KEEP_LABELLING = "KEEP LABELLING"
    LIKELY_REACHED = "LIKELY REACHED"
    CERTIFIED = "CERTIFIED"
    OUT_OF_REACH = "OUT OF REACH"


class ProjectVerdict(StrEnum):
    """What the project does next."""

    CONTINUE = "CONTINUE"
    STOP = "STOP"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of one finding, and when to say so.

    Attributes:
        target: AUC to reach.
        alpha: Probability, at most, that a certificate is false; that any is, where findings share it.
        tolerance: How far below the target the certificate tests.
        p_stop: Probability of having reached the target from which it is likely.
        p_futile: Probability that the plateau reaches the target up to which it is out of reach.
        min_class: Positives, and negatives, below which nothing is forecast.
        min_stop: Positives, and negatives, below which nothing is likely and nothing out of reach.
        forecast_from: Labels from which on there is a forecast.
        n_sharing: Findings that share alpha, this one included (`forecasting.together`).
    """

    target: float
    alpha: float = 0.05
    tolerance: float = 0.03
    p_stop: float = 0.97
    p_futile: float = 0.05
    min_class: int = 5
    min_stop: int = 10
    forecast_from: int = 50
    n_sharing: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one finding, in sentences for the person who pays for the labels."""

    finding: str
    verdict: Verdict
    reason: str
    remedy: str
    price: str


@dataclass(frozen=True, slots=True)
class ProjectDecision:
    """The verdict on the project."""

    verdict: ProjectVerdict
    reason: str
    remedy: str


def decide_finding(
    finding: str,
    forecast: Forecast | None,
    n_positive: int,
    n_negative: int,
    evidence: Evidence | None,
    price: Price | None,
    rules: Rules,
    n_random: tuple[int, int] | None = None,
    n_patients: tuple[int, int] | None = None,
) -> Decision:
    """Decide on one finding; the first that holds of the verdicts below.

    CANNOT TELL: fewer than ``min_class`` positives or negatives, whatever a certificate says; one that
    rests on labels since withdrawn says nothing. CERTIFIED: the certificate. LIKELY REACHED: P(AUC now >=
    target) >= ``p_stop``. OUT OF REACH: P(plateau >= target) <= ``p_futile``; these two need ``min_stop``
    patients of each class, and ``min_class`` of each from the random stream: without them nobody knows what selection
    does to the AUC. KEEP LABELLING: everything else.

    Args:
        finding: Its name.
        forecast: Its learning curve; None before there is one.
        n_positive: Positives known.
        n_negative: Negatives known.
        evidence: What the certificate has seen; None if it is not run.
        price: What certifying still costs; None if nobody can say.
        rules: Target and levels.
        n_random: Positives and negatives of the random stream; None = all labels are random.
        n_patients: Patients with positives, and with negatives; None = as many as there are positives and negatives.
    """
    cost = say_price(evidence, price, forecast, n_positive, n_negative, rules)
    if min(n_positive, n_negative) < rules.min_class:
        return Decision(finding, Verdict.CANNOT_TELL, *say_too_few(n_positive, n_negative, rules))
    if evidence is not None and evidence.certified:
        return Decision(
            finding,
            Verdict.CERTIFIED,
            f"{say_certificate(evidence, rules)}{' ' + say_now(forecast, rules) if forecast else ''}",
            "This finding needs no more labels. To certify the very model that is released, freeze it and run "
            "the certificate again on new random images.",
            "Certified: nothing more to pay.",
        )
    if forecast is None:
        return Decision(
            finding, Verdict.KEEP_LABELLING, *say_no_forecast_yet(n_positive, n_negative, rules), cost
        )

    p_now, p_plateau = forecast.prob_reached(rules.target), forecast.prob_plateau(rules.target)
    n_random = (n_positive, n_negative) if n_random is None else n_random
    n_patients = (n_positive, n_negative) if n_patients is None else n_patients
    enough = min(n_patients) >= rules.min_stop and min(n_random) >= rules.min_class
    now = say_now(forecast, rules)
    if p_now >= rules.p_stop and enough:
        return Decision(
            finding,
            Verdict.LIKELY_REACHED,
            f"{now} That makes it likely by the forecast (from {probability_text(rules.p_stop)} on); it is not certified.",
            "Labelling of this finding can stop where a forecast is enough; go on to the certificate where a "
            "proof is wanted.",
            cost,
        )
    if p_plateau <= rules.p_futile and enough:
        plateau, safe = forecast.plateau(LEVEL), forecast.plateau(0.8).low
        return Decision(
            finding,
            Verdict.OUT_OF_REACH,
            f"With labels without end the AUC would be {auc_text(plateau.mean)} "
            f"({interval_text(plateau.low, plateau.high, plateau.level)}); target {auc_text(rules.target)} is ever "
            f"reached with probability {probability_text(p_plateau)}.",
            "More labels of this kind will not do it. Try another encoder on the same labels, or lower the target: "
            f"{auc_text(math.floor(100 * safe) / 100, 2)} is within reach with probability .90.",
            "Labels cannot buy this target.",
        )
    return Decision(
        finding,
        Verdict.KEEP_LABELLING,
        now + say_what_is_missing(p_now, p_plateau, n_patients, n_random, rules),
        say_labels_needed(forecast, p_plateau, rules),
        cost,
    )


def decide_project(
    decisions: Sequence[Decision],
    rule: Literal["all", "mean"] | str | tuple[str, ...],
    evidence: Literal["likely", "certified"] | str,
    n_labels: int,
    budget: int | None,
    n_pool_left: int,
    p_mean: float | None = None,
    p_stop: float = 0.97,
    alpha: float = 0.05,
    n_sharing: int = 1,
) -> ProjectDecision:
    """Decide whether the project goes on; the first that holds of reached, out of reach, budget, pool.

    Args:
        decisions: One a finding.
        rule: ``all`` findings, the named ones, or the ``mean`` of their AUCs against the mean of their targets.
        evidence: Whether ``likely`` is enough or each finding under the rule must be ``certified``. No certificate
            exists for a mean, so with ``mean`` and ``certified`` every finding must be certified.
        n_labels: Images labelled.
        budget: Images that may be labelled; None = no limit.
        n_pool_left: Images that can still be asked.
        p_mean: P(mean AUC >= mean target) now; None if some finding has no forecast.
        p_stop: Probability from which the mean is likely reached.
        alpha: Error rate of the certificates.
        n_sharing: Findings that share it; 1 = it is that of each certificate.

    Raises:
        ValueError: No decisions, an unknown rule or evidence, or a name that is no finding.
    """
    under = _under(decisions, rule)
    if evidence not in ("likely", "certified"):
        raise ValueError(f"evidence is {evidence!r}; it must be 'likely' or 'certified'.")
    unknown = [d.finding for d in under if d.verdict is Verdict.CANNOT_TELL]
    counts = (Verdict.CERTIFIED,) if evidence == "certified" else (Verdict.CERTIFIED, Verdict.LIKELY_REACHED)
    still_open = [d for d in under if d.verdict not in counts]
    reached = _say_reached([d for d in under if d not in still_open], alpha, len(under), n_sharing)
    mean_is_likely = (
        rule == "mean" and evidence == "likely" and p_mean is not None and p_mean >= p_stop and not unknown
    )

    if mean_is_likely:
        return _stop(
            f"The mean AUC of the {counted(len(under), 'finding')} has reached the mean target with probability "
            f"{probability_text(p_mean or 0.0)}: likely by the forecast, not certified.",
            "Train the final model on all labels. Some findings may lie below the mean: see each one's verdict.",
        )
    if not still_open:
        return _stop(reached, "Train the final model on all labels and check it where it will be used.")
    # under "mean", what is reached could still pull the mean up: nothing is lost before every finding is
    lost = [d for d in (under if rule == "mean" else still_open) if d.verdict is not Verdict.OUT_OF_REACH]
    names = [d.finding for d in still_open]
    if not lost:
        return _stop(
            f"Out of reach with this encoder: {listed(names)}. {reached}",
            "Compare other encoders on the same labels, or lower these targets; no label is lost by either.",
        )
    if budget is not None and n_labels >= budget:
        return _stop(
            f"{SPENT[0]}{counted(budget, 'label')} is spent. Still open: {_say_open(still_open)}. {reached}",
            "Raise [stop] budget (each open finding tells how many more labels it needs), or accept the AUC of now.",
        )
    if n_pool_left <= 0:
        return _stop(
            f"{SPENT[1]} Still open: {_say_open(still_open)}. {reached}",
            "Add images of new patients, or accept the AUC of now.",
        )
    mean = ""
    if rule == "mean":
        said = (
            "not known, as not every finding has a forecast" if p_mean is None else probability_text(p_mean)
        )
        mean = f"The probability that the mean AUC has reached the mean target is {said}. "
    few = f" {listed(unknown)} cannot be judged before enough of both classes are known." if unknown else ""
    return ProjectDecision(
        ProjectVerdict.CONTINUE,
        f"{mean}Open: {_say_open(still_open)}. {reached}".rstrip(),
        f"Label the next batch.{few}",
    )


def _under(decisions: Sequence[Decision], rule: str | tuple[str, ...]) -> list[Decision]:
    if not decisions:
        raise ValueError("There is no finding to decide on.")
    if isinstance(rule, str):
        if rule not in ("all", "mean"):
            raise ValueError(f"rule is {rule!r}; it must be 'all', 'mean' or a tuple of findings.")
        return list(decisions)
    missing = sorted(set(rule) - {d.finding for d in decisions})
    if missing or not rule:
        raise ValueError(
            f"rule names {listed(missing)}; the findings are {listed([d.finding for d in decisions])}."
        )
    return [d for d in decisions if d.finding in rule]


def _stop(reason: str, remedy: str) -> ProjectDecision:
    return ProjectDecision(ProjectVerdict.STOP, reason.rstrip(), remedy)


def _say_reached(reached: Sequence[Decision], alpha: float, n_under: int, n_sharing: int) -> str:
    certified = [d.finding for d in reached if d.verdict is Verdict.CERTIFIED]
    likely = [d.finding for d in reached if d.verdict is Verdict.LIKELY_REACHED]
    rate = f"an error rate of {level_text(alpha)}"
    complete = len(certified) == n_under > 1  # a list fixed in advance needs no correction
    if n_sharing > 1 or complete:
        rate += " for all certified findings together"
    elif n_under > 1:
        rate += " for each on its own"
    parts = []
    if certified:
        parts.append(f"Certified, at the target less the tolerance and {rate}: {listed(certified)}.")
    parts += [f"Likely reached by the forecast, not certified: {listed(likely)}."] if likely else []
    return " ".join(parts)


def _say_open(still_open: Sequence[Decision]) -> str:
    return ", ".join(f"{d.finding} ({d.verdict})" for d in still_open)
