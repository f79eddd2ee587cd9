"""What a certificate will cost, told before the first label: by prevalence and by the AUC the model will have.

Projects are simulated with the betting rule of `forecasting.certificate`: random images are asked in rounds, each
label is a coin with the prevalence, scores of positives and negatives are normal with equal spread and have the AUC
asked about, and the capital is looked at after every round. Told is the number of random images after which the
certificate is reached in `power` of the projects, and in half of them.

What it takes for granted: all images are scored by models of that AUC. What trains a model up to it, and the first
batch, which no model has scored, come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from forecasting.certificate import SHARES, SITTING, bets, form_blocks, price, weigh_evidence
from forecasting.errors import BadPlan
from forecasting.words import auc_text

POWER = 0.8
PREVALENCES = (0.02, 0.05, 0.1, 0.2, 0.5)

HORIZON = 100_000
"""More random images than this are not in sight."""

N_PROJECTS = 1500  # simulated; their share of certified ones is then known to about 1 %
N_ARRANGED = 50_000  # images in the different arrangements of labels that their rounds are drawn from
STRIDE = 200  # blocks of a project simulated at once


@dataclass(frozen=True, slots=True)
class Need:
    """What certifying takes at one prevalence, if the models have one AUC; infinity = not in sight.

    Attributes:
        prevalence: Share of positives among the random images.
        auc: True AUC of the models that score them.
        labels: Random images after which `power` of the projects have their certificate.
        positives: Positives to expect among these.
        labels_half: Random images after which half of the projects have it.
        positives_half: Positives to expect among those.
        all_labels: Labels in all, at the random stream's share of every batch, behind `labels`.
    """

    prevalence: float
    auc: float
    labels: float
    positives: float
    labels_half: float
    positives_half: float
    all_labels: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What certifying one target takes.

    Attributes:
        target: AUC to reach.
        tolerance: How far below the target the tested AUC lies.
        alpha: Error rate of all certificates together.
        findings: Certificates that shall hold together; each is tested at ``alpha / findings`` (Bonferroni,
            the most that Holm's correction asks).
        power: Probability of having the certificate after `Need.labels`, of each finding on its own.
        random_share: Share of every batch that comes from the random stream.
        batch: Images in a batch.
        needs: One a prevalence and AUC; prevalences in their order, each with all AUCs.
    """

    target: float
    tolerance: float
    alpha: float
    findings: int
    power: float
    random_share: float
    batch: int
    needs: tuple[Need, ...]

    @property
    def tested(self) -> float:
        """The AUC that is tested."""
        return self.target - self.tolerance


@dataclass(frozen=True, slots=True, eq=False)
class _Rounds:
    """Arrangements of labels in rounds that hold both classes.

    Attributes:
        size: Images a round.
        pairs: Pairs of each block, shape ``(R, B)``; 0 = no block.
        n_at_once: Blocks that close before the next round begins, shape ``(R,)``.
    """

    size: int
    pairs: NDArray[np.int_]
    n_at_once: NDArray[np.int_]


def plan_certificate(
    target: float,
    tolerance: float = 0.03,
    alpha: float = 0.05,
    prevalences: Sequence[float] = PREVALENCES,
    margins: Sequence[float] | None = None,
    *,
    power: float = POWER,
    findings: int = 1,
    random_share: float = 0.5,
    batch: int = 50,
    seed: int = 0,
) -> Plan:
    """Tell how many random images, and positives among them, the certificate will take.

    The same arguments give the same numbers. Beside the prevalence, most depends on how far the AUC lies above the
    tested one.

    Args:
        target: AUC to reach, above .5 and below 1.
        tolerance: The certificate tests the target less this.
        alpha: Error rate of all certificates together.
        prevalences: Shares of positives to plan for, each between 0 and 1.
        margins: True AUC of the models less the *target*; negative down to minus the tolerance makes sense. None =
            four that divide what lies between target and 1.
        power: Probability of having the certificate by then.
        findings: Findings whose certificates shall hold together.
        random_share: Share of every batch from the random stream.
        batch: Images in a batch.
        seed: Of the simulated projects.

    Raises:
        BadPlan: An argument is out of its range; the message says which and what is possible.
    """
    margins = default_margins(target) if margins is None else margins
    aucs = [round(target + margin, 9) for margin in margins]
    _check(target, tolerance, alpha, prevalences, aucs, power, findings, random_share, batch)
    per_round = round(batch * random_share)
    needs = []
    for prevalence in prevalences:
        rounds = _arrange(prevalence, per_round, np.random.default_rng([seed, 0]))
        for auc in aucs:
            reached = _certified_after(
                auc,
                prevalence,
                target - tolerance,
                alpha / findings,
                rounds,
                power,
                np.random.default_rng([seed, 1]),
            )
            labels, half = (float(np.quantile(reached, q, method="higher")) for q in (power, 0.5))
            needs.append(
                Need(
                    prevalence,
                    auc,
                    labels,
                    labels * prevalence,
                    half,
                    half * prevalence,
                    labels / random_share,
                )
            )
    return Plan(target, tolerance, alpha, findings, power, random_share, batch, tuple(needs))


def default_margins(target: float) -> tuple[float, ...]:
    """Margins that divide what lies between target and 1, in hundredths: 0, .02, .05, .08 for .85."""
    shares = (round(share * (1 - target), 2) for share in (0.0, 0.15, 0.35, 0.55))
    return tuple(sorted({margin for margin in shares if target + margin < 0.995 or margin == 0}))


def _certified_after(
    auc: float,
    prevalence: float,
    tested: float,
    alpha: float,
    rounds: _Rounds,
    power: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Random images after which simulated projects have their certificate, shape ``(N_PROJECTS,)``.

    Infinite for those that are beyond the quantiles asked for, or beyond the horizon. Rounds that hold one class
    only change no capital; how many of them lie in between is drawn at once.
    """
    reached = np.full(N_PROJECTS, np.inf)
    rough = price(weigh_evidence([], tested, 0.0, alpha), auc, prevalence).labels
    if rough > 2 * HORIZON:  # nothing grows, or hardly; a price errs to the dear side
        return reached
    both = -math.expm1(np.logaddexp(*(rounds.size * np.log([prevalence, 1 - prevalence]))))  # P(both classes)
    n_blocks = rounds.pairs.shape[1]  # B
    stride = max(1, STRIDE // n_blocks)  # C, rounds
    stakes = bets(np.arange(rounds.pairs.max() + 1)).T  # (G, pairs)
    shift = math.sqrt(2) * float(ndtri(auc))
    open_ = np.arange(N_PROJECTS)  # (A,) projects without certificate
    asked = np.zeros(N_PROJECTS)  # (A,) their random images so far
    capital = np.tile(SHARES[:, None], N_PROJECTS)  # (G, A)
    while len(open_) and asked.min() < min(HORIZON, np.quantile(reached, max(power, 0.5), method="higher")):
        drawn = rng.integers(len(rounds.pairs), size=(len(open_), stride))  # (A, C)
        after = asked[:, None] + rounds.size * np.cumsum(rng.geometric(both, drawn.shape), axis=1)  # (A, C)
        pairs = rounds.pairs[drawn].reshape(len(open_), -1)  # (A, C B)
        held = pairs > 0
        x = np.zeros(pairs.shape)  # (A, C B) share of pairs in the right order
        right = ndtr(shift + rng.standard_normal(np.count_nonzero(held)))
        x[held] = rng.binomial(pairs[held], right) / pairs[held]
        factor = 1 + stakes[:, pairs] * ((x - tested) / tested)  # (G, A, C B)
        path = capital[:, :, None] * np.cumprod(factor, axis=2)  # (G, A, C B)
        high = path.sum(axis=0) >= 1 / alpha  # (A, C B)
        done = high.any(axis=1)  # (A,)
        c, block = np.divmod(np.argmax(high[done], axis=1), n_blocks)  # (D,), (D,)
        late = block >= rounds.n_at_once[drawn[done, c]]  # (D,)
        reached[open_[done]] = after[done, c] + rounds.size * late
        open_, asked, capital = open_[~done], after[~done, -1], path[:, ~done, -1]
    return np.where(reached <= HORIZON, reached, np.inf)


def _arrange(prevalence: float, size: int, rng: np.random.Generator) -> _Rounds:
    """Draw labels of rounds that hold both classes, and form their blocks."""
    counts = np.arange(1, size)  # positives
    chance = binom.pmf(counts, size, prevalence)
    n_rounds = max(200, N_ARRANGED // max(size, SITTING))  # R
    n_positive = rng.choice(counts, n_rounds, p=chance / chance.sum())
    y = rng.permuted((np.arange(size) < n_positive[:, None]).astype(np.float64), axis=1)  # (R, size)
    blocks = [[len(a) * len(b) for a, b in form_blocks(row, ended=True)] for row in y]
    pairs = np.zeros((n_rounds, max(map(len, blocks))), dtype=np.int_)
    for row, formed in zip(pairs, blocks, strict=True):
        row[: len(formed)] = formed
    return _Rounds(size, pairs, np.array([sum(1 for _ in form_blocks(row, ended=False)) for row in y]))


def _check(
    target: float,
    tolerance: float,
    alpha: float,
    prevalences: Sequence[float],
    aucs: Sequence[float],
    power: float,
    findings: int,
    random_share: float,
    batch: int,
) -> None:
    if not 0.5 < target < 1:
        raise BadPlan(f"the target is {target:g}; an AUC to reach lies above .5 and below 1.")
    if tolerance < 0 or target - tolerance < 0.5 - 1e-9:
        raise BadPlan(
            f"target {target:g} less tolerance {tolerance:g} is {target - tolerance:g}; the AUC to be tested must lie "
            f"between .5, which guessing has, and the target: take a tolerance from 0 to {target - 0.5:.3g}."
        )
    if not 0 < alpha < 0.5:
        raise BadPlan(f"alpha is {alpha:g}; an error rate lies above 0 and below .5.")
    if not 0 < power < 1:
        raise BadPlan(f"the power is {power:g}; a probability to plan with lies above 0 and below 1.")
    if findings < 1:
        raise BadPlan(f"{findings} findings cannot be certified; plan for at least 1.")
    if not 0 < random_share <= 1:
        raise BadPlan(f"the random share is {random_share:g}; it lies above 0 and is at most 1.")
    if batch < 2 or round(batch * random_share) < 2:
        raise BadPlan(
            f"a batch of {batch} with a random share of {random_share:g} holds fewer than 2 random images, and a "
            "positive is compared with a negative of its batch: take a larger batch or share."
        )
    for prevalence in prevalences:
        if not 0 < prevalence < 1:
            raise BadPlan(f"the prevalence is {prevalence:g}; a share of positives lies between 0 and 1.")
    for auc in aucs:
        if not 0.5 <= auc < 1:
            raise BadPlan(
                f"the margin {auc - target:+.3g} makes the models' AUC {auc:.3g}; with the target {auc_text(target)} "
                f"a margin lies from {0.5 - target:.3g} to below {1 - target:.3g}."
            )
