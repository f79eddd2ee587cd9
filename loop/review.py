"""Labels that deserve a second look: those in dispute among people, and those that the other labels speak against."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from annotate.consensus import count_votes
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds
from loop.book import Book
from loop.controller import complete_push
from loop.errors import BadInput
from loop.features import Features
from loop.opening import open_book, project_pool, read_book
from loop.probe import N_FOLDS, Projection, fit_probe, make_scorer
from loop.project import Loop
from loop.readings import (
    REVIEW,
    REVIEW_PUSHED,
    asked_from_random,
    labels_by_item,
    note_review_pushed,
    order_queue,
    readers_of,
    reviewed_at,
)
from loop.settings import Settings
from loop.start import open_features
from loop.state import State
from loop.step_report import as_json
from loop.sync import sync


@dataclass(frozen=True, slots=True)
class Doubt:
    """A label to look at again.

    Attributes:
        item: The image.
        path: Its file.
        task_id: Its task in Label Studio.
        url: Where it is opened there.
        finding: The finding in question.
        label: 1, 0 or null: people tie.
        yes: People who say yes.
        no: People who say no.
        probability: Of the finding, by a probe that saw no label of this patient; null on the random stream.
        doubt: On [0, 1]: twice the share of voices against the majority, or how far label and probability are apart, the
            greater of the two.
        reason: The same in words.
    """

    item: str
    path: str
    task_id: int
    url: str
    finding: str
    label: float | None
    yes: int
    no: int
    probability: float | None
    doubt: float
    reason: str


@dataclass(frozen=True, slots=True)
class Review:
    """Labels to look at again, most doubtful first.

    Attributes:
        doubts: One a label and finding.
        reviewed: Images left out, for a second look at them was asked for before.
        pushed: Images that were pushed now.
        version: The version under which they are served.
        warnings: What looked odd, each with its remedy.
    """

    project: str
    doubts: tuple[Doubt, ...]
    reviewed: int
    pushed: int = 0
    version: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def read_review(settings: Settings) -> Review:
    """List the labels that deserve a second look, from state and embeddings alone.

    Raises:
        BadInput: The project was not started.
    """
    with State.started(settings.state_url) as state:
        features = open_features(settings, state)
        book = open_book(state, features, settings)
        pool = [item.item for item in state.items() if features.has(item.item)]
        reviewed = reviewed_at(state)
        doubts = find_doubts(
            settings, state, book, features, project_pool(features, pool, settings), skip=reviewed
        )
        return Review(settings.project.name, doubts, len(reviewed))


def push_review(loop: Loop, n: int) -> Review:
    """Have one more person look at the n images whose labels are most in doubt, as a round of their own.

    The images go to the front of the queue, without suggestions; what is left of the present batch follows, so no batch
    waits for a review. A review is no batch: its images are in no round, so the certificate counts none of them again.
    A review whose push was interrupted is pushed to its end instead of a new one.

    Raises:
        BadInput: Nothing was asked yet, or no label is in doubt.
    """
    state = loop.state
    complete_push(loop)
    present = state.last_round()
    if present is None:
        raise BadInput("No batch was asked yet. Run `loop start` first.")
    sync(loop.desk, state, loop.clock())
    asked, pushed = state.facts(REVIEW), {told["version"] for told in state.facts(REVIEW_PUSHED)}
    review = asked[-1] if asked and asked[-1]["version"] not in pushed else None
    skip = {item for item in reviewed_at(state) if review is None or item not in review["items"]}
    doubts = find_doubts(loop.settings, state, read_book(loop), loop.features, loop.projection, skip=skip)
    readers = readers_of(state)
    if review is None:
        chosen = list(dict.fromkeys(doubt.item for doubt in doubts))[:n]
        if not chosen:
            raise BadInput("No label is in doubt, so there is nothing to look at again.")
        now = loop.clock()
        review = {
            "version": _version(loop.settings.project.name, len(asked) + 1, chosen),
            "at": now.isoformat(),
            "items": {item: len(readers[item]) + 1 for item in chosen},
        }
        state.set_fact(REVIEW, review, now)
    items = review["items"]
    double = loop.settings.labels.double_reads > 0
    receipt = loop.desk.push(review["version"], order_queue(state, present, double=double, first=items))
    state.drop_tasks(receipt.gone, loop.clock())
    note_review_pushed(state, review["version"], receipt, loop.clock())
    return Review(
        loop.settings.project.name,
        tuple(doubt for doubt in doubts if doubt.item in items),
        len(skip),
        len(items),
        receipt.version,
        (*receipt.warnings, *_nobody_left(items, readers)),
    )


def find_doubts(
    settings: Settings,
    state: State,
    book: Book,
    features: Features,
    projection: Projection,
    skip: Collection[str] = (),
) -> tuple[Doubt, ...]:
    """Find the labels in doubt, most doubtful first.

    A label that the random stream asked is listed only where people disagree about it, never because the probe does:
    correcting what the probe doubts would move its measured AUC its own way. A starred label is not listed.
    """
    by_id = {item.item: item for item in state.items()}
    tasks, project = state.tasks(), state.fact("project") or {"id": 0}
    proba = score_out_of_fold(book, features, projection, settings, len(state.rounds()))  # (n, K)
    row = {item: i for i, item in enumerate(book.items)}
    blind = asked_from_random(state.rounds())
    found: list[Doubt] = []
    for item, labels in labels_by_item(state).items():
        votes = count_votes(labels)
        if item in skip or votes.starred or by_id[item].stream == "spare":
            continue
        for k, finding in enumerate(book.findings):
            said = list(votes.answers(finding).values())
            yes, no = said.count(1.0), said.count(0.0)
            if not said:
                continue
            label = float(book.y[row[item], k]) if item in row else math.nan
            p = float(proba[row[item], k]) if item in row and item not in blind else math.nan
            dispute, contradiction = 2 * min(yes, no) / len(said), abs(p - label)
            if dispute > 0 or contradiction > 0.5:
                found.append(
                    Doubt(
                        item=item,
                        path=str(by_id[item].path),
                        task_id=tasks[item],
                        url=f"{settings.label_studio.url}/projects/{project['id']}/data?task={tasks[item]}",
                        finding=finding,
                        label=None if math.isnan(label) else label,
                        yes=yes,
                        no=no,
                        probability=None if math.isnan(p) else p,
                        doubt=max(dispute, 0.0 if math.isnan(contradiction) else contradiction),
                        reason=_reason(yes, no, label, p),
                    )
                )
    return tuple(sorted(found, key=lambda one: (-one.doubt, one.item, one.finding)))


def score_out_of_fold(
    labelled: Book, features: Features, projection: Projection, settings: Settings, round_number: int
) -> NDArray[np.float64]:
    """Probability of each label by a probe that saw no label of its patient.

    Returns:
        Shape ``(n, K)``; NaN where a finding has too few labels for a head.
    """
    proba = np.full(labelled.y.shape, np.nan)
    rng = np.random.default_rng([settings.project.seed, round_number, 3])
    if not len(labelled.items):
        return proba
    raw = features.read(labelled.items)
    probe = fit_probe(raw, labelled.y, labelled.patients, labelled.findings, projection, rng)
    y = labelled.y[:, probe.fitted]  # (n, F)
    try:
        folds = assign_folds(y, labelled.patients, N_FOLDS, rng) if probe.fitted.any() else None
    except TooFewLabels:  # all of one patient
        folds = None
    if folds is None:
        return proba
    masks = np.array([folds != f for f in range(folds.max() + 1)])  # (B, n)
    logits = make_scorer(projection.transform(raw), y, probe.strength[probe.fitted])(masks)  # (B, n, F)
    proba[:, probe.fitted] = expit(
        logits[folds, np.arange(len(y))]
    )  # (n, F), each by the fold that left it out
    proba[folds < 0] = np.nan
    return proba


def _reason(yes: int, no: int, label: float, p: float) -> str:
    parts = [f"{yes} say yes, {no} no"] if yes and no else []
    if abs(p - label) > 0.5:
        parts.append(
            f"labelled {'yes' if label else 'no'}, the other labels speak for {'no' if label else 'yes'}"
        )
    return "; ".join(parts)


def _nobody_left(items: Mapping[str, int], readers: Mapping[str, set[str]]) -> tuple[str, ...]:
    everybody = set().union(*readers.values())
    left = sum(not everybody - readers[item] for item in items if item in readers)
    if not left:
        return ()
    return (
        f"{left} of these images were read by everybody who labels in this project, and Label Studio serves an image to "
        "nobody twice. Invite somebody else, or open them by their addresses (--json) and correct the label there.",
    )


def _version(project: str, number: int, items: Sequence[str]) -> str:
    """Name the review for Label Studio, so that the same images always have the same name."""
    batch = hashlib.sha256("\n".join(items).encode()).hexdigest()[:8]
    return f"loop-{project}-v{number:04d}-{batch}"
