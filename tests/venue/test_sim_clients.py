"""The real client libraries over a real loopback socket: ib_insync 0.9.86 and ib_async 2.1.0."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from decimal import Decimal

import ib_async
import ib_insync
import pytest

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.journal import cancels, executions, modifies, placements, select
from tests.venue.gateway_fixture import DEADLINE_S, client_of, gateway_server, run, until

pytestmark = pytest.mark.integration
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])


async def aapl(library, ib):
    contract = library.Stock("AAPL", "SMART", "USD")
    await ib.qualifyContractsAsync(contract)
    assert contract.conId == 265598
    return contract


def limit(library, action: str, quantity: int, price: float, ref: str, **more):
    return library.LimitOrder(action, quantity, price, orderRef=ref, tif="DAY", account="DU1000001", **more)


def market(server, price: str, bid: str | None = None, ask: str | None = None) -> None:
    """Move AAPL inside the running server."""
    gateway, now = server.gateway, server.now_ns()
    contract = gateway.contracts.named("AAPL")
    last = Decimal(price)
    gateway.set_quote(contract, now, bid=Decimal(bid or price), ask=Decimal(ask or price), match=False)
    gateway.trade(contract, Trade(last, Decimal(100), now), now)
    server.turn()


@both_libraries
def test_connecting_logs_nothing_and_waits_for_nothing(library, caplog):
    async def story():
        async with gateway_server() as server:
            with caplog.at_level(logging.WARNING):
                began = asyncio.get_running_loop().time()
                async with client_of(library, server) as ib:
                    took = asyncio.get_running_loop().time() - began  # DEADLINE_S if a snapshot has no end
                    assert ib.client.serverVersion() == 176
                    assert ib.managedAccounts() == ["DU1000001"]
                    assert ib.accountValues()
                    summary = await ib.accountSummaryAsync()
                    assert any(v.tag == "NetLiquidation" for v in summary)
                    assert (await ib.reqCurrentTimeAsync()).year >= 2025
        assert took < DEADLINE_S, "no snapshot of the connect sequence may time out"

    run(story)
    # The libraries log farm messages as warnings of their own; anything else is a fault of ours.
    bad = [r.getMessage() for r in caplog.records if not any(c in r.getMessage() for c in ("2104", "2106", "2158"))]
    assert bad == []


@pytest.mark.parametrize(("library", "version"), [(ib_insync, 157), (ib_async, 157), (ib_async, 178)])
def test_other_server_versions_connect_place_and_fill(library, version, caplog):
    async def story():
        async with gateway_server(server_version=version) as server:
            with caplog.at_level(logging.WARNING):
                async with client_of(library, server) as ib:
                    assert ib.client.serverVersion() == version
                    contract = await aapl(library, ib)
                    trade = ib.placeOrder(contract, limit(library, "BUY", 100, 101, "B1.entry"))
                    await until(lambda: trade.fills and trade.fills[0].commissionReport.commission, "the fill")
                    assert trade.orderStatus.status == "Filled"
                    assert len(await ib.reqCompletedOrdersAsync(False)) == 1
                    assert len(await ib.reqExecutionsAsync()) == 1

    run(story)
    assert not [r for r in caplog.records if r.exc_info], "the library has logged no exception"


@both_libraries
def test_place_partial_fill_modify_and_cancel(library):
    async def story():
        async with gateway_server() as server, client_of(library, server) as ib:
            contract = await aapl(library, ib)
            order = limit(library, "BUY", 100, 99, "B1.entry")
            trade = ib.placeOrder(contract, order)
            await until(lambda: trade.orderStatus.status == "Submitted", "the order to work")
            venue_order = server.gateway.exchange.matching("B1.entry")[0]
            server.gateway.deliver(server.gateway.exchange.fill(venue_order, Decimal(40), Decimal(99),
                                                                server.now_ns()), server.now_ns())
            server.turn()
            await until(lambda: trade.filled() == 40, "the partial fill")
            await until(lambda: trade.fills[0].commissionReport.commission == 1.0, "its commission")
            order.lmtPrice = 98
            ib.placeOrder(contract, order)
            await until(lambda: venue_order.lmt == 98, "the amendment")
            ib.cancelOrder(order)
            await until(lambda: trade.orderStatus.status == "Cancelled", "the cancel")
            assert [p.position for p in ib.positions()] == [40]
            lines = server.gateway.journal.lines
            assert len(placements(lines, "B1.entry")) == len(modifies(lines, "B1.entry")) == 1
            assert len(cancels(lines, "B1.entry")) == len(executions(lines, "B1.entry")) == 1

    run(story)


@both_libraries
def test_an_oca_pair_where_the_target_wins(library):
    async def story():
        async with gateway_server() as server, client_of(library, server) as ib:
            contract = await aapl(library, ib)
            ib.placeOrder(contract, limit(library, "BUY", 100, 101, "B1.entry"))
            target = ib.placeOrder(contract, limit(library, "SELL", 100, 110, "B1.target", ocaGroup="B1.g1", ocaType=2))
            stop_order = library.StopOrder("SELL", 100, 95, orderRef="B1.stop", tif="GTC", account="DU1000001",
                                           ocaGroup="B1.g1", ocaType=2)
            stop = ib.placeOrder(contract, stop_order)
            await until(lambda: stop.orderStatus.status == "PreSubmitted", "the stop to rest")
            assert stop.orderStatus.whyHeld == "trigger"
            heard = []
            ib.errorEvent += lambda req_id, code, *rest: heard.append((req_id, code))
            stop_order.auxPrice = 96
            ib.placeOrder(contract, stop_order)
            await until(lambda: (stop_order.orderId, 10326) in heard, "the refusal of an amendment")
            market(server, "110")
            await until(lambda: target.orderStatus.status == "Filled", "the target")
            await until(lambda: (stop_order.orderId, 202) in heard, "the stop's cancel")
            await until(lambda: not [p for p in ib.positions() if p.position], "a flat position")
            assert server.gateway.exchange.matching("B1.stop")[0].status == "Cancelled"

    run(story)


@both_libraries
def test_snapshots_after_a_reconnect_show_what_happened_meanwhile(library):
    async def story():
        async with gateway_server() as server:
            async with client_of(library, server) as ib:
                contract = await aapl(library, ib)
                resting = ib.placeOrder(contract, limit(library, "BUY", 100, 90, "rest"))
                meanwhile = ib.placeOrder(contract, limit(library, "BUY", 100, 99, "fills"))
                await until(lambda: meanwhile.orderStatus.status == "Submitted", "both orders to work")
                assert resting.order.permId
            await until(lambda: not server.gateway.by_client, "the disconnect")
            market(server, "99")
            async with client_of(library, server) as ib:
                assert [t.order.orderRef for t in ib.openTrades()] == ["rest"]
                assert [f.execution.orderRef for f in ib.fills()] == ["fills"]
                completed = await ib.reqCompletedOrdersAsync(False)
                assert [t.order.orderRef for t in completed] == ["fills"]
                assert completed[0].orderStatus.status == "Filled"
                assert ib.client.getReqId() > resting.order.orderId

    run(story)


@both_libraries
def test_a_second_connection_of_the_same_client_id_fails_and_the_first_lives(library):
    async def story():
        async with gateway_server() as server, client_of(library, server, 3) as first:
            second = library.IB()
            trying = asyncio.ensure_future(second.connectAsync("127.0.0.1", server.port, 3, timeout=DEADLINE_S))
            await until(lambda: 326 in [e["code"] for e in select(server.gateway.journal.lines, "error", "out")], "326")
            assert not trying.done() or trying.exception(), "it is not let in"
            await until(lambda: not second.client.isConnected(), "the client to see the close")
            with suppress(ConnectionError):      # ib_async raises it when the refusal came in mid handshake
                second.disconnect()
            trying.cancel()
            with pytest.raises((TimeoutError, ConnectionError, asyncio.CancelledError)):
                await trying
            assert (await first.reqCurrentTimeAsync()).year >= 2025

    run(story)


@both_libraries
def test_market_data_and_tick_by_tick_arrive(library):
    async def story():
        async with gateway_server() as server, client_of(library, server) as ib:
            contract = await aapl(library, ib)
            ticker = ib.reqMktData(contract)
            await until(lambda: ticker.last == 100 and ticker.bid == 99.99, "the opening prices")
            market(server, "101.5", "101.4", "101.6")
            await until(lambda: (ticker.last, ticker.bid, ticker.ask) == (101.5, 101.4, 101.6), "the new prices")
            assert ticker.halted == 0
            spy = library.Stock("SPY", "SMART", "USD")
            await ib.qualifyContractsAsync(spy)
            by_tick = ib.reqTickByTickData(spy, "BidAsk")
            await until(lambda: by_tick.bid == 167.99, "the tick-by-tick quote")
            ib.cancelMktData(contract)
            rule = await ib.reqMarketRuleAsync(26)
            assert [(p.lowEdge, p.increment) for p in rule] == [(0.0, 0.01)]
            details = await ib.reqContractDetailsAsync(contract)
            assert details[0].minTick == 0.01

    run(story)


@both_libraries
def test_five_hundred_orders_in_one_go_are_all_taken_in_order(library):
    async def story():
        async with gateway_server() as server, client_of(library, server) as ib:
            contract = await aapl(library, ib)
            trades = [ib.placeOrder(contract, limit(library, "BUY", 1, round(50 + n / 100, 2), f"many.{n}"))
                      for n in range(500)]
            await until(lambda: all(t.orderStatus.status == "Submitted" for t in trades), "500 acknowledgements")
            refs = [p["orderRef"] for p in placements(server.gateway.journal.lines)]
            assert refs == [f"many.{n}" for n in range(500)]
            ib.reqGlobalCancel()
            await until(lambda: not server.gateway.exchange.open_orders(), "the global cancel")

    run(story)


def test_a_library_s_copy_of_an_echoed_order_can_be_sent_again():
    async def story():
        async with gateway_server() as server:
            async with client_of(ib_insync, server) as ib:
                trade = ib.placeOrder(await aapl(ib_insync, ib), limit(ib_insync, "BUY", 100, 90, "echo"))
                await until(lambda: trade.orderStatus.status == "Submitted", "the order to work")
            await until(lambda: not server.gateway.by_client, "the disconnect")
            async with client_of(ib_insync, server) as ib:
                (again,) = ib.openTrades()
                assert again.order.deltaNeutralOrderType == "None", "the order object is the gateway's echo"
                again.order.lmtPrice = 91
                ib.placeOrder(again.contract, again.order)
                venue_order = server.gateway.exchange.matching("echo")[0]
                await until(lambda: float(venue_order.lmt) == 91, "the amendment")
                assert not select(server.gateway.journal.lines, "bad_bytes")

    run(story)
