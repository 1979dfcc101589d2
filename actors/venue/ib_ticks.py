"""Ticks from IB's frames, decoded by hand: they are the hot path, and the library knows prices as floats only.

Law: prices become integers (x SCALE) straight from the text, exactly; no float decides anything. What is no price
(-1, 0, NaN, empty) is dropped. Delayed ticks (types 66-76) are not prices that anything may fire on.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from actors.venue.port import HaltTold, VenueEvent
from messages.market import SCALE, Feed, QuoteTick, TradeTick

NS = 1_000_000_000
SIZE_FRAME = b"2\0"
BID, ASK, LAST, LAST_TIME, HALTED = "1", "2", "4", "45", "49"
PAST_LIMIT, UNREPORTED = 1, 2
POWERS = tuple(SCALE // 10**decimals for decimals in range(7))
PRICE_PAST_LIMIT = 2
"""Bit 1 of the attributes of a tickPrice; bit 0 is canAutoExecute."""

INELIGIBLE_LETTERS = frozenset("479BCGHIMNPQRTUVWZ")
"""Sale conditions of the consolidated tapes that do not update the last price: derivatively priced (4), qualified
contingent (7), corrected close (9), average price (B, W), cash (C), bunched sold (G), price variation (H), odd lot (I),
official close and open (M, Q), next day (N), prior reference (P), seller (R), extended hours (T, U), contingent (V),
sold out of sequence (Z). One of them in IB's `specialConditions` is enough."""


class PriceReader:
    """Turns price texts into integers x SCALE. Prices repeat, so the answers are kept (bounded)."""

    LIMIT = 65_536

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Return the price x SCALE, or 0 where the text is no price. Digits beyond the scale round half-even."""
        found = self.known.get(text)
        if found is None:
            if len(self.known) >= self.LIMIT:
                self.known.clear()
            found = self.known[text] = scaled(text)
        return found


def scaled(text: str) -> int:
    """Return a price x SCALE, exactly; 0 where the text is no finite number."""
    whole, _, part = text.partition(".")
    digits = whole + part
    if len(part) <= 6 and whole and digits.isascii() and digits.isdigit():
        return int(digits) * POWERS[len(part)]
    try:
        value = Decimal(text)
    except InvalidOperation:
        return 0
    if not value.is_finite() or abs(value) > 10**12:
        return 0
    return int((value * SCALE).to_integral_value())


def eligible(mask: int, conditions: str) -> bool:
    """Whether a print may move prices: its attribute bits and its sale conditions."""
    if mask & (PAST_LIMIT | UNREPORTED):
        return False
    if not conditions or conditions == "0":
        return True
    # A replay's condition word (0x...) is the vendor's; the gateway has judged it and said so in the attribute bits.
    letters = (letter for word in conditions.split() if not word.startswith("0x") for letter in word)
    return INELIGIBLE_LETTERS.isdisjoint(letters)


class Line:
    """One subscription: what its ticks belong to, and what was last said."""

    __slots__ = ("ask", "bid", "feed", "instrument", "last", "last_ns", "last_ok", "last_size", "muted",
                 "quote_pending", "trade_pending")

    def __init__(self, instrument: str, feed: Feed) -> None:
        self.instrument = instrument
        self.feed = feed
        self.bid = self.ask = self.last = self.last_ns = 0
        self.last_size = 0.0
        self.last_ok = True
        self.quote_pending = self.trade_pending = False
        self.muted = False
        """The snapshot line's trades while the same instrument is told tick by tick: never the same print twice."""


class TickReader:
    """Frames in, ticks out. `lines` maps a request's id, as text, to its subscription."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.ticks: list[TradeTick | QuoteTick] = []
        self._pending: list[Line] = []
        self._price = PriceReader()
        self._prices = self._price.known
        self._eligible: dict[str, bool] = {}

    def read(self, payload: bytes, now_ns: int) -> VenueEvent | None:
        """Take one frame of type 1, 2, 45, 46 or 99. Returns a halt if that is what it told."""
        if payload.startswith(SIZE_FRAME):
            return None  # nothing here is decided by a size
        fields = payload.decode("utf-8", "backslashreplace").split("\0")
        kind = fields[0]
        if kind == "99":
            self._tick_by_tick(fields)
        elif kind == "1":
            self._price_tick(fields, now_ns)
        elif kind == "46" and fields[3] == LAST_TIME:
            line = self.lines.get(fields[2])
            if line is not None and fields[4].isdigit():
                line.last_ns = int(fields[4]) * NS
        elif kind == "45" and fields[3] == HALTED:
            line = self.lines.get(fields[2])
            if line is not None and fields[4].strip() not in ("", "-1", "-1.0"):
                return HaltTold(line.instrument, float(fields[4]) > 0)
        return None

    def flush(self, now_ns: int) -> list[TradeTick | QuoteTick]:
        """Return all ticks of this read, the last state of each snapshot line included."""
        for line in self._pending:
            self._release(line, now_ns)
        self._pending.clear()
        ticks, self.ticks = self.ticks, []
        return ticks

    def _tick_by_tick(self, fields: list[str]) -> None:
        line = self.lines.get(fields[1])
        if line is None:
            return
        kind = fields[2]
        if kind in ("1", "2"):
            text = fields[4]
            price = self._prices.get(text)
            if price is None:
                price = self._price(text)
            if price > 0:
                mask, conditions = fields[6], fields[8]
                may = mask == "0" and not conditions
                if not may:
                    key = mask + " " + conditions
                    known = self._eligible.get(key)
                    if known is None:
                        if len(self._eligible) > 4_096:
                            self._eligible.clear()
                        known = self._eligible[key] = eligible(int(mask or 0), conditions)
                    may = known
                self.ticks.append(TradeTick(line.instrument, price, float(fields[5] or 0), int(fields[3]) * NS, may))
        elif kind == "3":
            bid, ask = max(self._price(fields[4]), 0), max(self._price(fields[5]), 0)
            self.ticks.append(QuoteTick(line.instrument, bid, ask, int(fields[3]) * NS))

    def _price_tick(self, fields: list[str], now_ns: int) -> None:
        line = self.lines.get(fields[2])
        if line is None:
            return
        kind, price = fields[3], self._price(fields[4])
        if kind == LAST:
            if price <= 0 or line.muted:
                return
            if line.trade_pending:
                self._release(line, now_ns)
            line.last = price
            line.last_size = float(fields[5] or 0)
            line.last_ok = not int(fields[6] or 0) & PRICE_PAST_LIMIT
            line.trade_pending = True
        elif kind == BID:
            line.bid = max(price, 0)
            line.quote_pending = True
        elif kind == ASK:
            line.ask = max(price, 0)
            line.quote_pending = True
        else:
            return
        self._pending.append(line)

    def _release(self, line: Line, now_ns: int) -> None:
        if line.quote_pending:
            line.quote_pending = False
            self.ticks.append(QuoteTick(line.instrument, line.bid, line.ask, now_ns))
        if line.trade_pending:
            line.trade_pending = False
            self.ticks.append(TradeTick(line.instrument, line.last, line.last_size, line.last_ns, line.last_ok))
