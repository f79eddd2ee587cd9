"""Images that two people read: who is drawn, how they are queued, what their agreement tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from annotate.records import Suggestion
from loop.controller import ask_first_batch, step
from loop.project import Loop
from loop.readings import DOUBLE_READS, draw_double_reads
from loop.settings import Settings
from loop.show_agreement import show_agreement
from loop.show_status import show_status
from loop.state import State
from loop.status import Status, read_status


@pytest.fixture
def world(tmp_path: Path, new_url: Callable[[], str]) -> World:
    return World(tmp_path, new_url=new_url)


def twice(world: World, share: float = 0.2, **sections: str) -> Settings:
    state = f'state = "{world.folder / "state.db"}"'
    project = f'name = "world"\nfindings = {list(FINDINGS)}\n{state}'
    no_curves = "from_labels = 5000"  # they take most of the time, and nothing here looks at them
    return world.settings(project=project, labels=f"double_reads = {share}", forecast=no_curves, **sections)


def state_of(world: World) -> State:
    return world.state(str(world.folder / "state.db"))


def queue(bench: Bench) -> tuple[Suggestion, ...]:
    return bench.served[-1][1]


def label_all(bench: Bench, world: World, who: str = "ann") -> None:
    for suggestion in queue(bench):
        bench.answer(suggestion.task_id, world.answers[suggestion.task_id], who=who)


def test_a_share_of_each_batch_is_drawn_whatever_is_known_of_it(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        loop = world.loop(state, bench, twice(world, 0.5))
        report = ask_first_batch(loop)
        assert report.batch is not None
        assert report.batch.double == sum(s.readers == 2 for s in queue(bench)) == 25
        (round_,) = state.rounds()
        assert set(draw_double_reads(round_, 0.5)) == set(state.facts(DOUBLE_READS)[0]["items"])
        ranks = [s.rank for s in queue(bench) if s.readers == 2]
        assert 0.5 * 25.5 < float(np.mean(ranks)) < 1.5 * 25.5  # spread over the queue, not at one end
        # the count is right on average: .21 of 50 images is 10.5, and a mean of 400 fair roundings is within .1
        counts = [len(draw_double_reads(replace(round_, seed=(seed, 1)), 0.21)) for seed in range(400)]
        assert set(counts) == {10, 11}
        assert float(np.mean(counts)) == pytest.approx(10.5, abs=4 * 0.5 / 20)


def test_without_the_setting_nobody_is_asked_twice(world: World) -> None:
    bench = Bench()
    with world.state() as state:
        ask_first_batch(world.loop(state, bench))
        assert {s.readers for s in queue(bench)} == {1}
        assert state.facts(DOUBLE_READS) == []


def test_a_share_that_is_changed_later_leaves_the_batches_before(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        ask_first_batch(world.loop(state, bench, twice(world, 0.2)))
        noted = state.facts(DOUBLE_READS)
        ask_first_batch(world.loop(state, bench, twice(world, 0.9)))
        assert state.facts(DOUBLE_READS) == noted


def second_batch(world: World, state: State, bench: Bench, settings: Settings) -> Loop:
    """Two batches asked; the first is labelled by one person."""
    loop = world.loop(state, bench, settings)
    ask_first_batch(loop)
    label_all(bench, world)
    step(loop)
    return loop


def test_images_for_two_readers_carry_no_suggestion(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        second_batch(world, state, bench, twice(world, 0.5))
        assert any(s.probabilities is not None for s in queue(bench))
        assert all(s.probabilities is None for s in queue(bench) if s.readers == 2)


def test_a_second_reading_that_is_open_goes_before_the_next_batch(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        loop = world.loop(state, bench, twice(world, 0.2))
        ask_first_batch(loop)
        doubles = [s.task_id for s in queue(bench) if s.readers == 2]
        label_all(bench, world)
        for task_id in doubles[:4]:
            bench.answer(task_id, world.answers[task_id], who="second")
        report = step(loop)
        assert report.batch is not None
        assert [s.task_id for s in queue(bench)[:6]] == doubles[4:]
        assert len(queue(bench)) == report.batch.size + 6
        assert [s.rank for s in queue(bench)] == list(range(1, len(queue(bench)) + 1))


def test_double_reads_that_are_switched_off_are_waited_for_no_longer(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        loop = world.loop(state, bench, twice(world, 0.2))
        ask_first_batch(loop)
        doubles = [s.task_id for s in queue(bench) if s.readers == 2]
        label_all(bench, world)
        bench.answer(doubles[0], world.answers[doubles[0]], who="second")
        step(replace(loop, settings=twice(world, 0.0)))
        assert not set(doubles) & {s.task_id for s in queue(bench)}


def test_where_one_person_labels_no_second_reading_is_waited_for(world: World) -> None:
    bench = Bench()
    with state_of(world) as state:
        loop = second_batch(world, state, bench, twice(world, 0.2))
        assert len(queue(bench)) == loop.settings.batch.size


def test_a_second_reading_is_no_second_look_of_the_certificate(world: World) -> None:
    """The same answers given once or twice make the same bets on the same images."""
    told = []
    for both in (False, True):
        bench = Bench()
        with world.state() as state:
            loop = world.loop(state, bench, world.settings(labels="double_reads = 0.5"))
            ask_first_batch(loop)
            label_all(bench, world)
            if both:
                for suggestion in queue(bench):
                    if suggestion.readers == 2:
                        bench.answer(suggestion.task_id, world.answers[suggestion.task_id], who="second")
            report = step(loop)
            told.append({name: found.evidence for name, found in report.findings.items()})
    assert told[0] == told[1]


def noisy(world: World, task_id: int, rng: np.random.Generator) -> dict[str, float]:
    """An answer that is wrong once in seven."""
    return {f: y if rng.random() > 1 / 7 else 1 - y for f, y in world.answers[task_id].items()}


def labelled_with_errors(world: World, share: float) -> Status:
    """A batch of 150, labelled by two people who are wrong once in seven; the second reads what is drawn."""
    bench, rng = Bench(), np.random.default_rng(0)
    settings = twice(world, share, batch="size = 150", stop="target = 0.97")
    with state_of(world) as state:
        loop = world.loop(state, bench, settings)
        ask_first_batch(loop)
        for suggestion in queue(bench):
            for who in ("1", "2")[: suggestion.readers]:
                bench.answer(suggestion.task_id, noisy(world, suggestion.task_id, rng), who=who)
        step(loop)
    return read_status(settings)


def test_status_tells_agreement_and_warns_of_a_target_above_what_labels_allow(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    status = labelled_with_errors(world, 0.4)
    told = status.agreement["Effusion"]
    assert told.images == 60
    assert 4 <= told.disagreed <= 28  # 60 images, 2 (1/7)(6/7) = .245 each: 14.7, standard deviation 3.3
    assert told.ties == told.disagreed
    assert [(k.first, k.second, k.images) for k in told.kappas] == [("1", "2", 60)]
    assert [(a.annotator, a.images, a.agreed) for a in told.annotators] == [
        (who, 60, 60 - told.disagreed) for who in ("1", "2")
    ]
    assert told.ceiling is not None
    assert told.ceiling.random_only
    # prevalence .4, both rates 6/7: PPV .8, NPV .9, so the truth itself is measured as .85 against one reading
    assert told.ceiling.auc.low < 0.85 < told.ceiling.auc.high
    assert told.ceiling.labels.mean > told.ceiling.auc.mean
    assert told.ceiling.above
    assert [line.partition(":")[0] for line in status.warnings] == list(FINDINGS)
    assert "the target .970 lies above" in status.warnings[0]
    assert status.to_json()["agreement"]["Effusion"]["ceiling"]["target"] == 0.97
    show_status(status)
    show_agreement(status)
    shown = capsys.readouterr().out
    assert "Agreement, on images that two or more people answered" in shown
    assert "As the majority of the others, by annotator: 1: " in shown
    assert "Best AUC that these labels allow" in shown


def test_where_two_people_read_everything_the_labels_allow_more(world: World) -> None:
    """Of labels that two such people agree on 36 of 37 are right: .97 is not out of their reach."""
    status = labelled_with_errors(world, 1.0)
    for told in status.agreement.values():
        assert told.ceiling is not None
        assert not told.ceiling.above
    assert status.warnings == ()


def test_one_annotator_has_no_agreement(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    settings = twice(world)
    with state_of(world) as state:
        second_batch(world, state, bench, settings)
    status = read_status(settings)
    assert status.agreement == {}
    show_agreement(status)
    assert capsys.readouterr().out == ""
