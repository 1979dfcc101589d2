"""Builders for tests that need a simulated gateway: the bare exchange, a raw client in memory, a server, a process.

Law: no fixed ports, no fixed waits; everything that waits has a deadline and says what it waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import ContractBook
from actors.venue.simulator.exchange import Exchange
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.orders import ExchangeRules, Order
from actors.venue.simulator.reports import (
    BoundReport,
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    Report,
    StatusReport,
)
from actors.venue.simulator.server import GatewayServer, serve
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from actors.venue.simulator.wire import FrameBuffer, encode, frame, split

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
START_NS = 1_760_000_000_000_000_000        # 2025-10-09 08:53:20 UTC
NS = 1_000_000_000


class Venue:
    """A bare exchange with one symbol, told in few words. Time stands still unless a test moves `now`."""

    def __init__(self, symbol: str = "AAPL", **rules: Any) -> None:
        contracts = ContractBook()
        self.exchange = Exchange(contracts, itertools.count(1), (f"e.{n}.01" for n in itertools.count(1)),
                                 ExchangeRules(**rules))
        contract = contracts.named(symbol)
        assert contract is not None
        self.contract = contract
        self.now = START_NS
        self.heard: list[Report] = []
        self._ids = itertools.count(1)

    def order(self, action: str = "BUY", quantity: Any = 100, order_type: str = "LMT", lmt: Any = None, aux: Any = None,
              order_id: int | None = None, **more: Any) -> Order:
        """Build an order without sending it."""
        return Order(client_id=more.pop("client_id", 1), order_id=order_id or next(self._ids),
                     contract=more.pop("contract", self.contract), action=action, total=Decimal(str(quantity)),
                     order_type=order_type, account=more.pop("account", DEFAULT_ACCOUNT),
                     lmt=None if lmt is None else Decimal(str(lmt)), aux=None if aux is None else Decimal(str(aux)),
                     **more)

    def send(self, order: Order) -> Order:
        self.hear(self.exchange.place(order, self.now))
        return self.exchange.orders.get(order.key) or self.exchange.done.get(order.key) or order

    def place(self, *args: Any, **more: Any) -> Order:
        return self.send(self.order(*args, **more))

    def amend(self, order: Order, **changes: Any) -> Order:
        """Send the same order again with changes, as a client does."""
        return self.send(msgspec.structs.replace(order, **changes))

    def cancel(self, order: Order) -> list[Report]:
        return self.hear(self.exchange.cancel(order.client_id, order.order_id, self.now))

    def trade(self, last: Any, bid: Any = None, ask: Any = None, **sizes: Any) -> list[Report]:
        """Print a last price; bid and ask follow one cent around unless given."""
        quote = self.exchange.quote_of(self.contract.con_id)
        quote.last = Decimal(str(last))
        quote.bid = quote.last - Decimal("0.01") if bid is None else Decimal(str(bid))
        quote.ask = quote.last + Decimal("0.01") if ask is None else Decimal(str(ask))
        for name, value in sizes.items():
            setattr(quote, name, Decimal(str(value)))
        return self.hear(self.exchange.market(self.contract.con_id, self.now))

    def fill(self, order: Order, quantity: Any, price: Any) -> list[Report]:
        return self.hear(self.exchange.fill(order, Decimal(str(quantity)), Decimal(str(price)), self.now))

    def hear(self, reports: list[Report]) -> list[Report]:
        self.heard += reports
        return reports

    def position(self) -> Decimal:
        held = self.exchange.accounts.positions.get((DEFAULT_ACCOUNT, self.contract.con_id))
        return held.quantity if held else Decimal(0)


def words(reports: list[Report]) -> list[str]:
    """Spell reports as `5 Submitted`, `3 Submitted`, `11`, `59`, `4 202`, the way ib-wire.md does."""
    spelled = []
    for r in reports:
        if isinstance(r, OpenReport):
            spelled.append(f"5 {r.order.status}")
        elif isinstance(r, StatusReport) and r.told:
            spelled.append(f"3 {r.order.status}")
        elif isinstance(r, BoundReport):
            spelled.append(f"100 {r.order.order_id}")
        elif isinstance(r, ErrorReport):
            spelled.append(f"4 {r.code}")
        elif isinstance(r, FillReport):
            spelled.append("11")
        elif isinstance(r, CommissionReport):
            spelled.append("59")
    return spelled


class RawClient:
    """A client without a library: it writes fields and reads fields, in memory."""

    def __init__(self, gateway: Gateway, client_id: int = 1, hello: bytes = b"v157..176", start: bool = True,
                 now: int = START_NS) -> None:
        self.gateway = gateway
        self.now = now
        self.session: Session = gateway.connect(self.now)
        self._buffer = FrameBuffer()
        self.seen: list[list[str]] = []
        if start:
            self.raw(b"API\0" + frame(hello))
            self.send(71, 2, client_id, "")

    def raw(self, data: bytes) -> list[list[str]]:
        self.session.receive(data, self.now)
        return self.read()

    def send(self, *fields: object) -> list[list[str]]:
        """Send one message and return what is answered at once."""
        return self.raw(encode(*fields))

    def read(self) -> list[list[str]]:
        self._buffer.feed(self.session.take())
        fresh = [split(p) for p in self._buffer.payloads()]
        self.seen += fresh
        return fresh


def memory_gateway(**settings: Any) -> Gateway:
    """Return a gateway without a socket whose journal is `gateway.journal.lines`."""
    settings.setdefault("walk_interval", Decimal(3600))
    return make_gateway(GatewaySettings(**settings), Journal(keep=True), START_NS)


def run(test: Callable[[], Any]) -> Any:
    """Run a coroutine function on a fresh event loop, with a deadline."""
    return asyncio.run(asyncio.wait_for(test(), 4 * DEADLINE_S))


@asynccontextmanager
async def gateway_server(**settings: Any) -> AsyncIterator[GatewayServer]:
    """Serve a gateway on a free loopback port inside this process; `server.gateway.journal.lines` is its journal."""
    settings.setdefault("walk_interval", Decimal(3600))
    server = await serve(GatewaySettings(**settings))
    server.gateway.journal.lines = []
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client_of(library: Any, server: GatewayServer, client_id: int = 1) -> AsyncIterator[Any]:
    """Connect a real client library (the module ib_insync or ib_async) and disconnect it at the end."""
    async with client_of_port(library, server.port, client_id) as ib:
        yield ib


@asynccontextmanager
async def client_of_port(library: Any, port: int, client_id: int = 1) -> AsyncIterator[Any]:
    """The same for a gateway that is a process of its own."""
    ib = library.IB()
    ib.client.MaxRequests = 0
    await ib.connectAsync("127.0.0.1", port, clientId=client_id, timeout=DEADLINE_S)
    try:
        yield ib
    finally:
        ib.disconnect()


async def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until the condition holds and return its value; fail by name after the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain for: {what}")
        await asyncio.sleep(0.005)
    return value


@contextmanager
def gateway_process(**settings: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a gateway as its own process and yield it with its port."""
    settings = {"announce": True, "die_with_parent": True, **settings}
    process = subprocess.Popen([sys.executable, "-m", "actors.venue.simulator", json.dumps(settings, default=str)],
                               cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, json.loads(line)["port"]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
