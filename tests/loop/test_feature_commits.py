"""What the last batch, the lock and a full disk do to a feature store, and what a commit costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loop.commits import BATCH, RECORD_BYTES, VOID, Batch, pack, unpack
from loop.errors import Unavailable
from loop.features import FeatureStore

DIM = 64
FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from loop.errors import Unavailable
from loop.features import FeatureStore

store = FeatureStore.open(Path(sys.argv[1]), "encoder", 64)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # the disk ends in the third batch
for batch in range(5):
    try:
        store.append([f"{32 * batch + i:032x}" for i in range(32)], np.full((32, 64), batch, dtype=np.float32))
    except Unavailable as error:
        print(batch, error)
        break
"""


def fresh(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder, "encoder", DIM)


def names(batch: int) -> list[str]:
    return [f"{32 * batch + i:032x}" for i in range(32)]


def add(store: FeatureStore, batch: int) -> None:
    store.append(names(batch), np.full((32, DIM), batch, dtype=np.float32))


def filled(folder: Path, n_batches: int) -> FeatureStore:
    store = fresh(folder)
    for batch in range(n_batches):
        add(store, batch)
    return store


def zero(path: Path, first: int, n: int) -> None:
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"\0" * n)


@pytest.mark.parametrize(
    ("file", "first", "n"), [("vectors.f16", 3 * 4096 + 100, 200), ("items.bin", 3 * 512 + 16, 16)]
)
def test_a_last_batch_that_went_bad_is_not_there_when_the_store_is_opened(
    tmp_path: Path, file: str, first: int, n: int
) -> None:
    filled(tmp_path, 4)
    zero(tmp_path / file, first, n)
    store = fresh(tmp_path)
    assert store.missing(names(2) + names(3)) == names(3)
    assert store.verify().bad == ((96, 32),)
    add(store, 3)
    for opened in (store, fresh(tmp_path)):
        assert opened.verify().bad == ()
        np.testing.assert_array_equal(opened.read(names(3)), np.full((32, DIM), 3))
        assert len(opened) == 128


def test_several_last_batches_may_be_bad(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    zero(tmp_path / "vectors.f16", 2 * 4096, 2 * 4096)
    store = fresh(tmp_path)
    assert len(store) == 64
    assert store.verify().bad == ((64, 64),)


def test_a_void_batch_stays_void_for_a_reader_that_was_open_all_along(tmp_path: Path) -> None:
    writer = filled(tmp_path, 4)
    reader = fresh(tmp_path)
    zero(tmp_path / "vectors.f16", 4096, 4096)
    writer.drop_bad()
    reader.refresh()
    assert reader.missing(names(1)) == names(1)
    add(writer, 1)
    reader.refresh()
    np.testing.assert_array_equal(reader.read(names(1)), np.full((32, DIM), 1))
    assert sorted(reader.items) == sorted(writer.items) == sorted(fresh(tmp_path).items)


def test_who_holds_the_store_appends_and_others_are_refused(tmp_path: Path) -> None:
    mine, other = fresh(tmp_path), fresh(tmp_path)
    with mine.writing():
        add(mine, 0)
        with pytest.raises(Unavailable, match="Another process encodes"):
            add(other, 1)
        add(mine, 2)
    add(other, 1)
    assert len(other) == 96


def test_a_full_disk_is_said_and_costs_no_committed_row(tmp_path: Path) -> None:
    writer = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert writer.stdout.startswith(f"2 {tmp_path} cannot be written: File too large.")
    store = fresh(tmp_path)
    assert store.verify().bad == ()
    assert store.items == tuple(names(0) + names(1))
    add(store, 2)
    assert len(fresh(tmp_path)) == 96


def test_a_record_is_read_back_and_any_changed_byte_is_noticed() -> None:
    records = [(BATCH, Batch(0, 7, 2**32 - 1, 5)), (VOID, Batch(2**40, 1, 0, 0))]
    content = b"".join(pack(*record) for record in records)
    assert unpack(content) == records
    assert unpack(content + b"\0" * (RECORD_BYTES - 1)) == records
    assert unpack(content[:-1]) == records[:1]
    for at in range(RECORD_BYTES):
        changed = bytearray(content)
        changed[at] ^= 1
        assert unpack(bytes(changed)) == [None, records[1]]
