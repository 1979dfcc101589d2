"""Input that means harm: bytes, objects and messages of every wrong kind, for every way into the engine."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from messages.intent import Intent
from tests import builders

EVIL_NUMBERS: list[Any] = [
    "NaN", "-Infinity", "sNaN", "1e999999999", "1e-999999999", "-0", "0", "9" * 5000, "1.0000001", True, False, 10**400,
    float("inf"), float("nan"), 1e308, 5e-324, -1, Decimal("sNaN"), Decimal("Infinity"), Decimal("1e999999"),
    Decimal("1e-999999"),
]
EVIL_TEXTS = [
    "", " ", "\x00", "\ud800", "x" * 70_000, "AAPL\n", "'; DROP TABLE events; --", "../../etc/passwd", "{0.__class__}",
    "\u202e", "SPY   240119C00470000", "__proto__", "%s%n", "$.exits[0]",
]
WHOLE = builders.raw_intent(
    exits=[{"quantity": "100", "target": {"price": "110", "hold": "engine"},
            "stop": {"price": "95", "limit_price": "94", "hold": "engine"},
            "trailing_stop": {"amount": "2", "activation_price": "105", "limit_offset": "0.1"}}],
    shape="bracket", when={"instrument": "SPY", "operator": ">=", "price": "1"}, valid_for="5",
    safety_stop={"price": "90"}, account="DU1234567", session="rth", target_price="1",
)
"""A good intent with a value in almost every field: what is bent out of shape below."""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every field of a tree of objects, lists and records."""
    if isinstance(value, msgspec.Struct):
        parts = [(name, getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, (list, tuple)):
        parts = list(enumerate(value))
    else:
        parts = []
    return [each for key, part in parts for each in ((*path, key), *_paths(part, (*path, key)))]


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the tree with another value at the end of a way; a way that an earlier change has cut is left alone."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(tree, msgspec.Struct) and key in tree.__struct_fields__:
        return msgspec.structs.replace(tree, **{key: _put(getattr(tree, key), rest, value)})
    if isinstance(tree, dict) and (key in tree or not rest):
        return {**tree, key: _put(tree.get(key), rest, value)}
    if isinstance(tree, (list, tuple)) and isinstance(key, int) and key < len(tree):
        return type(tree)(_put(part, rest, value) if n == key else part for n, part in enumerate(tree))
    return tree


def scalars() -> st.SearchStrategy[Any]:
    """Values of every kind, most of them wrong wherever they stand."""
    odd = [None, [], {}, (), b"x", object(), Intent, "BUY", "engine", "oco"]
    return st.one_of(
        st.sampled_from([*EVIL_NUMBERS, *EVIL_TEXTS, *odd]), st.text(max_size=8), st.integers(), st.decimals(),
        st.floats())


def anything() -> st.SearchStrategy[Any]:
    """Trees of such values."""
    return st.recursive(scalars(), lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=3)), max_leaves=6)


def objects() -> st.SearchStrategy[Any]:
    """A good intent as a decoded object, with one to three fields replaced or added."""
    places = _paths(WHOLE)
    added = st.tuples(st.sampled_from(places), st.text(max_size=4)).map(lambda two: (*two[0][:-1], two[1]))
    change = st.tuples(st.one_of(st.sampled_from(places), st.sampled_from(places), added), scalars())
    return st.lists(change, min_size=1, max_size=3).map(_changed(WHOLE))


def messages() -> st.SearchStrategy[Intent]:
    """A good Intent with one to three fields of it, or of its exits, replaced by anything."""
    good = msgspec.convert(WHOLE, Intent)
    change = st.tuples(st.sampled_from(_paths(good)), st.one_of(scalars(), anything()))
    return st.lists(change, min_size=1, max_size=3).map(_changed(good))


def _changed(tree: Any) -> Any:
    def change(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
        found = tree
        for path, value in changes:
            found = _put(found, path, value)
        return found

    return change


def payloads() -> st.SearchStrategy[bytes]:
    """What may come as the body of a request: noise, and good JSON with bytes cut out and put in."""
    text = json.dumps(WHOLE).encode()
    spliced = st.tuples(st.integers(0, len(text)), st.integers(0, 30), st.binary(max_size=10)).map(
        lambda cut: text[: cut[0]] + cut[2] + text[cut[0] + cut[1] :])
    return st.one_of(st.binary(max_size=40), spliced, objects().map(as_json))


def as_json(value: Any) -> bytes:
    """Write a tree as JSON as far as that goes; what JSON has no word for becomes its text."""
    return json.dumps(value, default=repr, skipkeys=True).encode("utf-8", "replace")
