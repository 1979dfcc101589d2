"""Average cost by hand-worked examples, and what must hold under any sequence of executions and corrections."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rules import position as module
from actors.rules.position import Holding, Key, PositionBook, after_fill, unrealized
from messages.ledger import PositionChanged
from tests import builders as b

pytestmark = pytest.mark.unit
D = Decimal
KEY = Key("DU1234567", 265598, "Momentum_EQ")


def hold(*fills, multiplier=1) -> Holding:
    holding = Holding()
    for quantity, price in fills:
        holding = after_fill(holding, D(quantity), D(price), D(multiplier))
    return holding


def booked(book: PositionBook, *fills) -> PositionChanged | None:
    last = None
    for fill in fills:
        last = book.book(fill)
    return last


def shown(holding: Holding) -> tuple[Decimal, Decimal, Decimal]:
    return holding.quantity, holding.avg_price, holding.realized


# -- average cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fills", "quantity", "average", "realized"), [
    ([(100, 100)], 100, 100, 0),
    ([(100, 100), (50, 103)], 150, 101, 0),                        # an addition re-weights
    ([(100, 100), (-40, 110)], 60, 100, 400),                      # a reduction realises and leaves the average
    ([(100, 100), (-100, 110)], 0, 0, 1000),
    ([(100, 100), (-150, 110)], -50, 110, 1000),                   # a flip realises all and starts at its own price
    ([(-100, 100)], -100, 100, 0),
    ([(-100, 100), (-100, 90)], -200, 95, 0),
    ([(-100, 100), (40, 90)], -60, 100, 400),
    ([(-100, 100), (140, 110)], 40, 110, -1000),
    ([(100, 100), (-100, 95), (-100, 95), (100, 97)], 0, 0, -700),
    ([(3, "33.33"), (-1, 40), (-1, 40), (-1, 40)], 0, 0, "20.01"),
])
def test_average_cost_by_hand(fills, quantity, average, realized):
    assert shown(hold(*fills)) == (D(quantity), D(average), D(realized))


def test_a_multiplier_scales_money_but_not_the_average():
    holding = hold((2, "1.50"), (-1, "2.25"), multiplier=100)
    assert shown(holding) == (1, D("1.5"), 75)
    assert unrealized(holding, D("1.75"), D(100)) == 25


@pytest.mark.parametrize(("fills", "mark", "expected"), [
    ([(100, 100)], 103, 300), ([(-100, 100)], 103, -300), ([(100, 100), (-100, 99)], 103, 0),
])
def test_unrealised_is_what_closing_at_the_mark_would_realise(fills, mark, expected):
    holding = hold(*fills)
    assert unrealized(holding, D(mark)) == expected
    closed = after_fill(holding, -holding.quantity, D(mark))
    assert closed.realized == holding.realized + expected


def test_an_average_never_shows_an_exponent():
    assert str(hold((100, 100)).avg_price) == "100"
    assert str(hold((3, 1), (4, 2)).avg_price) == "1.57142857"


# -- the book --------------------------------------------------------------------------------------------------


def test_the_worked_example_earns_its_thousand():
    book = PositionBook()
    opened = book.book(b.fill("B1-test.entry", 100, 100))
    assert (opened.quantity, opened.avg_price, opened.realized_pnl) == (100, 100, 0)
    closed = book.book(b.fill("B1-test.target.1", 100, 110))
    assert (closed.quantity, closed.avg_price, closed.realized_pnl) == (0, 0, 1000)


def test_a_short_bracket_sells_first_and_buys_back():
    book = PositionBook()
    last = booked(book, b.fill("B1-test.entry", 100, 100, side="SELL_SHORT"),
                  b.fill("B1-test.target.1", 100, 90, side="BUY_TO_COVER"))
    assert (last.quantity, last.realized_pnl) == (0, 1000)


def test_an_execution_is_booked_once_however_often_the_venue_repeats_it():
    book, fill = PositionBook(), b.fill(quantity=40)
    assert book.book(fill) is not None
    assert book.book(fill) is None
    assert book.quantity("DU1234567", 265598) == 40


def test_strategies_are_apart_and_the_venue_nets_them():
    book = PositionBook()
    booked(book, b.fill(quantity=100), b.fill(quantity=50, strategy="Gamma_Rebalance"),
           b.fill(quantity=7, account="DU2"), b.fill(quantity=9, instrument="SPY"))
    assert book.holding(KEY).quantity == 100
    assert book.quantity("DU1234567", 265598) == 150


def test_a_corrected_price_is_as_if_the_first_report_had_never_been():
    one, two = b.fill(quantity=100, price=100), b.fill("B1-test.target.1", 60, 110)
    book = PositionBook()
    booked(book, one, two)
    changed = book.book(b.corrected(one, 100, 101))
    assert (changed.quantity, changed.avg_price, changed.realized_pnl) == (40, 101, 540)
    assert changed.exec_id == one.exec_id


def test_a_bust_takes_the_execution_away_and_is_not_taken_away_twice():
    one, two = b.fill(quantity=40), b.fill(quantity=60, price=105)
    book = PositionBook()
    booked(book, one, two)
    bust = b.corrected(two, 0)
    assert (book.book(bust).quantity, book.holding(KEY).avg_price) == (40, 100)
    assert book.book(bust) is None
    assert book.book(two) is None, "the first report, repeated late, does not undo its correction"


def test_a_correction_whose_first_report_was_never_heard_is_booked_as_it_stands():
    book = PositionBook()
    assert book.book(b.corrected(b.fill(quantity=100, price=100), 90, 101)).quantity == 90


def test_what_an_earlier_run_booked_is_not_booked_again():
    before, fill = PositionBook(), b.fill(quantity=100, price=100)
    stored = before.book(fill)
    book = PositionBook()
    book.load([stored], [fill.exec_id])
    assert book.book(fill) is None
    assert book.holding(KEY).quantity == 100
    assert booked(book, b.fill("B1-test.target.1", 100, 110)).realized_pnl == 1000


def test_a_correction_of_what_an_earlier_run_booked_moves_the_right_money():
    fill = b.fill(quantity=100, price=100)
    stored = PositionBook().book(fill)
    book = PositionBook()
    book.load([stored], [fill.exec_id])
    book.book(b.corrected(fill, 100, 101))
    holding = book.holding(KEY)
    assert holding.quantity == 100
    assert holding.realized + unrealized(holding, D(110)) == 900


def test_commissions_are_kept_apart_and_may_come_first_or_be_restated():
    book, early, late = PositionBook(), b.fill(quantity=40), b.fill(quantity=60)
    book.charge(b.commission(early, "1.00"))
    booked(book, early, late)
    book.charge(b.commission(late, "1.25"))
    book.charge(b.commission(late, "1.20"))
    (facts,) = book.facts()
    assert facts["commission"] == "2.20"
    assert facts["realized_pnl"] == "0"


def test_marks_show_unrealised_and_an_unknown_price_shows_nothing():
    book = PositionBook()
    booked(book, b.fill(quantity=100, price=100), b.fill(quantity=10, instrument="SPY"))
    book.mark([("AAPL", D("101.5"))])
    found = {each["instrument"]: each["unrealized_pnl"] for each in book.facts()}
    assert found == {"AAPL": "150.0", "SPY": None}


def test_old_executions_are_folded_into_the_base_without_changing_anything(monkeypatch):
    monkeypatch.setattr(module, "MAX_REPLAYED", 3)
    book, fills = PositionBook(), [b.fill(quantity=10 * n, price=100 + n) for n in range(1, 9)]
    booked(book, *fills)
    assert shown(book.holding(KEY)) == shown(hold(*[(10 * n, 100 + n) for n in range(1, 9)]))
    book.book(b.corrected(fills[-1], 80, 100))
    assert shown(book.holding(KEY)) == shown(hold(*[(10 * n, 100 + n) for n in range(1, 8)], (80, 100)))


# -- properties ------------------------------------------------------------------------------------------------

FILLS = st.lists(st.tuples(
    st.integers(-500, 500).filter(bool),
    st.integers(1, 1_000_000).map(lambda cents: D(cents) / 100),
), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(FILLS, st.integers(1, 1_000_000).map(lambda cents: D(cents) / 100), st.sampled_from([1, 100]))
def test_realised_and_unrealised_are_all_the_money_there_is(fills, mark, multiplier):
    holding = hold(*fills, multiplier=multiplier)
    assert holding.quantity == sum(quantity for quantity, _ in fills)
    money = sum(quantity * (mark - price) for quantity, price in fills) * multiplier
    assert holding.realized + unrealized(holding, mark, D(multiplier)) == money
    if holding.quantity == 0:
        assert holding.cost == 0
    else:
        prices = [price for _, price in fills]
        assert min(prices) - D("0.00000001") <= holding.avg_price <= max(prices) + D("0.00000001")


@settings(max_examples=200, deadline=None)
@given(FILLS)
def test_the_mirror_image_of_any_trading_earns_the_opposite(fills):
    long = hold(*fills)
    short = hold(*[(-quantity, price) for quantity, price in fills])
    assert (short.quantity, short.avg_price) == (-long.quantity, long.avg_price)
    assert (short.cost, short.realized) == (-long.cost, -long.realized)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-12, 12).filter(bool), st.integers(1, 5_000).map(lambda cents: D(cents) / 100)),
                min_size=1, max_size=15))
def test_average_cost_equals_trading_unit_by_unit(fills):
    held, average, earned = 0, Fraction(0), Fraction(0)
    for quantity, price in fills:
        unit = 1 if quantity > 0 else -1
        for _ in range(abs(quantity)):
            if held * unit >= 0:
                average = (average * abs(held) + Fraction(price)) / (abs(held) + 1)
            else:
                earned += -unit * (Fraction(price) - average)
            held += unit
    holding = hold(*fills)
    assert holding.quantity == held
    assert abs(Fraction(holding.realized) - earned) < Fraction(1, 10**6)
    assert held == 0 or abs(Fraction(holding.avg_price) - average) < Fraction(1, 10**6)


@settings(max_examples=150, deadline=None)
@given(FILLS, st.data())
def test_a_book_with_repeats_and_corrections_equals_one_that_heard_the_final_word_only(fills, data):
    book, final, reported = PositionBook(), {}, []
    for quantity, price in fills:
        side = "BUY" if quantity > 0 else "SELL"
        fill = b.fill(quantity=abs(quantity), price=price, side=side)
        reported.append(fill)
        book.book(fill)
        final[fill.exec_id] = (quantity, price)
        choice = data.draw(st.integers(0, 3))
        if choice == 0:
            book.book(data.draw(st.sampled_from(reported)))
        elif choice == 1:
            old = data.draw(st.sampled_from(reported))
            if old.revision > 1:
                continue
            new_quantity, new_price = data.draw(st.integers(0, 300)), D(data.draw(st.integers(1, 900)))
            correction = b.corrected(old, new_quantity, new_price)
            reported[reported.index(old)] = correction
            book.book(correction)
            final[old.exec_id] = (old.side.sign * new_quantity, new_price)
    assert book.holding(KEY) == hold(*final.values())
