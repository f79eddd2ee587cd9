"""Commands about learning curves that need no project: plan, forecast, backtest, prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from loop.cli_options import (
    AUC,
    EXISTING_FILE,
    SHARE,
    as_json_option,
    force_option,
    level_option,
    plot_option,
    read_settings,
    require_folder,
    spoken,
    target_option,
    tell,
)


@click.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="Take targets, tolerance, alpha, batch and number of findings from this configuration.",
)
@target_option(type=AUC, help="The AUC to reach.  [default: 0.85]")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="The certificate tests the target less this.  [default: 0.03]",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    help="Error rate of the certificate.  [default: 0.05]",
)
@click.option(
    "--power",
    type=SHARE,
    default=0.8,
    show_default=True,
    help="Probability of having the certificate by then.",
)
@click.option(
    "--prevalence",
    "prevalences",
    type=SHARE,
    multiple=True,
    help="Share of positives; repeat for several. Default: .02 to .5.",
)
@click.option(
    "--margin",
    "margins",
    type=float,
    multiple=True,
    help="The model's true AUC less the target; repeat for several. Default: 0 and up.",
)
@click.option(
    "--findings",
    type=click.IntRange(min=1),
    metavar="K",
    help="Findings whose certificates shall hold together, each at alpha / K: the most that Holm's correction asks.  [default: 1]",
)
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of each batch from the random stream.  [default: 0.5]",
)
@click.option("--batch", type=click.IntRange(min=2), help="Images in a batch.  [default: 50]")
@plot_option("labels against AUC")
@spoken
@as_json_option
def plan(config: Path | None, plot: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Before the first label: how many it takes to certify a target, by prevalence and by the model's AUC.

    \b
    Example:
      loop plan --target 0.85 --prevalence 0.05 --prevalence 0.2 --plot plan.png
      loop plan -c loop.toml
    """
    from loop.plan import draw_plan, plan_project
    from loop.show_plan import show_plan

    told = plan_project(None if config is None else read_settings(config), **options)
    if plot is not None:
        draw_plan(told, plot)
    tell(told, show_plan, quiet=quiet, as_json=as_json)


@click.command()
@click.argument("curve", type=EXISTING_FILE)
@click.option(
    "--at",
    "at",
    type=click.IntRange(min=1),
    multiple=True,
    help="Forecast the AUC at this many labels; repeat for several.",
)
@target_option(type=AUC)
@click.option(
    "--method",
    type=click.Choice(["bayes", "nls"]),
    default="bayes",
    show_default=True,
    help="Bayesian probit power law, or bounded least squares.",
)
@level_option
@click.option(
    "--prior",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What is believed before any point: a file that `loop prior fit` wrote. Default: the shipped prior.",
)
@plot_option("the curve")
@spoken
@as_json_option
def forecast(
    curve: Path,
    at: tuple[int, ...],
    target: float | None,
    method: str,
    level: float,
    prior: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fit any learning curve: a CSV with n, auc and optionally se, positives, negatives, finding.

    \b
    Example:
      loop forecast curve.csv --target 0.9 --at 500 --at 2000 --plot curve.png
    """
    from loop.curvefile import draw_forecast, forecast_file
    from loop.show_curves import show_forecast

    told = forecast_file(curve, at, target, method, level, prior)
    if plot is not None:
        draw_forecast(told, plot)
    tell(told, show_forecast, quiet=quiet, as_json=as_json)


@click.command()
@click.argument("curves", type=EXISTING_FILE)
@level_option
@click.option(
    "--min-n",
    "least_n",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Replay from this many labels on.",
)
@click.option(
    "--max-replays",
    "most_cuts",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Replay a random sample of this many; 0 = all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the sample.")
@plot_option("error and coverage by method")
@spoken
@as_json_option
def backtest(
    curves: Path,
    level: float,
    least_n: int,
    most_cuts: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Replay forecasts on learning curves whose end is known, beside least-squares fits.

    A CSV with n, auc and optionally dataset, finding, repetition, positives, negatives, se. Findings of
    one dataset are forecast together, datasets apart.

    \b
    Example:
      loop backtest curves.csv --plot backtest.png
    """
    from loop.curvefile import backtest_file, draw_measures
    from loop.show import Progress
    from loop.show_backtest import show_backtest

    with Progress(visible=not (quiet or as_json)) as progress:
        told = backtest_file(curves, level, least_n, most_cuts or None, seed, progress)
    if plot is not None:
        draw_measures(told, plot)
    tell(told, show_backtest, quiet=quiet, as_json=as_json)


@click.group()
def prior() -> None:
    """What is believed about learning curves before the first label."""


@prior.command()
@click.argument("states", metavar="STATE...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("prior.toml"),
    show_default=True,
    callback=require_folder,
    help="The file to write.",
)
@force_option
@spoken
@as_json_option
def fit(states: tuple[str, ...], out: Path, force: bool, quiet: bool, as_json: bool) -> None:
    """Learn a prior from finished projects. Each STATE is a state.db, a project's folder or its configuration.

    The more alike your projects are, the more labels it saves the next one. The shipped prior counts as five
    projects, so one project moves it a little.

    \b
    Example:
      loop prior fit effusion-2024 nodules/loop.toml --out prior.toml
      loop forecast curve.csv --prior prior.toml
    """
    from loop.errors import BadInput
    from loop.finished import learn_prior, tell_prior
    from loop.priorfile import write_prior
    from loop.progress import utc_now
    from loop.show_curves import show_prior

    if out.exists() and not force:
        raise BadInput(f"{out} exists. Choose another name with --out, or replace it with --force.")
    fitted = learn_prior(states, utc_now())
    write_prior(out, fitted)
    told = tell_prior(fitted, str(out))
    tell(told, show_prior, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        click.echo(f'Wrote {out}. A project uses it with [forecast] prior = "{out}".')


@prior.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@spoken
@as_json_option
def show_believed(file: Path | None, quiet: bool, as_json: bool) -> None:
    """Say in words what the prior in FILE believes, and where it comes from. Without FILE: the shipped one.

    \b
    Example:
      loop prior show prior.toml
    """
    from loop.finished import tell_prior
    from loop.priorfile import read_prior
    from loop.show_curves import show_prior

    told = tell_prior(None) if file is None else tell_prior(read_prior(file), str(file))
    tell(told, show_prior, quiet=quiet, as_json=as_json)
