"""Every ready configuration can be read, and says what the documents say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.demo.run import BATCH, BUDGET, FINDINGS, TARGET
from loop.settings import SECTIONS, load_settings
from loop.template import commented_toml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_ready_configuration_is_valid(path: Path) -> None:
    settings = load_settings(path, {}, {})
    assert settings.project.findings
    assert all(0.5 < settings.target_of(name) < 1 for name in settings.project.findings)


def test_the_ready_configurations_are_the_ones_their_readme_lists() -> None:
    listed = {line.split("`")[1] for line in (CONFIGS / "README.md").read_text().splitlines() if line.startswith("| `")}
    assert listed == {path.name for path in FILES}


def test_the_demo_configuration_is_what_the_demo_runs() -> None:
    settings = load_settings(CONFIGS / "demo.toml", {}, {})
    assert settings.project.findings == FINDINGS
    assert (settings.stop.target, settings.batch.size, settings.stop.budget) == (TARGET, BATCH, BUDGET)


def test_the_written_configuration_can_be_read_and_shows_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "loop.toml"
    path.write_text(commented_toml(["Effusion"]), encoding="utf-8")
    written = load_settings(path, {}, {})
    path.write_text('[project]\nname = "my-project"\nfindings = ["Effusion"]\n', encoding="utf-8")
    assert written == load_settings(path, {}, {})


def test_every_commented_line_of_the_written_configuration_is_valid_too(tmp_path: Path) -> None:
    lines = commented_toml(["Effusion"]).splitlines()
    keys = {key for model in SECTIONS.values() for key in model.model_fields}
    path = tmp_path / "loop.toml"
    for i, line in enumerate(lines):
        if line.startswith("# ") and line.removeprefix("# ").split(" = ")[0] in keys:
            path.write_text("\n".join([*lines[:i], line.removeprefix("# "), *lines[i + 1 :]]), encoding="utf-8")
            load_settings(path, {}, {})
