"""What annotators read when labelling is to stop: on the project's card and above its images, and how it is put back."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from annotate.studio import Notice, Studio
from loop.state import State

FACT = "notice_before_stop"
MARK = "[STOP] "
LONGEST_TITLE = 50


@dataclass(frozen=True, slots=True)
class StudioBoard:
    """A Label Studio project's title and instructions, and whether its queue is open.

    What was there before is a fact of the state from before anything is changed until it is put back, so a command
    that died in between is completed by the next one, and our own words are never taken for the original.

    Attributes:
        close: Close the queue, too: annotators then get no task.
    """

    studio: Studio
    project_id: int
    state: State
    clock: Callable[[], datetime]
    close: bool = False

    def stop(self, reason: str) -> None:
        """Say that labelling is to stop; told twice, it changes nothing.

        Args:
            reason: Why, for people.

        Raises:
            StudioUnavailable: No answer; tell it again.
        """
        now = self.studio.notice(self.project_id)
        held = self.state.fact(FACT)
        before = now if held is None else Notice(**held["before"])
        closed = self.close or bool(held and held["closed"])
        self.state.set_fact(FACT, {"before": asdict(before), "closed": closed}, self.clock())
        self._change(now, stopped(before, reason, close=closed))

    def go_on(self) -> None:
        """Put back what was there before the stop; what people have changed since stays theirs.

        Raises:
            StudioUnavailable: No answer; tell it again.
        """
        held = self.state.fact(FACT)
        if held is None:
            return
        before, now = Notice(**held["before"]), self.studio.notice(self.project_id)
        ours_said, ours_closed = SAID in now.instruction, held["closed"] and now.maximum_annotations == 0
        back = Notice(
            title=before.title if now.title.startswith(MARK) else now.title,
            instruction=before.instruction if ours_said else now.instruction,
            shows_instruction=before.shows_instruction if ours_said else now.shows_instruction,
            maximum_annotations=before.maximum_annotations if ours_closed else now.maximum_annotations,
        )
        self._change(now, back)
        self.state.set_fact(FACT, None, self.clock())

    def _change(self, now: Notice, wanted: Notice) -> None:
        held = now.to_fields()
        changed = {name: value for name, value in wanted.to_fields().items() if value != held[name]}
        if changed:
            self.studio.update_project(self.project_id, **changed)


SAID = "Nothing more needs to be labelled in this project."


def stopped(before: Notice, reason: str, *, close: bool) -> Notice:
    """What annotators read after the stop: the title marked, the reason above the instructions as they were.

    Args:
        before: What they read before.
        reason: Why, plain text.
        close: Whether the queue is closed, too.
    """
    told = f"<p><strong>{SAID}</strong> {html.escape(reason)} Labels given all the same are kept.</p>"
    return Notice(
        title=f"{MARK}{before.title}"[:LONGEST_TITLE],
        instruction=told + before.instruction,
        shows_instruction=True,
        maximum_annotations=0 if close else before.maximum_annotations,
    )
