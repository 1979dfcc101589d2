"""A gateway that a test moves by hand, in this process, and a real engine on it over a real socket.

Law: many tests share one playground; each takes instruments of its own, and what it asserts is in the gateway's journal
or comes over HTTP. Whatever a test does to the market happens on the gateway's own thread.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.desks.accounts import position_changed
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal, Line, select
from actors.venue.simulator.orders import ExchangeRules, Order
from actors.venue.simulator.rolls import Refusal
from actors.venue.simulator.server import GatewayServer
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from actors.web.client import Bracketeer
from storage.reader import Reader
from tests.e2e.engines import PATIENCE_S, Process, wait_for

PENNY = Decimal("0.01")
OVER = ("CLOSED", "DETACHED", "DENIED")
Number = Decimal | int | str


class Market:
    """The gateway: prices, fills and refusals as a test wants them; `lines` is its journal."""

    def __init__(self, replay: dict[str, Any] | None = None, **rules: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self.journal = Journal(keep=True)
        driven: dict[str, Any] = replay or {"walk_interval": Decimal(86_400), "journal_ticks": True}
        settings = GatewaySettings(rules=ExchangeRules(**rules), **driven)
        self.gateway: Gateway = make_gateway(settings, self.journal, time.time_ns())
        self.server = GatewayServer(self.gateway)
        self._conids = count(900_001)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(PATIENCE_S)

    def _run(self) -> None:
        self._loop.run_until_complete(self.server.start())
        self._started.set()
        self._loop.run_forever()

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(PATIENCE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_S)
            self._loop.close()

    @property
    def lines(self) -> list[Line]:
        return list(self.journal.lines or ())

    def do(self, act: Callable[[int], Any]) -> Any:
        """Do something on the gateway's thread (it gets the time) and let it be told."""

        async def now() -> Any:
            found = act(time.time_ns())
            self.server.turn()
            return found

        return asyncio.run_coroutine_threadsafe(now(), self._loop).result(PATIENCE_S)

    # -- what a test may do ------------------------------------------------------------------------------------

    def list(self, symbol: str, last: Number = 101, position: int = 0) -> str:
        """Begin to trade an instrument; the account may hold some of it already."""
        contract = Contract(con_id=next(self._conids), symbol=symbol, trading_class="NMS")
        self.do(lambda now: self.gateway.contracts.add(contract))
        if position:
            self.hold(symbol, position)
        self.price(symbol, last)
        return symbol

    def hold(self, symbol: str, position: int) -> None:
        """Let the account hold some of an instrument, bought elsewhere at 100."""
        contract = self.gateway.contracts.named(symbol)
        assert contract is not None

        def act(now: int) -> None:
            self.gateway.open_position(DEFAULT_ACCOUNT, contract, Decimal(position), Decimal(100), now)
            held = self.gateway.exchange.accounts.positions[DEFAULT_ACCOUNT, contract.con_id]
            for session in self.gateway.by_client.values():
                position_changed(session, held, now)

        self.do(act)

    def price(self, symbol: str, last: Number, bid: Number | None = None, ask: Number | None = None) -> None:
        """Show a quote around a price, print the price, and match."""
        self.prices(symbol, [last], bid, ask)

    def prices(self, symbol: str, lasts: Any, bid: Number | None = None, ask: Number | None = None) -> None:
        contract = self.gateway.contracts.named(symbol)
        assert contract is not None

        def act(now: int) -> None:
            for number, each in enumerate(lasts):
                last = Decimal(each)
                low = last - PENNY if bid is None else Decimal(bid)
                high = last + PENNY if ask is None else Decimal(ask)
                self.gateway.set_quote(contract, now + number, bid=low, ask=high, match=False)
                self.gateway.trade(contract, Trade(last, Decimal(100), now + number), now + number)
                self.gateway.log(now, "sim", -1, "quote", {"symbol": symbol, "last": last, "bid": low, "ask": high})

        self.do(act)

    def insist(self, symbol: str, last: Number, until: Callable[[], Any]) -> None:
        """Print a price again and again, as a market does, until something has come of it.

        A print counts only if it is newer than the subscription, and its time is in whole seconds.
        """

        def again() -> Any:
            self.price(symbol, last)
            return until()

        wait_for(again, what=f"what {symbol} at {last} brings about")

    def live(self, pattern: str) -> list[Order]:
        """Return the live orders whose orderRef fits."""
        return [o for o in list(self.gateway.exchange.orders.values()) if fnmatchcase(o.order_ref, pattern)]

    def await_live(self, pattern: str, quantity: int | None = None) -> Order:
        """Wait until an order that fits works (with this quantity)."""

        def found() -> Order | None:
            fitting = [o for o in self.live(pattern) if o.status in ("Submitted", "PreSubmitted")
                       and (quantity is None or o.total == quantity)]  # fmt: skip
            return fitting[0] if fitting else None

        order: Order = wait_for(found, what=f"a live order {pattern} of {quantity}")
        return order

    def fill(self, pattern: str, quantity: Number | None = None, price: Number | None = None) -> None:
        """Trade a live order outside the book."""
        order = self.await_live(pattern)
        at = Decimal(price) if price is not None else order.lmt or order.aux or Decimal(100)
        shares = Decimal(quantity) if quantity is not None else order.remaining
        self.do(lambda now: self.gateway.deliver(self.gateway.exchange.fill(order, shares, at, now), now))

    def fill_both(self, *fills: tuple[str, Number]) -> None:
        """Trade several live orders whole, at the same instant, against every rule of their group."""
        orders = [(self.await_live(pattern), Decimal(price)) for pattern, price in fills]
        all_of = [(order, order.remaining, price) for order, price in orders]
        self.do(lambda now: self.gateway.deliver(self.gateway.exchange.fill_all(all_of, now), now))

    def cancel_by_hand(self, pattern: str) -> None:
        """Cancel as somebody does at a workstation: the engine has not asked for it."""
        order = self.await_live(pattern)
        self.do(lambda now: self.gateway.deliver(self.gateway.exchange.cancel(*order.key, now), now))

    def reject(self, pattern: str, code: int = 201) -> None:
        """Reject an order that was accepted."""
        order = self.await_live(pattern)
        self.do(lambda now: self.gateway.deliver(self.gateway.exchange.reject(order, code, "no", now), now))

    def refuse_next(self, pattern: str, code: int = 201, times: int = 1) -> None:
        """Refuse the next orders that fit."""
        self.do(lambda now: self.gateway.exchange.refusals.append(Refusal(order_ref=pattern, code=code, count=times)))

    def mute(self, *names: str) -> Callable[[], None]:
        """Stop telling client 1 messages of these names; the function returned ends it."""
        session = self.gateway.by_client[1]
        send = session.send

        def quiet(name: str, data: bytes, now_ns: int, **fields: Any) -> None:
            if name not in names:
                send(name, data, now_ns, **fields)

        session.send = quiet  # type: ignore[method-assign]
        return lambda: session.__dict__.pop("send", None)

    def drop(self) -> None:
        """Cut the connection of client 1."""

        def act(now: int) -> None:
            for connection in list(self.server.connections.values()):
                if connection.session is not None and connection.session.client_id == 1 and connection.transport:
                    connection.transport.abort()

        self.do(act)

    def go_away(self) -> None:
        """Be unreachable: nobody is connected, nobody can connect. The port is kept, so that nobody else takes it."""
        self.do(lambda now: self.server._server.close() if self.server._server is not None else None)
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", self.server.port))
        self.drop()

    def come_back(self) -> None:
        """Listen again where it listened before."""
        asyncio.run_coroutine_threadsafe(self.server.start(self.server.port), self._loop).result(PATIENCE_S)
        self._kept.close()


class Playground:
    """A market and an engine on it."""

    def __init__(self, folder: Path, *options: str, replay: dict[str, Any] | None = None, **rules: Any) -> None:
        self.folder = folder
        self.state = str(folder / "state")
        self.options = options
        self.market = Market(replay, **rules)
        self._numbers = count(1)
        self.engine: Process | None = None
        self.client: Bracketeer
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        self.engine = Process("start", "--gateway", f"127.0.0.1:{self.market.server.port}", "--state", self.state,
                              "--http", "127.0.0.1:0", "--json", *self.options)  # fmt: skip
        self.engine.event("ready")
        self.client = Bracketeer.of_state(self.state)

    def stop(self) -> None:
        try:
            if self.engine is not None and self.engine.popen.poll() is None:
                self.engine.end()
        finally:
            self.market.stop()

    @property
    def lines(self) -> list[Line]:
        return self.market.lines

    def symbol(self, last: Number = 101, position: int = 0) -> str:
        """Return an instrument that no other test knows."""
        symbol = self.market.list(f"Q{next(self._numbers):03}", last, position)
        if position:
            wait_for(lambda: self.net(symbol) == position, what=f"the engine's knowledge of {position} {symbol}")
        return symbol

    def facts(self, service: str) -> dict[str, Any]:
        """Return what a service says of itself: a status goes out without those who took longer than a second."""
        said: dict[str, Any] = wait_for(lambda: self.client.status()["services"].get(service), what=service)
        return said

    def net(self, symbol: str) -> int:
        """Return what risk takes the account's position to be."""
        contract = self.market.gateway.contracts.named(symbol)
        assert contract is not None
        facts = self.facts("risk")
        assert "net" in facts, facts          # too large for one answer: then split the module
        nets = {row["conid"]: row["quantity"] for row in facts["net"]}
        return int(Decimal(nets.get(contract.con_id, 0)))

    def intent(self, symbol: str, **changes: Any) -> dict[str, Any]:
        """Return the worked example on another instrument, with changes."""
        base: dict[str, Any] = {
            "signal_id": f"s-{symbol}-{next(self._numbers)}", "strategy": "Momentum_EQ", "instrument": symbol,
            "side": "BUY", "quantity": "100", "urgency": "Normal", "time_in_force": "DAY", "max_slippage_bps": None,
            "expiry_policy": "hold", "risk_tags": [], "order_type": "LMT", "limit_price": "100",
            "exits": [{"target": {"price": "110"}, "stop": {"price": "95"}}],
        }  # fmt: skip
        return {name: value for name, value in {**base, **changes}.items() if value is not ...}

    def submit(self, symbol: str, **changes: Any) -> str:
        return self.client.submit(self.intent(symbol, **changes)).bracket_id

    def story(self, bracket_id: str) -> dict[str, Any]:
        return self.client.bracket(bracket_id)

    def events(self) -> list[dict[str, Any]]:
        """Return what the stream tells from its beginning to what is committed by now, alerts between them."""
        with closing(Reader(f"sqlite:///{self.state}/bracketeer.db")) as reader:
            last = reader.last_seq()
        told: list[dict[str, Any]] = []
        with closing(self.client.events(timeout_s=PATIENCE_S)) as stream:
            while not told or (told[-1]["seq"] or 0) < last:
                told.append(next(stream))
        return told

    def reconnect(self) -> None:
        """Cut the engine's connection, and wait until it has found the gateway again and taken the next picture."""
        before = len(select(self.lines, "connect"))
        self.market.drop()
        wait_for(lambda: len(select(self.lines, "connect")) > before, what="another session")
        wait_for(lambda: self.client.status()["ready"], what="the next picture")

    def rows(self, bracket_id: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a bracket by leg, with every column."""
        return {row["leg"]: row for row in self.story(bracket_id)["orders"]}

    def statuses(self, bracket_id: str) -> dict[str, str]:
        return {leg: row["status"] for leg, row in self.rows(bracket_id).items()}

    def await_statuses(self, bracket_id: str, **wanted: str) -> dict[str, dict[str, Any]]:
        """Wait until the rows have these statuses and return them."""
        seen: dict[str, str] = {}

        def there() -> bool:
            seen.clear()
            seen.update(self.statuses(bracket_id))
            return all(seen.get(leg) == status for leg, status in wanted.items())

        try:
            wait_for(there)
        except AssertionError:
            raise AssertionError(f"{bracket_id}: {seen}, wanted {wanted}; {self.tail()}") from None
        return self.rows(bracket_id)

    def await_phase(self, bracket_id: str, phase: str = "CLOSED") -> dict[str, Any]:
        """Wait until the bracket is in a phase and return its story."""
        try:
            wait_for(lambda: self.story(bracket_id)["phase"] == phase)
        except AssertionError:
            story = self.story(bracket_id)
            raise AssertionError(f"{bracket_id} is {story['phase']}: {story['reason']}; {self.tail()}") from None
        return self.story(bracket_id)

    def tail(self, lines: int = 12) -> list[str]:
        """Return the end of the journal in few words, for a failing test."""
        told = [line for line in self.lines if line["msg"] not in ("reqCurrentTime", "tick", "quote")]
        names = ("dir", "msg", "orderRef", "status", "quantity", "code", "text")
        return [" ".join(str(line[name]) for name in names if name in line) for line in told[-lines:]]

    def entered(self, symbol: str, **changes: Any) -> str:
        """Submit a bracket and fill its entry; its exits work."""
        bracket_id = self.submit(symbol, **changes)
        self.market.fill(f"{bracket_id}.entry", price=changes.get("limit_price", "100"))
        return bracket_id


def armed(ground: Playground) -> dict[str, Any]:
    """Return what the market-data actor says of each instrument that somebody watches."""
    instruments = ground.facts("market_data")["instruments"]
    return {name: facts for name, facts in instruments.items() if facts["armed"]}
