"""The orders that the broker knows, and the brackets that own them: plain books, found by every name an order has.

Law: orderRef and permId last; a venue order id means something only within one session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from actors.rules.gate import BracketBook
from actors.rules.reconcile import Ref, parse_ref
from actors.venue.port import ExecutionSeen
from messages.base import Word
from messages.intent import OrderType, Side, TimeInForce
from messages.orders import (
    AmendOrder,
    Contract,
    OrderDenied,
    OrderEvent,
    OrderFilled,
    PicturedOrder,
    Role,
    SubmitOrder,
)

ZERO = Decimal(0)


class Stage(Word):
    """How far a transmission has come."""

    QUEUED = "queued"
    """Waits here for room in the outgoing rate: not sent."""
    WRITTEN = "written"
    """On the socket; the venue has not said that it has it."""
    WORKING = "working"
    DONE = "done"


@dataclass(slots=True, eq=False)
class KnownOrder:
    """One transmission: what was asked, what the venue says of it, and what is pending."""

    order_id: str
    ref: Ref
    account: str
    contract: Contract
    side: Side
    quantity: Decimal
    """The venue's total, as last told (before that: ours)."""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    group: str = ""
    native: bool = False
    order_type: OrderType = OrderType.MKT
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till: str | None = None
    outside_rth: bool = False
    submit: SubmitOrder | None = None
    stage: Stage = Stage.QUEUED
    venue_order_id: int = 0
    client_id: int = 0
    perm_id: int = 0
    status: str = ""
    filled: Decimal = ZERO
    told_filled: Decimal = ZERO
    """What statuses say is filled: a hint to go and look for executions."""
    written_ns: int = 0
    accepted: bool = False
    unknown: bool = False
    """`OrderUnknown` was said; a query decides."""
    refused: tuple[int, str] | None = None
    """An error that may mean a refusal, until it is known."""
    cancel_wanted: bool = False
    cancel_written_ns: int = 0
    amending: AmendOrder | None = None
    amend_next: AmendOrder | None = None
    end_due_ns: int = 0
    """When an end that nobody here asked for is believed to be a stranger's doing."""
    end_reason: str = ""
    seen_round: int = 0
    completed: str = ""
    ended: OrderEvent | None = None
    commands: set[str] | None = None
    """Amendments and cancels obeyed in this session, by command id."""
    amend_queued: bool = False
    cancel_queued: bool = False
    template: Any = None
    """What the venue made of it beforehand, where it was prepared; used once."""
    described: bool = False
    """We sent it, or an openOrder has told its type, group and total; else only executions or an end were seen."""
    absent_once: bool = False
    """One round of questions has found nothing of it; a second one decides."""
    unsure: int = 0
    """Rounds of questions whose answers did not suffice."""
    cum_qty: Decimal = ZERO
    """The venue's own count of what is filled, as its executions tell it."""

    def heed(self, command_id: str) -> bool:
        """Whether a command is new in this session; a repeated one is obeyed once."""
        if self.commands is None:
            self.commands = set()
        new = command_id not in self.commands
        self.commands.add(command_id)
        return new

    @property
    def live(self) -> bool:
        return self.stage in (Stage.WRITTEN, Stage.WORKING)

    @property
    def role(self) -> Role:
        return self.submit.role if self.submit is not None else self.ref.role

    @property
    def leg(self) -> str:
        return self.submit.leg if self.submit is not None else self.ref.leg

    def pictured(self) -> PicturedOrder:
        """Return the order as its bracket is shown it."""
        status = self.completed or self.status or ("PendingSubmit" if self.live else "Executed")
        return PicturedOrder(
            order_id=self.order_id, perm_id=self.perm_id, client_id=self.client_id, quantity=self.quantity,
            limit_price=self.limit_price, stop_price=self.stop_price, oca_group=self.group or None, live=self.live,
            status=status)


@dataclass(slots=True, eq=False)
class Execution:
    """One execution as it stands now, and what was said of it."""

    seen: ExecutionSeen
    order_id: str
    event: OrderFilled | None = None


@dataclass(slots=True, eq=False)
class OwnedBracket:
    """Who owns a bracket's orders, and its books at the gate."""

    bracket_id: str
    incarnation: int = 0
    owner: Any = None
    contract: Contract | None = None
    account: str = ""
    strategy: str = ""
    book: BracketBook = field(default_factory=BracketBook)
    order_ids: dict[str, None] = field(default_factory=dict)
    exec_ids: dict[str, None] = field(default_factory=dict)
    believed: tuple[SubmitOrder, ...] = ()
    booked: frozenset[str] = frozenset()
    """Executions that the owner had booked when it last said OwnBracket: its totals have them."""
    prepared: dict[str, KnownOrder] | None = None
    """Orders that may have to be sent at any moment, ready to be written; none of them counts for anything yet."""
    denied: dict[str, OrderDenied] | None = None
    """Order ids that were refused here: they stay refused, however late a repetition comes."""
    pictured: bool = False
    released: bool = False


class Books:
    """Every order, execution and bracket, by all their names."""

    def __init__(self) -> None:
        self.orders: dict[str, KnownOrder] = {}
        self.brackets: dict[str, OwnedBracket] = {}
        self.executions: dict[str, Execution] = {}
        self.by_perm: dict[int, KnownOrder] = {}
        self.by_venue_id: dict[int, KnownOrder] = {}
        self.active: dict[tuple[str, int, Side], int] = {}
        """Living orders per (account, conid, side at the venue)."""
        self.active_exits: dict[tuple[str, int, Side], int] = {}
        """Those of them that are exits."""

    def bracket(self, bracket_id: str) -> OwnedBracket:
        found = self.brackets.get(bracket_id)
        if found is None:
            found = self.brackets[bracket_id] = OwnedBracket(bracket_id)
        return found

    def find(self, order_ref: str, perm_id: int, client_id: int = -1, venue_order_id: int = 0,
             our_client: int = -2) -> KnownOrder | None:
        """Find an order by its ref, else its permId, else, for this session's own, its venue order id."""
        found = self.orders.get(order_ref) if order_ref else None
        if found is None and perm_id:
            found = self.by_perm.get(perm_id)
        if found is None and venue_order_id > 0 and client_id == our_client:
            found = self.by_venue_id.get(venue_order_id)
        return found

    def adopt(self, order_ref: str, account: str, conid: int, symbol: str, side: Side,
              quantity: Decimal) -> KnownOrder | None:
        """Take in an order that carries a ref of ours but that nobody here remembers. None for a stranger's ref."""
        ref = parse_ref(order_ref)
        if ref is None:
            return None
        bracket = self.bracket(ref.bracket_id)
        contract = bracket.contract
        if contract is None or contract.conid != conid:
            contract = Contract(instrument=symbol, conid=conid, symbol=symbol, sec_type="", exchange="", currency="")
        # Whether it still works is for the open orders to say; until then it is not counted as living.
        order = KnownOrder(order_ref, ref, account, contract, side, quantity, stage=Stage.DONE)
        self.orders[order_ref] = order
        bracket.order_ids[order_ref] = None
        return order

    def register(self, submit: SubmitOrder) -> KnownOrder:
        """Take in an order that is to be sent."""
        bracket = self.bracket(submit.bracket_id)
        order = _ready(bracket, submit) or self.made(submit)
        self.orders[submit.order_id] = order
        bracket.order_ids[submit.order_id] = None
        return order

    @staticmethod
    def made(submit: SubmitOrder) -> KnownOrder:
        """Return the order that a command asks for; it is in no book yet."""
        ref = parse_ref(submit.order_id) or Ref(bracket_id=submit.bracket_id, leg=submit.leg, number=1)
        return KnownOrder(
            submit.order_id, ref, submit.account, submit.contract, submit.side, submit.quantity, submit.limit_price,
            submit.stop_price, submit.oca_group or "", submit.oca_native, submit.order_type, submit.time_in_force,
            submit.good_till, submit.outside_rth, submit, described=True)

    def forget(self, order: KnownOrder) -> None:
        """Drop an order that was never written, or is proved absent."""
        self.orders.pop(order.order_id, None)
        bracket = self.brackets.get(order.ref.bracket_id)
        if bracket is not None:
            bracket.order_ids.pop(order.order_id, None)
            bracket.book.forgotten(order.order_id)

    def forget_bracket(self, bracket: OwnedBracket) -> None:
        """Drop everything about a bracket that has long been over."""
        for order_id in list(bracket.order_ids):
            order = self.orders[order_id]
            if self.by_perm.get(order.perm_id) is order:
                del self.by_perm[order.perm_id]
            if self.by_venue_id.get(order.venue_order_id) is order:
                del self.by_venue_id[order.venue_order_id]
            self.set_stage(order, Stage.DONE)
            del self.orders[order_id]
        for exec_id in bracket.exec_ids:
            del self.executions[exec_id]
        del self.brackets[bracket.bracket_id]

    def set_stage(self, order: KnownOrder, stage: Stage) -> None:
        """Move an order on, and keep the count of living ones."""
        before = order.live
        order.stage = stage
        if order.live != before:
            key = (order.account, order.contract.conid, order.side.venue_side)
            change = 1 if order.live else -1
            self.active[key] = self.active.get(key, 0) + change
            if order.ref.role is Role.EXIT:
                self.active_exits[key] = self.active_exits.get(key, 0) + change

    def siblings(self, order: KnownOrder) -> list[KnownOrder]:
        """Return the other members of an order's group."""
        bracket = self.brackets.get(order.ref.bracket_id)
        if bracket is None or not order.group:
            return []
        found = (self.orders.get(key) for key in bracket.order_ids)
        return [other for other in found if other is not None and other is not order and other.group == order.group]

    def new_session(self) -> None:
        """Forget what only the old session's numbers meant."""
        self.by_venue_id.clear()
        for order in self.orders.values():
            order.seen_round = 0
            order.commands = None
            order.cancel_written_ns = 0


def _ready(bracket: OwnedBracket, submit: SubmitOrder) -> KnownOrder | None:
    """Return the order as it was prepared, if it still is what is asked for; its limit price may be another one."""
    order = bracket.prepared.pop(submit.order_id, None) if bracket.prepared else None
    if order is None or order.submit is submit:
        return order
    if msgspec.structs.replace(order.submit, limit_price=submit.limit_price) != submit:
        return None
    order.submit, order.limit_price = submit, submit.limit_price
    return order
