"""Projects that existed before the loop, on a real Label Studio: interfaces, labels, and how tasks name their images."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from ward import Ward

from annotate.errors import BadInterface
from annotate.interface import parse_interface
from annotate.studio import Studio
from loop.settings import load_settings
from loop.state import State

if TYPE_CHECKING:
    from loop.demo.server import ThrowawayServer

pytestmark = pytest.mark.studio

UNKNOWN = math.nan


def said(control: str, *choices: object, **more: object) -> dict[str, Any]:
    """An answered control as the page writes it."""
    value = {"choices": list(choices)}
    return {"from_name": control, "to_name": "img", "type": "choices", "value": value, **more}


@dataclass(frozen=True)
class Kind:
    """An interface, annotations as people made them, and what they say of the findings."""

    xml: str
    findings: Sequence[str]
    answers: Sequence[tuple[Sequence[Mapping[str, Any]], Mapping[str, float]]]


BOX = {
    "from_name": "box", "to_name": "img", "type": "rectanglelabels", "original_width": 16, "original_height": 16,
    "image_rotation": 0, "id": "r1", "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": ["Nodule"]},
}  # fmt: skip

KINDS = {
    "one of several": Kind(
        '<View><Image name="img" value="$image"/><Choices name="choice" toName="img">'
        '<Choice value="Pneumonia"/><Choice value="Effusion"/><Choice value="Normal"/></Choices></View>',
        ["Pneumonia", "Effusion"],
        [
            ([said("choice", "Effusion")], {"Pneumonia": 0, "Effusion": 1}),
            ([said("choice", "Normal")], {"Pneumonia": 0, "Effusion": 0}),
        ],
    ),
    "tick boxes": Kind(
        '<View><Header value="What is there?"/><Image name="img" value="$image" zoom="true"/>'
        '<Choices name="found" toName="img" choice="multiple" showInLine="true" required="true">'
        '<Choice value="Edema" alias="ED-1" hotkey="e"/><Choice value="Effusion" hint="fluid"/><Choice value="No finding"/>'
        '<Choice value="Not sure"/></Choices></View>',
        ["Edema", "Effusion"],
        [
            ([said("found", "ED-1", "Effusion")], {"Edema": 1, "Effusion": 1}),
            ([said("found", "Effusion")], {"Edema": 0, "Effusion": 1}),
            ([said("found", "No finding")], {"Edema": 0, "Effusion": 0}),
            ([said("found", "Effusion", "Not sure")], {"Edema": UNKNOWN, "Effusion": 1}),
        ],
    ),
    "nested": Kind(
        '<View><Image name="img" value="$image"/><Choices name="where" toName="img" choice="multiple" allowNested="true">'
        '<Choice value="Left"><Choice value="Nodule"/><Choice value="Effusion"/></Choice>'
        '<Choice value="Right"><Choice value="Nodule"/><Choice value="Pneumothorax"/></Choice></Choices></View>',
        ["Left / Nodule", "Right / Nodule", "Pneumothorax"],
        [
            (
                [said("where", ["Left"], ["Left", "Nodule"], ["Right", "Pneumothorax"])],
                {"Left / Nodule": 1, "Right / Nodule": 0, "Pneumothorax": 1},
            ),
            (
                [said("where", ["Right", "Nodule"])],
                {"Left / Nodule": 0, "Right / Nodule": 1, "Pneumothorax": 0},
            ),
        ],
    ),
    "a control for each finding, among much else": Kind(
        '<View><Text name="report" value="$report"/><Choices name="report type" toName="report"><Choice value="final"/>'
        '<Choice value="draft"/></Choices><Image name="img" value="$image"/>'
        '<Choices name="Pleural effusion" toName="img" choice="single-radio" required="true"><Choice value="Present" alias="1"/>'
        '<Choice value="Absent" alias="0"/><Choice value="Not assessable" alias="9"/></Choices>'
        '<Choices name="Edema?" toName="img" choice="single"><Choice value="Yes"/><Choice value="No"/></Choices>'
        '<Choices name="side" toName="img" visibleWhen="choice-selected" whenTagName="Pleural effusion" whenChoiceValue="Present">'
        '<Choice value="left side"/><Choice value="right side"/></Choices>'
        '<RectangleLabels name="box" toName="img"><Label value="Nodule"/></RectangleLabels>'
        '<Choices name="of the box" toName="img" perRegion="true"><Choice value="solid"/><Choice value="part-solid"/></Choices>'
        '<TextArea name="comment" toName="img"/><Rating name="quality" toName="img"/></View>',
        ["Pleural effusion", "Edema?"],
        [
            (
                [
                    said("Pleural effusion", "1"), said("Edema?", "No"), said("side", "left side"), BOX,
                    said("of the box", "solid", id="r1"), said("report type", "final", to_name="report"),
                ],
                {"Pleural effusion": 1, "Edema?": 0},
            ),
            ([said("Pleural effusion", "9"), said("Edema?", "Yes")], {"Pleural effusion": UNKNOWN, "Edema?": 1}),
            ([said("Pleural effusion", "0")], {"Pleural effusion": 0, "Edema?": UNKNOWN}),
        ],
    ),
}  # fmt: skip


def found(ward: Ward, studio: Studio, xml: str, addresses: Sequence[str]) -> tuple[int, list[int]]:
    """A project of somebody else's, with a task for each address."""
    project_id = studio.create_project("Ours since 2021", xml)
    data = [{"data": {"image": each, "report": "none"}} for each in addresses]
    studio.ensure_local_files(project_id, ward.config.parent / "images")
    return project_id, studio.import_tasks(project_id, data)


def local(ward: Ward, n: int = 30) -> list[str]:
    folder = ward.config.parent.name
    return [f"/data/local-files/?d={folder}/images/{i:02d}.png" for i in range(n)]


def adopt(ward: Ward, project_id: int, findings: Sequence[str], *more: str) -> dict[str, Any]:
    """Start the loop on it."""
    args = ["--set", f"label_studio.project_id={project_id}", "--set", f"project.findings={json.dumps(findings)}"]  # fmt: skip
    result = ward.run("start", "--json", *args, *more)
    assert result.exit_code == 0, result.output
    begun: dict[str, Any] = json.loads(result.stdout)
    return begun


def state_of(ward: Ward) -> State:
    return State.open(load_settings(ward.config, {}, {}).state_url)


@pytest.mark.parametrize("name", KINDS)
def test_an_interface_is_adopted_with_its_labels_and_served_on(
    studio_server: ThrowawayServer, name: str
) -> None:
    kind = KINDS[name]
    ward = Ward.open(studio_server, "kind-" + name.split()[0] + str(len(name)))
    project_id, tasks = found(ward, ward.studio, kind.xml, local(ward))
    for task_id, (result, _) in zip(tasks, kind.answers, strict=False):
        ward.studio.submit(task_id, result, 4.0)
    ward.studio.submit(tasks[len(kind.answers)], [], skipped=True)
    begun = adopt(ward, project_id, kind.findings)
    assert begun["imported"] == 0
    assert begun["report"]["batch"]["size"] == 10
    with state_of(ward) as state:
        labels = state.labels()
        assert len(state.tasks()) == 30
        streams = {row.get("stream") for e in state.ledger() if (row := e.fields())["event"] == "labelled"}
    assert streams == {"outsider"}
    for task_id, (_, expected) in zip(tasks, kind.answers, strict=False):
        (label,) = labels[task_id]
        assert label.problem is None
        read = {finding: label.answers[finding] for finding in kind.findings}
        assert read == pytest.approx(expected, nan_ok=True)
    (skipped,) = labels[tasks[len(kind.answers)]]
    assert skipped.skipped
    interface = parse_interface(kind.xml)
    assert (
        interface.read(interface.write(dict.fromkeys(kind.findings[:1], 0.9), 0.5)).get(kind.findings[0])
        == 1.0
    )  # a suggestion can be shown
    served = {row["id"] for row in ward.studio.tasks(project_id)}
    assert served == set(tasks)


def test_every_template_of_label_studio_is_understood_or_refused_with_what_it_has(
    studio_server: ThrowawayServer,
) -> None:
    mine = {"Authorization": f"Token {studio_server.api_key}"}
    answer = httpx.get(f"{studio_server.url}/api/templates", headers=mine, timeout=60).raise_for_status()
    configs = {
        t["title"]: t["config"] for t in answer.json()["templates"] if "<Image" in (t.get("config") or "")
    }
    assert len(configs) > 10
    understood, reasons = {}, {}
    for title, xml in configs.items():
        try:
            understood[title] = parse_interface(xml).findings
        except BadInterface as error:
            reasons[title] = str(error)
    assert all("<Choices>" in told or "one image a task" in told for told in reasons.values()), reasons
    assert understood["Image Classification"] == ("Adult content", "Weapons", "Violence")
    assert understood["Medical Image Classification with Bounding Boxes"] == ("Benign", "Malignant")
    with_choices = {title for title, xml in configs.items() if "<Choices" in xml}
    refused = with_choices - understood.keys()
    assert all("left_cc,right_cc" in configs[title] for title in refused), refused  # four images a task


@pytest.mark.parametrize(
    "shape",
    ["local", "windows", "escaped", "upload", "http", "data key"],
)
def test_tasks_are_matched_to_images_however_they_name_them(
    studio_server: ThrowawayServer, shape: str
) -> None:
    ward = Ward.open(studio_server, f"named-{shape.replace(' ', '-')}")
    studio, names, more = ward.studio, [f"{i:02d}.png" for i in range(30)], []
    xml = KINDS["one of several"].xml
    if shape == "upload":
        project_id = studio.create_project("Ours since 2021", xml)
        images = ward.config.parent / "images"
        addresses = [studio.upload_image(project_id, images / name) for name in names[:5]]
        studio.import_tasks(project_id, [{"data": {"image": each}} for each in addresses])
    elif shape == "data key":
        project_id = studio.create_project("Ours since 2021", xml)
        data = [{"image": f"https://pacs/{29 - i}.png", "accession": f"A-{i}"} for i in range(30)]
        studio.import_tasks(project_id, [{"data": each} for each in data])
        rows = "".join(f"images/{name},A-{i}\n" for i, name in enumerate(names))
        (ward.config.parent / "all.csv").write_text(f"file,accession\n{rows}")
        more = ["--set", "images.source=all.csv", "--set", "label_studio.match_by=accession"]
    else:
        address = {
            "local": "/data/local-files/?d=elsewhere/{}",
            "windows": r"/data/local-files/?d=elsewhere\images\{}",
            "escaped": "/data/local-files/?d=else%20where%2F{}",
            "http": "https://pacs.example.org/x/{}?X-Amz-Signature=0f0f&X-Amz-Expires=60",
        }[shape]
        project_id, _ = found(ward, studio, xml, [address.format(name) for name in names])
        if folder := {"local": "elsewhere", "escaped": "else where"}.get(shape):
            shutil.copytree(ward.config.parent / "images", studio_server.files_root / folder)
            studio.ensure_local_files(project_id, studio_server.files_root / folder)
    if shape == "windows":  # matched, but this server, which runs elsewhere, cannot show it
        args = ("--set", f"label_studio.project_id={project_id}", "--set", 'project.findings=["Effusion"]')
        assert "no image there" in ward.run("start", *args).output
    else:
        begun = adopt(ward, project_id, ["Effusion"], *more)
        assert begun["imported"] == (25 if shape == "upload" else 0)
        unseen = [
            line for line in begun["report"]["warnings"] if "could not be fetched from this machine" in line
        ]
        assert len(unseen) == (shape in ("http", "data key"))
    with state_of(ward) as state:
        path_of = {item.item: item.path.name for item in state.items()}
        given = {path_of[item]: task_id for item, task_id in state.tasks().items()}
    held = {int(row["id"]): row["data"] for row in studio.tasks(project_id)}
    for name, task_id in given.items():
        if shape == "data key":
            assert held[task_id]["accession"] == f"A-{int(name[:2])}"
        else:
            assert name in held[task_id]["image"]


def test_what_an_adopted_project_does_not_ask_is_told_before_an_image_is_opened(
    studio_server: ThrowawayServer,
) -> None:
    ward = Ward.open(studio_server, "asks-other-things")
    project_id, _ = found(ward, ward.studio, KINDS["tick boxes"].xml, local(ward))
    result = ward.run(
        "start", "--set", f"label_studio.project_id={project_id}", "--set", "images.source=gone",
        "--set", 'project.findings=["Mass"]',
    )  # fmt: skip
    told = " ".join(result.output.split())
    assert "does not ask for Mass; it asks for Edema, Effusion" in told


def test_an_image_with_two_tasks_stops_the_start_which_names_both(studio_server: ThrowawayServer) -> None:
    ward = Ward.open(studio_server, "two-tasks")
    addresses = local(ward)
    project_id, tasks = found(ward, ward.studio, KINDS["one of several"].xml, [*addresses, addresses[3]])
    args = ["--set", f"label_studio.project_id={project_id}", "--set", 'project.findings=["Effusion"]']
    result = ward.run("start", *args)
    told = " ".join(result.output.split())
    assert result.exit_code == 2, told
    assert f"tasks {tasks[3]} and {tasks[30]} could be" in told
    assert "images/03.png" in told.replace(" ", "")
    result = ward.run("start", *args, "--set", "label_studio.match_by=accession")
    assert "has 'accession' in its data; they have image, report" in " ".join(result.output.split())
    ward.studio.delete_task(tasks[30])
    assert ward.run("start", *args).exit_code == 0


def test_existing_labels_that_are_declared_random_are_told_by_start_status_and_ledger(
    studio_server: ThrowawayServer,
) -> None:
    ward = Ward.open(studio_server, "declared")
    kind = KINDS["one of several"]
    project_id, tasks = found(ward, ward.studio, kind.xml, local(ward))
    for task_id in tasks[:6]:
        ward.studio.submit(task_id, kind.answers[0][0], 4.0)
    text = ward.config.read_text().replace('["Edema", "Effusion"]', '["Effusion"]')
    text = text.replace(
        "[label_studio]", f'[labels]\nexisting = "random"\n[label_studio]\nproject_id = {project_id}'
    )
    ward.config.write_text(text)
    ward.start()
    status = ward.run("status")
    assert status.exit_code == 0, status.output
    told = " ".join(status.output.split())
    assert "6 labels (6 declared random)" in told
    assert "6 labelled before the first batch, declared random by [labels] existing" in told
    ledger = ward.run("ledger")
    assert "6 labelled declared" in " ".join(ledger.output.split())
    assert ward.run("step", "--now").exit_code == 0
