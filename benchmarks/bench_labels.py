"""Label efficiency: the probe's AUC after the same number of labels, by strategy, paired by seed.

    python benchmarks/bench_labels.py --data DIR --world kermany --world nih --seeds 10 --keep FOLDER

Every run labels one half of a world's patients in batches, as `loop step` would; the truth is measured on the other half.
Runs of one seed share halves, first batch and random stream. What is kept is not run again, so a run may be interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from replays import replay
from scipy.stats import t as student
from threadpoolctl import threadpool_limits
from worlds import WORLDS, half

from loop.strategynames import STRATEGIES

SIZES = (100, 200, 400)


def main() -> None:
    """Run what is not kept yet, and print the tables."""
    options = _read_options()
    worlds = options.world or ["kermany", "nih"]
    strategies = tuple(options.strategy or STRATEGIES)
    options.keep.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for world in worlds:
                for strategy in strategies:
                    _run(options, world, strategy, seed)
    for world in worlds:
        print(tell(world, read(options.keep, world, strategies), options.ours))


def _run(options: argparse.Namespace, name: str, strategy: str, seed: int) -> None:
    kept = options.keep / f"{name}-{strategy}-{seed}.json"
    if kept.exists():
        return
    world = WORLDS[name](options.data)
    run = replay(
        half(world, 0, 1_000 + seed),
        half(world, 1, 1_000 + seed),
        seed,
        options.share,
        max(SIZES),
        options.batch,
        strategy,
    )
    measured = {int(n): auc.tolist() for n, auc in zip(run.n_labels, run.true_auc, strict=True)}
    prevalence = np.nanmean(world.y == 1, axis=0).tolist()
    kept.write_text(json.dumps({"findings": run.findings, "prevalence": prevalence, "auc": measured}))


def read(folder: Path, world: str, strategies: tuple[str, ...]) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Mean AUC over the findings by strategy and seed, shape ``(sizes,)``; a finding that a run cannot measure is .5."""
    read_in: dict[str, dict[int, NDArray[np.float64]]] = {}
    for strategy in strategies:
        for path in folder.glob(f"{world}-{strategy}-*.json"):
            auc = json.loads(path.read_text())["auc"]
            if str(max(SIZES)) not in auc and len(auc) < 2:
                continue
            at = [np.array(auc[_nearest(auc, size)], float) for size in SIZES]
            seed = int(path.stem.rsplit("-", 1)[1])
            read_in.setdefault(strategy, {})[seed] = np.array(
                [np.where(np.isnan(one), 0.5, one).mean() for one in at]
            )
    return read_in


def _nearest(auc: dict[str, list[float]], size: int) -> str:
    """The largest number of labels up to a size: a pool may end before it."""
    return max((n for n in auc if int(n) <= size), key=int)


def tell(world: str, runs: dict[str, dict[int, NDArray[np.float64]]], ours: str) -> str:
    """A table: mean AUC by strategy; differences over the seeds that both have, each with its 95 % interval."""
    at = ", ".join(map(str, SIZES))
    lines = [
        f"| {world} (seeds) | AUC at {at} | less random, at {at} | {ours} less this, at {at} |",
        "|---|---|---|---|",
    ]
    for strategy, run in runs.items():
        mean = np.mean(list(run.values()), axis=0)
        cells = [f"{strategy} ({len(run)})", ", ".join(f"{auc:.3f}" for auc in mean)]
        cells += [
            _difference(first, second)
            for first, second in ((run, runs.get("random", {})), (runs.get(ours, {}), run))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(ours: dict[int, NDArray[np.float64]], theirs: dict[int, NDArray[np.float64]]) -> str:
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < 2 or ours is theirs:
        return ""
    apart = np.array([ours[seed] - theirs[seed] for seed in both])  # (s, sizes)
    mean = apart.mean(axis=0)
    error = student.ppf(0.975, len(both) - 1) * apart.std(axis=0, ddof=1) / np.sqrt(len(both))
    return ", ".join(f"{m:+.3f} ({m - e:+.3f} to {m + e:+.3f})" for m, e in zip(mean, error, strict=True))


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--world", action="append", choices=sorted(WORLDS))
    parser.add_argument("--strategy", action="append", help="default: all of ours")
    parser.add_argument("--ours", default="hybrid", help="the strategy that the others are held against")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.5, help="of each batch from the random stream")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
