"""How fast a project is labelled, and what labels to come cost in hours, money and days: always as a range."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from annotate.records import Label
from forecasting.words import counted
from loop.sections import CostSettings
from loop.work import Work

HISTORY_DAYS = 56  # the pace is that of the last eight weeks
ENOUGH_DAYS, ENOUGH_WORKED = 14, 5  # each weekday was seen twice, and five days with labels
FUTURES, HORIZON_DAYS = 500, 3 * 365  # beyond it a date is no forecast any more


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast images were labelled.

    Attributes:
        per_day: Images first labelled on each day, oldest first, up to yesterday, days without labels included (UTC).
        first: The day of the first of these.
        today: The day on which the future begins.
        work: Seconds of work behind an image.
    """

    per_day: tuple[int, ...]
    first: date | None
    today: date
    work: Work

    @property
    def enough(self) -> bool:
        """Whether there is enough history for a date."""
        return len(self.per_day) >= ENOUGH_DAYS and sum(n > 0 for n in self.per_day) >= ENOUGH_WORKED

    @property
    def per_week(self) -> float | None:
        """Images a week, on average; None without enough history."""
        return 7 * float(np.mean(self.per_day)) if self.enough else None

    @property
    def said(self) -> str:
        """Why there is no date, or what it rests on."""
        worked = sum(n > 0 for n in self.per_day)
        seen = f"{counted(worked, 'day')} with labels in {counted(len(self.per_day), 'day')}"
        if self.enough:
            return f"Dates go by the pace so far, weekday by weekday: {seen}, about {self.per_week:,.0f} images a week."
        return f"Too little history for a date: {seen}; a date takes {ENOUGH_DAYS} days, {ENOUGH_WORKED} of them with labels."


@dataclass(frozen=True, slots=True)
class Needed:
    """What is still to be labelled, and what that takes. None as a bound: no limit visible, or not known.

    Attributes:
        low: Images still to be labelled, lower end.
        high: Upper end; None where no limit is visible.
        hours_low: Of work, all readers together, by the lower end of the mean seconds behind an image.
        hours_high: By the upper end.
        money_low: By the rates of the configuration, in its currency.
        money_high: Upper end.
        date_low: The earliest day at the present pace.
        date_high: The latest.
        even: Images within which the chance is one half; None where there is none, or it is not told.
    """

    low: float | None
    high: float | None
    hours_low: float | None = None
    hours_high: float | None = None
    money_low: float | None = None
    money_high: float | None = None
    date_low: date | None = None
    date_high: date | None = None
    even: float | None = None


def read_pace(labels: Iterable[Sequence[Label]], at: datetime, work: Work) -> Pace:
    """Read the pace from an item's labels each.

    Args:
        labels: The labels of each image.
        at: Now.
        work: As `loop.work` measures it.
    """
    given = [[label for label in of_one if not label.skipped] for of_one in labels]
    days = Counter(min(label.created_at for label in of_one).date() for of_one in given if of_one)
    today = max(at.date(), *days) if days else at.date()
    first = max(min(days), today - timedelta(HISTORY_DAYS)) if days else None
    n_days = 0 if first is None else (today - first).days
    return Pace(
        per_day=tuple(days[first + timedelta(k)] for k in range(n_days)) if first else (),
        first=first,
        today=today,
        work=work,
    )


def cost(
    low: float | None,
    high: float | None,
    pace: Pace,
    rates: CostSettings,
    hands: float = 1.0,
    even: float = math.inf,
) -> Needed:
    """Say what labels to come take.

    Args:
        low: Images, lower end; None = no limit visible even there.
        high: Upper end.
        pace: As it was so far.
        rates: Of hours and labels.
        hands: How many times as many people label as so far; the hours of all of them together are the same.
        even: Images within which the chance is one half; infinite = none.
    """
    low, high, even_ = (None if n is None or math.isinf(n) else math.ceil(n) for n in (low, high, even))
    hours = pace.work.hours(low, high)
    money = [_money(n, h, rates) for n, h in zip((low, high), hours, strict=True)]
    dates = _dates(low, high, pace, hands) if pace.enough else (None, None)
    return Needed(low, high, hours[0], hours[1], money[0], money[1], *dates, even_)


def _money(labels: float | None, hours: float | None, rates: CostSettings) -> float | None:
    if labels is None or (rates.per_hour is None and rates.per_label is None):
        return None
    if rates.per_hour is not None and hours is None:
        return None
    return labels * (rates.per_label or 0.0) + (hours or 0.0) * (rates.per_hour or 0.0)


def _dates(
    low: float | None, high: float | None, pace: Pace, hands: float
) -> tuple[date | None, date | None]:
    """The first day of the fast tenth of futures for few labels, the last of the slow tenth for many.

    A future draws for each of its days one of the past days of the same weekday; always the same futures.
    """
    if pace.first is None:
        return None, None
    past = np.array(pace.per_day)  # (D,)
    weekday = (np.arange(len(past)) + pace.first.weekday()) % 7
    rng = np.random.default_rng(0)
    drawn = np.empty((FUTURES, HORIZON_DAYS))
    for day in range(7):
        ahead = np.flatnonzero((np.arange(HORIZON_DAYS) + pace.today.weekday()) % 7 == day)
        drawn[:, ahead] = rng.choice(past[weekday == day], (FUTURES, len(ahead)))
    done = np.cumsum(hands * drawn, axis=1)  # (F, H)

    def ends(labels: float | None, quantile: float) -> date | None:
        if labels is None:
            return None
        reached = done >= labels
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), HORIZON_DAYS)  # (F,)
        found = int(np.quantile(first, quantile, method="higher"))
        return None if found >= HORIZON_DAYS else pace.today + timedelta(found)

    return ends(low, 0.1), ends(high, 0.9)
