"""Learn a prior from finished projects, and say in words what a prior believes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from forecasting.auc import Array
from forecasting.curve import LearningCurve
from forecasting.hyperprior import BASE_FINDINGS, BASE_PROJECTS, fit_prior
from forecasting.prior import PRIOR, SHIPPED_FROM, Prior, cover, curve_auc
from loop.errors import BadInput
from loop.priorfile import FittedPrior, Provenance
from loop.settings import Settings, load_settings
from loop.state import State
from loop.status import assess_again
from loop.step_findings import FindingReport, IntervalReport
from loop.step_report import StepReport, as_json

AHEAD, PREVALENCE = (50, 200, 800), 0.1
"""Where `tell_prior` says what AUC a prior expects: labels, and the share of positives among them."""

MOST = 2 / 3
"""Share of projects, and of findings, whose plateaus `tell_prior` brackets."""


@dataclass(frozen=True, slots=True)
class PriorReport:
    """A prior in numbers that people know.

    Attributes:
        name: Its file; ``shipped`` for the shipped one.
        comes_from: Where its numbers come from.
        plateau: AUC of a finding with labels without end.
        half_way: Effective size ``n p (1 - p)`` at which a curve is half-way, as (low, median, high).
        auc_at: AUC by labels, with one positive in ten.
        projects: Average plateaus of the middle two thirds of projects.
        findings: Plateaus of the middle two thirds of the findings of an average project.
        level: Level of all intervals but the last two.
        prior: The hyperparameters themselves, on the scale (z, ln k, ln c).
    """

    name: str
    comes_from: str
    plateau: IntervalReport
    half_way: tuple[float, float, float]
    auc_at: Mapping[int, IntervalReport]
    projects: tuple[float, float]
    findings: tuple[float, float]
    level: float
    prior: Prior

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        told: dict[str, Any] = as_json(self)
        return told


def tell_prior(fitted: FittedPrior | None, name: str = "shipped", level: float = 0.9) -> PriorReport:
    """Say what a prior believes; None is the shipped one."""
    prior = PRIOR if fitted is None else fitted.prior
    draws = cover(prior, 0)
    weight = draws.likelier.mean(axis=0)  # (S,)
    bounds = 0.5 - level / 2, 0.5, 0.5 + level / 2

    def quantiles(values: Array) -> tuple[float, float, float]:
        low, middle, high = np.quantile(values, bounds, weights=weight, method="inverted_cdf")
        return float(low), float(middle), float(high)

    def interval(effective: float) -> IntervalReport:
        auc = curve_auc(draws.theta, effective)[:, 0]  # (S,)
        low, _, high = quantiles(auc)
        return IntervalReport(float(np.average(auc, weights=weight)), low, high, level)

    low, middle, high = quantiles(draws.theta[:, 1])
    upper = 0.5 + MOST / 2
    apart = prior.between[0] * float(ndtri(upper)), prior.within[0] * float(stdtrit(prior.dof, upper))
    projects, findings = (
        (float(ndtr(prior.mean[0] - reach)), float(ndtr(prior.mean[0] + reach))) for reach in apart
    )
    return PriorReport(
        name=name,
        comes_from=SHIPPED_FROM if fitted is None else _origin(fitted.fitted_from),
        plateau=interval(np.inf),
        half_way=(float(np.exp(low)), float(np.exp(middle)), float(np.exp(high))),
        auc_at={n: interval(n * PREVALENCE * (1 - PREVALENCE)) for n in AHEAD},
        projects=projects,
        findings=findings,
        level=level,
        prior=prior,
    )


def _origin(came: Provenance) -> str:
    return (
        f"fitted on {came.date} by annotation-loop {came.version} to finished projects: {came.projects}, with "
        f"{came.findings} findings and {came.labels:,} labelled images; the shipped prior counts as "
        f"{BASE_PROJECTS} more projects of {BASE_FINDINGS} findings"
    )


@dataclass(frozen=True, slots=True)
class FinishedProject:
    """The learning curves that a project ended with.

    Attributes:
        source: Its state.
        curves: One a finding that had one.
        labels: Labelled images behind them.
    """

    source: str
    curves: tuple[LearningCurve, ...]
    labels: int


def learn_prior(sources: Sequence[str], at: datetime) -> FittedPrior:
    """Fit a prior to finished projects.

    Args:
        sources: States, project folders or configurations; see `read_finished`.
        at: Now.

    Raises:
        BadInput: A project has no curve, cannot be read, or is named twice.
    """
    projects = [read_finished(source) for source in sources]
    states = [project.source for project in projects]
    for state in states:
        if states.count(state) > 1:
            raise BadInput(
                f"{state} is named {states.count(state)} times; a project counts once. Name it once."
            )
    return FittedPrior(
        prior=fit_prior([project.curves for project in projects]),
        fitted_from=Provenance(
            projects=len(projects),
            findings=sum(len(project.curves) for project in projects),
            labels=sum(project.labels for project in projects),
            version=version("annotation-loop"),
            date=at.date(),
        ),
    )


def read_finished(source: str) -> FinishedProject:
    """Read the learning curves of a project's last judged turn.

    Args:
        source: A state's file or database URL, a project's folder, or its configuration (``.toml``). From a
            configuration, curves that an older version did not store are estimated anew from the embeddings.

    Raises:
        BadInput: No such project, or no curve in it.
    """
    settings, url = _find_state(source)
    with State.open(url) as state:
        reports = [StepReport.from_json(told) for told in state.reports()]
    for report in reversed(reports):
        curves = tuple(
            curve for name, told in report.findings.items() if (curve := read_curve(name, told)) is not None
        )
        if curves:
            return FinishedProject(url, curves, report.labels.total)
    if not any(told.forecast for report in reports for told in report.findings.values()):
        raise BadInput(f"{source} has no learning curve yet: no turn of it had enough labels for a forecast.")
    if settings is None:
        raise BadInput(
            f"{source} was written by a version that did not store the points of its curves. Name the project's "
            "configuration instead (loop.toml), with its embeddings in place, and they are estimated anew."
        )
    found = tuple(curve for curve in assess_again(settings).curves.values() if len(curve.auc))
    if not found:
        raise BadInput(f"{source} has no learning curve: too few labels of a class are known.")
    return FinishedProject(url, found, reports[-1].labels.total)


def read_curve(finding: str, told: FindingReport) -> LearningCurve | None:
    """The learning curve that a report tells; None if it tells none."""
    if not told.curve:
        return None
    return LearningCurve(
        finding=finding,
        n=told.positives + told.negatives,
        n_positive=told.positives,
        n_negative=told.negatives,
        sizes=np.array([point.n for point in told.curve]),
        effective=np.array([point.effective for point in told.curve]),
        auc=np.array([point.auc for point in told.curve]),
        bias=told.selection_bias or 0.0,
        bias_se=told.selection_bias_se or 0.0,
        design_effect=told.design_effect,
    )


def _find_state(source: str) -> tuple[Settings | None, str]:
    """The settings, where a configuration is named, and the state's URL or absolute path."""
    if "://" in source:
        return None, source
    path = Path(source)
    if path.suffix.lower() == ".toml":
        settings = load_settings(path, {}, {})
        return settings, settings.state_url
    if path.is_dir():
        path = path / "state.db"
    if not path.is_file():
        raise BadInput(
            f"There is no state {path}. Name a state.db, a project's folder, or its configuration (.toml)."
        )
    with path.open("rb") as file:
        if file.read(15) != b"SQLite format 3":
            raise BadInput(
                f"{path} is no project's state. Name a state.db, a project's folder, or its configuration (.toml)."
            )
    return None, str(path.resolve())
