"""Our placeOrder frames against the library's own, field for field, for both libraries and server versions."""

from __future__ import annotations

import importlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.ib import load_library
from actors.venue.ib_orders import MAX_ORDER_ID, OrderEncoder, contract_fields, number
from actors.venue.port import OrderTicket
from messages.intent import OrderType, Side, TimeInForce
from tests import builders

D = Decimal
VERSIONS = [("ib_insync", 157), ("ib_insync", 176), ("ib_async", 157), ("ib_async", 176), ("ib_async", 178)]


class Bench:
    """One library at one server version: what it would send, and what we would send."""

    def __init__(self, library: str, version: int) -> None:
        self.lib = load_library(library)
        client_module = importlib.import_module(f"{library}.client")
        self.sent: list[str] = []
        self.client = client_module.Client.__new__(client_module.Client)
        self.client.serverVersion = lambda: version
        self.client.isConnected = lambda: True
        self.client.sendMsg = self.sent.append
        self.ours = OrderEncoder(self.library_frame(1, self.lib.Contract(), self.lib.Order()), version)

    def library_frame(self, order_id: int, contract: Any, order: Any) -> list[str]:
        self.sent.clear()
        self.client.placeOrder(order_id, contract, order)
        return self.sent[0].split("\0")[:-1]

    def expected(self, order_id: int, ticket: OrderTicket) -> list[str]:
        names = ("conId", "symbol", "secType", "lastTradeDateOrContractMonth", "strike", "right", "multiplier",
                 "exchange", "primaryExchange", "currency", "localSymbol", "tradingClass")
        contract = self.lib.Contract(**dict(zip(names, contract_fields(ticket.contract), strict=True)))
        contract.strike = 0.0
        order = self.lib.Order(
            action=ticket.side.venue_side.value, totalQuantity=number(ticket.quantity),
            orderType=ticket.order_type.value, tif=ticket.time_in_force.value, account=ticket.account,
            orderRef=ticket.order_ref, outsideRth=ticket.outside_rth, goodTillDate=ticket.good_till or "",
            transmit=True)
        if ticket.oca_group:
            order.ocaGroup, order.ocaType = ticket.oca_group, 2
        if ticket.limit_price is not None:
            order.lmtPrice = number(ticket.limit_price)
        if ticket.stop_price is not None:
            order.auxPrice = number(ticket.stop_price)
        return self.library_frame(order_id, contract, order)

    def encoded(self, order_id: int, ticket: OrderTicket) -> list[str]:
        frame = self.ours.encode(order_id, ticket)
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert frame.endswith(b"\0")
        return frame[4:].decode().split("\0")[:-1]


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda pair: f"{pair[0]}@{pair[1]}")
def bench(request):
    return Bench(*request.param)


def ticket(**changes: Any) -> OrderTicket:
    fields: dict[str, Any] = {
        "order_ref": "B1-test.entry", "account": "DU1", "contract": builders.contract(), "side": Side.BUY,
        "order_type": OrderType.LMT, "quantity": D(100), "limit_price": D("100.05"), **changes}
    return OrderTicket(**fields)


CASES = [
    ticket(),
    ticket(order_type=OrderType.MKT, limit_price=None, side=Side.SELL_SHORT),
    ticket(order_type=OrderType.STP, limit_price=None, stop_price=D("95.5"), side=Side.SELL,
           time_in_force=TimeInForce.GTC, oca_group="B1-test.g1"),
    ticket(order_type=OrderType.STP_LMT, limit_price=D("94"), stop_price=D(95), side=Side.BUY_TO_COVER,
           oca_group="B1-test.g2", outside_rth=True),
    ticket(time_in_force=TimeInForce.GTD, good_till="20261120-21:00:00", quantity=D("0.5")),
    ticket(time_in_force=TimeInForce.IOC, contract=builders.contract("SPY", multiplier=D(100), local_symbol="SPY X")),
    ticket(time_in_force=TimeInForce.FOK, quantity=D("1E+3"), limit_price=D("1E-7")),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_our_frame_is_the_librarys_field_for_field(bench, case):
    assert bench.encoded(12, case) == bench.expected(12, case)


prices = st.decimals("0.0001", "999999.9999", places=4)


@settings(max_examples=40, deadline=None)
@given(
    order_id=st.integers(1, MAX_ORDER_ID), quantity=st.decimals("0.01", "1000000", places=2), limit=prices,
    stop=prices,
    kind=st.sampled_from(list(OrderType)), tif=st.sampled_from(list(TimeInForce)), side=st.sampled_from(list(Side)),
    group=st.sampled_from([None, "B9-zz.g3"]), outside=st.booleans(),
    good_till=st.sampled_from([None, "20301231-10:00:00"]),
    ref=st.from_regex(r"\AB\d{1,9}-[a-z0-9]{1,6}\.(entry|stop|target2)(\.\d{1,3})?\Z"),
)
def test_any_ticket_is_encoded_as_the_library_would(bench, order_id, quantity, limit, stop, kind, tif, side, group,
                                                    outside, good_till, ref):
    case = ticket(
        order_ref=ref, quantity=quantity, order_type=kind, time_in_force=tif, side=side, oca_group=group,
        limit_price=limit if "LMT" in kind.value else None, stop_price=stop if "STP" in kind.value else None,
        outside_rth=outside, good_till=good_till)
    assert bench.encoded(order_id, case) == bench.expected(order_id, case)


def test_a_template_is_stamped_when_it_fires(bench):
    armed = bench.ours.prepare(ticket(order_type=OrderType.STP_LMT, stop_price=D(1)))
    frame = armed.stamp(77, D(60), D("99.5"), D("98"))
    fields = frame[4:].decode().split("\0")[:-1]
    assert fields == bench.expected(77, ticket(order_type=OrderType.STP_LMT, quantity=D(60), limit_price=D("99.5"),
                                               stop_price=D(98)))


@pytest.mark.parametrize("order_id", [0, -1, MAX_ORDER_ID + 1])
def test_an_id_that_the_venue_cannot_hold_is_refused(bench, order_id):
    with pytest.raises(ValueError, match="outside"):
        bench.ours.encode(order_id, ticket())


@pytest.mark.parametrize(("value", "text"), [
    ("100", "100"), ("100.00", "100"), ("1E+2", "100"), ("0.10", "0.1"), ("-0.5", "-0.5"),
    ("123456.7891", "123456.7891"), ("1E-8", "0.00000001"), ("0", "0"),
])
def test_numbers_are_plain_and_exact(value, text):
    assert number(D(value)) == text


