"""What the simulated exchange keeps: orders, executions, positions, quotes, and the rules that it follows.

Law: plain values without behaviour beyond arithmetic on themselves.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from actors.venue.simulator.contracts import Contract

ZERO = Decimal(0)
FINAL = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
Key = tuple[int, int]


class Record(msgspec.Struct, frozen=True):
    """A fact that does not change."""


class Order(msgspec.Struct, kw_only=True, eq=False):
    """One order at the venue, in IB's words. Prices are in the contract's currency, times UTC nanoseconds.

    `filled` and `cost` grow with each execution; `total - filled` is what remains. `extras` holds fields that the
    exchange only echoes (ib-wire.md 5.1).
    """

    client_id: int
    order_id: int
    contract: Contract
    action: str
    total: Decimal
    order_type: str
    account: str
    lmt: Decimal | None = None
    aux: Decimal | None = None
    tif: str = "DAY"
    oca_group: str = ""
    oca_type: int = 3
    order_ref: str = ""
    parent_id: int = 0
    transmit: bool = True
    outside_rth: bool = False
    trigger_method: int = 0
    good_till_date: str = ""
    expires_ns: int | None = None
    trail_stop: Decimal | None = None
    trail_percent: Decimal | None = None
    lmt_offset: Decimal | None = None
    what_if: bool = False
    all_or_none: bool = False
    conditions: int = 0
    extras: dict[str, str] = msgspec.field(default_factory=dict)
    # From here on the exchange writes.
    perm_id: int = 0
    status: str = "PendingSubmit"
    why_held: str = ""
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    last_fill_price: Decimal = ZERO
    triggered: bool = False
    touches: int = 0
    modifies: int = 0
    seq: int = 0
    placed_ns: int = 0
    done_ns: int = 0
    done_text: str = ""
    commission: Decimal = ZERO

    @property
    def key(self) -> Key:
        return (self.client_id, self.order_id)

    @property
    def remaining(self) -> Decimal:
        return self.total - self.filled

    @property
    def avg_price(self) -> Decimal:
        return self.cost / self.filled if self.filled else ZERO

    @property
    def is_buy(self) -> bool:
        return self.action == "BUY"

    @property
    def alive(self) -> bool:
        return self.status not in FINAL

    @property
    def group(self) -> tuple[str, str]:
        return (self.account, self.oca_group)


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One fill of one order. `exec_id` is unique; `realized` is None when the fill only opens a position."""

    exec_id: str
    client_id: int
    order_id: int
    perm_id: int
    order_ref: str
    account: str
    contract: Contract
    side: str
    quantity: Decimal
    price: Decimal
    cum_quantity: Decimal
    avg_price: Decimal
    time_ns: int
    commission: Decimal
    realized: Decimal | None
    liquidity: int


class Position(msgspec.Struct, kw_only=True):
    """What an account holds of one contract: signed quantity, average cost per share, realised P&L so far."""

    account: str
    contract: Contract
    quantity: Decimal = ZERO
    avg_cost: Decimal = ZERO
    realized: Decimal = ZERO


class Quote(msgspec.Struct, kw_only=True):
    """The market in one contract. None means that there is no such price; a size of None is unlimited."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    last_size: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    open: Decimal | None = None
    volume: Decimal = ZERO
    halted: int = 0
    time_ns: int = 0


class ExchangeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where IB's behaviour is disputed: the default is the harder answer (trading-rules.md)."""

    oca_cancel_cascade: bool = True
    """A requested cancel of one member cancels its whole group."""
    oca_amend: bool = False
    """False: an amendment of a member is refused with 10326 and the member stays live."""
    oca_refuse_filled_group: bool = True
    """A new order for a group that already filled is refused with 201."""
    oca_reduce: Literal["quantity", "proportional"] = "quantity"
    """`quantity`: siblings shrink by the shares filled; `proportional`: by the filled share of the member's leaves."""
    child_activation: Literal["full", "partial"] = "full"
    """`full`: children of a native bracket work when the parent is filled; `partial`: at its first fill."""
    liquidity: Literal["whole", "displayed"] = "whole"
    """`whole`: a marketable order fills completely; `displayed`: at most the displayed size of the touch."""
    day_expiry: bool = False
    """DAY orders end at 16:00 New York (20:00 with outsideRth) on the exchange's own time."""
    cost_includes_commission: bool = True
    """IB's average cost contains the commissions (domain.md C-24)."""
    commission_per_share: Decimal = Decimal("0.005")
    commission_minimum: Decimal = Decimal("1.00")
    empty_tif_warning: bool = True
    """An order without TIF becomes DAY and is warned of by 10349 while it stays live."""
    active_order_cap: int = 0
    """IB's cap of active orders per contract, side and account (15 or 20 by document); 0 lifts it."""
    late_cancel_code: Literal[10148, 161] = 10148
    """What a cancel of a final order is answered with."""
    reject_inactive: bool = True
    """A refusal with 201 is followed by openOrder and orderStatus Inactive."""
    pending_cancel: bool = True
    """A cancel is first answered by orderStatus PendingCancel."""
    completed_cap: int = 20_000
    """How many final orders, and how many executions, are remembered."""
