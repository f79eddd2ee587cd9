"""What people read about an exported probe, and about scores of new images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from forecasting.words import auc_text, counted
from loop.show import console

if TYPE_CHECKING:
    from loop.evidence import Pack
    from loop.predict import Scored
    from loop.probefile import ProbeFile

MOST_LISTED = 10


def show_probe_file(out: Path) -> Callable[[ProbeFile], None]:
    """What was written, finding by finding."""

    def show(told: ProbeFile) -> None:
        to = console()
        n = int(told.probe.fitted.sum())
        to.print(
            Text(
                f"Wrote {out}: {counted(n, 'head')} on {told.encoder}, trained on {counted(told.labels, 'label')}."
            )
        )
        for name, one in told.findings.items():
            if one["auc"] is not None:
                interval = f"{auc_text(one['auc_low'], 2)} to {auc_text(one['auc_high'], 2)}"
                to.print(Text(f"  {name}: AUC {auc_text(one['auc'])} ({interval}), {one['verdict']}"))
        for name, why in told.probe.not_fitted().items():
            to.print(Text(f"  {name} has no head: {why}", style="yellow"))

    return show


def show_scored(told: Scored) -> None:
    """What `loop predict` wrote, and what it left out."""
    to = console()
    for line in told.problems[:MOST_LISTED]:
        to.print(Text(f"left out: {line}", style="yellow"))
    if len(told.problems) > MOST_LISTED:
        to.print(f"... and {len(told.problems) - MOST_LISTED:,} more; --json lists them all")
    for name, why in told.not_fitted.items():
        to.print(Text(f"{name} is not scored: {why}", style="yellow"))
    to.print(
        Text(
            f"Wrote {told.out}: {told.rows:,} of {counted(told.images, 'image')}, {', '.join(told.findings) or 'no finding'}."
        )
    )
    if said := unlike_text(told):
        to.print(Text(said, style="yellow" if told.doubtful else ""))


def unlike_text(told: Scored) -> str:
    """`23 of 60 images are unlike the archive ...`; empty where nothing can be told of it."""
    if told.unlike is None:
        return ""
    n = len(told.unlike)
    text = f"{n:,} of {counted(told.rows, 'image')} {'is' if n == 1 else 'are'} unlike those of the archive"
    if not told.doubtful:
        return f"{text}; of its own, about 1 in 100 is."
    return (
        f"{text}, of whose own about 1 in 100 is. Nobody has measured the probe on such images: neither AUC nor probabilities hold for them. "
        "Look at some (--json names them), and label images of this kind before you trust the scores."
    )


def show_pack(told: Pack) -> None:
    """What was written, what follows from it, and the hash to keep."""
    from loop.evidence_check import say

    to = console()
    to.print(Text(f"Wrote {told.out}: {', '.join(told.files)}."))
    to.print(Text(say(dict(told.checked))))
    to.print(
        Text(
            f"SHA-256 of the file: {told.sha256}. Keep it elsewhere: it shows whether another file was put in its place."
        )
    )
