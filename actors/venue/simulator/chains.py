"""Which options and futures are listed: a rule of the exchange's date, not a table.

Law: pure; the same date and the same underlying give the same chain, and a conId says by itself which contract it is.

Options of an optionable stock: expiries are the next six Fridays and the third Fridays of the next seven months, the
exchange's own day included; strikes lie within 30 % of the reference price, 0.50 apart below 25, 1 below 100, 2.50
below 250, else 5; calls and puts, multiplier 100, American. The chain stands around the reference price: it does not
move with the market. Holidays are not known: an expiry on one stays where it is.

Futures of an index: the next five of March, June, September and December; the third Friday, 08:30 Chicago.

conIds of our own (a real gateway has others): options from 700,000,000 on, futures from 650,000,000 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from actors.venue.simulator.contracts import Contract, ContractQuery

FRIDAY = 4
WEEKLIES, MONTHLIES, QUARTERS = 6, 7, 5
MONTH_CODES = "FGHJKMNQUVXZ"
OPTION_EXCHANGES = "SMART,AMEX,BATS,BOX,CBOE,CBOE2,EDGX,ISE,NASDAQOM,PHLX,PSE"
OPTION_RULE = 239
FUTURE_TIME = "08:30 US/Central"
OPTION_BASE, FUTURE_BASE = 700_000_000, 650_000_000
MAX_OPTIONABLE = 32
_EPOCH = date(2010, 1, 1)
_DAYS, _STRIKES, _MONTHS = 1 << 14, 1 << 10, 10_000
_STEPS = ((Decimal(25), Decimal("0.5")), (Decimal(100), Decimal(1)), (Decimal(250), Decimal("2.5")))
_WIDE = Decimal(5)


def third_friday(year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)


def option_expiries(today: date) -> list[date]:
    """Return the listed expiries, soonest first; one that is today still counts."""
    friday = today + timedelta(days=(FRIDAY - today.weekday()) % 7)
    found = {friday + timedelta(weeks=n) for n in range(WEEKLIES)}
    month, monthlies = today.year * 12 + today.month - 1, 0
    while monthlies < MONTHLIES:
        third = third_friday(month // 12, month % 12 + 1)
        month += 1
        if third >= today:
            found.add(third)
            monthlies += 1
    return sorted(found)


def future_expiries(today: date, past: int = 0) -> list[date]:
    """Return the listed quarterly expiries, soonest first, after `past` expired ones."""
    found: list[date] = []
    gone: list[date] = []
    month = (today.year - 1) * 12
    while len(found) < QUARTERS:
        third = third_friday(month // 12, month % 12 + 1) if month % 3 == 2 else None
        month += 1
        if third is not None:
            (found if third >= today else gone).append(third)
    return gone[len(gone) - past:] + found


def strike_step(reference: Decimal) -> Decimal:
    return next((step for below, step in _STEPS if reference < below), _WIDE)


def strikes(reference: Decimal) -> list[Decimal]:
    """Return the listed strikes, lowest first."""
    step = strike_step(reference)
    low, high = int(reference * Decimal("0.7") / step), int(reference * Decimal("1.3") / step)
    return [step * n for n in range(max(1, low), min(high, _STRIKES - 1) + 1)]


def option(under: Contract, slot: int, expiry: date, strike: Decimal, right: str) -> Contract:
    """Return one option; `slot` is the underlying's place among the optionable contracts."""
    index = int(strike / strike_step(under.reference_price))
    number = ((slot * _DAYS + (expiry - _EPOCH).days) * _STRIKES + index) * 2 + (right == "P")
    text = f"{strike * 1000:.0f}".rjust(8, "0")
    return msgspec.structs.replace(
        under, con_id=OPTION_BASE + number, sec_type="OPT", expiry=f"{expiry:%Y%m%d}", strike=strike, right=right,
        multiplier="100", exchange="SMART", primary_exchange="", trading_class=under.symbol,
        local_symbol=f"{under.symbol:<6}{expiry:%y%m%d}{right}{text}", market_rule_id=OPTION_RULE,
        min_tick=Decimal("0.01"), valid_exchanges=OPTION_EXCHANGES, stock_type="", isin="", optionable=False,
        under_con_id=under.con_id, under_sec_type=under.sec_type, daily_volume=2_000)


def future(root: Contract, slot: int, expiry: date) -> Contract:
    """Return one future of a root (a future without an expiry); `slot` is its place among the roots."""
    return msgspec.structs.replace(
        root, con_id=FUTURE_BASE + slot * _MONTHS + (expiry.year - 2000) * 12 + expiry.month - 1,
        expiry=f"{expiry:%Y%m%d}", local_symbol=f"{root.symbol}{MONTH_CODES[expiry.month - 1]}{expiry.year % 10}")


def options(under: Contract, slot: int, query: ContractQuery, today: date) -> Iterator[Contract]:
    """Yield the listed options of one underlying that the query's expiry, strike and right leave."""
    rights = [r for r in "CP" if query.right in ("", "?", "0") or query.right[0] == r]
    prices = [s for s in strikes(under.reference_price) if not query.strike or s == query.strike]
    for expiry in option_expiries(today):
        if f"{expiry:%Y%m%d}".startswith(query.expiry):
            for strike in prices:
                for right in rights:
                    yield option(under, slot, expiry, strike, right)


def futures(root: Contract, slot: int, today: date, past: int) -> Iterator[Contract]:
    for expiry in future_expiries(today, past):
        yield future(root, slot, expiry)


def option_of_id(con_id: int) -> tuple[int, date, int, str] | None:
    """Return slot, expiry, number of the strike and right that a conId stands for, or None."""
    number = con_id - OPTION_BASE
    if not 0 <= number < MAX_OPTIONABLE * _DAYS * _STRIKES * 2:
        return None
    index, put = divmod(number, 2)
    index, strike = divmod(index, _STRIKES)
    slot, days = divmod(index, _DAYS)
    return slot, _EPOCH + timedelta(days=days), strike, "P" if put else "C"


def future_of_id(con_id: int) -> tuple[int, date] | None:
    """Return slot and expiry that a conId stands for, or None."""
    slot, months = divmod(con_id - FUTURE_BASE, _MONTHS)
    if con_id < FUTURE_BASE or months >= 1200 or months % 3 != 2:
        return None
    return slot, third_friday(2000 + months // 12, months % 12 + 1)


def option_of_symbol(local_symbol: str) -> tuple[str, date, Decimal, str] | None:
    """Read `AAPL  261218C00100000`: the underlying's symbol, expiry, strike and right, or None."""
    found = re.fullmatch(r"([A-Z. ]{6})(\d{6})([CP])(\d{8})", local_symbol)
    try:
        expiry = date(2000 + int(found[2][:2]), int(found[2][2:4]), int(found[2][4:])) if found else None
    except ValueError:
        return None
    if found is None or expiry is None:
        return None
    return found[1].strip(), expiry, Decimal(found[4]) / 1000, found[3]
