"""Stop rules that others use, finding by finding, to be judged on the same replays as ours.

None of them knows a target: they say "nothing moves any more" or "the model is sure". Each is its library's, with the
library's defaults, written as a question to all looks so far instead of as an object that remembers them:

| name | source | defaults |
|---|---|---|
| small-text KappaAverage | webis-de/small-text 1.4.1, `small_text/stopping_criteria/kappa.py`, `KappaAverage` | `window_size=3, kappa=0.99` |
| small-text DeltaFScore | the same, `base.py`, `DeltaFScore` | `window_size=3, threshold=0.05` |
| small-text ClassificationChange | the same, `change.py`, `ClassificationChange` | `threshold=0.0` |
| small-text OverallUncertainty | the same, `uncertainty.py`, `OverallUncertainty` | `threshold=0.05` |
| baal LowAverageUncertainty | baal-org/baal 2.1.0, `baal/active/stopping_criteria.py`, `LowAverageUncertaintyStoppingCriterion` | none; 0.1 as in its own test, `tests/active/criterion_test.py` |
| baal EarlyStopping | the same, `EarlyStoppingCriterion` | `patience=10, epsilon=1e-4` |
| AUC changed < .01 in 3 rounds | what people write themselves | |

KappaAverage is that of release 1.3.3 and later: before, it compared differences of kappas. `MaxIterations` and
`LabellingBudgetStoppingCriterion` stop at a number that the user gives, and are left out.

What had to be adapted:

* A round is a look of the replay: every 50 labels up to 400, every 100 after.
* A finding is a problem of two classes with the probabilities ``(1 - p, p)``; a prediction is ``p >= 0.5``.
* small-text and baal look at what is not yet labelled; here it is a fixed sample of the pool, labelled or not, as the
  rules that compare predictions need the same images each time.
* baal's uncertainty is its `Entropy` heuristic, in nats; BALD would need a probe with dropout. small-text divides by
  ``log 2``.
* baal's metric is the cross-fitted AUC, as there is no validation set.
* Looks at which a finding has no head, or no AUC, are passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from replays import Replay
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import entropy
from sklearn.metrics import cohen_kappa_score
from worlds import Array


def _kappa_average(proba: Array, window: int = 3, kappa: float = 0.99) -> bool:
    """Cohen's kappa of predictions, look to look, is `kappa` or more on average."""
    agreement = [
        1.0 if np.array_equal(before, now) else cohen_kappa_score(now, before, labels=[0, 1])
        for before, now in pairwise((proba[-window - 1 :] >= 0.5).astype(int))
    ]
    return len(agreement) == window and bool(np.mean(agreement) >= kappa)


def _delta_f_score(proba: Array, window: int = 3, threshold: float = 0.05) -> bool:
    """The F score of each look's predictions against the last look's is above ``1 - threshold``.

    It is 0 / 0, and no reason to stop, while nothing is predicted positive.
    """
    positive = proba[-window - 1 :] >= 0.5  # (window + 1, images)
    before, now = positive[:-1], positive[1:]
    with np.errstate(invalid="ignore"):
        change = 1 - 2 * (before & now).sum(axis=1) / (before.sum(axis=1) + now.sum(axis=1))  # (window,)
    return len(change) == window and bool((change < threshold).all())


def _classification_change(proba: Array, threshold: float = 0.0) -> bool:
    """At most `threshold` of the predictions changed since the last look."""
    if len(proba) < 2:
        return False
    unchanged = (proba[-1] >= 0.5) == (proba[-2] >= 0.5)  # (images,)
    return bool(unchanged.sum() >= len(unchanged) * (1 - threshold))


def _overall_uncertainty(proba: Array, threshold: float = 0.05) -> bool:
    """Mean entropy, as a share of the largest there is, is below `threshold`."""
    return bool((entropy(np.stack([1 - proba[-1], proba[-1]])) / np.log(2)).mean() < threshold)


def _low_average_uncertainty(proba: Array, threshold: float = 0.1) -> bool:
    """Mean entropy in nats is below `threshold`."""
    return bool(entropy(np.stack([1 - proba[-1], proba[-1]])).mean() < threshold)


def _early_stopping(auc: Array, patience: int = 10, epsilon: float = 1e-4) -> bool:
    """The last `patience` + 1 AUCs (or `patience`, if there are no more) are the last one, give or take `epsilon`."""
    return len(auc) >= patience and bool(np.isclose(auc[-patience - 1 :], auc[-1], atol=epsilon).all())


def _small_change(auc: Array, rounds: int = 3, change: float = 0.01) -> bool:
    """Each of the last `rounds` changes of the AUC, up or down, is below `change`."""
    return len(auc) > rounds and bool((np.abs(np.diff(auc[-rounds - 1 :])) < change).all())


_Rule = Callable[[Array], bool]
_ON_POOL: dict[str, _Rule] = {
    "small-text KappaAverage": _kappa_average,
    "small-text DeltaFScore": _delta_f_score,
    "small-text ClassificationChange": _classification_change,
    "small-text OverallUncertainty": _overall_uncertainty,
    "baal LowAverageUncertainty": _low_average_uncertainty,
}
_ON_AUC: dict[str, _Rule] = {
    "baal EarlyStopping": _early_stopping,
    "AUC changed < .01 in 3 rounds": _small_change,
}

RULES = (*_ON_POOL, *_ON_AUC)
"""Names of the rules."""


def rival_stops(run: Replay, aucs: Sequence[Mapping[int, float]]) -> Iterator[tuple[int, str, int]]:
    """The first look at which each rule says stop.

    Args:
        run: A replay.
        aucs: For each of its looks, the cross-fitted AUC by finding, 0 to K - 1; a finding without one is not there.

    Yields:
        Finding, rule and labels; nothing for a rule that never says stop.
    """
    for k in range(len(run.findings)):
        proba = [
            (look.n, look.pool_proba[:, k]) for look in run.looks if np.isfinite(look.pool_proba[:, k]).all()
        ]
        auc = [(look.n, found[k]) for look, found in zip(run.looks, aucs, strict=True) if k in found]
        for rules, seen in ((_ON_POOL, proba), (_ON_AUC, auc)):
            values = np.array([value for _, value in seen])  # (looks, images) or (looks,)
            for name, says_stop in rules.items():
                stops = (n for i, (n, _) in enumerate(seen, start=1) if says_stop(values[:i]))
                if (n := next(stops, None)) is not None:
                    yield k, name, n


def fit_plain(sizes: Array, auc: Array) -> tuple[float, float, float] | None:
    """Fit a - b n^-c by unbounded, unweighted least squares, as one does with SciPy at first.

    Args:
        sizes: Labels, shape ``(S,)``.
        auc: Shape ``(S,)``.

    Returns:
        a, b and c, which may be anything; None for fewer than three points or if 2,000 evaluations were not enough.
    """
    if len(auc) < 3:
        return None
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)  # its covariance is not used
        try:
            found, _ = curve_fit(
                lambda n, a, b, c: a - b * n**-c,
                np.asarray(sizes, float),
                auc,
                p0=(float(np.max(auc)), 0.5, 0.5),
                maxfev=2000,
            )
        except RuntimeError:  # no convergence
            return None
    a, b, c = (float(x) for x in found)
    return (a, b, c) if np.isfinite(found).all() else None
