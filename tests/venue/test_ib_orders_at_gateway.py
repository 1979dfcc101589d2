"""The broker's parts against the simulated gateway over a real socket, with both libraries."""

from __future__ import annotations

import select
from decimal import Decimal

import pytest

from messages.orders import (
    AmendOrder,
    BracketPictured,
    CancelOrder,
    CommissionReported,
    GateClosed,
    GateOpened,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderDeferred,
    OrderDenied,
    OrderEchoed,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderUnknown,
    QueryOrder,
)
from tests.venue.driver import DEADLINE_S, LIBRARIES, Driver, GatewayThread, driver, venue_settings

pytestmark = pytest.mark.integration
D = Decimal


@pytest.fixture(params=LIBRARIES)
def pair(request):
    with driver(request.param) as made:
        yield made


@pytest.fixture
def one():
    with driver() as made:
        yield made


def test_first_request_is_the_time_and_the_gate_opens_once_reconciled(pair):
    turned, gateway = pair
    asked = [line["msg"] for line in gateway.heard()]
    assert asked.index("reqIds") < asked.index("reqAllOpenOrders")
    assert "reqOpenOrders" not in asked, "the library's own storm of requests must not run"
    assert turned.heard(GateOpened, "router")
    assert turned.desk.account == "DU1000001"


def test_an_order_is_submitted_accepted_filled_and_paid_for(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted, "owner")
    gateway.fill("B1-test.entry", 40, "90")
    gateway.fill("B1-test.entry", 60, "89.99")
    turned.until(lambda: len(turned.heard(CommissionReported, "owner")) == 2, "two commissions")
    kinds = [type(m).__name__ for to, m in turned.said if to == "owner"]
    assert kinds[:3] == ["BracketPictured", "OrderSubmitted", "OrderAccepted"]
    fills = turned.heard(OrderFilled, "owner")
    assert [(f.last_qty, f.last_px) for f in fills] == [(D(40), D(90)), (D(60), D("89.99"))]
    assert fills[0].strategy == "Momentum_EQ"
    assert fills[0].instrument == "AAPL"
    for service in ("position", "risk", "ledger"):
        assert turned.heard(OrderFilled, service) == fills
    owner_first = [to for to, m in turned.said if m is fills[0]]
    assert owner_first[0] == "owner"
    assert gateway.placed() == ["B1-test.entry"]
    assert not turned.desk.books.orders["B1-test.entry"].live


def test_market_limit_stop_and_stop_limit_reach_the_venue_as_written(one):
    turned, gateway = one
    turned.own()
    cases = {
        "B1-test.entry": {"order_type": "LMT", "limit": "90.05"},
        "B1-test.entry.2": {"order_type": "STP", "limit": None, "stop_price": 120},
        "B1-test.entry.3": {"order_type": "STP LMT", "limit": "121.5", "stop_price": 120, "tif": "GTC"},
        "B1-test.entry.4": {"order_type": "LMT", "limit": 80, "tif": "GTD", "good_till": "20991231-20:00:00",
                            "outside_rth": True},
    }
    for order_id, fields in cases.items():
        turned.submit(order_id, **fields)
    turned.until(lambda: len(turned.heard(OrderAccepted)) == 4, "four acknowledgements")
    at_venue = {order.order_ref: order for order in gateway.orders("B1-test.*")}
    first, second, third, fourth = (at_venue[order_id] for order_id in cases)
    assert (first.order_type, first.lmt, first.tif, first.total) == ("LMT", D("90.05"), "DAY", D(100))
    assert (second.order_type, second.aux) == ("STP", D(120))
    assert (third.order_type, third.lmt, third.aux, third.tif) == ("STP LMT", D("121.5"), D(120), "GTC")
    assert (fourth.tif, fourth.good_till_date, fourth.outside_rth) == ("GTD", "20991231-20:00:00", True)
    ids = [m.venue_order_id for m in turned.heard(OrderSubmitted)]
    assert ids == sorted(set(ids)), "ids rise in the order of sending"
    assert len(ids) == 4


def test_the_same_order_id_is_transmitted_once_and_answered_with_the_truth(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)
    gateway.fill("B1-test.entry", 100, "90")
    turned.await_one(OrderFilled, "owner")
    told = len(turned.said)
    turned.submit(limit=90)
    again = [m for to, m in turned.said[told:] if to == "owner"]
    assert [type(m) for m in again] == [OrderSubmitted, OrderAccepted, OrderFilled]
    assert again[2].recovered
    assert again[2].exec_id == turned.heard(OrderFilled)[0].exec_id
    assert gateway.placed() == ["B1-test.entry"]


def test_an_old_incarnation_and_an_unowned_bracket_are_refused(one):
    turned, gateway = one
    turned.submit()
    assert turned.heard(OrderDenied)[0].code == "unowned"
    turned.own(incarnation=3)
    turned.submit(incarnation=2)
    assert turned.heard(OrderDenied)[1].code == "incarnation"
    assert gateway.placed() == []


def test_a_stale_entry_is_denied_at_the_moment_of_writing(one):
    turned, gateway = one
    turned.own()
    turned.submit(expires_ns=turned.now() - 1)
    assert turned.heard(OrderDenied)[0].code == "stale"
    turned.submit("B1-test.entry.2", expires_ns=turned.now() + 60_000_000_000, limit=90)
    turned.await_one(OrderAccepted)
    assert gateway.placed() == ["B1-test.entry.2"]


def filled_entry(turned: Driver, gateway: GatewayThread, quantity: int = 100) -> None:
    turned.own()
    turned.submit(quantity=quantity, limit=90)
    turned.await_one(OrderAccepted)
    gateway.fill("B1-test.entry", quantity, "90")
    turned.await_one(OrderFilled, "owner")


def exits(turned: Driver, native: bool = True, quantity: int = 100) -> None:
    shared = {"side": "SELL", "quantity": quantity, "oca_group": "B1-test.g1", "oca_native": native, "tif": "GTC",
              "reduce_to_open": True}
    turned.submit("B1-test.target.1", limit=140, **shared)
    turned.submit("B1-test.stop.1", order_type="STP", limit=None, stop_price=50, **shared)
    turned.until(lambda: len(turned.heard(OrderAccepted)) >= 3, "both exits to be acknowledged")


def test_group_members_share_one_quantity_and_the_loser_is_cancelled_as_requested(pair):
    turned, gateway = pair
    filled_entry(turned, gateway)
    exits(turned)
    assert {order.oca_type for order in gateway.orders("B1-test.target*")} == {2}
    gateway.fill("B1-test.target.1", 30, "140")
    echo = turned.await_one(OrderEchoed, order_id="B1-test.stop.1")
    assert echo.quantity == D(70)
    gateway.fill("B1-test.target.1", 70, "140")
    gone = turned.await_one(OrderCanceled, order_id="B1-test.stop.1")
    assert gone.requested
    book = turned.desk.books.brackets["B1-test"].book
    assert book.open_qty == 0
    assert book.committed() == 0


def test_the_gate_cuts_or_refuses_what_exceeds_what_is_open(one):
    turned, gateway = one
    filled_entry(turned, gateway)
    turned.submit("B1-test.target.1", side="SELL", quantity=150, limit=140, reduce_to_open=True)
    assert turned.heard(OrderSubmitted)[-1].quantity == D(100)
    turned.submit("B1-test.flat.1", side="SELL", quantity=1, order_type="MKT", limit=None)
    denied = turned.heard(OrderDenied)[-1]
    assert denied.code == "exceeds_open"
    assert "room 0" in denied.reason
    turned.until(lambda: len(turned.heard(OrderAccepted)) == 2, "the cut exit")
    assert gateway.orders("B1-test.target.1")[0].total == D(100)


def test_what_was_denied_stays_denied_however_late_it_is_asked_for_again(one):
    turned, gateway = one
    turned.own()
    turned.submit(quantity=150, limit=90)
    turned.await_one(OrderAccepted)
    gateway.fill("B1-test.entry", 100, "90")
    turned.await_one(OrderFilled, "owner")
    turned.submit("B1-test.target.1", side="SELL", quantity=100, limit=140)
    turned.submit("B1-test.flat.1", side="SELL", quantity=1, order_type="MKT", limit=None)
    gateway.fill("B1-test.entry", 50, "90")
    turned.until(lambda: turned.desk.books.brackets["B1-test"].book.open_qty == 150, "the second fill")
    # Now there would be room, but its owner has decided anew since then.
    turned.submit("B1-test.flat.1", side="SELL", quantity=1, order_type="MKT", limit=None)
    assert [denied.code for denied in turned.heard(OrderDenied)] == ["exceeds_open", "exceeds_open"]
    assert gateway.orders("B1-test.flat.1") == []


def test_an_amendment_waits_for_the_ack_and_only_the_newest_is_sent(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    for number, price in enumerate((91, 92, 93)):
        turned.desk.amend(AmendOrder(command_id=f"a{number}", bracket_id="B1-test", order_id="B1-test.entry",
                                     incarnation=1, quantity=D(100 + number), limit_price=D(price)), "owner",
                          turned.now())
    turned.until(lambda: any(e.limit_price == D(93) for e in turned.heard(OrderEchoed)), "the amendment's echo")
    amended = gateway.heard("modifyOrder")
    assert len(amended) == 1
    assert gateway.orders("B1-test.entry")[0].total == D(102)
    assert amended[0]["orderId"] == gateway.heard("placeOrder")[0]["orderId"], "on the same venue id"


def cancel(turned: Driver, order_id: str, number: int = 1) -> None:
    turned.desk.cancel(CancelOrder(command_id=f"{order_id}:cancel:{number}", bracket_id="B1-test", order_id=order_id,
                                   incarnation=1, reason="test"), "owner", turned.now())


def test_a_cancel_before_the_ack_waits_for_it_and_ends_as_requested(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    cancel(turned, "B1-test.entry")
    assert not gateway.heard("cancelOrder")
    gone = turned.await_one(OrderCanceled)
    assert gone.requested
    assert len(gateway.heard("cancelOrder")) == 1


def test_a_cancel_that_loses_to_a_fill_is_a_question_answered_by_the_fill(one):
    turned, gateway = one
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)

    def work(venue, now):
        order = venue.exchange.matching("B1-test.entry")[0]
        reports = venue.exchange.fill(order, D(100), D(90), now)
        cancel(turned, "B1-test.entry")
        venue.deliver(reports, now)

    gateway.do(work)
    turned.await_one(OrderFilled, "owner")
    turned.until(lambda: not turned.session.round_open and not turned.desk.round_wanted, "the round to end")
    assert not turned.heard(OrderCanceled)
    assert sum(f.last_qty for f in turned.heard(OrderFilled, "owner") if not f.recovered) == D(100)


def test_a_cancel_that_nobody_here_asked_for_is_told_as_such(one):
    turned, gateway = one
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)

    def work(venue, now):
        order = venue.exchange.matching("B1-test.entry")[0]
        venue.deliver(venue.exchange.cancel(order.client_id, order.order_id, now), now)

    gateway.do(work)
    assert turned.await_one(OrderCanceled).requested is False


def test_a_venue_refusal_is_told_with_its_number(one):
    turned, _gateway = one
    turned.own()
    turned.submit(limit="90.001")
    refused = turned.await_one(OrderRejected)
    assert refused.code == 110
    turned.submit("B1-test.entry.2", limit=90)
    turned.await_one(OrderAccepted)


def test_fifteen_entries_of_one_side_are_the_limit_and_exits_have_more(one):
    turned, _gateway = one
    turned.own()
    for number in range(1, 17):
        turned.submit(f"B1-test.entry.{number}", limit=50, quantity=1)
        turned.turn()
    assert [d.code for d in turned.heard(OrderDenied)] == []
    turned.until(lambda: turned.heard(OrderDenied), "the sixteenth to be denied")
    assert turned.heard(OrderDenied)[0].code == "too_many"
    turned.submit("B1-test.entry.20", side="SELL", limit=150)
    turned.until(lambda: len(turned.heard(OrderAccepted)) == 16, "the other side is counted apart")


# -- losing and finding the connection --------------------------------------------------------------------------


def test_a_fill_inside_the_gap_is_found_by_the_next_picture(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)

    def work(venue, now):
        order = venue.exchange.matching("B1-test.entry")[0]
        for connection in gateway.server.connections.values():
            connection.transport.abort()
        venue.deliver(venue.exchange.fill(order, D(100), D(90), now), now)

    gateway.do(work)
    closed = turned.await_one(GateClosed, "router")
    assert closed.reason
    turned.until(lambda: len(turned.heard(GateOpened, "router")) == 2, "the gate to open again")
    fills = turned.heard(OrderFilled, "owner")
    assert fills[0].last_qty == D(100)
    assert fills[0].recovered
    assert len({f.exec_id for f in fills}) == 1
    assert len(turned.heard(OrderFilled, "ledger")) == 1
    assert gateway.placed() == ["B1-test.entry"]
    picture = turned.heard(BracketPictured, "owner")[-1]
    assert [o.live for o in picture.orders] == [False]


def test_while_the_gate_is_closed_orders_are_deferred_and_cancels_remembered(one):
    turned, gateway = one
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)
    gateway.drop_clients()
    turned.await_one(GateClosed, "router")
    turned.submit("B1-test.entry.2", limit=90)
    assert turned.heard(OrderDeferred)[-1].order_id == "B1-test.entry.2"
    cancel(turned, "B1-test.entry")
    assert turned.await_one(OrderCanceled).requested
    turned.submit("B1-test.entry.2", limit=90)
    turned.await_one(OrderAccepted, order_id="B1-test.entry.2")
    assert gateway.placed() == ["B1-test.entry", "B1-test.entry.2"]


def test_an_order_that_never_arrived_is_unknown_then_absent_and_may_go_again(pair):
    turned, gateway = pair
    turned.own()
    turned.venue._link.sendMsg = lambda frame: None  # the bytes are lost on their way
    turned.submit(limit=90)
    assert turned.heard(OrderSubmitted)
    gateway.drop_clients()
    turned.await_one(OrderUnknown)
    turned.await_one(OrderAbsent)
    turned.until(lambda: turned.desk.gate_open, "the gate to open")
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)
    assert gateway.placed() == ["B1-test.entry"]


def test_an_order_that_arrived_unheard_is_unknown_then_accepted_and_never_sent_again(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90)
    while "B1-test.entry" not in gateway.placed():
        select.select([], [], [], 0.005)
    turned.venue._link._socket.close()  # what the venue answered is never read
    turned.venue._link._socket = None
    turned.venue._lost("cut by the test")
    turned.await_one(OrderUnknown)
    turned.await_one(OrderAccepted)
    turned.until(lambda: turned.desk.gate_open, "the gate to open")
    turned.submit(limit=90)
    assert gateway.placed() == ["B1-test.entry"]


def test_a_new_engine_finds_its_orders_by_ref_and_sends_nothing_twice(pair):
    turned, gateway = pair
    filled_entry(turned, gateway)
    exits(turned)
    sent = list(turned.submitted)
    gateway.fill("B1-test.target.1", 30, "140")
    turned.await_one(OrderEchoed)
    booked = tuple(f.exec_id for f in turned.heard(OrderFilled, "owner"))
    turned.close()
    successor = Driver(turned.settings).start()
    try:
        successor.own(incarnation=2, fresh=False, orders=tuple(sent), entry_filled=D(100), exit_filled=D(30),
                      fills=booked)
        picture = successor.heard(BracketPictured, "owner")[0]
        live = {o.order_id: o.quantity for o in picture.orders if o.live}
        assert live == {"B1-test.target.1": D(100), "B1-test.stop.1": D(70)}
        fills = successor.heard(OrderFilled, "owner")
        assert [f.last_qty for f in fills] == [D(100), D(30)]
        assert all(f.recovered for f in fills)
        book = successor.desk.books.brackets["B1-test"].book
        assert (book.entry_filled, book.exit_filled, book.committed()) == (D(100), D(30), D(70))
        for order in sent:
            successor.desk.submit(order.__class__(**{f: getattr(order, f) for f in order.__struct_fields__}
                                                  | {"incarnation": 2}), "owner", successor.now())
        assert len(gateway.placed()) == 3
        successor.submit("B1-test.flat.1", side="SELL", quantity=1, order_type="MKT", limit=None, incarnation=2)
        assert successor.heard(OrderDenied)[-1].code == "exceeds_open"
    finally:
        successor.close()


def test_a_query_is_answered_after_asking_the_venue(one):
    turned, _gateway = one
    turned.own()
    turned.desk.query(QueryOrder(command_id="q", bracket_id="B1-test", order_id="B1-test.stop.1", incarnation=1),
                      "owner", turned.now())
    assert turned.await_one(OrderAbsent).order_id == "B1-test.stop.1"


def test_what_happens_in_1100_is_reconciled_after_1102(one):
    turned, gateway = one
    turned.own()
    gateway.say(4, 2, -1, 1100, "Connectivity between IBKR and Trader Workstation has been lost.", "")
    turned.await_one(GateClosed, "router")
    turned.submit(limit=90)
    assert turned.heard(OrderDeferred)
    gateway.say(4, 2, -1, 1102, "Connectivity has been restored - data maintained.", "")
    turned.until(lambda: turned.desk.gate_open, "the gate to open")
    assert gateway.placed() == []
    assert len(list(gateway.heard("reqAllOpenOrders"))) == 2


def test_a_silent_gateway_is_taken_for_a_lost_one():
    with driver(heartbeat_s=0.5, request_timeout_s=0.5) as (turned, gateway):
        import threading

        release = threading.Event()
        gateway._loop.call_soon_threadsafe(release.wait, DEADLINE_S)
        try:
            assert "silent" in turned.await_one(GateClosed, "router").reason
        finally:
            release.set()
        turned.until(lambda: len(turned.heard(GateOpened, "router")) >= 2, "the gate to open again")


def test_a_used_client_id_is_retried_under_the_same_id():
    with driver() as (first, _gateway):
        second = Driver(first.settings)
        second.session.start(second.now())
        second.until(lambda: any(getattr(m, "code", "") == "client_id" for _, m in second.said), "326 to be told")
        first.close()
        second.until(lambda: second.desk.gate_open, "the same id to be free")
        assert second.desk.client_id == 1
        second.close()


@pytest.mark.parametrize(("account", "opens"), [("", False), ("DU2", True), ("DU9", False)])
def test_with_several_accounts_one_must_be_named(account, opens):
    with GatewayThread(accounts=("DU1", "DU2")) as gateway:
        turned = Driver(venue_settings(gateway.port, account=account))
        turned.session.start(turned.now())
        if opens:
            turned.until(lambda: turned.desk.gate_open, "the gate to open")
            assert turned.desk.account == "DU2"
        else:
            turned.until(lambda: any(getattr(m, "code", "") == "account" for _, m in turned.said), "the refusal")
            assert not turned.desk.gate_open
        turned.close()


def test_a_live_account_is_refused_in_a_sentence():
    with GatewayThread(accounts=("U7654321",)) as gateway:
        turned = Driver(venue_settings(gateway.port))
        turned.session.start(turned.now())
        turned.until(lambda: any(getattr(m, "code", "") == "account" for _, m in turned.said), "the refusal")
        assert not turned.desk.gate_open
        turned.close()


def test_an_order_found_after_a_restart_can_be_amended(pair):
    turned, gateway = pair
    turned.own()
    turned.submit(limit=90, tif="GTC", outside_rth=True)
    turned.await_one(OrderAccepted)
    turned.close()
    successor = Driver(turned.settings).start()
    try:
        successor.own(incarnation=2, fresh=False)
        successor.desk.amend(AmendOrder(command_id="a", bracket_id="B1-test", order_id="B1-test.entry", incarnation=2,
                                        quantity=D(80), limit_price=D("89.5")), "owner", successor.now())
        echo = successor.await_one(OrderEchoed)
        assert (echo.quantity, echo.limit_price) == (D(80), D("89.5"))
        order = gateway.orders("B1-test.entry")[0]
        assert (order.tif, order.outside_rth, order.order_type) == ("GTC", True, "LMT")
    finally:
        successor.close()
