"""What `loop encoders compare` prints."""

from __future__ import annotations

from rich.text import Text

from forecasting.words import (
    auc_text,
    counted,
    level_text,
    listed,
    probability_text,
    signed_text,
)
from loop.comparison import Comparison, SwitchReport
from loop.show import console, interval_cell, needed_cell, plain_table


def show_comparison(told: Comparison) -> None:
    """One row a finding and encoder, then what a change would save, in words."""
    out = console()
    first = told.encoders[0].encoder
    out.print(
        f"{counted(told.labels, 'labelled image')}, the same folds and training sets for every encoder; changes are "
        f"told from {first}."
    )
    alike = len(set(told.targets.values())) == 1
    table = plain_table()
    table.add_column("finding")
    table.add_column("encoder")
    for column in ("AUC now", "change", "plateau", "P(reachable)", "labels in all"):
        table.add_column(column, justify="right", no_wrap=True)
    for finding, target in told.targets.items():
        named = finding if alike else f"{finding} ({auc_text(target)})"
        for encoder in told.encoders:
            one = encoder.findings[finding]
            if one.now is None or one.plateau is None or one.p_reachable is None or one.labels_needed is None:
                n1, n0 = told.counts[finding]
                table.add_row(named, f"cannot tell: {n1} yes, {n0} no", *[""] * 5)
                break
            change = next(
                (s for s in told.switches if (s.finding, s.after) == (finding, encoder.encoder)), None
            )
            table.add_row(
                named,
                encoder.encoder,
                interval_cell(one.now),
                change_cell(change),
                interval_cell(one.plateau),
                probability_text(one.p_reachable),
                needed_cell(one.labels_needed[0], one.labels_needed[2]),
            )
            named = ""
    out.print(table)
    goal = f"target {auc_text(next(iter(told.targets.values())))}" if alike else "the targets in brackets"
    out.print(
        Text(
            f"AUC, and its change on the same images, with {level_text(told.level)} intervals. P(reachable): probability that the plateau is at the target. "
            f"Labels in all for {goal}, as the {level_text(0.8)} range.",
            style="dim",
        )
    )
    for switch in told.switches:
        if switch.said:
            out.print(Text(switch.said))
    if silent := unsaid(told):
        out.print(Text(silent, style="dim"))
    for line in told.left_out:
        out.print(Text(f"left out: {line}", style="yellow"))


def change_cell(change: SwitchReport | None) -> str:
    """`+.021 (-.004 to +.045)`; empty for the encoder that a change would be from."""
    if change is None:
        return ""
    mean, low, high = (signed_text(x) for x in (change.gain.mean, change.gain.low, change.gain.high))
    return f"{mean} ({low} to {high})"


def unsaid(told: Comparison) -> str:
    """Which changes these labels cannot judge; empty if there are none."""
    changes = []
    for encoder in told.encoders[1:]:
        quiet = [s.finding for s in told.switches if s.after == encoder.encoder and not s.said]
        if quiet:
            changes.append(f"to {encoder.encoder}: {listed(quiet)}")
    if not changes:
        return ""
    return f"These labels cannot tell whether a change saves or costs labels {'; '.join(changes)}."
