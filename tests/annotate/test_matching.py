"""Tasks of a project that existed before us, recognised as our images or listed as unclear."""

from __future__ import annotations

from pathlib import PurePath

from annotate.interface import make_interface
from annotate.matching import match_existing

INTERFACE = make_interface(["Edema"])


def row(task_id: int, image: str, **data: object) -> dict[str, object]:
    return {"id": task_id, "data": {"image": image, **data}}


def test_a_task_is_matched_by_item_id_then_by_file_name() -> None:
    paths = {"i1": PurePath("cxr/1.png"), "i2": PurePath("cxr/a b.png"), "i3": PurePath("cxr/3.png")}
    rows = [
        row(10, "/elsewhere/x.png", item="i1"),
        row(11, "/data/local-files/?d=old/a%20b.png"),
        row(12, "/data/upload/1/0123abcd-3.png"),
        row(13, "https://host/unknown.png"),
    ]
    found = match_existing(rows, INTERFACE, paths)
    assert found.task_ids == {"i1": 10, "i2": 11, "i3": 12}
    assert found.strangers == (13,)
    assert (found.ambiguous, found.unmatched) == ({}, ())


def test_the_same_name_in_two_folders_is_told_apart_by_the_folder() -> None:
    paths = {"i1": PurePath("data/train/1.png"), "i2": PurePath("data/test/1.png")}
    rows = [row(1, "s3://b/test/1.png"), row(2, "s3://b/train/1.png")]
    assert match_existing(rows, INTERFACE, paths).task_ids == {"i1": 2, "i2": 1}


def test_what_could_be_either_is_listed_and_not_guessed() -> None:
    paths = {"i1": PurePath("train/1.png"), "i2": PurePath("test/1.png"), "i3": PurePath("3.png")}
    found = match_existing([row(1, "/flat/1.png"), row(2, "/a/3.png"), row(3, "/b/3.png")], INTERFACE, paths)
    assert found.task_ids == {}
    assert found.ambiguous == {"i1": (1,), "i2": (1,), "i3": (2, 3)}
    assert found.unmatched == ()


def test_an_image_without_a_task_is_unmatched() -> None:
    assert match_existing([], INTERFACE, {"i1": PurePath("1.png")}).unmatched == ("i1",)
