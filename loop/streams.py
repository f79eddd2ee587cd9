"""Which stream a label that nobody asked for comes from: the queue ran dry, or somebody picked the image by hand. Pure.

A label is *asked* if a batch that holds its image was committed before the label was first pulled; the order of our own
commits decides, no clock does. Else the batch that annotators had when it was made tells *overrun* from *outsider*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_LOOK_S = 600.0  # a longer lead time is a coffee break, not a reading


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotation, from the pull that brought it to the pull that missed it.

    Attributes:
        annotator: Label Studio's user id.
        created_at: First submission, by Label Studio's clock.
        lead_time_s: Seconds that the annotator had the task open before that.
        pulled_at: The pull that brought it first, by our clock.
        withdrawn_at: The pull that missed it; None if it stands.
    """

    annotator: str
    created_at: datetime
    lead_time_s: float | None
    pulled_at: datetime
    withdrawn_at: datetime | None = None


def find_batch(
    served: Sequence[tuple[int, datetime]], label: Answer, pull_before: datetime | None
) -> int | None:
    """The batch that annotators had when a label was made; None = there was none yet.

    Label Studio's clock and ours may differ. What is sure without comparing them: a label that the pull before did not
    bring is younger than every batch that was served before that pull.

    Args:
        served: Each batch with the time from which it was seen in Label Studio, by our clock, in the order of time; of
            rounds asked before the label was pulled. One that was gone back to is there twice.
        label: The label.
        pull_before: The last pull before the one that brought the label; None = there was none.
    """
    had = [
        number
        for number, at in served
        if at <= label.created_at or (pull_before is not None and at <= pull_before)
    ]
    return had[-1] if had else None


def ran_dry(batch: Iterable[Sequence[Answer]], label: Answer) -> bool:
    """Whether the queue had no image of the batch left for the annotator of a label when it was made.

    An image is left unless somebody had answered or skipped it, or another annotator had it open and answered it later:
    Label Studio locks what is open. An image that was opened and put back unanswered counts as left, and an answer
    counts as withdrawn only from the pull that missed it on: nobody tells us more.

    Args:
        batch: Per image that still has a task, its answers, withdrawn ones included.
        label: A label on another image.
    """
    return all(any(_took_away(answer, label) for answer in answers) for answers in batch)


def _took_away(answer: Answer, label: Answer) -> bool:
    if answer.withdrawn_at is not None and answer.withdrawn_at < label.pulled_at:
        return False
    look = 0.0 if answer.annotator == label.annotator else min(answer.lead_time_s or 0.0, LONGEST_LOOK_S)
    return answer.created_at - timedelta(seconds=look) <= label.created_at
