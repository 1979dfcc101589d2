"""Combinations: the market that legs make, fills leg by leg, what is refused, and option contracts on their own."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.combos import Combo, ComboBook, ComboError, combo_quote
from actors.venue.simulator.contracts import Contract, ContractBook, ContractQuery
from actors.venue.simulator.instructions import Instructions, Leg
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import CommissionReport, ErrorReport, FillReport
from tests.venue.gateway_fixture import DEFAULT_ACCOUNT, START_NS, RawClient, Venue, memory_gateway, words
from tests.venue.test_sim_persistence import gateway_on, killed, snapshots
from tests.venue.test_sim_session import AAPL as PLACED
from tests.venue.test_sim_session import ids, place

pytestmark = pytest.mark.unit
AAPL, SPY, MSFT = 265598, 756733, 272093


def option(con_id: int, strike: int, right: str = "C", price: Any = 5) -> Contract:
    return Contract(con_id=con_id, symbol="AAPL", sec_type="OPT", expiry="20251219", strike=D(strike), right=right,
                    multiplier="100", local_symbol=f"AAPL  251219{right}{strike:05d}000", trading_class="AAPL",
                    reference_price=D(str(price)))


C100, C110 = option(11, 100), option(12, 110, price=2)
BUY_WRITE = ((AAPL, 100, "BUY"), (11, 1, "SELL"))
VERTICAL = ((11, 1, "BUY"), (12, 1, "SELL"))
PAIR = ((SPY, 1, "BUY"), (AAPL, 2, "SELL"))


def legs_of(*legs: tuple[int, int, str]) -> tuple[Leg, ...]:
    return tuple(Leg(con_id=con_id, ratio=ratio, action=action) for con_id, ratio, action in legs)


def market(**rules: Any) -> Venue:
    """AAPL at 100, SPY at 168, the calls at 5 and at 2; bid and ask a tenth around each."""
    venue = Venue(**rules)
    for contract in (C100, C110):
        venue.exchange.contracts.add(contract)
    for con_id, last in ((AAPL, 100), (SPY, 168), (MSFT, 400), (11, 5), (12, 2)):
        move(venue, con_id, last)
    return venue


def move(venue: Venue, con_id: int, last: Any, **sizes: Any) -> None:
    quote = venue.exchange.quote_of(con_id)
    quote.last = D(str(last))
    quote.bid, quote.ask = quote.last - D("0.1"), quote.last + D("0.1")
    for name, value in sizes.items():
        setattr(quote, name, D(str(value)))
    venue.hear(venue.exchange.market(con_id, venue.now))


def combo_of(venue: Venue, legs: tuple[tuple[int, int, str], ...]) -> Combo:
    return venue.exchange.combos.resolve(ContractQuery(symbol="AAPL", sec_type="BAG", exchange="SMART"), legs_of(*legs))


def order_for(venue: Venue, legs: tuple[tuple[int, int, str], ...], action: str = "BUY", quantity: Any = 3,
              **more: Any) -> Order:
    routing = more.pop("routing", ())
    instructions = Instructions(legs=legs_of(*legs), routing=routing)
    return venue.place(action, quantity, contract=combo_of(venue, legs).contract, instructions=instructions, **more)


def fills(venue: Venue) -> list[tuple[str, str, D, D]]:
    return [(r.execution.contract.sec_type, r.execution.side, r.execution.quantity, r.execution.price)
            for r in venue.heard if isinstance(r, FillReport)]


# the market that legs make -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("legs", "bid", "ask", "last", "unit"), [
    (VERTICAL, "2.8", "3.2", "3", 100),                 # 4.9 - 2.1 and 5.1 - 1.9
    (PAIR, "-32.3", "-31.7", "-32", 1),                 # 167.9 - 200.2 and 168.1 - 199.8
    (BUY_WRITE, "94.8", "95.2", "95", 100)])            # per share: 99.9 - 5.1 and 100.1 - 4.9
def test_a_combination_is_quoted_from_its_legs(legs, bid, ask, last, unit):
    venue = market()
    combo = combo_of(venue, legs)
    quote = combo_quote(combo, venue.exchange.quote_of)
    assert (quote.bid, quote.ask, quote.last) == (D(bid), D(ask), D(last))
    assert combo.contract.unit == unit


def test_a_combination_has_no_price_while_a_leg_has_none_and_halts_with_its_legs():
    venue = market()
    venue.exchange.quote_of(12).ask = None
    quote = venue.exchange.quote_of(combo_of(venue, VERTICAL).contract.con_id)
    assert (quote.bid, quote.ask) == (None, D("3.2"))
    assert order_for(venue, VERTICAL, lmt=4).status == "Filled"
    assert order_for(venue, VERTICAL, "SELL", order_type="MKT").filled == 0
    venue.exchange.quote_of(11).halted = 1
    assert order_for(venue, VERTICAL, lmt=4).filled == 0


def test_the_same_legs_are_the_same_combination_in_any_order():
    venue = market()
    first = combo_of(venue, VERTICAL)
    assert combo_of(venue, VERTICAL[::-1]) is first
    assert combo_of(venue, PAIR) is not first
    assert venue.exchange.combos.with_leg(11) == [first]


def test_sizes_are_whole_combinations_of_the_smallest_leg():
    venue = market(liquidity="displayed")
    move(venue, SPY, 168, ask_size=9, bid_size=50)
    move(venue, AAPL, 100, ask_size=50, bid_size=11)
    order = order_for(venue, PAIR, quantity=8, order_type="MKT")
    assert order.filled == 5                            # 11 // 2
    quotes = venue.exchange.quote_of
    assert (quotes(SPY).ask_size, quotes(AAPL).bid_size) == (4, 1)
    venue.hear(venue.exchange.market(SPY, venue.now))
    assert order.filled == 5


# fills -------------------------------------------------------------------------------------------------------------

def test_a_fill_is_one_execution_of_the_bag_and_one_of_each_leg_with_their_commissions():
    venue = market()
    reports = len(venue.heard)
    order = order_for(venue, VERTICAL, lmt="3.2")
    assert words(venue.heard[reports:]) == [
        "5 PreSubmitted", "3 PreSubmitted", "11", "11", "11", "5 Filled", "3 Filled", "59", "59", "59"]
    assert fills(venue) == [("BAG", "BOT", D(3), D("3.2")), ("OPT", "BOT", D(3), D("5.1")),
                            ("OPT", "SLD", D(3), D("1.9"))]
    executions = [r.execution for r in venue.heard if isinstance(r, FillReport)]
    assert [e.exec_id for e in executions] == ["e.1.01", "e.1.02.01", "e.1.03.01"]
    assert {(e.order_id, e.perm_id, e.order_ref) for e in executions} == {(order.order_id, order.perm_id, "")}
    assert [r.execution.commission for r in venue.heard if isinstance(r, CommissionReport)] == [0, D("1.95"), D("1.95")]
    assert (order.avg_price, order.commission) == (D("3.2"), D("3.9"))


def test_positions_and_cash_are_the_legs_and_count_the_multiplier():
    venue = market()
    order_for(venue, VERTICAL, lmt="3.2")
    held = {p.contract.con_id: p for p in venue.exchange.accounts.positions.values()}
    assert {con_id: p.quantity for con_id, p in held.items()} == {11: 3, 12: -3}
    assert held[11].avg_cost == D("510.65")             # 5.10 x 100, and 1.95 of commission on three
    assert held[12].avg_cost == D("189.35")
    assert venue.exchange.accounts.cash[DEFAULT_ACCOUNT] == D("-960") - D("3.9")


def test_selling_the_combination_turns_every_leg_around():
    venue = market()
    order_for(venue, PAIR, "SELL", 2, order_type="MKT")
    assert fills(venue) == [("BAG", "SLD", D(2), D("-32.3")), ("STK", "SLD", D(2), D("167.9")),
                            ("STK", "BOT", D(4), D("100.1"))]


def test_a_resting_combination_trades_when_a_leg_moves_and_at_its_own_price():
    venue = market()
    order = order_for(venue, PAIR, lmt=-33)
    assert (order.status, order.filled) == ("Submitted", 0)
    move(venue, AAPL, "100.5")
    assert order.filled == 0                             # the ask is -32.7
    move(venue, AAPL, "100.65")
    assert (order.status, order.avg_price) == ("Filled", -33)


def test_partial_fills_keep_the_tally_of_each_leg():
    venue = market()
    order = order_for(venue, VERTICAL, quantity=10, lmt="2.5")
    venue.fill(order, 4, "2.5")
    venue.fill(order, 6, "2.5")
    legs = [r.execution for r in venue.heard if isinstance(r, FillReport) and r.execution.contract.con_id == 11]
    assert [(e.quantity, e.cum_quantity, e.commission) for e in legs] == [(4, 4, D("2.6")), (6, 10, D("3.9"))]
    assert (order.status, order.commission) == ("Filled", 13)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([VERTICAL, PAIR, BUY_WRITE, ((SPY, 3, "BUY"), (AAPL, 7, "SELL"), (MSFT, 1, "BUY"))]),
       st.sampled_from(["BUY", "SELL"]), st.lists(st.integers(1, 50), min_size=1, max_size=4),
       st.integers(-10_000, 10_000).map(lambda n: D(n) / 100))
def test_the_legs_pay_exactly_what_the_combination_says(legs, action, parts, price):
    venue = market()
    order = order_for(venue, legs, action, sum(parts), lmt=D(-10_000) if action == "BUY" else D(10_000))
    for part in parts:
        venue.fill(order, part, price)
    paid = sum(parts) * price * order.contract.unit * (-1 if action == "BUY" else 1)
    assert abs(venue.exchange.accounts.cash[DEFAULT_ACCOUNT] - (paid - order.commission)) < D("1e-12")
    combo = combo_of(venue, legs)
    held = {p.contract.con_id: p.quantity for p in venue.exchange.accounts.positions.values() if p.quantity}
    sign = 1 if action == "BUY" else -1
    assert held == {p.contract.con_id: sign * p.signed_ratio * sum(parts) for p in combo.parts}


# one leg only ------------------------------------------------------------------------------------------------------

NON_GUARANTEED = (("NonGuaranteed", "1"),)


def test_a_combination_that_is_not_guaranteed_may_trade_one_leg_first():
    venue = market(non_guaranteed="one_leg")
    order = order_for(venue, PAIR, order_type="MKT", routing=NON_GUARANTEED)
    assert fills(venue) == [("STK", "BOT", D(3), D("168.1"))]
    assert (order.status, order.filled) == ("Submitted", 0)
    move(venue, AAPL, 99)
    assert fills(venue)[1:] == [("BAG", "BOT", D(3), D("-29.7")), ("STK", "SLD", D(6), D("98.9"))]
    assert (order.status, order.avg_price) == ("Filled", D("-29.7"))


def test_a_cancel_between_the_legs_leaves_the_first_one():
    venue = market(non_guaranteed="one_leg")
    order = order_for(venue, PAIR, lmt=-31, routing=NON_GUARANTEED)
    venue.cancel(order)
    move(venue, AAPL, 99)
    held = {p.contract.symbol: p.quantity for p in venue.exchange.accounts.positions.values()}
    assert (order.status, order.filled, held) == ("Cancelled", 0, {"SPY": 3})


@pytest.mark.parametrize("what", ["fill", "race", "amend"])
def test_what_is_between_two_legs_is_not_traded_or_taken_away_a_second_time(what):
    venue = market(non_guaranteed="one_leg", cancel_race="fill")
    order = order_for(venue, PAIR, lmt=-31, routing=NON_GUARANTEED)
    if what == "fill":
        venue.fill(order, 2, -31)
    elif what == "race":
        venue.cancel(order)
    else:
        venue.amend(order, total=D(2))
    move(venue, AAPL, 99)
    held = {p.contract.symbol: p.quantity for p in venue.exchange.accounts.positions.values()}
    if what == "race":
        assert (order.status, order.filled, held) == ("Cancelled", 0, {"SPY": 3})
    else:
        assert (order.status, order.filled, order.total, held) == ("Filled", 3, 3, {"SPY": 3, "AAPL": -6})


@pytest.mark.parametrize("routing", [(), (("NonGuaranteed", "0"),)])
def test_a_guaranteed_combination_trades_whole_whatever_the_switch(routing):
    venue = market(non_guaranteed="one_leg")
    assert order_for(venue, PAIR, order_type="MKT", routing=routing).status == "Filled"


# refused -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("legs", "code", "said"), [
    ((), 314, "requires combo leg details"), (((AAPL, 1, "BUY"),), 312, "two or more"),
    (((AAPL, 1, "BUY"), (AAPL, 1, "SELL")), 312, "different legs"),
    (((AAPL, 1, "BUY"), (4711, 1, "SELL")), 313, "4711"),
    (((AAPL, 0, "BUY"), (SPY, 1, "SELL")), 313, "ratio"), (((AAPL, 1, "HOLD"), (SPY, 1, "SELL")), 313, "'HOLD'")])
def test_legs_that_make_no_combination_are_refused(legs, code, said):
    book = ComboBook(ContractBook())
    with pytest.raises(ComboError, match=said) as refused:
        book.resolve(ContractQuery(symbol="AAPL", sec_type="BAG", exchange="SMART"), legs_of(*legs))
    assert refused.value.code == code
    assert not book.by_id


def test_a_combination_is_in_no_group_and_takes_only_simple_types():
    venue = market()
    order_for(venue, PAIR, lmt=-31, oca_group="g")
    assert [r.code for r in venue.heard if isinstance(r, ErrorReport)] == [356]
    stop = order_for(venue, PAIR, order_type="STP", aux=5)
    assert (stop.status, "MKT or LMT" in stop.done_text) == ("Inactive", True)


# on the wire and over a restart ------------------------------------------------------------------------------------

def bag(order_id: int, lmt: str, ratio: str = "2", ref: str = "pair") -> list[str]:
    """Return placeOrder of one SPY against AAPL, for server version 176."""
    fields = place(order_id, quantity="3", lmt=lmt, tif="GTC", ref=ref, contract=["0", "SPY", "BAG", *PLACED[3:]])
    rest = ["SMART", "0", "0", "", "-1"]
    legs = ["2", str(SPY), "1", "BUY", *rest, str(AAPL), ratio, "SELL", *rest, "0", "0"]
    return [*fields[:35], *legs, *fields[35:]]


def test_on_the_wire_a_combination_is_placed_amended_and_filled():
    gateway = memory_gateway()
    client = RawClient(gateway)
    answer = client.send(*bag(1, "-40"))
    assert ids(answer) == ["5", "3", "5", "3"]
    assert f"{SPY}|1,{AAPL}|-2" in answer[0]
    assert [m[3] for m in client.send(*bag(1, "-31", ratio="3")) if m[0] == "4"] == ["105"]
    answer = client.send(*bag(1, "-31"))                # 168.01 - 2 x 99.99
    assert ids(answer) == ["5", "3", "11", "11", "11", "5", "3", "59", "59", "59"]
    assert [(m[5], m[18], m[19], m[20]) for m in answer if m[0] == "11"] == [
        ("BAG", "BOT", "3", "-31.97"), ("STK", "BOT", "3", "168.01"), ("STK", "SLD", "6", "99.99")]
    assert {m[4]: m[14] for m in client.send(61, 1) if m[0] == "61"} == {"SPY": "3", "AAPL": "-6"}
    asked = [m for m in client.send(7, 3, 9, 0, "", "", "", "BAG", "", "") if m[0] == "11"]
    assert [m[14].count(".") for m in asked] == [3]


def test_a_combination_and_its_fills_come_back_after_a_restart(tmp_path):
    path = tmp_path / "state.db"
    first = gateway_on(path)
    client = RawClient(first)
    client.send(*bag(1, "-31"))
    client.send(*bag(2, "-40", ref="resting"))
    copy = killed(path, tmp_path / "killed.db")
    first.disconnect(client.session, START_NS)
    before = snapshots(first)
    again = gateway_on(copy)
    assert snapshots(again) == before
    assert not any(c.sec_type == "BAG" for c in again.contracts.by_id.values()), "no market of its own"
    order = again.exchange.known(1, 2)
    assert again.exchange.combos.by_id[order.contract.con_id].contract == order.contract
    again.set_quote(again.contracts.by_id[AAPL], START_NS, bid=D("104.1"), ask=D("104.2"))
    assert (order.status, order.avg_price) == ("Filled", -40)


# options -----------------------------------------------------------------------------------------------------------

def test_an_option_is_bought_and_sold_with_its_multiplier():
    venue = market()
    bought = venue.place("BUY", 2, lmt="5.1", contract=C100)
    position = venue.exchange.accounts.positions[DEFAULT_ACCOUNT, 11]
    assert (bought.commission, position.quantity, position.avg_cost) == (D("1.3"), 2, D("510.65"))
    move(venue, 11, 6)
    venue.place("SELL", 2, "MKT", contract=C100)
    sold = [r.execution for r in venue.heard if isinstance(r, FillReport)][-1]
    assert sold.realized == 2 * (590 - D("510.65")) - D("1.3")
    assert venue.exchange.accounts.cash[DEFAULT_ACCOUNT] == sold.realized


def test_an_option_s_stop_looks_at_the_touch_twice_unless_told_otherwise():
    venue = market()
    by_default = venue.place("SELL", 1, "STP", aux=4, contract=C100)
    by_last = venue.place("SELL", 1, "STP", aux=4, contract=C100, trigger_method=2)
    move(venue, 11, "4.05")
    assert (by_default.triggered, by_last.triggered) == (False, False)      # bid 3.95: once
    move(venue, 11, "4.05")
    assert (by_default.triggered, by_last.triggered) == (True, False)
    move(venue, 11, 4)
    assert by_last.triggered


def test_on_the_wire_an_option_is_named_by_its_terms_and_shown_with_them():
    gateway = memory_gateway()
    gateway.contracts.add(C100)
    gateway.contracts.add(C110)
    gateway.set_quote(C110, START_NS, bid=D("1.9"), ask=D("2.1"))
    client = RawClient(gateway)
    terms = ["0", "AAPL", "OPT", "20251219", "110.0", "C", "100", "SMART", "", "USD", "", ""]
    answer = client.send(*place(1, quantity="2", lmt="2.1", contract=terms))
    head = ["12", "AAPL", "OPT", "20251219", "110", "C", "100", "SMART", "USD", C110.local_symbol, "AAPL"]
    assert answer[0][2:13] == head
    (fill,) = (m for m in answer if m[0] == "11")
    assert (fill[3:14], fill[19:21]) == (head, ["2", "2.1"])
    (position,) = (m for m in client.send(61, 1) if m[0] == "61")
    assert (position[3], position[-2:]) == ("12", ["2", "210.65"])
