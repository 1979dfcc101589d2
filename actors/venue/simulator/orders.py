"""What the simulated exchange keeps: orders, executions, positions, quotes, and the rules that it follows.

Law: plain values without behaviour beyond arithmetic on themselves.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.instructions import PLAIN, Instructions

ZERO = Decimal(0)
FINAL = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
UNSET_ID = 2**31 - 1
"""What an execution of a manual order carries in place of an order id (ib-wire.md 8)."""
Key = tuple[int, int]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=3_600_000)]


class Record(msgspec.Struct, frozen=True):
    """A fact that does not change."""


class Preview(Record, frozen=True, kw_only=True):
    """What a what-if answer says: margins and equity with loan before and after a complete fill, and the commission."""

    initial_before: Decimal
    maintenance_before: Decimal
    equity_before: Decimal
    initial_after: Decimal
    maintenance_after: Decimal
    equity_after: Decimal
    commission: Decimal
    currency: str = "USD"
    warning: str = ""


class LegTally(msgspec.Struct, frozen=True, kw_only=True):
    """What one leg of a combination order has traded so far."""

    filled: Decimal = ZERO
    cost: Decimal = ZERO
    commission: Decimal = ZERO


class Order(msgspec.Struct, kw_only=True, eq=False):
    """One order at the venue, in IB's words. Prices are in the contract's currency, times UTC nanoseconds.

    `filled` and `cost` grow with each execution; `total - filled` is what remains. `extras` holds fields that the
    exchange only echoes (ib-wire.md 5.1). An order made by hand in TWS has `manual`, its number among its like: it
    shows orderId 0 and client 0 until it is bound to client 0, then the negative of that number. `seq` and `retired`
    number orders as they come and as they end.
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
    instructions: Instructions = PLAIN
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
    retired: int = 0
    manual: int = 0
    pending: Literal["", "accept", "cancel"] = ""
    """What the venue is still about: to accept this order, or to cancel it; `pending_ns` says when it is done."""
    pending_ns: int = 0
    tallies: tuple[LegTally, ...] = ()
    """One for each leg of a combination that has traded."""
    legging: Decimal = ZERO
    """Combinations of which only the first leg has traded (`non_guaranteed`)."""
    preview: Preview | None = None

    @property
    def key(self) -> Key:
        return (0, -self.manual) if self.manual else (self.client_id, self.order_id)

    @property
    def bound(self) -> bool:
        """Whether a client owns this order: a manual one has none until it is bound."""
        return not self.manual or self.order_id < 0

    @property
    def remaining(self) -> Decimal:
        return self.total - self.filled

    @property
    def free(self) -> Decimal:
        """What may still trade: what remains, less the combinations of which one leg has traded already."""
        return self.remaining - self.legging

    @property
    def avg_price(self) -> Decimal:
        return self.cost / self.filled if self.filled else ZERO

    @property
    def is_buy(self) -> bool:
        return self.action == "BUY"

    def count_fill(self, quantity: Decimal, price: Decimal) -> None:
        """Add one execution; an order that is traded is held by nothing any more."""
        self.filled += quantity
        self.cost += quantity * price
        self.last_fill_price = price
        if self.status == "PreSubmitted":
            self.status, self.why_held, self.triggered = "Submitted", "", True

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
    """What an account holds of one contract: signed quantity, average cost, realised P&L so far.

    Costs are in cash: the average cost of one contract contains its multiplier, as IB's does. `flow` is all cash that
    trades of this contract have brought or cost, commissions included.
    """

    account: str
    contract: Contract
    quantity: Decimal = ZERO
    avg_cost: Decimal = ZERO
    realized: Decimal = ZERO
    flow: Decimal = ZERO
    day: str = ""
    """The exchange's day (yyyymmdd) that the next three are of: what it was worth when that began, and what had flowed
    and been realised until then."""
    day_value: Decimal = ZERO
    day_flow: Decimal = ZERO
    day_realized: Decimal = ZERO

    def value(self, price: Decimal) -> Decimal:
        return self.quantity * price * self.contract.unit

    def unrealized(self, price: Decimal) -> Decimal:
        return (price * self.contract.unit - self.avg_cost) * self.quantity

    @property
    def realized_today(self) -> Decimal:
        return self.realized - self.day_realized

    def daily(self, price: Decimal) -> Decimal:
        """Return the day's P&L, commissions included: what the value and the cash have gained since it began."""
        return self.value(price) + self.flow - self.day_value - self.day_flow


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
    trades: int = 0
    """How many prints have moved the price, and of how many shares and dollars; `volume` counts all prints."""
    traded: Decimal = ZERO
    turnover: Decimal = ZERO
    halted: int = 0
    time_ns: int = 0


class ExchangeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where IB's behaviour varies or is disputed: the default is the ordinary answer, and the harder one where nobody
    knows (trading-rules.md; docs/gateway-questions.md lists those). Numbers in brackets are sections of ib-wire.md.
    """

    # How an order's life is told [6.1].
    arrival: Literal["staged", "both", "direct"] = "staged"
    """`staged`: PreSubmitted, then Submitted, which an order that trades at once leaves out; `both`: it says that one
    too; `direct`: straight to Submitted."""
    status_first: bool = False
    """An orderStatus comes before the first openOrder."""
    held_repeats: Annotated[int, msgspec.Meta(ge=1, le=3)] = 1
    """How often a held order says 5/3 PreSubmitted; captures often show 2."""
    duplicate_status: Annotated[int, msgspec.Meta(ge=1, le=3)] = 1
    """How often each orderStatus is sent, word for word."""
    late_execution: bool = False
    """openOrder and orderStatus of a fill come before its execution."""
    filled_status: bool = True
    """False: a complete fill is told by 11 and 59 alone."""
    commission_echo: bool = False
    """The commission comes in a second 5/3 Filled; the first one shows none."""
    pending_cancel: bool = True
    """A cancel is first answered by orderStatus PendingCancel."""
    cancel_reason_text: bool = False
    """The text of 202 names the reason."""
    cancel_delay_ms: Milliseconds = 0
    """How long an order is PendingCancel; until then it may still fill, which ends in 161."""
    cancel_race: Literal["cancel", "fill", "partial"] = "cancel"
    """Who wins when a working order is cancelled: the cancel, a complete fill, or a fill of half before the cancel."""
    late_cancel_code: Literal[10148, 161] = 10148
    """What a cancel of an order that is final, or already being cancelled, is answered with."""
    reject_style: Literal["error_first", "inactive_first", "error_only", "inactive_only"] = "error_first"
    """What a refusal with 201 says: the error, 5/3 Inactive, or both in this order."""
    ioc_202: bool = True
    """What is left of an IOC or FOK order ends with 202."""
    fok_unfilled: Literal["Cancelled", "Inactive"] = "Cancelled"
    """How an FOK order that cannot fill ends; a capture shows Inactive."""
    expiry_202: bool = True
    """The end of a GTD or DAY order is told by 202 after its status."""
    child_202: bool = True
    """Each child that falls with its parent is told by 202 after its status."""

    locate_ms: Milliseconds = 0
    """How long shares are looked for that a sale of more than the account holds has to borrow: 404, and the order is
    held by `locate` meanwhile. 0: there are always enough."""

    # Amendments and ids [6.2, 8].
    accept_delay_ms: Milliseconds = 0
    """How long the venue takes to accept a new order; until then nothing is said of it."""
    early_amend_code: Literal[2102, 103] = 2102
    """What an amendment of an order that is still being accepted is answered with."""
    pending_cancel_amend_code: Literal[104, 161] = 104
    below_filled_code: Literal[105, 201] = 105
    """What an amendment to fewer shares than are filled is answered with; the old order lives."""
    type_change: Literal["some", "any"] = "some"
    """`some`: a working order cannot become a stop (329); `any`: every type may become every other."""
    child_parent_135: bool = False
    """Amending a child that resends its parentId is answered with 135; the old order lives."""
    lower_ids: bool = False
    """An id that is not above the last one but was never used is taken; False: 103."""

    # Groups and brackets [6.3].
    oca_cancel_cascade: bool = True
    """A requested cancel of one member cancels its whole group."""
    oca_amend: bool = False
    """False: an amendment of a member is refused with 10326 and the member stays live."""
    oca_refuse_filled_group: bool = True
    """A new order for a group that already filled is refused with 201."""
    oca_late_join: bool = True
    """A new order may join a group whose members already work; False: a second after its first member was placed a
    group takes nobody any more (10326)."""
    oca_reduce: Literal["quantity", "proportional"] = "quantity"
    """`quantity`: siblings shrink by the shares filled; `proportional`: by the filled share of the member's leaves."""
    oca_delay_ms: Milliseconds = 0
    """How long a group takes to react to a fill; until then its other members may fill too."""
    oca_block: bool = False
    """Types 1 and 2 expose one member at a time: no other one fills in a race or before the group has reacted."""
    child_activation: Literal["full", "partial"] = "full"
    """`full`: children of a native bracket work when the parent is filled; `partial`: at its first fill."""
    option_both_sides: bool = False
    """Working orders on both sides of one option contract are allowed; False: the second side is refused with 201."""
    active_order_cap: int = 0
    """IB's cap of active orders per contract, side and account (15 or 20 by document); 0 lifts it."""

    # Time [6.4].
    day_expiry: bool = False
    """DAY orders end at 16:00 New York (20:00 with outsideRth) on the exchange's own time."""
    halt_refuses: bool = False
    """An order for a halted contract is refused with 154; False: it is taken and waits for the reopening."""
    stop_outside_rth: bool = False
    """A stop may ask for outsideRth; False: IB ignores it with warning 2109, and the stop keeps to regular hours."""
    empty_tif_warning: bool = True
    """An order without TIF takes the preset's and is warned of by 10349 while it stays live."""
    preset_tif: Literal["DAY", "GTC"] = "DAY"
    zone_warning: bool = True
    """A date and time without a zone is taken as New York's with warning 2174."""
    bad_time_code: Literal[391, 10314, 10330] = 391
    """What a malformed goodTillDate is refused with."""

    # What few orders ask for [4.1].
    plain_algos: bool = True
    """Algos, scales, hedges, adjusted stops and delta-neutral orders work as the plain order they contain, and the
    journal says so; False: they are refused with 201 that names the field."""
    refuse_old_attributes: bool = True
    """eTradeOnly and firmQuoteOnly, set by old clients by default, are refused with 10268."""
    conditions_in_hours: bool = False
    """Conditions without `conditionsIgnoreRth` hold only in regular hours; False: the market never closes for them."""

    # Manual orders [8].
    bind_resubmits: bool = True
    """Binding cancels and resubmits at the exchange: the order loses its place in the queue."""

    # Matching and money.
    liquidity: Literal["whole", "displayed"] = "whole"
    """`whole`: a marketable order fills completely; `displayed`: at most the displayed size of the touch."""
    cost_includes_commission: bool = True
    """IB's average cost contains the commissions (domain.md C-24)."""
    commission_per_share: Decimal = Decimal("0.005")
    commission_minimum: Decimal = Decimal("1.00")
    commission_per_contract: Decimal = Decimal("0.65")
    """Of options, in place of the rate per share; the minimum holds for them too."""
    margin_check: bool = False
    """An order that would need more initial margin than there is equity with loan is refused with 201."""
    non_guaranteed: Literal["together", "one_leg"] = "together"
    """How a combination with NonGuaranteed=1 trades: whole, or its first leg alone and the others at the next price."""
    completed_cap: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """How many final orders, and how many executions, are remembered."""

    def __post_init__(self) -> None:
        for name in ("commission_per_share", "commission_minimum", "commission_per_contract"):
            rate = getattr(self, name)
            if not rate.is_finite() or not 0 <= rate <= 1000:
                raise ValueError(f"{name} {rate} is not between 0 and 1000")
