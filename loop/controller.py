"""One turn of the loop: pull, retrain, refit, decide, select, push. Reads like prose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from annotate.records import Receipt
from loop.assess import Assessment, assess
from loop.batch import (
    choose_batch,
    choose_first,
    cold_start,
    doubt_batch,
    doubt_first,
    score_first,
    tell_dropped,
    tell_trial,
    try_on_labels,
    version_of,
)
from loop.book import Book
from loop.declared import doubt_declaration
from loop.errors import BadInput
from loop.opening import SAVING, TURN, last_decision, read_book, read_history
from loop.probe import Probe
from loop.project import Loop
from loop.readings import draw_double_reads, note_double_reads, order_queue, served_now
from loop.rollback import complete_rollback, tell_completed
from loop.state import Round
from loop.step_report import BatchReport, StepReport, as_json
from loop.strategies import Pick
from loop.sync import sync
from loop.telling import report_saving, report_trial, tell_revised, tell_taken, tell_unreadable
from loop.turns import report_begin, report_decision, report_waiting
from loop.worth import measure_saving

log = logging.getLogger(__name__)


def ask_first_batch(loop: Loop, see: Callable[[str], str] | None = None) -> StepReport:
    """Ask the first batch, all from the random stream: no probe exists yet that could choose.

    Zero-shot scores may choose its active part; its random part is then scored too, and nothing is bet on it.
    Told twice, it changes nothing; an interrupted push is completed.

    Args:
        loop: Everything a turn needs, opened.
        see: Makes sure that annotators will see an image, before it is asked; raises if not, and returns a doubt or nothing.

    Raises:
        BadInput: No image can be asked.
    """
    if loop.state.last_round() is None:
        amend(loop)
        book = read_book(loop)
        if not book.n_pool_left and not book.items:
            raise BadInput(
                "No image can be asked. Give [images] source a folder with images of at least two patients."
            )
        picks = choose_first(loop, book)
        scores = score_first(loop, [pick.item for pick in picks], book.findings)
        unseen = [see(picks[0].item)] if see is not None and picks else []
        doubts = (*doubt_first(loop, book, picks), *filter(None, unseen), *_doubt(loop, book))
        begun = replace(report_begin(loop, book), warnings=doubts)
        _commit(loop, 1, cold_start(loop), book, picks, scores, {}, None, begun)
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

    began = loop.clock()
    pulled = sync(loop.desk, loop.state, began)
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
        served = served_now(loop.state)
        put_back = loop.desk.keep_serving(served[0]) if served and served[1] else ()
        waiting = report_waiting(loop, book, n_pulled, present.number)
        return replace(waiting, warnings=(*put_back, *tell_unreadable(waiting.labels.unreadable)))

    if recount:
        book = read_book(loop, recount=True)
    last = (
        loop.state.n_rounds()
    )  # after a rollback, too: what was judged is all labels, those of undone rounds included
    log.info("training the probe and refitting the learning curves on %d labels", len(book.items))
    assessment = assess(book, loop.features, loop.projection, loop.settings, last, read_history(loop.state))
    report = report_decision(loop, book, assessment, n_pulled, last)
    told = (
        *tell_revised(book.revised),
        *tell_taken(book.count),
        *tell_unreadable(report.labels.unreadable),
        *_doubt(loop, book),
    )
    report = replace(report, warnings=(*report.warnings, *told))
    if report.verdict == "STOP":
        report = replace(report, action="stopped")
        if (said := _told_already(loop, report)) is None:
            loop.state.add_report(
                last, report.to_json(), loop.clock(), assessment.probe.to_bytes(), book.readings
            )
        if loop.board is not None:
            loop.board.stop(report.reason)
        return said or _tell_saving(loop, book, assessment, report, began)

    log.info("choosing round %d out of %d images", last + 1, book.n_pool_left)
    trial = try_on_labels(loop, book, assessment, last + 1)
    trusted = trial is None or not trial.is_worse or not loop.settings.batch.fall_back
    strategy = loop.settings.batch.strategy if trusted else "random"
    picks = choose_batch(loop, book, assessment, last + 1, strategy)
    scores = assessment.probe.predict(loop.features.read([p.item for p in picks]))  # (n_picks, K)
    dropped = tell_dropped(loop, book, picks) if force else ()
    told = (*tell_trial(trial, trusted), *doubt_batch(loop, book, picks), *dropped)
    report = replace(report, trial=report_trial(trial, trusted), warnings=(*report.warnings, *told))
    round_, report = _commit(
        loop, last + 1, strategy, book, picks, scores, assessment.bets, assessment.probe, report
    )
    receipt = _push(loop, round_)
    report = _tell_saving(loop, book, assessment, report, began)  # nobody waits for it: the batch is out
    return replace(report, warnings=(*report.warnings, *receipt.warnings))


def _tell_saving(
    loop: Loop, book: Book, assessment: Assessment, report: StepReport, began: datetime
) -> StepReport:
    """Measure and store what active selection has saved, up to this decision, and how long the turn took."""
    saving = report_saving(
        measure_saving(
            book,
            loop.features.read(book.items),
            loop.projection,
            assessment.probe,
            np.random.default_rng([loop.settings.project.seed, report.round, 3]),
        )
    )
    told = report.to_json()["at"]
    ended = loop.clock()
    loop.state.set_fact(SAVING, {"at": told, "saving": as_json(saving)}, ended)
    loop.state.set_fact(TURN, {"at": told, "seconds": (ended - began).total_seconds()}, ended)
    return replace(report, saving=saving)


def complete_push(loop: Loop) -> StepReport | None:
    """Finish what an earlier command wrote down and did not do: a rollback, or the push of a round; None if all is done."""
    if (undone := complete_rollback(loop)) is not None:
        return tell_completed(undone, _told(loop))
    unconfirmed = loop.state.unconfirmed()
    if unconfirmed is None:
        return None
    receipt = _push(loop, unconfirmed)
    told = _told(loop)
    return replace(told, action="completed", warnings=(*told.warnings, *receipt.warnings))


def amend(loop: Loop) -> bool:
    """Freeze the settings, or store what was changed in them since; True if something was changed."""
    before = len(loop.state.amendments())
    loop.state.amend(loop.settings.frozen_part(), loop.clock())
    loop.state.declare_existing(loop.settings.labels.existing, loop.clock())
    return len(loop.state.amendments()) > before


def _commit(
    loop: Loop,
    number: int,
    strategy: str,
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
        strategy=strategy,
        n_labels=len(book.items),
        findings=book.findings,
        picks=tuple(picks),
        scores=scores,
        bets=dict(bets),
    )
    chosen = {p.strategy for p in picks if p.stream == "active"}
    report = replace(
        report,
        action="pushed",
        batch=BatchReport(
            round=number,
            version=round_.version,
            size=len(picks),
            random=sum(p.stream == "random" for p in picks),
            active=sum(p.stream == "active" for p in picks),
            strategy="random" if chosen == {"random"} else round_.strategy,  # no finding has a head yet, say
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


def _told_already(loop: Loop, report: StepReport) -> StepReport | None:
    """The report told last, if this one says the same but for the time."""
    last = _told(loop)
    same = replace(report, at=last.at, pulled=last.pulled, saving=last.saving)
    return last if last == same else None


def _doubt(loop: Loop, book: Book) -> list[str]:
    return doubt_declaration(
        book, loop.state.items(), loop.features, loop.projection, loop.settings.project.seed
    )


def _told(loop: Loop) -> StepReport:
    told = last_decision(loop.state)
    assert told is not None  # asked behind a round only, and the first has a report
    return told
