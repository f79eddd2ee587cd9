"""Which share of random labels reaches LIKELY and CERTIFIED with the fewest labels, by prevalence and target.

    python benchmarks/bench_share.py --data DIR --world kermany --world cxnet --seeds 8 --keep FOLDER
    python benchmarks/bench_share.py --table --keep FOLDER

Every run is a whole project: one finding of a world, the product's controller (`loop.simulate`), one share, from the first batch
until the finding is certified or the labels are spent. Runs of one seed share the patients that are tested. Targets are set by the
finding's own ceiling, the AUC of a probe on all other images: a margin below it. What is kept is not run again, so a run may be
interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits
from worlds import WORLDS, World, half

from loop.archive import Archive, LabelTable
from loop.probe import fit_probe, fit_projection
from loop.settings import make_settings
from loop.simulate import simulate

SHARES = (0.25, 0.5, 0.75, 1.0)
MARGINS = (0.02, 0.06)
RARE, COMMON = 0.05, 0.2
VERDICTS = ("LIKELY REACHED", "CERTIFIED")


def main() -> None:
    """Run what is not kept yet, and print the table."""
    options = _read_options()
    options.keep.mkdir(parents=True, exist_ok=True)
    if not options.table:
        with threadpool_limits(1):
            for seed in range(options.seeds):
                for name in options.world or ["kermany", "cxnet"]:
                    _run_world(options, name, seed)
    print(tell(options.keep, options.labels))


def _run_world(options: argparse.Namespace, name: str, seed: int) -> None:
    world = WORLDS[name](options.data)
    for k, finding in enumerate(world.findings):
        if options.finding and finding not in options.finding:
            continue
        ceiling = find_ceiling(options, name, world, k)
        for margin in options.margin or MARGINS:
            for share in options.share or SHARES:
                kept = options.keep / f"{name}-{k}-{margin:g}-{share:g}-{seed}.json"
                target = round(ceiling - margin, 3)
                if kept.exists() or target < 0.6:
                    continue
                told = run(world, k, target, share, seed, options)
                kept.write_text(json.dumps({"world": name, "finding": finding, "margin": margin, "share": share, "seed": seed, **told}))  # fmt: skip


def find_ceiling(options: argparse.Namespace, name: str, world: World, k: int) -> float:
    """AUC of a probe on one half of the patients, tested on the other; kept beside the runs."""
    kept = options.keep / f"ceiling-{name}-{k}.txt"
    if not kept.exists():
        train, test = half(world, 0), half(world, 1)
        y = train.y[:, k : k + 1]
        probe = fit_probe(
            train.features,
            y,
            train.patients,
            ["f"],
            fit_projection(world.features, 256),
            np.random.default_rng(0),
        )
        known = ~np.isnan(test.y[:, k])
        kept.write_text(str(roc_auc_score(test.y[known, k], probe.predict(test.features)[known, 0])))
    return float(kept.read_text())


def run(
    world: World, k: int, target: float, share: float, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One project; labels at which each verdict was first said, None = never, and whether it was true then."""
    rows = np.flatnonzero(~np.isnan(world.y[:, k]))
    names = tuple(f"image-{row:06d}" for row in rows)
    labels = LabelTable(names, world.y[rows, k : k + 1], world.patients[rows], ("f",))
    settings = make_settings(
        {
            "project": {"name": "share", "findings": ["f"], "seed": seed},
            "batch": {
                "size": options.batch,
                "random_share": share,
                "strategy": options.strategy,
                "finished_share": 1.0,
            },
            "stop": {"target": target, "evidence": "certified", "budget": options.labels},
        }
    )
    rounds = simulate(Archive(labels, world.features[rows]), settings, test_fraction=0.3)["rounds"]
    told: dict[str, Any] = {"target": target, "prevalence": float(world.y[rows, k].mean())}
    for verdict in VERDICTS:
        reached = VERDICTS[VERDICTS.index(verdict) :]  # what is certified is reached
        first = next((r for r in rounds if r["findings"]["f"]["verdict"] in reached), None)
        told[verdict] = None if first is None else first["labels"]
        if first is not None:
            floor = target if verdict == "LIKELY REACHED" else first["findings"]["f"]["evidence"]["tested"]
            truth = first["findings"]["f"]["true_auc"]
            told[f"{verdict} false"] = truth is not None and truth < floor
    return told


def tell(folder: Path, labels: int) -> str:
    """Labels by share, a run without the verdict counted as the budget; paired differences from the half with 95 % intervals."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        f"| prevalence | target, below the ceiling | verdict | share | runs | reached | false | labels, mean (unreached = {labels}) | less at .5 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, float, str], dict[float, dict[str, dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for one in runs:
        how = "rare" if one["prevalence"] < RARE else "common" if one["prevalence"] > COMMON else "between"
        for verdict in VERDICTS:
            groups[how, one["margin"], verdict][one["share"]][
                f"{one['world']}-{one['finding']}-{one['seed']}"
            ] = one
    for (how, margin, verdict), by_share in sorted(groups.items()):
        for share, kept in sorted(by_share.items()):
            needed = {key: one[verdict] or labels for key, one in kept.items()}
            reached = sum(one[verdict] is not None for one in kept.values())
            false = sum(bool(one.get(f"{verdict} false")) for one in kept.values())
            apart = [
                needed[key] - (one[verdict] or labels)
                for key, one in by_share.get(0.5, {}).items()
                if key in needed
            ]
            cell = ""
            if share != 0.5 and len(apart) > 1:
                error = 1.96 * float(np.std(apart, ddof=1)) / np.sqrt(len(apart))
                cell = (
                    f"{np.mean(apart):+.0f} ({np.mean(apart) - error:+.0f} to {np.mean(apart) + error:+.0f})"
                )
            lines.append(
                f"| {how} | {margin:g} | {verdict} | {share:g} | {len(kept)} | {reached} | {false} | "
                f"{np.mean(list(needed.values())):.0f} | {cell} |"
            )
    return "\n".join(lines)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the shared chest X-rays")
    parser.add_argument("--world", action="append", choices=sorted(WORLDS))
    parser.add_argument("--finding", action="append", help="default: all of a world")
    parser.add_argument("--share", type=float, action="append", help=f"default: {SHARES}")
    parser.add_argument(
        "--margin", type=float, action="append", help=f"of the target below the ceiling; default: {MARGINS}"
    )
    parser.add_argument("--strategy", default="uncertainty")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--labels", type=int, default=800, help="where a run ends")
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
