"""What is said about orders: commands to the broker, events from it, and what operators ask of a bracket.

Law: order ids are ours, `<bracket>.<leg>[.<n>]`, sent to the venue as orderRef; `leg` is a row, `order_id` one
transmission. Executions alone count as fills. Quantities are totals in shares or contracts, unless their name says
`last` or `leaves`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from messages.base import Command, Event, Record, Word
from messages.intent import Intent, OrderType, Side, TimeInForce


class OrderState(Word):
    """The life of an order in 001's words (001.E.1): exactly these ten."""

    INTENT = "INTENT"
    VALIDATED = "VALIDATED"
    SCHEDULED = "SCHEDULED"
    PLACED = "PLACED"
    PARTIAL_FILLED = "PARTIAL_FILLED"
    FILLED = "FILLED"
    CLOSED = "CLOSED"
    REJECTED = "REJECTED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELLED = "CANCELLED"


class OrderStatus(Word):
    """The life of an order in 000's words, then how it ended."""

    PENDING = "pending"
    READY = "ready"
    TRANSMITTED = "transmitted"
    ACTIVE = "active"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    DENIED = "denied"
    EXPIRED = "expired"


class Role(Word):
    ENTRY = "entry"
    EXIT = "exit"
    EXCESS = "excess"
    """Buys back (or sells) what exits closed beyond the entry: at most exit filled less entry filled."""


class Increment(Record, frozen=True, kw_only=True):
    """From `low_edge` upwards prices are multiples of `increment` (reqMarketRule)."""

    low_edge: Decimal
    increment: Decimal


class Contract(Record, frozen=True, kw_only=True):
    """A qualified instrument. `instrument` is the name that intents use."""

    instrument: str
    conid: int
    symbol: str
    sec_type: str
    exchange: str
    currency: str
    primary_exchange: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: Decimal = Decimal(1)
    increments: tuple[Increment, ...] = ()
    round_the_clock: bool = False
    """By the venue's own word its regular hours are all hours, as at the simulated gateway."""


class Definition(Record, frozen=True, kw_only=True):
    """A bracket as it was made durable, once, before its entry was transmitted. Everything else can be derived."""

    bracket_id: str
    intent: Intent
    contract: Contract
    account: str
    opened_ns: int
    expires_ns: int
    """An entry not transmitted by then is denied as stale (trading-rules.md 22)."""
    oca_native: bool


# -- to the broker ---------------------------------------------------------------------------------------------


class OwnBracket(Command, frozen=True, kw_only=True):
    """Say who owns a bracket's orders now. The broker answers with `BracketPictured` once it is reconciled.

    `fills` are the execution ids that the owner has already booked.
    """

    bracket_id: str
    incarnation: int
    contract: Contract
    account: str
    entry_filled: Decimal
    exit_filled: Decimal
    strategy: str = ""
    """Travels in every fill: positions are kept per (account, conid, strategy)."""
    fills: tuple[str, ...] = ()
    orders: tuple[SubmitOrder, ...] = ()
    """Every order that the owner believes it has sent, or may have sent."""
    fresh: bool = False
    """True for a bracket opened in this session: no order of it can be at the venue yet."""


class OrderCommand(Command, frozen=True, kw_only=True):
    """What every command to the broker carries. `command_id` is derived: a rebuilt actor repeats the same one."""

    command_id: str
    bracket_id: str
    order_id: str
    incarnation: int = 0


class SubmitOrder(OrderCommand, frozen=True, kw_only=True):
    """Transmit one order. `expires_ns` denies an entry that waited too long; `reduce_to_open` lets the broker cut an
    exit down to what is open at the moment of writing instead of refusing it."""

    leg: str
    role: Role
    account: str
    contract: Contract
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce
    good_till: str | None = None
    outside_rth: bool = False
    oca_group: str | None = None
    """The siblings that compete for the same quantity: always set for an exit, so that the gate counts them once."""
    oca_native: bool = False
    """Whether the group is also told to the venue (ocaGroup, ocaType 2)."""
    expires_ns: int | None = None
    reduce_to_open: bool = False
    accept_race: bool = False
    """exit_race = fast: sent although a sibling without a group may still be alive (trading-rules.md 3)."""


class PrepareOrder(Command, frozen=True, kw_only=True):
    """Make ready what may have to be sent at any moment: SubmitOrder with the same words is then one write.

    Promises and reserves nothing; the newest replaces what was prepared under its order id.
    """

    order: SubmitOrder


class AmendOrder(OrderCommand, frozen=True, kw_only=True):
    """Change quantity (the total) and prices of a working order, on the same venue order id."""

    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class CancelOrder(OrderCommand, frozen=True, kw_only=True):
    reason: str


class QueryOrder(OrderCommand, frozen=True, kw_only=True):
    """Find out what became of an order: open orders, completed orders, executions, by orderRef."""


class ReleaseBracket(Command, frozen=True, kw_only=True):
    """The bracket is over: the broker may forget its books."""

    bracket_id: str
    incarnation: int


# -- from the broker -------------------------------------------------------------------------------------------


class OrderEvent(Event, frozen=True, kw_only=True):
    """Something happened to one order. Goes to the bracket that owns it first."""

    bracket_id: str
    order_id: str
    ts_ns: int


class OrderSubmitted(OrderEvent, frozen=True, kw_only=True):
    """Written to the socket. `quantity` is what was stamped, which may be less than was asked."""

    leg: str
    quantity: Decimal
    client_id: int
    venue_order_id: int


class OrderDeferred(OrderEvent, frozen=True, kw_only=True):
    """Not sent: the gate is closed. Nothing is queued; send it again after `GateOpened`."""

    reason: str


class OrderDenied(OrderEvent, frozen=True, kw_only=True):
    """Not sent, by our own decision. `code` is a stable word: stale, exceeds_open, duplicate, incarnation, halted…"""

    code: str
    reason: str


class OrderAccepted(OrderEvent, frozen=True, kw_only=True):
    """The venue has it: it works, or waits there for its trigger."""

    perm_id: int
    client_id: int


class OrderEchoed(OrderEvent, frozen=True, kw_only=True):
    """The venue's own picture of a working order, where it differs from the last one (amended, or cut by OCA)."""

    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class OrderFilled(OrderEvent, frozen=True, kw_only=True):
    """One execution of one order, partial or complete (FIX: ExecutionReport).

    `exec_id` (without its correction suffix) is the only key for duplicates: the venue repeats its executions after
    every reconnect. `cum_qty` is the venue's own count, for comparison only.
    """

    leg: str
    exec_id: str
    revision: int
    perm_id: int
    client_id: int
    account: str
    conid: int
    instrument: str
    strategy: str
    side: Side
    role: Role
    last_qty: Decimal
    last_px: Decimal
    cum_qty: Decimal
    multiplier: Decimal = Decimal(1)
    recovered: bool = False


class FillCorrected(OrderFilled, frozen=True, kw_only=True):
    """The venue has restated an execution: `last_qty` and `last_px` replace those of the same exec_id (0 = bust)."""

    prior_qty: Decimal
    prior_px: Decimal


class CommissionReported(OrderEvent, frozen=True, kw_only=True):
    """What an execution cost. Before it arrives the ledger holds an estimate."""

    exec_id: str
    commission: Decimal
    currency: str
    realized_pnl: Decimal | None = None


class OrderCanceled(OrderEvent, frozen=True, kw_only=True):
    """Dead at the venue without being complete. `requested`: we asked for it, or its OCA group did it."""

    requested: bool
    reason: str


class OrderExpired(OrderEvent, frozen=True, kw_only=True):
    reason: str


class OrderRejected(OrderEvent, frozen=True, kw_only=True):
    """Refused by the venue; it never worked, or works no longer. `code` is IB's number."""

    code: int
    reason: str


class CancelRejected(OrderEvent, frozen=True, kw_only=True):
    """161, 10147, 10148: a question, not an answer. The broker queries before anything is believed."""

    code: int
    reason: str


class AmendRejected(OrderEvent, frozen=True, kw_only=True):
    """The amendment failed; the old order may live on (trading-rules.md 20)."""

    code: int
    reason: str


class OrderUnknown(OrderEvent, frozen=True, kw_only=True):
    """Sent, and nobody can say what became of it yet. Its quantity stays reserved until a query answers."""

    reason: str


class OrderAbsent(OrderEvent, frozen=True, kw_only=True):
    """Proved absent: no open order, no completed order, no execution carries its orderRef, after quiescence."""


class PicturedOrder(Record, frozen=True, kw_only=True):
    """One order of ours as the venue shows it. `live` False: it is final, with `status` as the venue words it."""

    order_id: str
    perm_id: int
    client_id: int
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    oca_group: str | None
    live: bool
    status: str


class BracketPictured(Event, frozen=True, kw_only=True):
    """The venue's whole picture of a bracket, after quiescence: all that is open, completed or executed under its refs.

    Sent in answer to `OwnBracket`. Executions come before it, as ordinary `OrderFilled` with recovered = True.
    """

    bracket_id: str
    orders: tuple[PicturedOrder, ...]
    ts_ns: int


class GateOpened(Event, frozen=True, kw_only=True):
    """The session is reconciled: orders may be sent."""

    ts_ns: int
    client_id: int


class GateClosed(Event, frozen=True, kw_only=True):
    """Nothing may be sent until the next `GateOpened`."""

    reason: str
    ts_ns: int


# -- what operators ask of a bracket --------------------------------------------------------------------------


class OperatorCommand(Command, frozen=True, kw_only=True):
    """A verb of trading-rules.md 24. `correlation` ties the one answer to the one who asked."""

    bracket_id: str
    command_id: str
    actor: str = "operator"
    correlation: str = ""


class CancelEntry(OperatorCommand, frozen=True, kw_only=True):
    """Cancel what is left of the entry; keep the protection of what is filled."""


class CancelBracket(OperatorCommand, frozen=True, kw_only=True):
    """End parent and children. Refused once something is filled: then it is `flatten` or `cancel-entry`."""


class FlattenBracket(OperatorCommand, frozen=True, kw_only=True):
    """Cancel everything, close what is open at the market, end."""


class DetachBracket(OperatorCommand, frozen=True, kw_only=True):
    """Stop managing; leave the orders at the venue as they are."""


class ModifyBracket(OperatorCommand, frozen=True, kw_only=True):
    """Change a bracket. Before the first fill: entry price and quantity and every exit. After it: exit prices only."""

    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    quantity: Decimal | None = None
    target: Decimal | None = None
    stop: Decimal | None = None
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    tranche: int = 1


class CommandAnswered(Event, frozen=True, kw_only=True):
    """The one final answer to an operator's command or an intent. `sentence` is for a person."""

    correlation: str
    accepted: bool
    bracket_id: str | None
    code: str
    sentence: str
    detail: dict[str, Any] | None = None
