"""Who owns an order and under which id (ib-wire.md 8): ids per client, the Master client, orders made by hand."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.orders import UNSET_ID, Order
from actors.venue.simulator.settings import DEFAULT_ACCOUNT
from tests.venue.gateway_fixture import (
    START_NS,
    RawClient,
    Venue,
    client_of,
    gateway_server,
    memory_gateway,
    run,
    until,
)
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit


def by_hand(gateway: Gateway, quantity: int = 100, lmt: str = "99", **more) -> Order:
    """Enter a buy order in TWS, as a human does."""
    contract = gateway.contracts.named("AAPL")
    order = Order(client_id=0, order_id=0, contract=contract, action="BUY", total=D(quantity), order_type="LMT",
                  account=DEFAULT_ACCOUNT, lmt=D(lmt), **more)
    gateway.manual_order(order, START_NS)
    return order


def told(messages: list[list[str]], kind: str) -> list[list[str]]:
    return [m for m in messages if m[0] == kind]


def codes(messages: list[list[str]]) -> list[str]:
    return [m[3] for m in told(messages, "4")]


# ids -----------------------------------------------------------------------------------------------------------------

def test_ids_rise_per_client_and_gaps_are_allowed():
    gateway = memory_gateway()
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    assert codes(one.send(*place(10, lmt="99"))) == []
    assert codes(one.send(*place(9, lmt="99"))) == ["103"]
    assert codes(two.send(*place(9, lmt="99"))) == []
    assert told(one.send(8, 1, 1), "9")[0][2] == told(one.send(8, 1, 1), "9")[0][2] == "11", "asking reserves nothing"


@pytest.mark.parametrize(("accepted", "said"), [(False, ["103"]), (True, [])])
def test_a_lower_id_that_was_never_used(accepted, said):
    venue = Venue(lower_ids=accepted)
    venue.trade(100)
    venue.place("BUY", lmt=99, order_id=10)
    before = len(venue.heard)
    late = venue.place("BUY", lmt=98, order_id=5)
    assert [str(r.code) for r in venue.heard[before:] if hasattr(r, "code")] == said
    assert late.alive
    assert bool(late.perm_id) == accepted
    venue.amend(late, lmt=D(97))
    assert len(venue.exchange.open_orders()) == (2 if accepted else 1), "a used id is an amendment"


@pytest.mark.parametrize("how", ["all open orders", "master"])
def test_ids_that_were_shown_are_used_up(how):
    gateway = memory_gateway(master_client_id=7 if how == "master" else None)
    one, seven = RawClient(gateway, 1), RawClient(gateway, 7)
    one.send(*place(500, lmt="99"))
    if how != "master":
        assert codes(seven.send(*place(400, lmt="99"))) == []
        seven.send(16, 1)
    else:
        seven.read()
    assert codes(seven.send(*place(500, lmt="99"))) == ["103"]
    assert codes(seven.send(*place(501, lmt="99"))) == []


def test_ids_are_reset_only_while_nothing_is_open():
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.send(*place(30, lmt="99"))
    assert not gateway.exchange.reset_ids()
    client.send(4, 1, 30, "")
    assert gateway.exchange.reset_ids()
    assert told(client.send(8, 1, 1), "9")[0][2] == "1"
    assert codes(client.send(*place(1, lmt="99"))) == []


def test_ids_that_went_back_are_handed_out_again_and_meet_the_old_order():
    gateway = memory_gateway(nextid_rollback=2)
    client = RawClient(gateway)
    for order_id, limit in ((1, "99"), (2, "98"), (3, "101")):
        client.send(*place(order_id, lmt=limit))
    gateway.restart(START_NS)
    again = RawClient(gateway)
    assert told(again.seen, "9")[0][2] == "2"
    again.send(*place(2, lmt="97"))
    assert gateway.exchange.orders[1, 2].lmt == 97, "what its sender takes for a new order changes the old one"
    assert codes(again.send(*place(3, lmt="97"))) == ["104"]


def test_a_permanent_id_is_unique_stays_and_may_be_wider_than_32_bits():
    gateway = memory_gateway(first_perm_id=2**31 + 5)
    client = RawClient(gateway)
    first = told(client.send(*place(1, lmt="99")), "3")
    second = told(client.send(*place(2, lmt="99")), "3")
    changed = told(client.send(*place(1, lmt="98")), "3")
    assert {m[6] for m in first} == {m[6] for m in changed} == {str(2**31 + 5)}
    assert {m[6] for m in second} == {str(2**31 + 6)}


# the Master client ---------------------------------------------------------------------------------------------------

def test_the_master_client_hears_every_order_and_execution_but_not_the_errors():
    gateway = memory_gateway(master_client_id=7)
    one, two, master = RawClient(gateway, 1), RawClient(gateway, 2), RawClient(gateway, 7)
    master.read()
    one.send(*place(1, lmt="99"))
    assert [m[0] for m in master.read()] == ["5", "3", "5", "3"]
    one.send(*place(2, lmt="101"))
    heard = master.read()
    assert [m[0] for m in heard] == ["5", "3", "11", "5", "3", "59"]
    assert told(heard, "11")[0][22] == "1", "with its owner's client id"
    one.send(4, 1, 1, "")
    assert [m[0] for m in master.read()] == ["3", "3"]
    assert two.read() == []


# orders made by hand -------------------------------------------------------------------------------------------------

def test_an_unbound_order_belongs_to_no_client_and_shows_id_0_in_all_open_orders():
    gateway = memory_gateway()
    zero, one = RawClient(gateway, 0), RawClient(gateway, 1)
    orders = [by_hand(gateway), by_hand(gateway, lmt="98")]
    assert zero.read() == one.read() == []
    shown = told(one.send(16, 1), "3")
    assert [(m[1], m[9]) for m in shown] == [("0", "0"), ("0", "0")]
    assert [m[6] for m in shown] == [str(o.perm_id) for o in orders]
    assert told(one.send(5, 1), "5") == []
    assert codes(zero.send(4, 1, 0, "")) == ["10147"]
    assert codes(zero.send(4, 1, -1, "")) == ["10147"], "it has no such id yet"
    assert len({o.key for o in orders}) == 2


@pytest.mark.parametrize("ask", [(15, 1, 1), (5, 1)])
def test_client_0_binds_manual_orders_to_negative_ids(ask):
    gateway = memory_gateway()
    zero = RawClient(gateway, 0)
    first, second = by_hand(gateway), by_hand(gateway, lmt="98")
    said = zero.send(*ask)
    assert told(said, "100") == [["100", str(first.perm_id), "0", "-1"], ["100", str(second.perm_id), "0", "-2"]]
    assert [m[1] for m in told(said, "5")][:2] == ["-1", "-2"]
    assert told(zero.send(5, 1), "100") == [], "once"
    assert told(zero.send(*place(-2, lmt="97")), "3")[0][2] == "Submitted"
    assert second.lmt == 97
    assert codes(zero.send(4, 1, -1, "")) == ["202"]
    assert first.status == "Cancelled"
    assert codes(zero.send(*place(-9, lmt="97"))) == ["320"]


def test_while_client_0_asks_for_them_new_manual_orders_are_bound_as_they_come():
    gateway = memory_gateway()
    zero = RawClient(gateway, 0)
    zero.send(15, 1, 1)
    bound = by_hand(gateway)
    assert [m[0] for m in zero.read()] == ["100", "5", "3", "5", "3"]
    zero.send(15, 1, 0)
    assert by_hand(gateway).order_id == 0
    zero.send(15, 1, 1)
    gateway.disconnect(zero.session, START_NS)
    assert by_hand(gateway).order_id == 0, "it ends with the connection"
    assert bound.order_id == -1


def test_binding_costs_the_order_its_place_in_the_queue():
    sequence = []
    for resubmits in (True, False):
        venue = Venue(bind_resubmits=resubmits)
        venue.trade(100)
        manual = venue.order("BUY", lmt=99)
        venue.hear(venue.exchange.manual_order(manual, venue.now))
        later = venue.place("BUY", lmt=99)
        venue.hear(venue.exchange.bind_manual())
        venue.trade(99)
        sequence.append([e.perm_id for e in venue.exchange.executions] == [later.perm_id, manual.perm_id])
    assert sequence == [True, False]


def test_only_client_0_may_bind():
    assert codes(RawClient(memory_gateway(), 3).send(15, 1, 1)) == ["327"]


def test_an_execution_of_a_manual_order_has_no_order_id_and_goes_to_the_master():
    gateway = memory_gateway(master_client_id=7)
    zero, master = RawClient(gateway, 0), RawClient(gateway, 7)
    master.read()
    by_hand(gateway, lmt="101", order_ref="hand")
    (execution,) = told(master.read(), "11")
    assert execution[2] == str(UNSET_ID)
    assert zero.read() == []
    assert told(zero.send(7, 3, 9, 0, "", "", "", "", "", ""), "11")[0][2] == str(UNSET_ID)


def test_completed_orders_leave_manual_ones_out_where_only_the_apis_are_asked_for():
    gateway = memory_gateway()
    client = RawClient(gateway)
    by_hand(gateway, lmt="101")
    client.send(*place(1, lmt="101"))
    assert [len(told(client.send(99, flag), "101")) for flag in (0, 1)] == [2, 1]


def test_a_global_cancel_takes_manual_orders_too():
    gateway = memory_gateway()
    order = by_hand(gateway)
    RawClient(gateway).send(58, 1)
    assert order.status == "Cancelled"


@pytest.mark.parametrize("name", ["ib_insync", "ib_async"])
def test_the_real_client_0_takes_a_manual_order_for_its_own_once_it_is_bound(name):
    library = pytest.importorskip(name)

    async def test():
        async with gateway_server() as server, client_of(library, server, 0) as ib:
            by_hand(server.gateway, order_ref="hand")
            server.turn()
            await until(lambda: [t for t in ib.openTrades() if t.order.orderRef == "hand"], "the manual order")
            (trade,) = ib.openTrades()
            ib.cancelOrder(trade.order)
            await until(lambda: trade.orderStatus.status == "Cancelled", "its cancel")

    run(test)
