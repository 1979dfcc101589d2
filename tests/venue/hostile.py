"""A hostile venue in memory under virtual time: loses, delays, repeats and reorders within what IB has been seen to do.

Law: what it promises, it keeps: a write arrives within `ARRIVES_NS` or never; groups of type 2 reduce their members; an
execution is in every later snapshot. Everything else is up to the seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any

import msgspec

from actors.venue.port import (
    CommissionSeen,
    CompletedSeen,
    ErrorTold,
    ExecutionSeen,
    IdsTold,
    LinkDown,
    LinkUp,
    OrderSeen,
    OrderTicket,
    SnapshotEnded,
    StatusSeen,
    TimeTold,
    VenueEvent,
)
from messages.intent import Side

NS = 1_000_000_000
MS = 1_000_000
ARRIVES_NS = 400 * MS
ACCOUNT = "DU1"


@dataclass(slots=True, eq=False)
class FakeOrder:
    venue_order_id: int
    perm_id: int
    ticket: OrderTicket
    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None
    status: str = "Submitted"
    filled: Decimal = Decimal(0)

    @property
    def live(self) -> bool:
        return self.status == "Submitted"


@dataclass(slots=True)
class Wires:
    """What is on its way: to us and from us, each with its time."""

    inbound: list[tuple[int, int, VenueEvent]] = field(default_factory=list)
    outbound: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)


class HostileVenue:
    """The Venue of port.py, and the exchange behind it."""

    def __init__(self, random: Random, clock: Callable[[], int]) -> None:
        self.random, self.clock = random, clock
        self.closing: Any = lambda fd: None
        self.connected = False
        self.unsent_bytes = 0
        self.next_id = 1
        self.orders: list[FakeOrder] = []
        self.executions: list[ExecutionSeen] = []
        self.arrivals: list[str] = []
        self.wires = Wires()
        self.seq = count(1)
        self.session_id = 0
        self.last_state_ns = 0

    # -- the connection ----------------------------------------------------------------------------------------

    def connect(self, host: str, port: int, client_id: int) -> None:
        self.disconnect()
        if self.random.random() < 0.2:
            self.tell(LinkDown("refused", 326 if self.random.random() < 0.5 else 0), 50 * MS)
        else:
            self.connected = True
            self.session_id += 1
            self.tell(LinkUp((ACCOUNT,), 176), 5 * MS)

    def disconnect(self) -> None:
        self.connected = False
        self.wires.inbound.clear()

    close = disconnect

    def cut(self) -> None:
        """The connection breaks: what was on its way to us is lost; what we wrote arrives or not."""
        if not self.connected:
            return
        self.wires.outbound = [each for each in self.wires.outbound if self.random.random() < 0.5]
        heapq.heapify(self.wires.outbound)
        self.disconnect()
        self.tell(LinkDown("cut"), 0)

    def fds(self) -> list[int]:
        return []

    def tell(self, event: VenueEvent, after_ns: int | None = None) -> None:
        """Put an event on the wire. States keep their order; executions and fees may come before or after them."""
        when = self.clock() + (self.random.randrange(40 * MS) if after_ns is None else after_ns)
        if not isinstance(event, ExecutionSeen | CommissionSeen):
            when = self.last_state_ns = max(when, self.last_state_ns)
        heapq.heappush(self.wires.inbound, (when, next(self.seq), event))

    def pump(self, now_ns: int) -> list[VenueEvent]:
        while self.wires.outbound and self.wires.outbound[0][0] <= now_ns:
            heapq.heappop(self.wires.outbound)[2]()
        found = []
        while self.wires.inbound and self.wires.inbound[0][0] <= now_ns:
            found.append(heapq.heappop(self.wires.inbound)[2])
        return found

    def next_due(self) -> int:
        return min([wire[0][0] for wire in (self.wires.inbound, self.wires.outbound) if wire], default=0)

    def _send(self, work: Callable[[], None]) -> None:
        if not self.connected:
            raise ConnectionError("not connected")
        when = self.clock() + self.random.choice((1 * MS, 5 * MS, self.random.randrange(ARRIVES_NS)))
        last = max((each[0] for each in self.wires.outbound), default=0)
        heapq.heappush(self.wires.outbound, (max(when, last), next(self.seq), work))  # one socket keeps its order

    # -- orders ------------------------------------------------------------------------------------------------

    def raise_id(self, at_least: int) -> None:
        self.next_id = max(self.next_id, at_least)

    def place(self, ticket: OrderTicket) -> int:
        order_id = self.next_id
        self.next_id += 1
        self._send(lambda: self._arrive(order_id, ticket))
        return order_id

    def _arrive(self, order_id: int, ticket: OrderTicket) -> None:
        group = [o for o in self.orders if ticket.oca_group and o.ticket.oca_group == ticket.oca_group]
        if any(o.status == "Filled" for o in group):
            self.tell(ErrorTold(order_id, 201, "OCA group is already filled"))
            return
        order = FakeOrder(order_id, 10_000 + len(self.orders), ticket, ticket.quantity, ticket.limit_price,
                          ticket.stop_price)
        refused = self.random.random()
        if refused < 0.03:
            self.tell(ErrorTold(order_id, 110, "price does not conform"))
        elif refused < 0.06:
            self.tell(ErrorTold(order_id, 201, "Order rejected - reason:x"))
            if self.random.random() < 0.5:
                self.orders.append(order)
                order.status = "Inactive"
                self._status(order)
        else:
            self.arrivals.append(ticket.order_ref)
            self.orders.append(order)
            self._show(order)
            if refused < 0.12:
                self.tell(ErrorTold(order_id, self.random.choice((103, 201, 321, 399, 10349, 7777)), "noise"))

    def amend(self, venue_order_id: int, ticket: OrderTicket) -> None:
        def work() -> None:
            order = self._by_id(venue_order_id)
            if order is None or not order.live or ticket.quantity <= order.filled:
                self.tell(ErrorTold(venue_order_id, 104, "cannot modify"))
                return
            order.quantity, order.limit, order.stop = ticket.quantity, ticket.limit_price, ticket.stop_price
            self._show(order)

        self._send(work)

    def cancel(self, venue_order_id: int) -> None:
        def work() -> None:
            order = self._by_id(venue_order_id)
            if order is None or not order.live:
                self.tell(ErrorTold(venue_order_id, 10148, "cannot be cancelled"))
                return
            for member in self._group(order):
                self._end(member)

        self._send(work)

    def _by_id(self, venue_order_id: int) -> FakeOrder | None:
        return next((o for o in self.orders if o.venue_order_id == venue_order_id), None)

    def _group(self, order: FakeOrder) -> list[FakeOrder]:
        name = order.ticket.oca_group
        return [o for o in self.orders if o.live and (o is order or (name and o.ticket.oca_group == name))]

    def _end(self, order: FakeOrder) -> None:
        order.status = "Cancelled"
        self._status(order)
        if self.random.random() < 0.7:
            self.tell(ErrorTold(order.venue_order_id, 202, "Order Canceled - reason:"))

    def fill(self, order: FakeOrder, quantity: Decimal) -> None:
        """Fill a living order, cut its group, and report it in any of the ways that IB has."""
        quantity = min(quantity, order.quantity - order.filled)
        order.filled += quantity
        if order.filled == order.quantity:
            order.status = "Filled"
        execution = ExecutionSeen(
            f"e.{len(self.executions)}.01", 1, True, order.venue_order_id, 1, order.perm_id, order.ticket.order_ref,
            ACCOUNT, 265598, "AAPL", "STK", order.ticket.side.venue_side, quantity, Decimal(100), order.filled,
            self.clock())
        self.executions.append(execution)
        if self.random.random() < 0.5:
            self._status(order)
        for _ in range(self.random.choice((1, 1, 2))):
            self.tell(execution)
        if self.random.random() < 0.8:
            self.tell(CommissionSeen(execution.exec_id, 1, Decimal(1), "USD", None))
        self._status(order)
        for member in self._group(order):
            if member is not order:
                member.quantity -= quantity
                if order.status == "Filled" or member.quantity <= member.filled:
                    member.quantity = max(member.quantity, member.filled)
                    self._end(member)
                else:
                    self._show(member)

    def end_unasked(self, order: FakeOrder) -> None:
        """A person cancels it: the whole group goes (trading-rules.md 2)."""
        for member in self._group(order):
            self._end(member)

    def restate(self) -> None:
        """Correct or bust an execution of an entry: the same id, the next revision."""
        number = self.random.randrange(len(self.executions))
        old = self.executions[number]
        if old.order_ref.endswith("entry") or old.revision > 1:
            return
        new = msgspec.structs.replace(old, revision=2, price=Decimal(101), live=True)
        self.executions[number] = new
        self.tell(new)

    def lose_ib(self) -> None:
        """1100, and some time later 1101 or 1102."""
        self.tell(ErrorTold(-1, 1100, "lost"))
        self.tell(ErrorTold(-1, self.random.choice((1101, 1102)), "restored"), self.random.randrange(3 * NS))

    def seen(self, order: FakeOrder) -> OrderSeen:
        t = order.ticket
        return OrderSeen(order.venue_order_id, 1, order.perm_id, t.order_ref, ACCOUNT, 265598, "AAPL",
                         Side(t.side.venue_side), t.order_type.value, order.quantity, order.limit, order.stop,
                         t.oca_group or "", order.status, t.time_in_force.value)

    def _show(self, order: FakeOrder) -> None:
        after = self.random.randrange(40 * MS)
        self.tell(self.seen(order), after)
        if self.random.random() < 0.5:
            self._status(order, after)

    def _status(self, order: FakeOrder, after_ns: int | None = None) -> None:
        told = StatusSeen(order.venue_order_id, 1, order.perm_id, order.status, order.filled,
                          order.quantity - order.filled, "")
        after = self.random.randrange(40 * MS) if after_ns is None else after_ns
        for _ in range(self.random.choice((1, 1, 3))):
            self.tell(told, after)

    # -- questions ---------------------------------------------------------------------------------------------

    def _answer(self, kind: str, events: Callable[[], list[VenueEvent]], may_hang: bool = False) -> None:
        def work() -> None:
            after = self.random.randrange(30 * MS)
            for event in events():
                self.tell(event, after)
            if not (may_hang and self.random.random() < 0.1):
                self.tell(SnapshotEnded(kind), after)

        self._send(work)

    def ask_time(self) -> None:
        self._send(lambda: self.tell(TimeTold(self.clock() // NS)))

    def ask_ids(self) -> None:
        self._send(lambda: self.tell(IdsTold(self.random.choice((1, len(self.orders) + 1)))))  # it may go back

    def ask_open_orders(self) -> None:
        self._answer("open_orders", lambda: [self.seen(o) for o in self.orders if o.live], may_hang=True)

    def ask_completed_orders(self) -> None:
        self._answer("completed_orders", lambda: [
            CompletedSeen(o.perm_id, o.ticket.order_ref, ACCOUNT, 265598, o.ticket.side.venue_side, o.quantity, None,
                          None, "", o.status, "") for o in self.orders if not o.live], may_hang=True)

    def ask_executions(self) -> None:
        self._answer("executions", lambda: [msgspec.structs.replace(e, live=False) for e in self.executions],
                     may_hang=True)

    def ask_positions(self) -> None:
        self._answer("positions", list)

    def ask_account(self, account: str) -> None:
        self._answer("account", list)

    def ask_contract(self, instrument: str) -> int:
        self.next_id += 1
        return self.next_id - 1

    def ask_rule(self, rule_id: int) -> None: ...

    def subscribe(self, contract: Any, feed: Any) -> tuple[int, ...]:
        return ()

    def unsubscribe(self, contract: Any, feed: Any) -> None: ...
