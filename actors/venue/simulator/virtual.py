"""An asyncio loop whose clock jumps and whose sockets are memory: real protocols run on it without waiting.

Law 1: the clock moves only when nothing more can happen at its present instant, and then to the next timer. (A
hundred turns of the loop at one instant take a microsecond, or who asks again at once could stop the time.)
Law 2: chance (how long bytes travel, where they are cut) comes from the seed alone; no other thread is heard.
Law 3: bytes of one direction arrive in the order in which they were written, or not at all.
"""

from __future__ import annotations

import asyncio
import errno
import math
import threading
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

NS = 1_000_000_000
FIRST_PORT = 40_001
TURNS_PER_US = 100
HALF_NS = 0.5 / NS
FLOAT_NS = 1_000


class Stuck(RuntimeError):
    """Everybody waits for something that can never come: no timer is set and nothing is on its way."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How bytes travel in one direction. The defaults are those of one machine's loopback, exaggerated."""

    least_ns: int = 200_000
    most_ns: int = 800_000
    piece_bytes: int = 0
    """Above 0: what is written arrives in pieces of 1 to this many bytes."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time. `now_ns` is its clock (UTC nanoseconds); `time()` counts seconds since its start.

    It uses the same few inner hooks of BaseEventLoop as asyncio's own loops do.
    """

    def __init__(self, start_ns: int, seed: int = 1, latency: Latency | None = None) -> None:
        super().__init__()
        self.start_ns = self.now_ns = start_ns
        self.network = Network(self, seed, latency or Latency())
        self._selector = self
        self._clock_resolution = HALF_NS        # a timer of the next nanosecond is not due yet
        self._idlers: list[tuple[int, asyncio.Future[None]]] = []
        self._thread = threading.get_ident()
        self._turns = 0         # at this instant

    # what a loop must be -----------------------------------------------------------------------------------------

    def time(self) -> float:
        return (self.now_ns - self.start_ns) / NS

    def select(self, timeout: float | None) -> list[Any]:
        """Stand where a loop would wait for its sockets: let the time pass instead."""
        by_ns = None if timeout is None else int(timeout * NS + 0.5)
        if by_ns == 0:
            self._turns += 1
            if self._turns >= TURNS_PER_US:
                self._move(1_000)
            return []
        idle = [future for since, future in self._idlers if since < self.now_ns]
        if idle:
            self._idlers = [each for each in self._idlers if each[1] not in idle]
            for future in idle:
                if not future.done():
                    future.set_result(None)
        elif by_ns is not None:
            self._move(by_ns)
        else:
            stuck = Stuck("everybody waits, no timer is set and no byte is on its way")
            if not self._idlers:
                raise stuck
            waiting, self._idlers = self._idlers, []
            for _, future in waiting:
                if not future.done():
                    future.set_exception(stuck)
        return []

    def _move(self, by_ns: int) -> None:
        self.now_ns += by_ns
        self._turns = 0
        self._clock_resolution = max(HALF_NS, math.ulp(self.time()))

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Wake nobody: the loop never sleeps. Another thread would make the outcome depend on its speed."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a virtual loop hears no other thread")

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None,  # type: ignore[override]
                            **unused: Any) -> VirtualServer:
        return self.network.listen(protocol_factory, port or 0)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None,
                                **unused: Any) -> tuple[VirtualTransport, Any]:
        return await self.network.dial(protocol_factory, port)

    # waiting for nothing to be left --------------------------------------------------------------------------------

    def at_ns(self, due_ns: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self.call_at((due_ns - self.start_ns) / NS, callback)

    async def idle(self, later: bool = False) -> None:
        """Wait until nothing more can happen at this instant; `later`: at a later instant. Raises Stuck."""
        future = self.create_future()
        self._idlers.append((self.now_ns if later else self.now_ns - 1, future))
        await future

    async def settle(self) -> None:
        """Wait until nothing more can happen now and no byte is on its way; timers are left alone."""
        while True:
            await self.idle()
            due_ns = self.network.next_arrival_ns()
            if due_ns is None:
                return
            await asyncio.sleep((due_ns - self.now_ns) / NS)


class Network:
    """Every virtual port and connection of one loop. `refusing`: nobody can dial."""

    def __init__(self, loop: VirtualLoop, seed: int, latency: Latency) -> None:
        self.loop, self.seed, self.latency = loop, seed, latency
        self.refusing = False
        self.links: list[Link] = []
        self._servers: dict[int, VirtualServer] = {}
        self._dialled = 0

    def listen(self, factory: Callable[[], Any], port: int) -> VirtualServer:
        port = port or max([FIRST_PORT - 1, *self._servers]) + 1
        if port in self._servers:
            raise OSError(errno.EADDRINUSE, f"port {port} is already in use")
        server = self._servers[port] = VirtualServer(self, factory, port)
        return server

    def close(self, server: VirtualServer) -> None:
        if self._servers.get(server.port) is server:
            del self._servers[server.port]

    async def dial(self, factory: Callable[[], Any], port: int) -> tuple[VirtualTransport, Any]:
        """Open a connection as TCP does: the server hears of it one way later, the client after the way back."""
        self._dialled += 1
        link = Link(self, self._dialled)
        await self._travel(link.up)
        server = self._servers.get(int(port))
        if server is None or self.refusing:
            await self._travel(link.down)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on port {port}")
        self.links.append(link)
        link.server.begin(server.factory())
        try:
            await self._travel(link.down)
        except asyncio.CancelledError:
            link.cut()
            raise
        protocol = factory()
        link.client.begin(protocol)
        return link.client, protocol

    async def _travel(self, pipe: Pipe) -> None:
        await asyncio.sleep((pipe.due_ns() - self.loop.now_ns) / NS)

    def next_arrival_ns(self) -> int | None:
        """Return when the next bytes arrive; what is held arrives never."""
        dues = [pipe.items[0][0] for link in self.links for pipe in (link.up, link.down) if pipe.items and pipe.flows]
        return max(self.loop.now_ns, min(dues)) if dues else None

    def cut(self) -> None:
        """Break every connection at once: what is on its way is lost."""
        for link in list(self.links):
            link.cut()


class VirtualServer:
    """A virtual port that is listened to, in the shape of asyncio.Server."""

    def __init__(self, network: Network, factory: Callable[[], Any], port: int) -> None:
        self.network, self.factory, self.port = network, factory, port

    @property
    def sockets(self) -> tuple[VirtualServer, ...]:
        return (self,)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def is_serving(self) -> bool:
        return self.network._servers.get(self.port) is self

    def close(self) -> None:
        self.network.close(self)

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)


class Link:
    """One connection: two transports and the two directions between them (`up` is from client to server)."""

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.number = number
        self.up, self.down = (
            Pipe(network, Random(f"{network.seed}/{number}/{way}")) for way in ("up", "down"))
        self.client = VirtualTransport(self, self.up, ("127.0.0.1", 50_000 + number))
        self.server = VirtualTransport(self, self.down, ("127.0.0.1", FIRST_PORT))
        self.up.to, self.down.to = self.server, self.client

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, and both ends hear of it."""
        for pipe in (self.up, self.down):
            pipe.items.clear()
            pipe.in_flight_bytes = 0
        for end in (self.client, self.server):
            end.lose(ConnectionResetError(errno.ECONNRESET, "the connection was cut"))

    def hold(self, up: bool = True, down: bool = True) -> None:
        """Let nothing arrive any more, without either end hearing of it (a half-open connection)."""
        self.up.held, self.down.held = up, down

    def release(self) -> None:
        """Let arrive what was held."""
        for pipe in (self.up, self.down):
            pipe.held = False
            pipe.arrive()

    def ended(self) -> None:
        if self.client.lost and self.server.lost and self in self.network.links:
            self.network.links.remove(self)


EOF, RESET = "eof", "reset"


class Pipe:
    """One direction of one connection. `held` keeps what has arrived from being heard."""

    def __init__(self, network: Network, random: Random) -> None:
        self.loop, self.latency, self.random = network.loop, network.latency, random
        self.to: VirtualTransport
        self.held = False
        self.items: deque[tuple[int, bytes | str]] = deque()
        self.in_flight_bytes = 0
        self._last_ns = 0

    @property
    def flows(self) -> bool:
        return not self.held and not self.to.paused

    def due_ns(self) -> int:
        """Draw when what is written now arrives: never before what was written earlier."""
        delay_ns = self.random.randint(self.latency.least_ns, self.latency.most_ns)
        self._last_ns = max(self._last_ns, self.loop.now_ns + delay_ns)
        return self._last_ns

    def put(self, item: bytes | str) -> None:
        most = self.latency.piece_bytes
        if isinstance(item, bytes):
            self.in_flight_bytes += len(item)
        if not most or isinstance(item, str):
            self._schedule(item)
            return
        at = 0
        while at < len(item):
            size = self.random.randint(1, most)
            self._schedule(item[at:at + size])
            at += size

    def _schedule(self, item: bytes | str) -> None:
        due_ns = self.due_ns()
        self.items.append((due_ns, item))
        self.loop.at_ns(due_ns, self.arrive)

    def arrive(self) -> None:
        """Hand over everything whose time has come."""
        while self.items and self.flows and self.items[0][0] <= self.loop.now_ns:
            _, item = self.items.popleft()
            if isinstance(item, bytes):
                self.in_flight_bytes -= len(item)
            self.to.hear(item)
        if self.items and self.flows and self.items[0][0] - self.loop.now_ns < FLOAT_NS:
            self.loop.at_ns(self.items[0][0], self.arrive)      # its timer came early: asyncio counts in floats


class VirtualTransport(asyncio.Transport):
    """One end of a connection. A writer is never paused; `get_write_buffer_size` counts what has not arrived."""

    def __init__(self, link: Link, out: Pipe, name: tuple[str, int]) -> None:
        super().__init__({"sockname": name, "socket": None})
        self.link, self.out = link, out
        self.loop = link.network.loop
        self.protocol: Any = None
        self.paused = True              # until somebody is there to listen
        self.lost = False
        self._closing = False
        self._said_eof = False

    def begin(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.connection_made(self)
        self.resume_reading()

    def hear(self, item: bytes | str) -> None:
        """Take what has arrived."""
        if self.lost or self._closing:
            return
        if item == RESET:
            self.lose(ConnectionResetError(errno.ECONNRESET, "the other end reset the connection"))
        elif item == EOF:
            if not self.protocol.eof_received():
                self.close()
        else:
            try:
                self.protocol.data_received(item)
            except Exception:
                self.abort()        # as asyncio does: the fault costs this connection, and the loop's handler hears it
                raise

    def lose(self, why: Exception | None) -> None:
        """End here; the protocol hears of it in the loop's next turn."""
        if self.lost:
            return
        self.lost = self._closing = True
        if self.protocol is not None:
            self.loop.call_soon(self.protocol.connection_lost, why)
        self.link.ended()

    def write(self, data: Any) -> None:
        if not self._closing and not self._said_eof and data:
            self.out.put(bytes(data))

    def write_eof(self) -> None:
        if not self._closing and not self._said_eof:
            self._said_eof = True
            self.out.put(EOF)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.write_eof()
        self.lose(None)

    def abort(self) -> None:
        if not self.lost:
            self.out.put(RESET)
            self.lose(None)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self.out.in_flight_bytes

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_reading(self) -> bool:
        return not self.paused

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        pipe = self.link.down if self is self.link.client else self.link.up
        self.loop.call_soon(pipe.arrive)
