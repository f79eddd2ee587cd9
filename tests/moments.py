"""A project's page at five moments of its life: 30 labels, keep labelling, likely reached, certified, out of reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from loop_world import World
from ward_days import WardDays

from loop.controller import ask_first_batch, step
from loop.page.figures import Page, page_of


@dataclass(frozen=True)
class Moment:
    """How far the classes lie apart, what is asked, and how many turns at most."""

    separation: float
    stop: str
    turns: int
    size: int = 50


MOMENTS = {
    "early": Moment(1.7, "target = 0.87", 1, size=30),
    "go-on": Moment(1.7, "target = 0.87", 4),
    "reached": Moment(2.4, "target = 0.88", 20),
    "certified": Moment(3.0, 'target = 0.9\nevidence = "certified"', 20),
    "out-of-reach": Moment(0.9, "target = 0.95", 20),
}
"""By the headline that the page has then."""


def page_at(name: str, folder: Path) -> Page:
    """Play a project in a folder until the moment, and compute its page."""
    moment = MOMENTS[name]
    world = World(folder, n=3000, separation=moment.separation)
    settings = world.settings(
        stop=moment.stop,
        batch=f"size = {moment.size}\nfinished_share = 1.0",
        costs='currency = "EUR"\nper_hour = 90.0',
    )
    desk = WardDays(world.answers, a_day=12)
    with world.state() as state:
        loop = replace(world.loop(state, desk, settings), clock=desk.clock)
        ask_first_batch(loop)
        for _ in range(moment.turns):
            if step(loop).verdict == "STOP":
                break
        return page_of(settings, state, loop.clock())
