"""A prior's file: what is written is read, and what no prior can be is refused by name."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest

from forecasting.prior import PRIOR, Prior
from loop.errors import BadInput
from loop.priorfile import FittedPrior, Provenance, read_prior, write_prior

FITTED = FittedPrior(
    Prior(mean=(1.1, 2.5, -0.1), between=(0.2, 0.9, 0.1), within=(0.55, 1.15, 0.4), correlation=-0.5),
    Provenance(3, 7, 1240, "0.1.0", date(2025, 1, 31)),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_prior(tmp_path / "prior.toml", FITTED)
    return tmp_path / "prior.toml"


def test_what_is_written_is_read(file: Path) -> None:
    assert read_prior(file) == FITTED
    write_prior(file, FittedPrior(PRIOR, FITTED.fitted_from))
    assert read_prior(file).prior == PRIOR


def test_the_file_says_what_its_numbers_mean(file: Path) -> None:
    lines = file.read_text().splitlines()
    for field in fields(Prior):
        (line,) = (line for line in lines if line.startswith(f"{field.name} ="))
        assert "#" in line


@pytest.mark.parametrize(
    ("before", "after", "facts"),
    [
        ("mean = [1.1, 2.5, -0.1]", "mean = [1.1, 2.5]", ["mean", "3 numbers"]),
        ("mean = [1.1, 2.5, -0.1]", 'mean = [1.1, "a", 0.0]', ["mean", "finite"]),
        ("mean = [1.1, 2.5, -0.1]", "mean = 1.1", ["mean", "list of 3"]),
        ("mean = [1.1, 2.5, -0.1]", "mean = [1.1, inf, 0.0]", ["mean", "finite"]),
        ("mean = [1.1, 2.5, -0.1]", "mean = [true, 2.5, 0.0]", ["mean", "finite"]),
        ("mean = [1.1, 2.5, -0.1]", "mean = [11.0, 2.5, -0.1]", ["mean", "0 to 3.3"]),
        ("between = [0.2, 0.9, 0.1]", "between = [0.2, -0.9, 0.1]", ["between", "-0.9", "above 0"]),
        ("between = [0.2, 0.9, 0.1]", "between = [0.2, 0.0, 0.1]", ["between", "above 0"]),
        ("within = [0.55, ", "within = [-0.55, ", ["within", "above 0"]),
        ("correlation = -0.5", "correlation = -1.0", ["correlation", "between -1 and 1"]),
        ("correlation = -0.5", "correlation = [0.5]", ["correlation", "one number"]),
        ("dof = 4.0", "dof = 2", ["dof", "above 2"]),
        ("dof = 4.0", "dof = nan", ["dof", "finite"]),
        ("dof = 4.0", "", ["[prior]", "no 'dof'"]),
        ("dof = 4.0", "dof = 4.0\nspread = 1", ["[prior]", "'spread'"]),
        ("[fitted_from]", "[fitted]", ["'fitted'"]),
        ("[prior]", "prior = 3\n[more]", ["'more'"]),
        ("projects = 3", "projects = -3", ["projects", "-3"]),
        ("labels = 1240", 'labels = "many"', ["labels", "many"]),
        ("date = 2025-01-31", 'date = "soon"', ["date", "soon"]),
        ("date = 2025-01-31", "", ["[fitted_from]", "no 'date'"]),
        ("dof = 4.0", "dof = ,", ["cannot be read", "loop prior fit"]),
    ],
)
def test_what_no_prior_can_be_is_refused_with_the_fact(
    file: Path, before: str, after: str, facts: list[str]
) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    with pytest.raises(BadInput) as refused:
        read_prior(file)
    for fact in [str(file), *facts]:
        assert fact in str(refused.value)


def test_a_section_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("prior = 1\nfitted_from = 2\n")
    with pytest.raises(BadInput, match=r"write \[prior\]"):
        read_prior(path)


def test_a_missing_prior_says_how_to_fit_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="loop prior fit"):
        read_prior(tmp_path / "none.toml")
