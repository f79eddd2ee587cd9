"""When to stop: a verdict per finding and for the project, each with its reason, its remedy and its price.

LIKELY REACHED is a forecast, calibrated by simulation. CERTIFIED is a theorem. No sentence blurs the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from forecasting.certificate import START, Evidence, Price, price
from forecasting.words import (
    auc_text,
    count_text,
    counted,
    interval_text,
    level_text,
    listed,
    probability_text,
    range_text,
)

if TYPE_CHECKING:
    from forecasting.powerlaw import Forecast

LEVEL = 0.9  # of the intervals of AUC that are told
LABELS_LEVEL = 0.8  # of the ranges of labels needed


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
        alpha: Probability, at most, that a certificate is false.
        tolerance: How far below the target the certificate tests.
        p_stop: Probability of having reached the target from which it is likely.
        p_futile: Probability that the plateau reaches the target up to which it is out of reach.
        min_class: Positives, and negatives, below which nothing is forecast.
        min_stop: Positives, and negatives, below which nothing is likely and nothing out of reach.
        forecast_from: Labels from which on there is a forecast.
    """

    target: float
    alpha: float = 0.05
    tolerance: float = 0.03
    p_stop: float = 0.97
    p_futile: float = 0.05
    min_class: int = 5
    min_stop: int = 10
    forecast_from: int = 50


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
) -> Decision:
    """Decide on one finding; the first that holds of the verdicts below.

    CANNOT TELL: fewer than ``min_class`` positives or negatives, whatever a certificate says; one that
    rests on labels since withdrawn says nothing. CERTIFIED: the certificate. LIKELY REACHED: P(AUC now >=
    target) >= ``p_stop``. OUT OF REACH: P(plateau >= target) <= ``p_futile``; these two need ``min_stop``
    of each class. KEEP LABELLING: everything else.

    Args:
        finding: Its name.
        forecast: Its learning curve; None before there is one.
        n_positive: Positives known.
        n_negative: Negatives known.
        evidence: What the certificate has seen; None if it is not run.
        price: What certifying still costs; None if nobody can say.
        rules: Target and levels.
    """
    cost = _say_price(evidence, price, forecast, n_positive, n_negative, rules)
    if min(n_positive, n_negative) < rules.min_class:
        return _cannot_tell(finding, n_positive, n_negative, rules)
    if evidence is not None and evidence.certified:
        return Decision(
            finding,
            Verdict.CERTIFIED,
            f"{_say_certificate(evidence, rules)}{' ' + _say_now(forecast, rules) if forecast else ''}",
            "This finding needs no more labels. To certify the very model that is released, freeze it and run "
            "the certificate again on new random images.",
            "Certified: nothing more to pay.",
        )
    if forecast is None:
        return Decision(
            finding, Verdict.KEEP_LABELLING, *_no_forecast_yet(n_positive, n_negative, rules), cost
        )

    p_now, p_plateau = forecast.prob_reached(rules.target), forecast.prob_plateau(rules.target)
    enough = min(n_positive, n_negative) >= rules.min_stop
    now = _say_now(forecast, rules)
    if p_now >= rules.p_stop and enough:
        return Decision(
            finding,
            Verdict.LIKELY_REACHED,
            f"{now} That makes it likely by the forecast; it is not certified.",
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
        now + _why_not_yet(p_now, p_plateau, n_positive, n_negative, rules),
        _say_labels(forecast, p_plateau, rules),
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

    Raises:
        ValueError: No decisions, an unknown rule or evidence, or a name that is no finding.
    """
    under = _under(decisions, rule)
    if evidence not in ("likely", "certified"):
        raise ValueError(f"evidence is {evidence!r}; it must be 'likely' or 'certified'.")
    unknown = [d.finding for d in under if d.verdict is Verdict.CANNOT_TELL]
    counts = (Verdict.CERTIFIED,) if evidence == "certified" else (Verdict.CERTIFIED, Verdict.LIKELY_REACHED)
    still_open = [d for d in under if d.verdict not in counts]
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
        return _stop(
            _say_reached(under), "Train the final model on all labels and check it where it will be used."
        )
    # under "mean", what is reached could still pull the mean up: nothing is lost before every finding is
    lost = [d for d in (under if rule == "mean" else still_open) if d.verdict is not Verdict.OUT_OF_REACH]
    names = [d.finding for d in still_open]
    if not lost:
        return _stop(
            f"Out of reach with this encoder: {listed(names)}. {_say_rest(under, still_open)}",
            "Compare other encoders on the same labels, or lower these targets; no label is lost by either.",
        )
    if budget is not None and n_labels >= budget:
        return _stop(
            f"The budget of {counted(budget, 'label')} is spent. Still open: {_say_open(still_open)}. "
            f"{_say_rest(under, still_open)}",
            "Raise the budget (each open finding tells how many more labels it needs), or accept the AUC of now.",
        )
    if n_pool_left <= 0:
        return _stop(
            f"No image is left to ask. Still open: {_say_open(still_open)}. {_say_rest(under, still_open)}",
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
        f"{mean}Open: {_say_open(still_open)}. {_say_rest(under, still_open)}".rstrip(),
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


def _say_reached(under: Sequence[Decision]) -> str:
    certified = [d.finding for d in under if d.verdict is Verdict.CERTIFIED]
    likely = [d.finding for d in under if d.verdict is Verdict.LIKELY_REACHED]
    parts = [f"Certified: {listed(certified)}."] if certified else []
    parts += [f"Likely reached by the forecast, not certified: {listed(likely)}."] if likely else []
    return " ".join(parts)


def _say_open(still_open: Sequence[Decision]) -> str:
    return ", ".join(f"{d.finding} ({d.verdict})" for d in still_open)


def _say_rest(under: Sequence[Decision], still_open: Sequence[Decision]) -> str:
    return _say_reached([d for d in under if d not in still_open])


def _say_now(forecast: Forecast, rules: Rules) -> str:
    now = forecast.auc(forecast.n, LEVEL)
    return (
        f"AUC {auc_text(now.mean)} now ({interval_text(now.low, now.high, now.level)}); target "
        f"{auc_text(rules.target)} is reached with probability {probability_text(forecast.prob_reached(rules.target))}."
    )


def _say_certificate(evidence: Evidence, rules: Rules) -> str:
    hidden = (
        f" {counted(evidence.n_unknown, 'random image')} without an answer took no part; leaving out hard ones flatters."
        if evidence.n_unknown
        else ""
    )
    return (
        f"At {level_text(1 - rules.alpha)} confidence, however often one looked, a model of this project has an AUC above "
        f"{auc_text(evidence.tested)} (target {auc_text(rules.target)} less the tolerance of "
        f"{auc_text(rules.tolerance)}) on images like the random stream's, by these readers' labels: "
        f"{counted(evidence.n_positive, 'positive')} and {counted(evidence.n_negative, 'negative')}, scored before "
        f"they were labelled.{hidden}"
    )


def _cannot_tell(finding: str, n_positive: int, n_negative: int, rules: Rules) -> Decision:
    kind, seen = ("positive", n_positive) if n_positive <= n_negative else ("negative", n_negative)
    missing = rules.min_class - seen
    total = n_positive + n_negative
    outlook = (
        f"at the present rate of {counted(seen, kind)} in {counted(total, 'label')} that takes about "
        f"{count_text(missing * total / seen)} more labels"
        if seen
        else f"none was seen in {counted(total, 'label')}, so nobody can say how many labels that takes"
    )
    return Decision(
        finding,
        Verdict.CANNOT_TELL,
        f"Only {counted(n_positive, 'positive')} and {counted(n_negative, 'negative')} are known; with fewer than "
        f"{rules.min_class} of each nobody can forecast an AUC.",
        f"Keep labelling: {counted(missing, kind)} more needed; {outlook}.",
        f"No price can be told before {rules.min_class} positives and {rules.min_class} negatives are known.",
    )


def _no_forecast_yet(n_positive: int, n_negative: int, rules: Rules) -> tuple[str, str]:
    total = n_positive + n_negative
    known = f"{counted(total, 'label')} known ({counted(n_positive, 'positive')}, {counted(n_negative, 'negative')})"
    if total < rules.forecast_from:
        return (
            f"{known}; the forecast starts at {counted(rules.forecast_from, 'label')}.",
            f"Keep labelling: {counted(rules.forecast_from - total, 'label')} more until the first forecast.",
        )
    return (
        f"{known}; no forecast could be made of them yet.",
        "Keep labelling; the forecast needs both classes among several patients.",
    )


def _why_not_yet(p_now: float, p_plateau: float, n_positive: int, n_negative: int, rules: Rules) -> str:
    """What stands between these probabilities and a stop, if it is the number of positives or negatives."""
    kind, seen = ("positive", n_positive) if n_positive <= n_negative else ("negative", n_negative)
    few = f"only {counted(seen, kind)} known, and {rules.min_stop} are needed before that counts."
    if p_now >= rules.p_stop:
        return f" But {few}"
    if p_plateau <= rules.p_futile:
        return f" It looks out of reach (probability {probability_text(p_plateau)} with labels without end), but {few}"
    return ""


def _say_labels(forecast: Forecast, p_plateau: float, rules: Rules) -> str:
    needed = forecast.labels_needed(rules.target, LABELS_LEVEL)
    low, high = max(needed.low - forecast.n, 0.0), max(needed.high - forecast.n, 0.0)
    level = level_text(needed.level)
    if math.isinf(low):
        return (
            f"Keep labelling for now: no limit is visible to the labels needed ({level} range), and the target is ever "
            f"reached with probability {probability_text(p_plateau)}. Consider another encoder or a lower target."
        )
    if math.isinf(high):
        return (
            f"Keep labelling: at least {count_text(low)} more labels are needed, with no upper limit visible ({level} "
            f"range); the target is ever reached with probability {probability_text(p_plateau)}."
        )
    if high < 1:
        return (
            f"Keep labelling: the curve is at the target ({level} range), and more labels will make it surer."
        )
    return f"Keep labelling: {range_text(low, high)} more labels are needed ({level} range)."


def _say_price(
    evidence: Evidence | None,
    cost: Price | None,
    forecast: Forecast | None,
    n_positive: int,
    n_negative: int,
    rules: Rules,
) -> str:
    if evidence is None:
        return "The certificate is not run, so it has no price."
    if cost is None or forecast is None:
        return "What certifying costs can be told once there is a forecast."
    tested = auc_text(evidence.tested)
    prevalence = (n_positive + 0.5) / (n_positive + n_negative + 1)
    if 0 < cost.positives < math.inf:
        prevalence = cost.positives / cost.labels
    auc_now = forecast.auc(forecast.n, LEVEL).mean
    wider = 2 * rules.tolerance
    from_start = replace(evidence, log_e=0.0, certified=False, path=(), log_capital=START)
    here = price(from_start, auc_now, prevalence)
    there = price(replace(from_start, tested=rules.target - wider), auc_now, prevalence)
    if math.isinf(cost.positives):
        if auc_now <= evidence.tested:
            said = f"Certifying is not in sight: AUC {auc_text(auc_now)} now is not above the tested {tested}"
        else:
            said = (
                f"Certifying is not in sight: AUC {auc_text(auc_now)} now is hardly above the tested {tested}"
            )
        if math.isfinite(there.positives):
            said += (
                f"; a tolerance of {auc_text(wider, 2)} instead of {auc_text(rules.tolerance, 2)} would need about "
                f"{count_text(there.positives)} positives, {count_text(there.labels)} random labels, from the start"
            )
        return f"{said}."
    said = (
        f"Certifying AUC {tested} needs about {count_text(cost.positives)} more positives, "
        f"{count_text(cost.labels)} labels of the random stream"
    )
    if rules.tolerance > 0 and there.positives < 0.9 * here.positives:
        share = level_text(round(there.positives / here.positives, 2))
        said += (
            f"; a tolerance of {auc_text(wider, 2)} instead of {auc_text(rules.tolerance, 2)} brings the whole price "
            f"down to {share}"
        )
    return f"{said}."
