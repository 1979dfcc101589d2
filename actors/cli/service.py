"""`start`: one engine in one state folder, its HTTP process beside it, and both ended together.

Law: the folder's lock decides who runs here. It is held by this process and by the actors that it forks, and is free as
soon as the last of them is gone, however they ended.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import msgspec

from actors.cli.common import ENVIRONMENT, CommandError, print_json, say
from actors.cli.processes import ROOT, end
from messages.settings import Settings
from messages.supervision import ServiceSpec

SERVICES = (
    ServiceSpec(name="ledger", actor="actors.ledger.Ledger"),
    # Without these three no intent is approved, no P&L kept, no held exit fires: a page, yet what rests at IB goes on.
    ServiceSpec(name="risk", actor="actors.risk.Risk", vital=False),
    ServiceSpec(name="position", actor="actors.position.Position", vital=False),
    ServiceSpec(name="market_data", actor="actors.market_data.MarketData", vital=False),
    ServiceSpec(name="broker", actor="actors.broker.Broker"),
    ServiceSpec(name="router", actor="actors.router.Router"),
    # Trading goes on without anybody being able to ask.
    ServiceSpec(name="control", actor="actors.control.Control", vital=False),
)
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 3.0
RESPAWNS = 5


class StateFolder:
    """The folder of one engine: private, locked, with the token."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._lock: IO[str] | None = None

    def create(self) -> None:
        """Make the folder, for its owner only. Raises CommandError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            open_to_others = self.path.stat().st_mode & 0o022
        except OSError as problem:
            sentence = f"state folder {self.path}: cannot be used ({problem.strerror}); name another one with --state"
            raise CommandError(sentence, ENVIRONMENT, "state_folder") from None
        if open_to_others:  # whoever may write here could put a token or a socket of his own in place of ours
            sentence = f"state folder {self.path}: others may write in it; chmod 700 it, or name another with --state"
            raise CommandError(sentence, ENVIRONMENT, "state_folder")

    def lock(self) -> None:
        """Become the only one here. Raises CommandError that names the pid of whoever is."""
        file = open(self.path / "engine.lock", "a+", encoding="ascii")  # noqa: SIM115 (held until the process ends)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            file.close()
            sentence = (
                f"state folder {self.path}: an engine runs there already (pid {holder}); stop it, or name another"
                " folder with --state"
            )
            raise CommandError(sentence, ENVIRONMENT, "locked") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._lock = file

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def token(self) -> str:
        """Return the token, made at the first start; only its owner can read the file."""
        file = self.path / "token"
        try:
            if file.stat().st_mode & 0o077 == 0 and len(known := file.read_text().strip()) >= 32:
                return known
        except OSError:
            pass
        token = secrets.token_urlsafe(32)
        self.write("token", token)
        return token

    def write(self, name: str, text: str) -> None:
        """Replace a small file at once, with mode 0600."""
        fd, temporary = tempfile.mkstemp(dir=self.path)  # mode 0600
        with os.fdopen(fd, "w") as file:
            file.write(text + "\n")
        os.replace(temporary, self.path / name)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


def bind(host: str, port: int) -> socket.socket:
    """Take the HTTP port. Raises CommandError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        sentence = f"--http {host}:{port}: cannot listen there ({problem.strerror}); name another port, or 0 for any"
        raise CommandError(sentence, ENVIRONMENT, "port") from None
    listener.listen(128)
    return listener


class WebProcess:
    """The HTTP process, as its parent sees it."""

    def __init__(self, settings: Settings, folder: StateFolder) -> None:
        self._settings = settings
        self._folder = folder
        listener = bind(settings.http.host, settings.http.port)
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self._process = self._spawn(listener)
        self.respawned = 0

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _spawn(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        spec = {"settings": self._settings, "fd": listener.fileno(), "parent": os.getpid()}
        with open(self._folder.path / "logs" / "web.err", "ab") as errors, listener:
            process = subprocess.Popen(
                [sys.executable, "-m", "actors.web"], stdin=subprocess.PIPE, stdout=errors, stderr=errors,
                pass_fds=(listener.fileno(),), env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,
            )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        process.stdin.flush()  # and it stays open: its end tells the child that this process has gone
        return process

    def keep_alive(self) -> bool:
        """Start it again if it has ended. False: it has ended too often."""
        if self._process.poll() is None:
            return True
        if self.respawned >= RESPAWNS:
            return False
        self.respawned += 1
        try:
            self._process = self._spawn(bind(*self.address))
        except CommandError:
            pass  # the port is still being given back: next time
        return True

    def readiness(self) -> tuple[bool, str]:
        """Ask /readyz: whether orders can be sent, and if not why."""
        connection = http.client.HTTPConnection(*self.address, timeout=2)
        try:
            connection.request("GET", "/readyz", headers={"Host": "localhost"})
            response = connection.getresponse()
            body = response.read()
            return response.status == 200, "" if response.status == 200 else msgspec.json.decode(body)["sentence"]
        except (OSError, http.client.HTTPException, msgspec.MsgspecError, KeyError):
            return False, "the HTTP process is starting"
        finally:
            connection.close()

    def end(self) -> None:
        process = self._process
        end(process, 3.0)
        if process.stdin is not None:
            process.stdin.close()


class Watcher(threading.Thread):
    """Tell when the engine is ready, and keep the HTTP process alive."""

    def __init__(self, web: WebProcess, settings: Settings, as_json: bool) -> None:
        super().__init__(daemon=True, name="watcher")
        self._web = web
        self._settings = settings
        self._json = as_json
        self._over = threading.Event()

    def run(self) -> None:
        waited, told = 0.0, ""
        while not self._over.wait(LOOK_SECONDS):
            ready, reason = self._web.readiness()
            if ready:
                self._tell_ready()
                break
            waited += LOOK_SECONDS
            if waited >= PATIENCE_SECONDS and reason != told:
                told = reason
                self._tell({"event": "waiting", "reason": reason}, f"bracketeer is waiting: {reason}")
            self._web.keep_alive()
        while not self._over.wait(0.5):
            if not self._web.keep_alive():
                self._tell({"event": "http_gave_up"}, "the HTTP process ended too often; trading goes on")
                return

    def _tell_ready(self) -> None:
        venue = self._settings.venue
        facts: dict[str, Any] = {
            "event": "ready", "url": self._web.url, "pid": os.getpid(), "gateway": f"{venue.host}:{venue.port}",
            "client_id": venue.client_id, "state": self._settings.state_dir,
        }  # fmt: skip
        sentence = (
            f"bracketeer is ready: {facts['url']}, gateway {facts['gateway']} as client {venue.client_id},"
            f" state in {facts['state']} (the token is in its file `token`)"
        )
        self._tell(facts, sentence)

    def _tell(self, facts: dict[str, Any], sentence: str) -> None:
        try:
            if self._json:
                print_json(facts)
            else:
                say(sentence)
        except (OSError, ValueError):  # nobody reads our output any more
            pass

    def stop(self) -> None:
        self._over.set()
        self.join(5)


def start(settings: Settings, as_json: bool = False, console: bool = False) -> int:
    """Run an engine until SIGTERM or SIGINT; return its exit code. Raises CommandError when it cannot start."""
    os.umask(0o077)
    folder = StateFolder(settings.state_dir)
    settings = msgspec.structs.replace(
        settings, system=msgspec.structs.replace(settings.system, state_dir=str(folder.path))
    )
    folder.create()
    folder.lock()
    (folder.path / "logs").mkdir(exist_ok=True)
    folder.token()
    web: WebProcess | None = None
    watcher: Watcher | None = None
    try:
        if settings.http.enabled:
            web = WebProcess(settings, folder)
            folder.write("http", web.url)
        from actors.host import Host

        host = Host(settings, settings.system.base, console=console)
        host.start(SERVICES)
        if web is not None:
            watcher = Watcher(web, settings, as_json)
            watcher.start()
        elif as_json:
            print_json({"event": "started", "http": False, "pid": os.getpid(), "state": settings.state_dir})
        else:
            say(f"bracketeer runs without HTTP, state in {settings.state_dir}")
        code = host.run()
        if code and host.ended is not None:
            raise CommandError(f"the engine ended: {host.ended.reason}", code, "engine_ended")
        return code
    finally:
        if watcher is not None:
            watcher.stop()
        if web is not None:
            web.end()
            folder.remove("http")
        folder.unlock()
