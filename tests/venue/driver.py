"""The broker's parts turned by hand: session, desk and real library on a real socket, without an actor around them.

Law: every wait has a condition and a deadline, and says in what it was disappointed.
"""

from __future__ import annotations

import asyncio
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

from actors.venue.desk import NS, Desk
from actors.venue.ib import IbVenue
from actors.venue.session import Session, State
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.server import GatewayServer, serve
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from messages.orders import OwnBracket, SubmitOrder
from messages.settings import Settings
from tests import builders

LIBRARIES = ("ib_insync", "ib_async")
DEADLINE_S = 30.0
Kind = TypeVar("Kind")


class GatewayThread:
    """A simulated gateway on a free loopback port, in a thread of its own; `do` runs a function inside it."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("walk_interval", Decimal(3600))
        self._settings = GatewaySettings(**settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.server: GatewayServer

    def __enter__(self) -> GatewayThread:
        self._thread.start()
        self.server = asyncio.run_coroutine_threadsafe(serve(self._settings), self._loop).result(DEADLINE_S)
        self.server.gateway.journal.lines = []
        return self

    def __exit__(self, *_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    @property
    def port(self) -> int:
        return self.server.port

    def do(self, work: Callable[[Gateway, int], Any]) -> Any:
        """Run work(gateway, now_ns) on the gateway's thread, then let it write what there is to say."""

        async def inside() -> Any:
            found = work(self.server.gateway, self.server.now_ns())
            self.server.turn()
            return found

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(DEADLINE_S)

    def fill(self, order_ref: str, quantity: int, price: str) -> None:
        def work(gateway: Gateway, now: int) -> None:
            order = gateway.exchange.matching(order_ref)[0]
            gateway.deliver(gateway.exchange.fill(order, Decimal(quantity), Decimal(price), now), now)

        self.do(work)

    def drop_clients(self) -> None:
        """Cut every connection, as a network does."""
        self.do(lambda gateway, now: [c.transport.abort() for c in self.server.connections.values() if c.transport])

    def say(self, *fields: object) -> None:
        """Send one message to every client."""
        from actors.venue.simulator.wire import encode

        def work(gateway: Gateway, now: int) -> None:
            for connection in self.server.connections.values():
                if connection.transport is not None:
                    connection.transport.write(encode(*fields))

        self.do(work)

    def orders(self, pattern: str = "*") -> list[Any]:
        return self.do(lambda gateway, now: list(gateway.exchange.matching(pattern)))

    def placed(self) -> list[str]:
        """Return the orderRef of every placeOrder that reached the gateway, in order."""
        return [line["orderRef"] for line in self.heard("placeOrder")]

    def heard(self, message: str = "") -> list[dict[str, Any]]:
        lines = self.do(lambda gateway, now: list(gateway.journal.lines or ()))
        return [line for line in lines if line.get("dir") == "in" and (not message or line.get("msg") == message)]


def venue_settings(port: int, **changes: Any) -> Settings:
    fields = {"port": port, "request_timeout_s": 10.0, "quiescence_s": 0.05, "heartbeat_s": 5.0, **changes}
    return builders.settings(venue=fields)


class Driver:
    """Turns a session until something is true. `said` is everything that was told, in order: (to, message)."""

    def __init__(self, settings: Settings, venue: Any = None) -> None:
        self.settings = settings
        self.venue = venue if venue is not None else IbVenue(settings.venue.library)
        self.said: list[tuple[Any, Any]] = []
        self.submitted: list[SubmitOrder] = []
        self.desk = Desk(self.venue, settings, lambda to, message: self.said.append((to, message)))
        self.session = Session(self.desk)

    def now(self) -> int:
        return time.time_ns()

    def start(self) -> Driver:
        self.session.start(self.now())
        self.until(lambda: self.session.state is State.READY, "the gate to open")
        return self

    def turn(self, wait_s: float = 0.02) -> None:
        now = self.now()
        due = self.session.next_due(now)
        if due:
            wait_s = max(0.0, min(wait_s, (due - now) / NS))
        fds = self.venue.fds()
        if fds:
            select.select(fds, [], [], wait_s)
        else:
            time.sleep(min(wait_s, 0.005))
        now = self.now()
        events = self.venue.pump(now)
        if events:
            self.session.heard_ns = now
        for event in events:
            self.session.hear(event, now)
        self.session.on_time(self.now())
        self.desk.flush(self.now())

    def until(self, condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        end = time.monotonic() + deadline_s
        while not (found := condition()):
            if time.monotonic() > end:
                tail = "\n  ".join(f"{to}: {message}" for to, message in self.said[-12:])
                raise AssertionError(f"waited {deadline_s} s in vain for {what}; last said:\n  {tail}")
            self.turn()
        return found

    def heard(self, kind: type[Kind], to: Any = None) -> list[Kind]:
        return [m for where, m in self.said if isinstance(m, kind) and (to is None or where == to)]

    def await_one(self, kind: type[Kind], to: Any = None, **fields: Any) -> Kind:
        """Turn until a message of that kind, with those fields, was told; return the first."""

        def found() -> list[Kind]:
            return [m for m in self.heard(kind, to) if all(getattr(m, k) == v for k, v in fields.items())]

        self.until(found, f"{kind.__name__} {fields or ''}")
        return found()[0]

    def own(self, bracket_id: str = "B1-test", owner: Any = "owner", incarnation: int = 1, **fields: Any) -> None:
        fields = {"contract": builders.contract(), "account": DEFAULT_ACCOUNT, "entry_filled": Decimal(0),
                  "exit_filled": Decimal(0), "strategy": "Momentum_EQ", "fresh": True, **fields}
        command = OwnBracket(bracket_id=bracket_id, incarnation=incarnation, **fields)
        self.session.feeds.learn(command.contract, self.now())
        self.desk.own(command, owner, self.now())

    def submit(self, order_id: str = "B1-test.entry", **fields: Any) -> SubmitOrder:
        fields.setdefault("account", DEFAULT_ACCOUNT)
        order = builders.submit(order_id, **fields)
        self.submitted.append(order)
        self.desk.submit(order, "owner", self.now())
        return order

    def close(self) -> None:
        self.venue.close()


@contextmanager
def driver(library: str = "ib_insync", gateway: dict[str, Any] | None = None,
           **venue: Any) -> Iterator[tuple[Driver, GatewayThread]]:
    """A gateway and a session that is ready on it."""
    with GatewayThread(**(gateway or {})) as served:
        turned = Driver(venue_settings(served.port, library=library, **venue))
        try:
            yield turned.start(), served
        finally:
            turned.close()
