"""OCA groups at the venue: types 1 to 3, the cascade of a cancel, 10326, closed groups, races."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import ErrorReport, OpenReport
from tests.venue.gateway_fixture import NS, Venue, words

pytestmark = pytest.mark.unit


def pair(venue: Venue, oca_type: int = 2, quantity: int = 100, group: str = "g1") -> tuple[Order, Order]:
    """Place a target at 110 and a stop at 95 in one group, with the market at 100."""
    venue.trade(100)
    target = venue.place("SELL", quantity, lmt=110, oca_group=group, oca_type=oca_type)
    stop = venue.place("SELL", quantity, "STP", aux=95, oca_group=group, oca_type=oca_type)
    return target, stop


@pytest.mark.parametrize("oca_type", [1, 2, 3])
@pytest.mark.parametrize(("price", "winner"), [(110, 0), (95, 1)])
def test_a_complete_fill_cancels_the_sibling(oca_type, price, winner):
    venue = Venue()
    members = pair(venue, oca_type)
    reports = venue.trade(price, bid=price)
    assert members[winner].status == "Filled"
    assert members[1 - winner].status == "Cancelled"
    assert words(reports)[-2:] == ["3 Cancelled", "4 202"]
    assert venue.position() == -100


@pytest.mark.parametrize(("oca_type", "stop_status", "stop_left"), [
    (1, "Cancelled", 100), (2, "PreSubmitted", 60), (3, "PreSubmitted", 60)])
def test_a_partial_fill_cancels_under_type_1_and_shrinks_under_2_and_3(oca_type, stop_status, stop_left):
    venue = Venue()
    target, stop = pair(venue, oca_type)
    reports = venue.fill(target, 40, 110)
    assert (stop.status, stop.remaining) == (stop_status, stop_left)
    assert target.status == "Submitted"
    assert target.remaining == 60
    if oca_type != 1:
        assert words(reports)[-2:] == ["5 PreSubmitted", "3 PreSubmitted"]
        told = [r.order for r in reports if isinstance(r, OpenReport)][-1]
        assert (told.order_id, told.total) == (stop.order_id, 60)


def test_shrinking_goes_on_until_nothing_is_left():
    venue = Venue()
    target, stop = pair(venue)
    venue.fill(target, 40, 110)
    venue.fill(stop, 35, 95)
    assert (target.remaining, stop.remaining) == (25, 25)
    venue.fill(target, 25, 110)
    assert (target.status, stop.status) == ("Filled", "Cancelled")
    assert venue.position() == -100


def test_members_of_different_size_shrink_by_shares_or_in_proportion():
    for mode, left in (("quantity", 80), ("proportional", 60)):
        venue = Venue(oca_reduce=mode)
        venue.trade(100)
        half = venue.place("SELL", 50, lmt=110, oca_group="g", oca_type=2)
        whole = venue.place("SELL", 100, "STP", aux=95, oca_group="g", oca_type=2)
        venue.fill(half, 20, 110)
        assert whole.remaining == left


def test_a_requested_cancel_takes_the_whole_group():
    venue = Venue()
    target, stop = pair(venue)
    other, _ = pair(venue, group="g2")
    reports = venue.cancel(target)
    assert (target.status, stop.status) == ("Cancelled", "Cancelled")
    assert words(reports) == ["3 PendingCancel", "3 Cancelled", "4 202"] * 2
    assert other.alive


def test_the_cascade_can_be_switched_off():
    venue = Venue(oca_cancel_cascade=False)
    target, stop = pair(venue)
    venue.cancel(target)
    assert (target.status, stop.status) == ("Cancelled", "PreSubmitted")


@pytest.mark.parametrize("how", ["reject", "system_cancel"])
def test_what_the_venue_does_itself_leaves_the_siblings(how):
    venue = Venue()
    target, stop = pair(venue)
    if how == "reject":
        venue.exchange.reject(target, 201, "no", 0)
    else:
        venue.exchange.system_cancel(target, "no", 0)
    assert not target.alive
    assert stop.alive


@pytest.mark.parametrize("changes", [{"lmt": D(111)}, {"total": D(50)}, {"lmt": D(110)}, {"oca_group": ""}])
def test_a_member_refuses_every_amendment_and_stays_live(changes):
    venue = Venue()
    target, stop = pair(venue)
    venue.amend(target, **changes)
    assert words(venue.heard)[-1] == "4 10326"
    assert (target.status, target.lmt, target.total, target.oca_group) == ("Submitted", 110, 100, "g1")
    venue.trade(110, bid=110)
    assert (target.status, stop.status) == ("Filled", "Cancelled")


def test_amendments_can_be_allowed():
    venue = Venue(oca_amend=True)
    target, _ = pair(venue)
    venue.amend(target, lmt=D(111))
    assert target.lmt == 111


@pytest.mark.parametrize("oca_type", [1, 2])
def test_a_new_order_for_a_filled_group_is_rejected(oca_type):
    venue = Venue()
    target, _ = pair(venue, oca_type)
    venue.fill(target, 100 if oca_type == 2 else 10, 110)
    late = venue.place("SELL", lmt=112, oca_group="g1", oca_type=oca_type)
    assert late.status == "Inactive"
    errors = [r for r in venue.heard if isinstance(r, ErrorReport)]
    assert errors[-1].code == 201
    assert "OCA group is already filled" in errors[-1].text
    assert venue.place("SELL", lmt=112, oca_group="g2").alive


def test_a_partly_filled_group_takes_another_member():
    venue = Venue()
    target, _ = pair(venue, 2)
    venue.fill(target, 10, 110)
    assert venue.place("SELL", 90, lmt=112, oca_group="g1", oca_type=2).alive


def test_a_cancelled_group_is_not_a_filled_one():
    venue = Venue()
    target, _ = pair(venue)
    venue.cancel(target)
    assert venue.place("SELL", lmt=112, oca_group="g1", oca_type=2).alive


def test_in_a_race_both_members_fill_and_nothing_is_cancelled():
    venue = Venue()
    target, stop = pair(venue)
    reports = venue.exchange.fill_all([(target, D(100), D(110)), (stop, D(100), D(95))], venue.now)
    assert (target.status, stop.status) == ("Filled", "Filled")
    assert words(reports).count("11") == 2
    assert "4 202" not in words(reports)
    assert venue.position() == -200


def test_a_partial_race_fills_both_then_the_group_reacts():
    venue = Venue()
    target, stop = pair(venue)
    venue.exchange.fill_all([(target, D(60), D(110)), (stop, D(60), D(95))], venue.now)
    assert venue.position() == -120
    assert not target.alive
    assert not stop.alive


def test_groups_of_different_accounts_are_different_groups():
    venue = Venue()
    target, _ = pair(venue)
    other = venue.place("SELL", lmt=110, oca_group="g1", account="DU2")
    venue.fill(target, 100, 110)
    assert other.alive


def test_an_order_that_expires_leaves_its_siblings():
    venue = Venue()
    venue.trade(100)
    gtd = venue.place("SELL", lmt=110, oca_group="g", tif="GTD", good_till_date="20251009-09:00:00")
    stop = venue.place("SELL", 100, "STP", aux=95, oca_group="g", tif="GTC")
    venue.exchange.expire(venue.exchange.next_expiry_ns())
    assert (gtd.status, stop.status) == ("Cancelled", "PreSubmitted")


# what is open, and what takes its time -------------------------------------------------------------------------------

@pytest.mark.parametrize(("may_join", "code"), [(True, None), (False, "4 10326")])
def test_a_late_order_joins_a_live_group_or_is_refused(may_join, code):
    venue = Venue(oca_late_join=may_join)
    target, stop = pair(venue)
    venue.now += 2 * NS
    late = venue.place("SELL", lmt=111, oca_group="g1", oca_type=2)
    assert words(venue.heard)[-1] == (code or "3 Submitted")
    venue.fill(target, 100, 110)
    assert stop.status == "Cancelled"
    assert late.status == ("Cancelled" if may_join else "PendingSubmit")
    assert bool(late.perm_id) == may_join


@pytest.mark.parametrize("oca_type", [1, 2, 3])
def test_a_group_that_reacts_late_lets_both_members_fill(oca_type):
    venue = Venue(oca_delay_ms=300)
    target, stop = pair(venue, oca_type)
    venue.trade(110, bid=110)
    assert (target.status, stop.status) == ("Filled", "PreSubmitted")
    venue.trade(95)
    assert (stop.status, venue.position()) == ("Filled", -200)
    assert venue.hear(venue.exchange.expire(venue.now + 10**9)) == []


def test_a_late_cascade_comes_when_it_is_due():
    venue = Venue(oca_delay_ms=300)
    target, stop = pair(venue)
    venue.fill(target, 40, 110)
    assert stop.total == 100
    due = venue.exchange.next_expiry_ns()
    assert due == venue.now + 300_000_000
    assert words(venue.exchange.expire(due)) == ["5 PreSubmitted", "3 PreSubmitted"]
    assert stop.total == 60
    venue.fill(target, 60, 110)
    assert words(venue.exchange.expire(due + 10**9)) == ["3 Cancelled", "4 202"]


@pytest.mark.parametrize(("oca_type", "filled"), [(1, 0), (2, 0), (3, 100)])
def test_with_block_only_one_member_is_exposed_at_a_time(oca_type, filled):
    venue = Venue(oca_block=True, oca_delay_ms=300)
    target, stop = pair(venue, oca_type)
    venue.trade(110, bid=110)
    venue.trade(95)
    assert (target.filled, stop.filled) == (100, filled)
    racing = Venue(oca_block=True)
    target, stop = pair(racing, oca_type)
    racing.exchange.fill_all([(target, D(100), D(110)), (stop, D(100), D(95))], racing.now)
    assert (target.filled, stop.filled) == (100, filled)


# both sides of an option ---------------------------------------------------------------------------------------------

def option_venue(**rules) -> Venue:
    venue = Venue(**rules)
    venue.contract = Contract(con_id=9001, symbol="AAPL", sec_type="OPT", expiry="20251219", strike=D(100), right="C",
                              multiplier="100")
    venue.exchange.contracts.add(venue.contract)
    venue.trade(5)
    return venue


@pytest.mark.parametrize(("allowed", "status"), [(False, "Inactive"), (True, "Submitted")])
def test_orders_on_both_sides_of_one_option(allowed, status):
    venue = option_venue(option_both_sides=allowed)
    buy = venue.place("BUY", 1, lmt=4)
    sell = venue.place("SELL", 1, lmt=9)
    assert sell.status == status
    assert venue.place("SELL", 1, lmt=9, account="DU2").status == "Submitted", "another account is another matter"
    assert venue.place("BUY", 1, lmt=3).status == "Submitted"
    venue.cancel(buy)


def test_the_children_of_an_option_bracket_wait_and_do_not_oppose_their_parent():
    venue = option_venue()
    parent = venue.place("BUY", 1, lmt=4, transmit=False)
    child = venue.place("SELL", 1, lmt=9, parent_id=parent.order_id)
    assert (parent.status, child.status) == ("Submitted", "PreSubmitted")
    venue.fill(parent, 1, 4)
    assert child.status == "Submitted"


def test_a_stock_may_be_bought_and_sold_at_once():
    venue = Venue()
    venue.trade(100)
    assert [venue.place("BUY", lmt=99).status, venue.place("SELL", lmt=110).status] == ["Submitted"] * 2
