"""Selection: modAL's measures for one finding, and the laws of a batch for any pool."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modAL.uncertainty import entropy_sampling, margin_sampling, uncertainty_sampling
from numpy.typing import NDArray
from strategy_pools import gaussian_seen

from loop.errors import BadInput
from loop.settings import STRATEGIES
from loop.strategies import Pick, select_batch, utilities
from loop.strategies.measures import how_unsure

Array = NDArray[np.float64]
ASKING = ("uncertainty", "margin", "entropy")


class Answers:
    """A classifier whose answers are the pool itself, as modAL's own functions want it."""

    def predict_proba(self, x: Array) -> Array:
        return x


def ask(strategy: str, size: int, proba: Array, *, seed: int = 0, **others: Any) -> list[Pick]:
    """A batch of the active part alone, one image a patient, unless told otherwise."""
    m, n_findings = proba.shape
    items = [f"item {i:04d}" for i in range(m)]
    given: dict[str, Any] = {
        "random_share": 0.0,
        "random_next": (),
        "active_items": items,
        "active_patients": items,
        "findings": [f"f{k}" for k in range(n_findings)],
        "rng": np.random.default_rng(seed),
    } | others
    return select_batch(strategy, size, active_proba=proba, **given)


@pytest.mark.parametrize(
    ("strategy", "query"),
    [("uncertainty", uncertainty_sampling), ("margin", margin_sampling), ("entropy", entropy_sampling)],
)
def test_for_one_finding_the_top_is_what_modal_queries(strategy: str, query: Any) -> None:
    p = np.random.default_rng(0).random(300)
    picks = ask(strategy, 20, p[:, None], random_floor=0.0)
    rows, values = query(Answers(), np.column_stack([1 - p, p]), n_instances=20)
    assert {pick.item for pick in picks} == {f"item {i:04d}" for i in rows}
    sign = -1 if strategy == "margin" else 1
    np.testing.assert_allclose(sorted(pick.utility for pick in picks), sorted(sign * values))


@pytest.mark.parametrize("strategy", ASKING)
def test_a_higher_utility_is_nearer_to_one_half(strategy: str) -> None:
    asked = utilities(strategy, np.array([0.0, 0.1, 0.3, 0.5]))
    assert (np.diff(asked) > 0).all()
    np.testing.assert_allclose(asked, utilities(strategy, np.array([1.0, 0.9, 0.7, 0.5])))


@pytest.mark.parametrize("strategy", ASKING)
def test_several_findings_are_averaged_and_one_without_a_head_is_ignored(strategy: str) -> None:
    proba = np.random.default_rng(1).random((100, 3))
    proba[:, 1] = np.nan
    expected = (utilities(strategy, proba[:, 0]) + utilities(strategy, proba[:, 2])) / 2
    picks = ask(strategy, 10, proba, random_floor=0.0)
    assert {int(p.item[5:]) for p in picks} == set(np.argsort(-expected)[:10].tolist())
    for pick in picks:
        assert pick.utility == pytest.approx(expected[int(pick.item[5:])])


def test_an_item_without_a_score_comes_last() -> None:
    proba = np.random.default_rng(2).random((10, 2))
    proba[3], proba[4, 0] = np.nan, np.nan
    picks = ask("margin", 9, proba, random_floor=0.0)
    assert {p.item for p in picks} == {f"item {i:04d}" for i in range(10) if i != 3}


def test_the_reason_names_the_findings_that_speak_loudest() -> None:
    proba = np.array([[0.02, 0.48, 0.9], [0.01, 0.02, 0.03]])
    (pick,) = ask("uncertainty", 1, proba, findings=["Mass", "Effusion", "Edema"])
    assert pick.reason == "most uncertain: Effusion .48, Edema .90, Mass .02"


@pytest.mark.parametrize("proba", [np.full((50, 2), np.nan), np.empty((50, 0))])
def test_without_any_head_the_active_part_is_drawn_at_random_and_says_so(proba: Array) -> None:
    picks = ask("entropy", 10, proba)
    assert {(p.stream, p.strategy, p.inclusion_probability) for p in picks} == {("active", "random", 0.2)}
    assert all("no finding has a head" in p.reason and np.isnan(p.utility) for p in picks)


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"'guess'.*uncertainty"):
        ask("guess", 5, np.full((10, 1), 0.5))


def test_a_fifth_of_the_active_items_is_drawn_at_random() -> None:
    picks = ask("uncertainty", 50, np.random.default_rng(3).random((400, 1)))
    assert Counter(p.strategy for p in picks) == {"uncertainty": 40, "random": 10}
    assert {p.inclusion_probability for p in picks if p.strategy == "random"} == {10 / 360}
    assert {p.inclusion_probability for p in picks if p.strategy == "uncertainty"} == {1.0}
    assert all(np.isfinite(p.utility) for p in picks)


def test_half_of_a_batch_is_the_next_of_the_random_stream_in_its_order() -> None:
    stream = [f"random {i}" for i in range(90)]
    picks = ask("margin", 20, np.full((60, 1), 0.3), random_share=0.5, random_next=stream)
    drawn = [p for p in picks if p.stream == "random"]
    assert {p.item for p in drawn} == set(stream[:10])
    assert {(p.strategy, p.inclusion_probability) for p in drawn} == {("random", 10 / 90)}
    assert sum(p.stream == "active" for p in picks) == 10


def test_an_empty_random_stream_is_filled_by_active_items_that_say_so() -> None:
    picks = ask("uncertainty", 20, np.full((60, 1), 0.3), random_share=0.5, random_next=["r0", "r1"])
    assert Counter(p.stream for p in picks) == {"random": 2, "active": 18}


def test_an_exhausted_active_part_is_filled_by_the_random_stream() -> None:
    stream = [f"random {i}" for i in range(90)]
    picks = ask("uncertainty", 20, np.full((3, 1), 0.3), random_share=0.5, random_next=stream)
    assert Counter(p.stream for p in picks) == {"random": 17, "active": 3}
    assert {p.item for p in picks if p.stream == "random"} == set(stream[:17])


def test_a_batch_larger_than_everything_asks_everything() -> None:
    stream = [f"random {i}" for i in range(4)]
    picks = ask("entropy", 100, np.full((6, 1), 0.3), random_share=0.5, random_next=stream)
    assert {p.item for p in picks} == {*stream, *(f"item {i:04d}" for i in range(6))}
    assert all(p.inclusion_probability == 1.0 for p in picks)


def test_the_place_in_the_queue_tells_nothing_of_the_stream() -> None:
    """Over 400 batches of 5 + 5 each place is random half of the time; 5 standard deviations allowed."""
    stream = [f"random {i}" for i in range(5)]
    counts = np.zeros(10)
    for seed in range(400):
        picks = ask("margin", 10, np.full((20, 1), 0.3), random_share=0.5, random_next=stream, seed=seed)
        counts += [p.stream == "random" for p in picks]
    assert (np.abs(counts - 200) < 5 * np.sqrt(400 * 0.25)).all()


def test_inclusion_probabilities_of_the_floor_are_the_frequencies_of_being_chosen() -> None:
    """4,000 batches; patients with one to four images; 5 binomial standard deviations for each of 30 items."""
    rng = np.random.default_rng(4)
    patients = [f"patient {i}" for i in (0, 1, 1, 2, 2, 2, 3, 3, 3, 3, *range(4, 24))]
    proba = rng.random((30, 1))
    chosen: Counter[str] = Counter()
    told: dict[str, float] = {}
    n_batches = 4_000
    for seed in range(n_batches):
        for pick in ask("uncertainty", 10, proba, active_patients=patients, seed=seed, random_floor=0.5):
            if pick.strategy == "random":
                chosen[pick.item] += 1
                assert told.setdefault(pick.item, pick.inclusion_probability) == pick.inclusion_probability
    assert sum(told.values()) == pytest.approx(5.0)  # five draws a batch
    assert len(set(told.values())) > 1
    for item, p in told.items():
        assert abs(chosen[item] - n_batches * p) < 5 * np.sqrt(n_batches * p * (1 - p))


def test_the_strategy_called_random_draws_the_whole_active_part_uniformly() -> None:
    """2,000 batches of 5 from 20; 5 binomial standard deviations."""
    chosen: Counter[str] = Counter()
    for seed in range(2_000):
        picks = ask("random", 5, np.full((20, 1), 0.3), seed=seed)
        assert {p.inclusion_probability for p in picks} == {0.25}
        chosen.update(p.item for p in picks)
    assert len(chosen) == 20
    assert max(abs(count - 500) for count in chosen.values()) < 5 * np.sqrt(2_000 * 0.25 * 0.75)


pools = st.builds(
    lambda patients, n_stream, n_findings, fitted, seed: (patients, n_stream, n_findings, fitted, seed),
    st.lists(st.integers(0, 12), max_size=40),
    st.integers(0, 25),
    st.integers(1, 3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(0, 2**32 - 1),
)


@settings(deadline=None, max_examples=300)
@given(
    pool=pools,
    strategy=st.sampled_from(STRATEGIES),
    size=st.integers(0, 60),
    share=st.floats(0, 1),
    floor=st.floats(0, 1),
)
def test_laws_of_a_batch(pool: Any, strategy: str, size: int, share: float, floor: float) -> None:
    """Never twice, never what was not offered, as many as there are, one image a patient, no order, no chance."""
    who, n_stream, n_findings, fitted, seed = pool
    patients = [f"patient {p}" for p in who]
    items = [f"item {i}" for i in range(len(who))]
    stream = [f"random {i}" for i in range(n_stream)]
    proba = np.random.default_rng(seed).integers(0, 5, (len(who), n_findings)) / 4  # many ties
    proba[:, ~np.array(fitted[:n_findings])] = np.nan
    findings = [f"f{k}" for k in range(n_findings)]
    seen = gaussian_seen(items, n_findings, seed=seed)

    def batch(order: list[int]) -> list[Pick]:
        return select_batch(
            strategy,
            size,
            share,
            stream,
            [items[i] for i in order],
            proba[order],
            [patients[i] for i in order],
            findings,
            np.random.default_rng(seed),
            floor,
            seen,
        )

    picks = batch(list(range(len(who))))
    chosen = [p.item for p in picks]
    active = [p for p in picks if p.stream == "active"]
    random = [p.item for p in picks if p.stream == "random"]
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == min(size, n_stream + len(set(patients)))
    assert {p.item for p in active} <= set(items)
    assert set(random) == set(stream[: len(random)])
    asked = [patients[items.index(p.item)] for p in active]
    assert len(set(asked)) == len(asked)
    assert all(0 < p.inclusion_probability <= 1 and p.reason for p in picks)
    assert len(random) >= min(round(size * share), n_stream)
    if len(random) > round(size * share):
        assert len(active) == len(set(patients))  # the stream fills up only what the active part cannot
    shuffled = np.random.default_rng(seed + 1).permutation(len(who)).tolist()
    assert repr(batch(shuffled)) == repr(picks)  # NaN equals itself in print


def test_neither_modal_nor_scikit_learn_is_imported_before_it_is_needed() -> None:
    code = "import sys, loop.strategies; sys.exit(bool({'modAL', 'sklearn', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_how_unsure_a_probability_is_is_what_modal_says_bit_for_bit() -> None:
    proba = np.append(np.random.default_rng(7).random(1000), [0.0, 0.5, 1.0, np.nan])
    np.testing.assert_array_equal(how_unsure(proba), utilities("uncertainty", proba))
