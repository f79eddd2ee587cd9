"""Label Studio's JSON, as recorded from a live 1.23.2, read into records and back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from annotate.interface import make_interface
from annotate.payloads import (
    local_file_address,
    path_in_address,
    read_label,
    read_task,
    read_time,
    write_prediction,
    write_results,
    write_task,
    write_time,
)
from annotate.records import Suggestion

INTERFACE = make_interface(["Edema", "Effusion"])
ANNOTATION: dict[str, Any] = {
    "id": 7,
    "completed_by": 2,
    "result": [
        {
            "id": "x",
            "from_name": "edema",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["yes"]},
        },
        {
            "id": "y",
            "from_name": "effusion",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["cannot tell"]},
        },
    ],
    "was_cancelled": False,
    "ground_truth": True,
    "created_at": "2026-11-24T02:40:22.581478Z",
    "updated_at": "2026-11-24T03:40:23.044461+01:00",
    "lead_time": 12.5,
}
TASK: dict[str, Any] = {
    "id": 16,
    "data": {"image": "/data/local-files/?d=cxr/1.png", "item": "abc"},
    "updated_at": "2026-11-24T02:40:23.050000Z",
    "annotations": [ANNOTATION],
}


def test_a_task_is_read_with_its_whole_set_of_labels() -> None:
    task = read_task(TASK, INTERFACE)
    assert (task.task_id, task.item, task.image) == (16, "abc", "/data/local-files/?d=cxr/1.png")
    (label,) = task.labels
    assert (label.annotation_id, label.task_id, label.annotator) == (7, 16, "2")
    assert label.answers["Edema"] == 1.0
    assert math.isnan(label.answers["Effusion"])
    assert label.updated_at == datetime(2026, 11, 24, 2, 40, 23, 44461, UTC)
    assert label.updated_at.tzinfo is UTC
    assert (label.lead_time_s, label.ground_truth, label.skipped, label.problem) == (12.5, True, False, None)
    assert json.loads(label.raw) == ANNOTATION


def test_an_unreadable_annotation_is_kept_raw_with_its_reason() -> None:
    broken = ANNOTATION | {"result": [{"foo": 1}], "completed_by": {"id": 5, "email": "b@example.com"}}
    label = read_label(broken, 16, INTERFACE)
    assert "no control None" in (label.problem or "")
    assert label.answers == {}
    assert label.annotator == "5"
    assert json.loads(label.raw) == broken


def test_a_skip_has_no_answers_and_is_no_problem() -> None:
    label = read_label(ANNOTATION | {"was_cancelled": True, "lead_time": None}, 16, INTERFACE)
    assert (label.skipped, label.answers, label.problem, label.lead_time_s) == (True, {}, None, None)


def test_a_task_without_our_id_is_read_too() -> None:
    task = read_task({"id": 3, "data": {}, "updated_at": "2026-11-24T02:40:23Z"}, INTERFACE)
    assert (task.item, task.image, task.labels) == (None, "", ())


def test_times_go_both_ways() -> None:
    text = "2026-11-23T01:52:07.830960Z"
    assert write_time(read_time(text)) == text
    assert write_time(read_time("2026-11-23T01:52:07Z")) == "2026-11-23T01:52:07.000000Z"


def test_scores_rise_with_rank_and_stay_inside_zero_and_one() -> None:
    scores = [write_prediction(Suggestion(i, i, None), 1000, "v", INTERFACE)["score"] for i in range(1, 1001)]
    assert scores == sorted(set(scores))
    assert 0 < scores[0] < scores[-1] < 1
    with pytest.raises(ValueError, match="rank 0"):
        write_prediction(Suggestion(1, 0, None), 10, "v", INTERFACE)


def test_a_random_image_carries_no_suggestion() -> None:
    assert write_prediction(Suggestion(1, 1, None), 2, "v", INTERFACE)["result"] == []
    shown = write_prediction(Suggestion(1, 1, {"Edema": 0.7, "Effusion": 0.1}), 2, "v", INTERFACE)
    assert INTERFACE.read(shown["result"]) == {"Edema": 1.0, "Effusion": 0.0}
    assert (shown["task"], shown["model_version"]) == (1, "v")


def test_our_item_id_wins_over_extra_data() -> None:
    task = write_task("abc", "/x.png", {"item": "other", "age": 41}, INTERFACE)
    assert task == {"data": {"item": "abc", "age": 41, "image": "/x.png"}}


def test_answers_are_written_as_an_annotator_would_give_them() -> None:
    result = write_results(INTERFACE, {"Edema": 0.0, "Effusion": math.nan})
    read = INTERFACE.read(result)
    assert [part["value"]["choices"] for part in result] == [["no"], ["cannot tell"]]
    assert read["Edema"] == 0.0
    assert math.isnan(read["Effusion"])
    assert write_results(INTERFACE, {}) == []


@pytest.mark.parametrize("path", ["cxr/a b.png", "cxr/über/1+1=2&x.png", "a%20b.png"])
def test_a_local_file_address_gives_its_path_back(path: str) -> None:
    assert str(path_in_address(local_file_address(path))) == path


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/6126ea65-a_b.png", "a_b.png"),
        ("https://host/x/a%20b.png?sig=1", "a b.png"),
        ("s3://bucket/chest/1.png", "1.png"),
        ("", ""),
    ],
)
def test_any_address_gives_its_file_name(address: str, name: str) -> None:
    assert path_in_address(address).name == name
