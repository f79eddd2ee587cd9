"""The page's figures in a notebook, and a page that shows images: what is loaded, explained, and never shown unasked."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from loop_world import World
from PIL import Image
from ward_days import WardDays

from loop import report
from loop.cli import main
from loop.controller import ask_first_batch, step
from loop.errors import BadInput
from loop.page.figures import Page, read_page
from loop.page.pictures import SIDE, draw_small
from loop.page.tables import TABLES, tables_of
from loop.page.write import as_html


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """A project of 150 labels by two people on disk, and its page."""
    world = World(tmp_path_factory.mktemp("project"), n=600, separation=1.7)
    settings = world.settings(
        stop="target = 0.87", batch="size = 50\nfinished_share = 1.0", costs="per_hour = 120.0"
    )
    settings.folder.mkdir()
    desk = WardDays(world.answers, a_day=10)
    with world.state(settings.state_url) as state:
        loop = replace(world.loop(state, desk, settings), clock=desk.clock)
        ask_first_batch(loop)
        for _ in range(3):
            step(loop)
    return world.folder, read_page(settings, desk.clock())


def test_what_is_loaded_are_the_figures_of_the_page(project: tuple[Path, Page]) -> None:
    folder, page = project
    told = report.load(folder / "loop.toml", page.at)
    assert {each.name for each in fields(told)} == TABLES.keys()
    for row, (_, loaded) in zip(page.findings, told.findings.iterrows(), strict=True):
        assert row.now is not None
        assert row.needed is not None
        assert (loaded["finding"], loaded["verdict"], loaded["positives"]) == (
            row.finding,
            row.verdict,
            row.positives,
        )
        assert (loaded["now.mean"], loaded["needed.low"]) == (row.now.mean, row.needed.low)
        assert (
            np.isnan(loaded["needed.high"])
            if row.needed.high is None
            else loaded["needed.high"] == row.needed.high
        )
    assert told.days["images"].sum() == sum(page.pace.per_day)
    assert told.days["date"].iloc[0] == pd.Timestamp(page.pace.first)
    whole = told.what_if[told.what_if["finding"] == ""]
    assert list(whole["name"]) == [one.name for one in page.what_if]
    assert list(told.kappas["images"]) == [
        pair.images for one in page.agreement.values() for pair in one.kappas
    ]
    assert told.history["at"].dt.tz is not None
    assert told.history["at"].is_monotonic_increasing


def test_every_column_says_what_it_holds_and_no_number_is_text(project: tuple[Path, Page]) -> None:
    told = report.frames_of(project[1])
    columns = told.columns()
    assert len(columns) == sum(len(getattr(told, name).columns) for name in TABLES)
    assert columns["holds"].str.len().gt(0).all()
    held = columns.set_index(["table", "column"])["holds"]
    assert held["findings", "needed.hours_high"] == (
        "images until the target, or the proof where one is asked for: hours of work, upper end"
    )
    assert held["history", "aucs.Effusion"] == "AUC of the finding then"
    for name in ("findings", "what_if", "score", "curve_points"):
        frame = getattr(told, name)
        numbers = [column for column in frame.columns if re.search(r"(low|high|mean|even|auc|n)$", column)]
        assert numbers
        for column in set(numbers) - {"reason"}:
            assert frame[column].dtype.kind in "ifM", (name, column)


def test_a_page_without_verdicts_has_the_same_frames(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings = world.settings()
    settings.folder.mkdir()
    with world.state(settings.state_url) as state:
        ask_first_batch(world.loop(state, settings=settings))
    told = report.load(str(tmp_path / "loop.toml"))
    assert told.findings.empty
    assert list(told.page["headline.kind"]) == ["early"]
    (tmp_path / "other.toml").write_text('[project]\nname = "other"\nfindings = ["a"]\n')
    with pytest.raises(BadInput, match="loop start"):
        report.load(tmp_path / "other.toml")


def test_seconds_by_finding_are_medians_of_the_readings_that_say_so(project: tuple[Path, Page]) -> None:
    _, page = project
    timed = sum(one.labels for one in page.people)
    for one in page.times:
        assert one.present + one.absent == timed
        assert one.seconds_present is not None
        assert 5 < one.seconds_present < 120
    assert "Seconds by finding" in as_html(page)


def draw(path: Path, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "DOE^JANE"
    Image.fromarray(pixels).save(path, exif=exif)


def test_images_are_on_the_page_only_when_asked_for_and_it_says_so(project: tuple[Path, Page]) -> None:
    folder, page = project
    assert page.disputed
    names = [one.item for one in page.disputed]
    for name in names[1:]:
        draw(folder / f"{name}.jpg", 600)
    paths = {name: folder / f"{name}.jpg" for name in names}
    small = draw_small(names, paths)
    assert small.keys() == set(names[1:]) - {names[0]}  # what is not there is left out
    shown = as_html(page, small)
    assert shown.count("<img ") == sum(name in small for name in names)
    assert f"This file holds {len(small)} images of patients" in shown
    assert "img-src data:;" in shown
    assert "DOE^JANE" not in shown
    plain = as_html(page)
    assert "img-src" not in plain
    assert "<img" not in plain
    assert "This file holds no image" in plain


def test_small_pictures_are_small(tmp_path: Path) -> None:
    import base64
    from io import BytesIO

    draw(tmp_path / "a.jpg", 900)
    (told,) = draw_small(["a", "a"], {"a": tmp_path / "a.jpg"}).values()
    with Image.open(BytesIO(base64.b64decode(told.partition(",")[2]))) as image:
        assert max(image.size) == SIDE
        assert not image.getexif()


def run(folder: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["report", "-c", str(folder / "loop.toml"), *args])


def test_a_page_with_images_is_written_where_somebody_says_and_nowhere_else(
    project: tuple[Path, Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, page = project
    monkeypatch.chdir(folder)  # where the world's images lie
    refused = run(folder, "--with-images")
    assert (refused.exit_code, "needs --out" in refused.output) == (2, True)
    draw(folder / f"{page.disputed[0].item}.png", 50)
    written = run(folder, "--with-images", "--out", str(tmp_path / "page.html"))
    assert written.exit_code == 0, written.output
    assert "data:image/jpeg" in (tmp_path / "page.html").read_text()


def test_the_tables_on_disk_are_those_of_the_notebook(project: tuple[Path, Page], tmp_path: Path) -> None:
    folder, page = project
    assert run(folder, "--csv", str(tmp_path / "tables"), "--out", str(tmp_path / "p.html")).exit_code == 0
    columns = pd.read_csv(tmp_path / "tables" / "columns.csv")
    tables = {name: rows for name, rows in tables_of(page).items() if rows}
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {*tables, "columns"}
    assert set(zip(columns["table"], columns["column"], strict=True)) == {
        (name, column) for name, rows in tables.items() for column in rows[0]
    }
