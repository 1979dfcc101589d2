"""IB's wire: frames, scalars, and the handshake's first bytes (ib-wire.md 2 and 3).

Law: nothing here knows an order or a session; it turns bytes into fields and values into text, and says exactly what
was wrong with what it cannot read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

API_PREFIX = b"API\0"
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_TEXT = 4096           # characters of one field: what a client may make us keep is bounded
MAX_MAGNITUDE = 30        # powers of ten of one number
MIN_SERVER_VERSION = 157
DEFAULT_SERVER_VERSION = 176
UNSPOKEN_VERSIONS = range(158, 164)
"""Clients disagree on their layouts, so nobody is told one of them (ib-wire.md 1)."""
UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INT = "2147483647"
_UNSET = frozenset({"", "None", UNSET_DOUBLE, "1.7976931348623157e+308", "1.7976931348623157e308", UNSET_INT,
                    "Infinity", "Infinite", "inf", "nan", "NaN"})
_LENGTH = struct.Struct(">I")


class WireError(ValueError):
    """The bytes of a client do not follow the protocol."""


class FrameError(WireError):
    """A frame whose length is 0 or beyond 16 MiB: the stream cannot be followed any more."""


def frame(payload: bytes) -> bytes:
    """Return the payload behind its four-byte big-endian length."""
    return _LENGTH.pack(len(payload)) + payload


def encode(*fields: object) -> bytes:
    """Return one frame of NUL-terminated fields; see `text` for how values are spelled."""
    # Most fields are text or plain ints (a bool's type is not int): only the others cost a call.
    return frame(("\0".join([f if type(f) is str else str(f) if type(f) is int else text(f) for f in fields])
                  + "\0").encode())


def text(value: object) -> str:
    """Spell one value as IB does: '' for None, 0/1 for bools, plain decimals without exponent."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if value is True:
        return "1"
    if value is False:
        return "0"
    if type(value) is int:
        return str(value)
    if isinstance(value, Decimal):
        return number(value)
    return str(value)


def number(value: Decimal) -> str:
    """Spell a decimal without exponent and without trailing zeros; integral values without a point."""
    spelled = str(value)
    if "E" in spelled:
        spelled = format(value, "f")
    if "." in spelled:
        spelled = spelled.rstrip("0").rstrip(".")
    return "0" if spelled in ("", "-0") else spelled


def price(value: Decimal | None, unset: str = "") -> str:
    """Spell an optional price."""
    return unset if value is None else number(value)


class FrameBuffer:
    """Collect bytes as they come and give back whole payloads."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        self._data += data

    def take_prefix(self, prefix: bytes) -> bool | None:
        """Take the prefix off the front: True if it was there, False if other bytes are, None if too few came."""
        have = bytes(self._data[:len(prefix)])
        if have == prefix:
            del self._data[:len(prefix)]
            return True
        return None if prefix.startswith(have) else False

    def payload(self, limit: int = MAX_FRAME_BYTES) -> bytes | None:
        """Return the next whole payload, or None until more bytes come.

        Raises FrameError for a length of 0 or above the limit (16 MiB).
        """
        if len(self._data) < 4:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length == 0 or length > limit:
            raise FrameError(f"frame length {length}: allowed is 1 to {limit}")
        if len(self._data) < 4 + length:
            return None
        payload = bytes(self._data[4:4 + length])
        del self._data[:4 + length]
        return payload

    def payloads(self) -> Iterator[bytes]:
        while (payload := self.payload()) is not None:
            yield payload


def split(payload: bytes) -> list[str]:
    """Return the fields of a payload; bytes that are not UTF-8 are kept as escapes, never lost."""
    fields = payload.decode("utf-8", errors="backslashreplace").split("\0")
    if fields and fields[-1] == "":
        fields.pop()
    return fields


def negotiate(hello: bytes, cap: int = DEFAULT_SERVER_VERSION) -> int | None:
    """Return the server version for a client's `v157..176` (options may follow), or None to close.

    Raises WireError when the text is not a version range.
    """
    word = hello.decode("ascii", errors="replace").rstrip("\0").split(" ")[0]
    low_text, dots, high_text = word.removeprefix("v").partition("..")
    if not word.startswith("v") or not _is_version(low_text) or (dots and not _is_version(high_text)):
        raise WireError(f"hello {word[:40]!r}: expected a version range such as v157..176")
    low = int(low_text)
    high = int(high_text) if dots else low
    chosen = min(high, cap)
    if chosen in UNSPOKEN_VERSIONS:
        chosen = MIN_SERVER_VERSION
    return chosen if chosen >= max(low, MIN_SERVER_VERSION) else None


def _is_version(text: str) -> bool:
    return text.isdigit() and len(text) < 10


class Fields:
    """Read the fields of one message in order; each reader names the field, so that an error can."""

    def __init__(self, message: str, fields: list[str], start: int = 0) -> None:
        self.message = message
        self._fields = fields
        self._at = start

    @property
    def left(self) -> int:
        return len(self._fields) - self._at

    def text(self, name: str) -> str:
        try:
            value = self._fields[self._at]
        except IndexError:
            raise WireError(f"{self.message}: the message ends before {name} (field {self._at})") from None
        self._at += 1
        return value

    def texts(self, name: str, n: int) -> list[str]:
        return [self.text(name) for _ in range(n)]

    def skip(self, name: str, n: int) -> None:
        if self.left < n:
            raise WireError(f"{self.message}: the message ends before {name} (field {self._at + self.left})")
        self._at += n

    def integer(self, name: str, default: int = 0) -> int:
        raw = self.text(name)
        if raw in _UNSET:
            return default
        try:
            value = int(raw)
        except ValueError:
            number_ = self._decimal(name, raw)
            if not number_.is_finite() or number_ != number_.to_integral_value() or abs(number_) > 2**63:
                raise WireError(f"{self.message}: {name} {raw[:40]!r} is not a whole number") from None
            value = int(number_)
        if abs(value) > 2**63:
            raise WireError(f"{self.message}: {name} {raw[:40]!r} is beyond 64 bits")
        return value

    def count(self, name: str, limit: int = 1000) -> int:
        value = self.integer(name)
        if not 0 <= value <= limit:
            raise WireError(f"{self.message}: {name} {value} is not between 0 and {limit}")
        return value

    def flag(self, name: str) -> bool:
        raw = self.text(name)
        if raw in ("0", "False", "false") or raw in _UNSET:
            return False
        if raw in ("1", "True", "true"):
            return True
        return bool(self.integer_of(name, raw))

    def integer_of(self, name: str, raw: str) -> int:
        try:
            return int(raw)
        except ValueError:
            raise WireError(f"{self.message}: {name} {raw[:40]!r} is neither 0 nor 1") from None

    def number(self, name: str) -> Decimal | None:
        """Return a decimal, or None when the field is empty or spelled unset."""
        raw = self.text(name)
        if raw in _UNSET:
            return None
        value = self._decimal(name, raw)
        if not value.is_finite() or abs(value.adjusted()) > MAX_MAGNITUDE:
            if abs(value.adjusted()) > 300:
                return None
            raise WireError(f"{self.message}: {name} {raw[:40]!r} is out of range")
        return value

    def spelled_number(self, name: str, whole: bool = False) -> str:
        """Return a number as it is spelled (a whole one plainly), or '' when it is empty or spelled unset."""
        raw = self.text(name)
        if not raw or (len(raw) < 10 and raw.isascii() and raw.isdigit()):
            return raw
        self._at -= 1
        if self.number(name) is None:
            return ""
        if not whole:
            return raw
        self._at -= 1
        return str(self.integer(name))

    def rest(self) -> str:
        """Return the fields that are left as one text, without taking them."""
        return "\0".join(self._fields[self._at:])

    def peek(self) -> str:
        """Return the next field without taking it; '' at the end."""
        return self._fields[self._at] if self.left else ""

    def quantity(self, name: str) -> Decimal:
        return self.number(name) or Decimal(0)

    def _decimal(self, name: str, raw: str) -> Decimal:
        try:
            return Decimal(raw)
        except InvalidOperation:
            raise WireError(f"{self.message}: {name} {raw[:40]!r} is not a number") from None
