"""The phantoms: the same seed draws the same chest, and each finding changes what it should."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from loop.demo import anatomy, disease
from loop.demo.anatomy import LEFT, RIGHT, SIDES, draw_anatomy
from loop.demo.phantoms import FINDINGS, draw, make_archive
from loop.demo.radiograph import Pose, Sheet
from loop.errors import BadInput


def pixels(seed: int, findings: tuple[str, ...] = (), difficulty: float = 0.2) -> NDArray[np.float64]:
    return np.asarray(draw(np.random.default_rng(seed), findings, difficulty=difficulty).image, dtype=float)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_phantom_is_an_8_bit_grey_picture_that_uses_its_range() -> None:
    image = draw(np.random.default_rng(0)).image
    assert (image.mode, image.size) == ("L", (512, 512))
    low, high = np.percentile(np.asarray(image), [1, 99])
    assert low < 40
    assert high > 200


@pytest.mark.parametrize("finding", ["", *FINDINGS])
def test_the_same_seed_draws_the_same_picture(finding: str) -> None:
    findings = (finding,) if finding else ()
    assert np.array_equal(pixels(3, findings), pixels(3, findings))
    assert not np.array_equal(pixels(3, findings), pixels(4, findings))


def test_lung_is_darker_than_heart_and_air_outside_is_darkest() -> None:
    for seed in range(8):
        picture = gaussian_filter(pixels(seed), 6)
        lung, mediastinum, abdomen, outside = (
            picture[y, x] for y, x in [(200, 160), (300, 256), (470, 256), (20, 40)]
        )
        assert outside < lung < min(mediastinum, abdomen) - 50


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_every_chest_is_built_as_a_chest_is(seed: int) -> None:
    """Right diaphragm above the left; heart mostly left, inside the thorax; healthy ratio below 0.52."""
    a = draw_anatomy(np.random.default_rng(seed))
    assert anatomy.dome_height(a, RIGHT) < anatomy.dome_height(a, LEFT)
    healthy, large = anatomy.heart(a, a.heart_ratio), anatomy.heart(a, disease.enlarged_heart(1.0))
    assert healthy[:, 0].max() > -healthy[:, 0].min() > 0
    assert a.heart_ratio <= 0.52
    for outline, ratio in ((healthy, a.heart_ratio), (large, disease.enlarged_heart(1.0))):
        drawn = np.ptp(outline[:, 0]) / (2 * a.chest)  # what a reader measures with a ruler
        assert drawn == pytest.approx(ratio, abs=0.02)
    for side in SIDES:
        lung = anatomy.lung(a, side)
        assert (lung[:, 0] * side > 0).all()
        assert np.abs(lung[:, 0]).max() <= a.chest
        assert lung[:, 1].max() == pytest.approx(anatomy.angle_height(a, side), abs=0.05)


def test_a_heart_is_called_enlarged_only_above_a_ratio_of_0_55() -> None:
    assert disease.enlarged_heart(0.0) > 0.55


def test_fluid_rises_with_severity_and_lies_low_and_lateral() -> None:
    a = draw_anatomy(np.random.default_rng(1))
    sheet = Sheet(256, Pose(1.0, 0.0, (0.0, 0.0), 1000.0, 0.3, 1.0, 0.0))
    mask = sheet.fill([anatomy.lung(a, RIGHT)])
    amounts, centres = [], []
    for severity in (0.0, 0.25, 0.5, 0.75, 1.0):
        fluid = disease.pleural_fluid(sheet, a, RIGHT, severity, np.random.default_rng(2)) * mask
        amounts.append(float(fluid.sum()))
        centres.append(float((fluid * sheet.y).sum() / fluid.sum()))
    assert amounts == sorted(amounts)
    assert amounts[0] > 0
    assert centres[0] > centres[-1]  # the first fluid blunts the angle
    assert centres[0] > anatomy.dome_height(a, RIGHT)


def test_a_pneumothorax_leaves_air_without_markings_at_the_apex() -> None:
    a = draw_anatomy(np.random.default_rng(1))
    sheet = Sheet(512, Pose(1.0, 0.0, (0.0, 0.0), 1000.0, 0.3, 1.0, 0.0))
    mask = sheet.fill([anatomy.lung(a, LEFT)])
    areas = []
    for severity in (0.0, 0.5, 1.0):
        beyond, change = disease.collapse(sheet, a, LEFT, mask, severity)
        areas.append(float(beyond.sum()))
        assert float((beyond * sheet.y).sum() / beyond.sum()) < -0.1
        assert change.max() > 0.05  # the pleural line is there however small the gap
    assert areas == sorted(areas)


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_florid_finding_changes_the_picture_more_than_a_subtle_one(finding: str) -> None:
    """Mean absolute change of the blurred picture against the same chest without the finding."""
    from loop.demo.phantoms import _expose

    changes = {}
    for severity in (0.1, 0.95):
        total = 0.0
        for seed in range(6):
            a = draw_anatomy(np.random.default_rng(seed))
            sheet = Sheet(256, Pose(1.0, 0.0, (0.0, 0.0), 3000.0, 0.3, 1.0, 0.0))
            both = [
                gaussian_filter(
                    np.asarray(_expose(sheet, a, shown, severity, np.random.default_rng(9)), float), 3
                )
                for shown in (frozenset[str](), frozenset([finding]))
            ]
            total += float(np.abs(both[1] - both[0]).mean())
        changes[severity] = total
    assert changes[0.95] > 1.3 * changes[0.1] > 0


def test_an_archive_shows_the_loop_files_and_patients_only(tmp_path: Path) -> None:
    told: list[int] = []
    archive = make_archive(tmp_path, 12, np.random.default_rng(0), drawn=told.append)
    seen, hidden = rows(archive.manifest), rows(archive.labels)
    assert told == list(range(1, 13))
    assert list(seen[0]) == ["file", "patient"]
    assert list(hidden[0]) == ["file", "patient", *FINDINGS, "difficulty"]
    assert [row["file"] for row in seen] == [row["file"] for row in hidden]
    assert sorted(path.name for path in archive.images.iterdir()) == sorted(
        Path(row["file"]).name for row in seen
    )
    for row in seen:
        with Image.open(tmp_path / row["file"]) as image:
            assert (image.mode, image.size) == ("L", (512, 512))


def test_pictures_of_one_patient_share_findings_and_differ_in_exposure(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, 40, np.random.default_rng(5), size=128)
    patients: dict[str, list[dict[str, str]]] = {}
    for row in rows(archive.labels):
        patients.setdefault(row["patient"], []).append(row)
    several = [own for own in patients.values() if len(own) > 1]
    assert several
    for own in several:
        assert len(own) <= 3
        assert len({tuple(row[finding] for finding in FINDINGS) for row in own}) == 1
        assert len({(tmp_path / row["file"]).read_bytes() for row in own}) == len(own)


def test_an_archive_keeps_to_its_prevalences(tmp_path: Path) -> None:
    """Some 200 patients: five binomial standard errors allow any honest draw."""
    prevalences = {"Effusion": 0.5, "Cardiomegaly": 0.1}
    archive = make_archive(tmp_path, 300, np.random.default_rng(3), tuple(prevalences), prevalences, size=64)
    by_patient = {row["patient"]: row for row in rows(archive.labels)}
    for finding, p in prevalences.items():
        share = np.mean([int(row[finding]) for row in by_patient.values()])
        assert share == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / len(by_patient)))


def test_a_longer_archive_begins_like_a_shorter_one(tmp_path: Path) -> None:
    short = make_archive(tmp_path / "short", 6, np.random.default_rng(8), size=128)
    long = make_archive(tmp_path / "long", 9, np.random.default_rng(8), size=128)
    assert rows(long.labels)[:6] == rows(short.labels)
    for row in rows(short.labels):
        assert (tmp_path / "long" / row["file"]).read_bytes() == (
            tmp_path / "short" / row["file"]
        ).read_bytes()


def test_a_finding_that_cannot_be_drawn_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot draw Hernia"):
        draw(np.random.default_rng(0), ["Hernia"])
    with pytest.raises(BadInput, match="Hernia has no prevalence"):
        make_archive(tmp_path, 3, np.random.default_rng(0), ["Hernia"])
    with pytest.raises(BadInput, match="at least one"):
        make_archive(tmp_path, 0, np.random.default_rng(0))
