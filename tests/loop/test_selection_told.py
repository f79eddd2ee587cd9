"""How large the selection bias is, and that it was taken out, in the report of a turn and in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from loop_world import World

from loop.controller import ask_first_batch, step
from loop.report import StepReport
from loop.show import selection_text, show_step


@pytest.fixture
def turns(tmp_path: Path) -> list[StepReport]:
    world = World(tmp_path)
    loop = world.loop(world.state(), settings=world.settings(stop="target = 0.97\nbudget = 150"))
    ask_first_batch(loop)
    return [step(loop) for _ in range(2)]


def test_a_first_batch_that_is_all_random_has_no_selection_to_tell_of(turns: list[StepReport]) -> None:
    for told in turns[0].findings.values():
        assert (told.selection_bias, told.selection_bias_se) == (0.0, 0.0)
        assert selection_text(told) == ""


def test_later_turns_tell_how_large_the_selection_bias_is(
    turns: list[StepReport], capsys: pytest.CaptureFixture[str]
) -> None:
    show_step(turns[1])
    shown = " ".join(capsys.readouterr().out.split())
    for told in turns[1].findings.values():
        assert told.selection_bias_se
        assert told.selection_bias_se > 0
        assert selection_text(told) in shown


def test_the_sign_and_the_error_are_told(turns: list[StepReport]) -> None:
    told = next(iter(turns[1].findings.values()))
    text = selection_text(replace(told, selection_bias=-0.0123, selection_bias_se=0.0181))
    assert "by -.012 (90 %: -.042 to +.017)" in text
    assert "by +.004" in selection_text(replace(told, selection_bias=0.004))
