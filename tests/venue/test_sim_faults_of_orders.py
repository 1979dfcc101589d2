"""Faults of what is told of orders (ib-wire.md 14), shown to the real ib_insync: what it saw, what the journal says."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from actors.venue.simulator.journal import cancels, executions, final_orders, select
from tests.venue.fault_stage import ACCOUNT, Stage, Stories, play
from tests.venue.gateway_fixture import until

pytestmark = pytest.mark.integration
STORIES = Stories()
story = STORIES.tell


@story("dup_status:n=3,ref=one")
async def every_status_comes_three_times(s: Stage):
    trade = await s.working()
    await s.calm()
    told = s.said(3, order_id=trade.order.orderId)
    assert told == ["3 PreSubmitted"] * 3 + ["3 Submitted"] * 3
    assert [e.status for e in trade.log] == ["PendingSubmit", "PreSubmitted", "Submitted"], "the library is not moved"
    other = await s.working("two")
    await s.calm()
    assert s.said(3, order_id=other.order.orderId) == ["3 PreSubmitted", "3 Submitted"], "the aim is one order"
    assert {line["orderRef"] for line in s.acted("dup_status")} == {"one"}


@story("status_before_openorder")
async def the_status_comes_before_its_open_order(s: Stage):
    trade = await s.working()
    assert s.said(order_id=trade.order.orderId) == ["3 PreSubmitted", "5 PreSubmitted", "3 Submitted", "5 Submitted"]


@story("fill_before_ack:hold=5")
async def an_execution_comes_before_anything_else_of_its_order(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    await s.calm()
    told = s.said(3, 5, 11, order_id=trade.order.orderId)
    assert told[0] == "11"
    assert told[1:3] == ["5 PreSubmitted", "3 PreSubmitted"], "the acknowledgement comes after it"
    assert told[-2:] == ["5 Filled", "3 Filled"]
    assert trade.filled() == 100


@story("fill_before_ack:hold=0.5")
async def an_order_that_does_not_fill_is_acknowledged_late(s: Stage):
    trade = s.place()
    await until(lambda: s.order() is not None, "the order at the exchange")
    assert not s.said(3, 5, order_id=trade.order.orderId)
    await until(lambda: trade.orderStatus.status == "Submitted", "the late acknowledgement")
    assert s.said(order_id=trade.order.orderId) == ["5 PreSubmitted", "3 PreSubmitted", "5 Submitted", "3 Submitted"]


@story("late_execution:dt=0.03")
async def the_status_says_filled_before_the_execution_comes(s: Stage):
    trade = s.place(price=101)
    await until(lambda: "59" in s.said(), "the late execution and its commission")
    assert [w for w in s.said() if w in ("11", "3 Filled", "59")] == ["3 Filled", "11", "59"]
    assert trade.filled() == 100


@story("no_filled_status")
async def only_the_execution_tells_a_complete_fill(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.fills and trade.fills[0].commissionReport.execId, "execution and commission")
    await s.calm()
    assert "3 Filled" not in s.said()
    assert "5 Filled" not in s.said()
    assert trade.isActive(), "the library believes that it works"
    assert trade.filled() == 100
    assert final_orders(s.lines)["one"]["status"] == "Filled"


@story("late_commission:dt=never")
async def the_commission_never_comes(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    await s.calm()
    assert "59" not in s.said()
    assert trade.fills[0].commissionReport.commission == 0
    assert executions(s.lines)[0]["commission"] == "1"
    await s.ib.reqExecutionsAsync()
    assert trade.fills[0].commissionReport.commission == 1.0, "a snapshot brings it"


@story("late_commission:dt=0.03")
async def the_commission_comes_late(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    assert "59" not in s.said()
    await until(lambda: trade.fills[0].commissionReport.commission == 1.0, "the late commission")


@story("exec_correction:dt=0.02,ticks=-2")
async def a_correction_makes_the_library_count_twice(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.filled() == 200, "the correction, which ib_insync adds up")
    first, second = (f.execution for f in trade.fills)
    assert first.execId.rpartition(".")[0] == second.execId.rpartition(".")[0]
    assert (first.execId[-3:], second.execId[-3:]) == (".01", ".02")
    assert (D(str(second.price)), second.shares, second.cumQty) == (D(str(first.price)) - D("0.02"), 100, 100)
    held = s.server.gateway.exchange.accounts
    assert s.order().filled == 100
    assert held.cash[ACCOUNT] == -100 * D(str(second.price)) - 1
    assert select(s.lines, "execution_corrected")[0]["execId"] == second.execId
    assert [e.exec_id for e in s.server.gateway.exchange.executions] == [second.execId]


@story("dup_exec_same_id:n=3")
async def the_same_execution_three_times_is_one_fill(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    await s.calm()
    assert s.said().count("11") == 3
    assert trade.filled() == 100
    assert len(executions(s.lines)) == 1


@story("error_then_live:code=201")
async def an_error_makes_the_library_cancel_an_order_that_lives_and_fills(s: Stage):
    trade = s.place()
    ended = []
    trade.cancelledEvent += lambda t: ended.append(t)
    await until(lambda: ended, "the library's own cancel")
    await s.calm()
    assert s.order().status == "Submitted"
    s.fill()
    await until(lambda: trade.orderStatus.status == "Filled", "the order to come back to life")
    assert trade.filled() == 100


@story("position_lag:dt=0.05")
async def the_position_follows_the_fill_late(s: Stage):
    trade = s.place(price=101)
    await until(lambda: trade.orderStatus.status == "Filled", "the fill")
    await s.calm()
    assert s.ib.positions() == []
    await until(lambda: [p.position for p in s.ib.positions()] == [100], "the late position")


def rejected(style: str, told: list[str]):
    async def tell(s: Stage):
        trade = s.place("bad", price=101)
        await until(lambda: final_orders(s.lines).get("bad"), "the rejection")
        await s.calm()
        assert s.said(order_id=trade.order.orderId) == told
        assert final_orders(s.lines)["bad"]["status"] == "Inactive"
        assert executions(s.lines) == []
        assert trade.orderStatus.status == ("Inactive" if told[-1] == "3 Inactive" else "Cancelled")
        good = await s.working("good")
        assert good.isActive()

    tell.__name__ = f"a_rejection_is_told_as_{style}"
    story(f"reject_style:style={style},ref=bad")(tell)


rejected("201_only", ["4 201"])
rejected("inactive_only", ["5 Inactive", "3 Inactive"])
rejected("201_first", ["4 201", "5 Inactive", "3 Inactive"])
rejected("inactive_first", ["5 Inactive", "3 Inactive", "4 201"])


@story("cancel_race")
async def a_fill_wins_against_a_cancel(s: Stage):
    trade = await s.working()
    s.ib.cancelOrder(trade.order)
    await until(lambda: 161 in s.codes(), "the end of the race")
    told = s.said()[4:]
    assert told == ["3 PendingCancel", "11", "5 Filled", "3 Filled", "59", "4 161"]
    assert trade.filled() == 100
    assert final_orders(s.lines)["one"]["status"] == "Filled"
    assert len(cancels(s.lines, "one")) == 1


@story("cancel_race:winner=partial,quantity=30")
async def a_part_fills_before_the_cancel(s: Stage):
    trade = await s.working()
    s.ib.cancelOrder(trade.order)
    await until(lambda: trade.orderStatus.status == "Cancelled", "the cancel")
    assert trade.filled() == 30
    last = final_orders(s.lines)["one"]
    assert (last["status"], last["filled"], last["remaining"]) == ("Cancelled", "30", "70")


@story("unsolicited_cancel:message=placeOrder,after=2,wait=0.02")
async def the_venue_cancels_the_second_order_unasked(s: Stage):
    one, two = await s.working("one"), await s.working("two")
    await until(lambda: two.orderStatus.status == "Cancelled", "the venue's cancel")
    assert one.orderStatus.status == "Submitted"
    assert cancels(s.lines) == []
    assert 202 in s.codes()


@story("permid_over_2^31:ref=big")
async def a_perm_id_may_need_more_than_31_bits(s: Stage):
    small, big, next_ = await s.working("small"), await s.working("big"), await s.working("next")
    assert small.order.permId < 2**31 < big.order.permId
    assert next_.order.permId < 2**31
    assert len({small.order.permId, big.order.permId, next_.order.permId}) == 3


@story("other_client_fill:quantity=70,price=99.5")
async def an_execution_of_somebody_else_is_kept_without_an_event(s: Stage):
    events = []
    s.ib.execDetailsEvent += lambda trade, fill: events.append(fill)
    await until(lambda: s.ib.fills(), "the stranger's execution")
    await s.calm()
    (fill,) = s.ib.fills()
    assert (fill.execution.shares, fill.execution.price, fill.execution.clientId) == (70, 99.5, 999)
    assert events == []
    assert s.ib.trades() == []
    assert [p.position for p in s.ib.positions()] == [70]
    assert len(executions(s.lines)) == 1


@story("manual_order:quantity=50", "manual_order:limit=80,quantity=10")
async def a_person_trades_in_tws(s: Stage):
    await until(lambda: [p.position for p in s.ib.positions()] == [50], "the position that a person made")
    assert s.ib.trades() == [], "client 1 is not told of it"
    (filled,) = executions(s.lines)
    assert filled["client"] == 0
    assert len(s.server.gateway.exchange.open_orders()) == 1
    shown = await s.ib.reqAllOpenOrdersAsync()
    assert [(t.order.clientId, t.order.lmtPrice) for t in shown] == [(0, 80.0)]


@pytest.mark.parametrize(("tell", "faults", "kinds", "early", "connected"), STORIES.told)
def test_a_fault_of_orders(tell, faults, kinds, early, connected):
    play(tell, faults, kinds, early, connected)
