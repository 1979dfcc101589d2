"""Contracts of every kind, read by the real libraries: chains, partial queries, hours, symbols, derived prices."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal as D

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator import chains, options, responses
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import BUILT_IN, ContractBook, ContractQuery
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.scenario import ScenarioError, parse
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.validation import expires_s
from actors.venue.simulator.wire import split
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway
from tests.venue.library_client import LibraryClient, codes, named
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit
# START_NS is Thursday 9 October 2025 in New York.
TODAY = date(2025, 10, 9)
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])
days = st.dates(date(2012, 1, 1), date(2050, 1, 1))


def details(library, **contract):
    """Ask reqContractDetails and return (details, errors)."""
    client = LibraryClient(library, memory_gateway())
    calls = client.ask("reqContractDetails", 7, library.Contract(**contract))
    found = [d for _, d in named(calls, "contractDetails")]
    assert bool(named(calls, "contractDetailsEnd")) == bool(found)
    return found, codes(calls)


@both_libraries
def test_an_option_is_found_by_its_identity_and_says_what_it_is_on(library):
    (found,), _ = details(library, symbol="AAPL", secType="OPT", lastTradeDateOrContractMonth="20251017", strike=100,
                          right="C", exchange="SMART", currency="USD")
    contract = found.contract
    assert contract.localSymbol == "AAPL  251017C00100000"
    assert (contract.multiplier, contract.tradingClass) == ("100", "AAPL")
    assert (found.underSymbol, found.underSecType, found.underConId) == ("AAPL", "STK", 265598)
    assert (found.contractMonth, found.realExpirationDate) == ("202510", "20251017")
    assert len(found.marketRuleIds.split(",")) == len(found.validExchanges.split(","))


@both_libraries
def test_a_partial_query_returns_every_option_that_fits(library):
    expiry, _ = details(library, symbol="AAPL", secType="OPT", lastTradeDateOrContractMonth="20251017")
    strikes = chains.strikes(D(100))
    assert len(expiry) == 2 * len(strikes)
    calls, _ = details(library, symbol="AAPL", secType="OPT", lastTradeDateOrContractMonth="202510", strike=100,
                       right="CALL")
    fridays = ["20251010", "20251017", "20251024", "20251031"]
    assert [d.contract.lastTradeDateOrContractMonth for d in calls] == fridays
    whole, _ = details(library, symbol="AAPL", secType="OPT")
    assert len(whole) == 2 * len(strikes) * len(chains.option_expiries(TODAY))
    assert len({d.contract.conId for d in whole}) == len(whole)


@both_libraries
@pytest.mark.parametrize(("contract", "code"), [
    ({"symbol": "AAPL", "secType": "OPT", "strike": 100.3}, 200),
    ({"symbol": "AAPL", "secType": "OPT", "lastTradeDateOrContractMonth": "20251018"}, 200),
    ({"symbol": "SPX", "secType": "OPT"}, 200),
    ({"symbol": "ES", "secType": "FUT", "exchange": "SMART"}, 200),
    ({"symbol": "ES", "secType": "STK"}, 200),
    ({"symbol": "NOPE", "secType": "STK"}, 200),
    ({"symbol": "AAPL", "secType": "BAG"}, 321),
    ({"secIdType": "ISIN", "secId": "US0000000000"}, 200),
])
def test_what_is_not_there_is_200_and_a_bag_is_321(library, contract, code):
    found, errors = details(library, **contract)
    assert (found, errors) == ([], [code])


@both_libraries
def test_futures_end_on_the_third_friday_and_show_the_hour(library):
    found, _ = details(library, symbol="ES", secType="FUT", exchange="CME")
    assert [d.contract.localSymbol for d in found] == ["ESZ5", "ESH6", "ESM6", "ESU6", "ESZ6"]
    front = found[0]
    assert (front.contract.lastTradeDateOrContractMonth, front.lastTradeTime) == ("20251219", "08:30")
    assert (front.contract.multiplier, front.minTick, front.contract.exchange) == ("50", 0.25, "CME")
    assert (front.underSymbol, front.underConId) == ("SPX", 416904)
    same, _ = details(library, conId=front.contract.conId)
    assert same[0].contract == front.contract
    by_month, _ = details(library, symbol="ES", secType="FUT", lastTradeDateOrContractMonth="202603")
    assert [d.contract.localSymbol for d in by_month] == ["ESH6"]


def test_expired_futures_are_found_only_when_asked_for():
    live, _ = details(ib_insync, symbol="NQ", secType="FUT")
    every, _ = details(ib_insync, symbol="NQ", secType="FUT", includeExpired=True)
    assert [d.contract.localSymbol for d in every[:-5]] == ["NQM5", "NQU5"]
    assert every[-5:] == live


@both_libraries
def test_currencies_indices_and_security_ids(library):
    (euro,), _ = details(library, symbol="EUR", secType="CASH", currency="USD", exchange="IDEALPRO")
    assert (euro.contract.localSymbol, euro.minTick, euro.contract.exchange) == ("EUR.USD", 0.00005, "IDEALPRO")
    (spx,), _ = details(library, symbol="SPX", secType="IND")
    assert spx.contract.exchange == "CBOE"
    (apple,), _ = details(library, secIdType="ISIN", secId="US0378331005")
    assert apple.contract.symbol == "AAPL"
    assert [(t.tag, t.value) for t in apple.secIdList] == [("ISIN", "US0378331005")]
    (same,), _ = details(library, secIdType="CUSIP", secId="037833100")
    assert same.contract.conId == apple.contract.conId


def test_every_isin_of_ours_has_the_right_check_digit():
    for contract in BUILT_IN:
        if contract.isin:
            digits = "".join(str(int(c, 36)) for c in contract.isin)
            doubled = [int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits))]
            assert sum(d // 10 + d % 10 for d in doubled) % 10 == 0, contract.symbol


@pytest.mark.parametrize(("symbol", "fields"), [("SPX", 40), ("AAPL", 42)])
def test_the_message_has_forty_fields_and_two_more_with_a_security_id(symbol, fields):
    client = RawClient(memory_gateway())
    answer = client.send(9, 8, 5, 0, symbol, "", "", 0, "", "", "", "", "", "", "", 0, "", "", "")
    assert [len(m) for m in answer] == [fields, 3]


def test_an_issuer_id_is_refused_by_name():
    client = RawClient(memory_gateway())
    (answer,) = client.send(9, 8, 5, 0, "", "BOND", "", 0, "", "", "", "", "", "", "", 0, "", "", "e1234567")
    assert answer[3] == "321"
    assert "issuer" in answer[4]


def test_hours_close_at_the_weekend_and_a_future_s_day_begins_the_evening_before():
    book = ContractBook()
    book.roll(TODAY)
    (future,) = book.find(ContractQuery(symbol="ES", sec_type="FUT", expiry="202512"))
    fields = split(responses.contract_details(future, 5, 176, START_NS, False)[4:])
    week = fields[26].split(";")
    assert week[:2] == ["20251008:1800-20251009:1700", "20251009:1800-20251010:1700"]
    assert week[2:4] == ["20251011:CLOSED", "20251012:CLOSED"]
    assert fields[27].startswith("20251009:0930-20251009:1600")


@both_libraries
def test_option_parameters_symbols_and_market_rules(library):
    client = LibraryClient(library, memory_gateway())
    calls = client.ask("reqSecDefOptParams", 5, "AAPL", "", "STK", 265598)
    found = named(calls, "securityDefinitionOptionParameter")
    assert [f[1] for f in found] == chains.OPTION_EXCHANGES.split(",")
    _, _, under, trading_class, multiplier, expiries, strikes = found[0]
    assert (str(under), trading_class, multiplier) == ("265598", "AAPL", "100")
    assert expiries[:2] == ["20251010", "20251017"]
    assert strikes == [float(s) for s in chains.strikes(D(100))]
    assert named(calls, "securityDefinitionOptionParameterEnd") == [(5,)]
    ((_, samples),) = named(client.ask("reqMatchingSymbols", 6, "zz"), "symbolSamples")
    assert samples == []
    ((_, samples),) = named(client.ask("reqMatchingSymbols", 6, "s"), "symbolSamples")
    assert [(s.contract.symbol, s.derivativeSecTypes) for s in samples][:2] == [("SPY", ["OPT"]), ("SPX", ["FUT"])]
    ((_, samples),) = named(client.ask("reqMatchingSymbols", 6, "apple"), "symbolSamples")
    assert (samples[0].contract.conId, samples[0].contract.description) == (265598, "APPLE INC")
    ((_, steps),) = named(client.ask("reqMarketRule", 239), "marketRule")
    assert [(s.lowEdge, s.increment) for s in steps] == [(0, 0.01), (3, 0.05)]


def test_option_parameters_of_what_has_none_and_of_a_wrong_underlying():
    client = LibraryClient(ib_insync, memory_gateway())
    assert [c[0] for c in client.ask("reqSecDefOptParams", 5, "EUR", "", "CASH", 12087792)] == [
        "securityDefinitionOptionParameterEnd"]
    assert codes(client.ask("reqSecDefOptParams", 5, "AAPL", "", "STK", 1)) == [321]
    assert codes(client.ask("reqSecDefOptParams", 5, "AAPL", "CME", "STK", 265598)) == [321]


# the rule of the chains --------------------------------------------------------------------------------------------

@given(days)
def test_expiries_are_fridays_to_come_and_every_third_friday_is_among_them(today):
    found = chains.option_expiries(today)
    assert found == sorted(set(found))
    assert all(e.weekday() == 4 and e >= today for e in found)
    assert found[0] - today < timedelta(days=7)
    futures = chains.future_expiries(today, past=2)
    assert sum(e < today for e in futures) == 2
    assert all(e.month % 3 == 0 and 15 <= e.day <= 21 for e in futures)


@given(days, st.data())
@settings(max_examples=30, deadline=None)
def test_a_con_id_says_by_itself_which_contract_it_is(today, data):
    asked, other = ContractBook(), ContractBook()
    for book in (asked, other):
        book.roll(today)
    symbol, kind = data.draw(st.sampled_from([("SPY", "OPT"), ("TSLA", "OPT"), ("ES", "FUT"), ("RTY", "FUT")]))
    contract = data.draw(st.sampled_from(asked.find(ContractQuery(symbol=symbol, sec_type=kind))))
    assert other.get(contract.con_id) == contract
    assert contract.con_id < 2**31
    assert other.find(ContractQuery(local_symbol=contract.local_symbol)) == [contract]


@given(st.integers(600_000_000, 2**31))
def test_a_con_id_of_nothing_is_nothing(con_id):
    book = ContractBook()
    book.roll(TODAY)
    found = book.get(con_id)
    assert found is None or found.con_id == con_id


def test_an_option_that_has_expired_is_listed_no_more():
    gateway = memory_gateway()
    client = LibraryClient(ib_insync, gateway)
    option = ib_insync.Option("AAPL", "20251010", 100, "C", "SMART")
    assert named(client.ask("reqContractDetails", 1, option), "contractDetails")
    client.now += 2 * 86_400 * NS
    assert codes(client.ask("reqContractDetails", 2, option)) == [200]


# prices ------------------------------------------------------------------------------------------------------------

prices = st.floats(5, 1000)


@given(prices, st.floats(0.7, 1.3), st.integers(1, 400))
def test_calls_and_puts_keep_their_parity_and_their_signs(under, moneyness, days_left):
    book = ContractBook()
    strike = D(f"{under * moneyness:.2f}")
    expiry = TODAY + timedelta(days=days_left)
    stock = book.by_id[265598]
    call, put = (chains.option(stock, 0, expiry, strike, right) for right in "CP")
    at_s = START_NS / NS
    c, p = options.greeks(call, under, at_s), options.greeks(put, under, at_s)
    assert c.value - p.value == pytest.approx(under - float(strike), abs=1e-6)
    assert c.delta - p.delta == pytest.approx(1)
    assert 0 <= c.delta <= 1
    assert c.gamma == pytest.approx(p.gamma)
    assert min(c.vega, c.gamma, -c.theta) >= 0
    step = 0.01
    assert options.greeks(call, under + step, at_s).value - c.value == pytest.approx(c.delta * step, abs=1e-3)


def test_an_option_at_its_end_is_worth_its_exercise():
    stock = ContractBook().by_id[265598]
    call = chains.option(stock, 0, TODAY, D(100), "C")
    assert options.greeks(call, 105.0, expires_s(call)).value == 5
    assert options.greeks(call, 95.0, expires_s(call) + 60).value == 0


def test_bid_and_ask_stand_on_the_grid_around_the_value():
    stock = ContractBook().by_id[265598]
    call = chains.option(stock, 0, date(2025, 11, 21), D(100), "C")
    found = options.derived(call, D(100), START_NS / NS, D("0.05"))
    assert found.bid is not None
    assert found.bid < found.value < found.ask
    assert found.bid % D("0.05") == found.ask % D("0.05") == 0
    far = chains.option(stock, 0, date(2025, 10, 10), D(130), "C")
    assert options.derived(far, D(100), START_NS / NS).bid is None


@both_libraries
def test_option_and_future_quotes_move_with_what_they_are_on(library):
    gateway = memory_gateway()
    client = LibraryClient(library, gateway)
    option = library.Option("AAPL", "20251121", 100, "C", "SMART")
    future = library.Future("ES", "202512", "CME")
    client.ask("reqMktData", 1, option, "", False, False, [])
    before = gateway.exchange.quote_of(gateway.contracts.find(
        ContractQuery(symbol="AAPL", sec_type="OPT", expiry="20251121", strike=D(100), right="C"))[0].con_id)
    was = before.bid
    client.ask("reqMktData", 2, future, "", False, False, [])
    for symbol, price in (("AAPL", D(101)), ("SPX", D(5010))):
        contract = gateway.contracts.named(symbol)
        if symbol == "AAPL":
            gateway.set_quote(contract, client.now, bid=price - 1, ask=price + 1)
        gateway.trade(contract, Trade(price, D(100), client.now), client.now)
    ticks = [c for c in client.heard() if c[0] == "priceSizeTick"]
    assert before.bid > was
    assert {c[1] for c in ticks} == {1, 2}
    assert [c[3] for c in ticks if c[1] == 2 and c[2] == 4] == [5010.0]


def test_a_stop_on_a_future_triggers_when_the_index_moves():
    gateway = memory_gateway()
    client = RawClient(gateway)
    future = ["0", "ES", "FUT", "202512", "0", "", "", "CME", "", "USD", "", ""]
    client.send(*place(1, "SELL", "2", "STP", aux="4990", contract=future))
    index = gateway.contracts.named("SPX")
    gateway.trade(index, Trade(D(4985), D(0), START_NS), START_NS)
    (position,) = gateway.exchange.accounts.positions.values()
    assert (position.quantity, position.contract.local_symbol) == (-2, "ESZ5")


def test_a_computation_is_read_as_greeks():
    stock = ContractBook().by_id[265598]
    call = chains.option(stock, 0, date(2025, 11, 21), D(100), "C")
    greeks = options.greeks(call, 100.0, START_NS / NS)
    gateway = memory_gateway()
    client = LibraryClient(ib_insync, gateway)
    client.session.send_tick(responses.option_computation(9, 13, greeks, greeks.value))
    (heard,) = named(client.heard(), "tickOptionComputation")
    assert heard[:2] == (9, 13)
    assert heard[3:6] == pytest.approx((0.25, greeks.delta, greeks.value), abs=1e-6)


# scenario files ----------------------------------------------------------------------------------------------------

STORY = """
title = "An option of its own"
[[contract]]
con_id = 42
symbol = "AAPL"
sec_type = "OPT"
expiry = "20251231"
strike = 123
right = "P"
local_symbol = "MINE"
{extra}
"""


def story_gateway(tmp_path, text):
    path = tmp_path / "story.toml"
    path.write_text(text)
    return make_gateway(GatewaySettings(scenario=str(path)), Journal(keep=True), START_NS)


def test_a_scenario_adds_an_option_that_follows_its_stock_or_has_a_price_of_its_own(tmp_path):
    gateway = story_gateway(tmp_path, STORY.format(extra=""))
    (option,) = gateway.contracts.find(ContractQuery(symbol="AAPL", sec_type="OPT", strike=D(123)))
    assert (option.con_id, option.multiplier, option.under_con_id) == (42, "100", 265598)
    assert gateway.exchange.quote_of(42).bid > 20
    assert gateway.contracts.named("AAPL").sec_type == "STK"
    own = story_gateway(tmp_path, STORY.format(extra='[[quote]]\nsymbol = "MINE"\nlast = 7\n'))
    apple = own.contracts.named("AAPL")
    own.trade(apple, Trade(D(90), D(100), START_NS), START_NS)
    assert own.exchange.quote_of(42).last == 7


@pytest.mark.parametrize(("change", "said"), [
    (('expiry = "20251231"', ""), "expiry"), (('expiry = "20251231"', 'expiry = "20251331"'), "expiry"),
    (("strike = 123", ""), "strike"), (('right = "P"', ""), "right"), (('"OPT"', '"WAR"'), "sec_type")])
def test_an_incomplete_option_is_refused_with_its_line(change, said):
    text = STORY.format(extra="").replace(*change)
    with pytest.raises(ScenarioError, match=rf"story\.toml:\d+: field contract\[0\]\.{said}"):
        parse(text, "story.toml")


@both_libraries
def test_a_name_that_is_not_ascii_comes_through(tmp_path, library):
    name = "Société Générale, 100 % \\"
    gateway = story_gateway(tmp_path, f"title = 't'\n[[contract]]\ncon_id = 5\nsymbol = 'GLE'\nlong_name = '{name}'\n")
    calls = LibraryClient(library, gateway).ask("reqContractDetails", 7, library.Contract(conId=5))
    assert [d.longName for _, d in named(calls, "contractDetails")] == [name]
