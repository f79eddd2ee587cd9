"""Everything that a third party needs to check a project's verdict, in one zip file."""

from __future__ import annotations

import json
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, StrictUndefined

from forecasting.words import auc_text, count_text
from loop.commits import whole
from loop.errors import BadInput
from loop.evidence_check import Refused, check_pack, settings_at
from loop.ledgerfile import write_lines
from loop.page.figures import page_of
from loop.page.write import as_html
from loop.probefile import ProbeFile, read_project_probe, write_probe_file
from loop.settings import Settings
from loop.state import State
from loop.step_report import as_json

PACKAGES = (
    "annotation-loop",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "timm",
    "open_clip_torch",
    "label-studio-sdk",
)


@dataclass(frozen=True, slots=True)
class Pack:
    """An evidence pack that was written.

    Attributes:
        out: The file.
        sha256: Of the whole file.
        files: Names in it.
        checked: What the check recomputed from it.
    """

    out: str
    sha256: str
    files: tuple[str, ...]
    checked: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def write_pack(settings: Settings, out: Path) -> Pack:
    """Write the evidence pack of the decision in force, and check it before it appears. Equal states give equal bytes.

    Raises:
        BadInput: The project was not started, nothing was judged yet, the state's ledger was changed, or the decision does not
            follow from it.
    """
    probe = read_project_probe(settings)
    with State.started(settings.state_url) as state:
        if (broken := state.find_break()) is not None:
            raise BadInput(
                f"Row {broken.seq} of the ledger is not as it was written ({broken.problem}), so it proves nothing. `loop ledger "
                "verify` says more."
            )
        decision = state.last_report() or {}
        if not decision.get("findings"):
            raise BadInput(
                "Nothing was judged yet, so there is no evidence. Label the first batch, then step."
            )
        page = page_of(settings, state, datetime.fromisoformat(decision["at"]))
        frozen, ledger = state.frozen(), "".join(write_lines(state.ledger(), ".jsonl"))
    with TemporaryDirectory(prefix="loop-evidence-") as folder:
        write_probe_file(probe, heads := Path(folder) / "probe.safetensors")
        held = {
            "ledger.jsonl": ledger.encode(errors="surrogateescape"),
            "decision.json": _canonical(decision),
            "settings.json": _canonical(frozen),
            "report.html": as_html(page).encode(),
            "probe.safetensors": heads.read_bytes(),
            "MODEL_CARD.md": write_card(probe, decision, settings_at(frozen, decision["at"])).encode(),
            "versions.json": _canonical(_versions()),
            "verify.py": (files("loop") / "evidence_check.py").read_bytes(),
        }
    held["MANIFEST.json"] = _canonical(
        {"files": {name: sha256(content).hexdigest() for name, content in held.items()}}
    )
    with whole(out) as draft:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, content in sorted(held.items()):
                about = zipfile.ZipInfo(name)  # of 1980: the clock plays no part
                about.compress_type = zipfile.ZIP_DEFLATED
                pack.writestr(about, content)
        try:
            checked = check_pack(str(draft))
        except Refused as refused:
            raise BadInput(
                f"The decision in force does not follow from the ledger, so it is no evidence: {refused}. Run `loop step`, which judges "
                "anew, then try again."
            ) from None
        digest = sha256(draft.read_bytes()).hexdigest()
    return Pack(str(out), digest, tuple(sorted(held)), checked)


def write_card(probe: ProbeFile, decision: Mapping[str, Any], frozen: Mapping[str, Any]) -> str:
    """The model card: what the probe is, on what it was trained, how good it is and how that is known, and its limits."""
    env = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(auc=lambda value: auc_text(value, 3), count=count_text)
    template = env.from_string((files("loop") / "model_card.md.j2").read_text(encoding="utf-8"))
    return template.render(probe=probe, decision=decision, frozen=frozen)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogateescape"
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
