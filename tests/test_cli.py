"""The `loop` command as its user meets it: help, statuses, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from readme_blocks import commands

from forecasting.prior import PRIOR
from forecasting.words import probability_text
from loop.archive import read_labels
from loop.cli import main
from loop.priorfile import FittedPrior, Provenance, write_prior


def run(*args: str | Path, key: str | None = "secret-key", **env: str) -> Result:
    return CliRunner().invoke(
        main, [str(a) for a in args], env={"LABEL_STUDIO_API_KEY": key, "LABEL_STUDIO_URL": None, **env}
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "loop.toml"
    assert run("init", path).exit_code == 0
    return path


@pytest.mark.parametrize(
    "args", [["--help"], *([*name.split()[1:], "--help"] for name, _ in commands())], ids=" ".join
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    program = (
        "import sys\nfrom loop.cli import main\n"
        f"main({args!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'label_studio_sdk', 'scipy', 'sklearn', 'pandas', 'numpy', 'sqlalchemy', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_init_writes_a_configuration_that_can_be_read_and_never_replaces_one_silently(config: Path) -> None:
    before = config.read_text()
    again = run("init", config)
    assert again.exit_code == 2
    assert "--force" in again.output
    assert config.read_text() == before


def test_a_missing_configuration_says_how_to_write_one(tmp_path: Path) -> None:
    result = run("step", "-c", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "loop init" in result.output


def test_an_unknown_setting_is_refused_by_name_with_the_nearest_one(config: Path) -> None:
    result = run("step", "-c", config, "--set", "stop.traget=0.9")
    assert result.exit_code == 2
    assert "traget" in result.output
    assert "target" in result.output


def test_a_missing_key_says_where_to_get_one(config: Path) -> None:
    result = run("start", "-c", config, key=None)
    assert result.exit_code == 2
    assert "LABEL_STUDIO_API_KEY" in result.output


@pytest.mark.parametrize("command", ["step", "watch", "rollback 1", "review --push 3"])
def test_a_project_that_was_not_started_is_told_before_a_missing_key(config: Path, command: str) -> None:
    result = run(*command.split(), "-c", config, key=None)
    assert result.exit_code == 2
    assert "not started: " in result.output
    assert "loop start" in result.output
    assert "LABEL_STUDIO_API_KEY" not in result.output


@pytest.mark.parametrize(
    ("spec", "fact"),
    [
        ("foo", "`loop encoders list` names them all"),
        ("tim:tf_efficientnet_lite0", "Did you mean timm:tf_efficientnet_lite0?"),
        ("features:gone.npz", "gone.npz"),
        ("timm:no_such_model", "no_such_model"),
    ],
)
def test_a_wrong_encoder_is_told_before_the_server_is_looked_for(config: Path, spec: str, fact: str) -> None:
    result = run("start", "-c", config, "--url", "http://127.0.0.1:9", "--set", f"encoder.spec={spec}")
    assert result.exit_code == 2, result.output
    assert fact in result.output
    assert "127.0.0.1:9" not in result.output


def test_a_server_that_is_away_is_told_before_any_image_is_looked_for(config: Path) -> None:
    result = run("start", "-c", config, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1, result.output
    assert "127.0.0.1:9" in result.output
    assert not (config.parent / "my-project").exists()


def test_a_step_before_the_start_says_so(config: Path) -> None:
    result = run("step", "-c", config, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 2
    assert "loop start" in result.output


def test_a_status_before_the_start_says_so(config: Path) -> None:
    result = run("status", "-c", config)
    assert result.exit_code == 2
    assert "loop start" in result.output


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    path = tmp_path / "curve.csv"
    n = np.array([50, 100, 200, 400, 800])
    rows = [f"{k},{0.92 - 0.9 * k**-0.5:.4f},{30 * k**-1.0:.4f}" for k in n]
    path.write_text("n,auc,se\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("method", ["bayes", "nls"])
def test_a_forecast_of_a_clean_curve_finds_what_made_it(curve: Path, method: str) -> None:
    """The curve is .92 - .9 n^-.5: at 6,400 labels .90875; .9 is reached at (.9 / .02)^2 = 2,025 labels."""
    result = run("forecast", curve, "--at", "6400", "--target", "0.9", "--method", method, "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.output)["curves"]
    assert told["at"]["6400"]["mean"] == pytest.approx(0.90875, abs=0.015)
    low, _, high = told["labels_needed"]
    assert low is not None
    assert low < 2025
    assert high is None or high > 2025


def test_a_forecast_can_be_drawn(curve: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    result = run("forecast", curve, "--target", "0.9", "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "plateau" in result.output


@pytest.mark.parametrize("command", ["forecast", "status"])
def test_a_picture_of_another_kind_is_refused_before_anything_is_computed(
    command: str, curve: Path, config: Path
) -> None:
    source = {"forecast": (curve,), "status": ("-c", config)}[command]
    result = run(command, *source, "--plot", "picture.pdf")
    assert result.exit_code == 2
    assert "--plot picture.pdf: the picture must end in .png or .svg." in result.output


@pytest.mark.parametrize("args", [("forecast", "{there}", "--plot"), ("prior", "fit", "none", "--out")])
def test_a_file_in_a_folder_that_is_not_there_is_refused_before_anything_is_computed(
    args: tuple[str, ...], curve: Path, tmp_path: Path
) -> None:
    curve.write_text("no curve")  # reading it would fail otherwise
    result = run(*(arg.format(there=curve) for arg in args), tmp_path / "none" / "new.png")
    assert result.exit_code == 2
    assert f"there is no folder {tmp_path / 'none'}. Create it" in result.output


def test_a_curve_that_least_squares_cannot_fit_is_told_and_the_others_go_on(
    curve: Path, tmp_path: Path
) -> None:
    """The long one is forecast as it is alone; alone, the short one is refused."""
    alone = json.loads(run("forecast", curve, "--method", "nls", "--json").output)["curves"][0]
    header, *rows = curve.read_text().split()
    long = [f"mass,{row}" for row in rows]
    short = [f"effusion,{row}" for row in rows[:2]]
    curve.write_text("\n".join([f"finding,{header}", *short, *long]) + "\n")
    args = "forecast", curve, "--method", "nls", "--target", "0.9"
    told = json.loads(run(*args, "--json").output)
    assert list(told["unfitted"]) == ["effusion"]
    assert [found["finding"] for found in told["curves"]] == ["mass"]
    assert told["curves"][0]["plateau"]["mean"] == pytest.approx(alone["plateau"]["mean"])
    drawn = run(*args, "--plot", tmp_path / "curves.png")
    assert "no fit: effusion has 2 points" in drawn.output
    assert (tmp_path / "curves.png").stat().st_size > 5000
    curve.write_text("\n".join([f"finding,{header}", *short]) + "\n")
    refused = run(*args)
    assert refused.exit_code == 2
    assert "effusion has 2 points" in refused.output
    assert "--method bayes" in refused.output


def test_curves_of_unlike_length_do_not_share_a_column_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("finding,n,auc\nmass,50,0.7\nmass,100,0.8\neffusion,50,0.7\neffusion,200,0.8\n")
    shown = run("forecast", path).output
    assert "AUC now" in shown
    assert "AUC at 100" not in shown
    assert "AUC at 100" in run("forecast", path, "--at", "100").output


def test_a_probability_near_one_keeps_its_third_digit(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("n,auc,se\n" + "".join(f"{n},0.95,0.005\n" for n in (100, 200, 400, 800)))
    p = json.loads(run("forecast", path, "--target", "0.9", "--json").output)["curves"][0]["p_reachable"]
    assert p > 0.9
    assert f" {probability_text(p)} " in run("forecast", path, "--target", "0.9").output


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("n\n50\n", "auc"),
        ("n,auc\n50,1.3\n100,0.9\n", "1.3"),
        ("n,auc\n0,0.7\n100,0.9\n", "0"),
        ("n,auc\nfifty,0.7\n", "row 1 below the header has 'fifty' in column n. Write a number"),
        ("n,auc\n100,0.8\n50,abc\n", "row 2 below the header has 'abc' in column auc. Write a number"),
        ("n,auc,se\n50,0.7,0.1\n100,0.8,\n", "row 2 below the header has nothing in column se"),
        ("n,auc\n50,0.7\n,0.8\n", "row 2 below the header has nothing in column n"),
        ("n,auc\n", "has a header but no rows"),
        ("", "CSV"),
    ],
)
def test_a_file_that_is_no_curve_is_refused_with_the_fact(tmp_path: Path, text: str, fact: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    result = run("forecast", path, "--target", "0.9")
    assert result.exit_code == 2
    assert fact in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


@pytest.fixture
def high(tmp_path: Path) -> Path:
    """A prior that is nearly certain of a plateau of .994."""
    path = tmp_path / "high.toml"
    prior = replace(PRIOR, mean=(2.5, 3.2, -0.15), between=(0.02, 0.1, 0.05), within=(0.02, 0.1, 0.05))
    write_prior(path, FittedPrior(prior, Provenance(4, 9, 3100, "0.1.0", date(2025, 1, 31))))
    return path


def test_a_forecast_follows_the_prior_it_is_given(curve: Path, high: Path) -> None:
    plain, told = (
        json.loads(run("forecast", curve, *args, "--json").output)["curves"][0]["plateau"]
        for args in ((), ("--prior", high))
    )
    assert told["mean"] > 0.98 > plain["mean"]


@pytest.mark.parametrize("args", [("none.toml",), ("{high}", "--method", "nls"), ("{curve}",)])
def test_a_prior_that_cannot_be_used_is_refused(curve: Path, high: Path, args: tuple[str, ...]) -> None:
    result = run("forecast", curve, "--prior", *(arg.format(high=high, curve=curve) for arg in args))
    assert result.exit_code == 2
    assert "prior" in result.output
    assert "Traceback" not in result.output


def test_a_prior_is_shown_in_words_with_its_origin(high: Path) -> None:
    shipped, told = run("prior", "show"), run("prior", "show", high)
    assert (shipped.exit_code, told.exit_code) == (0, 0)
    assert "chest X-rays" in " ".join(shipped.output.split())
    assert "4, with 9 findings and 3,100 labelled images" in " ".join(told.output.split())
    assert "plateau" in told.output
    assert "Half-speed" in told.output
    assert json.loads(run("prior", "show", high, "--json").output)["plateau"]["mean"] > 0.98


def test_a_prior_is_fitted_to_nothing_that_is_no_project(tmp_path: Path, config: Path, high: Path) -> None:
    out = tmp_path / "new.toml"
    for source, fact in ((tmp_path / "none", "no state"), (config, "loop start"), (high, "[prior]")):
        result = run("prior", "fit", source, "--out", out)
        assert result.exit_code == 2, result.output
        assert fact in result.output
        assert "Traceback" not in result.output
        assert not out.exists()
    assert run("prior", "fit").exit_code == 2


def test_a_prior_never_replaces_a_file_silently(high: Path) -> None:
    before = high.read_text()
    result = run("prior", "fit", "anything", "--out", high)
    assert result.exit_code == 2
    assert "--force" in result.output
    assert high.read_text() == before


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    y = rng.random((400, 2)) < 0.4
    feat = rng.normal(size=(400, 8))
    feat[:, :2] += 2 * y
    names = [f"image {i}.png" for i in range(400)]
    np.savez(tmp_path / "features.npz", feat=feat.astype(np.float16), name=np.array(names))
    rows = [
        f"{name},p{i // 2},{int(a)},{int(b) if i % 7 else ''}"
        for i, (name, (a, b)) in enumerate(zip(names, y, strict=True))
    ]
    (tmp_path / "labels.csv").write_text("file,patient,effusion,mass\n" + "\n".join(rows) + "\n")
    return tmp_path / "features.npz", tmp_path / "labels.csv"


def test_a_simulation_tells_every_round_with_its_true_auc(archive: tuple[Path, Path]) -> None:
    features, labels = archive
    args = (
        "simulate",
        "--features",
        features,
        "--labels",
        labels,
        "--group",
        "patient",
        "--target",
        "0.97",
        "--max-labels",
        "150",
        "--json",
    )
    result = run(*args)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert [r["labels"] for r in told["rounds"]] == [50, 100, 150]
    assert told["verdict"] == told["rounds"][-1]["verdict"] == "STOP"
    last = told["rounds"][-1]["findings"]
    assert set(last) == {"effusion", "mass"}
    assert {"positives", "auc", "auc_low", "auc_high", "forecast", "verdict", "true_auc"} <= set(
        last["effusion"]
    )
    assert last["effusion"]["auc_low"] < last["effusion"]["auc"] < last["effusion"]["auc_high"]
    assert run(*args).output == result.output


def test_a_simulation_says_that_a_patient_column_is_there_and_unused_once(archive: tuple[Path, Path]) -> None:
    features, labels = archive
    asked = (
        "simulate",
        "--features",
        features,
        "--labels",
        labels,
        "--max-labels",
        "50",
        "--finding",
        "effusion",
    )
    said = "has a column `patient` (200 names for 400 images) that is not used"
    told = run(*asked, "--seeds", "2")
    assert told.exit_code == 0, told.output
    assert " ".join(told.output.split()).count(said) == 1
    (warning,) = json.loads(run(*asked, "--json").output)["warnings"]
    assert said in warning
    assert warning.endswith("Give --group patient.")
    assert json.loads(run(*asked, "--json", "--group", "patient").output)["warnings"] == []


@pytest.mark.parametrize(
    ("column", "values", "is_doubted"),
    [
        ("Patient ID", ["a", "a", "b", "c"], True),
        ("SUBJECT_ID", ["a", "a", "b", "c"], True),
        ("patient", ["a", "b", "c", "d"], False),  # each image is a patient of its own already
        ("patient_age", ["40", "40", "50", "60"], False),
    ],
)
def test_only_a_column_that_tells_patients_apart_is_doubted(
    tmp_path: Path, column: str, values: list[str], is_doubted: bool
) -> None:
    rows = [f"{i}.png,{value},{i % 2}" for i, value in enumerate(values)]
    (tmp_path / "labels.csv").write_text("\n".join([f"file,{column},mass", *rows]))
    told = read_labels(tmp_path / "labels.csv", None)
    assert told.findings == ("mass",)
    assert bool(told.doubt) == is_doubted


def test_a_simulation_says_which_images_it_had_to_leave_out(archive: tuple[Path, Path]) -> None:
    features, labels = archive
    lines = labels.read_text().splitlines(keepends=True)
    labels.write_text("".join([*lines[:-3], "elsewhere.png,q,1,0\n", "nowhere.png,q,0,1\n"]))
    asked = ("simulate", "--features", features, "--labels", labels, "--max-labels", "50")
    told = run(*asked)
    assert told.exit_code == 0, told.output
    assert "2 labelled images without an embedding, 3 embeddings without a label" in " ".join(
        told.output.split()
    )


def test_several_seeds_are_summed_up(archive: tuple[Path, Path]) -> None:
    features, labels = archive
    result = run(
        "simulate",
        "--features",
        features,
        "--labels",
        labels,
        "--finding",
        "effusion",
        "--max-labels",
        "100",
        "--seeds",
        "2",
        "--json",
    )
    told = json.loads(result.output)
    assert [r["seed"] for r in told["runs"]] == [0, 1]
    assert told["summary"]["seeds"] == 2


@pytest.mark.parametrize(
    ("flag", "value", "fact"),
    [
        ("--finding", "hernia", "hernia"),
        ("--group", "person", "person"),
        ("--strategy", "guess", "guess"),
        ("--target", "1.5", "1.5"),
        ("--random-share", "0", "0<x<=1"),
    ],
)
def test_a_simulation_refuses_what_is_not_there(
    archive: tuple[Path, Path], flag: str, value: str, fact: str
) -> None:
    features, labels = archive
    result = run("simulate", "--features", features, "--labels", labels, flag, value)
    assert result.exit_code == 2
    assert fact in result.output
    assert "Traceback" not in result.output


def test_a_curve_without_counts_is_told_what_was_assumed(tmp_path: Path) -> None:
    bare, counted = tmp_path / "bare.csv", tmp_path / "counted.csv"
    bare.write_text("n,auc\n50,.7\n100,.75\n200,.8\n")
    counted.write_text("n,auc,positives\n50,.7,5\n100,.75,10\n200,.8,20\n")
    assert "half of the labels were taken" in " ".join(run("forecast", str(bare)).output.split())
    assert "half of the labels were taken" not in " ".join(run("forecast", str(counted)).output.split())


def test_a_prior_is_not_fitted_on_a_file_that_is_no_state(tmp_path: Path) -> None:
    table = tmp_path / "curve.csv"
    table.write_text("n,auc\n50,.7\n")
    refused = run("prior", "fit", str(table), "--out", str(tmp_path / "prior.toml"))
    assert refused.exit_code == 2
    assert "no project's state" in " ".join(refused.output.split())
    assert "remove" not in refused.output


def test_a_finding_named_twice_is_refused_wherever_it_is_named(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("file,Edema\na.png,1\nb.png,0\n")
    np.savez(tmp_path / "f.npz", feat=np.zeros((2, 3), np.float32), name=np.array(["a.png", "b.png"]))
    twice = ("--finding", "Edema", "--finding", "Edema")
    simulated = run("simulate", "--features", tmp_path / "f.npz", "--labels", labels, *twice)
    begun = run("init", tmp_path / "loop.toml", *twice)
    for result in (simulated, begun):
        assert result.exit_code == 2, result.output
        assert "once" in result.output
    assert not (tmp_path / "loop.toml").exists()


def test_a_demo_that_cannot_be_is_refused_before_an_earlier_one_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "demo-output"
    state = out / "demo" / "state.db"
    state.parent.mkdir(parents=True)
    state.write_text("labels")
    strange = run("demo", "--out", out)
    assert (strange.exit_code, "holds files that no demo made" in strange.output) == (2, True)
    (out / ".loop-demo").touch()
    for wrong in (("--target", "85"), ("--target", "0.4"), ("--finding", "A", "--finding", "A")):
        refused = run("demo", "--out", out, *wrong)
        assert refused.exit_code == 2, refused.output
    assert state.read_text() == "labels"
    assert sorted(path.name for path in out.iterdir()) == [".loop-demo", "demo"]


def test_an_unknown_strategy_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(
        '[project]\nname = "abc"\nfindings = ["Edema"]\n[batch]\nstrategy = "hybird"\n'
    )
    said = " ".join(run("status", "-c", tmp_path / "loop.toml").output.split())
    assert "it must be the name of a strategy. There is no strategy 'hybird'; choose one of" in said
    assert "Did you mean 'hybrid'?" in said
    assert ".." not in said.replace("...", "")


def test_an_empty_state_says_that_it_may_have_been_lost(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text('[project]\nname = "abc"\nfindings = ["Edema"]\n')
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "state.db").touch()
    result = run("status", "-c", tmp_path / "loop.toml")
    assert result.exit_code == 2
    assert "put a backup in its place" in " ".join(result.output.split())
