"""Label Studio's projects: who asks, what a project is and says, where its images lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.connection import Connection
from annotate.errors import StudioRefused
from annotate.payloads import Json
from annotate.tokens import Token

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


class Projects(Connection):
    """Calls about projects."""

    def about(self) -> About:
        """Check address and key. ``GET /api/version``, ``GET /api/current-user/whoami``."""
        version = self._read("asking its version", "api/version")
        user = self._read("telling whose key this is", "api/current-user/whoami")
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

    def serve(self, project_id: int, version: str) -> None:
        """Serve a model version's predictions in ascending order of score.

        The Community edition offers this order in its API only. The version must have predictions already.
        """
        self.update_project(project_id, sampling="Uncertainty sampling", model_version=version)

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
