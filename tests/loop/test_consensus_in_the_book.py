"""What the consensus of several annotators changes in the book, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from loop.book import Book, keep_book
from loop.controller import ask_first_batch, step
from loop.settings import Settings


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def disputed(world: World) -> tuple[Book, Book, int]:
    """Two batches: three people read the first, of the second one image is disputed between a good and a poor reader."""
    bench, rng = Bench(), np.random.default_rng(0)
    right = {"a": 0.98, "b": 0.97, "c": 0.65}
    with world.state() as state:
        loop = world.loop(state, bench)
        ask_first_batch(loop)
        for suggestion in bench.served[-1][1]:
            for who, share in right.items():
                answers = world.answers[suggestion.task_id].items()
                bench.answer(
                    suggestion.task_id, {f: y if rng.random() < share else 1 - y for f, y in answers}, who=who
                )
        step(loop)
        random = next(p.item for p in state.rounds()[-1].picks if p.stream == "random")
        task_id = world.task_of[random]
        bench.answer(task_id, dict.fromkeys(FINDINGS, 1.0), who="a")
        bench.answer(task_id, dict.fromkeys(FINDINGS, 0.0), who="c")
        state.save_pull(bench.pull(None), loop.clock())
        kept = state.items(), state.tasks(), state.labels(), state.rounds(), FINDINGS
        return keep_book(*kept), keep_book(*kept, consensus="dawid_skene"), task_id


def test_the_model_trains_the_probe_with_a_dispute_that_the_majority_leaves_out(world: World) -> None:
    majority, modelled, task_id = disputed(world)
    item = next(item for item, task in world.task_of.items() if task == task_id)
    assert item not in majority.items
    assert modelled.y[modelled.items.index(item)].tolist() == [1.0, 1.0]
    assert modelled.by_majority == {}
    assert majority.count.unknown == 1
    assert modelled.count.unknown == 0


def test_the_certificate_reads_majorities_whatever_the_consensus(world: World) -> None:
    majority, modelled, _ = disputed(world)
    for name in FINDINGS:
        for a, b in zip(majority.asked[name], modelled.asked[name], strict=True):
            np.testing.assert_array_equal(a.y, b.y)
    assert any(np.isnan(asked.y).any() for asked in modelled.asked[FINDINGS[0]])


def test_another_consensus_is_an_amendment(world: World) -> None:
    def frozen(settings: Settings) -> object:
        return settings.frozen_part().get("labels.consensus")

    assert frozen(world.settings()) is None
    assert frozen(world.settings(labels='consensus = "dawid_skene"')) == "dawid_skene"
    with world.state() as state:
        loop = world.loop(state, Bench())
        ask_first_batch(loop)
        changed = world.settings(labels='consensus = "dawid_skene"')
        assert any("labels.consensus" in line for line in state.amending(changed.frozen_part()))
