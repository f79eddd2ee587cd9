"""Labelled worlds to replay: real chest X-rays from a folder given by the caller, and simulated ones.

Each world is a project whose every label is known. `half` splits a world by patient: one half is labelled, the truth is
measured on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A data set of which every label is known.

    Attributes:
        name: What it is called in the tables.
        findings: K names.
        features: Embeddings, shape ``(n, d)``.
        y: Labels, shape ``(n, K)``: 1, 0, NaN = not known.
        patients: Shape ``(n,)``.
    """

    name: str
    findings: tuple[str, ...]
    features: NDArray[np.float32]
    y: Array
    patients: NDArray[np.str_]

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp], name: str | None = None) -> World:
        """The world of some of its images."""
        return World(name or self.name, self.findings, self.features[keep], self.y[keep], self.patients[keep])


def half(world: World, which: int, draw: int = 20) -> World:
    """One half of a world's patients; the halves of draw 20 are A and B."""
    names = np.unique(world.patients)
    mine = np.random.default_rng(draw).permutation(names)[which::2]
    return world.rows(np.isin(world.patients, mine))


def kermany(data: Path) -> World:
    """Paediatric chest X-rays: normal, bacterial and viral pneumonia, each against the rest."""
    feat, table = _joined(data / "kermany_lite0_224.npz", data / "kermany_labels.csv")
    pneumonia = table["pneumonia"].to_numpy(float)
    bacterial = pd.to_numeric(table["bacterial"]).to_numpy(float)
    y = np.column_stack([pneumonia, np.where(pneumonia == 1, bacterial, 0), bacterial])
    return World(
        "Kermany",
        ("pneumonia", "bacterial", "bacterial vs viral"),
        feat,
        y,
        table["patient"].to_numpy(dtype=np.str_),
    )


def kermany_rare(data: Path, rare: str, prevalence: float = 0.06) -> World:
    """Normal, bacterial and viral pneumonia, one of them made rare by leaving out patients of it: each class is a finding."""
    world = kermany(data)
    normal, bacterial = world.y[:, 0] == 0, world.y[:, 1] == 1
    classes = {"normal": normal, "viral": ~normal & ~bacterial}
    is_rare = classes.pop(rare)
    names = np.unique(world.patients[is_rare])
    wanted = prevalence / (1 - prevalence) * (~is_rare).sum()
    share = wanted / is_rare.sum()
    kept = np.random.default_rng(6).permutation(names)[: round(share * len(names))]
    keep = ~is_rare | np.isin(world.patients, kept)
    (other,) = classes
    y = np.column_stack([is_rare, bacterial, classes[other]]).astype(float)
    findings = f"{rare} (rare)", "bacterial", other
    return World(f"Kermany, rare {rare}", findings, world.features[keep], y[keep], world.patients[keep])


def nih(data: Path, n_min: int = 20) -> World:
    """NIH ChestX-ray14 images through EfficientNet-Lite0: findings with enough positives, sex and view."""
    feat, table = _joined(data / "nih_lite0_224.npz", data / "nih_labels.csv")
    columns = {
        name: table[name].to_numpy(float)
        for name in table.columns
        if name not in ("file", "name", "patient", "age") and set(table[name].astype(str)) == {"0", "1"}
    }
    columns = {name: y for name, y in columns.items() if n_min <= y.sum() <= len(y) - n_min}
    for name, one in (("sex", "M"), ("view", "AP")):
        if name in table:
            columns[name] = (table[name].astype(str) == one).to_numpy(float)
    return World(
        "NIH Lite0",
        tuple(columns),
        feat,
        np.column_stack(list(columns.values())),
        table["patient"].to_numpy(dtype=np.str_),
    )


def cxnet(data: Path, n_features: int = 300) -> World:
    """NIH ChestX-ray14 test images: CheXNet outputs lifted to random ReLU features, 14 findings."""
    feat, table = _joined(data / "nih_cxnet_logits.npz", data / "nih_cxnet_labels.csv")
    rng = np.random.default_rng(300)
    z = (feat - feat.mean(axis=0)) / feat.std(axis=0)  # (n, 14)
    lifted = np.maximum(z @ rng.normal(size=(z.shape[1], n_features)) / 3 + rng.normal(size=n_features), 0)
    names = tuple(c for c in table.columns if set(table[c].astype(str)) == {"0", "1"})
    return World(
        "CheXNet outputs",
        names,
        lifted.astype(np.float32),
        table[list(names)].to_numpy(float),
        table["patient"].to_numpy(dtype=np.str_),
    )


def simulated(seed: int, n: int = 6_000, d: int = 256) -> World:
    """A Gaussian world: six findings, prevalences 2 to 50 %, a spectrum that falls as a power law."""
    rng = np.random.default_rng([99, seed])
    spectrum = np.arange(1, d + 1) ** (-rng.uniform(0.2, 1.2) / 2)
    x = rng.normal(size=(n, d)) * spectrum  # (n, d)
    prevalences = np.exp(rng.uniform(np.log(0.02), np.log(0.5), 6))
    columns = []
    for prevalence in prevalences:
        weights = rng.normal(size=d) * np.arange(1, d + 1) ** -rng.uniform(0.0, 0.8)
        signal = x @ weights
        signal /= signal.std()
        noisy = signal * rng.uniform(0.6, 3.0) + rng.normal(size=n)
        columns.append(noisy > np.quantile(noisy, 1 - prevalence))
    return World(
        "simulated",
        tuple(f"finding {k} ({p:.0%})" for k, p in enumerate(prevalences)),
        x.astype(np.float32),
        np.column_stack(columns).astype(float),
        np.array([f"p{i}" for i in range(n)]),
    )


def _joined(features: Path, labels: Path) -> tuple[NDArray[np.float32], pd.DataFrame]:
    with np.load(features, allow_pickle=False) as stored:
        feat, names = stored["feat"].astype(np.float32), [str(name) for name in stored["name"]]
    table = pd.read_csv(labels)
    key = "file" if "file" in table else "name"
    table = table.set_index(key).loc[names].reset_index()
    return feat, table


WORLDS: dict[str, Callable[[Path], World]] = {
    "kermany": kermany,
    "rare-normal": lambda data: kermany_rare(data, "normal"),
    "rare-viral": lambda data: kermany_rare(data, "viral"),
    "nih": nih,
    "cxnet": cxnet,
}
