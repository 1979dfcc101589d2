"""What may have to be sent at any moment is encoded beforehand; sent, it is the same order, judged by the same gate."""

from __future__ import annotations

from decimal import Decimal

import pytest

from messages.orders import GateOpened, OrderAccepted, OrderDenied, OrderFilled, OrderSubmitted
from tests import builders
from tests.venue.driver import LIBRARIES, driver

pytestmark = pytest.mark.integration
D = Decimal
EXIT = {"side": "SELL", "order_type": "MKT", "limit": None, "account": "DU1000001"}
NAMES = ("orderRef", "action", "quantity", "type", "lmtPrice", "auxPrice", "tif", "account", "ocaGroup", "ocaType")


@pytest.fixture(params=LIBRARIES)
def pair(request):
    with driver(request.param) as made:
        yield made


@pytest.fixture
def one():
    with driver() as made:
        yield made


def held(turned, gateway, filled: int = 100) -> None:
    """A bracket whose entry is filled."""
    turned.own()
    turned.submit(limit=90)
    turned.await_one(OrderAccepted, "owner")
    gateway.fill("B1-test.entry", filled, "90")
    turned.await_one(OrderFilled, "owner")


def told(gateway, order_ref: str) -> dict:
    line = next(line for line in gateway.heard("placeOrder") if line["orderRef"] == order_ref)
    return {key: line[key] for key in line if key in NAMES and key != "orderRef"}


def refuse_to_encode(turned, monkeypatch) -> None:
    def no(ticket):
        raise AssertionError("it was to be ready")

    monkeypatch.setattr(turned.venue, "prepare", no)


def test_a_prepared_exit_is_stamped_and_written_without_being_encoded_again(pair, monkeypatch):
    turned, gateway = pair
    held(turned, gateway)
    turned.submit("B1-test.stop.1", side="SELL", quantity=60, order_type="MKT", limit=None)
    order = builders.submit("B1-test.trail.1", quantity=40, **EXIT)
    turned.desk.prepare(order)
    assert "B1-test.trail.1" not in gateway.placed()
    refuse_to_encode(turned, monkeypatch)
    turned.desk.submit(order, "owner", turned.now())
    turned.await_one(OrderAccepted, order_id="B1-test.trail.1")
    assert told(gateway, "B1-test.trail.1") == told(gateway, "B1-test.stop.1") | {"quantity": "40"}
    known = turned.desk.books.orders["B1-test.trail.1"]
    assert known.template is None, "a frame that was sent is not kept"


def test_the_gate_cuts_a_prepared_exit_to_what_is_open_when_it_is_written(one, monkeypatch):
    turned, gateway = one
    held(turned, gateway, filled=30)
    order = builders.submit("B1-test.trail.1", reduce_to_open=True, **EXIT)
    other = builders.submit("B1-test.flat.1", quantity=1, **EXIT)
    turned.desk.prepare(order)
    turned.desk.prepare(other)
    refuse_to_encode(turned, monkeypatch)
    turned.desk.submit(order, "owner", turned.now())
    assert turned.heard(OrderSubmitted)[-1].quantity == D(30)
    turned.desk.submit(other, "owner", turned.now())
    assert turned.heard(OrderDenied)[-1].code == "exceeds_open"
    turned.await_one(OrderAccepted, order_id="B1-test.trail.1")
    assert gateway.placed() == ["B1-test.entry", "B1-test.trail.1"]


def test_the_limit_is_stamped_and_anything_else_that_differs_is_encoded_anew(one):
    turned, gateway = one
    held(turned, gateway)
    words = {**EXIT, "order_type": "LMT"}
    for number, changes in enumerate(({"limit": 88}, {"limit": 89, "tif": "GTC", "quantity": 20}), 1):
        order_id = f"B1-test.trail.{number}"
        turned.desk.prepare(builders.submit(order_id, quantity=40, **{**words, "limit": 95}))
        turned.desk.submit(
            builders.submit(order_id, **{"quantity": 40, **words, **changes}), "owner", turned.now())
        turned.await_one(OrderAccepted, order_id=order_id)
    first, second = (told(gateway, f"B1-test.trail.{number}") for number in (1, 2))
    assert (first["quantity"], first["lmtPrice"], first["tif"]) == ("40", "88", "DAY")
    assert (second["quantity"], second["lmtPrice"], second["tif"]) == ("20", "89", "GTC")


def test_what_was_prepared_in_a_session_that_is_over_is_encoded_in_the_new_one(one):
    turned, gateway = one
    held(turned, gateway)
    order = builders.submit("B1-test.trail.1", **EXIT)
    turned.desk.prepare(order)
    gateway.drop_clients()
    turned.until(lambda: len(turned.heard(GateOpened, "router")) == 2, "the gate to open again")
    template = turned.desk.books.brackets["B1-test"].prepared["B1-test.trail.1"].template
    assert not turned.venue.holds(template)
    turned.desk.submit(order, "owner", turned.now())
    turned.await_one(OrderAccepted, order_id="B1-test.trail.1")


def test_a_new_owner_begins_without_what_the_old_one_had_prepared(one):
    turned, gateway = one
    held(turned, gateway)
    old, new = (builders.submit("B1-test.trail.1", incarnation=number, **EXIT) for number in (1, 2))
    turned.desk.prepare(old)
    turned.own(incarnation=2)
    bracket = turned.desk.books.brackets["B1-test"]
    assert not bracket.prepared
    turned.desk.prepare(old)
    assert not bracket.prepared, "the word of an older incarnation"
    turned.desk.prepare(new)
    assert set(bracket.prepared) == {"B1-test.trail.1"}
    assert bracket.book.committed() == 0, "what is only prepared counts for nothing"
