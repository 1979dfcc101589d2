"""What may become a bracket: bounds on one order, and what everything in flight adds up to."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rules.limits import SETTLE_NS, Exposure, all_prices, check_order
from actors.rules.refusal import Refused
from messages.ledger import PositionChanged
from messages.orders import Increment
from messages.risk import PositionSeen
from tests import builders as b

pytestmark = pytest.mark.unit
D = Decimal
PLACE = ("DU1234567", 265598)
RISK = b.settings(risk={"max_order_quantity": "1000", "max_order_notional": "50000"}).risk
SELL_SINGLE = {"shape": "single", "side": "SELL", "limit": None}


def order_sentence(intent, marks=None, contract=None) -> str:
    with pytest.raises(Refused) as caught:
        check_order(intent, contract or b.contract(), RISK, marks or {})
    return str(caught.value)


def exposure(*fills) -> Exposure:
    made = Exposure()
    for fill in fills:
        made.fill(fill, b.NOW_NS)
    return made


def denied(book: Exposure, intent) -> str:
    with pytest.raises(Refused) as caught:
        book.check(intent, PLACE)
    return str(caught.value)


# -- one order -------------------------------------------------------------------------------------------------


def test_an_ordinary_order_passes():
    check_order(b.intent(), b.contract(), RISK, {"AAPL": D("100.50")})


@pytest.mark.parametrize(("intent", "marks", "expected"), [
    (b.intent(quantity=1001), {},
     "quantity: 1001 is too large; an order may be for at most 1000 (setting risk.max_order_quantity)"),
    (b.intent(quantity=600), {}, "quantity: 600 x 100 is worth 60000 USD; an order may be worth at most 50000 USD"
     " (setting risk.max_order_notional)"),
    (b.intent(quantity=600, limit=None), {"AAPL": D(90)}, "quantity: 600 x 90 is worth 54000 USD; an order may be worth"
     " at most 50000 USD (setting risk.max_order_notional)"),
    (b.intent(quantity=600, limit=None), {}, "quantity: 600 x 110 is worth 66000 USD; an order may be worth at most"
     " 50000 USD (setting risk.max_order_notional)"),
    (b.intent(limit="100.005"), {}, "limit_price: 100.005 is not on the price grid of AAPL; it must be a multiple of"
     " 0.01"),
    (b.intent(limit=10, exits=(b.tranche(stop=b.stop(9)),)), {"AAPL": D(100)}, "limit_price: 10 is too far from the"
     " last price 100 of AAPL; it may be at most 50 % away (setting risk.max_price_deviation)"),
    (b.intent(exits=(b.tranche(target=b.target(1100), stop=b.stop()),)), {"AAPL": D(100)}, "exits[1].target.price: 1100"
     " is too far from the last price 100 of AAPL; it may be at most 50 % away (setting risk.max_price_deviation)"),
    (b.intent(when=b.when("SPY", price=19)), {"SPY": D(190)}, "when.price: 19 is too far from the last price 190 of"
     " SPY; it may be at most 50 % away (setting risk.max_price_deviation)"),
])
def test_what_is_too_large_too_dear_or_a_slip_of_the_hand_is_refused(intent, marks, expected):
    assert order_sentence(intent, marks) == expected


def test_a_bound_itself_is_allowed():
    check_order(b.intent(quantity=500), b.contract(), RISK, {})
    check_order(b.intent(limit=50, exits=(b.tranche(stop=b.stop(50 - 0)),)), b.contract(), RISK, {"AAPL": D(100)})


def test_the_price_grid_may_be_coarser_higher_up():
    bands = (Increment(low_edge=D(0), increment=D("0.01")), Increment(low_edge=D(100), increment=D("0.05")))
    check_order(b.intent(limit="99.99"), b.contract(increments=bands), RISK, {})
    assert "it must be a multiple of 0.05" in order_sentence(b.intent(limit="100.01"), {}, b.contract(increments=bands))


def test_only_stocks_are_traded_so_far():
    assert order_sentence(b.intent(), {}, b.contract(sec_type="FUT")) == (
        "instrument: 'AAPL' (FUT) is not supported yet; only stocks are traded so far")


def test_every_absolute_price_of_an_intent_is_looked_at():
    intent = b.intent(limit=102, stop_price=101, when=b.when("SPY", price=1), safety_stop=b.safety(80), exits=(
        b.tranche(target=b.target(110), stop=b.stop(95, limit=94), trail=b.trail(activation=105)),))
    assert {field: price for field, _, price in all_prices(intent)} == {
        "limit_price": 102, "stop_price": 101, "exits[1].target.price": 110, "exits[1].stop.price": 95,
        "exits[1].stop.limit_price": 94, "exits[1].trailing_stop.activation_price": 105, "safety_stop.price": 80,
        "when.price": 1}


# -- netting ---------------------------------------------------------------------------------------------------


def test_two_brackets_of_one_direction_live_side_by_side():
    book = exposure()
    book.check(b.intent("one"), PLACE)
    book.claim("B1", b.intent("one"), PLACE)
    book.check(b.intent("two"), PLACE)


@pytest.mark.parametrize(("first", "second"), [
    (b.intent("one"), b.short_intent("two")), (b.short_intent("one"), b.intent("two")),
])
def test_an_opposite_bracket_is_denied_while_the_first_is_in_flight(first, second):
    book = exposure()
    book.claim("B1", first, PLACE)
    assert denied(book, second) == (
        f"side: '{second.side}' is opposite to {first.side} of bracket B1 in AAPL; the venue nets: one direction per"
        " account and contract; wait for its end or cancel it")
    assert book.release("B1")
    book.check(second, PLACE)
    assert not book.release("B1")


def test_accounts_and_contracts_do_not_net_with_each_other():
    book = exposure()
    book.claim("B1", b.intent("one"), PLACE)
    book.check(b.short_intent("two"), ("DU2", 265598))
    book.check(b.short_intent("two", instrument="SPY"), ("DU1234567", 756733))


@pytest.mark.parametrize(("held", "intent", "hint"), [
    ("SELL_SHORT", b.intent("two"), "BUY_TO_COVER closes it"),
    ("BUY", b.short_intent("two"), "SELL closes it"),
    ("SELL_SHORT", b.intent("two", **SELL_SINGLE), "SELL_SHORT adds to it"),
    ("BUY", b.intent("two", **{**SELL_SINGLE, "side": "BUY_TO_COVER"}), "BUY adds to it"),
])
def test_an_order_against_the_position_says_which_side_is_meant(held, intent, hint):
    assert denied(exposure(b.fill(side=held)), intent).endswith(f"in AAPL; the venue nets: {hint}")


def test_a_sell_may_not_exceed_the_netted_long():
    book = exposure(b.fill("B1-x.entry", 60), b.fill("B2-x.entry", 40, strategy="Gamma_Rebalance"))
    book.check(b.intent(**SELL_SINGLE), PLACE)
    assert denied(book, b.intent(quantity=101, **SELL_SINGLE)) == (
        "quantity: 101 exceeds what is free to close: position 100; a SELL closes at most 100 here; SELL_SHORT opens a"
        " position")
    assert "position 0; a SELL closes at most 0 here" in denied(exposure(), b.intent(**SELL_SINGLE))


def test_what_a_bracket_protects_is_not_sold_by_somebody_else():
    book = exposure()
    book.claim("B1-x", b.intent("one"), PLACE)
    assert "position 0" in denied(book, b.intent("two", **SELL_SINGLE))
    book.fill(b.fill("B1-x.entry", 100), b.NOW_NS)
    assert denied(book, b.oco_intent("two")) == (
        "quantity: 100 exceeds what is free to close: position 100, of which 100 is claimed by B1-x; a SELL closes at"
        " most 0 here; SELL_SHORT opens a position")
    book.fill(b.fill("B1-x.target.1", 30), b.NOW_NS)
    assert "position 70, of which 70 is claimed" in denied(book, b.oco_intent("two", quantity=1))


def test_an_oco_claims_its_quantity_until_its_exits_have_filled_it():
    book = exposure(b.fill("B0-x.entry", 100))
    book.claim("B1-x", b.oco_intent("one", quantity=60), PLACE)
    book.check(b.oco_intent("two", quantity=40), PLACE)
    assert "of which 60 is claimed by B1-x" in denied(book, b.oco_intent("two", quantity=41))
    book.fill(b.fill("B1-x.stop.1", 60), b.NOW_NS)
    assert book.claimed("B1-x").reserved == 0
    assert book.net(PLACE) == 40
    book.check(b.oco_intent("two", quantity=40), PLACE)


def test_a_sell_in_flight_counts_as_if_it_had_filled():
    book = exposure(b.fill("B0-x.entry", 100))
    book.claim("B1-x", b.intent("one", **SELL_SINGLE, quantity=70), PLACE)
    assert "at most 30 here" in denied(book, b.intent("two", **SELL_SINGLE))
    book.fill(b.fill("B1-x.entry", 20, side="SELL"), b.NOW_NS)
    assert "position 80, of which 50 is claimed" in denied(book, b.intent("two", **SELL_SINGLE))


def test_shorts_are_mirrored():
    book = exposure(b.fill("B0-x.entry", 100, side="SELL_SHORT"))
    cover = {"shape": "single", "side": "BUY_TO_COVER", "limit": None}
    book.check(b.intent("two", **cover), PLACE)
    assert denied(book, b.intent("two", quantity=150, **cover)) == (
        "quantity: 150 exceeds what is free to close: position 100; a BUY_TO_COVER closes at most 100 here; BUY opens a"
        " position")


def test_a_signal_in_flight_does_not_become_a_second_bracket():
    book = exposure()
    book.claim("B1-x", b.intent("one"), PLACE)
    assert denied(book, b.intent("one")) == (
        "signal_id: 'one' is in flight as bracket B1-x; a signal becomes one bracket")


# -- positions -------------------------------------------------------------------------------------------------


def test_executions_count_once_and_corrections_replace_them():
    fill = b.fill("B1-x.entry", 100)
    book = exposure()
    book.claim("B1-x", b.intent("one"), PLACE)
    for each in (fill, fill, b.corrected(fill, 80), fill):
        book.fill(each, b.NOW_NS)
    assert book.net(PLACE) == 80
    assert book.claimed("B1-x").entry_filled == 80


def stored(quantity) -> PositionChanged:
    return PositionChanged(
        account="DU1234567", conid=265598, instrument="AAPL", strategy="Momentum_EQ", exec_id="e1",
        quantity=D(quantity), avg_price=D(100), realized_pnl=D(0), multiplier=D(1), risk_tags=(), ts_ns=1)


def test_after_a_restart_the_ledger_is_the_base_and_repeats_do_not_count():
    book, fill = exposure(), b.fill("B1-x.entry", 100)
    book.load([stored(100)], [fill.exec_id])
    book.fill(fill, b.NOW_NS)
    assert book.net(PLACE) == 100


def seen(quantity) -> PositionSeen:
    return PositionSeen(account="DU1234567", conid=265598, instrument="AAPL", quantity=D(quantity), avg_cost=D(100),
                        ts_ns=b.NOW_NS)


def test_shares_that_were_bought_elsewhere_may_be_closed_too():
    book = exposure()
    book.seen(seen(300), b.NOW_NS)
    book.check(b.oco_intent(quantity=300), PLACE)
    book.fill(b.fill("B1-x.entry", 100), b.NOW_NS)
    assert book.net(PLACE) == 400


def test_the_venues_position_lags_and_is_not_believed_right_after_a_fill():
    book = exposure(b.fill("B1-x.entry", 100))
    book.seen(seen(0), b.NOW_NS + SETTLE_NS - 1)
    assert book.net(PLACE) == 100
    book.seen(seen(150), b.NOW_NS + SETTLE_NS)
    assert book.net(PLACE) == 150


def test_what_the_venue_does_not_list_at_connect_is_flat_there():
    """An oco sold shares that were bought elsewhere: ours says -100, the venue lists nothing after a restart."""
    book, sold = exposure(), b.fill("B1-x.stop.1", 100)
    book.load([stored(-100)], [sold.exec_id])
    assert "is opposite to the position -100" in denied(book, b.intent())
    book.picture_begins()
    book.picture_ends("DU1234567", b.NOW_NS)
    assert book.net(PLACE) == 0
    book.check(b.intent(), PLACE)
    book.picture_ends("DU1234567", b.NOW_NS)


def test_a_picture_does_not_touch_what_it_lists_nor_another_account_nor_what_has_just_filled():
    book = exposure()
    book.load([stored(100)], [])
    book.fill(b.fill("B2-x.entry", 7, account="DU2"), b.NOW_NS - 2 * SETTLE_NS)
    book.fill(b.fill("B3-x.entry", 9, instrument="SPY"), b.NOW_NS)
    book.picture_begins()
    book.seen(seen(100), b.NOW_NS)
    book.picture_ends("DU1234567", b.NOW_NS)
    assert [book.net(place) for place in (PLACE, ("DU2", 265598), ("DU1234567", 756733))] == [100, 7, 9]


def test_an_execution_that_is_recovered_while_the_venue_lists_nothing_leaves_it_flat():
    book = exposure()
    book.picture_begins()
    book.fill(b.fill("B1-x.stop.1", 100, recovered=True), b.NOW_NS)
    book.picture_ends("DU1234567", b.NOW_NS)
    assert book.net(PLACE) == 0


def test_an_execution_that_is_recovered_was_in_the_venues_picture_already():
    book = exposure()
    book.seen(seen(100), b.NOW_NS)
    book.fill(b.fill("B1-x.entry", 100, recovered=True), b.NOW_NS)
    assert book.net(PLACE) == 100


# -- any order of events ---------------------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(["BUY", "SELL", "SELL_SHORT", "BUY_TO_COVER", "oco"]),
              st.integers(1, 50)),
    st.tuples(st.just("fill"), st.integers(0, 9), st.integers(1, 50)),
    st.tuples(st.just("end"), st.integers(0, 9), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_what_was_approved_can_never_reverse_the_position(steps):
    """Whatever fills, in any order: closing orders only ever close, and one direction stays one direction."""
    book, alive, number = exposure(), {}, 0
    for what, which, size in steps:
        if what == "ask":
            number += 1
            shape = {"shape": "oco"} if which == "oco" else {"shape": "single", "limit": None}
            side = "SELL" if which == "oco" else which
            make = b.oco_intent if which == "oco" else b.intent
            intent = make(f"s{number}", side=side, quantity=size, **shape)
            try:
                book.check(intent, PLACE)
            except Refused:
                continue
            book.claim(f"B{number}-x", intent, PLACE)
            alive[f"B{number}-x"] = [intent, size]
        elif alive and what == "fill":
            name = sorted(alive)[which % len(alive)]
            intent, left = alive[name]
            leg = "stop.1" if intent.shape == "oco" else "entry"
            size = min(size, left)
            if size:
                book.fill(b.fill(f"{name}.{leg}", size, side=str(intent.side)), b.NOW_NS)
                alive[name][1] = left - size
        elif alive:
            name = sorted(alive)[which % len(alive)]
            book.release(name)
            del alive[name]
        net = book.net(PLACE)
        closing = sum(left for intent, left in alive.values() if not intent.side.opens)
        assert closing <= abs(net)
        assert len({intent.side in ("BUY", "SELL") for intent, _ in alive.values()}) <= 1
        assert all((net >= 0) if intent.side in ("BUY", "SELL") else (net <= 0) for intent, _ in alive.values())
