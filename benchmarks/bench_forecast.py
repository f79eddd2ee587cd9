"""The whole loop on labelled worlds: how true are forecasts, intervals and stops, beside simpler methods?

    python benchmarks/bench_forecast.py --data DIR --world nih --world kermany --runs 12 --share 0.5

Every run is a replay with the product's batches, probes and learning curves (`replays.py`); the forecast is judged at
fixed numbers of labels, the stops at 12 looks for targets .65 to .95. A world's patients are halved anew by each seed: one
half is labelled, the truth is measured on the other. The few constants were chosen on half A of Kermany and of
the CheXNet outputs (`--part A`) and on simulated worlds with seeds below 100; noise and spread of the prior after a look at
NIH and the rare worlds too; which spread findings share on halves with seeds 420 to 427 and 600 to 619. Simulated worlds from seed
700 on played no part.

A true AUC is measured on patients never labelled and has an error of its own, so that intervals seem to cover less
than they do; "less its error" counts a truth as covered if it lies within 1.645 standard deviations of forecast and
truth together.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from replays import Look, Replay, replay
from rivals import RULES, fit_plain, rival_stops
from worlds import WORLDS, World, half, simulated

from forecasting.auc import hanley_mcneil
from forecasting.certificate import Asked, weigh_evidence
from forecasting.curve import LearningCurve, estimate_curves
from forecasting.errors import ForecastError
from forecasting.leastsquares import fit_nls
from forecasting.powerlaw import Forecast, fit_bayes
from forecasting.stopping import Rules, Verdict, decide_finding
from loop.probe import Projection, fit_projection, make_scorer

TARGETS = tuple(np.round(np.arange(0.65, 0.96, 0.05), 2))
SIZES = (50, 100, 200, 400)
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Told:
    """What one method said of one finding at one look, beside the truth; NaN where there is none."""

    method: str
    run: int
    n: int
    now: float
    now_low: float
    now_high: float
    true_now: float
    ahead: float
    ahead_low: float
    ahead_high: float
    true_ahead: float
    far: float
    true_far: float
    sd_now: float
    sd_ahead: float
    truth_se: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where one rule stopped for one finding and target: labels, the true AUC there, labels at the true crossing."""

    rule: str
    target: float
    n: float
    true_auc: float
    crossing: float
    common: bool


def judge(
    world: World, run: Replay, curves_of: Sequence[dict[int, LearningCurve]]
) -> tuple[list[Told], list[Stopped]]:
    """Forecast at every look of a replay, decide at every target, and compare with what came."""
    told: list[Told] = []
    said: dict[tuple[int, float, str], tuple[float, float]] = {}  # first stop: labels, true AUC
    forecasts_of: list[dict[int, Forecast]] = []
    for look, curves in zip(run.looks, curves_of, strict=True):
        forecasts = dict(zip(curves, fit_bayes(list(curves.values())), strict=True))
        forecasts_of.append(forecasts)
        now = run.truth(look.n)
        for k, forecast in forecasts.items():
            simpler = Simpler(curves[k])
            told += _tell(run, look, k, curves[k], forecast, simpler)
            random = world.y[look.rows[look.is_random], k]
            counts = curves[k].n_positive, curves[k].n_negative
            for target in TARGETS:
                asked = _asked(world, run, look.n, k, forecasts_of, target)
                open_ = (k, target, "CERTIFIED") not in said and any(one.bet for one in asked)
                rules = Rules(target)
                decision = decide_finding(
                    "", forecast, *counts, None, None, rules,
                    n_random=(int((random == 1).sum()), int((random == 0).sum())),
                )  # fmt: skip
                stops = {
                    "LIKELY REACHED": decision.verdict is Verdict.LIKELY_REACHED,
                    "OUT OF REACH": decision.verdict is Verdict.OUT_OF_REACH,
                    "CERTIFIED": open_ and weigh_evidence(asked, target).certified,
                    "last value >= target": simpler.last >= target,
                    "bounded curve_fit >= target": simpler.bounded_now >= target,
                    "plain curve_fit >= target": simpler.plain(curves[k].n) >= target,
                }
                for rule, stop in stops.items():
                    if stop and np.isfinite(now[k]):
                        said.setdefault((k, target, rule), (look.n, now[k]))
    for k, rule, n in rival_stops(
        run, [{k: c.auc[-1] for k, c in cs.items() if len(c.auc)} for cs in curves_of]
    ):
        true = run.truth(n)[k]
        for target in TARGETS if np.isfinite(true) else ():
            said.setdefault((k, target, rule), (n, true))
    return told, list(_collect(world, run, said))


def look_at(world: World, run: Replay) -> list[dict[int, LearningCurve]]:
    """Learning curves at every look of a replay, by finding."""
    projection = fit_projection(world.features, 256)
    return [_curves(world, run, look, projection) for look in run.looks]


def _curves(world: World, run: Replay, look: Look, projection: Projection) -> dict[int, LearningCurve]:
    fitted = [int(k) for k in np.flatnonzero(~np.isnan(look.strength))]
    if not fitted:
        return {}
    x, y = projection.transform(world.features[look.rows]), world.y[look.rows][:, fitted]
    curves = estimate_curves(
        [world.findings[k] for k in fitted],
        y,
        world.patients[look.rows],
        make_scorer(x, y, look.strength[fitted]),
        np.random.default_rng([run.seed, look.n]),
        is_random=look.is_random,
    )
    return dict(zip(fitted, curves, strict=True))


class Simpler:
    """What simpler methods make of one learning curve; NaN where they make nothing of it."""

    def __init__(self, curve: LearningCurve) -> None:
        self.last = float(curve.auc[-1]) if len(curve.auc) else float("nan")
        self._plain = fit_plain(curve.sizes, curve.auc)
        self.bounded: Forecast | None = None
        with suppress(ForecastError):
            self.bounded = fit_nls(curve)
        self.bounded_now = float("nan") if self.bounded is None else self.bounded.auc(curve.n).mean

    def plain(self, n: float) -> float:
        """Plain curve_fit at `n` labels; where it does not converge, the last value."""
        if self._plain is None:
            return self.last
        a, b, c = self._plain
        with np.errstate(all="ignore"):
            said = float(a - b * n**-c)
        return said if np.isfinite(said) else self.last


def _tell(
    run: Replay, look: Look, k: int, curve: LearningCurve, forecast: Forecast, simpler: Simpler
) -> Iterator[Told]:
    """What each method says: ours, bounded least squares, the last value."""
    now, ahead = run.truth(look.n)[k], run.truth(4 * look.n)[k]
    far, grows = run.true_auc[-1, k], run.n_labels[-1] / look.n
    se = float(np.sqrt(hanley_mcneil(now if np.isfinite(now) else 0.7, *run.test_counts[:, k])))
    methods = {"ours": forecast}
    if simpler.bounded is not None:
        methods["bounded curve_fit"] = simpler.bounded
    for method, fit in methods.items():
        here, there = fit.auc(fit.n, LEVEL), fit.auc(4 * fit.n, LEVEL)
        yield Told(
            method, run.seed, look.n, here.mean, here.low, here.high, now, there.mean, there.low, there.high, ahead,
            fit.auc(grows * fit.n).mean, far, _sd(here.low, here.high), _sd(there.low, there.high), se,
        )  # fmt: skip
    last, plain = simpler.last, [simpler.plain(times * curve.n) for times in (1, 4, grows)]
    nan = float("nan")
    for method, here_, there_, end in (("last value", last, last, last), ("plain curve_fit", *plain)):
        yield Told(
            method, run.seed, look.n, here_, nan, nan, now, there_, nan, nan, ahead, end, far, nan, nan, se
        )  # fmt: skip


def _sd(low: float, high: float) -> float:
    return (high - low) / (2 * 1.645)


def _asked(
    world: World, run: Replay, n: int, k: int, forecasts: Sequence[dict[int, Forecast]], target: float
) -> list[Asked]:
    """The random stream up to `n` labels; a batch is bet on if the forecast before it thought the test winnable."""
    looks = [look.n for look in run.looks]
    asked = []
    for begun, (rows, scores) in zip([0, *run.n_labels], run.asked, strict=False):
        if begun >= n or not len(rows) or not np.isfinite(scores[:, k]).all():
            continue
        before = [f for f, at in zip(forecasts, looks, strict=False) if at <= begun]
        bet = bool(before) and k in before[-1] and before[-1][k].prob_reached(target - 0.03) >= 0.5
        asked.append(Asked(world.y[rows, k], scores[:, k], bet))
    return asked


def _collect(
    world: World, run: Replay, said: dict[tuple[int, float, str], tuple[float, float]]
) -> Iterator[Stopped]:
    rules = sorted({rule for _, _, rule in said} | set(RULES))
    for k in range(len(run.findings)):
        share = np.nanmean(world.y[:, k])
        for target in TARGETS:
            reached = np.flatnonzero(run.true_auc[:, k] >= target)
            crossing = float(run.n_labels[reached[0]]) if len(reached) else np.inf
            for rule in rules:
                n, true = said.get((k, target, rule), (np.inf, np.nan))
                yield Stopped(rule, float(target), n, true, crossing, min(share, 1 - share) >= 0.1)


def summarise(told: Sequence[Told], stopped: Sequence[Stopped]) -> dict[str, object]:
    """Errors and coverage by method and labels; false stops and labels spent by rule."""
    forecast: dict[str, dict[str, float]] = {}
    by: dict[tuple[str, int], list[Told]] = defaultdict(list)
    for one in told:
        by[one.method, one.n].append(one)
    for (method, n), ones in sorted(by.items()):
        if n not in (*SIZES, 800):
            continue
        a = {
            name: np.array([getattr(one, name) for one in ones], float)
            for name in asdict(ones[0])
            if name != "method"
        }
        forecast[f"{method} @ {n}"] = {
            "forecasts": len(ones),
            "now_mae": _mean(np.abs(a["now"] - a["true_now"])),
            "now_bias": _mean(a["now"] - a["true_now"]),
            "now_covered": _held(a["now_low"], a["now_high"], a["true_now"]),
            "now_covered_less_error": _near(a["now"], a["sd_now"], a["true_now"], a["truth_se"]),
            "ahead_n": int(np.isfinite(a["true_ahead"]).sum()),
            "ahead_mae": _mean(np.abs(a["ahead"] - a["true_ahead"])),
            "ahead_mae_less_error": _less(np.abs(a["ahead"] - a["true_ahead"]), a["truth_se"]),
            "ahead_bias": _mean(a["ahead"] - a["true_ahead"]),
            "ahead_covered": _held(a["ahead_low"], a["ahead_high"], a["true_ahead"]),
            "ahead_covered_less_error": _near(a["ahead"], a["sd_ahead"], a["true_ahead"], a["truth_se"]),
            "end_mae": _mean(np.abs(a["far"] - a["true_far"])),
            "truth_se": _mean(a["truth_se"]),
        }
    stops: dict[str, dict[str, float]] = {}
    for rule in sorted({one.rule for one in stopped}):
        mine = [one for one in stopped if one.rule == rule and np.isfinite(one.n)]
        if rule == "OUT OF REACH":
            false = [one for one in mine if np.isfinite(one.crossing)]
            found = [one for one in stopped if one.rule == rule and not np.isfinite(one.crossing)]
        else:
            floor = 0.03 if rule == "CERTIFIED" else 0.0
            false = [one for one in mine if one.true_auc < one.target - floor]
            found = [one for one in stopped if one.rule == rule and np.isfinite(one.crossing)]
        right = [one for one in mine if one not in false and np.isfinite(one.crossing)]
        stops[rule] = {
            "said": len(mine),
            "false": len(false),
            "false_share": len(false) / len(mine) if mine else np.nan,
            "shortfall": _mean(np.array([one.target - one.true_auc for one in false])),
            "found": len(mine) - len(false),
            "there": len(found),
            "over_oracle": _median([one.n / one.crossing for one in right]),
            "over_oracle_common": _median([one.n / one.crossing for one in right if one.common]),
        }
    return {"forecast": forecast, "stops": stops, "covered": covered_by_runs(told)}


def covered_by_runs(told: Sequence[Told]) -> tuple[float, float, float]:
    """Share of our intervals of "AUC now" that hold the truth, all sizes together, and its 90 % bootstrap over runs."""
    held: dict[int, list[bool]] = defaultdict(list)
    for one in told:
        if one.method == "ours" and one.n in (*SIZES, 800) and np.isfinite(one.true_now):
            held[one.run].append(one.now_low <= one.true_now <= one.now_high)
    counts = np.array([(sum(run), len(run)) for run in held.values()], float)  # (R, 2)
    if not len(counts):
        return float("nan"), float("nan"), float("nan")
    again = np.random.default_rng(0).integers(len(counts), size=(2_000, len(counts)))
    drawn = counts[again].sum(axis=1)  # (2000, 2)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.05, 0.95])
    return float(counts[:, 0].sum() / counts[:, 1].sum()), float(low), float(high)


def _mean(x: np.ndarray) -> float:
    x = x[np.isfinite(x)]
    return float(x.mean()) if len(x) else float("nan")


def _less(errors: np.ndarray, truth_se: np.ndarray) -> float:
    """Mean absolute error without the truth's own, as if both were normal."""
    there = np.isfinite(errors)
    if not there.any():
        return float("nan")
    own = 2 / np.pi * np.mean(truth_se[there] ** 2)
    return float(np.sqrt(max(errors[there].mean() ** 2 - own, 0.0)))


def _median(x: Sequence[float]) -> float:
    return float(np.median(x)) if len(x) else float("nan")


def _held(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    there = np.isfinite(low) & np.isfinite(truth)
    return float(((low <= truth) & (truth <= high))[there].mean()) if there.any() else float("nan")


def _near(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray, se: np.ndarray) -> float:
    there = np.isfinite(sd) & np.isfinite(truth)
    return (
        float((np.abs(mean - truth) <= 1.645 * np.hypot(sd, se))[there].mean())
        if there.any()
        else float("nan")
    )


def show(name: str, runs: int, share: float, told: dict[str, object]) -> None:
    """Print both tables of one world."""
    click.echo(f"\n{name}: {runs} runs, random share {share:g}")
    click.echo(
        f"  {'method @ labels':<26}{'n':>5} {'now':>6} {'bias':>6} {'covers':>7} {'(less)':>7} | {'n':>4} {'at 4n':>6} {'(less)':>6} {'bias':>6} {'covers':>7} {'(less)':>7} | {'end':>5}"
    )
    share_held, low, high = told["covered"]  # type: ignore[misc]
    click.echo(
        f"  intervals of AUC now, all sizes: {share_held:.0%} hold the truth ({low:.0%} to {high:.0%} over runs)"
    )
    for key, row in told["forecast"].items():  # type: ignore[attr-defined]
        click.echo(
            f"  {key:<26}{row['forecasts']:>5} {row['now_mae']:>6.3f} {row['now_bias']:>+6.3f} {row['now_covered']:>7.0%} "
            f"{row['now_covered_less_error']:>7.0%} | {row['ahead_n']:>4} {row['ahead_mae']:>6.3f} {row['ahead_mae_less_error']:>6.3f} {row['ahead_bias']:>+6.3f} "
            f"{row['ahead_covered']:>7.0%} {row['ahead_covered_less_error']:>7.0%} | {row['end_mae']:>5.3f}"
        )
    click.echo(
        f"  {'rule':<34}{'said':>6} {'false':>6} {'share':>7} {'short by':>9} {'found':>12} {'labels/oracle':>14} {'common':>7}"
    )
    for rule, row in told["stops"].items():  # type: ignore[attr-defined]
        click.echo(
            f"  {rule:<34}{row['said']:>6} {row['false']:>6} {row['false_share']:>7.1%} {row['shortfall']:>9.3f} "
            f"{row['found']:>5} of {row['there']:>4} {row['over_oracle']:>13.1f} {row['over_oracle_common']:>8.1f}"
        )


@click.command()
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the X-rays."
)
@click.option("--world", "worlds", multiple=True, type=click.Choice([*WORLDS, "simulated"]), required=True)
@click.option(
    "--part",
    type=click.Choice(["A", "B", "seed"]),
    default="seed",
    help="Half that is labelled; the truth is measured on the other.",
)
@click.option("--share", default=0.5, help="Random share of every batch but the first.")
@click.option("--runs", default=12)
@click.option("--first-seed", default=100)
@click.option("--max-labels", default=800)
@click.option("--strategy", default="hybrid", help="Of the active part.")
@click.option(
    "--cold-start",
    default="random",
    help="Strategy of the first batch's active part; random = all of it is random.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep replays and their curves in this folder, and take them from it: a change of prior or rule needs no new ones. Empty it when replays or curves change.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Add the figures to this JSON-lines file."
)
def main(
    data: Path | None,
    worlds: tuple[str, ...],
    part: str,
    share: float,
    runs: int,
    first_seed: int,
    max_labels: int,
    strategy: str,
    cold_start: str,
    keep: Path | None,
    out: Path | None,
) -> None:
    warnings.simplefilter("ignore")
    together: tuple[list[Told], list[Stopped]] = [], []
    for name in worlds:
        told: list[Told] = []
        stopped: list[Stopped] = []
        for seed in range(first_seed, first_seed + runs):
            world, test = halves(name, data, part, seed)
            kept = kept_at(keep, name, part, share, max_labels, seed, strategy, cold_start)
            run, curves = replay_once(world, test, seed, share, max_labels, kept, strategy, cold_start)
            mine, stops = judge(world, run, curves)
            told += mine
            stopped += stops
        together[0].extend(told)
        together[1].extend(stopped)
        summary = summarise(told, stopped)
        show(name if part == "seed" else f"{name} {part}", runs, share, summary)
        if out is not None:
            with out.open("a") as file:
                file.write(
                    json.dumps({"world": name, "part": part, "share": share, "runs": runs, **summary}) + "\n"
                )
    if len(worlds) > 1:
        show(f"all of {', '.join(worlds)}", runs * len(worlds), share, summarise(*together))


def kept_at(
    keep: Path | None,
    name: str,
    part: str,
    share: float,
    max_labels: int,
    seed: int,
    strategy: str = "hybrid",
    cold_start: str = "random",
) -> Path | None:
    """The file that keeps a replay; None where none is kept."""
    if keep is None:
        return None
    return keep / f"{name}-{part}-{share:g}-{max_labels}-{strategy}-{cold_start}-{seed}.pkl"


def replay_once(
    world: World,
    test: World,
    seed: int,
    share: float,
    max_labels: int,
    kept: Path | None,
    strategy: str = "hybrid",
    cold_start: str = "random",
) -> tuple[Replay, list[dict[int, LearningCurve]]]:
    """A replay and its learning curves, taken from the file that keeps them if it is there."""
    if kept is not None and kept.exists():
        found: tuple[Replay, list[dict[int, LearningCurve]]] = pickle.loads(kept.read_bytes())
        return found
    run = replay(world, test, seed, share, max_labels, strategy=strategy, cold_start=cold_start)
    curves = look_at(world, run)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.with_suffix(".part").write_bytes(pickle.dumps((run, curves)))
        kept.with_suffix(".part").rename(kept)
    return run, curves


def halves(name: str, data: Path | None, part: str, seed: int) -> tuple[World, World]:
    if name == "simulated":
        whole = simulated(seed, 8_000)
        return whole.rows(np.arange(4_000)), whole.rows(np.arange(4_000, 8_000))
    if data is None:
        raise click.UsageError(f"--data DIR is needed for {name}.")
    whole = WORLDS[name](data)
    if part == "seed":
        return half(whole, 0, seed), half(whole, 1, seed)
    which = "AB".index(part)
    return half(whole, which), half(whole, 1 - which)


if __name__ == "__main__":
    main()
