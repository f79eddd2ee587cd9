"""A strategy against random over the seeds of a simulation: labels at STOP, labels until the truth is at the target, AUC at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from forecasting.stopping import SPENT


@dataclass(frozen=True, slots=True)
class Paired:
    """Labels that the strategy needs less than random, paired by seed.

    Attributes:
        seeds: Seeds that say something: both arms came there, or one did and the other's budget is what it needs at least.
        of: Seeds run.
        neither: Seeds in which neither arm came there before the budget, or the pool, was spent.
        strategy: Labels by the strategy, mean over these.
        random: Labels at random.
        saved: The second less the first; below 0 = the strategy costs labels. None below 2 seeds.
        low: Lower end of its 95 % interval over seeds (Student's t).
        high: Upper end.
    """

    seeds: int
    of: int
    neither: int
    strategy: float | None
    random: float | None
    saved: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class PairedAuc:
    """True AUC at the end, mean over findings, of the seeds in which both arms ended with as many labels.

    Attributes:
        seeds: These seeds.
        strategy: By the strategy, mean over them.
        random: At random.
        difference: The first less the second; None below 2 seeds.
        low: Lower end of its 95 % interval over seeds (Student's t).
        high: Upper end.
    """

    seeds: int
    strategy: float | None
    random: float | None
    difference: float | None
    low: float | None
    high: float | None


def compare_arms(
    runs: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]], mean_rule: bool
) -> dict[str, Paired]:
    """Hold simulations by a strategy against those at random, seed by seed.

    Seeds share the patients that are tested, the random stream and the first batch, so most of what makes seeds differ cancels.
    A seed in which an arm ended before its truth was at the target says nothing of the labels to the target; one in which both
    arms spent all that there was to spend says nothing of the labels until STOP, and where one did its labels are those at least.

    Args:
        runs: What `simulate` gave by the strategy.
        random: The same seeds at random.
        mean_rule: The mean over findings must be at the target, not each.

    Returns:
        ``at_stop`` and ``to_target``.
    """
    at_stop: list[list[float | None]] = [[], []]
    for pair in zip(runs, random, strict=True):
        spent = all(run["reason"].startswith(SPENT) for run in pair)
        for arm, run in zip(at_stop, pair, strict=True):
            arm.append(None if spent else float(run["rounds"][-1]["labels"]))
    to_target = [[labels_to_target(run["rounds"], mean_rule) for run in arm] for arm in (runs, random)]
    return {"at_stop": _pair(*at_stop), "to_target": _pair(*to_target)}


def compare_auc(runs: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]]) -> PairedAuc:
    """Hold the true AUCs at the end against each other, of seeds in which both arms ended with as many labels; see `compare_arms`."""
    ends = [(ours["rounds"][-1], theirs["rounds"][-1]) for ours, theirs in zip(runs, random, strict=True)]
    ours_, theirs_ = ([_mean_auc(end) for end in arm] for arm in zip(*ends, strict=True))
    same = [ours["labels"] == theirs["labels"] for ours, theirs in ends]
    told = _pair([auc if kept else None for auc, kept in zip(ours_, same, strict=True)], theirs_)
    gain = None if told.saved is None else -told.saved
    low, high = (None if end is None else -end for end in (told.high, told.low))
    return PairedAuc(told.seeds, told.strategy, told.random, gain, low, high)


def labels_to_target(rounds: Sequence[Mapping[str, Any]], mean_rule: bool) -> float | None:
    """Labels at which the true AUC came to the target, between two rounds on a straight line; None if it did not.

    Each finding's distance from its own target counts: their least, or their mean.
    """
    before: tuple[float, float] | None = None
    for told in rounds:
        gaps = [
            one["true_auc"] - one["target"]
            for one in told["findings"].values()
            if one["true_auc"] is not None
        ]
        if len(gaps) < len(told["findings"]):
            continue  # a finding without a head is at no target
        labels, gap = float(told["labels"]), float(np.mean(gaps) if mean_rule else min(gaps))
        if gap >= 0:
            if before is None or before[1] >= gap:
                return labels
            return before[0] + (labels - before[0]) * -before[1] / (gap - before[1])
        before = labels, gap
    return None


def _pair(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Paired:
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    neither = sum(a is None and b is None for a, b in zip(ours, theirs, strict=True))
    if len(both) < 2:
        return Paired(len(both), len(ours), neither, None, None, None, None, None)
    ours_, theirs_ = np.array(both).T
    apart = theirs_ - ours_
    reach = float(student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
    saved = float(apart.mean())
    return Paired(
        seeds=len(apart),
        of=len(ours),
        neither=neither,
        strategy=float(ours_.mean()),
        random=float(theirs_.mean()),
        saved=saved,
        low=saved - reach,
        high=saved + reach,
    )


def _mean_auc(told: Mapping[str, Any]) -> float | None:
    aucs = [one["true_auc"] for one in told["findings"].values()]
    return None if None in aucs else float(np.mean(aucs))
