"""What `loop plan` prints: a table a target, and how to read it."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from forecasting.planning import Need, Plan
from forecasting.words import auc_text, count_text, level_text, listed
from loop.plan import ProjectPlan
from loop.show import console, plain_table


def show_plan(told: ProjectPlan) -> None:
    """What certifying takes, and what the numbers take for granted."""
    out = console()
    for plan, names in zip(told.plans, told.findings, strict=True):
        out.print()
        if names:
            out.print(Text(listed(names), style="bold"))
        out.print(plan_table(plan))
        out.print(Text(say_example(plan)))
    out.print()
    for line in say_assumptions(told):
        out.print(Text(line, style="dim"))


def plan_table(plan: Plan) -> Table:
    """Prevalence by AUC: random images, in brackets the positives among them, at two probabilities."""
    table = plain_table(
        f"Random images (positives among them) to certify an AUC above {auc_text(plan.tested)}: target "
        f"{auc_text(plan.target)} less the tolerance of {auc_text(plan.tolerance)}",
    )
    rows: dict[float, list[Need]] = {}
    for need in plan.needs:
        rows.setdefault(need.prevalence, []).append(need)
    table.add_column("positive", justify="right")
    table.add_column("certified", justify="right")
    for need in next(iter(rows.values())):
        table.add_column(f"if AUC is {auc_text(need.auc)}", justify="right")
    for prevalence, needs in rows.items():
        asked = (plan_cell(need.labels, need.positives) for need in needs)
        table.add_row(level_text(prevalence), level_text(plan.power), *asked)
        half = (plan_cell(need.labels_half, need.positives_half) for need in needs)
        table.add_row("", "50 %", *half, style="dim")
    return table


def plan_cell(labels: float, positives: float) -> str:
    """`1,400 (72)`; `not in sight` where there is no number."""
    return f"{count_text(labels)} ({count_text(positives)})" if math.isfinite(labels) else "not in sight"


def say_example(plan: Plan) -> str:
    """One number of the table, read out."""
    within_sight = [need for need in plan.needs if math.isfinite(need.labels)]
    if not within_sight:
        return (
            f"Not in sight: none of these AUCs lies far enough above the tested {auc_text(plan.tested)}. A larger tolerance "
            "or a better encoder brings it closer."
        )
    need = within_sight[len(within_sight) // 2]
    return (
        f"So: if {level_text(need.prevalence)} of the images are positive and the model's true AUC is "
        f"{auc_text(need.auc)}, {level_text(plan.power)} of projects have the certificate after "
        f"{count_text(need.labels)} random images, half of them after {count_text(need.labels_half)}."
    )


def say_assumptions(told: ProjectPlan) -> list[str]:
    """What the numbers take for granted, a sentence or two each."""
    plan = told.plans[0]
    said = [
        f"{level_text(plan.random_share)} of each batch is random: labels in all are {1 / plan.random_share:.3g} times "
        "these numbers."
        if plan.random_share < 1
        else "Every image is random: these numbers are the labels in all."
    ]
    if told.budget is not None:
        said[0] += (
            f" The budget of {told.budget:,} labels holds about {count_text(told.budget * plan.random_share)} random images."
        )
    if plan.findings == 1:
        said.append(
            f"Error rate {level_text(plan.alpha)} for one finding; --findings K plans for K that hold together."
        )
    else:
        said.append(
            f"Error rate {level_text(plan.alpha)} for {plan.findings} findings together, so "
            f"{level_text(plan.alpha / plan.findings)} each (Bonferroni). That is the most the correction can ask: with Holm's, "
            "each certified finding makes the others' cheaper. The probability is each finding's own. One random image "
            "answers all findings: the project needs at least the largest of its findings' numbers, not their sum; that all "
            f"have theirs by then is less likely than {level_text(plan.power)}."
        )
    return [
        *said,
        "Counted from when a model of that AUC scores the images: what trains it up to there, and the first batch, come on "
        "top.",
        "LIKELY REACHED needs far fewer labels. It is a forecast, calibrated by simulation; the certificate is a theorem.",
    ]
