"""What training costs beside its peers, one thread: the probe, learning curves, the search for doubtful labels.

    OMP_NUM_THREADS=1 python benchmarks/bench_probe.py

14 findings at 2 to 31 %, 256 features. scikit-learn's probe is `LogisticRegressionCV` (the same strengths and folds), a finding at a
time. Its learning curves are those of a loop over sizes, repeats and findings, each a part to train on and a part to test on: once
without a choice of strength, as the fits of one repeat at the largest size times the number of parts, which flatters ours; once with
a choice in each part, as --cells of them drawn at random, times the number of all. lccv measures one finding's curve at the same sizes
and as often, and by its own rules; cleanlab looks for the labels that were turned round. The roofline is what reading memory costs:
bytes a second of a sum over an array that fits no cache. A peer that is not installed is told as such.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from probe_peers import ask_by_cleanlab, doubt_by_cleanlab, run_lccv, sample_cell
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from forecasting.curve import SMALLEST_SHARE, estimate_curves
from forecasting.folds import assign_folds
from forecasting.words import count_text
from loop.features import FeatureTable
from loop.probe import STRENGTHS, fit_probe, fit_projection, make_scorer
from loop.review import score_out_of_fold
from loop.strategies.measures import ask_highest

N_FINDINGS, DIM, N_SIZES, N_REPEATS = 14, 256, 6, 20
COMMON = 9  # the finding, at 22 %, of which single curves are told
TURNED = 0.05  # share of labels that are wrong where doubtful ones are looked for
N_POOL, N_ASKED = 100_000, 100
Row = tuple[str, float, str, float | None, str]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, action="append", help="labels; default: 200, 500 and 1,000")
    parser.add_argument(
        "--cells", type=int, default=100, help="of a naive learning curve with a choice of strength"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    with threadpool_limits(1):
        print(f"memory read: {read_memory() / 1e9:.1f} GB/s\n")
        print("| labels | what | ours, CPU s | beside | CPU s | theirs / ours | |")
        print("|---|---|---|---|---|---|---|")
        for n in options.size or [200, 500, 1000]:
            for what, ours, peer, theirs, said in World(n).measure(options.cells):
                cells = [f"{n:,}", what, f"{ours:.2g}", peer]
                cells += (
                    ["", ""]
                    if theirs is None
                    else [f"{theirs:.2g}" if theirs < 10 else count_text(theirs), tell_ratio(theirs / ours)]
                )
                print(f"| {' | '.join([*cells, said])} |", flush=True)


class World:
    """Labels, features, and a probe trained on them."""

    def __init__(self, n: int) -> None:
        self.rng = rng = np.random.default_rng(0)
        prevalence = np.linspace(0.02, 0.31, N_FINDINGS)
        self.y = (rng.random((n, N_FINDINGS)) < prevalence).astype(float)
        x = rng.normal(size=(n, DIM)) * np.arange(1, DIM + 1) ** -0.3
        x[:, :N_FINDINGS] += 0.7 * self.y
        self.features, self.patients = x.astype(np.float32), np.arange(n).astype(str)
        self.names = [f"f{k}" for k in range(N_FINDINGS)]
        self.projection = fit_projection(self.features, 0)
        self.seen = self.projection.transform(self.features)
        self.probe = self.train()
        self.fitted = np.flatnonzero(self.probe.fitted)

    def measure(self, n_cells: int) -> Iterator[Row]:
        """What is compared, CPU seconds of ours, the peer, its CPU seconds, and what else is to be said."""
        folds = assign_folds(self.y, self.patients, 5, self.rng)
        cv = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(5)]
        testable = [k for k in self.fitted if all(0 < self.y[out, k].sum() < len(out) for _, out in cv)]
        scale = len(self.fitted) / max(1, len(testable))
        probe_s = clock(self.train)
        theirs = clock(lambda: self.choose_naively(testable, cv)) * scale
        yield "probe, strengths by 5 folds", probe_s, "scikit-learn", theirs, ""
        curves_s = clock(lambda: self.draw(self.fitted))
        theirs = clock(lambda: self.fit_naively(testable, *cv[0])) * N_SIZES * N_REPEATS * scale
        what = f"learning curves, {N_SIZES} sizes of {N_REPEATS} repeats"
        yield what, curves_s, "scikit-learn, one strength", theirs, ""
        yield (
            f"{what}, with the probe's choice of strength",
            probe_s + curves_s,
            "scikit-learn, a choice of 8 in each part",
            *self.time_cells(n_cells),
        )
        yield from self.beside_lccv()
        yield from self.beside_cleanlab()

    def train(self) -> Any:
        """The probe, with its choice of strength."""
        rng = np.random.default_rng(1)
        return fit_probe(self.features, self.y, self.patients, self.names, self.projection, rng)

    def draw(self, findings: Any) -> Any:
        """Learning curves of some findings."""
        scorer = make_scorer(self.seen, self.y[:, findings], self.probe.strength[findings])
        names = [self.names[k] for k in findings]
        return estimate_curves(names, self.y[:, findings], self.patients, scorer, np.random.default_rng(1))

    def choose_naively(self, findings: list[int], cv: Any) -> None:
        """A head and its strength, a finding at a time."""
        for k in findings:
            LogisticRegressionCV(
                Cs=STRENGTHS,
                cv=cv,
                l1_ratios=(0.0,),
                scoring="neg_log_loss",
                max_iter=1000,
                use_legacy_attributes=False,
            ).fit(self.seen, self.y[:, k])

    def fit_naively(self, findings: list[int], train: Any, out: Any) -> None:
        """One part of the curves without a choice of strength."""
        for k in findings:
            head = LogisticRegression(C=self.probe.strength[k], max_iter=1000).fit(
                self.seen[train], self.y[train, k]
            )
            roc_auc_score(self.y[out, k], head.decision_function(self.seen[out]))

    def time_cells(self, n_cells: int) -> tuple[float, str]:
        """CPU seconds of all cells, from some of them drawn at random; a cell with too few of a class costs nothing."""
        rng, shares = np.random.default_rng(2), np.geomspace(SMALLEST_SHARE, 1.0, N_SIZES)
        drawn = [sample_cell(self.seen, self.y[:, self.fitted], shares, rng) for _ in range(n_cells)]
        spent = [0.0 if cell is None else clock(cell) for cell in drawn]
        every = N_SIZES * N_REPEATS * len(self.fitted)
        error = np.std(spent, ddof=1) * every / np.sqrt(n_cells)
        ran = sum(cell is not None for cell in drawn)
        return float(np.mean(spent)) * every, (
            f"from {n_cells} of {every:,} parts, {n_cells - ran} of them with too few of a class; standard error {error:.2g} s"
        )

    def beside_lccv(self) -> Iterator[Row]:
        """One finding's curve: the same sizes as often, and lccv's own rules."""
        (curve,) = self.draw([COMMON])
        ours = clock(lambda: self.draw([COMMON]))
        n, strength = len(self.y), float(self.probe.strength[COMMON])
        sizes = [int(0.8 * n * share) for share in np.geomspace(SMALLEST_SHARE, 1.0, N_SIZES)]
        for peer, given in (("lccv, the same", sizes), ("lccv, as it comes", None)):
            told = [float("nan")]

            def run(given: list[int] | None = given, told: list[float] = told) -> None:
                told[0] = run_lccv(self.seen, self.y[:, COMMON], strength, given, N_REPEATS)

            theirs, said = clock_peer(run)
            said = said or f"AUC at four fifths of the labels {curve.auc[-1]:.3f}, {told[0]:.3f}"
            yield "learning curve of one finding", ours, peer, theirs, said

    def beside_cleanlab(self) -> Iterator[Row]:
        """Labels in doubt, some of which were turned round; and what to ask next."""
        rng = np.random.default_rng(3)
        true, turned = self.y, rng.random(self.y.shape) < TURNED
        told = np.where(turned, 1 - true, true)
        book: Any = SimpleNamespace(
            items=[f"{i}" for i in range(len(told))],
            y=told,
            patients=self.patients,
            findings=tuple(self.names),
        )
        settings: Any = SimpleNamespace(project=SimpleNamespace(seed=0))
        table = FeatureTable(book.items, self.features)
        found: dict[str, Any] = {}
        strength = fit_probe(
            self.features, told, self.patients, self.names, self.projection, np.random.default_rng(1)
        ).strength

        def ours() -> None:
            proba = score_out_of_fold(book, table, self.projection, settings, 1)
            found["ours"] = -np.abs(proba - told)

        def theirs() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found["theirs"] = np.column_stack(
                    [doubt_by_cleanlab(self.seen, told[:, k], float(strength[k])) for k in self.fitted]
                )

        mine, (peer_s, said) = clock(ours), clock_peer(theirs)
        if "theirs" in found:
            wrong = turned[:, self.fitted]
            hits = [
                wrong.ravel()[np.argsort(doubts.ravel(), kind="stable")[: wrong.sum()]].mean()
                for doubts in (found["ours"][:, self.fitted], found["theirs"])
            ]
            said = f"of the {wrong.sum()} most doubtful labels {hits[0]:.0%} are wrong, {hits[1]:.0%}"
        yield f"labels in doubt, {len(self.fitted)} findings", mine, "cleanlab CleanLearning", peer_s, said
        p = rng.beta(0.5, 2.0, N_POOL)
        rows = np.arange(N_POOL)
        mine = repeat(lambda: ask_highest("uncertainty", p[:, None], ["f"], rows, N_ASKED))
        picks = {choice.row for choice in ask_highest("uncertainty", p[:, None], ["f"], rows, N_ASKED)[0]}
        peer_s, said = clock_peer(lambda: repeat(lambda: ask_by_cleanlab(p, N_ASKED)), own=True)
        if peer_s is not None:
            said = f"{len(picks & set(ask_by_cleanlab(p, N_ASKED)))} of {N_ASKED} picks the same"
        yield f"what to ask of {N_POOL:,} images, one finding", mine, "cleanlab ActiveLab", peer_s, said


def tell_ratio(ratio: float) -> str:
    """Two digits."""
    return count_text(ratio) if ratio >= 10 else f"{ratio:.2g}"


def clock(run: Callable[[], Any]) -> float:
    """CPU seconds of one run."""
    began = time.process_time()
    run()
    return time.process_time() - began


def repeat(run: Callable[[], Any], times: int = 10) -> float:
    """CPU seconds of a short run, a mean."""
    return clock(lambda: [run() for _ in range(times)]) / times


def clock_peer(run: Callable[[], Any], own: bool = False) -> tuple[float | None, str]:
    """CPU seconds of a peer, or why there are none; with `own` it gives its seconds itself."""
    try:
        seconds = run() if own else clock(run)
    except ImportError as error:
        return None, f"not installed: {error.name}"
    return seconds, ""


def read_memory() -> float:
    """Bytes a second at which memory is read."""
    block = np.ones(2**27, np.float32)
    block.sum()
    return float(block.nbytes / min(clock(block.sum) for _ in range(5)))


if __name__ == "__main__":
    main()
