"""What the next batch is said to bring, in the report of a turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loop_world import World

from forecasting.curve import curve_from_points
from forecasting.powerlaw import fit_bayes
from loop.controller import ask_first_batch, step
from loop.show_step import next_text
from loop.step_report import StepReport
from loop.telling import mean_gain, report_forecast


@pytest.fixture
def report(tmp_path: Path) -> StepReport:
    world = World(tmp_path)
    settings = world.settings(stop="target = 0.97\nbudget = 120")
    loop = world.loop(world.state(), settings=settings)
    ask_first_batch(loop)
    return step(loop)


def test_every_finding_with_a_forecast_tells_what_the_next_batch_brings(report: StepReport) -> None:
    assert report.labels.total == 50
    gains = []
    for told in report.findings.values():
        assert told.forecast is not None
        coming = told.forecast.next_batch
        assert coming is not None
        assert coming.labels == 50
        assert 0 < coming.gain.low < coming.gain.mean < coming.gain.high
        assert coming.gain.level == told.forecast.now.level
        assert 0 <= coming.p_reached <= 1
        assert coming.gain.mean < told.forecast.at_4x.mean - told.forecast.now.mean + 0.01
        if told.verdict == "KEEP LABELLING":
            gains.append(coming.gain.mean)
    assert gains
    assert report.next_gain == pytest.approx(sum(gains) / len(gains))


def test_a_report_that_was_stored_before_gains_were_told_can_still_be_read(report: StepReport) -> None:
    stored: dict[str, Any] = report.to_json()
    del stored["next_gain"]
    for told in stored["findings"].values():
        del told["forecast"]["next_batch"]
    again = StepReport.from_json(stored)
    assert again.next_gain is None
    assert all(told.forecast and told.forecast.next_batch is None for told in again.findings.values())
    assert StepReport.from_json(report.to_json()) == report


def test_the_last_batch_is_what_the_budget_leaves_and_then_there_is_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    loop = world.loop(world.state(), settings=world.settings(stop="target = 0.99\nbudget = 70"))
    ask_first_batch(loop)
    first, last = step(loop), step(loop)
    assert [_labels(report) for report in (first, last)] == [{20.0}, {None}]
    assert last.next_gain is None


def test_the_sentence_says_gain_interval_and_probability(report: StepReport) -> None:
    curve = curve_from_points([50, 100, 200], [0.7, 0.75, 0.78])
    ahead = report_forecast(fit_bayes([curve])[0], 0.85, 0.9, None, 50.0)
    text = next_text(ahead)
    assert text.startswith("The next 50 labels bring about +.0")
    assert "AUC (90 %: ." in text
    assert "probability ." in text
    assert next_text(replace(ahead, next_batch=None)) == ""
    assert mean_gain([]) is None


def _labels(report: StepReport) -> set[float | None]:
    return {
        told.forecast.next_batch.labels if told.forecast and told.forecast.next_batch else None
        for told in report.findings.values()
    }
