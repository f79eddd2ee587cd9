"""Other tools' rules as their users run them: alone, on the whole pool, with no random stream and no random floor.

| name | source | how it is asked here |
|---|---|---|
| skactiveml | scikit-activeml 1.0.1, `pool.TypiClust` until the probe has a head, then `pool.Badge` | one finding at a time (it knows no others): the batch is shared out among those that have a head, in turn |
| mundig | lightly-mundig 0.1.16, `Selection` | diversity beside what is labelled, times the uncertainty of the least certain finding once there is a head |

Both get what our strategies get: embeddings standardised and of length one, and the probe's probabilities. modAL's rules need
no place here: our `entropy` and `ranked` are its own picks, and `replay` with a random share of 0 runs them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a peer may look at.

    Attributes:
        labelled: Embeddings, shape ``(n, d)``.
        y: Their labels, shape ``(n, K)``: 1, 0, NaN = not known.
        pool: Embeddings of what may be asked, shape ``(m, d)``.
        proba: The probe's probabilities, shape ``(m, K)``; NaN = no head.
        n: How many images are wanted.
        seed: Of whatever is drawn.
    """

    labelled: NDArray[np.float32]
    y: Array
    pool: NDArray[np.float32]
    proba: Array
    n: int
    seed: int


def skactiveml(asked: Asked) -> list[int]:
    """TypiClust, then BADGE; rows of the pool."""
    from skactiveml.pool import Badge, TypiClust

    n_known = len(asked.labelled)
    x = np.concatenate([asked.labelled, asked.pool])
    heads = np.flatnonzero(~np.isnan(asked.proba).all(axis=0))
    if not len(heads):
        answers = np.full(len(x), np.nan)
        answers[:n_known] = 0  # TypiClust only asks what is labelled
        rows = TypiClust(random_state=asked.seed).query(x, answers, batch_size=asked.n)
        return [int(row) - n_known for row in rows]
    taken: list[int] = []
    shares = [len(part) for part in np.array_split(np.arange(asked.n), len(heads))]
    turn = np.random.default_rng(asked.seed).permutation(heads)
    for k, share in zip(turn, shares, strict=True):
        if not share:
            continue
        left = np.setdiff1d(np.arange(len(asked.pool)), taken)
        answers = np.concatenate([np.nan_to_num(asked.y[:, k]), np.full(len(asked.pool), np.nan)])
        rows = Badge(random_state=asked.seed).query(
            x,
            answers,
            clf=_told(asked.proba[left, k]),
            fit_clf=False,
            candidates=left + n_known,
            batch_size=min(share, len(left)),
        )
        taken += [int(row) - n_known for row in rows]
    return taken


def _told(positive: Array):  # type: ignore[no-untyped-def]
    """A classifier of scikit-activeml that answers with these probabilities, shape ``(m,)``."""
    from skactiveml.base import SkactivemlClassifier

    class Told(SkactivemlClassifier):
        def fit(self, X, y, sample_weight=None):  # type: ignore[no-untyped-def]
            return self

        def predict_proba(self, X):  # type: ignore[no-untyped-def]
            assert len(X) == len(positive)
            return np.column_stack([1 - positive, positive])

    told = Told(classes=[0, 1])
    told.classes_ = np.array([0, 1])
    return told


def mundig(asked: Asked) -> list[int]:
    """Diversity, times uncertainty once there is a head; rows of the pool."""
    from lightly_mundig import Selection

    n_known = len(asked.labelled)
    x = np.concatenate([asked.labelled, asked.pool])
    selection = Selection()
    selection.add_diversifying_strategy(x, 1.0, None)
    heads = ~np.isnan(asked.proba).all(axis=0)
    if heads.any():
        unsure = (1 - np.abs(2 * asked.proba[:, heads] - 1)).max(axis=1)
        selection.add_weighting_strategy(np.concatenate([np.ones(n_known), unsure]).tolist(), 1.0)
    picks = selection.run_selection(list(range(n_known)), len(x), n_known + asked.n)
    return [int(row) - n_known for row in picks[n_known:]]


PEERS: dict[str, Callable[[Asked], list[int]]] = {"skactiveml": skactiveml, "mundig": mundig}
