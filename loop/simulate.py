"""Replay a fully labelled data set as if it were being annotated: the same controller, an oracle for a desk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from annotate.records import Label, Pull, Receipt, Roll, Suggestion, Task
from loop.archive import Archive, read_archive
from loop.controller import ask_first_batch, step
from loop.features import FeatureTable
from loop.items import Item, draw_streams
from loop.opening import project_pool
from loop.probe import Probe
from loop.project import Loop
from loop.settings import Settings, make_settings
from loop.state import State
from loop.step_report import StepReport, as_json

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)  # a simulation's clock starts here and moves a second a call


class Oracle:
    """A desk at which every asked image is answered at once, with the known label."""

    overlap = timedelta(0)

    def __init__(self, answers: Mapping[int, Mapping[str, float]], clock: Ticks) -> None:
        self._answers = answers
        self._clock = clock
        self._asked: dict[int, datetime] = {}

    def push(self, version: str, suggestions: Sequence[Suggestion]) -> Receipt:
        """Answer the batch."""
        at = self._clock()
        for suggestion in suggestions:
            self._asked.setdefault(suggestion.task_id, at)
        return Receipt(version, len(suggestions), tuple(s.task_id for s in suggestions), ())

    def pull(self, since: datetime | None) -> Pull:
        """The answers given since the watermark."""
        changed = [task_id for task_id, at in self._asked.items() if since is None or at >= since]
        tasks = tuple(
            Task(task_id, None, "", self._asked[task_id], (self._label(task_id),)) for task_id in changed
        )
        return Pull(tasks, max(self._asked.values(), default=None))

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        """All of them."""
        return set(task_ids)

    def keep_serving(self, version: str) -> tuple[str, ...]:
        """Nobody changes a simulation's queue."""
        return ()

    def go_back(self, version: str, n: int, suggestions: Sequence[Suggestion]) -> tuple[str, ...] | None:
        """Every batch is answered at once, so there is no queue to go back to."""
        return ()

    def ask_no_more(self, task_ids: Sequence[int]) -> None:
        """One person answers."""

    def unpush(self, versions: Sequence[str]) -> int:
        """Nothing was kept of a batch."""
        return 0

    def roll(self, up_to: int | None = None) -> Roll:
        """As many tasks as there are answers; none is ever deleted."""
        return Roll(len(self._answers), len(self._answers))

    def _label(self, task_id: int) -> Label:
        at = self._asked[task_id]
        return Label(
            annotation_id=task_id,
            task_id=task_id,
            annotator="oracle",
            created_at=at,
            updated_at=at,
            lead_time_s=None,
            skipped=False,
            ground_truth=False,
            answers=self._answers[task_id],
            problem=None,
            raw=json.dumps({"oracle": task_id}),
        )


class Ticks:
    """A clock that moves one second a call, so that a simulation tells the same times twice."""

    def __init__(self) -> None:
        self._now = EPOCH

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def simulate_files(
    features: Path,
    labels: Path,
    group: str | None,
    findings: Sequence[str],
    *,
    target: float,
    strategy: str,
    random_share: float,
    batch: int,
    max_labels: int,
    evidence: str,
    rule: str,
    test_fraction: float,
    seed: int,
    at_stop: Callable[[Loop], object] | None = None,
) -> dict[str, Any]:
    """Annotate an archive that lies in files; see `simulate`."""
    archive = read_archive(features, labels, group, findings)
    settings = make_settings(
        {
            "project": {"name": "simulation", "findings": list(archive.labels.findings), "seed": seed},
            "images": {"source": str(features)},
            "batch": {
                "size": batch,
                "random_share": random_share,
                "strategy": strategy,
                "finished_share": 1.0,
            },
            "stop": {"target": target, "evidence": evidence, "rule": rule, "budget": max_labels},
        }
    )
    return simulate(archive, settings, test_fraction, at_stop)


def simulate(
    archive: Archive,
    settings: Settings,
    test_fraction: float,
    at_stop: Callable[[Loop], object] | None = None,
) -> dict[str, Any]:
    """Annotate an archive from the first batch to STOP, with the controller of a real project.

    Args:
        archive: The labelled data.
        settings: As for a real project; ``stop.budget`` ends the run, ``project.seed`` makes it repeatable.
        test_fraction: Share of patients that are never labelled; the deployed probe's true AUC is measured on them.
        at_stop: Called with the loop after its last turn, while its state is there.

    Returns:
        ``{"rounds": [{"labels", "findings", "verdict"}], "verdict", ...}``, ready for JSON.
    """
    known = archive.labels
    rng = np.random.default_rng([settings.project.seed, 0])
    is_test = draw_test(known.patients, test_fraction, rng)  # (n,)
    pool, test = np.flatnonzero(~is_test), archive.rows(np.flatnonzero(is_test))
    names = [known.names[i] for i in pool]
    items = [
        Item(known.names[i], Path(known.names[i]), str(known.patients[i]), "active", None, {}) for i in pool
    ]
    answers = {int(i): dict(zip(known.findings, map(float, known.y[i]), strict=True)) for i in pool}
    clock = Ticks()
    features = FeatureTable(names, archive.features[pool])
    with State.create(":memory:") as state:
        state.add_items(draw_streams(items, rng, len(items)))
        state.add_tasks({known.names[i]: int(i) for i in pool}, clock())
        projection = project_pool(features, names, settings)
        loop = Loop(settings, state, Oracle(answers, clock), features, projection, clock)
        ask_first_batch(loop)
        rounds: list[dict[str, Any]] = []
        while not rounds or rounds[-1]["verdict"] == "CONTINUE":
            report = step(loop)
            true_auc = measure_probe(test, state.probe())
            rounds.append(tell_round(report, true_auc))
        if at_stop is not None:
            at_stop(loop)
    return {
        "project": settings.project.name,
        "seed": settings.project.seed,
        "images": {
            "pool": len(pool),
            "test": int(is_test.sum()),
            "unembedded": archive.n_unembedded,
            "unlabelled": archive.n_unlabelled,
        },
        "rounds": rounds,
        "verdict": report.verdict,
        "reason": report.reason,
        "warnings": [known.doubt] if known.doubt else [],
    }


def sum_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum several seeds up: labels at STOP, and how often a finding was called reached when it was not.

    A verdict is false if the true AUC on the test patients was below the target (below what was tested,
    for CERTIFIED) when it was first said.
    """
    labels = [run["rounds"][-1]["labels"] for run in runs]
    said: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name in run["rounds"][-1]["findings"]:
            told = said.setdefault(
                name, {"likely": 0, "likely_false": 0, "certified": 0, "certified_false": 0, "true_auc": []}
            )
            last = run["rounds"][-1]["findings"][name]
            if last["true_auc"] is not None:
                told["true_auc"].append(last["true_auc"])
            for verdict, key in (("LIKELY REACHED", "likely"), ("CERTIFIED", "certified")):
                first = next(
                    (r["findings"][name] for r in run["rounds"] if r["findings"][name]["verdict"] == verdict),
                    None,
                )
                if first is None:
                    continue
                told[key] += 1
                floor = first["target"] if key == "likely" else first["evidence"]["tested"]
                told[f"{key}_false"] += first["true_auc"] is not None and first["true_auc"] < floor
    for told in said.values():
        aucs = told.pop("true_auc")
        told["true_auc_at_stop"] = float(np.mean(aucs)) if aucs else None
    return {
        "seeds": len(runs),
        "labels_at_stop": {
            "median": float(np.median(labels)),
            "low": int(min(labels)),
            "high": int(max(labels)),
        },
        "findings": said,
    }


def draw_test(patients: NDArray[np.str_], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Set a share of the patients apart; returns a mask over the images, shape ``(n,)``."""
    unique = np.unique(patients)
    return np.isin(patients, rng.permutation(unique)[: round(fraction * len(unique))])


def measure_probe(test: Archive, stored: bytes | None) -> dict[str, float | None]:
    """AUC of a stored probe on patients it never saw.

    Each patient counts once, however many images there are: an image weighs one over its patient's number of
    images. This is the population of the random stream, which asks one random image a patient.

    Args:
        test: Labelled images of these patients.
        stored: The probe, as the state keeps it.

    Returns:
        AUC per finding; None where the probe or the images have too few of a class.
    """
    known = test.labels
    if stored is None or not known.names:
        return dict.fromkeys(known.findings)
    proba = Probe.from_bytes(stored).predict(test.features)  # (n, K)
    _, patient, images = np.unique(known.patients, return_inverse=True, return_counts=True)
    weight = 1.0 / images[patient]  # (n,)
    measured: dict[str, float | None] = {}
    for k, name in enumerate(known.findings):
        there = ~np.isnan(known.y[:, k]) & ~np.isnan(proba[:, k])
        y = known.y[there, k]
        enough = min((y == 1).sum(), (y == 0).sum()) >= 2
        measured[name] = (
            float(roc_auc_score(y, proba[there, k], sample_weight=weight[there])) if enough else None
        )
    return measured


def tell_round(report: StepReport, true_auc: Mapping[str, float | None]) -> dict[str, Any]:
    """One round as `loop simulate --json` and `loop demo --json` give it: the report beside the truth."""
    findings = as_json(report.findings)
    for name, told in findings.items():
        told["true_auc"] = true_auc[name]
    return {
        "labels": report.labels.total,
        "findings": findings,
        "verdict": report.verdict,
        "reason": report.reason,
        "score": as_json(report.score),
    }
