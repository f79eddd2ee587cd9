"""Plans: the power told is the power had, by the certificate itself; dearer and cheaper in the right direction."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.special import ndtri

from forecasting.certificate import Asked, price, weigh_evidence
from forecasting.errors import BadPlan
from forecasting.planning import HORIZON, N_PROJECTS, Need, default_margins, plan_certificate
from forecasting.plots import save
from forecasting.plots_plan import draw_plans, plan_info

N_CHECKED = 300


def one(target: float, auc: float, prevalence: float, **others: float) -> Need:
    (need,) = plan_certificate(target, prevalences=[prevalence], margins=[auc - target], **others).needs  # type: ignore[arg-type]
    return need


def share_certified(
    auc: float, prevalence: float, target: float, tolerance: float, alpha: float, size: int, n_rounds: int
) -> float:
    """Projects that have their certificate after so many rounds, weighed by the certificate itself."""
    rng = np.random.default_rng(21)
    d = math.sqrt(2) * ndtri(auc)
    hits = 0
    for _ in range(N_CHECKED):
        y = (rng.random((n_rounds, size)) < prevalence).astype(float)
        scores = rng.standard_normal(y.shape) + d * y
        rounds = [Asked(a, b) for a, b in zip(y, scores, strict=True)]
        hits += weigh_evidence(rounds, target, tolerance, alpha).certified
    return hits / N_CHECKED


@pytest.mark.parametrize(
    ("auc", "prevalence", "tolerance", "alpha", "findings", "random_share", "batch"),
    [
        (0.90, 0.2, 0.03, 0.05, 1, 0.5, 50),
        (0.93, 0.05, 0.03, 0.05, 1, 1.0, 50),
        (0.93, 0.1, 0.03, 0.05, 2, 0.25, 50),  # rounds of 12: their one sitting closes with the next round
        (0.92, 0.5, 0.05, 0.10, 1, 0.5, 50),
        (0.95, 0.04, 0.05, 0.05, 1, 0.5, 120),  # rounds of 60: sittings that wait for a positive
        (0.9999, 0.5, 0.03, 0.05, 1, 0.5, 24),  # few rounds, hardly a lost block: one round off shows
        (0.9999, 0.3, 0.03, 0.01, 1, 0.5, 70),
    ],
)
def test_after_the_labels_told_the_certificate_is_there_as_often_as_told(
    auc: float,
    prevalence: float,
    tolerance: float,
    alpha: float,
    findings: int,
    random_share: float,
    batch: int,
) -> None:
    """At power .8 and .5. Both simulations have binomial errors: 3 standard deviations; one round less is too few."""
    need = one(
        0.85,
        auc,
        prevalence,
        tolerance=tolerance,
        alpha=alpha,
        findings=findings,
        random_share=random_share,
        batch=batch,
    )
    size = round(batch * random_share)
    for labels, power in ((need.labels, 0.8), (need.labels_half, 0.5)):
        n_rounds = round(labels / size)
        assert n_rounds * size == labels
        error = 3 * math.sqrt(power * (1 - power) * (1 / N_CHECKED + 1 / N_PROJECTS))
        at = share_certified(auc, prevalence, 0.85, tolerance, alpha / findings, size, n_rounds)
        before = share_certified(auc, prevalence, 0.85, tolerance, alpha / findings, size, n_rounds - 1)
        assert at > power - error
        assert before < power + error


def test_half_of_the_projects_pay_what_the_price_says() -> None:
    """The price is a median by another road, a random walk; it may err by a third to the dear side."""
    start = weigh_evidence([], 0.85)
    for auc, prevalence in ((0.9, 0.05), (0.93, 0.2), (0.87, 0.5)):
        told = price(start, auc, prevalence).labels
        assert 0.9 < told / one(0.85, auc, prevalence).labels_half < 1.35


def test_rarer_closer_and_surer_is_dearer() -> None:
    plan = plan_certificate(0.85)
    labels = np.array([need.labels for need in plan.needs]).reshape(5, 4)  # (prevalence, AUC)
    assert [need.prevalence for need in plan.needs[::4]] == [0.02, 0.05, 0.1, 0.2, 0.5]
    assert [need.auc for need in plan.needs[:4]] == [0.85, 0.87, 0.9, 0.93]
    assert np.isfinite(labels).all()
    assert (np.diff(labels, axis=1) < 0).all()
    assert (np.diff(labels, axis=0) < 0).all()
    assert all(need.labels_half < need.labels for need in plan.needs)
    base = one(0.85, 0.9, 0.2).labels
    assert one(0.85, 0.9, 0.2, alpha=0.01).labels > base
    assert one(0.85, 0.9, 0.2, power=0.95).labels > base
    assert one(0.85, 0.9, 0.2, tolerance=0.01).labels > base
    assert one(0.85, 0.9, 0.2, tolerance=0.06).labels < base


def test_several_findings_are_planned_at_their_share_of_alpha() -> None:
    assert one(0.85, 0.9, 0.2, findings=5) == one(0.85, 0.9, 0.2, alpha=0.01)


def test_positives_and_all_labels_follow_from_the_random_images() -> None:
    need = one(0.85, 0.93, 0.2, random_share=0.25, batch=100)
    assert need.positives == pytest.approx(0.2 * need.labels)
    assert need.positives_half == pytest.approx(0.2 * need.labels_half)
    assert need.all_labels == 4 * need.labels


def test_large_batches_cost_about_the_same_up_to_the_batch_they_end_with() -> None:
    small, large = (one(0.85, 0.9, 0.1, batch=batch, random_share=1.0).labels for batch in (25, 2000))
    assert large == 2000
    assert small < large
    assert one(0.85, 0.9, 0.1, batch=200, random_share=1.0).labels <= 1.2 * small + 200


def test_the_same_question_has_the_same_answer_and_a_seed_changes_little() -> None:
    assert plan_certificate(0.85, prevalences=[0.1]) == plan_certificate(0.85, prevalences=[0.1])
    first, second = (one(0.85, 0.9, 0.1, seed=seed).labels for seed in (0, 1))
    assert first == pytest.approx(second, rel=0.15)


def test_what_lies_at_or_hardly_above_the_tested_auc_is_not_in_sight() -> None:
    for auc in (0.8, 0.82, 0.8201):
        need = one(0.85, auc, 0.2)
        assert math.isinf(need.labels)
        assert math.isinf(need.positives)
        assert math.isinf(need.all_labels)
    assert math.isfinite(one(0.85, 0.999, 0.2).labels)


def test_more_images_than_the_horizon_are_not_in_sight() -> None:
    """One positive in 5,000 images: the horizon holds 20 of them, and about 40 are needed."""
    need = one(0.85, 0.93, 0.0002)
    assert math.isinf(need.labels)
    assert one(0.85, 0.93, 0.01).labels < HORIZON


@pytest.mark.parametrize(
    ("target", "margins"), [(0.85, (0, 0.02, 0.05, 0.08)), (0.95, (0, 0.01, 0.02, 0.03)), (0.99, (0,))]
)
def test_the_margins_divide_what_lies_above_the_target(target: float, margins: tuple[float, ...]) -> None:
    assert default_margins(target) == margins


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"target": 1.0}, "target is 1"),
        ({"tolerance": 0.4}, r"less tolerance 0\.4 is 0\.45"),
        ({"tolerance": -0.01}, r"-0\.01"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"power": 1.0}, "power is 1"),
        ({"prevalences": [0.1, 0.0]}, "prevalence is 0"),
        ({"prevalences": [1.0]}, "prevalence is 1"),
        ({"margins": [0.15]}, r"margin \+0\.15 makes the models' AUC 1"),
        ({"findings": 0}, "0 findings"),
        ({"random_share": 0.0}, "random share is 0"),
        ({"batch": 10, "random_share": 0.1}, "fewer than 2 random images"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_fact(changed: dict[str, object], fact: str) -> None:
    with pytest.raises(BadPlan, match=fact):
        plan_certificate(**{"target": 0.85, **changed})  # type: ignore[arg-type]


def test_a_picture_shows_every_number_in_sight_and_names_every_line() -> None:
    plan = plan_certificate(0.85, prevalences=[0.2, 0.0002, 0.5], margins=[-0.02, 0.05, 0.0])
    info = plan_info(plan)
    assert info.prevalences == (0.0002, 0.2, 0.5)
    assert info.auc == pytest.approx([0.83, 0.85, 0.9])
    for need in plan.needs:
        shown = info.labels[info.prevalences.index(need.prevalence), int(np.argmin(abs(info.auc - need.auc)))]
        assert shown == need.labels or (math.isnan(shown) and math.isinf(need.labels))
    (ax,) = draw_plans([info]).axes
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 3
    looks = {(line.get_marker(), line.get_linestyle(), to_hex(line.get_color())) for line in lines}
    assert len({marker for marker, _, _ in looks}) == 3  # told apart without colour
    said = [text.get_text() for text in ax.texts]
    assert "0.02 % positive: not in sight" in said
    assert {"20 % positive", "50 % positive"} < set(said)


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    plan = plan_certificate(0.85, prevalences=[0.4, 0.45, 0.5, 0.55], margins=[0.05, 0.08])
    figure = draw_plans([plan_info(plan)])
    figure.canvas.draw()
    (ax,) = figure.axes
    boxes = sorted(
        (text.get_window_extent() for text in ax.texts if "positive" in text.get_text()), key=lambda b: b.y0
    )
    assert len(boxes) == 4
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_a_plan_is_saved_as_png_and_svg_and_the_same_plan_gives_the_same_picture(tmp_path: Path) -> None:
    info = plan_info(plan_certificate(0.9, prevalences=[0.2, 0.5], margins=[0.04, 0.06]))
    for name in ("a.png", "b.png", "c.svg"):
        save(draw_plans([info, info]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "<svg" in (tmp_path / "c.svg").read_text()
