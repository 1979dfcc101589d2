"""Faults of connections and messages (ib-wire.md 11 and 14), shown to the real ib_insync over a socket."""

from __future__ import annotations

import asyncio
import logging

import ib_insync
import pytest

from actors.venue.simulator.faults.kinds import KINDS
from actors.venue.simulator.journal import cancels, executions, final_orders, placements, select
from tests.venue import test_sim_faults_of_orders
from tests.venue.fault_stage import ACCOUNT, Stage, Stories, play
from tests.venue.gateway_fixture import until

pytestmark = pytest.mark.integration
STORIES = Stories()
story = STORIES.tell


def dropped(order: str, how: str):
    async def tell(s: Stage):
        await s.working("one")
        await s.working("two")
        three = s.place("three")
        await s.gone()
        assert three.orderStatus.status == "PendingSubmit", "the library cannot know"
        assert not s.said(order_id=three.order.orderId), "nothing of it was told"
        arrived = [p["orderRef"] for p in placements(s.lines)]
        assert arrived == ["one", "two", "three"][:3 if order == "reached" else 2]
        await s.connect()
        assert sorted(t.order.orderRef for t in s.ib.openTrades()) == sorted(arrived)
        assert (await s.working("four")).order.orderId > three.order.orderId - (order == "lost")

    tell.__name__ = f"the_link_drops_after_the_third_order_{order}_{how}"
    story(f"drop_before_ack:order={order},how={how},after=3,message=placeOrder")(tell)


dropped("reached", "close")
dropped("lost", "close")
dropped("reached", "reset")


def cancel_dropped(cancel: str, status: str):
    async def tell(s: Stage):
        trade = await s.working()
        s.ib.cancelOrder(trade.order)
        await s.gone()
        assert final_orders(s.lines)["one"]["status"] == status
        assert len(cancels(s.lines)) == (cancel == "reached")
        await s.connect()
        assert len(s.ib.openTrades()) == (cancel == "lost")

    tell.__name__ = f"the_link_drops_on_a_cancel_{cancel}"
    story(f"drop_on_cancel:cancel={cancel}")(tell)


cancel_dropped("reached", "Cancelled")
cancel_dropped("lost", "Submitted")


def half(deaf: str):
    async def tell(s: Stage):
        await s.working("before")
        s.fault(f"half_open:deaf={deaf},client=1")
        before = len(s.heard)
        trade = s.place("inside")
        asked = asyncio.ensure_future(s.ib.reqCurrentTimeAsync())
        if deaf == "client":
            await until(lambda: s.order("inside"), "the order, which does arrive")
        else:
            s.market("101")
            assert (await asyncio.wait({asked}, timeout=0.05))[1], "nothing answers"
            assert s.order("inside") is None
        assert not asked.done()
        assert s.ib.isConnected(), "the socket is open"
        assert len(s.heard) == before
        assert trade.orderStatus.status == "PendingSubmit"
        asked.cancel()
        s.ib.disconnect()
        await until(lambda: not s.server.gateway.by_client, "the id to be free")
        await s.connect()
        assert ("inside" in [t.order.orderRef for t in s.ib.openTrades()]) == (deaf == "client")

    tell.__name__ = f"a_half_open_socket_where_{deaf}_hears_nothing"
    story(kind="half_open")(tell)


@story("half_open:dt=0.05")
async def a_half_open_socket_breaks_at_last(s: Stage):
    await s.gone()
    await s.connect()
    await s.calm()


@story("close_mid_frame:message=execDetails")
async def the_connection_breaks_in_the_middle_of_an_execution(s: Stage):
    trade = s.place(price=101)
    await s.gone()
    assert "11" not in s.said(order_id=trade.order.orderId)
    assert "3 PreSubmitted" in s.said(order_id=trade.order.orderId), "what was said before the cut was heard"
    assert trade.filled() == 0
    await s.connect()
    assert [f.execution.shares for f in s.ib.fills()] == [100], "the snapshot tells it"


@story("split_frames:size=1", early=True)
async def bytes_that_come_one_by_one_are_understood(s: Stage):
    await s.working()
    assert sum(s.pieces) > 3000
    assert s.pieces.count(1) > len(s.pieces) * 0.9
    assert s.acted("split_frames")


@story("coalesce_frames:dt=0.03")
async def frames_are_gathered_into_one_write(s: Stage):
    await s.calm()
    before = len(s.pieces)
    trades = [s.place(f"many.{n}") for n in range(5)]
    await until(lambda: all(t.orderStatus.status == "Submitted" for t in trades), "five orders")
    assert len(s.pieces) - before == 1, "twenty messages in one segment"


ENDS = {53: lambda ib: ib.reqOpenOrdersAsync(), 54: lambda ib: ib.reqAccountUpdatesAsync(ACCOUNT),
        55: lambda ib: ib.reqExecutionsAsync(), 62: lambda ib: ib.reqPositionsAsync(),
        74: lambda ib: ib.reqAccountUpdatesMultiAsync(ACCOUNT), 102: lambda ib: ib.reqCompletedOrdersAsync(False)}


def missing(end: int):
    async def tell(s: Stage):
        s.fault(f"missing_end:end={end}")
        before = len(s.heard)
        asked = asyncio.ensure_future(ENDS[end](s.ib))
        await s.calm()
        assert not asked.done(), "answered, and never ended"
        assert str(end) not in [f[0] for f in s.heard[before:]]
        asked.cancel()

    tell.__name__ = f"the_end_{end}_never_comes"
    story(kind="missing_end")(tell)


for each in ENDS:
    missing(each)


@story("missing_end:end=102", early=True, connected=False)
async def a_missing_end_is_only_logged_by_a_connect(s: Stage):
    with pytest.MonkeyPatch.context() as patch:
        logged = []
        patch.setattr(logging.getLogger("ib_insync.ib"), "error", lambda text, *a: logged.append(text))
        s.ib = ib_insync.IB()
        await s.ib.connectAsync("127.0.0.1", s.server.port, clientId=1, timeout=1)
        assert s.ib.isConnected()
        assert any("completed orders request timed out" in text for text in logged)


@story("slow_end:end=53,dt=0.05")
async def an_end_comes_late(s: Stage):
    with s.standing():
        asked = asyncio.ensure_future(s.ib.reqOpenOrdersAsync())
        await s.calm()
        assert not asked.done()
    assert await asyncio.wait_for(asked, 10) == []


@story("clientid_linger:dt=0.3")
async def a_client_id_stays_taken_for_a_while(s: Stage):
    with s.standing():
        s.ib.disconnect()
        await until(lambda: not s.server.gateway.by_client, "the disconnect")
        with pytest.raises((TimeoutError, ConnectionError, asyncio.CancelledError)):
            await s.connect(timeout=0.2)
        s.ib.disconnect()
    assert 326 in [line["code"] for line in select(s.lines, "error", "out")]
    await until(lambda: not s.server.gateway.faults.lingers(1, s.server.now_ns()), "the id to be free")
    await s.connect()
    await s.calm()


@story("nextid_rollback:n=5")
async def ids_are_handed_out_again(s: Stage):
    trade = await s.working()
    assert trade.order.orderId > 1
    s.ib.disconnect()
    await until(lambda: not s.server.gateway.by_client, "the disconnect")
    await s.connect()
    told = select(s.lines, "nextValidId", "out")[-1]["orderId"]
    assert told == max(1, trade.order.orderId + 1 - 5)


@story(kind="farm_flap")
async def a_farm_breaks_and_mends_while_the_socket_lives(s: Stage):
    ticker = s.ib.reqMktData(s.aapl)
    with s.standing():
        s.fault("farm_flap:farm=data,dt=0.02")
        await until(lambda: 2103 in s.codes(), "the broken farm")
        s.market("103")
        await s.calm()
    assert ticker.last != 103, "no prices while it is down"
    await until(lambda: s.codes()[-1] == 2104, "the farm to be back")
    s.market("104")
    await until(lambda: ticker.last == 104, "prices again")
    assert s.ib.isConnected()


def link(restored: int):
    async def tell(s: Stage):
        ticker = s.ib.reqMktData(s.aapl)
        await until(lambda: ticker.last == 100, "the first price")
        target = await s.working("B1.target", action="SELL", price=110)
        stay = await s.working("stay")
        with s.standing() as forward:
            s.fault(f"link:dt=0.1,restored={restored},fills=*.target,orders=kept")
            await until(lambda: 1100 in s.codes(), "the loss")
            inside = s.place("inside", price=80)
            s.ib.cancelOrder(stay.order)
            s.market("105")
            forward(0.06)
            await until(lambda: executions(s.lines), "the fill that nobody hears of")
            shown = await s.ib.reqOpenOrdersAsync()
            assert sorted(t.order.orderRef for t in shown if t.order.orderRef != "inside") == ["B1.target", "stay"], \
                "the gateway tells what it knew"
            assert await s.ib.reqExecutionsAsync() == []
            assert target.orderStatus.status == "Submitted"
            assert ticker.last == 100
            assert inside.orderStatus.status == "PendingSubmit"
        await until(lambda: restored in s.codes(), "the link to be back")
        await until(lambda: inside.orderStatus.status == "Submitted", "the order that was kept")
        await until(lambda: stay.orderStatus.status == "Cancelled", "the cancel that was kept")
        assert target.orderStatus.status == "Submitted", "what was missed is not told later"
        assert [f.execution.orderRef for f in await s.ib.reqExecutionsAsync()] == ["B1.target"], "but it can be asked"
        s.market("106")
        await s.calm()
        assert (ticker.last == 106) == (restored == 1102), "with 1101 every subscription is gone"

    tell.__name__ = f"the_link_to_ib_is_lost_and_back_with_{restored}"
    story(kind="link")(tell)


@story(kind="link")
async def orders_are_lost_where_they_are_not_kept(s: Stage):
    with s.standing():
        s.fault("link:dt=0.02,lost=2110,orders=lost")
        await until(lambda: 2110 in s.codes(), "the loss")
        trade = s.place("gone")
        await s.calm()
    await until(lambda: 1102 in s.codes(), "the restore")
    await s.calm()
    assert s.order("gone") is None
    assert trade.orderStatus.status == "PendingSubmit"
    assert select(s.lines, "lost_with_link")[0]["orderRef"] == "gone"
    assert len(placements(s.lines, "gone")) == 1, "it did reach the gateway"


@story("restart:dt=0.2,warn=true,message=placeOrder,ref=last", connected=False)
async def a_restart_closes_the_port_and_orders_outlive_it(s: Stage):
    await s.connect()
    await s.working("stays")
    s.place("held", transmit=False)
    s.place("last")
    await s.gone()
    assert 1300 in s.codes()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", s.server.port)
    await until(lambda: select(s.lines, "gateway_restarted"), "the restart")
    await until(lambda: s.server._server is not None, "the port to be open")
    await s.connect()
    assert sorted(t.order.orderRef for t in s.ib.openTrades()) == ["last", "stays"]
    assert s.order("held") is None, "what was not transmitted is gone"


@story("restart:dt=0,persist=gtc,rollback=2,message=reqIds", connected=False)
async def a_night_takes_day_orders_and_rolls_ids_back(s: Stage):
    await s.connect()
    await s.working("day")
    order = ib_insync.LimitOrder("BUY", 1, 90, orderRef="gtc", tif="GTC", account=ACCOUNT)
    trade = s.ib.placeOrder(s.aapl, order)
    await until(lambda: trade.orderStatus.status == "Submitted", "the GTC order")
    s.ib.client.reqIds(1)
    await s.gone()
    await s.connect()
    assert [t.order.orderRef for t in s.ib.openTrades()] == ["gtc"]
    assert select(s.lines, "nextValidId", "out")[-1]["orderId"] == trade.order.orderId + 1 - 2


# messages ---------------------------------------------------------------------------------------------------------

@story("price_neg1:message=tickPrice,times=3")
async def a_price_of_minus_one_is_no_price(s: Stage):
    ticker = s.ib.reqMktData(s.aapl)
    await until(lambda: ticker.bid == -1 and ticker.ask == -1 and ticker.last == -1, "no prices")
    assert ticker.bidSize == ticker.askSize == 0
    s.market("102")
    await until(lambda: (ticker.bid, ticker.last) == (102, 102), "prices again")


@story("pacing_error_100:times=3,message=reqCurrentTime")
async def the_third_error_100_disconnects(s: Stage):
    for _ in range(3):
        s.ib.client.reqCurrentTime()
    await s.gone()
    assert s.codes().count(100) == 3


@story("unknown_message_id:message=orderStatus")
async def an_unknown_message_is_passed_over(s: Stage):
    trade = await s.working()
    assert "199" in [f[0] for f in s.heard]
    assert trade.isActive()


@story("trailing_extra_field:message=execDetails,ref=odd")
async def a_field_too_many_costs_ib_insync_the_execution(s: Stage):
    trade = s.place("odd", price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    await s.calm()
    assert [f[-1] for f in s.heard if f[0] == "11"] == ["extra"]
    assert trade.fills == [], "it could not read it, and lives on"
    even = s.place("even", price=101)
    await until(lambda: even.filled() == 100, "an execution as it should be")


for deaf_ in ("both", "gateway", "client"):
    half(deaf_)
for restored_ in (1101, 1102):
    link(restored_)


@pytest.mark.parametrize(("tell", "faults", "kinds", "early", "connected"), STORIES.told)
def test_a_fault_of_connections(tell, faults, kinds, early, connected):
    play(tell, faults, kinds, early, connected)


def test_every_fault_has_its_story():
    assert STORIES.kinds | test_sim_faults_of_orders.STORIES.kinds == set(KINDS)
