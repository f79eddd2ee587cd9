"""The main job, start to stop: archive, Label Studio, annotator, steps, verdict, picture."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.archive import Archive, LabelTable, read_labels
from loop.assess import assess
from loop.controller import step
from loop.demo.annotator import label_queue
from loop.demo.phantoms import make_archive
from loop.demo.server import ThrowawayServer
from loop.encoders import load_encoder
from loop.encoders.encode import encode_items
from loop.errors import BadInput
from loop.features import FeatureStore
from loop.find import find_images
from loop.items import hash_images
from loop.opening import read_book, read_history
from loop.page.figures import page_of
from loop.page.write import write_page
from loop.project import Loop
from loop.settings import Settings, load_settings, make_settings
from loop.show import Progress, console
from loop.show_step import show_step
from loop.show_trials import show_demo
from loop.simulate import draw_test, measure_probe, tell_round
from loop.start import opened, start
from loop.status import draw_assessment
from loop.step_report import StepReport

N_PHANTOMS = 800
TEST_SHARE = 0.25  # of the patients: never shown to the loop, to measure the true AUC
FINDINGS = ("Effusion", "Cardiomegaly")
TARGET, BATCH, BUDGET = 0.85, 50, 500


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo set up: images with known labels, some of them out of the loop's sight."""

    images: Path
    shown: LabelTable
    hidden: LabelTable


def run_demo(
    images: Path | None,
    labels: Path | None,
    findings: Sequence[str],
    target: float | None,
    batch: int | None,
    max_labels: int | None,
    out: Path,
    seed: int,
    keep: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Run the whole loop against a throwaway Label Studio until STOP.

    Args:
        images: Folder of real images; None = drawn phantoms.
        labels: Their labels; needed with ``images``.
        findings: Names to use; empty = the demo's, or every 0/1 column of ``labels``.
        target: AUC to reach.
        batch: Labels a batch.
        max_labels: Budget.
        out: Folder for the project, the table and the picture.
        seed: Of everything that is drawn.
        keep: Leave Label Studio running.
        quiet: Say nothing.

    Returns:
        The rounds, as JSON-ready values.

    Raises:
        BadInput: The images or labels cannot be used.
        Unavailable: Label Studio cannot be installed or started.
    """
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # so that the server is stopped
    if (images is None) != (labels is None):
        raise BadInput("--images and --labels belong together: give both, or none for drawn phantoms.")
    mark, target = out / ".loop-demo", target or TARGET
    if out.exists() and any(out.iterdir()) and not mark.is_file():
        raise BadInput(f"{out} holds files that no demo made. Choose another --out.")
    asked = {
        "target": target,
        "budget": max_labels or BUDGET,
    }  # what cannot be is told before anything is drawn or replaced
    make_settings(
        {
            "project": {"name": "demo", "findings": list(findings or FINDINGS)},
            "stop": asked,
            "batch": {"size": batch or BATCH},
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()
    tell = console(quiet=quiet).print
    earlier = [*out.glob("demo/state.db*"), *out.glob("*report.html")]
    if earlier:
        tell(f"An earlier demo in {out} is replaced: its Label Studio is gone.")
    for old in earlier:
        old.unlink()
    rng = np.random.default_rng([seed, 0])
    with Progress(visible=not quiet) as progress:
        if images is None or labels is None:
            stage = _draw(out, findings or FINDINGS, rng, progress)
        else:
            stage = _use(images, labels, findings, rng)
    config = _write_config(out, stage, seed, target, batch or BATCH, max_labels or BUDGET)

    tell("Starting Label Studio (the first time it is installed: about 2 minutes) ...")
    with ThrowawayServer(Path(os.path.commonpath([stage.images.resolve().parent, out.resolve()]))) as server:
        settings = load_settings(
            config, {}, {"label_studio.url": server.url, "label_studio.document_root": str(server.files_root)}
        )
        tell(
            f"Label Studio {server.url}: {len(stage.shown.names):,} images, a scripted annotator, target AUC {target}"
        )
        with Progress(visible=not quiet) as progress:
            begun = start(settings, server.api_key, progress)
            hidden = _encode_hidden(settings, stage, progress)
        with opened(settings, server.api_key) as loop:
            told = _label_until_stop(loop, server, stage, hidden, begun.project_id, seed, quiet)
            write_page(page_of(settings, loop.state, loop.clock()), out / "report.html")
            book = read_book(loop)
            last = assess(
                book,
                loop.features,
                loop.projection,
                settings,
                loop.state.rounds()[-1].number,
                read_history(loop.state),
            )
        picture = out / "learning-curves.png"
        if last.curves:
            draw_assessment(last, settings, picture)
        (out / "rounds.json").write_text(json.dumps(told, indent=2))
        if not quiet:
            show_demo(told, picture, out / "report.html", config)
        if keep:
            server.keep()
            console().print(  # however quiet: nobody could find or end it otherwise
                f"\nLabel Studio is left running at {server.url}/projects/{begun.project_id}\n"
                f"  login {server.username}, password {server.password}\n"
                f"  end it with: kill -- -{server.pid} && rm -r {server.log.parent}"
            )
    return told


def _draw(out: Path, findings: Sequence[str], rng: np.random.Generator, progress: Progress) -> Stage:
    archive = make_archive(
        out / "archive",
        N_PHANTOMS,
        rng,
        findings,
        drawn=lambda n: progress("drawing phantoms", n, N_PHANTOMS),
    )
    known = read_labels(archive.labels, "patient", findings)
    names = tuple(Path(name).name for name in known.names)
    return _split(archive.images, LabelTable(names, known.y, known.patients, known.findings), rng)


def _use(images: Path, labels: Path, findings: Sequence[str], rng: np.random.Generator) -> Stage:
    with labels.open(newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file), [])
    known = read_labels(labels, "patient" if "patient" in columns else None, findings)
    there = np.array([(images / name).is_file() for name in known.names])  # (n,)
    if not there.any():
        raise BadInput(
            f"None of the files that {labels} names lies in {images}; the first is {known.names[0]}."
        )
    return _split(images, _rows(known, np.flatnonzero(there)), rng)


def _split(images: Path, known: LabelTable, rng: np.random.Generator) -> Stage:
    is_hidden = draw_test(known.patients, TEST_SHARE, rng)  # (n,)
    return Stage(images, _rows(known, np.flatnonzero(~is_hidden)), _rows(known, np.flatnonzero(is_hidden)))


def _rows(known: LabelTable, rows: NDArray[np.intp]) -> LabelTable:
    return LabelTable(
        tuple(known.names[i] for i in rows), known.y[rows], known.patients[rows], known.findings
    )


def _write_manifest(path: Path, images: Path, known: LabelTable) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient"])
        writer.writerows((images.resolve() / n, p) for n, p in zip(known.names, known.patients, strict=True))
    return path


def _write_config(out: Path, stage: Stage, seed: int, target: float, batch: int, budget: int) -> Path:
    """The configuration of a demo: `configs/demo.toml` with this run's images and numbers."""
    manifest = _write_manifest(out / "manifest.csv", stage.images, stage.shown)
    path = out / "demo.toml"
    path.write_text(
        f'[project]\nname = "demo"\nfindings = {json.dumps(list(stage.shown.findings))}\nseed = {seed}\n\n'
        f'[images]\nsource = "{manifest.name}"\n\n[batch]\nsize = {batch}\n\n'
        f"[stop]\ntarget = {target}\nbudget = {budget}\n",
        encoding="utf-8",
    )
    return path


def _encode_hidden(settings: Settings, stage: Stage, progress: Progress) -> Archive:
    """Embed the images that the loop never sees."""
    encoder = load_encoder(settings.encoder.spec, settings.encoder.device)
    manifest = _write_manifest(settings.base / "hidden.csv", stage.images, stage.hidden)
    items = hash_images(find_images(manifest)).items
    store = FeatureStore.open(settings.base / "hidden-features", encoder.fingerprint, encoder.dim)
    encode_items(
        items,
        encoder,
        store,
        settings.encoder.batch_size,
        lambda d, t: progress("encoding the hidden test", d, t),
    )
    row_of = {name: row for row, name in enumerate(stage.hidden.names)}
    usable = [item for item in items if store.has(item.item)]
    rows = np.array([row_of[item.path.relative_to(stage.images.resolve()).as_posix()] for item in usable])
    return Archive(_rows(stage.hidden, rows), store.read([item.item for item in usable]))


def _label_until_stop(
    loop: Loop,
    server: ThrowawayServer,
    stage: Stage,
    hidden: Archive,
    project_id: int,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    studio = Studio(server.url, server.api_key)
    interface = parse_interface(studio.project(project_id).xml)
    answers = _answers(stage.shown)
    rng = np.random.default_rng([seed, 1])
    rounds: list[dict[str, Any]] = []
    report: StepReport | None = None
    while report is None or report.verdict == "CONTINUE":
        batch = loop.settings.batch.size
        with Progress(visible=not quiet) as progress:
            label_queue(
                studio, project_id, interface, answers, batch, rng,
                labelled=lambda n, of=batch: progress("annotator labels", n, of),  # type: ignore[misc]
            )  # fmt: skip
        report = step(loop)
        true_auc = measure_probe(hidden, loop.state.probe())
        rounds.append(tell_round(report, true_auc))
        if not quiet:
            show_step(report)
    return {"rounds": rounds, "verdict": report.verdict, "reason": report.reason, "remedy": report.remedy}


def _answers(known: LabelTable) -> Mapping[str, Mapping[str, int | None]]:
    return {
        name: {f: None if np.isnan(v) else int(v) for f, v in zip(known.findings, row, strict=True)}
        for name, row in zip(known.names, known.y, strict=True)
    }
