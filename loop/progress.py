"""What time it is, and who is told how far a long piece of work is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Shows(Protocol):
    """Something that shows progress: what is being done, how many are done, of how many."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it."""
        ...


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)
