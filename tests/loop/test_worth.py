"""What a project is told of its own strategy: what it has saved, whether it is trusted, and what probabilities are worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, World
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from forecasting.calibration import FEWEST, estimate_calibration
from loop.arms import compare_arms, compare_auc, labels_to_target
from loop.batch import tell_trial
from loop.controller import ask_first_batch, step
from loop.features import FeatureTable
from loop.page.figures import page_of
from loop.page.write import as_html
from loop.probe import fit_probe, fit_projection
from loop.show_status import reliability_lines
from loop.show_step import batch_text
from loop.show_trials import arms_text, end_text
from loop.step_report import StepReport
from loop.strategies import Choice
from loop.strategies.registry import OURS
from loop.strategy_trial import Trial, try_strategy
from loop.strategynames import STRATEGIES


def choose_blanks(pool, n, rng):  # type: ignore[no-untyped-def]
    """A strategy that asks the images on which nothing is seen."""
    order = np.argsort(np.linalg.norm(pool.vectors.raw(np.arange(len(pool))), axis=1), kind="stable")
    return [Choice(int(row), "nothing is seen", 0.0) for row in order[:n]]


def make_world(folder: Path, seed: int = 0) -> World:
    """Three in ten images are blank, but for a trace."""
    world = World(folder, n=900, dim=100, separation=5.0, seed=seed)
    names = [item.item for item in world.items]
    x = world.features.read(names)
    x[np.random.default_rng([81, seed]).random(len(x)) < 0.3] *= 0.01
    world.features = FeatureTable(names, x)
    return world


def trial_of(name: str, seed: int, folder: Path, n: int = 240) -> Trial:
    world = make_world(folder, seed)
    items = [item.item for item in world.items][:n]
    x = world.features.read(items)
    y = np.array([list(world.answers[world.task_of[item]].values()) for item in items])
    patients = np.array([item.patient for item in world.items[:n]])
    projection = fit_projection(x, 0)
    probe = fit_probe(x, y, patients, FINDINGS, projection, np.random.default_rng(0))
    told = try_strategy(
        name, x, y, patients, probe, np.ones(2, bool), projection, np.random.default_rng([82, seed])
    )
    assert told is not None
    return told


def test_a_strategy_that_does_worse_than_random_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OURS, "blanks", choose_blanks)
    told = [trial_of("blanks", seed, tmp_path) for seed in range(8)]
    assert sum(one.is_worse for one in told) >= 5
    assert not any(trial_of("uncertainty", seed, tmp_path).is_worse for seed in range(8))


def test_a_finding_too_rare_to_be_tested_does_not_pull_in_a_trial(tmp_path: Path) -> None:
    world = make_world(tmp_path, 0)
    items = [item.item for item in world.items][:240]
    x = world.features.read(items)
    y = np.array([list(world.answers[world.task_of[item]].values()) for item in items])
    y = np.column_stack([y, x[:, 0] >= np.sort(x[:, 0])[-4]])  # four positives: no head
    patients = np.array([item.patient for item in world.items[:240]])
    projection = fit_projection(x, 0)
    probe = fit_probe(x, y, patients, (*FINDINGS, "rare"), projection, np.random.default_rng(0))
    assert probe.fitted.tolist() == [True, True, False]
    told = [
        try_strategy(
            "hybrid",
            x,
            y,
            patients,
            probe,
            np.array([True, True, is_open]),
            projection,
            np.random.default_rng(1),
        )
        for is_open in (True, False)
    ]
    assert told[0] is not None
    assert told[0] == told[1]


def test_a_strategy_that_draws_at_random_is_seldom_called_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 2.5 % may be: of 30, chance exceeds 3 once in a hundred."""
    monkeypatch.setitem(
        OURS,
        "lots",
        lambda pool, n, rng: [Choice(int(r), "lot", 0.0) for r in rng.permutation(len(pool))[:n]],
    )
    told = [trial_of("lots", seed, tmp_path) for seed in range(30)]
    assert sum(one.is_worse for one in told) <= 3
    assert (
        np.std([one.difference for one in told]) < np.mean([(one.high - one.low) / 4 for one in told]) * 1.2
    )


def start(tmp_path: Path, batch: str, n_steps: int, size: int = 60) -> tuple[list[StepReport], World]:
    world = make_world(tmp_path)
    settings = world.settings(
        batch=f"size = {size}\nfinished_share = 1.0\n{batch}",
        stop='target = 0.75\nevidence = "certified"\ntolerance = 0.0',
    )
    with world.state() as state:
        loop = world.loop(state, settings=settings)
        ask_first_batch(loop)
        reports = [step(loop) for _ in range(n_steps)]
        page = as_html(page_of(settings, state, loop.clock()))
    last = reports[-1]
    if last.saving is not None:
        assert last.saving.said in page
        assert "random images of other patients" in page
    assert reports[0].saving is None
    return reports, world


def test_a_step_says_what_is_saved_and_its_report_survives_storage(tmp_path: Path) -> None:
    reports, _ = start(tmp_path, "", 4)
    last = reports[-1]
    assert last.saving is not None
    assert last.saving.n == last.labels.random + last.labels.active == 240
    assert last.saving.low <= (last.saving.saved or 0) or last.saving.saved is None
    assert StepReport.from_json(last.to_json()).saving == last.saving
    told = last.findings["Effusion"].calibration
    assert told is not None
    assert told.n == last.labels.random
    assert told.slope.low < told.slope.value < told.slope.high
    assert len(told.curve) == 5
    bins = ", ".join(f"{100 * one.predicted:.0f} > {100 * one.observed:.0f}" for one in told.curve)
    first, second = reliability_lines(
        {**last.findings, "Pneumothorax": replace(last.findings["Pneumothorax"], calibration=None)}
    )
    assert first == f"Effusion, said > positive by fifths of these images, in %: {bins}"
    assert "not known yet of Pneumothorax: that takes 10 positives and 10 negatives" in second


@pytest.mark.parametrize("forced", [False, True])
def test_a_worse_strategy_gives_way_to_random_and_each_step_says_so_unless_it_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    monkeypatch.setitem(OURS, "blanks", choose_blanks)
    monkeypatch.setattr("loop.strategynames.STRATEGIES", (*STRATEGIES, "blanks"))
    named = 'strategy = "blanks"\nrandom_share = 0.8\n'
    reports, _ = start(tmp_path, named + ("fall_back = false" if forced else ""), 4, size=100)
    found = [report for report in reports if report.trial is not None and report.trial.high < 0]
    assert found
    for report in found:
        assert report.trial is not None
        assert report.trial.trusted == forced
        assert report.batch is not None
        assert report.batch.strategy == ("blanks" if forced else "random")
        assert ("drawn at random from the active part" in batch_text(report.batch)) != forced
        (warning,) = [told for told in report.warnings if "worse than random" in told]
        assert ("fall_back = false asks" in warning) == forced
        assert ("drawn at random" in warning) != forced


def test_a_strategy_that_is_not_worse_chooses_and_nothing_is_said(tmp_path: Path) -> None:
    reports, _ = start(tmp_path, "", 4)
    assert reports[0].trial is None  # 60 random labels tell nothing
    assert reports[-1].trial is not None
    assert reports[-1].trial.trusted
    assert reports[-1].batch is not None
    assert reports[-1].batch.strategy == "hybrid"
    assert not [told for told in reports[-1].warnings if "worse than random" in told]
    assert tell_trial(None, True) == []


def test_calibration_is_that_of_a_plain_logistic_regression_and_its_intervals_hold() -> None:
    """Slope by scikit-learn without a penalty; probabilities twice as extreme as the truth have slope one half."""
    rng = np.random.default_rng(3)
    names = np.array([f"p{i}" for i in range(400)])
    covered = too_extreme = 0
    for _ in range(100):
        logits = rng.normal(-1.0, 1.5, 400)
        y = (rng.random(400) < expit(logits)).astype(float)
        told = estimate_calibration(y, logits, names)
        assert told is not None
        covered += (told.slope.low <= 1 <= told.slope.high) + (told.intercept.low <= 0 <= told.intercept.high)
        twice = estimate_calibration(y, 2 * logits, names)
        assert twice is not None
        too_extreme += twice.slope.high < 1
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], y)
    assert told.slope.value == pytest.approx(reference.coef_[0, 0], abs=1e-4)
    assert told.brier.value == pytest.approx(np.mean((y - expit(logits)) ** 2))
    assert 180 <= covered <= 199  # 95 % of 200
    assert too_extreme >= 95
    assert sum(part.n for part in told.curve) == 400
    assert all(part.low <= part.observed <= part.high for part in told.curve)


@pytest.mark.parametrize(
    ("offset", "scale", "worst"),
    [(0.0, 1.0, 0.006), (1.0, 1.0, -0.02), (0.0, 2.0, -0.003), (1.0, 2.0, -0.015)],
)
def test_the_mend_helps_where_probabilities_are_wrong_and_costs_little_where_they_are_right(
    offset: float, scale: float, worst: float
) -> None:
    """Squared error of the probability itself, on fresh items, of 50 labels: mended less as they came, mean of 200 worlds."""
    rng = np.random.default_rng(5)
    names = np.array([f"p{i}" for i in range(50)])
    change = []
    for _ in range(200):
        logits = rng.normal(0.0, 1.5, 50)
        told = estimate_calibration(
            (rng.random(50) < expit(logits)).astype(float), offset + scale * logits, names
        )
        if told is None:
            continue
        fresh = rng.normal(0.0, 1.5, 1000)
        wrong = offset + scale * fresh
        mended = expit(told.offset + told.scale * wrong)
        change.append(np.mean((mended - expit(fresh)) ** 2 - (expit(wrong) - expit(fresh)) ** 2))
    assert len(change) > 150
    assert np.mean(change) < worst


def test_the_mend_never_turns_the_order_round() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=60)
    told = estimate_calibration((logits < 0).astype(float), logits, np.arange(60).astype(str))
    assert told is None or told.scale > 0
    flipped = (rng.random(60) < expit(-3 * logits)).astype(float)
    told = estimate_calibration(flipped, logits, np.arange(60).astype(str))
    assert told is not None
    assert told.slope.value < 0 < told.scale


def test_few_positives_or_separated_classes_say_nothing_of_probabilities() -> None:
    names = np.array([f"p{i}" for i in range(100)])
    y = np.zeros(100)
    y[: FEWEST - 1] = 1
    assert estimate_calibration(y, np.linspace(-1, 1, 100), names) is None
    y[:50] = 1
    assert estimate_calibration(y, np.where(y == 1, 2.0, -2.0) + np.linspace(0, 0.1, 100), names) is None


def rounds(*gaps: tuple[int, float], reason: str = "Likely reached by the forecast: f.") -> dict[str, object]:
    return {
        "reason": reason,
        "rounds": [
            {"labels": n, "findings": {"f": {"true_auc": 0.8 + gap, "target": 0.8}}} for n, gap in gaps
        ],
    }


def test_labels_to_the_target_lie_between_two_rounds_and_arms_are_paired_by_seed() -> None:
    ours = rounds((50, -0.02), (100, 0.02))
    assert labels_to_target(ours["rounds"], False) == 75  # type: ignore[arg-type]
    assert labels_to_target(rounds((50, -0.02))["rounds"], False) is None  # type: ignore[arg-type]
    theirs = [rounds((50, -0.04), (150 + 10 * s, 0.04)) for s in range(3)]
    told = compare_arms([ours] * 3, theirs, False)
    assert told["at_stop"].saved == 60
    assert told["to_target"].saved == pytest.approx(30)
    low, high = told["to_target"].low, told["to_target"].high
    assert low is not None
    assert high is not None
    assert low == pytest.approx(30 - 4.303 * 5 / np.sqrt(3), abs=0.01)
    never = compare_arms([rounds((50, -0.1))] * 3, theirs, False)["to_target"]
    assert (never.seeds, never.saved) == (0, None)


def test_arms_that_both_spend_the_budget_say_nothing_of_labels_but_of_the_auc_they_end_with() -> None:
    spent = "The budget of 200 labels is spent. Still open: f (KEEP LABELLING)."
    ours = [rounds((100, -0.1), (200, -0.05 + 0.001 * s), reason=spent) for s in range(4)]
    theirs = [rounds((100, -0.1), (200, -0.07), reason=spent) for _ in range(4)]
    told, at_end = compare_arms(ours, theirs, False), compare_auc(ours, theirs)
    for what in ("at_stop", "to_target"):
        assert (told[what].seeds, told[what].neither, told[what].saved) == (0, 4, None)
        said = arms_text("ranked", "STOP", "all was spent", told[what])
        assert "in none of 4 seeds did ranked or random come there before all was spent" in said
        assert said.endswith(
            "Give a lower --target; or, where it was --max-labels that ended them, more of these."
        )
        assert "labels saved" not in said
    assert at_end.difference == pytest.approx(0.0215)
    assert end_text("ranked", at_end).startswith(
        "With as many labels at the end (4 seeds): true AUC .752 by ranked, .730 at random; difference +.022, 95 % interval +."
    )


def test_a_seed_that_spends_the_budget_in_one_arm_counts_with_it_and_in_both_is_told_apart() -> None:
    spent = "No image is left to ask. Still open: f (KEEP LABELLING)."
    none, late = rounds((200, -0.1), reason=spent), rounds((200, 0.1), reason=spent)
    early = [rounds((100 + 10 * s, 0.1)) for s in range(3)]
    told = compare_arms([*early, none], [late, late, late, none], False)["at_stop"]
    assert (told.seeds, told.of, told.neither, told.saved) == (3, 4, 1, 90)
    assert arms_text("ranked", "STOP", "all was spent", told).endswith(
        "(3 of 4 seeds); in 1 more neither came there before all was spent."
    )
    apart = compare_auc([*early, none], [late, late, late, none])
    assert (apart.seeds, apart.difference) == (1, None)
    assert end_text("ranked", apart) == ""
