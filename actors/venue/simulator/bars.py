"""Real-time bars: one bar of five seconds after the other, on the exchange's clock (ib-wire.md 4, 50).

Law: a bar is told once, when its five seconds are over; a window without a trade repeats the last price with volume 0.
Bars of quotes have no volume, no average and no count: -1 each.
"""

from __future__ import annotations

from decimal import Decimal

from actors.venue.simulator.agenda import Entry
from actors.venue.simulator.feeds import NS, Trade, Watcher
from actors.venue.simulator.orders import ZERO, Quote
from actors.venue.simulator.wire import encode, number

BAR_SECONDS = 5
BAR_NS = BAR_SECONDS * NS
SHOWN = ("TRADES", "MIDPOINT", "BID", "ASK")


def next_edge_ns(ns: int) -> int:
    """Return the first edge between two bars after this time."""
    return (ns // BAR_NS + 1) * BAR_NS


class RealTimeBars(Watcher):
    """One reqRealTimeBars. The data desk calls `finish` at each edge."""

    request = "reqRealTimeBars"

    def __init__(self, req_id: int, con_id: int, show: str, q: Quote) -> None:
        self.req_id = req_id
        self.con_id = con_id
        self.show = show
        self.entry: Entry | None = None      # what calls `finish`
        self._close = q.last if show == "TRADES" else self._price(q)
        self._begin()

    def _begin(self) -> None:
        self._open = self._high = self._low = self._close
        self._volume = self._turnover = ZERO
        self._count = 0

    def _price(self, q: Quote) -> Decimal | None:
        if self.show == "MIDPOINT":
            return (q.bid + q.ask) / 2 if q.bid is not None and q.ask is not None else None
        return q.bid if self.show == "BID" else q.ask

    def _moved(self, price: Decimal) -> None:
        self._open = price if self._open is None else self._open
        self._high = price if self._high is None else max(self._high, price)
        self._low = price if self._low is None else min(self._low, price)
        self._close = price

    def quote(self, q: Quote) -> bytes:
        if self.show == "TRADES":
            return b""
        price = self._price(q)
        if price is not None:
            self._moved(price)
        return b""

    def trade(self, t: Trade, q: Quote) -> bytes:
        if self.show == "TRADES" and t.eligible:
            if not self._count:            # the first trade opens the bar, whatever the bar before has closed at
                self._open = self._high = self._low = None
            self._moved(t.price)
            self._volume += t.size
            self._turnover += t.size * t.price
            self._count += 1
        return b""

    def phase(self, q: Quote, is_open: bool) -> bytes:
        """No quote stands over the night: the first one of the morning opens its bar."""
        if self.show != "TRADES" and is_open:
            self._close = None
            self._begin()
        return b""

    def close(self) -> None:
        if self.entry is not None:
            self.entry.cancel()

    def finish(self, end_ns: int, tell: bool) -> bytes:
        """End the window and return its bar, if there is one to tell."""
        out = b""
        if tell and self._open is not None:
            assert self._high is not None
            assert self._low is not None
            assert self._close is not None
            if self.show != "TRADES":
                rest = ("-1", "-1", "-1")
            else:
                average = self._turnover / self._volume if self._volume else self._close
                rest = (number(self._volume), number(average.quantize(Decimal("0.00000001"))), str(self._count))
            prices = (number(p) for p in (self._open, self._high, self._low, self._close))
            out = encode(50, 3, self.req_id, (end_ns - BAR_NS) // NS, *prices, *rest)
        self._begin()
        return out
