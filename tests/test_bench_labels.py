"""What the tables of label efficiency count."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from bench_saving import _holds, _mean_curve, _sizes, _truth
from label_runs import Run
from label_tables import tell_ranks


def run(n: list[int], auc: list[float]) -> Run:
    return Run(np.array(n, float), np.array(auc)[:, None], np.array([0.9]), np.array([0.1]))


def test_rules_are_ranked_at_sizes_that_all_of_them_reach() -> None:
    small = {
        "a": {0: run([100, 200, 410], [0.7, 0.8, 0.85])},
        "b": {0: run([100, 200, 490], [0.6, 0.7, 0.9])},
    }
    assert "| a | 1.0 | 1.0 |" in tell_ranks({"w": small})  # beyond 410 only b still has images
    large = {"a": {0: run([100, 800], [0.7, 0.8])}, "b": {0: run([100, 800], [0.6, 0.9])}}
    assert "| a | 1.2 | 1.2 |" in tell_ranks({"w": large})  # first at 100, 200 and 400, second at 800


def test_the_labels_that_are_saved_in_truth_are_read_off_the_random_curve() -> None:
    n, random = [100, 200, 300], np.array([[0.6], [0.7], [0.8]])
    better = np.array([[0.7], [0.75], [0.9]])
    assert _truth(n, random, better, 100, [0]) == pytest.approx(100)
    assert _truth(n, random, better, 200, [0]) == pytest.approx(50)
    assert math.isinf(_truth(n, random, better, 300, [0]))


def test_the_true_curve_is_the_mean_of_all_runs_though_each_half_of_a_small_archive_ends_elsewhere() -> None:
    """Before, only runs with the very sizes of the longest one counted: of halves that differ, one run."""
    short = {"n": [50, 100, 120], "auc": [[0.5, 0.6], [0.7, 0.6], [0.8, 0.6]]}
    long = {"n": [50, 100, 150, 160], "auc": [[0.7, 0.8], [0.8, 0.8], [0.9, 0.8], [0.9, 0.8]]}
    n = _sizes([short, long])
    assert n == [50, 100, 120]
    expected = [[0.6, 0.7], [0.75, 0.7], [0.82, 0.7]]  # the long run has .84 at 120
    np.testing.assert_allclose(_mean_curve([short, long], n), expected)


@pytest.mark.parametrize(
    ("low", "high", "truth", "held"),
    [
        (-10.0, 60.0, 50.0, True),
        (-10.0, 40.0, 50.0, False),
        (60.0, 90.0, 50.0, False),
        (0.0, math.inf, math.inf, True),
        (0.0, 120.0, math.inf, True),  # reaches beyond the run, where the truth lies
        (0.0, 80.0, math.inf, False),
    ],
)
def test_an_interval_holds_a_truth_beyond_the_run_if_it_reaches_beyond_it(
    low: float, high: float, truth: float, held: bool
) -> None:
    assert _holds({"low": low, "high": high}, truth, 100) == held
