"""Replays recorded trades as the market of one symbol.

Law: the file's times are the exchange's time; a print moves the market only where its sale conditions let it.

The file is a CSV, plain or the only member of a zip: `ms,price,size,exchange,conditionHex,suspicious`, ms since
midnight New York, price in 1/10000 USD. On the wire a print carries its exchange time in whole seconds, its condition
word in hex (0x...) as `specialConditions`, and `unreported` = 1 where it is suspicious or
`conditionHex & (0x20|0x200|0x40000|0x100000) != 0`: such a print counts as volume and moves nothing.

Pace: `1`, `10`, ... follow the file's times by that factor; `max` does not wait. In `lockstep` the gateway sends
`lockstep_batch` prints that a subscriber hears of (Last and AllLast hear all, reqMktData the eligible ones), then
nothing more until any subscribed client sends reqCurrentTime (49). An ordinary ib_insync
client follows by calling reqCurrentTime each time it has processed what came; what it sends before that question (an
order that the print has triggered) reaches the exchange before the next print. A question sent for another reason
while a print is under way counts as well, and lets one more print go early. In ib_insync set `client.MaxRequests = 0`,
or its own throttle of 45 a second paces the replay.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from actors.rules.tick_filter import trade_is_eligible
from actors.venue.simulator.clock import MAX_SPEED, speed_of
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.validation import NEW_YORK

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
MS = 1_000_000
ROWS_PER_TURN = 500


class ReplayError(ValueError):
    """A file of trades that cannot be replayed; the text says where and why."""


class Replay:
    """The market driver of one replay."""

    def __init__(self, gateway: Gateway, settings: GatewaySettings, now_ns: int) -> None:
        path = settings.replay or ""
        self.gateway = gateway
        self.contract = find_contract(gateway, settings.symbol, path)
        day, start = _day_and_clock(settings.start or "00:00:00")
        self.midnight_ns = midnight_ns(settings.replay_date or day, path)
        self.start_ns = self.midnight_ns + clock_ns(start, "--start")
        self.end_ns = self.midnight_ns + clock_ns(settings.to or "24:00:00", "--to")
        self.lockstep = settings.speed == "lockstep"
        self.factor = Fraction(0) if settings.speed in ("max", "lockstep") else speed_factor(settings.speed)
        self.batch = settings.lockstep_batch
        self.wait = settings.replay_wait
        gateway.clock.stand(self.start_ns)
        self.sent = 0
        self.done = False
        self._awaiting = False
        self._began = False
        self._rows = rows(path, self.midnight_ns, self.start_ns, self.end_ns)
        self._next: Trade | None = next(self._rows, None)
        if self._next is None:
            raise ReplayError(f"{path}: no trade between {settings.start or 'midnight'} and {settings.to or 'the end'}")

    def acknowledge(self, session: Session) -> None:
        if self._awaiting and any(s.con_id == self.contract.con_id for s in session.subscriptions.values()):
            self._awaiting = False

    def advance(self, now_ns: int) -> int | None:
        if self.done:
            return None
        watched = bool(self.gateway.watchers(self.contract.con_id))
        if not watched:
            self._awaiting = False
            if self.lockstep or (self.wait and not self._began):
                return None
        if self.lockstep:
            if not self._awaiting:
                self._awaiting = self._send_until_heard(now_ns)
            return None if self._awaiting or self.done else now_ns
        if self._next is not None and not self._began:
            self._began = True
            self.gateway.clock.flow(now_ns, self._next.time_ns, self.factor)
        if not self.factor:
            self._send(ROWS_PER_TURN, now_ns)
            return None if self.done else now_ns
        return self._keep_pace(now_ns)

    def _send_until_heard(self, now_ns: int) -> bool:
        """Send a batch of prints that clients hear of; others pass on the way, since nobody can answer those."""
        heard = 0
        for _ in range(ROWS_PER_TURN):
            if heard >= self.batch or self._next is None:
                break
            heard += any(s.hears(self._next) for _, s in self.gateway.watchers(self.contract.con_id))
            self._send(1, now_ns)
        return heard > 0

    def _keep_pace(self, now_ns: int) -> int | None:
        clock = self.gateway.clock
        for _ in range(ROWS_PER_TURN):
            if self._next is None:
                break
            due = clock.caller_ns(self._next.time_ns)
            assert due is not None
            if due > now_ns:
                return due
            self._send(1, now_ns)
        return None if self.done else now_ns

    def _send(self, n: int, now_ns: int) -> None:
        for _ in range(n):
            trade = self._next
            if trade is None:
                break
            # Whatever the print causes happens at the print's time; between prints a paced replay's clock goes on.
            if not self.factor:
                self.gateway.clock.stand(trade.time_ns)
            before = self.gateway.clock.pin(trade.time_ns)
            self.gateway.trade(self.contract, trade, now_ns)
            self.gateway.clock.pin(before)
            self.sent += 1
            try:
                self._next = next(self._rows, None)
            except ReplayError as error:
                # A bad line in mid-file ends the replay, not the gateway: orders and clients stay.
                self._next, self.done = None, True
                self.gateway.log(now_ns, "sim", -1, "replay_failed", {"reason": str(error), "trades": self.sent})
        if self._next is None and not self.done:
            self.done = True
            self.gateway.log(now_ns, "sim", -1, "replay_done", {"trades": self.sent})


def find_contract(gateway: Gateway, symbol: str | None, path: str) -> Contract:
    """Return what a file's trades are of, by name or by the file's own; raises ReplayError."""
    try:
        symbol = symbol or symbol_of(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ReplayError(f"{path}: cannot be read: {error}") from None
    contract = gateway.contracts.named(symbol)
    if contract is None:
        raise ReplayError(f"{path}: symbol {symbol!r} is not known; give --symbol, one of "
                          f"{', '.join(sorted(gateway.contracts.by_symbol))}")
    return contract


def rows(path: str, midnight: int, start_ns: int, end_ns: int) -> Iterator[Trade]:
    """Yield the trades of a file from start to end, inclusive; raises ReplayError with file and line."""
    prices: dict[str, Decimal] = {}
    sizes: dict[str, Decimal] = {}
    bad: dict[str, bool] = {}
    try:
        for n, line in enumerate(_lines(path), 1):
            fields = line.rstrip("\r\n").split(",")
            try:
                ms, raw_price, raw_size, exchange, conditions, suspicious = fields
                time_ns = midnight + int(ms) * MS
                if time_ns < start_ns:
                    continue
                if time_ns > end_ns:
                    return
                price = prices.get(raw_price)
                if price is None:
                    price = prices[raw_price] = Decimal(int(raw_price)).scaleb(-4).normalize()
                size = sizes.get(raw_size)
                if size is None:
                    size = sizes[raw_size] = Decimal(int(raw_size))
                skip = bad.get(conditions)
                if skip is None:
                    skip = bad[conditions] = not trade_is_eligible(1, int(conditions or "0", 16))
            except (ValueError, ArithmeticError):
                raise ReplayError(f"{path}:{n}: expected ms,price,size,exchange,conditionHex,suspicious as numbers, "
                                  f"got {line.strip()[:80]!r}") from None
            yield Trade(price, size, time_ns, exchange, f"0x{conditions or 0}", not skip and suspicious == "0")
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ReplayError(f"{path}: cannot be read: {error}") from None


def _lines(path: str) -> Iterator[str]:
    if not path.endswith(".zip"):
        with open(path, encoding="ascii") as plain:
            yield from plain
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ReplayError(f"{path}: a zip must hold exactly one CSV, this one holds {len(names)}")
        with archive.open(names[0]) as member:
            yield from io.TextIOWrapper(member, encoding="ascii")


def midnight_ns(date_text: str | None, path: str) -> int:
    """Return midnight New York of the replayed day, in UTC nanoseconds; raises ReplayError."""
    found = re.search(r"(?<!\d)(\d{8})(?!\d)", Path(path).name)
    text = date_text or (found[1] if found else "")
    try:
        day = datetime.strptime(text, "%Y%m%d")
    except ValueError:
        raise ReplayError(f"{path}: the day is in neither the file's name nor replay_date (yyyymmdd)") from None
    return int(day.replace(tzinfo=NEW_YORK).timestamp()) * NS


def clock_ns(text: str, name: str) -> int:
    """Return hh:mm[:ss[.fff]] as nanoseconds since midnight; raises ReplayError."""
    found = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?", text)
    if found is None or int(found[2]) > 59 or int(found[3] or 0) > 59 or int(found[1]) > 24:
        raise ReplayError(f"{name} {text!r}: expected a New York time such as 10:00:00 or 10:34:54.521")
    span = timedelta(hours=int(found[1]), minutes=int(found[2]), seconds=int(found[3] or 0),
                     milliseconds=int((found[4] or "0").ljust(3, "0")))
    return span // timedelta(milliseconds=1) * MS


def speed_factor(text: str) -> Fraction:
    """Return a positive pace; raises ReplayError."""
    try:
        return speed_of(text)
    except ValueError:
        raise ReplayError(f"--speed {text!r}: expected a positive number up to {MAX_SPEED}, max or lockstep") from None


def _day_and_clock(text: str) -> tuple[str | None, str]:
    """Split `2013-10-07T09:30` into yyyymmdd and the time; the day may be missing."""
    found = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})[T ](.+)", text)
    return (f"{found[1]}{found[2]}{found[3]}", found[4]) if found else (None, text)


def symbol_of(path: str) -> str:
    """Guess the symbol: `20131007_spy_Trade_Tick.csv` or a folder named after it; '' if there is none."""
    names = [Path(path).name, Path(path).parent.name]
    if path.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            names.insert(0, (archive.namelist() or [""])[0])
    for name in names:
        found = re.search(r"\d{8}_([A-Za-z]{1,6})_", name) or re.fullmatch(r"([A-Za-z]{1,6})", name)
        if found:
            return found[1].upper()
    return ""
