"""Answers, round: what the gateway says is what the libraries' decoders hear, for every message that it can say.

Law: a case drives a real session and compares what a library's wrapper was told with what was put into the exchange; an
encoder is called by itself only where the values are a model's, and are made up here. Whoever adds a message to the
gateway adds a case here: the last tests see to it.
"""

from __future__ import annotations

import ast
import logging
import math
import re
from collections import Counter
from datetime import date
from decimal import Decimal as D
from typing import Any

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator import history_messages, responses
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.depth import levels
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.history import Bar
from actors.venue.simulator.history_bars import Piece
from actors.venue.simulator.options import Greeks
from actors.venue.simulator.orders import Order
from actors.venue.simulator.record import QuoteTick
from actors.venue.simulator.requests import DECODERS
from actors.venue.simulator.wire import FrameBuffer, split
from tests.venue.client_requests import ROWS, captured
from tests.venue.gateway_fixture import NS, ROOT, START_NS, RawClient, memory_gateway
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit
SPOKEN = [(ib_insync, 157), (ib_insync, 176), (ib_async, 157), (ib_async, 176), (ib_async, 178)]
ACCOUNT = "DU1000001"
prices = st.integers(1, 10**6).map(lambda n: D(n) / 100)
sizes = st.integers(1, 10**6).map(D)
ids = st.integers(1, 2**31 - 3)
WITH_THE_ORDERS = {5, 101}
"""openOrder and completedOrder: their round trips are with the orders' own tests."""


class Heard:
    """A wrapper that notes every callback of a library's decoder."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.defaultTimezone = None
        self.ib = type("IB", (), {"TimezoneTWS": ""})()

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, *args))


class Talk:
    """One client of one library at one server version. `seen` are the numbers of all messages so far."""

    def __init__(self, spoken: tuple[Any, int], gateway: Gateway | None = None) -> None:
        self.library, self.version = spoken
        self.gateway = gateway or memory_gateway(server_version=self.version)
        self.seen: Counter[int] = Counter()
        self.raw = RawClient(self.gateway, 1, f"v157..{self.version}".encode())
        self.opening = self._hear(self.raw.seen[1:])

    def ask(self, name: str, **arguments: Any) -> list[tuple[Any, ...]]:
        """Ask as the library does and return what its wrapper is told."""
        return self._hear(self.raw.send(*captured(self.library, self.version, name, arguments)))

    def send(self, *fields: object) -> list[tuple[Any, ...]]:
        return self._hear(self.raw.send(*fields))

    def told(self, data: bytes) -> list[tuple[Any, ...]]:
        """Hear frames that somebody has made."""
        buffer = FrameBuffer()
        buffer.feed(data)
        return self._hear([split(payload) for payload in buffer.payloads()])

    def listen(self) -> list[tuple[Any, ...]]:
        return self._hear(self.raw.read())

    def _hear(self, messages: list[list[str]]) -> list[tuple[Any, ...]]:
        heard = Heard()
        decoder = self.library.decoder.Decoder(heard, self.version)
        for fields in messages:
            self.seen[int(fields[0])] += 1
            decoder.interpret(list(fields))
        return heard.calls


@pytest.fixture(autouse=True)
def no_decoder_complains(caplog):
    with caplog.at_level(logging.WARNING):
        yield
    assert not [r for r in caplog.records if r.exc_info], caplog.text


CASES: dict[int, str] = {}


def says(*numbers: int):
    """Declare which messages a case shows. The case returns its Talk, which must have heard each of them."""

    def register(case):
        for number in numbers:
            CASES[number] = case.__name__

        @settings(max_examples=20, deadline=None)
        @given(data=st.data())
        def test(data):
            talk = case(data, data.draw(st.sampled_from(SPOKEN)))
            assert set(numbers) <= talk.seen.keys(), f"{set(numbers) - talk.seen.keys()} were never said"

        return test

    return register


def named(calls: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in calls if call[0] == name]


def aapl(gateway: Gateway) -> Contract:
    found = gateway.contracts.named("AAPL")
    assert found is not None
    return found


def asked(contract: Contract) -> dict[str, Any]:
    return {"conId": contract.con_id, "symbol": contract.symbol, "secType": contract.sec_type, "exchange": "SMART",
            "currency": contract.currency}


def same(contract: Any, ours: Contract) -> bool:
    return (contract.conId, contract.symbol, contract.secType, contract.currency, contract.localSymbol) == (
        ours.con_id, ours.symbol, ours.sec_type, ours.currency, ours.local)


# the opening ---------------------------------------------------------------------------------------------------------

@says(15, 9, 4)
def test_a_hello_tells_accounts_the_next_id_and_the_farms(data, spoken):
    accounts = tuple(data.draw(st.lists(st.from_regex(r"DU[0-9]{4,7}", fullmatch=True), min_size=1, max_size=4,
                                        unique=True)))
    last = data.draw(st.integers(0, 10**6))
    gateway = memory_gateway(server_version=spoken[1], accounts=accounts)
    gateway.exchange.last_id[1] = last
    talk = Talk(spoken, gateway)
    assert named(talk.opening, "managedAccounts") == [(",".join(accounts),)]
    assert named(talk.opening, "nextValidId") == [(last + 1,)]
    assert [call[:2] for call in named(talk.opening, "error")] == [(-1, 2104), (-1, 2106), (-1, 2158)]
    assert named(talk.ask("reqManagedAccts"), "managedAccounts") == [(",".join(accounts),)]
    assert named(talk.ask("reqIds", n=1), "nextValidId") == [(last + 1,)]
    return talk


# accounts ------------------------------------------------------------------------------------------------------------

def hold(data, gateway: Gateway) -> dict[int, tuple[Contract, D, D]]:
    held = {}
    for symbol in data.draw(st.lists(st.sampled_from(["AAPL", "SPY", "MSFT", "QQQ"]), unique=True, min_size=1)):
        contract = gateway.contracts.named(symbol)
        assert contract is not None
        quantity, cost = data.draw(sizes) * data.draw(st.sampled_from([1, -1])), data.draw(prices)
        gateway.open_position(ACCOUNT, contract, quantity, cost, START_NS)
        held[contract.con_id] = (contract, quantity, cost)
    return held


@says(61, 62, 71, 72, 7)
def test_positions_are_told_in_each_of_their_three_ways(data, spoken):
    talk = Talk(spoken)
    held, req = hold(data, talk.gateway), data.draw(ids)
    calls = talk.ask("reqPositions")
    assert [c[0] for c in calls] == ["position"] * len(held) + ["positionEnd"]
    for account, contract, quantity, cost in named(calls, "position"):
        ours, ours_quantity, ours_cost = held[contract.conId]
        assert (account, quantity, cost) == (ACCOUNT, float(ours_quantity), float(ours_cost))
        assert same(contract, ours)
    calls = talk.ask("reqPositionsMulti", reqId=req, account=ACCOUNT, model="")
    assert named(calls, "positionMultiEnd") == [(req,)]
    assert {(c[0], c[1], c[3].conId, c[4], c[5]) for c in named(calls, "positionMulti")} == {
        (req, ACCOUNT, con_id, float(q), float(cost)) for con_id, (_, q, cost) in held.items()}
    calls = talk.ask("reqAccountUpdates", subscribe=True, account=ACCOUNT)
    for contract, quantity, price, value, cost, unrealized, _, account in named(calls, "updatePortfolio"):
        ours, ours_quantity, ours_cost = held[contract.conId]
        assert same(contract, ours)
        assert (account, quantity, cost) == (ACCOUNT, float(ours_quantity), float(ours_cost))
        assert math.isclose(value, quantity * price, rel_tol=1e-9)
        assert math.isclose(unrealized, (price - cost) * quantity, abs_tol=0.011)
    return talk


@says(6, 8, 54, 73, 74, 63, 64)
def test_account_values_are_told_in_each_of_their_three_ways(data, spoken):
    cash = data.draw(st.integers(10**4, 10**9).map(lambda n: D(n) / 100))
    talk, req = Talk(spoken, memory_gateway(server_version=spoken[1], cash=cash)), data.draw(ids)
    calls = talk.ask("reqAccountUpdates", subscribe=True, account=ACCOUNT)
    values = {key: (value, currency, account) for key, value, currency, account in named(calls, "updateAccountValue")}
    assert D(values["TotalCashValue"][0]) == cash
    assert values["TotalCashValue"][1:] == ("USD", ACCOUNT)
    ((time,),) = named(calls, "updateAccountTime")
    assert re.fullmatch(r"\d\d:\d\d", time)
    assert named(calls, "accountDownloadEnd") == [(ACCOUNT,)]
    calls = talk.ask("reqAccountUpdatesMulti", reqId=req, account=ACCOUNT, model="", ledger=False)
    assert (req, ACCOUNT, "", "TotalCashValue", str(values["TotalCashValue"][0]), "USD") in named(
        calls, "accountUpdateMulti")
    assert named(calls, "accountUpdateMultiEnd") == [(req,)]
    calls = talk.ask("reqAccountSummary", reqId=req, group="All", tags="NetLiquidation,TotalCashValue")
    assert {(c[0], c[1], c[2], D(c[3]), c[4]) for c in named(calls, "accountSummary")} == {
        (req, ACCOUNT, tag, cash, "USD") for tag in ("NetLiquidation", "TotalCashValue")}
    assert named(calls, "accountSummaryEnd") == [(req,)]
    return talk


@says(94)
def test_profit_and_loss_adds_up(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    held = hold(data, talk.gateway)
    calls = talk.ask("reqPnL", reqId=req, account=ACCOUNT, model="")
    talk.gateway.advance(START_NS + 2 * NS)
    ((heard, _, unrealized, realized), *_) = named(calls + talk.listen(), "pnl")
    expected = sum((c.reference_price - cost) * quantity for c, quantity, cost in held.values())
    assert (heard, realized) == (req, 0)
    assert math.isclose(unrealized, float(expected), rel_tol=1e-9, abs_tol=0.02)
    return talk


# reference -----------------------------------------------------------------------------------------------------------

@says(10, 52, 93)
def test_a_contract_and_its_market_rule_come_back(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    ours = data.draw(st.sampled_from([c for c in talk.gateway.contracts.by_id.values() if c.sec_type == "STK"]))
    calls = talk.ask("reqContractDetails", reqId=req, contract=asked(ours))
    ((heard, details),) = named(calls, "contractDetails")
    assert heard == req
    assert same(details.contract, ours)
    assert (details.contract.tradingClass, details.contract.primaryExchange) == (ours.klass, ours.primary_exchange)
    assert (details.minTick, details.longName, details.stockType) == (
        float(ours.min_tick), ours.long_name, ours.stock_type)
    assert details.validExchanges == ours.valid_exchanges
    assert set(details.marketRuleIds.split(",")) == {str(ours.market_rule_id)}
    assert named(calls, "contractDetailsEnd") == [(req,)]
    rule = data.draw(st.sampled_from(sorted(talk.gateway.contracts.rules)))
    ((heard, steps),) = named(talk.ask("reqMarketRule", ruleId=rule), "marketRule")
    assert heard == rule
    assert [(s.lowEdge, s.increment) for s in steps] == [
        (float(edge), float(step)) for edge, step in talk.gateway.contracts.rules[rule]]
    return talk


@says(49, 107)
def test_the_time_and_the_user_come_back(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    talk.raw.now = START_NS + data.draw(st.integers(0, 10**9)) * NS
    assert named(talk.ask("reqCurrentTime"), "currentTime") == [(talk.raw.now // NS,)]
    assert named(talk.ask("reqUserInfo", reqId=req), "userInfo") == [(req, "")]
    return talk


# market data ---------------------------------------------------------------------------------------------------------

@says(81, 58, 1, 2, 45, 46, 57)
def test_quotes_and_trades_are_heard_as_ticks(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    gateway, ours = talk.gateway, aapl(talk.gateway)
    bid, wide, last = data.draw(prices), data.draw(prices), data.draw(prices)
    bid_size, ask_size, size = data.draw(sizes), data.draw(sizes), data.draw(sizes)
    calls = talk.ask("reqMktData", reqId=req, contract=asked(ours), generic="", snapshot=False, regulatory=False,
                     options=[])
    assert named(calls, "tickReqParams")[0][:2] == (req, float(ours.min_tick))
    assert named(calls, "marketDataType") == [(req, 1)]
    assert (req, 49, 0.0) in named(calls, "tickGeneric")
    gateway.set_quote(ours, START_NS, bid=bid, ask=bid + wide, bid_size=bid_size, ask_size=ask_size, match=False)
    ticks = named(talk.listen(), "priceSizeTick")
    assert (req, 1, float(bid), float(bid_size)) in ticks
    assert (req, 2, float(bid + wide), float(ask_size)) in ticks
    volume = gateway.exchange.quote_of(ours.con_id).volume
    gateway.trade(ours, Trade(last, size, START_NS + NS), START_NS + NS)
    calls = talk.listen()
    assert (req, 4, float(last), float(size)) in named(calls, "priceSizeTick")
    assert (req, 5, float(size)) in named(calls, "tickSize")
    assert (req, 8, float(volume + size)) in named(calls, "tickSize")
    assert (req, 45, str(START_NS // NS + 1)) in named(calls, "tickString")
    calls = talk.ask("reqMktData", reqId=req + 1, contract=asked(ours), generic="", snapshot=True, regulatory=False,
                     options=[])
    talk.gateway.advance(START_NS + 12 * NS)
    assert named(calls + talk.listen(), "tickSnapshotEnd") == [(req + 1,)]
    return talk


@says(99)
def test_every_kind_of_tick_by_tick_is_heard(data, spoken):
    talk = Talk(spoken)
    gateway, symbols = talk.gateway, iter(["AAPL", "SPY", "MSFT", "QQQ"])
    bid, wide, last, size = data.draw(prices), data.draw(prices), data.draw(prices), data.draw(sizes)
    for number, kind in enumerate(("Last", "AllLast", "BidAsk", "MidPoint"), 1):
        ours = gateway.contracts.named(next(symbols))
        assert ours is not None
        talk.ask("reqTickByTickData", reqId=number, contract=asked(ours), kind=kind, n=0, ignoreSize=False)
        gateway.set_quote(ours, START_NS, bid=bid, ask=bid + wide, bid_size=size, ask_size=size + 1, match=False)
        gateway.trade(ours, Trade(last, size, START_NS + NS, "ARCA", "T"), START_NS + NS)
        calls = talk.listen()
        if number < 3:
            ((req, which, time, price, heard_size, attributes, exchange, conditions),) = named(
                calls, "tickByTickAllLast")
            assert (req, which, time) == (number, number, START_NS // NS + 1)
            assert (price, heard_size, exchange, conditions) == (float(last), float(size), "ARCA", "T")
            assert attributes.unreported is False
        elif number == 3:
            req, _, low, high, low_size, high_size, _ = named(calls, "tickByTickBidAsk")[-1]
            assert (req, low, high, low_size, high_size) == (
                3, float(bid), float(bid + wide), float(size), float(size + 1))
        else:
            req, _, middle = named(calls, "tickByTickMidPoint")[-1]
            assert (req, middle) == (4, float((bid + bid + wide) / 2))
    return talk


@says(96, 97, 98)
def test_the_ticks_before_a_stream_are_heard(data, spoken):
    talk = Talk(spoken)
    gateway, ours = talk.gateway, aapl(talk.gateway)
    bid, wide, last, size = data.draw(prices), data.draw(prices), data.draw(prices), data.draw(sizes)
    gateway.set_quote(ours, START_NS, bid=bid, ask=bid + wide, bid_size=size, ask_size=size + 1, match=False)
    gateway.trade(ours, Trade(last, size, START_NS, "ARCA", "T", False), START_NS)
    heard = {kind: talk.ask("reqTickByTickData", reqId=number, contract=asked(ours), kind=kind, n=1, ignoreSize=False)
             for number, kind in enumerate(("Last", "BidAsk", "MidPoint"), 1)}
    ((req, (tick,), done),) = named(heard["Last"], "historicalTicksLast")
    assert (req, done, tick.price, tick.size) == (1, True, float(last), float(size))
    assert (tick.exchange, tick.specialConditions, tick.tickAttribLast.unreported) == ("ARCA", "T", True)
    ((req, (tick,), done),) = named(heard["BidAsk"], "historicalTicksBidAsk")
    assert (req, done, tick.priceBid, tick.priceAsk, tick.sizeBid, tick.sizeAsk) == (
        2, True, float(bid), float(bid + wide), float(size), float(size + 1))
    ((req, (tick,), done),) = named(heard["MidPoint"], "historicalTicks")
    assert (req, done, tick.price, tick.size) == (3, True, float((bid + bid + wide) / 2), 0)
    assert int(tick.time.timestamp()) == START_NS // NS
    return talk


@says(12, 13, 80)
def test_deep_books_are_heard_row_by_row(data, spoken):
    talk, req, rows = Talk(spoken), data.draw(ids), data.draw(st.integers(1, 9))
    gateway, ours = talk.gateway, aapl(talk.gateway)
    q = gateway.exchange.quote_of(ours.con_id)
    for smart, exchange in ((True, "SMART"), (False, "ARCA")):
        calls = talk.ask("reqMktDepth", reqId=req + smart, contract={**asked(ours), "exchange": exchange}, rows=rows,
                         isSmart=smart, options=[])
        bids, asks = levels(q, ours, gateway.profile(ours.con_id), 1)
        expected = [(req + smart, n, *([venue] if smart else []), 0, side, float(price), float(size),
                     *([True] if smart else []))
                    for side, book in ((0, asks), (1, bids)) for n, (price, size, venue) in enumerate(book[:rows])]
        assert named(calls, "updateMktDepthL2" if smart else "updateMktDepth") == expected
    ((exchanges,),) = named(talk.ask("reqMktDepthExchanges"), "mktDepthExchanges")
    assert {"ARCA", "ISLAND"} <= {each.exchange for each in exchanges}
    return talk


@says(50)
def test_real_time_bars_are_heard(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    gateway, ours = talk.gateway, aapl(talk.gateway)
    prints = data.draw(st.lists(st.tuples(prices, sizes), min_size=1, max_size=5))
    talk.ask("reqRealTimeBars", reqId=req, contract=asked(ours), barSize=5, what="TRADES", useRTH=False, options=[])
    for price, size in prints:
        gateway.trade(ours, Trade(price, size, START_NS + NS), START_NS)
    gateway.advance(START_NS + 5 * NS)
    ((heard, time, first, high, low, last, volume, average, count),) = named(talk.listen(), "realtimeBar")
    told = [float(price) for price, _ in prints]
    assert (heard, time, first, high, low, last) == (req, START_NS // NS, told[0], max(told), min(told), told[-1])
    shares = sum(size for _, size in prints)
    assert (volume, count) == (float(shares), len(prints))
    paid = sum(price * size for price, size in prints)
    assert math.isclose(average, float(paid / shares), rel_tol=1e-6, abs_tol=1e-6)
    return talk


@says(56)
def test_a_delta_neutral_contract_is_confirmed(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    neutral = talk.library.DeltaNeutralContract(conId=data.draw(ids), delta=0.5, price=float(data.draw(prices)))
    contract = {**asked(aapl(talk.gateway)), "deltaNeutralContract": neutral}
    calls = talk.ask("reqMktData", reqId=req, contract=contract, generic="", snapshot=False, regulatory=False,
                     options=[])
    assert named(calls, "deltaNeutralValidation") == [(req, neutral)]
    return talk


# orders --------------------------------------------------------------------------------------------------------------

@says(3, 11, 59, 53, 55, 102)
def test_what_became_of_an_order_is_told_as_it_happens_and_again_on_demand(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    gateway = talk.gateway
    quantity, part, price = data.draw(st.integers(2, 10**6)), data.draw(st.integers(1, 10**6)), data.draw(prices)
    part = min(part, quantity - 1)
    layout = place(data.draw(st.integers(1, 10**6)), quantity=str(quantity), lmt="50", ref="B1.entry")
    if talk.version < 176:
        layout = layout[:-5]         # duration, postToAts, autoCancelParent, advancedErrorOverride, manualOrderTime
    if talk.version >= 177:
        del layout[42]               # faProfile
    calls = talk.send(*layout)
    (order,) = gateway.exchange.open_orders()
    assert named(calls, "orderStatus")[-1][:4] == (order.order_id, "Submitted", 0.0, float(quantity))
    gateway.deliver(gateway.exchange.fill(order, D(part), price, START_NS), START_NS)
    calls = talk.listen()
    live = told_of(calls, -1, order, part, price)
    status = named(calls, "orderStatus")[-1]
    assert status[:6] == (order.order_id, "Submitted", float(part), float(quantity - part), float(price), order.perm_id)
    assert status[7:9] == (float(price), 1)
    calls = talk.ask("reqExecutions", reqId=req, filter={})
    assert told_of(calls, req, order, part, price) == live
    assert named(calls, "execDetailsEnd") == [(req,)]
    assert named(talk.ask("reqAllOpenOrders"), "openOrderEnd") == [()]
    assert named(talk.ask("reqCompletedOrders", apiOnly=False), "completedOrdersEnd") == [()]
    return talk


def told_of(calls, req: int, order: Order, part: int, price: D) -> str:
    ((heard, contract, execution),) = named(calls, "execDetails")
    assert heard == req
    assert same(contract, order.contract)
    assert (execution.orderId, execution.permId, execution.clientId, execution.orderRef) == (
        order.order_id, order.perm_id, 1, "B1.entry")
    assert (execution.shares, execution.price, execution.cumQty, execution.avgPrice) == (part, float(price), part,
                                                                                         float(price))
    assert (execution.side, execution.acctNumber, execution.time.timestamp()) == ("BOT", ACCOUNT, START_NS // NS)
    ((report,),) = named(calls, "commissionReport")
    assert (report.execId, report.currency, report.commission) == (execution.execId, "USD", float(order.commission))
    return execution.execId


@says(4)
def test_an_error_comes_back_with_its_id_its_code_and_its_text(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    code = data.draw(st.integers(1, 20_000))
    text = data.draw(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
    talk.gateway.by_client[1].error(req, code, text, START_NS)
    assert [call[:3] for call in named(talk.listen(), "error")] == [(req, code, text)]
    return talk


@says(100)
def test_a_manual_order_that_is_bound_gets_a_negative_id_that_is_told(data, spoken):
    gateway = memory_gateway(server_version=spoken[1])
    talk = Talk(spoken, gateway)
    zero = Talk.__new__(Talk)
    zero.library, zero.version, zero.gateway, zero.seen = talk.library, talk.version, gateway, talk.seen
    zero.raw = RawClient(gateway, 0, f"v157..{talk.version}".encode())
    order = Order(client_id=0, order_id=0, contract=aapl(gateway), action="BUY", total=data.draw(sizes),
                  order_type="LMT", lmt=D(50), account=ACCOUNT)
    gateway.deliver(gateway.exchange.manual_order(order, START_NS), START_NS)
    calls = zero.ask("reqAutoOpenOrders", bind=True)
    assert order.order_id < 0
    assert named(calls, "orderBound") == [(order.perm_id, 0, order.order_id)]
    return zero


# the past -----------------------------------------------------------------------------------------------------------

def pieces(data) -> list[Piece]:
    whole = st.integers(1, 10**12)
    return data.draw(st.lists(st.builds(Piece, whole, whole, whole, whole, st.integers(1, 10**6), st.integers(1, 99),
                                        whole), max_size=5))


def as_heard(bar) -> tuple[float, ...]:
    return bar.open, bar.high, bar.low, bar.close


def as_made(p: Piece) -> tuple[float, ...]:
    return p.open / 1e6, p.high / 1e6, p.low / 1e6, p.close / 1e6


@says(17, 90, 88, 106)
def test_bars_and_their_calendar_come_back_in_order(data, spoken):
    talk, req, start = Talk(spoken), data.draw(ids), START_NS // NS
    made = [Bar(start + 60 * n, date(2025, 10, 9), piece) for n, piece in enumerate(pieces(data))]
    calls = talk.told(history_messages.historical_data(req, start, start + 600, made, 60, 2, True))
    heard = [bar for _, bar in named(calls, "historicalData")]
    assert [as_heard(bar) for bar in heard] == [as_made(bar.piece) for bar in made]
    assert [(bar.date, bar.volume, bar.barCount) for bar in heard] == [
        (str(bar.start_s), bar.piece.volume, bar.piece.trades) for bar in made]
    assert [req_id for req_id, *_ in named(calls, "historicalDataEnd")] == [req]
    for bar in made[:1]:
        ((heard_id, last),) = named(talk.told(history_messages.historical_update(req, bar, 60, 2, True)),
                                    "historicalDataUpdate")
        assert (heard_id, as_heard(last), last.volume) == (req, as_made(bar.piece), bar.piece.volume)
    if not made:
        talk.seen[90] += 1          # nothing to update
    assert named(talk.told(history_messages.head_timestamp(req, start, 2)), "headTimestamp") == [(req, str(start))]
    days = [(date(2025, 10, 6 + n), start + 86_400 * n, start + 86_400 * n + 23_400) for n in range(3)]
    ((heard_id, _, _, zone, sessions),) = named(talk.told(history_messages.schedule(req, days)), "historicalSchedule")
    assert (heard_id, zone, [s.refDate for s in sessions]) == (req, "US/Eastern", ["20251006", "20251007", "20251008"])
    return talk


@says(96, 97, 98)
def test_ticks_of_the_past_come_back_in_order(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    moments = st.integers(0, 10**6).map(lambda n: START_NS + n * NS)
    trades = data.draw(st.lists(st.builds(Trade, prices, sizes, moments, st.just("ARCA"), st.just("T"), st.booleans()),
                                max_size=4))
    ((heard_id, ticks, done),) = named(talk.told(history_messages.last_ticks(req, trades)), "historicalTicksLast")
    assert (heard_id, done) == (req, True)
    assert [(t.time.timestamp(), t.price, t.size, t.exchange, t.specialConditions, t.tickAttribLast.unreported)
            for t in ticks] == [(t.time_ns // NS, float(t.price), float(t.size), "ARCA", "T", not t.eligible)
                                for t in trades]
    quotes = data.draw(st.lists(st.builds(QuoteTick, moments, prices, prices, sizes, sizes), max_size=4))
    ((_, ticks, _),) = named(talk.told(history_messages.bid_ask_ticks(req, quotes)), "historicalTicksBidAsk")
    assert [(t.time.timestamp(), t.priceBid, t.priceAsk, t.sizeBid, t.sizeAsk) for t in ticks] == [
        (q.time_ns // NS, float(q.bid), float(q.ask), float(q.bid_size), float(q.ask_size)) for q in quotes]
    ((_, ticks, _),) = named(talk.told(history_messages.midpoint_ticks(req, quotes)), "historicalTicks")
    assert [(t.time.timestamp(), t.price) for t in ticks] == [
        (q.time_ns // NS, float((q.bid + q.ask) / 2)) for q in quotes]
    return talk


@says(75, 76, 79)
def test_option_chains_and_symbols_come_back(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    ours = aapl(talk.gateway)
    calls = talk.ask("reqSecDefOptParams", reqId=req, symbol="AAPL", exchange="", secType="STK", conId=ours.con_id)
    for heard, exchange, under, klass, multiplier, expiries, strikes in named(
            calls, "securityDefinitionOptionParameter"):
        assert (heard, int(under), klass, multiplier) == (req, ours.con_id, "AAPL", "100")
        assert exchange
        assert expiries == sorted(expiries)
        assert min(strikes) < ours.reference_price < max(strikes)
    assert named(calls, "securityDefinitionOptionParameterEnd") == [(req,)]
    ((heard, found),) = named(talk.ask("reqMatchingSymbols", reqId=req, pattern="AAPL"), "symbolSamples")
    assert heard == req
    assert [(d.contract.conId, d.contract.primaryExchange) for d in found if d.contract.symbol == "AAPL"] == [
        (ours.con_id, ours.primary_exchange)]
    assert "OPT" in found[0].derivativeSecTypes
    if talk.version >= 176:
        assert found[0].contract.description == ours.long_name
    return talk


@says(21)
def test_a_model_s_numbers_come_back(data, spoken):
    talk, req, value = Talk(spoken), data.draw(ids), st.integers(-10**6, 10**6).map(lambda n: n / 1000)
    greeks = data.draw(st.builds(Greeks, *[value] * 7))
    price = data.draw(value)
    ((*heads, volatility, delta, heard, dividend, gamma, vega, theta, under),) = named(
        talk.told(responses.option_computation(req, 13, greeks, price)), "tickOptionComputation")
    assert heads == [req, 13, 1]
    assert (volatility, delta, heard, dividend, gamma, vega, theta, under) == (
        greeks.volatility, greeks.delta, price, 0, greeks.gamma, greeks.vega, greeks.theta, greeks.under)
    return talk


@says(95)
def test_the_profit_of_one_position_adds_up(data, spoken):
    talk, req = Talk(spoken), data.draw(ids)
    held = hold(data, talk.gateway)
    con_id, (contract, quantity, cost) = next(iter(held.items()))
    calls = talk.ask("reqPnLSingle", reqId=req, account=ACCOUNT, model="", conId=con_id)
    talk.gateway.advance(START_NS + 2 * NS)
    ((heard, position, _, unrealized, realized, value), *_) = named(calls + talk.listen(), "pnlSingle")
    price = contract.reference_price
    assert (heard, position, realized) == (req, float(quantity), 0)
    assert math.isclose(unrealized, float((price - cost) * quantity), rel_tol=1e-9, abs_tol=0.02)
    assert math.isclose(value, float(price * quantity), rel_tol=1e-9, abs_tol=0.02)
    return talk


# nothing is forgotten ------------------------------------------------------------------------------------------------

def numbers_in_the_source() -> dict[int, str]:
    """Return the number of every message that some line of the simulator begins, and where."""
    found: dict[int, str] = {}
    for path in sorted((ROOT / "actors/venue/simulator").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for number in _begun_by(node):
                found[number] = f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
    return found


def _begun_by(node: ast.AST) -> list[int]:
    first: ast.AST | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "encode" and node.args:
        first = node.args[0]
        if isinstance(first, ast.Starred) and isinstance(first.value, ast.List):
            first = first.value.elts[0]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        names = [t.id for t in (node.targets if isinstance(node, ast.Assign) else [node.target])
                 if isinstance(t, ast.Name)]
        values = [n for n in ast.walk(node.value) if isinstance(n, ast.List) and n.elts] if node.value else []
        return [v.elts[0].value for v in values if "fields" in names and isinstance(v.elts[0], ast.Constant)
                and isinstance(v.elts[0].value, int) and len(v.elts) > 1]
    elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        begun = re.match(r"(\d+)\0", str(node.values[0].value))
        return [int(begun[1])] if begun else []
    return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, int) else []


def test_every_message_that_the_source_can_begin_has_a_round_trip():
    found = numbers_in_the_source()
    assert {3, 5, 10, 11, 99, 101} <= found.keys(), "the search itself finds what is known to be there"
    missing = {number: where for number, where in found.items() if number not in CASES.keys() | WITH_THE_ORDERS}
    assert not missing


@pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: f"{spoken[0].__name__}-{spoken[1]}")
def test_whatever_is_asked_is_answered_with_messages_that_have_a_round_trip(spoken):
    talk = Talk(spoken)
    contract = asked(aapl(talk.gateway))
    given_ = {"contract": contract, "filter": {}, "options": [], "account": ACCOUNT, "model": "", "duration": "1 D",
              "barSize": "1 min", "what": "TRADES", "formatDate": 1, "ruleId": 26, "level": 1, "rows": 3,
              "group": "All", "tags": "NetLiquidation", "pattern": "AA", "generic": "", "secType": "STK",
              "conId": 265598, "symbol": "AAPL", "exchange": "", "start": "20251008 10:00:00 US/Eastern",
              "end": "", "n": 5,
              "subscribe": True, "bind": False, "kind": 1, "bboExchange": "a60001"}
    for number, (name, _) in enumerate(sorted(DECODERS.values()), 1):
        if name in ("placeOrder", "startApi"):
            continue
        arguments = {key: given_.get(key, False) for key in ROWS[name][1]}
        arguments |= {key: number for key in ("reqId", "orderId") if key in arguments}
        if name == "reqTickByTickData":
            arguments["kind"] = "Last"
        if name == "cancelOrder":
            arguments["manualTime"] = ""
        talk.ask(name, **arguments)
    for seconds in (1, 6, 200):
        talk.gateway.advance(START_NS + seconds * NS)
        talk.listen()
    assert talk.seen.keys() <= CASES.keys() | WITH_THE_ORDERS
