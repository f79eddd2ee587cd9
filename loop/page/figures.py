"""Every figure of the lead's page, computed in one place from the state alone. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from forecasting.plots import CurveInfo, curve_info
from forecasting.powerlaw import Forecast
from loop.agreement import AgreementReport
from loop.book import Book
from loop.finished import read_curve
from loop.opening import open_book_of
from loop.page.decided import last_judged, refit, refit_others, settings_of
from loop.page.pace import Needed, Pace, cost, read_pace
from loop.page.people import Disputed, Person, ReadingTime, read_disputed, read_people, read_times
from loop.page.reliability import Reliability, read_reliability
from loop.page.verdict import Headline, say_headline
from loop.page.what_if import Images, WhatIf, ask_encoder, ask_what_if, images_for_proof
from loop.readings import labels_by_item
from loop.settings import Settings
from loop.state import State
from loop.status import RoundLine, Status, status_of
from loop.step_findings import FindingReport, IntervalReport
from loop.step_report import SavingReport, ScoreReport, StepReport, as_json
from loop.streams import LONGEST_LOOK_S


@dataclass(frozen=True, slots=True)
class Proof:
    """How far a finding's certificate has come.

    Attributes:
        log_e: Log of the largest capital so far.
        needed: Log capital that certifies.
        share: The first over the second, at most 1.
        tested: The AUC that is tested: target less tolerance.
        positives: Random positives behind it.
        price: Images still to be labelled for it, half of the cases less or more at either end of the AUC of now; None
            without a forecast.
    """

    log_e: float
    needed: float
    share: float
    tested: float
    positives: int
    price: Needed | None


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding on the page.

    Attributes:
        now: AUC now; None without a forecast.
        at_4x: AUC after four times the labels.
        needed: Images until the curve reaches the target; None without a forecast.
        p_reached: Probability that the target is reached now.
        counts: The project's rule asks for it.
    """

    finding: str
    positives: int
    negatives: int
    unknown: int
    target: float
    now: IntervalReport | None
    at_4x: IntervalReport | None
    p_reached: float | None
    verdict: str
    reason: str
    remedy: str
    needed: Needed | None
    proof: Proof | None
    counts: bool


@dataclass(frozen=True, slots=True)
class Version:
    """A batch, with the name of the probe that chose it and the encoder behind it."""

    round: int
    version: str
    encoder: str


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Everything that the page shows.

    Attributes:
        at: When it was written, UTC.
        decided_at: When the last decision was made; None before the first.
        decided_labels: Labels behind it.
        labels: Labels now.
        left: Images that can still be labelled: of the archive, and within the budget.
        currency: Of all money.
        curves: What the pictures show; not part of the JSON, whose `curve_points` hold the points.
        curve_points: Finding to its measured points: labels, AUC, and the ends of its error bar.
    """

    project: str
    at: datetime
    decided_at: datetime | None
    decided_labels: int
    labels: int
    random_labels: int
    skipped: int
    outstanding: int
    batch_size: int
    pool_left: int
    left: int
    encoder: str
    rule: str
    evidence: str
    alpha: float
    tolerance: float
    budget: int | None
    level: float
    headline: Headline
    findings: tuple[FindingRow, ...]
    what_if: tuple[WhatIf, ...]
    pace: Pace
    currency: str
    people: tuple[Person, ...]
    times: tuple[ReadingTime, ...]
    agreement: Mapping[str, AgreementReport]
    disputed: tuple[Disputed, ...]
    score: ScoreReport | None
    saving: SavingReport | None
    reliability: Mapping[str, Reliability]
    history: tuple[RoundLine, ...]
    versions: tuple[Version, ...]
    amendments: tuple[str, ...]
    warnings: tuple[str, ...]
    n_problems: int
    n_unreadable: int
    curve_points: Mapping[str, tuple[tuple[float, float, float, float], ...]]
    curves: tuple[CurveInfo, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure of the page as JSON-ready values."""
        told: dict[str, Any] = as_json(replace(self, curves=()))
        del told["curves"]
        told["pace"] |= {"enough": self.pace.enough, "per_week": self.pace.per_week, "said": self.pace.said}
        return told


def read_page(settings: Settings, at: datetime) -> Page:
    """Compute the page of a project; Label Studio is not asked, embeddings are not read.

    Raises:
        BadInput: The project was not started.
    """
    with State.started(settings.state_url) as state:
        return page_of(settings, state, at)


def page_of(settings: Settings, state: State, at: datetime) -> Page:
    """Compute the page of a project whose state is open: by the settings of its last decision, whatever they say since."""
    status = status_of(settings, state)
    last = last_judged(state)
    settings = settings_of(last, settings)
    book = open_book_of(state.items(), state, settings)
    labels = labels_by_item(state)
    pace = read_pace(labels.values(), at, book.work)
    forecasts = refit(last, settings)
    what_if = ask_what_if(book, forecasts, settings, pace)
    others = [
        ask_encoder(encoder, book, told, settings, pace)
        for encoder, told in refit_others(last, state, settings).items()
    ]
    left = _left(status, settings)
    proofs = images_for_proof(book, forecasts, settings)
    curves = _curves(last, forecasts, settings)
    stop = settings.stop
    return Page(
        project=settings.project.name,
        at=at,
        decided_at=last.at if last else None,
        decided_labels=last.labels.total if last else 0,
        labels=status.labels.total,
        random_labels=status.labels.random,
        skipped=status.labels.skipped,
        outstanding=status.outstanding,
        batch_size=status.batch_size,
        pool_left=status.pool_left,
        left=left,
        encoder=(last.encoder if last else "") or settings.encoder.spec,
        rule=stop.rule if isinstance(stop.rule, str) else ", ".join(stop.rule),
        evidence=stop.evidence,
        alpha=stop.alpha,
        tolerance=stop.tolerance,
        budget=stop.budget,
        level=settings.forecast.level,
        headline=say_headline(last, what_if, left, settings),
        findings=tuple(
            _row(name, told, what_if[0], proofs, book, settings, pace)
            for name, told in (last.findings if last else {}).items()
        ),
        what_if=(*what_if, *others) if forecasts else (),
        pace=pace,
        currency=settings.costs.currency,
        people=read_people(labels, LONGEST_LOOK_S),
        times=read_times(labels, book.findings, LONGEST_LOOK_S),
        agreement=status.agreement,
        disputed=read_disputed(labels, book.findings),
        score=last.score if last else None,
        saving=last.saving if last else None,
        reliability=read_reliability(last.findings if last else {}, book),
        history=status.history,
        versions=_versions(state),
        amendments=status.amendments,
        warnings=_warnings(status, last),
        n_problems=len(status.problems),
        n_unreadable=len(status.unreadable),
        curve_points={
            info.finding: tuple(
                (float(n), float(auc), float(low), float(high))
                for n, auc, low, high in zip(info.sizes, info.auc, info.auc_low, info.auc_high, strict=True)
            )
            for info in curves
        },
        curves=curves,
    )


def _left(status: Status, settings: Settings) -> int:
    """Images that can still be labelled."""
    within = max(0, settings.stop.budget - status.labels.total) if settings.stop.budget else status.pool_left
    return min(status.pool_left, within)


def _row(
    name: str,
    told: FindingReport,
    decided: WhatIf,
    proofs: Mapping[str, Images],
    book: Book,
    settings: Settings,
    pace: Pace,
) -> FindingRow:
    evidence, forecast = told.evidence, told.forecast
    rule = settings.stop.rule
    return FindingRow(
        finding=name,
        positives=told.positives,
        negatives=told.negatives,
        unknown=told.unknown,
        target=told.target,
        now=forecast.now if forecast else None,
        at_4x=forecast.at_4x if forecast else None,
        p_reached=forecast.p_reached if forecast else None,
        verdict=told.verdict,
        reason=told.reason,
        remedy=told.remedy,
        needed=decided.findings.get(name),
        proof=None
        if evidence is None
        else Proof(
            log_e=evidence.log_e,
            needed=evidence.needed,
            share=min(1.0, evidence.log_e / evidence.needed),
            tested=evidence.tested,
            positives=evidence.positives,
            price=cost(*proofs[name][:2], pace, settings.costs) if name in proofs else None,
        ),
        counts=isinstance(rule, str) or name in rule,
    )


def _curves(
    last: StepReport | None, forecasts: Mapping[str, Forecast], settings: Settings
) -> tuple[CurveInfo, ...]:
    told = last.findings if last else {}
    return tuple(
        curve_info(curve, forecasts.get(name), one.target, settings.forecast.level)
        for name, one in told.items()
        if (curve := read_curve(name, one)) is not None and name in forecasts
    )


def _versions(state: State) -> tuple[Version, ...]:
    told = (StepReport.from_json(one) for one in state.reports())
    return tuple(Version(one.batch.round, one.batch.version, one.encoder) for one in told if one.batch)


def _warnings(status: Status, last: StepReport | None) -> tuple[str, ...]:
    pending = [
        f"Changed since this decision, and in force from the next one on: {one}." for one in status.amending
    ]
    return tuple(dict.fromkeys((*pending, *(last.warnings if last else ()), *status.warnings)))
