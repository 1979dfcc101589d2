"""The broker's part in finding what filled unseen: what the account holds, when it may be believed, and the gate."""

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.venue.simulator.settings import DEFAULT_ACCOUNT
from messages.intent import Side
from messages.orders import (
    BracketPictured,
    GateClosed,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderFilled,
)
from messages.risk import ExplainAbsence
from tests.venue.driver import LIBRARIES, Driver, GatewayThread, driver

pytestmark = pytest.mark.integration
AAPL, MSFT = 265598, 272093


@pytest.fixture(params=LIBRARIES)
def holding(request):
    with driver(request.param, {"positions": ("AAPL=100@99.99",)}) as made:
        yield made


@pytest.fixture
def one():
    with driver() as made:
        yield made


def ask(turned: Driver, conid: int = AAPL, bracket: str = "B1-test") -> None:
    turned.session.explain(ExplainAbsence(
        bracket_id=bracket, order_id=f"{bracket}.entry", account=DEFAULT_ACCOUNT, conid=conid, side=Side("BUY"),
        quantity=Decimal(100),
    ), turned.now())  # fmt: skip


def forget(turned: Driver, gateway: GatewayThread) -> None:
    """Let a night pass: the gateway has never heard of any order."""
    gateway.drop_clients()
    gateway.do(lambda venue, now: venue.exchange.orders.clear())
    turned.await_one(GateClosed, "router")


def test_a_question_goes_on_with_what_the_account_holds(holding):
    turned, _gateway = holding
    ask(turned)
    ask(turned, MSFT, "B2-test")
    turned.until(lambda: len(turned.heard(ExplainAbsence, "position")) == 2, "both questions")
    found = {each.conid: (each.held, each.avg_cost) for each in turned.heard(ExplainAbsence)}
    assert found == {AAPL: (100, Decimal("99.99")), MSFT: (0, 0)}
    assert turned.session.absences == {}


def test_it_waits_while_an_execution_there_is_told_to_nobody(one):
    turned, gateway = one
    turned.own("B7-gone")
    turned.submit("B7-gone.entry", limit=90)
    turned.await_one(OrderAccepted)
    turned.desk.books.bracket("B7-gone").owner = None  # as after a restart, before its actor has spoken
    gateway.fill("B7-gone.entry", 100, "90")
    turned.until(lambda: turned.session.reports.fills.untold(), "the execution")
    ask(turned)
    turned.until(lambda: not turned.session.absences, "the end of the listing")
    assert not turned.heard(ExplainAbsence, "position")
    turned.own("B7-gone", fresh=False)
    ask(turned)
    turned.await_one(ExplainAbsence, "position", held=Decimal(100))
    told = [type(message) for to, message in turned.said if to == "position"]
    assert told.index(OrderFilled) < told.index(ExplainAbsence)


def test_behind_a_closed_gate_it_is_left_to_be_asked_again(one):
    turned, gateway = one
    gateway.drop_clients()
    turned.await_one(GateClosed, "router")
    ask(turned)
    assert turned.session.absences == {}


def test_an_entry_that_the_venue_has_forgotten_is_absent_not_cancelled(one):
    turned, gateway = one
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)
    forget(turned, gateway)
    turned.await_one(OrderAbsent, "owner", order_id="B1-test.entry")
    assert not turned.heard(OrderCanceled)
    turned.own(incarnation=2, fresh=False)  # a rebuilt bracket is not shown it as something that ended
    turned.until(lambda: len(turned.heard(BracketPictured)) >= 2, "another picture")
    assert turned.heard(BracketPictured)[-1].orders == ()


def test_an_exit_that_the_venue_has_forgotten_is_a_cancel_nobody_asked_for(one):
    turned, gateway = one
    turned.own(entry_filled=Decimal(100), fills=("inferred:B1-test.entry",), fresh=False)
    turned.submit("B1-test.stop.1", side="SELL", order_type="STP", limit=None, stop_price=80, oca_group="B1-test.g1")
    turned.await_one(OrderAccepted)
    forget(turned, gateway)
    assert not turned.await_one(OrderCanceled, "owner").requested


def test_the_gate_lets_exits_of_an_inferred_fill_pass_and_counts_a_real_one_once(one):
    turned, gateway = one
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted)
    book = turned.desk.books.bracket("B1-test").book
    stop = {"side": "SELL", "order_type": "STP", "limit": None, "stop_price": 80}
    turned.submit("B1-test.stop.1", oca_group="B1-test.g1", **stop)
    assert turned.await_one(OrderDenied).code == "exceeds_open"
    turned.own(entry_filled=Decimal(100), fills=("inferred:B1-test.entry",), fresh=False)
    turned.submit("B1-test.stop.2", oca_group="B1-test.g1", **stop)
    turned.await_one(OrderAccepted, order_id="B1-test.stop.2")
    gateway.fill("B1-test.entry", 100, "90")
    real = turned.await_one(OrderFilled, "owner")
    turned.own(entry_filled=Decimal(100), fills=("inferred:B1-test.entry", real.exec_id), fresh=False)
    assert book.entry_filled == 100
    turned.submit("B1-test.stop.3", oca_group="B1-test.g2", **stop)
    turned.await_one(OrderDenied, order_id="B1-test.stop.3")
