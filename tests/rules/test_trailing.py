"""Trailing stop levels, prices as integers, and the filters of evidence."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rules.meldable_heap import Node, meld, without
from actors.rules.scale import PERCENT_WHOLE, SCALE, from_scaled, to_scaled
from actors.rules.tick_filter import EXCLUDED_CONDITIONS, quote_is_usable, trade_is_eligible
from actors.rules.trailing import percent_stop
from tests.rules.trigger_book_audit import nodes_of

PRICES = st.integers(1, 10**12)


def trailing_stop_price(side: str, extreme: int, *, percent: int) -> int:
    """Put the book's signed rule into a side's own prices."""
    sign = 1 if side == "SELL" else -1
    return sign * percent_stop(sign * extreme, -percent)


@pytest.mark.parametrize(
    ("side", "extreme", "percent", "stop"),
    [
        ("SELL", "100", "2.5", "97.5"),
        ("BUY", "100", "2.5", "102.5"),
        ("SELL", "33.333333", "10", "29.999999"),  # 29.9999997: down, away from an early trigger
        ("BUY", "33.333333", "10", "36.666667"),  # 36.6666663: up
        ("SELL", "0.000001", "0.000001", "0"),
    ],
)
def test_a_percent_stop_is_rounded_away_from_an_early_trigger(side, extreme, percent, stop):
    got = trailing_stop_price(side, to_scaled(Decimal(extreme)), percent=to_scaled(Decimal(percent)))
    assert from_scaled(got) == Decimal(stop)


@given(PRICES, st.integers(1, PERCENT_WHOLE - 1))
def test_percent_stops_are_exact_on_both_sides(extreme, percent):
    part = Fraction(percent, PERCENT_WHOLE)
    assert trailing_stop_price("SELL", extreme, percent=percent) == math.floor(extreme * (1 - part))
    assert trailing_stop_price("BUY", extreme, percent=percent) == math.ceil(extreme * (1 + part))


@given(PRICES, PRICES, st.integers(1, PERCENT_WHOLE - 1))
def test_a_better_extreme_never_loosens_a_percent_stop(one, other, percent):
    low, high = sorted((one, other))
    for side, worse, better, sign in (("SELL", low, high, 1), ("BUY", high, low, -1)):
        before = trailing_stop_price(side, worse, percent=percent)
        assert sign * trailing_stop_price(side, better, percent=percent) >= sign * before


@given(st.integers(-(10**17), 10**17))
def test_scaled_prices_come_back_unchanged(scaled):
    assert to_scaled(from_scaled(scaled)) == scaled


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "1E-7", "1E+12", "1E-999999", "1E+999999"])
def test_a_price_that_does_not_fit_the_scale_is_refused_by_name(text):
    with pytest.raises(ValueError, match=f"price {text}".replace("+", r"\+")):
        to_scaled(Decimal(text))


@pytest.mark.parametrize(
    ("text", "scaled"),
    [("168.18", 168_180_000), ("1E+2", 100 * SCALE), ("0.10000000000", 100_000), ("-1.5", -1_500_000)],
)
def test_a_price_is_scaled_exactly(text, scaled):
    assert to_scaled(Decimal(text)) == scaled


def test_which_trades_and_quotes_are_evidence():
    assert trade_is_eligible(1, 0)
    assert trade_is_eligible(1, 0x1 | 0x40)
    for bit in (0x20, 0x200, 0x40000, 0x100000):
        assert bit & EXCLUDED_CONDITIONS
        assert not trade_is_eligible(1, bit | 1)
    assert not trade_is_eligible(1, 0, suspicious=True)
    assert not trade_is_eligible(0)
    assert not trade_is_eligible(-1)
    assert quote_is_usable(5, 5), "a locked quote has two sides"
    for bid, ask in ((6, 5), (0, 5), (5, 0), (-1, 5), (5, -1), (-2, -1)):
        assert not quote_is_usable(bid, ask)


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(("push", "pop", "take out", "meld"))), max_size=60))
def test_a_heap_gives_up_any_node_and_swallows_another_heap(steps):
    one, inside, other, beside = None, [], None, []
    for number, (key, act) in enumerate(steps):
        if act == "push" or not inside:
            node = Node(key)
            if number % 3:
                one = meld(one, node)
                inside.append(node)
            else:
                other = meld(other, node)
                beside.append(node)
        elif act == "pop":
            assert one.key == max(node.key for node in inside)
            inside.remove(one)
            one = without(one, one)
        elif act == "take out":
            node = inside.pop(key % len(inside))
            one = without(one, node)
            assert (node.left, node.right, node.up, node.rank) == (None, None, None, 1)
        else:
            one, other = meld(one, other), None
            inside += beside
            beside = []
        assert {id(node) for node in nodes_of(one)} == {id(node) for node in inside}
        assert {id(node) for node in nodes_of(other)} == {id(node) for node in beside}


def test_the_right_spine_stays_short_so_that_nothing_takes_long():
    root = None
    nodes = [Node(number * 7919 % 4096) for number in range(4096)]
    for node in nodes:
        root = meld(root, node)
    assert max(node.rank for node in nodes) <= 12
