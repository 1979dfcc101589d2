"""Accounts as clients see them: values, portfolio, positions and P&L, pushed when they change and from time to time."""

from __future__ import annotations

import inspect
import re
from decimal import Decimal as D

import ib_async
import ib_insync
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.venue.simulator.account_values import account_values, market_price, worth
from actors.venue.simulator.accounts import Accounts
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import ContractBook, ContractQuery
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.orders import ExchangeRules, Order
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from actors.venue.simulator.wire import encode
from tests.venue.gateway_fixture import NS, START_NS, memory_gateway
from tests.venue.library_client import LibraryClient, codes, named
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])
TWO = ("DU1", "DU2")
DAY_NS = 86_400 * NS
OPTION = ["0", "AAPL", "OPT", "20251121", "100", "C", "100", "SMART", "", "USD", "", ""]
FUTURE = ["0", "ES", "FUT", "202512", "0", "", "", "CME", "", "USD", "", ""]


def send(client: LibraryClient, order_id: int, action: str, quantity: int, **more) -> None:
    """Trade at the market with a raw placeOrder."""
    client.session.receive(encode(*place(order_id, action, str(quantity), "MKT", **more)), client.now)


def show(client: LibraryClient, price: str, symbol: str = "AAPL") -> None:
    gateway, contract = client.gateway, client.gateway.contracts.named(symbol)
    gateway.set_quote(contract, client.now, bid=D(price), ask=D(price), match=False)
    gateway.trade(contract, Trade(D(price), D(100), client.now), client.now)


def values_of(calls, name="updateAccountValue"):
    at = {"updateAccountValue": 0, "accountSummary": 2, "accountUpdateMulti": 3}[name]
    return {(c[at], c[at + 2]): c[at + 1] for c in named(calls, name)}


# what an account is worth ------------------------------------------------------------------------------------------

trades = st.lists(st.tuples(st.booleans(), st.integers(1, 300), st.integers(90_00, 110_00)), min_size=1, max_size=20)


@given(st.sampled_from(["AAPL", "ES", "OPT", "USD.JPY"]), trades, st.booleans(), st.integers(90_00, 110_00))
def test_equity_grows_by_the_gain_of_every_trade_and_by_nothing_else(name, done, in_cost, last):
    book = ContractBook()
    query = {"ES": ContractQuery(symbol="ES", sec_type="FUT"), "OPT": ContractQuery(symbol="AAPL", sec_type="OPT"),
             "AAPL": ContractQuery(symbol="AAPL"), "USD.JPY": ContractQuery(con_id=15016059)}[name]
    contract = book.find(query)[0]
    accounts = Accounts(ExchangeRules(cost_includes_commission=in_cost))
    position, flows = None, D(0)
    for n, (buys, quantity, cents) in enumerate(done):
        price = D(cents) / 100
        order = Order(client_id=1, order_id=n, contract=contract, action="BUY" if buys else "SELL", total=D(quantity),
                      order_type="MKT", account="DU1")
        position, _ = accounts.book(order, D(quantity), price, D(1))
        flows += (-quantity if buys else quantity) * price * contract.unit - 1
    at = D(last) / 100
    gain = flows + position.quantity * at * contract.unit
    assert position.daily(at) == gain
    assert position.flow == flows
    if in_cost:
        assert position.realized + position.unrealized(at) == pytest.approx(gain, abs=D("0.0001"))
    if name == "ES":
        assert accounts.cash["DU1"] + position.unrealized(at) == pytest.approx(gain, abs=D("0.0001"))
    elif name != "USD.JPY":
        assert accounts.cash["DU1"] == flows


@pytest.mark.parametrize(("legs", "quantity", "cost", "realized"), [
    ([("BUY", 100, "10"), ("SELL", 40, "12")], 60, "10.01", "78.6"),
    ([("SELL", 100, "10"), ("BUY", 100, "9")], 0, "0", "98"),
    ([("BUY", 100, "10"), ("SELL", 150, "12")], -50, "11.9933333333", "198.3333333"),
    ([("SELL", 50, "10"), ("BUY", 100, "11")], 50, "11.01", "-51.5"),
])
def test_long_short_and_flipped_positions_realise_what_they_closed(legs, quantity, cost, realized):
    accounts = Accounts(ExchangeRules())
    contract = ContractBook().by_id[265598]
    for n, (action, shares, price) in enumerate(legs):
        order = Order(client_id=1, order_id=n, contract=contract, action=action, total=D(shares), order_type="MKT",
                      account="DU1")
        accounts.book(order, D(shares), D(price), D(1))
    (position,) = accounts.positions.values()
    assert position.quantity == quantity
    assert position.avg_cost == pytest.approx(D(cost), abs=D("0.0000001"))
    assert position.realized == pytest.approx(D(realized), abs=D("0.001"))


def test_an_option_counts_with_its_multiplier_and_a_future_is_not_paid_for():
    client = LibraryClient(ib_insync, memory_gateway())
    gateway = client.gateway
    before = worth(gateway, DEFAULT_ACCOUNT)
    send(client, 1, "BUY", 2, contract=OPTION)
    (option,) = gateway.exchange.accounts.positions.values()
    paid = option.avg_cost * 2
    assert worth(gateway, DEFAULT_ACCOUNT).cash == before.cash - paid
    assert option.avg_cost == pytest.approx(market_price(gateway, option) * 100, rel=D("0.05"))
    cash = worth(gateway, DEFAULT_ACCOUNT).cash
    send(client, 2, "BUY", 1, contract=FUTURE)
    after = worth(gateway, DEFAULT_ACCOUNT)
    assert after.cash == cash
    assert abs(after.futures) < 50, "a tick and a commission, and not the contract's whole value"
    assert after.gross > 250_000
    assert after.equity + after.options == pytest.approx(after.net), "a future's value is its gain there too"


def test_the_day_s_gain_begins_anew_at_midnight_of_new_york():
    client = LibraryClient(ib_insync, memory_gateway(positions=("AAPL=100@80",)))
    gateway = client.gateway
    show(client, "103")
    assert worth(gateway, DEFAULT_ACCOUNT).daily == 300
    assert worth(gateway, DEFAULT_ACCOUNT).unrealized == 2300
    send(client, 1, "SELL", 40)
    first = worth(gateway, DEFAULT_ACCOUNT)
    assert (first.daily, first.realized) == (299, 40 * 23 - 1)
    client.now += DAY_NS
    gateway.advance(client.now)
    show(client, "101")
    second = worth(gateway, DEFAULT_ACCOUNT)
    day = gateway.exchange.accounts.positions[DEFAULT_ACCOUNT, 265598]
    assert second.realized == 0
    assert second.daily == day.value(D(101)) - day.day_value
    assert second.daily < 0


@pytest.mark.parametrize(("days", "daily", "realized"), [(0, 299, 2 * 40 - 1), (1, 0, 0)])
def test_a_restart_on_the_same_day_keeps_the_day_s_gain_and_on_the_next_begins_anew(tmp_path, days, daily, realized):
    settings = {"state": str(tmp_path / "state.db"), "positions": ("AAPL=100@101",)}
    client = LibraryClient(ib_insync, memory_gateway(**settings))
    show(client, "103")
    send(client, 1, "SELL", 40)
    client.gateway.advance(client.now)
    client.gateway.close()
    later = make_gateway(GatewaySettings(walk_interval=D(3600), **settings), Journal(), START_NS + days * DAY_NS)
    (position,) = later.exchange.accounts.positions.values()
    assert position.realized_today == realized
    assert position.daily(D(103 if days == 0 else 100)) == daily
    later.close()


# reqAccountUpdates -------------------------------------------------------------------------------------------------

@both_libraries
def test_account_updates_begin_whole_and_go_on_with_what_changes(library):
    client = LibraryClient(library, memory_gateway())
    calls = client.ask("reqAccountUpdates", True, DEFAULT_ACCOUNT)
    whole = values_of(calls)
    assert whole["NetLiquidation", "USD"] == "1000000.00"
    assert whole["CashBalance", "BASE"] == whole["CashBalance", "USD"] == "1000000.00"
    assert whole["AccountReady", ""] == "true"
    assert calls[-1][0] == "accountDownloadEnd"
    send(client, 1, "BUY", 100)
    calls = client.heard()
    ((item),) = named(calls, "updatePortfolio")
    assert (item[0].symbol, item[1]) == ("AAPL", 100)
    news = values_of(calls)
    assert ("StockMarketValue", "USD") in news
    assert ("AccountType", "") not in news
    send(client, 2, "BUY", 100)
    assert not values_of(client.heard()), "fills in the same second are told together"
    assert ("StockMarketValue", "USD") in values_of(client.wait(1))
    show(client, "105")
    assert not client.heard()
    calls = client.wait(180)
    assert values_of(calls)["UnrealizedPnL", "USD"] == f"{200 * 105 - 20004:.2f}"
    assert named(calls, "updateAccountTime")
    client.ask("reqAccountUpdates", False, DEFAULT_ACCOUNT)
    send(client, 3, "SELL", 100)
    assert not named(client.heard() + client.wait(200), "updatePortfolio")
    assert client.gateway.agenda.next_ns() is None


@both_libraries
def test_updates_of_several_accounts_and_of_ledgers_only(library):
    client = LibraryClient(library, memory_gateway(accounts=TWO))
    calls = client.ask("reqAccountUpdatesMulti", 5, "DU2", "", False)
    assert {c[1] for c in named(calls, "accountUpdateMulti")} == {"DU2"}
    assert calls[-1] == ("accountUpdateMultiEnd", 5)
    ledgers = values_of(client.ask("reqAccountUpdatesMulti", 6, "DU1", "", True), "accountUpdateMulti")
    assert ("NetLiquidation", "USD") in ledgers
    assert ("BuyingPower", "USD") not in ledgers
    send(client, 1, "BUY", 10, account="DU2")
    news = named(client.heard(), "accountUpdateMulti")
    assert {(c[0], c[1]) for c in news} == {(5, "DU2")}
    client.ask("cancelAccountUpdatesMulti", 5)
    send(client, 2, "BUY", 10, account="DU2")
    assert not named(client.wait(200), "accountUpdateMulti")


# summary -----------------------------------------------------------------------------------------------------------

@both_libraries
def test_the_summary_is_told_again_every_three_minutes_where_it_changed(library):
    client = LibraryClient(library, memory_gateway())
    calls = client.ask("reqAccountSummary", 5, "All", "NetLiquidation,BuyingPower,AccountType,$LEDGER")
    found = values_of(calls, "accountSummary")
    assert found["AccountType", ""] == "INDIVIDUAL"
    assert found["ExchangeRate", "BASE"] == "1.00"
    assert ("TotalCashValue", "USD") not in found
    assert calls[-1] == ("accountSummaryEnd", 5)
    assert not client.wait(181)
    send(client, 1, "BUY", 100)
    show(client, "120")
    assert not named(client.heard(), "accountSummary")
    news = values_of(client.wait(180), "accountSummary")
    assert ("NetLiquidation", "USD") in news
    assert ("AccountType", "") not in news
    client.ask("cancelAccountSummary", 5)
    show(client, "130")
    assert not named(client.wait(200), "accountSummary")


def test_a_third_summary_is_322_and_there_is_room_again_after_a_cancel():
    client = LibraryClient(ib_insync, memory_gateway())
    assert [codes(client.ask("reqAccountSummary", n, "All", "NetLiquidation")) for n in (5, 6, 7)] == [[], [], [322]]
    client.ask("cancelAccountSummary", 5)
    assert codes(client.ask("reqAccountSummary", 7, "All", "NetLiquidation")) == []
    assert codes(client.ask("reqAccountSummary", 7, "All", "NetLiquidation")) == [322]


@pytest.mark.parametrize(("tags", "currencies"), [
    ("$LEDGER", {"BASE"}), ("$LEDGER:USD", {"USD"}), ("$LEDGER:ALL", {"BASE", "USD"}), ("$LEDGER:EUR", set())])
def test_ledgers_are_chosen_by_currency(tags, currencies):
    client = LibraryClient(ib_insync, memory_gateway())
    found = values_of(client.ask("reqAccountSummary", 5, "All", tags), "accountSummary")
    assert {currency for _, currency in found} == currencies


def test_the_libraries_tags_all_have_a_value():
    gateway = memory_gateway()
    source = inspect.getsource(ib_insync.IB.reqAccountSummaryAsync).split("tags = (")[1].split(")")[0]
    tags = "".join(re.findall(r"'([^']*)'", source)).removesuffix(",$LEDGER:ALL").split(",")
    assert len(tags) > 30
    assert set(tags) <= {v.tag for v in account_values(gateway, DEFAULT_ACCOUNT)}


# positions ---------------------------------------------------------------------------------------------------------

@both_libraries
def test_positions_of_one_account_go_on_after_each_fill_until_cancelled(library):
    client = LibraryClient(library, memory_gateway(accounts=TWO, positions=("SPY=50@160",)))
    calls = client.ask("reqPositionsMulti", 5, "DU1", "")
    assert [(c[3].symbol, c[4]) for c in named(calls, "positionMulti")] == [("SPY", 50)]
    assert calls[-1] == ("positionMultiEnd", 5)
    send(client, 1, "BUY", 10, account="DU2")
    assert not named(client.heard(), "positionMulti")
    send(client, 2, "SELL", 10, account="DU1")
    assert [(c[1], c[3].symbol, c[4]) for c in named(client.heard(), "positionMulti")] == [("DU1", "AAPL", -10)]
    client.ask("cancelPositionsMulti", 5)
    send(client, 3, "SELL", 10, account="DU1")
    assert not named(client.heard(), "positionMulti")


# P&L ---------------------------------------------------------------------------------------------------------------

@both_libraries
def test_pnl_is_told_each_second_in_which_it_changes(library):
    client = LibraryClient(library, memory_gateway())
    assert named(client.ask("reqPnL", 5, DEFAULT_ACCOUNT, ""), "pnl") == [(5, 0, 0, 0)]
    assert not client.wait(5)
    send(client, 1, "BUY", 100)                     # at 100.01, with a commission of 1
    show(client, "101")
    assert named(client.wait(1), "pnl") == [(5, 98, 98, 0)]
    show(client, "103")
    show(client, "102")
    assert named(client.wait(1), "pnl") == [(5, 198, 198, 0)], "once a second, the latest"
    send(client, 2, "SELL", 50)                     # at 102, with a commission of 1
    assert named(client.wait(1), "pnl") == [(5, 197, 99, 98)]
    assert not named(client.wait(5), "pnl")
    client.ask("cancelPnL", 5)
    show(client, "120")
    assert not named(client.wait(3), "pnl")


@both_libraries
def test_pnl_of_one_contract_long_flipped_and_gone(library):
    client = LibraryClient(library, memory_gateway())
    ((_, position, *unset),) = named(client.ask("reqPnLSingle", 5, DEFAULT_ACCOUNT, "", 265598), "pnlSingle")
    assert position == 0
    assert all(value > 1e300 for value in unset)
    send(client, 1, "BUY", 100)                     # at 100.01
    show(client, "102")
    assert named(client.wait(1), "pnlSingle") == [(5, 100, 198, 198, 0, 10_200)]
    send(client, 2, "SELL", 150)                    # at 102: 100 close, 50 open a short
    ((_, position, daily, unrealized, realized, value),) = named(client.wait(1), "pnlSingle")
    assert (position, value) == (-50, -5100)
    assert daily == pytest.approx(197)
    assert unrealized + realized == pytest.approx(daily, abs=0.001)
    show(client, "100")
    ((_, position, daily, *_),) = named(client.wait(1), "pnlSingle")
    assert (position, daily) == (-50, pytest.approx(297))
    send(client, 3, "BUY", 50)                      # at 100
    ((_, position, daily, unrealized, realized, value),) = named(client.wait(1), "pnlSingle")
    assert (position, unrealized, value) == (0, 0, 0)
    assert daily == realized == pytest.approx(296)
    client.ask("cancelPnLSingle", 5)
    assert client.gateway.agenda.next_ns() is None


@pytest.mark.parametrize(("request_", "terms", "code"), [
    ("reqPnL", ("DU9", ""), 321), ("reqPnL", (DEFAULT_ACCOUNT, "Growth"), 321),
    ("reqPnLSingle", ("DU9", "", 265598), 321), ("reqPnLSingle", (DEFAULT_ACCOUNT, "", "x"), 321),
    ("reqPositionsMulti", ("DU9", ""), 321), ("reqAccountUpdatesMulti", ("DU9", "", False), 321),
    ("reqAccountSummary", ("Friends", "NetLiquidation"), 321)])
def test_accounts_and_models_that_are_not_there_are_refused(request_, terms, code):
    client = LibraryClient(ib_insync, memory_gateway())
    assert codes(client.ask(request_, 5, *terms)) == [code]
    assert not client.session.streams


@pytest.mark.parametrize(("request_", "terms"), [
    ("reqPnL", (DEFAULT_ACCOUNT, "")), ("reqPnLSingle", (DEFAULT_ACCOUNT, "", 265598)),
    ("reqPositionsMulti", ("", "")), ("reqAccountUpdatesMulti", ("", "", False)),
    ("reqAccountSummary", ("All", "NetLiquidation"))])
def test_an_id_is_used_once_and_everything_ends_with_the_connection(request_, terms):
    client = LibraryClient(ib_insync, memory_gateway())
    assert codes(client.ask(request_, 5, *terms)) == []
    assert codes(client.ask(request_, 5, *terms)) == [322]
    client.gateway.disconnect(client.session, client.now)
    assert client.gateway.agenda.next_ns() is None


@pytest.mark.parametrize(("library", "version"), [(ib_insync, 157), (ib_async, 157), (ib_async, 178)])
def test_reference_history_and_accounts_at_other_server_versions(library, version):
    client = LibraryClient(library, memory_gateway(server_version=version), version=version)
    stock = library.Stock("AAPL", "SMART", "USD")
    assert named(client.ask("reqContractDetails", 1, stock), "contractDetails")
    assert named(client.ask("reqMatchingSymbols", 2, "AA"), "symbolSamples")[0][1][0].contract.symbol == "AAPL"
    calls = client.ask("reqHistoricalData", 3, stock, "20251008-20:00:00", "1 D", "1 hour", "TRADES", True, 1, False,
                       [])
    assert len(named(calls, "historicalData")) == 7
    assert named(client.ask("reqPnL", 4, DEFAULT_ACCOUNT, ""), "pnl")
    assert codes(client.ask("reqHistoricalTicks", 5, stock, "", "", 10, "TRADES", True, False, [])) == [321]
