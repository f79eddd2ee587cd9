"""Every ready configuration can be used as it is, and says what the documents say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.demo.run import BATCH, BUDGET, FINDINGS, TARGET
from loop.settings import load_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
READY = sorted(CONFIGS.glob("*.toml"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_configuration_loads_and_ends_somewhere(path: Path) -> None:
    settings = load_settings(path, {}, {})
    assert settings.stop.budget is not None
    assert settings.folder.parent == CONFIGS
    assert all(0.5 < settings.target_of(name) < 1 for name in settings.project.findings)


def test_the_ready_configurations_are_the_ones_their_readme_lists() -> None:
    lines = (CONFIGS / "README.md").read_text(encoding="utf-8").splitlines()
    assert {line.split("`")[1] for line in lines if line.startswith("| `")} == {path.name for path in READY}


def test_there_is_one_for_several_findings_and_one_for_a_single_finding() -> None:
    assert len(load_settings(CONFIGS / "chest-xray.toml", {}, {}).project.findings) >= 5
    assert len(load_settings(CONFIGS / "single-finding.toml", {}, {}).project.findings) == 1


def test_the_demo_runs_what_its_configuration_says() -> None:
    settings = load_settings(CONFIGS / "demo.toml", {}, {})
    assert settings.project.findings == FINDINGS
    assert (settings.stop.target, settings.batch.size, settings.stop.budget) == (TARGET, BATCH, BUDGET)
