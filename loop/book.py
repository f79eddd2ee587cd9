"""Book every label to the stream it came from: the one table that training, forecast and selection read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from annotate.consensus import Rule, agree_all
from annotate.records import Label
from forecasting.certificate import Asked
from loop.items import Item
from loop.report import LabelCount
from loop.state import Round

LONGEST_LOOK_S = 600.0  # a longer lead time is a coffee break, not a reading


@dataclass(frozen=True, slots=True)
class Book:
    """The present truth about the labels.

    Attributes:
        findings: K finding names.
        items: Item ids of the n images that train the probe.
        y: Labels, shape ``(n, K)``: 1, 0, NaN = not known.
        patients: Patient of each image, shape ``(n,)``.
        is_random: Asked from the random stream, shape ``(n,)``.
        asked: Per finding, the random stream's rounds as the certificate reads them.
        outstanding: Items of the present batch that nobody has answered.
        batch_size: Size of the present batch, less what was deleted in Label Studio.
        random_next: The random stream in the order to ask: asked but unanswered first, then unasked.
        active_pool: Unlabelled items of the active part.
        count: Images by stream and fate.
        median_look_s: Median seconds an annotator spends on an image; None without a history.
        by_majority: Finding to why the majority decided although ``dawid_skene`` was asked for.
    """

    findings: tuple[str, ...]
    items: tuple[str, ...]
    y: NDArray[np.float64]
    patients: NDArray[np.str_]
    is_random: NDArray[np.bool_]
    asked: Mapping[str, Sequence[Asked]]
    outstanding: tuple[str, ...]
    batch_size: int
    random_next: tuple[str, ...]
    active_pool: tuple[str, ...]
    count: LabelCount
    median_look_s: float | None
    by_majority: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished_share(self) -> float:
        """Share of the present batch that is answered."""
        return (self.batch_size - len(self.outstanding)) / self.batch_size if self.batch_size else 1.0

    @property
    def n_pool_left(self) -> int:
        """Images that can still be asked."""
        return len(self.random_next) + len(self.active_pool)


def keep_book(
    items: Sequence[Item],
    tasks: Mapping[str, int],
    labels: Mapping[int, Sequence[Label]],
    rounds: Sequence[Round],
    findings: Sequence[str],
    consensus: Rule = "majority",
) -> Book:
    """Derive the book from what the state holds.

    An image is booked to the stream of the round that asked it first. Labels on a random-stream patient's
    other images are set aside: training on them would let the probe see a patient whose random image it
    is later tested on.

    The certificate reads majorities whatever the consensus: a model of the readers moves an old label when a new one
    is made elsewhere, and a bet must not be settled anew by what came after it.

    Args:
        items: Every image in our care.
        tasks: Item id to Label Studio's task id.
        labels: Task id to its current labels.
        rounds: All rounds, oldest first.
        findings: The K findings.
        consensus: How annotators who disagree are brought to the one answer that trains the probe.
    """
    item_of = {task_id: item for item, task_id in tasks.items()}
    by_id = {item.item: item for item in items}
    given = {item_of[task_id]: said for task_id, said in labels.items() if said and task_id in item_of}
    agreed = agree_all(given, findings, consensus)
    answers = agreed.answers
    heard = answers if consensus == "majority" else agree_all(given, findings).answers
    first_asked: dict[str, tuple[int, str]] = {}
    for round_ in rounds:
        for pick in round_.picks:
            first_asked.setdefault(pick.item, (round_.number, pick.stream))

    known = {item: list(answer.values()) for item, answer in answers.items() if _any_known(answer.values())}
    set_aside = {i for i in known if by_id[i].stream == "spare" and i not in first_asked}
    trained = sorted(i for i in known if i not in set_aside)  # by id: the order of arrival must not matter
    streams = [first_asked[i][1] if i in first_asked else "unasked" for i in trained]
    y = np.array([known[i] for i in trained], dtype=np.float64).reshape(len(trained), len(findings))

    batch = [pick.item for pick in rounds[-1].picks if pick.item in tasks] if rounds else []
    return Book(
        findings=tuple(findings),
        items=tuple(trained),
        y=y,
        patients=np.array([by_id[i].patient for i in trained], dtype=np.str_),
        is_random=np.array([s == "random" for s in streams], dtype=np.bool_),
        asked={name: _asked(rounds, heard, name) for name in findings},
        outstanding=tuple(item for item in batch if item not in answers),
        batch_size=len(batch),
        random_next=_random_next(items, first_asked, answers, tasks),
        active_pool=tuple(
            i.item for i in items if i.stream == "active" and i.item not in answers and i.item in tasks
        ),
        count=LabelCount(
            total=len(trained),
            random=streams.count("random"),
            active=streams.count("active"),
            unasked=streams.count("unasked"),
            unknown=sum(
                not _any_known(answer.values()) and not all(label.skipped for label in labels[tasks[item]])
                for item, answer in answers.items()
            ),
            skipped=sum(all(label.skipped for label in labels[tasks[item]]) for item in answers),
            unreadable=sum(label.problem is not None for given in labels.values() for label in given),
            foreign=sum(task_id not in item_of for task_id, given in labels.items() if given),
            set_aside=len(set_aside),
        ),
        median_look_s=_median_look(labels.values()),
        by_majority=agreed.by_majority,
    )


def _any_known(values: Iterable[float]) -> bool:
    return any(value == value for value in values)  # NaN is the only value that differs from itself


def _random_next(
    items: Sequence[Item],
    first_asked: Mapping[str, tuple[int, str]],
    answers: Mapping[str, object],
    tasks: Mapping[str, int],
) -> tuple[str, ...]:
    stream = sorted(
        (i for i in items if i.stream == "random" and i.item not in answers and i.item in tasks),
        key=lambda i: (i.item not in first_asked, i.position),
    )
    return tuple(i.item for i in stream)


def _asked(
    rounds: Sequence[Round], answers: Mapping[str, Mapping[str, float]], finding: str
) -> tuple[Asked, ...]:
    """Cut each round's random images at the first one that nobody answered while it lasted.

    An image that was asked again belongs to the later round, with the later probe's score; so a round that is
    over never grows, and what the certificate reads is always a prefix of the same sequence.
    """
    again: set[str] = set()
    told: list[Asked] = []
    for round_ in reversed(rounds):
        ys: list[float] = []
        scores: list[float] = []
        random = [
            (p.item, s)
            for p, s in zip(round_.picks, round_.scores_of(finding), strict=True)
            if p.stream == "random"
        ]
        for item, score in random:
            if item in again or item not in answers:
                break
            ys.append(answers[item][finding])
            scores.append(float(score))
        again.update(item for item, _ in random)
        if ys and np.isfinite(scores).all():
            bet = round_.bets.get(finding, False)
            told.append(Asked(np.array(ys), np.array(scores), bet, round_.number))
    return tuple(reversed(told))


def _median_look(labels: Iterable[Sequence[Label]]) -> float | None:
    times = [
        min(label.lead_time_s, LONGEST_LOOK_S)
        for given in labels
        for label in given
        if label.lead_time_s is not None and not label.skipped
    ]
    return float(median(times)) if times else None
