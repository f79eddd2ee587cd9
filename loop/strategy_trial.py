"""Try the strategy on labels that are there, against random, before it chooses what people are asked.

The random stream's labels are a small archive whose every answer is known. Fold by fold of its patients, a probe starts from the
same first labels twice: once the strategy asks the next ones of the other folds, once they are drawn at random. Both probes are
tested on the fold. A strategy that is significantly worse here is not trusted with the next batch.

References:
    Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003 (parts that share training sets are no
    independent looks, so the error of their mean is that of correlated ones).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from forecasting.auc import count_wins
from forecasting.errors import TooFewLabels
from forecasting.folds import assign_folds
from loop.features import FeatureTable
from loop.logistic import fit_logistic
from loop.probe import CURVE_TOLERANCE, Probe, Projection
from loop.strategies import Seen, select_batch

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

FEWEST_LABELS = 80
"""Random labels from which on a strategy is tried: fewer tell nothing."""

N_FOLDS, N_REPEATS = 5, 4
SHARED = 0.02
"""Correlation between parts. Both arms begin with the same labels and each takes its own half of the rest, so it is far below the
share of tested images (.25) that Nadeau and Bengio would put here: over 80 small worlds differences strayed .9 to 1.15 times as far
as the mean of independent parts does."""
FIRST, LAST = 0.2, 0.5
"""Shares of the other folds' labels at which the strategy begins, and ends: half of a pool is chosen from, not swept up."""
N_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """How a strategy did against random on labels that are there.

    Attributes:
        strategy: Its name.
        n: Random labels that it was tried on.
        difference: AUC by the strategy less AUC at random, mean over findings, sizes and parts.
        low: Lower end of its interval.
        high: Upper end; below 0, the strategy is worse.
        level: Of the interval.
    """

    strategy: str
    n: int
    difference: float
    low: float
    high: float
    level: float

    @property
    def is_worse(self) -> bool:
        """Whether random is better, beyond chance."""
        return self.high < 0


def try_strategy(
    strategy: str,
    features: NDArray[np.float32],
    y: Array,
    patients: NDArray[np.str_],
    probe: Probe,
    is_open: NDArray[np.bool_],
    projection: Projection,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Trial | None:
    """Hold a strategy against random on the random stream's labels; None where there are too few to tell anything.

    Args:
        strategy: Its name.
        features: Raw embeddings of the random stream's labelled images, shape ``(n, d)``.
        y: Their labels, shape ``(n, K)``, NaN not known.
        patients: Shape ``(n,)``.
        probe: The probe in force: its strengths are used, and findings without a head do not count.
        is_open: Findings whose target is not reached, shape ``(K,)``; a strategy may look at them.
        projection: Standardisation of the pool.
        rng: Deals folds and draws.
        level: Of the interval.

    Raises:
        BadInput: The strategy failed.
    """
    counting = np.flatnonzero(
        probe.fitted & (np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0)) >= N_FOLDS)
    )
    if strategy == "random" or len(y) < FEWEST_LABELS or not len(counting):
        return None
    names = [f"{row:08d}" for row in range(len(y))]
    x = projection.transform(features)  # (n, k)
    counts = np.isin(np.arange(len(is_open)), counting)  # what is not tested may not pull either
    part = _Part(names, FeatureTable(names, features), x, y, patients, probe, is_open & counts, projection)
    with threadpool_limits(1, "blas"):
        apart = part.run(strategy, counting, rng)
    if len(apart) < N_FOLDS:
        return None
    mean, spread = float(np.mean(apart)), float(np.std(apart, ddof=1))
    error = spread * math.sqrt(1 / len(apart) + SHARED)
    reach = float(student.ppf(0.5 + level / 2, len(apart) - 1)) * error
    return Trial(strategy, len(y), mean, mean - reach, mean + reach, level)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What every part of a trial shares: images by row, as `try_strategy` has them; ``x`` is what probes see of them."""

    names: Sequence[str]
    table: FeatureTable
    x: Array
    y: Array
    patients: NDArray[np.str_]
    probe: Probe
    is_open: NDArray[np.bool_]
    projection: Projection

    def run(self, strategy: str, counting: Rows, rng: np.random.Generator) -> list[float]:
        """AUC by the strategy less AUC at random, of each part that tells something."""
        apart: list[float] = []
        for _ in range(N_REPEATS):
            try:
                folds = assign_folds(self.y[:, counting], self.patients, N_FOLDS, rng)
            except TooFewLabels:
                return []
            for f in range(N_FOLDS):
                out = np.flatnonzero(folds == f)
                rest = rng.permutation(np.flatnonzero((folds >= 0) & (folds != f)))
                ours, theirs = (self.label(one, rest, out, counting, rng) for one in (strategy, "random"))
                difference = ours - theirs  # (batches, F); NaN where the fold lacks a class
                if not np.isnan(difference).all():
                    apart.append(float(np.nanmean(difference)))
        return apart

    def label(self, strategy: str, rest: Rows, out: Rows, counting: Rows, rng: np.random.Generator) -> Array:
        """Label half of `rest` from its first fifth on; AUC on `out` after each batch, shape ``(batches, F)``."""
        sizes = np.round(np.linspace(FIRST, LAST, N_BATCHES + 1) * len(rest)).astype(int)
        have = rest[: sizes[0]]
        probe = self.train(have)
        measured = []
        for size in sizes[1:]:
            pool = np.setdiff1d(rest, have)
            items = [self.names[row] for row in pool]
            labelled = [self.names[row] for row in have]
            picks = select_batch(
                strategy,
                int(size) - len(have),
                0.0,
                (),
                items,
                probe.predict(self.table.read(items)),
                [str(patient) for patient in self.patients[pool]],
                self.probe.findings,
                rng,
                seen=Seen(
                    self.table,
                    self.projection,
                    labelled,
                    self.y[have],
                    self.patients[have],
                    self.is_open,
                    probe,
                ),
            )
            have = np.append(have, [int(pick.item) for pick in picks]).astype(np.intp)
            probe = self.train(have)
            measured.append(self.test(probe, out)[counting])
        return np.array(measured)

    def train(self, rows: Rows) -> Probe:
        """Train every head that these labels allow, at the strengths of the probe in force."""
        y = self.y[rows]
        n_positive, n_negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
        fitted = self.probe.fitted & (n_positive > 0) & (n_negative > 0)
        coef = np.full(self.probe.coef.shape, np.nan, np.float32)
        intercept = np.full(len(fitted), np.nan)
        if fitted.any():
            fit = fit_logistic(self.x[rows], y[:, fitted], self.probe.strength[fitted], CURVE_TOLERANCE)
            coef[:, fitted], intercept[fitted] = self.projection.fold(fit.coef, fit.intercept)
        strength = np.where(fitted, self.probe.strength, np.nan)
        counts = n_positive.astype(np.int64), n_negative.astype(np.int64)
        return Probe(self.probe.findings, coef, intercept, strength, fitted, *counts, n_min=1)

    def test(self, probe: Probe, out: Rows) -> Array:
        """AUC on some images, shape ``(K,)``; one half without a head, NaN without both classes."""
        scores = np.where(probe.fitted, probe.predict(self.table.read([self.names[r] for r in out])), 0.5)
        told = np.full(len(probe.findings), np.nan)
        for k in range(len(told)):
            won, met = count_wins(self.y[out, k], scores[:, k])
            told[k] = won / met if met else np.nan
        return told
