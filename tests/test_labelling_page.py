"""The annotator's page, in a real browser: what is seen, what the keys do, and what arrives in the loop.

``SCREENSHOTS=docs pytest tests/test_labelling_page.py`` draws the README's two pictures of the page anew.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from colleague import sign_up
from PIL import Image
from reader import Reader
from ward import Ward

from annotate.interface import parse_interface
from annotate.layout import HOT_KEYS
from annotate.payloads import write_results
from loop.demo.phantoms import Phantom, draw
from loop.demo.server import ThrowawayServer
from loop.rows import Round

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.studio

FINDINGS = ("Effusion", "Cardiomegaly", "Pneumothorax")
SAYS = ("yes", "no", "cannot tell")
VALUE = {"yes": 1.0, "no": 0.0, "cannot tell": math.nan}
BATCH, NEXT = 14, 6
Truth = dict[str, dict[str, str]]  # item to what is to be seen on it


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayServer]:
    """A server that keeps a task for whom it was served to, as a team's does, however slow this machine is."""
    with ThrowawayServer(tmp_path_factory.mktemp("files"), task_lock_ttl_s=3600) as server:
        yield server


def start(server: ThrowawayServer, name: str, *, suggestions: bool) -> tuple[Ward, Truth]:
    """Drawn chests, embeddings that know what was drawn, the first batch asked."""
    drawn: list[Phantom] = []

    def chest(rng: np.random.Generator) -> Image.Image:
        drawn.append(draw(rng, [f for f in FINDINGS if rng.random() < 0.5], difficulty=0.1, size=384))
        return drawn[-1].image

    ward = Ward.open(server, name, n_images=36, findings=FINDINGS, batch=BATCH, draw=chest)
    with ward.config.open("a") as config:
        config.write(f"show_suggestions = {str(suggestions).lower()}\nclose_on_stop = true\n")
    there = np.array([[f in phantom.findings for f in FINDINGS] for phantom in drawn])  # (n, K)
    blur = np.random.default_rng(0).normal(size=there.shape)
    names = sorted(path.name for path in (ward.config.parent / "images").iterdir())
    np.savez(ward.config.with_name("table.npz"), feat=(4 * there + blur).astype(np.float32), name=names)
    ward.start()
    with ward.state() as state:
        row = {item.item: int(item.path.stem) for item in state.items()}
    return ward, {
        item: {f: ("no", "yes")[int(has)] for f, has in zip(FINDINGS, there[i], strict=True)}
        for item, i in row.items()
    }


def asked(ward: Ward) -> Round:
    with ward.state() as state:
        return state.rounds()[-1]


def items_of(ward: Ward) -> dict[int, str]:
    """Task to item."""
    with ward.state() as state:
        return {task: item for item, task in state.tasks().items()}


def labelled(ward: Ward) -> dict[str, dict[str, float]]:
    """Item to what was said of it."""
    item_of = items_of(ward)
    with ward.state() as state:
        labels = state.labels()
    return {
        item_of[task]: dict(given[-1].answers)
        for task, given in labels.items()
        if given and not given[-1].skipped
    }


def keys_for(says: dict[str, str]) -> str:
    return " ".join(HOT_KEYS[FINDINGS.index(f)][SAYS.index(said)] for f, said in says.items())


def picture(reader: Reader, name: str) -> None:
    """Keep a picture of the page, if asked to."""
    if folder := os.environ.get("SCREENSHOTS"):
        reader.page.get_by_text("successfully").last.wait_for(state="hidden")  # of the image before
        shot = Image.open(io.BytesIO(reader.page.screenshot())).convert("RGB")
        few = shot.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        few.save(Path(folder) / f"{name}.png", optimize=True)


def test_a_batch_is_labelled_through_the_page_with_the_keyboard(
    browser: Browser, server: ThrowawayServer
) -> None:
    ward, truth = start(server, "keyboard", suggestions=True)
    ann = Reader(browser, server.url, server.username, server.password)
    ann.begin(ward.project_id)

    first = asked(ward)
    says = [truth[pick.item] for pick in first.picks]
    says[7] = says[7] | {FINDINGS[2]: "cannot tell"}
    seen, skipped = [], 2
    for i, said in enumerate(says):
        seen.append(ann.seen())
        assert ann.answers() == dict.fromkeys(FINDINGS, "")  # a first batch is all random: blind
        if i == skipped:
            ann.skip()
            continue
        ann.press(keys_for(said))
        assert ann.answers() == said
        if i < BATCH - 1:
            ann.submit()
    image, frame, findings = ann.boxes()
    assert image == frame  # nothing of it is cut off
    assert image[3] - image[1] > 640
    assert findings[3] < 800 - 58  # above the bar at the bottom
    assert findings[2] <= 1280
    ann.submit()
    assert seen == [pick.item for pick in first.picks]

    report = ward.tell("step", "--set", f"batch.size={NEXT}")
    expected = {
        item: {f: VALUE[s] for f, s in said.items()}
        for i, (item, said) in enumerate(zip(seen, says, strict=True))
        if i != skipped
    }
    assert repr(labelled(ward)) == repr({item: expected[item] for item in labelled(ward)})  # NaN has no equal
    assert len(labelled(ward)) == len(expected)
    assert report["labels"]["skipped"] == 1

    second = asked(ward)
    n_active = sum(pick.stream == "active" for pick in second.picks)
    assert n_active == NEXT // 2
    ann.begin(ward.project_id)
    opened = ann.seen()  # the page went on after the first batch; what was opened there comes first now
    order = [pick.item for pick in second.picks]
    if opened in order:
        order.remove(opened)
        order.insert(0, opened)
    else:
        ann.skip()
    says, seen, n_suggested = {item: truth[item] for item in order}, [], 0
    suggested = {
        pick.item: {
            f: ("no", "yes")[int(p >= 0.5)] if pick.stream == "active" and p == p else ""
            for f, p in zip(second.findings, score, strict=True)
        }
        for pick, score in zip(second.picks, second.scores, strict=True)
    }
    for _ in range(NEXT):
        item = ann.seen()
        seen.append(item)
        if item != opened:  # that one was opened before there was anything to suggest
            assert ann.answers() == suggested[item]
        before = ann.answers()
        if any(before.values()) and not n_suggested:
            picture(ann, "page-suggestion")
            take_back_and_give_again(ann, before)
        n_suggested += any(before.values())
        ann.press(keys_for({f: said for f, said in says[item].items() if said != before[f]}))
        assert ann.answers() == says[item]
        ann.submit()
    assert seen == order
    assert n_suggested >= n_active - 1

    report = ward.tell("step", "--set", "stop.budget=16")
    assert report["verdict"] == "STOP"
    now = labelled(ward)
    assert {item: now[item] for item in order} == {
        item: {f: VALUE[s] for f, s in said.items()} for item, said in says.items()
    }
    ann.begin(ward.project_id)
    assert ann.task == ""
    told = ann.page.inner_text("body")
    assert "[STOP] keyboard" in told
    assert "Nothing more needs to be labelled" in told
    assert report["reason"] in " ".join(told.split())


def take_back_and_give_again(ann: Reader, before: dict[str, str]) -> None:
    """The key of an answer that stands takes it back; without it nothing is submitted, and nothing is lost."""
    finding = next(f for f, answer in before.items() if answer)
    key = keys_for({finding: before[finding]})
    ann.press(key)
    assert ann.answers() == before | {finding: ""}
    was = ann.task
    ann.press("Control+Enter")
    refused = ann.page.get_by_text(": yes, no or cannot tell?")
    refused.wait_for()
    for _ in range(20):  # a click on a dialog that is still opening is lost
        if not refused.is_visible():
            break
        ann.page.evaluate("document.querySelector('.ant-modal-confirm button.ant-btn-primary')?.click()")
        ann.page.wait_for_timeout(1_000)
    assert not refused.is_visible()
    ann.press(key)
    assert (ann.task, ann.answers()) == (was, before)


def test_two_annotators_share_the_batch_in_its_order_and_see_no_suggestions(
    browser: Browser, server: ThrowawayServer
) -> None:
    ward, truth = start(server, "shared", suggestions=False)
    with ward.studio as studio, sign_up(studio, "reader"):
        interface = parse_interface(studio.project(ward.project_id).xml)
        task_of = {item: task for task, item in items_of(ward).items()}
        for pick in asked(ward).picks:
            said = {f: VALUE[s] for f, s in truth[pick.item].items()}
            studio.submit(task_of[pick.item], write_results(interface, said), 3.0)
    ward.tell("step", "--set", f"batch.size={NEXT}")
    batch = asked(ward)
    assert np.isfinite(batch.scores).any()  # there is something to suggest

    ann = Reader(browser, server.url, server.username, server.password)
    bob = Reader(browser, server.url, "reader@example.com", "passw0rd1")
    served = []
    for who in (ann, bob):
        who.begin(ward.project_id)
        served.append(who.seen())
    stream = {pick.item: pick.stream for pick in batch.picks}
    for who in (ann, ann, bob, ann):  # one hurries, the other holds a task all the while
        assert who.answers() == dict.fromkeys(FINDINGS, "")
        if stream[who.seen()] == "active":
            picture(who, "page-blind")
        who.press("q 2 d")
        who.submit()
        served.append(who.seen())
    assert served == [pick.item for pick in batch.picks]

    assert ward.tell("step")["outstanding"] == NEXT - 4
    with ward.state() as state:
        given = [label for labels in state.labels().values() for label in labels]
    by = [label for label in given if items_of(ward)[label.task_id] in stream]
    assert len(by) == 4
    assert len({label.annotator for label in by}) == 2
    assert all(
        repr(label.answers) == repr(dict(zip(FINDINGS, (0.0, 1.0, math.nan), strict=True))) for label in by
    )
