"""Tick-by-tick data of one client, and the newest ticks of a contract that such a stream may begin with.

Law: nothing is conflated: every print of the tape, every change of the quote. What the tape keeps is what this gateway
has itself seen, at most `TAPE_LENGTH` prints and quotes of a contract.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from actors.venue.simulator.feeds import NS, Trade, Watcher, shown_size
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.wire import encode, frame, number

KINDS = {"Last": 1, "AllLast": 2, "BidAsk": 3, "MidPoint": 4}
TAPE_LENGTH = 1000


class Touch(msgspec.Struct, frozen=True):
    """A two-sided quote of the past."""

    time_ns: int
    bid: Decimal
    ask: Decimal
    bid_size: Decimal | None
    ask_size: Decimal | None

    @property
    def middle(self) -> Decimal:
        return (self.bid + self.ask) / 2


class Tape:
    """The newest prints and quotes of one contract."""

    __slots__ = ("prints", "quotes")

    def __init__(self) -> None:
        self.prints: deque[Trade] = deque(maxlen=TAPE_LENGTH)
        self.quotes: deque[Touch] = deque(maxlen=TAPE_LENGTH)

    def quoted(self, q: Quote) -> None:
        if q.bid is not None and q.ask is not None:
            self.quotes.append(Touch(q.time_ns, q.bid, q.ask, q.bid_size, q.ask_size))


class TickByTick(Watcher):
    """One reqTickByTickData. A change of sizes alone is not told with `ignore_size`, nor to who hears mid-points."""

    request = "reqTickByTickData"

    def __init__(self, req_id: int, con_id: int, kind: str, ignore_size: bool = False) -> None:
        self.req_id = req_id
        self.con_id = con_id
        self.kind = kind
        self.ignore_size = ignore_size
        self._prefix = f"99\0{req_id}\0{KINDS[kind]}\0"
        self._shown: tuple[Decimal, ...] = ()

    def quote(self, q: Quote) -> bytes:
        bid, ask = q.bid, q.ask
        if bid is None or ask is None:
            return b""
        seconds = q.time_ns // NS
        if self.kind == "BidAsk":
            if self.ignore_size and self._shown == (bid, ask):
                return b""
            self._shown = (bid, ask)
            return frame(f"{self._prefix}{seconds}\0{number(bid)}\0{number(ask)}\0"
                         f"{shown_size(q.bid_size)}\0{shown_size(q.ask_size)}\x000\0".encode())
        if self.kind == "MidPoint":
            if self._shown == (bid, ask):
                return b""
            self._shown = (bid, ask)
            return frame(f"{self._prefix}{seconds}\0{number((bid + ask) / 2)}\0".encode())
        return b""

    def trade(self, t: Trade, q: Quote) -> bytes:
        """Return the print: AllLast hears of all, Last too (with `unreported` set where it moves nothing)."""
        if self.kind not in ("Last", "AllLast"):
            return b""
        return frame(f"{self._prefix}{t.time_ns // NS}\0{number(t.price)}\0{number(t.size)}\0{t.mask}\0{t.exchange}\0"
                     f"{t.conditions}\0".encode())

    def hears(self, t: Trade) -> bool:
        return self.kind in ("Last", "AllLast")

    def history(self, tape: Tape, n: int) -> bytes:
        """Return the newest n ticks of the past in one message: 98, 97 or 96 by kind, oldest first, marked as done."""
        rows: list[object] = []
        if self.kind in ("Last", "AllLast"):
            prints = list(tape.prints)[-n:]
            for t in prints:
                rows += [t.time_ns // NS, t.mask, number(t.price), number(t.size), t.exchange, t.conditions]
            return encode(98, self.req_id, len(prints), *rows, 1)
        quotes: list[Touch] = []
        for touch in tape.quotes:
            if not quotes or self._is_news(quotes[-1], touch):
                quotes.append(touch)
        quotes = quotes[-n:]
        if self.kind == "BidAsk":
            for touch in quotes:
                rows += [touch.time_ns // NS, 0, number(touch.bid), number(touch.ask), shown_size(touch.bid_size),
                         shown_size(touch.ask_size)]
            return encode(97, self.req_id, len(quotes), *rows, 1)
        for touch in quotes:
            rows += [touch.time_ns // NS, 0, number(touch.middle), 0]
        return encode(96, self.req_id, len(quotes), *rows, 1)

    def _is_news(self, old: Touch, new: Touch) -> bool:
        """Return whether the stream would have told the newer quote after the older one."""
        sizes_count = self.kind == "BidAsk" and not self.ignore_size
        return sizes_count or (old.bid, old.ask) != (new.bid, new.ask)
