"""Documents are executed: what the README says is what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme_blocks import README, commands, filled

ROOT = README.parent


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == filled(text), "run: python tests/readme_blocks.py --write"


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_is_documented_with_an_example(name: str, command: object) -> None:
    text = getattr(command, "help", "") or ""
    assert "Example:" in text
    assert re.search(rf"\b{name}\b", text), f"the example of `{name}` does not show `{name}`"


def test_every_command_that_the_readme_shows_exists() -> None:
    names = {name for name, _ in commands()}
    shown = re.findall(
        r"^(loop [a-z]+(?: (?:compare|verify|list|fit|show))?)\b",
        README.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert shown
    assert set(shown) <= names


def test_every_picture_that_the_readme_shows_is_there() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_nothing_in_the_repository_names_a_machine() -> None:
    words = ["/wo" + "rk/", "/ro" + "ot/", "/opt/" + "wheels"]
    for path in ROOT.rglob("*"):
        if path.suffix not in {".py", ".md", ".toml", ".lock", ".cfg"} or any(
            p.startswith(".") for p in path.relative_to(ROOT).parts
        ):
            continue
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path


def test_the_arrows_between_the_rooms_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")  # in this process it would switch loggers off
    subprocess.run([lint, "--config", ROOT / "pyproject.toml"], cwd=ROOT, check=True)


def test_the_changelog_names_the_present_version() -> None:
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
