"""What of a Label Studio is only looked at: its settings, members, storages and images."""

from __future__ import annotations

from label_studio_sdk.core.api_error import ApiError

from annotate.connection import Connection, filtered
from annotate.errors import StudioRefused
from annotate.payloads import Json
from annotate.wire import refuse_bad


class Looks(Connection):
    """Calls that only look."""

    def legacy_tokens_enabled(self) -> bool | None:
        """Whether the organization lets legacy tokens in; None if it does not tell. ``GET /api/jwt/settings``."""
        try:
            got = self._read("reading the organization's token settings", "api/jwt/settings")
        except StudioRefused:
            return None
        return bool(got["legacy_api_tokens_enabled"])

    def local_folders(self, project_id: int) -> list[str]:
        """Folders of its machine that Label Studio serves to a project. ``GET /api/storages/localfiles``."""
        what = f"listing the storages of project {project_id}"
        return [
            str(row["path"]) for row in self._read(what, "api/storages/localfiles", {"project": project_id})
        ]

    def task_data(self, project_id: int, task_id: int) -> Json | None:
        """The data of a task; None if the project does not have it (any more)."""
        query = {"filters": {"conjunction": "and", "items": [filtered("id", "in_list", "List", [task_id])]}}
        found = self._page(f"reading task {task_id}", project_id, "id,data", "task_only", query)
        return dict(found[0]["data"]) if found else None

    @property
    def _place(self) -> str:
        return self.url.partition("://")[2]

    def has(self, address: str) -> bool:
        """Whether an image's address is this Label Studio's own."""
        return "://" not in address or f"{address.partition('://')[2]}/".startswith(f"{self._place}/")

    def shown(self, address: str) -> str:
        """An address as it may be told and stored: another server's without its query, which may hold a signature."""
        return address if self.has(address) else address.partition("?")[0]

    def image(self, address: str, *, known: bool = True) -> bytes:
        """Fetch an image as an annotator's browser would.

        Args:
            address: As it stands in a task's data. The key is shown to this Label Studio only.
            known: With our key; False = as anybody could.

        Raises:
            StudioRefused: It is not given out.
        """
        foreign = not self.has(address)
        path = address.partition("://")[2].removeprefix(self._place) if "://" in address else address
        url = address if foreign else f"{self.url}/{path.lstrip('/')}"

        def fetch() -> bytes:
            headers = self._sdk._client_wrapper.get_headers() if known and not foreign else {}
            response = self._client.get(url, headers=headers)
            kind = response.headers.get("content-type", "").partition(";")[0]
            if response.is_success and kind in ("text/html", "application/json"):  # a login page, perhaps
                raise ApiError(status_code=401, body=f"{kind} instead of an image")
            if response.status_code == 404:  # says nothing more, and means neither the project nor the key
                raise StudioRefused(
                    f"{'Its server' if foreign else 'Label Studio'} has no image there (HTTP 404)."
                )
            refuse_bad(response)
            return response.content

        return self._call("fetching an image", fetch)
