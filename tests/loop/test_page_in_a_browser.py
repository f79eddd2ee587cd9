"""The lead's page in a real Chromium: on a desk, on a phone, on paper, by keyboard, and to a screen reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hostile_names import HOSTILE
from moments import MOMENTS, page_at

from loop.page.write import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page at each moment, as a file."""
    paths = {}
    for name in MOMENTS:
        folder = tmp_path_factory.mktemp(name)
        page = page_at(name, folder)
        assert page.headline.kind == name
        paths[name] = folder / "report.html"
        write_page(page, paths[name])
    return paths


def opened(browser: Browser, path: Path, width: int, scheme: Scheme, **more: Any) -> Page:
    tab = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, **more
    ).new_page()
    tab.goto(path.as_uri())
    return tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", MOMENTS)
def test_nothing_stands_in_the_way_of_people_who_see_little_or_nothing(
    browser: Browser, written: dict[str, Path], name: str, width: int, scheme: Scheme
) -> None:
    """axe-core's rules for WCAG 2.2 A and AA, contrast of every text included, and for landmarks, headings and tables."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-playwright-python")
    tab = opened(browser, written[name], width, scheme, bypass_csp=True)  # axe is a script
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    told = axe.Axe().run(tab).response
    tab.context.close()
    assert len(told["passes"]) > 30
    assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in told["violations"]]
    # what axe cannot tell: text over a picture (see below), and text that is scrolled out of sight
    for one in told["incomplete"]:
        assert one["id"] == "color-contrast"
        for node in one["nodes"]:
            assert "<text" in node["html"] or "partially obscured" in node["any"][0]["message"], node["html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_the_pictures_is_read_on_the_paper_and_on_the_band(
    browser: Browser, written: dict[str, Path], scheme: Scheme
) -> None:
    """Contrast of 4.5 by WCAG's formula, which axe cannot tell over a picture."""
    tab = opened(browser, written["go-on"], 1280, scheme)
    found = tab.evaluate("""() => {
        const shown = name => {
            const probe = document.body.appendChild(document.createElement('i'));
            probe.style.color = `var(${name})`;
            const told = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
            probe.remove();
            return told;
        };
        const parts = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
        const texts = [...document.querySelectorAll('figure svg text')];
        return {texts: texts.map(each => parts(getComputedStyle(each).fill)), paper: shown('--paper'), band: shown('--band')};
    }""")
    tab.context.close()
    assert len(found["texts"]) > 10
    for text in found["texts"]:
        for ground in ("paper", "band"):
            assert contrast(text, found[ground]) >= 4.5, (text, ground)


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast of two sRGB colours, by WCAG 2.2's definition of relative luminance."""
    lights = sorted(
        sum(
            weight * (c / 12.92 if (c := value / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for weight, value in zip((0.2126, 0.7152, 0.0722), colour, strict=True)
        )
        for colour in (one, other)
    )
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.005)  # the known near miss


def test_the_page_is_walked_by_keyboard_from_top_to_bottom(
    browser: Browser, written: dict[str, Path]
) -> None:
    tab = opened(browser, written["go-on"], 390, "light")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the findings"
    assert (
        tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    )  # it shows when it has the focus
    tab.keyboard.press("Enter")
    assert tab.evaluate("location.hash") == "#findings"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = tab.evaluate("document.activeElement.parentElement.open")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.open") is not before
    held = set()
    for _ in range(20):
        tab.keyboard.press("Tab")
        held.add(tab.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert {"SUMMARY", "wide"} <= held  # the table that scrolls sideways can be scrolled by keys
    tab.context.close()


@pytest.mark.parametrize("name", MOMENTS)
def test_on_a_phone_the_verdict_and_what_to_do_fill_the_first_screen(
    browser: Browser, written: dict[str, Path], name: str
) -> None:
    tab = opened(browser, written[name], 390, "light")
    for selector in ("h1", ".lede", ".next dd:nth-of-type(1)"):
        assert tab.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().bottom") < 700
    wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    tab.context.close()
    assert wide[0] <= wide[1]


@pytest.mark.parametrize("name", MOMENTS)
def test_on_paper_everything_is_there_and_no_word_is_broken(
    browser: Browser, written: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """On A4, without the backgrounds that printers leave out; what is folded on the screen is open."""
    tab = opened(browser, written[name], 700, "dark")
    tab.emulate_media(media="print")
    wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    assert (
        tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    )  # ink, though the screen is dark
    folded = tab.evaluate(
        "[...document.querySelectorAll('details > :not(summary)')].map(each => each.getBoundingClientRect().height)"
    )
    assert all(height > 0 for height in folded)
    broken = tab.evaluate("""() => [...document.querySelectorAll('td bdi, th bdi')].filter(each => {
        const range = document.createRange();
        range.selectNodeContents(each);
        const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
        return lines.size > each.textContent.trim().split(/[ -]/).length;
    }).map(each => each.textContent)""")
    assert broken == []
    paper = tab.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    tab.context.close()
    assert paper.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in paper or b"/MediaBox [0 0 595" in paper  # A4 in points


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (390, "dark")])
def test_hostile_names_run_nothing_fetch_nothing_and_overflow_nothing(
    browser: Browser, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    page = page_at("go-on", tmp_path)
    name = HOSTILE + "W" * 200
    hostile = replace(
        page,
        project=name,
        findings=tuple(replace(row, finding=name, reason=name) for row in page.findings),
        people=tuple(replace(one, annotator=name) for one in page.people),
        times=tuple(replace(one, finding=name) for one in page.times),
        what_if=tuple(replace(one, name=name, slowest=name) for one in page.what_if),
        disputed=tuple(replace(one, item=name) for one in page.disputed),
        curves=tuple(replace(info, finding=name) for info in page.curves),
        warnings=(name,),
    )
    path = tmp_path / "report.html"
    write_page(hostile, path)
    tab = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    asked: list[str] = []
    ran: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
    tab.goto(path.as_uri())
    wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    shown = tab.inner_text("body")
    tab.context.close()
    assert asked == [path.as_uri()]
    assert ran == []
    assert wide[0] <= wide[1]
    assert '<script>alert("x")</script>' in shown
