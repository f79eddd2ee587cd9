"""What `loop simulate` and `loop demo` print: what was forecast, beside what was true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from forecasting.words import auc_text, probability_text, signed_text
from loop.arms import Paired, PairedAuc
from loop.show import COLOURS, auc_cell, console, interval_cell, needed_cell, plain_table, verdict_text
from loop.step_findings import IntervalReport


def show_simulation(run: Mapping[str, Any], warn: bool = True) -> None:
    """The rounds of a simulated project as a table, after what looked odd in its files."""
    out = console()
    for line in run["warnings"] if warn else ():
        out.print(Text(line, style="yellow"))
    images = run["images"]
    out.print(
        f"seed {run['seed']}: {images['pool']:,} images to ask, {images['test']:,} held apart to measure the true AUC"
    )
    if images["unembedded"] or images["unlabelled"]:
        out.print(
            f"left out: {images['unembedded']:,} labelled images without an embedding, {images['unlabelled']:,} embeddings "
            "without a label"
        )
    names = list(run["rounds"][-1]["findings"])
    table = plain_table()
    table.add_column("labels", justify="right")
    table.add_column("finding")
    for column in ("positives", "AUC now", "true AUC", "labels needed", "P(reached)"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for round_ in run["rounds"]:
        for row, name in enumerate(names):
            told = round_["findings"][name]
            ahead = told["forecast"]
            needed = ahead and ahead["labels_needed"]
            table.add_row(
                f"{round_['labels']:,}" if row == 0 else "",
                name,
                str(told["positives"]),
                auc_range_text(told),
                auc_cell(told["true_auc"]),
                "" if needed is None else needed_cell(needed["low"], needed["high"]),
                "" if ahead is None else probability_text(ahead["p_reached"]),
                verdict_text(told["verdict"]),
            )
    out.print(table)
    out.print(Text.assemble((run["verdict"], COLOURS[run["verdict"]]), f": {run['reason']}"))
    out.print()


def show_simulations(summary: Mapping[str, Any]) -> None:
    """Several seeds, summed up."""
    out = console()
    labels = summary["labels_at_stop"]
    out.print(
        f"{summary['seeds']} seeds: STOP after {labels['median']:,.0f} labels (median; {labels['low']:,} to {labels['high']:,})"
    )
    table = plain_table()
    for column in (
        "finding",
        "true AUC at stop",
        "LIKELY said",
        "of these false",
        "CERTIFIED said",
        "of these false",
    ):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, told in summary["findings"].items():
        table.add_row(
            name,
            auc_cell(told["true_auc_at_stop"]),
            *(str(told[key]) for key in ("likely", "likely_false", "certified", "certified_false")),
        )
    out.print(table)


def show_arms(strategy: str, arms: Mapping[str, Paired], at_end: PairedAuc) -> None:
    """What a strategy saves against random, over the seeds of a simulation."""
    out = console()
    out.print(arms_text(strategy, "STOP", "the budget or the pool was spent", arms["at_stop"]))
    out.print(arms_text(strategy, "the true AUC is at the target", "its run ended", arms["to_target"]))
    if any(told.neither for told in arms.values()) and (said := end_text(strategy, at_end)):
        out.print(said)


def arms_text(strategy: str, what: str, end: str, told: Paired) -> str:
    """`Until STOP: uncertainty 320 labels, random 410; it saves 90, 95 % interval 20 to 160 (10 of 10 seeds).`"""
    seeds = f"({told.seeds} of {told.of} seeds)"
    if told.neither == told.of:
        return (
            f"Until {what}: in none of {told.of} seeds did {strategy} or random come there before {end}, so nothing can be said of "
            "labels. Give a lower --target; or, where it was --max-labels that ended them, more of these."
        )
    rest = f"; in {told.neither} more neither came there before {end}" if told.neither else ""
    if told.saved is None or told.low is None or told.high is None:
        return f"Until {what}: nothing to tell, both {strategy} and random came there in too few seeds {seeds}{rest}."
    low, high = f"{told.low:,.0f}", f"{told.high:,.0f}"
    if told.low > 0:
        verdict = f"{strategy} saves {told.saved:,.0f} labels, 95 % interval {low} to {high}"
    elif told.high < 0:
        verdict = (
            f"{strategy} costs {-told.saved:,.0f} labels, 95 % interval {-told.high:,.0f} to {-told.low:,.0f}"
        )
    else:
        verdict = f"nothing that we can show (95 % interval: {low} to {high} labels saved)"
    return f"Until {what}: {told.strategy:,.0f} labels by {strategy}, {told.random:,.0f} at random; {verdict} {seeds}{rest}."


def end_text(strategy: str, told: PairedAuc) -> str:
    """`With as many labels at the end (10 seeds): true AUC .803 by uncertainty, .795 at random; ...`; empty where nothing is told."""
    ends = (told.difference, told.low, told.high)
    if told.strategy is None or told.random is None or None in ends:
        return ""
    gain, low, high = (signed_text(end) for end in ends if end is not None)
    return (
        f"With as many labels at the end ({told.seeds} seeds): true AUC {auc_text(told.strategy)} by {strategy}, "
        f"{auc_text(told.random)} at random; difference {gain}, 95 % interval {low} to {high}."
    )


def show_demo(told: Mapping[str, Any], picture: Path, page: Path, config: Path) -> None:
    """The rounds of a demo: what was forecast, and what was true."""
    out = console()
    names = list(told["rounds"][-1]["findings"])
    table = plain_table("\nFrom the first batch to STOP")
    table.add_column("labels", justify="right")
    for name in names:
        table.add_column(f"{name}: AUC now", justify="right")
        table.add_column("true AUC", justify="right")
        table.add_column("verdict")
    for round_ in told["rounds"]:
        cells: list[str | Text] = [f"{round_['labels']:,}"]
        for name in names:
            found = round_["findings"][name]
            cells += [auc_range_text(found), auc_cell(found["true_auc"]), verdict_text(found["verdict"])]
        table.add_row(*cells)
    out.print(table)
    out.print(Text.assemble(verdict_text(told["verdict"]), f": {told['reason']} {told['remedy']}"))
    out.print(f"Learning curves: {picture}")
    out.print(f"The project lead's page: {page}")
    out.print(f"The project, to look around in (status, report, evidence, export, serve): -c {config}")


def auc_range_text(found: Mapping[str, Any]) -> str:
    """`.871 (.83-.90)` of a finding's JSON; empty before the first forecast."""
    ahead = found["forecast"]
    return "" if ahead is None else interval_cell(IntervalReport(**ahead["now"]))
