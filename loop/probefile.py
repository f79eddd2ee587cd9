"""A probe as a file of its own: heads, the encoder that they need, and what is known of how good they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from loop.commits import whole
from loop.encoders import Encoder
from loop.encoders.embed import Workers
from loop.encoders.reducing import named
from loop.encoders.table import TableEncoder, read_table
from loop.errors import BadInput
from loop.opening import require_asked
from loop.pictures import Picture
from loop.probe import Probe
from loop.settings import Settings
from loop.state import State
from loop.step_report import as_json
from loop.table import encode_table

KEY = "annotation-loop probe 1"
"""Of the metadata; the only one, for safetensors writes several in any order."""

TENSORS = ("coef", "intercept", "strength", "fitted", "n_positive", "n_negative")


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
    """

    project: str
    probe: Probe
    encoder: str
    fingerprint: str
    side: int
    findings: dict[str, Any]
    labels: int
    at: str

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
        }


@dataclass(frozen=True, slots=True)
class Scored:
    """What `loop predict` wrote.

    Attributes:
        out: The table of scores.
        images: Images that were found.
        rows: Of these, scored.
        findings: Findings that have a score.
        not_fitted: Finding to why it has none.
        problems: Images without a score, each with its reason.
    """

    out: str
    images: int
    rows: int
    findings: tuple[str, ...]
    not_fitted: dict[str, str]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


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


def write_probe_file(told: ProbeFile, out: Path) -> None:
    """Write a probe as safetensors; equal probes give equal bytes.

    Raises:
        OSError: It cannot be written there; what was there stays.
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(getattr(told.probe, name)) for name in TENSORS}
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
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read as a probe ({error}). Export it again with `loop export`."
        ) from None
    if not isinstance(about, dict) or about.pop("sha256", None) != _digest(about, parts):
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
        )
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} lacks what a probe needs. Export it again with `loop export`.") from None
    if not _fits(probe):
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


def score_pictures(
    told: ProbeFile,
    pictures: Sequence[Picture],
    encoder: Encoder,
    out: Path,
    stores: Path | None,
    batch_size: int,
    shows: Callable[[str, int, int], None],
    workers: Workers | None = None,
) -> Scored:
    """Score new images, and write a CSV: ``file``, then a probability a finding. It appears whole or not at all.

    Args:
        told: The probe.
        pictures: What `find_pictures` found.
        encoder: The model that the probe names.
        out: The CSV.
        stores: Folder that keeps the embeddings, so that a second run need not encode; None = they are not kept.
        batch_size: Images a batch.
        shows: Told of the progress.
        workers: Who embeds; None = this process.

    A table of vectors that somebody else computed is believed to be of the same model: its fingerprint is that of its numbers.

    Raises:
        BadInput: Another encoder, or none of the images can be used.
    """
    if isinstance(encoder, TableEncoder) and told.encoder.startswith("features:"):
        if encoder.dim != len(told.probe.coef):
            raise BadInput(
                f"The probe's vectors have {len(told.probe.coef):,} numbers, those of {encoder.path} {encoder.dim:,}: they are of "
                "another model."
            )
    elif encoder.fingerprint != told.fingerprint:
        raise BadInput(
            f"The probe was trained on {told.encoder} with the fingerprint {told.fingerprint[:8]}; here {encoder.spec} has "
            f"{encoder.fingerprint[:8]}: other weights or preprocessing, to which its heads mean nothing. Use the same files and "
            "versions, or train and export anew."
        )
    with TemporaryDirectory(prefix="loop-predict-") as folder:
        table = Path(folder) / "features.npz"
        tabled = encode_table(pictures, encoder, table, stores or Path(folder), batch_size, shows, workers)
        vectors, names = read_table(table)
    proba = told.probe.predict(vectors.astype(np.float32))  # (n, K)
    fitted = told.probe.fitted
    findings = tuple(name for name, has in zip(told.probe.findings, fitted, strict=True) if has)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", *findings])
    rows.writerows(
        [name, *(f"{p:.6f}" for p in scores)] for name, scores in zip(names, proba[:, fitted], strict=True)
    )
    with whole(out) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
    return Scored(str(out), tabled.images, tabled.rows, findings, told.probe.not_fitted(), tabled.problems)


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    """SHA-256 of all that a file holds; safetensors itself has none."""
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for name in TENSORS:
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
