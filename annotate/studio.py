"""Label Studio over HTTP, and nothing else: each method is one documented call, measured on 1.23.2.

Reads may be repeated by the SDK. Calls that create rows are sent exactly once: Label Studio has no
idempotency keys, a repeated call stores everything again, and a call whose answer was lost is often
carried out all the same.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions

from annotate.errors import StudioRefused
from annotate.payloads import Json, read_time, write_time
from annotate.records import Roll
from annotate.refusals import explain
from annotate.tokens import Token, hide, read_token
from annotate.wire import plain_address, read_answer, refuse_bad, refuse_moved, translated, trusted

T = TypeVar("T")

LARGEST_PAGE = 1000  # larger ones take the server close to a gigabyte of memory
_TASK_FIELDS = (  # Label Studio applies the list to nested objects too, so it names the annotations' fields
    "id,data,updated_at,is_labeled,annotations,result,was_cancelled,ground_truth,completed_by,created_at,lead_time,"
    "parent_prediction"
)
_PROJECT_FIELDS = (
    "id,title,label_config,sampling,model_version,maximum_annotations,show_collab_predictions,task_number"
)


@dataclass(frozen=True, slots=True)
class About:
    """Who we talk to, and as whom.

    Attributes:
        version: Label Studio's release.
        user: E-mail address of the key's owner.
        token: What the key says of itself.
    """

    version: str
    user: str
    token: Token


@dataclass(frozen=True, slots=True)
class Project:
    """A Label Studio project, as far as the loop cares.

    Attributes:
        project_id: Label Studio's id.
        title: Its title.
        xml: Its labelling interface.
        sampling: How the next task is chosen; "Uncertainty sampling" follows the loop's queue.
        model_version: The predictions that make up the queue.
        maximum_annotations: Annotations each task needs; 0 closes the queue.
        show_suggestions: Whether annotators see predictions.
        n_tasks: Number of tasks.
    """

    project_id: int
    title: str
    xml: str
    sampling: str
    model_version: str
    maximum_annotations: int
    show_suggestions: bool
    n_tasks: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What a project tells its annotators, and whether it gives them tasks.

    Attributes:
        title: On the project's card, 3 to 50 characters.
        instruction: HTML, shown before labelling and on request.
        shows_instruction: Whether it is shown before labelling.
        maximum_annotations: Annotations each task needs; 0 closes the queue.
    """

    title: str
    instruction: str
    shows_instruction: bool
    maximum_annotations: int

    def to_fields(self) -> dict[str, Any]:
        """The same under Label Studio's names."""
        return {
            "title": self.title,
            "expert_instruction": self.instruction,
            "show_instruction": self.shows_instruction,
            "maximum_annotations": self.maximum_annotations,
        }


class Studio:
    """A Label Studio server, opened with a user's key.

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

    # -- who and where ----------------------------------------------------------------------

    def about(self) -> About:
        """Check address and key. ``GET /api/version``, ``GET /api/current-user/whoami``."""
        version = self._read("asking its version", "api/version")
        user = self._read("asking who we are", "api/current-user/whoami")
        return About(str(version.get("release", "unknown")), str(user.get("email", "")), self._token)

    def create_project(
        self,
        title: str,
        xml: str,
        *,
        description: str = "",
        instruction: str = "",
        show_suggestions: bool = True,
    ) -> int:
        """Create a project. ``POST /api/projects``. The order of the queue is set later, by :meth:`serve`.

        Args:
            title: 3 to 50 characters.
            xml: The labelling interface.
            description: Shown on the project's card.
            instruction: Shown to annotators before they begin.
            show_suggestions: Pre-fill the form with the loop's suggestions.

        Returns:
            The project's id.
        """
        if not 3 <= len(title) <= 50:
            raise StudioRefused(
                f"The title {title!r} has {len(title)} characters; Label Studio takes 3 to 50."
            )
        made = self._create(
            f"creating the project '{title}'",
            "api/projects/",
            {
                "title": title,
                "label_config": xml,
                "description": description,
                "expert_instruction": instruction,
                "show_instruction": bool(instruction),
                "show_collab_predictions": show_suggestions,
                "maximum_annotations": 1,
            },
        )
        return int(made["id"])

    def project(self, project_id: int) -> Project:
        """Read a project. ``GET /api/projects/{id}/`` with the few fields that cost nothing."""
        got = self._read(
            f"reading project {project_id}", f"api/projects/{project_id}/", {"include": _PROJECT_FIELDS}
        )
        return Project(
            project_id=int(got["id"]),
            title=str(got["title"]),
            xml=str(got["label_config"]),
            sampling=str(got["sampling"]),
            model_version=str(got["model_version"] or ""),
            maximum_annotations=int(got["maximum_annotations"]),
            show_suggestions=bool(got["show_collab_predictions"]),
            n_tasks=int(got["task_number"]),
        )

    def notice(self, project_id: int) -> Notice:
        """Read what a project tells its annotators. ``GET /api/projects/{id}/``."""
        fields = "id,title,expert_instruction,show_instruction,maximum_annotations"
        got = self._read(f"reading project {project_id}", f"api/projects/{project_id}/", {"include": fields})
        return Notice(
            title=str(got["title"]),
            instruction=str(got["expert_instruction"] or ""),
            shows_instruction=bool(got["show_instruction"]),
            maximum_annotations=int(got["maximum_annotations"]),
        )

    def find_project(self, mark: str) -> int | None:
        """The oldest project whose description holds a mark; None if there is none. ``GET /api/projects``.

        Creating a project is not repeatable. A mark in its description tells whether a lost answer meant success.
        """
        what, page = "looking for the project", 1
        found: list[int] = []
        while True:
            listed = self._read(
                what, "api/projects/", {"include": "id,description", "page": page, "page_size": 100}
            )
            found += [int(p["id"]) for p in listed["results"] if mark in (p.get("description") or "")]
            if not listed.get("next"):
                return min(found, default=None)
            page += 1

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Change fields of a project (title, description, ...). ``PATCH /api/projects/{id}/``."""
        what = f"changing {sorted(fields)} of project {project_id}"
        self._ask(what, "PATCH", f"api/projects/{project_id}/", json=fields)

    def delete_project(self, project_id: int) -> None:
        """Delete a project with all its tasks. ``DELETE /api/projects/{id}``."""
        self._ask(f"deleting project {project_id}", "DELETE", f"api/projects/{project_id}/")

    def ensure_local_files(self, project_id: int, folder: Path, title: str = "images") -> int:
        """Let Label Studio serve a folder of its machine; twice is once. ``POST /api/storages/localfiles``.

        Args:
            project_id: The project whose members may see the images.
            folder: Strictly below the server's ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``.
            title: Name of the storage.

        Returns:
            The storage's id.
        """
        what = f"making {folder.name}/ a storage of project {project_id}"
        for storage in self._read(what, "api/storages/localfiles", {"project": project_id}):
            if storage["path"] == str(folder):
                return int(storage["id"])
        asked = {"project": project_id, "path": str(folder), "title": title, "regex_filter": ".*"}
        return int(self._create(what, "api/storages/localfiles", asked | {"use_blob_urls": True})["id"])

    def s3_buckets(self, project_id: int) -> set[str]:
        """The buckets that the project's S3 storages show images from. ``GET /api/storages/s3``."""
        what = f"listing the S3 storages of project {project_id}"
        return {storage["bucket"] for storage in self._read(what, "api/storages/s3", {"project": project_id})}

    def upload_image(self, project_id: int, image: Path) -> str:
        """Store an image on the server, without a task. ``POST .../import?commit_to_project=false``.

        Returns:
            The address that serves it, for a task's data.
        """
        what = f"uploading {image.name}"
        with image.open("rb") as file:
            answer = self._create(
                what,
                f"api/projects/{project_id}/import?commit_to_project=false",
                files={image.name: (image.name, file)},
                timeout_s=600.0,
            )
        stored = self._read(what, f"api/import/file-upload/{answer['file_upload_ids'][0]}")
        return f"/data/{stored['file']}"

    # -- tasks and annotations ----------------------------------------------------------------------

    def tasks(self, project_id: int) -> Iterator[Json]:
        """Every task's ``id`` and ``data``."""
        return self._listed(
            f"listing the tasks of project {project_id}", project_id, "id,data", "task_only", []
        )

    def changed_tasks(self, project_id: int, since: datetime) -> Iterator[list[Json]]:
        """Tasks that changed at or after a time, with their annotations, page by page; deleting one is a change too."""
        changed = _filter("updated_at", "greater_or_equal", "Datetime", write_time(since))
        return self._pages(f"pulling from project {project_id}", project_id, _TASK_FIELDS, "all", [changed])

    def annotated_tasks(self, project_id: int) -> Iterator[Json]:
        """Tasks that hold any annotation, skips included, with their annotations."""
        annotated = _filter("annotators", "empty", "List", "false")  # total_annotations can be stale
        return self._listed(
            f"pulling from project {project_id}", project_id, _TASK_FIELDS, "all", [annotated]
        )

    def newest_change(self, project_id: int) -> datetime | None:
        """When a task of the project last changed; None for a project without tasks."""
        page = self._page(
            f"reading the latest change of project {project_id}", project_id, "id,updated_at", "task_only",
            {"ordering": ["-tasks:updated_at"]}, page_size=1,
        )  # fmt: skip
        return read_time(page[0]["updated_at"]) if page else None

    def roll(self, project_id: int, up_to: int | None = None) -> Roll:
        """Count the project's tasks, those with an id up to ``up_to`` or all: one small request."""
        what, items = f"counting the tasks of project {project_id}", []
        if up_to is not None:
            items = [_filter("id", "less_or_equal", "Number", up_to)]
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["-tasks:id"]}
        listed = self._list(what, project_id, "id", "task_only", query, page_size=1)
        return Roll(max((int(row["id"]) for row in listed["tasks"]), default=0), int(listed["total"]))

    def existing(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """Which of these tasks the project (still) has."""
        what, found = f"looking for tasks of project {project_id}", set()
        for start in range(0, len(task_ids), self._page_size):
            some = list(task_ids[start : start + self._page_size])
            query = {"filters": {"conjunction": "and", "items": [_filter("id", "in_list", "List", some)]}}
            found |= {int(task["id"]) for task in self._page(what, project_id, "id", "task_only", query)}
        return found

    def import_tasks(self, project_id: int, tasks: Sequence[Json]) -> list[int]:
        """Create tasks, in one transaction; told twice, there are twice as many. ``POST .../import``.

        Returns:
            Their ids, in order.
        """
        answer = self._create(
            f"importing {len(tasks)} tasks into project {project_id}",
            f"api/projects/{project_id}/import?return_task_ids=true",
            list(tasks),
            timeout_s=900.0,
        )
        return [int(i) for i in answer["task_ids"]]

    def delete_task(self, task_id: int) -> None:
        """Delete a task with whatever hangs on it. ``DELETE /api/tasks/{id}/``."""
        self._ask(f"deleting task {task_id}", "DELETE", f"api/tasks/{task_id}/")

    def next_task(self, project_id: int) -> Json | None:
        """The task the key's owner gets now; None when there is none. ``GET /api/projects/{id}/next``.

        This *locks* the task for that user, for a day by default. It is for annotators, human or scripted; to
        look at the queue use :meth:`queue`.
        """
        what = f"asking project {project_id} for the next task"
        try:
            task: Json = self._read(what, f"api/projects/{project_id}/next")
        except StudioRefused as error:
            if "There are no tasks" in str(error):
                return None
            raise
        return task

    def submit(
        self, task_id: int, result: Sequence[Json], lead_time_s: float | None = None, *, skipped: bool = False
    ) -> int:
        """Create an annotation as the key's owner. ``POST /api/tasks/{id}/annotations/``. Returns its id."""
        given = {"result": list(result), "was_cancelled": skipped}
        made = self._create(
            f"submitting an annotation of task {task_id}",
            f"api/tasks/{task_id}/annotations/",
            given if lead_time_s is None else given | {"lead_time": lead_time_s},
        )
        return int(made["id"])

    # -- what is only looked at -----------------------------------------------------------------------

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

    def n_members(self, project_id: int) -> int:
        """How many users were made members of the project itself; the Community edition knows none."""
        what = f"counting the members of project {project_id}"
        try:
            members = self._read(what, f"api/projects/{project_id}/members/")
        except StudioRefused as error:
            if "(HTTP 404)" in str(error):
                return 0
            raise
        return len(members["results"] if isinstance(members, dict) else members)

    def task_data(self, project_id: int, task_id: int) -> Json | None:
        """The data of a task; None if the project does not have it (any more)."""
        query = {"filters": {"conjunction": "and", "items": [_filter("id", "in_list", "List", [task_id])]}}
        found = self._page(f"reading task {task_id}", project_id, "id,data", "task_only", query)
        return dict(found[0]["data"]) if found else None

    def image(self, address: str, *, known: bool = True) -> bytes:
        """Fetch an image as an annotator's browser would.

        Args:
            address: As it stands in a task's data. The key is shown to this Label Studio only.
            known: With our key; False = as anybody could.

        Raises:
            StudioRefused: It is not given out.
        """
        what, own = "fetching an image", self.url.partition("://")[2]
        path = address.partition("://")[2].removeprefix(own) if "://" in address else address
        foreign = "://" in address and address.partition("://")[2] == path
        url = address if foreign else f"{self.url}/{path.lstrip('/')}"

        def fetch() -> bytes:
            headers = self._sdk._client_wrapper.get_headers() if known and not foreign else {}
            response = self._client.get(url, headers=headers)
            kind = response.headers.get("content-type", "").partition(";")[0]
            if response.is_success and kind in ("text/html", "application/json"):  # a login page, perhaps
                raise ApiError(status_code=401, body=f"{kind} instead of an image")
            refuse_bad(response)
            return response.content

        return self._call(what, fetch)

    # -- predictions and the queue ----------------------------------------------------------------------

    def model_versions(self, project_id: int) -> dict[str, int]:
        """Number of predictions under each model version. ``GET /api/projects/{id}/model-versions/``."""
        counts = self._read(
            f"counting the predictions of project {project_id}", f"api/projects/{project_id}/model-versions/"
        )
        return {str(version): int(n) for version, n in counts.items()}

    def import_predictions(self, project_id: int, predictions: Sequence[Json]) -> int:
        """Create predictions; told twice, there are twice as many. ``POST .../import/predictions``.

        Returns:
            How many were stored. Label Studio drops what it does not like without an error, so compare.
        """
        answer = self._create(
            f"sending {len(predictions)} predictions to project {project_id}",
            f"api/projects/{project_id}/import/predictions",
            list(predictions),
            timeout_s=1800.0,
        )
        return int(answer["created"])

    def add_prediction(self, prediction: Json) -> int:
        """Create one prediction; told twice, there are two. ``POST /api/predictions/``.

        Costs the same however many tasks the project has; an import rewrites the counters of every task.

        Returns:
            Its id.
        """
        what = f"sending a prediction of task {prediction['task']}"
        return int(self._create(what, "api/predictions/", dict(prediction))["id"])

    def delete_predictions(self, project_id: int, version: str) -> None:
        """Delete a model version's predictions. ``DELETE /api/projects/{id}/model-versions/``, about 20 ms each.

        Annotations that were made from one stay. A version that is served leaves the project without one: serve another
        first.
        """
        what = f"removing the predictions of {version} from project {project_id}"
        path = f"api/projects/{project_id}/model-versions/"
        patience = RequestOptions(timeout=1800.0)
        self._ask(what, "DELETE", path, json={"model_version": version}, request_options=patience)

    def serve(self, project_id: int, version: str) -> None:
        """Serve a model version's predictions in ascending order of score.

        The Community edition offers this order in its API only. The version must have predictions already.
        """
        self.update_project(project_id, sampling="Uncertainty sampling", model_version=version)

    def readers(self, project_id: int, task_ids: Sequence[int]) -> dict[int, int]:
        """How many people each of these tasks asks for; tasks that were deleted are left out."""
        what = f"reading how many people tasks of project {project_id} ask for"
        found: dict[int, int] = {}
        for start in range(0, len(task_ids), self._page_size):
            some = list(task_ids[start : start + self._page_size])
            query = {"filters": {"conjunction": "and", "items": [_filter("id", "in_list", "List", some)]}}
            rows = self._page(what, project_id, "id,overlap", "task_only", query)
            found |= {int(row["id"]): int(row["overlap"]) for row in rows}
        return found

    def ask_readers(self, task_id: int, n: int) -> None:
        """Serve a task until n different people have labelled it. ``PATCH /api/tasks/{id}/``.

        The Community edition takes the number for a single task in its API only: there it follows the queue's order,
        while the project's ``maximum_annotations`` would put every begun task first. A task that was finished for fewer
        is open again.
        """
        asked = {"overlap": n, "is_labeled": False}
        self._ask(f"asking {n} people to label task {task_id}", "PATCH", f"api/tasks/{task_id}/", json=asked)

    # -- webhooks -----------------------------------------------------------------------------------------------

    def webhooks(self, project_id: int) -> list[Json]:
        """The webhooks of a project. ``GET /api/webhooks/``."""
        what = f"listing the webhooks of project {project_id}"
        return list(self._read(what, "api/webhooks/", {"project": project_id}))

    def create_webhook(self, project_id: int, fields: Json) -> int:
        """Register a webhook; told twice, there are two. ``POST /api/webhooks/``. Returns its id."""
        what = f"registering the webhook {fields['url']} of project {project_id}"
        return int(self._create(what, "api/webhooks/", {"project": project_id, **fields})["id"])

    def delete_webhook(self, webhook_id: int) -> None:
        """Take a webhook away. ``DELETE /api/webhooks/{id}/``."""
        self._ask(f"removing webhook {webhook_id}", "DELETE", f"api/webhooks/{webhook_id}/")

    # -- the queue, read ----------------------------------------------------------------------------------------

    def queue(self, project_id: int, n: int) -> list[tuple[int, bool]]:
        """The first n tasks that have a prediction of the version served, lowest score first.

        Returns:
            Task id, and whether it has all its annotations already (it is then served no more).
        """
        scored = _filter("predictions_score", "less_or_equal", "Number", 1)  # no prediction, no score
        query = {
            "filters": {"conjunction": "and", "items": [scored]},
            "ordering": ["tasks:predictions_score"],
        }
        found: list[tuple[int, bool]] = []
        for page in range(1, -(-n // self._page_size) + 1):
            rows = self._page(
                f"reading the queue of project {project_id}",
                project_id,
                "id,is_labeled",
                "task_only",
                query,
                page=page,
            )
            found += [(int(row["id"]), bool(row["is_labeled"])) for row in rows]
            if len(rows) < self._page_size:
                break
        return found[:n]

    # -- how it is said ----------------------------------------------------------------------

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
            items = [*filters, _filter("id", "greater", "Number", last)]
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


def _filter(column: str, operator: str, kind: str, value: Any) -> Json:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
