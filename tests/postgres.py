"""A throwaway PostgreSQL for tests: in a folder of its own, on a socket of its own, gone without a trace."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

START_LIMIT_S = 120.0


def missing() -> str | None:
    """Why there can be none here; None if there can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'annotation-loop[postgres]'"
    if "LOOP_TEST_POSTGRES" not in os.environ and not (shutil.which("postgres") and shutil.which("initdb")):
        return "there is no postgres and initdb on the PATH; or set LOOP_TEST_POSTGRES=postgresql+psycopg://HOST/NAME"
    return None


@contextmanager
def server() -> Iterator[str]:
    """The address of a database that may be filled: of a server that is named, or of one that is started now."""
    if named := os.environ.get("LOOP_TEST_POSTGRES"):
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix="loop-postgres-"))
    user = _unprivileged()
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _say(
            user,
            "initdb",
            "-D",
            str(data),
            "-U",
            "loop",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        )
        options = ("-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off")
        with (folder.with_suffix(".log")).open("wb") as log:
            process = subprocess.Popen(
                [str(shutil.which("postgres")), "-D", str(data), *options],
                stdout=log,
                stderr=log,
                user=user,
                cwd="/",
            )
        try:
            url = f"postgresql+psycopg://loop@/postgres?host={folder}"
            _wait(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


@contextmanager
def database(address: str) -> Iterator[str]:
    """An empty schema of a server as an address of its own, dropped in the end."""
    name, engine = f"loop_{uuid.uuid4().hex[:12]}", create_engine(address)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        yield f"{address}{'&' if '?' in address else '?'}options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


def _unprivileged() -> str | None:
    """PostgreSQL refuses to be run by root: who runs it then."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _say(user: str | None, *command: str) -> None:
    program = str(shutil.which(command[0]))
    subprocess.run([program, *command[1:]], check=True, capture_output=True, user=user, cwd="/")


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    engine, end = create_engine(url), time.monotonic() + START_LIMIT_S
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except OperationalError:
            assert process.poll() is None, "PostgreSQL ended while it started"
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.1)
