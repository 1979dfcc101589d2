"""Interactive Brokers through ib_insync or ib_async: the only import of either library.

Law: no object of the library's leaves this file, and none of its state is trusted: our Wrapper replaces what it would
keep, our Link replaces its transport, and its throttle is off. The library shakes hands, encodes requests and decodes
answers.
Law: one id counter serves orders and requests, so that an error's id says which of the two it means.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import selectors
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from actors.venue import port
from actors.venue.ib_hearing import Hearing, read_execution
from actors.venue.ib_link import Link
from actors.venue.ib_orders import MAX_ORDER_ID, OrderEncoder, Template
from actors.venue.ib_ticks import Line, TickReader
from messages.market import Feed
from messages.orders import Contract

OCC = re.compile(r"([A-Z]{1,6}) *(\d{6})([CP])(\d{8})")
TICK_FRAMES = (b"99\0", b"1\0", b"2\0", b"46\0", b"45\0")


def load_library(name: str) -> Any:
    """Import ib_insync or ib_async. An event loop is set first: eventkit asks for one on import (Python 3.14)."""
    try:
        asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        asyncio.set_event_loop(asyncio.new_event_loop())
    library = importlib.import_module(name)
    # Whatever it would log is told by events of ours, once; its own lines repeat it as errors that are none.
    logging.getLogger(name).setLevel(logging.CRITICAL)
    return library


class IbVenue:
    """The Venue of actors/venue/port.py over one library, one session at a time."""

    def __init__(self, library: str = "ib_insync", stored_max_id: int = 0) -> None:
        """`stored_max_id`: the highest venue id ever used, where somebody keeps it; ids never go back below it."""
        self.closing: Callable[[int], None] = lambda fd: None
        self._lib = load_library(library)
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._next_id = max(1, stored_max_id + 1)
        self._events: list[port.VenueEvent] = []
        self._ib: Any = None
        self._client: Any = None
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._down_code = 0
        self._encoder: OrderEncoder | None = None
        self._ticks = TickReader()
        self._lines: dict[tuple[str, Feed], tuple[int, ...]] = {}
        self._asked: dict[int, str] = {}
        self._client_class = self._make_client_class()
        self._wrapper_class = type("Wrapper", (Hearing, self._lib.wrapper.Wrapper), {})

    def _make_client_class(self) -> Any:
        client_module = importlib.import_module(f"{self._lib.__name__}.client")

        class Client(client_module.Client):  # type: ignore[name-defined,misc]
            """The library's client without its throttle: what is sent is on the socket, or an error is raised."""

            MaxRequests = 0

            def sendMsg(self, message: str) -> None:
                if message:
                    self.conn.sendMsg(self._prefix(message.encode()))

        return Client

    # -- the session -------------------------------------------------------------------------------------------

    def connect(self, host: str, port: int, client_id: int) -> None:
        self.disconnect()
        asyncio.set_event_loop(self._loop)
        self._events.clear()
        self._down_code = 0
        self._ticks = TickReader()
        self._lines.clear()
        self._asked.clear()
        ib = self._ib = self._lib.IB()
        wrapper = ib.wrapper = self._wrapper_class(ib)
        wrapper.say = self._hear
        wrapper.clientId = client_id
        client = self._client = ib.client = self._client_class(wrapper)
        link = self._link = Link(self._loop, self._lib.Event, lambda fd: self.closing(fd))
        client.conn = link
        link.hasData += client._onSocketHasData
        link.disconnected += client._onSocketDisconnected
        client.decoder.handlers[11] = lambda fields: self._hear(read_execution(fields))
        client.decoder.interpret = self._interpret
        self._task = self._loop.create_task(client.connectAsync(host, port, client_id, 0))
        self._turn()

    def disconnect(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._turn()
            if task.done() and not task.cancelled():
                task.exception()
        if self._client is not None:
            self._client.disconnect()
        self._ready = False
        self._encoder = None
        self._link = self._client = self._ib = None

    def close(self) -> None:
        """Disconnect, and give back the private loop's descriptors."""
        self.disconnect()
        if not self._loop.is_closed():
            self.closing(self._selector.fileno())
            self._loop.close()

    @property
    def connected(self) -> bool:
        return self._ready

    @property
    def version(self) -> int:
        return self._client.serverVersion() if self._client is not None else 0

    @property
    def unsent_bytes(self) -> int:
        return self._link.unsent_bytes if self._link is not None else 0

    @property
    def unread(self) -> bool:
        return self._link is not None and self._link.unread

    def fds(self) -> list[int]:
        found = []
        if self._link is not None and self._link.fd is not None:
            found.append(self._link.fd)
        if self._task is not None or self.unsent_bytes:
            found.append(self._selector.fileno())  # readable when anything in the private loop is due
        return found

    def _turn(self) -> None:
        """Turn the private loop until nothing is ready. Only the handshake and a full send buffer need it."""
        for _ in range(64):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
            if not self._loop._ready:  # type: ignore[attr-defined]
                return

    def pump(self, now_ns: int) -> list[port.VenueEvent]:
        if self._task is not None or self.unsent_bytes:
            self._turn()
        link = self._link
        if link is not None and link.fd is not None:
            try:
                ticks = self._ticks
                for payload in link.read():
                    if payload.startswith(TICK_FRAMES):
                        halted = ticks.read(payload, now_ns)
                        if halted is not None:
                            self._events.append(halted)
                    elif self._ready:
                        self._interpret(payload.decode("utf-8", "backslashreplace").split("\0")[:-1])
                    else:
                        link.hasData.emit(len(payload).to_bytes(4, "big") + payload)
            except ConnectionError as problem:
                self._lost(str(problem))
            told = self._ticks.flush(now_ns)
            if told:
                self._events.append(port.TicksTold(tuple(told)))
        if self._task is not None:
            self._turn()
            if self._task is not None and self._task.done():
                self._shaken()
        events, self._events = self._events, []
        return events

    def _shaken(self) -> None:
        task, self._task = self._task, None
        problem = task.exception() if task is not None and not task.cancelled() else None
        if problem is not None:
            self._lost(f"{type(problem).__name__}: {problem}")
            return
        self._ready = True
        self._encoder = self._learn_encoder()
        self._hear(port.LinkUp(tuple(self._client.getAccounts()), self.version))

    def _lost(self, reason: str) -> None:
        code = self._down_code
        self.disconnect()
        self._events.append(port.LinkDown(reason, code))

    def _interpret(self, fields: list[str]) -> None:
        """Dispatch one message; one that cannot be read is told, not only logged."""
        try:
            handler = self._client.decoder.handlers.get(int(fields[0]))
            if handler is not None:
                handler(fields)
        except Exception as problem:
            self._events.append(port.Garbled(f"{type(problem).__name__}: {problem} in {','.join(fields)[:200]}"))

    def _hear(self, event: port.VenueEvent) -> None:
        if isinstance(event, port.ErrorTold):
            if event.code == 326:
                self._down_code = 326
        elif isinstance(event, port.OrderSeen | port.StatusSeen | port.ExecutionSeen):
            if event.venue_order_id > 0:
                self.raise_id(event.venue_order_id + 1)
        elif isinstance(event, port.IdsTold):
            self.raise_id(event.next_id)
        elif isinstance(event, port.ContractTold):
            instrument = self._asked.get(event.request_id, event.contract.local_symbol)
            event = msgspec.structs.replace(
                event, contract=msgspec.structs.replace(event.contract, instrument=instrument))
        self._events.append(event)

    # -- ids and orders ----------------------------------------------------------------------------------------

    @property
    def next_id(self) -> int:
        return self._next_id

    def raise_id(self, at_least: int) -> None:
        self._next_id = max(self._next_id, at_least)
        if self._client is not None:
            self._client.updateReqId(self._next_id)

    def take_id(self) -> int:
        """Take the next id, in the order of sending. Raises OverflowError beyond 2^31-2."""
        found = self._next_id
        if found > MAX_ORDER_ID:
            raise OverflowError(f"venue id {found} is above 2^31-2; reset the order id sequence at the gateway")
        self._next_id = found + 1  # every request of ours names its id: the library's own counter is never asked
        return found

    def _learn_encoder(self) -> OrderEncoder:
        frames: list[str] = []
        client = self._client
        client.sendMsg = frames.append
        try:
            client.placeOrder(1, self._lib.Contract(), self._lib.Order())
        finally:
            del client.sendMsg
        return OrderEncoder(frames[0].split("\0")[:-1], self.version)

    def prepare(self, ticket: port.OrderTicket) -> Template:
        """Encode an order but for its id, quantity and prices. Dies with the session. Raises ConnectionError."""
        if self._encoder is None:
            raise ConnectionError("not connected")
        return self._encoder.prepare(ticket)

    def fire(self, template: Template, quantity: Decimal, limit_price: Decimal | None,
             stop_price: Decimal | None) -> int:
        """Stamp a template and write it: one write. Returns the venue id."""
        order_id = self.take_id()
        self._write(template.stamp(order_id, quantity, limit_price, stop_price))
        return order_id

    def holds(self, template: Template) -> bool:
        """Whether a template is of this session: another one may speak another version."""
        return template.encoder is self._encoder

    def place(self, ticket: port.OrderTicket) -> int:
        return self.fire(self.prepare(ticket), ticket.quantity, ticket.limit_price, ticket.stop_price)

    def amend(self, venue_order_id: int, ticket: port.OrderTicket) -> None:
        self._write(self.prepare(ticket).stamp(venue_order_id, ticket.quantity, ticket.limit_price,
                                               ticket.stop_price))

    def _write(self, frame: bytes) -> None:
        if self._link is None or not self._ready:
            raise ConnectionError("not connected")
        self._link.sendMsg(frame)

    def cancel(self, venue_order_id: int) -> None:
        self._client_or_raise().cancelOrder(venue_order_id)

    def _client_or_raise(self) -> Any:
        if self._client is None or not self._ready:
            raise ConnectionError("not connected")
        return self._client

    # -- questions ---------------------------------------------------------------------------------------------

    def ask_time(self) -> None:
        self._client_or_raise().reqCurrentTime()

    def ask_ids(self) -> None:
        self._client_or_raise().reqIds(1)

    def ask_open_orders(self) -> None:
        self._client_or_raise().reqAllOpenOrders()

    def ask_completed_orders(self) -> None:
        self._client_or_raise().reqCompletedOrders(False)

    def ask_executions(self) -> None:
        self._client_or_raise().reqExecutions(self.take_id(), self._lib.ExecutionFilter())

    def ask_positions(self) -> None:
        self._client_or_raise().reqPositions()

    def ask_account(self, account: str) -> None:
        self._client_or_raise().reqAccountUpdates(True, account)

    def ask_contract(self, instrument: str) -> int:
        client = self._client_or_raise()
        request = self.take_id()
        self._asked[request] = instrument
        client.reqContractDetails(request, self._question(instrument))
        return request

    def _question(self, instrument: str) -> Any:
        option = OCC.fullmatch(instrument)
        if option is None:
            return self._lib.Contract(symbol=instrument, secType="STK", exchange="SMART", currency="USD")
        symbol, day, right, strike = option.groups()
        return self._lib.Contract(
            symbol=symbol, secType="OPT", lastTradeDateOrContractMonth=f"20{day}", strike=int(strike) / 1000,
            right=right, exchange="SMART", currency="USD")

    def ask_rule(self, rule_id: int) -> None:
        self._client_or_raise().reqMarketRule(rule_id)

    # -- market data -------------------------------------------------------------------------------------------

    def subscribe(self, contract: Contract, feed: Feed) -> tuple[int, ...]:
        client = self._client_or_raise()
        key = (contract.instrument, feed)
        if key in self._lines:
            return self._lines[key]
        request = self.take_id()
        theirs = self._lib.Contract(conId=contract.conid, symbol=contract.symbol, secType=contract.sec_type,
                                    exchange=contract.exchange, currency=contract.currency)
        if feed is Feed.TICK_BY_TICK:
            # AllLast has every print, with its sale conditions; which of them may move prices is decided by ours.
            client.reqTickByTickData(request, theirs, "AllLast", 0, False)
        else:
            client.reqMktData(request, theirs, "", False, False, [])
        self._ticks.lines[str(request)] = Line(contract.instrument, feed)
        self._lines[key] = (request,)
        self._mute(contract.instrument)
        return (request,)

    def unsubscribe(self, contract: Contract, feed: Feed) -> None:
        for request in self._lines.pop((contract.instrument, feed), ()):
            self._ticks.lines.pop(str(request), None)
            if self._ready:
                if feed is Feed.TICK_BY_TICK:
                    self._client.cancelTickByTickData(request)
                else:
                    self._client.cancelMktData(request)
        self._mute(contract.instrument)

    def _mute(self, instrument: str) -> None:
        """While trades come tick by tick, the snapshot line says only quotes: no print is told twice."""
        both = (instrument, Feed.TICK_BY_TICK) in self._lines
        for request in self._lines.get((instrument, Feed.SNAPSHOT), ()):
            self._ticks.lines[str(request)].muted = both
