"""Tick-by-tick data, deep books and real-time bars, as the real libraries understand them."""

from __future__ import annotations

import asyncio
from decimal import Decimal as D

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.contracts import BUILT_IN
from actors.venue.simulator.depth import ASK, BID, Depth, levels
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.wire import FrameBuffer, split
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway
from tests.venue.memory_ib import MemoryIB, aapl
from tests.venue.test_sim_data import codes, quote, trade
from tests.venue.test_sim_session import AAPL

pytestmark = pytest.mark.unit
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])


def tick_stream(library, kind: str, n: int = 0, ignore_size: bool = False, **more):
    """Return a client with one tick-by-tick stream, and a list that grows by every tick that it hears."""
    gateway = memory_gateway(**more)
    client = MemoryIB(library, gateway)
    ticker = client.ib.reqTickByTickData(aapl(library), kind, n, ignore_size)
    heard = []
    ticker.updateEvent += lambda t: heard.extend(t.tickByTicks)
    client.read()
    return gateway, client, heard


@both_libraries
@pytest.mark.parametrize("kind", ["Last", "AllLast"])
def test_prints_tick_by_tick(library, kind):
    gateway, client, heard = tick_stream(library, kind)
    trade(gateway, 101, size=7)
    trade(gateway, 50, size=9, eligible=False, exchange="Z", conditions="0x20")
    client.read()
    assert [(t.price, t.size, t.tickAttribLast.unreported, t.exchange, t.specialConditions) for t in heard] == [
        (101, 7, False, "NASDAQ", ""), (50, 9, True, "Z", "0x20")]
    assert {t.tickType for t in heard} == {1 if kind == "Last" else 2}


@both_libraries
@pytest.mark.parametrize(("ignore_size", "told"), [
    (False, [(99, 101, 3, 4), (99, 101, 5, 4), (98, 101, 5, 4)]), (True, [(99, 101, 3, 4), (98, 101, 5, 4)])])
def test_quotes_tick_by_tick_with_and_without_sizes(library, ignore_size, told):
    gateway, client, heard = tick_stream(library, "BidAsk", ignore_size=ignore_size)
    heard.clear()
    quote(gateway, 99, 101, bid_size=3, ask_size=4)
    quote(gateway, 99, 101, bid_size=5, ask_size=4)
    quote(gateway, 98, 101, bid_size=5, ask_size=4)
    client.read()
    assert [(t.bidPrice, t.askPrice, t.bidSize, t.askSize) for t in heard] == told


@both_libraries
def test_mid_points_tick_by_tick(library):
    gateway, client, heard = tick_stream(library, "MidPoint")
    quote(gateway, 99, 102, bid_size=3, ask_size=4)
    quote(gateway, 99, 102, bid_size=4, ask_size=4)
    client.read()
    assert [t.midPoint for t in heard] == [100, 100.5]


@both_libraries
@pytest.mark.parametrize(("kind", "method", "expected"), [
    ("Last", "historicalTicksLast", [(102, 100), (103, 100)]),
    ("AllLast", "historicalTicksLast", [(102, 100), (103, 100)]),
    ("BidAsk", "historicalTicksBidAsk", [(102, 104, 1000, 1000), (103, 105, 1000, 1000)]),
    ("MidPoint", "historicalTicks", [(103, 0), (104, 0)])])
def test_a_stream_may_begin_with_the_newest_ticks_of_the_past(library, kind, method, expected):
    gateway = memory_gateway()
    for n in range(1, 4):
        quote(gateway, 100 + n, 102 + n, now=START_NS + n * NS)
        trade(gateway, 100 + n, now=START_NS + n * NS)
    client = MemoryIB(library, gateway, now=START_NS + 3 * NS)
    heard, order = [], []
    setattr(client.ib.wrapper, method, lambda req_id, ticks, done: (heard.extend(ticks), order.append(done)))
    ticker = client.ib.reqTickByTickData(aapl(library), kind, 2)
    ticker.updateEvent += lambda t: order.append("live")
    client.read()
    trade(gateway, 110, now=START_NS + 4 * NS)
    quote(gateway, 109, 111, now=START_NS + 4 * NS)
    client.read()
    assert order[0] is True
    assert order[-1] == "live"
    got = [(t.priceBid, t.priceAsk, t.sizeBid, t.sizeAsk) if kind == "BidAsk" else (t.price, t.size) for t in heard]
    assert got == expected
    assert [int(t.time.timestamp()) for t in heard] == [START_NS // NS + 2, START_NS // NS + 3]


# deep books ----------------------------------------------------------------------------------------------------------

def book_of(ticker) -> tuple[list[tuple], list[tuple]]:
    return [(r.price, r.size) for r in ticker.domBids], [(r.price, r.size) for r in ticker.domAsks]


@both_libraries
@pytest.mark.parametrize(("exchange", "smart", "maker"), [
    ("SMART", True, {"ARCA", "BATS", "IEX", "ISLAND", "NYSE"}), ("ISLAND", False, {"NSDQ"}), ("ARCA", False, {""})])
def test_a_deep_book_follows_the_market(library, exchange, smart, maker):
    gateway = memory_gateway()
    client = MemoryIB(library, gateway)
    contract = aapl(library)
    contract.exchange = exchange
    ticker = client.ib.reqMktDepth(contract, 5, smart)
    client.read()
    q = gateway.exchange.quote_of(265598)
    for bid, ask in ((99, 101), (99, 100), ("98.5", 101), (120, 121)):
        quote(gateway, bid, ask, bid_size=300, ask_size=400)
        client.read()
        bids, asks = levels(q, gateway.contracts.named("AAPL"), gateway.profile(265598), 1)
        assert book_of(ticker) == ([(float(p), float(s)) for p, s, _ in bids[:5]],
                                   [(float(p), float(s)) for p, s, _ in asks[:5]])
        assert len(ticker.domBids) == len(ticker.domAsks) == 5
        assert (ticker.domBids[0].price, ticker.domBids[0].size) == (float(bid), 300)
    assert {r.marketMaker for r in (*ticker.domBids, *ticker.domAsks)} <= maker
    gateway.set_quote(gateway.contracts.named("AAPL"), client.now, bid=None, ask=D(121))
    client.read()
    assert (len(ticker.domBids), len(ticker.domAsks)) == (0, 5)
    client.ib.cancelMktDepth(contract, smart)
    assert gateway.watchers(265598) == []


prices = st.integers(1, 60).map(lambda n: D(n) / 100)
quotes = st.builds(lambda bid, more, size: (bid, bid + more if bid and more else None, size),
                   st.none() | prices, st.none() | prices, st.none() | st.integers(1, 9).map(D))


@settings(max_examples=60, deadline=None)
@given(st.lists(quotes, max_size=12), st.integers(1, 12))
def test_whatever_the_market_does_the_clients_rows_are_those_of_the_book(story, rows):
    contract, profile = BUILT_IN[0], Profile(levels=10)
    watcher = Depth(7, contract, rows, profile, 1, True, True)
    shown: dict[int, list] = {ASK: [], BID: []}
    for bid, ask, size in story:
        q = Quote(bid=bid, ask=ask, bid_size=size, ask_size=size)
        buffer = FrameBuffer()
        buffer.feed(watcher.quote(q))
        for message in buffer.payloads():
            _, _, req_id, position, maker, operation, side, price, shares, smart = split(message)
            side_rows, n = shown[int(side)], int(position)
            assert (req_id, smart) == ("7", "1")
            if operation == "0":
                assert n == len(side_rows), "rows are inserted at the end"
                side_rows.append((price, shares, maker))
            elif operation == "1":
                side_rows[n] = (price, shares, maker)
            else:
                assert n == len(side_rows) - 1, "rows are deleted from the end"
                del side_rows[n]
        bids, asks = levels(q, contract, profile, 1)
        assert (shown[BID], shown[ASK]) == (bids[:rows], asks[:rows])


def test_the_same_price_shows_the_same_size_and_another_seed_another_one():
    contract, q = BUILT_IN[0], Quote(bid=D(100), ask=D("100.02"))
    assert levels(q, contract, Profile(), 1) == levels(q, contract, Profile(), 1)
    assert levels(q, contract, Profile(), 1) != levels(q, contract, Profile(), 2)
    moved = Quote(bid=D("99.99"), ask=D("100.02"))
    assert levels(q, contract, Profile(), 1)[0][2] == levels(moved, contract, Profile(), 1)[0][1]


def test_three_books_at_once_and_a_reset_that_empties_them():
    gateway = memory_gateway()
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    for client, req_id in ((one, 1), (one, 2), (two, 1)):
        assert codes(client.send(10, 5, req_id, *AAPL, 2, 1, "")) == []
    assert codes(two.send(10, 5, 2, *AAPL, 2, 1, "")) == ["309"]
    gateway.reset_depth(START_NS)
    heard = one.read()
    assert [m[0] for m in heard] == ["4", "13", "13", "13", "13"] * 2
    assert heard[0][2:4] == ["1", "317"]
    assert [m[5] for m in heard if m[0] == "13"] == ["0"] * 8, "every row is inserted anew"
    two.read()
    one.send(11, 1, 2, 1)
    assert codes(two.send(10, 5, 2, *AAPL, 2, 1, "")) == []


@both_libraries
def test_the_exchanges_of_deep_books(library):
    async def ask():
        client = MemoryIB(library, memory_gateway())
        answer = client.ib.reqMktDepthExchangesAsync()
        client.read()
        return await asyncio.wait_for(answer, 5)

    found = {d.exchange: (d.secType, d.serviceDataType) for d in asyncio.run(ask())}
    assert found["ARCA"] == ("STK", "Deep")
    assert found["ISLAND"] == ("STK", "Deep2")


# real-time bars ------------------------------------------------------------------------------------------------------

def bar_of(bar) -> tuple:
    return (int(bar.time.timestamp()) - START_NS // NS, bar.open_, bar.high, bar.low, bar.close, bar.volume,
            round(bar.wap, 4), bar.count)


@both_libraries
def test_bars_of_trades_every_five_seconds(library):
    gateway = memory_gateway()
    client = MemoryIB(library, gateway)
    bars = client.ib.reqRealTimeBars(aapl(library), 5, "TRADES", False)
    client.advance(1)
    trade(gateway, 101, size=100, now=client.now)
    trade(gateway, 103, size=300, now=client.now)
    trade(gateway, 102, size=100, now=client.now)
    trade(gateway, 50, size=999, eligible=False, now=client.now)
    client.advance(4)
    assert [bar_of(b) for b in bars] == [(0, 101, 103, 101, 102, 500, 102.4, 3)]
    client.advance(7)
    trade(gateway, 104, now=client.now)
    client.advance(3)
    assert [bar_of(b) for b in bars[1:]] == [(5, 102, 102, 102, 102, 0, 102, 0), (10, 104, 104, 104, 104, 100, 104, 1)]
    client.ib.cancelRealTimeBars(bars)
    client.advance(20)
    assert len(bars) == 3
    assert gateway.exchange_agenda.next_ns() is None


@both_libraries
@pytest.mark.parametrize(("show", "expected"), [
    ("BID", (0, 99.99, 99.99, 98, 98)), ("ASK", (0, 100.01, 106, 100.01, 106)), ("MIDPOINT", (0, 100, 102, 100, 102))])
def test_bars_of_quotes_have_no_volume(library, show, expected):
    gateway = memory_gateway()
    client = MemoryIB(library, gateway)
    bars = client.ib.reqRealTimeBars(aapl(library), 5, show, False)
    client.advance(2)
    quote(gateway, 98, 106, now=client.now)
    client.advance(3)
    assert [bar_of(b) for b in bars] == [(*expected, -1, -1, -1)]


def test_a_print_on_the_edge_belongs_to_the_next_bar_however_late_the_turn():
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.send(50, 3, 1, *AAPL, 5, "TRADES", 0, "")
    for seconds, price in ((4.999, 101), (5, 102), (10, 103), (15.5, 104)):
        trade(gateway, price, seconds)
    bars = [(m[3], m[4], m[7], m[8]) for m in client.read()]
    start = START_NS // NS
    assert bars == [(str(start), "101", "101", "100"), (str(start + 5), "102", "102", "100"),
                    (str(start + 10), "103", "103", "100")]
