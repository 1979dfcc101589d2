"""The simulated gateway: orders per second with every ack and fill delivered, ticks to ten clients, latency, memory.

Run: python -m tests.benchmarks gateway. The gateway is a process of its own on one core, the client on the other; each
figure stands beside that of a bare asyncio server which moves bytes and does nothing, measured in turn with it. The
memory figure is of one process without a socket: the same sessions, decoder, exchange and encoders.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import ib_insync

from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.wire import encode, frame
from tests.benchmarks import machine
from tests.benchmarks.gateway_peers import MARK
from tests.e2e.engines import ROOT
from tests.venue.test_sim_session import place

HELLO = b"API\0" + frame(b"v157..176")
CLIENTS = 10
WINDOW = 500
"""How many orders may be under way at once: enough that the gateway never waits for the client."""
DEADLINE_S = 300.0


@contextmanager
def peer(*arguments: object) -> Iterator[int]:
    """Run one of gateway_peers on the gateway's core and yield its port."""
    machine.pin(*machine.cores()[:1])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.gateway_peers", *map(str, arguments)], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    machine.pin(*machine.cores_at_start[-1:])
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.communicate(timeout=30)
        machine.pin(*machine.cores_at_start)


def order(number: int) -> bytes:
    """Return a market order; buys and sells take turns, so that no position grows."""
    return encode(*place(number, action="BUY" if number % 2 else "SELL", kind="MKT", ref=f"bench.{number}"))


# orders over TCP -----------------------------------------------------------------------------------------------------

class Counter(asyncio.Protocol):
    """A client that keeps WINDOW orders under way and counts what ends each: its commission report, or its echo."""

    def __init__(self, count: int, opening: bytes, ends: bytes) -> None:
        self.count, self.opening, self.ends = count, opening, ends
        self.sent = self.ended = self.frames = 0
        self.rest = b""
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.orders = [order(n) for n in range(1, count + 1)]
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.opening)
        self.began = time.perf_counter()
        self.send(WINDOW)

    def send(self, many: int) -> None:
        self.transport.write(b"".join(self.orders[self.sent:self.sent + many]))
        self.sent += many

    def data_received(self, data: bytes) -> None:
        data, at, ended = self.rest + data, 0, 0
        while len(data) - at >= 4:
            stop = at + 4 + int.from_bytes(data[at:at + 4], "big")
            if stop > len(data):
                break
            self.frames += 1
            ended += data.startswith(self.ends, at + 4)
            at = stop
        self.rest = data[at:]
        self.ended += ended
        if self.ended >= self.count:
            if not self.done.done():
                self.done.set_result(time.perf_counter() - self.began)
        elif ended:
            self.send(ended)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"lost after {self.ended} of {self.count}: {exc}"))


def orders_per_second(kind: str, count: int) -> tuple[float, float]:
    """Return orders and messages per second of a gateway, or of an echo."""
    gateway = kind == "gateway"

    async def story(port: int) -> tuple[float, float]:
        opening = HELLO + encode(71, 2, 1, "") if gateway else b""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: Counter(count, opening, b"59\0" if gateway else b"3\0"), "127.0.0.1", port)
        took = await asyncio.wait_for(client.done, DEADLINE_S)
        client.transport.close()
        return count / took, client.frames / took

    with peer(kind) as port:
        return asyncio.run(story(port))


def orders_per_second_of_ib_insync(count: int) -> float:
    """Return the orders per second that the library places and hears the commission of."""

    async def story(port: int) -> float:
        ib = ib_insync.IB()
        ib.client.MaxRequests = 0
        await ib.connectAsync("127.0.0.1", port, clientId=1, timeout=20)
        contract = ib_insync.Stock("AAPL", "SMART", "USD", conId=265598)
        over, heard = asyncio.Event(), 0

        def hear(*_: object) -> None:
            nonlocal heard
            heard += 1
            if heard >= count:
                over.set()
            elif placed < count:
                send(1)

        placed = 0

        def send(many: int) -> None:
            nonlocal placed
            for _ in range(min(many, count - placed)):
                placed += 1
                ib.placeOrder(contract, ib_insync.MarketOrder(
                    "BUY" if placed % 2 else "SELL", 100, orderRef=f"b.{placed}", tif="DAY", account="DU1000001"))

        ib.commissionReportEvent += hear
        began = time.perf_counter()
        send(50)
        await asyncio.wait_for(over.wait(), DEADLINE_S)
        took = time.perf_counter() - began
        ib.disconnect()
        return count / took

    with peer("gateway") as port:
        return asyncio.run(story(port))


# latency -------------------------------------------------------------------------------------------------------------

def ack_microseconds(kind: str, count: int) -> list[float]:
    """Return how long each placeOrder took until its first orderStatus (or its echo) had come."""
    found = []
    with peer(kind) as port, socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "gateway":
            sock.sendall(HELLO + encode(71, 2, 1, ""))
            heard = b""
            while b"2158" not in heard:
                heard += sock.recv(1 << 16)
        for number in range(1, count + 1):
            data = encode(*place(number, lmt="50", ref=f"bench.{number}"))
            mark = f"\0003\0{number}\0".encode()[1:]
            began, heard = time.perf_counter_ns(), b""
            sock.sendall(data)
            while mark not in heard:
                heard += sock.recv(1 << 16)
            found.append((time.perf_counter_ns() - began) / 1e3)
            if kind == "gateway":       # it rests; take it away unmeasured, so that the book stays as it was
                sock.sendall(encode(4, 1, number, ""))
                while b"\x00202\x00" not in heard:
                    heard += sock.recv(1 << 16)
    return sorted(found)


# ticks ---------------------------------------------------------------------------------------------------------------

class Listener(asyncio.Protocol):
    """A client that subscribes and counts ticks by the mark at their end."""

    def __init__(self, number: int, count: int, subscribe: bytes) -> None:
        self.number, self.left, self.subscribe = number, count, subscribe
        self.tail = b""
        self.first = 0.0
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.subscribe)

    def data_received(self, data: bytes) -> None:
        seen = (self.tail + data).count(MARK)
        if seen and not self.first:
            self.first = time.perf_counter()
        self.left -= seen
        kept = (self.tail + data)[-(len(MARK) - 1):]
        self.tail = kept if not kept.endswith(MARK) else b""
        if self.left <= 0 and not self.done.done():
            self.done.set_result(time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"client {self.number} was lost, {self.left} ticks to come: {exc}"))


def ticks_per_second(kind: str, count: int, clients: int = CLIENTS) -> float:
    """Return the ticks delivered per second, to all clients together."""

    async def story(port: int) -> float:
        loop, listeners = asyncio.get_running_loop(), []
        for number in range(1, clients + 1):
            ask = b"go"
            if kind == "ticks":
                contract = [265598, "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", ""]
                ask = HELLO + encode(71, 2, number, "") + encode(97, 1, *contract, "Last", 0, 0)
            _, listener = await loop.create_connection(
                lambda number=number, ask=ask: Listener(number, count, ask), "127.0.0.1", port)
            listeners.append(listener)
        ends = await asyncio.wait_for(asyncio.gather(*(each.done for each in listeners)), DEADLINE_S)
        return clients * count / (max(ends) - min(each.first for each in listeners))

    with peer(kind, count, clients) as port:
        return asyncio.run(story(port))


# memory --------------------------------------------------------------------------------------------------------------

def million(count: int, tell: Callable[[int, float, int], None], settings: GatewaySettings | None = None) -> None:
    """Send so many orders of every fate through one session, in memory; tell (orders, seconds, resident bytes)."""
    now = 1_760_000_000_000_000_000
    gateway = Gateway(settings or GatewaySettings(), now_ns=now)
    contract = gateway.contracts.named("AAPL")
    assert contract is not None
    gateway.set_quote(contract, now, bid=Decimal("99.99"), ask=Decimal("100.01"))
    session = gateway.connect(now)
    session.receive(HELLO + encode(71, 2, 1, ""), now)
    gc.collect()
    began, steps = time.perf_counter(), max(1, count // 10)
    for number in range(1, count + 1):
        way, now = number % 10, now + 1_000_000
        if way < 6:             # traded at once, both ways
            data = order(number)
        elif way < 8:           # rests in a group, then is cancelled with it
            data = encode(*place(number, lmt="90", ref=f"bench.{number}", group=f"g.{number // 10}", tif="GTC"))
            data += encode(4, 1, number, "") if way == 7 else b""
        elif way == 8:          # refused
            data = encode(*place(number, lmt="0.001", ref=f"bench.{number}"))
        else:                   # rests, is amended, is cancelled
            rests = place(number, lmt="90", ref=f"bench.{number}")
            data = encode(*rests) + encode(*place(number, lmt="91", ref=f"bench.{number}")) + encode(4, 1, number, "")
        session.receive(data, now)
        session.take()
        if number % steps == 0:
            tell(number, time.perf_counter() - began, machine.resident_bytes())
    assert not session.closing
    assert not gateway.exchange.orders, "every order has come to its end"


# together ------------------------------------------------------------------------------------------------------------

def run(say: machine.Say, quick: bool = False) -> None:
    rounds, scale = (1, 20) if quick else (5, 1)
    _orders(say, rounds, 10_000 // scale)
    _latency(say, rounds, 2_000 // scale)
    _ticks(say, rounds, 40_000 // scale)
    _memory(say, 1_000 if quick else 1_000_000)


def _orders(say: machine.Say, rounds: int, count: int) -> None:
    ours, messages, echo, library = [], [], [], []
    for _ in range(rounds):
        speed, frames = orders_per_second("gateway", count)
        ours.append(speed)
        messages.append(frames)
        echo.append(orders_per_second("echo", count)[0])
        library.append(orders_per_second_of_ib_insync(max(50, count // 10)))
    base = machine.median(echo)
    say(f"  market orders over TCP, {WINDOW} under way, every ack, fill and commission delivered; {count} each time")
    machine.table(say, ["", "orders per second (least and most)", "over the echo"], [
        ["gateway, raw asyncio client", machine.spread(ours), f"{machine.median(ours) / base:.3f}"],
        ["gateway, ib_insync client", machine.spread(library), f"{machine.median(library) / base:.3f}"],
        ["bare asyncio echo", machine.spread(echo), "1"]])
    say(f"  the gateway wrote {machine.median(messages):,.0f} messages per second to the raw client")


def _latency(say: machine.Say, rounds: int, count: int) -> None:
    figures: dict[str, list[list[float]]] = {"gateway": [], "echo": []}
    for _ in range(rounds):
        for kind, found in figures.items():
            found.append(ack_microseconds(kind, count))
    say(f"  placeOrder to its first orderStatus, one at a time, us; {count} each time")
    halves = {kind: machine.median([each[len(each) // 2] for each in found]) for kind, found in figures.items()}
    machine.table(say, ["", "p50", "p99", "p50 over the echo"], [
        [kind, f"{halves[kind]:,.0f}", f"{machine.median([each[len(each) * 99 // 100] for each in found]):,.0f}",
         f"{halves[kind] / halves['echo']:.2f}"] for kind, found in figures.items()])


def _ticks(say: machine.Say, rounds: int, count: int) -> None:
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(ticks_per_second("ticks", count))
        bare.append(ticks_per_second("source", count))
    say(f"  tick-by-tick prints to {CLIENTS} clients; {count} to each of them each time")
    machine.table(say, ["", "ticks delivered per second (least and most)", "over the bare server"], [
        ["gateway", machine.spread(ours), f"{machine.median(ours) / machine.median(bare):.3f}"],
        ["bare asyncio server, frames made beforehand", machine.spread(bare), "1"]])


def _memory(say: machine.Say, count: int) -> None:
    marks: list[tuple[int, float, int]] = []
    million(count, lambda *mark: marks.append(mark))
    say("  one process without a socket: filled, refused, cancelled in groups, amended")
    machine.table(say, ["orders", "resident MB", "orders per second so far"], [
        [f"{orders:,}", f"{resident / 1e6:,.0f}", f"{orders / seconds:,.0f}"] for orders, seconds, resident in marks])
    early, late = marks[len(marks) // 10][2], marks[-1][2]
    say(f"  resident at the end over that at {marks[len(marks) // 10][0]:,} orders: {late / early:.2f}")


if __name__ == "__main__":
    run(print)
