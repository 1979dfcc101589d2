"""Writing to the venue: the queue that can be seen, the pace, the last gate, and one frame for each decision.

Law: an order is judged by the gate at the moment of writing, not when it is asked for. What waits, waits here; "queued"
is never called "sent". Exits and cancels go before entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from actors.rules import pacing
from actors.venue.known import Books, KnownOrder, OwnedBracket, Stage
from actors.venue.port import OrderTicket, Venue
from messages.intent import OrderType
from messages.orders import (
    AmendRejected,
    OrderCommand,
    OrderDeferred,
    OrderDenied,
    OrderEchoed,
    OrderSubmitted,
    Role,
    SubmitOrder,
)
from messages.session import AlertRaised
from messages.settings import Settings

NS = 1_000_000_000
VENUE_CAP_PER_SIDE = 20
"""IB's limit of active orders per contract, side and account is documented as 15 to 20: entries stop at the lower."""
LIMITED = (OrderType.LMT, OrderType.STP_LMT)
STOPPED = (OrderType.STP, OrderType.STP_LMT)

Tell = Callable[[Any, Any], None]


class Writer:
    """Orders on their way to the venue. `tell(to, message)` sends to a service's name or to an owner's address."""

    def __init__(self, venue: Venue, settings: Settings, tell: Tell) -> None:
        self.venue = venue
        self.settings = settings
        self.tell = tell
        self.books = Books()
        self.gate_open = False
        self.closed_because = "not connected yet"
        self.client_id = settings.venue.client_id
        self.account = ""
        self.questions: dict[str, None] = {}
        """Order ids whose owners wait for the next round of questions."""
        self.broken = ""
        """Why a write failed: the session then takes the link for lost, without waiting for a read to say so."""
        self.round_wanted = False
        """Set when only the venue can say what is true: the session asks it then."""
        self.urgent: deque[tuple[str, KnownOrder]] = deque()
        self.entries: deque[tuple[str, KnownOrder]] = deque()
        self.acks: deque[tuple[int, KnownOrder]] = deque()
        self.rate = pacing.Rate(per_s=settings.venue.rate_per_s,
                                reserved_per_s=settings.venue.reserved_for_exits_per_s)
        self.bucket = pacing.full(self.rate, 0)
        self.written = 0
        self.released: deque[OwnedBracket] = deque()
        self.redeliver: Callable[[OwnedBracket, int], None] = lambda bracket, now: None
        self.timeout_ns = int(settings.venue.request_timeout_s * NS)

    # -- writing -----------------------------------------------------------------------------------------------

    def flush(self, now: int) -> int:
        """Write what may be written now. Returns ns until the next may go; 0 where nothing waits."""
        while self.urgent or self.entries:
            if not self.gate_open:
                return 0
            entry = not self.urgent
            wait = pacing.wait_ns(self.bucket, self.rate, now, entry=entry)
            if wait:
                return wait
            verb, order = (self.entries if entry else self.urgent).popleft()
            order.amend_queued &= verb != "amend"
            order.cancel_queued &= verb != "cancel"
            if self._write(verb, order, now):
                self.bucket = pacing.spend(self.bucket, self.rate, now, entry=entry)
        return 0

    def spend(self, now: int, *, entry: bool = False) -> None:
        """Count a question that was written outside the queue; `entry`: one that must leave room for exits."""
        self.bucket = pacing.spend(self.bucket, self.rate, now, entry=entry)

    def wait_ns(self, now: int) -> int:
        """Return how long a question of no urgency must wait."""
        return pacing.wait_ns(self.bucket, self.rate, now, entry=True)

    def _write(self, verb: str, order: KnownOrder, now: int) -> bool:
        if verb == "submit":
            return self._write_order(order, now)
        if verb == "amend":
            return self._write_amendment(order, now)
        return self._write_cancel(order, now)

    def _write_order(self, order: KnownOrder, now: int) -> bool:
        command = order.submit
        assert command is not None
        if order.stage is not Stage.QUEUED or self.books.orders.get(order.order_id) is not order:
            return False
        bracket = self.books.bracket(command.bracket_id)
        refusal = self._refuse(order, command, now)
        if refusal is not None:
            self.books.forget(order)
            self._deny(bracket, command, refusal[0], refusal[1], now)
            return False
        decision = bracket.book.decide(order.order_id, command.role, command.oca_group, order.quantity,
                                       reduce=command.reduce_to_open, accept_race=command.accept_race)
        if not decision.quantity:
            self.books.forget(order)
            self._deny(bracket, command, "exceeds_open", decision.reason, now)
            return False
        order.quantity = decision.quantity
        try:
            order.venue_order_id = self._place(order)
        except ConnectionError as problem:
            self.broken = str(problem)
            self.books.forget(order)
            self._answer(bracket, OrderDeferred(bracket_id=command.bracket_id, order_id=order.order_id, ts_ns=now,
                                                reason=str(problem)))
            return False
        except (OverflowError, ValueError) as problem:
            self.books.forget(order)
            self._deny(bracket, command, "venue_id", str(problem), now)
            return False
        order.client_id = self.client_id
        order.written_ns = now
        order.submit = None  # all of it that still matters is in the order
        self.written += 1
        self.books.by_venue_id[order.venue_order_id] = order
        self.books.set_stage(order, Stage.WRITTEN)
        bracket.book.placed(order.order_id, command.role, command.oca_group, order.quantity)
        self.acks.append((now + self.timeout_ns, order))
        self._answer(bracket, OrderSubmitted(
            bracket_id=command.bracket_id, order_id=order.order_id, ts_ns=now, leg=command.leg,
            quantity=order.quantity, client_id=self.client_id, venue_order_id=order.venue_order_id))
        return True

    def _place(self, order: KnownOrder) -> int:
        """Write an order: one that was prepared in this session needs only its id, quantity and prices."""
        template, order.template = order.template, None
        if template is None or not self.venue.holds(template):
            return self.venue.place(self.ticket(order))
        return self.venue.fire(
            template, order.quantity, order.limit_price if order.order_type in LIMITED else None,
            order.stop_price if order.order_type in STOPPED else None)

    def _refuse(self, order: KnownOrder, command: SubmitOrder, now: int) -> tuple[str, str] | None:
        if command.role is Role.ENTRY and command.expires_ns is not None and now > command.expires_ns:
            age = (now - command.expires_ns) / NS
            return "stale", f"the entry's time to be sent ended {age:.3f} s ago"
        cap = self.settings.venue.max_active_per_side
        limit = cap if command.role is Role.ENTRY else max(cap, VENUE_CAP_PER_SIDE)
        place = (order.account, order.contract.conid)
        active = self.books.active.get((*place, order.side.venue_side), 0)
        # What closes or protects a position is for the venue to refuse, never for us: nobody could get out.
        vital = command.role is not Role.ENTRY and command.order_type is not OrderType.LMT
        exits = self.books.active_exits.get((*place, order.side.exit_side.venue_side), 0)
        if command.role is Role.ENTRY and exits >= limit:
            side = order.side.exit_side.venue_side
            return "too_many", (f"{exits} exits {side} of {order.contract.instrument} are active in {order.account};"
                                f" the limit is {limit}, and what this entry fills would have no exits")
        if active >= limit and not vital:
            return "too_many", (f"{active} orders {order.side.venue_side} of {order.contract.instrument} are active in"
                                f" {order.account}; the limit is {limit}")
        if command.account and self.account and command.account != self.account \
                and command.account not in self.settings.venue.accounts:
            return "account", f"account {command.account} is not {self.account} nor one of venue.accounts"
        return None

    def ticket(self, order: KnownOrder) -> OrderTicket:
        """Return all that the venue is told of an order; the same again, with new numbers, amends it."""
        bracket = self.books.bracket(order.ref.bracket_id)
        contract = order.contract
        if not contract.exchange and bracket.contract is not None and bracket.contract.conid == contract.conid:
            contract = bracket.contract
        return OrderTicket(
            order_ref=order.order_id, account=order.account or self.account, contract=contract, side=order.side,
            order_type=order.order_type, quantity=order.quantity,
            limit_price=order.limit_price if order.order_type in LIMITED else None,
            stop_price=order.stop_price if order.order_type in STOPPED else None,
            time_in_force=order.time_in_force, good_till=order.good_till, outside_rth=order.outside_rth,
            oca_group=order.group if order.native else None)

    # -- amendments and cancels --------------------------------------------------------------------------------

    def work_amendment(self, order: KnownOrder, now: int) -> None:
        """Send the newest amendment if the order is acknowledged and none is in flight."""
        if order.amend_next is None or order.amending is not None or order.stage is not Stage.WORKING:
            return
        if not self.gate_open or not order.venue_order_id:
            return
        queue = self.entries if order.role is Role.ENTRY else self.urgent
        if not order.amend_queued:
            order.amend_queued = True
            queue.append(("amend", order))
        self.flush(now)

    def _write_amendment(self, order: KnownOrder, now: int) -> bool:
        command = order.amend_next
        if command is None or order.amending is not None or order.stage is not Stage.WORKING:
            return False
        bracket = self.books.bracket(order.ref.bracket_id)
        order.amend_next = None
        kept = (order.limit_price if command.limit_price is None else command.limit_price,
                order.stop_price if command.stop_price is None else command.stop_price)
        if (command.quantity, *kept) == (order.quantity, order.limit_price, order.stop_price):
            self._echo(order, now)
            return False
        if command.quantity > order.quantity and order.role is not Role.ENTRY:
            decision = bracket.book.decide(order.order_id, order.role, order.group, command.quantity - order.filled)
            if not decision.quantity:
                self._answer(bracket, AmendRejected(
                    bracket_id=bracket.bracket_id, order_id=order.order_id, ts_ns=now, code=0,
                    reason=decision.reason))
                return False
        ticket = msgspec.structs.replace(
            self.ticket(order), quantity=command.quantity,
            limit_price=kept[0] if order.order_type in LIMITED else None,
            stop_price=kept[1] if order.order_type in STOPPED else None)
        try:
            self.venue.amend(order.venue_order_id, ticket)
        except ConnectionError as problem:
            self.broken = str(problem)
            order.amend_next = command  # it goes once the order is found again
            return False
        order.amending = command
        self.acks.append((now + self.timeout_ns, order))
        if command.quantity > order.quantity:
            bracket.book.resized(order.order_id, command.quantity)
        return True

    def work_cancel(self, order: KnownOrder, now: int, *, unacknowledged: bool = False) -> None:
        """Send a wanted cancel, unless the order is not acknowledged yet."""
        if not order.cancel_wanted or order.cancel_written_ns or not order.live or not self.gate_open:
            return
        if not order.venue_order_id or (order.stage is Stage.WRITTEN and not unacknowledged):
            return
        if not order.cancel_queued:
            order.cancel_queued = True
            self.urgent.append(("cancel", order))
        self.flush(now)

    def _write_cancel(self, order: KnownOrder, now: int) -> bool:
        if not order.live or order.cancel_written_ns:
            return False
        try:
            self.venue.cancel(order.venue_order_id)
        except ConnectionError as problem:
            self.broken = str(problem)
            return False
        order.cancel_written_ns = now
        self.acks.append((now + self.timeout_ns, order))
        return True

    # -- answers -----------------------------------------------------------------------------------------------

    def _answer(self, bracket: OwnedBracket, event: Any) -> None:
        self.tell(bracket.owner, event)

    def _deny(self, bracket: OwnedBracket, command: OrderCommand, code: str, reason: str, now: int) -> None:
        denial = OrderDenied(bracket_id=command.bracket_id, order_id=command.order_id, ts_ns=now, code=code,
                             reason=reason)
        if bracket.denied is None:
            bracket.denied = {}
        bracket.denied[command.order_id] = denial
        self._answer(bracket, denial)

    def _echo(self, order: KnownOrder, now: int) -> None:
        bracket = self.books.bracket(order.ref.bracket_id)
        self._answer(bracket, OrderEchoed(
            bracket_id=bracket.bracket_id, order_id=order.order_id, ts_ns=now, quantity=order.quantity,
            limit_price=order.limit_price, stop_price=order.stop_price))

    def alert(self, severity: str, code: str, sentence: str, now: int, bracket_id: str | None = None) -> None:
        self.tell("control", AlertRaised(severity=severity, code=code, sentence=sentence, bracket_id=bracket_id,
                                         ts_ns=now))

    # -- the gate ----------------------------------------------------------------------------------------------

    def close_gate(self, reason: str, now: int) -> None:
        """Stop writing. What was queued goes back to its owners; what was written stays in doubt."""
        self.gate_open = False
        self.closed_because = reason
        waiting = [*self.urgent, *self.entries]
        self.urgent.clear()
        self.entries.clear()
        for verb, order in waiting:
            order.amend_queued = order.cancel_queued = False
            if verb == "submit" and order.stage is Stage.QUEUED:
                bracket = self.books.bracket(order.ref.bracket_id)
                self.books.forget(order)
                self._answer(bracket, OrderDeferred(bracket_id=bracket.bracket_id, order_id=order.order_id,
                                                    ts_ns=now, reason=reason))

    def waiting(self) -> int:
        return len(self.urgent) + len(self.entries)
