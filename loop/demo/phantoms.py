"""Chest phantoms: radiographs of nobody, drawn by numbers, with findings of known difficulty."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from loop.demo import anatomy as shape
from loop.demo import disease, thorax
from loop.demo.anatomy import LEFT, RIGHT, SIDES, Anatomy, draw_anatomy
from loop.demo.radiograph import Plane, Sheet, develop, draw_pose
from loop.errors import BadInput

FINDINGS = ("Effusion", "Cardiomegaly", "Pneumothorax", "Opacity")
PREVALENCES: Mapping[str, float] = {
    "Effusion": 0.30,
    "Cardiomegaly": 0.30,
    "Pneumothorax": 0.20,
    "Opacity": 0.25,
}
SIZE = 512


@dataclass(frozen=True, slots=True)
class Phantom:
    """One drawn radiograph.

    Attributes:
        name: File name without its ending.
        image: 8-bit grey picture.
        findings: What is to be seen on it.
        patient: Whose chest it is; several pictures may share it.
        difficulty: 0 = florid, 1 = barely visible, the same for every finding of the picture.
    """

    name: str
    image: Image.Image
    findings: frozenset[str]
    patient: str
    difficulty: float


def draw(
    rng: np.random.Generator,
    findings: Collection[str] = (),
    *,
    anatomy: Anatomy | None = None,
    difficulty: float | None = None,
    name: str = "phantom",
    patient: str = "nobody",
    size: int = SIZE,
) -> Phantom:
    """Draw one chest radiograph.

    Args:
        rng: Source of everything that is not given.
        findings: What the picture shall show, out of `FINDINGS`.
        anatomy: Whose chest; None = a new patient.
        difficulty: 0 florid to 1 barely visible; None = drawn.
        name: The phantom's name.
        patient: The phantom's patient.
        size: Pixels a side, even.

    Raises:
        BadInput: A finding is not one of `FINDINGS`.
    """
    wanted = frozenset(findings)
    if unknown := wanted - set(FINDINGS):
        raise BadInput(f"cannot draw {', '.join(sorted(unknown))}: the phantoms know {', '.join(FINDINGS)}")
    who = anatomy if anatomy is not None else draw_anatomy(rng)
    hardness = float(rng.beta(1.5, 1.8)) if difficulty is None else difficulty
    sheet = Sheet(size, draw_pose(rng))
    image = _expose(sheet, who, wanted, 1.0 - hardness, rng)
    return Phantom(name, image, wanted, patient, hardness)


def _expose(
    sheet: Sheet, a: Anatomy, findings: frozenset[str], severity: float, rng: np.random.Generator
) -> Image.Image:
    """Sum up attenuation part by part and develop the picture."""
    masks = {side: sheet.fill([shape.lung(a, side)]) for side in SIDES}
    lungs = masks[LEFT] + masks[RIGHT]
    air = sheet.depth(lungs, 0.20)
    markings = thorax.vessels(sheet, a) * lungs
    fluid = np.zeros_like(air)
    ratio = a.heart_ratio
    if "Pneumothorax" in findings:
        side = SIDES[rng.integers(2)]
        beyond, change = disease.collapse(sheet, a, side, masks[side], severity)
        markings = markings * (1.0 - beyond) + change
    if "Opacity" in findings:
        markings += disease.consolidation(sheet, a, masks, air, severity, rng)
    if "Effusion" in findings:
        for side in SIDES if rng.random() < 0.25 else (SIDES[rng.integers(2)],):
            fluid += disease.pleural_fluid(sheet, a, side, severity, rng) * masks[side]
    if "Cardiomegaly" in findings:
        ratio = disease.enlarged_heart(severity)
    heart = sheet.depth(sheet.fill([shape.heart(a, ratio)]), 0.14)

    picture = thorax.trunk(sheet, a) - air * (1.0 - fluid) * (1.0 - 0.28 * heart)
    picture += 0.52 * heart * (0.12 + 0.88 * lungs) * (1.0 - 0.8 * fluid)
    picture += markings * (1.0 - fluid) * (1.0 - 0.4 * heart)
    picture += thorax.soft_parts(sheet, a)
    picture += thorax.bones(sheet, a, lungs)
    picture -= thorax.airway(sheet, a)
    picture += 0.014 * sheet.cloud(rng, 0.09)
    picture += 0.028 * a.vessels * sheet.cloud(rng, 0.018) * air
    _marker(sheet, picture)
    return develop(picture, lungs, sheet.pose, rng)


def _marker(sheet: Sheet, picture: Plane) -> None:
    """A lead letter on the patient's left."""
    rows, left, top = sheet.size // 32, int(sheet.size * 0.90), int(sheet.size * 0.075)
    thick = max(2, rows // 5)
    picture[top : top + rows, left : left + thick] += 2.5
    picture[top + rows - thick : top + rows, left : left + rows // 2 + 2] += 2.5


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of phantoms.

    Attributes:
        images: Folder of the pictures.
        manifest: CSV with ``file`` (relative to the CSV) and ``patient``: what the loop may see.
        labels: CSV with ``file``, ``patient``, one column a finding (1 or 0) and ``difficulty`` (empty where
            there is nothing to find): what only the scripted annotator may see.
    """

    images: Path
    manifest: Path
    labels: Path


def make_archive(
    folder: Path,
    n: int,
    rng: np.random.Generator,
    findings: Sequence[str] = FINDINGS,
    prevalences: Mapping[str, float] = PREVALENCES,
    drawn: Callable[[int], None] | None = None,
    size: int = SIZE,
) -> Archive:
    """Draw an archive; a patient has one to three pictures, with the same chest and findings.

    Args:
        folder: Where to write; made if it is not there.
        n: Number of pictures.
        rng: Source of everything; the same generator draws the same archive.
        findings: Which findings occur, out of `FINDINGS`.
        prevalences: Share of patients with each finding; findings are independent.
        drawn: Told the number of pictures after each one, for a progress bar.
        size: Pixels a side, even.

    Raises:
        BadInput: No pictures asked for, or a finding without a prevalence between 0 and 1.
    """
    if n < 1:
        raise BadInput(f"an archive of {n} pictures cannot be drawn: ask for at least one")
    for finding in findings:
        if not 0.0 <= prevalences.get(finding, -1.0) <= 1.0:
            raise BadInput(f"{finding} has no prevalence between 0 and 1: give it one")
    archive = Archive(folder / "images", folder / "manifest.csv", folder / "labels.csv")
    archive.images.mkdir(parents=True, exist_ok=True)
    seen: list[list[object]] = []
    hidden: list[list[object]] = []
    patient = 0
    while len(seen) < n:
        patient += 1
        own = rng.spawn(1)[0]  # one patient's pictures do not depend on how many others draw
        who = draw_anatomy(own)
        present = [finding for finding in findings if own.random() < prevalences[finding]]
        for visit in range(min(int(own.choice([1, 2, 3], p=[0.7, 0.2, 0.1])), n - len(seen))):
            name = f"p{patient:05d}{'abc'[visit]}"
            phantom = draw(own, present, anatomy=who, name=name, patient=f"p{patient:05d}", size=size)
            file = archive.images / f"{name}.png"
            phantom.image.save(file, compress_level=1)
            row: list[object] = [file.relative_to(folder).as_posix(), phantom.patient]
            seen.append(row)
            difficulty = f"{phantom.difficulty:.3f}" if present else ""
            hidden.append([*row, *(int(finding in present) for finding in findings), difficulty])
            if drawn is not None:
                drawn(len(seen))
    _write_csv(archive.manifest, ["file", "patient"], seen)
    _write_csv(archive.labels, ["file", "patient", *findings, "difficulty"], hidden)
    return archive


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([header, *rows])
