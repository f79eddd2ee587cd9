"""Certificates of several findings at once: from which capital on a finding may stand on the list of the certified.

M_k is the largest capital so far of finding k. It reaches 1 / alpha before any of the finding's models is above what
is tested with probability at most alpha (`forecasting.certificate`). Of K findings that are judged so, one by one,
any may be wrong: with probability up to K alpha a false name stands on the list. A correction shares alpha:

    holm         m findings not certified yet: certified is each of them with M_k >= m / alpha; then once more
                 with the smaller m, until nobody is added (Holm's step-down on the p-values 1 / M_k)
    bonferroni   M_k >= K / alpha
    none         M_k >= 1 / alpha, the error rate of each finding on its own

What Holm promises. Let N be the findings that no model of the project, early or late, lifts above what is tested. At any
time and under any stopping rule, some finding of N has been certified with probability at most alpha. Proof: when the
first of N is certified, all of N were open, so m >= |N| and its M_k >= |N| / alpha. By Ville's inequality one finding of N
ever gets there with probability at most alpha / |N|; there are |N|. Every event says "ever", of one finding's capital
alone: findings may depend on each other in any way, and 1 / M_k is a p-value at all times though M_k is no e-value.
A finding's bets may follow from all earlier rounds, other findings' included; only the end of a round must not be chosen
by what other findings' blocks of that round have shown.

Where the truth moves. N is taken as given: which findings stay below must not hang on how the bets went. And a finding
that is certified too early, before its models get above, is not of N. Counting these false names too, the probability is
at most alpha (1 + 1/2 + ... + 1/K) if the times at which findings get above are given. Bonferroni keeps alpha even there,
with no condition on the truth: sum over all K of alpha / K.

All at once. "Every finding of a list fixed in advance is above" needs no correction: said when each has reached 1 / alpha,
it is false only if the finding that gets above last, or never, was certified before; for that one finding, if it is
given which, the probability is at most alpha.

Once certified, certified: M_k only grows, the more are certified the smaller is m, and so, while labels, findings and
settings stay, nobody leaves the list. A finding more, whatever its capital, only raises thresholds.

Why Holm is the default: CERTIFIED at an error rate of 5 % is read as "nothing on this list is wrong". The first of 5 findings
pays for it with log(5 / alpha) / log(1 / alpha) = 1.5 times the evidence, the last one with nothing.

Why not e-BH, or means of capitals: at a stopping time they take expected capitals of at most 1, and that holds for stopping
by one finding's own history only. Blocks of different findings share images, so one that has closed tells of another that is
open. Their lists also lose names. On the largest capitals, neither controls its error rate (Tavyrikov et al.).

References:
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2), 1979.
    Berger, Multiparameter hypothesis testing and acceptance sampling, Technometrics 24(4), 1982 (all at once).
    Wang and Ramdas, False discovery rate control with e-values, JRSS B 84(3), 2022 (e-BH).
    Tavyrikov, Goeman and de Heide, Carefree multiple testing with e-processes, arXiv:2501.19360, 2025.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from forecasting.certificate import Evidence

Correction = Literal["holm", "bonferroni", "none"]


def certify_together(
    evidence: Mapping[str, Evidence], alpha: float = 0.05, correction: Correction = "holm"
) -> dict[str, Evidence]:
    """Judge the evidence of all findings of a project at thresholds that share alpha.

    Args:
        evidence: Finding to what was weighed; its own threshold and verdict are replaced.
        alpha: Error rate: of all certified findings together, or with ``none`` of each.
        correction: How it is shared.

    Returns:
        The same evidence with ``threshold`` = the one passed, or for a finding that is open the one in force now, and
        ``certified`` by it.

    Raises:
        ValueError: alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
    passed: dict[str, float] = {}  # finding to the threshold that it passed
    threshold = math.log(n_sharing(len(evidence), correction) / alpha) if evidence else math.inf
    while added := [k for k, held in evidence.items() if k not in passed and held.log_e >= threshold]:
        passed |= dict.fromkeys(added, threshold)
        if correction == "holm" and len(passed) < len(evidence):
            threshold = math.log((len(evidence) - len(passed)) / alpha)
    return {
        k: replace(held, threshold=passed.get(k, threshold), certified=k in passed)
        for k, held in evidence.items()
    }


def n_sharing(n_findings: int, correction: Correction) -> int:
    """Findings among which alpha is divided as long as none of them is certified."""
    return 1 if correction == "none" else n_findings
