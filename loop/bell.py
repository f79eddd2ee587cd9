"""What wakes a watch: somebody rings, or it is to end."""

from __future__ import annotations

import queue


class Bell:
    """Rung from any thread, and from a signal's handler; several rings before one look are one."""

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = (
            queue.SimpleQueue()
        )  # the one queue that a signal's handler may use
        self.ended = False

    def ring(self) -> None:
        """Ask for a look now."""
        if self._rings.empty():
            self._rings.put(None)

    def end(self) -> None:
        """Ask to end."""
        self.ended = True
        self._rings.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until it rings, but no longer than that; True if it rang."""
        try:
            self._rings.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return False
        while not self._rings.empty():
            self._rings.get()
        return True
