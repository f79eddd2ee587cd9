"""What a turn reports: a decision, the beginning, or a batch that is waited for."""

from __future__ import annotations

from loop.assess import Assessment
from loop.batch import cold_start
from loop.book import Book
from loop.project import Loop
from loop.step_report import StepReport, as_json
from loop.telling import mean_gain, report_score


def report_decision(loop: Loop, book: Book, assessment: Assessment, n_pulled: int, number: int) -> StepReport:
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
        settings=as_json({**loop.settings.frozen_part(), "stop.budget": loop.settings.stop.budget}),
        encoder=loop.settings.encoder.spec,
    )


def report_begin(loop: Loop, book: Book) -> StepReport:
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
            if cold_start(loop) == "random"
            else "No labels yet: the active part of the first batch is what is typical of the archive."
            if cold_start(loop) == "typiclust"
            else "No labels yet: the active part of the first batch is what the texts of [prompts] find."
        ),
        remedy="Label the batch in Label Studio, then run `loop step`.",
        labels=book.count,
        pulled=0,
        outstanding=0,
        encoder=loop.settings.encoder.spec,
    )


def report_waiting(loop: Loop, book: Book, n_pulled: int, number: int) -> StepReport:
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
