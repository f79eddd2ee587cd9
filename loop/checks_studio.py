"""What `loop doctor` looks at in Label Studio. Nothing is changed there, and no task is locked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from annotate.errors import AnnotateError, BadInterface, StudioRefused
from annotate.interface import Interface, parse_interface
from annotate.studio import Greeting, Project, Studio, greet
from loop.checks import Check, Known
from loop.items import Item, content_id
from loop.settings import Settings

KNOWN_GOOD = (1, 23)
TOKENS_SINCE = (1, 17)  # personal access tokens; before, there were legacy tokens only
TIMEOUT_S = 10.0
SKEW = timedelta(seconds=30)
SESSION = timedelta(seconds=300)  # how long a personal access token's session lives
SOON = timedelta(days=30)
SMALLEST_LIMIT = 32_766  # variables an SQLite query may have, as SQLite's own project builds it
SQLITE_LIMIT = "python -c \"import sqlite3; print(sqlite3.connect(':memory:').getlimit(9))\""
NOT_STARTED = "not started: `loop start` sets the project up"

Clock = Callable[[], datetime]


def look_at_studio(settings: Settings, known: Known | None, key: str, clock: Clock) -> Iterator[Check]:
    """Look at the server, then as the key's owner at the project; what cannot be reached is said once."""
    url = settings.label_studio.url
    try:
        before = clock()
        greeting = greet(url, ca_file=settings.ca_path, timeout_s=TIMEOUT_S)
        after = clock()
    except AnnotateError as error:
        yield Check(
            "server", "error", str(error), "Without it nothing more of Label Studio can be looked at."
        )
        return
    yield check_version(url, greeting)
    yield check_clock(greeting, before, after)
    if not key:
        yield Check(
            "token",
            "error",
            "LABEL_STUDIO_API_KEY is not set, so nothing more of Label Studio can be looked at",
            "Create a personal access token in Label Studio, Account & Settings, and export LABEL_STUDIO_API_KEY=...",
        )
        return
    try:
        with Studio(url, key, page_size=5, timeout_s=TIMEOUT_S, ca_file=settings.ca_path) as studio:
            yield check_token(studio, clock())
            yield from _look_at_project(settings, known, studio)
    except AnnotateError as error:
        yield Check(
            "token", "error", str(error), "Without a key nothing more of Label Studio can be looked at."
        )


def check_version(url: str, greeting: Greeting) -> Check:
    """Is it a release that was measured?"""
    found = re.match(r"(\d+)\.(\d+)", greeting.version)
    release = (int(found[1]), int(found[2])) if found else KNOWN_GOOD
    fact = f"Label Studio {greeting.version} at {url}"
    if release == KNOWN_GOOD and found:
        return Check("server", "ok", fact)
    good = ".".join(map(str, KNOWN_GOOD))
    lacks = " It has no personal access tokens, legacy ones only." if release < TOKENS_SINCE else ""
    age = "older than" if release < KNOWN_GOOD else "newer than" if release > KNOWN_GOOD else "other than"
    return Check(
        "server",
        "warning",
        f"{fact}, {age} the releases that were measured ({good}.x).{lacks}",
        f"Look at the queue after the first batch (`loop step` reads it back), or use Label Studio {good}.",
    )


def check_clock(greeting: Greeting, before: datetime, after: datetime) -> Check:
    """Do the two clocks agree? The server tells whole seconds, and took its time to answer."""
    if greeting.at is None:
        return Check("clock", "not checked", "Label Studio's answer has no time")
    early, late = before - greeting.at - timedelta(seconds=1), after - greeting.at
    skew = early if early > timedelta(0) else late if late < timedelta(0) else timedelta(0)
    if abs(skew) <= SKEW:
        return Check(
            "clock", "ok", f"the server's agrees with ours to {max(1, round(abs(skew).total_seconds()))} s"
        )
    which = "ahead of" if skew > timedelta(0) else "behind"
    fact = f"ours is {abs(skew).total_seconds():,.0f} s {which} the server's"
    costs = " Each call then opens a new session." if skew >= SESSION else ""
    return Check("clock", "warning", f"{fact}.{costs}", "Let both machines keep time by NTP.")


def check_token(studio: Studio, now: datetime) -> Check:
    """Who are we, by which kind of key, and for how long?"""
    about = studio.about()
    fact = f"{about.token.kind} of {about.user}"
    if about.token.kind == "legacy token":
        return Check("token", "ok", f"{fact}; the organization lets legacy tokens in")
    ends = about.token.expires_at
    if ends is not None and ends - now < SOON:
        return Check(
            "token",
            "warning",
            f"{fact}, which ends on {ends:%F %R} UTC",
            "Create another in Account & Settings in time.",
        )
    return Check("token", "ok", fact if ends is None else f"{fact}, valid until {ends:%F}")


def _look_at_project(settings: Settings, known: Known | None, studio: Studio) -> Iterator[Check]:
    started = known.project if known else None
    project_id = int(started["id"]) if started else settings.label_studio.project_id
    if started and studio.url != started["url"]:
        yield Check(
            "project",
            "error",
            f"the project was started on {started['url']}, the settings name {studio.url}",
            "If the same Label Studio has moved, run `loop start` once; else put the old address back.",
        )
        return
    if project_id is None:
        yield Check("project", "ok", NOT_STARTED)
        yield from _look_at_guards(settings, None, studio, None)
        return
    try:
        project = studio.project(project_id)
    except AnnotateError as error:
        yield Check(
            "project", "error", str(error), "Was it deleted? Restore it from a backup of Label Studio."
        )
        return
    yield Check(
        "project",
        "ok",
        f"{project.project_id} '{project.title}', {project.n_tasks:,} tasks"
        + ("" if started else f"; {NOT_STARTED}"),
    )
    yield check_interface(settings, project, parse_interface(started["xml"]) if started else None)
    if known is not None and started:
        yield check_queue(project, known)
        yield check_predictions(studio, project, known)
    yield check_suggestions(settings, project, started=bool(started))
    yield check_annotations(project, closed=known is not None and known.closed)
    yield from _tried("members", lambda: check_members(studio, project))
    yield check_variables(project, known)
    yield from _look_at_guards(settings, known, studio, project)


def check_interface(settings: Settings, project: Project, before: Interface | None) -> Check:
    """Can the labelling interface be read, is it the one we started with, does it ask our findings?"""
    try:
        now = parse_interface(project.xml)
    except BadInterface as error:
        return Check(
            "interface", "error", str(error), "Correct it in the project's settings, Labeling Interface."
        )
    if before is not None and now.fingerprint != before.fingerprint:
        return Check(
            "interface",
            "error",
            "its choices are not those that the project was started with: labels before and after would not mean the same",
            "Restore it in the project's settings, Labeling Interface; `loop step` says which choices are gone or new.",
        )
    missing = [finding for finding in settings.project.findings if finding not in now.findings]
    if missing:
        return Check(
            "interface",
            "error",
            f"it does not ask for {', '.join(missing)}; it asks for {', '.join(now.findings)}",
            "Set [project] findings to what it asks.",
        )
    return Check("interface", "ok", f"asks for {', '.join(now.findings)}")


def check_queue(project: Project, known: Known) -> Check:
    """Does Label Studio serve our order?"""
    if known.served is None:
        return Check("queue", "ok", "nothing was asked yet")
    version = known.served[0]
    if project.sampling == "Uncertainty sampling" and project.model_version == version:
        return Check("queue", "ok", f"Uncertainty sampling of {version}, as we set it")
    return Check(
        "queue",
        "error",
        f"it serves '{project.sampling}' with model version '{project.model_version}', not 'Uncertainty sampling' of "
        f"'{version}': annotators do not get the loop's order. Somebody saved the project's settings (hiding predictions "
        "there forgets the model version)",
        f'PATCH the project over the API: {{"sampling": "Uncertainty sampling", "model_version": "{version}"}}; or judge what '
        "is there with `loop step --now`, which asks a new batch and sets both.",
    )


def check_predictions(studio: Studio, project: Project, known: Known) -> Check:
    """Are the predictions of the batch still there, once each?"""
    if known.served is None:
        return Check("batch", "ok", "nothing was asked yet")
    version, n = known.served
    held = studio.model_versions(project.project_id).get(version, 0)
    if held == n:
        return Check("batch", "ok", f"{n} predictions of {version}, as they were pushed")
    return Check(
        "batch",
        "warning",
        f"{held} predictions of {version}, but {n} were pushed: some were deleted, with their tasks or alone",
        "Judge what is there with `loop step --now`: it asks a new batch.",
    )


def check_suggestions(settings: Settings, project: Project, *, started: bool) -> Check:
    """Do annotators see suggestions as configured?"""
    wanted = settings.label_studio.show_suggestions
    shown = "are shown" if project.show_suggestions else "are hidden"
    if project.show_suggestions == wanted or not started:
        return Check("suggestions", "ok", f"they {shown}")
    return Check(
        "suggestions",
        "warning",
        f"they {shown} to annotators, but [label_studio] show_suggestions = {str(wanted).lower()}",
        "Switch 'Use predictions to prelabel tasks' in the project's settings, Annotation, or change the configuration.",
    )


def check_annotations(project: Project, *, closed: bool = False) -> Check:
    """How many annotations does a task take?"""
    n = project.maximum_annotations
    if n == 1:
        return Check("annotations", "ok", "one annotation an image")
    if n == 0 and closed:
        return Check("annotations", "ok", "the loop closed the queue on STOP, and opens it when it goes on")
    if n == 0:
        return Check(
            "annotations",
            "warning",
            "the queue is closed (maximum_annotations = 0)",
            "Set it to 1 to let people go on.",
        )
    return Check(
        "annotations",
        "warning",
        f"{n} annotations an image: Label Studio first fills up images that somebody has begun, at random",
        "Where the order matters more than double reads, set 'Annotations per task minimum' to 1.",
    )


def check_members(studio: Studio, project: Project) -> Check:
    """With more than one member of the project itself, Label Studio draws among the first of the queue."""
    n = studio.n_members(project.project_id)
    if n < 2:
        return Check(
            "members", "ok", "no members of the project itself: each annotator gets the queue's order"
        )
    return Check(
        "members",
        "warning",
        f"the project has {n} members of its own: Label Studio then draws each next task at random from the first {n + 1}",
        "Remove them from the project (they stay in the organization), where the order must hold exactly.",
    )


def check_variables(project: Project, known: Known | None) -> Check:
    """Can Label Studio's database take a push into a project of this size?"""
    n = max(project.n_tasks, len(known.tasks) if known else 0)
    if n < SMALLEST_LIMIT:
        return Check(
            "database", "ok", f"{n:,} tasks are below every SQLite's limit of variables ({SMALLEST_LIMIT:,})"
        )
    return Check(
        "database",
        "warning",
        f"{n:,} tasks: on an SQLite that takes {SMALLEST_LIMIT:,} variables every push fails after it was stored; which "
        "database Label Studio has cannot be told from here",
        f"Run {SQLITE_LIMIT} with Label Studio's Python: it must print more than that. Better: let it use PostgreSQL.",
    )


def _look_at_guards(
    settings: Settings, known: Known | None, studio: Studio, project: Project | None
) -> Iterator[Check]:
    """Can annotators see the images, and nobody else? What the server does not tell is said."""
    if project is not None and known is not None and known.tasks:
        yield from _tried("image", lambda: check_image(settings, known, studio, project))
    else:
        yield Check("image", "not checked", NOT_STARTED, _serving(settings))
    yield Check(
        "task lock",
        "not checked",
        "Label Studio does not tell TASK_LOCK_TTL; by default an image that somebody opened and left is theirs for a day",
        "Where that holds a batch up, run Label Studio with TASK_LOCK_TTL=3600.",
    )
    yield Check(
        "webhooks",
        "ok",
        "none are needed: the loop asks by itself, so Label Studio's guard against local addresses may stay closed",
    )


@dataclass(frozen=True, slots=True)
class _Tried:
    """An image of a task, and where Label Studio says that it is."""

    item: Item
    address: str


def check_image(settings: Settings, known: Known, studio: Studio, project: Project) -> Check:
    """Can an image of a task be fetched through Label Studio, is it ours, and is it refused to strangers?"""
    tried = _pick(known, studio, project)
    if tried is None:
        return Check(
            "image",
            "error",
            "the tasks that were tried are not in the project (any more)",
            "Run `loop start`: it imports what is missing.",
        )
    try:
        content = studio.image(tried.address)
    except AnnotateError as error:
        folders = studio.local_folders(project.project_id) if "local-files" in tried.address else []
        served = (
            f" Folders it serves to this project: {', '.join(folders) or 'none'}."
            if folders or "local" in tried.address
            else ""
        )
        return Check("image", "error", f"{tried.address}: {error}{served}", _serving(settings))
    if not content:
        return Check("image", "error", f"{tried.address} is empty", _serving(settings))
    if tried.item.path.suffix.lower() in (".png", ".jpg", ".jpeg") and tried.item.path.is_file():
        ours = tried.item.path.read_bytes() == content
        if content_id(tried.item.path) == tried.item.item and not ours:
            return Check(
                "image",
                "error",
                f"{tried.address} shows another picture than {tried.item.path}: annotators would label the wrong image",
                "See that [label_studio] document_root (or url_prefix) means the same folder on both machines.",
            )
    try:
        studio.image(tried.address, known=False)
    except StudioRefused:
        return Check("image", "ok", f"{tried.address} can be fetched, with a key only")
    except AnnotateError:
        pass
    return Check(
        "image",
        "warning",
        f"{tried.address} can be fetched by anybody who reaches the server, without a key",
        "Patients' images should be behind a login: local files of Label Studio are; see what serves these.",
    )


def _pick(known: Known, studio: Studio, project: Project) -> _Tried | None:
    """The first of a few tasks that is still there."""
    key = parse_interface(project.xml).image_key
    item_of = {item.item: item for item in known.images}
    tasks = list(known.tasks.items())
    for item, task_id in tasks[:: max(1, len(tasks) // 3)][:3]:
        data = studio.task_data(project.project_id, task_id)
        if data is not None and item in item_of and data.get(key):
            return _Tried(item_of[item], str(data[key]))
    return None


def _serving(settings: Settings) -> str:
    """What lets Label Studio show the images."""
    match settings.label_studio.delivery:
        case "local-files":
            return (
                "Label Studio must run with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
                f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={settings.document_root}, and the project needs a Local Files storage "
                "on a folder below it that holds the images (`loop start` adds it)."
            )
        case "upload":
            return "The images are uploaded to Label Studio: see that its data folder was not emptied."
    return f"Annotators' browsers fetch the images from {settings.label_studio.url_prefix}: see that it serves them."


def _tried(name: str, check: Callable[[], Check]) -> Iterator[Check]:
    """A check that a server may refuse to let us make."""
    try:
        yield check()
    except AnnotateError as error:
        yield Check(name, "not checked", str(error))
