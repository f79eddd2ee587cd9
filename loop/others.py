"""The other encoders of a project's store: their learning curves, measured when the batch is out, for the lead's what-if."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from forecasting.curve import LearningCurve
from loop.compare import compare_state
from loop.errors import BadInput
from loop.settings import Settings
from loop.state import State
from loop.stores import find_folders

OTHERS = "other encoders"  # the fact that holds them

log = logging.getLogger(__name__)


def note_others(settings: Settings, state: State, at: datetime) -> None:
    """Measure the learning curves under every other encoder, on the labels of the last decision, and note them.

    Nothing is noted where the project has one encoder, or too few labels or embeddings to compare.
    """
    last = state.last_report()
    if last is None or len(find_folders(settings.features_folder)) < 2:
        return
    if (state.fact(OTHERS) or {}).get("at") == last["at"]:  # a turn that waits has made no decision
        return
    try:
        told = compare_state(settings, state)
    except BadInput as reason:  # too few labels, or images of which only one encoder has embeddings
        log.info("other encoders were not compared: %s", reason)
        return
    in_use = told.encoders[0].encoder
    curves: dict[str, dict[str, Any]] = {one.encoder: {} for one in told.encoders[1:]}
    for finding, by_encoder in told.curves.items():
        for encoder, (fitted, _) in by_encoder.items():
            if encoder != in_use:
                curves[encoder][finding] = _as_fact(fitted.curve)
    state.set_fact(OTHERS, {"at": last["at"], "encoders": curves}, at)


def read_others(state: State, decided_at: datetime) -> dict[str, dict[str, LearningCurve]]:
    """Encoder and finding to learning curve, as noted behind a decision; empty if nothing was."""
    noted: Mapping[str, Any] = state.fact(OTHERS) or {}
    if not noted or datetime.fromisoformat(noted["at"]) != decided_at:
        return {}
    return {
        encoder: {finding: _as_curve(finding, told) for finding, told in curves.items()}
        for encoder, curves in noted["encoders"].items()
    }


def _as_fact(curve: LearningCurve) -> dict[str, Any]:
    points = {name: getattr(curve, name).tolist() for name in ("sizes", "effective", "auc")}
    names = ("n", "n_positive", "n_negative", "bias", "bias_se", "design_effect")
    return points | {name: float(getattr(curve, name)) for name in names}


def _as_curve(finding: str, told: Mapping[str, Any]) -> LearningCurve:
    return LearningCurve(
        finding=finding,
        n=int(told["n"]),
        n_positive=int(told["n_positive"]),
        n_negative=int(told["n_negative"]),
        sizes=np.array(told["sizes"]),
        effective=np.array(told["effective"]),
        auc=np.array(told["auc"]),
        bias=told["bias"],
        bias_se=told["bias_se"],
        design_effect=told["design_effect"],
    )
