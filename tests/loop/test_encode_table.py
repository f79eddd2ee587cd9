"""`loop encode`: a folder, a zip file or a manifest becomes a table; whatever stops it, the table is the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dicom_files import RAMP, write_dicom
from numpy.typing import NDArray
from pixels_encoder import Pixels, picture, write_pictures

from loop.archive import read_archive
from loop.cli import main
from loop.encoders import load_encoder
from loop.errors import BadInput
from loop.images import open_image
from loop.pictures import Picture, find_pictures
from loop.stores import list_stores
from loop.table import Tabled, encode_table

TESTS = Path(__file__).resolve().parent.parent
STORED = ("vectors.f16", "items.bin", "commits.log", "encoder.json")

ENCODES = """
import sys
from pathlib import Path
from pixels_encoder import Pixels
from loop.pictures import find_pictures
from loop.table import encode_table

source, out = Path(sys.argv[1]), Path(sys.argv[2])
encode_table(
    find_pictures(source), Pixels(batch_s=0.02), out, out.with_suffix(".store"), 5,
    lambda what, done, of: print(what, done, flush=True),
)
"""


def encoded(source: Path, out: Path, batch_size: int = 8, flat: bool = False) -> Tabled:
    pictures = find_pictures(source, flat=flat)
    return encode_table(
        pictures, Pixels(), out, out.with_suffix(".store"), batch_size, lambda what, done, of: None
    )


def read(out: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(out, allow_pickle=False) as held:
        assert held["feat"].dtype == np.float16
        return dict(zip(held["name"].tolist(), held["feat"].astype(np.float32), strict=True))


def zipped(folder: Path, out: Path, prefix: str = "", kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(out, "w", kind) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(folder).as_posix())
    return out


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_a_folder_a_zip_file_and_a_manifest_give_the_same_vectors(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 12)
    (folder / "ward").mkdir()
    write_dicom(folder / "ward" / "1.2.840", RAMP)  # named by UID, as archives do
    rows = "\n".join(
        f"images/{path.relative_to(folder).as_posix()},1" for path in folder.rglob("*") if path.is_file()
    )
    (tmp_path / "list.csv").write_text(f"file,Effusion\n{rows}\n")
    table = encoded(folder, tmp_path / "folder.npz")
    assert (table.images, table.rows, table.encoded, table.problems) == (13, 13, 13, ())
    encoded(zipped(folder, tmp_path / "images.zip"), tmp_path / "zip.npz")
    encoded(zipped(folder, tmp_path / "one.zip", "images/"), tmp_path / "one.npz")  # a zip of one folder
    encoded(tmp_path / "list.csv", tmp_path / "list.npz")
    found = read(tmp_path / "folder.npz")
    for name, vector in found.items():
        np.testing.assert_array_equal(vector, Pixels().preprocess(open_image(folder / name)))
    assert list(found) == [*(f"{i:03}.png" for i in range(12)), "ward/1.2.840"]
    for other in ("zip.npz", "one.npz"):
        assert (tmp_path / other).read_bytes() == (tmp_path / "folder.npz").read_bytes()
    listed = read(tmp_path / "list.npz")
    assert set(listed) == {f"images/{name}" for name in found}  # as the manifest says it
    assert all((listed[f"images/{name}"] == vector).all() for name, vector in found.items())


def test_the_names_may_go_without_folders_unless_two_would_be_equal(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images" / "a", 3)
    picture(9).save(tmp_path / "images" / "b.png")
    encoded(tmp_path / "images", tmp_path / "t.npz", flat=True)
    assert set(read(tmp_path / "t.npz")) == {"000.png", "001.png", "002.png", "b.png"}
    write_pictures(tmp_path / "images" / "c", 1)
    with pytest.raises(BadInput, match=r"both be named '000.png'.*--flat"):
        encoded(tmp_path / "images", tmp_path / "t.npz", flat=True)


def test_images_of_equal_content_are_encoded_once_and_each_has_its_row(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 3)
    shutil.copy(folder / "001.png", folder / "copy.png")
    table = encoded(folder, tmp_path / "t.npz")
    assert (table.rows, table.encoded) == (4, 3)
    found = read(tmp_path / "t.npz")
    np.testing.assert_array_equal(found["copy.png"], found["001.png"])


def test_what_cannot_be_encoded_is_listed_and_the_rest_is_written(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 6)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:60])
    (folder / "004.png").write_text("Dear colleague,\n")
    shutil.copy(folder / "004.png", folder / "letter.png")
    for source in (folder, zipped(folder, tmp_path / "images.zip")):
        table = encoded(source, tmp_path / f"{source.name}.npz")
        assert (table.images, table.rows) == (9 - 2, 4)
        said = "\n".join(table.problems)
        assert f"{source}/001.png: " in said
        assert "truncated" in said
        assert f"{source}/004.png: no PNG, JPEG or DICOM inside" in said
        assert f"{source}/letter.png: same content as {source}/004.png" in said
        assert set(read(tmp_path / f"{source.name}.npz")) == {f"{i:03}.png" for i in (0, 2, 3, 5)}


def test_a_table_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("no image")
    with pytest.raises(BadInput, match=r"None of the 1 images can be used: .*no PNG"):
        encoded(tmp_path / "images", tmp_path / "t.npz")
    assert not (tmp_path / "t.npz").exists()


def test_damage_inside_a_zip_file_costs_the_damaged_image_only(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 3)
    path = zipped(folder, tmp_path / "images.zip", kind=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    at = content.index((folder / "001.png").read_bytes()) + 50
    content[at] ^= 255
    path.write_bytes(content)
    table = encoded(path, tmp_path / "t.npz")
    assert table.rows == 2
    assert "001.png: cannot be read: cannot be unpacked: Bad CRC-32" in table.problems[0]


def test_an_encrypted_zip_file_is_refused_with_the_fact(tmp_path: Path) -> None:
    path = zipped(write_pictures(tmp_path / "images", 2), tmp_path / "images.zip")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags says encrypted
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"None of the 2 images.*password|encrypted"):
        encoded(path, tmp_path / "t.npz")


def test_more_images_later_cost_only_themselves(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", 5)
    encoded(folder, tmp_path / "t.npz")
    write_pictures(folder, 8)
    table = encoded(folder, tmp_path / "t.npz")
    assert (table.rows, table.encoded) == (8, 3)
    assert len(read(tmp_path / "t.npz")) == 8
    assert encoded(folder, tmp_path / "t.npz").encoded == 0


def test_encoding_that_is_killed_ten_times_gives_the_same_bytes(tmp_path: Path) -> None:
    """300 images in batches of 5; SIGKILL at random moments, then run again to the end."""
    folder = write_pictures(tmp_path / "images", 300)

    def started(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ENCODES, str(folder), str(out)]
        env = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1", "PATH": ""}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)

    with started(tmp_path / "clean.npz") as clean:
        clean.communicate()
    assert clean.returncode == 0
    rng = np.random.default_rng(5)
    out, kills, seen = tmp_path / "killed.npz", 0, [0]
    while kills < 10:
        with started(out) as process:
            assert process.stdout is not None
            looks = (line for line in process.stdout if line.startswith("encoding"))
            for _ in range(int(rng.integers(1, 5))):
                next(looks)
            time.sleep(float(rng.uniform(0, 0.03)))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        kills += 1
        seen.append(list_stores(tmp_path / "killed.store", check=True).stores[0].rows)
        assert not out.exists()
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 300
    assert len(set(seen)) > 3  # it was killed at several places
    with started(out) as last:
        told = last.communicate()[0]
    assert f"encoding {seen[-1]}\n" in told  # what was committed is not encoded again
    for name in STORED:
        killed, whole = (tmp_path / store / "pixels" / name for store in ("killed.store", "clean.store"))
        assert killed.read_bytes() == whole.read_bytes()
    assert out.read_bytes() == (tmp_path / "clean.npz").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_writes_what_the_simulation_reads(tmp_path: Path) -> None:
    """With the packaged model, joined to labels as `loop simulate` joins them."""
    folder = write_pictures(tmp_path / "images", 6)
    labels = "\n".join(f"{i:03}.png,p{i},{i % 2}" for i in range(6))
    (tmp_path / "labels.csv").write_text(f"file,patient,Effusion\n{labels}\n")
    out = tmp_path / "features.npz"
    asked = (
        "encode",
        folder,
        "--encoder",
        "timm:tf_efficientnet_lite0",
        "--devices",
        "cpu",
        "--out",
        out,
        "--json",
    )
    made = run(*asked)
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert (told["rows"], told["dim"], told["encoded"], told["problems"]) == (6, 1280, 6, [])
    held = read_archive(out, tmp_path / "labels.csv", "patient")
    assert held.labels.names == tuple(f"{i:03}.png" for i in range(6))
    encoder = load_encoder("timm:tf_efficientnet_lite0", "cpu")
    expected = encoder.embed([encoder.preprocess(open_image(folder / name)) for name in held.labels.names])
    np.testing.assert_allclose(held.features, expected, atol=2e-3 * float(np.abs(expected).max()))
    before = out.read_bytes()
    assert json.loads(run(*asked).stdout)["encoded"] == 0
    assert out.read_bytes() == before
    listed = list_stores(tmp_path / "features.store", check=True)
    assert [(s.encoder, s.fingerprint) for s in listed.stores] == [(encoder.spec, encoder.fingerprint)]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--encoder", "timm:nothing_like_it", "--out", "t.npz"), "timm has no model"),
        (("--encoder", "pixels:", "--out", "t.npz"), "names no encoder"),
        (("--encoder", "timm:tf_efficientnet_lite0", "--out", "t.csv"), "must end in .npz"),
        (("--encoder", "timm:tf_efficientnet_lite0", "--out", "gone/t.npz"), "there is no folder"),
        (("--encoder", "timm:tf_efficientnet_lite0", "--devices", "cuda:99", "--out", "t.npz"), "cuda:99"),
    ],
)
def test_bad_input_ends_with_status_2_and_the_fact(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    folder = write_pictures(tmp_path / "images", 1)
    result = run("encode", folder, *(str(tmp_path / a) if a.endswith((".npz", ".csv")) else a for a in args))
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_source_that_is_none_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "list.csv").write_text("name\na.png\n")
    with zipfile.ZipFile(tmp_path / "letters.zip", "w") as archive:
        archive.writestr("letter.txt", "Dear colleague,")
    for source, said in (
        ("empty", "holds no image"),
        ("cut.zip", "is no zip file"),
        ("letters.zip", "holds no image"),
        ("list.csv", "no column `file`"),
        ("gone", "does not exist"),
    ):
        result = run(
            "encode",
            tmp_path / source,
            "--encoder",
            "timm:tf_efficientnet_lite0",
            "--out",
            tmp_path / "t.npz",
        )
        assert result.exit_code == 2
        assert said in result.output


def test_a_member_of_a_zip_file_is_unpacked_once_to_hash_and_once_to_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zipped(write_pictures(tmp_path / "images", 5), tmp_path / "i.zip")
    unpacked = Counter[str]()
    plain = zipfile.ZipFile.read

    def counted(self: zipfile.ZipFile, name: str, *rest: Any) -> bytes:
        unpacked[name] += 1
        return plain(self, name, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    encoded(source, tmp_path / "t.npz")
    assert len(unpacked) == 5
    assert set(unpacked.values()) == {2}


def test_damage_in_an_lzma_zip_file_costs_the_damaged_image_only(tmp_path: Path) -> None:
    source = zipped(write_pictures(tmp_path / "images", 3), tmp_path / "i.zip", kind=zipfile.ZIP_LZMA)
    with zipfile.ZipFile(source) as held:
        first = min(held.infolist(), key=lambda info: info.header_offset)
    content = bytearray(source.read_bytes())
    at = first.header_offset + 30 + len(first.filename) + 40
    content[at : at + 60] = b"\xff" * 60
    source.write_bytes(bytes(content))
    told = encoded(source, tmp_path / "t.npz")
    assert (told.rows, len(told.problems)) == (2, 1)
    assert "cannot be unpacked" in told.problems[0]


def test_an_image_whose_row_is_in_doubt_is_in_no_table(tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "images", 2)
    pictures = find_pictures(images)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / pictures[0].name).write_bytes(b"another image of this name")
    np.savez(tmp_path / "t.npz", feat=np.ones((2, 3)), name=np.array([p.name for p in pictures]))
    encoder = load_encoder(f"features:{tmp_path}/t.npz")

    def table(found: list[Picture]) -> Tabled:
        return encode_table(found, encoder, tmp_path / "out.npz", tmp_path / "s", 4, lambda *_: None)

    assert table(pictures).rows == 2
    namesake = Picture("x.png", tmp_path / "other" / pictures[0].name)
    told = table([*pictures, namesake])
    assert (told.rows, len(told.problems)) == (1, 2)


def test_whoever_asks_outside_a_project_learns_how_to_name_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("list", "verify"):
        result = run("features", command)
        assert result.exit_code == 2
        assert "--store FOLDER" in result.output
