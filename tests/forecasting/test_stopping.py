"""Verdicts: which one, when, and what it says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from forecasting.certificate import Evidence, Price, price, weigh_evidence
from forecasting.curve import curve_from_points
from forecasting.powerlaw import N_JOINT, Interval, LabelRange, Tail, fit_bayes
from forecasting.stopping import (
    Decision,
    ProjectVerdict,
    Rules,
    Verdict,
    decide_finding,
    decide_project,
)
from forecasting.words import auc_text, count_text, interval_text, listed, probability_text, range_text

RULES = Rules(target=0.88)


@dataclass(frozen=True)
class Told:
    """A forecast that says what a test wants to hear."""

    p_now: float = 0.41
    p_plateau: float = 0.8
    low: float = 290.0
    high: float = 720.0
    mean: float = 0.871
    finding: str = "effusion"
    n: int = 200
    method: str = "told"

    def auc(self, n: float, level: float = 0.9) -> Interval:
        return Interval(self.mean, 0.83, 0.90, level)

    def plateau(self, level: float = 0.9) -> Interval:
        return Interval(0.82, 0.78, 0.86, level)

    def prob_reached(self, target: float, n: float | None = None) -> float:
        return self.p_now

    def prob_plateau(self, target: float) -> float:
        return self.p_plateau

    def labels_needed(self, target: float, level: float = 0.8) -> LabelRange:
        return LabelRange(self.low, self.low, self.high, level)

    def tail(self) -> Tail:
        return Tail(0.9, 1.0, 0.5)

    def joint_draws(self, n: float | None = None) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.full(N_JOINT, self.mean)


NOTHING = weigh_evidence([], RULES.target)
PROVEN = replace(NOTHING, log_e=3.1, certified=True, n_positive=61, n_negative=1100)


def decide(
    forecast: Told | None = None,
    n_positive: int = 40,
    n_negative: int = 160,
    evidence: Evidence | None = NOTHING,
    cost: Price | None = None,
    rules: Rules = RULES,
) -> Decision:
    return decide_finding("effusion", forecast, n_positive, n_negative, evidence, cost, rules)


def test_a_finding_under_way_says_auc_range_and_price() -> None:
    decision = decide(Told(), cost=Price(60.0, 1200.0))
    assert decision.verdict is Verdict.KEEP_LABELLING
    assert decision.reason == "AUC .871 now (90 %: .83 to .90); target .880 is reached with probability .41."
    assert decision.remedy == "90 to 520 more labels are needed (80 % range)."
    assert "about 60 more positives, 1,200 labels of the random stream" in decision.price
    assert "a tolerance of .06 instead of .03" in decision.price


@pytest.mark.parametrize(("n_positive", "n_negative"), [(4, 200), (200, 4), (0, 50), (50, 0)])
def test_fewer_than_five_of_a_class_and_nobody_can_tell(n_positive: int, n_negative: int) -> None:
    """Not even a certificate can: one that outlives its labels rests on labels since withdrawn."""
    decision = decide(Told(p_now=1.0), n_positive, n_negative, PROVEN)
    assert decision.verdict is Verdict.CANNOT_TELL
    assert f"{n_positive} positive" in decision.reason
    assert "more" in decision.remedy


def test_what_is_missing_is_told_with_the_labels_it_takes() -> None:
    assert "2 more positives" in decide(n_positive=3, n_negative=47).remedy
    assert "about 33 more labels" in decide(n_positive=3, n_negative=47).remedy
    assert "nobody can say" in decide(n_positive=0, n_negative=47).remedy


def test_perfect_separation_of_four_items_is_not_a_reason_to_stop() -> None:
    assert decide(Told(p_now=1.0, mean=1.0), 2, 2).verdict is Verdict.CANNOT_TELL


def test_a_certificate_outranks_every_forecast() -> None:
    for forecast in (Told(p_now=0.99), Told(p_plateau=0.01), Told(), None):
        decision = decide(forecast, evidence=PROVEN, cost=Price(0.0, 0.0))
        assert decision.verdict is Verdict.CERTIFIED
        assert "95 % confidence for this finding alone" in decision.reason
        assert "above .850 (target .880 less the tolerance of .030)" in decision.reason


def test_a_certificate_says_whose_error_rate_it_carries() -> None:
    shared = decide(Told(), evidence=PROVEN, rules=replace(RULES, alpha=0.1, n_sharing=5))
    assert "90 % confidence for all certified findings of this project together" in shared.reason


def test_the_price_is_that_of_the_threshold_in_force() -> None:
    """log(100) instead of log(20) is 1.5 times the evidence; both tolerances are asked the same."""
    dearer = replace(NOTHING, threshold=math.log(100))
    costs = [price(evidence, 0.92, 0.2) for evidence in (NOTHING, dearer)]
    said = [
        decide(Told(mean=0.92), evidence=e, cost=c).price
        for e, c in zip((NOTHING, dearer), costs, strict=True)
    ]
    shares = [float(re.findall(r"down to (\d+) %", told)[0]) for told in said]
    assert 1.3 < costs[1].labels / costs[0].labels < 1.7
    assert f"{count_text(costs[1].positives)} more positives" in said[1]
    assert shares[0] == pytest.approx(shares[1], abs=6)


def test_images_left_out_are_told_with_the_certificate() -> None:
    told = decide(Told(), evidence=replace(PROVEN, n_unknown=3)).reason
    assert "3 random images that readers skipped, could not tell, or disagreed on" in told
    assert "took no part" not in decide(Told(), evidence=PROVEN).reason


@pytest.mark.parametrize(
    ("p_now", "n_positive", "verdict"),
    [
        (0.97, 10, Verdict.LIKELY_REACHED),
        (0.9699, 10, Verdict.KEEP_LABELLING),
        (0.999, 9, Verdict.KEEP_LABELLING),
    ],
)
def test_likely_takes_probability_and_ten_positives(p_now: float, n_positive: int, verdict: Verdict) -> None:
    decision = decide(Told(p_now=p_now), n_positive)
    assert decision.verdict is verdict
    if n_positive < 10:
        assert "only 9 patients are known to be positive, and 10 are needed" in decision.reason


@pytest.mark.parametrize(
    ("p_plateau", "n_negative", "verdict"),
    [
        (0.05, 10, Verdict.OUT_OF_REACH),
        (0.0501, 10, Verdict.KEEP_LABELLING),
        (0.0, 9, Verdict.KEEP_LABELLING),
    ],
)
def test_a_target_above_the_plateau_is_called_unreachable(
    p_plateau: float, n_negative: int, verdict: Verdict
) -> None:
    decision = decide(Told(p_plateau=p_plateau), 40, n_negative)
    assert decision.verdict is verdict
    if verdict is Verdict.OUT_OF_REACH:
        assert "another encoder" in decision.remedy
        assert ".78 is within reach with probability .90" in decision.remedy


def test_before_the_first_forecast_the_reason_is_that_it_starts_at_fifty_labels() -> None:
    decision = decide(None, 7, 27)
    assert decision.verdict is Verdict.KEEP_LABELLING
    assert "starts at 50 labels" in decision.reason
    assert "16 more labels" in decision.remedy
    assert "starts at" not in decide(None, 30, 70).reason


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (290.0, math.inf, "At least 90 more labels are needed, with no upper limit visible"),
        (100.0, math.inf, "cannot be bounded yet (80 % range: 0 to no limit visible)"),
        (math.inf, math.inf, "No limit is visible"),
        (100.0, 720.0, "0 to 520 more labels"),
        (100.0, 150.0, "The curve is at the target"),
    ],
)
def test_labels_needed_are_a_range_even_where_it_has_no_end(low: float, high: float, said: str) -> None:
    remedy = decide(Told(low=low, high=high)).remedy
    assert said in remedy
    assert "80 %" in remedy
    assert "inf" not in remedy


def test_an_auc_below_the_tested_one_has_no_price_in_sight_but_a_tolerance_may_have() -> None:
    cost = price(NOTHING, 0.846, 0.2)
    said = decide(Told(mean=0.846), cost=cost).price
    assert "not in sight" in said
    assert "a tolerance of .06 instead of .03 would need about" in said


def test_likely_and_certified_are_never_blurred() -> None:
    likely, certified = decide(Told(p_now=0.98)), decide(Told(p_now=0.98), evidence=PROVEN)
    assert "not certified" in likely.reason
    assert "likely" not in f"{certified.reason} {certified.remedy} {certified.price}".lower()


def test_a_real_forecast_fits_in() -> None:
    n = np.array([50, 100, 200, 400, 800])
    curve = curve_from_points(n, np.array([0.80, 0.86, 0.90, 0.93, 0.94]), se=np.full(5, 0.01))
    (forecast,) = fit_bayes([curve])
    decision = decide_finding("x", forecast, 400, 400, NOTHING, price(NOTHING, 0.94, 0.5), RULES)
    assert decision.verdict is Verdict.LIKELY_REACHED
    reach = decide_finding("x", forecast, 400, 400, NOTHING, None, Rules(target=0.995))
    assert reach.verdict is Verdict.OUT_OF_REACH


# ---------------------------------------------------------------- the project


def verdicts(**by_finding: Verdict) -> list[Decision]:
    return [Decision(name, verdict, "", "", "") for name, verdict in by_finding.items()]


LIKELY, CERTIFIED, KEEP = Verdict.LIKELY_REACHED, Verdict.CERTIFIED, Verdict.KEEP_LABELLING
LOST, UNKNOWN = Verdict.OUT_OF_REACH, Verdict.CANNOT_TELL
STOP, CONTINUE = ProjectVerdict.STOP, ProjectVerdict.CONTINUE


@pytest.mark.parametrize(
    ("a", "b", "evidence", "verdict"),
    [
        (LIKELY, CERTIFIED, "likely", STOP),
        (LIKELY, CERTIFIED, "certified", CONTINUE),
        (CERTIFIED, CERTIFIED, "certified", STOP),
        (LIKELY, KEEP, "likely", CONTINUE),
        (LIKELY, UNKNOWN, "likely", CONTINUE),
        (CERTIFIED, UNKNOWN, "certified", CONTINUE),
        (LIKELY, LOST, "likely", STOP),
        (LIKELY, LOST, "certified", CONTINUE),
        (LOST, LOST, "likely", STOP),
        (LOST, KEEP, "likely", CONTINUE),
        (LOST, UNKNOWN, "likely", CONTINUE),
    ],
)
def test_the_project_stops_when_all_is_reached_or_out_of_reach(
    a: Verdict, b: Verdict, evidence: str, verdict: ProjectVerdict
) -> None:
    assert decide_project(verdicts(a=a, b=b), "all", evidence, 100, None, 900).verdict is verdict


def test_reached_and_out_of_reach_are_different_stops() -> None:
    reached = decide_project(verdicts(a=LIKELY, b=CERTIFIED), "all", "likely", 100, None, 900)
    assert (
        reached.reason
        == "Certified, at the target less the tolerance and an error rate of 5 % for each on its own: b. Likely reached by the forecast, not certified: a."
    )
    lost = decide_project(verdicts(a=LIKELY, b=LOST), "all", "likely", 100, None, 900)
    assert "Out of reach with this encoder: b" in lost.reason
    assert "encoders" in lost.remedy


@pytest.mark.parametrize(
    ("b", "n_sharing", "rule", "said"),
    [
        (KEEP, 1, "all", "10 % for each on its own: a."),
        (KEEP, 2, "all", "10 % for all certified findings together: a."),
        (CERTIFIED, 1, "all", "10 % for all certified findings together: a and b."),
        (CERTIFIED, 2, "all", "10 % for all certified findings together: a and b."),
        (KEEP, 1, ("a",), "10 %: a."),
    ],
)
def test_a_list_of_the_certified_says_its_error_rate_and_a_full_one_needs_no_correction(
    b: Verdict, n_sharing: int, rule: str | tuple[str, ...], said: str
) -> None:
    told = decide_project(
        verdicts(a=CERTIFIED, b=b), rule, "certified", 9, None, 9, alpha=0.1, n_sharing=n_sharing
    )
    assert f"Certified, at the target less the tolerance and an error rate of {said}" in told.reason


def test_only_the_named_findings_count() -> None:
    decisions = verdicts(a=LIKELY, b=KEEP, c=UNKNOWN)
    assert decide_project(decisions, ("a",), "likely", 100, None, 900).verdict is STOP
    assert decide_project(decisions, ("a", "b"), "likely", 100, None, 900).verdict is CONTINUE
    with pytest.raises(ValueError, match="hernia"):
        decide_project(decisions, ("a", "hernia"), "likely", 100, None, 900)


@pytest.mark.parametrize(
    ("p_mean", "b", "evidence", "verdict"),
    [
        (0.97, KEEP, "likely", STOP),
        (0.96, KEEP, "likely", CONTINUE),
        (None, KEEP, "likely", CONTINUE),
        (0.99, UNKNOWN, "likely", CONTINUE),
        (0.99, KEEP, "certified", CONTINUE),
        (0.10, LOST, "likely", CONTINUE),
    ],
)
def test_the_mean_counts_if_every_finding_can_be_told(
    p_mean: float | None, b: Verdict, evidence: str, verdict: ProjectVerdict
) -> None:
    told = decide_project(verdicts(a=LIKELY, b=b), "mean", evidence, 100, None, 900, p_mean)
    assert told.verdict is verdict


def test_a_spent_budget_or_pool_stops_with_its_own_reason_and_remedy() -> None:
    decisions = verdicts(a=KEEP, b=LIKELY)
    budget = decide_project(decisions, "all", "likely", 400, 400, 900)
    pool = decide_project(decisions, "all", "likely", 399, 400, 0)
    assert (budget.verdict, pool.verdict) == (STOP, STOP)
    assert "budget of 400 labels is spent. Still open: a (KEEP LABELLING)" in budget.reason
    assert "Raise [stop] budget" in budget.remedy
    assert "No image is left" in pool.reason
    assert "new patients" in pool.remedy
    assert decide_project(decisions, "all", "likely", 399, 400, 1).verdict is CONTINUE


def test_what_was_reached_is_said_even_as_the_budget_ends() -> None:
    told = decide_project(verdicts(a=LIKELY), "all", "likely", 400, 400, 0)
    assert "Likely reached" in told.reason


def test_nonsense_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no finding"):
        decide_project([], "all", "likely", 0, None, 1)
    with pytest.raises(ValueError, match="'most'"):
        decide_project(verdicts(a=KEEP), "most", "likely", 0, None, 1)
    with pytest.raises(ValueError, match="'sure'"):
        decide_project(verdicts(a=KEEP), "all", "sure", 0, None, 1)


# ---------------------------------------------------------------- the words


def test_numbers_are_said_in_one_way() -> None:
    assert [auc_text(x) for x in (0.871, 1.0, 0.0)] == [".871", "1.000", ".000"]
    assert interval_text(0.834, 0.9, 0.9) == "90 %: .83 to .90"
    assert [probability_text(p) for p in (0.41, 0.968, 0.052, 0.0, 1.0)] == [
        ".41",
        ".968",
        ".052",
        "below .001",
        "above .999",
    ]
    assert [count_text(x) for x in (0, 0.2, 7.4, 1234, 96.0, 99_500, math.inf)] == [
        "0",
        "1",
        "7",
        "1,200",
        "96",
        "100,000",
        "no limit visible",
    ]
    assert range_text(90, 520) == "90 to 520"
    assert range_text(90, math.inf) == "at least 90, no upper limit visible"
    assert range_text(math.inf, math.inf) == "no limit visible"
    assert [range_text(low, math.inf) for low in (0, 0.9)] == ["not bounded yet"] * 2
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]
