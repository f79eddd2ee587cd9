"""How true are the verdicts? Replay labelled data sets with the real controller, over seeds and targets.

    python benchmarks/bench_stops.py --features F.npz --labels L.csv --group patient --finding pneumonia \
        --target 0.8 --target 0.9 --seeds 8 --max-labels 400

A verdict is false if the true AUC of the probe, on patients never labelled, was below what was claimed when it was
first said: below the target for LIKELY REACHED, below target - tolerance for CERTIFIED. Every run goes on to
`--max-labels` (evidence = certified), so that both verdicts get their chance. "AUC now" covers if its 90 % interval
holds the true AUC.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from loop.simulate import simulate_files


@click.command()
@click.option("--features", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--labels", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--group")
@click.option("--finding", "findings", multiple=True)
@click.option("--target", "targets", type=float, multiple=True, required=True)
@click.option("--random-share", type=float, default=0.5)
@click.option("--strategy", default="uncertainty")
@click.option("--max-labels", default=400)
@click.option("--seeds", default=8)
def main(
    features: Path,
    labels: Path,
    group: str | None,
    findings: tuple[str, ...],
    targets: tuple[float, ...],
    random_share: float,
    strategy: str,
    max_labels: int,
    seeds: int,
) -> None:
    said = {"LIKELY REACHED": [0, 0], "CERTIFIED": [0, 0], "OUT OF REACH": [0, 0]}
    spent: list[float] = []
    covered: list[bool] = []
    errors: dict[int, list[float]] = {}
    for target in targets:
        for seed in range(seeds):
            run = simulate_files(
                features, labels, group, findings, target=target, strategy=strategy, random_share=random_share,
                batch=50, max_labels=max_labels, evidence="certified", rule="all", test_fraction=0.35, seed=seed,
            )  # fmt: skip
            for name in run["rounds"][-1]["findings"]:
                told = [(r["labels"], r["findings"][name]) for r in run["rounds"]]
                for n, finding in told:
                    if finding["auc"] is not None and finding["true_auc"] is not None:
                        covered.append(finding["auc_low"] <= finding["true_auc"] <= finding["auc_high"])
                        errors.setdefault(n, []).append(abs(finding["auc"] - finding["true_auc"]))
                crossing = next(
                    (n for n, f in told if f["true_auc"] is not None and f["true_auc"] >= target), None
                )
                for verdict, counts in said.items():
                    first = next(
                        ((n, f) for n, f in told if f["verdict"] == verdict and f["true_auc"] is not None),
                        None,
                    )
                    if first is None:
                        continue
                    counts[0] += 1
                    if verdict == "OUT OF REACH":
                        counts[1] += crossing is not None
                    else:
                        floor = target if verdict == "LIKELY REACHED" else first[1]["evidence"]["tested"]
                        counts[1] += first[1]["true_auc"] < floor
                    if verdict == "LIKELY REACHED" and crossing is not None:
                        spent.append(first[0] / crossing)
    click.echo(
        f"{features.name}: {len(targets)} targets x {seeds} seeds, random share {random_share}, {strategy}"
    )
    for verdict, (n_said, n_false) in said.items():
        share = f"{n_false / n_said:.1%}" if n_said else "-"
        click.echo(f"  {verdict:<15} said {n_said:>4}, false {n_false:>3} ({share})")
    if spent:
        click.echo(f"  labels at LIKELY over the first true crossing: median {np.median(spent):.1f}")
    click.echo(f"  90 % intervals of AUC now cover {np.mean(covered):.1%} of {len(covered)}")
    for n, found in sorted(errors.items()):
        if n in (50, 100, 200, 400, 800):
            click.echo(f"  mean absolute error of AUC now at {n:>4} labels: {np.mean(found):.3f}")


if __name__ == "__main__":
    main()
