"""The scripted annotator, on a real Label Studio: it labels what is served, as it is served, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from annotate.interface import Interface, make_interface, parse_interface
from annotate.payloads import local_file_address, read_task, write_prediction, write_task
from annotate.records import Label, Suggestion
from annotate.studio import Studio
from loop.demo.annotator import label_queue
from loop.errors import BadInput

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

FINDINGS = ("Effusion", "Opacity")
N_TASKS, N_BATCH = 12, 8
TRUTH = {f"item{i}": {"Effusion": i % 2, "Opacity": (i // 2) % 2} for i in range(N_TASKS)}


class Served:
    """A project of 12 tasks, 8 of which are the present batch, served from the last to the first."""

    def __init__(self, studio: Studio, title: str) -> None:
        self.studio = studio
        self.project_id = studio.create_project(title, make_interface(FINDINGS).xml)
        self.interface: Interface = parse_interface(studio.project(self.project_id).xml)
        tasks = [
            write_task(item, local_file_address(f"images/{item}.png"), {}, self.interface) for item in TRUTH
        ]
        self.item_of = dict(zip(studio.import_tasks(self.project_id, tasks), TRUTH, strict=True))
        self.batch = list(self.item_of)[:N_BATCH][::-1]
        asked = [Suggestion(task_id, rank, None) for rank, task_id in enumerate(self.batch, start=1)]
        studio.import_predictions(
            self.project_id, [write_prediction(one, N_BATCH, "v1", self.interface) for one in asked]
        )
        studio.serve(self.project_id, "v1")

    def labels(self) -> dict[str, Label]:
        """What is in Label Studio now, in the order it was submitted."""
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        found = [
            (self.item_of[task.task_id], label)
            for task in (
                read_task(row, self.interface)
                for page in self.studio.changed_tasks(self.project_id, long_ago)
                for row in page
            )
            for label in task.labels
        ]
        return dict(sorted(found, key=lambda pair: pair[1].annotation_id))


@pytest.fixture(scope="module")
def serve(studio_server: ThrowawayServer) -> Callable[[str], Served]:
    studio = Studio(studio_server.url, studio_server.api_key)
    return lambda title: Served(studio, title)


def test_it_gives_the_known_answers_in_the_order_served(serve: Callable[[str], Served]) -> None:
    served = serve("in order")
    told: list[int] = []
    n = label_queue(
        served.studio,
        served.project_id,
        served.interface,
        TRUTH,
        5,
        np.random.default_rng(0),
        labelled=told.append,
    )
    labels = served.labels()
    assert n == 5
    assert told == [1, 2, 3, 4, 5]
    assert list(labels) == [served.item_of[task_id] for task_id in served.batch[:5]]
    assert {item: dict(label.answers) for item, label in labels.items()} == {
        item: {finding: float(v) for finding, v in TRUTH[item].items()} for item in labels
    }
    assert all(label.lead_time_s is not None and 1.0 < label.lead_time_s < 120.0 for label in labels.values())


def test_it_stops_at_the_end_of_the_batch(serve: Callable[[str], Served]) -> None:
    served = serve("the end")
    rng = np.random.default_rng(0)
    assert label_queue(served.studio, served.project_id, served.interface, TRUTH, 100, rng) == N_BATCH
    assert set(served.labels()) == {served.item_of[task_id] for task_id in served.batch}
    assert label_queue(served.studio, served.project_id, served.interface, TRUTH, 100, rng) == 0


def test_answers_are_found_by_path_and_by_file_name_too(serve: Callable[[str], Served]) -> None:
    for title, key in (("by path", "images/{}.png"), ("by name", "{}.png")):
        served = serve(title)
        known = {key.format(item): answers for item, answers in TRUTH.items()}
        assert label_queue(
            served.studio, served.project_id, served.interface, known, 2, np.random.default_rng(0)
        )
        for item, label in served.labels().items():
            assert label.answers == TRUTH[item]


def test_cannot_tell_is_said_and_an_absent_finding_is_left_open(serve: Callable[[str], Served]) -> None:
    served = serve("cannot tell")
    vague: dict[str, dict[str, int | None]] = {item: {"Effusion": None} for item in TRUTH}
    label_queue(served.studio, served.project_id, served.interface, vague, 1, np.random.default_rng(0))
    (label,) = served.labels().values()
    assert math.isnan(label.answers["Effusion"])
    assert math.isnan(label.answers["Opacity"])
    assert "effusion" in label.raw
    assert "opacity" not in label.raw


def test_with_error_rate_one_every_answer_is_wrong(serve: Callable[[str], Served]) -> None:
    served = serve("all wrong")
    rng = np.random.default_rng(0)
    label_queue(served.studio, served.project_id, served.interface, TRUTH, 4, rng, error_rate=1.0)
    for item, label in served.labels().items():
        assert label.answers == {finding: 1.0 - v for finding, v in TRUTH[item].items()}


def test_skipped_tasks_are_skipped_once_and_do_not_count(serve: Callable[[str], Served]) -> None:
    served = serve("skips")
    rng = np.random.default_rng(4)
    n = label_queue(served.studio, served.project_id, served.interface, TRUTH, 100, rng, skip_rate=0.4)
    labels = served.labels()
    assert len(labels) == N_BATCH
    assert 0 < n == sum(not label.skipped for label in labels.values()) < N_BATCH
    assert label_queue(served.studio, served.project_id, served.interface, TRUTH, 100, rng) == 0


def test_the_same_chance_gives_the_same_labels(serve: Callable[[str], Served]) -> None:
    both = []
    for title in ("one way", "same way"):
        served = serve(title)
        rng = np.random.default_rng(7)
        label_queue(
            served.studio, served.project_id, served.interface, TRUTH, 6, rng, error_rate=0.3, skip_rate=0.2
        )
        both.append(
            [
                (item, label.skipped, label.lead_time_s, dict(label.answers))
                for item, label in served.labels().items()
            ]
        )
    assert both[0] == both[1]


def test_an_image_nobody_knows_about_is_named(serve: Callable[[str], Served]) -> None:
    served = serve("unknown")
    with pytest.raises(BadInput, match="item7"):
        label_queue(served.studio, served.project_id, served.interface, {}, 1, np.random.default_rng(0))
    assert served.labels() == {}
