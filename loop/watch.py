"""Take a turn whenever a batch is finished, until STOP or until told to end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from annotate.errors import PushUnconfirmed, StudioUnavailable
from loop.bell import Bell
from loop.controller import step
from loop.errors import Unavailable
from loop.project import Loop
from loop.step_report import StepReport

LONGEST_WAIT_S = 600.0
SHORTEST_WAIT_S = 2.0  # between two looks, however often the bell rings

log = logging.getLogger(__name__)


def watch(
    loop: Loop, every_s: float, told: Callable[[StepReport], object], bell: Bell | None = None
) -> StepReport | None:
    """Step until STOP.

    While a batch is unfinished a turn costs a few small requests. When Label Studio does not answer, the wait
    doubles up to ten minutes. Ctrl-C and SIGTERM end the watch after the turn in progress.

    Args:
        loop: Everything a turn needs, opened.
        every_s: Seconds between looks at Label Studio.
        told: Called with each report that says something new.
        bell: Ring it for a look at once, but at most one in two seconds; end the watch with it. By default only signals do.

    Returns:
        The last report; None if there was none.
    """
    bell = bell or Bell()
    report: StepReport | None = None
    wait_s = every_s
    with _signals_end(bell):
        while not bell.ended:
            looked_at = time.monotonic()
            try:
                before, report = report, step(loop)
                wait_s = every_s
            except (StudioUnavailable, PushUnconfirmed, Unavailable) as error:  # each says: try again
                wait_s = min(2 * wait_s, max(LONGEST_WAIT_S, every_s))
                log.warning("%s Trying again in %.0f s.", error, wait_s)
            else:
                if before is None or report.warnings or _standing(report) != _standing(before):
                    told(report)
                if report.verdict == "STOP":
                    return report
            if bell.wait(wait_s):
                _rest(bell, looked_at + SHORTEST_WAIT_S)
    return report


def _standing(report: StepReport) -> tuple[str, int]:
    return report.action, report.outstanding


def _rest(bell: Bell, until: float) -> None:
    """Let rings come together for a moment: the look that follows is for all of them."""
    while not bell.ended and (left := until - time.monotonic()) > 0:
        bell.wait(left)


@contextmanager
def _signals_end(bell: Bell) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the watch; afterwards the signals mean again what they meant before."""

    def ask_to_end(signum: int, frame: FrameType | None) -> None:
        bell.end()

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = {number: signal.signal(number, ask_to_end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
