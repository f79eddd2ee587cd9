"""The certificate: a test of AUC that stays valid however often one looks at it.

The random stream's images are scored by the model in force when they are asked, before their labels
exist. Capital 1 is staked against the null hypothesis "no model asked so far has an AUC above T",
T = target - tolerance. Every block of images with both classes gives X, the share of its pairs that the
model put in the right order (ties count one half), and multiplies the capital:

    E = sum_g w_g prod_i (1 + f_gi (X_i - T) / T),    f_gi = min(.95, 2 g b_i / (b_i + 2)),

where block i holds b_i pairs. Certified once E has reached 1 / alpha.

Why it is valid. (1) Which images form block i, hence b_i and f_gi, follows from where the labels stand
and from earlier rounds, never from this round's scores; blocks share no image. So given all labels of
the round and its earlier blocks, the mean of X_i is the AUC of the round's model. (2) Under the null
each factor therefore has conditional mean 1 + f_gi (AUC - T) / T <= 1: block after block, E is a
nonnegative supermartingale that starts at 1. (3) A closed block never changes when labels are added, so
a look after any label sees a prefix of this one process, and by Ville's inequality it reaches 1 / alpha
at any time with probability at most alpha.

The capital falls as T rises, so the statement holds for all targets and tolerances at once: changing
them after seeing the evidence costs no validity. It speaks of images like the random stream's and of
these readers' labels, and trusts that images left out as not known are no harder than the others.

Blocks. A sitting closes after `SITTING` images in the order asked, as soon as it has both classes, or
with its round, once a later round has begun. Its larger class is shared out evenly over the images of
the smaller one. Against giving each positive the negatives that happened to come before it, at fixed
bets, this and the smaller stakes on small blocks save about 30 % of the labels, at equal validity.

References:
    Ville, Étude critique de la notion de collectif, 1939.
    Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86(1), 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri
from scipy.stats import binom

BETS = np.array([0.3, 0.6, 0.95])  # (G,) g: the share of the capital staked on a block of two pairs
SHARES = np.array([0.2, 0.3, 0.5])  # (G,) w: how the first capital is divided over the bets
LARGEST_BET = 0.95  # a lost block must leave something to go on with
SITTING = 25  # images; half of a default batch

WALKS, WALK_STEPS = 500, 200
WALK_HORIZON = 3  # mean times of the fastest bet alone

START = tuple(float(share) for share in np.log(SHARES))


@dataclass(frozen=True, slots=True)
class Asked:
    """One round's random images, in the order asked, scored by the model in force when they were asked.

    The caller cuts the round at the first image that nobody has answered. A round that is followed by another
    is over: it must not grow any more, or looks at it would no longer be prefixes of one process.

    Attributes:
        y: Labels, shape ``(n,)``: 1, 0, NaN = not known (left out and counted).
        scores: That model's scores, shape ``(n,)``, higher = more positive, written down before the labels.
        bet: Whether capital is staked on this round; decided before its labels.
        round: Its number; 0 = not told.
    """

    y: NDArray[np.float64]
    scores: NDArray[np.float64]
    bet: bool = True
    round: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far the certificate has come.

    Attributes:
        log_e: Log of the largest capital so far; 0 at the start.
        threshold: Log capital that certifies: log(1 / alpha), or more where findings share alpha (`forecasting.together`).
        n_positive: Positives staked on so far.
        n_negative: Negatives staked on so far.
        n_unknown: Random images of all rounds whose label is not known.
        certified: ``log_e`` has reached ``threshold``.
        tested: The AUC that is tested, target - tolerance.
        path: Log capital after each positive; positives of one block stand together.
        log_capital: Log capital of each bet now, its share of the start included.
    """

    log_e: float
    threshold: float
    n_positive: int
    n_negative: int
    n_unknown: int
    certified: bool
    tested: float
    path: tuple[float, ...]
    log_capital: tuple[float, ...] = START


@dataclass(frozen=True, slots=True)
class Price:
    """What certifying still costs, half the time less and half the time more; infinity = not in sight.

    Attributes:
        positives: Positives of the random stream still needed.
        labels: Labels of the random stream still needed.
    """

    positives: float
    labels: float


def weigh_evidence(
    rounds: Sequence[Asked], target: float, tolerance: float = 0.03, alpha: float = 0.05
) -> Evidence:
    """Weigh the random stream's answers against the null hypothesis "AUC is at most target - tolerance".

    Args:
        rounds: The random stream by round, oldest first.
        target: AUC to reach.
        tolerance: How far below the target the tested AUC lies; a larger one is cheaper to certify.
        alpha: Probability, at most, of ever certifying a null hypothesis that is true.

    Returns:
        Log capital, its path, and whether it certifies.

    Raises:
        ValueError: The tested AUC or alpha is not between 0 and 1, or a round's arrays do not fit.
    """
    tested = target - tolerance
    if not 0.5 - 1e-9 <= tested < 1:
        raise ValueError(
            f"target {target} less tolerance {tolerance} is {tested}; it must lie between .5, which guessing has, and 1."
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
    for number, asked in enumerate(rounds):
        _check(asked, number)

    x: list[float] = []  # share of pairs in the right order, by block
    sizes: list[tuple[int, int]] = []  # its positives and negatives
    for number, asked in enumerate(rounds):
        if not asked.bet:
            continue
        for positives, negatives in form_blocks(asked.y, ended=number < len(rounds) - 1):
            s1, s0 = asked.scores[positives, None], asked.scores[negatives]  # (n1, 1), (n0,)
            right = np.count_nonzero(s1 > s0) + 0.5 * np.count_nonzero(s1 == s0)
            x.append(right / (len(positives) * len(negatives)))
            sizes.append((len(positives), len(negatives)))
    n1, n0 = np.array(sizes, dtype=np.int_).reshape(-1, 2).T  # (I,), (I,)
    growth = np.log1p(bets(n1 * n0) * ((np.array(x) - tested) / tested)[:, None])  # (I, G)
    log_capital = np.vstack([START, START + np.cumsum(growth, axis=0)])  # (I + 1, G)
    path = np.repeat(logsumexp(log_capital[1:], axis=1), n1).tolist()
    log_e = max(0.0, *path) if path else 0.0
    threshold = math.log(1 / alpha)
    return Evidence(
        log_e=log_e,
        threshold=threshold,
        n_positive=int(n1.sum()),
        n_negative=int(n0.sum()),
        n_unknown=sum(int(np.isnan(asked.y).sum()) for asked in rounds),
        certified=log_e >= threshold,
        tested=tested,
        path=tuple(path),
        log_capital=tuple(log_capital[-1].tolist()),
    )


def form_blocks(y: NDArray[np.float64], ended: bool) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide one round into blocks that share no image; looks at the labels only.

    Args:
        y: Labels in the order asked, shape ``(n,)``: 1, 0, NaN.
        ended: The round is over, so its last sitting closes too.

    Yields:
        Positions of each block's positives and negatives; one of the two holds a single image.
    """
    begin = 0
    for end in range(1, len(y) + 1):
        closing = ended and end == len(y)
        if end - begin < SITTING and not closing:
            continue
        sitting = y[begin:end]
        positives, negatives = begin + np.flatnonzero(sitting == 1), begin + np.flatnonzero(sitting == 0)
        n_blocks = min(len(positives), len(negatives))
        if n_blocks:
            yield from zip(_share_out(positives, n_blocks), _share_out(negatives, n_blocks), strict=True)
            begin = end


def _share_out(images: NDArray[np.intp], n_blocks: int) -> Iterator[NDArray[np.intp]]:
    """Divide images into runs as equal as can be, the longer ones first."""
    few, extra = divmod(len(images), n_blocks)
    begin = 0
    for k in range(n_blocks):
        end = begin + few + (k < extra)
        yield images[begin:end]
        begin = end


def bets(n_pairs: int | NDArray[np.int_]) -> NDArray[np.float64]:
    """Share of its capital that each bet stakes on a block: less on few pairs, whose order is noisier.

    Args:
        n_pairs: Pairs of a positive and a negative in the block, a number or shape ``(...)``.

    Returns:
        Shares between 0 and .95, shape ``(..., G)``.
    """
    b = np.asarray(n_pairs, dtype=np.float64)[..., None]  # (..., 1)
    return np.minimum(LARGEST_BET, 2 * BETS * b / (b + 2))  # (..., G)


def price(evidence: Evidence, auc_now: float, prevalence: float) -> Price:
    """Tell what certifying still costs if the models to come have the AUC of now.

    Positives and negatives are taken as normal with equal spread. The log capital of each bet then drifts
    and spreads at a known rate a label. Told is the median time at which random walks with these rates, all
    bets driven by one, bring the capital to the threshold; it errs to the dear side, by up to a third at small
    margins. The walks are always the same.

    Args:
        evidence: What was weighed so far.
        auc_now: AUC of the model in force.
        prevalence: Share of positives in the random stream.

    Returns:
        Positives and labels of the random stream still needed; zero once certified, infinite if the AUC of
        now is not above the tested one or so little above it that these bets do not grow.

    Raises:
        ValueError: The prevalence is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence is {prevalence}; it must lie between 0 and 1.")
    if evidence.certified:
        return Price(0.0, 0.0)
    if auc_now <= evidence.tested:
        return Price(math.inf, math.inf)
    drift, spread = _growth(min(auc_now, 0.9999), prevalence, evidence.tested)  # (G,), (G,) a label
    grows = drift > 0
    if not grows.any():
        return Price(math.inf, math.inf)
    capital = np.array(evidence.log_capital)  # (G,)
    ahead = evidence.threshold - capital[grows]  # (g,) log capital that one bet alone still has to win
    horizon = WALK_HORIZON * float(np.min(ahead / drift[grows]))
    steps = horizon * np.arange(1, WALK_STEPS + 1) / WALK_STEPS  # (N,) labels
    walks = _walks() * math.sqrt(horizon / WALK_STEPS)  # (P, N)
    log_capital = capital + steps[:, None] * drift + walks[:, :, None] * np.sqrt(spread)  # (P, N, G)
    passed = logsumexp(log_capital, axis=2) >= evidence.threshold  # (P, N)
    first = np.where(passed.any(axis=1), steps[np.argmax(passed, axis=1)], np.inf)  # (P,)
    labels = float(np.quantile(first, 0.5, method="higher"))
    return Price(labels * prevalence, labels)


@lru_cache(maxsize=1)
def _walks() -> NDArray[np.float64]:
    """Standard random walks, shape ``(P, N)``."""
    return np.cumsum(np.random.default_rng(0).standard_normal((WALKS, WALK_STEPS)), axis=1)


@lru_cache(maxsize=256)
def _growth(auc: float, prevalence: float, tested: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each bet's log capital per label of a full sitting, shapes ``(G,)``."""
    b = np.arange(1, SITTING)  # (B,) pairs of a block: one image against b
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)  # (Q,) the single image's score, a positive's
    right = ndtr(math.sqrt(2) * ndtri(auc) + nodes)  # (Q,) P(a negative lies below it)
    wins = np.arange(SITTING)  # (V,)
    given = np.asarray(binom.pmf(wins, b[:, None, None], right[:, None]))  # (B, Q, V)
    chance = np.einsum("bqv,q->bv", given, weights / weights.sum())  # (B, V)
    x = np.minimum(wins / b[:, None], 1.0)  # (B, V)
    gain = np.log1p(bets(b)[:, None, :] * (x[:, :, None] - tested) / tested)  # (B, V, G)
    mean = np.einsum("bv,bvg->bg", chance, gain)  # (B, G)
    square = np.einsum("bv,bvg->bg", chance, gain**2)  # (B, G)

    often = np.zeros(len(b))  # (B,) expected blocks of b pairs in a sitting
    for n1, p in enumerate(binom.pmf(np.arange(SITTING + 1), SITTING, prevalence)):
        small, large = sorted((n1, SITTING - n1))
        if small:
            few, extra = divmod(large, small)
            often[few - 1] += p * (small - extra)
            often[min(few, len(b) - 1)] += p * extra
    return often @ mean / SITTING, often @ (square - mean**2) / SITTING


def _check(asked: Asked, number: int) -> None:
    if asked.y.ndim != 1 or asked.y.shape != asked.scores.shape:
        raise ValueError(
            f"round {number + 1}: y has shape {asked.y.shape} and scores {asked.scores.shape}; "
            "both must be (n,), one score a label."
        )
    if not np.isin(asked.y[~np.isnan(asked.y)], (0, 1)).all():
        raise ValueError(f"round {number + 1}: y holds values other than 1, 0 and NaN.")
    if asked.bet and not np.isfinite(asked.scores).all():
        raise ValueError(
            f"round {number + 1}: some scores are not finite; leave out a round that no model has scored."
        )
