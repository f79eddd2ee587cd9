"""The key of the patients' hash: one a project, made once, secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import RAMP, write_dicom

from loop.errors import BadInput
from loop.find import find_images
from loop.items import ensure_patient_key


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "patient.key"
    key = ensure_patient_key(path)
    assert ensure_patient_key(path) == key
    assert len(key) == 64
    assert path.stat().st_mode & 0o077 == 0
    assert [found.name for found in tmp_path.iterdir()] == ["patient.key"]


def test_two_projects_give_a_patient_two_names_and_one_project_one(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    write_dicom(images / "a.dcm", RAMP, PatientID="0815")
    one, two = (ensure_patient_key(tmp_path / name) for name in ("one.key", "two.key"))
    assert find_images(images, key=one)[0].patient != find_images(images, key=two)[0].patient
    write_dicom(images / "later.dcm", RAMP, PatientID="0815")
    first, later = find_images(images, key=ensure_patient_key(tmp_path / "one.key"))
    assert first.patient == later.patient is not None


def test_a_damaged_key_is_refused_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "patient.key"
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="damaged"):
        ensure_patient_key(path)
    assert path.read_bytes() == b""
