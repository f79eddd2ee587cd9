"""Take a turn whenever a batch is finished, until STOP or until told to end."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from annotate.errors import PushUnconfirmed, StudioUnavailable
from loop.controller import step
from loop.errors import Unavailable
from loop.project import Loop
from loop.report import StepReport

LONGEST_WAIT_S = 600.0

log = logging.getLogger(__name__)


def watch(
    loop: Loop, every_s: float, told: Callable[[StepReport], object], end: threading.Event | None = None
) -> StepReport | None:
    """Step until STOP.

    While a batch is unfinished a turn costs a few small requests. When Label Studio does not answer, the wait
    doubles up to ten minutes. Ctrl-C and SIGTERM end the watch after the turn in progress.

    Args:
        loop: Everything a turn needs, opened.
        every_s: Seconds between looks at Label Studio.
        told: Called with each report that says something new.
        end: Set it to end the watch; by default only signals do.

    Returns:
        The last report; None if there was none.
    """
    end = end or threading.Event()
    report: StepReport | None = None
    wait_s = every_s
    with _signals_set(end):
        while not end.is_set():
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
            end.wait(wait_s)
    return report


def _standing(report: StepReport) -> tuple[str, int]:
    return report.action, report.outstanding


@contextmanager
def _signals_set(end: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set ``end``; afterwards the signals mean again what they meant before."""

    def ask_to_end(signum: int, frame: FrameType | None) -> None:
        end.set()

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = {number: signal.signal(number, ask_to_end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
