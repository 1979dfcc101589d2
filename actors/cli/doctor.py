"""`doctor`: what must be right before an engine can run here, one line each, with a remedy.

Law: it looks and changes nothing; every check has a deadline, and one that fails does not stop the next.
"""

from __future__ import annotations

import fcntl
import os
import platform
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from actors.cli.common import ENVIRONMENT, OK, print_json, say
from messages.settings import Settings

SECONDS = 5.0
PACKAGES = ("thespian", "ib_insync", "peewee", "psycopg2-binary", "loguru", "msgspec", "typer", "rich", "litestar",
            "uvicorn", "websockets", "httpx")  # fmt: skip
PINNED = {"thespian": "4.0.1"}
CLOCK_NS = 2_000_000_000


class Finding(NamedTuple):
    """One line. `remedy` is empty where nothing is to be done."""

    check: str
    passed: bool
    said: str
    remedy: str = ""


def examine(config: str | None, as_json: bool, **options: str | None) -> int:
    """Make every check and tell each; return 0 if all passed."""
    from actors.cli.options import settings_from

    settings = settings_from(config, **options)  # type: ignore[arg-type]
    findings: list[Finding] = []
    for check in (python, packages, folder, engine_lock, database, http_port, gateway):
        try:
            for finding in check(settings):
                findings.append(finding)
                if not as_json:
                    remedy = f" -> {finding.remedy}" if finding.remedy else ""
                    say(f"{'PASS' if finding.passed else 'FAIL'}  {finding.check}: {finding.said}{remedy}")
        except Exception as problem:
            findings.append(Finding(check.__name__, False, f"the check itself failed: {problem}"))
            if not as_json:
                say(f"FAIL  {check.__name__}: the check itself failed: {problem}")
    passed = all(finding.passed for finding in findings)
    if as_json:
        print_json({"ok": passed, "findings": [finding._asdict() for finding in findings]})
    return OK if passed else ENVIRONMENT


Check = Callable[[Settings], Iterator[Finding]]


def python(_: Settings) -> Iterator[Finding]:
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    passed = sys.version_info >= (3, 11)
    yield Finding("python", passed, said, "" if passed else "use 3.11 or later")


def packages(settings: Settings) -> Iterator[Finding]:
    for name in (*PACKAGES, *(("ib_async",) if settings.venue.library == "ib_async" else ())):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(f"package {name}", False, "is not installed", "python -m pip install -e .")
            continue
        wanted = PINNED.get(name, version)
        remedy = "" if version == wanted else f"python -m pip install {name}=={wanted}, which its repairs fit"
        yield Finding(f"package {name}", version == wanted, version, remedy)


def folder(settings: Settings) -> Iterator[Finding]:
    path = Path(settings.state_dir).absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as problem:
        yield Finding("state folder", False, f"{place}: {problem.strerror}", "name a writable one with --state")
        return
    said = f"{path} is writable" if place == path else f"{path} can be made"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    yield Finding("state folder", True, said)
    enough = free > 1 << 30
    yield Finding("disk", enough, f"{free / (1 << 30):.1f} GiB free", "" if enough else "make room: at least 1 GiB")
    if place == path and path.stat().st_mode & 0o022:
        yield Finding("state folder mode", False, oct(path.stat().st_mode & 0o777), f"chmod 700 {path}")


def engine_lock(settings: Settings) -> Iterator[Finding]:
    lock = Path(settings.state_dir) / "engine.lock"
    if not lock.exists():
        yield Finding("engine", True, "none runs in this folder")
        return
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Finding("engine", True, "none runs in this folder")
        except OSError:
            yield Finding("engine", True, f"runs in this folder (pid {file.read(20).strip()})")


def database(settings: Settings) -> Iterator[Finding]:
    from storage.database import Database, StorageError, latest_version, redacted, refuse_newer, schema_version

    where = url = settings.database_url
    try:
        opened = Database(url, read_only=True)
        where = redacted(url) if opened.postgres else opened.place
        if not opened.postgres and not os.path.exists(opened.place):
            yield Finding("database", True, f"{where} will be made at the first start")
            return
        opened.open()
        try:
            version = schema_version(opened)
            refuse_newer(opened, version)
        finally:
            opened.close()
    except StorageError as problem:
        yield Finding("database", False, str(problem), "name another one with --db")
        return
    except Exception as problem:
        said = f"{where}: {str(problem).strip().splitlines()[0]}"
        yield Finding("database", False, said, "start the server or correct --db")
        return
    more = "" if version == latest_version() else f", will be migrated to {latest_version()}"
    yield Finding("database", True, f"{where}, schema {version}{more}")


def http_port(settings: Settings) -> Iterator[Finding]:
    host, port = settings.http.host, settings.http.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            where = _engine_url(settings)
            if where.endswith(f":{port}"):
                yield Finding("http port", True, f"{host}:{port} is that of the engine in this folder")
            else:
                yield Finding("http port", False, f"{host}:{port}: {problem.strerror}", "name another one with --http")
            return
    yield Finding("http port", True, f"{host}:{port} is free")


def _engine_url(settings: Settings) -> str:
    try:
        return (Path(settings.state_dir) / "http").read_text().strip()
    except OSError:
        return ""


# -- the gateway: the handshake of the API, read far enough to know who answers --------------------------------------


def gateway(settings: Settings) -> Iterator[Finding]:
    """Shake hands, ask for the accounts and the time, and leave. It uses a client id that no engine uses."""
    host, port = settings.venue.host, settings.venue.port
    try:
        with socket.create_connection((host, port), SECONDS) as wire:
            yield from _interview(wire, f"{host}:{port}")
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        remedy = "start the gateway, allow API clients in it, or name it with --gateway"
        yield Finding("gateway", False, f"{host}:{port}: {reason}", remedy)


DOCTOR_CLIENT = 997
START_API, REQUEST_TIME = "71", "49"
NEXT_ID, ACCOUNTS, TIME, ERROR = "9", "15", "49", "4"


def _interview(wire: socket.socket, where: str) -> Iterator[Finding]:
    wire.settimeout(SECONDS)
    hello = b"v157..176"
    wire.sendall(b"API\0" + struct.pack(">I", len(hello)) + hello)
    buffer = _Fields(wire)
    version = int(buffer.message()[0])
    if not 157 <= version <= 176:
        yield Finding("gateway", False, f"{where} speaks version {version}", "use a gateway of version 157 to 176")
        return
    yield Finding("gateway", True, f"{where} answers, server version {version}")
    _send(wire, START_API, "2", str(DOCTOR_CLIENT), "")
    _send(wire, REQUEST_TIME, "1")
    accounts, venue_time = "", 0
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not (accounts and venue_time):
        fields = buffer.message()
        if fields[0] == ACCOUNTS:
            accounts = fields[2]
        elif fields[0] == TIME:
            venue_time = int(fields[2])
        elif fields[0] == ERROR and fields[3:4] == ["326"]:
            yield Finding("gateway client", False, f"client id {DOCTOR_CLIENT} is in use", "close the other doctor")
            return
    names = [name for name in accounts.split(",") if name]
    paper = bool(names) and all(name.startswith(("DU", "DF")) for name in names)
    remedy = "" if paper else "log the gateway in to a paper account: live trading is not built"
    yield Finding("paper account", paper, ", ".join(names) or "the gateway names none", remedy)
    off = abs(venue_time - time.time())
    right = off < CLOCK_NS / 1e9 + 1
    remedy = "" if right else "set this machine's clock (NTP)"
    yield Finding("clock", right, f"{off:.0f} s from the gateway's (it tells whole seconds)", remedy)


class _Fields:
    """Messages of length-prefixed, zero-separated fields."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._buffer = b""

    def message(self) -> list[str]:
        (length,) = struct.unpack(">I", self._take(4))
        if not 0 < length <= 1 << 20:
            raise ValueError(f"something else than an IB gateway answers (a message of {length} bytes)")
        return self._take(length).decode("utf-8", "replace").split("\0")

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self._wire.recv(65_536)
            if not data:
                raise ValueError("it hung up")
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def _send(wire: socket.socket, *fields: str) -> None:
    body = "".join(f"{field}\0" for field in fields).encode()
    wire.sendall(struct.pack(">I", len(body)) + body)
