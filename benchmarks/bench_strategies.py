"""What a batch costs by strategy, beside peers on the same input: CPU seconds and memory, one thread.

    python benchmarks/bench_strategies.py                       # 10,000 and 100,000 images
    python benchmarks/bench_strategies.py --size 1000000        # ours only, unless --peers-up-to says more

100 images of a pool are chosen beside 500 labelled ones, 512 dimensions (64 factors and noise, of length one). Ours read
float16 from the product's store, peers float32 from memory. Every row is a process of its own; its memory is what it took at most
beyond what it held before the call, without mapped files. A peer that is not installed, dies or takes longer than
--limit CPU seconds is told as such.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from strategy_peers import prepare_peer
from threadpoolctl import threadpool_limits

from loop.features import FeatureStore

N_LABELLED, N_BATCH, DIM = 500, 100, 512
MEMORY = 16 * 2**30  # bytes of address space; more than a pool needs, less than a machine has
SHORTEST_S = 0.3  # the clock of CPU time may have steps of a hundredth

Array = NDArray[np.float64]

RIVALS = (  # ours, and a peer that answers the same question
    ("uncertainty", "modAL uncertainty_sampling"),
    ("entropy", "modAL entropy_sampling"),
    ("ranked", "modAL uncertainty_batch_sampling"),
    ("k_center", "scikit-activeml CoreSet"),
    ("k_center", "lightly-mundig diversity"),
    ("k_center, distances known", "scikit-activeml CoreSet"),
    ("k_center, distances known", "lightly-mundig diversity"),
    ("badge", "scikit-activeml Badge"),
    ("typiclust", "scikit-activeml TypiClust"),
    ("committee", "scikit-activeml QueryByCommittee"),
    ("hybrid", "lightly-mundig diversity and uncertainty"),
    ("whole batch by hybrid, 14 findings", ""),
)


def main() -> None:
    """Print one table, or one measurement as JSON."""
    options = _read_options()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.limit)))
        return
    print(f"load before: {', '.join(f'{x:.1f}' for x in os.getloadavg())} on {os.cpu_count()} cores\n")
    print("| images | ours | CPU s | MB | peer | CPU s | MB | peer / ours | same picks |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.size or [10_000, 100_000]:
        with tempfile.TemporaryDirectory() as folder:
            _write_pool(Path(folder), size)
            answers: dict[str, dict[str, Any]] = {"": {"error": ""}}
            for ours, peer in RIVALS:
                for what in (ours, peer):
                    if what not in answers:
                        is_run = what == ours or size <= options.peers_up_to
                        answers[what] = (
                            _run(what, folder, options.limit, options.threads)
                            if is_run
                            else {"error": "not run"}
                        )
                _tell(size, ours, answers[ours], peer, answers[peer])
    print(f"\nload after: {', '.join(f'{x:.1f}' for x in os.getloadavg())}")


def _tell(size: int, ours: str, mine: dict[str, Any], peer: str, theirs: dict[str, Any]) -> None:
    cells = [f"{size:,}", ours]
    cells += [f"{mine['cpu_s']:.3f}", f"{mine['mb']:.0f}"] if "cpu_s" in mine else [mine["error"], ""]
    cells += [peer, *([f"{theirs['cpu_s']:.3f}", f"{theirs['mb']:.0f}"] if "cpu_s" in theirs else [theirs["error"], ""])]  # fmt: skip
    if "cpu_s" in theirs and "cpu_s" in mine:
        cells += [
            f"{theirs['cpu_s'] / mine['cpu_s']:.1f}",
            f"{len(set(mine['rows']) & set(theirs['rows']))} of {N_BATCH}",
        ]
    else:
        cells += ["", ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def _run(what: str, folder: str, limit_s: int, threads: int) -> dict[str, Any]:
    def cap() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, __file__, "--measure", what, "--folder", folder, "--limit", str(limit_s)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=cap,
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "RAYON_NUM_THREADS": str(threads),
        },
    )
    if done.returncode < 0:
        return {"error": f"over {limit_s} CPU s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["?"]
        return {"error": last[0][:90].replace("|", "/")}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _write_pool(folder: Path, n: int) -> None:
    """Factors and noise, of length one, in float16; labels of the first rows by one direction."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(64, DIM)).astype(np.float32)
    total = n + N_LABELLED
    store = FeatureStore.open(folder / "store", "benchmark", DIM)
    told = np.empty(total, np.float32)
    for start in range(0, total, 20_000):
        m = min(20_000, total - start)
        z = rng.normal(size=(m, 64)).astype(np.float32) * np.arange(1, 65, dtype=np.float32) ** -0.5
        x = z @ factors + 2 * rng.normal(size=(m, DIM)).astype(np.float32)
        store.append(name_rows(start, start + m), x / np.linalg.norm(x, axis=1, keepdims=True))
        told[start : start + m] = z[:, 0]
    np.save(folder / "y.npy", (told[:N_LABELLED] > np.quantile(told, 0.8)).astype(float))


def name_rows(start: int, end: int) -> list[str]:
    """Ids of some rows, made anew, as a project reads them from its state."""
    return [f"{row:032x}" for row in range(start, end)]


def map_pool(folder: Path) -> NDArray[np.float16]:
    """All rows, the labelled first, shape ``(n, d)``, mapped."""
    path = folder / "store" / "vectors.f16"
    return np.memmap(path, np.float16, "r", shape=(path.stat().st_size // (2 * DIM), DIM))


class Peak(threading.Thread):
    """Memory of this process that is no mapped file, at its highest; ends a process that takes too long."""

    def __init__(self, limit_s: int) -> None:
        super().__init__(daemon=True)
        self._limit_s = limit_s
        self.before = self.peak = self._now()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.003):
            self.peak = max(self.peak, self._now())
            if time.process_time() > self._limit_s:  # RLIMIT_CPU comes late on some kernels
                print(f"over {self._limit_s} CPU s", file=sys.stderr, flush=True)
                os._exit(1)

    def end(self) -> float:
        """Megabytes above the beginning."""
        self.peak = max(self.peak, self._now())
        self._over.set()
        return max(0.0, (self.peak - self.before) / 1e6)

    @staticmethod
    def _now() -> int:
        resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _high_water(anew: bool = False) -> int:
    """Bytes this process held at most; for peers, which have read the mapped file before and may keep `Peak` from looking."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(what: str, folder: str, limit_s: int) -> dict[str, Any]:
    """Prepare what is known beforehand, then time the choice alone."""
    y = np.load(Path(folder) / "y.npy")
    mapped = map_pool(Path(folder))
    with threadpool_limits(int(os.environ["OMP_NUM_THREADS"])):
        choose = (
            _prepare_ours(what, Path(folder), mapped, y)
            if what in {ours for ours, _ in RIVALS}
            else prepare_peer(
                what,
                mapped[:N_LABELLED],
                mapped[N_LABELLED:],
                y,
                N_BATCH,
                lambda: _score(mapped, y, 1)[1][:, 0],
            )
        )
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(
                0
            )  # what preparing left behind is not there to be used again
        watch = Peak(limit_s)
        is_ours = what in {ours for ours, _ in RIVALS}
        before = 0 if is_ours else _high_water(anew=True)
        watch.start()
        n_runs, began = 0, time.process_time()
        while n_runs == 0 or time.process_time() - began < SHORTEST_S:  # a short choice is repeated
            rows = choose()
            n_runs += 1
        cpu_s = (time.process_time() - began) / n_runs
        return {
            "cpu_s": cpu_s,
            "mb": watch.end() if is_ours else (_high_water() - before) / 1e6,
            "rows": [int(row) for row in rows],
        }


def _prepare_ours(
    what: str, folder: Path, mapped: NDArray[np.float16], y: Array
) -> Callable[[], Sequence[int]]:
    from loop.strategies import Labelled, Pool, Seen, Vectors, select_batch
    from loop.strategies.distance import measure_nearest
    from loop.strategies.measures import ask_highest, utilities
    from loop.strategies.registry import OURS
    from loop.strategies.spread import choose_farthest

    ids, features = name_rows(0, len(mapped)), FeatureStore.open(folder / "store", "benchmark", DIM)
    known, pool_ids = ids[:N_LABELLED], ids[N_LABELLED:]
    patients, m = np.array(known), len(pool_ids)
    n_findings = 14 if "14" in what else 1
    findings = [f"f{k}" for k in range(n_findings)]
    rng = np.random.default_rng(2)
    (probe, projection, labels), proba = _score(mapped, y, n_findings)
    utilities("uncertainty", proba[:5, 0])  # imports
    opened = np.ones(n_findings, bool)
    if "whole" in what:
        seen = Seen(features, projection, known, labels, patients, opened, probe)

        def whole() -> list[int]:
            picks = select_batch(
                "hybrid", N_BATCH, 0, (), pool_ids, proba, pool_ids, findings, rng, seen=seen
            )
            return [int(pick.item, 16) - N_LABELLED for pick in picks]

        return whole
    vectors, labelled = Vectors(features, pool_ids), Vectors(features, known)
    numbers = np.arange(m)
    if what == "k_center, distances known":
        nearest = measure_nearest(vectors, labelled)
        return lambda: [row for row, _ in choose_farthest(vectors, labelled, N_BATCH, numbers, nearest)]
    if what in ("uncertainty", "entropy"):
        return lambda: [c.row for c in ask_highest(what, proba, findings, numbers, N_BATCH)[0]]
    pool = Pool(
        pool_ids, numbers, proba, findings, vectors, Labelled(vectors=labelled, y=labels, patients=patients), opened, projection, probe
    )  # fmt: skip
    return lambda: [choice.row for choice in OURS[what](pool, N_BATCH, rng)]


def _score(mapped: NDArray[np.float16], y: Array, n_findings: int) -> tuple[tuple[Any, Any, Array], Array]:
    """Probe, projection and labels ``(n, K)``, the first finding real and the others shuffled; probabilities ``(m, K)``."""
    from loop.probe import fit_probe, fit_projection

    known = np.asarray(mapped[:N_LABELLED], np.float32)
    labels = np.random.default_rng(1).permuted(np.repeat(y[:, None], n_findings, axis=1), axis=0)
    labels[:, 0] = y
    projection = fit_projection(known, 0)
    names, groups = [f"f{k}" for k in range(n_findings)], np.arange(N_LABELLED)
    probe = fit_probe(known, labels, groups, names, projection, np.random.default_rng(3))
    starts = range(N_LABELLED, len(mapped), 4096)
    proba = np.concatenate([probe.predict(np.asarray(mapped[at : at + 4096], np.float32)) for at in starts])
    return (probe, projection, labels), proba


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, action="append", help="images; default: 10,000 and 100,000")
    parser.add_argument("--peers-up-to", type=int, default=100_000)
    parser.add_argument("--limit", type=int, default=120, help="CPU seconds of a row")
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, for every row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
