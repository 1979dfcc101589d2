"""Money, quantities and prices as canonical decimal text.

Law: no number that is traded is ever REAL. peewee's DecimalField becomes REAL in SQLite, so it is not used.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import peewee

LARGEST_EXPONENT = 40


def canonical(value: Decimal) -> str:
    """Return the one text of a number: plain notation, no trailing zeros, no minus zero.

    Raises ValueError for NaN, infinity and exponents beyond 40, which would unfold to text without end.
    """
    text = str(value)
    if "E" in text:
        if abs(value.adjusted()) > LARGEST_EXPONENT:
            raise ValueError(f"number {text}: its exponent is beyond {LARGEST_EXPONENT}")
        text = format(value, "f")
    if not value.is_finite():
        raise ValueError(f"number {text}: is not finite")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def optional(value: Decimal | None) -> str | None:
    """Return the canonical text of a number, or None."""
    return None if value is None else canonical(value)


def readable(text: str) -> str:
    """Return text that both databases take: PostgreSQL refuses NUL, UTF-8 half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


class DecimalText(peewee.TextField):
    """A Decimal kept as canonical text."""

    def db_value(self, value: Decimal | None) -> str | None:
        """Turn a Decimal into its text."""
        return optional(value)

    def python_value(self, value: Any) -> Decimal | None:
        """Turn the text back into the same Decimal."""
        return None if value is None else Decimal(value)
