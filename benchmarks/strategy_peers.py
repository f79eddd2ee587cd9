"""How `bench_strategies.py` asks modAL, lightly-mundig and scikit-activeml for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def prepare_peer(
    what: str,
    labelled: NDArray[np.float16],
    pool: NDArray[np.float16],
    y: Array,
    n_batch: int,
    score: Callable[[], Array],
) -> Callable[[], Sequence[int]]:
    """What a peer needs in float32, and its choice of rows of the pool as a function to be timed.

    Args:
        what: Library and rule, as in `bench_strategies.RIVALS`.
        labelled: Shape ``(n, d)``.
        pool: Shape ``(m, d)``.
        y: Labels, shape ``(n,)``.
        n_batch: Images wanted.
        score: Gives the pool's probabilities, shape ``(m,)``, the same that ours uses.
    """
    from sklearn.linear_model import LogisticRegression

    n_known = len(labelled)
    x = np.concatenate([labelled, pool], dtype=np.float32)
    labelled, pool = x[:n_known], x[n_known:]  # type: ignore[assignment]
    library, _, name = what.partition(" ")
    if library == "modAL":
        from modAL import batch, uncertainty

        class Learner:
            X_training, on_transformed = labelled, False

            def predict_proba(self, some: NDArray[np.float32]) -> Array:
                return both

        p = score()
        both, learner = np.column_stack([1 - p, p]), Learner()  # the same answers as ours
        query = getattr(batch, name, None) or getattr(uncertainty, name)
        return lambda: query(learner, pool, n_instances=n_batch)[0]
    if library == "lightly-mundig":
        from lightly_mundig import Selection

        unsure = 1 - np.abs(2 * score() - 1) if "uncertainty" in name else None

        def select() -> Array:
            selection = Selection()
            selection.add_diversifying_strategy(x, 1.0, None)
            if unsure is not None:
                selection.add_weighting_strategy(np.concatenate([np.ones(n_known), unsure]).tolist(), 1.0)
            picks = selection.run_selection(list(range(n_known)), len(x), n_known + n_batch)
            return np.array(picks[n_known:]) - n_known

        return select
    from skactiveml import pool as strategies
    from skactiveml.classifier import SklearnClassifier

    asked = getattr(strategies, name)(random_state=0)
    answers = np.concatenate([y, np.full(len(pool), np.nan)])
    if name in ("CoreSet", "TypiClust"):
        return lambda: asked.query(x, answers, batch_size=n_batch) - n_known
    if name == "QueryByCommittee":
        members = [
            (
                str(i),
                SklearnClassifier(LogisticRegression(C=0.1, max_iter=500), classes=[0, 1], random_state=i),
            )
            for i in range(8)
        ]
        from sklearn.ensemble import VotingClassifier

        ensemble = SklearnClassifier(VotingClassifier(members, voting="soft"), classes=[0, 1])
        return lambda: asked.query(x, answers, ensemble=ensemble, batch_size=n_batch) - n_known
    model = SklearnClassifier(LogisticRegression(C=0.1, max_iter=500), classes=[0, 1])
    return lambda: np.asarray(asked.query(x, answers, clf=model, batch_size=n_batch)) - n_known
