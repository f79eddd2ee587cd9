"""Which encoder? Those of a project's feature store, or tables of embeddings, compared on the same labels and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forecasting.plots import save
from forecasting.plots_compare import comparison_info, draw_comparison
from forecasting.scorekeeping import score_forecasts
from forecasting.words import counted, listed
from loop.archive import read_archive
from loop.comparison import Comparison, compare
from loop.errors import BadInput
from loop.features import FeatureStore, FeatureTable, read_about
from loop.history import read_promises, take_looks
from loop.opening import open_book_of, read_history
from loop.sections import ForecastSettings
from loop.settings import Settings, make_settings
from loop.state import State
from loop.stores import ENOUGH, find_folders


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Labels of images that were drawn at random."""

    findings: tuple[str, ...]
    y: NDArray[np.float64]
    patients: NDArray[np.str_]
    is_random: NDArray[np.bool_]


def compare_project(settings: Settings) -> Comparison:
    """Compare every encoder in a project's feature store on the project's labels; the one in use comes first.

    Raises:
        BadInput: The project was not started, has too few labels, or only one encoder.
    """
    with State.started(settings.state_url) as state:
        return compare_state(settings, state)


def compare_state(settings: Settings, state: State) -> Comparison:
    """As `compare_project`, of a state that is open."""
    stores = find_stores(settings, state)
    held = state.items()
    labelled = open_book_of(held, state, settings).items
    shares = {name: sum(map(store.has, labelled)) / max(1, len(labelled)) for name, store in stores.items()}
    left_out = tuple(
        f"{name}: it has embeddings of {share:.0%} of the labelled images. Encode the others, then compare."
        for name, share in shares.items()
        if share < ENOUGH
    )
    kept = {name: store for name, store in stores.items() if shares[name] >= ENOUGH}
    if len(kept) < 2:
        raise BadInput(
            f"{settings.folder} has embeddings of {listed(list(kept))} only, so there is nothing to compare. Encode the "
            "images with another encoder, then compare again."
            + "".join(f" Left out: {line}" for line in left_out)
        )
    pool = [item for item in held if all(store.has(item.item) for store in kept.values())]
    book, last = open_book_of(pool, state, settings), state.last_round()
    ids = [item.item for item in pool]
    history = read_history(state)
    score = score_forecasts(read_promises(history), take_looks(book, history), settings.forecast.level)
    return compare(
        {name: (store, ids, book.items) for name, store in kept.items()},
        book,
        settings,
        0 if last is None else last.number,
        score.widening,
        left_out,
    )


def find_stores(settings: Settings, state: State) -> dict[str, FeatureStore]:
    """The project's embeddings by encoder, the one in use first.

    Raises:
        BadInput: No image was encoded yet, or a store is damaged.
    """
    made = {fact["fingerprint"]: fact["spec"] for fact in state.facts("encoder")}
    in_use = state.fact("encoder")
    if in_use is None:
        raise BadInput("No image was encoded yet. Run `loop start` first.")
    found: dict[str, FeatureStore] = {}
    folders = find_folders(settings.features_folder)
    for folder in sorted(folders, key=lambda folder: folder.name != in_use["fingerprint"]):
        about = read_about(folder)
        name = made.get(about.fingerprint) or about.spec or about.fingerprint
        if name in found:  # the same name with other weights
            name = f"{name} ({about.fingerprint[:8]})"
        found[name] = FeatureStore(folder, about.dim)
    return found


def compare_tables(
    tables: Sequence[Path],
    labels: Path,
    group: str | None,
    findings: Sequence[str],
    *,
    target: float,
    labels_used: int | None,
    level: float,
    seed: int,
) -> Comparison:
    """Compare tables of embeddings on the labels of a CSV; the first table is the encoder that a change would be from.

    Args:
        tables: ``.npz`` files as `loop simulate` takes them; each is an encoder, named by its file.
        labels: As for `loop.archive.read_labels`.
        group: Likewise.
        findings: Likewise.
        target: AUC to reach.
        labels_used: Use a random sample of this many labelled images; None = all.
        level: Level of the intervals of AUC.
        seed: Draws the sample and the folds.

    Raises:
        BadInput: A file cannot be used, fewer than two tables, fewer labelled images in all of them than asked for.
    """
    if len(tables) < 2:
        raise BadInput("Name at least two tables of embeddings to compare, e.g. a.npz b.npz.")
    stems = [path.stem for path in tables]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in tables]
    archives = dict(zip(names, (read_archive(path, labels, group, findings) for path in tables), strict=True))
    if len(archives) < len(tables):
        raise BadInput(f"{listed(names)}: a table is named twice.")
    first = archives[names[0]].labels
    common = set.intersection(*(set(archive.labels.names) for archive in archives.values()))
    rows = np.array([row for row, name in enumerate(first.names) if name in common], dtype=np.intp)
    ids = [first.names[row] for row in rows]
    known = rows[~np.isnan(first.y[rows]).all(axis=1)]
    if labels_used is not None and labels_used > len(known):
        raise BadInput(
            f"{len(known):,} labelled images are in all tables; --labels-used {labels_used:,} is more."
        )
    enough = ForecastSettings().from_labels
    most = max(len(archive.labels.names) for archive in archives.values())
    if len(known) < enough <= most:
        least = min(archives, key=lambda name: len(archives[name].labels.names))
        raise BadInput(
            f"{counted(len(known), 'labelled image')} stand in all tables, and a learning curve needs {enough}: {least} holds "
            f"only {counted(len(archives[least].labels.names), 'labelled image')}. Encode the same images with each."
        )
    chosen = np.sort(np.random.default_rng([seed, 0]).permutation(known)[:labels_used])
    settings = make_settings(
        {
            "project": {"name": "comparison", "findings": list(first.findings), "seed": seed},
            "stop": {"target": target, "tolerance": min(0.03, target - 0.5)},
            "forecast": {"level": level},
        }
    )
    used = tuple(first.names[row] for row in chosen)
    drawn = _Drawn(
        first.findings, first.y[chosen], first.patients[chosen], np.ones(len(chosen), dtype=np.bool_)
    )
    embedded = {
        name: (FeatureTable(archive.labels.names, archive.features), ids, used)
        for name, archive in archives.items()
    }
    return compare(embedded, drawn, settings, 0)


def draw_encoders(told: Comparison, path: Path) -> None:
    """Draw one panel a finding, one curve an encoder, to a .png or .svg file."""
    infos = [
        comparison_info(
            {name: (one.curve, forecast) for name, (one, forecast) in by_encoder.items()},
            told.targets[finding],
            told.level,
        )
        for finding, by_encoder in told.curves.items()
    ]
    save(draw_comparison(infos), path)
