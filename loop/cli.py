"""The `loop` command: parses, opens, calls, prints; decides nothing."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from loop.report import StepReport
    from loop.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

CONTINUE, UNAVAILABLE, BAD_INPUT, STOP = 0, 1, 2, 10


class Failure(click.ClickException):
    """An error of ours, shown as one message without a traceback."""

    def __init__(self, error: Exception, exit_code: int) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


class LoopGroup(click.Group):
    """Translates our errors into exit statuses: 2 = bad input or configuration, 1 = a service is unavailable."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our own errors end it with their message and status."""
        from annotate.errors import AnnotateError, PushUnconfirmed, StudioUnavailable
        from forecasting.errors import ForecastError
        from loop.errors import LoopError, Unavailable

        try:
            return super().invoke(ctx)
        except (StudioUnavailable, PushUnconfirmed, Unavailable) as error:
            raise Failure(error, UNAVAILABLE) from error
        except (AnnotateError, ForecastError, LoopError, OSError) as error:
            raise Failure(error, BAD_INPUT) from error


def configured(command: Command) -> Command:
    """Give a command the options that find and change the configuration."""
    for option in (
        click.option(
            "--set",
            "sets",
            metavar="KEY=VALUE",
            multiple=True,
            help="Override a setting, e.g. --set stop.target=0.9.",
        ),
        click.option("--url", metavar="URL", help="Label Studio's address (or LABEL_STUDIO_URL)."),
        click.option(
            "--config",
            "-c",
            type=click.Path(path_type=Path),
            default=Path("loop.toml"),
            show_default=True,
            help="The project's configuration.",
        ),
    ):
        command = option(command)
    return command


def spoken(command: Command) -> Command:
    """Give a command the options that say how much it tells."""
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Say only what went wrong."),
        click.option("--verbose", "-v", is_flag=True, help="Say what is being done."),
    ):
        command = option(command)
    return command


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")


@click.group(cls=LoopGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="annotation-loop", prog_name="loop")
def main() -> None:
    """Label just enough: pull labels, retrain, forecast AUC, and stop when the target is reached.

    \b
    A project's first hour:
      loop init loop.toml     write a commented configuration, then edit it
      loop start              find and encode the images, ask the first batch
      loop step               after each batch: judge the labels, ask the next
    """


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("loop.toml"))
@click.option("--finding", "findings", multiple=True, help="A finding to label; repeat for several.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@spoken
def init(file: Path, findings: tuple[str, ...], force: bool, verbose: bool, quiet: bool) -> None:
    """Write a commented configuration to FILE.

    \b
    Example:
      loop init loop.toml --finding Effusion --finding Pneumothorax
    """
    from loop.errors import BadInput
    from loop.template import commented_toml

    if file.exists() and not force:
        raise BadInput(f"{file} exists. Choose another name, or replace it with --force.")
    file.write_text(commented_toml(findings or ("Effusion", "Pneumothorax")), encoding="utf-8")
    say(verbose, quiet)
    if not quiet:
        click.echo(
            f"Wrote {file}. Set the findings, the images and the target, then run: loop start -c {file}"
        )


@main.command()
@configured
@spoken
@as_json_option
def start(
    config: Path, url: str | None, sets: tuple[str, ...], verbose: bool, quiet: bool, as_json: bool
) -> None:
    """Find and encode the images, set up Label Studio, ask the first batch.

    Run it again after an interruption, or when images were added: nothing is done twice.

    \b
    Example:
      LABEL_STUDIO_API_KEY=... loop start -c loop.toml --url http://localhost:8080
    """
    from loop.show import Progress, show_start
    from loop.start import start as start_project

    say(verbose, quiet)
    settings = read(config, url, sets)
    with Progress(visible=not (quiet or as_json)) as progress:
        begun = start_project(settings, api_key(), progress)
    if as_json:
        print_json(begun.to_json())
    elif not quiet:
        show_start(begun)


@main.command()
@configured
@spoken
@as_json_option
@click.option("--now", is_flag=True, help="Judge what is there, even if the batch is not finished.")
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing anywhere.")
@click.pass_context
def step(
    ctx: click.Context,
    config: Path,
    url: str | None,
    sets: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    as_json: bool,
    now: bool,
    dry_run: bool,
) -> None:
    """Take one turn: pull, retrain, refit, decide, select, push.

    \b
    Exit status:
      0   continue labelling
      10  stop
      2   bad input or configuration
      1   a service is unavailable

    \b
    Example:
      loop step -c loop.toml --json
    """
    from loop.controller import rehearse
    from loop.controller import step as take_turn
    from loop.show import show_step
    from loop.start import opened

    say(verbose, quiet)
    with opened(read(config, url, sets), api_key()) as loop:
        report = (rehearse if dry_run else take_turn)(loop, force=now)
    if as_json:
        print_json(report.to_json())
    elif not quiet:
        show_step(report)
    ctx.exit(STOP if report.verdict == "STOP" else CONTINUE)


@main.command()
@configured
@spoken
@click.option("--json", "as_json", is_flag=True, help="Print each report as one line of JSON.")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between looks at Label Studio.",
)
@click.pass_context
def watch(
    ctx: click.Context,
    config: Path,
    url: str | None,
    sets: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    every: float,
    as_json: bool,
) -> None:
    """Take a turn whenever a batch is finished, until stop. Ends cleanly on Ctrl-C and SIGTERM.

    \b
    Example:
      loop watch -c loop.toml --every 30
    """
    from loop.show import show_step, show_waiting
    from loop.start import opened
    from loop.watch import watch as keep_watch

    def tell(report: StepReport) -> None:
        if as_json:
            click.echo(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))  # one line a report
        elif not quiet:
            (show_waiting if report.action == "waiting" else show_step)(report)

    say(verbose, quiet)
    with opened(read(config, url, sets), api_key()) as loop:
        report = keep_watch(loop, every, tell)
    ctx.exit(STOP if report is not None and report.verdict == "STOP" else CONTINUE)


@main.command()
@configured
@spoken
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the learning curves to this .png or .svg file.",
)
@as_json_option
def status(
    config: Path,
    url: str | None,
    sets: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Show where the project stands, from the state alone: Label Studio is not asked.

    \b
    Example:
      loop status -c loop.toml --plot curves.png
    """
    from loop.show import show_status
    from loop.status import draw_project, read_status

    say(verbose, quiet)
    settings = read(config, url, sets)
    found = read_status(settings)
    if plot is not None:
        draw_project(settings, plot)
    if as_json:
        print_json(found.to_json())
    elif not quiet:
        show_status(found)


@main.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="Take targets, tolerance, alpha, batch and number of findings from this configuration.",
)
@click.option(
    "--target",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    help="The AUC to reach.  [default: 0.85]",
)
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
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Probability of having the certificate by then.",
)
@click.option(
    "--prevalence",
    "prevalences",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
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
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw labels against AUC to this .png or .svg file.",
)
@spoken
@as_json_option
def plan(
    config: Path | None, plot: Path | None, as_json: bool, verbose: bool, quiet: bool, **options: Any
) -> None:
    """Before the first label: how many it takes to certify a target, by prevalence and by the model's AUC.

    \b
    Example:
      loop plan --target 0.85 --prevalence 0.05 --prevalence 0.2 --plot plan.png
      loop plan -c loop.toml
    """
    from loop.plan import draw_plan, plan_project
    from loop.show_plan import show_plan

    say(verbose, quiet)
    told = plan_project(None if config is None else read(config, None, ()), **options)
    if plot is not None:
        draw_plan(told, plot)
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show_plan(told)


@main.command()
@click.argument("curve", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--at",
    "at",
    type=click.IntRange(min=1),
    multiple=True,
    help="Forecast the AUC at this many labels; repeat for several.",
)
@click.option(
    "--target", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), help="The AUC to reach."
)
@click.option(
    "--method",
    type=click.Choice(["bayes", "nls"]),
    default="bayes",
    show_default=True,
    help="Bayesian probit power law, or bounded least squares.",
)
@click.option(
    "--level",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.9,
    show_default=True,
    help="Level of the intervals.",
)
@click.option(
    "--prior",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What is believed before any point: a file that `loop prior fit` wrote. Default: the shipped prior.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the curve to this .png or .svg file.",
)
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
    verbose: bool,
    quiet: bool,
) -> None:
    """Fit any learning curve: a CSV with n, auc and optionally se, positives, negatives, finding.

    \b
    Example:
      loop forecast curve.csv --target 0.9 --at 500 --at 2000 --plot curve.png
    """
    from loop.curvefile import draw_forecast, forecast_file
    from loop.show import show_forecast

    say(verbose, quiet)
    told = forecast_file(curve, at, target, method, level, prior)
    if plot is not None:
        draw_forecast(told, plot)
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show_forecast(told)


@main.command()
@click.argument("curves", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--level",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.9,
    show_default=True,
    help="Level of the intervals.",
)
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
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw error and coverage by method to this .png or .svg file.",
)
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
    verbose: bool,
    quiet: bool,
) -> None:
    """Replay forecasts on learning curves whose end is known, beside least-squares fits.

    A CSV with n, auc and optionally dataset, finding, repetition, positives, negatives, se. Findings of
    one dataset are forecast together, datasets apart.

    \b
    Example:
      loop backtest curves.csv --plot backtest.png
    """
    from loop.curvefile import backtest_file, draw_measures, require_picture
    from loop.show import Progress
    from loop.show_backtest import show_backtest

    say(verbose, quiet)
    if plot is not None:
        require_picture(plot)
    with Progress(visible=not (quiet or as_json)) as progress:
        told = backtest_file(curves, level, least_n, most_cuts or None, seed, progress)
    if plot is not None:
        draw_measures(told, plot)
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show_backtest(told)


@main.command()
@click.option(
    "--features",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An .npz with arrays feat (n, d) and name (n,).",
)
@click.option(
    "--labels",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV with a file or name column and one column a finding (1, 0 or empty).",
)
@click.option("--group", metavar="COLUMN", help="Column that names the patient.")
@click.option(
    "--finding",
    "findings",
    metavar="NAME",
    multiple=True,
    help="A finding; repeat for several. Default: every 0/1 column.",
)
@click.option("--target", type=float, default=0.85, show_default=True, help="The AUC to reach.")
@click.option(
    "--strategy",
    default="uncertainty",
    show_default=True,
    help="How the active half is chosen: random, uncertainty, margin, entropy.",
)
@click.option(
    "--random-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of each batch from the random stream.",
)
@click.option("--batch", type=click.IntRange(min=1), default=50, show_default=True, help="Labels a batch.")
@click.option(
    "--max-labels",
    type=click.IntRange(min=1),
    default=800,
    show_default=True,
    help="Stop at this many labels at the latest.",
)
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
@click.option("--seed", type=int, default=0, show_default=True, help="Makes the run repeatable.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Repeat with this many seeds and sum up.",
)
@spoken
@as_json_option
def simulate(as_json: bool, verbose: bool, quiet: bool, seed: int, seeds: int, **options: Any) -> None:
    """Replay a labelled data set as if it were being annotated, without Label Studio or images.

    \b
    Example:
      loop simulate --features features.npz --labels labels.csv --group patient --finding Effusion --target 0.85
    """
    from loop.show import show_simulation, show_simulations
    from loop.simulate import simulate_files, sum_up

    say(verbose, quiet)
    runs = []
    for each in range(seed, seed + seeds):
        runs.append(simulate_files(seed=each, **options))
        if not (as_json or quiet):
            show_simulation(runs[-1])
    if as_json:
        print_json(runs[0] if seeds == 1 else {"runs": runs, "summary": sum_up(runs)})
    elif seeds > 1 and not quiet:
        show_simulations(sum_up(runs))


@main.command()
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Real images instead of drawn phantoms.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Their labels: a CSV with file, optionally patient, and one column a finding.",
)
@click.option(
    "--finding",
    "findings",
    metavar="NAME",
    multiple=True,
    help="A finding; repeat for several. Default: every 0/1 column.",
)
@click.option("--target", type=float, help="The AUC to reach.")
@click.option("--batch", type=click.IntRange(min=1), help="Labels a batch.")
@click.option("--max-labels", type=click.IntRange(min=1), help="Stop at this many labels at the latest.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures and the project.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Makes the run repeatable.")
@click.option(
    "--keep", is_flag=True, help="Leave Label Studio running at the end, and print its address and login."
)
@spoken
@as_json_option
def demo(verbose: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Watch the whole loop run against a real, throwaway Label Studio until it says stop.

    Installs Label Studio into an environment of its own (once, about 2 minutes), starts it on this machine
    only, imports images, lets a scripted annotator label, steps until STOP, draws the learning curves.

    \b
    Example:
      loop demo
      loop demo --images folder --labels labels.csv --finding pneumonia --target 0.95
    """
    from loop.demo.run import run_demo

    say(verbose, quiet)
    told = run_demo(quiet=quiet or as_json, **options)
    if as_json:
        print_json(told)


@main.group()
def prior() -> None:
    """What is believed about learning curves before the first label."""


@prior.command()
@click.argument("states", metavar="STATE...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("prior.toml"),
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@spoken
@as_json_option
def fit(states: tuple[str, ...], out: Path, force: bool, verbose: bool, quiet: bool, as_json: bool) -> None:
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
    from loop.show import show_prior
    from loop.start import utc_now

    if out.exists() and not force:
        raise BadInput(f"{out} exists. Choose another name with --out, or replace it with --force.")
    say(verbose, quiet)
    fitted = learn_prior(states, utc_now())
    write_prior(out, fitted)
    told = tell_prior(fitted, str(out))
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show_prior(told)
        click.echo(f'Wrote {out}. A project uses it with [forecast] prior = "{out}".')


@prior.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@spoken
@as_json_option
def show_believed(file: Path | None, verbose: bool, quiet: bool, as_json: bool) -> None:
    """Say in words what the prior in FILE believes, and where it comes from. Without FILE: the shipped one.

    \b
    Example:
      loop prior show prior.toml
    """
    from loop.finished import tell_prior
    from loop.priorfile import read_prior
    from loop.show import show_prior

    say(verbose, quiet)
    told = tell_prior(None) if file is None else tell_prior(read_prior(file), str(file))
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show_prior(told)


@main.group()
def features() -> None:
    """Look after the stored embeddings."""


@features.command()
@configured
@spoken
@as_json_option
@click.pass_context
def verify(
    ctx: click.Context,
    config: Path,
    url: str | None,
    sets: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check every stored batch of embeddings against its checksum.

    \b
    Example:
      loop features verify -c loop.toml
    """
    from loop.show import show_verification
    from loop.start import verify_features

    say(verbose, quiet)
    checked = verify_features(read(config, url, sets))
    if as_json:
        print_json(checked.to_json())
    elif not (quiet and checked.ok):
        show_verification(checked)
    ctx.exit(CONTINUE if checked.ok else BAD_INPUT)


def read(config: Path, url: str | None, sets: tuple[str, ...]) -> Settings:
    """Read the configuration: flag over environment over file over default."""
    from loop.errors import BadInput
    from loop.settings import load_settings

    overrides: dict[str, Any] = {} if url is None else {"label_studio.url": url}
    for pair in sets:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"--set {pair!r} has no value; write --set KEY=VALUE, e.g. --set stop.target=0.9.")
        overrides[key.strip()] = value.strip()
    return load_settings(config, os.environ, overrides)


def api_key() -> str:
    """Label Studio's key, from the environment and nowhere else."""
    from loop.errors import BadInput

    key = os.environ.get("LABEL_STUDIO_API_KEY", "").strip()
    if not key:
        raise BadInput(
            "LABEL_STUDIO_API_KEY is not set. Copy your access token from Label Studio (Account & Settings) and "
            "export it: export LABEL_STUDIO_API_KEY=..."
        )
    return key


def say(verbose: bool, quiet: bool) -> None:
    """Set how much is logged to standard error."""
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s")
    for chatty in (
        "httpx",
        "httpcore",
        "urllib3",
        "matplotlib",
        "PIL",
    ):  # their INFO lines name addresses, not facts
        logging.getLogger(chatty).setLevel(logging.WARNING)


def print_json(told: Any) -> None:
    """Print a result for machines."""
    click.echo(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
