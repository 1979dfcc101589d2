"""A venue, a broker and children that do the worst that they may to one bracket, and an auditor that watches.

Law: nothing here reads the bracket's mind to decide what happens; the auditor compares what the bracket believes and
asks for with the venue's truth. Every choice is an integer from outside, so that a run can be replayed and shrunk.
Queues: bracket -> broker -> wire -> venue -> wire -> broker -> bracket, and bracket -> child -> broker beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from actors.rules import legs
from actors.rules.bracket import ImpossibleEvent, new_bracket, step
from actors.rules.bracket_state import (
    Alert,
    BookFill,
    Bracket,
    Incident,
    Phase,
    Policy,
    SeekFill,
    StartTimer,
)
from actors.rules.gate import BracketBook
from actors.rules.order import TABLE, Rule
from actors.rules.rows import RowView, rows
from messages.base import Message
from messages.exits import ArmExit, BracketStarted, BracketTimed, ConditionMet, DisarmExit, ExitTriggered
from messages.intent import Shape
from messages.ledger import TrailMoved
from messages.orders import (
    AmendOrder,
    AmendRejected,
    BracketPictured,
    CancelBracket,
    CancelEntry,
    CancelOrder,
    CancelRejected,
    Definition,
    DetachBracket,
    FlattenBracket,
    GateClosed,
    GateOpened,
    ModifyBracket,
    OperatorCommand,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderDeferred,
    OrderDenied,
    OrderEchoed,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderState,
    OrderSubmitted,
    OrderUnknown,
    PicturedOrder,
    QueryOrder,
    Role,
    SubmitOrder,
)
from messages.risk import AbsenceExplained
from tests import builders

ZERO = Decimal(0)


@dataclass
class Order:
    """One order at the venue. `ended` says how it died."""

    sent: SubmitOrder
    quantity: Decimal
    cum: Decimal = ZERO
    alive: bool = True
    acked: bool = False
    canceling: bool = False
    ended: str = ""
    limit: Decimal | None = None
    stop: Decimal | None = None
    amend: AmendOrder | None = None
    echo_due: bool = False

    @property
    def leaves(self) -> Decimal:
        return self.quantity - self.cum if self.alive else ZERO


@dataclass(frozen=True)
class Setup:
    """What may go wrong in one run, beside delay and order, which always may."""

    definition: Definition
    policy: Policy
    gate: bool = True
    honest_oca: bool = True
    races: bool = False
    late_fills: bool = False
    corrections: bool = False


class Broken(AssertionError):
    """An invariant does not hold."""


def edges() -> set[tuple[OrderState, OrderState]]:
    """Return which state of a row may follow which, from the table of orders."""
    counted = {OrderState.PLACED, OrderState.PARTIAL_FILLED, OrderState.FILLED}
    found: set[tuple[OrderState, OrderState]] = set()
    for (state, _), following in TABLE.items():
        after: set[OrderState]
        if isinstance(following, OrderState):
            after = {following}
        else:
            after = {
                Rule.STAY: {state}, Rule.COUNTED: counted, Rule.ENDED: {OrderState.FILLED, OrderState.CANCELLED},
                Rule.COUNTED_WHILE_CANCELLING: {OrderState.CANCEL_REQUESTED, OrderState.FILLED},
            }[following]
        found |= {(state, each) for each in after}
    return found


EDGES = edges()
# One event may make several moves of a row (rejected and placed again), but no more than three.
TWICE = EDGES | {(a, d) for a, b in EDGES for c, d in EDGES if b == c}
REACH = TWICE | {(a, d) for a, b in TWICE for c, d in EDGES if b == c}


@dataclass
class World:
    setup: Setup
    now: int = builders.NOW_NS
    truth_entry: Decimal = ZERO
    truth_exit: Decimal = ZERO
    truth_excess: Decimal = ZERO
    orders: dict[str, Order] = field(default_factory=dict)
    execs: dict[str, OrderFilled] = field(default_factory=dict)
    to_broker: list[Message] = field(default_factory=list)
    ghosts: list[Message] = field(default_factory=list)
    to_venue: list[Message] = field(default_factory=list)
    to_us: list[Message] = field(default_factory=list)
    inbox: list[Message] = field(default_factory=list)
    routed: list[Message] = field(default_factory=list)
    to_child: list[Any] = field(default_factory=list)
    children: dict[str, ArmExit] = field(default_factory=dict)
    from_child: list[Message] = field(default_factory=list)
    timers: set[str] = field(default_factory=set)
    gate_open: bool = True
    owner: int = 0
    pending_own: bool = False
    transmitted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    booked: dict[str, Decimal] = field(default_factory=dict)
    groups: dict[str, Decimal] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    arms_fired: set[tuple[int, str, int]] = field(default_factory=set)
    marks: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    story: list[tuple[Message, int]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    strict: bool = True
    paged: bool = False
    incidents: int = 0
    serial: int = 0
    incarnation: int = 0
    healing: bool = False
    unseen: dict[str, bool] = field(default_factory=dict)
    """Entries that are told no more: whether the rest of them filled."""
    durable: int = 0
    """How much of the story a day's end finds on disk."""

    def __post_init__(self) -> None:
        self.bracket: Bracket = new_bracket(self.setup.definition)
        self.book = BracketBook(entry_filled=self.claim)
        self.seen: dict[str, RowView] = rows(self.bracket)
        self.start()

    # -- who it is ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.setup.definition.bracket_id

    @property
    def native(self) -> bool:
        return self.setup.definition.oca_native

    @property
    def claim(self) -> Decimal:
        intent = self.setup.definition.intent
        return intent.quantity if intent.shape is Shape.OCO else ZERO

    @property
    def open(self) -> Decimal:
        return self.claim + self.truth_entry - self.truth_exit + self.truth_excess

    def next(self) -> int:
        self.serial += 1
        return self.serial

    # -- the bracket's turn ------------------------------------------------------------------------------------

    def tell(self, event: Message) -> None:
        self.now += 1_000_000
        self.trace.append(f"-> {brief(event)}")
        before = self.bracket
        try:
            self.bracket, said = step(before, event, self.now, self.setup.policy)
        except ImpossibleEvent as error:
            raise Broken(str(error)) from error
        self.story.append((event, self.now))
        if isinstance(event, OrderDeferred):
            self.deferred.add(event.order_id)
        again, same = step(before, event, self.now, self.setup.policy)
        if again != self.bracket or same != said:
            raise Broken("S17: the same event has two outcomes")
        known = self.incidents
        for command in said:
            self.trace.append(f"     {brief(command)}")
            self.take(command)
        self.audit(before, event, self.incidents > known)

    def take(self, command: Any) -> None:
        if isinstance(command, Alert):
            self.paged = True
        elif isinstance(command, Incident):
            self.incidents += 1
        elif isinstance(command, StartTimer):
            self.timers.add(command.key)
        elif isinstance(command, ArmExit | DisarmExit):
            self.check_arm(command)
            self.to_child.append(command)
        elif isinstance(command, BookFill):
            before = self.booked.get(command.fill.exec_id, ZERO)
            self.booked[command.fill.exec_id] = command.fill.last_qty
            self.book.entry_filled += command.fill.last_qty - before
            self.durable = len(self.story)  # unlike an execution, nobody tells it again
        elif isinstance(command, SeekFill):
            self.to_broker.append(command)  # type: ignore[arg-type]
        elif isinstance(command, SubmitOrder | AmendOrder | CancelOrder | QueryOrder):
            self.check_command(command)
            self.to_broker.append(command)

    # -- the auditor -------------------------------------------------------------------------------------------

    def check_command(self, command: Any) -> None:
        body = repr(command)
        if not isinstance(command, SubmitOrder) and self.commands.setdefault(command.command_id, body) != body:
            raise Broken(f"command id {command.command_id} stands for two commands")
        if not isinstance(command, SubmitOrder):
            return
        if command.quantity <= 0:
            raise Broken(f"{command.order_id} asks for {command.quantity}")
        if command.order_id in self.asked and command.order_id not in self.deferred:
            raise Broken(f"S6: {command.order_id} is asked for twice")
        self.asked[command.order_id] = body
        self.deferred.discard(command.order_id)
        b = self.bracket
        if command.role is Role.EXIT and not b.claimed and not b.entry_filled and self.strict:
            raise Broken(f"S13: {command.order_id} before anything filled")
        spec = next((leg for leg in legs.legs_of(b.definition) if leg.name == command.leg), None)
        fired = command.leg == legs.FLAT or (spec is not None and spec.held and spec.protective)
        if fired and not self.native and self.setup.policy.exit_race == "safe":
            lot = b.orders[command.order_id].lot
            rest = [o.order_id for o in b.orders.values() if o.lot == lot and o.alive and o.role is Role.EXIT]
            if rest != [command.order_id]:
                raise Broken(f"rule 3: {command.order_id} is sent while {rest} may still fill")

    def check_arm(self, arm: ArmExit | DisarmExit) -> None:
        if not isinstance(arm, ArmExit) or arm.initial_stop is None or arm.high_water is None:
            return
        sign = -legs.exit_side(self.setup.definition).sign
        known = self.marks.get(arm.leg)
        if known is not None and (arm.initial_stop - known[1]) * sign < 0:
            raise Broken(f"S11: {arm.leg} is armed at {arm.initial_stop}, it stood at {known[1]}")

    def audit(self, before: Bracket, event: Message, incident: bool) -> None:
        b = self.bracket
        if not isinstance(event, OrderFilled) and (
            b.entry_filled < before.entry_filled or b.exit_filled < before.exit_filled
        ):
            raise Broken("S10: filled quantity fell without a correction")
        managed = b.pictured and b.phase is not Phase.DETACHED
        if managed and b.open_qty < 0 and -b.open_qty > before.overfill_noted and not incident:
            raise Broken("S1: an overfill is not recorded in its step")
        if managed and self.strict:
            taken = ZERO
            for lot in b.lots.values():
                leaves = max((o.leaves for o in b.orders.values() if o.lot == lot.number and o.role is Role.EXIT),
                             default=ZERO)
                taken += min(leaves, lot.remaining)
            room = max(b.open_qty, ZERO) if not b.claim_over else b.definition.intent.quantity - b.exit_filled
            if taken > room:
                raise Broken(f"S2: exits may still take {taken} of {room}")
        self.audit_rows()
        if self.strict:
            self.audit_truth()

    def audit_rows(self) -> None:
        now = rows(self.bracket)
        for row_id, row in now.items():
            last = self.seen.get(row_id)
            if last is not None and last.state is not row.state and (last.state, row.state) not in REACH:
                raise Broken(f"S24: {row_id} goes from {last.state} to {row.state}")
        self.seen = now

    def audit_truth(self) -> None:
        """S1 and S28 at the venue itself, orders in flight to it included."""
        if self.open < 0:
            raise Broken(f"S1: the position is reversed: {self.open}")
        # The gate stands between rules and venue; native = false lets two resting siblings compete (trading-rules 8).
        if not (self.setup.gate and self.native):
            return
        groups: dict[str, list[Decimal]] = {}
        for order in self.orders.values():
            if order.sent.role is Role.EXIT and order.alive:
                groups.setdefault(order.sent.oca_group or order.sent.order_id, []).append(order.leaves)
        for message in self.to_venue:
            if isinstance(message, SubmitOrder) and message.role is Role.EXIT:
                groups.setdefault(message.oca_group or message.order_id, []).append(message.quantity)
        self.groups.update({group: max(each) for group, each in groups.items() if group not in self.groups})
        total = sum((min(max(each), self.room(group)) for group, each in groups.items()), ZERO)
        if total > self.open:
            raise Broken(f"S28: the orders at the venue could close {total} of {self.open}")

    def room(self, group: str) -> Decimal:
        """Return what a group may still fill, by what it was made for."""
        mine = sum((o.cum for o in self.orders.values() if o.sent.oca_group == group), ZERO)
        lot = self.groups.get(group, ZERO)
        if not self.native:  # siblings that merely rest beside each other: a kind market fills what is left once
            known = self.bracket.lots.get(int(group.rpartition("g")[2]))
            lot = known.quantity if known is not None else mine + max(self.open, ZERO)
        return max(ZERO, lot - mine)

    # -- the broker --------------------------------------------------------------------------------------------

    def emit(self, kind: type[Any], order_id: str, **more: Any) -> Any:
        return kind(bracket_id=self.id, order_id=order_id, ts_ns=self.now, **more)

    def say(self, event: Message) -> None:
        """To the owner; before the newest has said that it is one, the broker speaks to the dead."""
        if self.owner == self.incarnation:
            self.inbox.append(event)

    def broker_takes(self, command: Any) -> None:
        if isinstance(command, tuple):  # OwnBracket
            self.owner = command[1]
            self.picture()
            return
        order_id = command.order_id
        if isinstance(command, SeekFill):
            self.explain(command)
        elif isinstance(command, SubmitOrder):
            self.broker_submits(command)
        elif isinstance(command, QueryOrder):
            self.answer(order_id)
        elif command.incarnation < self.owner:
            return
        elif not self.gate_open:
            self.say(self.emit(OrderDeferred, order_id, reason="gate closed"))
        elif isinstance(command, CancelOrder):
            if order_id not in self.transmitted:
                self.say(self.emit(CancelRejected, order_id, code=10147, reason="not found"))
            else:
                self.to_venue.append(command)
        else:
            order = self.book.orders.get(order_id)
            if self.setup.gate and order is not None and order.role is Role.EXIT:
                room = self.book.room(order_id, order.role, order.group)
                if command.quantity - order.filled > max(room, ZERO):
                    self.say(self.emit(AmendRejected, order_id, code=0, reason="exceeds_open"))
                    return
            self.to_venue.append(command)

    def broker_submits(self, command: SubmitOrder) -> None:
        order_id = command.order_id
        if command.incarnation < self.owner:
            self.say(self.emit(OrderDenied, order_id, code="incarnation", reason="stale"))
        elif order_id in self.transmitted or order_id in self.refused:
            self.say(self.emit(OrderDenied, order_id, code="duplicate", reason="known"))
        elif not self.gate_open:
            self.say(self.emit(OrderDeferred, order_id, reason="gate closed"))
        else:
            quantity = command.quantity
            if self.setup.gate:
                decision = self.book.decide(
                    order_id, command.role, command.oca_group, quantity, reduce=command.reduce_to_open,
                    accept_race=command.accept_race,
                )
                if not decision.quantity:
                    self.refused.add(order_id)
                    self.say(self.emit(OrderDenied, order_id, code="exceeds_open", reason=decision.reason))
                    return
                quantity = decision.quantity
            self.book.placed(order_id, command.role, command.oca_group, quantity)
            self.transmitted.add(order_id)
            self.to_venue.append(builders.msgspec.structs.replace(command, quantity=quantity))
            self.say(
                self.emit(OrderSubmitted, order_id, leg=command.leg, quantity=quantity, client_id=1, venue_order_id=1)
            )

    def broker_hears(self, event: Any) -> None:
        """Book what the venue said, then pass it on."""
        if isinstance(event, OrderFilled):
            before = self.booked.get(event.exec_id, ZERO)
            if event.exec_id in self.booked and not hasattr(event, "prior_qty"):
                pass
            else:
                self.booked[event.exec_id] = event.last_qty
                self.book.filled(event.order_id, event.role, event.last_qty - before)
                order = self.book.orders.get(event.order_id)
                if order is not None and order.filled >= order.quantity:
                    order.live = False  # complete: a bust does not open it again
        elif isinstance(event, OrderCanceled | OrderExpired | OrderRejected):
            self.book.ended(event.order_id)
        elif isinstance(event, OrderEchoed):
            self.book.resized(event.order_id, event.quantity)
        self.say(event)


    def shown(self, order: Order) -> OrderEchoed:
        echoed: OrderEchoed = self.emit(
            OrderEchoed, order.sent.order_id, quantity=order.quantity, limit_price=order.limit, stop_price=order.stop
        )
        return echoed

    def flush_wire(self) -> None:
        """Requests and answers share one stream: what was written before a request is done before its answer."""
        while self.to_venue:
            self.venue_takes(self.to_venue.pop(0))
        while self.to_us:
            self.broker_hears(self.to_us.pop(0))

    def answer(self, order_id: str) -> None:
        if not self.gate_open:
            return
        self.flush_wire()
        order = self.orders.get(order_id)
        if order is None:
            self.book.forgotten(order_id)
            self.say(self.emit(OrderAbsent, order_id))
            return
        for fill in self.execs.values():
            if fill.order_id == order_id:
                self.broker_hears(fill)
        if order.alive:
            order.acked = True
            self.say(self.emit(OrderAccepted, order_id, perm_id=5, client_id=1))
            self.broker_hears(self.shown(order))
        elif order.ended != "filled" or order.cum < order.quantity:
            self.broker_hears(self.emit(OrderCanceled, order_id, requested=order.ended == "requested", reason="gone"))
        else:
            self.broker_hears(self.shown(order))

    def picture(self) -> None:
        if not self.gate_open:
            self.pending_own = True
            return
        self.flush_wire()
        self.pending_own = False
        for fill in list(self.execs.values()):
            self.broker_hears(fill)
        shown = []
        for order_id, order in self.orders.items():
            if order.alive:
                order.acked, order.echo_due = True, False
                self.book.resized(order_id, order.quantity)
            else:
                self.book.ended(order_id)
            shown.append(
                PicturedOrder(
                    order_id=order_id, perm_id=5, client_id=1, quantity=order.quantity, limit_price=order.limit,
                    stop_price=order.stop, oca_group=order.sent.oca_group,
                    live=order.alive, status="Submitted" if order.alive else "Cancelled",
                )
            )
        for order_id in self.transmitted - self.orders.keys():
            self.book.forgotten(order_id)
        self.say(BracketPictured(bracket_id=self.id, orders=tuple(shown), ts_ns=self.now))

    # -- the venue ---------------------------------------------------------------------------------------------

    def venue_takes(self, command: Any) -> None:
        order = self.orders.get(command.order_id)
        if isinstance(command, SubmitOrder):
            if command.oca_native and self.group_over(command.oca_group):
                self.orders[command.order_id] = Order(command, command.quantity, alive=False, ended="rejected")
                self.to_us.append(
                    self.emit(OrderRejected, command.order_id, code=201, reason="OCA group is already filled")
                )
                return
            placed = Order(command, command.quantity, limit=command.limit_price, stop=command.stop_price)
            self.orders[command.order_id] = placed
            if command.oca_group:
                self.groups.setdefault(command.oca_group, command.quantity)
            if command.oca_native and self.setup.honest_oca:
                left = self.room(command.oca_group or "")
                if placed.quantity > left > 0:  # it joined a group that has filled meanwhile: the venue cuts it
                    placed.quantity, placed.echo_due = left, True
        elif isinstance(command, CancelOrder):
            if order is None or not order.alive:
                self.to_us.append(self.emit(CancelRejected, command.order_id, code=10148, reason="not cancellable"))
            else:
                order.canceling = True
        elif order is None or not order.alive:
            self.to_us.append(self.emit(AmendRejected, command.order_id, code=104, reason="cannot modify"))
        else:
            order.amend = command

    def group_over(self, group: str | None) -> bool:
        members = [o for o in self.orders.values() if o.sent.oca_group == group]
        return bool(members) and any(o.cum for o in members) and not any(o.alive for o in members)

    def live(self, want: Callable[[Order], bool] = lambda o: True) -> list[Order]:
        return [order for order in self.orders.values() if order.alive and want(order)]

    def end(self, order: Order, how: str) -> None:
        order.alive, order.ended = False, how

    def ack(self, pick: int) -> None:
        found = self.live(lambda o: not o.acked) or self.live()
        if found:
            order = found[pick % len(found)]
            order.acked = True
            self.to_us.append(self.emit(OrderAccepted, order.sent.order_id, perm_id=5, client_id=1))

    def fill(self, pick: int, size: int, price: int = 0) -> None:
        found = self.live()
        if not found:
            return
        order = found[pick % len(found)]
        part = max(Decimal(1), (order.leaves * (size % 10) / 10).to_integral_value())
        quantity = order.leaves if size % 3 == 0 else min(part, order.leaves)
        sent = order.sent
        if sent.role is Role.EXIT and sent.oca_group:
            if sent.oca_native and not self.setup.honest_oca:
                self.strict = False
            room = self.room(sent.oca_group)
            if quantity > room:
                if not self.setup.races and self.setup.honest_oca:
                    quantity = room
                    if quantity <= 0:
                        return
                else:
                    self.strict = False
            if not sent.oca_native and self.strict:  # what merely rests beside each other is not filled twice here
                quantity = min(quantity, max(self.open, ZERO))
                if quantity <= 0:
                    return
        self.execute(order, quantity, price)

    def execute(self, order: Order, quantity: Decimal, price: int) -> None:
        sent = order.sent
        order.cum += quantity
        if sent.role is Role.ENTRY:
            self.truth_entry += quantity
        elif sent.role is Role.EXIT:
            self.truth_exit += quantity
        else:
            self.truth_excess += quantity
        fill = builders.fill(
            sent.order_id, quantity, 100 if sent.role is Role.ENTRY and price % 5 else 95 + price % 16,
            exec_id=f"e{self.next()}", cum=order.cum, role=str(sent.role), side=str(sent.side),
        )
        self.execs[fill.exec_id] = fill
        done: list[Any] = []
        if order.alive and order.leaves <= 0:
            done = [self.shown(order)] if order.echo_due else []
            self.end(order, "filled")
        before = self.siblings(order) if sent.oca_native and self.setup.honest_oca else []
        first = price % 2
        self.to_us.extend(before if first else [])
        self.to_us.append(fill)
        self.to_us.extend([] if first else before)
        self.to_us.extend(done)

    def siblings(self, order: Order) -> list[Any]:
        """OCA type 2: what one member fills, the others lose; the news of it comes with the fill or later."""
        ends: list[Any] = []
        for other in self.live(lambda o: o.sent.oca_group == order.sent.oca_group):
            if other is order:
                continue
            left = self.room(order.sent.oca_group or "")
            if left <= 0:
                self.end(other, "requested")
                ends.append(self.emit(OrderCanceled, other.sent.order_id, requested=True, reason="OCA"))
            elif other.leaves > left:
                other.quantity, other.echo_due = other.cum + left, True
        return ends

    def echo(self, pick: int) -> None:
        found = self.live(lambda o: o.echo_due or o.amend is not None)
        if not found:
            return
        order = found[pick % len(found)]
        if order.amend is not None:
            order.limit, order.stop = order.amend.limit_price, order.amend.stop_price
            order.quantity, order.amend = max(order.amend.quantity, order.cum), None
            if not order.sent.oca_native and order.sent.oca_group:
                self.groups[order.sent.oca_group] = max(self.groups[order.sent.oca_group], order.quantity)
        order.echo_due = False
        self.to_us.append(self.shown(order))
        if order.leaves <= 0:
            self.end(order, "filled")

    def refuse_amend(self, pick: int) -> None:
        found = self.live(lambda o: o.amend is not None)
        if found:
            order = found[pick % len(found)]
            order.amend = None
            self.to_us.append(self.emit(AmendRejected, order.sent.order_id, code=201, reason="no"))

    def honour_cancel(self, pick: int) -> None:
        found = self.live(lambda o: o.canceling)
        if found:
            self.cancel(found[pick % len(found)], requested=True, odd=pick)

    def refuse_cancel(self, pick: int) -> None:
        found = self.live(lambda o: o.canceling)
        if found:
            order = found[pick % len(found)]
            order.canceling = False
            self.to_us.append(self.emit(CancelRejected, order.sent.order_id, code=161, reason="not cancellable now"))

    def human_cancel(self, pick: int) -> None:
        found = self.live()
        if found:
            self.cancel(found[pick % len(found)], requested=False, odd=pick)

    def cancel(self, order: Order, requested: bool, odd: int = 0) -> None:
        members = [order]
        if order.sent.oca_native and self.setup.honest_oca:
            members += [o for o in self.live(lambda o: o.sent.oca_group == order.sent.oca_group) if o is not order]
        for each in members:
            self.end(each, "requested" if requested else "canceled")
            said = requested and (each is order or odd % 2 == 0)
            self.to_us.append(self.emit(OrderCanceled, each.sent.order_id, requested=said, reason="cancelled"))
            if self.setup.late_fills and odd % 3 == 0 and each.quantity > each.cum:
                if each.sent.role is Role.EXIT:
                    self.strict = False
                self.execute(each, Decimal(1) if odd % 2 else each.quantity - each.cum, odd)

    def reject(self, pick: int) -> None:
        found = self.live(lambda o: not o.acked) or self.live()
        if found:
            order = found[pick % len(found)]
            self.end(order, "rejected")
            code, reason = ((201, "no margin"), (110, "price"), (201, "OCA group is already filled"),
                            (10326, "OCA group revision is not allowed"))[pick % 4]  # fmt: skip
            self.to_us.append(self.emit(OrderRejected, order.sent.order_id, code=code, reason=reason))

    def expire(self, pick: int) -> None:
        found = self.live()
        if found:
            order = found[pick % len(found)]
            self.end(order, "expired")
            self.to_us.append(self.emit(OrderExpired, order.sent.order_id, reason="expired"))

    def correct(self, pick: int, size: int) -> None:
        if not self.setup.corrections or not self.execs:
            return
        key = sorted(self.execs)[pick % len(self.execs)]
        old = self.execs[key]
        new = builders.corrected(old, (0, old.last_qty - 1, old.last_qty, old.last_qty + 1)[size % 4])
        self.strict = False
        self.execs[key] = new
        delta = new.last_qty - old.last_qty
        self.orders[old.order_id].cum += delta
        if old.role is Role.ENTRY:
            self.truth_entry += delta
        elif old.role is Role.EXIT:
            self.truth_exit += delta
        else:
            self.truth_excess += delta
        order = self.orders[old.order_id]
        if order.alive and order.leaves <= 0:
            self.end(order, "filled")
        self.to_us.append(new)

    def repeat(self, pick: int) -> None:
        """The venue says something again."""
        fills = sorted(self.execs)
        if fills and pick % 2:
            self.to_us.append(self.execs[fills[pick % len(fills)]])
        elif self.live(lambda o: o.acked):
            found = self.live(lambda o: o.acked)
            order = found[pick % len(found)]
            self.to_us.append(self.emit(OrderAccepted, order.sent.order_id, perm_id=5, client_id=1))

    def unknown(self, pick: int) -> None:
        found = self.live()
        if found:
            order = found[pick % len(found)]
            self.say(self.emit(OrderUnknown, order.sent.order_id, reason="no answer"))

    # -- connection, restart, clock, children, operators ---------------------------------------------------------

    def disconnect(self, pick: int) -> None:
        if not self.gate_open:
            return
        self.gate_open = False
        for n, message in enumerate(self.to_venue):
            if (pick >> (n % 4)) % 2:
                self.venue_takes(message)
            if isinstance(message, SubmitOrder):
                self.say(self.emit(OrderUnknown, message.order_id, reason="the socket dropped"))
        self.to_venue.clear()
        self.to_us.clear()
        for order in self.orders.values():
            order.amend = None if (pick >> 2) % 2 else order.amend
        self.routed.append(GateClosed(reason="socket", ts_ns=self.now))

    def midnight(self, pick: int) -> None:
        """The day ends while nobody listens: an entry fills, or not, and nothing is told of it any more."""
        self.disconnect(pick)
        found = [o for o in self.live(lambda o: o.sent.role is Role.ENTRY) if self.is_known(o)]
        if not found:
            return
        order = found[pick % len(found)]
        order_id = order.sent.order_id
        self.unseen[order_id] = pick % 3 > 0
        self.truth_entry += order.leaves if self.unseen[order_id] else ZERO
        self.end(order, "unseen")
        del self.orders[order_id]
        self.execs = {key: fill for key, fill in self.execs.items() if fill.order_id != order_id}
        self.durable = len(self.story)

    def is_known(self, order: Order) -> bool:
        """Whether the bracket has heard all of an order's life so far."""
        known = self.bracket.orders.get(order.sent.order_id)
        return known is not None and known.alive and known.perm_id is not None and (
            (known.cum_qty, known.quantity) == (order.cum, order.quantity) and order.amend is None)  # fmt: skip

    def explain(self, command: SeekFill) -> None:
        """Say what the account shows."""
        if self.gate_open and command.order_id in self.unseen:
            filled = command.quantity if self.unseen[command.order_id] else ZERO
            self.say(self.emit(
                AbsenceExplained, command.order_id, filled=filled, held=filled, booked=ZERO, avg_cost=Decimal(99),
                alone=True,
            ))  # fmt: skip

    def reconnect(self, pick: int = 0) -> None:
        if self.gate_open:
            return
        self.gate_open = True
        self.picture()
        self.routed.append(GateOpened(ts_ns=self.now, client_id=1))

    def start(self) -> None:
        self.incarnation += 1
        self.timers.clear()
        self.children.clear()
        self.to_child.clear()
        self.inbox.clear()
        self.to_broker = []
        self.tell(BracketStarted(bracket_id=self.id, incarnation=self.incarnation, ts_ns=self.now))
        self.to_broker.insert(0, ("own", self.incarnation))  # type: ignore[arg-type]

    def restart(self, pick: int) -> None:
        """The actor dies; its successor has the whole story, or, of what was not durable, only a part."""
        if self.bracket.phase is Phase.DETACHED:
            return
        self.ghosts.extend(c for c in self.to_broker if not isinstance(c, tuple))
        verbs = [n for n, (event, _) in enumerate(self.story, 1) if isinstance(event, OperatorCommand)]
        least = max(*verbs, self.durable, 0)
        kept = len(self.story) if pick % 3 == 0 else least + pick % (len(self.story) - least + 1)
        b = new_bracket(self.setup.definition)
        for event, at in self.story[:kept]:
            b, _ = step(b, event, at, self.setup.policy)
        if kept == len(self.story) and b != self.bracket:
            raise Broken("S14: replaying the story gives another bracket")
        if kept < len(self.story):
            self.asked = {key: body for key, body in self.asked.items() if key in self.transmitted}
            self.asked.clear()  # what was asked and not recorded may be asked again: the broker knows what it sent
            self.commands.clear()
        self.story = self.story[:kept]
        self.marks = dict(b.trails)
        self.bracket, self.seen = b, rows(b)
        self.trace.append(f"== restart with {kept} events")
        self.start()

    def clock(self, pick: int) -> None:
        if self.timers:
            self.now += (pick % 5) * 300_000_000
            self.expire_timer(sorted(self.timers)[pick % len(self.timers)])

    def expire_timer(self, key: str) -> None:
        self.timers.discard(key)
        self.now += 1_000_000_000 if self.healing else 0
        self.tell(BracketTimed(bracket_id=self.id, key=key, ts_ns=self.now))

    def child_takes(self, command: Any) -> None:
        if isinstance(command, ArmExit):
            known = self.children.get(command.leg)
            if known is None or command.version > known.version:
                self.children[command.leg] = command
        elif command.leg in self.children and self.children[command.leg].version <= command.version:
            del self.children[command.leg]

    def trigger(self, pick: int) -> None:
        """A held exit's price is met. Without the gate the rules are tested alone: the child is then up to date."""
        if not self.setup.gate:
            while self.to_child:
                self.child_takes(self.to_child.pop(0))
        if not self.children:
            return
        leg = sorted(self.children)[pick % len(self.children)]
        arm = self.children.pop(leg)
        key = (arm.incarnation, leg, arm.version)
        if key in self.arms_fired:
            raise Broken(f"S16: {key} was armed twice")
        self.arms_fired.add(key)
        level = arm.level or Decimal(97)
        self.ghosts.extend(arm.orders)
        event = ExitTriggered(
            bracket_id=self.id, leg=leg, version=arm.version, incarnation=arm.incarnation, price=level, level=level,
            high_water=None, ratchets=0, ambiguous=False, reason=f"{leg} fired", tick_ts_ns=self.now, ts_ns=self.now,
        )
        if self.setup.gate:
            self.from_child.append(event)
        else:
            self.tell(event)

    def ratchet(self, pick: int) -> None:
        trails = [leg for leg in self.children.values() if leg.amount is not None or leg.percent is not None]
        if not trails:
            return
        leg, sign = trails[pick % len(trails)].leg, -legs.exit_side(self.setup.definition).sign
        high = Decimal(100 + sign * (pick % 7))
        event = TrailMoved(
            bracket_id=self.id, row_id=f"{self.id}.{leg}", high_water=high, stop=high - 2 * sign, ratchets=1,
            ts_ns=self.now,
        )
        known = self.marks.get(leg)
        if known is None or (event.stop - known[1]) * sign > 0:
            self.marks[leg] = (event.high_water, event.stop)
        self.tell(event)

    def condition(self, pick: int) -> None:
        if self.bracket.watching:
            self.tell(ConditionMet(bracket_id=self.id, price=Decimal(190), tick_ts_ns=self.now, ts_ns=self.now))

    def operate(self, pick: int) -> None:
        common: dict[str, Any] = {"bracket_id": self.id, "command_id": f"v{self.next()}"}
        side = -legs.exit_side(self.setup.definition).sign
        verbs: list[Callable[[], OperatorCommand]] = [
            lambda: CancelEntry(**common),
            lambda: CancelBracket(**common),
            lambda: FlattenBracket(**common),
            lambda: ModifyBracket(**common, target=Decimal(100 + side * (12 + pick % 3))),
            lambda: ModifyBracket(**common, stop=Decimal(100 - side * (6 + pick % 3))),
            lambda: ModifyBracket(**common, quantity=Decimal(60 + pick % 90)),
            lambda: ModifyBracket(**common, trail_amount=Decimal(1 + pick % 3)),
            lambda: ModifyBracket(**common, limit_price=Decimal(100 - side)),
            lambda: DetachBracket(**common) if pick % 40 == 8 else CancelEntry(**common),
        ]
        self.tell(verbs[pick % len(verbs)]())

    def deny(self, pick: int) -> None:
        """The broker refuses what is next in its mailbox."""
        if self.to_broker and isinstance(self.to_broker[0], SubmitOrder):
            command = self.to_broker.pop(0)
            assert isinstance(command, SubmitOrder)
            if command.order_id not in self.transmitted:
                self.refused.add(command.order_id)  # an id that was denied once is never written
                code = ("exceeds_open", "halted", "stale")[pick % 3]
                self.say(self.emit(OrderDenied, command.order_id, code=code, reason="denied"))

    def deliver(self, pick: int) -> None:
        """One message arrives somewhere."""
        ways: list[Callable[[], None]] = []
        if self.to_broker:
            ways.append(lambda: self.broker_takes(self.to_broker.pop(0)))
        if self.ghosts:
            ways.append(lambda: self.broker_takes(self.ghosts.pop(0)))
        if self.to_venue:
            ways.append(lambda: self.venue_takes(self.to_venue.pop(0)))
        if self.to_us:
            ways.append(lambda: self.broker_hears(self.to_us.pop(0)))
        if self.inbox:
            ways.append(lambda: self.tell(self.inbox.pop(0)))
        if self.routed:
            ways.append(lambda: self.tell(self.routed.pop(0)))
        if self.to_child:
            ways.append(lambda: self.child_takes(self.to_child.pop(0)))
        if self.from_child:
            ways.append(lambda: self.tell(self.from_child.pop(0)))
        if ways:
            ways[pick % len(ways)]()

    @property
    def busy(self) -> bool:
        return bool(
            self.to_broker or self.ghosts or self.to_venue or self.to_us or self.inbox or self.routed or self.to_child
            or self.from_child
        )

    # -- healing -----------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Let the venue answer everything, the timers pass and the gate open; then everything must be in order."""
        self.healing = True
        for _ in range(400):
            self.reconnect()
            while self.busy:
                self.deliver(0)
                if len(self.trace) > 20_000:
                    raise Broken("it never becomes quiet")
            for order in self.live(lambda o: not o.acked):
                order.acked = True
                self.to_us.append(self.emit(OrderAccepted, order.sent.order_id, perm_id=5, client_id=1))
            for order in self.live(lambda o: o.canceling):
                if order.alive:
                    self.cancel(order, requested=True, odd=2)
            while self.live(lambda o: o.echo_due or o.amend is not None):
                self.echo(0)
            for order in self.live(lambda o: o.sent.order_type == "MKT" and o.sent.role is not Role.ENTRY):
                room = self.room(order.sent.oca_group) if order.sent.oca_group else order.leaves
                if order.alive and min(order.leaves, room) > 0:
                    self.execute(order, min(order.leaves, room), 0)
            if self.busy:
                continue
            if not self.timers:
                break
            for key in sorted(self.timers):
                self.expire_timer(key)
        else:
            raise Broken(f"it never becomes quiet: {sorted(self.timers)}")
        self.check_end()

    def check_end(self) -> None:
        b = self.bracket
        if b.phase is Phase.DETACHED:
            return
        if (b.entry_filled, b.exit_filled, b.excess_filled) != (self.truth_entry, self.truth_exit, self.truth_excess):
            raise Broken("S4: fills are not what the venue executed")
        mine = {o.order_id for o in b.orders.values() if o.alive}
        theirs = {o.sent.order_id for o in self.live()}
        if mine != theirs and not self.setup.corrections:
            raise Broken(f"L2: we believe in {sorted(mine)}, the venue has {sorted(theirs)}")
        if b.phase is Phase.FROZEN:
            if not self.paged:
                raise Broken("frozen, and nobody was called")
            return
        if b.phase is Phase.CLOSED:
            bare = b.definition.intent.exits == () and not b.flatten
            if b.open_qty and not bare:
                raise Broken(f"closed with {b.open_qty} open")
            if theirs:
                raise Broken(f"closed with {sorted(theirs)} at the venue")
            return
        if b.phase in (Phase.SCHEDULED, Phase.ENTERING) and not b.open_qty:
            return
        if b.open_qty < 0:
            if not self.paged:
                raise Broken("overfilled, and nobody was called")
            return
        self.check_cover()

    def check_cover(self) -> None:
        b = self.bracket
        if not b.definition.intent.exits and not b.flatten:
            return
        covered = ZERO
        for lot in b.lots.values():
            if not lot.remaining:
                continue
            for leg in (leg for leg in legs.legs_of(b.definition) if leg.tranche == lot.tranche):
                if lot.fired:
                    break
                alive = [o for o in b.orders.values() if o.lot == lot.number and o.leg == leg.name and o.alive]
                if leg.held and leg.name not in b.touched:
                    if leg.name not in self.children:
                        raise Broken(f"lot {lot.number}: {leg.name} is not armed")
                elif [o.leaves for o in alive] != [lot.remaining] and leg.name not in self.children:
                    raise Broken(f"lot {lot.number}: {leg.name} has {[o.leaves for o in alive]} of {lot.remaining}")
            if lot.fired and not any(o.alive for o in b.orders.values() if o.lot == lot.number):
                raise Broken(f"lot {lot.number} has fired and nothing closes it")
            covered += lot.remaining
        if covered != b.open_qty:
            raise Broken(f"L1: {covered} of {b.open_qty} is covered in phase {b.phase}")


def brief(message: Any) -> str:
    """Return a message in one line."""
    skip = {"bracket_id", "contract", "account", "ts_ns", "tick_ts_ns", "conid", "instrument", "strategy", "command_id"}
    if isinstance(message, tuple):
        return str(message)
    fields = ((name, getattr(message, name)) for name in message.__struct_fields__ if name not in skip)
    return type(message).__name__ + " " + " ".join(
        f"{name}={value}" for name, value in fields if value not in (None, "", (), False)
    )


# Every way in which a run can go on, and how often each is tried.
ACTIONS: tuple[tuple[str, int], ...] = (
    ("deliver", 40), ("ack", 6), ("fill", 10), ("echo", 4), ("honour_cancel", 4), ("clock", 5), ("trigger", 3),
    ("operate", 2), ("reject", 2), ("human_cancel", 1), ("expire", 1), ("correct", 2), ("repeat", 2), ("unknown", 1),
    ("refuse_amend", 1), ("refuse_cancel", 1), ("disconnect", 1), ("reconnect", 3), ("restart", 1), ("ratchet", 2),
    ("condition", 2), ("deny", 1),
)
SIZED = frozenset({"fill", "correct"})


def act(world: World, name: str, pick: int, size: int) -> None:
    """Take one action."""
    world.trace.append(f"{name} {pick} {size}")
    if name == "fill":
        world.fill(pick, size, pick // 3)
    elif name == "correct":
        world.correct(pick, size)
    else:
        getattr(world, name)(pick)
    if not world.gate_open:
        world.to_us.clear()  # nobody listens


SHAPES: dict[str, dict[str, Any]] = {
    "bracket": {},
    "single": {"shape": "single", "exits": ()},
    "oto": {"shape": "oto", "exits": (builders.tranche(stop=builders.stop()),)},
    "tranches": {
        "exits": (
            builders.tranche(quantity=60, target=builders.target(110), stop=builders.stop(95)),
            builders.tranche(quantity=40, target=builders.target(120), stop=builders.stop(94)),
        )
    },
    "trail": {"exits": (builders.tranche(target=builders.target(), trail=builders.trail(2)),)},
    "lone trail": {"exits": (builders.tranche(trail=builders.trail(2)),)},
    "held": {
        "exits": (builders.tranche(target=builders.target(hold="engine"), stop=builders.stop(hold="engine")),)
    },
    "safety": {
        "exits": (builders.tranche(target=builders.target(), stop=builders.stop(hold="engine")),),
        "safety_stop": builders.safety(90),
    },
    "two stops": {"exits": (builders.tranche(stop=builders.stop(limit_offset=1), trail=builders.trail(2)),)},
    "when": {"when": builders.when()},
    "offsets": {"exits": (builders.tranche(target=builders.target(offset=3), stop=builders.stop(percent=2)),)},
}
SHORT = {
    "exits": (builders.tranche(target=builders.target(90), stop=builders.stop(105)),)
}


def definition(shape: str, native: bool) -> Definition:
    """Return a definition of one of SHAPES, of `short` or of `oco`."""
    if shape == "oco":
        return builders.definition(of=builders.oco_intent(), oca_native=native)
    if shape == "short":
        return builders.definition(of=builders.short_intent(), oca_native=native)
    return builders.definition(oca_native=native, **SHAPES[shape])


NAMES = (*SHAPES, "oco", "short")
