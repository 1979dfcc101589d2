"""Market data of one client as prebuilt frames: quotes and prints of reqMktData (ib-wire.md 10).

Law: a watcher turns what the market does into bytes and knows nothing else; who may watch what is decided by the data
desk. Each change is sent at once, unless the gateway conflates (conflation.py). For each trade `lastTimestamp` (45)
goes before the price, so a reader of `last` already has its time; a size follows its price once more, as IB repeats it.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.venue.simulator.orders import Quote
from actors.venue.simulator.wire import encode, frame, number

NS = 1_000_000_000
UNREPORTED = 2
NO_PRICE = "-1"


class Trade(msgspec.Struct, frozen=True):
    """One print. `eligible` prints move last, triggers and resting orders; others only count as volume.

    In a replay `conditions` is the vendor's condition word in hex, and an ineligible print has `unreported` set.
    """

    price: Decimal
    size: Decimal
    time_ns: int
    exchange: str = "NASDAQ"
    conditions: str = ""
    eligible: bool = True

    @property
    def mask(self) -> int:
        return 0 if self.eligible else UNREPORTED


class TickIds(msgspec.Struct, frozen=True):
    """The numbers under which prices travel; delayed data has numbers of its own."""

    bid: int
    ask: int
    last: int
    bid_size: int
    ask_size: int
    last_size: int
    high: int
    low: int
    volume: int
    close: int
    open: int
    last_time: int
    halted: int


LIVE = TickIds(1, 2, 4, 0, 3, 5, 6, 7, 8, 9, 14, 45, 49)
DELAYED = TickIds(66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 88, 90)


class Watcher:
    """Whatever a client has subscribed to on one contract. Each method returns the frames to send, often none."""

    req_id: int
    con_id: int
    request = "reqMktData"
    """The API name of the request that made it: a cancel must be of the same kind."""
    delayed = False
    """It hears of everything as late as the exchange's delayed data are."""

    def quote(self, q: Quote) -> bytes:
        """Say that the quote has changed."""
        return b""

    def trade(self, t: Trade, q: Quote) -> bytes:
        """Say that a print has come; the quote already counts it."""
        return b""

    def passed_over(self, t: Trade) -> None:
        """Hear of a print that is not told by itself."""

    def hears(self, t: Trade) -> bool:
        """Return whether this print is news to the subscriber, and not just volume."""
        return False

    def halted(self, q: Quote) -> bytes:
        """Say that a halt has begun or ended."""
        return b""

    def phase(self, q: Quote, is_open: bool) -> bytes:
        """Say that the exchange has closed for the night, or opened."""
        return b""

    def close(self) -> None:
        """Hear that it is over: nothing is sent any more."""


class Subscription(Watcher):
    """One reqMktData. `frozen` data stand still over the night; others show that there is no quote then."""

    def __init__(self, req_id: int, con_id: int, ids: TickIds = LIVE, frozen: bool = False) -> None:
        self.req_id = req_id
        self.con_id = con_id
        self.ids = ids
        self.delayed = ids is DELAYED
        self.frozen = frozen
        self._quoted = False
        self._day: tuple[Decimal | None, ...] = ()      # high, low, close and open as they were told
        self._sides = tuple((f"1\x006\0{req_id}\0{price}\0", f"2\x006\0{req_id}\0{size}\0")
                            for price, size in ((ids.bid, ids.bid_size), (ids.ask, ids.ask_size)))
        self._volume = f"2\x006\0{req_id}\0{ids.volume}\0"
        self._trade = tuple(f"{m}\x006\0{req_id}\0{n}\0" for m, n in ((46, ids.last_time), (1, ids.last),
                                                                       (2, ids.last_size)))

    @property
    def data_type(self) -> int:
        """Return the marketDataType (58) while the exchange is open."""
        return 3 if self.delayed else 1

    def opening(self, q: Quote, bbo: str, min_tick: Decimal, is_open: bool = True) -> bytes:
        """Return what answers the subscription: 81, 58 and the present prices."""
        r, ids = self.req_id, self.ids
        shown = self.data_type if is_open or not self.frozen else self.data_type + 1
        parts = [encode(81, r, number(min_tick), bbo, 3), encode(58, 1, r, shown)]
        parts.append(self.quote(q) if is_open or self.frozen else self._no_quote())
        if q.last is not None:
            size = number(q.last_size or Decimal(0))
            if q.time_ns:
                parts.append(encode(46, 6, r, ids.last_time, q.time_ns // NS))
            parts.append(encode(1, 6, r, ids.last, number(q.last), size, 0))
            parts.append(encode(2, 6, r, ids.last_size, size))
        parts.append(self._of_the_day(q))
        parts.append(encode(2, 6, r, ids.volume, number(q.volume)))
        parts.append(encode(45, 6, r, ids.halted, q.halted))
        return b"".join(parts)

    def quote(self, q: Quote) -> bytes:
        """Return the present bid and ask; -1 with size 0 where there is none, nothing where there never were any."""
        quoted, self._quoted = self._quoted, q.bid is not None or q.ask is not None
        return self._prices(q) if quoted or self._quoted else b""

    def _prices(self, q: Quote) -> bytes:
        (bid, bid_size), (ask, ask_size) = self._sides
        bids, asks = shown_size(q.bid_size, q.bid), shown_size(q.ask_size, q.ask)
        return (frame(f"{bid}{shown_price(q.bid)}\0{bids}\x001\0".encode()) + frame(f"{bid_size}{bids}\0".encode())
                + frame(f"{ask}{shown_price(q.ask)}\0{asks}\x001\0".encode()) + frame(f"{ask_size}{asks}\0".encode()))

    def _of_the_day(self, q: Quote) -> bytes:
        """Return high, low, close and open, each where it is not what was told before."""
        now, told, out = (q.high, q.low, q.close, q.open), self._day or (None,) * 4, b""
        self._day, ids = now, self.ids
        for tick, value, before in zip((ids.high, ids.low, ids.close, ids.open), now, told, strict=True):
            if value is not None and value != before:
                out += encode(1, 6, self.req_id, tick, number(value), 0, 0)
        return out

    def _no_quote(self) -> bytes:
        return self._prices(Quote())

    def trade(self, t: Trade, q: Quote) -> bytes:
        volume_tick = frame(f"{self._volume}{number(q.volume)}\0".encode())
        if not t.eligible:
            return volume_tick
        stamp, price, last_size = self._trade
        size = number(t.size)
        day = b"" if (q.high, q.low, q.close, q.open) == self._day else self._of_the_day(q)
        return (frame(f"{stamp}{t.time_ns // NS}\0".encode())
                + frame(f"{price}{number(t.price)}\0{size}\x000\0".encode())
                + frame(f"{last_size}{size}\0".encode()) + volume_tick + day)

    def hears(self, t: Trade) -> bool:
        return t.eligible and not self.delayed

    def halted(self, q: Quote) -> bytes:
        return encode(45, 6, self.req_id, self.ids.halted, q.halted)

    def phase(self, q: Quote, is_open: bool) -> bytes:
        if self.frozen:
            return encode(58, 1, self.req_id, self.data_type if is_open else self.data_type + 1)
        return self.quote(q) if is_open else self._no_quote()


def shown_price(value: Decimal | None) -> str:
    return NO_PRICE if value is None else number(value)


def shown_size(value: Decimal | None, price: Decimal | None = Decimal(1)) -> str:
    """Spell a size: an unlimited one shows as 1000, one without a price as 0."""
    if price is None:
        return "0"
    return "1000" if value is None else number(value)
