"""Time and memory of one `loop step` by pool size, without Label Studio: what the loop itself costs.

    python benchmarks/bench_step.py            # 3,500 and 100,000 items
    python benchmarks/bench_step.py 1000 5000

Each size runs in a process of its own, so that peak memory is its own. The last column divides by one
pass over the same memory map that only adds the numbers up: what any tool must pay to look at the pool.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIM, FINDINGS, LABELS = 1280, 14, 500


def main() -> None:
    sizes = [int(a) for a in sys.argv[1:]] or [3_500, 100_000]
    print(f"one step: {LABELS} labels, {FINDINGS} findings, {DIM} dimensions, batch 50, one thread")
    print(
        f"{'items':>9} {'open s':>8} {'step s':>8} {'peak MiB':>9} {'interpreter MiB':>16} {'bare pass s':>12} {'step / pass':>12}"
    )
    for size in sizes:
        subprocess.run([sys.executable, __file__, "--one", str(size)], check=True)


def one(n: int) -> None:
    from loop.controller import ask_first_batch, step
    from loop.features import FeatureStore
    from loop.items import Item, draw_streams
    from loop.opening import project_pool
    from loop.project import Loop
    from loop.settings import load_settings
    from loop.simulate import Oracle, Ticks
    from loop.state import State

    base_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rng = np.random.default_rng(0)
    findings = [f"finding {k}" for k in range(FINDINGS)]
    names = [f"{i:032x}" for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.open(Path(folder) / "features", "benchmark", DIM)
        mixing = rng.normal(size=(64, DIM)).astype(np.float32) / 8
        weights = rng.normal(size=(64, FINDINGS)) / 8
        y = np.empty((n, FINDINGS))
        for start in range(0, n, 5_000):
            factors = rng.normal(size=(min(5_000, n - start), 64)).astype(np.float32)
            store.append(
                names[start : start + 5_000], factors @ mixing + 0.1 * rng.normal(size=(len(factors), DIM))
            )
            cut = np.linspace(0.4, 1.6, FINDINGS)
            y[start : start + len(factors)] = (
                factors @ weights + 0.5 * rng.normal(size=(len(factors), FINDINGS)) > cut
            )
        path = Path(folder) / "loop.toml"
        path.write_text(
            f"[project]\nname = 'benchmark'\nfindings = {findings!r}\n[images]\nsource = '.'\n"
            f"[batch]\nsize = {LABELS}\n[stop]\ntarget = 0.95\n"
        )
        settings = load_settings(path, {}, {})
        clock = Ticks()
        state = State.create(str(Path(folder) / "state.db"))
        items = [Item(name, Path(name), name, "active", None, {}) for name in names]
        state.add_items(draw_streams(items, rng, n))
        state.add_tasks({name: i for i, name in enumerate(names)}, clock())
        answers = {i: dict(zip(findings, map(float, y[i]), strict=True)) for i in range(n)}

        began = time.perf_counter()
        loop = Loop(
            settings, state, Oracle(answers, clock), store, project_pool(store, names, settings), clock
        )
        opened = time.perf_counter() - began
        ask_first_batch(loop)
        began = time.perf_counter()
        report = step(loop)
        stepped = time.perf_counter() - began
        assert report.action == "pushed", report
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        total = sum(float(vectors.sum()) for _, vectors in store.chunks(names))
        passed = time.perf_counter() - began
        assert np.isfinite(total)
        state.close()
    print(
        f"{n:>9,} {opened:>8.2f} {stepped:>8.2f} {peak_mib:>9.0f} {base_mib:>16.0f} {passed:>12.2f} {stepped / passed:>12.1f}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
    else:
        main()
