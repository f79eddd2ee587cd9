"""Tasks of a project that existed before us, recognised as our images or listed as unclear."""

from __future__ import annotations

from base64 import b64encode
from pathlib import PurePath

import pytest

from annotate.interface import make_interface
from annotate.matching import Matches, Sought, match_existing

INTERFACE = make_interface(["Edema"])


def row(task_id: int, image: str, **data: object) -> dict[str, object]:
    return {"id": task_id, "data": {"image": image, **data}}


def at(*paths: str) -> dict[str, Sought]:
    """Images i1, i2 and so on at these paths."""
    return {f"i{n}": Sought(PurePath(path)) for n, path in enumerate(paths, start=1)}


def bare(address: str) -> str:
    """An address without its query."""
    return address.partition("?")[0] if "://" in address else ""


def match(rows: list[dict[str, object]], images: dict[str, Sought], data_key: str = "") -> Matches:
    return match_existing(rows, INTERFACE, images, bare, data_key)


def test_a_task_is_matched_by_item_id_then_by_file_name() -> None:
    rows = [
        row(10, "/elsewhere/x.png", item="i1"),
        row(11, "/data/local-files/?d=old/a%20b.png"),
        row(12, "/data/upload/1/0123abcd-3.png"),
        row(13, "https://host/unknown.png"),
    ]
    found = match(rows, at("cxr/1.png", "cxr/a b.png", "cxr/3.png"))
    assert found.task_ids == {"i1": 10, "i2": 11, "i3": 12}
    assert found.strangers == (13,)
    assert (found.ambiguous, found.unmatched) == ({}, ())


@pytest.mark.parametrize(
    "image",
    [
        "/data/local-files/?d=old/cxr/a%20(1)%20%C3%BC%2B.png",
        r"/data/local-files/?d=old\cxr\a%20(1)%20ü%2B.png",
        "/data/upload/7/0123abcd-a_1_ü.png",
        "/data/upload/7/0123abcd-a_1_%C3%BC.png",
        "s3://bucket/cxr/a (1) ü+.png",
        "gs://bucket/cxr/a%20(1)%20%C3%BC%2B.png",
        "https://host:9000/x/cxr/a%20(1)%20%C3%BC+.png?X-Amz-Signature=0f#page",
        r"C:\archive\cxr\a (1) ü+.png",
        "D:/archive/cxr/a (1) ü+.png",
        r"\\server\share\cxr\a (1) ü+.png",
        "/mnt/archive/cxr/a (1) ü+.png",
        "/tasks/7/resolve/?fileuri=" + b64encode("s3://bucket/cxr/a (1) ü+.png".encode()).decode(),
    ],
)
def test_a_path_is_found_in_every_kind_of_address(image: str) -> None:
    images = at("/here/cxr/a (1) ü+.png", "/here/cxr/b.png")
    assert match([row(1, image)], images).task_ids == {"i1": 1}


def test_a_name_that_holds_an_escape_or_looks_uploaded_is_found_as_it_is() -> None:
    images = at("cxr/a%20b.png", "cxr/0123abcd-1.png")
    rows = [row(1, "https://host/a%20b.png"), row(2, "https://host/0123abcd-1.png")]
    assert match(rows, images).task_ids == {"i1": 1, "i2": 2}


def test_the_same_address_wins_over_a_path_that_ends_alike() -> None:
    images = {
        "i1": Sought(PurePath("copies/https/a/1.png"), "https://a/1.png"),
        "i2": Sought(PurePath("copies/https/b/1.png"), "https://b/1.png"),
    }
    rows = [row(1, "https://b/1.png?sig=x"), row(2, "https://a/1.png"), row(3, "https://c/1.png")]
    found = match(rows, images)
    assert found.task_ids == {"i1": 2, "i2": 1}
    assert found.strangers == (3,)


def test_the_same_name_in_two_folders_is_told_apart_by_the_folder() -> None:
    rows = [row(1, "s3://b/test/1.png"), row(2, "s3://b/train/1.png")]
    found = match(rows, at("data/train/1.png", "data/test/1.png"))
    assert found.task_ids == {"i1": 2, "i2": 1}


def test_a_task_of_another_patient_s_image_of_the_same_name_is_a_stranger() -> None:
    ours = at(*(f"/here/p{n}/study1/frontal.jpg" for n in (1, 2, 3)))
    rows = [row(n, f"/there/p{n}/study1/frontal.jpg") for n in (2, 3, 4)]
    found = match(rows, ours)
    assert found.task_ids == {"i2": 2, "i3": 3}
    assert found.unmatched == ("i1",)
    assert found.strangers == (4,)


def test_the_only_file_of_a_name_is_not_matched_against_its_patient() -> None:
    ours = at("/d/patient1/view5.jpg", "/d/patient2/view1.jpg")
    rows = [row(1, "https://h/patient9/view5.jpg"), row(2, "https://h/x/patient2/view1.jpg")]
    found = match(rows, ours)
    assert found.task_ids == {"i2": 2}
    assert found.strangers == (1,)


def test_an_archive_whose_files_have_all_the_same_name_is_matched_by_its_folders() -> None:
    ours = at(*(f"/here/p{n}/study{n % 2}/frontal.jpg" for n in range(10_000)))
    rows = [row(n, f"s3://bucket/x/p{n}/study{n % 2}/frontal.jpg") for n in range(10_000)]
    found = match(rows, ours)  # compared each with each this would not end
    assert found.task_ids == {f"i{n + 1}": n for n in range(10_000)}


def test_what_could_be_either_is_listed_with_both_and_not_guessed() -> None:
    rows = [row(1, "/data/upload/1/0123abcd-1.png"), row(2, "/a/3.png"), row(3, "/b/3.png"), row(4, "4.png")]
    found = match(rows, at("train/1.png", "test/1.png", "3.png", "4.png"))
    assert found.task_ids == {"i4": 4}
    assert found.ambiguous == {"i1": (1,), "i2": (1,), "i3": (2, 3)}
    assert found.rivals == {"i1": ("i2",), "i2": ("i1",), "i3": ()}
    assert found.unmatched == ()


def test_a_task_that_fits_two_images_is_not_given_to_one_because_the_other_has_its_own() -> None:
    rows = [row(1, "https://host/train/1.png"), row(2, "1.png")]
    found = match(rows, at("train/1.png", "test/1.png"))
    assert found.task_ids == {"i1": 1}
    assert found.ambiguous == {"i2": (2,)}


def test_an_image_without_a_task_is_unmatched() -> None:
    assert match([], at("1.png")).unmatched == ("i1",)


def test_a_data_key_names_the_image_by_a_column_of_the_manifest() -> None:
    images = {
        "i1": Sought(PurePath("1.dcm"), "", "A-17"),
        "i2": Sought(PurePath("2.dcm"), "", "A-18"),
        "i3": Sought(PurePath("3.dcm"), "", "A-18"),
    }
    rows = [row(1, "/x/2.dcm", accession=" A-17 "), row(2, "/x/1.dcm", accession="A-18"), row(3, "/x/3.dcm")]
    found = match(rows, images, "accession")
    assert found.task_ids == {"i1": 1}  # and not by the address, which says otherwise
    assert found.ambiguous == {"i2": (2,), "i3": (2,)}
    assert found.strangers == (3,)


def test_a_data_key_names_the_image_by_its_file_with_or_without_its_end() -> None:
    images = at("cxr/p1/1.2.840.png", "cxr/p2/1.2.841.png", "cxr/p3/17.png")
    rows = [row(1, "x", file="p1/1.2.840.png"), row(2, "x", file="1.2.841"), row(3, "x", file=17)]
    assert match(rows, images, "file").task_ids == {"i1": 1, "i2": 2, "i3": 3}
