"""The whole gateway and its clients in one thread on virtual time: the same server, session, exchange and codec.

    with InProcess(GatewaySettings(scenario="target", seed=7)) as world:
        reader, writer = world.run(asyncio.open_connection(world.host, world.port))
        ...
        world.advance(3600)

A client needs nothing special but asyncio: whatever opens its connection with the loop's `create_connection` (ib_insync
and ib_async do; tests/venue/in_process_ib.py adds their clocks) talks to the real GatewayServer over virtual.py's
network. An hour in which little happens takes a moment; a wait that nothing can end raises Stuck at once.

Law: one seed is one play, that of the settings: prices and the wire both draw from it. The journals of two runs of the
same settings and calls are equal byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from actors.venue.simulator.contracts import PENNY
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Line
from actors.venue.simulator.server import LOOPBACK, GatewayServer, serve
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.virtual import NS, Latency, Network, VirtualLoop

START_NS = 1_767_623_400_000_000_000
"""Monday 2026-01-05, 09:30 New York: a market that has just opened."""
HUNDRED = Decimal(100)
T = TypeVar("T")


class InProcess:
    """A served gateway and the loop that its clients live on. Use it as a context manager, from one thread."""

    host = LOOPBACK

    def __init__(self, settings: GatewaySettings | None = None, *, latency: Latency | None = None,
                 start_ns: int = START_NS) -> None:
        self.settings = settings or GatewaySettings()
        self.loop = VirtualLoop(start_ns, self.settings.seed, latency)
        self.server: GatewayServer
        self._wrong: list[BaseException] = []

    def __enter__(self) -> InProcess:
        self.loop.set_exception_handler(self._note)
        asyncio.set_event_loop(self.loop)
        try:
            self.server = self.loop.run_until_complete(serve(self.settings, lambda: self.now_ns, keep_journal=True))
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self._leave()
        if kind is None:
            self._complain()

    async def _end(self) -> None:
        await self.server.stop()
        await self.loop.settle()
        for task in asyncio.all_tasks(self.loop) - {asyncio.current_task()}:
            task.cancel()
        await self.loop.idle()

    def _leave(self) -> None:
        asyncio.set_event_loop(None)
        self.loop.close()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._wrong.append(context.get("exception") or RuntimeError(str(context.get("message"))))

    def _complain(self) -> None:
        """Raise what a callback or a forgotten task has raised: nothing goes unheard."""
        wrong, self._wrong = self._wrong, []
        if wrong:
            raise wrong[0]

    # time ----------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        return self.loop.now_ns

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run until it is done, however long that is on the virtual clock; raises Stuck if that can never be."""
        found = self.loop.run_until_complete(awaitable)
        self._complain()
        return found

    def advance(self, seconds: float) -> None:
        """Let time pass; everything that is due meanwhile happens at its own time."""
        self.run(asyncio.sleep(seconds))

    def settle(self) -> None:
        """Let happen what happens without another timer: every byte arrives and is answered."""
        self.run(self.loop.settle())

    def until(self, condition: Callable[[], T], what: str, seconds: float = 60) -> T:
        """Let time pass until something holds, and return it; fail by name after so many virtual seconds."""
        return self.run(self._until(condition, what, seconds))

    async def _until(self, condition: Callable[[], T], what: str, seconds: float) -> T:
        end_ns = self.now_ns + int(seconds * NS)
        alarm = self.loop.at_ns(end_ns, lambda: None)
        await self.loop.idle()
        while not (found := condition()):
            if self.now_ns >= end_ns:
                raise AssertionError(f"waited {seconds} virtual seconds in vain for: {what}")
            await self.loop.idle(later=True)
        alarm.cancel()
        return found

    # the gateway -----------------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> Gateway:
        return self.server.gateway

    @property
    def network(self) -> Network:
        """The wire: cut it, hold one of its links, or refuse new ones."""
        return self.loop.network

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def lines(self) -> list[Line]:
        """The journal so far."""
        return self.gateway.journal.lines or []

    def journal_bytes(self) -> bytes:
        """Return the journal as its file would be."""
        return b"".join(msgspec.json.encode(line) + b"\n" for line in self.lines)

    def do(self, work: Callable[[Gateway, int], T]) -> T:
        """Do something inside the gateway, then let it say what there is to say."""
        found = work(self.gateway, self.now_ns)
        self.run(self._turn())
        return found

    async def _turn(self) -> None:
        self.server.turn()

    def price(self, symbol: str, last: Decimal | str, bid: Decimal | str | None = None,
              ask: Decimal | str | None = None) -> None:
        """Show a price and match; bid and ask lie one cent around it unless they are given."""
        self.do(lambda gateway, now: show_price(gateway, now, symbol, last, bid, ask))

    def fill(self, order_ref: str, quantity: int | Decimal, price: Decimal | str) -> None:
        """Trade the first order whose orderRef fits, outside the book."""
        def work(gateway: Gateway, now: int) -> None:
            order = gateway.exchange.matching(order_ref)[0]
            gateway.deliver(gateway.exchange.fill(order, Decimal(quantity), Decimal(price), gateway.exchange_ns(now)),
                            now)
        self.do(work)


def show_price(gateway: Gateway, now_ns: int, symbol: str, last: Decimal | str, bid: Decimal | str | None = None,
               ask: Decimal | str | None = None) -> None:
    """Print one trade of a hundred shares in the middle of its quote, as one event: matching comes after both."""
    contract, price = gateway.contracts.named(symbol), Decimal(last)
    assert contract is not None, f"{symbol} is not known to this gateway"
    gateway.set_quote(contract, now_ns, bid=price - PENNY if bid is None else Decimal(bid),
                      ask=price + PENNY if ask is None else Decimal(ask), match=False)
    gateway.trade(contract, Trade(price, HUNDRED, gateway.exchange_ns(now_ns)), now_ns)
