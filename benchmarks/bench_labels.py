"""Label efficiency: the probe's AUC after the same number of labels, by strategy, paired by seed.

    python benchmarks/bench_labels.py --data DIR --world kermany --world nih --seeds 10 --keep FOLDER

Every run labels one half of a world's patients in batches, as `loop step` would; the truth is measured on the other half.
Runs of one seed share halves, first batch and random stream. What is kept is not run again, so a run may be interrupted.

A strategy with `_alone` behind its name, and the peers of `label_peers`, run as other tools do: no random stream, no floor. With
`+typiclust` behind it (before `_alone`) the first batch's active part is what is typical of the archive.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from label_peers import PEERS
from label_runs import ALL, ALONE, SIZES, TYPICAL, read
from label_tables import tell_labels, tell_means, tell_ranks, tell_rare
from replays import measure_all, replay
from threadpoolctl import threadpool_limits
from worlds import WORLDS, half

from loop.strategynames import STRATEGIES


def main() -> None:
    """Run what is not kept yet, and print the tables."""
    options = _read_options()
    worlds = options.world or ["kermany", "nih"]
    strategies = tuple(
        options.strategy or (*STRATEGIES, "entropy_alone", "ranked_alone", "hybrid_alone", *PEERS)
    )
    options.keep.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for world in worlds:
                for strategy in (ALL, *strategies):
                    _run(options, world, strategy, seed)
    told = {world: read(options.keep, world, strategies) for world in worlds}
    for world, runs in told.items():
        print(tell_means(world, runs, options.ours))
    print(tell_labels(told))
    print(tell_rare(told))
    print(tell_ranks(told))


def _run(options: argparse.Namespace, name: str, strategy: str, seed: int) -> None:
    kept = options.keep / f"{name}-{strategy}-{seed}.json"
    if kept.exists():
        return
    world = WORLDS[name](options.data)
    ours, test = half(world, 0, 1_000 + seed), half(world, 1, 1_000 + seed)
    if strategy == ALL:
        measured = {len(ours.y): measure_all(ours, test, seed).tolist()}
    else:
        alone = strategy in PEERS or strategy.endswith(ALONE)
        share = 0.0 if alone else options.share
        rule = strategy.removesuffix(ALONE)
        first = "typiclust" if rule.endswith(TYPICAL) else "random"
        run = replay(ours, test, seed, share, max(SIZES), options.batch, rule.removesuffix(TYPICAL), first)
        measured = {int(n): auc.tolist() for n, auc in zip(run.n_labels, run.true_auc, strict=True)}
    prevalence = np.nanmean(world.y == 1, axis=0).tolist()
    kept.write_text(json.dumps({"findings": world.findings, "prevalence": prevalence, "auc": measured}))


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--world", action="append", choices=sorted(WORLDS))
    parser.add_argument("--strategy", action="append", help="default: all of ours, and the peers")
    parser.add_argument("--ours", default="hybrid", help="the strategy that the others are held against")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.5, help="of each batch from the random stream")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
