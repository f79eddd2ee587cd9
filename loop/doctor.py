"""`loop doctor`: look at everything that a project needs, change nothing, and say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from annotate.tokens import hide
from loop.checks import Check, Known, read_known
from loop.checks_here import look_here
from loop.checks_studio import Clock, look_at_studio
from loop.errors import LoopError
from loop.settings import Settings
from loop.step_report import as_json

__all__ = ["Check", "Examination", "examine"]


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Attributes:
        project: The project's name; empty if the settings cannot be read.
        checks: Each thing that was looked at, those on this machine first.
    """

    project: str
    checks: tuple[Check, ...]

    def count(self, state: str) -> int:
        """How many checks ended so."""
        return sum(check.state == state for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        counts = {"errors": self.count("error"), "warnings": self.count("warning")}
        return {"ok": not counts["errors"], **counts, **as_json(self)}


def examine(read_settings: Callable[[], Settings], config: Path, key: str, clock: Clock) -> Examination:
    """Look at everything.

    Args:
        read_settings: Reads the configuration; raises BadInput if it cannot be used.
        config: Its file, to tell people.
        key: Label Studio's; empty if there is none. It is told to Label Studio only.
        clock: Our clock, to be compared with the server's.
    """
    name, checks = _look_at_all(read_settings, config, key, clock)
    return Examination(name, tuple(replace(check, fact=hide(check.fact, key)) for check in checks))


def _look_at_all(
    read_settings: Callable[[], Settings], config: Path, key: str, clock: Clock
) -> tuple[str, Iterable[Check]]:
    try:
        settings = read_settings()
    except LoopError as error:
        return "", [Check("settings", "error", str(error), "Nothing else can be looked at before.")]
    return settings.project.name, _look(settings, config, key, clock)


def _look(settings: Settings, config: Path, key: str, clock: Clock) -> Iterator[Check]:
    yield Check("settings", "ok", f"{config}: {', '.join(settings.project.findings)}")
    known: Known | None = None
    try:
        known = read_known(settings)
    except LoopError as error:
        yield Check("state", "error", str(error), "No command will work before.")
    else:
        yield from look_here(settings, known)
    yield from look_at_studio(settings, known, key, clock)
