"""What training costs beside naive scikit-learn, one thread: the probe with its choice of strength, and learning curves.

    OMP_NUM_THREADS=1 python benchmarks/bench_probe.py

14 findings at 2 to 31 %, 256 features. scikit-learn's time is that of `LogisticRegressionCV` (the same strengths and folds), a
finding at a time; of the curve, the fits of one repeat at the largest size, times the number of both, which flatters ours. The roofline
is what reading memory costs: bytes a second of a sum over an array that fits no cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from forecasting.curve import estimate_curves
from forecasting.folds import assign_folds
from loop.probe import STRENGTHS, fit_probe, fit_projection, make_scorer

N_FINDINGS, DIM, N_PARTS = 14, 256, 120  # 6 sizes of 20 repeats


def main() -> None:
    """Print one table."""
    with threadpool_limits(1):
        print(f"memory read: {read_memory() / 1e9:.1f} GB/s\n")
        print("| labels | what | ours, CPU s | scikit-learn, CPU s | theirs / ours |")
        print("|---|---|---|---|---|")
        for n in (200, 500, 1000):
            for what, ours, theirs in measure(n):
                print(f"| {n:,} | {what} | {ours:.2f} | {theirs:.1f} | {theirs / ours:.0f} |", flush=True)


def measure(n: int) -> list[tuple[str, float, float]]:
    """Seconds of ours and of scikit-learn's, for the probe and for the learning curves."""
    rng = np.random.default_rng(0)
    prevalence = np.linspace(0.02, 0.31, N_FINDINGS)
    y = (rng.random((n, N_FINDINGS)) < prevalence).astype(float)
    x = rng.normal(size=(n, DIM)) * np.arange(1, DIM + 1) ** -0.3
    x[:, :N_FINDINGS] += 0.7 * y
    features, patients = x.astype(np.float32), np.arange(n).astype(str)
    names = [f"f{k}" for k in range(N_FINDINGS)]
    projection = fit_projection(features, 0)
    seen = projection.transform(features)
    probe = fit_probe(features, y, patients, names, projection, rng)
    folds = assign_folds(y, patients, 5, rng)
    cv = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(5)]
    testable = [
        k for k in np.flatnonzero(probe.fitted) if all(0 < y[out, k].sum() < len(out) for _, out in cv)
    ]

    def choose() -> None:
        for k in testable:
            LogisticRegressionCV(
                Cs=STRENGTHS,
                cv=cv,
                l1_ratios=(0.0,),
                scoring="neg_log_loss",
                max_iter=1000,
                use_legacy_attributes=False,
            ).fit(seen, y[:, k])

    def draw() -> None:
        train, out = cv[0]
        for k in testable:
            head = LogisticRegression(C=probe.strength[k], max_iter=1000).fit(seen[train], y[train, k])
            roc_auc_score(y[out, k], head.decision_function(seen[out]))

    fitted = np.flatnonzero(probe.fitted)
    scale = len(fitted) / max(1, len(testable))
    ours = clock(lambda: fit_probe(features, y, patients, names, projection, np.random.default_rng(1)))

    def curves() -> None:
        scorer = make_scorer(seen, y[:, fitted], probe.strength[fitted])
        estimate_curves([names[k] for k in fitted], y[:, fitted], patients, scorer, np.random.default_rng(1))

    return [
        ("probe, strengths by 5 folds", ours, clock(choose) * scale),
        ("learning curves, 6 sizes of 20 repeats", clock(curves), clock(draw) * N_PARTS * scale),
    ]


def clock(run: Callable[[], Any]) -> float:
    """CPU seconds of one run."""
    began = time.process_time()
    run()
    return time.process_time() - began


def read_memory() -> float:
    """Bytes a second at which memory is read."""
    block = np.ones(2**27, np.float32)
    block.sum()
    return float(block.nbytes / min(clock(block.sum) for _ in range(5)))


if __name__ == "__main__":
    main()
