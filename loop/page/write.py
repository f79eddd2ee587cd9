"""Write the lead's page: as HTML, and its figures as CSV. Shows what `loop.page.figures` computed; computes nothing."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from forecasting.plots import CurveInfo
from forecasting.plots_page import curve_svg, reliability_svg
from forecasting.words import auc_text, count_text, counted, level_text, range_text, signed_text, target_text
from loop.commits import whole
from loop.others import note_others
from loop.page.figures import Page, page_of
from loop.page.pace import Needed
from loop.page.reliability import draw_info
from loop.page.tables import explain, tables_of
from loop.page.verdict import WORDS
from loop.settings import Settings
from loop.state import State

SIGNS = {
    "CERTIFIED": "✔",
    "LIKELY REACHED": "✓",
    "KEEP LABELLING": "→",
    "OUT OF REACH": "✕",
    "CANNOT TELL": "?",
}
CLASSES = {"CERTIFIED": "certified-state", "LIKELY REACHED": "reached-state", "OUT OF REACH": "out-state"}
AXIS = 0.5  # the strips begin where guessing is

NOTHING: Mapping[str, str] = MappingProxyType({})
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SHOWN = 50  # disputed answers on the page

log = logging.getLogger(__name__)


def as_html(page: Page, images: Mapping[str, str] = NOTHING) -> str:
    """The page as one HTML document that needs nothing else.

    Args:
        page: Its figures.
        images: Small pictures of disputed images, by item, as ``data:`` addresses; none unless somebody asked for them.
    """
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(FILTERS)
    here = files("loop.page")
    template = env.from_string((here / "page.html.j2").read_text(encoding="utf-8"))
    curves = [(info, Markup(curve_svg(info, f"curve {k}"))) for k, info in enumerate(page.curves)]
    reliability = [
        (name, one, one.told and Markup(reliability_svg(draw_info(name, one.told), f"reliability {k}")))
        for k, (name, one) in enumerate(page.reliability.items())
    ]
    return template.render(
        page=page,
        reliability=reliability,
        policy=Markup(POLICY),
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        curves=curves,
        images=images,
        shown=SHOWN,
        has_money=any(one.needed and one.needed.money_low is not None for one in page.what_if),
    )


def write_page(page: Page, path: Path, images: Mapping[str, str] = NOTHING) -> None:
    """Write the page to a file, whole or not at all.

    Raises:
        OSError: It cannot be written there; what was there stays.
    """
    text = as_html(page, images)
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_after_step(settings: Settings, state: State, at: datetime) -> None:
    """Write the page beside the state after a turn, if the settings want it; a page that cannot be written stops no loop."""
    if not settings.project.report:
        return
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        note_others(settings, state, at)
        write_page(page_of(settings, state, at), settings.page_path)
    except OSError as error:
        log.warning(
            "The page %s could not be written: %s. The turn is complete; write it with `loop report`.",
            settings.page_path,
            error,
        )


def write_csv(page: Page, folder: Path) -> tuple[Path, ...]:
    """Write every figure of the page into a folder: one file a table, with the names of the JSON.

    Nested figures have dotted names, such as ``now.low``; ``columns.csv`` says what each column holds.

    Raises:
        OSError: It cannot be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: rows for name, rows in tables_of(page).items() if rows}
    tables["columns"] = [
        {"table": name, "column": column, "holds": explain(column)}
        for name, rows in tables.items()
        for column in rows[0]
    ]
    return tuple(_write_table(folder / f"{name}.csv", rows) for name, rows in tables.items())


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return path


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula, quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _images(needed: Needed) -> str:
    """`90 to 520`, `90 to no limit`, `none`."""
    return "none" if needed.high == 0 else _open_range(needed.low, needed.high)


def _open_range(low: float | None, high: float | None) -> str:
    """`90 to 520`, `0 to no limit`, or that nobody can foresee it; None and infinity are no limit."""
    if low is None or math.isinf(low):
        return "more than can be foreseen"
    if high is None or math.isinf(high):
        return f"{count_text(low)} to no limit"
    return range_text(low, high)


def _span(low: float | None, high: float | None, say: Callable[[float], str]) -> str:
    """`2.5 to 14`, `at least 2.5`; empty where nothing bounds it, or it is not known."""
    if low is None or (high is None and low <= 0):
        return ""
    if high is None:
        return f"at least {say(low)}"
    low_text, high_text = say(low), say(high)
    return low_text if low_text == high_text else f"{low_text} to {high_text}"


def _day(at: date | None) -> str:
    return "no end in sight" if at is None else f"{at.day} {at:%b %Y}"


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if 0 < hours < 2 else count_text(hours)


def _in_words(info: CurveInfo) -> str:
    """What a picture of a learning curve shows, for those who do not see it."""
    now = int(abs(info.grid - info.n_now).argmin())
    told = (
        f"{counted(info.n_now, 'label')} now: AUC {auc_text(info.mean[now], 2)} ({level_text(info.level)}: "
        f"{auc_text(info.low[now], 2)} to {auc_text(info.high[now], 2)})."
    )
    if info.target is not None and info.needed is not None:
        told += f" Labels in all at the target {target_text(info.target)}: {_open_range(info.needed.low, info.needed.high)}."
    return told


FILTERS: dict[str, Callable[..., Any]] = {
    "auc": lambda value: auc_text(value, 2),
    "signed": signed_text,
    "percent": lambda share: f"{100 * share:.0f} %",
    "count": count_text,
    "chance": lambda p: f"{min(99, max(1, round(100 * p)))} in 100",
    "mean": auc_text,
    "target": target_text,
    "hours": lambda needed: _span(needed.hours_low, needed.hours_high, _hours),
    "money": lambda needed: _span(needed.money_low, needed.money_high, count_text),
    "exact": lambda value: f"{value:,}",
    "images": _images,
    "day": _day,
    "moment": lambda at: f"{at.day} {at:%b %Y, %H:%M} UTC",
    "seconds": lambda value: "not known" if value is None else f"{value:.0f}",
    "verdict": lambda verdict: WORDS.get(verdict, verdict.capitalize()),
    "sign": lambda verdict: SIGNS.get(verdict, ""),
    "state_class": lambda verdict: CLASSES.get(verdict, "open-state"),
    "place": lambda auc, shift=0: round(max(0.0, min(1.0, (auc - AXIS) / (1 - AXIS))) * 100 + shift, 1),
    "in_words": _in_words,
}
