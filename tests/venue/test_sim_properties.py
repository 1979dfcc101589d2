"""Whatever is asked of the exchange: its books balance, final is final, and the fast path changes nothing."""

from __future__ import annotations

from decimal import Decimal as D
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.book import Book
from actors.venue.simulator.instructions import Instructions, PriceCondition
from actors.venue.simulator.orders import FINAL
from actors.venue.simulator.reports import FillReport, StatusReport
from tests.venue.gateway_fixture import Venue

pytestmark = pytest.mark.unit

cents = st.integers(9500, 10500).map(lambda n: D(n) / 100)
placing = st.fixed_dictionaries({
    "do": st.just("place"), "action": st.sampled_from(["BUY", "SELL"]), "quantity": st.integers(1, 50),
    "order_type": st.sampled_from(["MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT"]), "lmt": cents, "aux": cents,
    "tif": st.sampled_from(["DAY", "GTC", "IOC", "FOK"]), "group": st.sampled_from(["", "", "g1", "g2"]),
    "oca_type": st.integers(1, 3), "method": st.sampled_from([0, 0, 0, 2, 1, 4, 7, 8]), "transmit": st.booleans(),
    "parent": st.sampled_from([0, 0, 0, 1, 2]), "until": st.sampled_from(["", "", "", "hold", "cancel"]),
    "level": cents, "takes_parent": st.booleans()})
market = st.fixed_dictionaries({"do": st.just("trade"), "last": cents, "spread": st.integers(0, 20),
                                "size": st.integers(1, 60)})
acting = st.fixed_dictionaries({"do": st.sampled_from(["cancel", "amend", "fill", "reject", "system", "race"]),
                                "n": st.integers(0, 11), "m": st.integers(0, 11), "price": cents,
                                "quantity": st.integers(1, 60)})
story = st.lists(st.one_of(placing, market, market, acting), max_size=40)


def tell(steps: list[dict], **rules) -> Venue:
    venue = Venue(**rules)
    orders = []
    for step in steps:
        if step["do"] == "trade":
            wide = D(step["spread"]) / 100
            venue.trade(step["last"], bid=step["last"] - wide, ask=step["last"] + wide, bid_size=step["size"],
                        ask_size=step["size"])
        elif step["do"] == "place":
            orders.append(venue.place(
                step["action"], step["quantity"], step["order_type"], step["lmt"],
                D(2) if "TRAIL" in step["order_type"] else step["aux"], tif=step["tif"], oca_group=step["group"],
                oca_type=step["oca_type"], trigger_method=step["method"], transmit=step["transmit"],
                parent_id=step["parent"] if step["parent"] <= len(orders) else 0, order_ref=f"r{len(orders)}",
                instructions=instructions_of(venue, step)))
        elif orders:
            act(venue, orders[step["n"] % len(orders)], orders[step["m"] % len(orders)], step)
    return venue


def instructions_of(venue: Venue, step: dict) -> Instructions:
    condition = PriceCondition(is_more=step["action"] == "BUY", price=step["level"], con_id=venue.contract.con_id)
    return Instructions(conditions=(condition,) if step["until"] else (), conditions_cancel=step["until"] == "cancel",
                        auto_cancel_parent=step["takes_parent"])


def act(venue: Venue, order, other, step: dict) -> None:
    exchange, quantity = venue.exchange, D(step["quantity"])
    live = order.perm_id > 0
    if step["do"] == "cancel":
        venue.cancel(order)
    elif step["do"] == "amend":
        venue.amend(order, lmt=step["price"], total=quantity)
    elif step["do"] == "fill" and live:
        venue.fill(order, quantity, step["price"])
    elif step["do"] == "reject":
        venue.hear(exchange.reject(order, 201, "no", venue.now))
    elif step["do"] == "system":
        venue.hear(exchange.system_cancel(order, "no", venue.now))
    elif step["do"] == "race" and live and other.perm_id > 0 and order is not other:
        venue.hear(exchange.fill_all([(order, quantity, step["price"]), (other, quantity, step["price"])], venue.now))


@settings(max_examples=300, deadline=None)
@given(story, st.sampled_from(["whole", "displayed"]), st.booleans())
def test_the_books_balance_and_final_is_final(steps, liquidity, cascade):
    venue = tell(steps, liquidity=liquidity, oca_cancel_cascade=cascade, oca_amend=not cascade)
    exchange = venue.exchange
    executions = [r.execution for r in venue.heard if isinstance(r, FillReport)]
    assert venue.position() == sum((e.quantity if e.side == "BOT" else -e.quantity for e in executions), D(0))
    assert len({e.exec_id for e in executions}) == len(executions)
    orders = [*exchange.orders.values(), *exchange.done.values()]
    for order in orders:
        own = [e for e in executions if e.order_id == order.order_id]
        assert order.filled == sum((e.quantity for e in own), D(0))
        assert order.commission == sum((e.commission for e in own), D(0))
        assert 0 <= order.filled <= order.total
        assert (order.status == "Filled") == (order.remaining == 0 and order.filled > 0)
    assert all(o.alive for o in exchange.orders.values())
    assert not any(o.alive for o in exchange.done.values())
    assert not exchange.orders.keys() & exchange.done.keys()
    works = exchange.book(venue.contract.con_id).orders
    assert not any(exchange.holds.waits(o) and o.key in works for o in exchange.orders.values())
    assert not any(exchange.holds.knows(o) for o in exchange.done.values())
    for book in exchange.books.values():
        assert all(o.key in exchange.orders for o in book.orders.values())
    cash = sum((e.price * e.quantity * (-1 if e.side == "BOT" else 1) - e.commission for e in executions), D(0))
    assert sum(exchange.accounts.cash.values(), D(0)) == cash


@settings(max_examples=200, deadline=None)
@given(story)
def test_after_a_final_status_nothing_is_said_of_an_order_again(steps):
    venue = tell(steps)
    ended: dict[int, str] = {}
    for report in venue.heard:
        if isinstance(report, FillReport):
            assert report.execution.order_id not in ended
        if isinstance(report, StatusReport):
            order = report.order
            assert order.order_id not in ended, f"{order.status} after {ended[order.order_id]}"
            if order.status in FINAL:
                ended[order.order_id] = order.status


@settings(max_examples=200, deadline=None)
@given(story)
def test_skipping_orders_out_of_reach_changes_nothing(steps):
    quick = tell(steps)
    with mock.patch.object(Book, "_reached", return_value=True):
        slow = tell(steps)

    def outcome(venue: Venue):
        return [(o.order_id, o.status, o.filled, o.cost, o.trail_stop, o.triggered)
                for o in (*venue.exchange.orders.values(), *venue.exchange.done.values())]

    assert outcome(quick) == outcome(slow)
