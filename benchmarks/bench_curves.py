"""How well does each curve family go on? Replay forecasts on the Learning Curve Database, without any labels of ours.

    python benchmarks/bench_curves.py FOLDER                # with lcdb_auc_mean.csv.gz and lcdb_auc_raw_logreg.csv.gz
    python benchmarks/bench_curves.py FOLDER --replays 300

First the means of 20 learners over their repetitions, on 80 data sets (almost noise-free: is the family right?), then
single repetitions of logistic regression (as noisy as a project that owns a test set). No pooling: every curve is
a project of its own. Rows that begin with "mean of" average the forecast of ours with another family's.

Data: LCDB 1.0, Mohr, Viering, Loog and van Rijn, ECML PKDD 2022 (MIT licence), as AUC by training size.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from forecasting.backtest import OURS, Backtest, Told, run_backtest
from forecasting.measured import MeasuredCurve
from forecasting.measures import measure
from loop.curvefile import FileBacktest
from loop.show_backtest import show_backtest

PARTNERS = ("pow3, bounded", "pow3, weighted", "pow4")
FEWEST_REPEATS = 5  # behind a mean, so that its error is known


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--replays", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, replays: int, seed: int) -> None:
    for title, curves in (
        ("means of 20 learners", mean_curves(folder / "lcdb_auc_mean.csv.gz")),
        ("single repetitions of logistic regression", single_curves(folder / "lcdb_auc_raw_logreg.csv.gz")),
    ):
        began = time.perf_counter()
        backtest = with_averages(run_backtest(curves, most_cuts=replays, seed=seed))
        click.echo(
            f"\nLCDB, {title}; {len({r.dataset for r in backtest.replays})} data sets, "
            f"{len({(r.dataset, r.finding) for r in backtest.replays})} different curves, "
            f"{(time.perf_counter() - began) / backtest.n_cuts:.2f} s a replay"
        )
        show_backtest(FileBacktest(backtest, measure(backtest)))


def mean_curves(path: Path) -> list[MeasuredCurve]:
    """One curve a data set and learner; learners of a data set are not findings of a project, so never pooled."""
    table = pd.read_csv(path).dropna()
    table = table[table.k >= FEWEST_REPEATS].sort_values("size_train")
    return [
        MeasuredCurve(
            str(dataset), learner, learner,  # each its own repetition: replayed alone, but resampled by data set
            rows.size_train.to_numpy(float), rows.test_mean.to_numpy(float),
            (rows.test_std / np.sqrt(rows.k)).to_numpy(float),
        )
        for (dataset, learner), rows in table.groupby(["openmlid", "learner"])
    ]  # fmt: skip


def single_curves(path: Path) -> list[MeasuredCurve]:
    """One curve a data set and repetition of logistic regression."""
    table = pd.read_csv(path).dropna().sort_values("size_train")
    return [
        MeasuredCurve(
            str(dataset), "", f"{outer}.{inner}", rows.size_train.to_numpy(float), rows.score_test.to_numpy(float)
        )
        for (dataset, outer, inner), rows in table.groupby(["openmlid", "outer_seed", "inner_seed"])
    ]  # fmt: skip


def with_averages(backtest: Backtest) -> Backtest:
    """Add the averages of our forecast with others' to every replay: points only, no interval."""
    replays = [
        replace(
            replay,
            told=replay.told | {f"mean of {OURS}, {p}": average(replay.told[OURS], replay.told[p]) for p in PARTNERS},
        )
        for replay in backtest.replays
    ]  # fmt: skip
    return replace(backtest, replays=tuple(replays))


def average(one: Told, other: Told) -> Told:
    """The mean AUC, and nothing else."""
    return Told((one.auc + other.auc) / 2, *(5 * [np.nan]), fitted=True)


if __name__ == "__main__":
    main()
