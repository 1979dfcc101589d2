"""What the venue says of orders, turned into order events for their owners, once each.

Law: executions alone are fills; a status is a reason to look for them. An order ends only by the venue's own word or by
a round of questions; a fill that comes after its end is booked and told all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.rules.reconcile import CANCELED, LIVE, Evidence, Fate, judge
from actors.venue.desk import NS, Desk
from actors.venue.fills import Fills
from actors.venue.ib_hearing import parse_time
from actors.venue.known import KnownOrder, OwnedBracket, Stage
from actors.venue.port import CompletedSeen, OrderSeen, StatusSeen
from messages.intent import OrderType, TimeInForce
from messages.orders import (
    AmendRejected,
    BracketPictured,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderEchoed,
    OrderExpired,
    OrderRejected,
    OrderUnknown,
    Role,
)

UNSURE_ROUNDS = 2
ASK_AGAIN_NS = 5 * NS
MISSING_FILL_NS = 1 * NS
"""How long executions may lag behind a status that says Filled before we ask for them."""


class Reports:
    """The venue's side of the books."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.books = desk.books
        self.fills = Fills(desk)
        self.day_is_over: Callable[[KnownOrder, int], bool] = lambda order, now: False
        self.round = 0
        self.foreign: dict[int, OrderSeen] = {}
        self.due: dict[str, int] = {}
        """Order ids to look at again, and when: ends to be believed, executions that are missing."""

    # -- orders as the venue shows them ------------------------------------------------------------------------

    def order_seen(self, event: OrderSeen, now: int) -> None:
        order = self.books.find(event.order_ref, event.perm_id, event.client_id, event.venue_order_id,
                                self.desk.client_id)
        if order is None:
            order = self.books.adopt(event.order_ref, event.account, event.conid, event.symbol, event.side,
                                     event.quantity)
            if order is None:
                self._stranger(event, now)
                return
        if not order.described:
            self._take_in(order, event)
        if event.client_id == self.desk.client_id and event.venue_order_id > 0:
            order.venue_order_id, order.client_id = event.venue_order_id, event.client_id
            self.books.by_venue_id[event.venue_order_id] = order
        order.seen_round = self.round
        if not self._same_perm(order, event.perm_id, event.client_id, event.status in LIVE, now):
            return
        if event.status in LIVE:
            self._alive(order, now)
            self._numbers(order, event.quantity, event.limit_price, event.stop_price, now)
        elif event.status == "Filled":
            order.quantity = event.quantity
            order.told_filled = max(order.told_filled, event.quantity)
        self._status(order, event.status, now)

    def _take_in(self, order: KnownOrder, event: OrderSeen) -> None:
        bracket = self.books.bracket(order.ref.bracket_id)
        order.described = True
        order.quantity = event.quantity
        order.limit_price, order.stop_price = event.limit_price, event.stop_price
        order.group, order.native = event.oca_group, bool(event.oca_group)
        if event.order_type in OrderType.__members__.values():
            order.order_type = OrderType(event.order_type)
        if event.time_in_force in TimeInForce.__members__.values():
            order.time_in_force = TimeInForce(event.time_in_force)
        order.good_till, order.outside_rth = event.good_till or None, event.outside_rth
        order.client_id = event.client_id
        for submit in bracket.believed:
            if submit.order_id == order.order_id:
                order.side, order.contract = submit.side, submit.contract
                order.group = submit.oca_group or order.group
        bracket.book.placed(order.order_id, order.role, order.group, event.quantity, order.filled)

    def _same_perm(self, order: KnownOrder, perm_id: int, client_id: int, live: bool, now: int) -> bool:
        """Take over the permId. False where a second one lives under the same id: an incident, and never our state."""
        if not perm_id:
            return True
        if order.perm_id and order.perm_id != perm_id:
            if order.live and live:
                self.incident(order.ref.bracket_id, "two_orders", f"double:{order.order_id}:{perm_id}", (
                    f"order {order.order_id} lives twice at the venue, as permId {order.perm_id} and {perm_id}"), now)
                return False
            if not live:
                return False
        order.perm_id = perm_id
        order.client_id = order.client_id or client_id
        self.books.by_perm[perm_id] = order
        self.fills.match(perm_id, order, now)
        return True

    def status_seen(self, event: StatusSeen, now: int) -> None:
        order = self.books.find("", event.perm_id, event.client_id, event.venue_order_id, self.desk.client_id)
        if order is None:
            return  # an openOrder, with its ref, is on its way, or the order is a stranger's
        order.seen_round = self.round
        if not self._same_perm(order, event.perm_id, event.client_id, event.status in LIVE, now):
            return
        order.told_filled = max(order.told_filled, event.filled)
        if event.status == "Filled" and event.filled:
            order.quantity = event.filled  # its group may have cut it unheard
        if event.status in ("Submitted", "PreSubmitted"):
            self._alive(order, now)
            total = event.filled + event.remaining
            if total and order.amending is None and total != order.quantity and event.filled >= order.filled:
                self._numbers(order, total, order.limit_price, order.stop_price, now)
        if event.why_held and event.why_held not in ("trigger", order.status):
            self.desk.alert("info", "held", f"order {order.order_id} is held by the venue: {event.why_held}", now,
                            order.ref.bracket_id)
        self._status(order, event.status, now)

    def completed_seen(self, event: CompletedSeen, now: int) -> None:
        order = self.books.find(event.order_ref, event.perm_id)
        if order is None:
            order = self.books.adopt(event.order_ref, event.account, event.conid, "", event.side, event.quantity)
            if order is None:
                return
            order.group, order.limit_price, order.stop_price = event.oca_group, event.limit_price, event.stop_price
            order.perm_id = event.perm_id
            self.books.by_perm[event.perm_id] = order
            order.completed = event.status
            return
        if order.live and (not order.perm_id or order.perm_id == event.perm_id):
            order.completed = event.status
            if event.status == "Filled":
                order.quantity = event.quantity
            order.end_reason = order.end_reason or event.text
            if event.perm_id and not order.perm_id:
                self._same_perm(order, event.perm_id, 0, True, now)

    # -- one order's life --------------------------------------------------------------------------------------

    def _alive(self, order: KnownOrder, now: int) -> None:
        """The venue has it. One that we held for dead lives again."""
        if order.filled >= order.quantity and order.stage is Stage.DONE:
            return  # a late repetition
        revived = order.stage is Stage.DONE or order.unknown
        if order.stage is not Stage.WORKING:
            self.books.set_stage(order, Stage.WORKING)
            order.ended, order.completed = None, ""
            book = self.books.bracket(order.ref.bracket_id).book
            book.placed(order.order_id, order.role, order.group, order.quantity, order.filled)
        order.unknown = order.absent_once = False
        if not order.accepted or revived:
            order.accepted = True
            self.say(order, OrderAccepted(**self.ids(order, now), perm_id=order.perm_id, client_id=order.client_id))
        self.desk.work_cancel(order, now)
        self.desk.work_amendment(order, now)

    def _numbers(self, order: KnownOrder, quantity: Any, limit: Any, stop: Any, now: int) -> None:
        """Take over the venue's total and prices, and say so where they are news."""
        if limit is None:
            limit = order.limit_price
        if stop is None:
            stop = order.stop_price
        news = (quantity, limit, stop) != (order.quantity, order.limit_price, order.stop_price)
        wanted = order.amending
        met = wanted is not None and quantity == wanted.quantity and all(
            asked is None or asked == told
            for asked, told in ((wanted.limit_price, limit), (wanted.stop_price, stop)))
        if not news and not met:
            return
        order.quantity, order.limit_price, order.stop_price = quantity, limit, stop
        self.books.bracket(order.ref.bracket_id).book.resized(order.order_id, quantity)
        if met:
            order.amending = None
        self.say(order, OrderEchoed(**self.ids(order, now), quantity=quantity, limit_price=limit, stop_price=stop))
        if met:
            self.desk.work_amendment(order, now)

    def _status(self, order: KnownOrder, status: str, now: int) -> None:
        order.status = status
        if status == "Filled":
            if order.filled >= order.quantity:
                self.finish(order)
            elif order.stage is not Stage.DONE:
                self.due[order.order_id] = now + MISSING_FILL_NS
        elif status in CANCELED:
            self.canceled(order, "", now)
        elif status == "Inactive":
            self._inactive(order, now)

    def canceled(self, order: KnownOrder, reason: str, now: int) -> None:
        """Dead at the venue. Whose doing it was decides whether a person is paged."""
        if order.stage is Stage.DONE or not order.live:
            return
        if order.told_filled > order.filled and order.told_filled >= order.quantity:
            return  # filled: its executions are on their way
        reason = reason or order.end_reason
        if order.refused is not None and not order.accepted:
            self.reject(order, *order.refused, now)
        elif order.cancel_wanted:
            self.end(order, OrderCanceled(**self.ids(order, now), requested=True, reason=reason or "as asked"))
        elif order.native and self._group_spoke(order):
            self.end(order, OrderCanceled(**self.ids(order, now), requested=True, reason=reason or "by its OCA group"))
        elif order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self.end(order, OrderExpired(**self.ids(order, now), reason=f"{order.time_in_force} ended unfilled"))
        elif "expire" in reason.lower() or _is_past(order.good_till, now) or self.day_is_over(order, now):
            self.end(order, OrderExpired(**self.ids(order, now), reason=reason or "its time was over"))
        elif order.end_due_ns and now >= order.end_due_ns:
            self.end(order, OrderCanceled(**self.ids(order, now), requested=False,
                                          reason=reason or "canceled at the venue, not by us"))
        else:
            # A sibling's fill, or the venue's reason, may be one message behind.
            order.end_due_ns = order.end_due_ns or now + int(self.desk.settings.venue.quiescence_s * NS)
            self.due[order.order_id] = order.end_due_ns

    def _group_spoke(self, order: KnownOrder) -> bool:
        """Whether a sibling explains the end: it filled, or we cancelled it and IB took the whole group."""
        return any(other.filled > 0 or other.told_filled > 0 or other.cancel_wanted
                   for other in self.books.siblings(order))

    def _inactive(self, order: KnownOrder, now: int) -> None:
        """Either rejected or held: the error that came with it says which, else the venue must."""
        if not order.live:
            return
        if order.refused is not None:
            self.reject(order, *order.refused, now)
        elif order.time_in_force is TimeInForce.FOK:
            self.end(order, OrderExpired(**self.ids(order, now), reason="FOK ended unfilled"))
        else:
            order.end_reason = order.end_reason or "the venue made it Inactive"
            self.desk.round_wanted = True

    def reject(self, order: KnownOrder, code: int, text: str, now: int) -> None:
        self.end(order, OrderRejected(**self.ids(order, now), code=code, reason=text))

    def end(self, order: KnownOrder, event: Any) -> None:
        order.ended = event
        self.finish(order)
        self.say(order, event)

    def finish(self, order: KnownOrder) -> None:
        self.books.set_stage(order, Stage.DONE)
        order.amending = order.amend_next = None
        order.end_due_ns = 0
        self.due.pop(order.order_id, None)
        self.books.bracket(order.ref.bracket_id).book.ended(order.order_id)

    # -- time --------------------------------------------------------------------------------------------------

    def on_time(self, now: int) -> None:
        """Look at what is overdue: acknowledgements, ends, executions that a status promised."""
        acks = self.desk.acks
        while acks and acks[0][0] <= now:
            _, order = acks.popleft()
            if order.stage is Stage.WRITTEN and not order.accepted and not order.unknown:
                self.unknown(order, "the venue has not acknowledged it in time", now)
                self.desk.work_cancel(order, now, unacknowledged=True)
            elif order.live and (order.amending is not None or order.cancel_written_ns):
                self.desk.round_wanted = True
        for order_id in [key for key, due in self.due.items() if due <= now]:
            del self.due[order_id]
            late = self.books.orders.get(order_id)
            if late is None or not late.live:
                continue
            if late.end_due_ns and late.status in CANCELED:
                self.canceled(late, "", now)
            else:
                self.desk.round_wanted = True
        self.fills.on_time(now)

    def next_due(self) -> int:
        """Return when `on_time` has work; 0 for never."""
        dues = [*self.due.values(), *([self.desk.acks[0][0]] if self.desk.acks else []), *self.fills.dues()]
        return min(dues, default=0)

    def unknown(self, order: KnownOrder, reason: str, now: int) -> None:
        order.unknown = True
        self.desk.round_wanted = True
        self.say(order, OrderUnknown(**self.ids(order, now), reason=reason))

    def link_lost(self, now: int) -> None:
        """Whatever was written and not acknowledged is in doubt until the next picture."""
        for order in list(self.books.orders.values()):
            if order.stage is Stage.WRITTEN and not order.unknown:
                self.unknown(order, "the connection was lost before the venue acknowledged it", now)
        self.desk.acks.clear()
        self.due.clear()

    # -- a round of questions ----------------------------------------------------------------------------------

    def begin_round(self) -> None:
        self.round += 1

    def finish_round(self, started_ns: int, complete_list: bool, now: int) -> None:
        """Judge every order that should be alive and was not shown, then answer those who asked."""
        if not self.desk.gate_open:
            for bracket in self.books.brackets.values():
                bracket.book.refit()
        for order in list(self.books.orders.values()):
            if order.stage is Stage.QUEUED or (order.stage is Stage.DONE and order.ended is not None):
                continue
            if order.live and order.written_ns < started_ns:
                self._judge(order, complete_list, now)
        questions = list(self.desk.questions)
        self.desk.questions.clear()
        for order_id in questions:
            known = self.books.orders.get(order_id)
            if known is None:
                self.desk.answer_absent(order_id, now)
            else:
                self.desk.tell_truth(known, now)

    def _judge(self, order: KnownOrder, complete_list: bool, now: int) -> None:
        open_now = order.seen_round == self.round and order.status not in ("Inactive", "Filled", *CANCELED)
        fate = judge(Evidence(
            quantity=order.quantity, filled=order.filled, acknowledged=bool(order.perm_id), open_now=open_now,
            completed=order.completed, refused=order.refused is not None,
            # Where the completed orders never come, open orders and executions must do: what was cancelled unseen
            # has no fill, and what has none may be believed dead.
            complete_list=complete_list or order.unsure >= UNSURE_ROUNDS))
        if fate is Fate.WORKING:
            order.refused = None
            if order.amending is not None:
                order.amending = None
                self.say(order, AmendRejected(**self.ids(order, now), code=0,
                                              reason="the venue still shows the old numbers"))
        elif fate is Fate.FILLED:
            self.finish(order)
        elif fate is Fate.CANCELED and order.refused is not None and not order.filled and not order.cancel_wanted:
            self.reject(order, *order.refused, now)
        elif fate is Fate.CANCELED and self._vanished(order):
            self.end(order, OrderAbsent(**self.ids(order, now)))
        elif fate is Fate.CANCELED:
            order.end_due_ns = now  # asked and answered: nothing more is on its way
            self.canceled(order, order.end_reason or "gone from the venue's open orders", now)
        elif fate is Fate.REJECTED:
            self.reject(order, *(order.refused or (0, order.end_reason or "the venue does not have it")), now)
        elif fate is Fate.ABSENT and not order.absent_once:
            # A snapshot can lag behind what is on its way to it: nothing is sent again on the word of one.
            order.absent_once = True
            self.desk.round_wanted = True
        elif fate is Fate.ABSENT:
            self.books.set_stage(order, Stage.DONE)
            self.books.forget(order)
            self.due.pop(order.order_id, None)
            self.desk.answer_absent(order.order_id, now)
        else:
            order.unsure += 1
            self.due[order.order_id] = now + ASK_AGAIN_NS
            self.desk.alert("warning", "unsure", f"order {order.order_id}: the venue's answers do not say what became"
                            " of it; asked again", now, order.ref.bracket_id)

    @staticmethod
    def _vanished(order: KnownOrder) -> bool:
        """Whether nobody says that an entry was cancelled: it may have filled on a day whose executions are not told
        any more (trading-rules.md 28)."""
        return order.role is Role.ENTRY and not order.completed and order.told_filled <= order.filled

    # -- pictures ----------------------------------------------------------------------------------------------

    def picture(self, bracket: OwnedBracket, now: int) -> None:
        """Tell an owner all that the venue has under its refs: executions first, then the orders."""
        if bracket.owner is None:
            return
        self.fills.deliver(bracket, now)
        orders = [self.books.orders[key] for key in bracket.order_ids]
        bracket.pictured = True
        self.desk.tell(bracket.owner, BracketPictured(
            bracket_id=bracket.bracket_id, ts_ns=now,
            orders=tuple(order.pictured() for order in orders
                         if order.stage is not Stage.QUEUED and not isinstance(order.ended, OrderAbsent))))

    # -- saying ------------------------------------------------------------------------------------------------

    def say(self, order: KnownOrder, event: Any) -> None:
        bracket = self.books.bracket(order.ref.bracket_id)
        if bracket.owner is not None:
            self.desk.tell(bracket.owner, event)

    @staticmethod
    def ids(order: KnownOrder, now: int) -> dict[str, Any]:
        return {"bracket_id": order.ref.bracket_id, "order_id": order.order_id, "ts_ns": now}

    def incident(self, bracket_id: str | None, code: str, key: str, sentence: str, now: int) -> None:
        """Record and shout, once per key."""
        self.fills.incident(bracket_id, code, key, sentence, now)

    def _stranger(self, event: OrderSeen, now: int) -> None:
        if event.status in LIVE and event.perm_id not in self.foreign:
            self.desk.alert("info", "foreign_order", (
                f"{event.side} {event.quantity} {event.symbol} (permId {event.perm_id}, client {event.client_id}) is"
                " not ours and is left alone"), now)
        if event.status in LIVE:
            self.foreign[event.perm_id] = event
        else:
            self.foreign.pop(event.perm_id, None)


def _is_past(good_till: str | None, now: int) -> bool:
    return good_till is not None and 0 < parse_time(good_till) <= now
