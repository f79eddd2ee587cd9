"""What a step costs and gets right at Label Studio: ours beside the official examples, on the same server.

    python benchmarks/bench_sync.py                     # 1,000 and 10,000 tasks, then the correctness table
    python benchmarks/bench_sync.py 50000               # other sizes
    python benchmarks/bench_sync.py --only correctness

A tenth of the tasks, at most 2,000, is labelled beforehand; every tool has read them once. Then 20 labels come, and each
tool takes one step: pull and push, without training. Bytes are those of the wire, both ways; processor seconds the
server's. The peers' ratios are theirs divided by ours.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_peers import MlBackend, SdkExample, watch_session

from annotate.consensus import agree
from annotate.desk import StudioDesk
from annotate.interface import make_interface, parse_interface
from annotate.payloads import write_results
from annotate.records import Suggestion
from annotate.studio import Studio
from loop.demo.server import ThrowawayServer
from loop.state import State
from loop.sync import sync

SIZES = [1_000, 10_000]
LABELLED, MOST_LABELLED, NEW, BATCH = 0.1, 2_000, 20, 10
CHUNK = 5_000
QUIET_S = (
    310.0  # between the imports and the new labels: our pull looks back five minutes until all is settled
)


class Ours:
    """The loop's own pull and push, with its state."""

    name = "annotation-loop"

    def __init__(self, url: str, api_key: str, project_id: int, state: State, page_size: int = 500) -> None:
        self.studio = Studio(url, api_key, page_size=page_size, timeout_s=600)
        self.interface = parse_interface(self.studio.project(project_id).xml)
        self.desk = StudioDesk(self.studio, project_id, self.interface)
        self.state = state
        self.n_pushed = 0

    def pull(self) -> Mapping[int, list[str]]:
        """What trains the probe: one answer a task, none where it is not known."""
        sync(self.desk, self.state, datetime.now(UTC))
        words = {1.0: "yes", 0.0: "no"}
        answers = {i: agree(given, ["Edema"])["Edema"] for i, given in self.state.labels().items()}
        return {i: [words[answer]] for i, answer in answers.items() if answer in words}

    def push(self, version: str = "") -> str:
        """Serve ten unlabelled tasks."""
        self.n_pushed += not version
        asked = [i for i, done in self.unlabelled if not done][:BATCH]
        suggestions = [Suggestion(i, rank, {"Edema": 0.5}) for rank, i in enumerate(asked, start=1)]
        return self.desk.push(version or f"loop-bench-{self.n_pushed}", suggestions).version

    unlabelled: list[tuple[int, bool]]


@dataclass
class Meter:
    """Requests, bytes, seconds, and the server's processor seconds since it was reset."""

    pid: int
    requests: int = 0
    sent: int = 0
    received: int = 0

    def note(self, sent: int, received: int) -> None:
        self.requests, self.sent, self.received = (
            self.requests + 1, self.sent + sent, self.received + received,
        )  # fmt: skip

    def measure(self, act: Callable[[], Any]) -> tuple[float, float, int, int]:
        """Wall seconds, the server's processor seconds, requests, bytes of an act."""
        self.requests = self.sent = self.received = 0
        cpu, began = cpu_of_group(self.pid), time.perf_counter()
        act()
        return (
            time.perf_counter() - began,
            cpu_of_group(self.pid) - cpu,
            self.requests,
            self.sent + self.received,
        )


def cpu_of_group(pid: int) -> float:
    """Processor seconds that a process group has used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def watch_studio(studio: Studio, told: Callable[[int, int], None]) -> None:
    """Tell of each request of ours, as it went over the wire."""

    def note(response: Any) -> None:
        response.read()
        request = response.request
        told(len(str(request.url)) + len(request.content), response.num_bytes_downloaded)

    studio._http.httpx_client.event_hooks["response"].append(note)


def populate(studio: Studio, n: int) -> tuple[int, list[int]]:
    """A project of n tasks, some labelled; returns its id and the ids of the unlabelled ones."""
    project_id = studio.create_project(f"bench {n}", make_interface(["Edema"]).xml)
    interface = parse_interface(studio.project(project_id).xml)
    n_labelled = min(MOST_LABELLED, int(n * LABELLED))
    rows: list[dict[str, Any]] = [
        {"data": {"item": f"{i:032x}", "image": f"/data/local-files/?d=x/{i}.png"}} for i in range(n)
    ]
    for i in range(n_labelled):
        rows[i]["annotations"] = [{"result": list(write_results(interface, {"Edema": float(i % 2)}))}]
    ids: list[int] = []
    for start in range(0, n, CHUNK):
        ids += studio.import_tasks(project_id, rows[start : start + CHUNK])
    return project_id, ids[n_labelled:]


def bench(server: ThrowawayServer, n: int, folder: Path, project_id: int, open_: list[int]) -> None:
    """One size: every tool takes one step with the same 20 new labels."""
    studio = Studio(server.url, server.api_key, timeout_s=600)
    meter = Meter(server.pid)
    with State.create(str(folder / f"{n}.db")) as state:
        ours = Ours(server.url, server.api_key, project_id, state)
        ours.unlabelled = [(i, False) for i in open_[NEW:]]
        sdk = SdkExample(server.url, server.api_key, project_id)
        ml = MlBackend(server.url, server.api_key, project_id)
        watch_studio(ours.studio, meter.note)
        for peer in (sdk, ml):
            watch_session(peer.client, meter.note)
        ours.pull()  # the one that finds the project settled
        polls = [meter.measure(ours.pull) for _ in range(5)]
        for i in open_[:NEW]:
            studio.submit(i, write_results(ours.interface, {"Edema": 1.0}), 5.0)
        measured = {
            (tool.name, what): meter.measure(act)
            for tool, what, act in (
                (ours, "pull", ours.pull),
                (ml, "pull", ml.pull),
                (sdk, "pull", sdk.pull),
                (ours, "push", ours.push),
                (sdk, "push", sdk.push),
            )
        }
    print(f"\n{n:,} tasks, {min(MOST_LABELLED, int(n * LABELLED)):,} labelled before, {NEW} new labels")
    print(
        f"{'':24} {'seconds':>9} {'server cpu s':>13} {'requests':>9} {'bytes':>13}   times ours: s, requests, bytes"
    )
    for step in (("pull",), ("push",), ("pull", "push")):
        base = total(measured, ours.name, step)
        for tool in (ours, ml, sdk):
            if any((tool.name, what) not in measured for what in step):
                continue
            cost = total(measured, tool.name, step)
            ratio = (
                ""
                if tool is ours
                else "   "
                + ", ".join(
                    f"{cost[k] / base[k]:,.0f}" if cost[k] >= 10 * base[k] else f"{cost[k] / base[k]:.1f}"
                    for k in (0, 2, 3)
                )
            )
            print(
                f"{tool.name + ', ' + ' + '.join(step):24} {cost[0]:9.2f} {cost[1]:13.2f} {cost[2]:9,} {cost[3]:13,}{ratio}"
            )
    poll = sorted(polls)[len(polls) // 2]
    print(
        f"{'our poll, nothing new':24} {poll[0]:9.2f} {poll[1]:13.2f} {poll[2]:9,} {poll[3]:13,}   median of {len(polls)}",
        flush=True,
    )
    studio.delete_project(project_id)


def total(
    measured: Mapping[tuple[str, str], tuple[float, float, int, int]], name: str, step: tuple[str, ...]
) -> list[Any]:
    return [sum(column) for column in zip(*(measured[name, what] for what in step), strict=True)]


def correctness(server: ThrowawayServer, folder: Path) -> None:
    """What each tool would train on, and serve, after each thing that people do; checked against the truth."""
    studio = Studio(server.url, server.api_key, timeout_s=600)
    tools = ("annotation-loop", "SDK example", "ML backend")
    print(f"\n{'':26} {tools[0]:20} {tools[1]:34} {tools[2]}")
    for name, act, truth in CASES:
        project_id = studio.create_project(f"case {name}"[:50], make_interface(["Edema"]).xml)
        a, b, *_ = ids = studio.import_tasks(
            project_id, [{"data": {"image": f"/{i}.png"}} for i in range(40)]
        )
        with State.create(str(folder / f"{name}.db")) as state:
            case = Case(studio, server, project_id, state, ids)
            told = []
            for tool in (case.ours, case.sdk, case.ml):
                case.tool = tool
                told.append(act(case, a, b) if tool is case.ours else None)
                try:
                    if truth is None:
                        got = case.repush()
                        told[-1] = "right" if got is True else str(got)
                    else:
                        got = {i: answer for i, answer in tool.pull().items() if i in (a, b)}
                        wanted = {i: [answer] for i, answer in zip((a, b), truth, strict=True) if answer}
                        told[-1] = "right" if got == wanted else f"wrong: {spoken(got, a, b)}"
                except Exception as error:  # a peer may fall over: that is its result
                    told[-1] = f"fails: {type(error).__name__}"
        print(f"{name:26} {told[0]:20} {told[1]:34} {told[2]}", flush=True)
        studio.delete_project(project_id)


def spoken(got: Mapping[int, list[str]], a: int, b: int) -> str:
    return "; ".join("/".join(got.get(i, ["nothing"])) for i in (a, b))


class Case:
    """One project in which something happens, and the three tools that look at it."""

    def __init__(
        self, studio: Studio, server: ThrowawayServer, project_id: int, state: State, ids: list[int]
    ) -> None:
        self.studio, self.project_id = studio, project_id
        self.ours = Ours(server.url, server.api_key, project_id, state, page_size=1)
        self.ours.unlabelled = [(i, False) for i in ids[2:]]
        self.sdk = SdkExample(server.url, server.api_key, project_id)
        self.ml = MlBackend(server.url, server.api_key, project_id)
        self.tool: Any = self.ours
        found = studio._read("listing", "api/users/")
        readers = [u["id"] for u in found if str(u["email"]).startswith("second")]
        self.second = readers[0] if readers else studio._create(
            "adding", "api/users/", {"email": "second@example.com", "username": "second"}
        )["id"]  # fmt: skip

    def label(self, task_id: int, answer: str, by: int | None = None) -> int:
        """Label a task; returns the annotation's id."""
        said: dict[str, Any] = {"result": self.written(answer)}
        made = self.studio._create(
            "labelling",
            f"api/tasks/{task_id}/annotations/",
            said if by is None else said | {"completed_by": by},
        )
        return int(made["id"])

    def written(self, answer: str) -> list[dict[str, Any]]:
        return list(write_results(self.ours.interface, {"Edema": float(answer == "yes")}))

    def change(self, method: str, annotation: int, said: Any = None) -> None:
        self.studio._ask("changing", method, f"api/annotations/{annotation}/", json=said)

    def repush(self) -> bool | str:
        """Push twice, as after a crash; True if the served version holds each task of one batch once."""
        if self.tool is self.ml:
            return "pushes nothing"
        self.tool.pull()
        version = self.tool.push()
        if self.tool is self.ours:
            self.ours.push(version)
        else:
            self.tool.pull()
            self.tool.push()
        held = self.studio._read("reading", "api/predictions/", {"project": self.project_id})
        served = Counter(p["task"] for p in held if p["model_version"] == version)
        if len(served) == BATCH and set(served.values()) == {1}:
            return True
        return f"wrong: {sum(served.values())} served for {BATCH}"


def edit(case: Case, a: int, b: int) -> None:
    first = case.label(a, "yes")
    case.label(b, "yes")
    case.ours.pull()
    case.change("PATCH", first, {"result": case.written("no")})


def delete(case: Case, a: int, b: int) -> None:
    first = case.label(a, "yes")
    case.label(b, "yes")
    case.ours.pull()
    case.change("DELETE", first)


def delete_task(case: Case, a: int, b: int) -> None:
    case.label(a, "yes")
    case.label(b, "yes")
    case.ours.pull()
    case.studio.delete_task(a)


def skip_then_label(case: Case, a: int, b: int) -> None:
    case.studio.submit(a, [], skipped=True)
    case.label(a, "no", case.second)
    case.studio.submit(b, [], skipped=True)


def label_again(case: Case, a: int, b: int) -> None:
    case.label(a, "yes")
    case.label(b, "yes")
    case.ours.pull()
    case.label(a, "no")


def two_annotators(case: Case, a: int, b: int) -> None:
    for task_id, answer in ((a, "no"), (b, "yes")):
        case.label(task_id, "yes")
        case.label(task_id, answer, case.second)


def equal_times(case: Case, a: int, b: int) -> None:
    for task_id in (a, b):
        case.label(task_id, "yes")
    case.ours.pull()
    action = f"api/dm/actions/?id=delete_tasks_annotations&project={case.project_id}"
    case.studio._ask("clearing", "POST", action, json={"selectedItems": {"all": False, "included": [a, b]}})
    case.ours.pull()  # its watermark is now the time that both share
    case.label(b, "no")


def crash(case: Case, a: int, b: int) -> None:
    case.label(a, "yes")
    case.ours.pull()
    case.label(b, "no")
    case.ours.desk.pull(case.ours.state.watermark())  # and here it died, before anything was saved


def nothing(case: Case, a: int, b: int) -> None:
    case.label(a, "yes")


CASES: list[tuple[str, Callable[[Case, int, int], None], tuple[str, str] | None]] = [
    ("edit", edit, ("no", "yes")),
    ("delete annotation", delete, ("", "yes")),
    ("delete task", delete_task, ("", "yes")),
    ("skip, another labels", skip_then_label, ("no", "")),
    ("label again", label_again, ("no", "yes")),
    ("two annotators, one tie", two_annotators, ("", "yes")),
    ("equal time stamps", equal_times, ("", "no")),
    ("crash, pull not saved", crash, ("yes", "no")),
    ("push again after a crash", nothing, None),
]


def main() -> None:
    """Measure the sizes asked for, then the correctness table."""
    asked = [a for a in sys.argv[1:] if a.isdigit()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files").mkdir()
        with ThrowawayServer(files_root=folder / "files") as server:
            if "--only" not in sys.argv:
                studio = Studio(server.url, server.api_key, timeout_s=900)
                made = {n: populate(studio, n) for n in [int(a) for a in asked] or SIZES}
                for n, (project_id, _) in made.items():
                    with State.create(str(folder / f"{n}.db")) as state:
                        Ours(server.url, server.api_key, project_id, state).pull()  # as `loop start` does
                time.sleep(QUIET_S)
                for n, (project_id, open_) in made.items():
                    bench(server, n, folder, project_id, open_)
            correctness(server, folder)


if __name__ == "__main__":
    main()
