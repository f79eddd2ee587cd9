"""The `loop` command: parses, opens, calls, prints; decides nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop.cli_compare import compare
from loop.cli_curves import backtest, forecast, plan, prior
from loop.cli_doctor import doctor
from loop.cli_encoders import encoders
from loop.cli_features import encode, features
from loop.cli_ledger import ledger
from loop.cli_options import (
    api_key,
    as_json_option,
    configured,
    force_option,
    plot_option,
    require_folder,
    require_started,
    spoken,
    tell,
)
from loop.cli_probe import evidence, export, predict, verify
from loop.cli_report import report
from loop.cli_review import review
from loop.cli_rollback import rollback
from loop.cli_serve import serve
from loop.cli_trials import demo, simulate

if TYPE_CHECKING:
    from loop.settings import Settings
    from loop.step_report import StepReport

CONTINUE, UNAVAILABLE, BAD_INPUT, STOP = 0, 1, 2, 10


class Failure(click.ClickException):
    """An error of ours, shown as one message without a traceback."""

    def __init__(self, error: Exception, exit_code: int) -> None:
        from annotate.tokens import hide

        # whatever was given by mistake as a URL, a setting or a path: it is not said again
        super().__init__(hide(str(error), os.environ.get("LABEL_STUDIO_API_KEY", "").strip()))
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


encoders.add_command(compare)
for command in (
    doctor,
    plan,
    forecast,
    backtest,
    prior,
    encode,
    features,
    encoders,
    export,
    predict,
    evidence,
    verify,
    report,
    serve,
    review,
    rollback,
    ledger,
    simulate,
    demo,
):
    main.add_command(command)


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("loop.toml"), callback=require_folder)
@click.option("--finding", "findings", multiple=True, help="A finding to label; repeat for several.")
@force_option
@spoken
def init(file: Path, findings: tuple[str, ...], force: bool, quiet: bool) -> None:
    """Write a commented configuration to FILE.

    \b
    Example:
      loop init loop.toml --finding Effusion --finding Pneumothorax
    """
    from loop.errors import BadInput
    from loop.settings import make_settings
    from loop.template import commented_toml

    if file.exists() and not force:
        raise BadInput(f"{file} exists. Choose another name, or replace it with --force.")
    findings = findings or ("Effusion", "Pneumothorax")
    make_settings({"project": {"findings": list(findings)}})  # what `start` would refuse is refused now
    file.write_text(commented_toml(findings), encoding="utf-8")
    if not quiet:
        click.echo(
            f"Wrote {file}. Set the findings, the images and the target, then run: loop start -c {file}"
        )


@main.command()
@configured
@spoken
@as_json_option
def start(settings: Settings, quiet: bool, as_json: bool) -> None:
    """Find and encode the images, set up Label Studio, ask the first batch.

    Run it again after an interruption, or when images were added: nothing is done twice.

    \b
    Example:
      LABEL_STUDIO_API_KEY=... loop start -c loop.toml --url http://localhost:8080
    """
    from loop.show import Progress
    from loop.show_start import show_start
    from loop.start import start as start_project

    with Progress(visible=not (quiet or as_json)) as progress:
        begun = start_project(settings, api_key(), progress)
    tell(begun, show_start, quiet=quiet, as_json=as_json)


@main.command()
@configured
@spoken
@as_json_option
@click.option("--now", is_flag=True, help="Judge what is there, even if the batch is not finished.")
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing anywhere.")
@click.option(
    "--recount",
    is_flag=True,
    help="Correct the certificate by labels changed since it counted them; stored and shown.",
)
@click.pass_context
def step(
    ctx: click.Context,
    settings: Settings,
    quiet: bool,
    as_json: bool,
    now: bool,
    dry_run: bool,
    recount: bool,
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
    from loop.controller import step as take_turn
    from loop.page.write import write_after_step
    from loop.rehearsal import rehearse
    from loop.show_step import show_step
    from loop.start import opened

    require_started(settings)
    with opened(settings, api_key()) as loop:
        told = (rehearse if dry_run else take_turn)(loop, force=now, recount=recount)
        if not dry_run:
            write_after_step(settings, loop.state, loop.clock())
    tell(told, show_step, quiet=quiet, as_json=as_json)
    ctx.exit(STOP if told.verdict == "STOP" else CONTINUE)


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
@click.option("--listen", metavar="HOST:PORT", help="Let Label Studio wake the watch by a webhook to here.")
@click.option(
    "--listen-url",
    metavar="URL",
    help="The same place as Label Studio's machine knows it, e.g. behind a proxy.",
)
@click.pass_context
def watch(
    ctx: click.Context,
    settings: Settings,
    quiet: bool,
    every: float,
    as_json: bool,
    listen: str | None,
    listen_url: str | None,
) -> None:
    """Take a turn whenever a batch is finished, until stop. Ends cleanly on Ctrl-C and SIGTERM.

    With --listen Label Studio tells when something was labelled, and the watch looks at once; it still polls, for a
    webhook is never repeated. A service that is away does not end the watch: it waits and tries again.

    \b
    Exit status:
      0   ended by Ctrl-C or SIGTERM
      10  stop
      2   bad input or configuration
      1   a service is unavailable, or the project is busy, when the watch begins

    \b
    Example:
      loop watch -c loop.toml --every 30
      loop watch -c loop.toml --listen 192.168.0.7:8090
    """
    from contextlib import nullcontext

    from loop.bell import Bell
    from loop.page.write import write_after_step
    from loop.show_step import show_step, show_waiting
    from loop.start import opened
    from loop.waking import woken
    from loop.watch import watch as keep_watch

    require_started(settings)
    key = api_key()
    with (
        opened(settings, key) as loop,
        nullcontext(Bell()) if listen is None else woken(settings, key, loop, listen, listen_url) as bell,
    ):

        def tell_turn(told: StepReport) -> None:
            if told.action != "waiting":
                write_after_step(settings, loop.state, loop.clock())
            if as_json:
                click.echo(
                    json.dumps(told.to_json(), ensure_ascii=False, allow_nan=False)
                )  # one line a report
            elif not quiet:
                (show_waiting if told.action == "waiting" else show_step)(told)

        last = keep_watch(loop, every, tell_turn, bell)
    ctx.exit(STOP if last is not None and last.verdict == "STOP" else CONTINUE)


@main.command()
@configured
@spoken
@plot_option("the learning curves")
@as_json_option
def status(settings: Settings, quiet: bool, as_json: bool, plot: Path | None) -> None:
    """Show where the project stands, from the state alone: Label Studio is not asked.

    \b
    Example:
      loop status -c loop.toml --plot curves.png
    """
    from loop.show_agreement import show_agreement
    from loop.show_status import show_status
    from loop.status import Status, draw_project, read_status

    def show(found: Status) -> None:
        show_status(found)
        show_agreement(found)

    found = read_status(settings)
    if plot is not None:
        draw_project(settings, plot)
    tell(found, show, quiet=quiet, as_json=as_json)
