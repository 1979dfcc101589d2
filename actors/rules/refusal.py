"""How something is refused: one sentence with the field, its value and the rule, the same on every way in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

MAX_SHOWN = 60


class Number(str):
    """A number as it was written in JSON: kept as text, so that it is exact and can be shown as it came."""

    __slots__ = ()


class Refused(ValueError):
    """Bad input, refused before anything was stored or sent.

    `code` is a stable word for programs; `field`, `value` and `rule` are what the sentence is made of. The sentence
    reads `field: value problem; rule`.
    """

    def __init__(self, code: str, field: str, value: str, rule: str, problem: str = "is not allowed") -> None:
        self.code = code
        self.field = field
        self.value = value
        self.rule = rule
        self.sentence = f"{field}: {value} {problem}; {rule}"
        super().__init__(self.sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        problem = self.sentence[len(f"{self.field}: {self.value} ") : -len(f"; {self.rule}")]
        return (Refused, (self.code, self.field, self.value, self.rule, problem))


def shown(value: object) -> str:
    """Return a value fit for a sentence: one line of ASCII, at most some sixty characters, whatever it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return cut(ascii(str(value))[1:-1])
    if isinstance(value, Decimal):
        return cut(plain(value))
    if isinstance(value, int):
        return cut(str(value)) if value.bit_length() < 256 else "a number of more than 256 bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return f"'{cut(ascii(str(value[: MAX_SHOWN + 1]))[1:-1])}'"
    if isinstance(value, (bytes, bytearray)):
        return "raw bytes"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "a list"
    return f"a {cut(ascii(type(value).__name__)[1:-1])}"


def cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def plain(value: Decimal) -> str:
    """Return a Decimal without an exponent where that is short, and without trailing zeros: 100, 0.5."""
    if not value.is_finite():
        return str(value)
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or len(digits) > 40 or not -30 <= exponent <= 30:
        return f"{value:.6E}" if len(digits) > 40 else str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
