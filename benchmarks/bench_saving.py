"""What a project says that selection has saved, beside what it has saved: how often is the interval right?

    python benchmarks/bench_saving.py --data DIR --world kermany --world nih --world cxnet --seeds 20 --keep FOLDER

Each run labels one half of a world's patients as `loop step` would, and `forecasting.saving` speaks from those labels alone. The truth
is read on the other half: labels that random selection needs for the AUC that the strategy has, both curves means over the seeds.
With the strategy `random` the truth is 0, so whatever is "shown" there is false.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from replays import Look, Replay, replay
from threadpoolctl import threadpool_limits
from worlds import WORLDS, World, half

from forecasting.errors import TooFewLabels
from forecasting.saving import estimate_saving
from loop.probe import fit_projection, make_scorer

Array = NDArray[np.float64]

SIZES = (100, 200, 400, 800)


def main() -> None:
    """Run what is not kept yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--world", action="append", choices=sorted(WORLDS), required=True)
    parser.add_argument("--strategy", default="hybrid")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the runs")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with threadpool_limits(1):
        for seed in seeds:
            for world in options.world:
                for strategy in ("random", options.strategy):
                    kept = options.keep / f"{world}-{strategy}-{seed}.json"
                    if not kept.exists():
                        kept.write_text(json.dumps(_run(WORLDS[world](options.data), strategy, seed)))
                    runs.setdefault((world, strategy), []).append(json.loads(kept.read_text()))
    print(_tell(runs, options.world, options.strategy))


def _run(world: World, strategy: str, seed: int) -> dict[str, Any]:
    """The AUC by labels on the other half, (T, K), and what was said at each look."""
    ours, test = half(world, 0, 1_000 + seed), half(world, 1, 1_000 + seed)
    run = replay(ours, test, seed, 0.5, max(SIZES), strategy=strategy)
    auc = np.nan_to_num(run.true_auc, nan=0.5)
    said = {look.n: _say(ours, run, look) for look in run.looks if look.n in SIZES}
    return {"n": run.n_labels.tolist(), "auc": auc.tolist(), "said": said}


def _say(world: World, run: Replay, look: Look) -> dict[str, Any] | None:
    """As `loop.worth.measure_saving` does it; None where there are too few labels."""
    fitted = np.flatnonzero(~np.isnan(look.strength))
    if not len(fitted):
        return None
    y = world.y[np.ix_(look.rows, fitted)]
    x = fit_projection(world.features, 256).transform(world.features[look.rows])
    scorer = make_scorer(x, y, look.strength[fitted])
    rng = np.random.default_rng([run.seed, look.n, 5])
    try:
        told = estimate_saving(y, world.patients[look.rows], look.is_random, scorer, rng)
    except TooFewLabels:
        return None
    facts = {name: getattr(told, name) for name in ("saved", "low", "high", "shows")}
    return {**facts, "findings": fitted[told.findings].tolist()}


def _tell(runs: dict[tuple[str, str], list[dict[str, Any]]], worlds: list[str], strategy: str) -> str:
    lines = [
        f"| world | labels | {strategy} saves in truth | said, median | interval holds it | shown: saved, cost | random: shown, falsely |",
        "|---|---|---|---|---|---|---|",
    ]
    for world in worlds:
        n = _sizes([*runs[world, "random"], *runs[world, strategy]])
        by_random, by_strategy = (_mean_curve(runs[world, s], n) for s in ("random", strategy))
        for size in (size for size in SIZES if size in n):
            said, idle = (
                [one for run in runs[world, s] if (one := run["said"].get(str(size)))]
                for s in (strategy, "random")
            )
            truths = [_truth(n, by_random, by_strategy, size, one["findings"]) for one in said]
            holds = sum(_holds(one, truth, n[-1] - size) for one, truth in zip(said, truths, strict=True))
            shown = [sum(one["shows"] == sign for one in said) for sign in (1, -1)]
            false = sum(one["shows"] != 0 for one in idle)
            lines.append(
                f"| {world} | {size} | {_median(truths)} | {_median([one['saved'] for one in said])} | {holds} of {len(said)} | "
                f"{shown[0]}, {shown[1]} | {false} of {len(idle)} |"
            )
    return "\n".join(lines)


def _sizes(runs: list[dict[str, Any]]) -> list[int]:
    """Labels at which some run was measured and that all runs reach: of a small archive, each half ends elsewhere."""
    last = min(run["n"][-1] for run in runs)
    return sorted({n for run in runs for n in run["n"] if n <= last})


def _mean_curve(runs: list[dict[str, Any]], n: list[int]) -> Array:
    """The AUC by labels and by finding, ``(T, K)``, mean over all runs; between two sizes of a run on a straight line."""
    curves = [[np.interp(n, run["n"], finding) for finding in zip(*run["auc"], strict=True)] for run in runs]
    return np.asarray(np.mean(curves, axis=0).T, np.float64)


def _truth(n: list[int], by_random: Array, by_strategy: Array, size: int, findings: list[int]) -> float:
    """Labels saved at `size`, on the findings that count; infinite where random labels never get there."""
    reached = by_strategy[n.index(size), findings].mean()
    return float(np.interp(reached, _rising(by_random[:, findings].mean(axis=1)), n, right=math.inf)) - size


def _rising(auc: Array) -> Array:
    return np.asarray(np.maximum.accumulate(auc))


def _holds(said: dict[str, Any], truth: float, most: int) -> bool:
    """Whether the interval holds the truth; one beyond the run is held by an interval that reaches beyond it."""
    return bool(said["high"] > most if math.isinf(truth) else said["low"] <= truth <= said["high"])


def _median(labels: list[float]) -> str:
    middle = float(np.median(labels)) if labels else math.nan
    return "-" if math.isnan(middle) else "beyond" if math.isinf(middle) else f"{middle:+.0f}"


if __name__ == "__main__":
    main()
