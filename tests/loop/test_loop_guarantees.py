"""What the whole loop promises, by simulation: the controller of a project, active selection, forecast and certificate
together, against the true AUC of the probes that it trained."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from gaussian_world import GaussianWorld
from scipy.stats import binom

from loop.archive import Archive, LabelTable
from loop.settings import make_settings
from loop.simulate import simulate

PROJECTS, BATCH, BUDGET = 6, 40, 400  # 10 looks
NAMES = ("easy", "rare", "hard")


@lru_cache(maxsize=2)
def rounds_of(target: float) -> list[list[dict[str, Any]]]:
    """The rounds of `PROJECTS` projects of three findings, to the end of their budget."""
    return [_project(seed, target) for seed in range(PROJECTS)]


def _project(seed: int, target: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng([41, seed])
    world = GaussianWorld(rng, [2.6, 2.0, 1.3], [0.4, 0.12, 0.3], 16)
    x, y = world.draw(rng, 3_000)
    names = tuple(f"image-{i:04d}" for i in range(len(y)))
    archive = Archive(LabelTable(names, y, np.array(names), NAMES), x.astype(np.float32))
    settings = make_settings(
        {
            "project": {"name": "guarantee", "findings": list(NAMES), "seed": seed},
            "batch": {"size": BATCH, "finished_share": 1.0},
            "stop": {"target": target, "evidence": "certified", "budget": BUDGET, "tolerance": 0.0},
        }
    )
    rounds: list[dict[str, Any]] = simulate(archive, settings, test_fraction=0.6)["rounds"]
    return rounds


def first_said(target: float, verdict: str) -> list[dict[str, Any]]:
    """What each finding of each project was told when the verdict was first said."""
    told = []
    for rounds in rounds_of(target):
        for name in NAMES:
            said = (r["findings"][name] for r in rounds if r["findings"][name]["verdict"] == verdict)
            told += [first for first in [next(said, None)] if first is not None]
    return told


@pytest.mark.parametrize("verdict", ["LIKELY REACHED", "CERTIFIED"])
@pytest.mark.parametrize("target", [0.8, 0.9])
def test_a_stop_is_false_no_more_often_than_stated(verdict: str, target: float) -> None:
    """Of the times it is first said, at most 5 % are false; the bound is what chance adds to that once in a hundred."""
    said = first_said(target, verdict)
    false = sum(told["true_auc"] < target for told in said)
    assert false <= binom.ppf(0.99, max(len(said), 1), 0.05)


def test_a_target_that_is_reached_is_found() -> None:
    easy = [rounds[-1]["findings"]["easy"] for rounds in rounds_of(0.8)]
    assert all(told["true_auc"] > 0.85 for told in easy)
    assert sum(told["verdict"] in ("LIKELY REACHED", "CERTIFIED") for told in easy) >= PROJECTS - 1
    assert any(told["verdict"] == "CERTIFIED" for told in easy)


def test_intervals_of_auc_now_cover_with_active_selection() -> None:
    """At the last look, one finding in each project after another: 18 intervals, which depend on each other in threes."""
    covered = [
        told["auc_low"] <= told["true_auc"] <= told["auc_high"]
        for rounds in rounds_of(0.9)
        for told in rounds[-1]["findings"].values()
    ]
    assert len(covered) == 3 * PROJECTS
    assert sum(covered) >= binom.ppf(0.005, len(covered), 0.9)


def test_scores_that_certify_were_written_before_their_labels() -> None:
    """Evidence never counts more positives than the random stream has, less the first batch that no probe had scored."""
    for rounds in rounds_of(0.8):
        for told in rounds[-1]["findings"].values():
            assert told["evidence"]["positives"] + told["evidence"]["negatives"] <= (BUDGET - BATCH) / 2
