"""The whole engine in one process under virtual time: every real actor, the real decoder, the real exchange.

Law: time moves only when a test moves it. The ledger's writer thread alone has real time, and is waited for whenever
everything else rests, so that a seed plays the same whatever the disk does.
"""

from __future__ import annotations

import gc
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from types import SimpleNamespace
from typing import Any

from actors import router
from actors.cli.service import SERVICES
from actors.host import Host
from actors.venue.ib_link import Link
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.orders import Order
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import GatewaySettings
from messages.orders import CommandAnswered
from messages.settings import load_settings
from storage import journal
from tests import builders

NS = 1_000_000_000
SYMBOLS = ("AAPL", "MSFT", "NVDA")
SHORT = "NVDA"
"""What is only ever sold short: the venue nets, and one direction is allowed at a time."""
START = Decimal(100)
RING = journal._ring
SPARED = frozenset({"StartActor", "StopActor", "ActorExitRequest", "Directory", "ActorFailed", "ChildActorExited",
                    "ActorStarted"})
"""A crash there is a crash at the start or the end, which has tests of its own."""


class Wire:
    """Every connection to the gateway: a real socket to the engine, and the gateway's session behind it, in memory."""

    def __init__(self, gateway: Gateway, clock: Callable[[], int]) -> None:
        self.gateway, self.clock = gateway, clock
        self.ends: list[tuple[socket.socket, Session]] = []
        self.refusing = False
        self.deaf = False
        """What the engine writes is not read by the gateway (nor lost, until the wire is cut)."""
        self.dumb = False
        """What the gateway says does not arrive (nor is it lost, until the wire is cut)."""

    def connect(self) -> socket.socket:
        if self.refusing:
            raise ConnectionRefusedError(111, "refused by the nemesis")
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        self.ends.append((theirs, self.gateway.connect(self.clock())))
        return ours

    def pump(self) -> bool:
        """Move what may move; tell whether anything did."""
        moved = False
        for end in list(self.ends):
            sock, session = end
            gone = session.closing
            if not self.deaf:
                try:
                    while data := sock.recv(65_536):
                        moved = True
                        session.receive(data, self.clock())
                    gone = True
                except BlockingIOError:
                    pass
                except OSError:
                    gone = True
            if not self.dumb and (out := session.take()):
                moved = True
                with suppress(OSError):
                    sock.sendall(out)
            if gone:
                moved = True
                self._end(end)
        return moved

    def cut(self) -> None:
        """End every connection; what the gateway has not read, or the engine not heard, is lost."""
        for end in list(self.ends):
            self._end(end)

    def _end(self, end: tuple[socket.socket, Session]) -> None:
        self.ends.remove(end)
        self.gateway.disconnect(end[1], self.clock())
        end[0].close()


class WatchedQueue:
    """The journal's queue, which can tell whether its thread has finished everything."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._put = self._taken = 0
        self._finished = -1

    def put(self, item: Any) -> None:
        self._put += 1
        self._queue.put(item)

    def get(self) -> Any:
        self._finished = self._taken
        item = self._queue.get()
        self._taken += 1
        return item

    def get_nowait(self) -> Any:
        item = self._queue.get_nowait()
        self._taken += 1
        return item

    @property
    def rests(self) -> bool:
        return self._finished == self._put


class World:
    """An engine, a gateway and a clock that only we move."""

    def __init__(self, folder: Path, seed: int, native: bool = True, cap: int = 1_000) -> None:
        self.folder, self.seed, self.native = folder, seed, native
        self.random = Random(seed)
        self.now_ns = builders.NOW_NS
        self.skew_ns = 0
        """How far the engine's wall clock is ahead of the venue's."""
        settings = GatewaySettings(walk_interval=Decimal(10**7), exec_prefix=f"{seed:08x}")
        self.gateway = make_gateway(settings, Journal(keep=True), self.now_ns)
        self.wire = Wire(self.gateway, lambda: self.now_ns)
        self.prices = dict.fromkeys(SYMBOLS, START)
        for symbol in SYMBOLS:
            self.trade(symbol, START)
        self.settings = load_settings(None, {
            "system": {"state_dir": str(folder), "log_level": "CRITICAL"}, "oca": {"native": native},
            "venue": {"max_active_per_side": cap},
        })
        self.answers: dict[str, list[CommandAnswered]] = {}
        self.story: list[str] = []
        self.crashes: dict[str, list[int]] = {}
        self.races = 0
        self.starts = 0
        self.host: Any = None
        self.start()

    # -- the engine --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.starts += 1
        self.host = Host(self.settings, clock=lambda: self.now_ns + self.skew_ns, monotonic=lambda: self.now_ns)
        self.host.start(SERVICES)
        self.settle()

    def kill(self) -> None:
        """End the engine in the middle: nothing that is on its way between its actors arrives."""
        ledger, broker, control = (self.actor(name) for name in ("ledger", "broker", "control"))
        self.host._engine.base._pendingSends.clear()
        if ledger is not None and "journal" in ledger.__dict__:
            with suppress(Empty):
                while self.random.random() < 0.9:  # what was not committed is lost from some point on
                    ledger.journal._queue.get_nowait()
            ledger.journal.close(5)
        if broker is not None and "venue" in broker.__dict__:
            broker.venue.close()
        if control is not None and "board" in control.__dict__:
            control.board.close()
        self.host._engine.close()
        self.host._engine.root = None
        self.host.stop()

    def actor(self, name: str) -> Any:
        root = self.host._engine.instance_at(self.host.root)
        address = root.child(name)
        return self.host._engine.instance_at(address) if address is not None else None

    def brackets(self) -> dict[str, Any]:
        router = self.actor("router")
        if router is None:
            return {}
        found = {}
        for name in list(router.children()):
            address = router.child(name)
            if address is not None and (bracket := self.host._engine.instance_at(address)) is not None:
                found[name] = bracket
        return found

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        engine = self.host._engine
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            engine.turn(0)
            for reply in engine.take_replies():
                if isinstance(reply, CommandAnswered):
                    self.answers.setdefault(reply.correlation, []).append(reply)
            self.gateway.advance(self.now_ns)
            moved = self.wire.pump()
            if moved or engine.base._pendingSends:
                continue
            ledger = self.actor("ledger")
            if ledger is not None and "journal" in ledger.__dict__ and not ledger.ended:
                if not ledger.journal._queue.rests:
                    time.sleep(0.0002)
                    continue
                if ledger.journal._outcomes:
                    RING(ledger.journal._write_fd)
                    continue
            if not engine._poller.poll(0):
                due = engine._timers.next_due()
                if due is None or due > self.now_ns:
                    return
        raise AssertionError("the engine never comes to rest")

    def sleep(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now_ns + int(seconds * NS)
        while True:
            self.settle()
            due = self.host._engine._timers.next_due()
            if due is None or due > end:
                break
            self.now_ns = max(self.now_ns, due)
        self.now_ns = end
        self.settle()

    def sleep_dead(self, seconds: float) -> None:
        """Let time pass while no engine runs."""
        self.now_ns += int(seconds * NS)
        self.wire.pump()

    def say(self, message: Any) -> str:
        """Tell the router; return the correlation under which the answer comes."""
        root = self.host._engine.instance_at(self.host.root)
        address = root.child("router")
        if address is None:
            return ""
        self.host.tell(message, address)
        return str(message.correlation)

    # -- the market --------------------------------------------------------------------------------------------

    def contract(self, symbol: str) -> Any:
        return self.gateway.contracts.named(symbol)

    def trade(self, symbol: str, price: Decimal) -> None:
        self.prices[symbol] = price
        contract, cent = self.contract(symbol), Decimal("0.01")
        self.gateway.set_quote(contract, self.now_ns, bid=price - cent, ask=price + cent)
        self.gateway.trade(contract, Trade(price, Decimal(100), self.now_ns), self.now_ns)

    def working(self) -> list[Order]:
        return [order for order in self.gateway.exchange.open_orders() if order.status in ("Submitted", "PreSubmitted")]


class Full(list):  # type: ignore[type-arg]
    """An outbox that is never empty, so that its flush is always tried."""

    def __bool__(self) -> bool:
        return True


def crash_at(
    actor: Any, due: Callable[[str], bool], after: bool = False, tell: Callable[[str], None] = lambda kind: None
) -> None:
    """Make an actor fail at the message whose kind is `due`: before its handler, or after it with all that it said."""
    handle = actor.receiveMessage

    def bomb(message: Any, sender: Any) -> Any:
        kind = type(message).__name__
        if actor.ended or kind in SPARED or not due(kind):
            return handle(message, sender)
        actor.__dict__.pop("receiveMessage", None)
        tell(kind)
        if not after:
            return actor._fail(RuntimeError("the nemesis, before the handler"), kind)

        def fail() -> None:
            raise RuntimeError("the nemesis, after the handler")

        actor._outbox = Full()
        actor._flush = fail
        return handle(message, sender)

    actor.receiveMessage = bomb


@contextmanager
def scene(seed: int = 1, native: bool = True, cap: int = 1_000) -> Iterator[World]:
    """Yield a world whose engine has started; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bracketeer-world-"))
    world = World.__new__(World)

    async def connect(link: Link, host: str, port: int) -> None:
        link._socket = world.wire.connect()

    real, Link.connectAsync = Link.connectAsync, connect  # type: ignore[method-assign]
    queue, journal.SimpleQueue = journal.SimpleQueue, WatchedQueue  # type: ignore[attr-defined]
    journal._ring = lambda fd: None
    router.secrets = SimpleNamespace(choice=Random(seed).choice)  # type: ignore[attr-defined]
    try:
        world.__init__(folder, seed, native, cap)  # type: ignore[misc]
        yield world
    finally:
        Link.connectAsync = real  # type: ignore[method-assign]
        journal.SimpleQueue = queue  # type: ignore[attr-defined]
        journal._ring, router.secrets = RING, secrets  # type: ignore[attr-defined]
        if getattr(world, "host", None) is not None:
            with suppress(Exception):
                world.host.stop()
            world.wire.cut()
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()
