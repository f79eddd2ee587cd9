"""Projects of simulated answers, and their evidence packs."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from loop_world import World

from annotate.interface import make_interface
from loop.cli import main
from loop.controller import ask_first_batch, step
from loop.settings import Settings
from loop.simulate import EPOCH


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(main, [*map(str, args)], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def play(folder: Path, n_rounds: int, *, separation: float = 3.0, **sections: str) -> Settings:
    """A project of simulated answers, some rounds long."""
    world = World(folder, separation=separation)
    settings = world.settings(encoder='spec = "features:old.npz"', **sections)
    settings.folder.mkdir()
    with world.state(settings.state_url) as state:
        told = {"spec": settings.encoder.spec, "fingerprint": "f" * 32, "dim": world.dim}
        state.set_fact("encoder", told, EPOCH)
        state.set_fact(
            "project",
            {"id": 1, "url": "http://127.0.0.1", "xml": make_interface(settings.project.findings).xml},
            EPOCH,
        )
        loop = world.loop(state, settings=settings)
        ask_first_batch(loop)
        for _ in range(n_rounds):
            step(loop)
    return settings


def packed(project: Settings, out: Path) -> Path:
    result = run("evidence", out, "-c", project.folder.parent / "loop.toml")
    assert result.exit_code == 0, result.output
    return out
