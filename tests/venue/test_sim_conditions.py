"""Orders that wait: conditions of all six kinds, goodAfterTime, minQty, discretion; orders that conditions cancel."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.hours import Hours, Phase
from actors.venue.simulator.instructions import (
    Condition,
    ExecutionCondition,
    Instructions,
    MarginCondition,
    PercentChangeCondition,
    PriceCondition,
    TimeCondition,
    VolumeCondition,
)
from actors.venue.simulator.journal import executions
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import ErrorReport
from tests.venue.gateway_fixture import NS, START_NS, RawClient, Venue, memory_gateway, words
from tests.venue.test_sim_persistence import gateway_on, killed
from tests.venue.test_sim_session import ids, place

pytestmark = pytest.mark.unit
SPY = 756733
MINUTE = 60 * NS                     # START_NS is 2025-10-09 08:53:20 UTC


def show(venue: Venue, last: Any, con_id: int = SPY, **more: Any) -> None:
    """Move the market of another contract: last, with bid and ask a cent around it."""
    quote = venue.exchange.quote_of(con_id)
    quote.last = D(str(last))
    quote.bid, quote.ask = quote.last - D("0.01"), quote.last + D("0.01")
    for name, value in more.items():
        setattr(quote, name, D(str(value)))
    venue.hear(venue.exchange.market(con_id, venue.now))


def conditional(*conditions: Condition, cancel: bool = False, ignore_rth: bool = False, after: str = "",
                **order: Any) -> tuple[Venue, Order]:
    """Place a marketable BUY of AAPL, if nothing holds it, while AAPL is at 100 and SPY at 168."""
    rules = order.pop("rules", {})
    venue = Venue(**rules)
    venue.exchange.accounts.opening_cash = D(1_000_000)
    venue.trade(100)
    show(venue, 168)
    instructions = Instructions(conditions=conditions, conditions_cancel=cancel, conditions_ignore_rth=ignore_rth)
    extras = {"goodAfterTime": after} if after else {}
    return venue, venue.place("BUY", 100, **{"lmt": 101, "instructions": instructions, "extras": extras, **order})


def price(level: Any, more: bool = True, method: int = 0, joins: str = "a") -> PriceCondition:
    return PriceCondition(is_more=more, price=D(str(level)), con_id=SPY, trigger_method=method, conjunction=joins)


# condition, what keeps it false, what makes it true
def last(value: Any) -> Any:
    return lambda venue: show(venue, value)


def at(offset_s: int) -> Any:
    def move(venue: Venue) -> None:
        venue.now = START_NS + offset_s * NS
        venue.hear(venue.exchange.expire(venue.now))
    return move


def volume(value: Any) -> Any:
    return lambda venue: show(venue, 168, volume=value)


def trade_of(symbol: str) -> Any:
    def do(venue: Venue) -> None:
        contract = venue.exchange.contracts.named(symbol)
        show(venue, 168, contract.con_id)
        order = venue.place("BUY", 10, "MKT", contract=contract)
        assert order.filled == 10
    return do


CASES = [
    (price(170), last("169.99"), last(170)),
    (price(160, more=False), last("160.01"), last(160)),
    (price("170.01", method=4), last("169.99"), last(170)),                  # up: the ask
    (price("159.99", more=False, method=4), last("160.01"), last(160)),      # down: the bid
    (price(170, method=8), last("169.99"), last(170)),                       # the middle
    (price("170.01", method=7), last("169.99"), last(170)),                  # last or ask
    (price(170, method=3), last(170), last(171)),                            # double last: the second time running
    (TimeCondition(is_more=True, time="20251009-08:54:20"), at(59), at(60)),
    (TimeCondition(is_more=True, time="20251009 04:54:20 US/Eastern"), at(59), at(60)),
    (VolumeCondition(is_more=True, volume=5000, con_id=SPY), volume(4999), volume(5000)),
    (PercentChangeCondition(is_more=True, change_percent=D(5), con_id=SPY), last("176.39"), last("176.40")),
    (PercentChangeCondition(is_more=False, change_percent=D(-5), con_id=SPY), last("159.61"), last("159.60")),
    (ExecutionCondition(sec_type="STK", exchange="SMART", symbol="SPY"), trade_of("MSFT"), trade_of("SPY")),
]


@pytest.mark.parametrize(("condition", "not_yet", "now"), CASES)
def test_an_order_waits_until_its_condition_holds(condition, not_yet, now):
    venue, order = conditional(condition)
    assert (order.status, order.why_held, order.filled) == ("PreSubmitted", "", 0)
    not_yet(venue)
    venue.trade(100)
    assert (order.status, order.filled) == ("PreSubmitted", 0)
    now(venue)
    assert (order.status, order.filled) == ("Filled", 100)


@pytest.mark.parametrize(("condition", "not_yet", "now"), CASES)
def test_an_order_works_until_the_condition_that_cancels_it_holds(condition, not_yet, now):
    venue, order = conditional(condition, cancel=True, lmt=90)
    assert order.status == "Submitted"
    not_yet(venue)
    assert order.status == "Submitted"
    now(venue)
    assert (order.status, order.done_text) == ("Cancelled", "Cancelled by its conditions")
    assert [r.code for r in venue.heard if isinstance(r, ErrorReport)] == [202]


def test_a_margin_condition_looks_at_the_cushion_of_the_account():
    venue, order = conditional(MarginCondition(is_more=False, percent=50))
    trade_of("SPY")(venue)
    assert order.status == "PreSubmitted"
    spy = venue.exchange.contracts.by_id[SPY]
    venue.place("BUY", 5000, "MKT", contract=spy)      # 840,000 of stock leave 1,000,000 - 210,000: 79 %
    assert order.status == "PreSubmitted"
    show(venue, 40)                                    # 200,000 of stock on 360,000: 86 %
    assert order.status == "PreSubmitted"
    venue.place("BUY", 40_000, "MKT", contract=spy)    # 1,800,000 on 360,000
    assert order.status == "Filled"


@pytest.mark.parametrize(("first", "second", "holds"), [
    ((170, "a"), (171, "a"), {170: False, 171: True}), ((170, "o"), (171, "a"), {169: False, 170: True}),
    ((171, "o"), (170, "a"), {169: False, 170: True})])
def test_two_conditions_are_joined_by_the_first_one_s_conjunction(first, second, holds):
    for level, expected in holds.items():
        venue, order = conditional(*(price(p, joins=j) for p, j in (first, second)))
        show(venue, level)
        assert (order.status == "Filled") is expected


@pytest.mark.parametrize(("spy", "holds"), [(150, True), (165, False), (175, False), (185, True)])
def test_and_binds_closer_than_or(spy, holds):
    # below 160 and above 140, or above 180
    venue, order = conditional(price(160, more=False), price(140, joins="o"), price(180))
    show(venue, spy)
    assert (order.status == "Filled") is holds


def test_what_holds_on_arrival_holds_nothing_up():
    _, order = conditional(price(168))
    assert order.status == "Filled"
    venue, order = conditional(price(168), cancel=True, lmt=90)
    assert words(venue.heard)[-2:] == ["3 Cancelled", "4 202"]


def test_once_let_go_an_order_stays_let_go():
    venue, order = conditional(price(170), lmt=90)
    show(venue, 170)
    assert order.status == "Submitted"
    show(venue, 160)
    venue.trade(90)
    assert order.status == "Filled"


def test_two_orders_of_which_each_sets_the_other_free_are_let_go_once():
    executed = ExecutionCondition(sec_type="STK", exchange="", symbol="AAPL", conjunction="o")
    venue, first = conditional(executed, price(170))
    second = venue.place("BUY", 100, lmt=101, instructions=first.instructions)
    resting = venue.place("BUY", 100, lmt=90, instructions=first.instructions)
    show(venue, 170)
    assert (first.status, second.status, resting.status) == ("Filled", "Filled", "Submitted")
    assert words(venue.heard).count("11") == 2
    assert not venue.exchange.holds.watches


def test_a_held_order_can_be_amended_and_cancelled():
    venue, order = conditional(price(170))
    same = venue.amend(order, lmt=D(102))
    assert (same.status, same.lmt) == ("PreSubmitted", 102)
    nearer = Instructions(conditions=(price(169),))
    assert venue.amend(order, instructions=nearer).status == "PreSubmitted"
    show(venue, 169)
    assert order.status == "Filled"
    venue, order = conditional(price(170))
    assert words(venue.cancel(order)) == ["3 PendingCancel", "3 Cancelled", "4 202"]
    show(venue, 170)
    assert order.filled == 0
    assert not venue.exchange.holds.watches


def test_a_working_order_that_is_given_a_condition_waits_again():
    venue = Venue()
    venue.trade(100)
    order = venue.place("BUY", 100, lmt=99)
    venue.amend(order, lmt=D(101), instructions=Instructions(conditions=(price(170),)))
    assert (order.status, order.filled) == ("PreSubmitted", 0)
    show(venue, 170)
    assert order.status == "Filled"


def test_a_price_amended_while_it_waits_for_an_execution_forgets_no_execution():
    both = (ExecutionCondition(sec_type="STK", exchange="", symbol="SPY"), price(170))
    venue, order = conditional(*both)
    trade_of("SPY")(venue)
    venue.amend(order, lmt=D(102))
    show(venue, 170)
    assert order.status == "Filled"


def test_a_child_is_held_by_its_parent_first_and_by_its_condition_then():
    venue = Venue()
    venue.trade(100)
    parent = venue.place("BUY", 100, lmt=99, transmit=False)
    child = venue.place("SELL", 100, lmt=90, parent_id=parent.order_id,
                        instructions=Instructions(conditions=(price(170),)))
    assert child.why_held == "child"
    show(venue, 170)
    show(venue, 160)
    venue.trade(99)
    assert (parent.status, child.status, child.why_held) == ("Filled", "PreSubmitted", "")
    show(venue, 170)
    assert child.status == "Filled"


def test_a_child_that_takes_its_parent_along():
    venue = Venue()
    venue.trade(100)
    parent = venue.place("BUY", 100, lmt=99, transmit=False)
    child = venue.place("SELL", 100, lmt=110, parent_id=parent.order_id,
                        instructions=Instructions(auto_cancel_parent=True))
    venue.cancel(child)
    assert (child.status, parent.status) == ("Cancelled", "Cancelled")


def test_good_after_time_holds_an_order_until_then():
    venue, order = conditional(after="20251009-08:54:20")
    assert (order.status, order.filled) == ("PreSubmitted", 0)
    assert venue.exchange.next_expiry_ns() == START_NS + MINUTE
    at(59)(venue)
    assert order.filled == 0
    at(60)(venue)
    assert order.status == "Filled"
    assert venue.exchange.next_expiry_ns() is None


def test_good_after_time_and_a_condition_must_both_be_met():
    venue, order = conditional(price(170), after="20251009-08:54:20")
    show(venue, 170)
    assert order.filled == 0
    show(venue, 160)
    at(60)(venue)
    assert order.filled == 0
    show(venue, 170)
    assert order.status == "Filled"


def test_a_condition_that_cancels_begins_with_good_after_time():
    venue, order = conditional(price(170), cancel=True, after="20251009-08:54:20", lmt=90)
    assert order.status == "PreSubmitted"
    at(60)(venue)
    assert order.status == "Submitted"
    show(venue, 170)
    assert order.status == "Cancelled"


def test_a_time_that_is_over_holds_nothing():
    _, order = conditional(after="20251009-08:00:00")
    assert order.status == "Filled"


def test_in_regular_hours_only_where_the_rules_say_so():
    open_ns = Hours().next_open_ns(START_NS, extended=False)
    assert open_ns == START_NS + (4 * 60 + 36) * MINUTE + 40 * NS
    venue, order = conditional(price(160), rules={"conditions_in_hours": True})
    assert order.status == "PreSubmitted"
    assert venue.exchange.next_expiry_ns() == open_ns
    venue.now = open_ns
    venue.hear(venue.exchange.expire(open_ns))
    assert order.status == "Filled"
    _, outside = conditional(price(160), ignore_rth=True, rules={"conditions_in_hours": True})
    assert outside.status == "Filled"


def test_the_opening_after_a_friday_is_monday_s():
    friday_evening = 1_760_133_600_000_000_000            # 2025-10-10 18:00 New York
    monday = friday_evening + (2 * 24 * 60 + 15 * 60 + 30) * MINUTE
    assert Hours().next_open_ns(friday_evening, extended=False) == monday
    assert Hours().phase(monday) is Phase.REGULAR
    assert Hours().phase(friday_evening + 18 * 60 * MINUTE) is Phase.CLOSED


@pytest.mark.parametrize(("condition", "said"), [
    (PriceCondition(is_more=True, price=D(1), con_id=4711), "conId 4711"),
    (PriceCondition(is_more=True, price=D(1), con_id=SPY, trigger_method=5), "trigger method 5"),
    (VolumeCondition(is_more=True, volume=1, con_id=0), "conId 0"),
    (TimeCondition(is_more=True, time="noon"), "'noon'")])
def test_a_condition_that_cannot_be_judged_is_refused(condition, said):
    venue, _ = conditional(condition)
    (error,) = (r for r in venue.heard if isinstance(r, ErrorReport))
    assert error.code == 321
    assert said in error.text
    assert not venue.exchange.orders


# quantities and discretion -----------------------------------------------------------------------------------------

def test_a_minimum_quantity_waits_for_enough_shares_and_binds_the_first_fill_only():
    venue = Venue(liquidity="displayed")
    venue.trade(100, ask_size=30)
    order = venue.place("BUY", 100, lmt=101, instructions=Instructions(min_quantity=D(50)))
    assert order.filled == 0
    venue.trade(100, ask_size=60)
    assert order.filled == 60
    venue.trade(100, ask_size=10)
    assert order.filled == 70


def test_a_minimum_above_the_quantity_is_refused():
    venue = Venue()
    order = venue.place("BUY", 100, lmt=101, instructions=Instructions(min_quantity=D(101)))
    assert order.status == "Inactive"
    assert "minQty 101" in order.done_text


@pytest.mark.parametrize(("action", "lmt", "touch", "fills"), [
    ("BUY", 99, "99.51", False), ("BUY", 99, "99.50", True), ("SELL", 101, "100.49", False),
    ("SELL", 101, "100.50", True)])
def test_discretion_goes_beyond_the_limit_to_the_other_side(action, lmt, touch, fills):
    venue = Venue()
    venue.trade(100)
    order = venue.place(action, 100, lmt=lmt, instructions=Instructions(discretionary=D("0.5")))
    assert order.filled == 0
    bid, ask = (D(touch) - D("0.01"), D(touch)) if action == "BUY" else (D(touch), D(touch) + D("0.01"))
    venue.trade(100, bid=bid, ask=ask)
    assert (order.avg_price == D(touch)) is fills


# on the wire -------------------------------------------------------------------------------------------------------

def test_on_the_wire_a_condition_is_echoed_and_obeyed_and_time_alone_lets_an_order_go():
    gateway = memory_gateway()
    client = RawClient(gateway)
    fields = place(1, lmt="101")
    after = place(2, lmt="101", ref="later")
    fields[-25:-24] = ["1", "3", "a", "1", "20251009-08:54:20", "1", "0"]
    after[37] = "20251009-08:55:20"
    answer = client.send(*fields)
    assert ids(answer) == ["5", "3"]
    assert answer[0][-32:-24] == ["0", "1", "3", "a", "1", "20251009-08:54:20", "1", "0"]
    assert ids(client.send(*after)) == ["5", "3"]
    assert gateway.advance(START_NS) == START_NS + MINUTE
    gateway.advance(START_NS + MINUTE)
    assert [e["orderRef"] for e in executions(gateway.journal.lines)] == ["B1.entry"]
    gateway.advance(START_NS + 2 * MINUTE)
    assert [e["orderRef"] for e in executions(gateway.journal.lines)] == ["B1.entry", "later"]


def test_a_print_lets_go_before_the_caller_hears_of_it():
    gateway = memory_gateway()
    client = RawClient(gateway)
    fields = place(1, lmt="101")
    fields[-25:-24] = ["1", "1", "a", "1", "170", str(SPY), "SMART", "0", "1", "0"]
    client.send(*fields)
    gateway.trade(gateway.contracts.by_id[SPY], Trade(D(170), D(1), START_NS), START_NS)
    assert [e["symbol"] for e in executions(gateway.journal.lines)] == ["AAPL"]


def test_a_held_order_is_held_after_a_restart_too(tmp_path):
    path = tmp_path / "state.db"
    client = RawClient(gateway_on(path))
    held, until_then = place(1, lmt="101", tif="GTC"), place(2, lmt="90", tif="GTC", ref="until")
    held[-25:-24] = ["1", "1", "a", "1", "170", str(SPY), "SMART", "0", "1", "0"]
    until_then[-25:-24] = ["1", "1", "a", "1", "170", str(SPY), "SMART", "0", "1", "1"]
    client.send(*held)
    client.send(*until_then)
    again = gateway_on(killed(path, tmp_path / "killed.db"))
    assert [again.exchange.known(1, n).status for n in (1, 2)] == ["PreSubmitted", "Submitted"]
    again.trade(again.contracts.by_id[SPY], Trade(D(170), D(1), START_NS), START_NS)
    assert [again.exchange.known(1, n).status for n in (1, 2)] == ["Filled", "Cancelled"]


def test_a_time_without_a_zone_is_new_york_s_with_a_warning():
    client = RawClient(memory_gateway())
    fields = place(1, lmt="101")
    fields[37] = "20251009 05:00:00"                 # 9:00 UTC
    answer = client.send(*fields)
    assert [m[3] for m in answer if m[0] == "4"] == ["2174"]
    assert client.gateway.exchange.next_expiry_ns() == START_NS + 400 * NS


def test_a_held_order_s_state_can_be_written_down_and_read_back():
    every = Instructions(conditions=tuple(case[0] for case in CASES))
    assert msgspec.json.decode(msgspec.json.encode(every), type=Instructions) == every
