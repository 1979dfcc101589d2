"""The pure exchange: every order type and side, time in force, modify, cancel, brackets and positions."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import StatusReport
from tests.venue.gateway_fixture import NS, Venue, words

pytestmark = pytest.mark.unit


def price_of(order: Order) -> D:
    return order.avg_price


# type, side, prices, market before, market at which it must trade, expected fill price
FILLS = [
    ("MKT", "BUY", {}, 100, None, "100.01"),
    ("MKT", "SELL", {}, 100, None, "99.99"),
    ("LMT", "BUY", {"lmt": 101}, 100, None, "100.01"),         # marketable: takes the touch
    ("LMT", "SELL", {"lmt": 99}, 100, None, "99.99"),
    ("LMT", "BUY", {"lmt": 99}, 100, 99, "99"),                # resting: its own price
    ("LMT", "SELL", {"lmt": 101}, 100, 101, "101"),
    ("LMT", "BUY", {"lmt": 99}, 100, 95, "99"),                # a gap through a resting limit
    ("LMT", "SELL", {"lmt": 101}, 100, 105, "101"),
    ("STP", "BUY", {"aux": 102}, 100, 102, "102.01"),
    ("STP", "SELL", {"aux": 98}, 100, 98, "97.99"),
    ("STP", "BUY", {"aux": 102}, 100, 110, "110.01"),          # a gap through a stop takes what is there
    ("STP", "SELL", {"aux": 98}, 100, 90, "89.99"),
    ("STP", "SELL", {"aux": 101}, 100, None, "99.99"),         # already through when it arrives
    ("STP LMT", "BUY", {"aux": 102, "lmt": 103}, 100, 102, "102.01"),
    ("STP LMT", "SELL", {"aux": 98, "lmt": 97}, 100, 98, "97.99"),
    ("TRAIL", "SELL", {"aux": 2}, 100, 98, "97.99"),
    ("TRAIL", "BUY", {"aux": 2}, 100, 102, "102.01"),
]


@pytest.mark.parametrize(("order_type", "side", "prices", "before", "then", "fill"), FILLS)
def test_every_type_and_side_trades_where_it_should(order_type, side, prices, before, then, fill):
    venue = Venue()
    venue.trade(before)
    order = venue.place(side, 100, order_type, **prices)
    if then is not None:
        assert order.filled == 0
        assert order.alive
        venue.trade(then)
    assert order.status == "Filled"
    assert order.filled == 100
    assert price_of(order) == D(fill)
    assert venue.position() == (100 if side == "BUY" else -100)


UNTOUCHED = [
    ("LMT", "BUY", {"lmt": 99}, "99.01"),
    ("LMT", "SELL", {"lmt": 101}, "100.99"),
    ("STP", "BUY", {"aux": 102}, "101.99"),
    ("STP", "SELL", {"aux": 98}, "98.01"),
    ("STP LMT", "SELL", {"aux": 98, "lmt": 97}, "98.01"),
    ("TRAIL", "SELL", {"aux": 2}, "98.01"),
]


@pytest.mark.parametrize(("order_type", "side", "prices", "then"), UNTOUCHED)
def test_one_cent_before_its_price_nothing_trades(order_type, side, prices, then):
    venue = Venue()
    venue.trade(100)
    order = venue.place(side, 100, order_type, **prices)
    venue.trade(then, bid=then, ask=then)
    assert order.filled == 0
    assert order.alive


def test_a_stop_limit_that_gaps_rests_at_its_limit_and_trades_when_the_market_returns():
    venue = Venue()
    venue.trade(100)
    order = venue.place("SELL", 100, "STP LMT", aux=98, lmt=97)
    venue.trade(90)
    assert order.triggered
    assert order.status == "Submitted"
    assert order.filled == 0
    venue.trade(97, bid=97)
    assert order.avg_price == 97


def test_a_trail_follows_the_best_price_and_never_loosens():
    venue = Venue()
    venue.trade(100)
    order = venue.place("SELL", 100, "TRAIL", aux=1)
    stops = []
    for price in ("100.5", "100.2", "103", "102.5"):
        venue.trade(price)
        stops.append(order.trail_stop)
    assert stops == [D("99.5"), D("99.5"), D(102), D(102)]
    venue.trade("101.90")
    assert order.avg_price == D("101.89")


def test_a_percent_trail_is_kept_below_the_best_price():
    venue = Venue()
    venue.trade(100)
    order = venue.place("SELL", 100, "TRAIL", trail_percent=D(10))
    venue.trade(200)
    assert order.trail_stop == 180


def test_stops_trigger_on_last_and_not_on_bid_or_ask():
    venue = Venue()
    venue.trade(100)
    order = venue.place("SELL", 100, "STP", aux=98)
    venue.trade(100, bid=97, ask=101)
    assert order.filled == 0
    by_bid = venue.place("SELL", 100, "STP", aux=98, trigger_method=4)
    assert by_bid.filled == 100


# sequences of ib-wire.md 6.1 ---------------------------------------------------------------------------------------

def test_a_resting_limit_is_presubmitted_then_submitted():
    venue = Venue()
    venue.trade(100)
    assert words(venue.exchange.place(venue.order("BUY", lmt=99), 0)) == [
        "5 PreSubmitted", "3 PreSubmitted", "5 Submitted", "3 Submitted"]


def test_a_fill_is_execution_open_status_commission():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.fill(order, 40, 99)) == ["11", "5 Submitted", "3 Submitted", "59"]
    assert (order.filled, order.remaining) == (40, 60)
    assert words(venue.fill(order, 60, 99)) == ["11", "5 Filled", "3 Filled", "59"]


def test_a_stop_rests_presubmitted_and_held_by_its_trigger():
    venue = Venue()
    venue.trade(100)
    reports = venue.exchange.place(venue.order("SELL", order_type="STP", aux=95), 0)
    assert words(reports) == ["5 PreSubmitted", "3 PreSubmitted"]
    assert reports[0].order.why_held == "trigger"


def test_a_cancel_is_pending_then_cancelled_then_202():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.cancel(order)) == ["3 PendingCancel", "3 Cancelled", "4 202"]
    assert order.status == "Cancelled"


def test_a_report_keeps_the_state_of_its_moment():
    venue = Venue()
    venue.trade(100)
    venue.place("BUY", lmt=101)
    statuses = [r.order.status for r in venue.heard if isinstance(r, StatusReport)]
    assert statuses == ["PreSubmitted", "Filled"]


# time in force -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tif", ["IOC", "FOK"])
def test_immediate_orders_that_cannot_trade_are_cancelled_at_once(tif):
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99, tif=tif)
    assert order.status == "Cancelled"
    assert venue.position() == 0


def test_ioc_keeps_what_it_got_and_fok_takes_all_or_nothing():
    venue = Venue(liquidity="displayed")
    venue.trade(100, ask_size=40)
    ioc = venue.place("BUY", lmt=101, tif="IOC")
    assert (ioc.status, ioc.filled) == ("Cancelled", 40)
    venue.trade(100, ask_size=40)
    fok = venue.place("BUY", lmt=101, tif="FOK")
    assert (fok.status, fok.filled) == ("Cancelled", 0)
    small = venue.place("BUY", 30, lmt=101, tif="FOK")
    assert small.status == "Filled"


def test_displayed_size_limits_each_fill():
    venue = Venue(liquidity="displayed")
    venue.trade(100, ask_size=40)
    order = venue.place("BUY", lmt=101)
    assert order.filled == 40
    venue.trade(100, ask_size=35)
    assert order.filled == 75
    venue.trade(100, ask_size=500)
    assert order.status == "Filled"


def test_gtd_ends_at_its_time_on_the_exchange_clock():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99, tif="GTD", good_till_date="20251009-09:00:00")
    due = venue.exchange.next_expiry_ns()
    assert due == venue.now + 400 * NS
    assert venue.exchange.expire(due - 1) == []
    assert words(venue.exchange.expire(due)) == ["3 Cancelled", "4 202"]
    assert order.done_text == "Expired"
    assert venue.exchange.next_expiry_ns() is None


@pytest.mark.parametrize(("outside_rth", "hours_later"), [(False, 20 * 3600), (True, 24 * 3600)])
def test_day_orders_end_at_the_close_and_gtc_orders_do_not(outside_rth, hours_later):
    venue = Venue(day_expiry=True)
    venue.now = 1_759_968_000 * NS                  # 2025-10-08 20:00 New York
    venue.trade(100)
    day = venue.place("BUY", lmt=99, tif="DAY", outside_rth=outside_rth)
    gtc = venue.place("BUY", lmt=99, tif="GTC")
    assert venue.exchange.next_expiry_ns() == venue.now + hours_later * NS
    venue.exchange.expire(venue.now + hours_later * NS)
    assert (day.status, gtc.status) == ("Cancelled", "Submitted")


# refusals ----------------------------------------------------------------------------------------------------------

REFUSED = [
    ({"lmt": "99.005"}, 110),
    ({"lmt": None}, 321),
    ({"lmt": -1}, 201),
    ({"lmt": 99, "quantity": 0}, 434),
    ({"lmt": 99, "quantity": "1.5"}, 10318),
    ({"lmt": 99, "action": "SSHORT"}, 321),
    ({"lmt": 99, "order_type": "PEG MID"}, 201),
    ({"lmt": 99, "tif": "OPG"}, 321),
    ({"aux": 99, "order_type": "STP", "tif": "IOC"}, 111),
    ({"order_type": "STP"}, 321),
    ({"order_type": "TRAIL"}, 321),
    ({"lmt": 99, "tif": "GTD", "good_till_date": "tomorrow"}, 391),
    ({"lmt": 99, "tif": "GTD", "good_till_date": "20200101-00:00:00"}, 391),
    ({"lmt": 99, "parent_id": 77}, 10006),
    ({"lmt": 99, "oca_group": "g", "oca_type": 4}, 321),
    ({"aux": 99, "order_type": "STP", "trigger_method": 9}, 321),
]


@pytest.mark.parametrize(("fields", "code"), REFUSED)
def test_what_is_wrong_is_refused_and_never_works(fields, code):
    venue = Venue()
    venue.trade(100)
    order = venue.place(**fields)
    assert f"4 {code}" in words(venue.heard)
    assert not venue.exchange.open_orders()
    venue.trade(50)
    assert order.filled == 0


def test_active_orders_are_capped_per_side_where_the_switch_says_so():
    venue = Venue(active_order_cap=2)
    venue.trade(100)
    buys = [venue.place("BUY", lmt=99) for _ in range(3)]
    assert [o.status for o in buys] == ["Submitted", "Submitted", "Inactive"]
    assert venue.place("SELL", lmt=110).status == "Submitted"
    venue.cancel(buys[0])
    assert venue.place("BUY", lmt=99).status == "Submitted"


def test_an_id_not_above_the_last_is_a_duplicate():
    venue = Venue()
    venue.trade(100)
    venue.place("BUY", lmt=99, order_id=10)
    venue.place("BUY", lmt=99, order_id=9)
    venue.place("BUY", lmt=99, order_id=9, client_id=2)
    assert words(venue.heard).count("4 103") == 1
    assert len(venue.exchange.open_orders()) == 2


def test_an_empty_tif_becomes_day_with_a_warning_and_the_order_lives():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99, tif="")
    assert "4 10349" in words(venue.heard)
    assert order.tif == "DAY"
    assert order.status == "Submitted"


# modify and cancel -------------------------------------------------------------------------------------------------

def test_a_modify_keeps_the_permanent_id_and_what_was_filled():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.fill(order, 40, 99)
    perm_id = order.perm_id
    reports = venue.exchange.place(venue.order(lmt=98, quantity=80, order_id=order.order_id), venue.now)
    assert words(reports) == ["5 Submitted", "3 Submitted"]
    assert (order.perm_id, order.lmt, order.total, order.filled) == (perm_id, 98, 80, 40)


def test_a_modify_to_a_marketable_price_trades():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.amend(order, lmt=D(101))
    assert order.avg_price == D("100.01")


def test_a_modify_down_to_the_filled_quantity_completes_the_order():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.fill(order, 40, 99)
    venue.amend(order, total=D(40))
    assert order.status == "Filled"


BAD_CHANGES = [
    ({"action": "SELL"}, 105),
    ({"account": "DU9"}, 105),
    ({"total": D(39)}, 105),
    ({"lmt": D("99.001")}, 110),
    ({"oca_group": "late"}, 10326),
    ({"total": D(0)}, 434),
]


@pytest.mark.parametrize(("changes", "code"), BAD_CHANGES)
def test_a_refused_modify_leaves_the_old_order_live(changes, code):
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.fill(order, 40, 99)
    venue.amend(order, **changes)
    assert words(venue.heard)[-1] == f"4 {code}"
    assert (order.status, order.total, order.lmt) == ("Submitted", 100, 99)
    venue.trade(98)
    assert order.status == "Filled"


@pytest.mark.parametrize("ended", ["Filled", "Cancelled"])
def test_a_final_order_refuses_modify_with_104_and_cancel_with_10148(ended):
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    if ended == "Filled":
        venue.trade(99)
    else:
        venue.cancel(order)
    venue.amend(order, lmt=D(98))
    venue.cancel(order)
    assert words(venue.heard)[-2:] == ["4 104", "4 10148"]
    assert order.status == ended


def test_a_late_cancel_can_be_answered_with_161():
    venue = Venue(late_cancel_code=161)
    venue.trade(100)
    order = venue.place("BUY", lmt=101)
    venue.cancel(order)
    assert words(venue.heard)[-1] == "4 161"
    assert order.status == "Filled"


def test_cancelling_what_is_not_there_is_10147_and_another_clients_order_is_not_there():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.exchange.cancel(2, order.order_id, 0)) == ["4 10147"]
    assert order.alive


def test_global_cancel_takes_every_client():
    venue = Venue()
    venue.trade(100)
    orders = [venue.place("BUY", lmt=99, client_id=c) for c in (1, 2, 3)]
    venue.exchange.cancel_all(0)
    assert {o.status for o in orders} == {"Cancelled"}


# brackets ----------------------------------------------------------------------------------------------------------

def bracket(venue: Venue, **parent_fields) -> tuple[Order, Order, Order]:
    parent = venue.place("BUY", lmt=99, transmit=False, **parent_fields)
    target = venue.place("SELL", lmt=110, parent_id=parent.order_id, transmit=False)
    assert not venue.heard, "nothing is said of an order that is not transmitted"
    stop = venue.place("SELL", order_type="STP", aux=90, parent_id=parent.order_id)
    return parent, target, stop


def test_the_last_child_releases_the_bracket_and_children_wait_for_the_parent():
    venue = Venue()
    venue.trade(100)
    parent, target, stop = bracket(venue)
    assert (parent.status, target.status, stop.status) == ("Submitted", "PreSubmitted", "PreSubmitted")
    venue.trade(100, bid=111)
    assert target.filled == 0, "a child does not trade before its parent"
    venue.fill(parent, 50, 99)
    assert target.status == "PreSubmitted"
    venue.trade(99)
    assert (parent.status, target.status, stop.status) == ("Filled", "Submitted", "PreSubmitted")
    assert stop.why_held == "trigger"


def test_a_partial_parent_activates_children_where_the_switch_says_so():
    venue = Venue(child_activation="partial")
    venue.trade(100)
    parent, target, _ = bracket(venue)
    venue.fill(parent, 50, 99)
    assert target.status == "Submitted"


def test_cancelling_the_parent_cancels_its_children():
    venue = Venue()
    venue.trade(100)
    parent, target, stop = bracket(venue)
    venue.cancel(parent)
    assert [o.status for o in (parent, target, stop)] == ["Cancelled"] * 3


def test_a_child_of_a_dead_parent_is_rejected_and_of_a_filled_one_works():
    venue = Venue()
    venue.trade(100)
    dead = venue.place("BUY", lmt=99)
    venue.cancel(dead)
    assert venue.place("SELL", lmt=110, parent_id=dead.order_id).status == "Inactive"
    filled = venue.place("BUY", lmt=101)
    assert venue.place("SELL", lmt=110, parent_id=filled.order_id).status == "Submitted"


def test_a_held_order_that_is_sent_again_with_transmit_starts_to_work():
    venue = Venue()
    venue.trade(100)
    held = venue.place("BUY", lmt=99, transmit=False)
    assert not venue.heard
    venue.send(venue.order("BUY", lmt=99, order_id=held.order_id))
    assert words(venue.heard)[-1] == "3 Submitted"


def test_cancelling_a_held_order_is_202_and_it_is_gone():
    venue = Venue()
    venue.trade(100)
    held = venue.place("BUY", lmt=99, transmit=False)
    assert words(venue.cancel(held)) == ["4 202"]
    assert venue.exchange.orders == {}


# what the venue does unasked ----------------------------------------------------------------------------------------

def test_a_rejected_order_is_inactive_with_its_reason():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.exchange.reject(order, 201, "no", 0)) == ["4 201", "5 Inactive", "3 Inactive"]
    assert not venue.exchange.open_orders()


def test_a_fill_is_capped_at_what_remains():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.fill(order, 1000, 99)
    assert order.filled == 100
    assert venue.fill(order, 1, 99) == []


def test_nothing_triggers_or_trades_in_a_halt():
    venue = Venue()
    venue.trade(100)
    resting = [venue.place("BUY", lmt=99), venue.place("SELL", 100, "STP", aux=98)]
    venue.exchange.quote_of(venue.contract.con_id).halted = 1
    venue.trade(90)
    late = venue.place("BUY", 100, "MKT")
    assert [o.filled for o in (*resting, late)] == [0, 0, 0]
    venue.exchange.quote_of(venue.contract.con_id).halted = 0
    venue.trade(97)
    assert [o.filled for o in (*resting, late)] == [100, 100, 100]


# positions ---------------------------------------------------------------------------------------------------------

def test_average_cost_realised_pnl_and_commission():
    venue = Venue()
    venue.trade(100, bid=100, ask=100)
    venue.place("BUY", 100, "MKT")
    held = venue.exchange.accounts.positions[venue.exchange.executions[0].account, venue.contract.con_id]
    assert (held.quantity, held.avg_cost) == (100, D("100.01"))
    venue.trade(110, bid=110, ask=110)
    venue.place("SELL", 40, "MKT")
    closing = venue.exchange.executions[-1]
    assert closing.realized == D("398.60")          # 40 x (110 - 100.01) - 1.00
    assert (held.quantity, held.avg_cost) == (60, D("100.01"))


def test_selling_more_than_is_held_turns_the_position_over():
    venue = Venue(cost_includes_commission=False)
    venue.trade(100, bid=100, ask=100)
    venue.place("BUY", 100, "MKT")
    venue.trade(110, bid=110, ask=110)
    venue.place("SELL", 150, "MKT")
    held = next(iter(venue.exchange.accounts.positions.values()))
    assert (held.quantity, held.avg_cost) == (-50, 110)
    venue.trade(100, bid=100, ask=100)
    venue.place("BUY", 50, "MKT")
    assert (held.quantity, held.avg_cost) == (0, 0)
    assert venue.exchange.executions[-1].realized == D(499)
    total = D(1000) + D(500)
    commissions = sum(e.commission for e in venue.exchange.executions)
    assert next(iter(venue.exchange.accounts.cash.values())) == total - commissions


def test_the_commission_minimum_is_per_order_not_per_fill():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", 1000, lmt=99)
    for part in (40, 35, 25, 900):
        venue.fill(order, part, 99)
    assert [e.commission for e in venue.exchange.executions] == [1, 0, 0, 4]


# cost --------------------------------------------------------------------------------------------------------------

def test_ten_thousand_resting_orders_do_not_slow_a_price_that_reaches_none():
    venue = Venue()
    venue.trade(100)
    for n in range(5000):
        venue.place("SELL", 1, lmt=D(110) + D(n) / 100)
        venue.place("SELL", 1, "STP", aux=D(90) - D(n) / 1000 // D("0.01") * D("0.01"))
    book = venue.exchange.book(venue.contract.con_id)
    seen = []
    original = book.check_trigger
    book.check_trigger = lambda order: seen.append(order) or original(order)  # type: ignore[method-assign]
    for n in range(200):
        venue.trade(D(95) + D(n) / 100)
    assert seen == []


def test_completed_orders_are_forgotten_beyond_the_cap():
    venue = Venue(completed_cap=10)
    venue.trade(100)
    for _ in range(25):
        venue.place("BUY", 1, "MKT")
    assert len(venue.exchange.done) == 10
    assert len(venue.exchange.executions) == 10
    assert venue.position() == 25
