"""The command that looks at everything and changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from loop.cli_options import (
    as_json_option,
    config_option,
    read_settings,
    sets_option,
    spoken,
    tell,
    url_option,
)

ILL = 2


@click.command()
@config_option()
@url_option
@sets_option
@spoken
@as_json_option
@click.pass_context
def doctor(
    ctx: click.Context, config: Path, url: str | None, sets: tuple[str, ...], quiet: bool, as_json: bool
) -> None:
    """Look whether all is well: settings, state, images, encoder, Label Studio. Changes nothing.

    Each check is ok, a warning or an error, with what was found and what to do; "not checked" is what cannot be told
    from here. Works before `loop start`, too.

    \b
    Exit status:
      0   no error (perhaps warnings)
      2   an error

    \b
    Example:
      loop doctor -c loop.toml
    """
    from loop.doctor import examine
    from loop.show_doctor import show_examination

    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # s; a state on PostgreSQL must not hold us up, either
    found = examine(
        lambda: read_settings(config, url, sets),
        config,
        os.environ.get("LABEL_STUDIO_API_KEY", "").strip(),
        lambda: datetime.now(UTC),
    )
    tell(found, show_examination, quiet=quiet, as_json=as_json)
    ctx.exit(ILL if found.count("error") else 0)
