"""One turn of the loop: pull, retrain, refit, decide, select, push. Reads like prose."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np

from annotate.records import Pull, Receipt, Roll, Suggestion
from forecasting.stopping import Verdict
from loop.assess import Assessment, assess
from loop.book import Book, keep_book
from loop.errors import BadInput
from loop.features import Features, FeatureStore
from loop.items import Item
from loop.nearest import keep_nearest
from loop.probe import Probe, Projection, fit_projection
from loop.readings import draw_double_reads, note_double_reads, order_queue
from loop.report import BatchReport, StepReport
from loop.settings import Settings
from loop.state import Round, State
from loop.strategies import COLD, Pick, Seen, select_batch
from loop.sync import Source, sync
from loop.telling import mean_gain, report_score, tell_revised
from loop.zero_shot import ZeroShot

PROJECTION_SAMPLE = 20_000  # images; mean, deviation and components of a pool need no more

_OPEN = {  # verdicts of findings that need more labels, by what counts as reached
    "likely": (Verdict.CANNOT_TELL, Verdict.KEEP_LABELLING),
    "certified": (Verdict.CANNOT_TELL, Verdict.KEEP_LABELLING, Verdict.LIKELY_REACHED),
}

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


class Desk(Source, Protocol):
    """Where annotators work: labels come from it, batches go to it."""

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        """Serve a batch in the order of its ranks. Told twice, it changes nothing."""
        ...

    def keep_serving(self, version: str) -> tuple[str, ...]:
        """Put the queue back to a version that was pushed, if somebody changed it; says so as a warning."""
        ...


class Board(Protocol):
    """Where annotators read whether to go on: the project's title and instructions."""

    def stop(self, reason: str) -> None:
        """Say that labelling is to stop. Told twice, it changes nothing."""
        ...

    def go_on(self) -> None:
        """Put back what was there before the stop, if there was one."""
        ...


@dataclass(frozen=True, slots=True)
class Loop:
    """Everything one turn needs, opened.

    Attributes:
        board: Where annotators are told of a stop; None = nowhere.
        zero_shot: What scores images before the first label; None = the first batch is all random.
    """

    settings: Settings
    state: State
    desk: Desk
    features: Features
    projection: Projection
    clock: Clock
    zero_shot: ZeroShot | None = None
    board: Board | None = None


def ask_first_batch(loop: Loop) -> StepReport:
    """Ask the first batch, all from the random stream: no probe exists yet that could choose.

    Zero-shot scores may choose its active part; its random part is then scored too, and nothing is bet on it.
    Told twice, it changes nothing; an interrupted push is completed.
    """
    if loop.state.last_round() is None:
        amend(loop)
        book = read_book(loop)
        if not book.n_pool_left and not book.items:
            raise BadInput(
                "No image can be asked. Give [images] source a folder with images of at least two patients."
            )
        picks = _choose_first(loop, book)
        scores = _score_first(loop, [pick.item for pick in picks], book.findings)
        _commit(loop, 1, book, picks, scores, {}, None, _begun(loop, book))
    completed = complete_push(loop)
    return replace(completed, action="pushed") if completed else _told(loop)


def step(loop: Loop, *, force: bool = False, recount: bool = False) -> StepReport:
    """Take one turn.

    Every commit to the state comes before the HTTP call that acts on it, so a turn that died anywhere is
    completed by the next one.

    Args:
        loop: Everything a turn needs, opened.
        force: Judge and ask again even if the present batch is not finished.
        recount: Correct the certificate's evidence by labels that were changed since it counted them. This is stored, and
            shown with every verdict from then on.

    Returns:
        What the turn saw, decided and did.

    Raises:
        BadInput: The loop was not started, the settings cannot be used, or a batch that is not finished is recounted.
    """
    present = loop.state.last_round()
    if present is None:
        raise BadInput("No batch was asked yet. Run `loop start` first.")
    if (completed := complete_push(loop)) is not None:
        return completed

    pulled = sync(loop.desk, loop.state, loop.clock())
    n_pulled = pulled.new + pulled.changed + pulled.deleted
    log.info("pulled: %d labels new, %d changed, %d withdrawn", pulled.new, pulled.changed, pulled.deleted)
    amend(loop)
    book = read_book(loop)
    if not force and book.finished_share < loop.settings.batch.finished_share:
        if recount:
            raise BadInput(
                "The batch is not finished, so nothing is judged and nothing was recounted. Finish it, or recount with "
                "`loop step --now --recount`."
            )
        if loop.board is not None:
            loop.board.go_on()  # a batch that is to be finished needs an open queue
        served = loop.state.served_version()
        put_back = loop.desk.keep_serving(served) if served else ()
        return replace(_waiting(loop, book, n_pulled, present.number), warnings=put_back)

    if recount:
        book = read_book(loop, recount=True)
    last = present.number
    log.info("training the probe and refitting the learning curves on %d labels", len(book.items))
    assessment = assess(book, loop.features, loop.projection, loop.settings, last, read_history(loop.state))
    report = _report(loop, book, assessment, n_pulled, last)
    report = replace(report, warnings=(*report.warnings, *tell_revised(book.revised)))
    if report.verdict == "STOP":
        report = replace(report, action="stopped")
        if (said := _told_already(loop, report)) is None:
            loop.state.add_report(
                last, report.to_json(), loop.clock(), assessment.probe.to_bytes(), book.readings
            )
        if loop.board is not None:
            loop.board.stop(report.reason)
        return said or report

    log.info("choosing round %d out of %d images", last + 1, book.n_pool_left)
    picks = choose(loop, book, assessment, last + 1)
    scores = assessment.probe.predict(loop.features.read([p.item for p in picks]))  # (n_picks, K)
    report = replace(report, warnings=(*report.warnings, *_doubts(loop, book, picks)))
    round_, report = _commit(loop, last + 1, book, picks, scores, assessment.bets, assessment.probe, report)
    receipt = _push(loop, round_)
    return replace(report, warnings=(*report.warnings, *receipt.warnings))


def rehearse(loop: Loop, *, force: bool = False, recount: bool = False) -> StepReport:
    """Take a turn that changes nothing: on a copy of the state, without a push."""
    with loop.state.sandbox() as state:
        report = step(
            replace(loop, state=state, desk=_Rehearsal(loop.desk), board=None), force=force, recount=recount
        )
    return replace(report, action=f"{report.action} (dry run)")


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A desk that reads and does not write."""

    desk: Desk

    @property
    def overlap(self) -> timedelta:
        return self.desk.overlap

    def pull(self, since: datetime | None) -> Pull:
        return self.desk.pull(since)

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        return Receipt(version, len(suggestions), tuple(s.task_id for s in suggestions), ())

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        return self.desk.existing(task_ids)

    def roll(self, up_to: int | None = None) -> Roll:
        return self.desk.roll(up_to)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        return ()


def complete_push(loop: Loop) -> StepReport | None:
    """Finish the push of a round that was committed but not confirmed; None if there is none."""
    unconfirmed = loop.state.unconfirmed()
    if unconfirmed is None:
        return None
    receipt = _push(loop, unconfirmed)
    told = _told(loop)
    return replace(told, action="completed", warnings=(*told.warnings, *receipt.warnings))


def read_book(loop: Loop, *, recount: bool = False) -> Book:
    """Book every label that the state holds, of images that have an embedding."""
    return open_book(loop.state, loop.features, loop.settings, recount=recount)


def open_book(state: State, features: Features, settings: Settings, *, recount: bool = False) -> Book:
    """As `read_book`, without a desk."""
    held = [item for item in state.items() if features.has(item.item)]
    return open_book_of(held, state, settings, recount=recount)


def open_book_of(items: Sequence[Item], state: State, settings: Settings, *, recount: bool = False) -> Book:
    """Book the labels of some of the images."""
    there = {item.item for item in items}
    tasks = {item: task_id for item, task_id in state.tasks().items() if item in there}
    return keep_book(
        items,
        tasks,
        state.labels(),
        state.rounds(),
        settings.project.findings,
        state.unasked(),
        state.readings(),
        recount=recount,
        consensus=settings.labels.consensus,
    )


def read_history(state: State) -> list[StepReport]:
    """Every report so far, oldest first."""
    return [StepReport.from_json(told) for told in state.reports()]


def choose(loop: Loop, book: Book, assessment: Assessment, number: int) -> list[Pick]:
    """Choose the next batch: the random stream's share in its order, the rest by the strategy."""
    settings, probe = loop.settings, assessment.probe
    is_open = np.array(
        [assessment.decisions[name].verdict in _OPEN[settings.stop.evidence] for name in book.findings]
    )
    patient_of = {item.item: item.patient for item in loop.state.items()}
    return select_batch(
        settings.batch.strategy,
        _size(settings, book),
        settings.batch.random_share,
        book.random_next,
        book.active_pool,
        score_pool(loop.features, book.active_pool, probe),
        [patient_of[item] for item in book.active_pool],
        book.findings,
        _rng(loop, number),
        seen=_see(loop, book, is_open, probe),
    )


def _see(loop: Loop, book: Book, is_open: np.ndarray[Any, np.dtype[np.bool_]], probe: Probe | None) -> Seen:
    """What strategies may look at."""

    def held() -> list[str]:
        return [item.item for item in loop.state.items() if item.stream == "active"]

    kept = None
    if isinstance(loop.features, FeatureStore):
        name = loop.settings.project.name
        kept = keep_nearest(loop.features, name, held, loop.projection, book.items)
    return Seen(loop.features, loop.projection, book.items, book.y, book.patients, is_open, probe, kept)


def score_pool(
    features: Features, items: Sequence[str], probe: Probe
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Score a pool of any size in chunks; returns probabilities, shape ``(n, K)``, NaN where a head is not fitted."""
    parts = [probe.predict(vectors) for _, vectors in features.chunks(items)]
    return np.concatenate(parts) if parts else np.empty((0, len(probe.findings)))


def project_pool(features: Features, items: Sequence[str], settings: Settings) -> Projection:
    """Standardise on the pool and find its principal components; labels play no part.

    The sample is drawn by ``project.seed``, so the same pool always gives the same projection.
    """
    rng = np.random.default_rng([settings.project.seed, 0])
    chosen = rng.choice(len(items), min(len(items), PROJECTION_SAMPLE), replace=False)
    return fit_projection(features.read([items[i] for i in np.sort(chosen)]), settings.probe.components)


def amend(loop: Loop) -> bool:
    """Freeze the settings, or store what was changed in them since; True if something was changed."""
    before = len(loop.state.amendments())
    loop.state.amend(loop.settings.frozen_part(), loop.clock())
    return len(loop.state.amendments()) > before


def version_of(project: str, number: int, picks: Sequence[Pick]) -> str:
    """Name the round for Label Studio, so that the same batch always has the same name."""
    batch = hashlib.sha256("\n".join(p.item for p in picks).encode()).hexdigest()[:8]
    return f"loop-{project}-r{number:04d}-{batch}"


def _commit(
    loop: Loop,
    number: int,
    book: Book,
    picks: Sequence[Pick],
    scores: np.ndarray[Any, np.dtype[np.float64]],
    bets: Mapping[str, bool],
    probe: Probe | None,
    report: StepReport,
) -> tuple[Round, StepReport]:
    """Write the batch, its scores and the report down in one transaction: the outbox entry."""
    round_ = Round(
        number=number,
        version=version_of(loop.settings.project.name, number, picks),
        at=loop.clock(),
        seed=(loop.settings.project.seed, number),
        strategy=loop.settings.batch.strategy if probe is not None else _cold_start(loop),
        n_labels=len(book.items),
        findings=book.findings,
        picks=tuple(picks),
        scores=scores,
        bets=dict(bets),
    )
    report = replace(
        report,
        action="pushed",
        batch=BatchReport(
            round=number,
            version=round_.version,
            size=len(picks),
            random=sum(p.stream == "random" for p in picks),
            active=sum(p.stream == "active" for p in picks),
            strategy=round_.strategy,
            double=len(draw_double_reads(round_, loop.settings.labels.double_reads)),
        ),
    )
    loop.state.add_round(round_, report.to_json(), None if probe is None else probe.to_bytes(), book.readings)
    return round_, report


def _push(loop: Loop, round_: Round) -> Receipt:
    """Tell the batch to the annotators, behind the second readings that are still open."""
    share = loop.settings.labels.double_reads
    note_double_reads(loop.state, round_, share, loop.clock())
    suggestions = order_queue(loop.state, round_, double=share > 0)
    if loop.board is not None:
        loop.board.go_on()
    log.info("pushing %s: %d images", round_.version, len(suggestions))
    receipt = loop.desk.push(round_.version, suggestions)
    loop.state.drop_tasks(receipt.gone, loop.clock())
    loop.state.confirm_push(round_.number, receipt, loop.clock())
    return receipt


def _report(loop: Loop, book: Book, assessment: Assessment, n_pulled: int, number: int) -> StepReport:
    project = assessment.project
    return StepReport(
        project=loop.settings.project.name,
        round=number,
        at=loop.clock(),
        action="decided",
        verdict=str(project.verdict),
        reason=project.reason,
        remedy=project.remedy,
        labels=book.count,
        pulled=n_pulled,
        outstanding=len(book.outstanding),
        findings=assessment.reports,
        amendments=tuple(loop.state.amendments()),
        next_gain=mean_gain(assessment.reports.values()),
        score=report_score(assessment.score),
        encoder=loop.settings.encoder.spec,
    )


def _begun(loop: Loop, book: Book) -> StepReport:
    return StepReport(
        project=loop.settings.project.name,
        round=0,
        at=loop.clock(),
        action="decided",
        verdict="CONTINUE",
        reason=(
            f"{len(book.items)} images were labelled before the loop began; they train, and are not asked again."
            if book.items
            else "No labels yet: the first batch is all random."
            if _cold_start(loop) == "random"
            else "No labels yet: the active part of the first batch is what is typical of the archive."
            if _cold_start(loop) == "typiclust"
            else "No labels yet: the active part of the first batch is what the texts of [prompts] find."
        ),
        remedy="Label the batch in Label Studio, then run `loop step`.",
        labels=book.count,
        pulled=0,
        outstanding=0,
        encoder=loop.settings.encoder.spec,
    )


def _waiting(loop: Loop, book: Book, n_pulled: int, number: int) -> StepReport:
    done = book.batch_size - len(book.outstanding)
    return StepReport(
        project=loop.settings.project.name,
        round=number,
        at=loop.clock(),
        action="waiting",
        verdict="CONTINUE",
        reason=f"{done} of the {book.batch_size} images of this batch are answered; {len(book.outstanding)} are outstanding.",
        remedy="Finish the batch in Label Studio, or judge what is there with `loop step --now`.",
        labels=book.count,
        pulled=n_pulled,
        outstanding=len(book.outstanding),
        amendments=tuple(loop.state.amendments()),
        encoder=loop.settings.encoder.spec,
    )


def _told_already(loop: Loop, report: StepReport) -> StepReport | None:
    """The report told last, if this one says the same but for the time."""
    last = _told(loop)
    return last if last == replace(report, at=last.at, pulled=last.pulled) else None


def _choose_first(loop: Loop, book: Book) -> list[Pick]:
    """The first batch, from the random stream and by zero-shot scores, if there are; where all of the stream is labelled
    already, from the active part."""
    patient_of = {item.item: item.patient for item in loop.state.items()}
    strategy = _cold_start(loop)
    active = book.active_pool if strategy != "random" or not book.random_next else ()
    return select_batch(
        strategy,
        _size(loop.settings, book),
        loop.settings.batch.random_share if strategy != "random" else 1.0,
        book.random_next,
        active,
        _score_first(loop, active, book.findings),
        [patient_of[item] for item in active],
        book.findings,
        _rng(loop, 1),
        seen=_see(loop, book, np.ones(len(book.findings), bool), None),
    )


def _cold_start(loop: Loop) -> str:
    """How the first batch's active part is chosen."""
    return (
        COLD if loop.zero_shot else "typiclust" if loop.settings.batch.cold_start == "typiclust" else "random"
    )


def _score_first(
    loop: Loop, items: Sequence[str], findings: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores before the first label, shape ``(n, K)``; NaN where there are none."""
    scores = np.full((len(items), len(findings)), np.nan)
    if loop.zero_shot is not None:
        given = loop.zero_shot.score(items)
        for k, name in enumerate(findings):
            if name in loop.zero_shot.scorer.findings:
                scores[:, k] = given[:, loop.zero_shot.scorer.findings.index(name)]
    return scores


def _size(settings: Settings, book: Book) -> int:
    """Images to ask: a batch, or what is left of the budget."""
    budget = settings.stop.budget
    return (
        settings.batch.size if budget is None else max(0, min(settings.batch.size, budget - len(book.items)))
    )


def _doubts(loop: Loop, book: Book, picks: Sequence[Pick]) -> list[str]:
    """What a project lead should know about a batch."""
    wanted = round(_size(loop.settings, book) * loop.settings.batch.random_share)
    random = sum(pick.stream == "random" for pick in picks)
    if random < wanted:
        return [
            f"The random stream is used up: {random} of {wanted} random images could be asked. From now on the "
            "certificate gets no new evidence, and what selection does to the AUC is not measured any more."
        ]
    return []


def _told(loop: Loop) -> StepReport:
    return StepReport.from_json(loop.state.reports()[-1])


def _rng(loop: Loop, number: int) -> np.random.Generator:
    return np.random.default_rng([loop.settings.project.seed, number])
