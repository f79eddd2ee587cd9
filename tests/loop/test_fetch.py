"""Images on servers: a real web server on this machine, and a real file system of fsspec's in this process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_dicom
from image_server import ImageServer
from PIL import Image

import loop.fetch
import loop.object_store
from loop.addresses import Address, is_address, join, read_address
from loop.errors import BadInput, LoopError, Unavailable
from loop.find import Found, fetch_found, find_images
from loop.items import hash_images
from loop.object_store import save_object

KEY = b"secret"


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    monkeypatch.setattr(loop.fetch, "PAUSES_S", (0.01, 0.01))
    monkeypatch.delenv("LOOP_IMAGES_AUTHORIZATION", raising=False)
    with ImageServer({f"/cxr/p{i // 2}/{i} ü.png": png(i) for i in range(6)}) as running:
        yield running


def manifest(folder: Path, rows: list[str], columns: str = "file,patient") -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def listed(server: ImageServer, query: str = "") -> list[str]:
    return [
        f"{server.url}{path}{query},{path.split('/')[2]}"
        for path in sorted(server.files)
        if path.startswith("/cxr/p")
    ]


def fetch(source: Path | Address, copies: Path) -> tuple[list[Found], tuple[tuple[str, str], ...]]:
    return fetch_found(find_images(source, "", KEY, copies), KEY, lambda done, of: None)


def test_images_on_a_web_server_are_fetched_once_and_named_by_their_content(
    tmp_path: Path, server: ImageServer
) -> None:
    source, copies = manifest(tmp_path, listed(server)), tmp_path / "copies"
    found, problems = fetch(source, copies)
    assert problems == ()
    items = hash_images(found).items
    assert len({item.item for item in items}) == 6
    assert {item.patient for item in items} == {"p0", "p1", "p2"}
    assert [item.path.read_bytes() for item in items] == [server.files[p] for p in sorted(server.files)]
    assert items[0].path == copies / "http" / server.url[7:].replace(":", "_") / "cxr" / "p0" / "0 ü.png"
    fetch(source, copies)
    assert set(server.asked.values()) == {1}


def test_a_manifest_may_lie_on_the_server_and_name_images_beside_it(
    tmp_path: Path, server: ImageServer
) -> None:
    server.files["/cxr/all.csv"] = "file,patient,view\np0/0 ü.png,a,AP\np0/1%20ü.png,b,PA\n".encode()
    found, problems = fetch(read_address(f"{server.url}/cxr/all.csv"), tmp_path)
    assert problems == ()
    assert [(image.patient, image.metadata["view"]) for image in found] == [("a", "AP"), ("b", "PA")]
    with pytest.raises(BadInput, match=r"no listing of their files.*CSV manifest"):
        find_images(read_address(f"{server.url}/cxr"), "", KEY, tmp_path)


def test_what_is_not_there_or_no_image_is_listed_and_tried_again_next_time(
    tmp_path: Path, server: ImageServer
) -> None:
    server.files["/login"] = b"<html>Who are you?</html>"
    rows = [*listed(server)[:2], f"{server.url}/cxr/gone.png,x", f"{server.url}/login,x"]
    source = manifest(tmp_path, rows)
    found, problems = fetch(source, tmp_path / "copies")
    assert len(found) == 2
    told = dict(problems)
    assert told[f"{server.url}/cxr/gone.png"] == "is not there (HTTP 404)"
    assert "no PNG, JPEG or DICOM" in told[f"{server.url}/login"]
    server.files["/cxr/gone.png"] = png(7)
    found, problems = fetch(source, tmp_path / "copies")
    assert len(found) == 3
    assert len(problems) == 1


def test_a_refused_key_stops_the_fetch_and_says_where_a_key_is_given(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "Bearer s3cr3t"
    source, copies = manifest(tmp_path, listed(server)), tmp_path / "copies"
    with pytest.raises(BadInput, match=r"may not be read \(HTTP 401\).*export LOOP_IMAGES_AUTHORIZATION"):
        fetch(source, copies)
    monkeypatch.setenv("LOOP_IMAGES_AUTHORIZATION", "Bearer wrong")
    with pytest.raises(BadInput, match="HTTP 401") as refused:
        fetch(source, copies)
    assert "wrong" not in str(refused.value)
    monkeypatch.setenv("LOOP_IMAGES_AUTHORIZATION", "Bearer s3cr3t…")
    with pytest.raises(BadInput, match="characters that no key has"):
        fetch(source, copies)
    monkeypatch.setenv("LOOP_IMAGES_AUTHORIZATION", "Bearer s3cr3t")
    assert len(fetch(source, copies)[0]) == 6


def test_a_key_is_shown_to_one_server_only(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_IMAGES_AUTHORIZATION", "Bearer s3cr3t")
    with ImageServer({"/a.png": png(9)}) as other:
        rows = [*listed(server), f"{other.url}/a.png,x"]
        with pytest.raises(BadInput, match="2 servers"):
            fetch(manifest(tmp_path, rows), tmp_path / "copies")
        assert not server.asked + other.asked
        server.moved["/a.png"] = f"{other.url}/a.png"
        found, _ = fetch(manifest(tmp_path, [f"{server.url}/a.png,x"]), tmp_path / "copies")
        assert len(found) == 1
        assert other.keys == {None}


def test_signatures_are_used_and_shown_and_stored_nowhere(tmp_path: Path, server: ImageServer) -> None:
    server.signature = "X-Amz-Signature=first"
    signed = manifest(tmp_path, listed(server, "?X-Amz-Expires=60&X-Amz-Signature=first"))
    found, problems = fetch(signed, tmp_path / "copies")
    assert (len(found), problems) == (6, ())
    for image in found:
        assert "Amz" not in repr(image) + image.name + str(image.path) + str(image.metadata)
    server.signature = "X-Amz-Signature=second"
    again = manifest(tmp_path, listed(server, "?X-Amz-Signature=second&X-Amz-Expires=60"))
    assert [image.path for image in fetch(again, tmp_path / "copies")[0]] == [image.path for image in found]
    assert set(server.asked.values()) == {1}  # signed anew they are the same images
    expired = manifest(tmp_path, listed(server, "?X-Amz-Expires=60&X-Amz-Signature=first"))
    with pytest.raises(BadInput, match=r"signature has expired.*write the manifest anew") as refused:
        fetch(expired, tmp_path / "others")
    assert "Amz" not in str(refused.value)


def test_a_query_that_is_no_signature_tells_images_apart(tmp_path: Path, server: ImageServer) -> None:
    server.files["/wado"] = png(8)
    rows = [f"{server.url}/wado?objectUID=1.{i},p{i}" for i in range(3)]
    found, _ = fetch(manifest(tmp_path, rows), tmp_path / "copies")
    assert len({image.path for image in found}) == 3
    with pytest.raises(BadInput, match=r"line 3: .* stands in line 2 too"):
        find_images(manifest(tmp_path, [rows[0], rows[0]]), "", KEY, tmp_path / "copies")


def test_a_server_that_is_busy_is_asked_again_and_one_that_stays_so_is_told(
    tmp_path: Path, server: ImageServer
) -> None:
    first, second, *_ = sorted(server.files)
    source = manifest(tmp_path, listed(server))
    server.fails.update({first: 2})
    assert len(fetch(source, tmp_path / "a")[0]) == 6
    server.fails.update({second: 10})
    with pytest.raises(Unavailable, match=r"could not be fetched \(HTTP 503\).*run it again"):
        fetch(source, tmp_path / "b")
    kept = list((tmp_path / "b").rglob("*.png"))
    assert first.rpartition("/")[2] in {path.name for path in kept}
    server.fails.clear()
    before = server.asked.copy()
    assert len(fetch(source, tmp_path / "b")[0]) == 6
    assert sum((server.asked - before).values()) == 6 - len(kept)  # it goes on where it was


def test_a_fetch_that_was_killed_goes_on_where_it_was_and_keeps_no_torn_copy(
    tmp_path: Path, server: ImageServer
) -> None:
    server.files = {f"/cxr/p{i}/{i}.png": png(i) for i in range(40)}
    server.wait_s = 0.1
    source, copies = manifest(tmp_path, listed(server)), tmp_path / "copies"
    program = (
        "import sys\nfrom pathlib import Path\nfrom loop.find import fetch_found, find_images\n"
        "source, copies = map(Path, sys.argv[1:])\n"
        "fetch_found(find_images(source, '', b'k', copies), b'k', lambda done, of: print(done, flush=True))\n"
    )
    args = [sys.executable, "-c", program, str(source), str(copies)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as fetching:
        assert fetching.stdout is not None
        assert fetching.stdout.readline() == "1\n"
        fetching.kill()
    kept = {path.name for path in copies.rglob("[!.]*.png")}
    assert 0 < len(kept) < 40
    server.wait_s = 0.0
    found, problems = fetch(source, copies)
    assert (len(found), problems) == (40, ())
    assert [image.path.read_bytes() for image in found] == [server.files[p] for p in sorted(server.files)]
    assert {n for path, n in server.asked.items() if path.rpartition("/")[2] in kept} == {1}


def test_an_image_beyond_all_measure_is_not_kept(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.object_store, "MOST_BYTES", 100)
    found, problems = fetch(manifest(tmp_path, listed(server)[:1]), tmp_path / "copies")
    assert found == []
    assert "which no X-ray has" in problems[0][1]
    assert not list((tmp_path / "copies").rglob("*.png*"))


def test_a_server_that_is_away_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.fetch, "PAUSES_S", ())
    with pytest.raises(Unavailable, match=r"http://127.0.0.1:9/a.png could not be fetched \(ConnectError\)"):
        fetch(manifest(tmp_path, ["http://127.0.0.1:9/a.png,x"]), tmp_path / "copies")


def test_without_room_for_all_images_none_is_fetched(tmp_path: Path, store: str) -> None:
    found = find_images(read_address(store), "", KEY, tmp_path)
    wanted = [image.wanted for image in found if image.wanted]
    with pytest.raises(BadInput, match="Make room"):
        loop.fetch.fetch_images(wanted, None, n_bytes=10**18)
    assert not list(tmp_path.rglob("*"))


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder of images in fsspec's file system in memory."""
    import fsspec

    files: Any = fsspec.filesystem("memory")
    dicom = tmp_path_factory.mktemp("dicom") / "1.2.840.1"
    write_dicom(dicom, np.arange(256, dtype=np.uint16).reshape(16, 16), PatientID="Müller")
    for path, content in {
        "/ward/chest/ann/1.png": png(1),
        "/ward/chest/ann/2.png": png(2),
        "/ward/chest/1.2.840.1": dicom.read_bytes(),
        "/ward/chest/README": b"no image",
        "/ward/chest/.hidden.png": png(3),
        "/ward/chest/notes.txt": b"text",
    }.items():
        files.pipe(path, content)
    yield "memory://ward/chest"
    files.rm("/ward", recursive=True)


def test_a_folder_of_an_object_store_is_listed_and_fetched(tmp_path: Path, store: str) -> None:
    named = find_images(read_address(store), r"^([^/]+)/", KEY, tmp_path)
    assert [image.name for image in named] == ["1.2.840.1", "README", "ann/1.png", "ann/2.png"]
    found, problems = fetch_found(named, KEY, lambda done, of: None)
    assert dict(problems).keys() == {"memory://ward/chest/README"}
    patients = {image.name: image.patient for image in found}
    assert patients["ann/1.png"] == patients["ann/2.png"] == "ann"
    assert patients["1.2.840.1"] is not None
    assert "ller" not in patients["1.2.840.1"]
    assert found[1].metadata == {"file": "memory://ward/chest/ann/1.png"}


def test_a_store_that_holds_nothing_or_is_not_known_is_refused(tmp_path: Path, store: str) -> None:
    for source, fact in (
        ("memory://ward/chset", "holds no image"),
        ("nostore://bucket/chest", "no store that is known"),
        ("simplecache::memory://ward", "no server's address|no store"),
    ):
        with pytest.raises(BadInput, match=fact):
            find_images(read_address(source), "", KEY, tmp_path)


def test_what_any_store_s_own_library_raises_is_told_in_our_words(tmp_path: Path) -> None:
    """As gcsfs lets an error of google-auth through, from a class that fsspec does not know."""
    import fsspec

    error = type("DefaultCredentialsError", (Exception,), {"__module__": "google.auth.exceptions"})

    class Strange(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "strange"

        def find(self, path: str, **_: Any) -> Any:
            raise error("no credentials")

        def size(self, path: str) -> int:
            raise TypeError("a mistake of ours")

    fsspec.register_implementation("strange", Strange)
    with pytest.raises(
        Unavailable, match=r"strange://bucket/chest could not be fetched \(DefaultCredentialsError\)"
    ):
        find_images(read_address("strange://bucket/chest"), "", KEY, tmp_path)
    with pytest.raises(TypeError):
        save_object(read_address("strange://bucket/1.png"), tmp_path / "1.png")


def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for address in ("https://ann:s3cr3t@host/a.png", "s3://AKIA:s3cr3t@bucket/a.png"):
        with pytest.raises(BadInput, match=r"does not belong into a file.*export") as refused:
            find_images(manifest(tmp_path, [f"{address},x"]), "", KEY, tmp_path / "copies")
        assert "s3cr3t" not in str(refused.value)
        assert "line 2" in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://host/../../etc/passwd",
        "https://host/%2e%2e/%2e%2e/etc/passwd",
        "https://host/a/..%2f..%2fx.png",
        "https://host//a.png",
        "https://host/" + "a" * 300 + ".png",
        "s3://bucket/../x.png",
        "https://host/a%00b.png",
        "https://host/",
    ],
)
def test_no_address_leads_a_copy_out_of_its_folder(tmp_path: Path, address: str) -> None:
    read = read_address(address)
    path = os.path.realpath(tmp_path / read.copy)
    assert Path(path).is_relative_to(tmp_path / read.scheme / read.host)
    assert all(len(part) < 255 for part in read.copy.parts)


def test_paths_are_not_taken_for_addresses() -> None:
    assert not any(map(is_address, ("C:\\images\\1.png", "C://x", "images/1.png", "/data/1.png", "")))
    assert all(map(is_address, ("http://h/1.png", "s3://b/k", "HTTPS://h/1.png")))


def test_where_images_must_be_on_disk_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="here images must be on disk"):
        find_images(manifest(tmp_path, ["https://host/a.png?sig=s3cr3t,x"]), key=None)


def test_a_row_cannot_leave_its_manifest_s_server_by_leaving_out_how_it_is_asked() -> None:
    base = read_address("https://good.example/all.csv")
    with pytest.raises(BadInput, match="names a server"):
        join(base, "//evil.example/x.png")
    assert join(base, "x.png") == "https://good.example/x.png"


@pytest.mark.parametrize("text", ["http://[::1/x.png", "http://h:99999/x.png"])
def test_an_address_that_is_none_is_refused_in_our_words(text: str) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_address(text)


def test_a_key_for_the_manifest_s_server_is_shown_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_IMAGES_AUTHORIZATION", "Bearer x")
    wanted = [loop.fetch.read_wanted("http://127.0.0.1:9/x.png", tmp_path)]
    with pytest.raises(BadInput, match="2 servers"):
        loop.fetch.fetch_images(wanted, source=read_address("http://localhost:9/all.csv"))
