"""Prices as integers, for whatever must compare them exactly and fast.

Law: a price enters the integer scale exactly or not at all; nothing here rounds.
"""

from __future__ import annotations

from decimal import Decimal

from messages.market import SCALE

__all__ = ["PERCENT_WHOLE", "SCALE", "from_scaled", "to_scaled"]

PERCENT_WHOLE = 100 * SCALE
"""One hundred percent, in millionths of a percent."""

_EXPONENT = 6
_DEEPEST = 60
_LARGEST = Decimal(10) ** 12
_MILLION = Decimal(SCALE)


def to_scaled(price: Decimal) -> int:
    """Return `price` in millionths.

    Raises ValueError, naming the value, for NaN, infinity, more than six decimals, or 10^12 and more.
    """
    if not price.is_finite():
        raise ValueError(f"price {price}: must be a finite number")
    if abs(price) >= _LARGEST:
        raise ValueError(f"price {price}: must be below {_LARGEST:f}")
    exponent = price.as_tuple().exponent
    # An exponent far below the scale is refused before it is multiplied out: 1E-999999999 would take all memory.
    numerator, denominator = price.as_integer_ratio() if int(exponent) >= -_DEEPEST else (1, 0)
    scaled, rest = divmod(numerator * SCALE, denominator) if denominator else (0, 1)
    if rest:
        raise ValueError(f"price {price}: at most {_EXPONENT} decimals fit the integer scale")
    return scaled


def from_scaled(scaled: int) -> Decimal:
    """Return millionths as an exact Decimal without trailing zeros (168180000 -> 168.18)."""
    return Decimal(scaled) / _MILLION
