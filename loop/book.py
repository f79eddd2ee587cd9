"""Book every label to the stream it came from: the one table that training, forecast and selection read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from annotate.consensus import Rule, agree_all
from annotate.records import Label
from forecasting.certificate import Asked
from loop.items import Item
from loop.state import NOTHING, Readings, Round
from loop.step_report import LabelCount
from loop.work import Work, measure_work

NOBODY: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Book:
    """The present truth about the labels.

    Attributes:
        findings: K finding names.
        items: Item ids of the n images that train the probe.
        y: Labels, shape ``(n, K)``: 1, 0, NaN = not known.
        patients: Patient of each image, shape ``(n,)``.
        is_random: Asked from the random stream, or declared random, shape ``(n,)``.
        is_declared: Of these, declared by the settings, shape ``(n,)``; the certificate never reads them.
        is_active: Asked from the active part, shape ``(n,)``; what is neither this nor random nobody asked for.
        asked: Per finding, the random stream's rounds as the certificate reads them.
        outstanding: Items of the present batch that nobody has answered.
        batch_size: Size of the present batch, less what was deleted in Label Studio.
        random_next: The random stream in the order to ask: asked but unanswered first, then unasked.
        active_pool: Unlabelled items of the active part.
        count: Images by stream and fate.
        work: Seconds of work behind an image.
        readings: Round and finding to the labels of its random images that the certificate has read; see `_read`.
        revised: Per finding, of these, the labels that were changed or withdrawn since.
        random_unknown: Per finding, random images that were answered, not skipped, can be read, and are not known: "cannot tell",
            or annotators disagree.
        by_majority: Finding to why the majority decided although ``dawid_skene`` was asked for.
    """

    findings: tuple[str, ...]
    items: tuple[str, ...]
    y: NDArray[np.float64]
    patients: NDArray[np.str_]
    is_random: NDArray[np.bool_]
    is_declared: NDArray[np.bool_]
    is_active: NDArray[np.bool_]
    asked: Mapping[str, Sequence[Asked]]
    outstanding: tuple[str, ...]
    batch_size: int
    random_next: tuple[str, ...]
    active_pool: tuple[str, ...]
    count: LabelCount
    work: Work
    random_unknown: Mapping[str, int]
    readings: Mapping[tuple[int, str], Sequence[float]]
    revised: Mapping[str, int]
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
    unasked: Mapping[int, str] = NOBODY,
    readings: Readings = NOTHING,
    *,
    recount: bool = False,
    consensus: Rule = "majority",
    present: int | None = None,
) -> Book:
    """Derive the book from what the state holds.

    An image is booked to the stream of the round that asked it first; one that nobody asked to that of its first label. Labels on a random-stream patient's
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
        unasked: Annotation to ``overrun``, ``outsider`` or ``declared``, of those that nobody asked for; one not in it is an outsider.
        readings: What the certificate has read at earlier looks; it stays as it was read.
        recount: Correct it by the labels as they are now.
        consensus: How annotators who disagree are brought to the one answer that trains the probe.
        present: Number of the batch in force, after a rollback an earlier one; None = the last.
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
    streams = [
        first_asked[i][1] if i in first_asked else _stream_of(labels[tasks[i]], unasked) for i in trained
    ]
    skipped = {item for item in answers if all(label.skipped for label in labels[tasks[item]])}
    unread = {
        item
        for item in answers
        if item not in skipped and all(label.skipped or label.problem for label in labels[tasks[item]])
    }
    random = [item for item, (_, stream) in first_asked.items() if stream == "random"]
    read = [heard[item] for item in random if item in answers and item not in skipped | unread]
    y = np.array([known[i] for i in trained], dtype=np.float64).reshape(len(trained), len(findings))

    read_now = {name: _read(rounds, heard, name, readings, recount) for name in findings}
    in_force = [round_ for round_ in rounds if present is None or round_.number == present][-1:]
    batch = [pick.item for round_ in in_force for pick in round_.picks if pick.item in tasks]
    return Book(
        findings=tuple(findings),
        items=tuple(trained),
        y=y,
        patients=np.array([by_id[i].patient for i in trained], dtype=np.str_),
        is_random=np.array([s in ("random", "declared") for s in streams], dtype=np.bool_),
        is_declared=np.array([s == "declared" for s in streams], dtype=np.bool_),
        is_active=np.array([s == "active" for s in streams], dtype=np.bool_),
        asked={name: _asked(rounds, read_now[name], name) for name in findings},
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
            unasked=sum(streams.count(s) for s in ("overrun", "outsider", "declared")),
            unknown=sum(
                not _any_known(answer.values()) and item not in skipped | unread
                for item, answer in answers.items()
            ),
            skipped=len(skipped),
            unreadable=sum(label.problem is not None for given in labels.values() for label in given),
            foreign=sum(task_id not in item_of for task_id, given in labels.items() if given),
            set_aside=len(set_aside),
            overrun=streams.count("overrun"),
            declared=streams.count("declared"),
            random_asked=len(random),
            random_answered=sum(item in answers for item in random),
            random_skipped=sum(item in skipped for item in random),
            random_taken=sum(
                by_id[i].stream == "random"
                and i not in first_asked
                and _stream_of(labels[tasks[i]], unasked) == "outsider"
                for i in answers
            ),
            unread=len(unread),
            random_unread=sum(item in unread for item in random),
        ),
        work=measure_work(labels.values()),
        random_unknown={name: sum(answer[name] != answer[name] for answer in read) for name in findings},
        readings={(number, name): y for name, told in read_now.items() for number, y in told.items()},
        revised={name: _count_revised(rounds, read_now[name], heard, name) for name in findings},
        by_majority=agreed.by_majority,
    )


def _any_known(values: Iterable[float]) -> bool:
    return any(value == value for value in values)  # NaN is the only value that differs from itself


def _stream_of(given: Sequence[Label], unasked: Mapping[int, str]) -> str:
    """Overrun, outsider or declared, by the first of an image's labels."""
    first = min(given, key=lambda label: (label.created_at, label.annotation_id))
    return unasked.get(first.annotation_id, "outsider")


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


def _read(
    rounds: Sequence[Round],
    answers: Mapping[str, Mapping[str, float]],
    finding: str,
    held: Mapping[tuple[int, str], Sequence[float]],
    recount: bool,
) -> dict[int, list[float]]:
    """Round to the labels of its random images, in the order asked, that the certificate may read.

    Each round is cut at the first image that nobody answered while it lasted. What was read once stays as it was read,
    and a round that is over does not grow: evidence that was looked at is no more to be changed. An image that was asked
    again before it was read belongs to the later round, with the later probe's score; one that was read is not read twice.
    """
    random = {r.number: [pick.item for pick in r.picks if pick.stream == "random"] for r in rounds}
    kept = {number: list(held.get((number, finding), ())) for number in random}
    read_in: dict[str, int] = {}
    for number, items in random.items():
        for item in items[: len(kept[number])]:
            read_in.setdefault(item, number)
    again: set[str] = set()
    for round_ in reversed(rounds):
        y, items = kept[round_.number], random[round_.number]
        if recount:
            y[:] = [
                answers[i][finding] if i in answers and read_in[i] == round_.number else np.nan
                for i in items[: len(y)]
            ]
        if round_ is rounds[-1] or (round_.number, finding) not in held:
            for item in items[len(y) :]:
                if item in read_in:
                    y.append(np.nan)
                elif item in again or item not in answers:
                    break
                else:
                    y.append(answers[item][finding])
        again.update(items)
    return kept


def _asked(
    rounds: Sequence[Round], readings: Mapping[int, Sequence[float]], finding: str
) -> tuple[Asked, ...]:
    """The rounds whose random images had scores when they were asked."""
    told = []
    for round_ in rounds:
        y = np.array(readings[round_.number], dtype=np.float64)
        scores = round_.scores_of(finding)[[p.stream == "random" for p in round_.picks]][: len(y)]
        if len(y) and np.isfinite(scores).all():
            told.append(Asked(y, scores, round_.bets.get(finding, False), round_.number))
    return tuple(told)


def _count_revised(
    rounds: Sequence[Round],
    readings: Mapping[int, Sequence[float]],
    answers: Mapping[str, Mapping[str, float]],
    finding: str,
) -> int:
    """Labels that say something else now than when they were read."""
    now: dict[str, float] = {item: answer[finding] for item, answer in answers.items()}
    seen: set[str] = set()
    n = 0
    for round_ in rounds:
        random = [pick.item for pick in round_.picks if pick.stream == "random"]
        for item, y in zip(random, readings[round_.number], strict=False):
            n += item not in seen and not np.array_equal(y, now.get(item, np.nan), equal_nan=True)
            seen.add(item)
    return n
