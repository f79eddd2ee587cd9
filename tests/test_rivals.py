"""The stop rules of others, as the benchmarks judge them, against small-text and baal themselves."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def rivals() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        return importlib.import_module("rivals")


def run_of(proba: np.ndarray) -> SimpleNamespace:
    """A replay of one finding; the i-th look is at i labels. `proba` has shape (looks, images)."""
    looks = [SimpleNamespace(n=i, pool_proba=p[:, None]) for i, p in enumerate(proba)]
    return SimpleNamespace(findings=("effusion",), looks=looks)


def settling() -> np.ndarray:
    """Probabilities of 200 images that settle and grow sure over 12 looks."""
    image, look = np.arange(200), np.arange(12)[:, None]
    margin = 1.5**look * (np.linspace(-3, 3, 200) + 0.6**look * np.cos(7.0 * image + look))
    return 1 / (1 + np.exp(-margin))


def stops(rivals: ModuleType, proba: np.ndarray, auc: list[float | None] | None = None) -> dict[str, int]:
    aucs = [{} if value is None else {0: value} for value in auc or [None] * len(proba)]
    return {rule: n for _, rule, n in rivals.rival_stops(run_of(proba), aucs)}


def test_rules_stop_where_small_text_and_baal_themselves_stop(rivals: ModuleType) -> None:
    """From small-text 1.4.1 and baal 2.1.0, run on the same probabilities."""
    assert stops(rivals, settling()) == {
        "small-text KappaAverage": 9,
        "small-text DeltaFScore": 5,
        "small-text ClassificationChange": 5,
        "small-text OverallUncertainty": 7,
        "baal LowAverageUncertainty": 5,
    }


def test_early_stopping_waits_for_eleven_equal_values_as_baal_itself_does(rivals: ModuleType) -> None:
    """From baal 2.1.0: ten are enough only if nothing came before them."""
    moving = [0.8, 0.82, 0.84, 0.86, 0.88]
    unsure = np.tile([0.3, 0.7], (16, 1))
    assert stops(rivals, unsure, [*moving, *[0.9] * 11])["baal EarlyStopping"] == 15
    assert stops(rivals, unsure, [0.9] * 16)["baal EarlyStopping"] == 9


def test_an_auc_that_moved_by_less_than_a_hundredth_three_times_stops(rivals: ModuleType) -> None:
    rule = "AUC changed < .01 in 3 rounds"
    unsure = np.tile([0.3, 0.7], (6, 1))
    assert stops(rivals, unsure, [0.7, 0.8, 0.805, 0.81, 0.802, 0.9])[rule] == 4
    assert rule not in stops(rivals, unsure, [0.7, 0.705, 0.71, 0.73, 0.735, 0.74])


def test_looks_without_a_head_are_passed_over(rivals: ModuleType) -> None:
    headless = np.full((2, 200), np.nan)
    later = stops(rivals, np.concatenate([headless, settling()]))
    assert later == {rule: n + 2 for rule, n in stops(rivals, settling()).items()}
    assert stops(rivals, np.tile([0.3, 0.7], (6, 1)), [None, None, 0.8, 0.8, 0.8, 0.8])[
        "AUC changed < .01 in 3 rounds"
    ] == 5  # fmt: skip


def test_a_finding_that_is_never_predicted_positive_has_no_f_score_to_stop_on(rivals: ModuleType) -> None:
    told = stops(rivals, np.full((6, 50), 0.3))
    assert told == {"small-text KappaAverage": 3, "small-text ClassificationChange": 1}


def test_only_named_rules_speak(rivals: ModuleType) -> None:
    sure = np.tile([0.0, 1.0], (12, 1))
    assert set(stops(rivals, sure, [0.9] * 12)) == set(rivals.RULES)


def test_the_plain_fit_finds_an_exact_power_law_and_says_when_it_finds_none(rivals: ModuleType) -> None:
    sizes = np.array([50, 100, 200, 400])
    assert rivals.fit_plain(sizes, 0.9 - 1.1 * sizes**-0.4) == pytest.approx((0.9, 1.1, 0.4), rel=1e-6)
    assert rivals.fit_plain(sizes[:2], np.array([0.7, 0.8])) is None
    assert rivals.fit_plain(sizes, np.array([0.6, 0.65, 0.75, 0.95])) is None  # ever steeper: a runs off
