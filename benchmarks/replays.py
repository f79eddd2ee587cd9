"""Replay a labelled world batch by batch, and keep everything that an estimate may be made of.

The batches, probes and parts are those of the product (`loop.strategies`, `loop.probe`, `forecasting.curve`); what
is left out is the state, Label Studio, and the decision to stop: every replay goes on to the end, so that any
estimator and any rule can be judged on it afterwards.

A true AUC is that of the probe trained on the labels so far, on patients that are never labelled, each patient
counting once. It has an error of its own, see `Replay.test_counts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from label_peers import PEERS, Asked
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from worlds import Array, World

from loop.features import FeatureTable
from loop.probe import Probe, fit_probe, fit_projection
from loop.strategies import Pick, Seen, Vectors, select_batch

LOOKS = (50, 100, 150, 200, 250, 300, 350, 400, 500, 600, 700, 800)
"""Labels at which the learning curve is refitted."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """The labels at one moment of a replay.

    Attributes:
        n: Images labelled.
        rows: The images, in the order of their ids, shape ``(n,)``: rows of the world.
        is_random: Shape ``(n,)``.
        strength: The probe's choice, shape ``(K,)``; NaN where no head is fitted.
        pool_proba: The probe's probabilities for a fixed sample of the pool, shape ``(200, K)``.
    """

    n: int
    rows: NDArray[np.intp]
    is_random: NDArray[np.bool_]
    strength: Array
    pool_proba: Array


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """One replay.

    Attributes:
        world: Name of the world.
        findings: K names.
        seed: Draws everything.
        random_share: Of every batch but the first.
        looks: Where estimates are made.
        n_labels: Labels at each trained probe, shape ``(T,)``.
        true_auc: Its AUC, shape ``(T, K)``; NaN where it cannot be measured.
        test_counts: Positives and negatives behind it, shape ``(2, K)``.
        asked: Random images of each batch and the scores they had when asked: ``(rows, scores (r, K))``.
    """

    world: str
    findings: tuple[str, ...]
    seed: int
    random_share: float
    looks: tuple[Look, ...]
    n_labels: NDArray[np.intp]
    true_auc: Array
    test_counts: Array
    asked: tuple[tuple[NDArray[np.intp], Array], ...]

    def truth(self, n: float) -> Array:
        """True AUC at `n` labels, interpolated on log n, shape ``(K,)``; NaN beyond the end."""
        if n > self.n_labels[-1]:
            return np.full(len(self.findings), np.nan)
        at = np.log(self.n_labels)
        return np.array([np.interp(np.log(n), at, column) for column in self.true_auc.T])


def replay(
    world: World,
    test: World,
    seed: int,
    random_share: float,
    max_labels: int,
    batch: int = 50,
    strategy: str = "uncertainty",
    cold_start: str = "random",
) -> Replay:
    """Label a world in batches to the end; the truth is measured on `test`.

    The random stream is half of the patients, as in the product, or all of them where nothing else is asked. With a share
    of 0 there is none, and no random floor: a strategy or one of `label_peers.PEERS` is alone, as other tools run.
    """
    peer = PEERS.get(strategy)
    if peer is not None and random_share != 0:
        raise ValueError(f"{strategy} is only run alone, not beside a random share of {random_share}")
    rng = np.random.default_rng([seed, 7])
    left = rng.permutation(np.unique(world.patients))
    streamed = {0: 0, 1: len(left)}.get(random_share, len(left) // 2)
    stream = _one_each(world, left[:streamed], rng)
    random_next = list(stream)
    pool = np.arange(len(world.patients))
    active = list(np.flatnonzero(np.isin(world.patients, left[streamed:])))
    projection = fit_projection(world.features[pool], 256)
    key = {row: f"{row:08d}" for row in pool}
    table = FeatureTable(list(key.values()), world.features)
    fixed = rng.choice(pool, min(200, len(pool)), replace=False)

    labelled: list[int] = []
    drawn: dict[int, bool] = {}
    looks: list[Look] = []
    n_labels: list[int] = []
    truth: list[Array] = []
    asked: list[tuple[NDArray[np.intp], Array]] = []
    probe: Probe | None = None
    while True:
        n = len(labelled)
        size = batch if n < 800 else batch * 4
        size = min(size, max_labels - n)
        if size <= 0 or (not random_next and not active):
            break
        first = probe is None and cold_start == "random"
        share = 1.0 if first and random_share else random_share
        proba = (
            np.full((len(active), len(world.findings)), np.nan)
            if probe is None
            else probe.predict(world.features[active])
        )
        if peer is None:
            picks = select_batch(
                strategy if probe is not None else cold_start,
                size,
                share,
                [key[i] for i in random_next],
                [key[i] for i in active] if share < 1 else [],
                proba if share < 1 else proba[:0],
                [str(world.patients[i]) for i in active] if share < 1 else [],
                world.findings,
                np.random.default_rng([seed, 8, n]),
                random_floor=0.2 if random_share else 0.0,
                seen=Seen(
                    table,
                    projection,
                    [key[i] for i in labelled],
                    world.y[labelled],
                    world.patients[labelled],
                    np.ones(len(world.findings), bool),
                    probe,
                ),
            )
        else:
            vectors = Vectors(table, list(key.values()), projection)
            asked_now = Asked(
                vectors.read(np.array(labelled, np.intp)),
                world.y[labelled],
                vectors.read(np.array(active)),
                proba,
                min(size, len(active)),
                seed * 1_000 + n,
            )
            chosen = [key[active[row]] for row in peer(asked_now)]
            picks = [Pick(item, "active", strategy, "", 1.0, np.nan) for item in chosen]
        if not picks:
            break
        rows = [int(pick.item) for pick in picks]
        random_rows = np.array(
            [r for r, p in zip(rows, picks, strict=True) if p.stream == "random"], dtype=np.intp
        )
        scores = (
            np.full((len(random_rows), len(world.findings)), np.nan)
            if probe is None
            else probe.predict(world.features[random_rows])
        )
        asked.append((random_rows, scores))
        drawn |= {r: p.stream == "random" for r, p in zip(rows, picks, strict=True)}
        labelled = sorted([*labelled, *rows])
        taken = set(rows)
        random_next = [i for i in random_next if i not in taken]
        active = [i for i in active if i not in taken]

        at = np.array(labelled)
        probe = fit_probe(
            world.features[at],
            world.y[at],
            world.patients[at],
            world.findings,
            projection,
            np.random.default_rng([seed, 9, len(at)]),
        )
        n_labels.append(len(at))
        truth.append(_measure(test, probe))
        if len(at) in LOOKS:
            looks.append(
                Look(
                    len(at),
                    at,
                    np.array([drawn[i] for i in at]),
                    probe.strength,
                    probe.predict(world.features[fixed]),
                )
            )
    return Replay(
        world.name,
        world.findings,
        seed,
        random_share,
        tuple(looks),
        np.array(n_labels),
        np.array(truth),
        count_test(test),
        tuple(asked),
    )


def measure_all(world: World, test: World, seed: int) -> Array:
    """True AUC of a probe trained on every image of a world, shape ``(K,)``."""
    projection = fit_projection(world.features, 256)
    rng = np.random.default_rng([seed, 9, len(world.y)])
    probe = fit_probe(world.features, world.y, world.patients, world.findings, projection, rng)
    return _measure(test, probe)


def _one_each(world: World, patients: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.intp]:
    """One image of each patient, in the order of the patients."""
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(world.patients):
        rows.setdefault(patient, []).append(row)
    return np.array([rng.choice(rows[patient]) for patient in patients], dtype=np.intp)


def _measure(test: World, probe: Probe) -> Array:
    proba = probe.predict(test.features)  # (t, K)
    _, patient, images = np.unique(test.patients, return_inverse=True, return_counts=True)
    weight = 1.0 / images[patient]
    measured = np.full(len(test.findings), np.nan)
    for k in range(len(test.findings)):
        y = test.y[:, k]
        there = ~np.isnan(y) & ~np.isnan(proba[:, k])
        if there.any() and min((y[there] == 1).sum(), (y[there] == 0).sum()) >= 5:
            measured[k] = roc_auc_score(y[there], proba[there, k], sample_weight=weight[there])
    return measured


def count_test(test: World) -> Array:
    """Positives and negatives behind a true AUC, in patients' weights, shape ``(2, K)``."""
    _, patient, images = np.unique(test.patients, return_inverse=True, return_counts=True)
    weight = (1.0 / images[patient])[:, None]
    return np.stack([(weight * (test.y == value)).sum(axis=0) for value in (1, 0)])
