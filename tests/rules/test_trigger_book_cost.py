"""What a tick costs the trigger book, counted in lines of Python and not in seconds; and one real day of SPY."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from actors.rules.tick_filter import trade_is_eligible
from actors.rules.trigger_book import Arm, Fired, TriggerBook


def trail(arm_id: str, amount: int, **more) -> Arm:
    return Arm(arm_id, "SELL", "trail_amount", offset=amount, **more)


def cost_of(book: TriggerBook, price: int) -> tuple[int, int]:
    """Return how many lines of Python a trade runs (what it costs, without a clock), and how many arms it fires."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fired = book.on_trade(price, 1)
    finally:
        sys.settrace(before)
    return count, len(fired)


def crowd(count: int, *, one_high_each: bool = False) -> TriggerBook:
    book = TriggerBook()
    for number in range(count):
        known = 1_000_000 + number * 3 if one_high_each else None
        book.arm(trail(f"arm-{number}", amount=100_000 + number * 7919 % 100_000, high_water=known))
    assert book.on_trade(1_000_000, 1) == []
    return book


@pytest.mark.performance
def test_a_tick_costs_the_same_with_ten_stops_and_with_ten_thousand():
    few, many = crowd(10), crowd(10_000)
    for price in (999_999, 950_000, 1_000_000):
        assert cost_of(many, price) == cost_of(few, price) < (10, 0)
    for price in (1_000_001, 1_000_002):
        assert cost_of(many, price) == cost_of(few, price) < (100, 0)


@pytest.mark.performance
def test_overtaking_and_firing_cost_a_logarithm_for_each_stop_concerned():
    count = 2_048  # log2 is 11
    rising = crowd(count, one_high_each=True)
    lines = [cost_of(rising, 1_000_001 + number * 3)[0] for number in range(count)]
    assert sum(lines) / count < 40 * 11
    assert max(lines) < 120 * 11, "and no single tick pays for the others"
    falling = crowd(count)
    for price in range(1_000_000, 0, -50):
        cost, fired = cost_of(falling, price)
        assert cost < 10 or cost < 100 + fired * 40 * 11
        if not len(falling):
            break
    assert len(falling) == 0


ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BRACKETEER_DATA") or ROOT.parent / "shared" / "data")
SPY_TICKS = DATA / "lean" / "equity_tick" / "spy" / "20131007_trade.zip"
MS = 1_000_000


@pytest.mark.skipif(not SPY_TICKS.exists(), reason=f"no SPY ticks of 2013-10-07 under {DATA}; set BRACKETEER_DATA")
def test_a_trail_on_the_real_ticks_of_spy_fires_where_it_must():
    with zipfile.ZipFile(SPY_TICKS) as archive:
        rows = [line.split(",") for line in archive.read(archive.namelist()[0]).decode().splitlines()]
    book = TriggerBook()
    book.arm(trail("spy", amount=200_000, fresh_after_ns=36_000_000 * MS))  # 10:00:00 in New York
    for row in rows:
        ms, price = int(row[0]), int(row[1]) * 100
        eligible = trade_is_eligible(price, int(row[4], 16), suspicious=row[5] != "0")
        fired = book.on_trade(price, ms * MS, eligible=eligible)
        if fired:
            break
    at = ((10 * 60 + 34) * 60 + 54) * 1_000 + 521
    assert fired == [Fired("spy", 168_180_000, 168_180_000, 168_380_000, 62, at * MS, False)]
