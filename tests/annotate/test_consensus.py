"""Several annotators, one answer."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_labels import label

from annotate.consensus import agree
from annotate.records import Label


def edema(*labels: Label) -> float:
    return agree(labels, ["Edema"])["Edema"]


def test_the_majority_wins() -> None:
    assert edema(label("a", 1), label("b", 1), label("c", 0)) == 1.0
    assert edema(label("a", 0), label("b", 1), label("c", 0)) == 0.0


def test_a_tie_is_not_known() -> None:
    assert math.isnan(edema(label("a", 1), label("b", 0)))


def test_nobody_knows_is_not_known() -> None:
    assert math.isnan(edema())
    assert math.isnan(edema(label("a", math.nan), label("b", None)))


def test_cannot_tell_is_no_vote() -> None:
    assert edema(label("a", 1), label("b", math.nan), label("c", math.nan)) == 1.0


def test_a_corrected_label_replaces_the_old_one() -> None:
    assert edema(label("a", 1, minute=1), label("a", 0, minute=2)) == 0.0
    assert edema(label("a", 0, minute=2), label("a", 1, minute=1)) == 0.0


def test_skipped_and_unreadable_labels_count_for_nothing() -> None:
    assert edema(label("a", 1), label("b", 0, skipped=True), label("c", 0, problem="?")) == 1.0


def test_who_skips_after_labelling_takes_the_label_back() -> None:
    assert math.isnan(edema(label("a", 1, minute=1), label("a", None, minute=2, skipped=True)))


def test_a_star_decides_alone() -> None:
    assert edema(label("a", 0, ground_truth=True), label("b", 1), label("c", 1)) == 0.0
    assert edema(label("a", 0, skipped=True, ground_truth=True), label("b", 1)) == 1.0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, math.nan])), max_size=6),
    st.randoms(),
)
def test_the_order_of_arrival_is_irrelevant(given_: list[tuple[str, float]], random: Random) -> None:
    labels = [label(who, what, minute=i) for i, (who, what) in enumerate(given_)]
    shuffled = random.sample(labels, len(labels))
    assert edema(*labels) == pytest.approx(edema(*shuffled), nan_ok=True)
