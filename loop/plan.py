"""What a project will cost, before it exists: numbers from flags and perhaps a configuration, to tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecasting.planning import POWER, PREVALENCES, Plan, plan_certificate
from forecasting.plots import save
from forecasting.plots_plan import draw_plans, plan_info
from forecasting.together import n_sharing
from loop.sections import BatchSettings, StopSettings
from loop.settings import Settings
from loop.step_report import as_json


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What certifying takes.

    Attributes:
        plans: One a target, lowest first.
        findings: Names of the findings that have it, one list a plan; empty without a configuration.
        budget: Labels that the configuration allows; None = no limit known.
    """

    plans: tuple[Plan, ...]
    findings: tuple[tuple[str, ...], ...]
    budget: int | None

    def to_json(self) -> dict[str, Any]:
        """The plans as JSON-ready values; what is not in sight is null."""
        plans = [
            {"tested": plan.tested, "names": names, **as_json(plan)}
            for plan, names in zip(self.plans, self.findings, strict=True)
        ]
        return {"plans": as_json(plans), "budget": self.budget}


def plan_project(
    settings: Settings | None,
    *,
    target: float | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
    findings: int | None = None,
    random_share: float | None = None,
    batch: int | None = None,
    power: float = POWER,
    prevalences: Sequence[float] = (),
    margins: Sequence[float] = (),
) -> ProjectPlan:
    """Plan the certificates of a project: argument over configuration over default.

    Args:
        settings: The configuration; None = there is none yet.
        target: AUC to reach; else each finding's.
        tolerance: The certificate tests the target less this.
        alpha: Error rate of all certificates together.
        findings: How many shall hold together; else those that share alpha by the configuration's correction.
        random_share: Share of every batch from the random stream.
        batch: Images in a batch.
        power: Probability of having the certificate by then.
        prevalences: Shares of positives; none = a usual range.
        margins: True AUC less the target; none = what lies between target and 1, divided.

    Raises:
        BadPlan: A number is out of its range.
    """
    stop = StopSettings() if settings is None else settings.stop
    asks = BatchSettings() if settings is None else settings.batch
    by_target: dict[float, list[str]] = {}
    if settings is None:
        by_target[StopSettings.model_fields["target"].default if target is None else target] = []
    else:
        for name in _counting(settings):
            by_target.setdefault(settings.target_of(name) if target is None else target, []).append(name)
    together = 1 if settings is None else n_sharing(len(settings.project.findings), stop.correction)
    plans = tuple(
        plan_certificate(
            each,
            stop.tolerance if tolerance is None else tolerance,
            stop.alpha if alpha is None else alpha,
            prevalences or PREVALENCES,
            margins or None,
            power=power,
            findings=together if findings is None else findings,
            random_share=asks.random_share if random_share is None else random_share,
            batch=asks.size if batch is None else batch,
        )
        for each in sorted(by_target)
    )
    return ProjectPlan(plans, tuple(tuple(by_target[plan.target]) for plan in plans), stop.budget)


def draw_plan(told: ProjectPlan, path: Path) -> None:
    """Draw the plans to a .png or .svg file."""
    save(draw_plans([plan_info(plan) for plan in told.plans]), path)


def _counting(settings: Settings) -> tuple[str, ...]:
    rule = settings.stop.rule
    return settings.project.findings if isinstance(rule, str) else tuple(rule)
