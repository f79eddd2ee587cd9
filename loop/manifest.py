"""A manifest: a CSV file that names images, whose they are, and what else is known of them."""

from __future__ import annotations

import csv
from pathlib import Path

from loop.errors import BadInput


def read_rows(source: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a manifest, by column, each with its line.

    Raises:
        BadInput: It is no CSV with a column ``file``.
    """
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            columns = [_column(name) for name in next(lines, [])]
            rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if source.suffix.lower() == ".csv":
            raise BadInput(f"{source} cannot be read as CSV in UTF-8: {error}") from None
        raise BadInput(
            f"{source} is neither a folder of images nor a manifest, a CSV file with the column `file`. Name the folder of "
            "an image, not the image."
        ) from None
    if "file" not in columns:
        raise BadInput(f"{source} has no column `file`; it has {', '.join(columns) or 'none'}.")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise BadInput(f"{source} has the column `{doubled[0]}` twice.")
    for line, row in rows:
        if len(row) != len(columns):
            raise BadInput(
                f"{source}, line {line}: {len(row)} fields, but {len(columns)} columns. Quote fields that hold a comma."
            )
    return [(line, dict(zip(columns, row, strict=True))) for line, row in rows]


def _column(name: str) -> str:
    """A column's name; `file` and `patient` are known in any case, lest a patient be overlooked."""
    plain = name.strip()
    return plain.lower() if plain.lower() in ("file", "patient") else plain
