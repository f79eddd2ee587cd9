"""What it would take if the lead decided otherwise: another target, another evidence, another tolerance, more people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from forecasting.certificate import price
from forecasting.powerlaw import Forecast
from forecasting.stopping import Rules
from forecasting.words import auc_text
from loop.assess import prevalence_of, weigh_all
from loop.book import Book
from loop.page.pace import Needed, Pace, cost
from loop.settings import Settings

PROOF = "A proof instead of a forecast"
STEP = 0.02  # of AUC: one step of the target, and of the tolerance
RANGE = 0.8  # level of every range of labels

Images = tuple[float, float, float]
"""Lower end, upper end, and where the chance is one half (infinite where that is not told)."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One decision that a lead could take.

    Attributes:
        name: The decision, in a few words.
        needed: Images until the last of the findings that count is there, ``even`` those of the slowest; without an upper end where one of
            them has no forecast, and None where none has.
        slowest: The finding that takes longest.
        unknown: Findings that count and have no forecast.
        even: What is needed for the slowest as likely as not; None where nobody can say.
        findings: The same for each finding on its own; None without a forecast.
    """

    name: str
    needed: Needed | None
    slowest: str
    findings: Mapping[str, Needed | None]
    unknown: tuple[str, ...] = ()
    even: Needed | None = None


def ask_what_if(
    book: Book, forecasts: Mapping[str, Forecast], settings: Settings, pace: Pace
) -> tuple[WhatIf, ...]:
    """Look at the decisions that a lead could take, the present one first."""
    stop, other = settings.stop, "certified" if settings.stop.evidence == "likely" else "likely"
    targets = [settings.target_of(name) for name in book.findings]
    asked: list[tuple[str, Settings, float]] = [("As decided now", settings, 1.0)]
    for step, word in ((-STEP, "lower"), (STEP, "higher")):
        if all(0.5 + stop.tolerance <= target + step < 1 for target in targets):
            moved = {name: round(settings.target_of(name) + step, 6) for name in book.findings}
            told = sorted(set(moved.values()))
            which = f": {auc_text(told[0], 2)}" if len(told) == 1 else f" by {auc_text(STEP, 2)} each"
            asked.append((f"Target one step {word}{which}", _with(settings, target=moved), 1.0))
    asked.append(
        (
            PROOF if other == "certified" else "A forecast instead of a proof",
            _with(settings, evidence=other),
            1.0,
        )
    )
    for step, word in ((STEP, "wider"), (-STEP, "narrower")):
        tolerance = round(stop.tolerance + step, 6)
        if tolerance >= 0 and all(target - tolerance >= 0.5 for target in targets):
            name = f"A proof with a {word} tolerance: {auc_text(tolerance, 2)}"
            asked.append((name, _with(settings, evidence="certified", tolerance=tolerance), 1.0))
    asked.append(("Twice as many people label", settings, 2.0))
    return tuple(_answer(name, book, forecasts, each, pace, hands) for name, each, hands in asked)


def ask_encoder(
    encoder: str, book: Book, forecasts: Mapping[str, Forecast], settings: Settings, pace: Pace
) -> WhatIf:
    """Look at the present decision under another encoder, whose forecasts these are."""
    return _answer(f"Another encoder: {encoder}", book, forecasts, settings, pace, 1.0)


def images_for_target(forecast: Forecast, target: float, known_share: float) -> Images:
    """Images still to be labelled until the curve reaches a target; infinite where no limit is visible."""
    if forecast.prob_reached(target) >= Rules(target).p_stop:
        return 0.0, 0.0, 0.0
    total = forecast.labels_needed(target, RANGE)
    low, even, high = (max(n - forecast.n, 0.0) / known_share for n in (total.low, total.median, total.high))
    return low, high, even


def images_for_proof(book: Book, forecasts: Mapping[str, Forecast], settings: Settings) -> dict[str, Images]:
    """Images still to be labelled until each finding is likely as not certified, if its AUC lies at either end of now's.

    Part of every batch is random and feeds the certificate, so the images are its random ones over that share.
    """
    told: dict[str, Images] = {}
    for name, evidence in weigh_all(book, settings).items():
        if evidence.certified:
            told[name] = (0.0, 0.0, 0.0)
        elif name in forecasts:
            now = forecasts[name].auc(forecasts[name].n, RANGE)
            share = settings.batch.random_share * known_share(book, name)
            p = prevalence_of(book, book.findings.index(name))
            low, high = sorted(price(evidence, auc, p).labels / share for auc in (now.high, now.low))
            told[name] = (low, high, math.inf)
    return told


def known_share(book: Book, name: str) -> float:
    """Share of the labelled images whose label of a finding is known; never 0."""
    y = book.y[:, book.findings.index(name)]
    return max(float((y == y).mean()), 1 / len(y)) if len(y) else 1.0


def _answer(
    name: str, book: Book, forecasts: Mapping[str, Forecast], settings: Settings, pace: Pace, hands: float
) -> WhatIf:
    if settings.stop.evidence == "certified":
        ranges = images_for_proof(book, forecasts, settings)
    else:
        ranges = {
            each: images_for_target(forecast, settings.target_of(each), known_share(book, each))
            for each, forecast in forecasts.items()
        }
        for each, evidence in weigh_all(book, settings).items():
            if evidence.certified:
                ranges[each] = (0.0, 0.0, 0.0)
    rule = book.findings if isinstance(settings.stop.rule, str) else tuple(settings.stop.rule)
    counting = {each: ranges[each] for each in rule if each in ranges}
    slowest = max(counting, key=lambda each: (counting[each][1], counting[each][0]), default="")
    unknown = tuple(each for each in rule if each not in ranges)
    low = max((told[0] for told in counting.values()), default=math.inf)
    high = max((told[1] for told in counting.values()), default=math.inf)
    even = counting[slowest][2] if slowest else math.inf
    if unknown:
        high, even = math.inf, math.inf
    return WhatIf(
        name=name,
        needed=_cost((low, high, even), settings, pace, hands) if counting else None,
        slowest=slowest,
        unknown=unknown,
        even=None if math.isinf(even) else _cost((even, even, math.inf), settings, pace, hands),
        findings={
            each: _cost(ranges[each], settings, pace, hands) if each in ranges else None
            for each in book.findings
        },
    )


def _cost(images: Images, settings: Settings, pace: Pace, hands: float) -> Needed:
    low, high, even = images
    return cost(low, high, pace, settings.costs, hands, even)


def _with(settings: Settings, **changed: object) -> Settings:
    return settings.model_copy(update={"stop": settings.stop.model_copy(update=changed)})
