"""What `loop doctor` looks at in Label Studio. Nothing is changed there, and no task is locked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from annotate.errors import AnnotateError, BadInterface
from annotate.interface import Interface, parse_interface
from annotate.studio import Project, Studio
from annotate.wire import Greeting, greet
from loop.checks import Check, Known
from loop.checks_served import NOT_STARTED, check_next, look_at_served, tried
from loop.settings import Settings

KNOWN_GOOD = (1, 23)
TOKENS_SINCE = (1, 17)  # personal access tokens; before, there were legacy tokens only
TIMEOUT_S = 10.0
SKEW = timedelta(seconds=30)
SESSION = timedelta(seconds=300)  # how long a personal access token's session lives
SOON = timedelta(days=30)
SMALLEST_LIMIT = 32_766  # variables an SQLite query may have, as SQLite's own project builds it
SQLITE_LIMIT = "python -c \"import sqlite3; print(sqlite3.connect(':memory:').getlimit(9))\""

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
        yield from look_at_served(settings, None, studio, None)
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
        yield from tried("next task", lambda: check_next(studio, project, known))
    else:
        yield check_adoption(settings, project)
    yield check_suggestions(settings, project, started=bool(started))
    yield check_annotations(project, closed=known is not None and known.closed)
    yield from tried("members", lambda: check_members(studio, project))
    yield check_variables(project, known)
    yield from look_at_served(settings, known, studio, project)


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


def check_adoption(settings: Settings, project: Project) -> Check:
    """Is a project that is to be adopted free?"""
    version = project.model_version
    if version.startswith("loop-") and not version.startswith(f"loop-{settings.project.name}-"):
        return Check(
            "queue",
            "error",
            f"another loop serves the project ({version}); two would overwrite each other's queue",
            "Give this one a project of its own.",
        )
    return Check("queue", "ok", f"'{project.sampling}' until the first batch is asked")


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
    """With more than one member of the project itself, Label Studio draws at random among those of the queue."""
    n = studio.n_members(project.project_id)
    if n < 2:
        return Check(
            "members", "ok", "no members of the project itself: each annotator gets the queue's order"
        )
    return Check(
        "members",
        "warning",
        f"the project has {n} members of its own: Label Studio then draws each next task at random from the batch",
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
