"""What a verdict says to the person who pays for the labels: reasons, remedies, prices as sentences."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from forecasting.certificate import START, Evidence, Price, price
from forecasting.scorekeeping import FEWEST_SCORED
from forecasting.words import (
    auc_text,
    count_text,
    counted,
    interval_text,
    level_text,
    probability_text,
    range_text,
)

if TYPE_CHECKING:
    from forecasting.powerlaw import Forecast
    from forecasting.saving import Saving
    from forecasting.scorekeeping import Score
    from forecasting.stopping import Rules

LEVEL = 0.9  # of the intervals of AUC that are told
LABELS_LEVEL = 0.8  # of the ranges of labels needed


def say_now(forecast: Forecast, rules: Rules) -> str:
    """AUC now with its interval, and the probability that the target is reached."""
    now = forecast.auc(forecast.n, LEVEL)
    return (
        f"AUC {auc_text(now.mean)} now ({interval_text(now.low, now.high, now.level)}); target "
        f"{auc_text(rules.target)} is reached with probability {probability_text(forecast.prob_reached(rules.target))}."
    )


def say_certificate(evidence: Evidence, rules: Rules) -> str:
    """What a certificate certifies: about which models, images and labels, from how much."""
    hidden = (
        f" {counted(evidence.n_unknown, 'random image')} that readers skipped, could not tell, or disagreed on took no part; leaving out hard "
        "ones flatters."
        if evidence.n_unknown
        else ""
    )
    whose = (
        "this finding alone" if rules.n_sharing == 1 else "all certified findings of this project together"
    )
    later = "" if rules.n_sharing == 1 else ", or will get,"
    return (
        f"At {level_text(1 - rules.alpha)} confidence for {whose}, however often one looked, a model of this project has{later} an AUC above "
        f"{auc_text(evidence.tested)} (target {auc_text(rules.target)} less the tolerance of "
        f"{auc_text(rules.tolerance)}) on images like the random stream's, by these readers' labels: "
        f"{counted(evidence.n_positive, 'positive')} and {counted(evidence.n_negative, 'negative')}, scored before "
        f"they were labelled.{hidden}"
    )


def say_too_few(n_positive: int, n_negative: int, rules: Rules) -> tuple[str, str, str]:
    """Reason, remedy and price where a class has too few labels to speak."""
    kind, seen = ("positive", n_positive) if n_positive <= n_negative else ("negative", n_negative)
    missing = rules.min_class - seen
    total = n_positive + n_negative
    outlook = (
        f"at the present rate of {counted(seen, kind)} in {counted(total, 'label')} that takes about "
        f"{count_text(missing * total / seen)} more labels"
        if seen
        else f"none was seen in {counted(total, 'label')}, so nobody can say how many labels that takes"
    )
    return (
        f"Only {counted(n_positive, 'positive')} and {counted(n_negative, 'negative')} are known; with fewer than "
        f"{rules.min_class} of each nobody can forecast an AUC.",
        f"Needed: {counted(missing, f'more {kind}')}; {outlook}.",
        f"No price can be told before {rules.min_class} positives and {rules.min_class} negatives are known.",
    )


def say_no_forecast_yet(n_positive: int, n_negative: int, rules: Rules) -> tuple[str, str]:
    """Reason and remedy before there is a forecast."""
    total = n_positive + n_negative
    known = f"{counted(total, 'label')} known ({counted(n_positive, 'positive')}, {counted(n_negative, 'negative')})"
    if total < rules.forecast_from:
        return (
            f"{known}; the forecast starts at {counted(rules.forecast_from, 'label')}.",
            f"The first forecast takes {counted(rules.forecast_from - total, 'more label')}.",
        )
    return (
        f"{known}; no forecast could be made of them yet.",
        "It needs both classes among several patients.",
    )


def say_what_is_missing(
    p_now: float,
    p_plateau: float,
    n_patients: tuple[int, int],
    n_random: tuple[int, int],
    rules: Rules,
) -> str:
    """What stands between these probabilities and a stop, if it is the number of patients of a class."""
    kind, seen = (
        ("positive", n_patients[0]) if n_patients[0] <= n_patients[1] else ("negative", n_patients[1])
    )
    few = (
        f"only {counted(seen, f'patient is known to be {kind}', f'patients are known to be {kind}')}, and "
        f"{rules.min_stop} are needed before that counts."
    )
    if seen >= rules.min_stop:
        few = (
            f"only {counted(n_random[0], 'positive')} and {counted(n_random[1], 'negative')} of the random stream, and "
            f"{rules.min_class} of each are needed: what was picked is no sample of the archive."
        )
    if p_now >= rules.p_stop:
        return f" But {few}"
    if p_plateau <= rules.p_futile:
        return f" It looks out of reach (probability {probability_text(p_plateau)} with labels without end), but {few}"
    return ""


def say_score(score: Score) -> str:
    """How well intervals held so far, and what follows; empty before the first was scored."""
    if score.coverage is None:
        return ""
    so_far = f"Our {level_text(score.level)} intervals for AUC so far: {score.held} of {score.scored} held"
    if score.scored < FEWEST_SCORED:
        return f"{so_far} against fresh random labels; too early to judge (from {FEWEST_SCORED} on)."
    apart = ", ".join(
        f"{told.held} of {told.scored} {'now' if told.horizon == 1 else f'at {told.horizon}x the labels'}"
        for told in score.horizons
    )
    then = (
        "no widening needed"
        if score.widening == 1
        else f"from now on intervals are {score.widening:g} times as wide as fitted"
    )
    return (
        f"{so_far} against fresh random labels ({level_text(round(score.coverage, 2))}, expected "
        f"{level_text(score.level)}; {apart}); {then}."
    )


def say_saving(saving: Saving) -> str:
    """What active selection has saved, in one sentence that claims no more than the interval does."""
    level = level_text(saving.level)
    if saving.shows > 0:
        amount = (
            f"about {count_text(saving.saved)} labels"
            if math.isfinite(saving.saved) and math.isfinite(saving.high)
            else "labels"
        )
        return f"So far active learning has saved {amount}, {level} interval {range_text(saving.low, saving.high)}."
    if saving.shows < 0:
        return (
            f"So far active learning has cost about {count_text(-saving.saved)} labels against labelling at random, {level} "
            f"interval {range_text(-saving.high, -saving.low)}."
        )
    lost = f"{count_text(-saving.low)} labels lost"
    won = "no limit visible" if math.isinf(saving.high) else f"{count_text(saving.high)} saved"
    return f"What active learning has saved so far: nothing that we can show ({level} interval: {lost} to {won})."


def say_labels_needed(forecast: Forecast, p_plateau: float, rules: Rules) -> str:
    """How many more labels the target needs, as a range."""
    needed = forecast.labels_needed(rules.target, LABELS_LEVEL)
    low, high = max(needed.low - forecast.n, 0.0), max(needed.high - forecast.n, 0.0)
    level = level_text(needed.level)
    if math.isinf(low):
        return (
            f"No limit is visible to the labels needed ({level} range), and the target is ever "
            f"reached with probability {probability_text(p_plateau)}. Consider another encoder or a lower target."
        )
    if math.isinf(high):
        ever = f"the target is ever reached with probability {probability_text(p_plateau)}"
        if low < 1:
            return (
                f"The labels still needed cannot be bounded yet ({level} range: 0 to no limit "
                f"visible); {ever}."
            )
        return (
            f"At least {count_text(low)} more labels are needed, with no upper limit visible "
            f"({level} range); {ever}."
        )
    if high < 1:
        return (
            f"The curve is at the target ({level} range), but not surely enough to stop (that takes a probability of "
            f"{probability_text(rules.p_stop)}): more labels would show it."
        )
    return f"{range_text(low, high)} more labels are needed ({level} range)."


def say_price(
    evidence: Evidence | None,
    cost: Price | None,
    forecast: Forecast | None,
    n_positive: int,
    n_negative: int,
    rules: Rules,
) -> str:
    """What certifying still costs, and what twice the tolerance would make of it.

    The certificate holds for all tolerances at once, so the offer is one that may be taken up.
    """
    if evidence is None:
        return "The certificate is not run, so it has no price."
    if cost is None or forecast is None:
        return "What certifying costs can be told once there is a forecast."
    prevalence = cost.positives / cost.labels if 0 < cost.positives < math.inf else None
    if prevalence is None:
        prevalence = (n_positive + 0.5) / (n_positive + n_negative + 1)
    auc_now = forecast.auc(forecast.n, LEVEL).mean
    wider = min(2 * rules.tolerance, rules.target - 0.5)  # a test below one half would be no test
    start = replace(evidence, log_e=0.0, certified=False, path=(), log_capital=START)
    here = price(start, auc_now, prevalence)
    there = price(replace(start, tested=rules.target - wider), auc_now, prevalence)
    tested = auc_text(evidence.tested)
    widened = f"a tolerance of {auc_text(wider, 2)} instead of {auc_text(rules.tolerance, 2)}"

    if math.isinf(cost.positives):
        above = "not" if auc_now <= evidence.tested else "hardly"
        said = f"Certifying is not in sight: AUC {auc_text(auc_now)} now is {above} above the tested {tested}"
        if math.isfinite(there.positives):
            said += (
                f"; {widened} would need about {count_text(there.positives)} positives, "
                f"{count_text(there.labels)} labels of the random stream, from the start"
            )
    else:
        said = (
            f"Certifying AUC {tested} needs about {count_text(cost.positives)} more positives, "
            f"{count_text(cost.labels)} labels of the random stream"
        )
        if there.positives < 0.9 * here.positives:
            share = level_text(round(there.positives / here.positives, 2))
            said += f"; {widened} brings the whole price down to {share}"
    return f"{said}."
