"""Commands that try the whole loop out without annotators: simulate, demo."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.cli_options import (
    EXISTING_FILE,
    as_json_option,
    finding_option,
    group_option,
    labels_option,
    print_json,
    require_folder,
    spoken,
    target_option,
)

if TYPE_CHECKING:
    from loop.project import Loop

seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Makes the run repeatable.")
batch_option = partial(click.option, "--batch", type=click.IntRange(min=1), help="Labels a batch.")
max_labels_option = partial(
    click.option, "--max-labels", type=click.IntRange(min=1), help="Stop at this many labels at the latest."
)


@click.command()
@click.option(
    "--features",
    required=True,
    type=EXISTING_FILE,
    help="An .npz with arrays feat (n, d) and name (n,).",
)
@labels_option(required=True)
@group_option
@finding_option
@target_option(type=float, default=0.85, show_default=True)
@click.option(
    "--strategy",
    default="hybrid",
    show_default=True,
    help="How the active half is chosen: a name that [batch] strategy takes.",
)
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Share of each batch from the random stream.",
)
@batch_option(default=50, show_default=True)
@max_labels_option(default=800, show_default=True)
@click.option(
    "--evidence",
    type=click.Choice(["likely", "certified"]),
    default="likely",
    show_default=True,
    help="What counts as reached.",
)
@click.option(
    "--rule",
    type=click.Choice(["all", "mean"]),
    default="all",
    show_default=True,
    help="Every finding must reach the target, or their mean AUC.",
)
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 0.9),
    default=0.3,
    show_default=True,
    help="Share of patients never labelled, on which the true AUC is measured.",
)
@seed_option
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Repeat with this many seeds and sum up.",
)
@click.option(
    "--against-random",
    is_flag=True,
    help="Run each seed at random as well, and tell how many labels the strategy saves, with an interval over seeds.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=require_folder,
    help="Write the project lead's page of the (last) run to this .html file.",
)
@spoken
@as_json_option
def simulate(
    as_json: bool,
    quiet: bool,
    seed: int,
    seeds: int,
    against_random: bool,
    report: Path | None,
    **options: Any,
) -> None:
    """Replay a labelled data set as if it were being annotated, without Label Studio or images.

    \b
    Example:
      loop simulate --features features.npz --labels labels.csv --group patient --finding Effusion --target 0.85
    """
    from loop.arms import compare_arms, compare_auc
    from loop.errors import BadInput
    from loop.page.figures import page_of
    from loop.page.write import write_page
    from loop.show_trials import show_arms, show_simulation, show_simulations
    from loop.simulate import simulate_files, sum_up
    from loop.step_report import as_json as plain

    def write_report(loop: Loop) -> None:
        if report is not None:
            write_page(page_of(loop.settings, loop.state, loop.clock()), report)
            if not (quiet or as_json):
                click.echo(f"Wrote {report}")

    if against_random and (seeds < 2 or options["strategy"] == "random"):
        raise BadInput(
            "--against-random compares over seeds: give --seeds 2 or more (10 tell something), and a --strategy other than random."
        )
    runs, random = [], []
    for each in range(seed, seed + seeds):
        runs.append(simulate_files(seed=each, at_stop=write_report, **options))
        if against_random:
            random.append(simulate_files(seed=each, **{**options, "strategy": "random"}))
        if not (as_json or quiet):
            show_simulation(runs[-1], warn=each == seed)
    told: dict[str, Any] = {"runs": runs, "summary": sum_up(runs)}
    if against_random:
        arms, at_end = compare_arms(runs, random, options["rule"] == "mean"), compare_auc(runs, random)
        told["against_random"] = plain({**arms, "auc_at_end": at_end})
    if as_json:
        print_json(runs[0] if seeds == 1 else told)
    elif seeds > 1 and not quiet:
        show_simulations(sum_up(runs))
        if against_random:
            show_arms(options["strategy"], arms, at_end)


@click.command()
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Real images instead of drawn phantoms.",
)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    help="Their labels: a CSV with file, optionally patient, and one column a finding.",
)
@finding_option
@target_option(type=float)
@batch_option()
@max_labels_option()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures and the project.",
)
@seed_option
@click.option(
    "--keep", is_flag=True, help="Leave Label Studio running at the end, and print its address and login."
)
@click.option(
    "--serve",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Run no demo: start a throwaway Label Studio for images in folders below this one, until Ctrl-C.",
)
@spoken
@as_json_option
def demo(quiet: bool, as_json: bool, serve: Path | None, **options: Any) -> None:
    """Watch the whole loop run against a real, throwaway Label Studio until it says stop.

    Installs Label Studio into an environment of its own (once, about 2 minutes), starts it on this machine
    only, imports images, lets a scripted annotator label, steps until STOP, draws the learning curves.

    \b
    Example:
      loop demo
      loop demo --images folder --labels labels.csv --finding pneumonia --target 0.95
      loop demo --serve .
    """
    if serve is not None:
        from loop.demo.serve import serve as serve_folder

        serve_folder(serve)
        return
    from loop.demo.run import run_demo

    told = run_demo(quiet=quiet or as_json, **options)
    if as_json:
        print_json(told)
