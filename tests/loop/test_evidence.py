"""The evidence pack: checked with nothing but Python, refused after any change, and equal to what the product computes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from evidence_packs import packed, play, run
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from loop_world import Bench, World

from forecasting.certificate import Asked, weigh_evidence
from forecasting.together import Correction, certify_together
from loop.controller import ask_first_batch, step
from loop.evidence import write_pack
from loop.evidence_check import Refused, check_pack, share_alpha, weigh, write_json
from loop.rollback import roll_back
from loop.settings import Settings
from loop.simulate import EPOCH
from loop.state import State


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return play(tmp_path_factory.mktemp("pack"), 9, stop='target = 0.9\nevidence = "certified"')


@pytest.fixture(scope="module")
def pack(project: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(project, tmp_path_factory.mktemp("out") / "evidence.zip")


def test_what_is_recomputed_is_what_the_project_says(project: Settings, pack: Path) -> None:
    told = check_pack(str(pack))
    with State.open(project.state_url) as state:
        said = state.last_report()
        assert said is not None
        assert told["head"] == state.ledger()[-1].hash
    assert told["verdict"] == said["verdict"]
    assert told["findings"].keys() == said["findings"].keys()
    assert {one["certified"] for one in told["findings"].values()} == {True, False}
    for name, one in told["findings"].items():
        assert one["log_e"] == pytest.approx(said["findings"][name]["evidence"]["log_e"], rel=1e-12)
        assert one["certified"] == (said["findings"][name]["verdict"] == "CERTIFIED")
        assert 0.7 < one["auc_when_asked"] <= 1


def test_after_a_rollback_the_decision_in_force_is_checked_against_what_was_read_until_then(
    tmp_path: Path,
) -> None:
    settings = play(tmp_path, 4)
    world = World(tmp_path, separation=3.0)
    before = check_pack(str(packed(settings, tmp_path / "before.zip")))
    with State.open(settings.state_url) as state:
        roll_back(world.loop(state, Bench(), settings), 3)
    after = check_pack(str(packed(settings, tmp_path / "after.zip")))
    assert after["rows"] > before["rows"]
    assert after["decided"] < before["decided"]


def test_a_setting_changed_after_the_decision_plays_no_part_in_it(tmp_path: Path) -> None:
    settings = play(tmp_path, 3)
    told = check_pack(str(packed(settings, tmp_path / "before.zip")))
    with State.open(settings.state_url) as state:
        later = datetime.now(UTC) + timedelta(days=400)
        state.amend({**settings.frozen_part(), "stop.tolerance": 0.0, "stop.alpha": 0.01}, later)
    assert check_pack(str(packed(settings, tmp_path / "after.zip"))) == told


def test_a_decision_that_does_not_follow_is_no_evidence(tmp_path: Path) -> None:
    settings = play(tmp_path, 3)
    with State.open(settings.state_url) as state:
        forged = state.last_report() or {}
        forged["findings"]["Effusion"]["evidence"]["log_e"] += 1.0
        state.add_report(4, forged, datetime.fromisoformat(forged["at"]) + timedelta(seconds=1))
    result = run("evidence", tmp_path / "e.zip", "-c", settings.folder.parent / "loop.toml")
    assert (result.exit_code, "Effusion: its evidence is" in " ".join(result.output.split())) == (2, True)
    assert not (tmp_path / "e.zip").exists()


@pytest.mark.parametrize("command", [("status",), ("report",), ("evidence", "OUT")])
def test_a_finding_that_nobody_is_asked_for_is_told_before_its_labels_are_counted(
    project: Settings, tmp_path: Path, command: tuple[str, ...]
) -> None:
    config = (project.folder.parent / "loop.toml").read_text().replace("'Effusion'", "'Efusion'")
    assert "Efusion" in config
    (project.folder.parent / "misspelt.toml").write_text(config)
    args = [str(tmp_path / "e.zip") if arg == "OUT" else arg for arg in command]
    result = run(*args, "-c", project.folder.parent / "misspelt.toml")
    assert result.exit_code == 2, result.output
    assert "does not ask for Efusion; it asks for" in " ".join(result.output.split())


def test_equal_states_give_equal_packs(project: Settings, pack: Path, tmp_path: Path) -> None:
    assert packed(project, tmp_path / "again.zip").read_bytes() == pack.read_bytes()


def test_the_script_in_the_pack_needs_nothing_but_python(pack: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack) as held:
        held.extract("verify.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "verify.py"), str(pack)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "each as it was written" in done.stdout
    assert run("verify", pack).output == done.stdout
    assert json.loads(run("verify", pack, "--json").output)["rows"] > 100


def changed(pack: Path, out: Path, name: str, content: bytes, *, listed: bool = False) -> Path:
    """The pack with another content of one file, and the manifest that belongs to it if it is ``listed``."""
    from hashlib import sha256

    with zipfile.ZipFile(pack) as held:
        files = {one: held.read(one) for one in held.namelist()}
    files[name] = content
    if listed:
        manifest = json.loads(files["MANIFEST.json"])
        manifest["files"][name] = sha256(content).hexdigest()
        files["MANIFEST.json"] = write_json(manifest).encode()
    with zipfile.ZipFile(out, "w") as wrong:
        for one, held_content in files.items():
            wrong.writestr(one, held_content)
    return out


def test_one_changed_byte_of_any_file_is_refused(pack: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(pack) as held:
        files = {name: held.read(name) for name in held.namelist() if name != "MANIFEST.json"}
    for name, content in files.items():
        for place in rng.integers(0, len(content), 5):
            wrong = bytearray(content)
            wrong[place] ^= int(rng.integers(1, 256))
            with pytest.raises(Refused, match=f"{name} was changed"):
                check_pack(str(changed(pack, tmp_path / "wrong.zip", name, bytes(wrong))))
    result = run("verify", tmp_path / "wrong.zip")
    assert (result.exit_code, "REFUSED" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("ledger.jsonl", b'"Effusion":1.0', b'"Effusion":0.0', "is the first that is not as it was written"),
        ("ledger.jsonl", b'"event":"read"', b'"event":"seen"', "is the first that is not as it was written"),
        ("decision.json", b'"verdict":"', b'"verdict":"NEVER ', "not the decision that the ledger says"),
        ("settings.json", b'"stop.tolerance":0.03', b'"stop.tolerance":0.01', "made by: stop.tolerance"),
        ("settings.json", b'"stop.alpha":0.05', b'"stop.alpha":0.2', "made by: stop.alpha"),
    ],
)
def test_a_forger_who_writes_the_manifest_anew_is_found(
    pack: Path, tmp_path: Path, name: str, old: bytes, new: bytes, said: str
) -> None:
    with zipfile.ZipFile(pack) as held:
        content = held.read(name)
    assert old in content
    wrong = changed(pack, tmp_path / "wrong.zip", name, content.replace(old, new, 1), listed=True)
    with pytest.raises(Refused, match=said):
        check_pack(str(wrong))


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as empty:
        empty.writestr("verify.py", b"")
    for name, said in (("a.zip", "cannot be read"), ("b.zip", "no MANIFEST")):
        with pytest.raises(Refused, match=said):
            check_pack(str(tmp_path / name))


def test_before_a_decision_there_is_no_evidence(tmp_path: Path) -> None:
    settings = play(tmp_path, 0)
    result = run("evidence", tmp_path / "e.zip", "-c", settings.folder.parent / "loop.toml")
    assert (result.exit_code, "then" in result.output) == (2, True)
    assert not (tmp_path / "e.zip").exists()


LABELS = st.lists(st.sampled_from([0.0, 0.0, 1.0, float("nan")]), max_size=70)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    rounds=st.lists(st.tuples(LABELS, st.booleans(), st.integers(0, 9)), max_size=5),
    tested=st.floats(0.5, 0.97),
)
def test_the_second_writing_of_the_certificate_agrees_with_the_first(
    rounds: list[tuple[list[float], bool, int]], tested: float
) -> None:
    told = []
    for y, bet, seed in rounds:
        if y:
            scores = np.random.default_rng(seed).random(len(y)).round(1) + 0.5 * np.nan_to_num(y)
            told.append((y, scores, bet))
    first = weigh_evidence([Asked(np.array(y), s, bet) for y, s, bet in told], tested + 0.03, 0.03)
    second = weigh(
        [([None if v != v else v for v in y], s.tolist(), bet) for y, s, bet in told], first.tested
    )
    assert second["log_e"] == pytest.approx(first.log_e, rel=1e-9, abs=1e-9)
    assert (second["positives"], second["negatives"]) == (first.n_positive, first.n_negative)


@given(
    st.dictionaries(st.text(max_size=3), st.floats(0, 9), min_size=1, max_size=6),
    st.sampled_from(["holm", "bonferroni", "none"]),
)
def test_thresholds_of_several_findings_agree_with_the_first_writing(
    log_e: dict[str, float], correction: Correction
) -> None:
    from dataclasses import replace

    plain = weigh_evidence([], 0.9)
    first = certify_together({k: replace(plain, log_e=v) for k, v in log_e.items()}, 0.05, correction)
    assert share_alpha(log_e, 0.05, correction) == {k: (v.threshold, v.certified) for k, v in first.items()}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_people_do_in_a_project_its_evidence_follows(tmp_path: Path, seed: int) -> None:
    """Late answers, skips, changes of mind, withdrawals, second readers, corrections, deleted tasks and rollbacks, at random."""
    rng = np.random.default_rng(seed)
    world, bench = World(tmp_path), Bench()
    settings = world.settings(
        encoder='spec = "features:old.npz"', labels="double_reads = 0.3", stop="target = 0.95"
    )
    settings.folder.mkdir()
    with world.state(settings.state_url) as state:
        told = {"spec": settings.encoder.spec, "fingerprint": "f" * 32, "dim": world.dim}
        state.set_fact("encoder", told, EPOCH)
        loop = world.loop(state, bench, settings)
        ask_first_batch(loop)
        answered: list[int] = []
        for _ in range(7):
            _, served = bench.served[-1]
            for suggestion in served[: int(rng.integers(20, len(served) + 1))]:
                if suggestion.task_id not in bench.deleted:
                    bench.answer(
                        suggestion.task_id, world.answers[suggestion.task_id], skipped=rng.random() < 0.1
                    )
                    answered.append(suggestion.task_id)
            for task_id in rng.choice(answered, 6, replace=False):
                wrong = {name: 1 - value for name, value in world.answers[int(task_id)].items()}
                match int(rng.integers(4)):
                    case 0:
                        bench.answer(int(task_id), wrong)
                    case 1:
                        bench.withdraw(int(task_id))
                    case 2:
                        bench.answer(int(task_id), wrong, who="bob")
                    case 3:
                        bench.answer(int(task_id), {name: float("nan") for name in wrong}, who="bob")
            step(loop, force=True, recount=bool(rng.random() < 0.3))
            if state.n_rounds() > 3 and rng.random() < 0.3:
                roll_back(loop, state.n_rounds() - 1)
        if not (state.last_report() or {}).get("findings"):
            step(loop, force=True)
    checked = write_pack(settings, tmp_path / "e.zip").checked
    assert checked["rows"] > 300
