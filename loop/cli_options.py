"""What the commands share: options, the configuration behind them, and how a result is told."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from loop.settings import Settings

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AUC = click.FloatRange(0.5, 1, min_open=True, max_open=True)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


class Told(Protocol):
    """A result that can be given to machines."""

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready values."""


Result = TypeVar("Result", bound=Told)


config_option = partial(
    click.option,
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("loop.toml"),
    show_default=True,
    help="The project's configuration.",
)
labels_option = partial(
    click.option,
    "--labels",
    type=EXISTING_FILE,
    help="A CSV with a file or name column and one column a finding (1, 0 or empty).",
)
group_option = click.option("--group", metavar="COLUMN", help="Column of the labels that names the patient.")
finding_option = click.option(
    "--finding",
    "findings",
    metavar="NAME",
    multiple=True,
    help="A finding; repeat for several. Default: every 0/1 column.",
)


url_option = click.option("--url", metavar="URL", help="Label Studio's address (or LABEL_STUDIO_URL).")
sets_option = click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting, e.g. --set stop.target=0.9.",
)


def configured(command: Command) -> Command:
    """Give a command ``settings``, by the options that find and change the configuration."""

    @config_option()
    @url_option
    @sets_option
    @wraps(command)
    def with_settings(config: Path, url: str | None, sets: tuple[str, ...], **rest: Any) -> None:
        command(settings=read_settings(config, url, sets), **rest)

    return with_settings


def encoding(command: Command) -> Command:
    """Give a command ``batch_size``, ``devices`` and ``allow_pickle``: how a model is loaded and run."""
    for option in (
        click.option(
            "--allow-pickle",
            metavar="NAME",
            default="",
            help="Load the checkpoint file of this name although it is a pickle, which can run any code.",
        ),
        click.option(
            "--devices",
            default="auto",
            show_default=True,
            help="Where the model runs: auto, cpu, cuda, cuda:1 or mps; several with commas, all = every GPU.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            help="Images encoded at once.",
        ),
    ):
        command = option(command)
    return command


def spoken(command: Command) -> Command:
    """Give a command ``quiet``, and log to standard error as much as --verbose and --quiet say."""

    @click.option("--verbose", "-v", is_flag=True, help="Say what is being done.")
    @click.option("--quiet", "-q", is_flag=True, help="Say only what went wrong.")
    @wraps(command)
    def with_logging(verbose: bool, quiet: bool, **rest: Any) -> None:
        os.environ.setdefault(
            "HF_HUB_VERBOSITY", "warning" if verbose else "error"
        )  # its retries are no facts
        level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
        logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s")
        for chatty in ("httpx", "httpcore", "urllib3", "botocore", "aiobotocore", "matplotlib", "PIL"):
            logging.getLogger(chatty).setLevel(logging.WARNING)  # their INFO lines name addresses, not facts
        command(quiet=quiet, **rest)

    return with_logging


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")
level_option = click.option(
    "--level",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.9,
    show_default=True,
    help="Level of the intervals.",
)
target_option = partial(click.option, "--target", help="The AUC to reach.")


def plot_option(what: str) -> Decorator:
    """The option --plot, which draws `what`; what cannot be written is refused before anything is computed."""
    return click.option(
        "--plot",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_require_picture,
        help=f"Draw {what} to this .png or .svg file.",
    )


def _require_picture(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    from loop.errors import BadInput

    if path is not None and path.suffix.lower() not in (".png", ".svg"):
        raise BadInput(f"--plot {path}: the picture must end in .png or .svg.")
    return require_folder(ctx, option, path)


def require_folder(ctx: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file to write whose folder is not there, before anything is computed for it.

    Raises:
        BadInput: There is no such folder.
    """
    from loop.errors import BadInput

    if path is not None and not path.parent.is_dir():
        raise BadInput(
            f"{option.opts[0]} {path}: there is no folder {path.parent}. Create it, or name another."
        )
    return path


def read_settings(config: Path, url: str | None = None, sets: tuple[str, ...] = ()) -> Settings:
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


def require_started(settings: Settings) -> None:
    """Refuse a project that was not started, before a key or a server is missed.

    Raises:
        NotStarted: `loop start` was not run, or not to its end.
    """
    from loop.state import State

    State.started(settings.state_url).close()


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


def tell(told: Result, show: Callable[[Result], None], *, quiet: bool, as_json: bool) -> None:
    """Print a result for machines, or show it to people unless they want quiet."""
    if as_json:
        print_json(told.to_json())
    elif not quiet:
        show(told)


def print_json(told: Any) -> None:
    """Print a result for machines."""
    click.echo(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
