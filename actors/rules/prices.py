"""Prices on their grid: where an exit's level lies, and how it is rounded.

Law: a passive price is rounded away from the market (BUY down, SELL up), a trigger away from firing early (SELL down,
BUY up), a marketable limit towards the market. Sources: IB's market rules; domain.md §2.4, §2.5.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from messages.intent import Side
from messages.orders import Contract

HUNDRED = Decimal(100)


def increment_at(contract: Contract, price: Decimal) -> Decimal:
    """Return the price increment that applies at `price` (its market rule), 0.01 where none is known."""
    found = Decimal("0.01")
    for band in contract.increments:
        if price < band.low_edge:
            break
        found = band.increment
    return found


def floor_to_grid(contract: Contract, price: Decimal) -> Decimal:
    """Round down to the grid."""
    step = increment_at(contract, price)
    return (price / step).to_integral_value(rounding=ROUND_FLOOR) * step


def ceil_to_grid(contract: Contract, price: Decimal) -> Decimal:
    """Round up to the grid."""
    step = increment_at(contract, price)
    return (price / step).to_integral_value(rounding=ROUND_CEILING) * step


def on_grid(contract: Contract, price: Decimal) -> bool:
    """Whether a price is a multiple of its increment."""
    return price == floor_to_grid(contract, price)


def passive(contract: Contract, side: Side, price: Decimal) -> Decimal:
    """Round a resting limit away from the market."""
    return ceil_to_grid(contract, price) if side.sign < 0 else floor_to_grid(contract, price)


def away_from_trigger(contract: Contract, side: Side, price: Decimal) -> Decimal:
    """Round a stop's trigger so that it never fires early; also what a marketable limit is rounded to."""
    return floor_to_grid(contract, price) if side.sign < 0 else ceil_to_grid(contract, price)


def target_price(
    contract: Contract,
    side: Side,
    average: Decimal,
    price: Decimal | None,
    offset: Decimal | None,
    percent: Decimal | None,
) -> Decimal:
    """Return where a profit target lies: absolute, or beyond the actual average fill. `side` is the exit's side."""
    if price is not None:
        return passive(contract, side, price)
    distance = offset if offset is not None else average * (percent or Decimal(0)) / HUNDRED
    return passive(contract, side, average - side.sign * distance)


def stop_price(
    contract: Contract,
    side: Side,
    average: Decimal,
    price: Decimal | None,
    offset: Decimal | None,
    percent: Decimal | None,
) -> Decimal:
    """Return where a protective stop triggers: absolute, or on the losing side of the actual average fill."""
    if price is not None:
        return away_from_trigger(contract, side, price)
    distance = offset if offset is not None else average * (percent or Decimal(0)) / HUNDRED
    return away_from_trigger(contract, side, average + side.sign * distance)


def limit_beyond(contract: Contract, side: Side, level: Decimal, offset: Decimal) -> Decimal:
    """Return the limit of a stop-limit: `offset` beyond its trigger, on the side that still fills."""
    return away_from_trigger(contract, side, level + side.sign * offset)


def is_through(side: Side, price: Decimal, level: Decimal) -> bool:
    """Whether a price has met a stop of this exit side: at or below it for a SELL, at or above it for a BUY."""
    return price <= level if side.sign < 0 else price >= level
