"""Roofline: how fast the pool is scored by the probe, beside how fast this machine moves memory. One thread.

    python benchmarks/bench_scan.py --size 100000 --size 1000000

The pool is float16 in a mapped file that the machine's cache holds, as after a first turn; 14 findings. Bytes are those of the
float16 rows; ours is `loop.batch.score_pool`, ids and store included, torch the bare rows by number. A project encodes and asks in
the order of its ids, less what is labelled or not to be asked, so the row with gaps is nearest to it. The roof is a copy of 1 GiB by
numpy, of which 1 GiB is read and 1 GiB written, and a sum, which only reads.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bench_probe import clock, read_memory
from bench_strategies import DIM, N_LABELLED, _score, _write_pool, map_pool, name_rows
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from loop.batch import score_pool
from loop.features import FeatureStore


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, action="append", help="images; default: 100,000 and 1,000,000")
    sizes = parser.parse_args().size or [100_000, 1_000_000]
    with threadpool_limits(1):
        copy, read = copy_memory(), read_memory()
        print(f"memory: copy of 1 GiB {copy / 1e9:.1f} GB/s, sum {read / 1e9:.1f} GB/s\n")
        print("| images | which | CPU s | GB/s | of copy | of sum | torch, CPU s | torch / ours |")
        print("|---|---|---|---|---|---|---|---|")
        for n, what, ours_s, torch_s in (row for size in sizes for row in scan(size)):
            speed = 2 * DIM * n / ours_s
            cells = [f"{n:,}", what, f"{ours_s:.2f}", f"{speed / 1e9:.2f}"]
            cells += [
                f"{speed / copy:.0%}",
                f"{speed / read:.0%}",
                f"{torch_s:.2f}",
                f"{torch_s / ours_s:.2f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def copy_memory(n_bytes: int = 2**30) -> float:
    """Bytes copied a second of the processor's time, the best of five: as many again are written."""
    source, target = np.ones(n_bytes, np.uint8), np.zeros(n_bytes, np.uint8)
    return n_bytes / min(clock(lambda: np.copyto(target, source)) for _ in range(5))


def scan(size: int) -> Iterator[tuple[int, str, float, float]]:
    """CPU seconds of one look of the probe at every image, the best of three: ours, and torch by 1,024 rows.

    Yields:
        How many images, which and in which order, and the seconds of both.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pool(folder, size)
        mapped, total = map_pool(folder), size + N_LABELLED
        (probe, _, _), _ = _score(mapped[: 2 * N_LABELLED], np.load(folder / "y.npy"), 14)
        store = FeatureStore.open(folder / "store", "benchmark", DIM)
        coef, intercept = torch.from_numpy(probe.coef), torch.from_numpy(probe.intercept)
        torch.set_num_threads(1)
        whole = np.arange(N_LABELLED, total)
        for what, rows in (
            ("all, in the file's order", whole),
            ("one in 50 left out", whole[whole % 50 > 0]),
            ("all, shuffled", np.random.default_rng(0).permutation(whole)),
        ):
            names = name_rows(0, total)
            items = [names[row] for row in rows.tolist()]

            def bare(rows: NDArray[np.intp] = rows, is_run: bool = rows is whole) -> None:
                for at in range(0, len(rows), 1024):
                    some = rows[at : at + 1024]
                    half = mapped[some[0] : some[-1] + 1].copy() if is_run else mapped[some]
                    torch.sigmoid(torch.from_numpy(np.asarray(half)).float() @ coef + intercept)

            def ours(items: list[str] = items) -> None:
                score_pool(store, items, probe)

            yield len(rows), what, min(clock(ours) for _ in range(3)), min(clock(bare) for _ in range(3))


if __name__ == "__main__":
    main()
