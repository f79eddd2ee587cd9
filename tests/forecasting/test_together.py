"""Certificates of several findings: exact on small cases, wrong together at most as often as they say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, permutations, product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from forecasting.certificate import Asked, Evidence, price, weigh_evidence
from forecasting.together import Correction, certify_together, n_sharing

CORRECTIONS: tuple[Correction, ...] = ("holm", "bonferroni", "none")
NOTHING = weigh_evidence([], 0.85)

capitals = st.lists(
    st.sampled_from([1.0, 19.0, 21.0, 39.0, 41.0, 61.0, 79.0, 81.0, 200.0]), min_size=1, max_size=4
)


def hold(*largest: float) -> dict[str, Evidence]:
    """Findings a, b, c ... with these largest capitals."""
    return {
        name: replace(NOTHING, log_e=math.log(capital))
        for name, capital in zip("abcdefgh", largest, strict=False)
    }


def certified(
    evidence: dict[str, Evidence], alpha: float = 0.05, correction: Correction = "holm"
) -> set[str]:
    judged = certify_together(evidence, alpha, correction)
    return {name for name, held in judged.items() if held.certified}


def test_holm_on_four_findings_by_hand() -> None:
    """p = 1 / 100, 1 / 70, 1 / 39, 1 / 30 at .05: .01 <= .05 / 4, .0143 <= .05 / 3, .0256 > .05 / 2, so two."""
    judged = certify_together(hold(100, 39, 70, 30), 0.05)
    assert [held.certified for held in judged.values()] == [True, False, True, False]
    assert [round(math.exp(held.threshold)) for held in judged.values()] == [80, 40, 60, 40]
    assert certified(hold(100, 39, 70, 30), correction="bonferroni") == {"a"}
    assert certified(hold(100, 39, 70, 30), correction="none") == {"a", "b", "c", "d"}
    assert certified(hold(100, 70, 41, 21)) == {"a", "b", "c", "d"}
    assert certified(hold(79, 79, 79, 79)) == set()


@given(capitals)
def test_holm_certifies_what_every_set_of_findings_would_by_bonferroni(largest: list[float]) -> None:
    """Independent reference, closed testing: k is certified if each set with k in it holds some M >= size / alpha."""
    evidence = hold(*largest)
    sets = [s for r in range(1, len(evidence) + 1) for s in combinations(evidence, r)]
    refuted = {s: any(evidence[k].log_e >= math.log(len(s) / 0.05) for k in s) for s in sets}
    assert certified(evidence) == {k for k in evidence if all(refuted[s] for s in sets if k in s)}


@given(capitals)
def test_the_order_of_findings_is_irrelevant(largest: list[float]) -> None:
    evidence = hold(*largest)
    for correction in CORRECTIONS:
        judged = certify_together(evidence, 0.05, correction)
        for order in permutations(evidence):
            assert certify_together({k: evidence[k] for k in order}, 0.05, correction) == judged


@given(capitals, st.sampled_from([1.0, 21.0, 1e9]))
def test_a_further_finding_never_certifies_more(largest: list[float], more: float) -> None:
    for correction in CORRECTIONS:
        with_it = certified(hold(*largest, more), correction=correction)
        assert with_it - {"abcde"[len(largest)]} <= certified(hold(*largest), correction=correction)


@given(capitals)
def test_bonferroni_certifies_at_most_what_holm_does_and_holm_at_most_what_no_correction_does(
    largest: list[float],
) -> None:
    bonferroni, holm, none = (certified(hold(*largest), correction=c) for c in ("bonferroni", "holm", "none"))
    assert bonferroni <= holm <= none
    assert bool(bonferroni) is bool(holm)
    assert (len(holm) == len(largest)) <= (len(none) == len(largest))


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("largest", [1.0, 19.9, 20.1])
def test_one_finding_is_judged_as_without_correction(correction: Correction, largest: float) -> None:
    (alone,) = hold(largest).values()
    expected = replace(alone, certified=largest > 20)
    assert certify_together({"a": alone}, 0.05, correction) == {"a": expected}


def test_no_finding_no_certificate_and_no_alpha_no_threshold() -> None:
    assert certify_together({}) == {}
    with pytest.raises(ValueError, match="alpha is 0"):
        certify_together(hold(1.0), 0.0)


def test_the_price_follows_the_threshold_in_force() -> None:
    open_ = [certify_together(hold(*others, 5.0))["abc"[len(others)]] for others in ([], [1.0], [1.0, 1.0])]
    assert [round(math.exp(held.threshold)) for held in open_] == [20, 40, 60]
    alone, two, three = (price(held, 0.92, 0.2).labels for held in open_)
    assert alone < two < three
    assert (
        price(certify_together(hold(90.0, 5.0))["b"], 0.92, 0.2).labels == alone
    )  # the other one is certified


# ---------------------------------------------------------------- the error rate, exactly


def chance_of_a_false_name(
    correction: Correction, a_is_above: Literal["never", "always", "late"], alpha: float = 0.25
) -> float:
    """Finding b stays below; both bet "double or nothing" on a fair coin. Exact, over all outcomes.

    M is 2^j with probability 2^-(j + 1), and 2^6 with the rest. Once finding a is above, its M becomes huge. If that
    is late, luck had its time before.
    """
    outcomes = [(2.0**j, 2.0 ** -(j + (j < 6))) for j in range(7)]
    chance = 0.0
    for (m_a, p), (m_b, q) in product(outcomes, repeat=2):
        below = certified(hold(m_a, m_b), alpha, correction) if a_is_above != "always" else set()
        above = certified(hold(1e9, m_b), alpha, correction) if a_is_above != "never" else set()
        chance += p * q * bool(below or "b" in above)
    return chance


def test_holm_keeps_alpha_and_uses_it_up() -> None:
    assert chance_of_a_false_name("holm", "never") == 1 - (7 / 8) ** 2 < 0.25
    assert chance_of_a_false_name("holm", "always") == 0.25
    assert chance_of_a_false_name("none", "never") == 1 - (3 / 4) ** 2 > 0.25


def test_only_bonferroni_keeps_alpha_where_a_name_that_comes_true_later_counts_as_false() -> None:
    """What Holm's promise leaves out, and the bound that it then has: alpha (1 + 1/2)."""
    assert 0.25 < chance_of_a_false_name("holm", "late") == 1 - 7 / 8 * 3 / 4 <= 0.25 * (1 + 1 / 2)
    assert chance_of_a_false_name("bonferroni", "late") == 1 - (7 / 8) ** 2 < 0.25


# ---------------------------------------------------------------- the error rate, on images


def ask(rng: np.random.Generator, aucs: np.ndarray, correlation: float, size: int = 25) -> list[Asked]:
    """One round: K labels and K scores an image, both correlated between findings; each finding's AUC is exact."""

    def draw() -> np.ndarray:  # (size, K)
        common, own = rng.standard_normal((size, 1)), rng.standard_normal((size, len(aucs)))
        return math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own

    y = (draw() > ndtri(0.7)).astype(float)  # (size, K)
    scores = draw() + y * math.sqrt(2) * ndtri(aucs)  # (size, K)
    return [Asked(y[:, k], scores[:, k]) for k in range(len(aucs))]


def weigh(rounds: list[list[Asked]], tested: float) -> dict[str, Evidence]:
    return {
        name: weigh_evidence(asked, tested, 0.0)
        for name, asked in zip("abcde", zip(*rounds, strict=True), strict=True)
    }


@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize("n_good", [0, 2])
def test_a_false_name_is_on_the_list_no_more_often_than_alpha_under_looks_after_every_label(
    correlation: float, n_good: int
) -> None:
    """300 projects of five findings over 16 rounds, all but the good ones at the tested AUC, .8.

    Capitals are the largest so far and nobody leaves the list, so the last list holds all earlier ones.
    Binomial tolerance: three standard deviations at the bound.
    """
    rng = np.random.default_rng(13)
    aucs = np.where(np.arange(5) < n_good, 0.97, 0.8)
    n_projects, false = 300, {(c, a): 0 for c in CORRECTIONS for a in (0.05, 0.1, 0.25)}
    n_right = 0
    for _ in range(n_projects):
        evidence = weigh([ask(rng, aucs, correlation) for _ in range(16)], 0.8)
        for correction, alpha in false:
            names = certified(evidence, alpha, correction)
            false[correction, alpha] += bool(names - set("abcde"[:n_good]))
        n_right += len(certified(evidence) & set("abcde"[:n_good]))
    for (correction, alpha), n in false.items():
        if correction != "none":
            bound = alpha + 3 * math.sqrt(alpha * (1 - alpha) / n_projects)
            assert n / n_projects <= bound, (correction, alpha, n)
    assert false["none", 0.25] / n_projects > 0.25 + 3 * math.sqrt(
        0.25 * 0.75 / n_projects
    )  # the test can fail
    assert false["holm", 0.25] > 0
    assert n_right >= 0.95 * n_good * n_projects  # not by certifying nothing


def test_once_certified_a_finding_stays_certified_at_every_later_label() -> None:
    rng = np.random.default_rng(14)
    rounds = [ask(rng, np.array([0.95, 0.93, 0.9, 0.88, 0.8]), 0.5) for _ in range(20)]
    before: set[str] = set()
    sizes = set()
    for n in range(1, 25 * len(rounds) + 1):
        full, part = divmod(n - 1, 25)
        cut = [Asked(a.y[: part + 1], a.scores[: part + 1]) for a in rounds[full]]
        now = certified(weigh([*rounds[:full], cut], 0.8))
        assert before <= now
        before = now
        sizes.add(len(now))
    assert len(sizes) >= 3  # the list grew in several steps


def test_findings_that_share_alpha_are_counted_before_any_is_certified() -> None:
    assert [n_sharing(5, correction) for correction in CORRECTIONS] == [5, 5, 1]
