"""The isolated engine as its launcher sees it: processes that announce themselves on a pipe, and its end of file.

Law: every process of the engine holds the write end of the lifeline, so its end of file says that none is left.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger
from thespian.actors import ActorAddress, ActorSystem

from actors import logs, thespian_shim
from actors.ground import ISOLATED
from messages.base import Message
from messages.supervision import EngineEnded, EngineProcess, EngineStarted, HeartbeatAck

SAID = msgspec.json.Decoder(EngineProcess | EngineStarted | EngineEnded | HeartbeatAck)
ATTEMPTS = 5
"""How many free ports are tried: another process may take one between the look and the bind."""
GONE_SECONDS = 3.0
LISTENING_SECONDS = 0.1
"""A turn no longer than this waits for answers to `Host.ask`; a longer one for the lifeline and for signals."""
BEAT_SECONDS = 1.0
SILENCE_SECONDS = 15.0
"""How long the root may be silent on the lifeline before it is killed, and the engine with it."""


class IsolatedEngine:
    """The TCP base behind its shim, started, watched and ended from the launcher."""

    silence_seconds = SILENCE_SECONDS

    def __init__(self, settings: Any, port: int | None = None) -> None:
        self.on_said: Callable[[Message], None] = lambda message: None
        self.root: ActorAddress | None = None
        self.pids: dict[str, int] = {}
        self.port = port
        self._settings = settings
        self._system: Any = None
        self._selector = selectors.DefaultSelector()
        self._lifeline: int | None = None
        self._partial = b""
        self._heard_at = time.monotonic()
        self._root_pidfd: int | None = None
        self._pidfd: int | None = None
        self._queue: list[tuple[ActorAddress, Any]] = []
        self._replies: list[Any] = []

    # What the host asks.

    def launcher_pidfd(self) -> int | None:
        """Return a descriptor that becomes readable when this process ends; the root watches it."""
        if self._pidfd is None and hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(os.getpid())
        return self._pidfd

    def start(self, root_class: Any, first: Message) -> ActorAddress:
        """Create the actor system and the root actor, and send it its first message."""
        place, _ = logs.place_and_level(self._settings)
        self._keep_thespians_log_in(place)
        thespian_shim.install(secrets.token_bytes(32), self.launcher_pidfd())
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        ISOLATED.lifeline = writer
        try:
            self._system = self._make_system(place)
        finally:
            os.close(writer)
            ISOLATED.lifeline = None
        self._lifeline = reader
        self.listen(reader, self._read_lifeline)
        self.root = self._system.createActor(root_class, globalName="root")
        self._system.tell(self.root, first)
        return self.root

    def enqueue(self, address: ActorAddress, message: Any) -> None:
        """Put a message in line; it is sent in the next turn."""
        self._queue.append((address, message))

    def listen(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in this thread whenever a descriptor of the launcher's own is readable."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def turn(self, longest: float) -> None:
        """Send what is in line, then wait at most `longest` seconds for the engine or a signal to say something."""
        sent, self._queue = self._queue, []
        for address, message in sent:
            self._system.tell(address, message)
        expecting_replies = longest <= LISTENING_SECONDS
        for key, _ in self._selector.select(0 if expecting_replies else min(longest, BEAT_SECONDS)):
            key.data()
        if expecting_replies:
            reply = self._system.listen(longest)
            while reply is not None:
                self._replies.append(reply)
                reply = self._system.listen(0.001)
        self._mind_root()

    def take_replies(self) -> list[Any]:
        """Return and forget what actors sent to the launcher."""
        taken, self._replies = self._replies, []
        return taken

    def instance_at(self, address: ActorAddress) -> Any:
        """Refuse: the actor lives in another process."""
        raise TypeError("in the isolated base an actor's object is in another process")

    def close(self) -> None:
        """Shut the actor system down and wait until no process of it is left; kill what stays."""
        if self._system is not None:
            if self._lifeline is not None:
                self._system.shutdown()
            if not self._wait_until_gone(GONE_SECONDS):
                self.kill()
                if not self._wait_until_gone(GONE_SECONDS):
                    logger.critical("processes of the engine are left: {}", self.pids)
            self._system = None
        for fd in (self._lifeline, self._root_pidfd, self._pidfd):
            if fd is not None:
                os.close(fd)
        self._lifeline = self._root_pidfd = self._pidfd = None
        self._selector.close()

    def kill(self) -> None:
        """Kill the admin: the kernel then kills every actor and the logger."""
        pid = self.pids.get("admin")
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    @property
    def gone(self) -> bool:
        """Whether no process of the engine is left."""
        return self._lifeline is None

    # Inside.

    def _make_system(self, place: str | None) -> Any:
        fixed = self.port is not None
        for attempt in range(ATTEMPTS):
            if not fixed:
                self.port = thespian_shim.free_port()
            try:
                return ActorSystem(
                    "multiprocTCPBase",
                    capabilities={"Admin Port": self.port, "Process Startup Method": "fork"},
                    logDefs=_log_definitions(place),
                    transientUnique=True,
                )
            except Exception as error:
                if attempt + 1 == ATTEMPTS:
                    raise
                logger.warning("actor system on port {}: {}; trying again", self.port, error)
        raise AssertionError("unreachable")

    @staticmethod
    def _keep_thespians_log_in(place: str | None) -> None:
        from thespian.system import utilis

        if place is not None:
            folder = Path(place) / "logs"
            folder.mkdir(parents=True, exist_ok=True)
            os.environ["THESPLOG_FILE"] = str(folder / "thespian.log")
            utilis._thesplog_file = None  # it is looked up once, and a test starts several engines

    def _read_lifeline(self) -> None:
        if self._lifeline is None:  # its end was read earlier in this same turn
            return
        try:
            data = os.read(self._lifeline, 65536)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(self._lifeline)
            os.close(self._lifeline)
            self._lifeline = None
            self.on_said(EngineEnded(code=70, reason="every process of the engine has ended"))
            return
        self._heard_at = time.monotonic()
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            said = SAID.decode(line)
            if isinstance(said, EngineProcess):
                self.pids[said.role] = said.pid
                if said.role == "root":
                    self._watch_root(said.pid)
            self.on_said(said)

    def _watch_root(self, pid: int) -> None:
        try:
            self._root_pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.on_said(EngineEnded(code=70, reason="the root supervisor has ended"))
            return
        self.listen(self._root_pidfd, self._root_ended)

    def _mind_root(self) -> None:
        """Kill a root that has been silent for too long, unless it is we who have not listened."""
        if self._root_pidfd is None or time.monotonic() - self._heard_at < self.silence_seconds:
            return
        if self._selector.select(0):
            return
        logger.critical("the root supervisor has been silent for {} s: killed", self.silence_seconds)
        self._heard_at = time.monotonic()
        try:
            signal.pidfd_send_signal(self._root_pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _root_ended(self) -> None:
        assert self._root_pidfd is not None
        self._selector.unregister(self._root_pidfd)
        self._read_lifeline()  # its last words may still be there
        self.on_said(EngineEnded(code=70, reason="the root supervisor has ended without a word"))

    def _wait_until_gone(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._lifeline is not None and time.monotonic() < end:
            for key, _ in self._selector.select(max(0.0, end - time.monotonic())):
                key.data()
        return self._lifeline is None


def _log_definitions(place: str | None) -> dict[str, Any]:
    """Where Thespian's logger process writes what is not ours; `False` instead of this breaks every TCP actor."""
    handler: dict[str, Any] = {"class": "logging.NullHandler", "level": "WARNING"}
    if place is not None:
        handler = {
            "class": "logging.FileHandler",
            "filename": str(Path(place) / "logs" / "thespian-actors.log"),
            "delay": True,
            "level": "WARNING",
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"file": handler},
        "root": {"level": "WARNING", "handlers": ["file"]},
    }
