"""Tables of `bench_labels.py`: differences are paired by seed, with 95 % intervals over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from label_peers import PEERS
from label_runs import ALONE, SIZES, Run, Runs
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

Array = NDArray[np.float64]

RARE = 0.03
AT = ", ".join(map(str, SIZES))


def tell_means(world: str, runs: Runs, ours: str) -> str:
    """Mean AUC by strategy, and differences over the seeds that both have; who is alone is held against ours alone."""
    lines = [f"| {world} (seeds) | AUC at {AT} | less random | {ours} less this |", "|---|---|---|---|"]
    alone = f"{ours}{ALONE}"
    mean = {strategy: {seed: run.at(SIZES) for seed, run in some.items()} for strategy, some in runs.items()}
    for strategy, some in mean.items():
        cells = [
            f"{strategy} ({len(some)})",
            ", ".join(f"{auc:.3f}" for auc in np.mean(list(some.values()), axis=0)),
        ]
        like = alone if alone in mean and (strategy.endswith(ALONE) or strategy in PEERS) else ours
        cells += [_difference(some, mean.get("random", {})), _difference(mean.get(like, {}), some)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(ours: Mapping[int, Array], theirs: Mapping[int, Array]) -> str:
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < 2 or ours is theirs:
        return ""
    apart = np.array([ours[seed] - theirs[seed] for seed in both])  # (s, sizes)
    mean = apart.mean(axis=0)
    error = student.ppf(0.975, len(both) - 1) * apart.std(axis=0, ddof=1) / np.sqrt(len(both))
    return ", ".join(f"{m:+.3f} ({m - e:+.3f} to {m + e:+.3f})" for m, e in zip(mean, error, strict=True))


def tell_labels(told: Mapping[str, Runs]) -> str:
    """Labels at which the mean AUC is 95 % of the way from .5 to that with all labels."""

    def level(runs: list[Run], _: list[Run]) -> float:
        ends = [np.nanmean(run.plateau) for run in runs]
        return 0.5 + 0.95 * (float(np.mean(ends)) - 0.5)

    return _tell(told, "95 % of the plateau", level, lambda run: ~np.isnan(run.plateau), False)


def tell_rare(told: Mapping[str, Runs]) -> str:
    """Labels at which findings under 3 % have, on average, what random labels reach at the end."""

    def level(_: list[Run], random: list[Run]) -> float:
        return float(np.mean([run.at([SIZES[-1]], _rare(run))[0] for run in random]))

    return _tell(told, f"findings under {RARE:.0%}: what random has at {SIZES[-1]}", level, _rare, True)


def _rare(run: Run) -> NDArray[np.bool_]:
    return (run.prevalence < RARE) & ~np.isnan(run.plateau)


def _tell(
    told: Mapping[str, Runs],
    what: str,
    level: Callable[[list[Run], list[Run]], float],
    of: Callable[[Run], NDArray[np.bool_]],
    wants_auc: bool,
) -> str:
    """Labels to a level by strategy, and how many times more random needs; 1,000 draws of the seeds for the interval."""
    columns = f"AUC at {AT} | less random | " if wants_auc else ""
    lines = [
        f"| {what} (seeds) | {columns}labels | random's / these |",
        "|---" * (5 if wants_auc else 3) + "|",
    ]
    for world, runs in told.items():
        chance = {seed: run for seed, run in runs.get("random", {}).items() if of(run).any()}
        for strategy, some in runs.items():
            both = sorted(some.keys() & chance.keys())
            if len(both) < 2:
                continue
            theirs, random = [some[seed] for seed in both], [chance[seed] for seed in both]
            at = {seed: some[seed].at(SIZES, of(some[seed])) for seed in both}
            apart = (
                ""
                if strategy == "random"
                else _difference(at, {seed: chance[seed].at(SIZES, of(chance[seed])) for seed in both})
            )
            n, factor = _compare(theirs, random, level, of)
            rng = np.random.default_rng(0)
            draws = []
            for _ in range(1_000):
                drawn = rng.integers(len(both), size=len(both))
                draws.append(_compare([theirs[i] for i in drawn], [random[i] for i in drawn], level, of)[1])
            low, high = np.quantile(draws, [0.025, 0.975])
            cells = [f"{world}, {strategy} ({len(both)})"]
            if wants_auc:
                cells += [", ".join(f"{auc:.3f}" for auc in np.mean(list(at.values()), axis=0)), apart]
            cells += [f"{n:.0f}" if np.isfinite(n) else "not reached"]
            cells += ["" if strategy == "random" else f"{factor:.2f} ({low:.2f} to {high:.2f})"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _compare(
    theirs: list[Run],
    random: list[Run],
    level: Callable[[list[Run], list[Run]], float],
    of: Callable[[Run], NDArray[np.bool_]],
) -> tuple[float, float]:
    """Labels to a level on the curve that is the mean over seeds; how many times more random needs, unreached = the end."""
    wanted = level(theirs, random)
    ours_n, chance_n, end = *(_reach(runs, wanted, of) for runs in (theirs, random)), float(random[0].n[-1])
    return ours_n, min(chance_n, end) / min(ours_n, end)


def _reach(runs: list[Run], wanted: float, of: Callable[[Run], NDArray[np.bool_]]) -> float:
    n = runs[0].n
    for run in runs:
        n = n if len(n) <= len(run.n) else run.n
    curve = np.mean([run.auc[: len(n), of(run)].mean(axis=1) for run in runs], axis=0)  # (T,)
    there = np.flatnonzero(curve >= wanted - 1e-12)
    if not len(there):
        return np.inf
    i = int(there[0])
    if i == 0:
        return float(n[0])
    step = (wanted - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(np.exp(np.log(n[i - 1]) + step * (np.log(n[i]) - np.log(n[i - 1]))))


def tell_ranks(told: Mapping[str, Runs]) -> str:
    """Mean rank of the mean AUC, 1 = best, over the sizes that all reach and the seeds that all have."""
    lines = ["| mean rank (1 = best) | " + " | ".join([*told, "mean"]) + " |", "|---" * (len(told) + 2) + "|"]
    names = [name for name in next(iter(told.values())) if all(name in runs for runs in told.values())]
    columns = []
    for runs in told.values():
        seeds = sorted(set.intersection(*(set(runs[name]) for name in names)))
        last = min(runs[name][seed].n[-1] for name in names for seed in seeds)
        sizes = [
            size for size in SIZES if size <= last
        ]  # beyond it, a rule is ranked by how much of a pool it may ask
        scores = np.array([[runs[name][seed].at(sizes) for seed in seeds] for name in names])  # (N, s, sizes)
        columns.append(rankdata(-scores, axis=0).mean(axis=(1, 2)))
    for i, name in enumerate(names):
        ranks = [column[i] for column in columns]
        lines.append(f"| {name} | " + " | ".join(f"{rank:.1f}" for rank in [*ranks, np.mean(ranks)]) + " |")
    return "\n".join(lines) + "\n"
