"""Data sets that are labelled already: a table of labels, and embeddings joined to it by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop.encoders.table import read_table
from loop.errors import BadInput

PATIENT_WORDS = {
    "patient",
    "patientid",
    "patientkey",
    "pid",
    "subject",
    "subjectid",
    "mrn",
    "person",
    "personid",
}
"""Names, but for case and punctuation, of columns that seem to tell patients."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Known labels.

    Attributes:
        names: File name of each image, n of them.
        y: Labels, shape ``(n, K)``: 1, 0, NaN = not known.
        patients: Shape ``(n,)``.
        findings: K names.
        doubt: A column that seems to name patients, and was not used; empty if there is none.
    """

    names: tuple[str, ...]
    y: NDArray[np.float64]
    patients: NDArray[np.str_]
    findings: tuple[str, ...]
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Archive:
    """Known labels, with the embedding of each image.

    Attributes:
        labels: The labels, n rows.
        features: Shape ``(n, d)``.
        n_unembedded: Rows that were left out because they have no embedding.
        n_unlabelled: Embeddings that were left out because they have no labels.
    """

    labels: LabelTable
    features: NDArray[np.float32]
    n_unembedded: int = 0
    n_unlabelled: int = 0

    def rows(self, chosen: NDArray[np.intp]) -> Archive:
        """The archive of some of the images."""
        held = self.labels
        names = tuple(held.names[row] for row in chosen)
        return Archive(
            replace(held, names=names, y=held.y[chosen], patients=held.patients[chosen]),
            self.features[chosen],
        )


def read_labels(path: Path, group: str | None, findings: Sequence[str] = ()) -> LabelTable:
    """Read a CSV with a ``file`` or ``name`` column and one column a finding (1, 0 or empty).

    Args:
        path: The CSV.
        group: Column that names the patient; None = each image is a patient of its own.
        findings: Columns to use; empty = every column that holds only 1, 0 and empty, with both classes.

    Raises:
        BadInput: The file, a column or a value is missing or impossible.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from None
    key = next((column for column in ("file", "name") if column in table), None)
    if key is None:
        raise BadInput(
            f"{path} has neither a `file` nor a `name` column; it has {', '.join(map(str, table))}."
        )
    if group is not None and group not in table:
        raise BadInput(
            f"{path} has no column `{group}` to group patients by; it has {', '.join(map(str, table))}."
        )
    doubled = table[key].duplicated()
    if doubled.any():
        raise BadInput(f"{path} names {table.loc[doubled, key].iloc[0]!r} twice; keep one row an image.")
    chosen = tuple(findings) or _find_findings(table, key, group)
    if twice := [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]:
        raise BadInput(f"The finding {twice[0]} is named twice. Name it once.")
    if not chosen:
        raise BadInput(f"{path} has no column of 1, 0 and empty with both classes; name one with --finding.")
    return LabelTable(
        names=tuple(table[key]),
        y=np.column_stack([_read_column(table, name, path) for name in chosen]),
        patients=table[group or key].to_numpy(dtype=np.str_),
        findings=chosen,
        doubt="" if group else _doubt_group(table, path, key),
    )


def read_archive(features: Path, labels: Path, group: str | None, findings: Sequence[str] = ()) -> Archive:
    """Join a table of embeddings to a table of labels by name; images in only one of them are left out, and counted.

    Args:
        features: ``.npz`` with ``feat`` (n, d) and ``name`` (n,), as `loop simulate` takes it.
        labels: As for `read_labels`.
        group: As for `read_labels`.
        findings: As for `read_labels`.

    Raises:
        BadInput: A file, a column or a value is missing or impossible, or the two have no name in common.
    """
    feat, names = read_table(features)
    table = read_labels(labels, group, findings)
    row_of = {name: row for row, name in enumerate(names)}
    rows = [row for row, name in enumerate(table.names) if name in row_of]
    if not rows:
        raise BadInput(f"No name in {features} is in {labels}: the two files do not belong together.")
    kept = replace(
        table,
        names=tuple(table.names[row] for row in rows),
        y=table.y[rows],
        patients=table.patients[rows],
    )
    return Archive(
        kept,
        np.asarray(feat[[row_of[name] for name in kept.names]], dtype=np.float32),
        n_unembedded=len(table.names) - len(rows),
        n_unlabelled=len(row_of) - len(set(kept.names)),
    )


def _doubt_group(table: pd.DataFrame, path: Path, key: str) -> str:
    """A sentence on the first column that by its name and its repeated values seems to tell patients."""
    for column in map(str, table):
        word = re.sub(r"[^a-z]", "", column.lower())
        n = table[column].nunique()
        if column != key and word in PATIENT_WORDS and 1 < n < len(table):
            return (
                f"{path} has a column `{column}` ({n:,} names for {len(table):,} images) that is not used, so each image counts as a "
                f"patient of its own; if it names patients, AUCs flatter and their intervals are too narrow. Give --group {column}."
            )
    return ""


def _find_findings(table: pd.DataFrame, key: str, group: str | None) -> tuple[str, ...]:
    return tuple(
        str(column)
        for column in table
        if column not in (key, group) and {"0", "1"} <= set(table[column]) <= {"0", "1", ""}
    )


def _read_column(table: pd.DataFrame, finding: str, path: Path) -> NDArray[np.float64]:
    if finding not in table:
        raise BadInput(f"{path} has no column `{finding}`; it has {', '.join(map(str, table))}.")
    values = table[finding].str.strip().str.replace(r"\.0$", "", regex=True)
    strange = ~values.isin(["0", "1", ""])
    if strange.any():
        raise BadInput(
            f"{path}: `{finding}` holds {values[strange].iloc[0]!r}; only 1, 0 and empty are labels."
        )
    return np.array([{"1": 1.0, "0": 0.0, "": np.nan}[value] for value in values])
