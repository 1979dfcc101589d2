"""What a bracket knows: its orders, its lots, its fills; and what it may ask to be done.

Law: values only. Who may change what, and when, is the table in bracket.py.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from actors.rules import legs
from messages.base import Record, Word
from messages.exits import ArmExit
from messages.intent import OrderType, Session, Shape, Side, TimeInForce
from messages.orders import Definition, OrderFilled, Role, SubmitOrder

ZERO = Decimal(0)
AMEND_TRIES = 3
"""Refusals of one amendment before its order is placed anew, or a person is called."""


class Phase(Word):
    """Where a bracket stands. Derived from its facts after every event; the table says which moves are legal."""

    SCHEDULED = "SCHEDULED"  # durable, entry not sent
    ENTERING = "ENTERING"  # entry at the venue, nothing open
    PROTECTED = "PROTECTED"  # something is open and its exits stand, or are being placed
    EXITING = "EXITING"  # a stop fired or a flatten was asked: everything that fills is exited at once
    CLOSING = "CLOSING"  # flat; the last orders are dying
    CLOSED = "CLOSED"  # flat, and every order is dead
    FROZEN = "FROZEN"  # a person must look; protection is left at work
    DETACHED = "DETACHED"  # no longer ours


OVER = frozenset({Phase.CLOSED, Phase.DETACHED})


class Life(Word):
    """One transmission's life, as far as the bracket must know it."""

    ASKED = "asked"  # given to the broker
    SENT = "sent"  # written to the socket
    WORKING = "working"  # the venue has it
    UNKNOWN = "unknown"  # nobody can say; its quantity stays reserved
    VANISHED = "vanished"  # an entry that the venue had and shows nowhere: did it fill before midnight?
    DEAD = "dead"


class VenueOrder(Record, frozen=True, kw_only=True):
    """One order id of ours. `quantity` is its total; `ended` says how it died."""

    order_id: str
    leg: str
    lot: int
    role: Role
    quantity: Decimal
    cum_qty: Decimal = ZERO
    life: Life = Life.ASKED
    ended: str = ""
    group: str | None = None
    market: bool = False
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    cancels: int = 0
    canceling: bool = False
    amending: bool = False
    amends: int = 0
    amend_fails: int = 0
    """Amendments refused, unanswered or answered with something else, in a row."""
    amend_to: tuple[Decimal, Decimal | None, Decimal | None] | None = None
    """Quantity, limit and stop of the last amendment."""
    incarnation: int = 0
    """Of the bracket that asked for it: the broker answers every question of the present one, none of an older one."""
    perm_id: int | None = None
    client_id: int | None = None
    seeks: int = 0
    """How often it was asked whether the account explains its absence."""

    @property
    def alive(self) -> bool:
        return self.life is not Life.DEAD

    @property
    def leaves(self) -> Decimal:
        """What it may still fill, as far as we know."""
        return max(ZERO, self.quantity - self.cum_qty) if self.alive else ZERO


class Lot(Record, frozen=True, kw_only=True):
    """A quantity of filled entry and the exits that compete for it: one OCA group.

    `void`: it is being taken down, to be placed anew. `judging`: something ended oddly; a short wait says why.
    """

    number: int
    tranche: int
    quantity: Decimal
    exited: Decimal = ZERO
    void: bool = False
    judging: bool = False
    fired: str = ""
    """The leg that closes this lot now: a fired stop, or `flat`."""
    level: Decimal | None = None
    """Where the fired stop stood."""
    race_over: bool = False
    """Siblings without a group were waited for in vain and `exit_race = fast`."""
    ids: dict[str, str] = msgspec.field(default_factory=dict)
    """leg -> the order id that the leg's next transmission in this lot will carry."""

    @property
    def remaining(self) -> Decimal:
        return max(ZERO, self.quantity - self.exited)


class Fill(Record, frozen=True, kw_only=True):
    order_id: str
    role: Role
    qty: Decimal
    px: Decimal
    revision: int


class Policy(Record, frozen=True, kw_only=True):
    """What the settings decide. Seconds."""

    cancel_wait_s: float = 1.0
    exit_race: str = "safe"
    coalesce_s: float = 0.05
    echo_s: float = 2.0
    judge_s: float = 1.0
    recancel_s: float = 1.0
    recancel_max: int = 5
    reprotect_max: int = 2
    reprotect_window_s: float = 60.0
    human_cancel: str = "freeze"


class Bracket(Record, frozen=True, kw_only=True):
    """Everything that a bracket knows. `definition` is the one that holds now: a modification replaces its intent."""

    definition: Definition
    phase: Phase = Phase.SCHEDULED
    incarnation: int = 0
    pictured: bool = False
    gate_open: bool = True
    condition_met_ns: int = 0
    orders: dict[str, VenueOrder] = msgspec.field(default_factory=dict)
    lots: dict[int, Lot] = msgspec.field(default_factory=dict)
    fills: dict[str, Fill] = msgspec.field(default_factory=dict)
    numbers: dict[str, int] = msgspec.field(default_factory=dict)
    armed: dict[str, ArmExit] = msgspec.field(default_factory=dict)
    fired: dict[int, str] = msgspec.field(default_factory=dict)
    touched: frozenset[str] = frozenset()
    """Held targets whose price was touched: from then on they rest at the venue."""
    trails: dict[str, tuple[Decimal, Decimal]] = msgspec.field(default_factory=dict)
    """leg -> (high water, stop), as last journalled: where a rebuilt trailing stop goes on."""
    watching: bool = False
    entry_filled: Decimal = ZERO
    entry_cost: Decimal = ZERO
    exit_filled: Decimal = ZERO
    excess_filled: Decimal = ZERO
    last_entry_px: Decimal | None = None
    entry_over: bool = False
    entry_stopped: bool = False
    """No more entry is wanted: a cancel, a flatten, or a stop has fired."""
    flatten: bool = False
    overfill_noted: Decimal = ZERO
    excess_due: bool = False
    claim_over: bool = False
    """An OCO was cancelled: it claims only what its exits have closed."""
    cover_due: bool = False
    timers: frozenset[str] = frozenset()
    reprotects: tuple[int, ...] = ()
    reason: str = ""

    @property
    def claimed(self) -> Decimal:
        """What an OCO closes: the claim on the existing position."""
        intent = self.definition.intent
        if intent.shape is not Shape.OCO:
            return ZERO
        return min(intent.quantity, self.exit_filled) if self.claim_over else intent.quantity

    @property
    def bought(self) -> Decimal:
        """The exit budget's credit side: entry fills, or the claim."""
        return self.claimed + self.entry_filled

    @property
    def open_qty(self) -> Decimal:
        """What is open in the entry's direction; negative when exits closed more than was open."""
        return self.bought - self.exit_filled + self.excess_filled

    @property
    def average(self) -> Decimal | None:
        """The actual average entry fill, per share."""
        return self.entry_cost / self.entry_filled if self.entry_filled else None

    def entry(self) -> VenueOrder | None:
        """The newest transmission of the entry."""
        number = self.numbers.get(legs.ENTRY, 0)
        return self.orders.get(legs.order_id(self.definition.bracket_id, legs.ENTRY, number)) if number else None


def written(
    b: Bracket, order_id: str, leg: str, role: Role, side: Side, quantity: Decimal, order_type: OrderType, **more: Any
) -> SubmitOrder:
    """Return a transmission of a bracket's with all that follows from its definition. GTC unless told otherwise."""
    definition = b.definition
    return SubmitOrder(
        command_id=f"{order_id}:submit",
        bracket_id=definition.bracket_id,
        order_id=order_id,
        incarnation=b.incarnation,
        leg=leg,
        role=role,
        account=definition.account,
        contract=definition.contract,
        side=side,
        quantity=quantity,
        order_type=order_type,
        outside_rth=definition.intent.session is Session.EXTENDED,
        **{"time_in_force": TimeInForce.GTC, **more},
    )


# -- what a step may ask for, beside the commands to broker and children ----------------------------------------


class StartTimer(Record, frozen=True, kw_only=True):
    key: str
    seconds: float


class Alert(Record, frozen=True, kw_only=True):
    severity: str
    code: str
    sentence: str


class Incident(Record, frozen=True, kw_only=True):
    code: str
    sentence: str


class Refusal(Record, frozen=True, kw_only=True):
    """An operator's verb that cannot be done now."""

    code: str
    sentence: str


class WatchCondition(Record, frozen=True, kw_only=True):
    """Arm the rule of the intent, or (on=False) forget it."""

    on: bool = True


class SeekFill(Record, frozen=True, kw_only=True):
    """Ask whether the account holds what a vanished entry would have filled (trading-rules.md 28)."""

    order_id: str
    quantity: Decimal


class BookFill(Record, frozen=True, kw_only=True):
    """Tell those who keep books of a fill that no execution tells of, or that such a fill is taken back."""

    fill: OrderFilled
