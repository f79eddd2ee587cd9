"""How Label Studio is spoken to: with a key, in pages, each creating call sent exactly once.

Reads may be repeated by the SDK. Calls that create rows are sent exactly once: Label Studio has no
idempotency keys, a repeated call stores everything again, and a call whose answer was lost is often
carried out all the same.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from annotate.errors import StudioRefused
from annotate.payloads import Json
from annotate.refusals import explain
from annotate.tokens import hide, read_token
from annotate.wire import plain_address, read_answer, refuse_moved, translated, trusted

T = TypeVar("T")

LARGEST_PAGE = 1000  # larger ones take the server close to a gigabyte of memory


class Connection:
    """A connection to a Label Studio server, opened with a user's key.

    Args:
        url: Address as typed in the browser, with a sub-path if there is one.
        api_key: Personal access token (recommended) or legacy token. It is shown nowhere.
        page_size: Tasks read per call, at most 1000.
        timeout_s: Patience for reading; calls that store many rows get half an hour.
        ca_file: Certificates of authorities to trust besides the public ones, PEM; None = those alone, or SSL_CERT_FILE.

    Raises:
        StudioRefused: The address or key cannot be one, or there are no certificates in that file.

    Used as ``with Studio(...) as studio``, or closed with :meth:`close`, it gives its connections back.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        page_size: int = 500,
        timeout_s: float = 60.0,
        ca_file: Path | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise StudioRefused(f"{url!r} is not an address of Label Studio. Give it as http://HOST:PORT.")
        self._secret = api_key.strip()
        self._token = read_token(self._secret)
        self.url = plain_address(url)
        self._page_size = min(page_size, LARGEST_PAGE)
        base = url.rstrip("/") + "/"  # without the slash the SDK's token refresh loses a sub-path
        client = httpx.Client(
            timeout=timeout_s,
            follow_redirects=True,
            verify=trusted(ca_file),
            event_hooks={"response": [refuse_moved]},
        )
        weakref.finalize(self, client.close)
        self._client = client
        self.close: Callable[[], None] = client.close
        self._sdk: Any = None
        self._sdk = self._call("opening it", lambda: _open(base, self._secret, client))
        # The SDK's own HTTP client, below its methods: it adds and renews tokens of either kind, and gives
        # the JSON as the server sent it, which is what we keep.
        self._http = self._sdk._client_wrapper.httpx_client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Studio({self.url!r})"

    def _listed(
        self, what: str, project_id: int, include: str, fields: str, filters: list[Json]
    ) -> Iterator[Json]:
        for page in self._pages(what, project_id, include, fields, filters):
            yield from page

    def _pages(
        self, what: str, project_id: int, include: str, fields: str, filters: list[Json]
    ) -> Iterator[list[Json]]:
        """Walk the tasks by id, not by page: a task deleted meanwhile must not shift another past us."""
        last = 0
        while True:
            items = [*filters, filtered("id", "greater", "Number", last)]
            rows = self._page(
                what, project_id, include, fields, {"filters": {"conjunction": "and", "items": items}}
            )
            yield rows
            if len(rows) < self._page_size:
                return
            last = int(rows[-1]["id"])

    def _page(
        self,
        what: str,
        project_id: int,
        include: str,
        fields: str,
        query: Json,
        *,
        page: int = 1,
        page_size: int = 0,
    ) -> list[Json]:
        try:
            listed = self._list(what, project_id, include, fields, query, page=page, page_size=page_size)
        except StudioRefused as error:
            if page > 1 and "Invalid page" in str(error):
                return []
            raise
        return list(listed["tasks"])

    def _list(
        self,
        what: str,
        project_id: int,
        include: str,
        fields: str,
        query: Json,
        *,
        page: int = 1,
        page_size: int = 0,
    ) -> Any:
        """A page of tasks, with the counts of all pages. ``GET /api/tasks``."""
        params = {
            "project": project_id, "page": page, "page_size": page_size or self._page_size,
            "include": include, "fields": fields, "query": json.dumps(query),
        }  # fmt: skip
        return self._read(what, "api/tasks/", params)

    def _read(self, what: str, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._ask(what, "GET", path, params=params)

    def _create(
        self, what: str, path: str, body: Any = None, *, files: Any = None, timeout_s: float | None = None
    ) -> Any:
        """Send a call that creates rows: once, whatever happens."""
        options = RequestOptions(max_retries=0)
        if timeout_s is not None:
            options["timeout"] = timeout_s
        return self._ask(what, "POST", path, json=body, files=files, request_options=options)

    def _ask(self, what: str, method: str, path: str, **said: Any) -> Any:
        return self._call(what, lambda: read_answer(self._http.request(path, method=method, **said)))

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """Make a call and translate what can go wrong: the one place where foreign errors become ours."""
        for last in (False, True):
            try:
                return call()
            except ApiError as error:
                if error.status_code == 401 and self._ended_session() and not last:
                    continue  # a refused call changed nothing, so ask once more, with a new session
                told = explain(what, self.url, error.status_code or 0, self._hidden(error.body), self._token)
                raise told from None
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise translated(what, self.url, error, self._hidden(str(error))) from None
        raise AssertionError("unreachable")

    def _ended_session(self) -> bool:
        """Forget the session that a personal access token opened; False if there was none.

        The SDK renews it by this machine's clock: one that is slow would show an ended session for ever.
        """
        tokens = self._sdk and self._sdk._client_wrapper._tokens_client
        if not tokens or not tokens._access_token:
            return False
        tokens._access_token = None
        return True

    def _hidden(self, said: Any) -> Any:
        """Take the keys out of what a server or library said, at any depth."""
        if isinstance(said, dict):
            return {self._hidden(key): self._hidden(value) for key, value in said.items()}
        if isinstance(said, list):
            return [self._hidden(value) for value in said]
        session = self._sdk and self._sdk._client_wrapper._tokens_client._access_token
        return hide(said, self._secret, session or "") if isinstance(said, str) else said


def _open(url: str, api_key: str, client: httpx.Client) -> Any:
    sdk: Callable[..., Any] = LabelStudio
    return sdk(base_url=url, api_key=api_key, httpx_client=client)


def filtered(column: str, operator: str, kind: str, value: Any) -> Json:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
