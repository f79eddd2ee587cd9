"""How large the selection bias is, and that it was taken out, in the report of a turn and in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from loop_world import World

from loop.controller import ask_first_batch, step
from loop.show_step import selection_text, show_step
from loop.step_report import BatchReport, StepReport


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


@pytest.mark.parametrize(
    ("strategy", "random", "active", "said"),
    [
        ("random", 50, 0, "50 images, all from the random stream."),
        ("zero_shot", 25, 25, "50 images, 25 from the random stream, 25 by what the texts find."),
        ("uncertainty", 25, 25, "50 images, 25 from the random stream, 25 by uncertainty."),
        ("uncertainty", 0, 1, "1 image, all by uncertainty."),
        ("random", 1, 1, "2 images, 1 from the random stream, 1 drawn at random from the active part."),
    ],
)
def test_a_batch_is_told_by_how_its_images_were_chosen(
    turns: list[StepReport],
    capsys: pytest.CaptureFixture[str],
    strategy: str,
    random: int,
    active: int,
    said: str,
) -> None:
    batch = BatchReport(2, "v", random + active, random, active, strategy)
    show_step(replace(turns[0], action="pushed", batch=batch))
    assert f"Asked round 2: {said} Model version v." in " ".join(capsys.readouterr().out.split())
