"""How often the range of labels that the lead's page tells holds: of each finding, and of the whole project.

    python benchmarks/bench_range.py --world simulated --runs 20
    python benchmarks/bench_range.py --data DIR --world nih --world cxnet --runs 12 --keep KEPT

The page's range of a project goes from the largest lower end to the largest upper end of its findings' 80 % ranges. What
comes is the number of labels at which the last finding's true curve is at the target for good: the replayed true AUCs,
made to rise (isotonic). A replay that ends below the target says only that more labels are needed, so a range holds then
if its upper end lies beyond the replay.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from bench_forecast import TARGETS, halves, kept_at, replay_once
from replays import Replay
from sklearn.isotonic import IsotonicRegression
from worlds import Array

from forecasting.curve import LearningCurve
from forecasting.powerlaw import fit_bayes
from forecasting.stopping import Rules

LEVEL = 0.8
Bounds = tuple[float, float]


def reached_at(run: Replay) -> Mapping[float, Array]:
    """Target to the labels at which each finding's true curve is there for good, shape ``(K,)``; infinite = not in this replay."""
    told = {target: np.full(len(run.findings), np.inf) for target in TARGETS}
    for k, auc in enumerate(run.true_auc.T):
        known = np.isfinite(auc)
        if known.sum() < 3:
            continue
        rising = IsotonicRegression().fit_transform(np.log(run.n_labels[known]), auc[known])
        for target in TARGETS:
            there = np.flatnonzero(rising >= target)
            if len(there):
                told[target][k] = run.n_labels[known][there[0]]
    return told


def ranges(curves: Mapping[int, LearningCurve], n: int, target: float) -> dict[int, Bounds]:
    """Labels in all at the target, by finding, as the page tells them."""
    told = {}
    for k, forecast in zip(curves, fit_bayes(list(curves.values())), strict=True):
        if forecast.prob_reached(target) >= Rules(target).p_stop:
            told[k] = (0.0, float(n))
        else:
            needed = forecast.labels_needed(target, LEVEL)
            told[k] = (needed.low if needed.low > forecast.n else 0.0, max(needed.high, float(n)))
    return told


def score(bounds: Bounds, came: float, end: int) -> tuple[bool, bool]:
    """Whether the labels that came lie below the range, and above it; ``end`` is where the replay ends."""
    low, high = bounds
    return came < low and low > 0, (came if np.isfinite(came) else end) > high


def judge(
    run: Replay, curves_of: Sequence[Mapping[int, LearningCurve]]
) -> dict[str, list[tuple[bool, bool]]]:
    """Score every range of a replay: of each finding alone, and of all of them together."""
    told: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    came, end = reached_at(run), int(run.n_labels[-1])
    for look, curves in zip(run.looks, curves_of, strict=True):
        for target in TARGETS if curves else ():
            mine = ranges(curves, look.n, target)
            open_ = {k: bounds for k, bounds in mine.items() if bounds != (0.0, float(look.n))}
            if not open_:
                continue
            told["a finding"] += [score(bounds, came[target][k], end) for k, bounds in open_.items()]
            whole = max(low for low, _ in mine.values()), max(high for _, high in mine.values())
            told[f"the project, {len(mine)} findings"].append(
                score(whole, max(came[target][k] for k in mine), end)
            )
    return told


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--world", "worlds", multiple=True, default=("simulated",))
@click.option("--runs", default=12)
@click.option("--first-seed", default=420)
@click.option("--share", default=0.5)
@click.option("--max-labels", default=2000)
@click.option("--keep", type=click.Path(path_type=Path))
def main(
    data: Path | None,
    worlds: tuple[str, ...],
    runs: int,
    first_seed: int,
    share: float,
    max_labels: int,
    keep: Path | None,
) -> None:
    warnings.simplefilter("ignore")
    print(
        f"| world | {LEVEL:.0%} range of | told | held | came earlier | came later |\n|---|---|---|---|---|---|"
    )
    for name in worlds:
        told: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for seed in range(first_seed, first_seed + runs):
            kept = kept_at(keep, name, "seed", share, max_labels, seed)
            world, test = halves(name, data, "seed", seed)
            run, curves = replay_once(world, test, seed, share, max_labels, kept)
            for what, scores in judge(run, curves).items():
                told[what] += scores
        for what, scores in sorted(told.items()):
            early, late = np.mean(scores, axis=0)
            print(
                f"| {name} | {what} | {len(scores):,} | {1 - early - late:.0%} | {early:.0%} | {late:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
