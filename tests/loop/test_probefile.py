"""A probe as a file: it scores new images as the project's own does, and with no other encoder."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evidence_packs import play, run
from loop_world import FINDINGS, World
from pixels_encoder import Pixels, write_pictures
from scipy.special import logit

from annotate.interface import make_interface
from loop import likeness
from loop.controller import ask_first_batch
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.images import open_image
from loop.likeness import is_beyond_chance, measure_likeness
from loop.pictures import find_pictures
from loop.predict import score_pictures
from loop.probe import Probe
from loop.probefile import KEY, TENSORS, add_likeness, read_probe_file, read_project_probe, write_probe_file
from loop.settings import Settings
from loop.show_probe import unlike_text
from loop.simulate import EPOCH
from loop.state import State

FINGERPRINT = "f" * 32


@dataclass
class Seen(Pixels):
    """Pixels as a vector of the world's length."""

    fingerprint: str = FINGERPRINT

    def embed(self, inputs: Any) -> Any:
        return (super().embed(inputs) / 128 - 1)[:, : self.dim]


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """A project whose probe was trained."""
    return play(tmp_path, 1, separation=2.0)


def exported(project: Settings, out: Path) -> Path:
    result = run("export", out, "-c", project.folder.parent / "loop.toml")
    assert result.exit_code == 0, result.output
    return out


def scores_in(path: Path) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]]]:
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["file", *FINDINGS]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def test_a_file_holds_the_project_s_probe_with_what_is_known_of_it(project: Settings, tmp_path: Path) -> None:
    told = read_project_probe(project)
    write_probe_file(told, tmp_path / "a.safetensors")
    write_probe_file(told, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = read_probe_file(tmp_path / "a.safetensors")
    assert back.to_json() == told.to_json()
    assert back.probe.to_bytes() == told.probe.to_bytes()
    assert back.findings.keys() == set(FINDINGS)
    assert back.findings["Effusion"]["auc"] is not None
    assert back.labels > 0


def test_probabilities_of_the_file_are_mended_and_keep_their_order(project: Settings) -> None:
    told = read_project_probe(project)
    with State.started(project.state_url) as state:
        plain = Probe.from_bytes(state.probe() or b"")
    vectors = np.random.default_rng(0).normal(size=(50, len(plain.coef))).astype(np.float32)
    before, after = logit(plain.predict(vectors)), logit(told.probe.predict(vectors))
    for k, name in enumerate(FINDINGS):
        calibration = told.findings[name]["calibration"] or {"offset": 0.0, "scale": 1.0}
        expected = calibration["offset"] + calibration["scale"] * before[:, k]
        np.testing.assert_allclose(after[:, k], expected, atol=1e-4)
    assert any(told.findings[name]["calibration"] for name in FINDINGS)


def test_new_images_get_the_scores_that_the_project_s_probe_gives_them(
    project: Settings, tmp_path: Path
) -> None:
    told = read_project_probe(project)
    encoder = Seen(dim=len(told.probe.coef))
    pictures = find_pictures(write_pictures(tmp_path / "new", 7))
    vectors = encoder.embed([encoder.preprocess(open_image(each.path)) for each in pictures])
    for stores in (None, tmp_path / "kept"):
        scored = score_pictures(told, pictures, encoder, tmp_path / "scores.csv", stores, 3, lambda *_: None)
        assert (scored.rows, scored.images, scored.findings) == (7, 7, FINDINGS)
        names, proba = scores_in(tmp_path / "scores.csv")
        assert names == [picture.name for picture in pictures]
        np.testing.assert_allclose(proba, told.probe.predict(vectors), atol=2e-3)  # stored as float16


def test_another_encoder_is_refused_with_both_fingerprints(project: Settings, tmp_path: Path) -> None:
    told = read_project_probe(project)
    pictures = find_pictures(write_pictures(tmp_path / "new", 2))
    with pytest.raises(BadInput, match=r"fingerprint ffffffff; here pixels has 00000000"):
        score_pictures(
            told,
            pictures,
            Seen(dim=len(told.probe.coef), fingerprint="0" * 32),
            tmp_path / "scores.csv",
            None,
            2,
            lambda *_: None,
        )
    assert not (tmp_path / "scores.csv").exists()


def test_the_commands_export_and_score_from_a_table_of_the_same_model(
    project: Settings, tmp_path: Path
) -> None:
    probe = exported(project, tmp_path / "probe.safetensors")
    held = read_probe_file(probe)
    dim = len(held.probe.coef)
    pictures = write_pictures(tmp_path / "new", 5)
    names = sorted(path.name for path in pictures.iterdir())
    feat = np.random.default_rng(1).normal(size=(5, dim)).astype(np.float16)
    np.savez(tmp_path / "new.npz", feat=feat, name=np.array(names))
    out = tmp_path / "scores.csv"
    args = (
        "predict",
        pictures,
        "--probe",
        probe,
        "--out",
        out,
        "--encoder",
        f"features:{tmp_path / 'new.npz'}",
    )
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert "5 of 5 images" in result.output
    found, proba = scores_in(out)
    assert found == names
    np.testing.assert_allclose(proba, held.probe.predict(feat.astype(np.float32)), atol=1e-6)
    np.savez(tmp_path / "new.npz", feat=feat[:, :-1], name=np.array(names))
    shorter = run(*args)
    assert (shorter.exit_code, "of another model" in " ".join(shorter.output.split())) == (2, True)


@pytest.mark.parametrize("what", ["cut", "byte", "text", "other", "heads"])
def test_a_file_that_is_no_whole_probe_is_refused(project: Settings, tmp_path: Path, what: str) -> None:
    from safetensors.numpy import save_file

    path = exported(project, tmp_path / "probe.safetensors")
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif what == "byte":
        content = bytearray(path.read_bytes())
        content[-200] ^= 1  # of a weight
        path.write_bytes(content)
    elif what == "text":
        path.write_text("no tensors")
    elif what == "other":
        save_file({"x": np.zeros(2)}, path)
    else:
        told = read_probe_file(path)
        probe: dict[str, Any] = {name: getattr(told.probe, name) for name in Probe.__slots__}
        write_probe_file(replace(told, probe=Probe(**probe | {"coef": told.probe.coef[:, :1]})), path)
    write_pictures(tmp_path / "new", 2)
    result = run("predict", tmp_path / "new", "--probe", path, "--out", tmp_path / "s.csv")
    assert result.exit_code == 2
    assert "loop export" in result.output


def test_before_a_probe_was_trained_nothing_is_exported(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings = world.settings()
    settings.folder.mkdir()
    with world.state(settings.state_url) as state:
        state.set_fact("encoder", {"spec": "x", "fingerprint": FINGERPRINT, "dim": 8}, EPOCH)
        state.set_fact(
            "project",
            {"id": 1, "url": "http://127.0.0.1", "xml": make_interface(settings.project.findings).xml},
            EPOCH,
        )
        ask_first_batch(world.loop(state))
    result = run("export", tmp_path / "p.safetensors", "-c", tmp_path / "loop.toml")
    assert (result.exit_code, "run `loop step`" in result.output) == (2, True)


def with_embeddings(project: Settings) -> World:
    """The same project with its embeddings on disk, as `loop start` leaves them."""
    world = World(project.folder.parent, separation=2.0)
    store = FeatureStore.open(project.features_folder / FINGERPRINT, FINGERPRINT, world.dim)
    names = [item.item for item in world.items]
    store.append(names, world.features.read(names))
    return world


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_images_unlike_the_archive_are_counted_and_told(
    project: Settings, tmp_path: Path, shift: float
) -> None:
    world = with_embeddings(project)
    probe = exported(project, tmp_path / "probe.safetensors")
    pictures = write_pictures(tmp_path / "new", 40)
    names = sorted(path.name for path in pictures.iterdir())
    drawn = World(tmp_path, n=40, separation=2.0, seed=5)
    feat = drawn.features.read([item.item for item in drawn.items]) + shift
    np.savez(tmp_path / "new.npz", feat=feat.astype(np.float16), name=np.array(names))
    args = ("predict", pictures, "--probe", probe, "--out", tmp_path / "s.csv")
    args = (*args, "--encoder", f"features:{tmp_path / 'new.npz'}")
    told = json.loads(run(*args, "--json").output)
    held = read_probe_file(probe).likeness
    assert held is not None
    assert told["unlike"] == [name for name, far in zip(names, held.find_unlike(feat), strict=True) if far]
    assert told["doubtful"] == (shift > 0)
    said = " ".join(run(*args).output.split())
    assert f"{len(told['unlike'])} of 40 images" in said
    assert ("Nobody has measured the probe on such images" in said) == (shift > 0)
    rows = world.features.read([item.item for item in world.items]).astype(np.float16).astype(float)
    assert (
        abs(held.mean - rows.mean(axis=0)) <= rows.std(axis=0) / 30
    ).all()  # a step is a sixteenth at most
    assert (abs(held.scale - rows.std(axis=0)) <= rows.std(axis=0) / 30).all()


def test_a_probe_whose_archive_is_not_there_or_too_small_tells_nothing_of_likeness(
    project: Settings, tmp_path: Path
) -> None:
    told = read_project_probe(project)
    assert add_likeness(told, project).likeness is None
    assert not (project.features_folder / FINGERPRINT).exists()
    assert measure_likeness(np.zeros((99, 4), np.float32), np.random.default_rng(0)) is None
    pictures = find_pictures(write_pictures(tmp_path / "new", 3))
    encoder = Seen(dim=len(told.probe.coef))
    scored = score_pictures(told, pictures, encoder, tmp_path / "s.csv", None, 3, lambda *_: None)
    assert (scored.unlike, scored.doubtful, unlike_text(scored)) == (None, False, "")


def test_an_encoder_that_is_named_but_not_in_force_yet_keeps_no_one_from_exporting(project: Settings) -> None:
    """The probe and its archive's embeddings are those of the last step, whatever the settings ask for next."""
    with_embeddings(project)
    other = project.model_copy(update={"encoder": project.encoder.model_copy(update={"spec": "timm:other"})})
    ours, theirs = (add_likeness(read_project_probe(each), each).likeness for each in (project, other))
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours.mean, theirs.mean)


def test_a_file_of_before_likeness_still_scores(project: Settings, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    told, path = read_project_probe(project), tmp_path / "old.safetensors"
    write_probe_file(told, path)
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in TENSORS}
        about = json.loads(file.metadata()[KEY])
    for name in ("radius", "sha256"):
        del about[name]
    save_file(tensors, path, metadata={KEY: json.dumps({**about, "sha256": digest(about, tensors)})})
    back = read_probe_file(path)
    assert back.likeness is None
    assert back.probe.to_bytes() == told.probe.to_bytes()


def digest(about: dict[str, Any], tensors: dict[str, Any]) -> str:
    """As the format has had it from the start."""
    whole = sha256(json.dumps(about, sort_keys=True).encode())
    for name in TENSORS:
        whole.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode() + tensors[name].tobytes())
    return whole.hexdigest()


def test_many_images_are_looked_at_a_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(250, 8)).astype(np.float32)
    x[[3, 120, 249]] += 9
    far = measure_likeness(x[:100], np.random.default_rng(1))
    assert far is not None
    whole = far.find_unlike(x)
    monkeypatch.setattr(likeness, "CHUNK", 100)
    np.testing.assert_array_equal(far.find_unlike(x), whole)
    assert whole[[3, 120, 249]].all()
    assert far.find_unlike(x[:0]).shape == (0,)


def test_of_an_archive_s_own_images_one_in_a_hundred_is_unlike_however_few_there_are() -> None:
    """On images that had no part in the measure, over 40 archives: binomial, but for the threshold's own error."""
    far = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = (rng.standard_t(5, size=(2150, 64)) @ np.diag(np.arange(1, 65) ** -0.5)).astype(np.float32)
        likeness = measure_likeness(x[:150], rng)  # as many as there are dimensions, about
        assert likeness is not None
        far.append(likeness.find_unlike(x[150:]).mean())
    assert 0.004 < np.mean(far) < 0.02
    one_less = measure_likeness(x[1:150], rng)
    assert one_less is not None
    assert (
        one_less.mean == likeness.mean
    ).mean() > 0.7  # so the difference of two exports hardly tells of the one image
    assert not is_beyond_chance(2, 40)
    assert is_beyond_chance(5, 40)
    assert not is_beyond_chance(24, 1161)  # of Kermany's own, whose patients have many images each
    assert is_beyond_chance(600, 1161)
    assert not is_beyond_chance(0, 0)
