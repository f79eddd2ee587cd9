"""A throwaway Label Studio for one's own images: up until it is interrupted, then gone."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from loop.demo.server import ThrowawayServer
from loop.show import console


def serve(folder: Path) -> None:
    """Start Label Studio for the images below a folder, say how to use it, and keep it until Ctrl-C or SIGTERM.

    Raises:
        BadInput: It is no folder.
        Unavailable: Label Studio cannot be installed or started.
    """
    ended = threading.Event()
    out = console()
    out.print("Starting Label Studio (the first time it is installed: about 2 minutes) ...")
    with ThrowawayServer(folder) as server:
        before = {
            number: signal.signal(number, lambda *_: ended.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        out.print(
            f"Label Studio is up until Ctrl-C; then it is gone, with all labels.\n"
            f"  in a browser: {server.url}, login {server.username}, password {server.password}\n"
            f"  in the shell of your project:\n"
            f"    export LABEL_STUDIO_URL={server.url}\n"
            f"    export LABEL_STUDIO_API_KEY={server.api_key}\n"
            f"  in its loop.toml, [label_studio]:\n"
            f'    document_root = "{server.files_root}"',
            soft_wrap=True,
        )
        try:
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
