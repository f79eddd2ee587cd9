"""What is promised of a verdict, under many looks: the certificate by enumeration, the forecast by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from gaussian_world import Array, GaussianWorld, make_ridge_scorer, ridge
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from forecasting.certificate import Asked, weigh_evidence
from forecasting.curve import estimate_curves
from forecasting.powerlaw import fit_bayes
from forecasting.stopping import Rules, Verdict, decide_finding

# ---------------------------------------------------------------- the certificate, exactly


END = Asked(np.zeros(1), np.zeros(1))  # a round after the last: what came before is over


def every_history(rounds_of_labels: list[list[int]], choosy: bool) -> tuple[Array, Array]:
    """Every way in which a model of AUC exactly .8 can score some rounds: chance ``(H,)`` and path ``(H, T)``.

    A score is high or low: high with .8 for a positive, with .2 for a negative; ties count half, so that
    AUC = .8^2 + .8 * .2 = .8. A choosy project bets on its last round only when ahead.
    """
    flat = [y for labels in rounds_of_labels for y in labels]
    chances: list[float] = []
    paths: list[tuple[float, ...]] = []
    for scores in product((0.0, 1.0), repeat=len(flat)):
        chance = float(np.prod([0.8 if score == y else 0.2 for y, score in zip(flat, scores, strict=True)]))
        left = list(scores)
        rounds: list[Asked] = []
        for number, labels in enumerate(rounds_of_labels):
            given, left = left[: len(labels)], left[len(labels) :]
            bet = True
            if choosy and number == len(rounds_of_labels) - 1:
                bet = weigh_evidence([*rounds, END], 0.8, 0.0).path[-1] > 0
            rounds.append(Asked(np.array(labels, float), np.array(given), bet))
        chances.append(chance)
        paths.append(weigh_evidence([*rounds, END], 0.8, 0.0).path)
    longest = max(map(len, paths))
    held = [[*path, *[path[-1]] * (longest - len(path))] for path in paths]  # no bet, no change
    return np.array(chances), np.exp(np.array(held))


@pytest.mark.parametrize("choosy", [False, True])
@pytest.mark.parametrize(
    "labels",
    [[[0, 1, 0, 0, 1], [1, 0, 0, 1]], [[1, 1, 1, 0], [0, 0, 0, 1, 0, 0]], [[0, 1], [1, 0], [0, 0, 1, 1, 1]]],
)
def test_the_mean_capital_is_exactly_one_and_large_capital_as_rare_as_promised(
    labels: list[list[int]], choosy: bool
) -> None:
    """A martingale over all histories, and Ville's inequality at every capital that can occur: no tolerance."""
    chance, capital = every_history(labels, choosy)
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    assert chance @ capital == pytest.approx(np.ones(capital.shape[1]), abs=1e-12)
    largest = capital.max(axis=1)
    assert len(np.unique(largest.round(9))) > 5
    for level in np.unique(largest[largest > 1]):
        assert chance[largest >= level * (1 - 1e-12)].sum() <= 1 / level + 1e-12


# ---------------------------------------------------------------- the verdict, by simulation

LOOKS = tuple(range(60, 381, 32))  # 11 looks
DIM = 8


@dataclass(frozen=True)
class Labelled:
    """One project's labels at one look, and the AUC of the probe trained on them."""

    x: Array
    y: Array
    patients: NDArray[Any]
    is_random: NDArray[np.bool_]
    auc: float


def annotate(
    rng: np.random.Generator, prevalence: float, images: int = 1, active: bool = False
) -> list[Labelled]:
    """Label a Gaussian archive look by look.

    With several images a patient the finding is the patient's, and half of an image's noise as well. An
    active project chooses half of every batch nearest to the threshold that the present probe would draw.
    """
    world = GaussianWorld(rng, [float(rng.uniform(1.0, 2.6))], [prevalence], DIM)
    pool = LOOKS[-1] * (4 if active else 1)
    patients = np.arange(pool) // images
    y = (rng.random(patients[-1] + 1) < prevalence).astype(float)[patients]
    shared = rng.standard_normal((patients[-1] + 1, DIM))[patients]
    x = y[:, None] * world.mu[0] + (shared + rng.standard_normal((pool, DIM))) / np.sqrt(2)
    chosen, is_random, stream = list(range(LOOKS[0])), [True] * LOOKS[0], LOOKS[0]
    told = []
    for look in LOOKS:
        more = look - len(chosen)
        from_stream = more // 2 if active else more
        if more and active:
            rest = np.setdiff1d(np.arange(LOOKS[-1], pool), chosen)
            scores = x @ ridge(x[chosen], y[chosen], DIM)
            near = np.argsort(np.abs(scores[rest] - np.quantile(scores, 1 - prevalence)))
            chosen += rest[near[: more - from_stream]].tolist()
            is_random += [False] * (more - from_stream)
        chosen += range(stream, stream + from_stream)
        is_random += [True] * from_stream
        stream += from_stream
        auc = world.auc(ridge(x[chosen], y[chosen], DIM), 0)
        told.append(Labelled(x[chosen], y[chosen], patients[chosen], np.array(is_random), auc))
    return told


# what a posterior's standard deviation is multiplied by: as it is, and two that must fail
BOLD = (1.0, 0.5, 0.0)


@dataclass(frozen=True)
class Told:
    """What one look tells: verdicts by boldness, and whether intervals of AUC now hold the truth, likewise."""

    likely: dict[float, bool]
    likely_far_below: bool
    covered: dict[float, bool]


def judge(told: Labelled, target: float, reached: float) -> Told:
    """Judge one look on a target at the truth, and on one that is reached by far.

    A normal posterior of ``share`` times the standard deviation says .97 where the whole one says
    ``ndtr(share * ndtri(.97))``: .83 at half of it, .5 if the median alone is believed.
    """
    y, drawn = told.y[:, None], told.y[told.is_random]
    scorer = make_ridge_scorer(told.x, y, DIM)
    rng = np.random.default_rng([1, len(y)])
    curves = estimate_curves(["a"], y, told.patients, scorer, rng, is_random=told.is_random, n_repeats=10)
    (forecast,) = fit_bayes(curves)
    (n1, n0), n_random = (((labels == 1).sum(), (labels == 0).sum()) for labels in (told.y, drawn))
    of_positives, of_negatives = (len(np.unique(told.patients[told.y == value])) for value in (1, 0))

    def is_likely(asked: float, share: float = 1.0) -> bool:
        rules = Rules(asked, p_stop=float(ndtr(share * ndtri(Rules(asked).p_stop))))
        decision = decide_finding(
            "a", forecast, n1, n0, None, None, rules, n_random, (of_positives, of_negatives)
        )
        return decision.verdict is Verdict.LIKELY_REACHED

    def covers(share: float) -> bool:
        now = forecast.auc(len(y), level=float(2 * ndtr(share * ndtri(0.95)) - 1))
        return now.low <= told.auc <= now.high

    return Told(
        {share: is_likely(target, share) for share in BOLD},
        is_likely(reached),
        {share: covers(share) for share in BOLD[:2]},
    )


SCENARIOS: dict[str, tuple[float, dict[str, Any]]] = {
    "at the target": (0.0, {"prevalence": 0.3}),
    "just below it": (0.01, {"prevalence": 0.3}),
    "rare": (0.0, {"prevalence": 0.08}),
    "five images a patient": (0.0, {"prevalence": 0.3, "images": 5}),
    "actively chosen": (0.0, {"prevalence": 0.25, "active": True}),
}
PROJECTS = 80
FAR = 0.1  # in AUC


@cache
def replay(scenario: str) -> list[list[Told]]:
    """What is told at each look of each project at which there are ten of each class.

    The target is the best AUC that the project's probe has at any look, plus a margin: every LIKELY REACHED
    is false, or true by a hair at one look. The target reached by far lies `FAR` below the worst one.
    """
    margin, options = SCENARIOS[scenario]
    rng = np.random.default_rng([17, list(SCENARIOS).index(scenario)])
    projects = []
    for _ in range(PROJECTS):
        looks = annotate(rng, **options)
        spoken = [told for told in looks if 10 <= told.y.sum() <= len(told.y) - 10]
        true = [told.auc for told in spoken]
        projects.append([judge(told, max(true) + margin, min(true) - FAR) for told in spoken])
    assert all(projects)
    return projects


def count_false(scenario: str, share: float = 1.0) -> int:
    """Projects that are falsely called LIKELY REACHED, once at least."""
    return sum(any(told.likely[share] for told in looks) for looks in replay(scenario))


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_target_that_is_never_reached_is_seldom_called_likely_in_eleven_looks(scenario: str) -> None:
    """The hardest case, a target at the truth. Of 80 projects each it happened to 7, 2, 6, 5 and 1: 21 of 400.

    The bound is what one project in twenty exceeds by chance once in a hundred (9 of 80); it can be exceeded: with
    half the standard deviation it happened to 41, 26, 32, 38 and 11. Of actively chosen images the forecast is so
    cautious that the control believes the median alone: 41.
    """
    most = binom.ppf(0.99, PROJECTS, 0.05)
    assert count_false(scenario) <= most
    assert count_false(scenario, 0.0 if scenario == "actively chosen" else 0.5) > most


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_target_that_is_reached_by_far_is_called_likely(scenario: str) -> None:
    """A verdict that is never said is never false: this one was said, in 80, 80, 69, 75 and 75 of 80 projects."""
    said = sum(any(told.likely_far_below for told in looks) for looks in replay(scenario))
    assert said >= 0.75 * PROJECTS


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_intervals_of_auc_now_cover_at_the_last_look(scenario: str) -> None:
    """Of 80 intervals of 90 % there covered 74, 76, 75, 78 and 76; at half the width 47, 51, 46, 48 and 58."""
    least = binom.ppf(0.01, PROJECTS, 0.9)
    assert sum(looks[-1].covered[1.0] for looks in replay(scenario)) >= least
    assert sum(looks[-1].covered[0.5] for looks in replay(scenario)) < least
