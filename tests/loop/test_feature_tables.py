"""`features:` tables: what somebody else computed serves a project, image by image, by name, without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from loop.encoders import load_encoder
from loop.encoders.devices import load_on_devices
from loop.encoders.encode import encode_items
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.find import Found
from loop.intake import find_and_hash, take_in
from loop.items import Item, hash_images
from loop.settings import Settings, make_settings
from loop.state import State

NAMES = ["p1/1.png", "p2/1.png", "2.png", "3.png"]


def write_table(path: Path, names: list[str], **changes: Any) -> NDArray[np.float32]:
    feat = np.random.default_rng(len(names)).normal(size=(len(names), 6)).astype(np.float32)
    np.savez(path, **{"feat": feat, "name": np.array(names), **changes})
    return feat


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four pictures, two of them of the same name in two folders."""
    folder = tmp_path / "images"
    for i, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(path)
    return folder


def found(images: Path) -> list[Item]:
    return list(hash_images([Found(images / name, None, {}) for name in NAMES]).items)


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load_encoder(f"features:{path}")
    return str(caught.value)


def test_each_image_gets_the_row_of_its_name(tmp_path: Path, images: Path) -> None:
    feat = write_table(tmp_path / "t.npz", ["3.png", "p2/1.png", "elsewhere.png", "images/p1/1.png", "2.png"])
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    assert encoder.dim == 6
    store = FeatureStore.open(tmp_path / "s", encoder.fingerprint, encoder.dim)
    items, told = found(images), list[tuple[int, int]]()
    report = encode_items(items, encoder, store, 3, lambda done, total: told.append((done, total)))
    assert (report.encoded, report.problems) == (4, ())
    assert told[-1] == (4, 4)
    expected = feat[[3, 1, 4, 0]].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(store.read([item.item for item in items]), expected)
    assert encode_items(items, encoder, store, 3).encoded == 0


def test_an_image_without_a_row_or_with_a_shared_one_is_listed_and_left_out(
    tmp_path: Path, images: Path
) -> None:
    write_table(tmp_path / "t.npz", ["1.png", "2.png"])
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    store = FeatureStore.open(tmp_path / "s", encoder.fingerprint, encoder.dim)
    items = found(images)
    report = encode_items(items, encoder, store, 3)
    assert report.encoded == len(store) == 1
    assert store.has(items[2].item)
    reasons = {Path(path).relative_to(images).as_posix(): reason for path, reason in report.problems}
    assert set(reasons) == {"p1/1.png", "p2/1.png", "3.png"}
    assert "which several images are called" in reasons["p1/1.png"]
    assert "has no row for it" in reasons["3.png"]


def test_the_fingerprint_knows_names_and_values_but_not_the_file(tmp_path: Path) -> None:
    feat = write_table(tmp_path / "a.npz", NAMES)
    write_table(tmp_path / "b.npz", NAMES)
    write_table(tmp_path / "c.npz", NAMES[::-1])
    write_table(tmp_path / "d.npz", NAMES, feat=feat + 1)
    prints = [load_encoder(f"features:{tmp_path}/{name}.npz").fingerprint for name in "abcd"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_table_encodes_no_pictures(tmp_path: Path) -> None:
    write_table(tmp_path / "t.npz", NAMES)
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    with pytest.raises(BadInput, match="knows only the images that it names"):
        encoder.preprocess(Image.new("L", (8, 8)))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "must be an .npz with arrays" in refusal(tmp_path / "gone.npz")
    write_table(tmp_path / "twice.npz", ["a.png", "b.png", "a.png"])
    assert "names 'a.png' twice" in refusal(tmp_path / "twice.npz")
    write_table(tmp_path / "nan.npz", ["a.png"], feat=np.array([[np.nan]]))
    assert "holds NaN" in refusal(tmp_path / "nan.npz")
    write_table(tmp_path / "far.npz", ["a.png", "b.png"], feat=np.array([[1.0], [1e6]]))
    assert "the row of 'b.png' is beyond float16" in refusal(tmp_path / "far.npz")
    write_table(tmp_path / "short.npz", ["a.png"], feat=np.zeros((2, 3)))
    assert "must agree" in refusal(tmp_path / "short.npz")


def test_a_project_takes_its_images_in_from_a_table_without_torch(tmp_path: Path, images: Path) -> None:
    write_table(tmp_path / "t.npz", NAMES)
    program = f"""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "open_clip", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, NoTorch())
from loop.encoders.devices import load_on_devices
from loop.settings import make_settings
from loop.intake import find_and_hash, take_in
from loop.start import open_features
from loop.state import State

settings = make_settings({{
    "project": {{"name": "table", "findings": ["Effusion"], "folder": "{tmp_path}/project"}},
    "images": {{"source": "{images}"}},
    "encoder": {{"spec": "features:{tmp_path}/t.npz"}},
}})
settings.folder.mkdir()
encoders = load_on_devices(settings.encoder.spec, settings.encoder.device, settings.encoder.allow_pickle)
with State.create(settings.state_url) as state:
    items, n, problems = take_in(settings, state, encoders, find_and_hash(settings, lambda *_: None), lambda *_: None)
    store = open_features(settings, state)
    assert (len(items), n, problems) == (4, 4, []), (items, n, problems)
    assert store.read([item.item for item in items]).shape == (4, 6)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_that_changed_their_names_are_refused_rather_than_keep_the_rows_of_others(
    tmp_path: Path, images: Path
) -> None:
    write_table(tmp_path / "t.npz", NAMES)
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    store = FeatureStore.open(tmp_path / "s", encoder.fingerprint, encoder.dim)
    assert encode_items(found(images), encoder, store, 3).encoded == 4
    (images / "2.png").rename(images / "kept")
    (images / "3.png").rename(images / "2.png")
    (images / "kept").rename(images / "3.png")
    with pytest.raises(BadInput, match=r"^2 images have other rows.*renamed since.*delete"):
        encode_items(found(images), encoder, store, 3)


def test_of_equal_images_the_first_is_looked_up(tmp_path: Path, images: Path) -> None:
    write_table(tmp_path / "t.npz", NAMES)
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    store = FeatureStore.open(tmp_path / "s", encoder.fingerprint, encoder.dim)
    first, copy = (replace(found(images)[3], path=images / name) for name in ("3.png", "copy.png"))
    assert encode_items([first, copy], encoder, store, 3).problems == ()


@pytest.mark.parametrize("absolute", [True, False])
def test_a_table_finds_the_images_that_its_manifest_named(
    tmp_path: Path, images: Path, absolute: bool
) -> None:
    named = [str(images / name) if absolute else f"./images/{name}" for name in NAMES]
    feat = write_table(tmp_path / "t.npz", named)
    encoder = load_encoder(f"features:{tmp_path}/t.npz")
    store = FeatureStore.open(tmp_path / "s", encoder.fingerprint, encoder.dim)
    items = found(images)
    assert encode_items(items, encoder, store, 3).problems == ()
    np.testing.assert_array_equal(store.read([item.item for item in items]), feat.astype(np.float16))


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "whole.npz", NAMES)
    content = (tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 1
    for name, held in (("empty", b""), ("torn", content[: len(content) // 2]), ("flipped", bytes(flipped))):
        (tmp_path / f"{name}.npz").write_bytes(held)
        assert "must be an .npz with arrays" in refusal(tmp_path / f"{name}.npz")
    for feat in (np.array([["one"]]), np.array([[1j]]), np.array([[True]])):
        write_table(tmp_path / "odd.npz", ["a.png"], feat=feat)
        assert "not real numbers" in refusal(tmp_path / "odd.npz")
    write_table(tmp_path / "flat.npz", ["a.png"], feat=np.zeros((1, 0)))
    assert "must agree" in refusal(tmp_path / "flat.npz")


def test_an_encoder_that_lacks_the_projects_images_does_not_take_over(tmp_path: Path, images: Path) -> None:
    def settings(table: str) -> Settings:
        return make_settings(
            {
                "project": {"name": "table", "findings": ["Effusion"], "folder": f"{tmp_path}/project"},
                "images": {"source": str(images)},
                "encoder": {"spec": f"features:{tmp_path}/{table}.npz"},
            }
        )

    write_table(tmp_path / "whole.npz", NAMES)
    write_table(tmp_path / "part.npz", NAMES[:3])
    (tmp_path / "project").mkdir()
    with State.create(":memory:") as state:
        for table in ("whole", "part"):
            chosen = settings(table)
            encoders = load_on_devices(chosen.encoder.spec, "cpu")
            if table == "whole":
                take_in(chosen, state, encoders, find_and_hash(chosen, lambda *_: None), lambda *_: None)
                in_force = state.fact("encoder")
            else:
                with pytest.raises(BadInput, match=r"embeddings of 3 of the 4 images.*put the old one back"):
                    take_in(chosen, state, encoders, find_and_hash(chosen, lambda *_: None), lambda *_: None)
        assert state.fact("encoder") == in_force
        assert len(state.items()) == 4
