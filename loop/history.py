"""What earlier reports promised, and what the random stream has shown since. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from forecasting.auc import count_wins
from forecasting.promises import Look, PathPoint, Promise
from loop.book import Book
from loop.step_report import StepReport


def read_promises(history: Iterable[StepReport]) -> list[Promise]:
    """Every forecast that earlier reports gave, in the form in which it is scored."""
    return [
        Promise(
            finding=name,
            round=report.round,
            path=tuple(PathPoint(point.n, point.center, point.sd) for point in told.forecast.path),
            widened=told.forecast.widened,
            encoder=report.encoder,
        )
        for report in history
        for name, told in report.findings.items()
        if told.forecast is not None and told.forecast.path
    ]


def take_looks(book: Book, history: Iterable[StepReport]) -> list[Look]:
    """What each round's random images show about the probe that scored them before they were labelled.

    The labels behind that probe are counted by the report that asked the round. A round without both
    classes shows nothing.
    """
    asked_by = {report.batch.round: report for report in history if report.batch is not None}
    looks = []
    for name, rounds in book.asked.items():
        for asked in rounds:
            report = asked_by.get(asked.round)
            won, pairs = count_wins(asked.y, asked.scores)
            if report is None or name not in report.findings or not pairs:
                continue
            told = report.findings[name]
            looks.append(
                Look(
                    finding=name,
                    round=asked.round,
                    n=told.positives + told.negatives,
                    auc=won / pairs,
                    n_positive=int((asked.y == 1).sum()),
                    n_negative=int((asked.y == 0).sum()),
                    encoder=report.encoder,
                )
            )
    return looks
