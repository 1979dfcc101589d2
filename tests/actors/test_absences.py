"""The position actor on entries that have vanished: what the account holds against what is booked."""

from __future__ import annotations

from decimal import Decimal

import pytest

from messages.intent import Side
from messages.ledger import PositionsLoaded
from messages.orders import OrderFilled
from messages.risk import AbsenceExplained, ExplainAbsence
from tests import builders as b
from tests.actors.stage import Stage, stage

pytestmark = pytest.mark.unit
OTHERS = ("ledger", "broker", "control", "risk", "market_data")
NOTHING = PositionsLoaded(positions=(), exec_ids=())


@pytest.fixture
def desk(tmp_path):
    with stage(tmp_path, "position", "actors.position.Position", OTHERS) as made:
        yield made


def ask(desk: Stage, bracket: str = "B1-test", held: int = 100, quantity: int = 100) -> None:
    desk.say("broker", ExplainAbsence(
        bracket_id=bracket, order_id=f"{bracket}.entry", account="DU1234567", conid=265598, side=Side("BUY"),
        quantity=Decimal(quantity), held=Decimal(held), avg_cost=Decimal("99.5"), ts_ns=desk.clock_ns,
    ))  # fmt: skip


def answers(desk: Stage, seconds: float = 1.5) -> dict[str, Decimal]:
    desk.pass_time(seconds)
    return {each.bracket_id: each.filled for each in desk.take("broker", AbsenceExplained)}


def inferred(bracket: str = "B1-test") -> OrderFilled:
    return b.fill(f"{bracket}.entry", 100, 100, exec_id=f"inferred:{bracket}.entry", recovered=True)


def test_nothing_is_said_before_the_books_are_read_back(desk):
    ask(desk)
    assert answers(desk) == {}
    desk.say("ledger", NOTHING)
    ask(desk)
    assert answers(desk) == {"B1-test": 100}


def test_two_that_filled_are_both_found_and_none_twice(desk):
    desk.say("ledger", NOTHING)
    ask(desk, "B1-test", held=200)
    ask(desk, "B2-test", held=200)
    assert answers(desk) == {"B1-test": 100, "B2-test": 100}
    desk.say("broker", inferred("B1-test"))
    ask(desk, "B2-test", held=200)
    ask(desk, "B3-test", held=200)
    assert answers(desk) == {"B2-test": 100, "B3-test": 0}


def test_what_another_strategy_holds_does_not_explain_it(desk):
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B9-other.entry", 100, 100, strategy="Other", recovered=True))
    ask(desk)
    assert answers(desk) == {"B1-test": 0}


def test_an_inferred_fill_that_an_earlier_run_booked_is_inferred_again(desk):
    fill = inferred()
    desk.say("ledger", PositionsLoaded(positions=(b.position_of(fill),), exec_ids=(fill.exec_id,)))
    ask(desk)
    assert answers(desk) == {"B1-test": 100}


def test_right_after_a_fill_the_venues_position_is_not_believed(desk):
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B9-other.entry", 100, 100))
    ask(desk, held=100)
    assert answers(desk) == {}
    desk.pass_time(2)
    ask(desk, held=200)
    assert answers(desk, 6) == {"B1-test": 100}
