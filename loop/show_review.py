"""What `loop review` prints."""

from __future__ import annotations

from rich.text import Text

from forecasting.words import auc_text, counted
from loop.review import Review
from loop.show import console, plain_table

ANSWERS = {1.0: "yes", 0.0: "no", None: "tie"}


def show_review(review: Review, top: int) -> None:
    """One row a label and finding, most doubtful first, and what was pushed."""
    out = console()
    if not review.doubts:
        out.print("No label is in doubt: nobody disagrees, and no label is contradicted by the others.")
    else:
        table = plain_table("Labels to look at again, most doubtful first")
        for column in ("task", "finding", "label", "yes", "no", "probability", "doubt", "why"):
            right = column in ("task", "yes", "no", "probability", "doubt")
            table.add_column(column, justify="right" if right else "left")
        for doubt in review.doubts[:top]:
            table.add_row(
                str(doubt.task_id),
                doubt.finding,
                ANSWERS[doubt.label],
                str(doubt.yes),
                str(doubt.no),
                "" if doubt.probability is None else auc_text(doubt.probability, 2),
                auc_text(doubt.doubt, 2),
                doubt.reason,
            )
        out.print(table)
        images = len({doubt.item for doubt in review.doubts})
        out.print(f"{counted(len(review.doubts), 'label')} of {counted(images, 'image')} in doubt.")
    if review.reviewed:
        out.print(f"{counted(review.reviewed, 'image')} left out: a second look was asked for before.")
    if review.version is not None:
        out.print(
            f"Asked one more annotator to look at {counted(review.pushed, 'image')}, before what is left of the batch. "
            f"Model version {review.version}."
        )
    for line in review.warnings:
        out.print(Text(f"warning: {line}", style="yellow"))
