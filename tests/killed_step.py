"""Run one `loop` command and end the process with SIGKILL at a named point. Called by the kill tests.

python killed_step.py COMMAND CONFIG POINT [ARGUMENT ...]      POINT = before:save_pull, after:add_round, after:import_predictions, ...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from annotate.studio import Studio
from loop.cli import main
from loop.state import State

START_POINTS = {
    "add_items": State,
    "create_project": Studio,
    "import_tasks": Studio,
    "add_round": State,
    "import_predictions": Studio,
}
STEP_POINTS = {
    "save_pull": State,
    "add_round": State,
    "import_predictions": Studio,
    "serve": Studio,
    "confirm_push": State,
}
ROLLBACK_POINTS = {
    "add_rollback": State,
    "import_predictions": Studio,
    "serve": Studio,
    "delete_predictions": Studio,
    "confirm_rollback": State,
}


def deadly(method: Callable[..., Any], when: str) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        told = method(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return told

    return call


if __name__ == "__main__":
    command, config, point, *arguments = sys.argv[1:]
    when, name = point.split(":")
    owner = {"start": START_POINTS, "step": STEP_POINTS, "rollback": ROLLBACK_POINTS}[command][name]
    setattr(owner, name, deadly(getattr(owner, name), when))
    main([command, "-c", config, "-q", *arguments])
