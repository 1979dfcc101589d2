"""Every event that may be read back from the disk, by the name of its class; and the fingerprint of an intent."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

import msgspec

from messages import exits, ledger, market, orders, risk, session
from messages.base import Event, Message
from messages.intent import Intent


def _all_subclasses(kind: type[Message]) -> list[type[Message]]:
    found: list[type[Message]] = []
    for child in kind.__subclasses__():
        found.append(child)
        found.extend(_all_subclasses(child))
    return found


_MODULES = {module.__name__ for module in (exits, ledger, market, orders, risk, session)}
EVENTS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in _all_subclasses(Event) if kind.__module__ in _MODULES
}
_decoders: dict[str, Any] = {}  # made on first use: a batch of ticks is never stored and has no decoder


def encode(event: Message) -> bytes:
    """Turn a record into JSON whose `type` field is its class."""
    return msgspec.json.encode(event)


def decode(name: str, payload: bytes) -> Any:
    """Turn stored JSON back into its record. Raises KeyError for a type that this version does not know."""
    if name not in _decoders:
        _decoders[name] = msgspec.json.Decoder(EVENTS[name])
    return _decoders[name].decode(payload)


_defaults: dict[type, tuple[tuple[str, Any], ...]] = {}


def _number(value: Decimal) -> str:
    """Write a number so that 100, 100.0 and 1E+2 are the same text, which stays short for any exponent."""
    if not value:
        return "0"
    if not value.is_finite() or abs(value.adjusted()) > 30:
        sign, digits, exponent = value.as_tuple()
        significant = "".join(map(str, digits)).rstrip("0")
        return f"{'-' * sign}{significant}@{value.adjusted() if value.is_finite() else exponent}"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        kind = type(value)
        if kind not in _defaults:
            _defaults[kind] = tuple((field.name, field.default) for field in msgspec.structs.fields(kind))
        found: dict[str, Any] = {}
        for name, default in _defaults[kind]:
            part = getattr(value, name)
            if part is not default and part != default:
                found[name] = _plain(part)
        return found
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value)


def content_digest(intent: Intent) -> str:
    """Return the fingerprint of an intent's content: 100 and 100.0 are the same, and so are a default and its absence.

    A field added later with a default leaves the digests of earlier intents as they are.
    """
    text = json.dumps(_plain(intent), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
