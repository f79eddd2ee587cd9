"""The ready configurations are usable as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loop.settings import load_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
READY = sorted(CONFIGS.glob("*.toml"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_configuration_loads(path: Path) -> None:
    settings = load_settings(path, {}, {})
    assert settings.stop.budget is not None, "a ready configuration ends somewhere"
    assert settings.folder.parent == CONFIGS


def test_there_is_one_for_many_findings_one_for_a_single_and_one_for_the_demo() -> None:
    findings = {path.stem: load_settings(path, {}, {}).project.findings for path in READY}
    assert set(findings) == {"chest-xray", "single-finding", "demo"}
    assert len(findings["chest-xray"]) == 14
    assert len(findings["single-finding"]) == 1


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_configuration_is_named_in_the_folders_readme(path: Path) -> None:
    assert f"`{path.name}`" in (CONFIGS / "README.md").read_text(encoding="utf-8")


def test_the_demo_runs_what_its_configuration_says() -> None:
    from loop.demo import run

    settings = load_settings(CONFIGS / "demo.toml", {}, {})
    assert settings.project.findings == run.FINDINGS
    assert (settings.stop.target, settings.batch.size, settings.stop.budget) == (
        run.TARGET,
        run.BATCH,
        run.BUDGET,
    )


@pytest.mark.parametrize(
    ("name", "patient"), [("00000013_005.png", "00000013"), ("00000013_006.png", "00000013"), ("other.png", None)]
)  # fmt: skip
def test_the_chest_xray_configuration_reads_patients_from_nih_names(name: str, patient: str | None) -> None:
    pattern = load_settings(CONFIGS / "chest-xray.toml", {}, {}).images.patient
    found = re.search(pattern, name)
    assert (found[1] if found else None) == patient
