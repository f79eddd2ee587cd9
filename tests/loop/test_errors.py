"""What errors of other libraries are told in: one line, whatever they say."""

from __future__ import annotations

import pytest

from loop.errors import first_line


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", "OSError"),
        (" \n\t\n", "OSError"),
        ("\n\n No space left\nsecond line", "No space left"),
        ("x" * 300, "x" * 200),
        ("refused. \x1b[1mRead this\x1b[0m first", "refused. Read this first"),
    ],
)
def test_an_error_is_told_in_its_first_line_or_by_its_kind(said: str, line: str) -> None:
    assert first_line(OSError(said)) == line
