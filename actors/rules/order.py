"""The life of one order: what each FIX event makes of its state, its status and its quantities.

Rule 1: every pair of state and event is a row of TABLE or a member of IMPOSSIBLE; nothing is guessed.
Rule 2: executions are the truth. A fill is booked in every state in which an order can have reached the venue: after
        a cancel, after a reject, beyond the quantity. Cumulative quantity falls only by a correction or a bust.
Rule 3: three vocabularies meet here and nowhere else: FIX events, `state` (001.E.1) and `status` (000.D.2).
The quantities follow FIX 4.2 Appendix D, whose matrices the tests replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from messages.base import Record, Word
from messages.orders import OrderState, OrderStatus, Role

ZERO = Decimal(0)


class FixEvent(Word):
    """What can happen to an order, in FIX's words; the last four are ours."""

    VALIDATED = "validated"
    """Risk has approved it."""
    SCHEDULED = "scheduled"
    """It may go now, or waits here for its price: `ready`."""
    DENIED = "denied"
    """We refused to send it."""
    SUBMITTED = "submitted"
    """Written to the socket."""
    ACCEPTED = "accepted"
    """Exec type New: the venue has it."""
    TRADE = "trade"
    """One execution; whether it completes the order follows from the quantities."""
    TRADE_CORRECT = "trade correct"
    TRADE_CANCEL = "trade cancel"
    """A bust."""
    CANCEL_REQUESTED = "cancel requested"
    PENDING_CANCEL = "pending cancel"
    """The venue has our request to cancel and has not decided it."""
    CANCEL_REJECTED = "cancel rejected"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACE_REQUESTED = "replace requested"
    PENDING_REPLACE = "pending replace"
    REPLACE_REJECTED = "replace rejected"
    REPLACED = "replaced"
    """The venue's picture of the quantity changed: by our amendment, or because its OCA group was reduced."""
    REJECTED = "rejected"
    ABSENT = "absent"
    """Proved never to have arrived."""
    REARMED = "rearmed"
    """The row is to have another venue order after its last one ended: a re-protection."""
    CLOSED = "closed"
    """The position that this order opened or closed is flat, and the bracket is done with it."""


class Rule(Word):
    """A next state that depends on the quantities."""

    STAY = "stay"
    COUNTED = "counted"
    """Alive: PLACED with nothing filled, PARTIAL_FILLED with some, FILLED with all."""
    COUNTED_WHILE_CANCELLING = "counted while cancelling"
    """CANCEL_REQUESTED until it is complete, then FILLED: the cancel has lost the race."""
    ENDED = "ended"
    """Dead at the venue: FILLED if complete, else CANCELLED."""


class Pending(Word):
    """A request of ours that the venue has not decided."""

    NONE = "none"
    CANCEL = "cancel"
    REPLACE = "replace"


class OrderLife(Record, frozen=True, kw_only=True):
    """One order as it stands. Quantities in shares or contracts, `notional` = sum of quantity x price, exact."""

    role: Role
    quantity: Decimal
    state: OrderState = OrderState.INTENT
    status: OrderStatus = OrderStatus.PENDING
    cum_qty: Decimal = ZERO
    notional: Decimal = ZERO
    accepted: bool = False
    pending: Pending = Pending.NONE
    pending_seen: bool = False
    """The venue itself has said Pending Cancel or Pending Replace."""

    @property
    def leaves_qty(self) -> Decimal:
        """What may still fill; 0 once the order is over, whatever was filled of it."""
        return ZERO if self.is_over else max(self.quantity - self.cum_qty, ZERO)

    @property
    def avg_px(self) -> Decimal | None:
        return self.notional / self.cum_qty if self.cum_qty else None

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_working(self) -> bool:
        """Whether it may be at the venue: transmitted and not known to be over."""
        return self.state in WORKING


class Report(Record, frozen=True, kw_only=True):
    """One event and its numbers.

    `last_qty`, `last_px`: the execution, or what replaces it in a correction. `prior_qty`, `prior_px`: what the
    execution said before. `quantity`: the order's new total in a replacement
    or a re-protection.
    """

    event: FixEvent
    last_qty: Decimal = ZERO
    last_px: Decimal = ZERO
    prior_qty: Decimal = ZERO
    prior_px: Decimal = ZERO
    quantity: Decimal | None = None


class ImpossibleTransition(RuntimeError):
    """A pair of IMPOSSIBLE was met: a bug of ours. The order is unchanged."""


_S, _E = OrderState, FixEvent
TERMINAL = frozenset({_S.FILLED, _S.CLOSED, _S.REJECTED, _S.CANCELLED})
WORKING = frozenset({_S.PLACED, _S.PARTIAL_FILLED, _S.CANCEL_REQUESTED})
_EXECUTIONS = frozenset({_E.TRADE, _E.TRADE_CORRECT, _E.TRADE_CANCEL})
_STAY, _COUNTED, _RACING, _ENDED = Rule.STAY, Rule.COUNTED, Rule.COUNTED_WHILE_CANCELLING, Rule.ENDED

# Nothing of ours is at the venue yet, as far as we know. A rebuilt bracket may learn here of an order that its dead
# predecessor sent, so VALIDATED and SCHEDULED hear the venue out.
_UNSENT: dict[FixEvent, OrderState | Rule] = {
    _E.DENIED: _S.REJECTED,
    _E.SUBMITTED: _S.PLACED,
    _E.ACCEPTED: _S.PLACED,
    _E.TRADE: _COUNTED,
    _E.TRADE_CORRECT: _COUNTED,
    _E.TRADE_CANCEL: _COUNTED,
    _E.CANCELED: _S.CANCELLED,      # a child that never went is cancelled here, without a word to the venue
    _E.EXPIRED: _S.CANCELLED,
    _E.REJECTED: _S.REJECTED,
    _E.REPLACED: _STAY,
    _E.ABSENT: _STAY,
}

# What a working order hears. PARTIAL_FILLED and CANCEL_REQUESTED differ from PLACED in the rows below it.
_WORKING: dict[FixEvent, OrderState | Rule] = {
    _E.SUBMITTED: _STAY,
    _E.ACCEPTED: _STAY,             # a fill may come before the acknowledgement
    _E.TRADE: _COUNTED,
    _E.TRADE_CORRECT: _COUNTED,
    _E.TRADE_CANCEL: _COUNTED,
    _E.CANCEL_REQUESTED: _S.CANCEL_REQUESTED,
    _E.PENDING_CANCEL: _S.CANCEL_REQUESTED,  # also when somebody else asked
    _E.CANCEL_REJECTED: _COUNTED,
    _E.CANCELED: _ENDED,
    _E.EXPIRED: _ENDED,
    _E.REPLACE_REQUESTED: _STAY,
    _E.PENDING_REPLACE: _STAY,
    _E.REPLACE_REJECTED: _STAY,     # the old order lives on
    _E.REPLACED: _COUNTED,
    _E.REJECTED: _S.REJECTED,
}

# An order that is over: late news changes quantities, an old answer changes nothing.
_OVER: dict[FixEvent, OrderState | Rule] = {
    _E.TRADE: _ENDED,
    _E.TRADE_CORRECT: _ENDED,
    _E.TRADE_CANCEL: _ENDED,
    _E.ACCEPTED: _STAY,
    _E.PENDING_CANCEL: _STAY,
    _E.CANCEL_REJECTED: _STAY,      # "too late to cancel"
    _E.CANCELED: _STAY,             # filled wins over canceled
    _E.EXPIRED: _STAY,
    _E.PENDING_REPLACE: _STAY,
    _E.REPLACE_REJECTED: _STAY,
    _E.REPLACED: _STAY,
    _E.REJECTED: _STAY,             # the refusal of an amendment that came too late
    _E.CLOSED: _STAY,
}

_ROWS: dict[OrderState, dict[FixEvent, OrderState | Rule]] = {
    _S.INTENT: {
        _E.VALIDATED: _S.VALIDATED,
        _E.DENIED: _S.REJECTED,
        _E.CANCELED: _S.CANCELLED,
        _E.EXPIRED: _S.CANCELLED,
    },
    _S.VALIDATED: {**_UNSENT, _E.VALIDATED: _STAY, _E.SCHEDULED: _S.SCHEDULED},
    _S.SCHEDULED: {**_UNSENT, _E.SCHEDULED: _STAY, _E.CANCEL_REQUESTED: _S.CANCEL_REQUESTED, _E.REARMED: _STAY},
    _S.PLACED: {**_WORKING, _E.ABSENT: _S.SCHEDULED},
    _S.PARTIAL_FILLED: _WORKING,
    _S.CANCEL_REQUESTED: {
        **_WORKING,
        _E.TRADE: _RACING,
        _E.TRADE_CORRECT: _RACING,
        _E.TRADE_CANCEL: _RACING,
        _E.CANCEL_REQUESTED: _STAY,
        _E.PENDING_CANCEL: _STAY,
        _E.REPLACED: _RACING,
        _E.ABSENT: _S.CANCELLED,
    },
    _S.FILLED: {**_OVER, _E.SUBMITTED: _STAY, _E.REPLACED: _COUNTED, _E.CLOSED: _S.CLOSED},
    _S.CLOSED: {**_OVER, _E.SUBMITTED: _STAY},      # an execution opens it again: CLOSED means flat
    _S.REJECTED: {
        **_OVER,
        _E.TRADE: _COUNTED,         # it works after all, or did
        _E.ACCEPTED: _COUNTED,
        _E.SUBMITTED: _S.PLACED,
        _E.REARMED: _S.SCHEDULED,
        _E.DENIED: _STAY,
    },
    _S.CANCELLED: {
        **_OVER,
        _E.SUBMITTED: _S.PLACED,    # our cancel crossed its transmission: it must be cancelled at the venue
        _E.REARMED: _S.SCHEDULED,
        _E.ABSENT: _STAY,
        _E.DENIED: _STAY,
    },
}

TABLE: dict[tuple[OrderState, FixEvent], OrderState | Rule] = {
    (state, event): following for state, row in _ROWS.items() for event, following in row.items()
}

# Named one by one, so that a new state or event cannot slip in undecided.
IMPOSSIBLE: frozenset[tuple[OrderState, FixEvent]] = frozenset(
    [(_S.INTENT, event) for event in (            # an intent is not an order: nobody else knows of it
        _E.SCHEDULED, _E.SUBMITTED, _E.ACCEPTED, _E.TRADE, _E.TRADE_CORRECT, _E.TRADE_CANCEL, _E.CANCEL_REQUESTED,
        _E.PENDING_CANCEL, _E.CANCEL_REJECTED, _E.REPLACE_REQUESTED, _E.PENDING_REPLACE, _E.REPLACE_REJECTED,
        _E.REPLACED, _E.REJECTED, _E.ABSENT, _E.REARMED, _E.CLOSED)]
    + [(_S.VALIDATED, event) for event in (       # no request can concern what was not sent
        _E.CANCEL_REQUESTED, _E.PENDING_CANCEL, _E.CANCEL_REJECTED, _E.REPLACE_REQUESTED, _E.PENDING_REPLACE,
        _E.REPLACE_REJECTED, _E.REARMED, _E.CLOSED)]
    + [(_S.SCHEDULED, event) for event in (
        _E.VALIDATED, _E.PENDING_CANCEL, _E.CANCEL_REJECTED, _E.REPLACE_REQUESTED, _E.PENDING_REPLACE,
        _E.REPLACE_REJECTED, _E.CLOSED)]
    + [(state, event) for state in (_S.PLACED, _S.PARTIAL_FILLED, _S.CANCEL_REQUESTED) for event in (
        _E.VALIDATED, _E.SCHEDULED, _E.DENIED, _E.REARMED, _E.CLOSED)]   # it may be at the venue
    + [(_S.PARTIAL_FILLED, _E.ABSENT)]            # it has executions: it was there
    + [(state, event) for state in (_S.FILLED, _S.CLOSED) for event in (
        _E.VALIDATED, _E.SCHEDULED, _E.DENIED, _E.REARMED, _E.ABSENT, _E.CANCEL_REQUESTED, _E.REPLACE_REQUESTED)]
    + [(state, event) for state in (_S.REJECTED, _S.CANCELLED) for event in (
        _E.VALIDATED, _E.SCHEDULED, _E.CANCEL_REQUESTED, _E.REPLACE_REQUESTED)]
    + [(_S.REJECTED, _E.ABSENT)]
)


def new_life(role: Role, quantity: Decimal) -> OrderLife:
    """Begin an order as a row that risk has approved: VALIDATED, `pending`. Raise ValueError below zero."""
    if quantity < 0:
        raise ValueError(f"quantity: {quantity} is below 0; an order has a quantity of 0 or more")
    return OrderLife(role=role, quantity=quantity, state=OrderState.VALIDATED)


def is_possible(state: OrderState, event: FixEvent) -> bool:
    return (state, event) in TABLE


def life_after(
    life: OrderLife, event: FixEvent, *, last_qty: Decimal = ZERO, last_px: Decimal = ZERO, prior_qty: Decimal = ZERO,
    prior_px: Decimal = ZERO, quantity: Decimal | None = None,
) -> OrderLife:
    """Return the order after one event; see `Report` for the numbers. Raise ImpossibleTransition on a bug of ours."""
    return step(life, Report(event=event, last_qty=last_qty, last_px=last_px, prior_qty=prior_qty, prior_px=prior_px,
                             quantity=quantity))


def step(life: OrderLife, report: Report) -> OrderLife:
    """Return the order after one report. Raise ImpossibleTransition where the pair is in IMPOSSIBLE."""
    event = report.event
    following = TABLE.get((life.state, event))
    if following is None:
        raise ImpossibleTransition(f"order in {life.state}: {event} cannot happen (cum {life.cum_qty}, "
                                   f"quantity {life.quantity})")
    quantity, cum_qty, notional = _quantities(life, report)
    state = _resolve(following, life.state, cum_qty, quantity)
    accepted = life.accepted or event in (_E.ACCEPTED, _E.TRADE)
    if event in (_E.REARMED, _E.ABSENT):
        accepted = False
    pending, seen = _pending(life, event, state)
    return OrderLife(
        role=life.role, quantity=quantity, state=state, cum_qty=cum_qty, notional=notional, accepted=accepted,
        status=_status(life, event, state, accepted), pending=pending, pending_seen=seen,
    )


def _quantities(life: OrderLife, report: Report) -> tuple[Decimal, Decimal, Decimal]:
    quantity, cum_qty, notional = life.quantity, life.cum_qty, life.notional
    if report.event in _EXECUTIONS:
        cum_qty += report.last_qty - report.prior_qty
        notional += report.last_qty * report.last_px - report.prior_qty * report.prior_px
        if cum_qty < 0:
            raise ImpossibleTransition(f"order in {life.state}: {report.event} of {report.prior_qty} takes the filled "
                                       f"quantity below 0 (cum {life.cum_qty})")
    elif (
        report.event in (_E.REPLACED, _E.REARMED) and report.quantity is not None
        and not (report.event is _E.REPLACED and life.state in (OrderState.CANCELLED, OrderState.REJECTED))
    ):
        quantity = max(report.quantity, cum_qty)    # FIX D12: less than what is filled means what is filled
    return quantity, cum_qty, notional


def _resolve(following: OrderState | Rule, state: OrderState, cum_qty: Decimal, quantity: Decimal) -> OrderState:
    if isinstance(following, OrderState):
        return following
    if following is _STAY:
        return state
    if cum_qty >= quantity and cum_qty > 0:
        return OrderState.FILLED
    if following is _ENDED:
        return OrderState.CANCELLED
    if following is _RACING:
        return OrderState.CANCEL_REQUESTED
    return OrderState.PARTIAL_FILLED if cum_qty > 0 else OrderState.PLACED


def _pending(life: OrderLife, event: FixEvent, state: OrderState) -> tuple[Pending, bool]:
    if event is _E.CANCEL_REQUESTED:
        return Pending.CANCEL, False
    if event is _E.PENDING_CANCEL:
        return Pending.CANCEL, True
    if event is _E.REPLACE_REQUESTED:
        # A request to cancel outranks one to amend: the order will not live to see the amendment.
        return (life.pending, life.pending_seen) if life.pending is Pending.CANCEL else (Pending.REPLACE, False)
    if event is _E.PENDING_REPLACE:
        return Pending.REPLACE, True
    if event in (_E.CANCEL_REJECTED, _E.REPLACE_REJECTED, _E.REARMED, _E.ABSENT):
        return Pending.NONE, False
    if event is _E.REPLACED and life.pending is Pending.REPLACE:
        return Pending.NONE, False
    if event in (_E.CANCELED, _E.EXPIRED, _E.REJECTED) or state is OrderState.CLOSED:
        return Pending.NONE, False
    return life.pending, life.pending_seen


_ENDINGS = {
    _E.CANCELED: OrderStatus.CANCELED,
    _E.EXPIRED: OrderStatus.EXPIRED,
    _E.REJECTED: OrderStatus.REJECTED,
    _E.DENIED: OrderStatus.DENIED,
    _E.ABSENT: OrderStatus.CANCELED,
}
_ENDED_WORDS = frozenset(_ENDINGS.values())


def _status(life: OrderLife, event: FixEvent, state: OrderState, accepted: bool) -> OrderStatus:
    """Say it in 000's words (C-14). The parent is `transmitted` from the send to its end; a child is `ready` until the
    venue has it, then `active`."""
    if state in (OrderState.FILLED, OrderState.CLOSED):
        return OrderStatus.FILLED
    if state in (OrderState.CANCELLED, OrderState.REJECTED):
        if life.status in _ENDED_WORDS:
            return life.status          # how it ended first is how it ended
        return _ENDINGS.get(event, OrderStatus.CANCELED)
    if state in (OrderState.INTENT, OrderState.VALIDATED):
        return OrderStatus.PENDING
    sent = accepted or event is _E.SUBMITTED or life.status in (OrderStatus.TRANSMITTED, OrderStatus.ACTIVE)
    if state is OrderState.SCHEDULED or (state is OrderState.CANCEL_REQUESTED and not sent):
        return OrderStatus.READY
    if life.role is Role.ENTRY:
        return OrderStatus.TRANSMITTED
    return OrderStatus.ACTIVE if accepted else OrderStatus.READY


def ord_status(life: OrderLife) -> str:
    """Name the order's FIX OrdStatus (39). A pending request that the venue acknowledged outranks a fill."""
    if life.pending_seen:
        return "Pending Cancel" if life.pending is Pending.CANCEL else "Pending Replace"
    if life.state in (OrderState.FILLED, OrderState.CLOSED):
        return "Filled"
    if life.state is OrderState.CANCELLED:
        return "Expired" if life.status is OrderStatus.EXPIRED else "Canceled"
    if life.state is OrderState.REJECTED:
        return "Rejected"
    if life.cum_qty > 0:
        return "Partially Filled"
    return "New" if life.accepted else "Pending New"


def combined(lives: Iterable[OrderLife]) -> OrderLife:
    """Sum the venue orders of one row into one life: what the row's state, status and quantities are (rule 1).

    While anything is alive, the newest living order speaks for the row; after that, the last order does. Quantity is
    what is filled plus what may still fill, or what the last order was for. Raise ValueError without any order.
    """
    orders = list(lives)
    if not orders:
        raise ValueError("combined: a row without an order has no life")
    cum_qty = sum((order.cum_qty for order in orders), ZERO)
    leaves = sum((order.leaves_qty for order in orders), ZERO)
    alive = [order for order in orders if not order.is_over]
    shown = alive[-1] if alive else orders[-1]
    state = OrderState.PARTIAL_FILLED if shown.state is OrderState.PLACED and cum_qty > 0 else shown.state
    unfilled = ZERO if alive else max(shown.quantity - shown.cum_qty, ZERO)
    return OrderLife(
        role=shown.role, quantity=cum_qty + leaves + unfilled, state=state, status=shown.status, cum_qty=cum_qty,
        notional=sum((order.notional for order in orders), ZERO), accepted=any(order.accepted for order in orders),
        pending=shown.pending, pending_seen=shown.pending_seen,
    )
