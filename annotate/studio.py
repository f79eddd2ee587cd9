"""Label Studio over HTTP, and nothing else: each method is one documented call, measured on 1.23.2."""

from __future__ import annotations

from annotate.studio_looks import Looks
from annotate.studio_projects import About, Notice, Project, Projects
from annotate.studio_queue import Queue
from annotate.studio_tasks import Tasks

__all__ = ["About", "Notice", "Project", "Studio"]


class Studio(Projects, Tasks, Queue, Looks):
    """A Label Studio server, opened with a user's key; see `Connection`."""
