"""More machines through Ray: two workers, killed half-way and resumed, leave the bytes of one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pixels_encoder import Pixels, items_in, write_pictures

from loop.encoders.encode import encode_items
from loop.stores import list_stores, open_store

pytest.importorskip("ray", reason="Ray is not installed; pip install -e '.[ray]'")

TESTS = Path(__file__).resolve().parent.parent
STORED = ("vectors.f16", "items.bin", "commits.log")

ENCODES = """
import sys
from functools import partial
from pathlib import Path
from pixels_encoder import Pixels, items_in, noted_pixels
from loop.encoders.encode import encode_items
from loop.encoders.on_ray import on_ray, ray_cluster
from loop.errors import LoopError
from loop.stores import open_store

folder, notes, fingerprint = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with ray_cluster("local", 2):
    workers = on_ray(partial(noted_pixels, notes, fingerprint), "pixels", 2)
    try:
        encode_items(
            items_in(folder / "images"), Pixels(), open_store(folder / "s", Pixels()), 4,
            lambda done, of: print(done, flush=True), workers,
        )
    except LoopError as error:
        print(type(error).__name__, error)
"""


def started(folder: Path, notes: str, fingerprint: str = "pixels") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENCODES, str(folder), str(folder / notes), fingerprint]
    env = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def noted(folder: Path) -> list[int]:
    """Images that each worker embedded."""
    return [sum(map(int, path.read_text().split())) for path in folder.iterdir()]


def encode_command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`loop encode` of images.zip in a process of its own, as Ray wants it."""
    program = "from loop.cli import main; main()"
    asked = ["encode", "images.zip", "--encoder", "timm:tf_efficientnet_lite0", "--devices", "cpu", *args]
    env = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", program, *asked]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder with five pictures in images.zip."""
    write_pictures(tmp_path / "images", 5)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.write(path, path.name)
    return tmp_path


def test_two_workers_that_were_killed_half_way_go_on_and_leave_the_bytes_of_one_machine(
    tmp_path: Path,
) -> None:
    items = items_in(write_pictures(tmp_path / "images", 320))
    encode_items(items, Pixels(), open_store(tmp_path / "one", Pixels()), 4)
    with started(tmp_path, "first") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 96:
                break
        process.send_signal(signal.SIGKILL)
    before = list_stores(tmp_path / "s", check=True).stores[0]
    assert 96 <= before.rows < 320
    assert before.problems == ()
    with started(tmp_path, "second") as process:
        told = process.communicate()[0].split()
    assert process.returncode == 0
    assert (told[0], told[-1]) == (str(before.rows), "320")
    workers = noted(tmp_path / "second")
    assert len(workers) == 2
    assert sum(workers) == 320 - before.rows  # nothing twice
    for name in STORED:
        resumed, one = (tmp_path / store / "pixels" / name for store in ("s", "one"))
        assert resumed.read_bytes() == one.read_bytes()


def test_the_command_encodes_on_ray_as_it_does_here(pool: Path) -> None:
    for args in (("--out", "here.npz"), ("--out", "ray.npz", "--ray", "local", "--workers", "1")):
        done = encode_command(pool, *args)
        assert done.returncode == 0, done.stderr
        assert "5 of 5 images" in done.stdout
    assert (pool / "ray.npz").read_bytes() == (pool / "here.npz").read_bytes()


def test_a_cluster_that_is_not_there_ends_with_status_1(pool: Path) -> None:
    done = encode_command(pool, "--out", "t.npz", "--ray", "127.0.0.1:9")
    assert done.returncode == 1, done.stderr
    assert "No Ray cluster answers at 127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_machine_with_other_weights_is_refused_by_name(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 8)
    with started(tmp_path, "notes", fingerprint="other") as process:
        told = process.communicate()[0]
    assert "BadInput" in told
    assert "has the fingerprint other, here it is pixels" in told
    assert os.uname().nodename in told
