"""Ticks: exact integers from the wire's text, sale conditions judged, nothing that is no price."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.venue.ib_ticks import Line, TickReader, eligible, scaled
from actors.venue.port import HaltTold
from messages.market import SCALE, Feed, QuoteTick, TradeTick

NOW = 1_800_000_000_000_000_000


def reader(feed: Feed = Feed.SNAPSHOT) -> TickReader:
    made = TickReader()
    made.lines["7"] = Line("AAPL", feed)
    return made


def told(made: TickReader, *frames: str) -> list:
    for frame in frames:
        made.read(frame.replace(",", "\0").encode() + b"\0", NOW)
    return made.flush(NOW)


@given(st.decimals(0, 10**9, places=6))
def test_a_price_is_exact(price):
    assert Decimal(scaled(str(price))) == price * SCALE


@pytest.mark.parametrize(("text", "expected"), [
    ("168.18", 168_180_000), ("168.180", 168_180_000), ("1E2", 100_000_000), ("0", 0), ("-1", -1_000_000),
    ("-1.0", -1_000_000), ("NaN", 0), ("Infinity", 0), ("1.7976931348623157E308", 0), ("", 0), ("abc", 0),
    ("0.1234567", 123_457), (".5", 500_000),
])
def test_texts_of_prices(text, expected):
    assert scaled(text) == expected


@pytest.mark.parametrize(("mask", "conditions", "may"), [
    (0, "", True), (0, "0", True), (0, "@ F", True), (0, "F", True), (1, "", False), (2, "", False), (3, "F", False),
    (0, "I", False), (0, "F T", False), (0, "TI", False), (0, "4B", False), (0, "F4", False), (0, "0x1", True),
    (0, "0x20004000", True), (2, "0x20000020", False), (0, "0x1 T", False),
])
def test_sale_conditions(mask, conditions, may):
    assert eligible(mask, conditions) is may


def test_tick_by_tick_trades_carry_price_size_time_and_eligibility():
    assert told(reader(Feed.TICK_BY_TICK), "99,7,2,1380000000,168.18,300,0,NASDAQ,", "99,7,1,1380000001,168.2,1,2,N,20",
                "99,7,1,1380000001,-1,1,0,N,", "99,8,1,1380000001,168.2,1,0,N,") == [
        TradeTick("AAPL", 168_180_000, 300.0, 1_380_000_000 * 10**9, True),
        TradeTick("AAPL", 168_200_000, 1.0, 1_380_000_001 * 10**9, False),
    ]


def test_tick_by_tick_quotes_have_zero_where_there_is_none():
    assert told(reader(Feed.TICK_BY_TICK), "99,7,3,1380000000,168.17,168.19,3,4,0",
                "99,7,3,1380000001,-1,168.2,0,4,0") == [
        QuoteTick("AAPL", 168_170_000, 168_190_000, 1_380_000_000 * 10**9),
        QuoteTick("AAPL", 0, 168_200_000, 1_380_000_001 * 10**9),
    ]


def test_the_snapshot_stream_takes_the_time_of_a_trade_from_its_timestamp():
    assert told(reader(), "46,6,7,45,1380000000", "1,6,7,4,168.18,100,0", "2,6,7,5,100") == [
        TradeTick("AAPL", 168_180_000, 100.0, 1_380_000_000 * 10**9, True)]


def test_a_timestamp_right_after_its_price_counts_and_none_at_all_is_never_fresh():
    assert told(reader(), "1,6,7,4,168.18,100,0", "46,6,7,45,1380000000")[0].ts_ns == 1_380_000_000 * 10**9
    assert told(reader(), "1,6,7,4,168.18,100,0")[0].ts_ns == 0


def test_both_sides_of_one_read_make_one_quote_and_several_trades_stay_several():
    assert told(reader(), "1,6,7,1,99.5,3,1", "1,6,7,2,99.6,3,1") == [QuoteTick("AAPL", 99_500_000, 99_600_000, NOW)]
    prints = told(reader(), "46,6,7,45,10", "1,6,7,4,1,1,0", "1,6,7,4,2,1,0", "1,6,7,4,1,1,0")
    assert [t.price // SCALE for t in prints] == [1, 2, 1]


def test_a_price_past_its_limit_moves_nothing_and_delayed_ticks_are_no_prices():
    assert told(reader(), "46,6,7,45,10", "1,6,7,4,5,1,2")[0].eligible is False
    assert told(reader(), "1,6,7,68,5,1,0", "1,6,7,66,5,1,0", "1,6,7,4,-1,0,0", "1,6,7,4,0,0,0") == []


def test_a_missing_side_is_zero():
    assert told(reader(), "1,6,7,1,-1,0,1", "1,6,7,2,99.6,3,1") == [QuoteTick("AAPL", 0, 99_600_000, NOW)]


@pytest.mark.parametrize(("value", "halted"), [("1", True), ("2.0", True), ("0", False), ("-1", None), ("", None)])
def test_halts(value, halted):
    told_halt = reader().read(f"45\x006\x007\x0049\0{value}\0".encode(), NOW)
    assert told_halt == (None if halted is None else HaltTold("AAPL", halted))


def test_a_muted_line_says_quotes_only():
    made = reader()
    made.lines["7"].muted = True
    assert told(made, "1,6,7,4,5,1,0") == []
    assert len(told(made, "1,6,7,1,5,1,0")) == 1
