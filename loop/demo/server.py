"""A Label Studio server of one's own: installed once, started in seconds, gone without a trace.

Label Studio lives in a virtual environment of its own, because its requirements and ours do not mix. Its
first start migrates a database for about two minutes, so a migrated data folder is kept as a template and
copied for each server. A server is bound to 127.0.0.1 and sends nothing to the outside.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock
from platformdirs import user_cache_dir

from loop.errors import BadInput, Unavailable

VERSION = "1.23.2"
HOST = "127.0.0.1"
USERNAME = "annotator@example.com"

INSTALL_LIMIT_S = 1800.0
FIRST_START_LIMIT_S = 900.0  # migrations take 80 to 112 s on two idle cores
START_LIMIT_S = 300.0  # from the template 5 to 20 s
STOP_LIMIT_S = 10.0

_LOG = "server.log"
_PORT_TAKEN = "is in use."  # Label Studio says so and moves to another port by itself
_QUIET = {  # without these it waits for the outside world on a closed network
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
}


@dataclass(frozen=True, slots=True)
class Login:
    """Who may use a throwaway server: made with its template, valid on this machine only.

    Attributes:
        username: The one user's e-mail address.
        password: That user's password, random for each template.
        api_key: That user's legacy token, 40 hexadecimal digits, random for each template.
    """

    username: str
    password: str
    api_key: str


def install(cache: Path | None = None, python: str | None = None) -> Path:
    """Install Label Studio into a virtual environment of its own, unless it is there already.

    Args:
        cache: Folder that keeps environment and template; None = the user's cache folder.
        python: Interpreter for the environment; None = the one that runs now.

    Returns:
        The environment's folder.

    Raises:
        Unavailable: The environment could not be made or pip could not install into it.
    """
    venv = _home(cache, python)
    complete = venv / "complete"
    with FileLock(f"{venv}.lock"):
        if complete.is_file():
            return venv
        shutil.rmtree(venv, ignore_errors=True)
        log = venv.with_name(f"{venv.name}.pip.log")
        steps = (
            [python or sys.executable, "-m", "venv", str(venv)],
            [str(venv / "bin" / "python"), "-m", "pip", "install", f"label-studio=={VERSION}"],
        )
        with log.open("wb") as out:
            for command in steps:
                _run_logged(command, out.fileno(), log)
        complete.write_text(f"label-studio {VERSION}\n")
    return venv


def template(cache: Path | None = None, python: str | None = None) -> Path:
    """Make the data folder that every server starts from, unless it is there already.

    The first call runs Label Studio's migrations, one to two minutes.

    Args:
        cache: As for `install`.
        python: As for `install`.

    Returns:
        A folder with ``data/`` (database and ``.env``) and ``login.json`` (readable by its owner only).

    Raises:
        Unavailable: Label Studio could not be installed or did not start.
    """
    venv = install(cache, python)
    folder = venv.with_name(f"{venv.name}.template")
    with FileLock(f"{folder}.lock"):
        if (folder / "login.json").is_file():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))  # mode 700
        try:
            login = Login(USERNAME, secrets.token_urlsafe(16), secrets.token_hex(20))
            first = {
                "LABEL_STUDIO_USERNAME": login.username,
                "LABEL_STUDIO_PASSWORD": login.password,
                "LABEL_STUDIO_USER_TOKEN": login.api_key,
                "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # obeyed on a fresh database only
            }
            (draft / "data").mkdir()
            process, _ = _launch(venv, draft / "data", login, first, FIRST_START_LIMIT_S)
            _kill(process)
            (draft / "data" / _LOG).unlink()
            _write_private(draft / "login.json", json.dumps(asdict(login)))
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


class ThrowawayServer:
    """A Label Studio with an empty database; a context manager that leaves nothing behind.

    Example:
        >>> with ThrowawayServer(Path("archive")) as server:  # doctest: +SKIP
        ...     print(server.url, server.api_key)

    Attributes:
        files_root: Label Studio's document root for local files. Images must lie in a folder below it.
        url: ``http://127.0.0.1:PORT``. This and what follows is known once it has started.
        api_key: Legacy token of its one user.
        username: That user's e-mail address.
        password: That user's password.
        pid: Process id, which is also its process group.
        log: Where the server writes what it has to say; removed with it.
    """

    files_root: Path
    url: str
    api_key: str
    username: str
    password: str
    pid: int
    log: Path

    def __init__(
        self,
        files_root: Path,
        task_lock_ttl_s: int | None = None,
        cache: Path | None = None,
        python: str | None = None,
    ):
        """Describe a server; nothing is started yet.

        Args:
            files_root: Label Studio's document root for local files.
            task_lock_ttl_s: How long a task stays with whom it was served to; None = Label Studio's day.
            cache: As for `install`.
            python: As for `install`.

        Raises:
            BadInput: ``files_root`` is not a folder.
        """
        self.files_root = files_root.resolve()
        if not self.files_root.is_dir():
            raise BadInput(f"{files_root} is not a folder: name the folder above the images")
        self._task_lock_ttl_s = task_lock_ttl_s
        self._cache = cache
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the server and wait until it answers; installs and migrates first where needed.

        Raises:
            Unavailable: Label Studio could not be installed or did not start.
        """
        if self._process is not None:
            return self
        source = template(self._cache, self._python)
        login = Login(**json.loads((source / "login.json").read_text()))
        extra = {
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.files_root),
        }
        if self._task_lock_ttl_s is not None:
            extra["TASK_LOCK_TTL"] = str(self._task_lock_ttl_s)
        home = Path(tempfile.mkdtemp(prefix="annotation-loop-studio-"))
        try:
            shutil.copytree(source / "data", home, dirs_exist_ok=True)
            venv = _home(self._cache, self._python)
            self._process, self.url = _launch(venv, home, login, extra, START_LIMIT_S)
            self._login, self._extra = login, extra
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        atexit.register(self.stop)
        self.api_key, self.username, self.password = login.api_key, login.username, login.password
        self.pid, self.log = self._process.pid, home / _LOG
        return self

    def restart(self, away_s: float = 0.0) -> None:
        """Kill the server and start it again after a while, on the same data and at the same address.

        Raises:
            Unavailable: It does not come back.
        """
        if self._process is None:
            raise Unavailable("the server was not started, or is stopped: start it first")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)
        time.sleep(away_s)
        home, port = self.log.parent, int(self.url.rpartition(":")[2])
        self._process = _spawn(_home(self._cache, self._python), home, port, self._extra)
        self.pid = self._process.pid
        if not _wait(self._process, self.log, port, self._login, START_LIMIT_S):
            raise Unavailable(f"port {port} was taken while Label Studio was away; start another server")

    def stop(self) -> None:
        """End the server's whole process group and remove its data. Stopping twice is no error."""
        atexit.unregister(self.stop)
        if self._process is not None:
            _kill(self._process)
            self._process = None
            shutil.rmtree(self.log.parent, ignore_errors=True)

    def keep(self) -> None:
        """Let the server outlive this interpreter and its ``with`` block.

        Whoever keeps it ends process group ``pid`` and removes the folder of ``log`` in the end.
        """
        atexit.unregister(self.stop)
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _home(cache: Path | None, python: str | None) -> Path:
    """Folder of the environment; another interpreter gets another folder."""
    base = cache if cache is not None else Path(user_cache_dir("annotation-loop"))
    base.mkdir(parents=True, exist_ok=True)
    suffix = f"-{Path(python).name}" if python is not None else ""
    return base.resolve() / f"label-studio-{VERSION}{suffix}"


def _run_logged(command: list[str], out: int, log: Path) -> None:
    try:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT_S
        ).returncode
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} cannot be run: name a Python interpreter that is there") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"installing Label Studio took more than {INSTALL_LIMIT_S:.0f} s and was ended; see {log}"
        ) from error
    if code != 0:
        raise Unavailable(
            f"Label Studio {VERSION} could not be installed ({command[2]} ended with status {code}); "
            f"check the network or pip's settings, then try again. {log} ends with:\n{_tail(log)}"
        )


def _launch(
    venv: Path, home: Path, login: Login, extra: dict[str, str], limit_s: float
) -> tuple[subprocess.Popen[bytes], str]:
    """Start Label Studio on a free port and wait for it. A port lost to somebody else is tried again."""
    for _ in range(5):
        port = _free_port()
        process = _spawn(venv, home, port, extra)
        try:
            if _wait(process, home / _LOG, port, login, limit_s):
                return process, f"http://{HOST}:{port}"
        except BaseException:
            _kill(process)
            raise
        _kill(process)
    raise Unavailable("five free ports in a row were taken before Label Studio could use them; try again")


def _spawn(venv: Path, home: Path, port: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    foreign = ("LABEL_STUDIO", "DJANGO", "POSTGRE", "SENTRY", "PYTHON", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= _QUIET | extra
    env |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "HOME": str(home),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "PYTHONUNBUFFERED": "1",  # a taken port is seen in the log at once
    }
    program = [str(venv / "bin" / "python"), str(venv / "bin" / "label-studio")]
    options = ["start", "--no-browser", "--internal-host", HOST, "--port", str(port)]
    with (home / _LOG).open("wb") as log:
        return subprocess.Popen(
            program + options,
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], log: Path, port: int, login: Login, limit_s: float) -> bool:
    """True when the server answers as ours; False when another process had taken the port."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if _PORT_TAKEN in log.read_text(errors="replace"):
            return False
        if process.poll() is not None:
            raise Unavailable(
                f"Label Studio ended with status {process.returncode} while starting; "
                f"its log ends with:\n{_tail(log)}"
            )
        if _answers(f"http://{HOST}:{port}/health") and _answers(
            f"http://{HOST}:{port}/api/projects?page_size=1", login.api_key
        ):
            return True
        time.sleep(0.2)
    raise Unavailable(f"Label Studio did not answer within {limit_s:.0f} s; its log ends with:\n{_tail(log)}")


def _answers(url: str, api_key: str | None = None) -> bool:
    headers = {"Authorization": f"Token {api_key}"} if api_key else {}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes by a proxy
    try:
        with direct.open(urllib.request.Request(url, headers=headers), timeout=10.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process group: asked first, forced after a while."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            process.wait(STOP_LIMIT_S)
            return
        except subprocess.TimeoutExpired:
            continue


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def _tail(log: Path, n_lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-n_lines:])
