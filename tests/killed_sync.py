"""Sync a state with a project again and again, and die by SIGKILL at random points. Called by the sync test.

python killed_sync.py URL PROJECT STATE SEED P_DIE      ends by itself when its standard input is closed
"""

from __future__ import annotations

import os
import select
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import event

from annotate.desk import StudioDesk
from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.state import State
from loop.sync import sync

OVERLAP = timedelta(seconds=10)  # minutes would hide what a short test is after
LAST_STATEMENT = 40


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(state: State, rng: np.random.Generator) -> None:
    """Die between the pull and its save, or at one of the statements that save it."""
    if rng.random() < 0.3:
        state.save_pull = die  # type: ignore[method-assign]
        return
    left = int(rng.integers(1, LAST_STATEMENT))

    @event.listens_for(state._db._engine, "before_cursor_execute")
    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()


if __name__ == "__main__":
    url, project, path, seed, p_die = sys.argv[1:]
    rng = np.random.default_rng(int(seed))
    with Studio(url, os.environ["LABEL_STUDIO_API_KEY"], page_size=20) as studio, State.create(path) as state:
        interface = parse_interface(studio.project(int(project)).xml)
        place = StudioDesk(studio, int(project), interface, overlap=OVERLAP)
        armed = False
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            if not armed and rng.random() < float(p_die):
                arm(state, rng)
                armed = True
            sync(place, state, datetime.now(UTC))
            print("synced", flush=True)
