"""What the router asks of the risk actor, and its answer."""

from __future__ import annotations

from decimal import Decimal

from messages.base import Command, Event
from messages.intent import Intent, Side
from messages.orders import Contract, OrderEvent


class SubmitIntent(Command, frozen=True, kw_only=True):
    """A strategy's intent, as it reaches the router. `correlation` ties the one `CommandAnswered` to its sender."""

    intent: Intent
    correlation: str = ""
    source: str = "strategy"


class ReviewIntent(Command, frozen=True, kw_only=True):
    """May this intent become this bracket? Answered by `IntentApproved` or `IntentDenied`, once."""

    bracket_id: str
    intent: Intent
    ts_ns: int


class IntentApproved(Event, frozen=True, kw_only=True):
    bracket_id: str
    signal_id: str
    contract: Contract
    account: str


class IntentDenied(Event, frozen=True, kw_only=True):
    """Refused before anything was sent. `code` is a stable word; the sentence names field, value and rule."""

    bracket_id: str
    signal_id: str
    strategy: str
    instrument: str
    code: str
    sentence: str
    ts_ns: int


class ReleaseClaim(Command, frozen=True, kw_only=True):
    """A bracket is over: what risk had set aside for it (quantity, notional, direction) is free again."""

    bracket_id: str


class TagPosition(Command, frozen=True, kw_only=True):
    """Risk tells position what an approved intent's strategy says of it (risk_tags); kept with the position."""

    account: str
    conid: int
    strategy: str
    risk_tags: tuple[str, ...]


class QualifyInstrument(Command, frozen=True, kw_only=True):
    """Ask the broker for an instrument's contract and price grid."""

    instrument: str


class InstrumentQualified(Event, frozen=True, kw_only=True):
    contract: Contract


class InstrumentUnknown(Event, frozen=True, kw_only=True):
    instrument: str
    reason: str


class PositionSeen(Event, frozen=True, kw_only=True):
    """The venue's own position in one contract, at connect and when it changes. Lags fills; never a gate by itself."""

    account: str
    conid: int
    instrument: str
    quantity: Decimal
    avg_cost: Decimal
    ts_ns: int


class ExplainAbsence(Command, frozen=True, kw_only=True):
    """An entry that the venue had accepted is nowhere any more: does the account hold what it would have filled?

    From a bracket to the broker, which lists the account's positions anew, fills in `held` and `avg_cost` and passes it
    on to the position actor. `quantity` is what is missing, all of it. Answered by `AbsenceExplained`, the same way
    back; not answered while executions are still on their way to the books: ask again.
    """

    bracket_id: str
    order_id: str
    account: str
    conid: int
    side: Side
    quantity: Decimal
    held: Decimal = Decimal(0)
    """The venue's own net position, signed."""
    avg_cost: Decimal = Decimal(0)
    """The venue's average cost of it, fees included."""
    ts_ns: int = 0


class AbsenceExplained(OrderEvent, frozen=True, kw_only=True):
    """`filled` of a vanished entry must have filled: the account holds exactly so much more than is booked; or 0."""

    filled: Decimal
    held: Decimal
    booked: Decimal
    """What our executions add up to in that account and contract, answers not yet booked included. Signed."""
    avg_cost: Decimal
    alone: bool
    """Nothing but this fill is in `avg_cost`."""
