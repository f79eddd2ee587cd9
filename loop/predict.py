"""Scores of new images by an exported probe, and whether these images are such as it was made for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from loop.commits import whole
from loop.encoders import Encoder
from loop.encoders.embed import Workers
from loop.encoders.table import TableEncoder, read_table
from loop.errors import BadInput
from loop.likeness import is_beyond_chance
from loop.pictures import Picture
from loop.probefile import ProbeFile
from loop.step_report import as_json
from loop.table import encode_table


@dataclass(frozen=True, slots=True)
class Scored:
    """What `loop predict` wrote.

    Attributes:
        out: The table of scores.
        images: Images that were found.
        rows: Of these, scored.
        findings: Findings that have a score.
        not_fitted: Finding to why it has none.
        problems: Images without a score, each with its reason.
        unlike: Scored images that are unlike those of the archive, see `loop.likeness`; None = the file does not know its archive.
        doubtful: Whether they are more than so many of the archive's own would hold by chance.
    """

    out: str
    images: int
    rows: int
    findings: tuple[str, ...]
    not_fitted: dict[str, str]
    problems: tuple[str, ...]
    unlike: tuple[str, ...] | None = None
    doubtful: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def score_pictures(
    told: ProbeFile,
    pictures: Sequence[Picture],
    encoder: Encoder,
    out: Path,
    stores: Path | None,
    batch_size: int,
    shows: Callable[[str, int, int], None],
    workers: Workers | None = None,
) -> Scored:
    """Score new images, and write a CSV: ``file``, then a probability a finding. It appears whole or not at all.

    Args:
        told: The probe.
        pictures: What `find_pictures` found.
        encoder: The model that the probe names.
        out: The CSV.
        stores: Folder that keeps the embeddings, so that a second run need not encode; None = they are not kept.
        batch_size: Images a batch.
        shows: Told of the progress.
        workers: Who embeds; None = this process.

    A table of vectors that somebody else computed is believed to be of the same model: its fingerprint is that of its numbers.

    Raises:
        BadInput: Another encoder, or none of the images can be used.
    """
    if isinstance(encoder, TableEncoder) and told.encoder.startswith("features:"):
        if encoder.dim != len(told.probe.coef):
            raise BadInput(
                f"The probe's vectors have {len(told.probe.coef):,} numbers, those of {encoder.path} {encoder.dim:,}: they are of "
                "another model."
            )
    elif encoder.fingerprint != told.fingerprint:
        raise BadInput(
            f"The probe was trained on {told.encoder} with the fingerprint {told.fingerprint[:8]}; here {encoder.spec} has "
            f"{encoder.fingerprint[:8]}: other weights or preprocessing, to which its heads mean nothing. Use the same files and "
            "versions, or train and export anew."
        )
    with TemporaryDirectory(prefix="loop-predict-") as folder:
        table = Path(folder) / "features.npz"
        tabled = encode_table(pictures, encoder, table, stores or Path(folder), batch_size, shows, workers)
        vectors, names = read_table(table)
    features = vectors.astype(np.float32)  # (n, d)
    proba = told.probe.predict(features)  # (n, K)
    fitted = told.probe.fitted
    findings = tuple(name for name, has in zip(told.probe.findings, fitted, strict=True) if has)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *findings])
    rows.writerows(
        [name, *(f"{p:.6f}" for p in scores)] for name, scores in zip(names, proba[:, fitted], strict=True)
    )
    with whole(out) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
    unlike = None if told.likeness is None else np.flatnonzero(told.likeness.find_unlike(features))
    return Scored(
        out=str(out),
        images=tabled.images,
        rows=tabled.rows,
        findings=findings,
        not_fitted=told.probe.not_fitted(),
        problems=tabled.problems,
        unlike=None if unlike is None else tuple(str(names[row]) for row in unlike),
        doubtful=unlike is not None and is_beyond_chance(len(unlike), len(names)),
    )
