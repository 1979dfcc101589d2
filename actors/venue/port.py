"""What the engine asks of a venue, and what a venue says: our words, not IB's.

Law: nothing of a venue's library crosses this line. Prices and quantities are Decimals made from the venue's own text,
times are UTC nanoseconds, sides are BUY and SELL. A venue says what it was told, in the order in which it was told;
what that means is decided behind the port.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from messages.intent import OrderType, Side, TimeInForce
from messages.market import Feed, QuoteTick, TradeTick
from messages.orders import Contract, Increment


class VenueEvent(msgspec.Struct, frozen=True):
    """Anything a venue says."""


class LinkUp(VenueEvent, frozen=True):
    """The handshake is complete: the accounts of this login, and the protocol's version."""

    accounts: tuple[str, ...]
    version: int


class LinkDown(VenueEvent, frozen=True):
    """The connection is gone, or never came to be. `code` is the venue's number where it gave one (326), else 0."""

    reason: str
    code: int = 0


class TimeTold(VenueEvent, frozen=True):
    epoch_s: int


class IdsTold(VenueEvent, frozen=True):
    next_id: int


class OrderSeen(VenueEvent, frozen=True):
    """An order as the venue holds it now. Prices that its type does not have are None."""

    venue_order_id: int
    client_id: int
    perm_id: int
    order_ref: str
    account: str
    conid: int
    symbol: str
    side: Side
    order_type: str
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    oca_group: str
    status: str
    time_in_force: str = ""
    good_till: str = ""
    outside_rth: bool = False


class StatusSeen(VenueEvent, frozen=True):
    """A status: a hint, never the truth of fills."""

    venue_order_id: int
    client_id: int
    perm_id: int
    status: str
    filled: Decimal
    remaining: Decimal
    why_held: str


class ExecutionSeen(VenueEvent, frozen=True):
    """One execution, live or in answer to a request. `exec_id` is without its correction suffix, `revision` is that."""

    exec_id: str
    revision: int
    live: bool
    venue_order_id: int
    client_id: int
    perm_id: int
    order_ref: str
    account: str
    conid: int
    symbol: str
    sec_type: str
    side: Side
    quantity: Decimal
    price: Decimal
    cum_qty: Decimal
    ts_ns: int


class CommissionSeen(VenueEvent, frozen=True):
    exec_id: str
    revision: int
    commission: Decimal
    currency: str
    realized_pnl: Decimal | None


class CompletedSeen(VenueEvent, frozen=True):
    """An order that is over. It has no venue order id and no client id any more."""

    perm_id: int
    order_ref: str
    account: str
    conid: int
    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    oca_group: str
    status: str
    text: str


class SnapshotEnded(VenueEvent, frozen=True):
    """The end of an answer: open_orders, completed_orders, executions, positions, account."""

    kind: str


class PositionTold(VenueEvent, frozen=True):
    account: str
    conid: int
    symbol: str
    quantity: Decimal
    avg_cost: Decimal


class AccountTold(VenueEvent, frozen=True):
    """One value of an account, as text: NetLiquidation, BuyingPower..."""

    account: str
    tag: str
    value: str
    currency: str


class ErrorTold(VenueEvent, frozen=True):
    """An error, a warning or a notice. `request_id` is an order's or a request's id, or -1."""

    request_id: int
    code: int
    text: str


class ContractTold(VenueEvent, frozen=True):
    """One contract that matches a question. `rule_ids` says where its price grid is kept."""

    request_id: int
    contract: Contract
    rule_id: int
    min_tick: Decimal
    rth_ends_ns: tuple[int, ...] = ()
    """When its regular hours end, on the days that are told; `session_ends_ns`: its extended ones."""
    session_ends_ns: tuple[int, ...] = ()


class ContractsEnded(VenueEvent, frozen=True):
    request_id: int


class RuleTold(VenueEvent, frozen=True):
    rule_id: int
    increments: tuple[Increment, ...]


class HaltTold(VenueEvent, frozen=True):
    instrument: str
    halted: bool


class TicksTold(VenueEvent, frozen=True):
    """All ticks of one read of the socket, in order."""

    ticks: tuple[TradeTick | QuoteTick, ...]


class Garbled(VenueEvent, frozen=True):
    """A message that could not be read. Whatever it was has been missed: reconcile."""

    text: str


class OrderTicket(msgspec.Struct, frozen=True, kw_only=True):
    """All that the venue must be told of one order. Amending sends the whole ticket again under the same venue id."""

    order_ref: str
    account: str
    contract: Contract
    side: Side
    order_type: OrderType
    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till: str | None = None
    outside_rth: bool = False
    oca_group: str | None = None


class Venue(Protocol):
    """A connection to a venue. Nothing here waits: every call writes at most, and answers come out of `pump`."""

    closing: Callable[[int], None]
    """Called with a descriptor of `fds` right before it is closed: stop watching it."""

    def connect(self, host: str, port: int, client_id: int) -> None:
        """Begin a new session. `LinkUp` or `LinkDown` follows; whatever an older session left is forgotten."""

    def disconnect(self) -> None:
        """End the session without a word: no `LinkDown` follows."""

    def close(self) -> None:
        """Disconnect for good and give back every descriptor."""

    def fds(self) -> list[int]:
        """The descriptors whose readability means that `pump` has work."""

    def pump(self, now_ns: int) -> list[VenueEvent]:
        """Read what is there and say what it was. At most one read of the socket (64 KB)."""

    @property
    def unread(self) -> bool:
        """Whether the last `pump` may have left something unread: it took as much as one read can."""

    @property
    def connected(self) -> bool:
        """Whether the handshake is complete and the socket lives."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes written by us that the kernel has not taken yet."""

    @property
    def next_id(self) -> int:
        """The id that the next order or question will take."""

    def raise_id(self, at_least: int) -> None:
        """Make every later id greater than or equal to this."""

    def place(self, ticket: OrderTicket) -> int:
        """Write a new order and return its venue id. Raises ConnectionError when nothing can be written."""

    def prepare(self, ticket: OrderTicket) -> Any:
        """Encode an order but for its id, quantity and prices. Raises ConnectionError without a session."""

    def holds(self, template: Any) -> bool:
        """Whether a template is still good: it dies with the session that made it."""

    def fire(self, template: Any, quantity: Decimal, limit_price: Decimal | None, stop_price: Decimal | None) -> int:
        """Stamp a template and write it: one write. Otherwise as `place`."""

    def amend(self, venue_order_id: int, ticket: OrderTicket) -> None: ...

    def cancel(self, venue_order_id: int) -> None: ...

    def ask_time(self) -> None: ...

    def ask_ids(self) -> None: ...

    def ask_open_orders(self) -> None: ...

    def ask_completed_orders(self) -> None: ...

    def ask_executions(self) -> None: ...

    def ask_positions(self) -> None: ...

    def ask_account(self, account: str) -> None: ...

    def ask_contract(self, instrument: str) -> int:
        """Ask what an instrument's name means and return the request's id: `ContractTold`*, `ContractsEnded`."""

    def ask_rule(self, rule_id: int) -> None: ...

    def subscribe(self, contract: Contract, feed: Feed) -> tuple[int, ...]:
        """Start a feed and return the ids of its requests: errors name them."""

    def unsubscribe(self, contract: Contract, feed: Feed) -> None: ...
