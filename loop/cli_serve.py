"""The `loop serve` command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from loop.cli_options import configured, spoken

if TYPE_CHECKING:
    from loop.settings import Settings


@click.command()
@configured
@spoken
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="Port to listen on."
)
def serve(settings: Settings, quiet: bool, host: str, port: int) -> None:
    """Serve the project lead's page, read-only, until Ctrl-C or SIGTERM.

    The page of `loop report`, as the state is when it is asked for; /healthz (200 or 503) and /metrics (Prometheus' text
    format) for monitoring. Changed settings count from the next start.

    Beyond loopback a visitor needs the token in ANNOTATION_LOOP_SERVE_TOKEN: as password with any user name, or as
    `Authorization: Bearer`. It travels as it is, so put a server with TLS in front.

    \b
    Example:
      loop serve -c loop.toml
      ANNOTATION_LOOP_SERVE_TOKEN=... loop serve -c loop.toml --host 192.168.0.7
    """
    from datetime import UTC, datetime

    from loop.errors import BadInput
    from loop.state import State

    try:
        from loop.serve import create_app
        from loop.serve import serve as listen
    except ModuleNotFoundError as error:
        if error.name not in ("flask", "waitress", "prometheus_client"):
            raise
        raise BadInput(
            f"loop serve needs {error.name}, which is not installed: pip install 'annotation-loop[serve]'."
        ) from None

    token = os.environ.get("ANNOTATION_LOOP_SERVE_TOKEN", "").strip()
    app = create_app(settings, host, token, lambda: datetime.now(UTC))
    State.look_at_started(settings.state_url).close()  # what cannot be read is told now

    def ready() -> None:
        if not quiet:
            click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends it)")

    listen(app, host, port, ready)
