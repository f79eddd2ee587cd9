"""`loop encoders compare` as its user meets it: on tables of embeddings, and on a project's own store."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from loop_world import World

from loop.cli import main
from loop.compare import compare_project
from loop.controller import ask_first_batch, step
from loop.features import FeatureStore
from loop.others import OTHERS, read_others
from loop.page.figures import page_of
from loop.page.write import as_html, write_after_step
from loop.settings import Settings
from loop.simulate import EPOCH
from loop.state import State
from loop.status import assess_again

FINDINGS = ("Effusion", "Rare")
WEAK, GOOD = "weak", "good"


def compare(*args: str | Path, columns: int = 140) -> Result:
    return CliRunner().invoke(main, ["encoders", "compare", *map(str, args)], env={"COLUMNS": str(columns)})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, and the same images under a weak and a good encoder; `good` lacks ten of them."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    n = 260
    y = (rng.random((n, 2)) < (0.4, 0.01)).astype(int)
    y[0, 1], y[1, 1] = 1, 0
    lines = [f"{i}.png,p{i // 2},{a},{b if i % 7 else ''}" for i, (a, b) in enumerate(y)]
    (folder / "labels.csv").write_text("\n".join(["file,patient,Effusion,Rare", *lines]))
    noise = rng.standard_normal((n, 6))
    for name, separation, kept in ((WEAK, 0.7, n), (GOOD, 2.2, n - 10)):
        x = noise + 0.3 * rng.standard_normal((n, 6))
        x[:, 0] += separation * y[:, 0]
        order = rng.permutation(n)[:kept]
        np.savez(folder / f"{name}.npz", feat=x[order].astype(np.float16), name=[f"{i}.png" for i in order])
    return folder


def on(tables: Path, *args: str | Path, names: tuple[str, ...] = (WEAK, GOOD)) -> Result:
    files = [tables / f"{name}.npz" for name in names]
    return compare("--labels", tables / "labels.csv", "--group", "patient", *args, *files)


@pytest.fixture(scope="module")
def told(tables: Path) -> dict[str, Any]:
    result = on(tables, "--target", "0.85", "--labels-used", "120", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)  # type: ignore[no-any-return]


def test_the_better_encoder_is_told_with_the_labels_that_it_saves(told: dict[str, Any]) -> None:
    assert told["labels"] == 120
    weak, good = told["encoders"]
    assert (weak["encoder"], good["encoder"], weak["dim"]) == (WEAK, GOOD, 6)
    assert good["findings"]["Effusion"]["now"]["mean"] > weak["findings"]["Effusion"]["now"]["mean"] + 0.1
    assert good["findings"]["Effusion"]["p_reachable"] > weak["findings"]["Effusion"]["p_reachable"]
    (switch,) = told["switches"]
    assert (switch["before"], switch["after"], switch["finding"]) == (WEAK, GOOD, "Effusion")
    assert switch["gain"]["low"] > 0
    assert switch["saved"][0] >= 1
    assert switch["p_saves"] > 0.9
    assert switch["said"].startswith("Effusion: switching from weak to good saves")


def test_both_curves_have_the_same_points(told: dict[str, Any]) -> None:
    """Same labels, same folds, same nested training sets: sizes agree to the last digit."""
    weak, good = (
        [(point["n"], point["effective"]) for point in encoder["findings"]["Effusion"]["curve"]]
        for encoder in told["encoders"]
    )
    assert weak == good
    assert len(weak) == 6


def test_a_finding_with_too_few_labels_is_told_as_such(told: dict[str, Any]) -> None:
    for encoder in told["encoders"]:
        assert encoder["findings"]["Rare"]["now"] is None
    assert told["counts"]["Rare"]["positives"] < 5


def test_people_read_a_table_and_a_sentence_and_see_a_picture(tables: Path, tmp_path: Path) -> None:
    result = on(tables, "--target", "0.85", "--labels-used", "120", "--plot", tmp_path / "encoders.svg")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "120 labelled images, the same folds and training sets" in text
    assert "cannot tell:" in text
    assert "switching from weak to good saves" in text
    assert "<svg" in (tmp_path / "encoders.svg").read_text()


def test_an_encoder_compared_with_itself_saves_nothing_and_nothing_is_claimed(
    tables: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy.npz").write_bytes((tables / f"{WEAK}.npz").read_bytes())
    result = compare(
        "--labels", tables / "labels.csv", "--finding", "Effusion", "--labels-used", "120",
        tables / f"{WEAK}.npz", tmp_path / "copy.npz",
    )  # fmt: skip
    assert "saves" not in result.output.replace("whether a change saves", "")
    assert "These labels cannot tell whether a change saves or costs labels to copy: Effusion" in " ".join(
        result.output.split()
    )


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (("--labels-used", "900"), "250 labelled images are in all tables"),
        (("--labels-used", "30"), "needs 50"),
        (("--finding", "Rare", "--labels-used", "60"), "5 positives and 5 negatives"),
        (("--finding", "Oedema"), "no column `Oedema`"),
        (("--plot", "x.pdf"), ".png or .svg"),
    ],
)
def test_what_cannot_be_compared_ends_with_status_2_and_the_fact(
    tables: Path, args: tuple[str, ...], fact: str
) -> None:
    result = on(tables, *args)
    assert result.exit_code == 2
    assert fact in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_table_of_too_few_images_is_named_and_more_labels_are_not_asked_for(
    tables: Path, tmp_path: Path
) -> None:
    with np.load(tables / f"{GOOD}.npz") as held:
        np.savez(tmp_path / "small.npz", feat=held["feat"][:30], name=held["name"][:30])
    for order in ((f"{tables}/{WEAK}.npz", "small.npz"), ("small.npz", f"{tables}/{WEAK}.npz")):
        files = [tmp_path / name for name in order]
        result = compare("--labels", tables / "labels.csv", "--group", "patient", *files)
        assert result.exit_code == 2
        assert "small holds only 30 labelled images. Encode the same images with each." in result.output


def test_tables_labels_and_a_project_do_not_go_together(tables: Path, tmp_path: Path) -> None:
    alone = compare(tables / f"{WEAK}.npz", tables / f"{GOOD}.npz")
    assert (alone.exit_code, "need --labels" in alone.output) == (2, True)
    assert "at least two tables" in on(tables, names=(WEAK,)).output
    assert "named twice" in on(tables, names=(WEAK, WEAK)).output
    assert "belong to tables" in compare("-c", tmp_path / "loop.toml", "--labels-used", "100").output


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """A project of 100 labels whose images were encoded twice; the better encoder is not the one in use."""
    world = World(tmp_path, n=400, separation=1.2)
    settings = world.settings()
    settings.folder.mkdir()
    state = world.state(settings.state_url)
    ids = [item.item for item in world.items]
    vectors = world.features.read(ids)
    answers = np.array([list(world.answers[world.task_of[item]].values()) for item in ids])
    better = vectors + np.pad(1.5 * answers, ((0, 0), (0, vectors.shape[1] - 2)))
    for fingerprint, spec, rows in (
        ("f" * 32, "timm:better", better),
        ("0" * 32, settings.encoder.spec, vectors),
    ):
        store = FeatureStore.open(settings.folder / "features" / fingerprint, fingerprint, rows.shape[1])
        store.append(ids, rows)
        state.set_fact("encoder", {"spec": spec, "fingerprint": fingerprint, "dim": rows.shape[1]}, EPOCH)
    loop = world.loop(state, settings=settings)
    ask_first_batch(loop)
    step(loop)
    step(loop)
    state.close()
    return settings


def test_a_projects_encoders_are_compared_on_its_own_labels(project: Settings, tmp_path: Path) -> None:
    result = compare("-c", tmp_path / "loop.toml", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [encoder["encoder"] for encoder in told["encoders"]] == [project.encoder.spec, "timm:better"]
    assert told["labels"] == 100
    now = {name: [e["findings"][name]["now"]["mean"] for e in told["encoders"]] for name in told["targets"]}
    assert all(after > before for before, after in now.values())
    ours = assess_again(project)
    for name, (in_use, _) in now.items():  # what `loop status` says of the encoder in use
        assert in_use == pytest.approx(ours.forecasts[name].auc(ours.forecasts[name].n).mean)
    stricter = compare("-c", tmp_path / "loop.toml", "--target", "0.97", "--level", "0.8", "--json")
    again = json.loads(stricter.output)
    assert set(again["targets"].values()) == {0.97}
    assert again["level"] == 0.8


def test_an_encoder_that_lacks_labelled_images_is_left_out_by_name(project: Settings, tmp_path: Path) -> None:
    FeatureStore.open(project.folder / "features" / ("a" * 32), "a" * 32, 4)
    told = json.loads(compare("-c", tmp_path / "loop.toml", "--json").output)
    assert len(told["encoders"]) == 2
    assert told["left_out"] == [
        f"{'a' * 32}: it has embeddings of 0% of the labelled images. Encode the others, then compare."
    ]


def test_a_project_with_one_encoder_or_none_is_told_what_to_do(project: Settings, tmp_path: Path) -> None:
    other = project.folder / "features" / ("f" * 32)
    other.rename(tmp_path / "elsewhere")
    result = compare("-c", tmp_path / "loop.toml")
    assert result.exit_code == 2
    assert "nothing to compare" in result.output
    (tmp_path / "other.toml").write_text('[project]\nname = "other"\nfindings = ["a"]\n')
    assert compare("-c", tmp_path / "other.toml").exit_code == 2


def test_the_leads_page_asks_what_if_of_the_other_encoder_behind_each_decision(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with State.started(project.state_url) as state:
        at = state.last_report()["at"]  # type: ignore[index]
        before = page_of(project, state, EPOCH)
        assert not [one.name for one in before.what_if if "encoder" in one.name]
        write_after_step(project, state, EPOCH)
        noted = len(state.facts(OTHERS))
        with monkeypatch.context() as patched:  # a turn that waits measures nothing anew
            patched.setattr("loop.others.compare_state", lambda *_: pytest.fail("measured twice"))
            write_after_step(project, state, EPOCH)
        assert len(state.facts(OTHERS)) == noted == 1
        page = page_of(project, state, EPOCH)
        (told,) = [one for one in page.what_if if "encoder" in one.name]
        assert told.name == "Another encoder: timm:better"
        kept = read_others(state, datetime.fromisoformat(at))["timm:better"]
        assert not read_others(state, EPOCH)  # of another decision
    compared = compare_project(project)
    for name, now in told.findings.items():
        in_use = page.what_if[0].findings[name]
        assert now is not None
        assert in_use is not None
        assert now.low is not None
        assert in_use.low is None or now.low <= in_use.low  # the better one needs fewer
        again = compared.curves[name]["timm:better"][0].curve
        assert kept[name].auc == pytest.approx(again.auc)
    assert "Another encoder: timm:better" in as_html(page)
