"""What `loop encoders list` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from loop.encoders.catalogue import Known, list_encoders
from loop.show import console, plain_table

HERE = {True: "yes", False: "no", None: "-"}


@dataclass(frozen=True, slots=True)
class Listed:
    """Encoders, each with whether its weights are here; None = they are a file of the user's."""

    encoders: Sequence[tuple[Known, bool | None]]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {
            "encoders": [
                {
                    "family": known.family,
                    "spec": known.spec,
                    "pixels": known.pixels,
                    "dim": known.dim,
                    "vector": known.vector,
                    "weights": known.source,
                    "licence": known.licence,
                    "gated": bool(known.gated),
                    "extra": known.extra,
                    "note": known.note,
                    "here": here,
                }
                for known, here in self.encoders
            ]
        }


def look_up_encoders() -> Listed:
    """Every known encoder, and whether its weights are on this machine; the network is not asked."""
    return Listed(
        [(known, known.is_here() if known.is_here is not None else None) for known in list_encoders()]
    )


def show_encoders(told: Listed) -> None:
    """A table with each spec on a line of its own, to be copied, and below it what one should know."""
    out = console()
    table = plain_table()
    table.add_column("here")
    table.add_column("pixels", justify="right")
    table.add_column("vector", justify="right")
    table.add_column("spec", overflow="fold")
    notes = [known.note for known, _ in told.encoders]
    for (known, here), note, next_note in zip(told.encoders, notes, [*notes[1:], ""], strict=True):
        facts = f"{known.vector}; {known.source}; licence: {known.licence}"
        if known.extra:
            facts += f"; extra [{known.extra}]"
        said = (
            f"{facts}. {note}" if note and note != next_note else facts
        )  # a note that several share stands once
        table.add_row(
            HERE[here],
            str(known.pixels or "any"),
            str(known.dim or "any"),
            Text.assemble(known.spec, "\n", (said, "dim")),
        )
    out.print(table)
    out.print()
    out.print(
        Text(
            "Here: the weights are on this machine (-: a file of yours). Input size, mean, deviation and resampling come from "
            "what the weights ship, the vector's length is measured; the numbers above are what is known without them.",
            style="dim",
        )
    )
