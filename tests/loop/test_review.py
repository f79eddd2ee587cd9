"""Second looks: what is listed, what is pushed, and what they must not touch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from annotate.errors import StudioUnavailable
from annotate.records import Receipt, Suggestion
from loop.controller import ask_first_batch, step
from loop.errors import BadInput
from loop.opening import read_book
from loop.project import Loop
from loop.readings import REVIEW, REVIEW_PUSHED, asked_from_random, served_now
from loop.review import find_doubts, push_review
from loop.show_review import show_review
from loop.state import State


@pytest.fixture
def world(tmp_path: Path, new_url: Callable[[], str]) -> World:
    return World(tmp_path, separation=3.0, new_url=new_url)


def queue(bench: Bench) -> tuple[Suggestion, ...]:
    return bench.served[-1][1]


def label_all(bench: Bench, world: World, who: str = "ann") -> None:
    for suggestion in queue(bench):
        bench.answer(suggestion.task_id, world.answers[suggestion.task_id], who=who)


def begun(world: World, state: State, bench: Bench) -> Loop:
    """Three batches labelled truthfully, a fourth asked."""
    no_curves = "from_labels = 5000"  # they take most of the time, and no review looks at them
    settings = world.settings(stop='target = 0.99\nevidence = "certified"', forecast=no_curves)
    loop = world.loop(state, bench, settings)
    ask_first_batch(loop)
    for _ in range(3):
        label_all(bench, world)
        step(loop)
    return loop


def doubts_of(loop: Loop) -> list[tuple[str, str]]:
    found = find_doubts(loop.settings, loop.state, read_book(loop), loop.features, loop.projection)
    return [(doubt.item, doubt.finding) for doubt in found]


def labelled(loop: Loop, stream: str) -> list[str]:
    """Labelled images of a stream."""
    answered = set(read_book(loop).items)
    return [p.item for r in loop.state.rounds() for p in r.picks if p.stream == stream and p.item in answered]


def pull(loop: Loop) -> None:
    loop.state.save_pull(loop.desk.pull(None), loop.clock())


def flip(bench: Bench, world: World, item: str, who: str = "ann") -> None:
    """Answer an image wrongly."""
    task_id = world.task_of[item]
    bench.answer(task_id, {f: 1 - y for f, y in world.answers[task_id].items()}, who=who)


def surest(world: World, loop: Loop, items: Sequence[str]) -> str:
    """The image whose true labels are plainest to see."""
    x = loop.features.read(list(items))[:, :2]  # (n, 2)
    y = np.array([[world.answers[world.task_of[i]][f] for f in FINDINGS] for i in items])
    return items[int((np.where(y == 1, x, 3 - x)).min(axis=1).argmax())]


def test_a_label_that_the_others_speak_against_comes_first(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        wrong = surest(world, loop, labelled(loop, "active"))
        flip(bench, world, wrong)
        pull(loop)
        first = find_doubts(loop.settings, state, read_book(loop), loop.features, loop.projection)[0]
        assert first.item == wrong
        assert first.doubt > 0.8
        assert first.probability is not None
        assert "the other labels speak for" in first.reason


def test_a_tie_comes_before_everything_else(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        disputed = labelled(loop, "random")[0]
        flip(bench, world, disputed, who="second")
        flip(bench, world, surest(world, loop, labelled(loop, "active")))
        pull(loop)
        assert set(doubts_of(loop)[:2]) == {(disputed, finding) for finding in FINDINGS}


def test_a_random_image_is_never_listed_because_the_probe_doubts_it(world: World) -> None:
    """Correcting what the probe doubts would move its AUC on the random stream its own way."""
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        flip(bench, world, surest(world, loop, labelled(loop, "random")))
        pull(loop)
        assert not asked_from_random(state.rounds()) & {item for item, _ in doubts_of(loop)}


def test_a_push_puts_the_review_before_what_is_left_of_the_batch(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        batch = [s.task_id for s in queue(bench)]
        for task_id in batch[:10]:
            bench.answer(task_id, world.answers[task_id])
        disputed = labelled(loop, "random")[:3]
        for item in disputed:
            flip(bench, world, item, who="second")
        bench.answer(batch[0], world.answers[batch[0]], who="third")
        rounds = len(state.rounds())
        told = push_review(loop, 2)
        asked = [s.task_id for s in queue(bench)]
        assert told.pushed == 2
        assert {s.readers for s in queue(bench)[:2]} == {3}
        assert {world.task_of[i] for i in disputed} > set(asked[:2])
        assert all(s.probabilities is None for s in queue(bench)[:2])
        assert asked[2:] == batch
        assert len(state.rounds()) == rounds
        assert told.warnings == ()


def test_an_image_is_looked_at_again_once(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        for item in labelled(loop, "random")[:3]:
            flip(bench, world, item, who="second")
        first = push_review(loop, 2)
        second = push_review(loop, 1)
        assert second.reviewed == 2
        assert not {d.item for d in first.doubts} & {d.item for d in second.doubts}


def test_a_third_reading_settles_a_tie_and_enters_the_certificate_once(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        disputed = next(p.item for p in state.rounds()[1].picks if p.stream == "random")  # scored when asked
        before = {name: [len(a.y) for a in asked] for name, asked in read_book(loop).asked.items()}
        flip(bench, world, disputed, who="second")
        push_review(loop, 1)
        assert read_book(loop).revised["Effusion"] == 1  # what was read stays as it was read, and is told
        assert any(np.isnan(a.y).any() for a in read_book(loop, recount=True).asked["Effusion"])
        bench.answer(world.task_of[disputed], world.answers[world.task_of[disputed]], who="third")
        pull(loop)
        book = read_book(loop)
        assert book.revised["Effusion"] == 0
        assert not any(np.isnan(asked.y).any() for asked in book.asked["Effusion"])
        assert {name: [len(a.y) for a in asked] for name, asked in book.asked.items()} == before


def test_the_next_turn_goes_on_with_the_batch_and_carries_the_open_review(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        disputed = labelled(loop, "random")[0]
        flip(bench, world, disputed, who="second")
        bench.answer(queue(bench)[0].task_id, world.answers[queue(bench)[0].task_id], who="third")
        push_review(loop, 1)
        for suggestion in queue(bench)[1:]:
            bench.answer(suggestion.task_id, world.answers[suggestion.task_id])
        report = step(loop)
        assert report.action == "pushed"
        assert queue(bench)[0].task_id == world.task_of[disputed]
        assert len(queue(bench)) == loop.settings.batch.size + 1


def test_an_interrupted_push_is_pushed_to_its_end_and_no_second_review_is_made(world: World) -> None:
    class Broken(Bench):
        breaks = False

        def push(self, version: str, suggestions: tuple[Suggestion, ...]) -> Receipt:
            if self.breaks:
                raise StudioUnavailable("gone")
            return super().push(version, suggestions)

    bench = Broken()
    with world.state() as state:
        loop = begun(world, state, bench)
        for item in labelled(loop, "random")[:3]:
            flip(bench, world, item, who="second")
        bench.breaks = True
        with pytest.raises(StudioUnavailable):
            push_review(loop, 2)
        bench.breaks = False
        told = push_review(loop, 3)
        assert told.pushed == 2
        assert len(state.facts(REVIEW)) == len(state.facts(REVIEW_PUSHED)) == 1
        assert {d.item for d in told.doubts} == set(state.facts(REVIEW)[0]["items"])


def test_where_everybody_has_read_an_image_the_remedy_is_told(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        flip(bench, world, surest(world, loop, labelled(loop, "active")))
        told = push_review(loop, 1)
        assert "nobody twice" in told.warnings[-1]
        assert told.doubts[0].url.endswith(f"/data?task={told.doubts[0].task_id}")


def test_nothing_in_doubt_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    with world.state() as state:
        loop = world.loop(state, bench)
        with pytest.raises(BadInput, match="loop start"):
            push_review(loop, 5)
        ask_first_batch(loop)
        with pytest.raises(BadInput, match="No label is in doubt"):
            push_review(loop, 5)


def test_the_list_is_shown(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        flip(bench, world, labelled(loop, "random")[0], who="second")
        told = push_review(loop, 1)
        show_review(told, top=1)
        shown = capsys.readouterr().out
        assert "1 say yes, 1 no" in shown
        assert "2 labels of 1 image in doubt" in shown
        assert "Asked one more annotator to look at 1 image" in shown
        assert told.to_json()["doubts"][0]["label"] is None


def test_a_waiting_turn_leaves_a_review_in_front_until_the_next_batch(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        loop = begun(world, state, bench)
        batch = served_now(state)
        flip(bench, world, labelled(loop, "random")[0], who="second")
        told = push_review(loop, 1)
        assert served_now(state) == (told.version, loop.settings.batch.size + 1)
        assert step(loop).action == "waiting"
        assert served_now(state) == (told.version, loop.settings.batch.size + 1)
        for suggestion in queue(bench)[1:]:
            bench.answer(suggestion.task_id, world.answers[suggestion.task_id])
        assert step(loop).action == "pushed"
        assert served_now(state) not in (batch, (told.version, loop.settings.batch.size + 1))
