"""Commands about encoders."""

from __future__ import annotations

import click


@click.group()
def encoders() -> None:
    """The frozen foundation models behind the features."""
