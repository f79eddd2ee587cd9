"""How `bench_probe.py` asks scikit-learn, lccv and cleanlab for curves, doubtful labels and what to ask next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score

from loop.probe import STRENGTHS

Array = NDArray[np.float64]
N_FOLDS = 5


def sample_cell(x: Array, y: Array, shares: Array, rng: np.random.Generator) -> Callable[[], float] | None:
    """A cell of a naive learning curve, as a function to be timed: a finding, a share of four fifths of the labels, a draw of both.

    It chooses among eight strengths by five folds of its own, and tests on the fifth that is left.

    Args:
        x: Shape ``(n, d)``.
        y: Labels, shape ``(n, K)``.
        shares: Sizes of the training parts, shape ``(S,)``.
        rng: Draws the cell.

    Returns:
        None where the cell has too few of a class, which costs nothing.
    """
    labels = y[:, rng.integers(y.shape[1])]
    order = rng.permutation(len(labels))
    out, rest = np.split(order, [len(order) // 5])
    train = rest[: round(len(rest) * float(rng.choice(shares)))]
    if min(labels[train].sum(), (1 - labels[train]).sum()) < N_FOLDS or not 0 < labels[out].sum() < len(out):
        return None

    def run() -> float:
        head = LogisticRegressionCV(
            Cs=STRENGTHS[1:],
            cv=N_FOLDS,
            l1_ratios=(0.0,),
            scoring="roc_auc",
            max_iter=1000,
            use_legacy_attributes=False,
        ).fit(x[train], labels[train])
        return float(roc_auc_score(labels[out], head.decision_function(x[out])))

    return run


def run_lccv(x: Array, y: Array, strength: float, sizes: list[int] | None, repeats: int) -> float:
    """A learning curve of one finding by lccv; AUC at its largest size.

    Args:
        x: Shape ``(n, d)``.
        y: Shape ``(n,)``.
        strength: Of the same learner at every size, as ours has it.
        sizes: Training sizes, each measured `repeats` times; None = lccv's own, with its own rule of how often.
        repeats: Where `sizes` are given.
    """
    from lccv import lccv

    given = {
        "schedule": sizes,
        "enforce_all_anchor_evaluations": True,
        "min_evals_for_stability": repeats,
        "max_evaluations": repeats,
    }
    head = LogisticRegression(C=strength, max_iter=1000)
    with sklearn.config_context():  # it changes the configuration
        mean = lccv(head, x, y, r=0.0, target_anchor=0.8, base_scoring="roc_auc", **(given if sizes else {}))[
            0
        ]
    return float(mean)


def doubt_by_cleanlab(x: Array, y: Array, strength: float) -> Array:
    """How far each label of one finding is to be believed, by cleanlab with the same learner and as many folds; lower = more in doubt."""
    from cleanlab.classification import CleanLearning

    head = LogisticRegression(C=strength, max_iter=1000)
    issues = CleanLearning(head, cv_n_folds=N_FOLDS, seed=0).find_label_issues(x, y.astype(int))
    return np.asarray(issues["label_quality"])


def ask_by_cleanlab(p: Array, n: int) -> NDArray[np.intp]:
    """The rows that cleanlab's ActiveLab score would have labelled next, of one finding's probabilities ``(m,)``."""
    from cleanlab.multiannotator import get_active_learning_scores

    _, scores = get_active_learning_scores(pred_probs_unlabeled=np.column_stack([1 - p, p]))
    return np.argsort(scores, kind="stable")[:n]
