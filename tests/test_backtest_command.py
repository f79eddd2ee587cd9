"""`loop backtest` as its user meets it: tables, JSON, picture, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from loop.cli import main


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """Two findings of two data sets, five repetitions, at 25 to 800 labels; each data set has its plateau."""
    rng, path = np.random.default_rng(0), tmp_path / "curves.csv"
    lines = ["dataset,finding,repetition,n,auc,positives,negatives"]
    for dataset, plateau in (("north", 0.92), ("south", 0.86)):
        for finding in ("effusion", "mass"):
            for repetition in range(5):
                for n in 25 * 2 ** np.arange(6):
                    auc = plateau - 1.1 * n**-0.6 + rng.normal(0, 0.1 * n**-0.5)
                    lines.append(f"{dataset},{finding},{repetition},{n},{auc:.4f},{n // 5},{n - n // 5}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_backtest_prints_error_intervals_and_labels_needed_of_every_method(curves: Path) -> None:
    result = run("backtest", curves, "--max-replays", "12")
    assert result.exit_code == 0, result.output
    assert "20 curves; 12 of 30 replays" in result.output
    assert "the spread of repetitions" in result.output
    for word in ("last value", "pow3, plain", "pow3, bounded", "pow3, weighted", "mmf", "pow4"):
        assert result.output.count(f"\n{word} ") == 3
    assert "90 % intervals" in result.output
    assert "pow4 " in result.output.rsplit("without an interval", 1)[1]  # three points, four parameters


def test_its_json_holds_every_replay_and_its_measures(curves: Path) -> None:
    args = "backtest", curves, "--max-replays", "6", "--seed", "3", "--level", "0.8", "--json"
    result = run(*args)
    told = json.loads(result.output)
    assert (told["level"], told["n_cuts"], told["n_curves"]) == (0.8, 6, 20)
    at_2x = [replay for replay in told["replays"] if replay["horizon"] == "2x"]
    errors = [abs(replay["told"]["bayes"]["auc"] - replay["truth"]) for replay in at_2x]
    assert told["methods"]["bayes"]["2x"]["error"] == pytest.approx(np.mean(errors))
    assert {replay["dataset"] for replay in told["replays"]} == {"north", "south"}
    assert run(*args).output == result.output


def test_a_backtest_can_be_drawn(curves: Path, tmp_path: Path) -> None:
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        picture = tmp_path / f"backtest.{suffix}"
        assert run("backtest", curves, "--max-replays", "2", "--plot", picture, "--quiet").exit_code == 0
        assert picture.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("n\n50\n", "no column auc"),
        ("n;auc\n50;0,7\n", "not semicolons"),
        ("n,auc\n50,0.7\n", "measure at more sizes"),
        ("n,auc\n50,0.7\n100,0.8\n200,0.85\n", "the longest of 1 has 3"),
        ("n,auc\n50,0.7\n100,0.8\n100,0.82\n", "two points at n = 100; name repeated runs"),
        ("finding,n,auc\nmass,50,0.7\nmass,100,80\n", "mass: point 2 has auc = 80"),
        ("n,auc\nfifty,0.7\n", "fifty"),
        ("", "CSV"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_with_the_fact(
    tmp_path: Path, text: str, fact: str
) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(text)
    result = run("backtest", path)
    assert result.exit_code == 2
    assert fact in result.output
    assert "Traceback" not in result.output


def test_another_kind_of_picture_is_refused_before_anything_is_replayed(curves: Path) -> None:
    result = run("backtest", curves, "--plot", "backtest.pdf", "--max-replays", "0")
    assert result.exit_code == 2
    assert ".png or .svg" in result.output
