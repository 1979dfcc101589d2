"""What IB has been seen to do that a broker must survive: each test is one line of venue-traps.md, on a real socket."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from actors.venue.session import State
from messages.ledger import RecordEvent
from messages.market import Feed, FeedChanged, HaltChanged, QuoteTick, Subscribe, TickBatch, TradeTick, Unsubscribe
from messages.orders import (
    AmendOrder,
    AmendRejected,
    CancelOrder,
    CancelRejected,
    CommissionReported,
    FillCorrected,
    GateOpened,
    OrderAccepted,
    OrderCanceled,
    OrderEchoed,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
)
from messages.risk import InstrumentQualified, InstrumentUnknown, PositionSeen
from messages.session import AlertRaised
from tests.venue.driver import LIBRARIES, Driver, GatewayThread, driver

pytestmark = pytest.mark.integration
D = Decimal
REF = "B1-test.entry"
ACCOUNT = "DU1000001"


@pytest.fixture
def one():
    with driver() as made:
        yield made


@pytest.fixture(params=LIBRARIES)
def pair(request):
    with driver(request.param) as made:
        yield made


def working(turned: Driver, order_id: str = REF, **fields: Any) -> OrderSubmitted:
    if "B1-test" not in turned.desk.books.brackets:
        turned.own()
    turned.submit(order_id, **{"limit": 90, **fields})
    turned.await_one(OrderAccepted, order_id=order_id)
    return next(m for m in turned.heard(OrderSubmitted) if m.order_id == order_id)


def perm(turned: Driver, order_id: str = REF) -> int:
    return turned.desk.books.orders[order_id].perm_id


def say_execution(gateway: GatewayThread, exec_id: str, *, order_id: int = 0, perm_id: int = 0, ref: str = "",
                  shares: str = "100", price: str = "90", cum: str = "100", client: int = 1, extra: tuple = ()) -> None:
    gateway.say(11, -1, order_id, 265598, "AAPL", "STK", "", "0.0", "", "", "NASDAQ", "USD", "AAPL", "NMS", exec_id,
                "20261120-14:30:00", ACCOUNT, "NASDAQ", "BOT", shares, price, perm_id, client, 0, cum, price, ref, "",
                "", "", 2, *extra)


def say_status(gateway: GatewayThread, order_id: int, status: str, filled: str, remaining: str, perm_id: int) -> None:
    gateway.say(3, order_id, status, filled, remaining, "0.0", perm_id, 0, "0.0", 1, "", "0.0")


def calm(turned: Driver) -> None:
    turned.until(lambda: not turned.session.round_open and not turned.desk.round_wanted, "the questions to end")


@pytest.mark.parametrize(
    "code", [103, 104, 105, 135, 161, 201, 321, 329, 436, 10147, 10149, 10185, 10268, 10349, 99999])
def test_trap_6_no_error_number_alone_makes_a_live_order_cancelled(one, code):
    turned, gateway = one
    sent = working(turned)
    gateway.say(4, 2, sent.venue_order_id, code, "something went wrong", "")
    gateway.say(49, 1, 1)
    turned.until(lambda: turned.session.clock_offset_s < -1_000_000, "the error to be read")
    calm(turned)
    assert not turned.heard(OrderCanceled)
    assert not turned.heard(OrderRejected)
    gateway.fill(REF, 100, "90")
    assert turned.await_one(OrderFilled, "owner").last_qty == D(100)


def test_trap_8_a_fill_after_cancelled_is_booked_and_told(one):
    turned, gateway = one
    sent = working(turned)
    turned.desk.cancel(CancelOrder(command_id="c", bracket_id="B1-test", order_id=REF, incarnation=1, reason="t"),
                       "owner", turned.now())
    turned.await_one(OrderCanceled)
    say_execution(gateway, "0000e0d5.69dd7411.01.01", order_id=sent.venue_order_id, perm_id=perm(turned), ref=REF)
    assert turned.await_one(OrderFilled, "owner").last_qty == D(100)
    assert turned.desk.books.brackets["B1-test"].book.entry_filled == D(100)


def test_trap_9_a_status_that_says_filled_books_nothing_and_makes_us_ask(one):
    turned, gateway = one
    sent = working(turned)
    asked = len(gateway.heard("reqExecutions"))
    say_status(gateway, sent.venue_order_id, "Filled", "100", "0", perm(turned))
    turned.until(lambda: len(gateway.heard("reqExecutions")) > asked, "executions to be asked for")
    assert not turned.heard(OrderFilled)
    assert turned.desk.books.brackets["B1-test"].book.entry_filled == 0


def test_trap_9_repeated_and_early_statuses_change_nothing(one):
    turned, gateway = one
    sent = working(turned)
    for _ in range(3):
        say_status(gateway, sent.venue_order_id, "Submitted", "0", "100", perm(turned))
    gateway.fill(REF, 100, "90")
    turned.await_one(OrderFilled, "owner")
    assert len(turned.heard(OrderAccepted)) == 1
    assert not turned.heard(OrderEchoed)


def test_trap_10_a_repeated_execution_counts_once_and_a_correction_replaces(pair):
    turned, gateway = pair
    sent = working(turned)
    base = "0000e0d5.69dd7411.01"
    first = ("01", "100", "90")
    for revision, shares, price in (first, first, ("02", "90", "90.5"), first):
        say_execution(gateway, f"{base}.{revision}", order_id=sent.venue_order_id, perm_id=perm(turned), ref=REF,
                      shares=shares, price=price)
    fixed = turned.await_one(FillCorrected, "owner")
    assert (fixed.prior_qty, fixed.prior_px) == (D(100), D(90))
    assert (fixed.last_qty, fixed.last_px, fixed.exec_id, fixed.revision) == (D(90), D("90.5"), base, 2)
    assert turned.desk.books.brackets["B1-test"].book.entry_filled == D(90)
    assert len([f for f in turned.heard(OrderFilled, "ledger") if type(f) is OrderFilled]) == 1
    say_execution(gateway, f"{base}.03", order_id=sent.venue_order_id, perm_id=perm(turned), ref=REF, shares="0")
    turned.until(lambda: turned.desk.books.brackets["B1-test"].book.entry_filled == 0, "the bust")


def test_trap_11_a_commission_before_its_execution_is_kept_and_a_repeated_one_told_once(one):
    turned, gateway = one
    sent = working(turned)
    exec_id = "0000e0d5.69dd7411.01.01"
    unset = "1.7976931348623157E308"
    gateway.say(59, 1, exec_id, "1.05", "USD", unset, unset, "")
    say_execution(gateway, exec_id, order_id=sent.venue_order_id, perm_id=perm(turned), ref=REF)
    gateway.say(59, 1, exec_id, "1.05", "USD", unset, unset, "")
    fee = turned.await_one(CommissionReported, "ledger")
    assert (fee.commission, fee.realized_pnl, fee.exec_id) == (D("1.05"), None, "0000e0d5.69dd7411.01")
    kinds = [type(m).__name__ for to, m in turned.said if to == "owner"]
    assert kinds.index("OrderFilled") < kinds.index("CommissionReported")
    gateway.say(49, 1, 1)
    turned.until(lambda: turned.session.clock_offset_s < -1_000_000, "the repetition to be read")
    assert len(turned.heard(CommissionReported, "ledger")) == 1


def test_an_execution_with_fields_that_nobody_knows_yet_is_not_lost(pair):
    turned, gateway = pair
    sent = working(turned)
    say_execution(gateway, "0000e0d5.69dd7411.01.01", order_id=sent.venue_order_id, perm_id=perm(turned), ref=REF,
                  extra=("0", "more"))
    assert turned.await_one(OrderFilled, "owner").last_px == D(90)


def test_a_fill_before_the_acknowledgement_is_told_at_once(one):
    turned, gateway = one
    turned.own()
    turned.venue._link.sendMsg = lambda frame: None
    turned.submit()
    sent = turned.heard(OrderSubmitted)[0]
    say_execution(gateway, "0000e0d5.69dd7411.01.01", order_id=sent.venue_order_id, perm_id=1234, ref=REF)
    assert turned.await_one(OrderFilled, "owner").perm_id == 1234
    assert not turned.desk.books.orders[REF].live


def test_trap_23_a_strangers_execution_is_an_incident_once_and_books_nothing(one):
    turned, gateway = one
    turned.own()
    for _ in range(2):
        say_execution(gateway, "0000e0d5.69dd7411.07.01", perm_id=999, client=0)
    recorded = turned.await_one(RecordEvent, "ledger")
    assert recorded.event.code == "stranger_execution"
    assert not turned.heard(OrderFilled)
    assert len(turned.heard(RecordEvent)) == 1


def test_an_execution_without_a_ref_is_matched_once_its_order_is_known(one):
    turned, gateway = one
    turned.own()
    turned.venue._link.sendMsg = lambda frame: None
    turned.submit()
    sent = turned.heard(OrderSubmitted)[0]
    say_execution(gateway, "0000e0d5.69dd7411.01.01", perm_id=4321)
    turned.until(lambda: turned.session.reports.fills.parked, "it to be parked")
    say_status(gateway, sent.venue_order_id, "Submitted", "0", "100", 4321)
    assert turned.await_one(OrderFilled, "owner").order_id == REF


def test_two_living_perm_ids_for_one_order_id_are_an_incident(one):
    turned, gateway = one
    working(turned)

    def work(venue: Any, now: int) -> None:
        import msgspec

        order = venue.exchange.matching(REF)[0]
        venue.deliver(venue.exchange.place(msgspec.structs.replace(order, order_id=5000, perm_id=0), now), now)

    gateway.do(work)
    incident = turned.await_one(RecordEvent, "ledger")
    assert incident.event.code == "two_orders"
    assert "lives twice" in incident.event.sentence
    assert any(a.severity == "page" for a in turned.heard(AlertRaised))


def test_trap_13_inactive_with_an_error_is_a_rejection(one):
    turned, gateway = one
    turned.own()
    turned.venue._link.sendMsg = lambda frame: None
    turned.submit()
    sent = turned.heard(OrderSubmitted)[0]
    gateway.say(4, 2, sent.venue_order_id, 201, "Order rejected - reason:too large", "")
    say_status(gateway, sent.venue_order_id, "Inactive", "0", "100", 77)
    refused = turned.await_one(OrderRejected)
    assert refused.code == 201
    assert "too large" in refused.reason


def test_201_alone_is_believed_once_nothing_of_the_order_is_found(one):
    turned, gateway = one
    turned.own()
    send, turned.venue._link.sendMsg = turned.venue._link.sendMsg, lambda frame: None
    turned.submit()
    turned.venue._link.sendMsg = send
    sent = turned.heard(OrderSubmitted)[0]
    gateway.say(4, 2, sent.venue_order_id, 201, "Order rejected - reason:x", "")
    assert turned.await_one(OrderRejected).code == 201
    assert len(gateway.heard("reqAllOpenOrders")) == 2, "the venue is asked before a 201 is believed"


@pytest.mark.parametrize("code", [161, 10147, 10148])
def test_a_refused_cancel_is_a_question_and_the_order_goes_on(one, code):
    turned, gateway = one
    sent = working(turned)
    send, turned.venue._link.sendMsg = turned.venue._link.sendMsg, lambda frame: None
    turned.desk.cancel(CancelOrder(command_id="c", bracket_id="B1-test", order_id=REF, incarnation=1, reason="t"),
                       "owner", turned.now())
    turned.venue._link.sendMsg = send
    gateway.say(4, 2, sent.venue_order_id, code, "cannot be cancelled", "")
    assert turned.await_one(CancelRejected).code == code
    told = len(turned.said)
    turned.until(lambda: any(isinstance(m, OrderAccepted) for _, m in turned.said[told:]), "the truth to be told")
    assert not turned.heard(OrderCanceled)


def test_a_refused_amendment_leaves_the_old_order(one):
    turned, gateway = one
    shared = {"side": "SELL", "quantity": 100, "oca_group": "B1-test.g1", "oca_native": True, "tif": "GTC"}
    working(turned)
    gateway.fill(REF, 100, "90")
    turned.await_one(OrderFilled, "owner")
    working(turned, "B1-test.target.1", **{**shared, "limit": 140})
    turned.desk.amend(AmendOrder(command_id="a", bracket_id="B1-test", order_id="B1-test.target.1", incarnation=1,
                                 quantity=D(100), limit_price=D(130)), "owner", turned.now())
    assert turned.await_one(AmendRejected).code == 10326
    calm(turned)
    assert turned.desk.books.orders["B1-test.target.1"].limit_price == D(140)
    assert turned.desk.books.orders["B1-test.target.1"].live


def test_an_ioc_that_finds_nobody_expires(one):
    turned, _gateway = one
    turned.own()
    turned.submit(limit=50, tif="IOC")
    turned.await_one(OrderExpired)
    assert not turned.heard(OrderCanceled)


def test_trap_16_a_missing_end_of_completed_orders_is_done_without_and_said():
    with GatewayThread() as gateway:
        from tests.venue.driver import venue_settings

        turned = Driver(venue_settings(gateway.port, request_timeout_s=0.6))
        turned.venue.ask_completed_orders = lambda: None
        turned.start()
        assert any(a.code == "no_end" for a in turned.heard(AlertRaised))
        turned.close()


def test_trap_16_open_orders_that_never_end_are_asked_again_and_no_gate_opens():
    with GatewayThread() as gateway:
        from tests.venue.driver import venue_settings

        turned = Driver(venue_settings(gateway.port, request_timeout_s=0.5))
        asked: list[int] = []
        real, turned.venue.ask_open_orders = turned.venue.ask_open_orders, lambda: asked.append(1)
        turned.session.start(turned.now())
        turned.until(lambda: turned.session.state is State.LOST, "the session to be given up")
        assert len(asked) == 3
        assert not turned.heard(GateOpened)
        turned.venue.ask_open_orders = real
        turned.until(lambda: turned.desk.gate_open, "the gate to open")
        turned.close()


def test_a_message_that_cannot_be_read_is_told_and_reconciled(pair):
    turned, gateway = pair
    gateway.say(5, "not", "an", "order")
    turned.until(lambda: any(a.code == "garbled" for a in turned.heard(AlertRaised)), "the alert")
    turned.until(lambda: len(gateway.heard("reqAllOpenOrders")) == 2, "the venue to be asked again")
    gateway.say(255, "a message of tomorrow")
    calm(turned)


# -- instruments, prices, positions ------------------------------------------------------------------------------


def test_an_instrument_is_qualified_with_its_price_grid_and_a_stranger_is_not(pair):
    turned, _gateway = pair
    turned.session.feeds.qualify("AAPL", "risk", turned.now())
    turned.session.feeds.qualify("NOPE", "risk", turned.now())
    found = turned.await_one(InstrumentQualified, "risk").contract
    assert (found.instrument, found.conid, found.sec_type) == ("AAPL", 265598, "STK")
    assert found.increments
    assert found.increments[0].increment == D("0.01")
    assert "200" in turned.await_one(InstrumentUnknown, "risk").reason


def test_ticks_come_as_integers_and_subscriptions_outlive_the_connection(pair):
    turned, gateway = pair
    turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT), turned.now())
    turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK), turned.now())
    turned.await_one(FeedChanged, live=True)
    turned.until(lambda: len(turned.session.feeds.lines) == 2, "both lines")

    def trade(venue: Any, now: int, price: str, eligible: bool = True) -> None:
        from actors.venue.simulator.feeds import Trade

        contract = venue.contracts.named("AAPL")
        venue.trade(contract, Trade(price=D(price), size=D(7), time_ns=now, eligible=eligible,
                                    conditions="" if eligible else "20"), now)

    def ticks() -> list[Any]:
        return [tick for batch in turned.heard(TickBatch) for tick in batch.ticks]

    turned.until(lambda: any(isinstance(t, QuoteTick) for t in ticks()), "a quote")
    gateway.do(lambda venue, now: trade(venue, now, "101.37"))
    gateway.do(lambda venue, now: trade(venue, now, "101.38", eligible=False))
    turned.until(lambda: any(t.price == 101_380_000 for t in ticks() if isinstance(t, TradeTick)), "the trades")
    prints = [t for t in ticks() if isinstance(t, TradeTick) and t.price > 101_000_000]
    assert [(t.price, t.size, t.eligible) for t in prints] == [(101_370_000, 7.0, True), (101_380_000, 7.0, False)], \
        "each print once, though two lines carry it"
    gateway.drop_clients()
    turned.await_one(FeedChanged, live=False)
    turned.until(lambda: len(turned.heard(GateOpened, "router")) == 2, "the gate to open again")
    turned.until(lambda: len(gateway.heard("reqTickByTickData")) == 2, "the feed to be asked for again")
    turned.session.feeds.unsubscribe(Unsubscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK), turned.now())
    turned.until(lambda: gateway.heard("cancelTickByTickData"), "the cancel")


def test_a_halt_is_told_once_and_so_is_its_end(one):
    turned, gateway = one
    turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT), turned.now())
    turned.until(lambda: turned.session.feeds.lines, "the line")
    request = next(iter(turned.session.feeds.lines.values()))[0]
    for value in ("1", "1", "0", "-1"):
        gateway.say(45, 6, request, 49, value)
    turned.until(lambda: len(turned.heard(HaltChanged, "market_data")) == 2, "halt and resumption")
    assert [h.halted for h in turned.heard(HaltChanged, "market_data")] == [True, False]


def test_a_farm_that_flaps_makes_feeds_stale_and_fresh_again_and_drops_no_socket(one):
    turned, gateway = one
    turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT), turned.now())
    first = turned.await_one(FeedChanged, live=True)
    gateway.say(4, 2, -1, 2103, "Market data farm connection is broken:usfarm", "")
    turned.await_one(FeedChanged, live=False)
    gateway.say(4, 2, -1, 2104, "Market data farm connection is OK:usfarm", "")
    turned.until(lambda: len([f for f in turned.heard(FeedChanged) if f.live]) == 2, "the feed to be live again")
    assert turned.heard(FeedChanged)[-1].fresh_after_ns > first.fresh_after_ns
    assert turned.desk.gate_open
    assert turned.session.sessions == 1


def test_after_1101_every_subscription_is_made_again(one):
    turned, gateway = one
    turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT), turned.now())
    turned.until(lambda: turned.session.feeds.lines, "the line")
    gateway.say(4, 2, -1, 1100, "lost", "")
    turned.until(lambda: not turned.desk.gate_open, "the gate to close")
    gateway.say(4, 2, -1, 1101, "restored - data lost", "")
    turned.until(lambda: turned.desk.gate_open, "the gate to open")
    turned.until(lambda: len(gateway.heard("reqMktData")) == 2, "the second subscription")


def test_positions_go_to_position_and_risk(one):
    turned, _gateway = one
    turned.own()
    turned.submit(order_type="MKT", limit=None)
    turned.until(lambda: any(p.quantity == 100 for p in turned.heard(PositionSeen, "position")), "the position")
    assert turned.heard(PositionSeen, "risk") == turned.heard(PositionSeen, "position")
    assert turned.heard(PositionSeen, "risk")[-1].instrument == "AAPL"


@pytest.mark.parametrize("just_ended", [True, False])
def test_a_day_order_that_ends_at_the_close_has_expired_and_at_no_other_time(one, just_ended):
    turned, gateway = one
    working(turned)
    turned.until(lambda: not turned.session.feeds.questions, "the contract's hours")
    turned.session.feeds.hours[265598] = ((turned.now() - (5 if just_ended else 3600) * 10**9,), ())

    def work(venue: Any, now: int) -> None:
        order = venue.exchange.matching(REF)[0]
        venue.deliver(venue.exchange.cancel(order.client_id, order.order_id, now), now)

    gateway.do(work)
    if just_ended:
        turned.await_one(OrderExpired)
    else:
        assert turned.await_one(OrderCanceled).requested is False


def test_a_question_that_must_wait_for_its_turn_is_remembered(one):
    """Or it would wait for the next heartbeat: found where orders had just used up what may be written at once."""
    turned, _gateway = one
    now = turned.now()
    while not turned.desk.wait_ns(now):
        turned.desk.spend(now, entry=True)
    for ask in (lambda: turned.session.feeds.qualify("NOPE", "risk", now),
                lambda: turned.session.feeds.subscribe(Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT), now)):
        ask()
        assert not any(question.request for question in turned.session.feeds.questions.values())
        assert now < turned.session.next_due(now) < now + 1_000_000_000


def test_a_heartbeat_asked_early_leaves_no_timer_that_is_always_due(one):
    """Found by the nemesis after a clock was set back: the wait for the answer was over before the silence counted."""
    turned, _gateway = one
    session, now = turned.session, turned.now()
    beat = int(session.settings.heartbeat_s * 1e9)
    turned.desk.timeout_ns = beat * 8 // 10
    session.heard_ns = now - beat * 9 // 10
    session.asked_time_ns = now - turned.desk.timeout_ns
    session.on_time(now)
    assert session.next_due(now) > now


def test_many_instruments_are_asked_for_at_the_permitted_pace(one):
    turned, _gateway = one
    for number in range(60):
        turned.session.feeds.qualify(f"NOPE{number}", "risk", turned.now())
    assert len([q for q in turned.session.feeds.questions.values() if q.request]) < 20
    turned.until(lambda: len(turned.heard(InstrumentUnknown)) == 60, "sixty answers")
