"""What `loop start` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from loop.show import console
from loop.show_step import show_step

if TYPE_CHECKING:
    from loop.start import Started


def show_start(begun: Started) -> None:
    """What `loop start` found and did."""
    out = console()
    out.print(
        Text.assemble((begun.project, "bold"), f": {begun.images:,} images of {begun.patients:,} patients")
    )
    out.print(
        f"  {begun.random:,} in the random stream, {begun.active:,} in the active part, {begun.spare:,} set aside "
        "(other images of random-stream patients)"
    )
    out.print(f"  embeddings: {begun.encoder}, {embeddings_text(begun)}")
    if begun.nearness is not None:
        out.print(Text(f"  {begun.nearness}"))
    out.print(f"  Label Studio: project {begun.project_id} at {begun.url}, {begun.imported:,} tasks imported")
    for line in begun.problems[:10]:
        out.print(Text(f"  left out: {line}", style="yellow"))
    if len(begun.problems) > 10:
        out.print(f"  ... and {len(begun.problems) - 10} more; `loop status` lists them all")
    show_step(begun.report)


def embeddings_text(begun: Started) -> str:
    """`39 new, 0 already there`, and how many images have none, if any."""
    none = begun.images - begun.encoded - begun.already
    told = f"{begun.encoded:,} new, {begun.already:,} already there"
    return told + (f", {none:,} missing: not found, or not readable" if none else "")
