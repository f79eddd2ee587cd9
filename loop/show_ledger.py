"""What `loop ledger` prints."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.text import Text

from forecasting.words import counted
from loop.chain import Entry
from loop.ledgerfile import ProjectLedger, Verified
from loop.show import console, plain_table

KNOWN = {1.0: "yes", 0.0: "no"}


def show_ledger(told: ProjectLedger, last: int) -> None:
    """Rows by event and stream, the last of them, and the hash to keep."""
    out = console()
    if told.out is not None:
        out.print(f"Wrote {told.out}: {counted(len(told.entries), 'row')}.")
    elif told.entries:
        table = plain_table(
            f"{told.project}: the last {min(last, len(told.entries))} of {len(told.entries):,} rows"
        )
        table.add_column("row", justify="right")
        for column in (
            "at",
            "event",
            "stream",
            "round.rank",
            "task",
            "annotator",
            "answers",
            "score when asked",
            "why",
        ):
            table.add_column(column, overflow="fold", no_wrap=column in ("at", "event", "stream"))
        for entry in told.entries[-last:]:
            table.add_row(*row_cells(entry))
        out.print(table)
    events = Counter(
        (fields["event"], fields.get("stream", "")) for fields in (entry.fields() for entry in told.entries)
    )
    parts = [
        f"{number:,} {event}{f' {stream}' if stream else ''}"
        for (event, stream), number in sorted(events.items())
    ]
    out.print(f"{told.project}: {', '.join(parts) or 'nothing was asked or labelled yet'}.")
    out.print(Text(f"Row {len(told.entries):,} ends the chain with {told.head}. Keep this hash, or an export, elsewhere: "
                   "against it, `loop ledger verify` finds rows that were removed from the end, too.", style="dim"))  # fmt: skip


def show_verified(found: Verified) -> None:
    """All is as it was written, or the first row that is not."""
    out = console()
    if not found.ok:
        out.print(Text(f"{found.checked}: row {found.bad_row} is the first that is not as it was written: "
                       f"{found.problem}. Rows before it are good; compare with a backup or an earlier export.", style="red"))  # fmt: skip
        return
    out.print(
        f"{found.checked}: {counted(found.rows, 'row')}, each as it was written. The last hash is {found.head}."
    )
    if found.compared is not None:
        beyond = f", which has {counted(found.newer, 'newer row')}" if found.newer else ""
        out.print(f"They are those of {found.compared}{beyond}.")


def row_cells(entry: Entry) -> list[str]:
    """A row as people read it."""
    fields = entry.fields()
    place = ".".join(str(fields[name]) for name in ("round", "rank") if name in fields)
    return [
        str(entry.seq),
        fields.get("at", "")[:16].replace("T", " "),
        fields["event"],
        fields.get("stream", ""),
        place,
        str(fields.get("task", "")),
        fields.get("annotator", ""),
        ", ".join(f"{name} {KNOWN.get(value, '?')}" for name, value in fields.get("answers", {}).items()),
        ", ".join(
            f"{name} {score:.3f}" for name, score in fields.get("scores", {}).items() if score is not None
        ),
        _why(fields),
    ]


def _why(fields: dict[str, Any]) -> str:
    if fields["event"] == "read":
        return f"the certificate has read {counted(len(fields['y']), 'label')} of {fields['finding']}"
    if fields["event"] == "rolled back":
        undone = ", ".join(map(str, fields.get("undone", []))) or "none"
        return f"back to round {fields['to_round']}; rounds undone: {undone}"
    if fields["event"] == "decided":
        told = ", ".join(f"{name} {verdict}" for name, verdict in fields.get("verdicts", {}).items())
        return f"{fields.get('verdict', '')}{f': {told}' if told else ''}"
    if "inclusion_probability" not in fields:
        return str(fields.get("reason", ""))
    return f"{fields.get('reason', '')} (p {fields['inclusion_probability']:.3g})"
