"""What the running exchange itself has printed and quoted, for the bars and ticks of now.

Law: bounded. Seconds are kept for a quarter of an hour of activity, minutes for two days, half hours for some months;
what has lost its detail shows in the first bar that touches it. Times come in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.history_bars import Piece
from actors.venue.simulator.orders import ZERO, Quote

NS = 1_000_000_000
MICRO = 1_000_000
HALF_HOUR, MINUTE = 1800, 60
KEPT = {1: 900, MINUTE: 2880, HALF_HOUR: 4000}
TICKS = 1000


class QuoteTick(NamedTuple):
    """Bid and ask as they stood at one moment."""

    time_ns: int
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None

    @classmethod
    def around(cls, t: Trade, away: Decimal) -> QuoteTick:
        """Return the quote that a print of the past stands for."""
        return cls(t.time_ns, t.price - away, t.price + away, t.size, t.size)


class Series:
    """One price over time. `bounded` is False for a file's day, which is kept whole. A price that `stands` until the
    next one, as a quote does, opens the next stretch; one that is over with its print does not."""

    __slots__ = ("_bounded", "_carries", "_count", "_halves", "_high", "_last", "_low", "_minutes", "_open", "_paid",
                 "_second", "_seconds", "_size", "_stands", "last_s")

    def __init__(self, bounded: bool = True, stands: bool = False) -> None:
        self._bounded = bounded
        self._stands, self._carries = stands, False
        self._seconds: dict[int, Piece] = {}
        self._minutes: dict[int, Piece] = {}
        self._halves: dict[int, Piece] = {}
        self._second = -1
        self._open = self._high = self._low = self._last = self._size = self._paid = ZERO
        self._count = 0
        self.last_s = -1

    def add(self, at_s: int, price: Decimal, size: Decimal = ZERO) -> None:
        """Take one price; a time before the last one counts as the last one."""
        # This runs for every tick of every contract: the conversion to integers waits until the second is over.
        if at_s > self._second:
            self._close()
            self._second = self.last_s = at_s
            self._high = self._low = self._open = price
            if self._carries:
                self._open = before = self._last
                self._high, self._low = max(price, before), min(price, before)
            self._last, self._carries = price, self._stands
            self._size, self._count, self._paid = size, 1, price * size if size else ZERO
            return
        self._last = price
        if price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        self._count += 1
        if size:
            self._size += size
            self._paid += price * size

    def end(self) -> None:
        """Say that the price stands no longer."""
        self._carries = False

    def _piece(self) -> Piece:
        """Return the second under way."""
        return Piece(micro(self._open), micro(self._high), micro(self._low), micro(self._last), int(self._size),
                     self._count, micro(self._paid))

    def _close(self) -> None:
        """Put the second that is over where it belongs."""
        if self._second < 0:
            return
        piece = self._piece()
        self._keep(self._seconds, self._second, piece, 1)
        self._grow(self._minutes, MINUTE, piece)
        self._grow(self._halves, HALF_HOUR, piece)

    def _grow(self, kept: dict[int, Piece], size: int, p: Piece) -> None:
        start = self._second - self._second % size
        old = kept.get(start)
        if old is None:
            self._keep(kept, start, p, size)
        else:
            kept[start] = Piece(old.open, max(old.high, p.high), min(old.low, p.low), p.close, old.volume + p.volume,
                                old.trades + p.trades, old.paid + p.paid)

    def _keep(self, kept: dict[int, Piece], start: int, piece: Piece, size: int) -> None:
        kept[start] = piece
        if self._bounded and len(kept) > KEPT[size]:
            del kept[next(iter(kept))]

    def cover(self, start: int, end: int) -> Iterator[tuple[int, Piece]]:
        """Yield what is known from start to end, in large pieces where they fit, each with its start."""
        if self.last_s < 0:
            return
        whole_until = self._second - self._second % MINUTE         # the minute under way is known by its seconds only
        half_until = self._second - self._second % HALF_HOUR
        fine_from = next(iter(self._seconds), self._second)
        minutes_from = next(iter(self._minutes), self._second)
        at = max(start, next(iter(self._halves), self._second))
        end = min(end, self.last_s + 1)
        while at < end:
            if at % HALF_HOUR == 0 and at < half_until and (at + HALF_HOUR <= end or at + HALF_HOUR <= minutes_from):
                if at in self._halves:
                    yield at, self._halves[at]
                at += HALF_HOUR
            elif at % MINUTE == 0 and at < whole_until and (at + MINUTE <= end or at + MINUTE <= fine_from):
                if at in self._minutes:
                    yield at, self._minutes[at]
                at += MINUTE
            elif at == self._second:
                yield at, self._piece()
                at += 1
            else:
                if at in self._seconds:
                    yield at, self._seconds[at]
                at = at + 1 if at >= fine_from else min(fine_from, at - at % MINUTE + MINUTE)


class Record:
    """Prints, bids, asks and the middles between these of one contract."""

    __slots__ = ("asks", "bids", "middles", "quotes", "ticks", "trades")

    def __init__(self) -> None:
        self.trades = Series()
        self.bids = Series(stands=True)
        self.asks = Series(stands=True)
        self.middles = Series(stands=True)
        self.ticks: deque[Trade] = deque(maxlen=TICKS)
        self.quotes: deque[QuoteTick] = deque(maxlen=TICKS)

    def printed(self, t: Trade) -> None:
        """Take one print; one that moves no price is a tick, but in no bar."""
        self.ticks.append(t)
        if t.eligible:
            self.trades.add(t.time_ns // NS, t.price, t.size)

    def quoted(self, q: Quote) -> None:
        at_s = q.time_ns // NS
        self.quotes.append(QuoteTick(q.time_ns, q.bid, q.ask, q.bid_size, q.ask_size))
        if q.bid is not None:
            self.bids.add(at_s, q.bid)
        else:
            self.bids.end()
        if q.ask is not None:
            self.asks.add(at_s, q.ask)
        else:
            self.asks.end()
        if q.bid is not None and q.ask is not None:
            self.middles.add(at_s, (q.bid + q.ask) / 2)
        else:
            self.middles.end()

    def closed(self) -> None:
        """Hear that the exchange has closed: no quote stands over the night."""
        for series in (self.bids, self.asks, self.middles):
            series.end()


def micro(price: Decimal) -> int:
    return int(price * MICRO)
