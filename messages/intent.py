"""What a strategy asks for: one intent, its shape, its exits.

Law: an intent is data. What makes it acceptable is decided in actors/rules/intake.py; nothing here guesses a default
that changes what is traded.
"""

from __future__ import annotations

from decimal import Decimal

from messages.base import Record, Word
from messages.market import TriggerMethod


class Side(Word):
    """The four sides of 001.C.15. The venue knows two; `venue_side` says which."""

    BUY = "BUY"
    SELL = "SELL"
    SELL_SHORT = "SELL_SHORT"
    BUY_TO_COVER = "BUY_TO_COVER"

    @property
    def sign(self) -> int:
        """+1 where a fill adds to the position, -1 where it takes away."""
        return 1 if self in (Side.BUY, Side.BUY_TO_COVER) else -1

    @property
    def venue_side(self) -> Side:
        """BUY or SELL: what IB is told."""
        return Side.BUY if self.sign > 0 else Side.SELL

    @property
    def exit_side(self) -> Side:
        """The side that closes what this side opens."""
        return {
            Side.BUY: Side.SELL,
            Side.SELL_SHORT: Side.BUY_TO_COVER,
            Side.SELL: Side.BUY_TO_COVER,
            Side.BUY_TO_COVER: Side.SELL,
        }[self]

    @property
    def opens(self) -> bool:
        """Whether the side opens a position (BUY, SELL_SHORT) rather than reduces one."""
        return self in (Side.BUY, Side.SELL_SHORT)


class OrderType(Word):
    MKT = "MKT"
    LMT = "LMT"
    STP = "STP"
    STP_LMT = "STP LMT"


class TimeInForce(Word):
    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class Urgency(Word):
    """How hard to work an entry. Only Normal (send it as written) is enforced so far."""

    IMMEDIATE = "Immediate"
    HIGH = "High"
    NORMAL = "Normal"
    PASSIVE = "Passive"


class ExpiryPolicy(Word):
    """What happens to the position near the close. Only `hold` is enforced so far."""

    HOLD = "hold"
    CLOSE_BEFORE_MARKET_CLOSE = "close_before_market_close"


class Hold(Word):
    """Where an exit waits: resting at IB once the entry fills, or virtual here until its price triggers."""

    VENUE = "venue"
    ENGINE = "engine"


class Shape(Word):
    SINGLE = "single"
    BRACKET = "bracket"
    OCO = "oco"
    OTO = "oto"
    OTOCO = "otoco"


class Session(Word):
    RTH = "rth"
    EXTENDED = "extended"


class Operator(Word):
    AT_LEAST = ">="
    AT_MOST = "<="


class Target(Record, frozen=True, kw_only=True):
    """A profit target: a limit order. Exactly one of price, offset (currency per share, > 0) and percent (> 0)."""

    price: Decimal | None = None
    offset: Decimal | None = None
    percent: Decimal | None = None
    hold: Hold = Hold.VENUE
    trigger_method: TriggerMethod = TriggerMethod.DEFAULT


class Stop(Record, frozen=True, kw_only=True):
    """A protective stop. Exactly one of price, offset and percent; a limit makes it STP LMT.

    `offset` and `percent` are distances from the actual average fill. `limit_price` is absolute; `limit_offset` is
    how far beyond the trigger the limit lies (currency per share, >= 0).
    """

    price: Decimal | None = None
    offset: Decimal | None = None
    percent: Decimal | None = None
    limit_price: Decimal | None = None
    limit_offset: Decimal | None = None
    hold: Hold = Hold.VENUE
    trigger_method: TriggerMethod = TriggerMethod.DEFAULT


class TrailingStop(Record, frozen=True, kw_only=True):
    """A stop that follows the price: `amount` (currency per share) or `percent`, never both; always held here.

    `limit_offset` turns the fired order from MKT into LMT at stop -/+ offset. Dormant until `activation_price`.
    """

    amount: Decimal | None = None
    percent: Decimal | None = None
    limit_offset: Decimal | None = None
    activation_price: Decimal | None = None
    trigger_method: TriggerMethod = TriggerMethod.DEFAULT


class Tranche(Record, frozen=True, kw_only=True):
    """One share of the position and the exits that compete for it; the first to complete cancels the others.

    Tranches take the filled quantity in the order written. `quantity` None: all of it (one tranche only).
    """

    quantity: Decimal | None = None
    target: Target | None = None
    stop: Stop | None = None
    trailing_stop: TrailingStop | None = None


class SafetyStop(Record, frozen=True, kw_only=True):
    """A native stop kept at IB beside held exits, wide enough to matter only when the engine is gone."""

    price: Decimal | None = None
    offset: Decimal | None = None
    percent: Decimal | None = None


class Condition(Record, frozen=True, kw_only=True):
    """A rule: "when AAPL last >= 190". The entry is transmitted once, at the first qualifying tick."""

    instrument: str
    operator: Operator
    price: Decimal
    trigger_method: TriggerMethod = TriggerMethod.LAST


class Intent(Record, frozen=True, kw_only=True):
    """What a strategy wants. The eleven fields of 001.C.2-12, then order, exits and rule.

    Units: quantity in shares or contracts, prices in the instrument's currency, valid_for in seconds.
    For the shape `oco` there is no entry: side is the side of the exits and quantity the claim on the position.
    """

    signal_id: str
    strategy: str
    instrument: str
    side: Side
    quantity: Decimal
    urgency: Urgency
    time_in_force: TimeInForce
    max_slippage_bps: Decimal | None
    expiry_policy: ExpiryPolicy
    risk_tags: tuple[str, ...]
    target_price: Decimal | None = None
    shape: Shape = Shape.BRACKET
    order_type: OrderType = OrderType.MKT
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    good_till: str | None = None
    exits: tuple[Tranche, ...] = ()
    safety_stop: SafetyStop | None = None
    when: Condition | None = None
    session: Session = Session.RTH
    valid_for: Decimal | None = None
    account: str | None = None
