"""Readers who err: the model of Dawid and Skene, against crowd-kit's, and what it decides."""

from __future__ import annotations

import math
from random import Random

import pytest
from written_labels import label

from annotate.consensus import ENOUGH_REPEATS, agree, agree_all
from annotate.dawid_skene import Readers, Reading, fit_readers
from annotate.records import Label

COUNTS = {  # what readers a, b and c said, and of how many images
    (1, 1, 1): 41,
    (1, 1, 0): 9,
    (1, 0, 1): 5,
    (0, 1, 1): 12,
    (1, 0, 0): 14,
    (0, 1, 0): 6,
    (0, 0, 1): 21,
    (0, 0, 0): 192,
}


def said(*answers: float) -> dict[str, float]:
    return {who: float(answer) for who, answer in zip("abc", answers, strict=True)}


def readings() -> list[Reading]:
    return [Reading(said(*answers)) for answers, n in COUNTS.items() for _ in range(n)]


def test_the_rates_are_those_of_crowd_kit() -> None:
    """crowd-kit 1.4.2, DawidSkene(n_iter=5000, tol=1e-14) on the same 300 images, run in an environment of its own."""
    fitted = fit_readers(readings(), smoothing=0.0)
    assert fitted.prevalence == pytest.approx(0.231662, abs=2e-6)
    assert [fitted.sensitivity[who] for who in "abc"] == pytest.approx(
        [0.778856, 0.918769, 0.823904], abs=2e-6
    )
    assert [fitted.specificity[who] for who in "abc"] == pytest.approx(
        [0.935486, 0.982010, 0.905685], abs=2e-6
    )
    assert fitted.probability(said(0, 1, 0)) == pytest.approx(0.414434947, abs=1e-6)
    assert fitted.probability(said(1, 0, 1)) == pytest.approx(0.724543317, abs=1e-6)


def test_the_readers_that_made_the_answers_are_found() -> None:
    """4,000 images: a rate of the 800 that show the finding has a standard error of at most .018, times 4."""
    rng = Random(0)
    true = Readers(0.2, {"a": 0.9, "b": 0.75, "c": 0.6}, {"a": 0.97, "b": 0.9, "c": 0.99})
    images = []
    for _ in range(4_000):
        shows = rng.random() < true.prevalence
        yes = {w: true.sensitivity[w] if shows else 1 - true.specificity[w] for w in "abc"}
        images.append(Reading({w: float(rng.random() < yes[w]) for w in "abc"}))
    fitted = fit_readers(images)
    assert fitted.prevalence == pytest.approx(0.2, abs=4 * 0.0063 + 0.01)
    assert fitted.sensitivity == pytest.approx(true.sensitivity, abs=0.072)
    assert fitted.specificity == pytest.approx(true.specificity, abs=4 * math.sqrt(0.25 / 3200))


def test_a_star_is_the_truth_and_tells_how_the_others_read() -> None:
    starred = [Reading({"a": 1.0, "b": 0.0}, truth=False)] * 50 + [
        Reading({"a": 1.0, "b": 1.0}, truth=True)
    ] * 50
    fitted = fit_readers(starred, smoothing=0.0)
    assert fitted.specificity == {"a": 0.0, "b": 1.0}
    assert fitted.sensitivity == {"a": 1.0, "b": 1.0}


def test_nobody_is_called_infallible_after_a_few_images() -> None:
    fitted = fit_readers([Reading(said(1, 1, 1))] * 3 + [Reading(said(0, 0, 0))] * 3)
    assert all(
        0.5 < rate < 1 for rates in (fitted.sensitivity, fitted.specificity) for rate in rates.values()
    )


def annotated(*, more: dict[int, list[Label]] | None = None) -> dict[int, list[Label]]:
    """The 300 images as labels, and whatever is added."""
    labels: dict[int, list[Label]] = {}
    for answers, n in COUNTS.items():
        for _ in range(n):
            labels[len(labels)] = [label(who, answer) for who, answer in said(*answers).items()]
    return labels | (more or {})


def test_the_better_reader_wins_a_dispute_that_the_majority_leaves_open() -> None:
    """b misses 8 % and invents 2 %, c misses 18 % and invents 9 %: of the two b is believed."""
    more = {900: [label("b", 1), label("c", 0)], 901: [label("b", 0), label("c", 1)]}
    answers = agree_all(annotated(more=more), ["Edema"], "dawid_skene").answers
    assert (answers[900]["Edema"], answers[901]["Edema"]) == (1.0, 0.0)
    assert math.isnan(agree(more[900], ["Edema"])["Edema"])


def test_what_nobody_disputes_stays_as_it_was_said() -> None:
    """A yes of c alone is more likely wrong than right where the finding is rare; it is a person's label all the same."""
    more = {900: [label("c", 1)], 901: [label("c", math.nan)], 902: []}
    labels = annotated(more=more)
    consensus = agree_all(labels, ["Edema"], "dawid_skene")
    assert consensus.answers[900]["Edema"] == 1.0
    assert all(math.isnan(consensus.answers[key]["Edema"]) for key in (901, 902))
    assert consensus.by_majority == {}
    for key, given in labels.items():
        if len({one.answers["Edema"] for one in given if one.answers}) == 1:
            assert consensus.answers[key]["Edema"] == pytest.approx(
                agree(given, ["Edema"])["Edema"], nan_ok=True
            )


def test_stars_win_over_the_model() -> None:
    more = {900: [label("c", 0, ground_truth=True), label("a", 1), label("b", 1)]}
    assert agree_all(annotated(more=more), ["Edema"], "dawid_skene").answers[900]["Edema"] == 0.0


def test_pairs_are_not_enough_and_the_reason_is_told() -> None:
    pairs = {i: [label("a", i % 2), label("b", i % 3 == 0)] for i in range(200)}
    consensus = agree_all(pairs, ["Edema"], "dawid_skene")
    assert f"0 of the {ENOUGH_REPEATS}" in consensus.by_majority["Edema"]
    assert all(
        consensus.answers[key] == pytest.approx(agree(given, ["Edema"]), nan_ok=True)
        for key, given in pairs.items()
    )


def test_the_order_of_arrival_is_irrelevant_to_the_model() -> None:
    more = {900: [label("b", 1), label("c", 0)]}
    labels = annotated(more=more)
    shuffled = Random(1).sample(list(labels.items()), len(labels))
    assert (
        agree_all(dict(shuffled), ["Edema"], "dawid_skene").answers
        == agree_all(labels, ["Edema"], "dawid_skene").answers
    )
