"""The book: streams and fates of images, and evidence that does not change behind a look."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_world import FINDINGS, Bench, World

from annotate.records import Label
from loop.book import Book, keep_book
from loop.controller import ask_first_batch, step
from loop.errors import BadInput
from loop.items import Item
from loop.rehearsal import rehearse
from loop.show_status import random_text
from loop.state import Round
from loop.status import read_status
from loop.strategies import Pick
from loop.telling import tell_taken

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ("Effusion",)


@dataclass
class Desk:
    """Random images of a project, asked in rounds; what annotators say, and what was read at each look."""

    n: int = 12
    rounds: list[Round] = field(default_factory=list)
    said: dict[int, dict[int, Label]] = field(default_factory=dict)
    readings: dict[tuple[int, str], tuple[float, ...]] = field(default_factory=dict)
    clock: int = 0

    def __post_init__(self) -> None:
        self.items = [Item(f"{i:02d}", Path("x.png"), f"p{i}", "random", i, {}) for i in range(self.n)]

    def ask(self, *images: int) -> None:
        number = len(self.rounds) + 1
        picks = tuple(Pick(f"{i:02d}", "random", "random", "next", 1.0, float("nan")) for i in images)
        scores = np.array([[number + i / 100] for i in images]).reshape(-1, 1)
        self.rounds.append(
            Round(
                number, f"r{number}", AT, (0, number), "random", 0, picks, NAMES, scores, {"Effusion": True}
            )
        )

    def say(self, image: int, y: float | None, *, skipped: bool = False) -> None:
        """An answer; None withdraws it."""
        self.clock += 1
        at = AT + timedelta(seconds=self.clock)
        if y is None:
            self.said.pop(image, None)
        else:
            answers = {} if skipped else {"Effusion": y}
            self.said[image] = {
                image: Label(image, image, "7", at, at, 5.0, skipped, False, answers, None, "{}")
            }

    def look(self, *, recount: bool = False, unasked: dict[int, str] | None = None) -> Book:
        """Book what is known, and remember what was read, as a judged turn does."""
        labels = {image: tuple(given.values()) for image, given in self.said.items()}
        tasks = {item.item: i for i, item in enumerate(self.items)}
        book = keep_book(
            self.items, tasks, labels, self.rounds, NAMES, unasked or {}, self.readings, recount=recount
        )
        self.readings = {key: tuple(y) for key, y in book.readings.items()}
        return book

    def evidence(self, book: Book) -> list[tuple[int, list[float], list[float]]]:
        """Round, labels and scores as the certificate reads them."""
        return [(a.round, a.y.tolist(), a.scores.round(2).tolist()) for a in book.asked["Effusion"]]


def answered(desk: Desk, *images: int) -> Desk:
    for image in images:
        desk.say(image, float(image % 2))
    return desk


def test_answers_that_cannot_be_read_are_counted_apart_from_those_that_cannot_tell() -> None:
    desk = Desk()
    desk.ask(0, 1, 2, 3)
    answered(desk, 0)
    for image in (1, 2):
        desk.say(image, float("nan"))
    desk.said[2] = {2: replace(desk.said[2][2], problem="no control 'gone'")}
    desk.say(3, 0.0, skipped=True)
    book = desk.look()
    count = book.count
    assert (count.total, count.unknown, count.unread, count.skipped, count.unreadable) == (1, 1, 1, 1, 1)
    assert (count.random_unread, book.random_unknown) == (1, {"Effusion": 1})
    assert "; not readable: 1 (25 %)." in random_text(count, book.random_unknown)


# -- evidence that was looked at ------------------------------------------------------------------------------


def test_a_label_corrected_after_a_look_leaves_the_evidence_and_is_told() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    before = desk.evidence(answered(desk, 0, 1, 2).look())
    desk.ask(3, 4)
    desk.say(1, 0.0)
    book = desk.look()
    assert desk.evidence(book) == before == [(1, [0, 1, 0], [1, 1.01, 1.02])]
    assert book.revised == {"Effusion": 1}
    assert book.y[list(book.items).index("01"), 0] == 0.0, "the probe trains on the label as it is now"


def test_a_correction_is_counted_when_it_is_asked_for_and_once() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    answered(desk, 0, 1, 2).look()
    desk.ask(3, 4)
    desk.say(1, 0.0)
    desk.say(2, None)
    book = desk.look(recount=True)
    assert desk.evidence(book)[0][1][:2] == [0, 0]
    assert np.isnan(book.asked["Effusion"][0].y[2]), "a withdrawn label is not known; its place stays"
    assert book.revised == {"Effusion": 0}
    assert desk.look().revised == {"Effusion": 0}


def test_an_answer_after_the_round_is_over_does_not_enter_its_evidence() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    answered(desk, 0, 2).look()
    desk.ask(3, 4)
    assert desk.evidence(answered(desk, 1).look()) == [(1, [0], [1])]
    assert desk.evidence(desk.look(recount=True)) == [(1, [0], [1])], "a correction corrects, it adds nothing"


def test_the_present_round_grows_with_its_answers() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    assert desk.evidence(answered(desk, 0).look()) == [(1, [0], [1])]
    assert desk.evidence(answered(desk, 1, 2).look()) == [(1, [0, 1, 0], [1, 1.01, 1.02])]


def test_an_image_asked_again_before_it_was_read_belongs_to_the_later_round() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    answered(desk, 0).look()
    desk.ask(1, 3)
    assert desk.evidence(answered(desk, 1, 3).look()) == [(1, [0], [1]), (2, [1, 1], [2.01, 2.03])]


def test_an_image_that_was_read_and_withdrawn_is_not_read_again_when_it_is_asked_again() -> None:
    desk = Desk()
    desk.ask(0, 1, 2)
    answered(desk, 0, 1, 2).look()
    desk.say(1, None)
    desk.ask(1, 3)
    for recount in (False, True):
        told = desk.evidence(answered(desk, 1, 3).look(recount=recount))
        assert told[0] == (1, [0, 1, 0], [1, 1.01, 1.02])
        assert np.isnan(told[1][1][0])
        assert told[1][1][1] == 1


def test_rounds_of_a_state_that_remembers_no_reading_are_read_as_they_are_now() -> None:
    desk = Desk()
    desk.ask(0, 1)
    desk.ask(2, 3)
    book = answered(desk, 0, 1, 2, 3).look()
    assert desk.evidence(book) == [(1, [0, 1], [1, 1.01]), (2, [0, 1], [2.02, 2.03])]
    desk.ask(4)
    desk.say(0, 1.0)
    assert desk.evidence(desk.look()) == desk.evidence(book), "from then on they stay"


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 11), st.sampled_from([0.0, 1.0, float("nan"), None])),
        st.tuples(st.just("ask"), st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("look")),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(moves=MOVES)
def test_whatever_happens_to_labels_every_look_extends_the_one_before(
    moves: list[tuple[object, ...]],
) -> None:
    """What Ville's inequality needs: each look reads a prefix of one sequence, and no image twice."""
    desk = Desk()
    seen: list[tuple[int, str, float]] = []
    for verb, *what in moves:
        if verb == "say":
            desk.say(*what)  # type: ignore[arg-type]
        elif verb == "ask":
            desk.look()
            images = [i for i in what[0] if i not in desk.said]  # type: ignore[attr-defined]
            if images:
                desk.ask(*images)
        if verb != "say":
            book = desk.look()
            told = [
                (r.number, pick.item, y)
                for r in desk.rounds
                for pick, y in zip(r.picks, book.readings[r.number, "Effusion"], strict=False)
            ]
            assert str(told[: len(seen)]) == str(seen)
            known = [item for _, item, y in told if y == y]
            assert len(known) == len(set(known))
            seen = told


# -- fates ----------------------------------------------------------------------------------------------------


def test_random_images_that_were_skipped_or_not_known_are_counted_apart() -> None:
    desk = Desk()
    desk.ask(0, 1, 2, 3, 4)
    answered(desk, 0, 1)
    desk.say(2, 0.0, skipped=True)
    desk.say(3, float("nan"))
    book = desk.look()
    count = book.count
    assert (count.random_asked, count.random_answered, count.random_skipped) == (5, 4, 1)
    assert book.random_unknown == {"Effusion": 1}
    assert random_text(count, book.random_unknown) == (
        "Random stream: 5 images asked, 4 answered; skipped: 1 (20 %); cannot tell, or annotators disagree: "
        "Effusion 1 (20 %). What is left out here the certificate never sees."
    )


def test_random_images_picked_by_hand_before_their_turn_are_counted_and_above_a_share_warned_of() -> None:
    desk = Desk(n=60)
    desk.ask(*range(40))
    answered(desk, *range(38), 41, 42, 43, 44)
    others = {43: "overrun", 44: "declared"}
    by_hand = desk.look(unasked=others).count
    assert by_hand.random_taken == 2
    assert "; picked by hand before their turn: 2 more. What is left out here" in random_text(by_hand, {})
    assert tell_taken(by_hand) == []
    answered(desk, 45)
    assert (
        "Picked by hand before their turn: 3 images of the" in tell_taken(desk.look(unasked=others).count)[0]
    )
    desk.ask(41, 42, 43, 44, 45)
    assert desk.look().count.random_taken == 0, "asked after all"


def test_an_unasked_image_is_booked_to_the_stream_of_its_first_label() -> None:
    desk = Desk()
    desk.ask(0)
    answered(desk, 0, 5, 6, 7)
    book = desk.look(unasked={5: "overrun", 6: "outsider"})
    assert (book.count.random, book.count.unasked, book.count.overrun) == (1, 3, 1), (
        "7 is not told: an outsider"
    )
    assert book.is_random.tolist() == [True, False, False, False]


# -- in the loop ----------------------------------------------------------------------------------------------


def test_a_project_keeps_its_evidence_and_tells_corrections(tmp_path: Path) -> None:
    """The whole story: labels out of turn, a correction after the look, its recount, its trace in every verdict."""
    world, desk = World(tmp_path), Bench()
    url = str(tmp_path / "world" / "state.db")
    with world.state(url) as state:
        loop = world.loop(state, desk)
        ask_first_batch(loop)
        batch = [s.task_id for s in desk.served[0][1]]
        with pytest.raises(BadInput, match="--now --recount"):
            step(loop, recount=True)
        others = [i for i in range(world.n) if i not in batch][:2]
        desk.answer(others[0], world.answers[others[0]])  # picked by hand
        for task_id in batch:
            desk.answer(task_id, world.answers[task_id])
        desk.answer(others[1], world.answers[others[1]])  # the queue had run dry
        assert step(loop).labels.overrun == 1
        second = [s.task_id for s in desk.served[1][1]]
        desk.answer(second[0], {}, skipped=True)
        for task_id in second[1:]:
            desk.answer(task_id, world.answers[task_id])
        third = step(loop)
        held = state.readings()
        assert {number for number, _ in held} == {1, 2}
        random = [pick.item for pick in state.rounds()[1].picks if pick.stream == "random"]
        corrected = world.task_of[random[1]]
        desk.answer(corrected, {name: 1 - y for name, y in world.answers[corrected].items()})
        last = state.last_round()
        assert last is not None
        for task_id in [world.task_of[pick.item] for pick in last.picks]:
            desk.answer(task_id, world.answers[task_id])
        tried = rehearse(loop)
        told = step(loop, recount=True)
        assert any("--recount" in line and "Effusion 1, Pneumothorax 1" in line for line in tried.warnings)
        assert not any("--recount" in line for line in told.warnings)
        assert not third.amendments
        assert state.readings()[2, "Effusion"] != held[2, "Effusion"]
        assert all(any(name in line for line in state.amendments()) for name in FINDINGS)
        assert state.find_break() is None
    status = read_status(world.settings())
    assert (status.labels.unasked, status.labels.overrun) == (2, 1)
    assert status.labels.random_skipped == (second[0] in [world.task_of[i] for i in random])
    assert any("corrected on 1 label" in line for line in status.amendments)
