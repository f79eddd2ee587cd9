"""Who labelled how much and how fast, and on which images people disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from annotate.consensus import count_votes
from annotate.records import Label


@dataclass(frozen=True, slots=True)
class Person:
    """One annotator.

    Attributes:
        annotator: Label Studio's user id.
        labels: Images labelled, less those skipped.
        skipped: Images skipped.
        seconds: Median seconds an image was open, breaks cut; None without times.
        seconds_first: The same of the first half of the labels; None below 40 with a time.
        seconds_last: Of the second half.
        last_at: When the last label was made or changed.
    """

    annotator: str
    labels: int
    skipped: int
    seconds: float | None
    seconds_first: float | None
    seconds_last: float | None
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Disputed:
    """An image on which people disagree about a finding."""

    item: str
    finding: str
    yes: int
    no: int


@dataclass(frozen=True, slots=True)
class ReadingTime:
    """How long people look at images of one kind; an image is open for all findings at once.

    Attributes:
        present: Readings with a time that say the finding is there.
        seconds_present: Their median seconds, breaks cut; None without one.
        absent: Readings with a time that say it is not.
        seconds_absent: Their median seconds.
    """

    finding: str
    present: int
    seconds_present: float | None
    absent: int
    seconds_absent: float | None


ENOUGH_TIMES = 40  # two halves of twenty say something of a drift


def read_people(labels: Mapping[str, Sequence[Label]], longest_s: float) -> tuple[Person, ...]:
    """Count each annotator's labels and times, the busiest first."""
    of: dict[str, list[Label]] = {}
    for given in labels.values():
        for label in given:
            of.setdefault(label.annotator, []).append(label)
    people = [_person(who, given, longest_s) for who, given in of.items()]
    return tuple(sorted(people, key=lambda one: (-one.labels, one.annotator)))


def read_times(
    labels: Mapping[str, Sequence[Label]], findings: Sequence[str], longest_s: float
) -> tuple[ReadingTime, ...]:
    """Median seconds of the readings that say a finding is there, and of those that say it is not."""
    timed = [
        (min(label.lead_time_s, longest_s), label.answers)
        for given in labels.values()
        for label in given
        if label.lead_time_s is not None and not label.skipped
    ]
    told = []
    for finding in findings:
        there, gone = (
            [seconds for seconds, answers in timed if answers.get(finding) == value] for value in (1.0, 0.0)
        )
        told.append(
            ReadingTime(
                finding,
                len(there),
                median(there) if there else None,
                len(gone),
                median(gone) if gone else None,
            )
        )
    return tuple(told)


def read_disputed(labels: Mapping[str, Sequence[Label]], findings: Sequence[str]) -> tuple[Disputed, ...]:
    """Images that got both answers to one question, those with most voices on the smaller side first."""
    found = []
    for item, given in labels.items():
        votes = count_votes(given)
        for finding in findings:
            said = list(votes.answers(finding).values())
            yes = int(sum(said))
            if 0 < yes < len(said):
                found.append(Disputed(item, finding, yes, len(said) - yes))
    return tuple(sorted(found, key=lambda one: (-min(one.yes, one.no), one.item, one.finding)))


def _person(who: str, given: Sequence[Label], longest_s: float) -> Person:
    made = sorted((label for label in given if not label.skipped), key=lambda label: label.created_at)
    times = [min(label.lead_time_s, longest_s) for label in made if label.lead_time_s is not None]
    half = len(times) // 2
    drift = len(times) >= ENOUGH_TIMES
    return Person(
        annotator=who,
        labels=len(made),
        skipped=len(given) - len(made),
        seconds=median(times) if times else None,
        seconds_first=median(times[:half]) if drift else None,
        seconds_last=median(times[half:]) if drift else None,
        last_at=max(label.updated_at for label in given),
    )
