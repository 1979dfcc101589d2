"""The TCP face of the simulated gateway: asyncio on 127.0.0.1, nothing else.

Law 1: it moves bytes and time between sockets and the Gateway; no rule of trading is decided here.
Law 2: a gateway that cannot write its state file or its journal ends at once, with nothing more said to anybody.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.control_server import ControlServer, read_token
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import CannotKeep, Journal
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import GatewaySettings

LOOPBACK = "127.0.0.1"
NS = 1_000_000_000
PR_SET_PDEATHSIG = 1
HIGH_WATER_BYTES = 64 * 1024 * 1024
MAX_CONNECTIONS = 256


class Connection(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server
        self.session: Session | None = None
        self.transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._dripping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self.server.connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self.transport = transport
        with self.server.keeping():
            self.session = self.server.gateway.connect(self.server.now_ns())
            self.server.connections[self.session.number] = self

    def data_received(self, data: bytes) -> None:
        if self.session is None:
            return
        with self.server.keeping():
            self._receive(self.session, data)

    def _receive(self, session: Session, data: bytes) -> None:
        try:
            session.receive(data, self.server.now_ns())
        except CannotKeep:
            raise
        except Exception as bug:
            # `receive` does not raise: this is a fault of ours. It costs this client its connection and nobody else.
            self.server.gateway.log(self.server.now_ns(), "sim", session.client_id, "gateway_fault",
                                    {"reason": f"{type(bug).__name__}: {bug}"})
            session.close()
            self.server.turn()
            raise
        self.server.turn()

    def flush(self) -> None:
        if self.transport is None or self.session is None:
            return
        if self.session.abrupt:
            self._pieces.clear()
            self.transport.abort()
            return
        self._pieces += self.session.pieces(self.server.now_ns())
        if self._dripping:
            return
        if len(self._pieces) > 1:
            self._dripping = True
            self._drip()
        elif self._pieces:
            self._write(self._pieces.popleft())
        if self.session.closing and not self._dripping:
            self.transport.close()

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > HIGH_WATER_BYTES:
            # A client that does not read is dropped: memory stays bounded.
            self.transport.abort()

    def _drip(self) -> None:
        """Write one piece in each turn of the loop, so that each travels alone."""
        if self.transport is None or self.session is None or not self._pieces or self.transport.is_closing():
            self._dripping = False
            return
        self._write(self._pieces.popleft())
        if self._pieces:
            # Timers run after what was received in the same turn, so a client in this loop reads each piece alone too.
            asyncio.get_running_loop().call_later(0, self._drip)
            return
        self._dripping = False
        if self.session.closing:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.session is not None:
            self.server.connections.pop(self.session.number, None)
            with self.server.keeping():
                self.server.gateway.disconnect(self.session, self.server.now_ns())
                self.server.turn()
        self.transport = None


class GatewayServer:
    """A listening gateway. `port` is the real port once `start` has returned."""

    def __init__(self, gateway: Gateway, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.gateway = gateway
        self.now_ns = now_ns
        self.port = 0
        self.connections: dict[int, Connection] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turning = False
        self._reopening: asyncio.Task[None] | None = None
        self._running = False
        self.control: ControlServer | None = None
        self.ending = asyncio.Event()
        """Set when the gateway has to end: `failed` says why, or somebody has asked for it."""
        self.failed: CannotKeep | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1 and return the port; raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), LOOPBACK, port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]
        self._running = True
        self.turn()
        return self.port

    def announcement(self) -> dict[str, Any]:
        """Return the line that says where it listens; with a token of its own making, that too."""
        line: dict[str, Any] = {"event": "listening", "port": self.port}
        if self.control is not None:
            line["control"] = self.control.port
            if not self.gateway.settings.control_token_file:
                line["token"] = self.control.token
        return line

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """End the gateway if what is done here could not be kept: every connection breaks, nothing more is said."""
        try:
            yield
        except CannotKeep as problem:
            self._running = False
            self.failed = self.failed or problem
            self.ending.set()
            for connection in list(self.connections.values()):
                if connection.transport is not None:
                    connection.transport.abort()

    def turn(self) -> None:
        """Let the market and the exchange do what is due, and write what there is to say."""
        if not self._turning and self.failed is None:
            with self.keeping():
                self._turn()

    def _turn(self) -> None:
        self._turning = True
        try:
            due = self.gateway.advance(self.now_ns())
        except CannotKeep:
            raise
        except Exception as bug:
            # A fault of ours in what was due: it is told, and what is due next happens all the same.
            due = self.now_ns() + NS
            self.gateway.log(self.now_ns(), "sim", -1, "gateway_fault", {"reason": f"{type(bug).__name__}: {bug}"})
            asyncio.get_running_loop().call_exception_handler({"message": "a turn failed", "exception": bug})
        finally:
            self._turning = False
        for connection in list(self.connections.values()):
            connection.flush()
        if self.gateway.away_until_ns > self.now_ns() and self._server is not None:
            self._leave()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = self.gateway.agenda.next_ns()         # writing may have made something wait (coalesce_frames)
        due = min((when for when in (due, waiting) if when is not None), default=None)
        if due is not None and self._running:
            delay = max(0, due - self.now_ns()) / NS
            self._timer = asyncio.get_running_loop().call_later(delay, self.turn)

    def _leave(self) -> None:
        """Close the port until the gateway is back from its restart; the port stays ours, and is refused meanwhile."""
        assert self._server is not None
        self._server.close()
        self._server = None
        kept = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((LOOPBACK, self.port))
        self._reopening = asyncio.get_running_loop().create_task(self._come_back(kept))

    async def _come_back(self, kept: socket.socket) -> None:
        try:
            while (left := self.gateway.away_until_ns - self.now_ns()) > 0:
                await asyncio.sleep(left / NS)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Connection(self), sock=kept)
        except BaseException:
            kept.close()
            raise
        self.turn()

    async def stop(self) -> None:
        """Close the port and every connection; what was said before is flushed."""
        self._running = False
        if self.control is not None:
            await self.control.stop()
        if self._reopening is not None and not self._reopening.done():
            self._reopening.cancel()
            await asyncio.wait([self._reopening])
        if self._timer is not None:
            self._timer.cancel()
        server, self._server = self._server, None
        if server is not None:
            server.close()
        with self.keeping():
            for connection in list(self.connections.values()):
                if self.failed is None:
                    connection.flush()
                if connection.transport is not None:
                    connection.transport.close()
        if server is not None:
            await server.wait_closed()
        with self.keeping():
            try:
                if self.failed is None:
                    self.gateway.log(self.now_ns(), "sim", -1, "gateway_stopped", {})
            finally:
                self.gateway.close()


async def serve(settings: GatewaySettings, now_ns: Callable[[], int] = time.time_ns,
                keep_journal: bool = False) -> GatewayServer:
    """Build a gateway from settings, listen, and return the running server (`await server.stop()` ends it).

    `keep_journal`: the journal's lines are kept in memory too, from the first on.
    """
    now = now_ns()
    token = read_token(settings.control_token_file) if settings.control_token_file else None
    gateway = make_gateway(settings, Journal(settings.journal, keep=keep_journal), now)
    server = GatewayServer(gateway, now_ns)
    try:
        await server.start(settings.port)
        if settings.control is not None:
            server.control = ControlServer(server, token)
            await _open_control(server.control, settings.control)
        gateway.log(now, "sim", -1, "gateway_started", {"port": server.port, "settings": gateway.describe()})
    except (OSError, ValueError, CannotKeep):
        await server.stop()
        raise
    return server


async def _open_control(control: ControlServer, port: int) -> None:
    try:
        await control.start(port)
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise ValueError(f"--control {port}: {reason}; name another port, or 0 for any free one") from None


def die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends; end at once if it already has."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit(0)


async def _run(settings: GatewaySettings) -> None:
    server = await serve(settings)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, server.ending.set)
    if settings.announce:
        sys.stdout.write(json.dumps(server.announcement()) + "\n")
        sys.stdout.flush()
    await server.ending.wait()
    await server.stop()
    if server.failed is not None:
        raise server.failed


def run_gateway(settings: GatewaySettings) -> None:
    """Run a gateway in this process until SIGTERM or SIGINT.

    Raises OSError when the port is taken, ScenarioError or ReplayError when a file cannot be used, and CannotKeep
    when the state file or the journal cannot be written, at the start or later.
    """
    if settings.die_with_parent:
        die_with_parent()
    asyncio.run(_run(settings))
