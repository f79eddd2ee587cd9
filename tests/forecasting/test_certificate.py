"""The certificate: exact on small cases, false at most as often as it says, and able to certify."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtri

from forecasting.certificate import BETS, SHARES, SITTING, Asked, bets, form_blocks, price, weigh_evidence

NAN = math.nan


def ask(
    rng: np.random.Generator, auc: float, prevalence: float, size: int = 25, spread: float = 1.0
) -> Asked:
    """One round of a model with exactly this AUC: negatives N(0, 1), positives N(d, spread^2)."""
    y = (rng.random(size) < prevalence).astype(float)
    d = math.sqrt(1 + spread**2) * ndtri(auc)
    return Asked(y, np.where(y == 1, d + spread * rng.standard_normal(size), rng.standard_normal(size)))


def look(rounds: list[Asked], n: int) -> list[Asked]:
    """What a look after the first n labels sees, rounds in order."""
    seen: list[Asked] = []
    for asked in rounds:
        if n <= 0:
            break
        seen.append(Asked(asked.y[:n], asked.scores[:n], asked.bet))
        n -= len(asked.y)
    return seen


def test_the_capital_of_one_small_round_is_the_product_written_out() -> None:
    """Independent reference: the formula of the module's docstring, by hand.

    y = 0 1 0 0 1 shares its negatives out as (1: 0, 2) and (4: 3): X = (1 + 1/2) / 2 and 0.
    """
    scores = np.array([0.2, 0.6, 0.6, 0.9, 0.5])
    rounds = [Asked(np.array([0.0, 1, 0, 0, 1]), scores), Asked(np.array([0.0]), np.array([0.5]))]
    evidence = weigh_evidence(rounds, target=0.83, tolerance=0.03)
    expected = [0.0, 0.0]
    for g, w in ((0.3, 0.2), (0.6, 0.3), (0.95, 0.5)):
        after_one = w * (1 + min(0.95, 2 * g * 2 / 4) * (0.75 - 0.8) / 0.8)
        expected[0] += after_one
        expected[1] += after_one * (1 + min(0.95, 2 * g * 1 / 3) * (0 - 0.8) / 0.8)
    assert evidence.path == pytest.approx(np.log(expected))
    assert (evidence.n_positive, evidence.n_negative) == (2, 3)
    assert evidence.log_e == 0.0  # the largest capital so far is the first one


def test_blocks_share_no_image_and_use_all_of_a_sitting() -> None:
    y = np.random.default_rng(1).choice([0.0, 1.0, NAN], 200, p=[0.7, 0.25, 0.05])
    blocks = list(form_blocks(y, ended=True))
    used = np.concatenate([np.concatenate(block) for block in blocks])
    assert sorted(used) == list(np.flatnonzero(~np.isnan(y)))
    for positives, negatives in blocks:
        assert (y[positives] == 1).all()
        assert (y[negatives] == 0).all()
        assert min(len(positives), len(negatives)) == 1


def test_a_sitting_waits_for_its_second_class_and_the_last_for_the_end_of_its_round() -> None:
    only_negatives = np.zeros(SITTING + 3)
    assert not list(form_blocks(only_negatives, ended=True))
    assert len(list(form_blocks(np.append(only_negatives, 1.0), ended=False))) == 1
    short = np.array([0.0, 1.0])
    assert not list(form_blocks(short, ended=False))
    assert len(list(form_blocks(short, ended=True))) == 1


def test_a_look_after_any_label_sees_a_prefix_of_one_path() -> None:
    rng = np.random.default_rng(2)
    rounds = [ask(rng, 0.85, p, size) for p, size in ((0.1, 50), (0.4, 25), (0.9, 7), (0.05, 90), (0.5, 61))]
    whole = weigh_evidence(rounds, 0.88).path
    seen: set[int] = set()
    for n in range(sum(len(asked.y) for asked in rounds) + 1):
        path = weigh_evidence(look(rounds, n), 0.88).path
        assert path == pytest.approx(whole[: len(path)], rel=1e-12)
        seen.add(len(path))
    assert len(seen) > 5  # the path grew in several steps, not only at the end


def test_blocks_follow_from_labels_alone_so_scores_cannot_choose_them() -> None:
    rng = np.random.default_rng(3)
    asked = ask(rng, 0.9, 0.3, 50)
    other = Asked(asked.y, rng.permutation(asked.scores))
    first, second = weigh_evidence([asked], 0.88), weigh_evidence([other], 0.88)
    assert (first.n_positive, first.n_negative) == (second.n_positive, second.n_negative)


def test_any_rising_transformation_of_a_rounds_scores_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    rounds = [ask(rng, 0.85, 0.3, 50) for _ in range(3)]
    squeezed = [Asked(a.y, np.arctan(a.scores) + k) for k, a in enumerate(rounds)]
    assert weigh_evidence(squeezed, 0.85).path == weigh_evidence(rounds, 0.85).path


def test_rounds_never_mix() -> None:
    """One positive in one round and many negatives in the next are no pair."""
    rounds = [Asked(np.ones(5), np.ones(5)), Asked(np.zeros(30), np.zeros(30)), Asked(np.ones(1), np.ones(1))]
    evidence = weigh_evidence(rounds, 0.9)
    assert evidence.path == ()
    assert evidence.n_positive == 0


def test_labels_not_known_are_left_out_and_counted() -> None:
    y = np.array([0.0, NAN, 1, 0, NAN])
    scores = np.array([0.1, 0.2, 0.9, 0.4, 0.3])
    end = Asked(np.array([0.0]), np.array([0.0]))
    with_gaps = weigh_evidence([Asked(y, scores), end], 0.9)
    without = weigh_evidence([Asked(y[~np.isnan(y)], scores[~np.isnan(y)]), end], 0.9)
    assert with_gaps.n_unknown == 2
    assert with_gaps.path == without.path


def test_a_round_without_a_bet_changes_no_capital() -> None:
    rng = np.random.default_rng(5)
    rounds = [ask(rng, 0.9, 0.3) for _ in range(4)]
    silent = Asked(rounds[0].y, rounds[0].scores, bet=False)
    assert weigh_evidence([silent, *rounds[1:]], 0.88).path == weigh_evidence(rounds[1:], 0.88).path


def test_no_evidence_is_a_capital_of_one() -> None:
    evidence = weigh_evidence([], 0.88)
    assert (evidence.log_e, evidence.certified, evidence.path) == (0.0, False, ())
    assert evidence.threshold == pytest.approx(math.log(20))


def test_capital_falls_as_the_tested_auc_rises() -> None:
    """Why the statement holds for all tolerances at once."""
    rng = np.random.default_rng(6)
    rounds = [ask(rng, 0.9, 0.3) for _ in range(10)]
    paths = np.array([weigh_evidence(rounds, t, 0.0).path for t in (0.5, 0.7, 0.8, 0.9, 0.99)])
    assert (np.diff(paths, axis=0) < 0).all()


Model = Callable[[np.random.Generator, int, float], Asked]


def changing(rng: np.random.Generator, number: int, capital: float) -> Asked:
    """Exactly AUC .8, with another spread in every round."""
    return ask(rng, 0.8, 0.3, size=int(rng.integers(20, 40)), spread=0.4 + 0.5 * (number % 4))


def rare(rng: np.random.Generator, number: int, capital: float) -> Asked:
    return ask(rng, 0.8, 0.07, size=50)


def common(rng: np.random.Generator, number: int, capital: float) -> Asked:
    return ask(rng, 0.8, 0.75, spread=2.0)


def scheming(rng: np.random.Generator, number: int, capital: float) -> Asked:
    """Bets only when ahead, and lets a bad model in when behind: both decided before the round's labels."""
    asked = ask(rng, 0.8 if capital > -1 else 0.7, 0.4)
    return Asked(asked.y, asked.scores, bet=capital > -2 or number % 3 == 0)


def coarse(rng: np.random.Generator, number: int, capital: float) -> Asked:
    """Scores of two values, so ties in half of the pairs: AUC = (1 + .8 - .2) / 2 = .8."""
    y = (rng.random(25) < 0.3).astype(float)
    return Asked(y, (rng.random(25) < np.where(y == 1, 0.8, 0.2)).astype(float))


@pytest.mark.parametrize("model", [changing, rare, common, scheming, coarse])
def test_a_true_null_is_certified_no_more_often_than_alpha_under_looks_after_every_label(
    model: Model,
) -> None:
    """500 projects whose models have at most the tested AUC, .8, over 24 rounds.

    The largest capital over the path is what a look after every label would find (a look sees a prefix).
    Binomial tolerance: three standard deviations at the bound.
    """
    rng = np.random.default_rng(7)
    n_projects = 500
    largest = np.empty(n_projects)
    for project in range(n_projects):
        rounds: list[Asked] = []
        capital = 0.0
        for number in range(24):
            rounds.append(model(rng, number, capital))
            if model is scheming and number % 4 == 3:
                path = weigh_evidence(rounds, 0.8, 0.0).path
                capital = path[-1] if path else 0.0
        largest[project] = weigh_evidence(rounds, 0.8, 0.0).log_e
    for alpha in (0.01, 0.05, 0.1, 0.25):
        false = float(np.mean(largest >= math.log(1 / alpha)))
        assert false <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / n_projects), (alpha, false)
    assert np.mean(largest >= math.log(4)) > 0.02  # the bound is not met by never betting


def test_the_mean_capital_under_the_null_is_one() -> None:
    """The martingale itself: mean of E after a fixed number of rounds, within four standard errors."""
    rng = np.random.default_rng(8)
    final = [
        math.exp(weigh_evidence([ask(rng, 0.8, 0.3) for _ in range(2)], 0.8, 0.0).path[-1])
        for _ in range(3000)
    ]
    error = float(np.std(final)) / math.sqrt(len(final))
    assert abs(float(np.mean(final)) - 1) < 4 * error
    assert error < 0.05


@pytest.mark.parametrize(
    ("auc", "prevalence", "n_rounds"), [(0.92, 0.3, 60), (0.92, 0.08, 90), (0.95, 0.7, 40)]
)
def test_a_clearly_better_model_is_certified(auc: float, prevalence: float, n_rounds: int) -> None:
    rng = np.random.default_rng(9)
    found = [
        weigh_evidence([ask(rng, auc, prevalence) for _ in range(n_rounds)], 0.85).certified
        for _ in range(40)
    ]
    assert np.mean(found) >= 0.9


def fixed_bets_on_what_came_before(rounds: list[Asked], tested: float) -> float:
    """The plainer test: each positive takes the negatives since the last one, at the same stake whatever their number.

    Returns the number of labels at which it certifies.
    """
    capital, labels = np.log(SHARES), 0
    for asked in rounds:
        waiting: list[float] = []
        stock: list[float] = []
        for y, score in zip(asked.y, asked.scores, strict=True):
            labels += 1
            (waiting if y == 1 else stock).append(score)
            while waiting and stock:
                x = float(np.mean(waiting.pop(0) > np.array(stock)))
                stock.clear()
                capital = capital + np.log1p(BETS * (x - tested) / tested)
                if np.logaddexp.reduce(capital) >= math.log(20):
                    return labels
    return math.inf


@pytest.mark.parametrize("prevalence", [0.1, 0.3, 0.7])
def test_even_blocks_and_smaller_stakes_on_small_ones_save_labels(prevalence: float) -> None:
    rng = np.random.default_rng(10)
    ours, plain = [], []
    for _ in range(80):
        rounds = [ask(rng, 0.9, prevalence) for _ in range(100)]
        plain.append(min(fixed_bets_on_what_came_before(rounds, 0.82), 2500))
        ours.append(labels_until_certified(rounds, 0.82))
    assert np.mean(ours) < 0.9 * np.mean(plain)  # .7 of it in the long run; its error here is about .1


def labels_until_certified(rounds: list[Asked], tested: float) -> float:
    low, high = 0, len(rounds)
    while low < high:
        middle = (low + high) // 2
        if weigh_evidence(rounds[:middle], tested, 0.0).certified:
            high = middle
        else:
            low = middle + 1
    return float(sum(len(asked.y) for asked in rounds[:low]))


@pytest.mark.parametrize(
    ("auc", "tested", "prevalence"), [(0.9, 0.82, 0.1), (0.9, 0.82, 0.5), (0.95, 0.87, 0.2)]
)
def test_the_price_is_what_certifying_then_costs(auc: float, tested: float, prevalence: float) -> None:
    """Median over 80 projects; its own error is about 12 %, and the price may err to the dear side by a third."""
    rng = np.random.default_rng(11)
    told = price(weigh_evidence([], tested, 0.0), auc, prevalence)
    n_rounds = int(5 * told.labels / 25)
    cost = [
        labels_until_certified([ask(rng, auc, prevalence) for _ in range(n_rounds)], tested)
        for _ in range(80)
    ]
    assert 0.85 < told.labels / float(np.median(cost)) < 1.45
    assert told.positives == pytest.approx(told.labels * prevalence)


def test_the_price_falls_with_auc_and_evidence_and_is_nothing_once_certified() -> None:
    rng = np.random.default_rng(12)
    start = weigh_evidence([], 0.85)
    assert price(start, 0.95, 0.2).labels < price(start, 0.9, 0.2).labels < price(start, 0.87, 0.2).labels
    rounds = [ask(rng, 0.95, 0.3) for _ in range(30)]
    some, all_of_it = weigh_evidence(rounds[:3], 0.85), weigh_evidence(rounds, 0.85)
    assert not some.certified
    assert price(some, 0.95, 0.3).labels < price(weigh_evidence([], 0.85), 0.95, 0.3).labels
    assert all_of_it.certified
    assert price(all_of_it, 0.95, 0.3).labels == 0


def test_a_price_out_of_sight_is_infinite() -> None:
    start = weigh_evidence([], 0.85)
    assert math.isinf(price(start, 0.82, 0.2).positives)
    assert math.isinf(price(start, 0.8201, 0.2).labels)
    assert math.isfinite(price(start, 1.0, 0.2).labels)


def test_less_is_staked_on_fewer_pairs_and_never_everything() -> None:
    stakes = bets(np.arange(1, 100))
    assert stakes.shape == (99, 3)
    assert (np.diff(stakes, axis=0) >= 0).all()
    assert stakes.max() <= 0.95
    assert bets(2) == pytest.approx(BETS)


def test_nonsense_is_refused_by_name() -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match="which guessing has"):
        weigh_evidence([], 0.55, 0.25)  # a coin would be certified
    with pytest.raises(ValueError, match=r"between \.5"):
        weigh_evidence([], 0.02)
    with pytest.raises(ValueError, match="alpha"):
        weigh_evidence([], 0.9, alpha=1.0)
    with pytest.raises(ValueError, match="round 1"):
        weigh_evidence([Asked(one, np.ones(2))], 0.9)
    with pytest.raises(ValueError, match="other than 1, 0 and NaN"):
        weigh_evidence([Asked(2 * one, one)], 0.9)
    with pytest.raises(ValueError, match="not finite"):
        weigh_evidence([Asked(one, NAN * one)], 0.9)
    with pytest.raises(ValueError, match="prevalence"):
        price(weigh_evidence([], 0.9), 0.95, 0.0)


def test_the_first_capital_is_one() -> None:
    assert SHARES.sum() == pytest.approx(1)
