"""Strategies in a whole turn: what the controller shows them, and what the ledger keeps of their choices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, Bench, World

from loop.assess import assess
from loop.batch import choose_batch
from loop.controller import amend, ask_first_batch, step
from loop.opening import read_book
from loop.settings import STRATEGIES
from loop.show_step import batch_text


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "random"])
def test_every_strategy_takes_a_turn_and_the_state_keeps_why(tmp_path: Path, strategy: str) -> None:
    world = World(tmp_path, n=300, images_a_patient=2)
    settings = world.settings(batch=f'size = 30\nstrategy = "{strategy}"', stop="target = 0.99\nbudget = 90")
    with world.state() as state:
        loop = world.loop(state, settings=settings)
        ask_first_batch(loop)
        report = step(loop)
        assert report.batch is not None
        assert report.batch.strategy == strategy
        picks = state.rounds()[-1].picks
    assert Counter(p.strategy for p in picks) == {"random": 15 + 3, strategy: 12}
    chosen = [p for p in picks if p.strategy == strategy]
    assert all(p.reason and 0 < p.inclusion_probability <= 1 and np.isfinite(p.utility) for p in chosen)
    patient_of = {item.item: item.patient for item in world.items}
    assert len({patient_of[p.item] for p in picks}) == len(picks)


def test_findings_that_are_reached_stop_pulling(tmp_path: Path) -> None:
    """Effusion is soon at .6, Pneumothorax not at .9: only the second pulls."""
    world = World(tmp_path)
    settings = world.settings(
        batch='size = 60\nstrategy = "hybrid"', stop="target = {Effusion = 0.6, Pneumothorax = 0.9}"
    )
    with world.state() as state:
        loop = world.loop(state, settings=settings)
        ask_first_batch(loop)
        step(loop)
        report = step(loop)
        assert report.findings["Effusion"].verdict in ("LIKELY REACHED", "CERTIFIED")
        assert report.findings["Pneumothorax"].verdict == "KEEP LABELLING"
        chosen = [p for p in state.rounds()[-1].picks if p.strategy == "hybrid"]
        assert len(chosen) == 24
        assert {p.reason.split()[0] for p in chosen} == {"Pneumothorax"}
        certified = replace(
            loop,
            settings=settings.model_copy(
                update={"stop": settings.stop.model_copy(update={"evidence": "certified"})}
            ),
        )
        book = read_book(certified)
        assessment = assess(book, loop.features, loop.projection, certified.settings, 3)
        assert assessment.decisions["Effusion"].verdict == "LIKELY REACHED"  # which is not enough there
        picks = choose_batch(certified, book, assessment, 4)
        assert {p.reason.split()[0] for p in picks if p.strategy == "hybrid"} == set(FINDINGS)


def test_the_first_batch_may_be_half_of_what_is_typical(tmp_path: Path) -> None:
    world, bench = World(tmp_path), Bench()
    with world.state() as state:
        loop = world.loop(state, bench, world.settings(batch='size = 20\ncold_start = "typiclust"'))
        report = ask_first_batch(loop)
        (round_,) = state.rounds()
        amend(replace(loop, settings=world.settings(batch="size = 20")))
        assert [
            told for told in state.amendments() if "cold_start" in told
        ]  # it is frozen, and a change is stored
    assert round_.strategy == "typiclust"
    assert Counter(p.stream for p in round_.picks) == {"random": 10, "active": 10}
    assert Counter(p.strategy for p in round_.picks) == {"random": 12, "typiclust": 8}
    assert "typical of the archive" in report.reason
    assert report.batch is not None
    assert batch_text(report.batch) == "10 from the random stream, 10 by what is typical"
    assert not any(suggestion.probabilities for suggestion in bench.served[0][1])
