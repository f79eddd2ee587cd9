"""Images are found, named by their content, and split by patient."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import numpy as np
import pytest
from dicom_files import RAMP, write_dicom
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import BadInput
from loop.find import Found, find_images
from loop.items import Item, draw_streams, hash_images


def write(path: Path, content: bytes = b"any") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def manifest(folder: Path, text: str) -> Path:
    return write(folder / "images.csv", text.encode())


def refusal(source: Path) -> str:
    with pytest.raises(BadInput) as caught:
        find_images(source)
    return str(caught.value)


def test_a_folder_tree_gives_its_images_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/1.jpeg", "c.jpg", "notes.txt", "README", ".hidden/x.png", "a/.y.png"):
        write(tmp_path / name)
    write_dicom(tmp_path / "d.dcm", RAMP)
    write_dicom(tmp_path / "a" / "1.2.840.113619.2", RAMP)  # named by UID, as archives do
    write_dicom(tmp_path / "a" / "IM0001", RAMP)
    found = find_images(tmp_path)
    assert [f.path.relative_to(tmp_path).as_posix() for f in found] == [
        "a/1.2.840.113619.2",
        "a/1.jpeg",
        "a/IM0001",
        "b/2.PNG",
        "c.jpg",
        "d.dcm",
    ]


def test_nothing_to_find_is_said_with_the_remedy(tmp_path: Path) -> None:
    assert "[images] source" in refusal(tmp_path / "gone")
    write(tmp_path / "notes.txt")
    assert "no image" in refusal(tmp_path)
    assert "no image" in refusal(manifest(tmp_path, "file,patient\n"))


def test_the_patient_is_the_one_group_of_the_pattern(tmp_path: Path) -> None:
    for name in ("p1/a.png", "p1/deep/b.png", "p2/a.png", "stray.png"):
        write(tmp_path / name)
    found = find_images(tmp_path, r"^([^/]+)/")
    assert [f.patient for f in found] == ["p1", "p1", "p2", None]


def test_a_dicom_patient_is_kept_as_a_keyed_hash_only(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c"):
        write_dicom(tmp_path / name, RAMP, PatientID="0815-Muster", PatientName="Muster^Max")
    write_dicom(tmp_path / "other.dcm", RAMP, PatientID="4711")
    write_dicom(tmp_path / "none.dcm", RAMP, PatientID="")
    found = find_images(tmp_path, key=b"secret")
    keyed = hmac.new(b"secret", b"0815-Muster", hashlib.sha256).hexdigest()[:32]
    assert [f.patient == keyed for f in found] == [True, True, True, False, False]
    assert found[3].patient is None
    assert found[4].patient not in (None, keyed)
    assert find_images(tmp_path, key=b"another")[0].patient != keyed
    told = repr(found) + repr(hash_images(found))
    for raw in ("0815", "Muster", "4711"):
        assert raw not in told


def test_where_the_pattern_says_nothing_the_dicom_patient_does(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", RAMP, PatientID="0815")
    write_dicom(tmp_path / "b.dcm", RAMP, PatientID="0815")
    a, b = find_images(tmp_path, r"^([^/]+)/")
    assert a.patient == b.patient is not None


def test_a_damaged_dicom_header_does_not_end_the_search(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:150])
    assert [f.patient for f in find_images(tmp_path)] == [None]


def test_a_manifest_names_files_patients_and_metadata(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.png")
    elsewhere = write(tmp_path / "elsewhere" / "b.jpg")
    write(tmp_path / "in" / "c, d.png")
    source = manifest(
        tmp_path / "in",
        f'\ufeffFile, patient ,view,site\na.png,p1,AP,"Ward 3, left"\n\n{elsewhere},p2,PA,\n"c, d.png",,NA,x\n',
    )
    found = find_images(source)
    assert [f.path for f in found] == [tmp_path / "in" / "a.png", elsewhere, tmp_path / "in" / "c, d.png"]
    assert [f.patient for f in found] == ["p1", "p2", None]
    assert [dict(f.metadata) for f in found] == [
        {"view": "AP", "site": "Ward 3, left"},
        {"view": "PA", "site": ""},
        {"view": "NA", "site": "x"},
    ]


def test_a_manifest_without_patients_reads_them_from_dicom_whatever_the_name(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.ima", RAMP, PatientID="0815")
    write_dicom(tmp_path / "b.dcm", RAMP, PatientID="0815")
    a, b = find_images(manifest(tmp_path, "file\na.ima\nb.dcm\n"))
    assert a.patient == b.patient is not None
    assert "0815" not in repr([a, b])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file\na.png\ngone.png\n", "line 3: there is no file"),
        ("file,patient\na.png,1\n,2\n", "line 3: there is no file (empty)"),
        ("file\na.png\nb.png\n ./a.png\n", "line 4: ./a.png stands in line 2 too"),
        ("path,patient\na.png,1\n", "no column `file`; it has path, patient"),
        ("file;patient\na.png;1\n", "no column `file`; it has file;patient"),
        ("file,patient\na.png\n", "line 2: 1 fields, but 2 columns"),
        ("file,patient\na.png,1,\n", "line 2: 3 fields, but 2 columns"),
        ("file,File\na.png,b.png\n", "column `file` twice"),
        ("", "no column `file`; it has none"),
    ],
)
def test_a_manifest_that_cannot_be_used_names_line_and_fault(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png")
    assert said in refusal(manifest(tmp_path, text))


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "cannot be read as CSV" in refusal(write(tmp_path / "images.csv", b"file\n\xff\xfe\n"))
    said = refusal(write(tmp_path / "images.png", b"\x89PNG\r\n\xff"))
    assert "Name the folder of an image, not the image" in said


def test_items_are_named_by_content_and_duplicates_and_unreadable_files_are_listed(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.png", b"one"), write(tmp_path / "b.png", b"two")
    copy, gone = write(tmp_path / "copy.png", b"one"), tmp_path / "gone.png"
    told: list[tuple[int, int]] = []
    hashed = hash_images(
        [Found(a, "p", {"view": "AP"}), Found(b, None, {}), Found(copy, "q", {}), Found(gone, "p", {})],
        lambda done, total: told.append((done, total)),
    )
    assert [item.path for item in hashed.items] == [a, b]
    assert hashed.items[0].item == hashlib.sha256(b"one").hexdigest()[:32]
    assert hashed.items[0].patient == "p"
    assert hashed.items[0].metadata == {"view": "AP"}
    assert hashed.items[1].patient == f"image {hashed.items[1].item}"
    assert [path for path, _ in hashed.problems] == [str(copy), str(gone)]
    assert str(a) in hashed.problems[0][1]
    assert "No such file" in hashed.problems[1][1]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    path.chmod(0)
    assert "Permission denied" in hash_images([Found(path, None, {})]).problems[0][1]


patients_of_images = st.lists(st.integers(0, 12), min_size=1, max_size=60)


def pool(patients: list[int]) -> list[Item]:
    return [
        Item(hashlib.sha256(str(i).encode()).hexdigest()[:32], Path(f"{i}.png"), f"p{p}", "active", None, {})
        for i, p in enumerate(patients)
    ]


@given(patients_of_images, st.integers(0, 2**32), st.integers(0, 20))
def test_the_laws_of_the_streams(patients: list[int], seed: int, most: int) -> None:
    items = pool(patients)
    drawn = draw_streams(items, np.random.default_rng(seed), most)
    assert [i.item for i in drawn] == sorted(i.item for i in items)
    streams: dict[str, list[str]] = {}
    for item in drawn:
        streams.setdefault(item.patient, []).append(item.stream)
    asked = [patient for patient, theirs in streams.items() if "random" in theirs]
    assert len(asked) == min(len(streams) // 2, most)  # at most half of the patients
    for patient, theirs in streams.items():
        if patient in asked:  # one random image, the others spare
            assert sorted(theirs) == ["random"] + ["spare"] * (len(theirs) - 1)
        else:
            assert set(theirs) == {"active"}
    assert sorted(i.position for i in drawn if i.position is not None) == list(range(len(asked)))
    assert all((i.position is not None) == (i.stream == "random") for i in drawn)


@given(patients_of_images, st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_draw_depends_on_the_seed_alone(patients: list[int], seed: int, shuffler) -> None:  # type: ignore[no-untyped-def]
    items = pool(patients)
    drawn = draw_streams(items, np.random.default_rng(seed), 99)
    shuffler.shuffle(items)
    assert draw_streams(items, np.random.default_rng(seed), 99) == drawn


def test_every_patient_and_every_image_of_a_patient_is_equally_likely_to_be_drawn() -> None:
    """4,000 draws from 4 patients of 1, 1, 2 and 4 images: each patient is random in half, within 5 sd."""
    items = pool([0, 1, 2, 2, 3, 3, 3, 3])
    rng = np.random.default_rng(3)
    drawn: dict[str, int] = {}
    for _ in range(4000):
        for item in draw_streams(items, rng, 99):
            drawn[item.path.stem] = drawn.get(item.path.stem, 0) + (item.stream == "random")
    expected = {"0": 0.5, "1": 0.5, "2": 0.25, "3": 0.25} | dict.fromkeys("4567", 0.125)
    for name, p in expected.items():
        assert abs(drawn[name] - 4000 * p) < 5 * np.sqrt(4000 * p * (1 - p))
