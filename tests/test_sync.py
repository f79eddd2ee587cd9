"""A crowd works on a real Label Studio while the loop pulls and is killed; in the end nothing differs.

``SYNC_OPERATIONS=2000 pytest tests/test_sync.py -s`` runs it at full size and prints the figures.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crowd import FINDINGS, Crowd, compare
from killed_sync import OVERLAP

from annotate.desk import StudioDesk
from annotate.interface import make_interface, parse_interface
from annotate.studio import Studio
from loop.state import State
from loop.sync import sync

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

N_OPERATIONS = int(os.environ.get("SYNC_OPERATIONS", "120"))
N_AT_ONCE = 3
N_LOOKS = max(1, N_OPERATIONS // 400)  # comparisons with a full export, each after a share of the operations
P_DIE = 0.15  # a sync


class Puller:
    """A process that syncs and dies, and is started again each time it died, for as long as the block lasts."""

    def __init__(self, server: ThrowawayServer, project_id: int, state: Path) -> None:
        self.n_syncs = self.n_kills = 0
        self.went_wrong: list[str] = []
        self._server, self._project_id, self._state = server, project_id, state

    def __enter__(self) -> Puller:
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended = True
        self._hang_up()
        self._thread.join()
        assert not self.went_wrong, self.went_wrong

    def _run(self) -> None:
        while not self._ended and not self.went_wrong:
            with self._started() as self._process:
                if self._ended:
                    self._hang_up()
                self.n_syncs += self._process.stdout.read().count("synced")  # type: ignore[union-attr]
                wrong = self._process.stderr.read()  # type: ignore[union-attr]
            if self._process.returncode == -signal.SIGKILL:
                self.n_kills += 1
            elif self._process.returncode:
                self.went_wrong.append(wrong)

    def _started(self) -> subprocess.Popen[str]:
        script = str(Path(__file__).with_name("killed_sync.py"))
        said = [self._server.url, self._project_id, self._state, self.n_kills, P_DIE]
        return subprocess.Popen(
            [sys.executable, script, *map(str, said)],
            env=os.environ | {"LABEL_STUDIO_API_KEY": self._server.api_key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _hang_up(self) -> None:
        """Close the process's standard input: it ends after the sync in progress."""
        with contextlib.suppress(AttributeError):  # none was started yet
            self._process.stdin.close()  # type: ignore[union-attr]


def test_nothing_differs_after_a_crowd_worked_and_the_loop_was_killed(
    studio_server: ThrowawayServer, tmp_path: Path
) -> None:
    studio = Studio(studio_server.url, studio_server.api_key, page_size=20)
    project_id = studio.create_project("crowd", make_interface(FINDINGS).xml)
    interface = parse_interface(studio.project(project_id).xml)
    studio.import_tasks(
        project_id, [{"data": {"image": f"/data/local-files/?d=x/{i}.png"}} for i in range(40)]
    )
    crowd = Crowd(studio, project_id, interface, [new_reader(studio, f"crowd{i}") for i in range(3)])
    place = StudioDesk(studio, project_id, interface, overlap=OVERLAP)
    puller = Puller(studio_server, project_id, tmp_path / "state.db")
    differences: list[str] = []
    for look in range(1, N_LOOKS + 1):
        with puller:
            crowd.work(N_OPERATIONS * look // N_LOOKS, N_AT_ONCE, seed=look)
        with State.open(str(tmp_path / "state.db")) as state:
            sync(place, state, datetime.now(UTC))
            studio.delete_task(max(state.labels()))  # one more, of which nothing else tells
            sync(place, state, datetime.now(UTC))
            differences += compare(studio, project_id, interface, state.labels())
            n_labels = sum(map(len, state.labels().values()))
            n_versions = len(state.label_history())
    print(
        f"\n{crowd.done.total()} operations {dict(crowd.done)}, {crowd.raced} lost a race, {puller.n_syncs} syncs, {puller.n_kills} kills, "
        f"{n_versions} versions, {n_labels} labels at the end, {N_LOOKS} looks, {len(differences)} differences"
    )
    assert not differences
    assert crowd.done.total() >= N_OPERATIONS
    assert crowd.raced < N_OPERATIONS / 2
    assert puller.n_syncs > 2
    assert n_labels > N_OPERATIONS / 10
    studio.delete_project(project_id)


def new_reader(studio: Studio, name: str) -> int:
    """Another user of the server; returns its id."""
    made = studio._create("adding a reader", "api/users/", {"email": f"{name}@example.com", "username": name})
    return int(made["id"])
