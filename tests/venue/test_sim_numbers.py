"""Numbers that must agree with one another, however they are asked for: money, bars, hours, expiries."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D

import ib_insync
import pytest

from actors.venue.simulator.account_values import account_values, pnl
from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.history_bars import epoch, local
from actors.venue.simulator.orders import Position
from actors.venue.simulator.settings import DEFAULT_ACCOUNT
from tests.venue.gateway_fixture import NS, START_NS, memory_gateway
from tests.venue.library_client import LibraryClient, named

pytestmark = pytest.mark.unit
CONTRACTS = {
    "stock": ib_insync.Stock("AAPL", "SMART", "USD", conId=265598),
    "future": ib_insync.Future("ES", "202512", "CME"),
    "option": ib_insync.Option("AAPL", "20251121", 100, "P", "SMART"),
    "euros": ib_insync.Forex("EURUSD", conId=12087792),
    "yen": ib_insync.Forex("USDJPY", conId=15016059)}


def market(client: LibraryClient, con_id: int, price: D, away: D) -> None:
    gateway = client.gateway
    contract = gateway.contracts.get(con_id)
    assert contract is not None
    gateway.set_quote(contract, client.now, bid=price - away, ask=price + away, match=False)
    gateway.trade(contract, Trade(price, D(100), gateway.exchange_ns(client.now)), client.now)


def amounts(client: LibraryClient) -> dict[str, D]:
    found = account_values(client.gateway, DEFAULT_ACCOUNT)
    return {v.tag: D(v.text) for v in found if v.currency == "USD" and not v.ledger}


# money ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", CONTRACTS)
def test_net_liquidation_moves_by_the_day_s_gain_and_a_what_if_says_where_the_fill_leads(kind):
    client = LibraryClient(ib_insync, memory_gateway())
    contract = client.gateway.contracts.get(named(client.ask("reqContractDetails", 1, CONTRACTS[kind]),
                                                  "contractDetails")[0][1].contract.conId)
    asked = ib_insync.Contract(conId=contract.con_id, exchange=contract.exchange)
    factor = 1000 if kind in ("euros", "yen") else 1
    for n, (action, quantity) in enumerate([("BUY", 10), ("SELL", 25), ("BUY", 10), ("BUY", 5)]):   # long to flat
        order = {"action": action, "totalQuantity": quantity * factor, "orderType": "MKT", "tif": "DAY"}
        what_if = client.ask("placeOrder", 50 * n + 10, asked, ib_insync.Order(**order, whatIf=True))
        state = named(what_if, "openOrder")[0][3]
        client.ask("placeOrder", 50 * n + 11, asked, ib_insync.Order(**order))
        quote = client.gateway.exchange.quote_of(contract.con_id)
        last, touch = quote.last, quote.ask if action == "BUY" else quote.bid
        slipped = contract.usd(abs(touch - last) * quantity * factor * contract.unit, last)
        now = amounts(client)
        assert float(state.initMarginAfter) == pytest.approx(float(now["InitMarginReq"]), abs=0.01)
        assert float(state.maintMarginAfter) == pytest.approx(float(now["MaintMarginReq"]), abs=0.01)
        assert float(state.equityWithLoanAfter) - float(slipped) == pytest.approx(
            float(now["EquityWithLoanValue"]), abs=0.02)
        options = sum(p.value(D(str(last))) for p in positions(client) if p.contract.sec_type == "OPT")
        assert now["EquityWithLoanValue"] + options == pytest.approx(now["NetLiquidation"], abs=D("0.01"))
        market(client, contract.con_id, last + (1 if n % 2 else -1) * 20 * contract.min_tick, contract.min_tick)
        gain = pnl(client.gateway, DEFAULT_ACCOUNT)
        assert amounts(client)["NetLiquidation"] - 1_000_000 == pytest.approx(gain.daily, abs=D("0.01"))
        assert gain.daily == pytest.approx(gain.unrealized + gain.realized, abs=D("0.01"))
    assert positions(client)[0].quantity == 0


def positions(client: LibraryClient) -> list[Position]:
    return list(client.gateway.exchange.accounts.positions.values())


def test_without_a_last_price_everything_counts_at_the_same_price():
    gateway = memory_gateway(positions=("AAPL=100@95",))
    quote = gateway.exchange.quote_of(265598)
    client = LibraryClient(ib_insync, gateway)
    for bid, ask, price in ((D(90), D(91), D("90.5")), (None, None, D(95))):
        quote.last, quote.bid, quote.ask = None, bid, ask
        found = amounts(client)
        assert found["GrossPositionValue"] == 100 * price
        assert found["InitMarginReq"] == 50 * price
        assert found["EquityWithLoanValue"] == found["NetLiquidation"] == 1_000_000 + 100 * price


# days ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("day", ["2013-03-08", "2013-03-10", "2013-11-03", "2026-03-08", "2026-11-01"])
@pytest.mark.parametrize("speed", ["1", "3600"])
def test_a_day_begins_at_midnight_with_the_prices_that_it_found(day, speed):
    gateway = memory_gateway(start=f"{day}T23:50", speed=speed, positions=("AAPL=100@100",), walk_interval=D(10**7))
    client = LibraryClient(ib_insync, gateway)
    market(client, 265598, D(101), D("0.01"))
    date = gateway.exchange.accounts.day
    client.now += 599 * NS // int(speed)
    gateway.advance(client.now)
    assert (gateway.exchange.accounts.day, pnl(gateway, DEFAULT_ACCOUNT).daily) == (date, 100)
    client.now += NS * 30 // int(speed)                      # half a minute late
    market(client, 265598, D(103), D("0.01"))
    assert gateway.exchange.accounts.day > date
    assert pnl(gateway, DEFAULT_ACCOUNT).daily == 200
    quote = gateway.exchange.quote_of(265598)
    assert (quote.close, quote.open, quote.high, quote.low, quote.volume) == (101, 103, 103, 103, 100)


def test_holidays_and_half_days_are_in_contract_details_and_in_the_history():
    gateway = memory_gateway(start="2026-11-30T10:00", always_open=False, holidays=("20261126", "20261203"),
                             half_days=("20261127", "20261204"))
    client = LibraryClient(ib_insync, gateway)
    for kind in ("stock", "future", "euros"):
        asked = ib_insync.Future("ES", "202612", "CME") if kind == "future" else CONTRACTS[kind]
        details = named(client.ask("reqContractDetails", 1, asked), "contractDetails")[0][1]
        assert details.tradingHours == (
            "20261130:0400-20261130:2000;20261201:0400-20261201:2000;20261202:0400-20261202:2000;"
            "20261203:CLOSED;20261204:0400-20261204:1700;20261205:CLOSED")
        assert details.liquidHours.endswith("20261203:CLOSED;20261204:0930-20261204:1300;20261205:CLOSED")
    asked = (CONTRACTS["stock"], "", "4 D", "30 mins", "TRADES")
    regular = named(client.ask("reqHistoricalData", 2, *asked, True, 1, False, []), "historicalData")
    days: dict[str, list[str]] = {}
    for _, bar in regular:
        days.setdefault(bar.date.split()[0], []).append(bar.date.split()[1])
    assert [(day, times[-1]) for day, times in days.items()] == [
        ("20261124", "15:30:00"), ("20261125", "15:30:00"), ("20261127", "12:30:00"), ("20261130", "10:00:00")]
    late = named(client.ask("reqHistoricalData", 3, *asked, False, 1, False, []), "historicalData")
    assert max(bar.date for _, bar in late if bar.date.startswith("20261127")) == "20261127 16:30:00 US/Eastern"
    asked = (CONTRACTS["stock"], "", "3 D", "1 day", "SCHEDULE")
    schedule = client.ask("reqHistoricalData", 4, *asked, True, 1, False, [])
    assert [s.endDateTime for s in named(schedule, "historicalSchedule")[0][4]] == [
        "20261125-16:00:00", "20261127-13:00:00", "20261130-16:00:00"]


# expiries ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("contract", "end"), [
    (ib_insync.Option("AAPL", "20261218", 100, "C", "SMART"), "16:00"),
    (ib_insync.Future("ES", "202612", "CME"), "09:30")])
def test_a_contract_trades_until_it_expires_and_not_after(contract, end):
    hour, minute = map(int, end.split(":"))
    gateway = memory_gateway(start=f"2026-12-18T{hour - 1:02d}:{minute:02d}")
    client = LibraryClient(ib_insync, gateway)
    client.ask("reqMktData", 1, contract, "", False, False, [])
    rest = {"totalQuantity": 1, "orderType": "LMT", "tif": "GTC", "lmtPrice": 0.01 if contract.strike else 0.25}
    client.ask("placeOrder", 2, contract, ib_insync.Order(action="BUY", **rest))
    client.now += 3599 * NS
    gateway.advance(client.now)
    order = ib_insync.Order(action="BUY", totalQuantity=1, orderType="MKT", tif="DAY")
    filled = client.ask("placeOrder", 3, contract, order)
    assert named(filled, "orderStatus")[-1][1] == "Filled"
    client.now += NS
    gateway.advance(client.now)
    heard = client.heard()
    assert [s[1] for s in named(heard, "orderStatus") if s[0] == 2] == ["Cancelled"]
    assert [(t[1], t[2], t[3]) for t in named(heard, "priceSizeTick")] == [(1, -1, 0), (2, -1, 0)]
    for order_id, terms in ((4, {"orderType": "MKT"}), (5, {"orderType": "LMT", "lmtPrice": 9000.0})):
        order = ib_insync.Order(action="BUY", totalQuantity=1, tif="DAY", **terms)
        told = client.ask("placeOrder", order_id, contract, order)
        assert [(e[0], e[1], "expired" in e[2]) for e in named(told, "error")] == [(order_id, 201, True)]
        assert not named(told, "execDetails")


# the same market by different ways -----------------------------------------------------------------------------------

def test_bars_of_now_are_the_same_live_kept_up_and_asked_for_later():
    client = LibraryClient(ib_insync, memory_gateway(market="model", seed=5))
    stock, shows = CONTRACTS["stock"], ("TRADES", "MIDPOINT", "BID", "ASK")
    for n, show in enumerate(shows):
        client.ask("reqRealTimeBars", n, stock, 5, show, False, [])
    client.ask("reqTickByTickData", 9, stock, "AllLast", 0, False)
    heard = client.wait(63)
    for n, show in enumerate(shows):
        asked = client.ask("reqHistoricalData", 20 + n, stock, "", "50 S", "5 secs", show, False, 2, False, [])
        later = {int(bar.date): (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.barCount)
                 for _, bar in named(asked, "historicalData")[:-1]}
        live = {at: (*prices, volume, count) for _, at, *prices, volume, _, count in
                (c for c in named(heard, "realtimeBar") if c[0] == n)}
        if show != "TRADES":
            live = {at: bar[:4] for at, bar in live.items()}
            later = {at: bar[:4] for at, bar in later.items()}
        assert len(later) >= 8
        assert later == {at: live[at] for at in later}
        if show == "TRADES":
            prints = [c for c in named(heard, "tickByTickAllLast") if min(later) <= c[2] < max(later) + 5]
            assert sum(c[4] for c in prints) == sum(bar[4] for bar in later.values())
            assert max(c[3] for c in prints) == max(bar[1] for bar in later.values())


def test_a_new_high_or_low_of_the_day_is_told():
    client = LibraryClient(ib_insync, memory_gateway())
    client.ask("reqMktData", 1, CONTRACTS["stock"], "", False, False, [])
    told = []
    for price in (101, 99, 100, 101, 102):
        market(client, 265598, D(price), D("0.01"))
        told.append({t[1]: t[2] for t in named(client.heard(), "priceSizeTick") if t[1] in (6, 7, 9, 14)})
    assert told == [{6: 101}, {7: 99}, {}, {}, {6: 102}]


@pytest.mark.parametrize("permission", ["live", "delayed"])
def test_conflation_ends_with_the_last_state_before_the_close_and_says_no_quote_after_it(permission):
    gateway = memory_gateway(start="2013-10-07T19:59:59", always_open=False, conflate_ms=2000, data_delay_s=60,
                             data_permission=permission)
    client = LibraryClient(ib_insync, gateway)
    client.ask("reqMarketDataType", 3)
    client.ask("reqMktData", 1, CONTRACTS["stock"], "", False, False, [])
    heard = []
    for n in range(9):
        market(client, 265598, D(101 + n), D("0.01"))
        heard.append(client.wait(0.1))
    heard.append(client.wait(62))
    bid, last = (1, 4) if permission == "live" else (66, 68)
    told = [[t[2] for t in named([c for calls in heard for c in calls], "priceSizeTick") if t[1] == kind]
            for kind in (bid, last)]
    assert told == [[100.99, 108.99, -1], [101, 109]]


def test_rates_count_the_prints_that_conflation_leaves_out():
    client = LibraryClient(ib_insync, memory_gateway(conflate_ms=250))
    client.ask("reqMktData", 1, CONTRACTS["stock"], "294,295,595", False, False, [])
    heard = []
    for n in range(700):
        market(client, 265598, D(100 + n % 3), D("0.01"))
        heard += client.wait(0.1)
    heard += client.wait(1)
    rates = {c[0:3][1]: c[2] for name in ("tickGeneric", "tickSize") for c in named(heard, name)}
    assert (rates[55], rates[56], rates[63]) == (600, 60_000, 70_000)


@pytest.mark.parametrize(("day", "hours", "starts", "prints"), [
    ("2013-11-03", 8, "00 08 16", "9 8 8"), ("2013-11-03", 4, "00 04 08 12 16 20", "5 4 4 4 4 4"),
    ("2026-03-08", 8, "00 08 16", "7 8 8"), ("2026-03-08", 2, "00 03 04 06 08 10 12 14 16 18 20 22",
                                             "2 1 2 2 2 2 2 2 2 2 2 2")])
def test_long_bars_stand_on_the_wall_clock_when_it_is_changed(day, hours, starts, prints):
    gateway = memory_gateway(start=f"{day}T00:00", speed="3600", walk_interval=D(3600))
    contract = gateway.contracts.named("AAPL")
    now = START_NS
    begin = gateway.history.opened_s
    end = epoch(local(begin).date() + timedelta(days=1))
    while gateway.exchange_ns(now) < end * NS:
        now = gateway.advance(now)
    bars = gateway.history.bars(contract, "TRADES", (f"{hours} hours", hours * 3600), begin, end, False, True)
    assert " ".join(f"{local(bar.start_s):%H}" for bar in bars) == starts
    assert " ".join(str(bar.piece.trades) for bar in bars) == prints


def test_a_chain_is_on_its_grid_ordered_by_strike_and_leaves_no_arbitrage():
    gateway = memory_gateway(start="2026-01-05T10:00")
    contracts, stock = gateway.contracts, gateway.contracts.named("AAPL")
    chain = {}
    for option in contracts.find(ContractQuery(symbol="AAPL", sec_type="OPT")):
        quote = gateway.exchange.quote_of(option.con_id)
        chain.setdefault(option.expiry, {})[option.strike, option.right] = option, quote
    for price in map(D, ("100", "97.33", "112.5", "80")):
        gateway.set_quote(stock, START_NS, bid=price - D("0.01"), ask=price + D("0.01"), match=False)
        for row in chain.values():
            for (strike, right), (option, quote) in row.items():
                assert (quote.bid or 0) <= quote.last <= quote.ask
                assert all(contracts.on_grid(option, p) for p in (quote.bid, quote.ask, quote.last) if p is not None)
                if right == "C":
                    put = row[strike, "P"][1]
                    assert (quote.bid or 0) - put.ask <= price - strike <= quote.ask - (put.bid or 0)
            strikes = sorted({strike for strike, _ in row})
            for right, rising in (("P", strikes), ("C", strikes[::-1])):
                asks = [row[strike, right][1].ask for strike in rising]
                assert asks == sorted(asks)


@pytest.mark.parametrize("ticks", [True, False])
def test_the_journal_has_the_market_data_where_it_is_asked_for(ticks):
    def played() -> tuple[list[dict], list[tuple]]:
        gateway = memory_gateway(market="model", seed=3, journal_ticks=ticks)
        client = LibraryClient(ib_insync, gateway)
        client.ask("reqTickByTickData", 7, CONTRACTS["stock"], "AllLast", 0, False)
        heard = client.wait(20)
        return [line for line in gateway.journal.lines if line["msg"] == "data"], named(heard, "tickByTickAllLast")

    (lines, heard), (again, _) = played(), played()
    told = [line["fields"] for line in lines if line["fields"][:2] == ["99", "7"]]
    assert [(float(f[4]), int(f[3])) for f in told] == ([(c[3], c[2]) for c in heard] if ticks else [])
    assert len(heard) > 3
    assert lines == again


@pytest.mark.parametrize("kind", CONTRACTS)
def test_positions_portfolio_and_pnl_agree_with_one_another_and_after_a_restart(kind, tmp_path):
    state = str(tmp_path / "state")
    client = LibraryClient(ib_insync, memory_gateway(state=state))
    found = named(client.ask("reqContractDetails", 1, CONTRACTS[kind]), "contractDetails")[0][1].contract
    client.ask("reqPositions")
    for n, (action, quantity) in enumerate((("BUY", 3000), ("SELL", 5000), ("BUY", 700))):
        asked = ib_insync.Contract(conId=found.conId, exchange=found.exchange)
        order = ib_insync.Order(action=action, totalQuantity=quantity, orderType="MKT", tif="DAY")
        client.ask("placeOrder", 10 + n, asked, order)

    def seen(client: LibraryClient) -> tuple[object, ...]:
        now = [(c[2], c[3]) for c in named(client.ask("reqPositions"), "position")]
        held = [c[1:7] for c in named(client.ask("reqAccountUpdates", True, DEFAULT_ACCOUNT), "updatePortfolio")]
        single = named(client.ask("reqPnLSingle", 5, DEFAULT_ACCOUNT, "", found.conId), "pnlSingle")[0]
        total = named(client.ask("reqPnL", 6, DEFAULT_ACCOUNT, ""), "pnl")[0]
        ((quantity, price, value, cost, unrealized, realized),) = held
        assert now == [(quantity, cost)]
        assert quantity == -1300
        multiplier = float(found.multiplier or 1)
        assert value == pytest.approx(quantity * price * multiplier, abs=0.01)
        assert unrealized == pytest.approx(value - quantity * cost, abs=0.01)
        assert single[1:] == (quantity, *(pytest.approx(v, abs=0.011) for v in (
            unrealized + realized, unrealized, realized, value)))
        rate = price if kind == "yen" else 1
        assert total[1:] == tuple(pytest.approx(v / rate, abs=1e-3) for v in single[2:5])
        return tuple(now), tuple(held), single, total, amounts(client)

    before = seen(client)
    client.gateway.close()
    assert seen(LibraryClient(ib_insync, memory_gateway(state=state))) == before


def test_every_level_of_an_option_s_book_is_on_the_grid():
    gateway = memory_gateway()
    client = LibraryClient(ib_insync, gateway)
    market(client, 265598, D("103.5"), D("0.01"))
    option = named(client.ask("reqContractDetails", 1, ib_insync.Option("AAPL", "20251121", 105, "C", "SMART")),
                   "contractDetails")[0][1].contract
    told = client.ask("reqMktDepth", 2, option, 10, True, [])
    prices = [D(str(c[5])) for c in named(told, "updateMktDepthL2")]
    contract = gateway.contracts.get(option.conId)
    assert len(prices) == 20
    assert min(prices) < 3 < max(prices)
    assert all(gateway.contracts.on_grid(contract, price) for price in prices)
