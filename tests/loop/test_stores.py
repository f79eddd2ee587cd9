"""Several encoders side by side: each has its store, all are listed and checked, none is changed by looking."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pixels_encoder import Pixels, items_in, write_pictures

from loop.cli import main
from loop.encoders.encode import encode_items
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.items import Item
from loop.progress import utc_now
from loop.settings import load_settings
from loop.state import State
from loop.stores import list_stores, open_store


@dataclass(frozen=True)
class Name:
    fingerprint: str
    spec: str
    dim: int = 4


A, B = Name("a" * 32, "timm:one"), Name("b" * 32, "timm:two", 8)


def ids(n: int) -> list[str]:
    return [f"{i:032x}" for i in range(n)]


def fill(folder: Path, encoder: Name, n: int) -> FeatureStore:
    store = open_store(folder, encoder)
    for first in range(0, n, 10):
        some = ids(n)[first : first + 10]
        store.append(some, np.full((len(some), encoder.dim), first + 1.0))
    return store


def damage(store: Path, row_bytes: int, row: int) -> None:
    with (store / "vectors.f16").open("r+b") as file:
        file.seek(row * row_bytes)
        file.write(b"\xff")


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of 30 images that works with encoder B; encoder A has 20 of them."""
    config = tmp_path / "loop.toml"
    config.write_text('[project]\nname = "held"\nfindings = ["Effusion"]\nfolder = "held"\n')
    settings = load_settings(config, {}, {})
    settings.folder.mkdir()
    with State.create(settings.state_url) as state:
        state.add_items([Item(i, tmp_path / i, f"patient {i}", "active", None, {}) for i in ids(30)])
        state.set_fact("encoder", {"spec": B.spec, "fingerprint": B.fingerprint, "dim": B.dim}, utc_now())
    fill(settings.features_folder, A, 20)
    fill(settings.features_folder, B, 30)
    return config


def test_changed_weights_never_mix_with_old_rows(tmp_path: Path) -> None:
    """Two encoders of one name: the second starts with an empty store, and the first one's rows stay."""
    items = items_in(write_pictures(tmp_path / "images", 6))
    old, new = Pixels(fingerprint="old"), Pixels(fingerprint="new")
    for encoder in (old, new, old):
        encode_items(items, encoder, open_store(tmp_path / "features", encoder), 4)
    assert (old.batches, new.batches) == ([4, 2], [4, 2])
    listed = list_stores(tmp_path / "features", check=True)
    assert [(s.encoder, s.fingerprint, s.rows) for s in listed.stores] == [
        ("pixels", "new", 6),
        ("pixels", "old", 6),
    ]
    assert listed.ok


def test_an_older_store_without_the_name_is_read_and_gets_it(tmp_path: Path) -> None:
    folder = tmp_path / A.fingerprint
    FeatureStore.open(folder, A.fingerprint, A.dim).append(ids(1), np.ones((1, A.dim)))
    (folder / "encoder.json").write_text(json.dumps({"fingerprint": A.fingerprint, "dim": A.dim}))
    assert list_stores(tmp_path, check=True).stores[0].encoder == ""
    assert len(open_store(tmp_path, A)) == 1
    assert list_stores(tmp_path, check=True).stores[0].encoder == "timm:one"
    open_store(tmp_path, Name(A.fingerprint, "timm:one@/elsewhere/model.safetensors"))
    assert list_stores(tmp_path, check=True).stores[0].encoder == "timm:one"


def test_a_listing_says_whose_rows_how_many_and_which_are_in_force(project: Path) -> None:
    before = content(project.parent)
    result = run("features", "list", "-c", project, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    first, second = told["stores"]
    assert (first["encoder"], first["rows"], first["missing"], first["in_force"]) == ("timm:two", 30, 0, True)
    assert (second["encoder"], second["rows"], second["missing"], second["in_force"]) == (
        "timm:one",
        20,
        10,
        False,
    )
    assert second["size_bytes"] == 20 * (4 * 2 + 16) + 2 * 32
    shown = run("features", "list", "-c", project).output
    assert "timm:two" in shown
    assert "The project works with the first one." in shown
    assert content(project.parent) == before  # looking changes nothing


def test_a_check_finds_damage_of_every_encoder_and_says_what_to_run(project: Path) -> None:
    assert run("features", "verify", "-c", project).exit_code == 0
    stores = project.parent / "held" / "features"
    damage(stores / A.fingerprint, 8, 3)
    assert run("features", "list", "-c", project).exit_code == 0  # a listing does not read everything
    result = run("features", "verify", "-c", project, "--quiet")
    assert result.exit_code == 2
    assert "timm:one: rows 0 to 9 do not agree with their checksum" in result.output
    assert "timm:two: 30 embeddings, whole" in result.output
    assert "loop start" in result.output
    told = json.loads(run("features", "verify", "-c", project, "--json").stdout)
    assert told["ok"] is False
    assert [store["problems"] == [] for store in told["stores"]] == [True, False]
    damage(stores / B.fingerprint, 16, 29)
    assert "timm:two: rows 20 to 29 do not agree" in run("features", "list", "-c", project).output


def test_what_a_check_found_is_whole_after_the_images_were_encoded_again(tmp_path: Path) -> None:
    items = items_in(write_pictures(tmp_path / "images", 9))
    encode_items(items, Pixels(), open_store(tmp_path / "s", Pixels()), 3)
    damage(tmp_path / "s" / "pixels", 32, 4)
    assert run("features", "verify", "--store", tmp_path / "s").exit_code == 2
    assert encode_items(items, Pixels(), open_store(tmp_path / "s", Pixels()), 3).encoded == 3
    assert run("features", "verify", "--store", tmp_path / "s", "-q").output == ""


@pytest.mark.parametrize("about", [b"", b"[]", b"{}", b"\0" * 40])
def test_a_damaged_description_is_a_problem_of_that_store_alone(tmp_path: Path, about: bytes) -> None:
    for encoder in (A, B):
        fill(tmp_path, encoder, 10)
    (tmp_path / A.fingerprint / "encoder.json").write_bytes(about)
    found = {stored.fingerprint: stored.problems for stored in list_stores(tmp_path, check=True).stores}
    assert found[B.fingerprint] == ()
    assert "is damaged" in found[A.fingerprint][0]


def test_a_store_in_the_wrong_folder_is_a_problem(tmp_path: Path) -> None:
    fill(tmp_path, A, 10)
    (tmp_path / A.fingerprint).rename(tmp_path / B.fingerprint)
    stored = list_stores(tmp_path, check=False).stores[0]
    assert f"holds embeddings of {A.fingerprint}" in stored.problems[0]


def test_nothing_to_list_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no embeddings.*loop encode"):
        list_stores(tmp_path, check=False)
    result = run("features", "list", "-c", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "loop init" in result.output


def test_looking_at_a_store_with_a_lost_file_says_so_and_makes_none(tmp_path: Path) -> None:
    fill(tmp_path, A, 10)
    (tmp_path / A.fingerprint / "vectors.f16").unlink()
    before = content(tmp_path)
    for check in (True, False):
        (stored,) = list_stores(tmp_path, check=check).stores
        assert "lacks vectors.f16" in stored.problems[0]
    assert content(tmp_path) == before


def test_a_store_of_vectors_without_length_is_damaged(tmp_path: Path) -> None:
    fill(tmp_path, A, 10)
    about = {"fingerprint": A.fingerprint, "dim": 0}
    (tmp_path / A.fingerprint / "encoder.json").write_text(json.dumps(about))
    assert "is damaged" in list_stores(tmp_path, check=True).stores[0].problems[0]
