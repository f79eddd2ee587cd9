"""The lead's page: every figure on it is the state's, and nothing on it leaves the file."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hostile_names import HOSTILE
from loop_world import FINDINGS, World
from ward_days import WardDays

from annotate.records import Label
from forecasting.calibration import estimate_calibration
from forecasting.plots import curve_info, draw_curves, save
from forecasting.plots_page import curve_svg, reliability_svg
from forecasting.words import auc_text
from loop.assess import Assessment, assess
from loop.controller import ask_first_batch, step
from loop.opening import read_book, read_history
from loop.page.decided import refit
from loop.page.figures import Page, page_of
from loop.page.pace import Needed, Pace, cost, read_pace
from loop.page.people import read_disputed, read_people
from loop.page.reliability import draw_info, say_reliability
from loop.page.verdict import say_headline
from loop.page.what_if import PROOF, ask_what_if
from loop.page.write import as_html, write_after_step, write_csv, write_page
from loop.project import Loop
from loop.sections import CostSettings
from loop.settings import Settings, make_settings
from loop.step_report import StepReport
from loop.telling import report_calibration
from loop.work import measure_work


class Tags(HTMLParser):
    """Every tag of a document with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, Page, StepReport]:
    """A ward after 200 labels in batches of 50, its page, and the decision that the page tells."""
    world = World(tmp_path_factory.mktemp("ward"), n=1500, separation=1.7)
    settings = world.settings(
        stop="target = 0.87",
        batch="size = 50\nfinished_share = 1.0",
        costs='currency = "CHF"\nper_hour = 120.0',
    )
    state = world.state()
    desk = WardDays(world.answers, a_day=10)
    loop = replace(world.loop(state, desk, settings), clock=desk.clock)
    ask_first_batch(loop)
    for _ in range(4):
        report = step(loop)
    return loop, page_of(settings, state, loop.clock()), report


def assess_now(loop: Loop, number: int) -> Assessment:
    """Judge the labels anew with the embeddings, as the turn that judged round `number` did."""
    state = loop.state
    earlier = [report for report in read_history(state) if report.round < number]
    return assess(read_book(loop), loop.features, loop.projection, loop.settings, number, earlier)


def test_the_forecasts_on_the_page_are_those_of_the_decision_though_no_embedding_was_read(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    loop, page, report = ward
    forecasts = refit(report, loop.settings)
    for row in page.findings:
        told = report.findings[row.finding].forecast
        assert told is not None
        assert row.now is not None
        again = forecasts[row.finding].auc(forecasts[row.finding].n, loop.settings.forecast.level)
        assert (again.mean, again.low, again.high) == pytest.approx(
            (told.now.mean, told.now.low, told.now.high), abs=1e-9
        )
        assert (row.now.mean, row.verdict, row.positives) == (
            told.now.mean,
            report.findings[row.finding].verdict,
            report.findings[row.finding].positives,
        )


def test_the_images_needed_are_the_labels_of_the_forecast_over_the_share_that_is_known(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    _, page, report = ward
    rows = [row for row in page.findings if row.verdict == "KEEP LABELLING"]
    assert rows
    for row in rows:
        told = report.findings[row.finding].forecast
        assert told is not None
        assert row.needed is not None
        known = (row.positives + row.negatives) / report.labels.total
        for found, labels in (
            (row.needed.low, told.labels_needed.low),
            (row.needed.high, told.labels_needed.high),
        ):
            assert (found is None) == (labels is None)
            if found is not None and labels is not None:
                assert found == np.ceil(pytest.approx(labels / known).expected)


def test_the_bar_of_evidence_is_the_certificates_of_the_decision(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, report = ward
    for row in page.findings:
        evidence = report.findings[row.finding].evidence
        assert evidence is not None
        assert row.proof is not None
        assert row.proof.share == pytest.approx(min(1.0, evidence.log_e / evidence.needed))
        assert row.proof.tested == evidence.tested


def test_what_is_drawn_is_what_the_assessment_with_embeddings_draws(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    loop, page, report = ward
    whole = assess_now(loop, report.round)
    for info in page.curves:
        curve = whole.curves[info.finding]
        again = curve_info(curve, whole.forecasts[info.finding], 0.87, loop.settings.forecast.level)
        np.testing.assert_allclose(info.auc, again.auc, atol=1e-12)
        np.testing.assert_allclose(info.mean, again.mean, atol=1e-9)
        np.testing.assert_allclose(info.low, again.low, atol=1e-9)


def test_people_pace_and_disputes_are_counted_from_the_labels(ward: tuple[Loop, Page, StepReport]) -> None:
    loop, page, _ = ward
    labels = [label for given in loop.state.labels().values() for label in given]
    for person in page.people:
        own = [label for label in labels if label.annotator == person.annotator]
        assert person.labels == len(own)
        assert person.seconds == np.median([min(label.lead_time_s or 0, 600) for label in own])
    disputed = {
        (task, finding)
        for task, given in loop.state.labels().items()
        for finding in FINDINGS
        if len({label.answers[finding] for label in given}) == 2
    }
    assert len(page.disputed) == len(disputed) > 0
    assert sum(page.pace.per_day) <= page.labels
    assert page.pace.per_week == pytest.approx(7 * np.mean(page.pace.per_day))


def test_a_target_one_step_lower_never_takes_more_images_and_twice_the_people_never_more_days(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    _, page, _ = ward
    by_name = {one.name: one for one in page.what_if}
    base, lower = by_name["As decided now"], by_name["Target one step lower: .85"]
    double = by_name["Twice as many people label"]
    for finding, needed in base.findings.items():
        less, twice = lower.findings[finding], double.findings[finding]
        assert needed is not None
        assert less is not None
        assert twice is not None
        assert (less.low or 0) <= (np.inf if needed.low is None else needed.low)
        assert twice.low == needed.low
        if needed.date_low is not None:
            assert twice.date_low is not None
            assert twice.date_low <= needed.date_low


def test_the_html_says_the_figures_that_the_json_holds(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    text = Tags(as_html(page)).text
    told = page.to_json()
    json.dumps(told, allow_nan=False)
    assert told["headline"]["sentence"] in text
    for row in told["findings"]:
        assert auc_text(row["now"]["mean"]) in text
        assert f"{auc_text(row['now']['low'], 2)} to {auc_text(row['now']['high'], 2)}" in text
        assert f"{100 * row['proof']['share']:.0f} %" in text
    for one in told["people"]:
        assert f"{one['seconds']:.0f}" in text


def test_the_csv_has_the_names_and_numbers_of_the_json(
    ward: tuple[Loop, Page, StepReport], tmp_path: Path
) -> None:
    _, page, _ = ward
    written = {path.stem for path in write_csv(page, tmp_path)}
    told = page.to_json()
    assert written - {"page", "days", "kappas", "readers", "calibration", "columns"} <= told.keys()
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, one in zip(rows, told["findings"], strict=True):
        assert float(row["now.mean"]) == one["now"]["mean"]
        assert {name.split(".")[0] for name in row} == one.keys()


def test_the_page_asks_the_network_for_nothing_and_runs_nothing(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    html = as_html(page)
    tags = Tags(html).tags
    assert not {tag for tag, _ in tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
    }
    for _, attributes in tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name.endswith(("href", "src", "action")):
                assert (value or "").startswith("#")
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"url\((?!#)", html)
    policy = [
        a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_names_inside_the_page_are_used_once(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    names = [attributes["id"] for _, attributes in Tags(as_html(page)).tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_hostile_names_are_shown_as_text_and_start_no_tag(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    tame = Tags(as_html(page))
    hostile = replace(
        page,
        project=HOSTILE,
        encoder=HOSTILE,
        amendments=(HOSTILE,),
        warnings=(HOSTILE,),
        currency=HOSTILE,
        findings=tuple(replace(row, finding=HOSTILE, reason=HOSTILE) for row in page.findings),
        people=tuple(replace(one, annotator=HOSTILE) for one in page.people),
        disputed=tuple(replace(one, item=HOSTILE) for one in page.disputed),
        curves=tuple(replace(info, finding=HOSTILE) for info in page.curves),
        reliability={f"{HOSTILE}{k}": one for k, one in enumerate(page.reliability.values())},
    )
    parsed = Tags(as_html(hostile))
    without = [
        tag for tag, _ in parsed.tags if tag not in ("p", "li", "ul", "b")
    ]  # notes come with their own
    assert without == [tag for tag, _ in tame.tags if tag not in ("p", "li", "ul", "b")]
    assert parsed.text.count(HOSTILE) > 8
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "img")
        assert set(attributes) <= {name for _, known in tame.tags for name in known}


def test_a_curve_says_no_outside_text_and_is_the_same_each_time(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    info = replace(page.curves[0], finding=HOSTILE)
    assert "alert" not in curve_svg(info, "a")
    assert curve_svg(info, "a") == curve_svg(info, "a")
    assert not re.search(r"#[0-9a-f]{6}\b", curve_svg(info, "a"))  # every colour is the page's own


def test_the_picture_of_reliability_is_the_calibration_of_the_decision(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    _, page, report = ward
    html = as_html(page)
    for name, one in page.reliability.items():
        told = report.findings[name].calibration
        assert told is not None
        assert one.told == told
        assert one.said in html
        info = draw_info(name, told)
        assert list(info.predicted) == [each.predicted for each in told.curve]
        assert (info.low <= info.observed).all()
        assert (info.observed <= info.high).all()
        assert info.top >= info.high.max()
        middle = len(info.grid) // 2
        logit = np.log(info.grid[middle] / (1 - info.grid[middle]))
        assert info.mended[middle] == pytest.approx(1 / (1 + np.exp(-told.offset - told.scale * logit)))
        svg = reliability_svg(replace(info, finding=HOSTILE), "a")
        assert svg == reliability_svg(info, "a")
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert html.count('aria-label="Reliability of') == len(page.reliability) == len(FINDINGS)


def test_where_labels_are_too_few_for_reliability_the_page_says_how_many_it_takes(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    _, page, _ = ward
    name, one = next(iter(page.reliability.items()))
    few = replace(one, told=None, positives=3, negatives=90, said=say_reliability(None, 3, 90))
    html = as_html(replace(page, reliability={name: few}))
    assert "takes 10 positives and 10 negatives among the random images, and there are 3 and 90." in html
    assert "Reliability of" not in html
    assert "fewer labels, or the model parts the classes" in say_reliability(None, 30, 90)


@pytest.mark.parametrize(
    ("offset", "scale", "said"),
    [
        (0.0, 1.0, "No error of the probabilities can be told from chance (95 % intervals)."),
        (2.0, 1.0, "too high for this archive"),
        (-2.0, 1.0, "too low for this archive"),
        (0.0, 3.0, "too extreme"),
        (0.0, 0.3, "too timid"),
    ],
)
def test_the_words_on_reliability_name_the_error(offset: float, scale: float, said: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 1500)
    y = (rng.random(1500) < 1 / (1 + np.exp(-truth))).astype(float)
    told = report_calibration(estimate_calibration(y, offset + scale * truth, np.arange(1500).astype(str)))
    assert told is not None
    found = say_reliability(told, 700, 800)
    assert said in found
    assert ("exported is mended" in found) == (said[:2] != "No")


def test_a_name_with_dollar_signs_is_drawn_as_it_is_written(
    ward: tuple[Loop, Page, StepReport], tmp_path: Path
) -> None:
    _, page, _ = ward
    info = replace(page.curves[0], finding=r"$\nomathematics$ $x_")
    save(draw_curves([info]), tmp_path / "curve.png")
    (title,) = [axes.get_title(loc="left") for axes in draw_curves([info]).axes]
    assert title == r"\$\nomathematics\$ \$x_"


def test_a_decision_that_a_rollback_undid_is_marked(ward: tuple[Loop, Page, StepReport]) -> None:
    _, page, _ = ward
    first, *rest = page.history
    undone = replace(page, history=(replace(first, undone=True), *rest))
    assert Tags(as_html(page)).text.count("undone by a rollback") == 0
    assert Tags(as_html(undone)).text.count("undone by a rollback") == 1


def test_fourteen_findings_and_a_hundred_decisions_stay_below_three_megabytes(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    _, page, _ = ward
    many = replace(
        page, findings=page.findings * 7, curves=page.curves * 7, history=(page.history * 25)[:100]
    )
    assert len(as_html(many).encode()) < 3_000_000


def test_the_page_is_replaced_whole_or_not_at_all(
    ward: tuple[Loop, Page, StepReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, page, _ = ward
    path = tmp_path / "report.html"
    write_page(page, path)
    before = path.read_text()

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_page(replace(page, project="other"), path)
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_step_writes_the_page_beside_the_state_unless_told_not_to(
    ward: tuple[Loop, Page, StepReport], tmp_path: Path
) -> None:
    loop, page, _ = ward
    settings = loop.settings.model_copy(update={"base": tmp_path})
    write_after_step(settings, loop.state, page.at)
    assert settings.page_path.parent == settings.folder
    assert page.headline.verdict in settings.page_path.read_text()
    settings.page_path.unlink()
    project = settings.project.model_copy(update={"report": False})
    write_after_step(settings.model_copy(update={"project": project}), loop.state, page.at)
    assert not settings.page_path.exists()


def test_before_the_first_verdict_the_page_says_so_and_no_number(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings: Settings = world.settings()
    with world.state() as state:
        ask_first_batch(world.loop(state, WardDays(world.answers), settings))
        page = page_of(settings, state, datetime(2026, 3, 3, tzinfo=UTC))
    assert page.headline.kind == "early"
    assert page.what_if == ()
    assert "No label has been judged yet" in as_html(page)


def label(at: datetime, seconds: float | None, who: str = "1", said: float = 1.0) -> Label:
    return Label(int(at.timestamp()), 1, who, at, at, seconds, False, False, {"Mass": said}, None, "{}")


def test_a_coffee_break_counts_as_ten_minutes() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    (person,) = read_people({"a": [label(at, 5000.0)]}, 600.0)
    assert person.seconds == 600.0


def test_with_two_weeks_of_work_the_weekend_is_not_counted_on() -> None:
    monday = datetime(2026, 3, 2, 9, tzinfo=UTC)
    days = [monday + timedelta(days=k) for k in range(21) if (monday + timedelta(days=k)).weekday() < 5]
    given = [[label(day, 30.0)] for day in days for _ in range(10)]
    pace = read_pace(given, monday + timedelta(days=21), measure_work(given))
    needed = cost(50, 100, pace, CostSettings(per_label=2.0))
    assert (needed.date_low, needed.date_high) == (date(2026, 3, 27), date(2026, 4, 3))
    assert (needed.money_low, needed.money_high) == (100.0, 200.0)
    assert needed.hours_low == pytest.approx(50 * 30 / 3600)


def test_with_too_little_history_there_is_no_date_and_it_says_why() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    given = [[label(at, None)]]
    pace: Pace = read_pace(given, at + timedelta(days=2), measure_work(given))
    needed = cost(50, 100, pace, CostSettings(per_hour=90.0))
    assert (needed.date_low, needed.hours_low, needed.money_low) == (None, None, None)
    assert "Too little history" in pace.said


def test_hours_are_of_all_readers_and_of_the_mean_not_of_the_middle() -> None:
    """What adds up is the mean: most readings are quick, a few take long, and two people read each image."""
    at = datetime(2026, 3, 2, tzinfo=UTC)
    rng = np.random.default_rng(0)

    def day(seed: int) -> list[list[Label]]:
        draw = np.random.default_rng(seed)
        return [
            [label(at, 400.0 if draw.random() < 0.2 else 8.0, who) for who in ("1", "2")] for _ in range(150)
        ]

    true = 2 * (0.8 * 8 + 0.2 * 400)
    held = 0
    for seed in range(60):
        work = measure_work(day(seed))
        assert work.low_s is not None
        assert work.high_s is not None
        held += work.low_s <= true <= work.high_s
    assert 40 <= held <= 56  # 80 % of 60
    assert work.median_s == 8.0
    assert work.hours(None, None) == (None, None)
    skipped = [[replace(one, skipped=bool(rng.random() < 0.5)) for one in of[:1]] for of in day(0)]
    alone = measure_work([of[:1] for of in day(0)])
    with_skips = measure_work(skipped)
    assert alone.low_s is not None
    assert with_skips.low_s is not None
    assert with_skips.low_s > 1.3 * alone.low_s  # what is skipped takes time too, and gives no label
    assert measure_work(day(1)[:9]).low_s is None  # too few to tell


def test_a_page_tells_the_decision_by_the_settings_that_made_it(ward: tuple[Loop, Page, StepReport]) -> None:
    loop, page, _ = ward
    stop = loop.settings.stop.model_copy(update={"evidence": "certified", "target": 0.6, "alpha": 0.2})
    now = page_of(loop.settings.model_copy(update={"stop": stop}), loop.state, page.at)
    assert (now.evidence, now.alpha, now.headline) == (page.evidence, page.alpha, page.headline)
    assert now.what_if == page.what_if
    pending = [line for line in now.warnings if line.startswith("Changed since this decision")]
    assert len(pending) == 3
    assert all(line in as_html(now).replace("&gt;", ">") for line in pending)


@pytest.mark.parametrize(("left", "said"), [(100_000, ""), (40, ": too few."), (700, ": perhaps too few.")])
def test_too_few_images_or_too_small_a_budget_is_said_beside_what_is_needed(
    ward: tuple[Loop, Page, StepReport], left: int, said: str
) -> None:
    loop, page, report = ward
    decided = replace(page.what_if[0], needed=Needed(90.0, 5_000.0))
    told = say_headline(report, [decided], left, loop.settings)
    assert ("can be labelled" in told.sure) == bool(said)
    assert said in told.sure
    if said:
        assert f"Only {left} more images can be labelled" in told.sure
    row = replace(page, what_if=(decided,), left=left)
    assert ("that archive and budget leave" in as_html(row)) == (left < 90)


@pytest.mark.parametrize(("left", "said"), [(900, ""), (250, ": perhaps too few."), (100, ": too few.")])
def test_the_price_of_a_proof_is_told_with_what_is_left(
    ward: tuple[Loop, Page, StepReport], left: int, said: str
) -> None:
    loop, page, report = ward
    proof = replace(page.what_if[0], name=PROOF, needed=Needed(220.0, 780.0))
    told = say_headline(decided_as(report, "LIKELY REACHED"), [page.what_if[0], proof], left, loop.settings)
    assert 'It takes about 220 to 780 more images: set [stop] evidence = "certified" and go on.' in told.sure
    assert told.sure.endswith(said or "and go on.")


def test_a_finding_without_a_forecast_does_not_hide_the_others(ward: tuple[Loop, Page, StepReport]) -> None:
    loop, page, report = ward
    forecasts = refit(report, loop.settings)
    forecasts.pop("Pneumothorax")
    (decided, *_) = ask_what_if(read_book(loop), forecasts, loop.settings, page.pace)
    assert decided.unknown == ("Pneumothorax",)
    assert decided.needed is not None
    assert decided.needed.high is None
    assert decided.needed.low == page.what_if[0].findings["Effusion"].low  # type: ignore[union-attr]
    assert "Pneumothorax: not known yet" in as_html(replace(page, what_if=(decided,)))


def decided_as(report: StepReport, verdict: str, **changed: float) -> StepReport:
    findings = {name: replace(one, verdict=verdict, **changed) for name, one in report.findings.items()}
    return replace(report, verdict="STOP", findings=findings)


def test_the_error_rate_is_told_of_what_it_is_of(ward: tuple[Loop, Page, StepReport]) -> None:
    loop, page, report = ward
    certified = decided_as(report, "CERTIFIED")
    told = say_headline(certified, page.what_if, 10, loop.settings)
    assert "any such certificate is wrong is at most 5 in 100" in told.sure
    stop = loop.settings.stop.model_copy(update={"correction": "none"})
    alone = say_headline(certified, page.what_if, 10, loop.settings.model_copy(update={"stop": stop}))
    assert "the certificate of a finding is wrong, each on its own, is at most 5 in 100" in alone.sure


def test_a_target_keeps_its_digits_and_out_of_reach_is_no_certainty(
    ward: tuple[Loop, Page, StepReport],
) -> None:
    loop, page, report = ward
    lost = decided_as(report, "OUT OF REACH", target=0.995)
    told = say_headline(lost, page.what_if, 10, loop.settings)
    assert "are very unlikely to get to an AUC of .995" in told.sentence


def test_a_dispute_is_an_image_with_both_answers() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    both = [label(at, None, "1", 1.0), label(at, None, "2", 0.0)]
    same = [label(at, None, "1", 1.0), label(at, None, "2", 1.0)]
    (one,) = read_disputed({"a": both, "b": same}, ["Mass"])
    assert (one.item, one.yes, one.no) == ("a", 1, 1)


def test_rates_below_nothing_are_refused() -> None:
    tables = {"project": {"name": "abc", "findings": ["Mass"]}, "costs": {"per_hour": -1.0}}
    with pytest.raises(Exception, match="costs"):
        make_settings(tables)
