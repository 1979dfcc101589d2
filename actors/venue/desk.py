"""The order desk: what owners command, and what they are answered.

Law: one transmission per order id, ever: an id that is known here is answered with the truth, never sent again. Only
the newest incarnation of an owner is obeyed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.rules.gate import ZERO
from actors.venue.known import KnownOrder, OwnedBracket, Stage
from actors.venue.writer import NS, Writer
from messages.orders import (
    AmendOrder,
    AmendRejected,
    CancelOrder,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderCommand,
    OrderDeferred,
    OrderDenied,
    OrderSubmitted,
    OwnBracket,
    QueryOrder,
    ReleaseBracket,
    Role,
    SubmitOrder,
)

__all__ = ["NS", "Desk"]
KEPT_AFTER_RELEASE = 20_000
"""Brackets that are over and whose books are kept for late fills; beyond it the oldest are forgotten."""

MOST_PREPARED = 64
"""Orders of one bracket that are kept ready; beyond it those of before are forgotten."""


class Desk(Writer):
    """Owners and their commands."""

    # -- who owns what -----------------------------------------------------------------------------------------

    def own(self, command: OwnBracket, sender: Any, now: int) -> None:
        bracket = self.books.bracket(command.bracket_id)
        if command.incarnation < bracket.incarnation:
            return
        if command.incarnation > bracket.incarnation:
            self._drop_unsent(bracket)
            bracket.prepared = None
        bracket.incarnation, bracket.owner = command.incarnation, sender
        bracket.contract, bracket.account, bracket.strategy = command.contract, command.account, command.strategy
        bracket.released = bracket.pictured = False
        bracket.believed = command.orders
        for submit in command.orders:
            self._explain(bracket, submit)
        self._base_book(bracket, command)
        if self.gate_open:
            self.redeliver(bracket, now)

    def _drop_unsent(self, bracket: OwnedBracket) -> None:
        """A successor decides anew; what its predecessor had only queued was never sent."""
        for order_id in list(bracket.order_ids):
            order = self.books.orders[order_id]
            order.commands = None
            if order.stage is Stage.QUEUED:
                self.books.forget(order)

    def _explain(self, bracket: OwnedBracket, submit: SubmitOrder) -> None:
        """Give an order that was found at the venue the words with which its owner sent it."""
        order = self.books.orders.get(submit.order_id)
        if order is not None and order.submit is None:
            order.side, order.contract = submit.side, submit.contract
            order.group, order.native = submit.oca_group or order.group, submit.oca_native
            known = bracket.book.orders.get(order.order_id)
            if known is not None:
                known.role, known.group = submit.role, order.group

    def _base_book(self, bracket: OwnedBracket, command: OwnBracket) -> None:
        """Set the books from what the owner has booked (exits net of what was bought back) and what it has not."""
        book = bracket.book
        booked = bracket.booked = frozenset(command.fills)
        new = {Role.ENTRY: ZERO, Role.EXIT: ZERO, Role.EXCESS: ZERO}
        for exec_id in bracket.exec_ids:
            if exec_id not in booked:
                execution = self.books.executions[exec_id]
                new[self.books.orders[execution.order_id].role] += execution.seen.quantity
        book.entry_filled = command.entry_filled + new[Role.ENTRY]
        book.exit_filled = command.exit_filled + new[Role.EXIT]
        book.excess_filled = new[Role.EXCESS]

    def release(self, command: ReleaseBracket) -> None:
        """Let a bracket go that is over. Its books stay for late fills, which go to the router from now on."""
        bracket = self.books.brackets.get(command.bracket_id)
        if bracket is None or command.incarnation < bracket.incarnation:
            return
        bracket.released = True
        bracket.owner = "router"
        bracket.believed = ()
        bracket.prepared = None
        self.released.append(bracket)
        if len(self.released) > KEPT_AFTER_RELEASE:
            oldest = self.released.popleft()
            if oldest.released and self.books.brackets.get(oldest.bracket_id) is oldest:
                self.books.forget_bracket(oldest)

    # -- commands ----------------------------------------------------------------------------------------------

    def prepare(self, submit: SubmitOrder) -> None:
        """Do beforehand what can be done of an order: nothing is counted, nothing promised, nothing answered."""
        bracket = self.books.brackets.get(submit.bracket_id)
        if bracket is None or bracket.released or submit.incarnation < bracket.incarnation \
                or submit.order_id in self.books.orders:
            return
        order = self.books.made(submit)
        try:
            order.template = self.venue.prepare(self.ticket(order))
        except ConnectionError:
            return  # then it is encoded when it is sent
        if bracket.prepared is None or len(bracket.prepared) >= MOST_PREPARED:
            bracket.prepared = {}
        bracket.prepared[submit.order_id] = order

    def submit(self, command: SubmitOrder, sender: Any, now: int) -> None:
        bracket = self._checked(command, sender, now)
        if bracket is None:
            return
        known = self.books.orders.get(command.order_id)
        if known is not None:
            self.tell_truth(known, now)
            return
        if bracket.denied is not None and command.order_id in bracket.denied:
            self._answer(bracket, bracket.denied[command.order_id])  # its owner has decided anew since then
            return
        if not self.gate_open:
            self._answer(bracket, OrderDeferred(
                bracket_id=command.bracket_id, order_id=command.order_id, ts_ns=now, reason=self.closed_because))
            return
        if len(self.urgent) + len(self.entries) >= self.settings.venue.max_queue:
            self._deny(bracket, command, "queue_full", f"{self.settings.venue.max_queue} orders wait already", now)
            return
        order = self.books.register(command)
        (self.entries if command.role is Role.ENTRY else self.urgent).append(("submit", order))
        self.flush(now)

    def amend(self, command: AmendOrder, sender: Any, now: int) -> None:
        """Amend on the same venue id: not before the ack, one in flight, the newest wins (trading-rules.md 1)."""
        bracket = self._checked(command, sender, now)
        order = self.books.orders.get(command.order_id)
        if bracket is None or (order is not None and not order.heed(command.command_id)):
            return
        if order is None or order.stage is Stage.DONE:
            self._answer(bracket, AmendRejected(
                bracket_id=command.bracket_id, order_id=command.order_id, ts_ns=now, code=0,
                reason="no such order lives at the venue"))
            if order is not None:
                self.tell_truth(order, now)
            return
        if order.stage is Stage.QUEUED:
            order.quantity = command.quantity
            order.limit_price, order.stop_price = command.limit_price, command.stop_price
            self._echo(order, now)
            return
        order.amend_next = command
        self.work_amendment(order, now)

    def cancel(self, command: CancelOrder, sender: Any, now: int) -> None:
        """Cancel by venue id. Unacknowledged: wait for the ack or its deadline. While the gate is closed: remember."""
        bracket = self._checked(command, sender, now)
        if bracket is None:
            return
        order = self.books.orders.get(command.order_id)
        if order is None:
            self.query(QueryOrder(command_id=command.command_id, bracket_id=command.bracket_id,
                                  order_id=command.order_id, incarnation=command.incarnation), sender, now)
            return
        if order.stage is Stage.DONE:
            self.tell_truth(order, now)
        elif order.stage is Stage.QUEUED:
            order.stage = Stage.DONE
            order.ended = OrderCanceled(bracket_id=command.bracket_id, order_id=order.order_id, ts_ns=now,
                                        requested=True, reason="canceled before it was sent")
            self._answer(bracket, order.ended)
        elif order.heed(command.command_id):
            order.cancel_wanted = True
            self.work_cancel(order, now)

    def query(self, command: QueryOrder, sender: Any, now: int) -> None:
        bracket = self._checked(command, sender, now)
        if bracket is None:
            return
        self.questions[command.order_id] = None
        self.round_wanted = True

    def _checked(self, command: OrderCommand, sender: Any, now: int) -> OwnedBracket | None:
        """Return the bracket if the command may speak for it; else answer why not."""
        bracket = self.books.brackets.get(command.bracket_id)
        if bracket is None or bracket.owner is None:
            code, reason = "unowned", f"bracket {command.bracket_id}: nobody has said OwnBracket for it"
        elif command.incarnation < bracket.incarnation:
            code = "incarnation"
            reason = f"incarnation {command.incarnation} is over; {bracket.incarnation} owns {command.bracket_id}"
        else:
            return bracket
        self.tell(sender, OrderDenied(bracket_id=command.bracket_id, order_id=command.order_id, ts_ns=now, code=code,
                                      reason=reason))
        return None

    # -- answers -----------------------------------------------------------------------------------------------

    def tell_truth(self, order: KnownOrder, now: int) -> None:
        """Say again what is known of an order, to an owner that asks or repeats itself."""
        bracket = self.books.bracket(order.ref.bracket_id)
        if bracket.owner is None or order.stage is Stage.QUEUED:
            return
        shared: dict[str, Any] = {"bracket_id": bracket.bracket_id, "order_id": order.order_id, "ts_ns": now}
        if order.venue_order_id:
            self._answer(bracket, OrderSubmitted(**shared, leg=order.leg, quantity=order.quantity,
                                                 client_id=order.client_id, venue_order_id=order.venue_order_id))
        if order.accepted and order.ended is None:  # of a dead order the owner must not think that it lives again
            self._answer(bracket, OrderAccepted(**shared, perm_id=order.perm_id, client_id=order.client_id))
        self.tell_fills(bracket, order)
        if order.ended is not None:
            self._answer(bracket, order.ended)
        elif order.accepted and order.live:
            self._echo(order, now)

    def tell_fills(self, bracket: OwnedBracket, order: KnownOrder | None = None) -> None:
        """Repeat executions to the owner only: of one order, or of all of the bracket's."""
        for exec_id in bracket.exec_ids:
            execution = self.books.executions[exec_id]
            if execution.event is not None and (order is None or execution.order_id == order.order_id):
                self._answer(bracket, msgspec.structs.replace(execution.event, recovered=True))

    def answer_absent(self, order_id: str, now: int) -> None:
        """Tell an owner that nothing at the venue carries this id."""
        bracket_id = order_id.partition(".")[0]
        bracket = self.books.brackets.get(bracket_id)
        if bracket is not None and bracket.owner is not None:
            self._answer(bracket, OrderAbsent(bracket_id=bracket_id, order_id=order_id, ts_ns=now))
