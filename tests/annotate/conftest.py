"""A project of one's own on the real Label Studio, for each test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from annotate.desk import StudioDesk
from annotate.interface import Interface, make_interface
from annotate.payloads import write_results, write_task
from annotate.records import Suggestion
from annotate.studio import Studio

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer


@dataclass(frozen=True)
class Workplace:
    """A project with twelve tasks, its desk, and a scripted annotator."""

    studio: Studio
    project_id: int
    interface: Interface
    desk: StudioDesk
    tasks: Sequence[int]

    def label(self, task_id: int, answers: Mapping[str, float], seconds: float = 3.0) -> int:
        """Submit an annotation; returns its id."""
        return self.studio.submit(task_id, write_results(self.interface, answers), seconds)

    def through(self, url: str, api_key: str) -> StudioDesk:
        """The same desk by another way to the server, with little patience."""
        return replace(
            self.desk, studio=Studio(url, api_key, timeout_s=30), settle_s=1.0, sleep=lambda _: None
        )

    def work_through(self, n: int) -> list[int]:
        """Label the next n tasks as the queue serves them; returns their ids."""
        served = []
        for _ in range(n):
            task = self.studio.next_task(self.project_id)
            assert task is not None
            served.append(int(task["id"]))
            self.label(served[-1], {"Edema": 0.0, "Effusion": 1.0})
        return served


def batch(task_ids: Sequence[int], random: Sequence[int] = ()) -> list[Suggestion]:
    """Suggestions in this order; tasks in ``random`` carry none."""
    return [
        Suggestion(t, rank, None if t in random else {"Edema": 0.8, "Effusion": 0.3})
        for rank, t in enumerate(task_ids, start=1)
    ]


@pytest.fixture
def studio(studio_server: ThrowawayServer) -> Iterator[Studio]:
    with Studio(studio_server.url, studio_server.api_key, page_size=5) as studio:
        yield studio


@pytest.fixture
def place(studio: Studio, request: pytest.FixtureRequest) -> Iterator[Workplace]:
    interface = make_interface(["Edema", "Effusion"])
    project_id = studio.create_project(request.node.name[:50], interface.xml)
    rows = [write_task(f"item{i:02d}", f"/data/local-files/?d=cxr/{i}.png", {}, interface) for i in range(12)]
    tasks = studio.import_tasks(project_id, rows)
    desk = StudioDesk(studio, project_id, interface, settle_s=2.0)
    yield Workplace(studio, project_id, interface, desk, tasks)
    studio.delete_project(project_id)
