"""Executions: each booked once, told once, corrected when the venue restates it, and never dropped.

Law: the key is the execution id without its correction suffix. An execution whose order nobody knows is parked until it
can be matched, then recorded as an incident; one whose bracket nobody owns waits for its owner.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.rules.reconcile import parse_ref
from actors.venue.desk import NS, Desk
from actors.venue.known import Execution, KnownOrder, OwnedBracket, Stage
from actors.venue.port import CommissionSeen, ExecutionSeen
from messages.ledger import IncidentRecorded, RecordEvent
from messages.orders import CommissionReported, FillCorrected, OrderFilled

PARK_NS = 2 * NS
UNOWNED_NS = 5 * NS
MAX_PARKED = 10_000
BOOKKEEPERS = ("position", "risk", "ledger")


class Fills:
    """All executions of today under our refs, and the strangers'."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.books = desk.books
        self.parked: dict[str, tuple[int, ExecutionSeen]] = {}
        self.early_fees: dict[str, CommissionSeen] = {}
        self.fees: dict[str, CommissionSeen] = {}
        self.incidents: dict[str, None] = {}
        self.booked: set[str] = set()
        """Executions that nobody claims here and that the ledger has: those of brackets that are over."""
        self.unowned: dict[str, int] = {}
        """Brackets whose executions wait for an owner, and when that becomes an incident."""

    def seen(self, event: ExecutionSeen, now: int) -> None:
        known = self.books.executions.get(event.exec_id)
        if known is not None:
            if event.revision > known.seen.revision:
                self._correct(known, event, now)
            return
        order = self.books.find(event.order_ref, event.perm_id, event.client_id, event.venue_order_id,
                                self.desk.client_id)
        if order is None and parse_ref(event.order_ref) is not None:
            order = self.books.adopt(event.order_ref, event.account, event.conid, event.symbol, event.side,
                                     event.cum_qty)
            if order is not None:
                order.perm_id, order.client_id = event.perm_id, event.client_id
        if order is None:
            self._park(event, now)
        elif order.contract.sec_type == "BAG" and event.conid != order.contract.conid:
            return  # a leg of a combo, told beside the combo's own execution
        else:
            self._book(order, event, now)

    def _book(self, order: KnownOrder, event: ExecutionSeen, now: int) -> None:
        execution = Execution(event, order.order_id)
        self.books.executions[event.exec_id] = execution
        bracket = self.books.bracket(order.ref.bracket_id)
        bracket.exec_ids[event.exec_id] = None
        if event.perm_id:
            order.perm_id = order.perm_id or event.perm_id
            self.books.by_perm.setdefault(event.perm_id, order)
        self._count(bracket, order, event)
        order.cum_qty = max(order.cum_qty, event.cum_qty)
        if order.cum_qty and order.filled > order.cum_qty:
            self.incident(bracket.bracket_id, "cum_qty", f"cum:{event.exec_id}", (
                f"order {order.order_id}: executions add up to {order.filled}, the venue counts {order.cum_qty}; one of"
                f" them may be told under two ids"), now)
        if bracket.owner is None:
            if event.live:
                self.unowned.setdefault(bracket.bracket_id, now + UNOWNED_NS)
        else:
            self._tell(bracket, order, execution, now)

    def _count(self, bracket: OwnedBracket, order: KnownOrder, event: ExecutionSeen) -> None:
        order.filled += event.quantity
        bracket.book.filled(order.order_id, order.role, event.quantity, counted=event.exec_id in bracket.booked)
        if order.filled >= order.quantity and order.live:
            self.books.set_stage(order, Stage.DONE)
            order.amending = order.amend_next = None
            bracket.book.ended(order.order_id)

    def _event(self, bracket: OwnedBracket, order: KnownOrder, execution: Execution, now: int) -> OrderFilled:
        event = execution.seen
        contract = bracket.contract if bracket.contract is not None else order.contract
        return OrderFilled(
            bracket_id=bracket.bracket_id, order_id=order.order_id,
            ts_ns=now if event.live else event.ts_ns or now, leg=order.leg, exec_id=event.exec_id,
            revision=event.revision, perm_id=event.perm_id, client_id=event.client_id, account=event.account,
            conid=event.conid, instrument=contract.instrument, strategy=bracket.strategy,
            side=order.side, role=order.role, last_qty=event.quantity, last_px=event.price, cum_qty=event.cum_qty,
            multiplier=contract.multiplier, recovered=not event.live)

    def _tell(self, bracket: OwnedBracket, order: KnownOrder, execution: Execution, now: int) -> None:
        execution.event = self._event(bracket, order, execution, now)
        self._spread(bracket, execution.event)
        fee = self.early_fees.pop(execution.seen.exec_id, None)
        if fee is not None:
            self._tell_fee(bracket, order, fee, now)

    def _spread(self, bracket: OwnedBracket, event: Any) -> None:
        """The owner first, then each bookkeeper once."""
        self.desk.tell(bracket.owner, event)
        for service in BOOKKEEPERS:
            self.desk.tell(service, event)

    def _correct(self, known: Execution, event: ExecutionSeen, now: int) -> None:
        """The venue restates an execution: the new quantity and price replace the old ones."""
        prior, order = known.seen, self.books.orders.get(known.order_id)
        known.seen = event
        if order is None:
            return
        bracket = self.books.bracket(order.ref.bracket_id)
        order.filled += event.quantity - prior.quantity
        bracket.book.filled(order.order_id, order.role, event.quantity - prior.quantity)
        if known.event is None:
            return  # nobody has heard of the first version; the owner will be told the last one
        fields = {field: getattr(known.event, field) for field in known.event.__struct_fields__}
        fields.update(last_qty=event.quantity, last_px=event.price, cum_qty=event.cum_qty, revision=event.revision,
                      ts_ns=now, prior_qty=prior.quantity, prior_px=prior.price)
        corrected = FillCorrected(**fields)
        known.event = msgspec.structs.replace(known.event, last_qty=event.quantity, last_px=event.price,
                                              cum_qty=event.cum_qty, revision=event.revision)
        self._spread(bracket, corrected)

    # -- commissions -------------------------------------------------------------------------------------------

    def fee_seen(self, fee: CommissionSeen, now: int) -> None:
        """Pass a commission on once; every request for executions repeats it. It may precede its execution."""
        told = self.fees.get(fee.exec_id)
        if told is not None and (told.revision, told.commission) == (fee.revision, fee.commission):
            return
        execution = self.books.executions.get(fee.exec_id)
        if execution is None or execution.event is None:
            if len(self.early_fees) < MAX_PARKED:
                self.early_fees[fee.exec_id] = fee
            return
        order = self.books.orders[execution.order_id]
        self._tell_fee(self.books.bracket(order.ref.bracket_id), order, fee, now)

    def _tell_fee(self, bracket: OwnedBracket, order: KnownOrder, fee: CommissionSeen, now: int) -> None:
        self.fees[fee.exec_id] = fee
        event = CommissionReported(
            bracket_id=bracket.bracket_id, order_id=order.order_id, ts_ns=now, exec_id=fee.exec_id,
            commission=fee.commission, currency=fee.currency, realized_pnl=fee.realized_pnl)
        self.desk.tell(bracket.owner, event)
        self.desk.tell("ledger", event)
        self.desk.tell("position", event)

    # -- what waits --------------------------------------------------------------------------------------------

    def deliver(self, bracket: OwnedBracket, now: int) -> None:
        """Tell a (new) owner every execution under its refs; what was never told goes to the bookkeepers too."""
        self.unowned.pop(bracket.bracket_id, None)
        for exec_id in list(bracket.exec_ids):
            execution = self.books.executions[exec_id]
            order = self.books.orders[execution.order_id]
            if execution.event is None:
                self._tell(bracket, order, execution, now)
            else:
                self.desk.tell(bracket.owner, msgspec.structs.replace(execution.event, recovered=True))

    def repeat(self, service: str) -> None:
        """Tell a bookkeeper that was restarted all that was told to its predecessor: it knows what it has."""
        for execution in self.books.executions.values():
            if execution.event is not None:
                self.desk.tell(service, msgspec.structs.replace(execution.event, recovered=True))
        for exec_id, fee in self.fees.items() if service != "risk" else ():
            charged = self.books.executions.get(exec_id)
            if charged is not None and charged.event is not None:
                self.desk.tell(service, self._fee_event(charged.event, fee))

    @staticmethod
    def _fee_event(fill: OrderFilled, fee: CommissionSeen) -> CommissionReported:
        return CommissionReported(
            bracket_id=fill.bracket_id, order_id=fill.order_id, ts_ns=fill.ts_ns, exec_id=fee.exec_id,
            commission=fee.commission, currency=fee.currency, realized_pnl=fee.realized_pnl)

    def untold(self) -> frozenset[tuple[str, int]]:
        """Return (account, conid) of executions that no bookkeeper has been told: their owner has not spoken yet."""
        return frozenset((each.seen.account, each.seen.conid) for key, each in self.books.executions.items()
                         if each.event is None and key not in self.booked)

    def match(self, perm_id: int, order: KnownOrder, now: int) -> None:
        """Book parked executions whose order has become known."""
        for exec_id in [key for key, (_, event) in self.parked.items() if event.perm_id == perm_id]:
            _, event = self.parked.pop(exec_id)
            self._book(order, event, now)

    def _park(self, event: ExecutionSeen, now: int) -> None:
        if len(self.parked) < MAX_PARKED:
            self.parked.setdefault(event.exec_id, (now + PARK_NS, event))
        else:
            self._strange(event, now)

    def _strange(self, event: ExecutionSeen, now: int) -> None:
        self.incident(None, "stranger_execution", f"exec:{event.exec_id}:{event.revision}", (
            f"execution {event.exec_id}: {event.side} {event.quantity} {event.symbol} at {event.price} in"
            f" {event.account} (permId {event.perm_id}, ref {event.order_ref or 'none'}) belongs to no order of ours"),
            now)

    def on_time(self, now: int) -> None:
        for exec_id in [key for key, (due, _) in self.parked.items() if due <= now]:
            self._strange(self.parked.pop(exec_id)[1], now)
        for bracket_id in [key for key, due in self.unowned.items() if due <= now]:
            del self.unowned[bracket_id]
            self._poke_router(bracket_id, now)

    def _poke_router(self, bracket_id: str, now: int) -> None:
        """A live execution of a bracket without an actor: the router rebuilds one, which then owns it and is told."""
        bracket = self.books.bracket(bracket_id)
        execution = self.books.executions[next(reversed(bracket.exec_ids))]
        self.desk.tell("router", self._event(bracket, self.books.orders[execution.order_id], execution, now))
        self.incident(bracket_id, "unowned_execution", f"unowned:{bracket_id}", (
            f"bracket {bracket_id} has executions and nobody owns it; the router is asked to rebuild it"), now)

    def orphans(self) -> bool:
        """Whether some of today's executions belong to brackets that nobody has claimed since we began."""
        return any(bracket.owner is None and bracket.exec_ids for bracket in self.books.brackets.values())

    def settle_orphans(self, booked: set[str], now: int) -> None:
        """Have the brackets rebuilt that are over, yet traded while nobody heard: detached, or filled late.

        `booked`: the executions that the ledger has.
        """
        self.booked |= booked & self.books.executions.keys()
        for bracket in list(self.books.brackets.values()):
            new = [key for key in bracket.exec_ids if key not in booked] if bracket.owner is None else []
            for exec_id in new:
                execution = self.books.executions[exec_id]
                order = self.books.orders[execution.order_id]
                self.desk.tell("router", self._event(bracket, order, execution, now))
            if new:
                self.incident(bracket.bracket_id, "unheard_execution", f"unheard:{new[0]}", (
                    f"bracket {bracket.bracket_id} was over and traded unheard ({len(new)} executions); it is rebuilt"),
                    now)

    def dues(self) -> list[int]:
        return [*(due for due, _ in self.parked.values()), *self.unowned.values()]

    def incident(self, bracket_id: str | None, code: str, key: str, sentence: str, now: int) -> None:
        """Record it in the ledger and shout, once per key."""
        if key in self.incidents:
            return
        self.incidents[key] = None
        self.desk.tell("ledger", RecordEvent(
            key=f"incident:{code}:{key}", bracket_id=bracket_id, ts_ns=now,
            event=IncidentRecorded(bracket_id=bracket_id, code=code, sentence=sentence, ts_ns=now)))
        self.desk.alert("page", code, sentence, now, bracket_id)
