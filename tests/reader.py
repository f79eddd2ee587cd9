"""A person at the labelling page of a real Label Studio: a Chromium without a window, its pictures and its keyboard."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

_TASK = ".lsf-current-task__task-id"
_DONE = "No More Tasks Left in Queue"
_ARRIVED = f"""was => {{
  if (document.body.innerText.includes("{_DONE}")) return true;
  const id = document.querySelector("{_TASK}")?.firstChild?.textContent;
  const image = document.querySelector(".lsf-image img");
  return id && id !== was && image?.complete && image.naturalWidth > 0;
}}"""
_BYTES = """async image => {
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}"""
_ANSWERS = """rows => Object.fromEntries(rows.map(row => [
  row.querySelector("h4").innerText,
  row.querySelector(".ant-radio-wrapper-checked input")?.name ?? "",
]))"""
_SIZES = """([image, frame, findings]) => [image, frame, findings].map(e => {
  const box = e.getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom].map(Math.round);
})"""


class Reader:
    """Somebody signed in, in a browser context of their own."""

    def __init__(self, browser: Browser, url: str, email: str, password: str) -> None:
        self.url = url
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.page.goto(f"{url}/user/login")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_load_state()

    def begin(self, project_id: int) -> None:
        """Open the project and press "Label All Tasks"."""
        self.page.goto(f"{self.url}/projects/{project_id}/data")
        self.page.get_by_text("Label All Tasks").click()
        self._wait("")

    @property
    def task(self) -> str:
        """The number of the task on the page; empty if there is none."""
        shown = self.page.locator(_TASK)
        return (shown.inner_text().split()[0]) if shown.count() else ""

    def seen(self) -> str:
        """The item whose image is on the page, by the bytes of the image itself."""
        shown = base64.b64decode(self.page.locator(".lsf-image img").evaluate(_BYTES))
        return hashlib.sha256(shown).hexdigest()[:32]

    def answers(self) -> dict[str, str]:
        """What is chosen for each finding now; empty where nothing is.

        The look is what counts: all "yes" of a page share one name, so a browser takes at most one of them for checked.
        """
        chosen: dict[str, str] = self.page.locator(".finding").evaluate_all(_ANSWERS)
        return chosen

    def press(self, keys: str) -> None:
        """Press keys one after another."""
        for key in keys.split():
            self.page.keyboard.press(key)

    def submit(self) -> None:
        self._leave("Control+Enter")

    def skip(self) -> None:
        self._leave("Control+Space")

    def boxes(self) -> list[list[int]]:
        """Left, top, right and bottom of the image, of the frame that shows it, and of the questions, in pixels."""
        page = self.page
        parts = [page.query_selector(part) for part in (".lsf-image img", ".lsf-image", ".findings")]
        boxes: list[list[int]] = page.evaluate(_SIZES, parts)
        return boxes

    def _leave(self, key: str) -> None:
        was = self.task
        with self.page.expect_response(lambda answer: f"/tasks/{was}/annotations" in answer.url):
            self.page.keyboard.press(key)
        self._wait(was)

    def _wait(self, was: str) -> None:
        self.page.wait_for_function(_ARRIVED, arg=was)
