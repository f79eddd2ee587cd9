"""Images in S3: the real library against a real S3-compatible server on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from s3_connections import drop_s3_connections

from loop.addresses import read_address
from loop.errors import BadInput, Unavailable
from loop.find import fetch_found, find_images

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'annotation-loop[s3]'")
server_module = pytest.importorskip(
    "moto.server", reason="moto is not installed: pip install 'annotation-loop[dev]'"
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def png(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files: Any = s3fs.S3FileSystem()
    files.mkdir("ward")
    for i in range(5):
        files.pipe(f"ward/chest/p{i // 2}/{i} 100%+ü.png", png(i))
    files.pipe("ward/chest/all.csv", b"file,patient\np0/0 100%+\xc3\xbc.png,a\ns3://ward/chest/gone.png,b\n")
    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://ward/chest"
    files.rm("ward", recursive=True)
    del files
    drop_s3_connections()


def test_a_folder_in_s3_is_listed_and_fetched_with_the_environment_s_key(tmp_path: Path, store: str) -> None:
    named = find_images(read_address(store), r"^([^/]+)/", b"k", tmp_path)
    assert [image.n_bytes for image in named] == [len(png(i)) for i in range(5)]
    found, problems = fetch_found(named, b"k", lambda done, of: None)
    assert problems == ()
    assert [image.path.read_bytes() for image in found] == [png(i) for i in range(5)]
    assert [image.patient for image in found] == ["p0", "p0", "p1", "p1", "p2"]
    assert found[0].metadata == {"file": "s3://ward/chest/p0/0 100%+ü.png"}


def test_a_manifest_in_s3_names_images_beside_it_and_what_is_gone_is_listed(
    tmp_path: Path, store: str
) -> None:
    named = find_images(read_address(f"{store}/all.csv"), "", b"k", tmp_path)
    found, problems = fetch_found(named, b"k", lambda done, of: None)
    assert [image.patient for image in found] == ["a"]
    assert problems == (("s3://ward/chest/gone.png", "is not there"),)


def test_a_bucket_that_is_not_there_a_missing_key_and_a_store_that_is_away_are_told(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with pytest.raises(BadInput, match="s3://gone/chest holds no image"):
        find_images(read_address("s3://gone/chest"), "", b"k", tmp_path)
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="s3://ward/chest could not be fetched") as away:
        find_images(read_address(store), "", b"k", tmp_path)
    assert "s3cr3t" not in str(away.value)
    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BadInput, match=r"no key is given.*export AWS_ACCESS_KEY_ID"):
        find_images(read_address(store), "", b"k", tmp_path)
