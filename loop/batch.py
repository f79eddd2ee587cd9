"""The next batch: which images are asked, in which order, and under which name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from forecasting.stopping import Verdict
from forecasting.words import counted, level_text, signed_text
from loop.assess import Assessment
from loop.book import Book
from loop.features import Features, FeatureStore
from loop.nearest import keep_nearest
from loop.probe import Probe
from loop.project import Loop
from loop.settings import Settings
from loop.strategies import COLD, Pick, Seen, select_batch
from loop.strategy_trial import Trial, try_strategy

_OPEN = {  # verdicts of findings that need more labels, by what counts as reached
    "likely": (Verdict.CANNOT_TELL, Verdict.KEEP_LABELLING),
    "certified": (Verdict.CANNOT_TELL, Verdict.KEEP_LABELLING, Verdict.LIKELY_REACHED),
}


def choose_batch(
    loop: Loop, book: Book, assessment: Assessment, number: int, strategy: str | None = None
) -> list[Pick]:
    """Choose the next batch: the random stream's share in its order, the rest by the strategy (None = that of the settings)."""
    settings, probe = loop.settings, assessment.probe
    is_open = _open_findings(loop, book, assessment)
    patient_of = {item.item: item.patient for item in loop.state.items()}
    return select_batch(
        settings.batch.strategy if strategy is None else strategy,
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


def try_on_labels(loop: Loop, book: Book, assessment: Assessment, number: int) -> Trial | None:
    """Hold the strategy of the settings against random on the random stream's labels; None where they are too few."""
    drawn = np.flatnonzero(book.is_random & ~book.is_declared)
    return try_strategy(
        loop.settings.batch.strategy,
        loop.features.read([book.items[row] for row in drawn]),
        book.y[drawn],
        book.patients[drawn],
        assessment.probe,
        _open_findings(loop, book, assessment),
        loop.projection,
        np.random.default_rng([loop.settings.project.seed, number, 2]),
    )


def tell_trial(trial: Trial | None, trusted: bool) -> list[str]:
    """What a project lead should know of a strategy that does worse than random; nothing where it does not."""
    if trial is None or not trial.is_worse:
        return []
    told = (
        f"Tried on the {trial.n} random labels that are there, fold by fold of the patients, the strategy {trial.strategy} does "
        f"worse than random: AUC {signed_text(trial.difference)} ({level_text(trial.level)}: {signed_text(trial.low)} to "
        f"{signed_text(trial.high)})."
    )
    return [
        f"{told} It chose this batch all the same, as [batch] fall_back = false asks; another [batch] strategy may do better."
        if trusted
        else f"{told} So the active part of this batch is drawn at random, and the next step tries again. "
        "Choose another [batch] strategy, or force this one with fall_back = false."
    ]


def _open_findings(loop: Loop, book: Book, assessment: Assessment) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Findings that need more labels, shape ``(K,)``."""
    still = _OPEN[loop.settings.stop.evidence]
    return np.array([assessment.decisions[name].verdict in still for name in book.findings])


def choose_first(loop: Loop, book: Book) -> list[Pick]:
    """The first batch, from the random stream and by zero-shot scores, if there are; where all of the stream is labelled
    already, from the active part."""
    patient_of = {item.item: item.patient for item in loop.state.items()}
    strategy = cold_start(loop)
    active = book.active_pool if strategy != "random" or not book.random_next else ()
    return select_batch(
        strategy,
        _size(loop.settings, book),
        loop.settings.batch.random_share if strategy != "random" else 1.0,
        book.random_next,
        active,
        score_first(loop, active, book.findings),
        [patient_of[item] for item in active],
        book.findings,
        _rng(loop, 1),
        seen=_see(loop, book, np.ones(len(book.findings), bool), None),
    )


def cold_start(loop: Loop) -> str:
    """How the first batch's active part is chosen."""
    return (
        COLD if loop.zero_shot else "typiclust" if loop.settings.batch.cold_start == "typiclust" else "random"
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


def score_first(
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


def score_pool(
    features: Features, items: Sequence[str], probe: Probe
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Score a pool of any size in chunks; returns probabilities, shape ``(n, K)``, NaN where a head is not fitted."""
    scores, done = np.empty((len(items), len(probe.findings))), 0
    for some, vectors in features.chunks(items):
        scores[done : done + len(some)] = probe.predict(vectors)
        done += len(some)
    return scores


def version_of(project: str, number: int, picks: Sequence[Pick]) -> str:
    """Name the round for Label Studio, so that the same batch always has the same name."""
    batch = hashlib.sha256("\n".join(p.item for p in picks).encode()).hexdigest()[:8]
    return f"loop-{project}-r{number:04d}-{batch}"


def _size(settings: Settings, book: Book) -> int:
    """Images to ask: a batch, or what is left of the budget."""
    budget = settings.stop.budget
    return (
        settings.batch.size if budget is None else max(0, min(settings.batch.size, budget - len(book.items)))
    )


def doubt_batch(loop: Loop, book: Book, picks: Sequence[Pick]) -> list[str]:
    """What a project lead should know about a batch."""
    wanted = round(_size(loop.settings, book) * loop.settings.batch.random_share)
    random = sum(pick.stream == "random" for pick in picks)
    if random < wanted:
        return [
            f"The random stream is used up: {random} of {wanted} random images could be asked. From now on the "
            "certificate gets no new evidence, and what selection does to the AUC is not measured any more."
        ]
    return []


def doubt_first(loop: Loop, book: Book, picks: Sequence[Pick]) -> list[str]:
    """Why the first batch is smaller than it should be, and whether there can ever be a forecast, if not."""
    return [*_doubt_size(loop, book, picks), *_doubt_archive(loop, book)]


def _doubt_archive(loop: Loop, book: Book) -> list[str]:
    told = doubt_archive(loop.settings, len(book.items) + book.n_pool_left)
    return [f"{told[0]}: this project will end without one. For a forecast, {told[1]}."] if told else []


def doubt_archive(settings: Settings, there: int) -> tuple[str, str] | None:
    """Fewer images, or a smaller budget, than a forecast needs, and the remedy: better known before the work than after it.

    Args:
        settings: ``stop.budget`` and ``forecast.from_labels``.
        there: Images that are labelled or can be.
    """
    needed, budget = settings.forecast.from_labels, settings.stop.budget
    if there >= needed and (budget is None or budget >= needed):
        return None
    few = (
        f"Only {counted(there, 'image')} can be labelled"
        if there < needed
        else f"[stop] budget = {budget} ends labelling"
    )
    remedy = "give [images] source more images" if there < needed else "raise the budget"
    return f"{few}, and forecasts begin at {needed} labels ([forecast] from_labels)", remedy


def _doubt_size(loop: Loop, book: Book, picks: Sequence[Pick]) -> list[str]:
    wanted, budget = loop.settings.batch.size, loop.settings.stop.budget
    if len(picks) == wanted:
        return []
    if len(picks) == _size(loop.settings, book):
        why = f"[stop] budget = {budget} allows no more"
    elif any(pick.stream == "active" for pick in picks) or not book.active_pool:
        why = f"no other image can be asked: {counted(len(loop.state.items()), 'image')} were found, and a batch asks one a patient"
    else:
        why = (
            f"a first batch is all random, and the random stream has only {counted(len(book.random_next), 'image')} that can be "
            "asked: one image a patient, of at most half of the patients. Later batches ask others, too"
        )
    return [f"The first batch has {len(picks)} of the {wanted} images of [batch] size: {why}."]


def tell_dropped(loop: Loop, book: Book, picks: Sequence[Pick]) -> list[str]:
    """Where the images go that a batch asked and nobody looked at, when the next one is asked in its place."""
    if not book.outstanding:
        return []
    random = {item.item for item in loop.state.items() if item.stream == "random"}
    again = {pick.item for pick in picks}.intersection(book.outstanding)
    later = [item for item in book.outstanding if item not in again]
    parts = (
        (len(again), "asked again now"),
        (sum(item in random for item in later), "of the random stream come first in a later batch"),
        (sum(item not in random for item in later), "are back in the pool and may be chosen again"),
    )
    told = ", ".join(f"{n} {what}" for n, what in parts if n)
    return [
        f"{len(book.outstanding)} of the {book.batch_size} images of the batch before were answered by nobody, and its queue is "
        f"replaced: {told}."
    ]


def _rng(loop: Loop, number: int) -> np.random.Generator:
    return np.random.default_rng([loop.settings.project.seed, number])
