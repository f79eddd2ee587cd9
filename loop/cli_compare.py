"""Which encoder? Compare those that have embeddings, on the labels there are."""

from __future__ import annotations

from pathlib import Path

import click

from loop.cli_options import (
    AUC,
    EXISTING_FILE,
    as_json_option,
    config_option,
    finding_option,
    group_option,
    labels_option,
    plot_option,
    read_settings,
    spoken,
    target_option,
    tell,
)


@click.command()
@click.argument("tables", nargs=-1, type=EXISTING_FILE)
@config_option(help="The project's configuration; not read when tables are given.")
@labels_option(help="For tables: a CSV with a file or name column and one column a finding (1, 0 or empty).")
@group_option
@finding_option
@target_option(type=AUC, help="The AUC to reach.  [default: the project's, or 0.85]")
@click.option(
    "--labels-used",
    type=click.IntRange(min=2),
    help="For tables: use a random sample of this many labelled images.",
)
@click.option(
    "--level",
    type=click.FloatRange(0.5, 1, max_open=True),
    help="Level of the intervals.  [default: the project's, or 0.9]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For tables: draws sample and folds.")
@plot_option("the learning curves, one panel a finding,")
@spoken
@as_json_option
def compare(
    tables: tuple[Path, ...],
    config: Path,
    labels: Path | None,
    group: str | None,
    findings: tuple[str, ...],
    target: float | None,
    labels_used: int | None,
    level: float | None,
    seed: int,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare encoders on the same labels: AUC now and ahead, labels needed, what a change saves.

    Without TABLES: every encoder in the project's feature store, on the project's labels. TABLES are .npz files
    with arrays feat (n, d) and name (n,), one an encoder; a change is told from the first.

    \b
    Example:
      loop encoders compare -c loop.toml --plot encoders.png
      loop encoders compare --labels labels.csv --group patient --labels-used 200 a.npz b.npz c.npz
    """
    from loop.compare import compare_project, compare_tables, draw_encoders
    from loop.errors import BadInput
    from loop.show_compare import show_comparison

    if bool(tables) != (labels is not None):
        raise BadInput(
            "Tables of embeddings need --labels, and --labels needs tables; a project has both itself."
        )
    if labels is not None:
        told = compare_tables(
            tables,
            labels,
            group,
            findings,
            target=target or 0.85,
            labels_used=labels_used,
            level=level or 0.9,
            seed=seed,
        )
    else:
        if group or findings or labels_used:
            raise BadInput(
                "--group, --finding and --labels-used belong to tables; a project's labels are used as they are."
            )
        asked = {"stop.target": target, "forecast.level": level}
        told = compare_project(read_settings(config, sets=tuple(f"{k}={v}" for k, v in asked.items() if v)))
    if plot is not None:
        draw_encoders(told, plot)
    tell(told, show_comparison, quiet=quiet, as_json=as_json)
