"""A probe as a file of its own: heads, the encoder that they need, and what is known of how good they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from loop.commits import whole
from loop.encoders.reducing import named
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.likeness import Likeness, measure_likeness
from loop.opening import require_asked
from loop.probe import Probe
from loop.settings import Settings
from loop.state import State

KEY = "annotation-loop probe 1"
"""Of the metadata; the only one, for safetensors writes several in any order."""

TENSORS = ("coef", "intercept", "strength", "fitted", "n_positive", "n_negative")
ARCHIVE = ("archive_mean", "archive_scale")
SAMPLE = 20_000  # images of an archive; mean and deviation need no more


@dataclass(frozen=True, slots=True, eq=False)
class ProbeFile:
    """A probe and what it needs to be used.

    Attributes:
        project: Whose labels trained it.
        probe: One head a finding, on the encoder's raw vectors: standardising, and what mends the probabilities on random images
            (`forecasting.calibration`), are folded into the weights.
        encoder: How the frozen model is asked for.
        fingerprint: Hash of its weights and preprocessing; another model's vectors mean nothing to the heads.
        side: Shorter side to which larger images were reduced before; 0 = not at all.
        findings: Per finding what the last decision said: AUC now with its interval, verdict, target, calibration.
        labels: Labelled images that trained it.
        at: When, ISO 8601.
        likeness: Where the archive's images lie, so that others can be told; None = too few, or the embeddings were not there.
    """

    project: str
    probe: Probe
    encoder: str
    fingerprint: str
    side: int
    findings: dict[str, Any]
    labels: int
    at: str
    likeness: Likeness | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the weights, as JSON-ready values."""
        return {
            "project": self.project,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "dim": len(self.probe.coef),
            "side": self.side,
            "labels": self.labels,
            "at": self.at,
            "not_fitted": self.probe.not_fitted(),
            "findings": self.findings,
            "radius": self.likeness.radius if self.likeness else None,
        }


def read_project_probe(settings: Settings) -> ProbeFile:
    """The probe that a project trained last, with the decision in force.

    Raises:
        BadInput: The project was not started, or no probe was trained yet.
    """
    with State.started(settings.state_url) as state:
        require_asked(settings, state)
        stored, last, encoder = state.probe(), state.last_report(), state.fact("encoder")
        if stored is None or last is None or encoder is None:
            raise BadInput(
                "No probe was trained yet. Label the first batch, run `loop step`, then export again."
            )
        trained_on = named(last.get("encoder") or settings.encoder.spec, settings.images.side)
        if encoder["spec"] != trained_on:
            raise BadInput(
                f"The last probe was trained on {trained_on}, and the project has changed to {encoder['spec']} since. Run `loop step`, then "
                "export again."
            )
        return ProbeFile(
            project=settings.project.name,
            probe=_mended(Probe.from_bytes(stored), last["findings"]),
            encoder=last.get("encoder") or settings.encoder.spec,
            fingerprint=encoder["fingerprint"],
            side=settings.images.side,
            findings={name: _told(one) for name, one in last["findings"].items()},
            labels=int(last["labels"]["total"]),
            at=last["at"],
        )


def add_likeness(told: ProbeFile, settings: Settings) -> ProbeFile:
    """The same probe with where the project's images lie, if their embeddings are there."""
    folder = settings.features_folder / told.fingerprint
    if not folder.is_dir():
        return told
    features = FeatureStore.open(folder, told.fingerprint, len(told.probe.coef))
    rng = np.random.default_rng([settings.project.seed, 4])
    with State.started(settings.state_url) as state:
        held = [item.item for item in state.items() if features.has(item.item)]
    chosen = rng.choice(len(held), min(len(held), SAMPLE), replace=False)
    sample = features.read([held[row] for row in np.sort(chosen)])
    return replace(told, likeness=measure_likeness(sample, rng))


def write_probe_file(told: ProbeFile, out: Path) -> None:
    """Write a probe as safetensors; equal probes give equal bytes.

    Raises:
        OSError: It cannot be written there; what was there stays.
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(getattr(told.probe, name)) for name in TENSORS}
    if told.likeness is not None:
        tensors |= dict(zip(ARCHIVE, (told.likeness.mean, told.likeness.scale), strict=True))
    about = {**told.to_json(), "finding_names": list(told.probe.findings), "n_min": told.probe.n_min}
    metadata = {KEY: json.dumps({**about, "sha256": _digest(about, tensors)}, sort_keys=True)}
    with whole(out) as draft:
        draft.write_bytes(save(tensors, metadata=metadata))


def read_probe_file(path: Path) -> ProbeFile:
    """Read a probe back.

    Raises:
        BadInput: The file is no probe, or a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise BadInput(f"{path} is no probe that `loop export` wrote.")
            about = json.loads(metadata[KEY])
            parts: dict[str, Any] = {name: file.get_tensor(name) for name in TENSORS}
            archive: dict[str, Any] = {name: file.get_tensor(name) for name in ARCHIVE if name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read as a probe ({error}). Export it again with `loop export`."
        ) from None
    if not isinstance(about, dict) or about.pop("sha256", None) != _digest(about, parts | archive):
        raise BadInput(
            f"{path} was changed or damaged: its checksum is another. Export it again with `loop export`."
        )
    try:
        names = tuple(map(str, about["finding_names"]))
        probe = Probe(findings=names, n_min=int(about["n_min"]), **parts)
        told = ProbeFile(
            project=str(about["project"]),
            probe=probe,
            encoder=str(about["encoder"]),
            fingerprint=str(about["fingerprint"]),
            side=int(about["side"]),
            findings=dict(about["findings"]),
            labels=int(about["labels"]),
            at=str(about["at"]),
            likeness=Likeness(archive[ARCHIVE[0]], archive[ARCHIVE[1]], float(about["radius"]))
            if archive
            else None,
        )
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} lacks what a probe needs. Export it again with `loop export`.") from None
    if not _fits(probe) or any(part.shape != (len(probe.coef),) for part in archive.values()):
        raise BadInput(f"{path}: heads and findings do not agree. Export it again with `loop export`.")
    return told


def _fits(probe: Probe) -> bool:
    """Whether the parts of a probe have the shapes that they must have, and fitted heads are numbers."""
    k = len(probe.findings)
    rows = (probe.intercept, probe.strength, probe.fitted, probe.n_positive, probe.n_negative)
    return (
        probe.coef.ndim == 2
        and all(part.shape == (k,) for part in (*rows, probe.coef[0] if len(probe.coef) else np.empty(0)))
        and probe.fitted.dtype == np.bool_
        and bool(np.isfinite(probe.coef[:, probe.fitted]).all())
        and bool(np.isfinite(probe.intercept[probe.fitted]).all())
    )


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    """SHA-256 of all that a file holds; safetensors itself has none."""
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for name in (*TENSORS, *(name for name in ARCHIVE if name in tensors)):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _mended(probe: Probe, findings: Mapping[str, Mapping[str, Any]]) -> Probe:
    """A probe whose probabilities are mended as the last decision measured; where it could not, they stay as they are."""
    known = [findings.get(name, {}).get("calibration") or {} for name in probe.findings]
    scale = np.array([told.get("scale", 1.0) for told in known])
    offset = np.array([told.get("offset", 0.0) for told in known])
    coef = (probe.coef * scale).astype(probe.coef.dtype)
    return replace(probe, coef=coef, intercept=probe.intercept * scale + offset)


def _told(finding: dict[str, Any]) -> dict[str, Any]:
    """What of a decision goes with the heads."""
    kept = ("auc", "auc_low", "auc_high", "target", "verdict", "positives", "negatives", "calibration")
    return {name: finding.get(name) for name in kept}
