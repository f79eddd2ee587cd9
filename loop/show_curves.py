"""What `loop forecast` and `loop prior` print."""

from __future__ import annotations

import dataclasses

from rich.text import Text

from forecasting.words import auc_text, count_text, level_text, probability_text
from loop.curvefile import FileForecast
from loop.finished import PriorReport
from loop.show import auc_cell, console, interval_cell, needed_cell, plain_table


def show_forecast(told: FileForecast) -> None:
    """The forecast of a curve file as a table."""
    out = console()
    table = plain_table()
    table.add_column("finding")
    alike = len({tuple(curve.at) for curve in told.told}) == 1  # else each is told at its own labels
    for column in (f"AUC at {n:,}" for n in told.told[0].at) if alike else ("AUC now", "AUC at 4x labels"):
        table.add_column(column, justify="right")
    table.add_column("plateau", justify="right")
    with_target = told.told[0].target is not None
    if with_target:
        table.add_column(f"labels for {auc_cell(told.told[0].target)}", justify="right")
        table.add_column("P(reachable)", justify="right")
    table.add_column("AUC = a - b n^-c", justify="right")
    for curve in told.told:
        cells = [
            curve.finding or "curve",
            *(interval_cell(i) for i in curve.at.values()),
            interval_cell(curve.plateau),
        ]
        if with_target and curve.labels_needed is not None and curve.p_reachable is not None:
            needed = needed_cell(curve.labels_needed[0], curve.labels_needed[2])
            cells += [needed, probability_text(curve.p_reachable)]
        a, b, c = (curve.tail[name] for name in "abc")
        table.add_row(*cells, f"{a:.3f} - {b:.3g} n^-{c:.2f}")
    out.print(table)
    for reason in told.unfitted.values():
        out.print(Text(f"no fit: {reason}", style="yellow"))
    first = told.told[0]
    believed = f", prior {told.prior or 'as shipped'}" if first.method == "bayes" else ""
    line = f"Method {first.method}{believed}. AUC with its {level_text(first.plateau.level)} interval."
    if first.labels_level is not None:
        line += f" Labels needed in total, as the {level_text(first.labels_level)} range."
    line += " a - b n^-c is what the curve becomes for very many labels."
    out.print(Text(line, style="dim"))
    if told.half_assumed:
        out.print(
            Text(
                "The file has no counts and no errors: half of the labels were taken to be positive. For a rarer finding "
                "these intervals are too narrow; add a column positives (or se).",
                style="yellow",
            )
        )


def show_prior(told: PriorReport) -> None:
    """What a prior believes, in words."""
    out = console()
    level = level_text(told.level)
    out.print(f"Prior: {told.name}. Where it comes from: {told.comes_from}.")
    table = plain_table()
    table.add_column("of a finding, before any label")
    table.add_column(f"mean ({level} interval)", justify="right")
    for n, auc in told.auc_at.items():
        table.add_row(f"AUC at {n:,} labels, one in ten positive", interval_cell(auc))
    table.add_row("plateau, the AUC with labels without end", interval_cell(told.plateau))
    out.print(table)
    low, middle, high = (count_text(size) for size in told.half_way)
    out.print(
        f"Half-speed: a curve is half-way at an effective size n p (1 - p) of {middle} ({level}: {low} to {high}), p "
        "the share of positives."
    )
    around, siblings = ("{} to {}".format(*map(auc_text, pair)) for pair in (told.projects, told.findings))
    out.print(
        f"Spread: two projects in three have their average plateau at {around}; two findings in three of an average "
        f"project have theirs at {siblings}."
    )
    for name, value in dataclasses.asdict(told.prior).items():
        out.print(Text(f"  {name} = {value}", style="dim"))
