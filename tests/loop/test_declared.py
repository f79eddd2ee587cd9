"""Labels that an adopted project held before the first batch, declared a random sample by the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from loop.controller import ask_first_batch, step
from loop.opening import read_book
from loop.project import Loop
from loop.show import labels_line
from loop.sync import sync

DECLARED = {"labels": 'existing = "random"'}
N_BEFORE = 120


def adopt(world: World, chosen: Sequence[int], **sections: str) -> tuple[Loop, Bench]:
    """A project in which some images were labelled before the loop came."""
    bench = Bench()
    loop = world.loop(world.state(), bench, world.settings(**sections))
    for task_id in chosen:
        bench.answer(int(task_id), world.answers[int(task_id)])
    loop.state.declare_existing(loop.settings.labels.existing, loop.clock())
    sync(loop.desk, loop.state, loop.clock())
    ask_first_batch(loop)
    return loop, bench


def label_batch(world: World, bench: Bench) -> None:
    for suggestion in bench.served[-1][1]:
        bench.answer(suggestion.task_id, world.answers[suggestion.task_id])


def at_random(world: World, n: int = N_BEFORE) -> list[int]:
    """Images with a task, at random."""
    tasks = [world.task_of[item.item] for item in world.items if item.stream != "spare"]
    return [int(t) for t in np.random.default_rng(1).choice(tasks, n, replace=False)]


def test_labels_from_before_the_loop_are_outsiders_unless_they_are_declared_random(tmp_path: Path) -> None:
    world = World(tmp_path)
    loop, _ = adopt(world, at_random(world))
    book = read_book(loop)
    assert (book.count.unasked, book.count.declared, book.is_random.sum()) == (N_BEFORE, 0, 0)
    loop, _ = adopt(world, at_random(world), **DECLARED)
    book = read_book(loop)
    assert (book.count.total, book.count.declared, book.count.random) == (N_BEFORE, N_BEFORE, 0)
    assert book.is_random.all()
    assert book.is_declared.all()
    assert all(book.asked[name] == () for name in FINDINGS)  # nothing for the certificate to read
    streams = Counter(entry.fields().get("stream") for entry in loop.state.ledger())
    assert streams["declared"] == N_BEFORE
    assert loop.state.find_break() is None


def test_declared_labels_train_and_count_as_random_in_the_forecast_and_never_reach_the_certificate(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    before = at_random(world)
    loop, bench = adopt(world, before, **DECLARED)
    for _ in range(4):
        label_batch(world, bench)
        report = step(loop, force=True)
    book = read_book(loop)
    items = {item for item, task_id in world.task_of.items() if task_id in set(before)}
    assert items <= set(book.items)
    asked = {pick.item for round_ in loop.state.rounds() for pick in round_.picks}
    assert not asked & items
    drawn = (book.is_random & ~book.is_declared).sum()
    for name in FINDINGS:
        evidence = report.findings[name].evidence
        assert evidence is not None
        assert 0 < evidence.positives + evidence.negatives <= drawn
    read = [row for entry in loop.state.ledger() if (row := entry.fields())["event"] == "read"]
    n_random = {r.number: sum(p.stream == "random" for p in r.picks) for r in loop.state.rounds()}
    assert read
    assert all(len(row["y"]) <= n_random[row["round"]] for row in read)


def test_a_label_made_after_the_first_batch_is_never_declared(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = at_random(world)
    loop, bench = adopt(world, before, **DECLARED)
    asked = {suggestion.task_id for suggestion in bench.served[-1][1]}
    later = [t for t in at_random(world, 400) if t not in asked | set(before)][:10]
    for task_id in later:
        bench.answer(task_id, world.answers[task_id])
    sync(loop.desk, loop.state, loop.clock())
    book = read_book(loop)
    assert (book.count.declared, book.count.unasked) == (N_BEFORE, N_BEFORE + 10)


def test_a_corrected_label_stays_declared_and_a_withdrawn_one_is_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = at_random(world)
    loop, bench = adopt(world, before, **DECLARED)
    bench.answer(before[0], {name: 1 - y for name, y in world.answers[before[0]].items()})
    bench.withdraw(before[1])
    sync(loop.desk, loop.state, loop.clock())
    book = read_book(loop)
    assert book.count.declared == N_BEFORE - 1
    row = book.items.index(next(i for i, t in world.task_of.items() if t == before[0]))
    assert list(book.y[row]) == [1 - y for y in world.answers[before[0]].values()]


@pytest.mark.parametrize("first", ["random", "outsider"])
def test_a_later_change_of_the_declaration_is_an_amendment_and_books_the_labels_anew(
    tmp_path: Path, first: str
) -> None:
    world = World(tmp_path)
    loop, bench = adopt(world, at_random(world), labels=f'existing = "{first}"')
    then = {"random": "outsider", "outsider": "random"}[first]
    loop = world.loop(loop.state, bench, world.settings(labels=f'existing = "{then}"'))
    label_batch(world, bench)
    report = step(loop, force=True)
    assert any("labels.existing" in told for told in report.amendments)
    assert report.labels.declared == (N_BEFORE if then == "random" else 0)
    rebooked = [row for e in loop.state.ledger() if (row := e.fields())["event"] == "rebooked"]
    assert Counter(row["stream"] for row in rebooked) == {
        "declared" if then == "random" else "outsider": N_BEFORE
    }
    assert loop.state.find_break() is None
    label_batch(world, bench)
    step(loop, force=True)
    assert len([e for e in loop.state.ledger() if e.fields()["event"] == "rebooked"]) == N_BEFORE


def doubts(world: World, chosen: Sequence[int]) -> list[list[str]]:
    """What is said against the declaration at the start, and after the first batch."""
    loop, bench = adopt(world, chosen, **DECLARED)
    begun = loop.state.reports()[-1]
    label_batch(world, bench)
    after = step(loop, force=True).warnings
    return [[told for told in said if "declared random" in told] for said in (begun["warnings"], after)]


def test_a_wrong_declaration_is_doubted_from_the_start_and_with_the_first_labels(tmp_path: Path) -> None:
    world = World(tmp_path, n=900)
    hand_picked = sorted(at_random(world, 400), key=lambda t: -world.answers[t]["Effusion"])[:N_BEFORE]
    (begun,), (after,) = doubts(world, hand_picked)
    assert "by their embeddings alone they are told from the other images with an AUC of 0." in begun
    assert "Effusion is positive in 120 of 120 of them" in after
    assert 'existing = "outsider"' in begun


def test_a_true_declaration_is_hardly_ever_doubted(tmp_path: Path) -> None:
    worlds = (World(tmp_path, seed=seed, images_a_patient=1 + seed % 3) for seed in range(20))
    alarms = sum(any(doubts(world, at_random(world))) for world in worlds)
    assert alarms <= 2  # at one per cent each, three or more of twenty come once in a thousand times


def test_the_forecast_measures_selection_against_declared_labels(tmp_path: Path) -> None:
    world = World(tmp_path)
    outsiders, bench = adopt(world, at_random(world))
    label_batch(world, bench)
    as_outsiders = step(outsiders, force=True).findings["Effusion"]
    declared, bench = adopt(world, at_random(world), **DECLARED)
    label_batch(world, bench)
    as_random = step(declared, force=True).findings["Effusion"]
    assert as_random.positives == as_outsiders.positives
    assert as_random.selection_bias in (None, 0.0)  # all labels are random then: nothing was selected
    assert as_outsiders.selection_bias not in (None, 0.0)
    assert as_random.forecast is not None
    assert as_outsiders.forecast is not None


def test_the_status_says_that_labels_are_declared(tmp_path: Path) -> None:
    world = World(tmp_path)
    loop, _ = adopt(world, at_random(world), **DECLARED)
    assert "120 declared random" in labels_line(read_book(loop).count)
