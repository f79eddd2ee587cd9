"""Fixtures that several rooms share: the real data, the real Label Studio, and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from reader import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from loop.demo.server import ThrowawayServer

ROOT = Path(__file__).resolve().parent.parent

# One thread a process: the problems are small, and a busy machine makes more threads dearer, not faster.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.fixture(scope="session")
def cxr() -> Path:
    """The folder of real chest X-rays, features and curves (``CXR_DATA``, or ``shared/data/cxr`` beside the checkout)."""
    folder = Path(os.environ.get("CXR_DATA") or ROOT.parent / "shared" / "data" / "cxr")
    if not (folder / "kermany_labels.csv").is_file():
        pytest.skip(
            f"no chest X-ray data at {folder}; set CXR_DATA to the folder that holds kermany_labels.csv"
        )
    return folder


@pytest.fixture(scope="session")
def studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayServer]:
    """A real Label Studio on a free port of this machine, started once a test session."""
    from loop.demo.server import ThrowawayServer

    files_root = tmp_path_factory.mktemp("files")
    with ThrowawayServer(files_root=files_root, task_lock_ttl_s=5) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM to where it is")
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def personal_token(studio_server: ThrowawayServer) -> Iterator[str]:
    """A personal access token of the server's one user, revoked in the end."""
    import httpx

    mine = {"Authorization": f"Token {studio_server.api_key}"}
    with httpx.Client(base_url=studio_server.url, headers=mine) as browser:
        token = browser.post("/api/token/").raise_for_status().json()["token"]
        yield token
        browser.post("/api/token/blacklist/", json={"refresh": token})
