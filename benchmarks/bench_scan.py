"""Roofline: how fast the pool is scored by the probe, beside how fast this machine moves memory. One thread.

    python benchmarks/bench_scan.py --size 100000 --size 1000000

The pool is float16 in a mapped file that the machine's cache holds, as after a first turn; 14 findings. Bytes are those of the
float16 rows; ours is `loop.batch.score_pool`, ids and store included, torch the bare rows by number. The roof is a copy of 1 GiB by numpy, of which 1 GiB is read and 1 GiB written, and a sum, which only reads.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from bench_probe import clock, read_memory
from bench_strategies import DIM, N_LABELLED, _score, _write_pool, map_pool, name_rows
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
        print("| images | bytes | CPU s | GB/s | of copy | of sum | torch, CPU s | torch / ours |")
        print("|---|---|---|---|---|---|---|---|")
        for size in sizes:
            ours_s, torch_s = scan(size)
            speed = 2 * DIM * size / ours_s
            cells = [f"{size:,}", f"{2 * DIM * size:,}", f"{ours_s:.2f}", f"{speed / 1e9:.2f}"]
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


def scan(size: int) -> tuple[float, float]:
    """CPU seconds of one look of the probe at every image, the best of three: ours, and torch by 1,024 rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pool(folder, size)
        mapped, total = map_pool(folder), size + N_LABELLED
        (probe, _, _), _ = _score(mapped[: 2 * N_LABELLED], np.load(folder / "y.npy"), 14)
        ids, store = name_rows(0, total), FeatureStore.open(folder / "store", "benchmark", DIM)
        coef, intercept = torch.from_numpy(probe.coef), torch.from_numpy(probe.intercept)
        torch.set_num_threads(1)

        def bare() -> None:
            for at in range(N_LABELLED, total, 1024):
                rows = torch.from_numpy(np.asarray(mapped[at : at + 1024]).copy()).float()  # (1024, d)
                torch.sigmoid(rows @ coef + intercept)

        return (
            min(clock(lambda: score_pool(store, ids[N_LABELLED:], probe)) for _ in range(3)),
            min(clock(bare) for _ in range(3)),
        )


if __name__ == "__main__":
    main()
