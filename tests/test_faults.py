"""Every call of a `loop start` and a `loop step` is cut, doubled, delayed or answered with an error, in turn.

Whatever happens on the way, the commands run again until they succeed end where they end without a fault.
``FAULTS=all pytest tests/test_faults.py -s`` tries every call with every fault, ``FAULTS=changing`` every call that changes
something; otherwise a sample is drawn. Each takes about eight seconds; ``FAULTS_PART=2/3`` tries the second of three parts.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from crowd import compare
from pixels_encoder import write_pictures
from studio_proxy import Spoil, SpoilingProxy, spoiling_proxy

import loop.start
from annotate import importing, outbox
from annotate.desk import StudioDesk
from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.cli import main
from loop.demo.annotator import label_queue
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

N_IMAGES, BATCH = 24, 6
PATIENCE_S = 2.0  # of the loop's client; what comes late comes later
SETTLE_S = 4.0  # and more than that is late is too late
MOST_RUNS = 4  # of a command until it succeeds
FAULTS: tuple[Spoil, ...] = get_args(Spoil)
SEED = 6


@dataclass(frozen=True)
class Outcome:
    """How a project stands after a start, a labelled batch and a step.

    Attributes:
        calls: Each call that the loop made, as "POST /api/projects/7/import".
        asked: Items and scores of every batch, in rank order.
        labels: Item to its answers.
    """

    calls: tuple[str, ...]
    asked: tuple[tuple[tuple[str, str, tuple[float, ...]], ...], ...]
    labels: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


@pytest.fixture(scope="module")
def folder(studio_server: ThrowawayServer) -> Path:
    """Pictures below the server's document root, and a table of their embeddings."""
    folder = studio_server.files_root / "faults"
    write_pictures(folder / "images", N_IMAGES)
    names = [path.name for path in sorted((folder / "images").iterdir())]
    rng = np.random.default_rng(0)
    feat = rng.normal(size=(N_IMAGES, 8)).astype(np.float32)
    np.savez(folder / "features.npz", feat=feat, name=np.array(names))
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for seconds where a real loop waits for a minute."""
    monkeypatch.setattr(loop.start, "Studio", functools.partial(Studio, timeout_s=PATIENCE_S))
    monkeypatch.setattr(loop.start, "StudioDesk", functools.partial(StudioDesk, settle_s=SETTLE_S))
    monkeypatch.setattr(importing, "SETTLE_S", SETTLE_S)
    monkeypatch.setattr(outbox, "POLL_S", 0.5)
    monkeypatch.setattr(importing, "POLL_S", 0.5)


def go_through(
    server: ThrowawayServer, proxy: SpoilingProxy, folder: Path, name: str, spoilt: int | None, how: Spoil
) -> Outcome:
    """Start, label, step; one call is spoilt. Checks that nothing is there twice and nothing is lost."""
    config = folder / f"{name}.toml"
    config.write_text(
        f'[project]\nname = "{name}"\nfindings = ["Edema"]\n[images]\nsource = "images"\n'
        f'[label_studio]\nurl = "{proxy.url}"\ndocument_root = "{server.files_root}"\n'
        f'[encoder]\nspec = "features:{folder / "features.npz"}"\n'
        f"[batch]\nsize = {BATCH}\n[stop]\ntarget = 0.9\n"
    )
    settings = load_settings(config, {}, {})
    proxy.seen.clear()
    if spoilt is not None:
        proxy.spoil_call(spoilt, how)
    run_until_done("start", config, server.api_key)
    direct = Studio(server.url, server.api_key)
    with State.open(settings.state_url) as state:
        project_id = int(state.fact("project")["id"])
        answers = {item.item: {"Edema": int(item.path.stem) % 2} for item in state.items()}
    interface = parse_interface(direct.project(project_id).xml)
    assert label_queue(direct, project_id, interface, answers, 99, np.random.default_rng(0)) == BATCH
    while run_until_done("step", config, server.api_key)["action"] == "completed":
        pass
    proxy.await_late()
    calls = tuple(proxy.seen)
    assert run_until_done("step", config, server.api_key)["outstanding"] == BATCH

    with State.open(settings.state_url) as state:
        rounds, labels, tasks = state.rounds(), state.labels(), state.tasks()
        assert state.unconfirmed() is None
    assert compare(direct, project_id, interface, labels) == []
    there = [row["data"]["item"] for row in direct.tasks(project_id)]
    assert sorted(there) == sorted(tasks)  # each image once
    project = direct.project(project_id)
    predictions = direct._read("reading", "api/predictions/", {"project": project_id})
    served = [p["task"] for p in predictions if p["model_version"] == project.model_version]
    assert project.sampling == "Uncertainty sampling"
    assert project.model_version.startswith(rounds[-1].version)
    assert Counter(served) == Counter(tasks[pick.item] for pick in rounds[-1].picks)  # each task once
    queue = [task_id for task_id, done in direct.queue(project_id, 99) if not done]
    assert queue == [tasks[pick.item] for pick in rounds[-1].picks]
    item_of = {task_id: item for item, task_id in tasks.items()}
    direct.delete_project(project_id)
    return Outcome(
        calls,
        tuple(
            tuple((p.item, p.stream, tuple(map(float, s))) for p, s in zip(r.picks, r.scores, strict=True))
            for r in rounds
        ),
        tuple(sorted((item_of[t], tuple(given[0].answers.items())) for t, given in labels.items())),
    )


def run_until_done(command: str, config: Path, api_key: str) -> dict[str, Any]:
    """Run a command again for as long as it says: unavailable, try again."""
    for _ in range(MOST_RUNS):
        result = CliRunner().invoke(
            main, [command, "-c", str(config), "--json"], env={"LABEL_STUDIO_API_KEY": api_key}
        )
        if result.exit_code != 1 or (
            result.exception is not None and not isinstance(result.exception, SystemExit)
        ):
            break
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.fixture(scope="module")
def proxy(studio_server: ThrowawayServer) -> Iterator[SpoilingProxy]:
    with spoiling_proxy(studio_server.url) as proxy:
        yield proxy


@pytest.mark.timeout(7200 if "FAULTS" in os.environ else 600)
@pytest.mark.parametrize("alone", [False, True], ids=["import", "one-by-one"])
def test_a_fault_at_any_call_of_start_and_step_changes_nothing(
    studio_server: ThrowawayServer,
    proxy: SpoilingProxy,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    alone: bool,
) -> None:
    """In small projects a batch is sent by one import, in large ones one by one; here the latter in a small one."""
    if alone:
        desk = functools.partial(StudioDesk, settle_s=SETTLE_S, import_below=0)
        monkeypatch.setattr(loop.start, "StudioDesk", desk)
    way = "alone" if alone else "import"
    calm = go_through(studio_server, proxy, folder, f"calm-{way}", None, "double")
    n_calls = len(calm.calls)
    every = [(i, how) for i in range(n_calls) for how in FAULTS]
    changing = [(i, how) for i, how in every if not calm.calls[i].startswith("GET")]
    sending = [(i, how) for i, how in changing if "predictions" in calm.calls[i]]
    rng = np.random.default_rng(SEED)
    drawn = ((sending, 3),) if alone else ((changing, 3), (every, 2))
    sample = [pairs[k] for pairs, n in drawn for k in rng.choice(len(pairs), n, False)]
    if alone:  # all other calls are those of the other way
        every = changing = sending
    chosen = {"all": every, "changing": changing}.get(os.environ.get("FAULTS", ""), sample)
    part, _, of = os.environ.get("FAULTS_PART", "1/1").partition("/")
    chosen = chosen[int(part) - 1 :: int(of)]
    wrong = []
    for i, how in chosen:
        try:
            told = go_through(studio_server, proxy, folder, f"{way}-{i}-{how.replace(' ', '-')}", i, how)
            assert nan_free(told.asked) == nan_free(calm.asked)
            assert told.labels == calm.labels
        except AssertionError as error:
            wrong.append((i, calm.calls[i].partition("?")[0], how, str(error)[:600]))
    kinds = Counter(how for _, how in chosen)
    print(f"\n{way}: {len(chosen)} faults at {n_calls} calls, {len(wrong)} with another end; {dict(kinds)}")
    assert not wrong, "\n".join(map(str, wrong))


def nan_free(asked: Any) -> Any:
    """The same with NaN as None, so that equal is equal."""
    return json.loads(json.dumps(asked).replace("NaN", "null"))
