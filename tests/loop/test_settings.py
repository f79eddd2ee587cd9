"""The configuration as its user meets it: what is read, what wins, what is refused and in which words."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loop.errors import BadInput
from loop.settings import SECTIONS, STRATEGIES, Settings, load_settings, make_settings
from loop.template import commented_toml, reference_table

PROJECT = '[project]\nname = "chest-xray"\nfindings = ["Effusion", "Edema"]\n'


def load(
    folder: Path,
    text: str = "",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    project: str = PROJECT,
) -> Settings:
    path = folder / "loop.toml"
    path.write_text(project + text, encoding="utf-8")
    return load_settings(path, environ or {}, overrides or {})


def refusal(folder: Path, text: str = "", project: str = PROJECT, **overrides: Any) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(BadInput) as refused:
        load(folder, text, project=project, overrides=overrides)
    return str(refused.value)


def test_a_configuration_of_findings_alone_is_complete(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.project.findings == ("Effusion", "Edema")
    assert (settings.batch.size, settings.batch.random_share, settings.stop.target) == (50, 0.5, 0.85)
    assert (settings.stop.tolerance, settings.stop.alpha, settings.stop.evidence) == (0.03, 0.05, "likely")
    assert settings.encoder.spec == "timm:tf_efficientnet_lite0"
    assert settings.stop.budget is None
    assert settings.label_studio.project_id is None


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    environ = {"LABEL_STUDIO_URL": "http://environment"}
    flag = {"label_studio.url": "http://flag"}
    text = '[label_studio]\nurl = "http://file"'
    assert load(tmp_path).label_studio.url == "http://localhost:8080"
    assert load(tmp_path, text).label_studio.url == "http://file"
    assert load(tmp_path, text, environ).label_studio.url == "http://environment"
    assert load(tmp_path, text, environ, flag).label_studio.url == "http://flag"


def test_an_empty_environment_variable_says_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"LABEL_STUDIO_URL": " "}).label_studio.url == "http://localhost:8080"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("stop.target", "0.9", 0.9),
        ("stop.target.Edema", "0.8", {"Effusion": 0.9, "Edema": 0.8}),
        ("stop.rule", '["Edema"]', ("Edema",)),
        ("stop.rule", "mean", "mean"),
        ("batch.size", "20", 20),
        ("label_studio.show_suggestions", "true", True),
        ("images.source", "2024", "2024"),
    ],
)
def test_a_flag_is_text_and_becomes_what_the_key_is(tmp_path: Path, key: str, text: str, value: Any) -> None:
    settings = load(
        tmp_path,
        "[stop.target]\nEffusion = 0.9\nEdema = 0.9" if "target." in key else "",
        overrides={key: text},
    )
    section, name = key.split(".")[:2]
    assert getattr(getattr(settings, section), name) == value


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(tmp_path).batch.size = 3  # type: ignore[misc]


def test_paths_begin_at_the_file_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[images]\nsource = "../archive/list.csv"\n[label_studio]\ndocument_root = ".."\n'
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "loop.toml").write_text(PROJECT + text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load_settings(Path("../project/loop.toml"), {}, {})
    assert settings.folder == folder / "chest-xray"
    assert settings.state_url == str(folder / "chest-xray" / "state.db")
    assert settings.images_source == tmp_path / "archive" / "list.csv"
    assert settings.images_folder == tmp_path / "archive"
    assert settings.document_root == tmp_path


def test_the_document_root_is_above_the_images_unless_set(tmp_path: Path) -> None:
    assert load(tmp_path).document_root == tmp_path
    assert load(tmp_path, '[images]\nsource = "a/b/images"').document_root == tmp_path / "a" / "b"


def test_the_project_and_its_state_can_live_elsewhere(tmp_path: Path) -> None:
    assert load(tmp_path, 'folder = "here"').state_url == str(tmp_path / "here" / "state.db")
    assert load(tmp_path, 'state = "s.db"').state_url == str(tmp_path / "s.db")
    url = "postgresql+psycopg://db.example.org/loop"
    assert load(tmp_path, f'state = "{url}"').state_url == url


def test_every_finding_has_a_target(tmp_path: Path) -> None:
    assert load(tmp_path, "[stop]\ntarget = 0.8").target_of("Edema") == 0.8
    settings = load(tmp_path, "[stop.target]\nEffusion = 0.9\nEdema = 0.8")
    assert [settings.target_of(name) for name in settings.project.findings] == [0.9, 0.8]


def test_a_file_written_on_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "loop.toml"
    path.write_bytes(b"\xef\xbb\xbf" + PROJECT.replace("\n", "\r\n").encode())
    assert load_settings(path, {}, {}).project.name == "chest-xray"


# -- what is refused ------------------------------------------------------------------------------------------


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"There is no .*none\.toml\. Write one with `loop init"):
        load_settings(tmp_path / "none.toml", {}, {})
    with pytest.raises(BadInput, match=r"is a folder; name the file in it"):
        load_settings(tmp_path, {}, {})


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "line 4" in refusal(tmp_path, "[batch\nsize = 3")
    assert "0.9, not .9" in refusal(tmp_path, "[stop]\ntarget = .9")


def test_a_misspelt_key_is_refused_with_the_nearest_one_and_its_meaning(tmp_path: Path) -> None:
    told = refusal(tmp_path, "[stop]\ntraget = 0.9")
    assert told.startswith(
        f"{tmp_path / 'loop.toml'}: [stop] has no 'traget'. Did you mean 'target' (the AUC each finding"
    )


def test_a_key_in_the_wrong_section_is_refused_with_the_right_one(tmp_path: Path) -> None:
    assert "'batch_size' belongs into [encoder]" in refusal(tmp_path, "[probe]\nbatch_size = 3")
    assert "There is the key 'target' in [stop]" in refusal(tmp_path, project="target = 0.9\n" + PROJECT)


def test_a_key_like_no_other_is_refused_with_all_that_there_are(tmp_path: Path) -> None:
    assert "It has spec, batch_size, device, allow_pickle." in refusal(tmp_path, "[encoder]\nhot = 3")


def test_a_misspelt_section_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    assert "Did you mean [label_studio]" in refusal(tmp_path, "[lable_studio]")


def test_a_misspelt_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    assert refusal(tmp_path, **{"stop.traget": "0.9"}).startswith("--set: [stop] has no 'traget'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[stop]\ntarget = 1.2", "[stop] target = 1.2 is not possible: it must be less than 1. Meaning: the AUC"),
        ("[stop]\ntarget = 0.5", "it must be greater than 0.5"),
        ("[stop]\ntarget = true", "[stop] target = true is not possible: it must be a number"),
        ("[stop.target]\nEffusion = 1.2\nEdema = 0.9", "[stop.target] Effusion = 1.2"),
        ("[stop.target]\nEffusion = 0.9", "[stop.target] has no line for Edema"),
        ('[stop]\nrule = ["Efusion"]', "Did you mean 'Effusion'?"),
        ('[stop]\nrule = "any"', "it must be 'all' or 'mean'"),
        ("[stop]\nrule = []", "[stop] rule = [] is not possible"),
        ('[stop]\nevidence = "certain"', "it must be 'likely' or 'certified'. Did you mean 'certified'?"),
        ("[stop]\ntolerance = -0.01", "[stop] tolerance = -0.01"),
        ("[stop]\nalpha = 0", "[stop] alpha = 0 "),
        ('[stop]\ncorrection = "bonferoni"', "it must be 'holm', 'bonferroni' or 'none'. Did you mean 'bonferroni'?"),
        ("[stop]\nbudget = 1", "[stop] budget = 1 "),
        ('[batch]\nsize = "50"', "it must be a whole number"),
        ("[batch]\nsize = 2.5", "it must be a whole number"),
        ("[batch]\nrandom_share = 0", "[batch] random_share = 0 "),
        ('[batch]\nstrategy = "uncertain"', "Did you mean 'uncertainty'?"),
        ("[probe]\ncomponents = -1", "[probe] components = -1"),
        ("[forecast]\nlevel = nan", "[forecast] level = nan is not possible: it must be a finite number"),
        ("[forecast]\nfrom_labels = 5", "labels from which on the curve is fitted"),
        ('[images]\npatient = "("', "it must be a regular expression"),
        ('[images]\npatient = "a+"', "exactly one group"),
        ('[label_studio]\nurl = "labels.example.org"', "it must be an address such as http://localhost:8080"),
        ('[label_studio]\ndelivery = "url"', "needs url_prefix"),
        ('[label_studio]\ntitle = "ab"', "it must have 3 to 50 characters"),
        ("[label_studio]\nproject_id = 0", "[label_studio] project_id = 0"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_with_what_is_possible(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_section_given_as_a_value_is_refused(tmp_path: Path) -> None:
    assert "write [batch] on a line of its own" in refusal(tmp_path, project="batch = 50\n" + PROJECT)


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ("[]", "at least 1"),
        ('["Edema", "edema "]', "'Edema' and 'edema' are the same"),
        ('["Edema", "Edema"]', "'Edema' and 'Edema' are the same"),
        ('["  "]', "at least 1 character"),
        ('"Edema"', "it must be a list in brackets"),
        ('["a\\nb"]', "printable"),
        (str([f"f{i}" for i in range(41)]).replace("'", '"'), "at most 40"),
    ],
)
def test_impossible_findings_are_refused(tmp_path: Path, findings: str, said: str) -> None:
    told = refusal(tmp_path, project=f"[project]\nfindings = {findings}\n")
    assert said in told
    assert "the yes/no questions" in told


@pytest.mark.parametrize("name", ["ab", "Chest", "-chest", "chest_xray", "a" * 41, "chest xray", "röntgen"])
def test_a_name_that_is_no_slug_is_refused(tmp_path: Path, name: str) -> None:
    told = refusal(tmp_path, project=f'[project]\nname = "{name}"\nfindings = ["Edema"]\n')
    assert "3 to 40 lower-case letters, digits and dashes" in told


def test_findings_are_trimmed(tmp_path: Path) -> None:
    assert load(tmp_path, project='[project]\nfindings = [" Edema "]\n').project.findings == ("Edema",)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, "[batch]\nsize = 1\n[stop]\nalpha = 2.0").splitlines()
    assert len(told) == 2
    assert "[batch] size" in told[0]
    assert "[stop] alpha" in told[1]


def test_without_findings_there_is_no_project(tmp_path: Path) -> None:
    assert "[project] findings = [...]" in refusal(tmp_path, project="")
    assert "[project] findings is missing" in refusal(tmp_path, project='[project]\nname = "abc"\n')


def test_a_bad_address_from_the_environment_is_blamed_on_the_environment(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="from LABEL_STUDIO_URL"):
        load(tmp_path, environ={"LABEL_STUDIO_URL": "nonsense"})


@pytest.mark.parametrize(
    "text",
    [
        '[label_studio]\napi_key = "s3cr3t"',
        '[label_studio]\ntoken = "s3cr3t"',
        '[label_studio]\nurl_prefix = "https://ann:s3cr3t@images.example.org"',
        'state = "postgresql://ann:s3cr3t@db.example.org/loop"',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    told = refusal(tmp_path, text)
    assert "export" in told
    assert "s3cr3t" not in told


def test_a_key_at_the_top_of_the_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "export LABEL_STUDIO_API_KEY=" in refusal(tmp_path, project='api_key = "x"\n' + PROJECT)


def test_the_key_is_no_setting() -> None:
    assert not [key for model in SECTIONS.values() for key in model.model_fields if "key" in key]


# -- what must not change silently -----------------------------------------------------------------------------


def test_the_frozen_part_holds_what_the_stop_promises_and_nothing_else(tmp_path: Path) -> None:
    assert load(tmp_path, '[stop]\nrule = ["Edema"]\nbudget = 100').frozen_part() == {
        "findings": ["Effusion", "Edema"],
        "stop.target": 0.85,
        "stop.rule": ["Edema"],
        "stop.evidence": "likely",
        "stop.tolerance": 0.03,
        "stop.alpha": 0.05,
        "stop.correction": "holm",
        "batch.random_share": 0.5,
        "batch.strategy": "hybrid",
        "encoder.spec": "timm:tf_efficientnet_lite0",
        "forecast.method": "bayes",
    }


def test_a_prior_is_read_when_the_settings_are_and_least_squares_have_none(tmp_path: Path) -> None:
    assert "loop prior fit" in refusal(tmp_path, '[forecast]\nprior = "none.toml"')
    assert '"bayes"' in refusal(tmp_path, '[forecast]\nprior = "none.toml"\nmethod = "nls"')
    (tmp_path / "p.toml").write_text("[prior]\nmean = 3\n")
    assert "p.toml" in refusal(tmp_path, '[forecast]\nprior = "p.toml"')


# -- template and reference -----------------------------------------------------------------------------------


def test_the_template_is_a_configuration_with_all_defaults() -> None:
    findings = ("Effusion", 'An "odd" one')
    written = make_settings(tomllib.loads(commented_toml(findings)))
    assert written == make_settings({"project": {"findings": list(findings)}})


def test_every_line_of_the_template_can_be_used_as_it_stands() -> None:
    lines = commented_toml(["Effusion"]).splitlines()
    keys = {key for model in SECTIONS.values() for key in model.model_fields}
    commented = [
        i for i, line in enumerate(lines) if line.startswith("# ") and line[2:].split(" =")[0] in keys
    ]
    assert len(commented) == sum(len(model.model_fields) for model in SECTIONS.values()) - 5
    for i in commented:
        text = "\n".join([*lines[:i], lines[i][2:], *lines[i + 1 :]])
        make_settings(tomllib.loads(text))


def test_every_setting_is_explained_in_template_and_reference() -> None:
    template, reference = commented_toml(["Effusion"]), reference_table()
    for section, model in SECTIONS.items():
        assert f"[{section}]" in template
        assert f"**`[{section}]`**" in reference
        for key, field in model.model_fields.items():
            assert field.description, f"[{section}] {key} has no description"
            assert f"{field.description[1:]}." in template
            assert f"| `{key}` |" in reference


def test_the_strategies_are_those_that_the_setting_takes() -> None:
    assert STRATEGIES[:4] == ("random", "uncertainty", "margin", "entropy")
    for name in STRATEGIES:
        make_settings({"project": {"findings": ["Edema"]}, "batch": {"strategy": name}})


def test_settings_import_nothing_heavy() -> None:
    program = (
        "import sys, loop.settings, loop.template\n"
        "heavy = {'torch', 'label_studio_sdk', 'scipy', 'sklearn', 'pandas', 'numpy', 'sqlalchemy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
