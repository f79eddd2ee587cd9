"""Forecasts are stored, scored when the labels arrive, and widened when they fail: on the loop itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_world import FINDINGS, World
from scipy.special import ndtr, ndtri

from forecasting.scorekeeping import score_forecasts
from loop.assess import assess
from loop.controller import ask_first_batch, step
from loop.history import read_promises, take_looks
from loop.opening import last_decision, read_book, read_history
from loop.project import Loop
from loop.show_status import show_status
from loop.state import State
from loop.status import read_status
from loop.step_report import HorizonReport, ScoreReport, StepReport

STOP = 'target = 0.97\nevidence = "certified"\ntolerance = 0.0\nbudget = 300'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, list[StepReport], Path]:
    """A project of 300 labels, taken to its end, and what each turn told."""
    folder = tmp_path_factory.mktemp("scored")
    world = World(folder, separation=1.5)
    project = f'name = "world"\nfindings = {list(FINDINGS)}\nstate = "{folder / "state.db"}"'
    loop = world.loop(
        world.state(str(folder / "state.db")), settings=world.settings(stop=STOP, project=project)
    )
    ask_first_batch(loop)
    told = [step(loop)]
    while told[-1].verdict == "CONTINUE":
        told.append(step(loop))
    return loop, told, folder


def test_a_stored_forecast_is_scored_in_the_rounds_after_it(
    run: tuple[Loop, list[StepReport], Path],
) -> None:
    _, told, _ = run
    assert told[0].score is None  # the first labels were not forecast
    scored = [0 if report.score is None else report.score.scored for report in told]
    assert scored == sorted(scored)
    assert scored[-1] >= 10
    last = told[-1].score
    assert last is not None
    assert last.scored == sum(h.scored for h in last.horizons)
    assert last.held == sum(h.held for h in last.horizons)
    assert {h.horizon for h in last.horizons} >= {1, 2}


def test_a_promise_is_the_forecast_that_was_given(run: tuple[Loop, list[StepReport], Path]) -> None:
    loop, told, _ = run
    for report in told:
        for finding in report.findings.values():
            assert finding.forecast is not None
            path, now = finding.forecast.path, finding.forecast.now
            assert path[0].n == finding.positives + finding.negatives
            reach = ndtri(0.95) * path[0].sd * finding.forecast.widened
            if finding.forecast.widened == 1:
                assert ndtr(path[0].center - reach) == pytest.approx(now.low, abs=1e-5)
                assert ndtr(path[0].center + reach) == pytest.approx(now.high, abs=1e-5)
    promises = read_promises(read_history(loop.state))
    assert len(promises) == len(told) * len(FINDINGS)
    assert {p.encoder for p in promises} == {loop.settings.encoder.spec}


def test_a_look_is_the_auc_of_the_scores_given_before_the_labels(
    run: tuple[Loop, list[StepReport], Path],
) -> None:
    loop, told, _ = run
    history, book = read_history(loop.state), read_book(loop)
    looks = take_looks(book, history)
    assert {look.round for look in looks} <= {round_.number for round_ in loop.state.rounds()[1:]}
    answers = dict(zip(book.items, book.y, strict=True))
    for look in looks:
        round_, k = loop.state.rounds()[look.round - 1], FINDINGS.index(look.finding)
        fresh = [
            (answers[p.item][k], s)
            for p, s in zip(round_.picks, round_.scores[:, k], strict=True)
            if p.stream == "random"
        ]
        pairs = [(a > b) + (a == b) / 2 for y, a in fresh if y == 1 for x, b in fresh if x == 0]
        assert look.auc == pytest.approx(np.mean(pairs))
        assert look.n_positive * look.n_negative == len(pairs)
        before = told[look.round - 2].findings[look.finding]  # told when the round was asked
        assert look.n == before.positives + before.negatives


def test_scores_are_read_from_the_state_alone_and_are_the_same_twice(
    run: tuple[Loop, list[StepReport], Path],
) -> None:
    loop, told, _ = run
    assert step(loop) == told[-1]
    again = read_history(loop.state)
    score = score_forecasts(read_promises(again), take_looks(read_book(loop), again))
    last = told[-1].score
    assert last is not None
    assert (score.scored, score.held, score.widening) == (last.scored, last.held, last.widening)


def overdone(history: Sequence[StepReport]) -> list[StepReport]:
    """As if every forecast had been far too high, and no less sure of itself."""
    return [
        replace(
            report,
            findings={
                name: replace(
                    told,
                    forecast=told.forecast
                    and replace(
                        told.forecast,
                        path=tuple(replace(p, center=p.center + 0.9, sd=0.25) for p in told.forecast.path),
                    ),
                )
                for name, told in report.findings.items()
            },
        )
        for report in history
    ]


def test_intervals_that_failed_make_the_next_ones_wider_and_every_probability_more_cautious(
    run: tuple[Loop, list[StepReport], Path],
) -> None:
    loop, _, _ = run
    book, history, last = read_book(loop), read_history(loop.state), loop.state.rounds()[-1].number
    honest, failed = (
        assess(book, loop.features, loop.projection, loop.settings, last, told)
        for told in ([], overdone(history))
    )
    assert honest.score.widening == 1.0
    assert failed.score.widening > 1.0
    for name in FINDINGS:
        before, after = honest.reports[name].forecast, failed.reports[name].forecast
        assert before is not None
        assert after is not None
        assert (before.widened, after.widened) == (1.0, failed.score.widening)
        assert after.now.mean == before.now.mean
        assert after.now.high - after.now.low > before.now.high - before.now.low
        assert abs(after.p_reached - 0.5) <= abs(before.p_reached - 0.5)
        assert after.path == before.path  # what is scored next time is the forecast as it was fitted


def test_a_report_of_the_time_before_scores_loads_and_promises_nothing(
    run: tuple[Loop, list[StepReport], Path],
) -> None:
    _, told, _ = run
    old = told[-1].to_json()
    for name in ("score", "encoder"):
        del old[name]
    for finding in old["findings"].values():
        del finding["forecast"]["path"], finding["forecast"]["widened"]
    report = StepReport.from_json(old)
    assert report.verdict == told[-1].verdict
    assert report.score is None
    assert read_promises([report]) == []


def test_a_change_of_encoder_begins_a_new_score(run: tuple[Loop, list[StepReport], Path]) -> None:
    loop, _, _ = run
    history = read_history(loop.state)
    half = len(history) // 2
    moved = [*history[:half], *(replace(report, encoder="timm:other") for report in history[half:])]
    looks = take_looks(read_book(loop), moved)
    scored = score_forecasts(read_promises(moved), looks).scored
    apart = [
        score_forecasts(
            [p for p in read_promises(moved) if p.encoder == encoder],
            [look for look in looks if look.encoder == encoder],
        ).scored
        for encoder in {look.encoder for look in looks}
    ]
    assert len(apart) == 2
    as_one = score_forecasts(read_promises(history), take_looks(read_book(loop), history)).scored
    assert sum(apart) <= scored < as_one


def test_status_shows_how_well_intervals_have_held(
    run: tuple[Loop, list[StepReport], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    loop, told, _ = run
    status = read_status(loop.settings)
    score = told[-1].score
    assert score is not None
    show_status(status)
    shown = " ".join(capsys.readouterr().out.split())
    assert score.said in shown
    assert f"Our 90 % intervals for AUC so far: {score.held} of {score.scored} held" in shown
    assert status.to_json()["last"]["score"]["held"] == score.held


def test_a_score_survives_the_state(run: tuple[Loop, list[StepReport], Path]) -> None:
    _, told, folder = run
    with State.open(str(folder / "state.db")) as state:
        stored = last_decision(state)
    assert stored is not None
    assert stored == told[-1]
    assert isinstance(stored.score, ScoreReport)
    assert all(isinstance(h, HorizonReport) for h in stored.score.horizons)
