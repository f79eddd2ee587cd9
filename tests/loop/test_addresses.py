"""Addresses of images on servers: which of them are the same image."""

from __future__ import annotations

import pytest

from annotate.interface import make_interface
from annotate.matching import Sought, match_existing
from loop.addresses import identity, read_address


def test_images_of_one_path_whose_query_names_them_are_found_among_tasks_however_they_are_signed() -> None:
    """As a PACS serves them by WADO: one path, and the image in the query."""
    ours = {
        f"i{n}": Sought(read_address(address).copy, identity(address))
        for n in (1, 2, 4)
        for address in [f"https://pacs/wado?requestType=WADO&objectUID=1.2.{n}&token=a"]
    }
    rows: list[dict[str, object]] = [
        {"id": 10 + n, "data": {"image": f"https://pacs/wado?objectUID=1.2.{n}&requestType=WADO&token=b"}}
        for n in (1, 2, 3)
    ]
    rows.append({"id": 20, "data": {"image": "https://pacs/wado"}})
    found = match_existing(rows, make_interface(["Edema"]), ours, identity)
    assert found.task_ids == {"i1": 11, "i2": 12}
    assert (found.unmatched, found.strangers, dict(found.ambiguous)) == (("i4",), (13, 20), {})


def test_what_is_no_address_of_an_image_has_no_identity() -> None:
    assert [identity(text) for text in ("", "cxr/1.png", "https://u:p@host/1.png", "file:///1.png")] == [
        ""
    ] * 4


@pytest.mark.parametrize("key", ["a", "a.png", "study/1.2.840", "study.dcm"])
def test_an_object_whose_key_is_also_a_folder_has_a_copy_beside_the_folder(key: str) -> None:
    file, below = read_address(f"s3://b/{key}").copy, read_address(f"s3://b/{key}/1.png").copy
    assert file not in below.parents
    assert {file, *file.parents}.isdisjoint({below})
    assert file != read_address(f"s3://b/{key}2").copy


def test_a_key_that_a_query_repeats_counts_each_time_and_odd_characters_end_nothing() -> None:
    assert identity("https://h/i?id=1&id=9") != identity("https://h/i?id=2&id=9")
    assert identity("https://h/i?id=9&id=1") == identity("https://h/i?id=1&id=9&token=x")
    assert identity("https://h/a\ud800.png?n=\ud800") != identity("https://h/a.png")
