"""What is said about prices: subscriptions, ticks, triggers armed and fired.

Law: prices of ticks are integers, price x SCALE; ticks stop at the market-data actor and never reach an order actor.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from messages.base import Command, Event, Word

SCALE = 1_000_000


class TriggerMethod(Word):
    """Which price a trigger watches (IB's trigger methods). DEFAULT is resolved by the instrument's type."""

    DEFAULT = "default"
    LAST = "last"
    DOUBLE_LAST = "double_last"
    BID_ASK = "bid_ask"
    DOUBLE_BID_ASK = "double_bid_ask"
    LAST_OR_BID_ASK = "last_or_bid_ask"
    MIDPOINT = "midpoint"


class TriggerKind(Word):
    STOP = "stop"
    LIT = "lit"
    TRAIL_AMOUNT = "trail_amount"
    TRAIL_PERCENT = "trail_percent"


class Feed(Word):
    """Tick-by-tick trades and quotes, or the 250 ms snapshot stream (trading-rules.md 17)."""

    TICK_BY_TICK = "tick_by_tick"
    SNAPSHOT = "snapshot"


class TradeTick(NamedTuple):
    """One trade: price x SCALE, size, venue time in UTC ns, and whether it may move prices (sale conditions)."""

    instrument: str
    price: int
    size: float
    ts_ns: int
    eligible: bool


class QuoteTick(NamedTuple):
    """One quote: bid and ask x SCALE, 0 or below where there is none; venue time in UTC ns."""

    instrument: str
    bid: int
    ask: int
    ts_ns: int


class TickBatch(Event, frozen=True, kw_only=True):
    """All ticks of one socket read, in order."""

    ticks: tuple[TradeTick | QuoteTick, ...]


class HaltChanged(Event, frozen=True, kw_only=True):
    """Trading in an instrument was halted or resumed (tick type 49)."""

    instrument: str
    halted: bool
    ts_ns: int


class FeedChanged(Event, frozen=True, kw_only=True):
    """A feed was started, lost or restored. `fresh_after_ns`: evidence must be newer than this, by the venue's clock.

    `refused`: the venue will not give it at all, so whatever waits for it needs another way.
    """

    instrument: str
    live: bool
    reason: str
    fresh_after_ns: int
    feed: Feed | None = None
    refused: bool = False


class Subscribe(Command, frozen=True, kw_only=True):
    instrument: str
    feed: Feed


class Unsubscribe(Command, frozen=True, kw_only=True):
    instrument: str
    feed: Feed


class ArmTrigger(Command, frozen=True, kw_only=True):
    """Watch a price for one exit or one rule. The same arm_id replaces; it fires once.

    Prices are Decimals in the instrument's currency; the book turns them into integers exactly.
    """

    arm_id: str
    bracket_id: str
    incarnation: int
    instrument: str
    sec_type: str
    side: str
    kind: TriggerKind
    method: TriggerMethod
    level: Decimal | None = None
    amount: Decimal | None = None
    percent: Decimal | None = None
    activation: Decimal | None = None
    high_water: Decimal | None = None
    initial_stop: Decimal | None = None
    rth_only: bool = True


class DisarmTrigger(Command, frozen=True, kw_only=True):
    arm_id: str
    incarnation: int


class TriggerArmed(Event, frozen=True, kw_only=True):
    """The book has it, on a named feed."""

    arm_id: str
    feed: Feed


class TriggerRefused(Event, frozen=True, kw_only=True):
    arm_id: str
    reason: str


class TriggerFired(Event, frozen=True, kw_only=True):
    """The watched price met its level. Fires once per arm_id."""

    arm_id: str
    bracket_id: str
    price: Decimal
    level: Decimal
    high_water: Decimal | None
    ratchets: int
    ambiguous: bool
    tick_ts_ns: int
    ts_ns: int


class TrailRatcheted(Event, frozen=True, kw_only=True):
    """Where a trailing stop stands (throttled): for the journal, never for a decision."""

    arm_id: str
    bracket_id: str
    high_water: Decimal
    stop: Decimal
    ratchets: int
    ts_ns: int


class MarksChanged(Event, frozen=True, kw_only=True):
    """The last known prices of instruments that trade, at most once a second: (instrument, price)."""

    marks: tuple[tuple[str, Decimal], ...]
    ts_ns: int
