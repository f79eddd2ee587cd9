"""Whose address an image has, and what of it may be told."""

from __future__ import annotations

import pytest

from annotate.studio import Studio

SIGNED = "https://images.example.org/a.png?sig=SECRET"


@pytest.mark.parametrize(
    ("url", "address", "own"),
    [
        ("http://10.0.0.1", "http://10.0.0.1/data/upload/1/a.png", True),
        ("http://10.0.0.1", "/data/local-files/?d=a.png", True),
        ("http://10.0.0.1", "http://10.0.0.10/a.png", False),
        ("http://pacs.example.org", "http://pacs.example.org:8042/a.png", False),
        ("https://host/studio", "https://host/studio/data/a.png", True),
        ("https://host/studio", "https://host/studios/a.png", False),
        ("http://10.0.0.1", SIGNED, False),
    ],
)
def test_an_address_is_label_studio_s_own_by_whole_host_and_folder(url: str, address: str, own: bool) -> None:
    studio = Studio(url, "0" * 40)
    assert studio.has(address) is own
    assert studio.shown(address) == (address if own else address.partition("?")[0])
