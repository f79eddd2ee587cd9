"""`loop plan` as its user meets it, before any project exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from readme_blocks import README

from loop.cli import main

CONFIGS = README.parent / "configs"
ONE = ("--prevalence", "0.2", "--margin", "0.08")


def plan(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, args)], env={"COLUMNS": "110"})


def test_a_plan_needs_no_project_and_says_labels_positives_and_what_they_take_for_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = plan(
        "--target", "0.9", "--prevalence", "0.2", "--prevalence", "0.5", "--margin", "0.05", "--margin", "0"
    )
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "AUC above .870: target .900 less the tolerance of .030" in text
    assert "if AUC is .950 if AUC is .900" in text
    assert "labels in all are 2 times these numbers" in text
    assert "LIKELY REACHED needs far fewer" in text
    assert not list(tmp_path.iterdir())


def test_the_table_in_the_readme_is_what_its_command_prints() -> None:
    """Within 10 %: another version of NumPy draws other projects."""
    readme = README.read_text(encoding="utf-8")
    command = re.search(r"^loop plan (.*) --plot plan\.png$", readme, flags=re.MULTILINE)
    assert command is not None
    shown, printed = (_numbers(text) for text in (readme, plan(*command[1].split()).output))
    assert len(shown) == 12
    assert shown == pytest.approx(printed, rel=0.1)


def test_the_json_holds_every_number_and_null_for_what_is_not_in_sight() -> None:
    result = plan(
        "--prevalence", "0.2", "--margin", "0.08", "--margin", "-0.03", "--random-share", "0.25", "--json"
    )
    (told,) = json.loads(result.output)["plans"]
    assert told["tested"] == pytest.approx(0.82)
    reached, never = told["needs"]
    assert reached["auc"] == pytest.approx(0.93)
    assert reached["positives"] == pytest.approx(0.2 * reached["labels"])
    assert reached["all_labels"] == pytest.approx(4 * reached["labels"])
    assert reached["labels_half"] < reached["labels"]
    assert never["labels"] is never["positives_half"] is None
    assert "not in sight" in plan("--margin", "-0.03").output


def test_several_findings_cost_more_each() -> None:
    one, five = (
        json.loads(plan(*ONE, "--findings", k, "--json").output)["plans"][0]["needs"][0]["labels"]
        for k in "15"
    )
    assert five > one
    text = " ".join(plan(*ONE, "--findings", "5").output.split())
    assert "1 % each (Bonferroni)" in text
    assert "at least the largest of its findings' numbers" in text
    assert "that all have theirs by then is less likely than 80 %" in text


def test_a_configuration_gives_targets_share_and_number_of_findings_and_flags_win() -> None:
    config = CONFIGS / "chest-xray.toml"
    told = json.loads(plan("-c", config, "--prevalence", "0.5", "--margin", "0.08", "--json").output)
    assert [p["target"] for p in told["plans"]] == [0.8, 0.85, 0.88]
    assert told["plans"][1]["names"] == ["Cardiomegaly", "Consolidation", "Edema"]
    assert {p["findings"] for p in told["plans"]} == {5}
    assert told["budget"] == 3000
    again = json.loads(
        plan("-c", config, *ONE, "--target", "0.9", "--findings", "2", "--alpha", "0.1", "--json").output
    )
    (only,) = again["plans"]
    assert (only["target"], only["findings"], only["alpha"], only["random_share"]) == (0.9, 2, 0.1, 0.5)
    assert len(only["names"]) == 5
    (single,) = json.loads(plan("-c", CONFIGS / "single-finding.toml", *ONE, "--json").output)["plans"]
    assert (single["findings"], single["tolerance"]) == (1, 0.05)


def test_a_plan_shares_alpha_as_the_configuration_does(tmp_path: Path) -> None:
    """Among all findings that may be certified, not only those that the project waits for."""
    shared = {}
    for correction in ("holm", "bonferroni", "none"):
        config = tmp_path / f"{correction}.toml"
        config.write_text(
            f'[project]\nfindings = ["a", "b", "c"]\n[stop]\nrule = ["a"]\ncorrection = "{correction}"\n'
        )
        (told,) = json.loads(plan("-c", config, *ONE, "--json").output)["plans"]
        shared[correction] = (told["findings"], told["names"])
    assert shared == {"holm": (3, ["a"]), "bonferroni": (3, ["a"]), "none": (1, ["a"])}


@pytest.mark.parametrize("name", ["plan.png", "plan.svg"])
def test_a_plan_can_be_drawn(tmp_path: Path, name: str) -> None:
    result = plan("--prevalence", "0.2", "--margin", "0.05", "--margin", "0.08", "--plot", tmp_path / name)
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (("--target", "1"), "0.5<x<1"),
        (("--tolerance", "0.4"), "0.45"),
        (("--prevalence", "0"), "0<x<1"),
        (("--prevalence", "1"), "0<x<1"),
        (("--margin", "0.2"), "AUC 1.05"),
        (("--alpha", "0"), "0<x<0.5"),
        (("--power", "1"), "0<x<1"),
        (("--findings", "0"), "x>=1"),
        (("--batch", "2", "--random-share", "0.1"), "fewer than 2 random images"),
        (("--plot", "plan.pdf", *ONE), ".png or .svg"),
        (("-c", "nowhere.toml"), "loop init"),
    ],
)
def test_what_cannot_be_planned_ends_with_status_2_and_the_fact(args: tuple[str, ...], fact: str) -> None:
    result = plan(*args)
    assert result.exit_code == 2
    assert fact in result.output
    assert "Traceback" not in result.output


def _numbers(text: str) -> list[float]:
    """Random images of a printed plan, row by row."""
    rows = re.findall(r"^ +(?:\d+ % +)?\d+ % +\d.*\(.*\) *$", text, flags=re.MULTILINE)
    return [float(n.replace(",", "")) for row in rows for n in re.findall(r"([\d,]+) \(", row)]
