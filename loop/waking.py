"""Have Label Studio wake a watch: a listener, its webhook, and both gone in the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from annotate.errors import AnnotateError, StudioUnavailable
from annotate.studio import Studio
from annotate.tokens import hide
from annotate.webhooks import HEADER, ensure_webhook
from loop.bell import Bell
from loop.errors import BadInput
from loop.listener import EVERYWHERE, ensure_secret, listening, read_place, require_plain
from loop.project import Loop
from loop.settings import Settings

SECRET_FILE = "webhook.secret"

log = logging.getLogger(__name__)


@contextmanager
def woken(settings: Settings, api_key: str, loop: Loop, listen: str, url: str | None) -> Iterator[Bell]:
    """Listen, register at Label Studio, and yield the bell that it rings.

    The webhook is registered by ourselves and removed in the end: one that nobody answers costs annotators time. Where
    it cannot be registered, the reason and what to register by hand are logged; the watch then lives by its polls.

    Args:
        settings: The project's settings.
        api_key: Label Studio's key.
        loop: The project, opened.
        listen: ``HOST:PORT`` to listen on.
        url: The same as Label Studio's machine knows it; None = it is that.

    Raises:
        BadInput: Nobody can listen there, ``url`` is none or holds a password, or the address alone does not tell where Label Studio finds us.
    """
    host, port = read_place(listen)
    if url is not None:
        require_plain(url)
    if url is None and host in EVERYWHERE:
        raise BadInput(
            f"--listen {listen} listens everywhere, which does not tell where Label Studio finds this machine. Add "
            "--listen-url http://ADDRESS:PORT/, or listen on one address."
        )
    path = settings.folder / SECRET_FILE
    secret, bell = ensure_secret(path), Bell()
    project_id = int((loop.state.fact("project") or {})["id"])
    with (
        Studio(settings.label_studio.url, api_key, ca_file=settings.ca_path) as studio,
        listening(host, port, secret, bell) as bound,
    ):
        address = url or f"http://{f'[{host}]' if ':' in host else host}:{bound}/"
        webhook: int | None = None
        try:
            webhook = ensure_webhook(studio, project_id, address, {HEADER: secret})
            log.info("Label Studio wakes this watch at %s", address)
        except StudioUnavailable as error:
            log.warning("%s This watch polls. Start it again to register its webhook.", error)
        except AnnotateError as error:
            log.warning(
                "%s This watch polls. To have it woken all the same, register the webhook %s by hand (project settings, "
                "Webhooks), without payload, with the header %s: the content of %s. Label Studio calls no private "
                "address unless it runs with SSRF_PROTECTION_ENABLED=false.",
                hide(str(error), secret),
                address,
                HEADER,
                path,
            )
        try:
            yield bell
        finally:
            if webhook is not None:
                try:
                    studio.delete_webhook(webhook)
                except AnnotateError as error:
                    log.warning(
                        "%s The webhook %s is still registered; the next `loop watch --listen` removes it.",
                        error,
                        address,
                    )
