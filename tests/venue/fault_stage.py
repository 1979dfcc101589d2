"""A stage for faults: a gateway, the real ib_insync on it, and what both have seen.

Law: every message that the client decodes is kept as fields; a test waits for conditions, and asks `calm` when it wants
to know that nothing more comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

import ib_insync
import pytest

from actors.venue.simulator.faults.reading import read_fault
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.server import GatewayServer
from tests.venue.gateway_fixture import gateway_server, run, until

ACCOUNT = "DU1000001"


class Stage:
    """One gateway and one client, which may come and go."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server
        self.ib = ib_insync.IB()
        self.heard: list[list[str]] = []
        self.pieces: list[int] = []
        self.aapl = ib_insync.Stock("AAPL", "SMART", "USD")

    async def connect(self, client_id: int = 1, timeout: float = 10) -> None:
        """Connect a fresh client; what an earlier one heard is forgotten."""
        self.ib = ib_insync.IB()
        self.heard, self.pieces = [], []
        client = self.ib.client
        client.MaxRequests = 0
        decode = client.decoder.interpret

        def spy(fields: list[str]) -> None:
            self.heard.append(list(fields))
            decode(fields)

        client.decoder.interpret = spy
        client.conn.hasData += lambda data: self.pieces.append(len(data))
        await self.ib.connectAsync("127.0.0.1", self.server.port, clientId=client_id, timeout=timeout)
        await self.ib.qualifyContractsAsync(self.aapl)

    def fault(self, text: str) -> int:
        """Set a fault, as the command line spells it."""
        n = self.server.gateway.faults.add(read_fault(text), self.server.now_ns())
        self.server.turn()
        return n

    @contextmanager
    def standing(self) -> Iterator[Callable[[float], None]]:
        """Let the gateway's clock stand: however busy the machine is, what is due later comes after this block.

        What it yields sets the clock forward by so many seconds.
        """
        flowing, stood_ns = self.server.now_ns, self.server.now_ns()

        def forward(seconds: float) -> None:
            nonlocal stood_ns
            stood_ns += int(seconds * 10**9)
            self.server.turn()

        self.server.now_ns = lambda: stood_ns
        try:
            yield forward
        finally:
            self.server.now_ns = flowing
            self.server.turn()

    def place(self, ref: str = "one", action: str = "BUY", quantity: int = 100, price: float = 90, **more: Any) -> Any:
        order = ib_insync.LimitOrder(action, quantity, price, orderRef=ref, tif="DAY", account=ACCOUNT, **more)
        return self.ib.placeOrder(self.aapl, order)

    async def working(self, ref: str = "one", **terms: Any) -> Any:
        trade = self.place(ref, **terms)
        await until(lambda: trade.orderStatus.status == "Submitted", f"{ref} to work")
        return trade

    def order(self, ref: str = "one") -> Any:
        """Return the exchange's own order, or None."""
        found = self.server.gateway.exchange.matching(ref)
        return found[0] if found else None

    def fill(self, ref: str = "one", quantity: int | None = None) -> None:
        gateway, now = self.server.gateway, self.server.now_ns()
        order = self.order(ref)
        shares = order.remaining if quantity is None else Decimal(quantity)
        gateway.deliver(gateway.exchange.fill(order, shares, order.lmt, now), now)
        self.server.turn()

    def market(self, price: str) -> None:
        gateway, now, last = self.server.gateway, self.server.now_ns(), Decimal(price)
        contract = gateway.contracts.named("AAPL")
        assert contract is not None
        gateway.set_quote(contract, now, bid=last, ask=last, match=False)
        gateway.trade(contract, Trade(last, Decimal(100), now), now)
        self.server.turn()

    async def calm(self) -> None:
        """Wait until a question has gone there and its answer back: what was said before it has been heard."""
        await asyncio.wait_for(self.ib.reqCurrentTimeAsync(), 10)

    async def gone(self) -> None:
        """Wait until the client knows that it is disconnected, and the gateway as well."""
        await until(lambda: not self.ib.isConnected(), "the client to notice")
        await until(lambda: not self.server.gateway.by_client, "the gateway to forget it")

    def said(self, *ids: int | str, order_id: int | None = None) -> list[str]:
        """Return what was heard of these messages as `5 Submitted`, `3 Filled`, `11`, `59`, `4 201`, in order."""
        found = []
        for f in self.heard:
            if f[0] not in {str(each) for each in ids or (3, 4, 5, 11, 59)}:
                continue
            about = {"3": 1, "5": 1, "11": 2, "4": 2}.get(f[0])
            if order_id is not None and (about is None or f[about] != str(order_id)):
                continue
            if f[0] == "4" and f[2] == "-1" and order_id is None and 4 not in ids:
                continue
            found.append(f"{f[0]} {f[2]}" if f[0] == "3" else f"4 {f[3]}" if f[0] == "4" else
                         f"5 {_status_in(f)}" if f[0] == "5" else f[0])
        return found

    def codes(self) -> list[int]:
        """Return the codes of every error message that was heard."""
        return [int(f[3]) for f in self.heard if f[0] == "4"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return list(self.server.gateway.journal.lines or ())

    def acted(self, name: str) -> list[dict[str, Any]]:
        """Return the journal's lines of what a fault did."""
        return [line for line in self.lines if line["msg"] == "fault" and line["fault"] == name]


STATUSES = ("PendingSubmit", "PreSubmitted", "Submitted", "Filled", "Cancelled", "Inactive", "PendingCancel")


def _status_in(fields: list[str]) -> str:
    return next((f for f in fields if f in STATUSES), "?")


@asynccontextmanager
async def stage(*faults: str, connected: bool = True, **settings: Any) -> AsyncIterator[Stage]:
    """Open a gateway with faults from the start, and connect a client to it."""
    async with gateway_server(faults=[read_fault(text) for text in faults], **settings) as server:
        made = Stage(server)
        try:
            if connected:
                await made.connect()
            yield made
        finally:
            made.ib.disconnect()


class Stories:
    """Stories of faults: each has its faults, and shows of them what the client and the journal saw."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.kinds: set[str] = set()

    def tell(self, *faults: str, kind: str = "", early: bool = False, connected: bool = True) -> Callable[[Any], Any]:
        """Register a story. Its faults are set when the client has connected, or (early) from the start.

        A story that sets its fault itself names the `kind`.
        """
        kinds = {kind} if kind else {text.partition(":")[0] for text in faults}

        def register(story: Any) -> Any:
            self.kinds |= kinds
            self.told.append(pytest.param(story, faults, kinds, early, connected, id=story.__name__))
            return story

        return register


def play(story: Any, faults: tuple[str, ...], kinds: set[str], early: bool, connected: bool) -> None:
    """Play one story; the journal must say that each of its faults has acted."""

    async def inside() -> None:
        async with stage(*(faults if early else ()), connected=connected) as made:
            for text in () if early else faults:
                made.fault(text)
            await story(made)
            for kind in kinds:
                assert made.acted(kind), f"{kind} has acted and the journal says so"
            assert not [line for line in made.lines if line["msg"] == "gateway_fault"]

    run(inside)
