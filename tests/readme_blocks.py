"""The parts of README.md that are generated: help of every command, reference of every setting.

python tests/readme_blocks.py --write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from loop.cli import main
from loop.template import reference_table

README = Path(__file__).resolve().parent.parent / "README.md"


def commands(group: click.Group = main, prefix: str = "loop") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{prefix} {name}", command
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def command_block() -> str:
    """Help of every command, folded."""
    told = []
    for name, command in commands():
        text = (
            CliRunner()
            .invoke(main, [*name.split()[1:], "--help"], prog_name="loop", terminal_width=100)
            .output.rstrip()
        )
        told.append(
            f"<details><summary><code>{name}</code>: {command.get_short_help_str(90)}</summary>\n\n```\n{text}\n```\n\n</details>"
        )
    return "\n".join(told)


def filled(text: str) -> str:
    """README with its generated parts as they should be."""
    for name, block in (("commands", command_block()), ("configuration", reference_table())):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    if "--write" in sys.argv:
        README.write_text(filled(before), encoding="utf-8")
