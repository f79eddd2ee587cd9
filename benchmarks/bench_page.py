"""Size of the lead's page and the time to write it: 14 findings, 100 rounds.

    python benchmarks/bench_page.py
    python benchmarks/bench_page.py --findings 2 --rounds 10

Named peer, in the same run: the same learning curves drawn by matplotlib alone, one SVG a finding. The page holds them too.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from forecasting.plots import CurveInfo
from forecasting.plots_page import curve_svg
from loop.controller import ask_first_batch, step
from loop.features import FeatureTable
from loop.items import Item, draw_streams
from loop.page.figures import page_of
from loop.page.write import as_html
from loop.probe import fit_projection
from loop.project import Loop
from loop.settings import load_settings
from loop.simulate import EPOCH, Oracle, Ticks
from loop.state import State


@click.command()
@click.option("--findings", "n_findings", default=14)
@click.option("--rounds", default=100)
@click.option("--batch", default=10)
@click.option("--items", default=5_000)
def main(n_findings: int, rounds: int, batch: int, items: int) -> None:
    rng = np.random.default_rng(0)
    findings = [f"finding {k}" for k in range(n_findings)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loop.toml"
        path.write_text(
            f"[project]\nname = 'benchmark'\nfindings = {findings!r}\n[images]\nsource = '.'\n"
            f"[batch]\nsize = {batch}\nfinished_share = 1.0\n[stop]\ntarget = 0.97\n[costs]\nper_hour = 100.0\n"
        )
        settings = load_settings(path, {}, {})
        y = rng.random((items, n_findings)) < np.linspace(0.4, 0.05, n_findings)
        x = rng.normal(size=(items, 32)).astype(np.float32)
        x[:, :n_findings] += 1.6 * y
        names = [f"{i:032x}" for i in range(items)]
        clock = Ticks()
        with State.create(":memory:") as state:
            found = [Item(name, Path(name), name, "active", None, {}) for name in names]
            state.add_items(draw_streams(found, rng, items))
            state.add_tasks({name: i for i, name in enumerate(names)}, EPOCH)
            answers = {i: dict(zip(findings, map(float, y[i]), strict=True)) for i in range(items)}
            table = FeatureTable(names, x)
            loop = Loop(settings, state, Oracle(answers, clock), table, fit_projection(x, 0), clock)
            ask_first_batch(loop)
            began = time.process_time()
            for _ in range(rounds):
                step(loop)
            stepping = time.process_time() - began

            began = time.process_time()
            page = page_of(settings, state, clock())
            computing = time.process_time() - began
            began = time.process_time()
            html = as_html(page)
            writing = time.process_time() - began
    bare = _draw_alone(page.curves)
    size = len(html.encode())
    print(
        f"{n_findings} findings, {rounds} rounds of {batch}, {page.labels:,} labels; {stepping:.0f} s of steps before it\n"
    )
    print("| | seconds of processor | over the same curves alone | bytes |\n|---|---|---|---|")
    print(f"| figures | {computing:.2f} | {computing / bare:.1f} | |")
    print(f"| writing | {writing:.2f} | {writing / bare:.1f} | {size:,} |")
    print(f"| matplotlib, {len(page.curves)} curves alone | {bare:.2f} | 1 | |")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _draw_alone(curves: tuple[CurveInfo, ...]) -> float:
    began = time.process_time()
    for k, info in enumerate(curves):
        curve_svg(info, str(k))
    return time.process_time() - began


if __name__ == "__main__":
    main()
