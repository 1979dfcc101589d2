"""The sequences of an order's life (ib-wire.md 6.1), the rules of a modify (6.2) and of time (6.4), as tables."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.order_messages import open_order
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import ErrorReport, OpenReport, StatusReport
from actors.venue.simulator.wire import FrameBuffer, split
from tests.venue.gateway_fixture import NS, Venue, words

pytestmark = pytest.mark.unit

PRE, SUB, DONE = ["5 PreSubmitted", "3 PreSubmitted"], ["5 Submitted", "3 Submitted"], ["5 Filled", "3 Filled"]
RESTING, MARKETABLE, STOP = {"lmt": 99}, {"lmt": 101}, {"order_type": "STP", "aux": 102}

ARRIVALS = [
    ("a resting limit", {}, RESTING, [*PRE, *SUB]),
    ("straight to Submitted", {"arrival": "direct"}, RESTING, SUB),
    ("status first", {"status_first": True}, RESTING, ["3 PreSubmitted", *PRE, *SUB]),
    ("each status three times", {"duplicate_status": 3}, RESTING,
     ["5 PreSubmitted", *["3 PreSubmitted"] * 3, "5 Submitted", *["3 Submitted"] * 3]),
    ("a marketable order", {}, MARKETABLE, [*PRE, "11", *DONE, "59"]),
    ("marketable, straight to Submitted", {"arrival": "direct"}, MARKETABLE, [*SUB, "11", *DONE, "59"]),
    ("marketable, both statuses", {"arrival": "both"}, MARKETABLE, [*PRE, *SUB, "11", *DONE, "59"]),
    ("late execution", {"late_execution": True}, MARKETABLE, [*PRE, *DONE, "11", "59"]),
    ("no Filled status", {"filled_status": False}, MARKETABLE, [*PRE, "11", "59"]),
    ("the commission comes in a second openOrder", {"commission_echo": True}, MARKETABLE,
     [*PRE, "11", *DONE, *DONE, "59"]),
    ("a held stop", {}, STOP, PRE),
    ("a held stop says it twice", {"held_repeats": 2}, STOP, [*PRE, *PRE]),
    ("a held stop, straight to Submitted", {"arrival": "direct"}, STOP, PRE),
    ("IOC unfilled", {}, {**RESTING, "tif": "IOC"}, [*PRE, "3 PendingCancel", "3 Cancelled", "4 202"]),
    ("IOC unfilled without 202", {"ioc_202": False}, {**RESTING, "tif": "IOC"},
     [*PRE, "3 PendingCancel", "3 Cancelled"]),
    ("FOK unfilled", {"pending_cancel": False}, {**RESTING, "tif": "FOK"}, [*PRE, "3 Cancelled", "4 202"]),
    ("FOK unfilled is Inactive", {"fok_unfilled": "Inactive"}, {**RESTING, "tif": "FOK"}, [*PRE, "3 Inactive"]),
    ("not transmitted", {}, {**RESTING, "transmit": False}, []),
    ("what-if", {}, {**RESTING, "what_if": True}, ["5 PreSubmitted"]),
    ("a bad tick", {}, {"lmt": "99.001"}, ["4 110"]),
    ("an invalid request", {}, {"lmt": 99, "action": "HOLD"}, ["4 321"]),
    ("rejected", {}, {"lmt": -1}, ["4 201", "5 Inactive", "3 Inactive"]),
    ("rejected, Inactive first", {"reject_style": "inactive_first"}, {"lmt": -1},
     ["5 Inactive", "3 Inactive", "4 201"]),
    ("rejected, the error alone", {"reject_style": "error_only"}, {"lmt": -1}, ["4 201"]),
    ("rejected, Inactive alone", {"reject_style": "inactive_only"}, {"lmt": -1}, ["5 Inactive", "3 Inactive"]),
]


@pytest.mark.parametrize(("rules", "order", "said"), [row[1:] for row in ARRIVALS], ids=[row[0] for row in ARRIVALS])
def test_how_an_arriving_order_is_told(rules, order, said):
    venue = Venue(**rules)
    venue.trade(100)
    assert words(venue.exchange.place(venue.order(**order), venue.now)) == said


@pytest.mark.parametrize("rules", [{"filled_status": False}, {"reject_style": "error_only"}])
def test_what_the_client_is_not_told_is_still_reported_to_the_journal(rules):
    venue = Venue(**rules)
    venue.trade(100)
    venue.place("BUY", lmt=101)
    refused = venue.place("BUY", lmt=-1)
    final = [(r.order.status, r.told) for r in venue.heard if isinstance(r, StatusReport) and not r.order.alive]
    assert [status for status, _ in final] == ["Filled", "Inactive"]
    assert not all(told for _, told in final)
    assert refused.status == "Inactive"


def test_repeated_statuses_are_reported_as_repetitions():
    venue = Venue(duplicate_status=3)
    venue.trade(100)
    venue.place("BUY", lmt=99)
    fresh = [r.order.status for r in venue.heard if isinstance(r, StatusReport) and r.fresh]
    assert fresh == ["PreSubmitted", "Submitted"]


def test_a_second_open_order_brings_the_commission_where_the_first_has_none():
    venue = Venue(commission_echo=True)
    venue.trade(100)
    venue.place("BUY", lmt=101)
    filled = [r.order for r in venue.heard if isinstance(r, OpenReport) and r.order.status == "Filled"]

    def commission(order: Order) -> str:
        buffer = FrameBuffer()
        buffer.feed(open_order(order, 176))
        fields = split(next(iter(buffer.payloads())))
        return fields[fields.index("Filled") + 10]

    assert [commission(o) for o in filled] == ["", "1"]


CANCELS = [
    ("pending first", {}, ["3 PendingCancel", "3 Cancelled", "4 202"]),
    ("at once", {"pending_cancel": False}, ["3 Cancelled", "4 202"]),
    ("the fill wins the race", {"cancel_race": "fill"}, ["3 PendingCancel", "11", "3 Filled", "59", "4 161"]),
    ("half fills before the cancel", {"cancel_race": "partial"},
     ["3 PendingCancel", "11", "3 PendingCancel", "59", "3 Cancelled", "4 202"]),
]


@pytest.mark.parametrize(("rules", "said"), [row[1:] for row in CANCELS], ids=[row[0] for row in CANCELS])
def test_how_a_cancel_is_told(rules, said):
    venue = Venue(**rules)
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.cancel(order)) == said
    assert venue.position() == order.filled == {"fill": 100, "partial": 50}.get(rules.get("cancel_race"), 0)


def test_a_held_order_cannot_win_a_race_against_its_cancel():
    venue = Venue(cancel_race="fill")
    venue.trade(100)
    stop = venue.place("SELL", 100, "STP", aux=95)
    venue.cancel(stop)
    assert (stop.status, stop.filled) == ("Cancelled", 0)


@pytest.mark.parametrize(("price", "told", "status"), [
    (99, ["11", "3 Filled", "59", "4 161"], "Filled"), (100, [], "Cancelled")])
def test_a_slow_cancel_leaves_the_order_at_the_market_until_it_is_done(price, told, status):
    venue = Venue(cancel_delay_ms=500)
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    assert words(venue.cancel(order)) == ["3 PendingCancel"]
    assert words(venue.cancel(order)) == ["4 10148"], "a second cancel comes too late"
    assert words(venue.trade(price)) == told
    due = venue.now + NS // 2
    assert venue.exchange.next_expiry_ns() == (None if status == "Filled" else due)
    assert words(venue.hear(venue.exchange.expire(due))) == ([] if status == "Filled" else ["3 Cancelled", "4 202"])
    assert order.status == status


def test_the_text_of_202_names_the_reason_where_the_switch_says_so():
    texts = []
    for says in (False, True):
        venue = Venue(cancel_reason_text=says)
        venue.trade(100)
        venue.cancel(venue.place("BUY", lmt=99))
        texts += [r.text for r in venue.heard if isinstance(r, ErrorReport)]
    assert texts == ["Order Canceled - reason:", "Order Canceled - reason:Cancelled by Trader"]


@pytest.mark.parametrize(("with_202", "said"), [(True, ["3 Cancelled", "4 202"]), (False, ["3 Cancelled"])])
def test_an_expiry_is_told_with_or_without_202(with_202, said):
    venue = Venue(expiry_202=with_202)
    venue.trade(100)
    venue.place("BUY", lmt=99, tif="GTD", good_till_date="20251009-09:00:00")
    assert words(venue.exchange.expire(venue.exchange.next_expiry_ns())) == said


@pytest.mark.parametrize(("with_202", "errors"), [(True, 3), (False, 1)])
def test_children_that_fall_with_their_parent_are_told_with_or_without_202(with_202, errors):
    venue = Venue(child_202=with_202)
    venue.trade(100)
    parent = venue.place("BUY", lmt=99, transmit=False)
    venue.place("SELL", lmt=110, parent_id=parent.order_id, transmit=False)
    venue.place("SELL", order_type="STP", aux=90, parent_id=parent.order_id)
    said = words(venue.cancel(parent))
    assert (said.count("3 Cancelled"), said.count("4 202")) == (3, errors)


# 6.2 -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("rules", "code"), [({}, 2102), ({"early_amend_code": 103}, 103)])
def test_an_order_that_is_still_being_accepted_is_not_told_and_cannot_be_changed(rules, code):
    venue = Venue(accept_delay_ms=200, **rules)
    venue.trade(100)
    order = venue.order("BUY", lmt=99)
    assert words(venue.exchange.place(order, venue.now)) == []
    assert venue.exchange.open_orders() == []
    assert words(venue.exchange.place(msgspec.structs.replace(order, lmt=D(98)), venue.now)) == [f"4 {code}"]
    assert words(venue.exchange.expire(venue.now + NS // 5)) == [*PRE, *SUB]
    assert (order.lmt, order.status) == (99, "Submitted")


def test_a_bracket_that_is_slowly_accepted_works_parent_first():
    venue = Venue(accept_delay_ms=200)
    venue.trade(100)
    parent = venue.place("BUY", lmt=101, transmit=False)
    stop = venue.place("SELL", order_type="STP", aux=90, parent_id=parent.order_id)
    said = [(r.order.order_id, r.order.status) for r in venue.exchange.expire(venue.now + NS)
            if isinstance(r, StatusReport)]
    assert said == [(parent.order_id, "PreSubmitted"), (parent.order_id, "Filled"), (stop.order_id, "PreSubmitted")]
    assert stop.why_held == "trigger"


@pytest.mark.parametrize(("rules", "code"), [({}, 104), ({"pending_cancel_amend_code": 161}, 161)])
def test_an_order_that_is_being_cancelled_cannot_be_changed(rules, code):
    venue = Venue(cancel_delay_ms=500, **rules)
    venue.trade(100)
    order = venue.place("BUY", lmt=99)
    venue.cancel(order)
    venue.amend(order, lmt=D(98))
    assert words(venue.heard)[-1] == f"4 {code}"
    assert order.lmt == 99


def limit(venue: Venue) -> Order:
    return venue.place("BUY", lmt=99)


def stop(venue: Venue) -> Order:
    return venue.place("BUY", order_type="STP", aux=105)


def child(venue: Venue) -> Order:
    parent = venue.place("BUY", lmt=98, transmit=False)
    return venue.place("SELL", lmt=120, parent_id=parent.order_id)


AMENDMENTS = [
    ("a price", {}, limit, {"lmt": D(98)}, None),
    ("a time in force", {}, limit, {"tif": "GTC"}, None),
    ("a limit to the market", {}, limit, {"order_type": "MKT"}, None),
    ("a stop to a limit", {}, stop, {"order_type": "LMT", "lmt": D(98)}, None),
    ("a stop to a trail", {}, stop, {"order_type": "TRAIL", "aux": D(5)}, None),
    ("a working limit to a stop", {}, limit, {"order_type": "STP", "aux": D(105)}, 329),
    ("any type to any", {"type_change": "any"}, limit, {"order_type": "STP", "aux": D(105)}, None),
    ("the action", {}, limit, {"action": "SELL"}, 105),
    ("the account", {}, limit, {"account": "DU9"}, 105),
    ("the contract", {}, limit, {"contract": Contract(con_id=756733, symbol="SPY")}, 105),
    ("another parent", {}, child, {"parent_id": 1000}, 105),
    ("a child that resends its parent", {}, child, {"lmt": D(121)}, None),
    ("a child that resends its parent, refused", {"child_parent_135": True}, child, {"lmt": D(121)}, 135),
    ("a child without its parent", {"child_parent_135": True}, child, {"lmt": D(121), "parent_id": 0}, None),
    ("into a group", {}, limit, {"oca_group": "g"}, 10326),
    ("a bad tick", {}, limit, {"lmt": D("98.001")}, 110),
    ("a malformed date", {}, limit, {"tif": "GTD", "good_till_date": "soon"}, 391),
    ("a malformed date, newer code", {"bad_time_code": 10314}, limit, {"tif": "GTD", "good_till_date": "soon"}, 10314),
]


@pytest.mark.parametrize(("rules", "make", "changes", "code"), [row[1:] for row in AMENDMENTS],
                         ids=[row[0] for row in AMENDMENTS])
def test_what_an_amendment_may_change(rules, make, changes, code):
    venue = Venue(**rules)
    venue.trade(100)
    order = make(venue)
    before, perm_id = msgspec.structs.asdict(order), order.perm_id
    said = words(venue.exchange.place(msgspec.structs.replace(order, **changes), venue.now))
    if code is None:
        assert said[0].startswith("5 ")
        assert order.perm_id == perm_id
        assert order.modifies == 1
        assert all(getattr(order, k) == v for k, v in changes.items() if k != "parent_id")
    else:
        assert said == [f"4 {code}"]
        assert msgspec.structs.asdict(order) == before


@pytest.mark.parametrize("code", [105, 201])
def test_fewer_shares_than_are_filled_are_refused_and_the_order_lives(code):
    venue = Venue(below_filled_code=code)
    venue.trade(100)
    order = limit(venue)
    venue.fill(order, 60, 99)
    venue.amend(order, total=D(50))
    assert words(venue.heard)[-1] == f"4 {code}"
    assert (order.status, order.total) == ("Submitted", 100)


def test_a_stop_that_becomes_a_limit_is_no_longer_held():
    venue = Venue()
    venue.trade(100)
    order = stop(venue)
    venue.amend(order, order_type="LMT", lmt=D(99))
    assert (order.status, order.why_held) == ("Submitted", "")
    venue.trade(99)
    assert order.status == "Filled"


# 6.4 -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "warned"), [
    ("20251009-09:00:00", False), ("20251009 05:00:00 US/Eastern", False), ("20251009 05:00:00", True)])
def test_a_date_without_a_zone_is_new_yorks_with_a_warning_and_the_order_lives(text, warned):
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", lmt=99, tif="GTD", good_till_date=text)
    assert ("4 2174" in words(venue.heard)) == warned
    assert order.alive
    assert order.expires_ns == venue.now + 400 * NS


@pytest.mark.parametrize("code", [391, 10314, 10330])
@pytest.mark.parametrize("text", [
    "", "tomorrow", "20251309-09:00:00", "20251009 05:00:00 Mars/Base", "20251010 05:00:00 US/Eastern or so",
    "20200101-00:00:00"])
def test_a_date_that_cannot_be_is_refused(code, text):
    venue = Venue(bad_time_code=code)
    venue.trade(100)
    venue.place("BUY", lmt=99, tif="GTD", good_till_date=text)
    assert words(venue.heard) == [f"4 {code}"]


@pytest.mark.parametrize("preset", ["DAY", "GTC"])
def test_a_preset_fills_in_the_time_in_force_and_the_order_lives(preset):
    venue = Venue(preset_tif=preset)
    venue.trade(100)
    order = venue.place("BUY", lmt=99, tif="")
    assert (order.tif, order.status) == (preset, "Submitted")
    assert words(venue.heard)[0] == "4 10349"


@pytest.mark.parametrize(("honoured", "kept", "hours"), [(False, False, 20), (True, True, 24)])
def test_a_stop_keeps_to_regular_hours_whatever_it_asks_unless_the_switch_honours_it(honoured, kept, hours):
    venue = Venue(stop_outside_rth=honoured, day_expiry=True)
    venue.now = 1_759_968_000 * NS                  # 2025-10-08 20:00 New York
    venue.trade(100)
    order = venue.place("SELL", 100, "STP", aux=95, outside_rth=True)
    limited = venue.place("SELL", 100, lmt=105, outside_rth=True)
    assert ("4 2109" in words(venue.heard)) == (not honoured)
    assert (order.outside_rth, limited.outside_rth) == (kept, True)
    assert order.expires_ns == venue.now + hours * 3600 * NS
    assert order.alive


# shares that must be borrowed --------------------------------------------------------------------------------------

def test_a_short_sale_is_held_until_its_shares_are_located():
    venue = Venue(locate_ms=2000)
    venue.trade(100)
    order = venue.place("SELL", 100, lmt=101)
    assert words(venue.heard) == ["5 PreSubmitted", "3 PreSubmitted", "4 404"]
    assert (order.status, order.why_held) == ("PreSubmitted", "locate")
    venue.trade(102)
    assert not order.filled
    venue.heard.clear()
    assert venue.exchange.next_expiry_ns() == venue.now + 2 * NS
    venue.now += 2 * NS
    venue.hear(venue.exchange.expire(venue.now))
    assert words(venue.heard) == ["11", "5 Filled", "3 Filled", "59"]
    venue.heard.clear()
    resting = venue.place("SELL", 100, lmt=110)
    venue.now += 2 * NS
    venue.hear(venue.exchange.expire(venue.now))
    assert (resting.status, resting.why_held) == ("Submitted", "")


def test_what_is_held_or_located_elsewhere_is_not_looked_for():
    venue = Venue(locate_ms=2000)
    venue.trade(100)
    venue.place("BUY", 100, lmt=101)
    assert venue.place("SELL", 100, lmt=110).status == "Submitted"
    elsewhere = {"shortSaleSlot": "2", "designatedLocation": "X"}
    assert venue.place("SELL", 101, lmt=110, extras=elsewhere).status == "Submitted"
    assert venue.place("SELL", 101, "STP", aux=90).why_held == "trigger"
    assert venue.place("SELL", 101, lmt=110).why_held == "locate"


def test_a_child_that_sells_short_is_looked_for_once_its_parent_has_traded():
    venue = Venue(locate_ms=2000)
    venue.trade(100)
    parent = venue.place("BUY", 10, lmt=90, transmit=False)
    child = venue.place("SELL", 100, lmt=110, parent_id=parent.order_id)
    assert child.why_held == "child"
    venue.fill(parent, 10, 90)
    assert (child.status, child.why_held) == ("PreSubmitted", "locate")
    venue.cancel(child)
    assert child.status == "Cancelled"
    venue.now += 5 * NS
    assert venue.exchange.expire(venue.now) == []


# what a random run and a reading have found --------------------------------------------------------------------------

def test_a_child_falls_with_a_parent_that_is_cancelled_before_the_venue_has_accepted_it():
    venue = Venue(accept_delay_ms=100)
    parent = venue.place("BUY", 100, "LMT", 90, order_id=1, transmit=False)
    venue.place("SELL", 100, "LMT", 110, order_id=2, parent_id=1)
    heard = words(venue.cancel(parent))
    venue.now += NS
    venue.hear(venue.exchange.expire(venue.now))
    assert heard == ["4 202", "4 202"]
    assert not venue.exchange.orders
    assert not venue.exchange.book(venue.contract.con_id).orders


@pytest.mark.parametrize(("activation", "works"), [("full", False), ("partial", True)])
def test_a_child_that_is_still_being_accepted_falls_like_the_waiting_ones(activation, works):
    venue = Venue(accept_delay_ms=100, child_activation=activation)
    parent = venue.place("BUY", 100, "LMT", 90, order_id=1)
    venue.now += NS
    venue.hear(venue.exchange.expire(venue.now))
    venue.place("SELL", 100, "LMT", 110, order_id=2, parent_id=1)
    venue.fill(parent, 40, 90)
    venue.cancel(parent)
    venue.now += NS
    venue.hear(venue.exchange.expire(venue.now))
    assert bool(venue.exchange.book(venue.contract.con_id).orders) == works


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
def test_an_order_that_becomes_immediate_by_amendment_ends_at_once(tif):
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", 100, "LMT", 90)
    venue.amend(order, tif=tif)
    assert order.status == "Cancelled"
    filled = venue.place("BUY", 100, "LMT", 90)
    venue.amend(filled, tif=tif, lmt=D(101))
    assert filled.status == "Filled"


def test_a_member_that_was_not_transmitted_is_cut_in_silence():
    venue = Venue()
    unsent = venue.place("BUY", 100, "LMT", 90, oca_group="g", transmit=False)
    member = venue.place("BUY", 100, "LMT", 90, oca_group="g")
    said = venue.fill(member, 40, 90)
    assert unsent.total == 60
    assert {r.order.order_id for r in said if isinstance(r, OpenReport | StatusReport)} == {member.order_id}


def test_a_fill_of_nothing_is_no_fill():
    venue = Venue()
    order = venue.place("BUY", 100, "LMT", 90)
    assert venue.fill(order, 0, 90) == []
    assert venue.hear(venue.exchange.fill_all([(order, D(0), D(90))], venue.now)) == []
