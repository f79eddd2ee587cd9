"""Overrun or outsider: what the answers to a batch say about a label that nobody asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from loop.streams import Answer, find_batch, ran_dry

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def answer(
    at: float,
    annotator: str = "7",
    *,
    look: float | None = None,
    pulled: float = 100,
    withdrawn: float | None = None,
) -> Answer:
    """An answer that was made ``at`` seconds after the start."""
    return Answer(annotator, after(at), look, after(pulled), None if withdrawn is None else after(withdrawn))


def test_a_label_after_every_answer_of_the_batch_is_an_overrun() -> None:
    assert ran_dry([[answer(1)], [answer(2)]], answer(3))


def test_a_label_while_an_image_of_the_batch_was_open_is_picked_by_hand() -> None:
    assert not ran_dry([[answer(1)], []], answer(3))
    assert not ran_dry([[answer(1)], [answer(4)]], answer(3))


def test_an_image_that_another_annotator_had_open_was_not_left() -> None:
    assert ran_dry([[answer(1)], [answer(9, "8", look=7)]], answer(3))
    assert not ran_dry([[answer(1)], [answer(9, "8", look=5)]], answer(3))
    assert not ran_dry([[answer(1)], [answer(9, "8")]], answer(3))


def test_an_annotator_who_had_it_open_themselves_could_have_answered_it() -> None:
    assert not ran_dry([[answer(9, look=7)]], answer(3))


def test_a_coffee_break_holds_no_image_for_hours() -> None:
    assert ran_dry([[answer(600, "8", look=599)]], answer(3))
    assert not ran_dry([[answer(7200, "8", look=7199)]], answer(3))


def test_an_answer_withdrawn_before_the_label_came_left_the_image_open_again() -> None:
    assert not ran_dry([[answer(1, withdrawn=50)]], answer(60))
    assert ran_dry([[answer(1, withdrawn=100)]], answer(60)), (
        "withdrawn by the same pull: nobody knows what was first"
    )
    assert ran_dry([[answer(1, withdrawn=50), answer(55)]], answer(60))


def test_a_batch_without_any_image_left_has_run_dry() -> None:
    assert ran_dry([], answer(3))


ANSWERS = st.builds(
    answer,
    st.floats(0, 1000),
    st.sampled_from("78"),
    look=st.none() | st.floats(0, 2000),
    pulled=st.floats(1000, 2000),
    withdrawn=st.none() | st.floats(2000, 3000),
)


@given(
    batch=st.lists(st.lists(ANSWERS, max_size=3), max_size=4),
    label=ANSWERS,
    more=ANSWERS,
    k=st.integers(0, 3),
)
def test_an_overrun_stays_one_whatever_answers_come_later(
    batch: list[list[Answer]], label: Answer, more: Answer, k: int
) -> None:
    """So a booking changes once at most, from outsider to overrun."""
    before = ran_dry(batch, label)
    grown = [[*answers, more] if i == k else answers for i, answers in enumerate(batch)]
    assert ran_dry(grown, label) >= before
    assert ran_dry(batch[1:], label) >= before, "an image that is gone leaves one less to wait for"


def test_the_batch_of_a_label_is_the_last_one_pushed_before_it() -> None:
    served = [(1, after(0)), (2, after(100))]
    assert find_batch(served, answer(-1), None) is None
    assert find_batch(served, answer(50), None) == 1
    assert find_batch(served, answer(100), None) == 2


def test_a_batch_that_was_gone_back_to_is_the_one_that_annotators_had_again() -> None:
    served = [(1, after(0)), (2, after(100)), (1, after(200))]
    assert find_batch(served, answer(150), None) == 2
    assert find_batch(served, answer(250), None) == 1


def test_a_server_whose_clock_is_slow_cannot_move_a_label_behind_a_pull() -> None:
    """Its clock says one minute ago; but a pull after the push of round 2 did not bring it."""
    served = [(1, after(0)), (2, after(100))]
    assert find_batch(served, answer(50), after(110)) == 2
    assert find_batch(served, answer(50), after(90)) == 1
