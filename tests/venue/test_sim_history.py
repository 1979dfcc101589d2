"""Bars and ticks of the past: every size agrees with every other, and the exchange's own prints are in them."""

from __future__ import annotations

import os
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D
from functools import cache
from itertools import pairwise
from pathlib import Path

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import ContractBook, ContractQuery
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.history import History
from actors.venue.simulator.history_bars import SIZES, Piece, epoch, joined
from actors.venue.simulator.history_pace import HistoryPace
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.past import Past, sessions, split
from actors.venue.simulator.record import Series
from actors.venue.simulator.replay import ReplayError
from actors.venue.simulator.settings import GatewaySettings
from tests.venue.gateway_fixture import NS, ROOT, START_NS, memory_gateway
from tests.venue.library_client import LibraryClient, codes, named

pytestmark = pytest.mark.unit
DATA = Path(os.environ.get("BRACKETEER_DATA", ROOT.parent / "shared" / "data")) / "lean"
REAL_TICKS, REAL_MINUTES = DATA / "equity_tick/spy/20131007_trade.zip", DATA / "equity_minute/spy/20131007_trade.zip"
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])
OPENED = START_NS // NS                       # Thursday 9 October 2025, 04:53:20 New York
MONDAY = date(2025, 10, 6)
TEN = epoch(MONDAY, 36_000)
CONTRACTS = ("AAPL", "SPX", "EUR.USD", "ESZ5", "AAPL  251017C00100000")


@cache
def past_of(name: str):
    """Return one history and contract that all questions of a test share, as the clients of one gateway do."""
    book = ContractBook()
    book.roll(date(2025, 10, 9))
    contract = book.named(name) or book.find(ContractQuery(local_symbol=name))[0]
    return History(book, 7, OPENED), contract


def ask(client: LibraryClient, contract, end="", duration="1 D", size="1 min", what="TRADES", rth=True, form=1,
        keep=False, req=5):
    return client.ask("reqHistoricalData", req, contract, end, duration, size, what, rth, form, keep, [])


def bars_of(calls):
    return [bar for _, bar in named(calls, "historicalData")]


def trade(client: LibraryClient, price, size=100, symbol="AAPL"):
    gateway = client.gateway
    at_ns = gateway.exchange_ns(client.now)
    gateway.trade(gateway.contracts.named(symbol), Trade(D(str(price)), D(size), at_ns), client.now)


# the generated past ------------------------------------------------------------------------------------------------

whole_seconds = st.integers(TEN - 40 * 86_400, TEN)


@given(st.sampled_from(CONTRACTS), whole_seconds, st.lists(st.integers(1, 20_000), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_stretch_is_the_sum_of_its_parts(name, start, lengths):
    history, contract = past_of(name)
    edges = [start]
    for length in lengths:
        edges.append(edges[-1] + length)
    whole = joined(history.pieces(contract, "TRADES", edges[0], edges[-1]))
    parts = [p for a, b in pairwise(edges) for p in history.pieces(contract, "TRADES", a, b)]
    added = joined(parts)
    assert (whole and whole[:6]) == (added and added[:6])


@given(st.sampled_from(CONTRACTS), st.sampled_from([n for n, s in SIZES.items() if 60 <= s <= 86_400]),
       st.integers(0, 20), st.booleans(), st.sampled_from(["TRADES", "BID", "ASK", "MIDPOINT"]))
@settings(max_examples=30, deadline=None)
def test_minutes_add_up_to_every_longer_bar(name, size, days_before, rth, what):
    history, contract = past_of(name)
    start = epoch(MONDAY - timedelta(days=days_before + 1))
    end = start + 86_400 + 3600
    minutes = history.bars(contract, what, ("1 min", 60), start, end, rth, False)
    longer = history.bars(contract, what, (size, SIZES[size]), start, end, rth, False)
    firsts = [b.start_s for b in longer] + [2**40]
    for bar, following in zip(longer, firsts[1:], strict=True):
        inside = [m.piece for m in minutes if bar.start_s <= m.start_s < following]
        assert joined(inside)[:6] == bar.piece[:6]
    assert sum(b.piece.volume for b in longer) == sum(m.piece.volume for m in minutes)


@given(st.sampled_from(CONTRACTS), whole_seconds, st.integers(1, 3000))
@settings(max_examples=25, deadline=None)
def test_the_same_question_has_the_same_answer_in_a_fresh_gateway(name, start, length):
    history, contract = past_of(name)
    book = ContractBook()
    book.roll(date(2025, 10, 9))
    fresh, again = History(book, 7, OPENED), History(book, 8, OPENED)
    mine = book.named(name) or book.find(ContractQuery(local_symbol=name))[0]
    found = history.pieces(contract, "TRADES", start, start + length)
    assert fresh.pieces(mine, "TRADES", start, start + length) == found
    day = (start - 3 * 86_400, start + 86_400)
    assert again.pieces(mine, "TRADES", *day) != fresh.pieces(mine, "TRADES", *day), "the seed counts"


pieces = st.tuples(st.integers(1, 10_000), st.integers(0, 400), st.integers(0, 400), st.integers(0, 10_000),
                   st.integers(0, 5000), st.integers(0, 100))


@given(pieces, st.integers(2, 31), st.data())
def test_a_stretch_is_cut_into_parts_that_add_up(drawn, n, data):
    opening, up, down, volume, count, place = drawn
    closing = max(1, opening + (up - down) * place // 100)
    whole = Piece(opening, max(opening, closing) + up, max(1, min(opening, closing) - down), closing, volume, count)
    chance = data.draw(st.lists(st.floats(0, 0.9999), min_size=4 * n, max_size=4 * n))
    parts = split(whole, n, chance)
    assert joined(parts)[:6] == whole[:6]
    assert all(p.low <= min(p.open, p.close) and p.high >= max(p.open, p.close) and p.volume >= 0 for p in parts)
    assert all(a.close == b.open for a, b in pairwise(parts))


def test_the_past_arrives_at_the_first_price_of_the_exchange():
    history, contract = past_of("AAPL")
    trades = history.pieces(contract, "TRADES", OPENED - 86_400, OPENED)
    assert trades[-1].close == pytest.approx(100 * 1_000_000, rel=0.001)
    moved = Past(contract, 7, D(250), OPENED)
    assert list(moved.cover(OPENED - 3600, OPENED))[-1][1].close == pytest.approx(250 * 1_000_000, rel=0.001)


def test_a_year_of_days_moves_as_a_stock_does():
    history, contract = past_of("AAPL")
    bars = history.bars(contract, "TRADES", ("1 day", 86_400), OPENED - 365 * 86_400, OPENED, True, False)
    assert 255 <= len(bars) <= 263
    closes = [b.piece.close for b in bars]
    moves = [abs(b / a - 1) for a, b in pairwise(closes)]
    assert 0.004 < sum(moves) / len(moves) < 0.02
    assert max(moves) < 0.08


def test_nothing_happens_at_night_or_at_the_weekend():
    history, contract = past_of("AAPL")
    saturday = epoch(date(2025, 10, 4))
    assert history.pieces(contract, "TRADES", saturday, saturday + 2 * 86_400) == []
    assert history.pieces(contract, "TRADES", epoch(MONDAY), epoch(MONDAY, 4 * 3600)) == []
    assert [s[2] for s in sessions("STK", MONDAY)] == [False, True, False]


# what the exchange prints itself -----------------------------------------------------------------------------------

ticks = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 500), st.integers(1, 9)), min_size=1, max_size=80)


@given(ticks, st.integers(0, 4000), st.integers(1, 6000))
@settings(max_examples=50, deadline=None)
def test_recorded_prices_are_kept_as_they_came(printed, offset, length):
    series, at, plain = Series(), 1_760_000_400, []
    for gap, price, size in printed:
        at += gap
        series.add(at, D(price), D(size))
        cost = price * 1_000_000
        plain.append((at, Piece(cost, cost, cost, cost, size, 1, cost * size)))
    start = 1_760_000_400 + offset
    expected = joined(p for t, p in plain if start <= t < start + length)
    assert joined(p for _, p in series.cover(start, start + length)) == expected


def test_the_record_is_bounded_and_keeps_its_totals():
    series, start = Series(), 1_760_000_400
    for n in range(50_000):
        series.add(start + n * 61, D(100 + n % 50), D(1))
    kept = sum(len(getattr(series, name)) for name in ("_seconds", "_minutes", "_halves"))
    assert kept < 8000
    whole = joined(p for _, p in series.cover(start - start % 1800, start + 61 * 50_000))
    assert (whole.volume, whole.high, whole.low) == (50_000, 149_000_000, 100_000_000)


@both_libraries
def test_a_print_of_now_is_in_the_bars_of_now(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("AAPL", "SMART", "USD", conId=265598)
    client.wait(70)
    for price in (101, 103, 99, 102):
        trade(client, price, 10)
    found = bars_of(ask(client, stock, duration="1 D", size="1 min", form=2))
    last = found[-1]
    assert (last.open, last.high, last.low, last.close, last.volume, last.barCount) == (101, 103, 99, 102, 40, 4)
    assert last.average == pytest.approx(101.25)
    assert int(last.date) == client.now // NS // 60 * 60
    day = bars_of(ask(client, stock, duration="1 D", size="1 day"))[-1]
    assert (day.high, day.low, day.close, day.date) == (103, 99, 102, "20251009")


# on the wire -------------------------------------------------------------------------------------------------------

@both_libraries
@pytest.mark.parametrize("size", SIZES)
def test_every_bar_size_is_answered_in_order(library, size):
    client = LibraryClient(library, memory_gateway(), now_ns=START_NS)
    stock = library.Stock("AAPL", "SMART", "USD")
    seconds = SIZES[size]
    duration = "1 Y" if seconds >= 86_400 else "2 D" if seconds >= 60 else "600 S"
    calls = ask(client, stock, duration=duration, size=size, rth=False, form=2)
    dates = [b.date for b in bars_of(calls)]
    assert len(dates) >= 7
    assert dates == sorted(set(dates))
    (end,) = named(calls, "historicalDataEnd")
    assert end[1].endswith("US/Eastern")
    for bar in bars_of(calls):
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.low <= bar.average <= bar.high


@both_libraries
def test_the_forms_of_the_end_mean_the_same_moment(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("SPY", "SMART", "USD")
    answers = [bars_of(ask(client, stock, end=end, duration="1800 S", size="5 mins"))
               for end in ("20251008 15:00:00 US/Eastern", "20251008-19:00:00", "20251008 15:00:00",
                           "20251008 14:00:00 America/Chicago")]
    assert answers[0][0].date == "20251008 14:30:00 US/Eastern"
    assert len(answers[0]) == 6
    assert all(a == answers[0] for a in answers)


def test_dates_are_new_york_s_or_epochs_and_days_are_dates_in_either_form():
    client = LibraryClient(ib_insync, memory_gateway())
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    end = "20251008 16:00:00 US/Eastern"
    first = bars_of(ask(client, stock, end=end, size="1 hour"))
    assert [b.date[9:17] for b in first] == [f"{h:02}:{'30' if h == 9 else '00'}:00" for h in range(9, 16)]
    assert int(bars_of(ask(client, stock, end=end, size="1 hour", form=2))[0].date) == epoch(date(2025, 10, 8), 34_200)
    for form in (1, 2):
        assert bars_of(ask(client, stock, end=end, duration="3 D", size="1 day", form=form))[-1].date == "20251008"
    assert [b.date for b in bars_of(ask(client, stock, end=end, duration="2 W", size="1 week"))][:2] == [
        "20250926", "20251003"]


def test_days_are_trading_days_and_regular_hours_leave_out_the_rest():
    client = LibraryClient(ib_insync, memory_gateway())
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    end = "20251006 16:00:00 US/Eastern"
    assert len(bars_of(ask(client, stock, end=end, duration="2 D", size="1 min"))) == 780
    both = bars_of(ask(client, stock, end=end, duration="2 D", size="30 mins", rth=False))
    assert len(both) == 32 + 24, "Friday whole and Monday until four"
    assert both[0].date.startswith("20251003 04:00")


@both_libraries
def test_bid_ask_and_midpoint_stand_around_the_trades_and_have_no_volume(library):
    client = LibraryClient(library, memory_gateway())
    stock, end = library.Stock("SPY", "SMART", "USD"), "20251008 16:00:00 US/Eastern"
    by_kind = {what: bars_of(ask(client, stock, end=end, size="1 hour", what=what))[3]
               for what in ("TRADES", "BID", "ASK", "MIDPOINT", "BID_ASK")}
    trades, bid, ask_bar, both = (by_kind[k] for k in ("TRADES", "BID", "ASK", "BID_ASK"))
    assert (bid.high, ask_bar.high) == pytest.approx((trades.high - 0.01, trades.high + 0.01))
    assert by_kind["MIDPOINT"].close == trades.close
    assert (both.low, both.high) == (bid.low, ask_bar.high)
    assert bid.low <= both.open < both.close <= ask_bar.high
    assert (bid.volume, bid.average, bid.barCount) == (-1, -1, -1)


STOCK = {"symbol": "AAPL", "secType": "STK", "exchange": "SMART", "currency": "USD"}


@pytest.mark.parametrize(("contract", "terms", "code"), [
    (STOCK, {"size": "7 mins"}, 321), (STOCK, {"duration": "1 X"}, 321), (STOCK, {"duration": "0 D"}, 321),
    (STOCK, {"duration": "90000 S"}, 321), (STOCK, {"duration": "400 D"}, 321), (STOCK, {"what": "RUMOURS"}, 321),
    (STOCK, {"what": "OPTION_IMPLIED_VOLATILITY"}, 321), (STOCK, {"form": 3}, 321), (STOCK, {"end": "yesterday"}, 321),
    (STOCK, {"end": "20251008-19:00:00", "keep": True}, 321),
    (STOCK, {"end": "20251008-19:00:00", "what": "ADJUSTED_LAST"}, 321),
    (STOCK, {"size": "1 secs", "duration": "60 S", "keep": True}, 321), (STOCK, {"what": "BID_ASK", "keep": True}, 321),
    (STOCK, {"what": "SCHEDULE"}, 321), (STOCK, {"duration": "1 Y", "size": "30 secs"}, 162),
    (STOCK, {"end": "19990104-19:00:00"}, 162),
    ({**STOCK, "symbol": "NOPE"}, {}, 200), ({**STOCK, "secType": "BAG"}, {}, 321),
    ({"symbol": "EUR", "secType": "CASH", "currency": "USD"}, {}, 162),
    ({"symbol": "SPX", "secType": "IND"}, {"what": "MIDPOINT"}, 162)])
def test_nonsense_is_refused_by_name(contract, terms, code):
    client = LibraryClient(ib_insync, memory_gateway())
    calls = ask(client, ib_insync.Contract(**contract), **terms)
    assert codes(calls) == [code]
    assert not named(calls, "historicalData")


@both_libraries
def test_a_bar_goes_on_until_the_next_begins_and_a_cancel_ends_it(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("AAPL", "SMART", "USD")
    trade(client, 100)
    assert bars_of(ask(client, stock, duration="600 S", size="10 secs", form=2, keep=True))
    assert codes(ask(client, stock, keep=True)) == [322]
    assert named(client.wait(3), "historicalDataUpdate") == [], "nothing changed"
    trade(client, 101)
    trade(client, 99)
    ((_, first),) = named(client.wait(1), "historicalDataUpdate")
    trade(client, 100.5)
    ((_, second),) = named(client.wait(1), "historicalDataUpdate")
    assert (first.date, first.high, first.low, first.close) == (second.date, 101, 99, 99)
    assert (second.close, second.volume) == (100.5, first.volume + 100)
    client.wait(10)
    trade(client, 102)
    ((_, third),) = named(client.wait(1), "historicalDataUpdate")
    assert int(third.date) > int(second.date)
    assert (third.open, third.high, third.low) == (102, 102, 102)
    assert codes(client.ask("cancelHistoricalData", 5)) == []
    trade(client, 103)
    assert client.wait(5) == []
    assert codes(client.ask("cancelHistoricalData", 5)) == [366]
    assert client.gateway.agenda.next_ns() is None


def test_options_of_a_chart_are_refused_by_name():
    client = LibraryClient(ib_insync, memory_gateway())
    stock, option = ib_insync.Stock("AAPL", "SMART", "USD"), [ib_insync.TagValue("XYZ", "1")]
    calls = client.ask("reqHistoricalData", 5, stock, "", "1 D", "1 min", "TRADES", True, 1, False, option)
    assert codes(calls) == [321]


def test_bars_that_go_on_end_with_the_connection():
    client = LibraryClient(ib_insync, memory_gateway())
    ask(client, ib_insync.Stock("AAPL", "SMART", "USD"), keep=True)
    client.gateway.disconnect(client.session, client.now)
    assert client.gateway.agenda.next_ns() is None


@both_libraries
def test_the_schedule_shows_the_sessions(library):
    client = LibraryClient(library, memory_gateway(always_open=False))
    stock = library.Stock("AAPL", "SMART", "USD")
    calls = ask(client, stock, end="20251007 12:00:00 US/Eastern", duration="3 D", size="1 day", what="SCHEDULE")
    ((_, start, end, zone, found),) = named(calls, "historicalSchedule")
    assert zone == "US/Eastern"
    assert [(s.startDateTime, s.endDateTime, s.refDate) for s in found] == [
        (f"{d}-09:30:00", f"{d}-16:00:00", d) for d in ("20251003", "20251006", "20251007")]
    assert (start, end) == (found[0].startDateTime, found[-1].endDateTime)


@both_libraries
def test_head_timestamps(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("AAPL", "SMART", "USD")
    assert named(client.ask("reqHeadTimeStamp", 5, stock, "TRADES", True, 1), "headTimestamp") == [
        (5, "20040102-14:30:00")]
    ((_, text),) = named(client.ask("reqHeadTimeStamp", 6, stock, "TRADES", True, 2), "headTimestamp")
    assert datetime.fromtimestamp(int(text), UTC) == datetime(2004, 1, 2, 14, 30, tzinfo=UTC)
    assert codes(client.ask("reqHeadTimeStamp", 7, library.Forex("EURUSD"), "TRADES", True, 1)) == [162]
    assert client.ask("cancelHeadTimeStamp", 5) == []


# ticks -------------------------------------------------------------------------------------------------------------

def ticks_of(client, contract, start="", end="", n=100, what="TRADES", rth=True, ignore=False):
    return client.ask("reqHistoricalTicks", 5, contract, start, end, n, what, rth, ignore, [])


@both_libraries
def test_ticks_from_a_start_and_to_an_end_meet(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("SPY", "SMART", "USD")
    calls = ticks_of(client, stock, start="20251008 10:00:00 US/Eastern", n=50)
    ((_, first, done),) = named(calls, "historicalTicksLast")
    assert done
    assert len(first) == 50
    if library is ib_insync:
        assert first[0].time >= datetime(2025, 10, 8, 14, tzinfo=UTC)
    until = first[-1].time.astimezone(UTC) + timedelta(seconds=1)
    ((_, last, _),) = named(ticks_of(client, stock, end=f"{until:%Y%m%d-%H:%M:%S}", n=40), "historicalTicksLast")
    inside = [t for t in last if t.time < first[-1].time]
    assert inside
    assert inside == [t for t in first if inside[0].time <= t.time < first[-1].time][-len(inside):]


def test_ticks_add_up_to_the_bars():
    client = LibraryClient(ib_insync, memory_gateway())
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    start = "20251008 10:00:00 US/Eastern"
    ((_, found, _),) = named(ticks_of(client, stock, start=start, n=1000), "historicalTicksLast")
    minutes = bars_of(ask(client, stock, end="20251008 10:05:00 US/Eastern", duration="300 S", size="1 min", form=2))
    for bar in minutes:
        inside = [t for t in found if int(bar.date) <= t.time.timestamp() < int(bar.date) + 60]
        assert sum(t.size for t in inside) == bar.volume
        assert (max(t.price for t in inside), min(t.price for t in inside)) == (bar.high, bar.low)


@both_libraries
def test_ticks_of_quotes_and_of_now(library):
    client = LibraryClient(library, memory_gateway())
    stock = library.Stock("AAPL", "SMART", "USD")
    contract = client.gateway.contracts.named("AAPL")
    began = client.now
    client.wait(5)
    for size in (100, 200):
        client.gateway.set_quote(contract, client.now, bid=D("99.5"), ask=D(101), bid_size=D(size), ask_size=D(300))
    trade(client, 100.25, 7)
    start = f"{datetime.fromtimestamp(began // NS + 1, UTC):%Y%m%d-%H:%M:%S}"
    ((_, quotes, _),) = named(ticks_of(client, stock, start=start, what="BID_ASK"), "historicalTicksBidAsk")
    assert [(q.priceBid, q.priceAsk, q.sizeBid, q.sizeAsk) for q in quotes] == [
        (99.5, 101, 100, 300), (99.5, 101, 200, 300)]
    calls = ticks_of(client, stock, start=start, what="BID_ASK", ignore=True)
    ((_, quotes, _),) = named(calls, "historicalTicksBidAsk")
    assert len(quotes) == 1
    ((_, mids, _),) = named(ticks_of(client, stock, start=start, what="MIDPOINT"), "historicalTicks")
    assert [m.price for m in mids] == [100.25]
    ((_, last, _),) = named(ticks_of(client, stock, start=start), "historicalTicksLast")
    assert [(t.price, t.size) for t in last] == [(100.25, 7)]


@pytest.mark.parametrize(("terms", "code"), [
    ({}, 321), ({"start": "20251008-14:00:00", "end": "20251008-15:00:00"}, 321),
    ({"start": "20251008-14:00:00", "n": 1001}, 321), ({"start": "20251008-14:00:00", "n": 0}, 321),
    ({"start": "noon"}, 321), ({"start": "20251008-14:00:00", "what": "BID"}, 321)])
def test_ticks_of_nonsense_are_refused(terms, code):
    client = LibraryClient(ib_insync, memory_gateway())
    assert codes(ticks_of(client, ib_insync.Stock("SPY", "SMART", "USD"), **terms)) == [code]


# files and pacing --------------------------------------------------------------------------------------------------

ROWS = ["34200000,1680000,100,P,1,0", "34230500,1681000,200,Z,1,0", "34260000,1679000,300,Q,1,0",
        "34261000,1700000,400,K,20,0", "36000000,1685000,500,P,1,0", "57599000,1690000,600,P,1,0"]


def spy_file(folder):
    path = folder / "20131007_spy_trade.csv"
    path.write_text("\n".join(ROWS) + "\n")
    return str(path)


def test_a_file_s_day_is_the_file_s_and_other_days_are_generated(tmp_path):
    client = LibraryClient(ib_insync, memory_gateway(history_files=(spy_file(tmp_path),)))
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    found = bars_of(ask(client, stock, end="20131007 16:00:00 US/Eastern", duration="2 D", size="1 min"))
    of_file = [b for b in found if b.date.startswith("20131007")]
    assert [(b.date[9:14], b.open, b.high, b.low, b.close, b.volume) for b in of_file] == [
        ("09:30", 168, 168.1, 168, 168.1, 300), ("09:31", 167.9, 167.9, 167.9, 167.9, 300),
        ("10:00", 168.5, 168.5, 168.5, 168.5, 500), ("15:59", 169, 169, 169, 169, 600)]
    assert len(found) - len(of_file) == 390
    ((_, ticks_, _),) = named(ticks_of(client, stock, start="20131007 09:30:00 US/Eastern", n=4), "historicalTicksLast")
    assert [(t.price, t.tickAttribLast.unreported) for t in ticks_] == [
        (168, False), (168.1, False), (167.9, False), (170, True)]


@pytest.mark.skipif(not REAL_MINUTES.exists(), reason=f"no recorded minutes at {REAL_MINUTES} (BRACKETEER_DATA)")
def test_minutes_of_real_ticks_are_those_of_an_independent_source():
    client = LibraryClient(ib_insync, memory_gateway(history_files=(str(REAL_TICKS),)))
    calls = ask(client, ib_insync.Stock("SPY", "SMART", "USD"), end="20131007 16:00:00 US/Eastern", form=2)
    found = {int(b.date): tuple(round(x * 10_000) for x in (b.open, b.high, b.low, b.close)) for b in bars_of(calls)}
    with zipfile.ZipFile(REAL_MINUTES) as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    rows = [[int(float(x)) for x in line.split(",")] for line in lines]
    minutes = {epoch(date(2013, 10, 7)) + r[0] // 1000: tuple(r[1:5]) for r in rows if 34_200_000 <= r[0] < 57_600_000}
    assert found.keys() == minutes.keys()
    # The two that differ are the opening and the closing minute, whose auction prints the sources filter differently.
    assert sum(found[at] == minutes[at] for at in minutes) >= 388


def test_a_replay_knows_its_own_morning_and_nothing_of_its_afternoon(tmp_path):
    path = spy_file(tmp_path)
    gateway = make_gateway(GatewaySettings(replay=path, start="10:00:00", speed="max", replay_wait=True),
                           Journal(keep=True), START_NS)
    client = LibraryClient(ib_insync, gateway)
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    before = bars_of(ask(client, stock, duration="1 D", size="1 min"))
    assert [b.date[9:14] for b in before] == ["09:30", "09:31"]
    client.ask("reqMktData", 9, stock, "", False, False, [])
    gateway.advance(client.now)
    after = bars_of(ask(client, stock, duration="1 D", size="1 min"))
    assert [(b.date[9:14], b.volume) for b in after] == [("09:30", 300), ("09:31", 300), ("10:00", 500), ("15:59", 600)]


def test_a_file_of_nobody_is_refused_before_any_port_opens(tmp_path):
    path = tmp_path / "20131007_nope_trade.csv"
    path.write_text(ROWS[0])
    with pytest.raises(ReplayError, match="NOPE"):
        memory_gateway(history_files=(str(path),))


def test_pacing_is_off_by_default_and_is_162_by_switch():
    stock = ib_insync.Stock("SPY", "SMART", "USD")
    free, paced = (LibraryClient(ib_insync, memory_gateway(history_pacing=on)) for on in (False, True))
    assert [codes(ask(free, stock, req=n)) for n in range(5, 8)] == [[], [], []]
    assert [codes(ask(paced, stock, req=n)) for n in range(5, 7)] == [[], [162]]
    paced.now += 15 * NS
    assert codes(ask(paced, stock, req=8)) == []


def test_the_three_rules_of_pacing():
    pace = HistoryPace()
    assert [bool(pace.broken((n,), ("SPY",), 1, n)) for n in range(6)] == [False] * 5 + [True]
    assert pace.broken((9,), ("SPY",), 1, 2 * NS + 10) == ""
    assert pace.broken((9,), ("SPY",), 1, 16 * NS) != ""
    long = HistoryPace()
    answers = [bool(long.broken((n,), (n,), 2, n * NS)) for n in range(31)]
    assert answers == [False] * 30 + [True]
    assert long.broken((99,), (99,), 2, 601 * NS) == ""
