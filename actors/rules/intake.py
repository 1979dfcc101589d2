"""The edge: what strategies and operators send, read strictly or refused in one sentence (design law 12).

Law: nothing but `Refused` leaves this file, whatever came in; its sentence names field, value and rule and is the same
for the command line, HTTP and actor messages. Here is what a single field may be; how fields must agree with each
other is in intent_checks.py. Tranches are counted from 1: `exits[1].stop.price`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

import msgspec

from actors.rules.intent_checks import check_agreement
from actors.rules.refusal import Number, Refused, cut, plain, shown
from messages.base import Record, Word
from messages.intent import Intent
from messages.orders import ModifyBracket
from messages.registry import content_digest
from messages.settings import Settings

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_ITEMS = 32
MAX_NUMBER = Decimal(1_000_000_000)
MAX_DIGITS = 40
TOO_LONG = "9" * (MAX_DIGITS + 1)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,20})?", re.ASCII)
_SPECIAL = re.compile(r"[+-]?(?:nan|snan|inf|infinity)", re.ASCII | re.IGNORECASE)


class NumberRule(NamedTuple):
    """What a number of some kind must be."""

    noun: str
    rule: str
    places: int = 6
    least: Decimal = Decimal(0)
    exclusive: bool = True


_PRICE = NumberRule("a price", "it must be a finite decimal above 0 with at most 6 places")
_DISTANCE = NumberRule("a distance", "it must be a finite decimal above 0 with at most 6 places, in currency per share")
_PERCENT = NumberRule("a percentage", "it must be a finite decimal above 0 with at most 6 places (2 means 2 %)")
_QUANTITY = NumberRule("a quantity", "it must be a whole number above 0; fractions of a share are not traded", places=0)
_COUNT = NumberRule("a number", "it must be a whole number above 0", places=0)
NUMBERS: dict[str, NumberRule] = {
    "price": _PRICE, "limit_price": _PRICE, "stop_price": _PRICE, "target_price": _PRICE, "activation_price": _PRICE,
    "target": _PRICE, "stop": _PRICE,
    "offset": _DISTANCE, "amount": _DISTANCE, "trail_amount": _DISTANCE,
    "limit_offset": NumberRule(
        "a distance", "it must be a finite decimal of 0 or more with at most 6 places, in currency per share",
        exclusive=False),
    "percent": _PERCENT, "trail_percent": _PERCENT,
    "quantity": _QUANTITY,
    "valid_for": NumberRule("a duration", "it must be a finite number of seconds above 0 with at most 3 places", 3),
    "max_slippage_bps": NumberRule(
        "a number of basis points", "it must be a finite decimal of 0 or more, or null", exclusive=False),
}

TEXTS: dict[str, tuple[re.Pattern[str], str]] = {
    "signal_id": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=#-]{0,99}", re.ASCII),
                  "it must be 1 to 100 ASCII letters, digits and . _ : @ / + = # -, the first a letter or digit"),
    "strategy": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII),
                 "it must be 1 to 64 ASCII letters, digits and . _ -"),
    "instrument": (re.compile(r"[A-Z0-9][A-Z0-9 ./-]{0,31}", re.ASCII),
                   "it must be a ticker of 1 to 32 ASCII capitals and digits, such as AAPL or BRK B"),
    "account": (re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII), "it must be 1 to 20 ASCII letters and digits"),
    "good_till": (re.compile(r"[0-9]{8}-[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII),
                  "it must be a UTC time written yyyymmdd-hh:mm:ss, such as 20260204-15:56:08"),
    "risk_tags": (re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:-]{0,49}", re.ASCII),
                  "each tag must be 1 to 50 ASCII letters, digits, spaces and . _ : -"),
}


# -- the four ways in ------------------------------------------------------------------------------------------


def parse_intent(raw: object) -> Intent:
    """Read one intent: JSON as bytes or text, a decoded object, or an Intent whose fields nobody has checked.

    Every field is of its type and in its range afterwards; `check_intent` then looks at how they agree.
    Raises Refused.
    """
    found = _read_record(Intent, _decoded(raw, "intent"), "")
    assert isinstance(found, Intent)
    return found


def check_intent(intent: Intent, settings: Settings, now_ns: int) -> None:
    """Refuse an intent that makes no sense or asks for what is not built. `now_ns`: UTC. Raises Refused.

    What passes is safe to calculate with: its numbers are Decimals, its words members, its lists tuples.
    """
    if type(intent) is not Intent:
        raise Refused("wrong_type", "intent", shown(intent), "a message carries an Intent; read JSON with parse_intent",
                      "is not an Intent")
    found = parse_intent(intent)
    _same_types(intent, found, "")
    check_agreement(found, settings, now_ns)


def _same_types(given: Any, read: Any, path: str) -> None:
    """Refuse a message's field that reads well and is of another type than the reader makes of it ('100' for 100)."""
    if type(given) is not type(read):
        raise Refused("wrong_type", path, shown(given), f"in a message it must be a {type(read).__name__}; read JSON"
                      " with parse_intent", f"is a {cut(ascii(type(given).__name__)[1:-1])}")
    if isinstance(read, msgspec.Struct):
        for name in read.__struct_fields__:
            _same_types(getattr(given, name), getattr(read, name), f"{path}.{name}" if path else name)
    elif isinstance(read, tuple):
        for number, (one, other) in enumerate(zip(given, read, strict=True), 1):
            _same_types(one, other, f"{path}[{number}]")


def parse_modify(
    raw: object, *, bracket_id: str, command_id: str, actor: str = "operator", correlation: str = ""
) -> ModifyBracket:
    """Read the changes of a `modify`: JSON or a decoded object with any of its fields. Raises Refused."""
    changes = _read_fields(ModifyBracket, _decoded(raw, "modify"), "")
    return _modify(changes, bracket_id, command_id, actor, correlation)


def check_modify(command: ModifyBracket) -> ModifyBracket:
    """Read a `ModifyBracket` message as strictly as JSON. Raises Refused."""
    given = {name: getattr(command, name) for name in ModifyBracket.__struct_fields__ if name not in _ENVELOPE}
    changes = _read_fields(ModifyBracket, given, "")
    return _modify(changes, command.bracket_id, command.command_id, command.actor, command.correlation)


digest = content_digest
"""The fingerprint of an intent's content, by which a repeated signal_id is told from a contradicting one."""


# -- from bytes to objects -------------------------------------------------------------------------------------


def _decoded(raw: object, what: str) -> object:
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogatepass")
    if not isinstance(raw, (bytes, bytearray)):
        return raw
    if len(raw) > MAX_BYTES:
        raise Refused("too_long", what, f"{len(raw)} bytes", f"at most {MAX_BYTES} bytes are read", "are too many")
    try:
        text = bytes(raw).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Refused("malformed", what, f"byte {problem.start}", "it must be one JSON object in UTF-8",
                      "is not UTF-8") from None
    depth = _depth(bytes(raw))
    if depth > MAX_DEPTH:
        raise Refused("malformed", what, f"nesting of {depth} levels", f"at most {MAX_DEPTH} levels are read",
                      "is too deep")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=Number)
    except json.JSONDecodeError as problem:
        raise Refused("malformed", what, f"character {problem.pos + 1}", "it must be one JSON object in UTF-8",
                      f"is not JSON ({problem.msg.rstrip(':').lower()})") from None


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            name = shown(key).strip("'")
            raise Refused("duplicate_key", name, f"{shown(found[key])} and {shown(value)}",
                          "a field may be given once in an object", "are both given")
        found[key] = value
    return found


# -- from objects to records -----------------------------------------------------------------------------------

_ENVELOPE = frozenset({"bracket_id", "command_id", "actor", "correlation"})
_Reader = Callable[[object, str], Any]


class _Field(NamedTuple):
    name: str
    required: bool
    read: _Reader


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    """Return what a record may be given, by name; the envelope of a command is not the sender's to fill."""
    return {
        field.name: _Field(field.name, field.required, _reader(field.type, field.name))
        for field in msgspec.structs.fields(kind)
        if field.name not in _ENVELOPE
    }


def _reader(wanted: Any, name: str) -> _Reader:
    """Return what reads one field: its type comes from the record itself, its range from NUMBERS and TEXTS."""
    if isinstance(wanted, UnionType):
        inner = _reader(next(part for part in get_args(wanted) if part is not NoneType), name)
        return lambda value, path: None if value is None else inner(value, path)
    if get_origin(wanted) is tuple:
        return _list_reader(_reader(get_args(wanted)[0], name))
    if wanted is Decimal:
        rule = NUMBERS[name]
        return lambda value, path: _number(value, path, rule)
    if wanted is int:
        return lambda value, path: int(_number(value, path, _COUNT))
    if wanted is str:
        pattern, rule_of_text = TEXTS[name]
        return lambda value, path: _text(value, path, pattern, rule_of_text)
    if issubclass(wanted, Word):
        return lambda value, path: _word(value, path, wanted)
    assert issubclass(wanted, Record), wanted
    return lambda value, path: _read_record(wanted, value, path)


def _read_record(kind: type[msgspec.Struct], value: object, path: str) -> Any:
    if type(value) is kind:
        value = {name: getattr(value, name) for name in kind.__struct_fields__}
    return kind(**_read_fields(kind, value, path))


def _read_fields(kind: type[msgspec.Struct], value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("wrong_type", path or _noun(kind), shown(value), f"{_article(kind)} is an object of named fields",
                      "is not an object")
    fields = _fields(kind)
    for key in value:
        if key not in fields:
            _refuse_unknown(kind, key, value[key], path, list(fields))
    found: dict[str, Any] = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in value:
            found[name] = field.read(value[name], where)
        elif field.required:
            raise Refused("missing_field", where, "nothing", f"{_article(kind)} must have it", "is given")
    return found


def _refuse_unknown(kind: type[msgspec.Struct], key: object, value: object, path: str, known: list[str]) -> NoReturn:
    name = shown(key).strip("'")
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"the fields here are {', '.join(known)}"
    raise Refused("unknown_field", f"{path}.{name}" if path else name, shown(value), hint,
                  f"is given, but {_article(kind)} has no such field")


def _noun(kind: type[msgspec.Struct]) -> str:
    return {"SafetyStop": "safety stop", "TrailingStop": "trailing stop", "ModifyBracket": "modify"}.get(
        kind.__name__, kind.__name__.lower())


def _article(kind: type[msgspec.Struct]) -> str:
    noun = _noun(kind)
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _list_reader(read: _Reader) -> _Reader:
    def read_list(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise Refused("wrong_type", path, shown(value), "it must be a list", "is not a list")
        if len(value) > MAX_ITEMS:
            raise Refused("too_long", path, f"{len(value)} items", f"at most {MAX_ITEMS} are read", "are too many")
        return tuple(read(item, f"{path}[{number}]") for number, item in enumerate(value, 1))

    return read_list


def _text(value: object, path: str, pattern: re.Pattern[str], rule: str) -> str:
    if not isinstance(value, str) or isinstance(value, (Number, Word)):
        raise Refused("wrong_type", path, shown(value), rule, "is not text")
    if not pattern.fullmatch(value) or value != value.strip():
        problem = "is empty" if not value else "is not valid here"
        raise Refused("bad_value", path, shown(value), rule, problem)
    return str(value)


def _word(value: object, path: str, kind: type[Word]) -> Word:
    if isinstance(value, str) and not isinstance(value, Number):
        for member in kind:
            if member.value == value:
                return member
    raise Refused("bad_value", path, shown(str(value) if isinstance(value, Word) else value),
                  f"it must be one of {', '.join(str(member) for member in kind)}", "is not known")


def _number(value: object, path: str, rule: NumberRule) -> Decimal:
    """Read an exact decimal from a JSON number, a text, a Decimal or a Python number; never a bool."""
    text = _numeral(value)
    if text is None or isinstance(value, bool):
        raise Refused("wrong_type", path, shown(value), rule.rule, f"is not {rule.noun}")
    if len(text) > MAX_DIGITS:
        raise Refused("bad_value", path, shown(value), rule.rule, f"has more than {MAX_DIGITS} characters")
    shown_value = shown(Number(text))
    if not _NUMBER.fullmatch(text):
        raise Refused("bad_value", path, shown_value, rule.rule, f"is not {rule.noun}")
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise Refused("bad_value", path, shown_value, rule.rule, f"is not {rule.noun}") from None
    if found < rule.least or (rule.exclusive and found == rule.least):
        raise Refused("bad_value", path, shown_value, rule.rule, f"is not {rule.noun}")
    if found >= MAX_NUMBER:
        raise Refused("bad_value", path, shown_value, f"it must be below {MAX_NUMBER}", "is too large")
    if not found:
        return Decimal(0)
    # Counted in digits: arithmetic would round to its context, and 1e-999999999 to 0.
    digits = "".join(map(str, found.as_tuple().digits))
    places = -int(found.as_tuple().exponent)
    if places - (len(digits) - len(digits.rstrip("0"))) > rule.places:
        raise Refused("bad_value", path, shown_value, rule.rule, f"is not {rule.noun}")
    return found if 0 <= places <= rule.places else found.quantize(Decimal(1).scaleb(-min(max(places, 0), rule.places)))


def _numeral(value: object) -> str | None:
    """Return the text of what may be a number, None for what cannot be one."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        return str(value) if len(value.as_tuple().digits) <= MAX_DIGITS else TOO_LONG
    if isinstance(value, str) and not isinstance(value, Word):
        numeric = isinstance(value, Number) or _NUMBER.fullmatch(value) or _SPECIAL.fullmatch(value)
        return str(value) if numeric else None
    if isinstance(value, int):
        return str(value) if value.bit_length() < 256 else TOO_LONG
    return repr(value) if isinstance(value, float) else None


# -- the rest --------------------------------------------------------------------------------------------------


def _modify(
    changes: dict[str, Any], bracket_id: str, command_id: str, actor: str, correlation: str
) -> ModifyBracket:
    if not any(value is not None for name, value in changes.items() if name != "tranche"):
        names = ", ".join(name for name in _fields(ModifyBracket) if name != "tranche")
        raise Refused("missing_field", "modify", "nothing", f"give at least one of {names}", "is changed")
    if changes.get("trail_amount") is not None and changes.get("trail_percent") is not None:
        raise Refused("bad_value", "trail_percent", plain(changes["trail_percent"]),
                      "a trailing stop follows by an amount or by a percentage, never both",
                      f"is given beside trail_amount {plain(changes['trail_amount'])}")
    if changes.get("trail_percent") is not None and changes["trail_percent"] >= 100:
        raise Refused("bad_value", "trail_percent", plain(changes["trail_percent"]), "it must be below 100",
                      "is too large")
    return ModifyBracket(bracket_id=bracket_id, command_id=command_id, actor=actor, correlation=correlation, **changes)
