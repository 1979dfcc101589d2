"""The history of every contract: a file's trades where there is a file, what the exchange printed since it opened, and
before that a generated past.

Law: the three never overlap. From the opening on only the exchange's own prints count; before it a day that a file
holds is the file's, and any other is generated (past.py).

Generated and recorded trades alone give bid and ask one half spread (one cent for a stock) below and above each price.
Bars of a stretch in which nothing happened do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from actors.venue.simulator import replay
from actors.venue.simulator.contracts import Contract, ContractBook
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.history_bars import Piece, bar_key, epoch, joined, local, next_edge
from actors.venue.simulator.hours import Hours
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.past import FIRST_DAY, MICRO, OptionPast, Past, sessions
from actors.venue.simulator.record import QuoteTick, Record, Series

NS = 1_000_000_000
DAY_S = 86_400


class Bar(msgspec.Struct, frozen=True):
    """One bar: when it begins, its trading day and last day in it, and what happened."""

    start_s: int
    day: date
    piece: Piece


class FileDay:
    """One day of one symbol's trades in a file of the replay format, read when it is first asked for."""

    def __init__(self, path: str, midnight_s: int) -> None:
        self.path = path
        self.midnight_s = midnight_s
        self._series: Series | None = None

    def series(self) -> Series:
        if self._series is None:
            self._series = Series(bounded=False)
            for t in self.trades(self.midnight_s, self.midnight_s + 2 * DAY_S):
                if t.eligible:
                    self._series.add(t.time_ns // NS, t.price, t.size)
        return self._series

    def trades(self, start_s: int, end_s: int) -> Iterator[Trade]:
        """Yield the file's trades from start to end, the end excluded; raises ReplayError."""
        return replay.rows(self.path, self.midnight_s * NS, start_s * NS, end_s * NS - 1)


class History:
    """What is known of the past, for all contracts of one gateway. Times are epoch seconds of the exchange."""

    def __init__(self, contracts: ContractBook, seed: int, opened_s: int) -> None:
        self._contracts = contracts
        self._seed = seed
        self.opened_s = opened_s
        self.hours: Hours | None = None
        """The exchange's, which know its holidays and half days."""
        self.records: dict[int, Record] = {}
        self._pasts: dict[int, Past] = {}
        self._files: dict[int, dict[date, FileDay]] = {}

    def add_file(self, contract: Contract, path: str, midnight_ns: int) -> None:
        """Say that a file holds the trades of one day."""
        day = local(midnight_ns // NS).date()
        self._files.setdefault(contract.con_id, {})[day] = FileDay(path, midnight_ns // NS)

    # what happens now ------------------------------------------------------------------------------------------

    def printed(self, contract: Contract, trade: Trade) -> None:
        record = self.records.get(contract.con_id)
        if record is None:
            record = self.records[contract.con_id] = Record()
        record.printed(trade)

    def quoted(self, contract: Contract, quote: Quote) -> None:
        record = self.records.get(contract.con_id)
        if record is None:
            record = self.records[contract.con_id] = Record()
        record.quoted(quote)

    def closed(self) -> None:
        """Hear that the exchange has closed for the night."""
        for record in self.records.values():
            record.closed()

    # what is asked ---------------------------------------------------------------------------------------------

    def begins_s(self, contract: Contract) -> int:
        """Return when the contract's past begins: 2004, or 300 days before an option or future expires."""
        if contract.sec_type in ("OPT", "FUT"):
            expiry = date(int(contract.expiry[:4]), int(contract.expiry[4:6]), int(contract.expiry[6:8]))
            return self._first_session(contract, expiry - timedelta(days=300))
        return self._first_session(contract, FIRST_DAY)

    @staticmethod
    def _first_session(contract: Contract, day: date) -> int:
        while not (spans := sessions(contract.sec_type, day)):
            day += timedelta(days=1)
        return next(start for start, _, regular in spans if regular)

    def pieces(self, contract: Contract, what: str, start: int, end: int, regular_only: bool = False) -> list[Piece]:
        """Return what happened from start to end in order of time; `what` is TRADES, BID, ASK or MIDPOINT."""
        found: list[Piece] = []
        if start < self.opened_s:
            found += self._before(contract, what, start, min(end, self.opened_s), regular_only)
        if end > self.opened_s:
            found += self._recorded(contract, what, max(start, self.opened_s), end)
        return found

    def bars(self, contract: Contract, what: str, size: tuple[str, int], start: int, end: int, regular_only: bool,
             always_open: bool) -> list[Bar]:
        """Return the bars of that size from start to end; the first and last may be cut off by those."""
        name, seconds = size
        keyed: dict[tuple[int, int], list[tuple[date, int, list[Piece]]]] = {}
        for day, a, b in self.spans(contract, start, end, regular_only, always_open):
            at = a
            while at < b:
                upto = b if seconds >= DAY_S else min(b, next_edge(seconds, at))
                pieces = self.pieces(contract, what, at, upto, regular_only and not always_open)
                if pieces:
                    key = bar_key(name, seconds, day, at)
                    # What is printed where no session is begins with its bar, not with the opening of the exchange.
                    begins = key[0] if always_open and self.opened_s <= at and seconds < DAY_S else at
                    keyed.setdefault(key, []).append((day, begins, pieces))
                at = upto
        bars = []
        for parts in keyed.values():
            piece = joined(p for _, _, pieces in parts for p in pieces)
            if piece is not None:
                bars.append(Bar(parts[0][1], parts[-1][0], piece))
        return bars

    def spans(self, contract: Contract, start: int, end: int, regular_only: bool,
              always_open: bool) -> list[tuple[date, int, int]]:
        """Return the stretches in which something may have happened, each with its trading day."""
        start = max(start, self.begins_s(contract))
        found: list[tuple[date, int, int]] = []
        limit = min(end, self.opened_s) if always_open else end
        day = local(start).date()
        while day <= local(max(start, limit)).date() + timedelta(days=1):
            for a, b, regular in sessions(contract.sec_type, day):
                if self.hours is not None:
                    a, b = self.hours.kept(day, a, b)
                a, b = max(a, start), min(b, limit)
                if a < b and (regular or not regular_only):
                    if found and found[-1][2] == a and found[-1][0] == day:
                        found[-1] = (day, found[-1][1], b)
                    else:
                        found.append((day, a, b))
            day += timedelta(days=1)
        at = max(start, self.opened_s)
        while always_open and at < end:
            midnight = epoch(local(at).date() + timedelta(days=1))
            found.append((local(at).date(), at, min(end, midnight)))
            at = midnight
        return found

    def ticks(self, contract: Contract, start: int, end: int, n: int, backwards: bool, regular_only: bool,
              always_open: bool) -> list[Trade]:
        """Return up to n prints from start on, or (backwards) the last n before end, in order of time."""
        found: list[Trade] = []
        for a, b in _slices(max(start, self.begins_s(contract)), end, backwards):
            spans = self.spans(contract, a, b, regular_only, always_open)
            part = [t for _, x, y in spans for t in self._prints(contract, x, y)]
            found = part + found if backwards else found + part
            if len(found) >= n:
                break
        return found[-n:] if backwards else found[:n]

    def quotes(self, contract: Contract, start: int, end: int, n: int, backwards: bool, regular_only: bool,
               always_open: bool) -> list[QuoteTick]:
        """Return quotes as `ticks` returns prints: those of the exchange, before its opening one around each print."""
        record = self.records.get(contract.con_id)
        own: list[QuoteTick] = []
        if record is not None and record.quotes:
            own = [q for q in record.quotes if max(start, self.opened_s) <= q.time_ns // NS < end]
        upto = min(end, self.opened_s) if own else end
        if (backwards and len(own) >= n) or upto <= start:
            return own[-n:] if backwards else own[:n]
        found = [QuoteTick.around(t, contract.half_spread)
                 for t in self.ticks(contract, start, upto, n, backwards, regular_only, always_open)]
        found += own
        return found[-n:] if backwards else found[:n]

    def latest(self, contract: Contract, end: int, regular_only: bool,
               always_open: bool) -> Iterator[tuple[date, int, int]]:
        """Yield the stretches of `spans` before end, the latest first, back to where the past begins."""
        begin = self.begins_s(contract)
        while end > begin:
            start = max(begin, epoch(local(end - 1).date() - timedelta(days=7)))
            yield from reversed(self.spans(contract, start, end, regular_only, always_open))
            end = start

    # inside ----------------------------------------------------------------------------------------------------

    def past(self, contract: Contract) -> Past:
        """Return the generated past of a contract; it meets the first price that the exchange printed."""
        found = self._pasts.get(contract.con_id)
        if found is None:
            under = self._contracts.by_id.get(contract.under_con_id)
            if contract.sec_type == "OPT" and under is not None:
                found = OptionPast(contract, self._seed, self.past(under),
                                   lambda price: self._contracts.increment(contract, price))
            else:
                found = Past(contract, self._seed, self._first_price(under or contract), self.opened_s)
            self._pasts[contract.con_id] = found
        return found

    def _first_price(self, contract: Contract) -> Decimal:
        record = self.records.get(contract.con_id)
        for series in (record.trades, record.bids) if record is not None else ():
            for _, piece in series.cover(self.opened_s, self.opened_s + DAY_S):
                return Decimal(piece.open) / MICRO
        return contract.reference_price

    def _before(self, contract: Contract, what: str, start: int, end: int, regular_only: bool) -> Iterator[Piece]:
        """Yield what happened before the opening: a file's trades on its days, else the generated past."""
        away = _away(contract, what)
        files = self._files.get(contract.con_id)
        if not files:
            for _, piece in self.past(contract).cover(start, end, regular_only):
                yield _moved(piece, away)
            return
        at = start
        while at < end:
            day = local(at).date()
            upto = min(end, epoch(day + timedelta(days=1)))
            source = files[day].series() if day in files else None
            covered = source.cover(at, upto) if source else self.past(contract).cover(at, upto, regular_only)
            for _, piece in covered:
                yield _moved(piece, away)
            at = upto

    def _recorded(self, contract: Contract, what: str, start: int, end: int) -> Iterator[Piece]:
        record = self.records.get(contract.con_id)
        if record is None:
            return
        quoted = record.bids.last_s >= 0 and record.asks.last_s >= 0
        if what == "TRADES" or not quoted:
            if what != "TRADES" and contract.daily_volume == 0:
                return
            for _, piece in record.trades.cover(start, end):
                yield _moved(piece, _away(contract, what))
        else:
            series = {"BID": record.bids, "ASK": record.asks}.get(what, record.middles)
            for _, piece in series.cover(start, end):
                yield piece

    def _prints(self, contract: Contract, start: int, end: int) -> Iterator[Trade]:
        """Yield single prints; a generated second shows at most four, its open, extremes and close."""
        if start < self.opened_s:
            yield from self._old_prints(contract, start, min(end, self.opened_s))
        record = self.records.get(contract.con_id)
        if record is not None:
            for t in record.ticks:
                if max(start, self.opened_s) <= t.time_ns // NS < end:
                    yield t

    def _old_prints(self, contract: Contract, start: int, end: int) -> Iterator[Trade]:
        source = self._files.get(contract.con_id, {}).get(local(start).date())
        if source is not None:
            yield from source.trades(start, end)
            return
        past = self.past(contract)
        for at in range(start, end):
            for _, p in past.cover(at, at + 1):
                yield from _second(contract, at, p)


def _slices(start: int, end: int, backwards: bool) -> Iterator[tuple[int, int]]:
    """Cut a stretch at New York's half hours while it is short, and go on by days; from its beginning or its end."""
    done = 0
    while start < end:
        size = 1800 if done < 48 else DAY_S
        done += 1
        if backwards:
            cut = max(start, (end - 1) // size * size)
            yield cut, end
            end = cut
        else:
            cut = min(end, start // size * size + size)
            yield start, cut
            start = cut


def _second(contract: Contract, at: int, p: Piece) -> Iterator[Trade]:
    prices = [p.open]
    for price in (p.low, p.high, p.close) if p.close >= p.open else (p.high, p.low, p.close):
        if price != prices[-1]:
            prices.append(price)
    left, each = p.volume, max(1, p.volume // len(prices))
    for n, price in enumerate(prices):
        size = left if n == len(prices) - 1 else min(left, each)
        left -= size
        if size > 0 or contract.daily_volume == 0:
            yield Trade(Decimal(price) / MICRO, Decimal(size), at * NS, contract.primary_exchange or contract.exchange)


def _away(contract: Contract, what: str) -> int:
    """Return how far a bid or ask stands from a trade, in millionths."""
    return {"BID": -1, "ASK": 1}.get(what, 0) * int(contract.half_spread * MICRO)


def _moved(p: Piece, away: int) -> Piece:
    if not away:
        return p
    return Piece(*(max(1, price + away) for price in p[:4]))
