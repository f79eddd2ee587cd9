"""A second annotator on a real Label Studio, signed up by invitation."""

from __future__ import annotations

import re

import httpx

from annotate.studio import Studio


def sign_up(studio: Studio, name: str) -> Studio:
    """Sign a colleague up at the same server; returns it as they see it."""
    link = studio._read("inviting", "api/invite")["invite_url"]
    with httpx.Client(base_url=studio.url) as browser:
        mark = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(link).text)
        assert mark is not None
        said = {"email": f"{name}@example.com", "password": "passw0rd1", "csrfmiddlewaretoken": mark[1]}
        assert browser.post(link, data=said).status_code == 302
        key = browser.get("/api/current-user/token").json()["token"]
    return Studio(studio.url, key, page_size=5)
