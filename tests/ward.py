"""A small ward on a real Label Studio: drawn images below its document root, a table of embeddings, a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from annotate.interface import parse_interface
from annotate.payloads import write_results
from annotate.studio import Studio
from loop.cli import main
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

N_IMAGES = 30


def noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8))


@dataclass(frozen=True)
class Ward:
    """A project that can be started in a second: no model is loaded."""

    server: ThrowawayServer
    config: Path

    @classmethod
    def open(
        cls,
        server: ThrowawayServer,
        name: str,
        *,
        n_images: int = N_IMAGES,
        findings: Sequence[str] = ("Edema", "Effusion"),
        batch: int = 10,
        draw: Callable[[np.random.Generator], Image.Image] = noise,
        more: str = "",
    ) -> Ward:
        """Draw the images and write the configuration; ``more`` is what else stands in it."""
        folder = server.files_root / name
        images = folder / "images"
        images.mkdir(parents=True)
        rng = np.random.default_rng(0)
        names = [f"{i:02d}.png" for i in range(n_images)]
        for each in names:
            draw(rng).save(images / each)
        table = rng.normal(size=(n_images, 8)).astype(np.float32)
        np.savez(folder / "table.npz", feat=table, name=np.array(names))
        config = folder / "loop.toml"
        config.write_text(
            f'[project]\nname = "{name}"\nfindings = {json.dumps(list(findings))}\n[images]\nsource = "images"\n'
            f'[encoder]\nspec = "features:{folder / "table.npz"}"\n[batch]\nsize = {batch}\n{more}\n'
            f'[label_studio]\nurl = "{server.url}"\ndocument_root = "{server.files_root}"\n'
        )
        return cls(server, config)

    def run(self, command: str, *args: str, key: str | None = None) -> Result:
        """Run a command as a user does."""
        env = {"LABEL_STUDIO_API_KEY": key or self.server.api_key, "LABEL_STUDIO_URL": None}
        return CliRunner().invoke(main, [command, "-c", str(self.config), *args], env=env)

    def tell(self, command: str, *args: str) -> dict[str, Any]:
        """Run a command that ends well, or with STOP; returns what it tells a machine."""
        result = self.run(command, "--json", *args)
        assert result.exit_code in (0, 10), result.output
        told: dict[str, Any] = json.loads(result.stdout)
        return told

    def start(self) -> None:
        """Start the project."""
        result = self.run("start", "--quiet")
        assert result.exit_code == 0, result.output

    def label_next(self, n: int) -> list[int]:
        """Label the next n tasks as Label Studio serves them; returns them. Every other image shows edema."""
        studio, project_id, served = self.studio, self.project_id, []
        interface = parse_interface(studio.project(project_id).xml)
        for i in range(n):
            task = studio.next_task(project_id)
            assert task is not None
            served.append(int(task["id"]))
            answers = {"Edema": float(i % 2), "Effusion": 0.0}
            studio.submit(served[-1], write_results(interface, answers), 3.0)
        return served

    def examine(self, *args: str, key: str | None = None) -> dict[str, Any]:
        """What the doctor finds, by name."""
        result = self.run("doctor", "--json", *args, key=key)
        assert result.exit_code in (0, 2), result.output
        return {check["name"]: check for check in json.loads(result.stdout)["checks"]}

    @property
    def studio(self) -> Studio:
        return Studio(self.server.url, self.server.api_key)

    def state(self) -> State:
        return State.open(load_settings(self.config, {}, {}).state_url)

    @property
    def project_id(self) -> int:
        with self.state() as state:
            return int((state.fact("project") or {})["id"])
