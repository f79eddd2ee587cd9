"""Embeddings on disk: what was acknowledged is whole, whatever happens to the writer or to the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from loop.errors import BadInput, Unavailable
from loop.features import FeatureStore, FeatureTable

DIM = 64  # a row of 128 bytes: 32 rows in 4 KiB
FILES = ("vectors.f16", "items.bin", "commits.log")

WRITER = """
import sys
from pathlib import Path
import numpy as np
from loop.features import FeatureStore

store = FeatureStore.open(Path(sys.argv[1]), "encoder", 64)
first = int(sys.argv[2])
for batch in range(first, first + 100_000):
    numbers = range(batch * 8, batch * 8 + 8)
    vectors = np.array([[n % 1000] * 64 for n in numbers], dtype=np.float32)
    store.append([f"{n:032x}" for n in numbers], vectors)
    print(batch, flush=True)  # acknowledged
"""


def name(n: int) -> str:
    return f"{n:032x}"


def vectors_of(numbers: range | list[int]) -> NDArray[np.float32]:
    """Rows that say whose they are, shape (n, DIM)."""
    return np.array([[n % 1000] * DIM for n in numbers], dtype=np.float32).reshape(-1, DIM)


def fresh(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder, "encoder", DIM)


def filled(folder: Path, n_batches: int = 4, size: int = 32) -> FeatureStore:
    store = fresh(folder)
    for batch in range(n_batches):
        add(store, range(batch * size, (batch + 1) * size))
    return store


def add(store: FeatureStore, numbers: range | list[int]) -> None:
    store.append([name(n) for n in numbers], vectors_of(numbers))


def holds(store: FeatureStore, numbers: range | list[int]) -> bool:
    found = store.read([name(n) for n in numbers])
    return np.array_equal(found, vectors_of(numbers))


def started_writer(folder: Path, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, text=True
    )


def test_what_was_appended_is_read_in_any_order_and_after_reopening(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, DIM)).astype(np.float32)
    store = fresh(tmp_path)
    store.append([name(n) for n in range(50)], vectors)
    order = rng.permutation(50)
    for opened in (store, fresh(tmp_path)):
        read = opened.read([name(n) for n in order])
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, vectors[order].astype(np.float16).astype(np.float32))
        assert opened.items == tuple(name(n) for n in range(50))
        assert len(opened) == 50
    assert store.read([]).shape == (0, DIM)
    assert fresh(tmp_path / "new").read([]).shape == (0, DIM)


def test_a_missing_item_is_a_key_error_that_names_it(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(KeyError, match=name(999)):
        store.read([name(1), name(999)])
    assert store.missing([name(999), name(1), name(998)]) == [name(999), name(998)]
    assert store.has(name(1))
    assert not store.has(name(999))


@pytest.mark.parametrize("size", [1, 7, 50, 64, 4096])
def test_chunks_are_what_read_gives(tmp_path: Path, size: int) -> None:
    items = [name(n) for n in reversed(range(50))]
    store = filled(tmp_path)
    for features in (store, FeatureTable(items, vectors_of(list(reversed(range(50)))))):
        chunks = list(features.chunks(items, size))
        assert [item for some, _ in chunks for item in some] == items
        assert all(len(some) <= size for some, _ in chunks)
        np.testing.assert_array_equal(np.concatenate([x for _, x in chunks]), features.read(items))


@pytest.mark.parametrize("left_out", [(), (0, 300, 301, 999), range(0, 1000, 40), range(0, 1000, 2)])
def test_neighbours_and_gaps_and_strays_are_read_alike(
    tmp_path: Path, left_out: range | tuple[int, ...]
) -> None:
    store = filled(tmp_path, n_batches=10, size=100)
    some = [n for n in range(1000) if n not in left_out]
    assert holds(store, some)
    assert holds(store, some[::-1])
    assert holds(
        store, [some[0], *some[5:300], *some[1:5], *some[300:]]
    )  # from first to last, but not in order
    assert holds(store, [some[0], some[1], some[1], *some[3:]])
    with pytest.raises(KeyError, match=name(1001)):
        store.read([name(n) for n in [*some[:500], 1001, *some[501:]]])


def test_duplicates_are_ignored(tmp_path: Path) -> None:
    store = fresh(tmp_path)
    store.append([name(1), name(2), name(1)], vectors_of([1, 2, 3]))
    store.append([name(2), name(4)], vectors_of([5, 4]))
    store.append([name(2)], vectors_of([6]))
    assert store.items == (name(1), name(2), name(4))
    assert holds(store, [1, 2, 4])
    assert store.verify().batches == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65_520.0, -1e39])
def test_a_vector_that_float16_cannot_hold_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, value: float
) -> None:
    vectors = np.ones((3, DIM))
    vectors[1, 5] = value
    store = fresh(tmp_path)
    with pytest.raises(BadInput, match=f"item {name(8)} "):
        store.append([name(7), name(8), name(9)], vectors)
    assert len(store) == 0
    vectors[1, 5] = 65_504.0
    store.append([name(7), name(8), name(9)], vectors)
    assert store.read([name(8)])[0, 5] == 65_504.0


def test_a_wrong_shape_and_a_wrong_id_are_refused(tmp_path: Path) -> None:
    store = fresh(tmp_path)
    with pytest.raises(BadInput, match=r"shape \(1, 3\), not \(1, 64\)"):
        store.append([name(1)], np.zeros((1, 3)))
    for item in ("abc", name(10).upper(), "x" * 32):
        with pytest.raises(BadInput, match="no item id"):
            store.append([item], np.zeros((1, DIM)))


def test_another_encoder_and_a_damaged_description_are_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(BadInput, match="another encoder"):
        FeatureStore.open(tmp_path, "other", DIM)
    with pytest.raises(BadInput, match="another encoder"):
        FeatureStore.open(tmp_path, "encoder", DIM + 1)
    (tmp_path / "encoder.json").write_bytes(b"\0" * 30)
    with pytest.raises(BadInput, match="damaged"):
        fresh(tmp_path)


def test_a_killed_writer_leaves_every_acknowledged_batch_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    first = 0
    for _ in range(6):
        writer = started_writer(tmp_path, first)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline())]
        time.sleep(float(rng.uniform(0, 0.15)))
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split("\n") if line]
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        last = max(acknowledged)

        store = fresh(tmp_path)
        assert store.verify().bad == ()
        assert len(store) in ((last + 1) * 8, (last + 2) * 8)  # one more may be whole, but never a part
        assert holds(store, range(len(store)))
        first = len(store) // 8
    add(store, [99_999_999])
    assert fresh(tmp_path).has(name(99_999_999))
    assert holds(fresh(tmp_path), [0, 99_999_999])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("cut", [1, 7, 16, 31, 40, 100])
def test_a_torn_tail_costs_the_torn_batches_only(tmp_path: Path, file: str, cut: int) -> None:
    filled(tmp_path)
    path = tmp_path / file
    os.truncate(path, path.stat().st_size - cut)
    store = fresh(tmp_path)
    lost = len(store.missing([name(n) for n in range(128)]))
    per_batch = {"vectors.f16": 4096, "items.bin": 512, "commits.log": 32}[file]
    assert lost == 32 * -(-cut // per_batch)
    assert holds(store, range(128 - lost))
    if file == "commits.log":
        assert store.verify().bad == ()  # what no record names was never acknowledged
    else:
        assert store.verify().bad == ((96, 32),)  # acknowledged, then lost
    add(store, range(128))
    for opened in (store, fresh(tmp_path)):
        assert holds(opened, range(128))
        assert opened.verify().bad == ()
        assert len(opened) == 128


@pytest.mark.parametrize("file", FILES)
def test_a_tail_of_zeros_is_no_batch(tmp_path: Path, file: str) -> None:
    """After a loss of power a file may be longer than what was written into it."""
    filled(tmp_path)
    with (tmp_path / file).open("ab") as tail:
        tail.write(b"\0" * 1000)
    store = fresh(tmp_path)
    assert len(store) == 128
    assert store.verify().bad == ()
    add(store, range(128, 160))
    assert holds(fresh(tmp_path), range(160))
    assert fresh(tmp_path).verify().bad == ()


def test_a_zeroed_block_is_found_and_its_items_are_missing_until_they_are_encoded_again(
    tmp_path: Path,
) -> None:
    filled(tmp_path)
    with (tmp_path / "vectors.f16").open("r+b") as data:
        data.seek(4096)
        data.write(b"\0" * 4096)
    store = fresh(tmp_path)
    assert store.verify().bad == ((32, 32),)
    items = [name(n) for n in range(128)]
    assert store.drop_bad().bad == ((32, 32),)
    for opened in (store, fresh(tmp_path)):
        assert opened.missing(items) == items[32:64]
        assert len(opened) == 96
        assert opened.verify().bad == ()
        assert opened.verify().batches == 3
        assert holds(opened, [*range(32), *range(64, 128)])
    add(store, range(128))
    for opened in (store, fresh(tmp_path)):
        assert holds(opened, range(128))
        assert opened.missing(items) == []
        assert opened.verify().bad == ()
        assert opened.verify().rows == 128
    assert store.drop_bad().bad == ()
    assert len(store) == 128


def test_zeroed_ids_are_found_and_encoded_again(tmp_path: Path) -> None:
    filled(tmp_path)
    with (tmp_path / "items.bin").open("r+b") as ids:
        ids.seek(512 + 64)
        ids.write(b"\0" * 32)
    store = fresh(tmp_path)
    assert store.drop_bad().bad == ((32, 32),)
    add(store, range(128))
    assert holds(store, range(128))
    assert fresh(tmp_path).verify().bad == ()
    assert len(store) == 128


def test_a_zeroed_record_is_found_and_what_followed_is_encoded_again(tmp_path: Path) -> None:
    filled(tmp_path)
    with (tmp_path / "commits.log").open("r+b") as log:
        log.seek(32)
        log.write(b"\0" * 32)
    store = fresh(tmp_path)
    assert holds(store, range(32))
    assert len(store) == 32
    assert store.verify().bad == ((32, 96),)
    store.drop_bad()
    assert store.verify().bad == ()
    add(store, range(128))
    assert holds(fresh(tmp_path), range(128))
    assert fresh(tmp_path).verify().bad == ()


def test_a_reader_sees_whole_batches_only_and_new_ones_when_it_looks(tmp_path: Path) -> None:
    reader = fresh(tmp_path)
    writer = started_writer(tmp_path, 0)
    assert writer.stdout is not None
    try:
        seen = [0]
        while seen[-1] < 400:
            acknowledged = int(writer.stdout.readline())
            reader.refresh()
            assert len(reader) % 8 == 0
            assert len(reader) >= 8 * (acknowledged + 1)
            assert holds(reader, range(len(reader)))
            seen.append(len(reader))
        assert reader.verify().bad == ()
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert len(set(seen)) > 2


def test_a_reader_needs_to_write_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    before = [(tmp_path / file).stat().st_mtime_ns for file in FILES]
    store = fresh(tmp_path)
    store.verify()
    store.read([name(1)])
    assert [(tmp_path / file).stat().st_mtime_ns for file in FILES] == before


def test_two_handles_never_overwrite_each_other(tmp_path: Path) -> None:
    a, b = fresh(tmp_path), fresh(tmp_path)
    add(a, range(10))
    add(b, range(5, 20))  # b was opened before a wrote
    add(a, range(30))
    b.refresh()
    assert a.items == b.items == tuple(name(n) for n in range(30))
    assert holds(b, range(30))


def test_a_second_writer_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    store = filled(tmp_path)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, filelock\n"
            "with filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()",
            str(tmp_path / "write.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="Another process encodes"):
            add(store, range(128, 160))
        with pytest.raises(Unavailable):
            store.drop_bad()
        assert holds(store, range(128))  # reading goes on
        holder.kill()
    add(store, range(128, 160))
    assert holds(store, range(160))
