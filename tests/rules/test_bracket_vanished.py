"""An entry that the venue had and shows nowhere any more: never sent again, and covered if the account holds it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from actors.rules.absence import Absences, accounted
from actors.rules.bracket_state import Alert, BookFill, Life, Phase, SeekFill
from messages.exits import BracketStarted
from messages.intent import Side
from messages.orders import (
    BracketPictured,
    CancelBracket,
    DetachBracket,
    FillCorrected,
    FlattenBracket,
    GateClosed,
    GateOpened,
    OrderAbsent,
    OrderAccepted,
    PicturedOrder,
)
from messages.risk import AbsenceExplained, ExplainAbsence, PositionSeen
from tests import builders
from tests.rules.desk import Desk, Incident

pytestmark = pytest.mark.unit
INFERRED = "inferred:B1-test.entry"


def restarted(desk: Desk, *orders: PicturedOrder) -> list[Any]:
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=desk.bracket.incarnation + 1, ts_ns=desk.now))
    return desk.tell(BracketPictured(bracket_id=desk.id, orders=orders, ts_ns=desk.now))


def vanished(*fills: int, **changes: Any) -> Desk:
    desk = Desk(builders.definition(**changes))
    desk.ack("entry")
    for quantity in fills:
        desk.fill("entry", quantity, 100)
    desk.ack_all()
    exits = [order for order in desk.bracket.orders.values() if order.lot and order.alive]
    restarted(desk, *(
        PicturedOrder(
            order_id=each.order_id, perm_id=9, client_id=1, quantity=each.quantity, limit_price=each.limit_price,
            stop_price=each.stop_price, oca_group=each.group, live=True, status="Submitted",
        ) for each in exits
    ))  # fmt: skip
    return desk


def explain(
    desk: Desk, filled: int, held: int | None = None, booked: int = 0, cost: str = "99.5", alone: bool = True
) -> list[Any]:
    return desk.tell(AbsenceExplained(
        bracket_id=desk.id, order_id=desk.name("entry"), ts_ns=desk.now, filled=Decimal(filled),
        held=Decimal(filled if held is None else held), booked=Decimal(booked), avg_cost=Decimal(cost), alone=alone,
    ))  # fmt: skip


def pages(said: list[Any]) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in said if isinstance(each, Alert)]


def test_it_is_not_sent_again_but_asked_about_once_a_picture() -> None:
    desk = vanished()
    assert [(seek.order_id, seek.quantity) for seek in desk.asked(SeekFill)] == [("B1-test.entry", 100)]
    assert desk.sent() == ["entry 100"]
    assert (desk.bracket.phase, desk.bracket.orders["B1-test.entry"].life) == (Phase.ENTERING, Life.VANISHED)


def test_one_that_was_only_written_is_none_of_these_whatever_a_picture_calls_its_permid() -> None:
    """The account may hold as much by another bracket: an exit for it would open a position."""
    desk = Desk(builders.definition())
    restarted(desk, PicturedOrder(
        order_id="B1-test.entry", perm_id=0, client_id=1, quantity=Decimal(100), limit_price=Decimal(100),
        stop_price=None, oca_group=None, live=True, status="PendingSubmit",
    ))  # fmt: skip
    restarted(desk)
    assert desk.bracket.orders["B1-test.entry"].life is Life.DEAD
    assert not desk.asked(SeekFill)


@pytest.mark.parametrize("later", [1, 1_000])
def test_neither_inside_nor_outside_its_validity_is_it_sent_again(later: int) -> None:
    desk = Desk(builders.definition())
    desk.ack("entry")
    desk.now += later * builders.SECOND
    restarted(desk)
    explain(desk, 0)
    assert desk.sent() == ["entry 100"]
    assert desk.bracket.phase is Phase.CLOSED
    assert "expired or cancelled while we were away" in desk.bracket.reason


def test_what_the_account_holds_is_booked_once_paged_and_protected() -> None:
    desk = vanished()
    said = explain(desk, 100)
    (book,) = desk.asked(BookFill, said)
    fill = book.fill
    assert (fill.exec_id, fill.last_qty, fill.last_px, fill.recovered) == (INFERRED, 100, Decimal("99.5"), True)
    assert (fill.account, fill.strategy, str(fill.side)) == ("DU1234567", "Momentum_EQ", "BUY")
    assert pages(said) == [("inferred_fill", "page")]
    assert desk.codes(Incident) == ["inferred_fill"]
    assert sorted(desk.sent(said)) == ["stop.1 100", "target.1 100"]
    assert (desk.bracket.phase, desk.bracket.open_qty, desk.words("entry")) == (Phase.PROTECTED, 100, "filled")
    assert explain(desk, 100) == []  # answered twice
    assert desk.tell(fill) == []  # and told again, from the ledger, or by a rebuilt actor
    assert desk.bracket.entry_filled == 100


@pytest.mark.parametrize(
    ("entry", "cost", "alone", "price", "source"),
    [
        ({}, "99.5", True, "99.5", "average cost"),
        ({}, "100.01", True, "100", "its limit"),  # fees are in the cost: no fill is worse than its limit
        ({}, "99.5", False, "100", "its limit"),
        ({"limit": None, "stop_price": 101}, "99", False, "101", "its stop price"),
        ({"limit": None}, "99", False, "99", "of the whole position"),
    ],
)
def test_the_price_is_the_likeliest_and_says_where_it_is_from(
    entry: dict[str, Any], cost: str, alone: bool, price: str, source: str
) -> None:
    desk = vanished(**entry)
    (book,) = desk.asked(BookFill, explain(desk, 100, cost=cost, alone=alone))
    assert book.fill.last_px == Decimal(price)
    assert source in desk.asked(Alert)[-1].sentence


def test_a_short_entry_is_booked_at_no_less_than_its_limit() -> None:
    desk = vanished(of=builders.short_intent())
    (book,) = desk.asked(BookFill, explain(desk, 100, held=-100, cost="99.5"))
    assert (book.fill.last_px, str(book.fill.side)) == (100, "SELL_SHORT")
    assert desk.bracket.phase is Phase.PROTECTED


@pytest.mark.parametrize(
    ("held", "booked", "severity"), [(0, 0, "warning"), (40, 0, "page"), (200, 0, "page"), (70, 70, "warning")]
)
def test_without_it_the_entry_is_over_and_a_person_looks_where_the_sums_differ(
    held: int, booked: int, severity: str
) -> None:
    desk = vanished()
    said = explain(desk, 0, held, booked)
    assert (desk.sent(said), pages(said)) == ([], [("entry_vanished", severity)])
    assert (desk.bracket.phase, desk.words("entry")) == (Phase.CLOSED, "canceled")


def test_of_an_entry_that_had_filled_in_part_only_the_rest_is_asked_about() -> None:
    desk = vanished(40)
    (seek,) = desk.asked(SeekFill)
    assert (seek.quantity, desk.bracket.phase) == (60, Phase.PROTECTED)
    said = explain(desk, 60, held=100, booked=40, alone=False)
    assert sorted(each.split()[1] for each in desk.sent(said)) == ["60", "60"]
    assert (desk.bracket.open_qty, desk.bracket.average) == (100, 100)


def test_the_rest_that_did_not_fill_leaves_the_part_protected() -> None:
    desk = vanished(40)
    said = explain(desk, 0, held=40, booked=40)
    assert (desk.sent(said), desk.cancels(said), desk.bracket.phase) == ([], [], Phase.PROTECTED)
    assert desk.bracket.entry_over


@pytest.mark.parametrize("parts", [(100,), (40, 60), (40,)])
def test_real_executions_replace_what_was_inferred(parts: tuple[int, ...]) -> None:
    desk = vanished()
    explain(desk, 100)
    desk.ack_all()
    revision, left = 1, 100
    for part in parts:
        said = desk.fill("entry", part, 98)
        (book,) = desk.asked(BookFill, said)
        revision, left = revision + 1, left - part
        assert isinstance(book.fill, FillCorrected)
        assert (book.fill.exec_id, book.fill.revision, book.fill.last_qty) == (INFERRED, revision, left)
        assert (book.fill.prior_qty, book.fill.prior_px) == (left + part, Decimal("99.5"))
        assert desk.sent(said) == desk.cancels(said) == []  # the same quantity is open: nothing moves at the venue
        assert (desk.bracket.entry_filled, desk.bracket.open_qty) == (100, 100)
        assert desk.tell(book.fill) == []  # as the ledger tells it to a rebuilt actor
    assert desk.bracket.entry_cost == sum(parts) * 98 + left * Decimal("99.5")
    assert desk.words("entry") == "filled"


def test_the_venue_may_still_show_it() -> None:
    desk = vanished()
    alive = OrderAccepted(bracket_id=desk.id, order_id="B1-test.entry", ts_ns=desk.now, perm_id=7001, client_id=1)
    desk.tell(alive)
    assert explain(desk, 100) == []
    assert desk.bracket.entry_filled == 0
    desk.fill("entry", 100, 100)
    assert desk.bracket.phase is Phase.PROTECTED


def test_a_real_fill_while_the_answer_is_on_its_way_counts_once() -> None:
    desk = vanished()
    desk.fill("entry", 100, 100)
    assert explain(desk, 100) == []
    assert desk.bracket.open_qty == 100


def test_it_is_asked_again_until_it_is_answered_and_a_person_is_called_once() -> None:
    desk = vanished()
    said: list[Any] = []
    for _ in range(8):
        said += desk.time("seek:B1-test.entry")
    assert len(desk.asked(SeekFill)) == 9
    assert pages(said) == [("entry_unexplained", "page")]


def test_behind_a_closed_gate_nobody_is_asked() -> None:
    desk = vanished()
    desk.tell(GateClosed(reason="socket", ts_ns=desk.now))
    assert desk.asked(SeekFill, desk.time("seek:B1-test.entry")) == []
    assert len(desk.asked(SeekFill, desk.tell(GateOpened(ts_ns=desk.now, client_id=1)))) == 1


def test_absent_by_a_query_is_the_same() -> None:
    desk = Desk(builders.definition())
    desk.ack("entry")
    said = desk.tell(OrderAbsent(bracket_id=desk.id, order_id="B1-test.entry", ts_ns=desk.now))
    assert [type(each).__name__ for each in said if not isinstance(each, Alert)] == ["SeekFill", "StartTimer"]


def test_a_cancelled_one_waits_for_the_answer_and_is_protected_if_it_filled() -> None:
    desk = vanished()
    said = desk.tell(CancelBracket(bracket_id=desk.id, command_id="c"))
    assert (desk.cancels(said), desk.bracket.phase) == ([], Phase.CLOSING)
    explain(desk, 100)
    assert desk.bracket.phase is Phase.PROTECTED


def test_a_flattened_one_is_closed_at_once_if_it_filled() -> None:
    desk = vanished()
    desk.tell(FlattenBracket(bracket_id=desk.id, command_id="c"))
    assert desk.sent(explain(desk, 100)) == ["flat.1 100"]


def test_a_detached_one_is_left_alone() -> None:
    desk = vanished()
    desk.tell(DetachBracket(bracket_id=desk.id, command_id="c"))
    assert desk.sent(explain(desk, 100)) == []


# -- what the account explains -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "missing", "found"),
    [
        (100, {"a": 100}, "a"),
        (0, {"a": 100}, ""),
        (40, {"a": 100}, ""),
        (140, {"a": 100}, ""),
        (-100, {"a": 100}, ""),
        (-100, {"a": -100}, "a"),
        (200, {"a": 100, "b": 100}, "ab"),
        (100, {"a": 100, "b": 100}, "a"),
        (70, {"a": 30, "b": 50, "c": 40}, "ac"),
        (0, {"a": 100, "b": -100}, ""),
        (3_000, {str(number): 100 for number in range(30)}, "".join(sorted(map(str, range(30))))),
    ],
)
def test_a_difference_explains_whole_quantities_or_none(difference: int, missing: dict[str, int], found: str) -> None:
    got = accounted(Decimal(difference), {name: Decimal(quantity) for name, quantity in missing.items()})
    assert "".join(sorted(got)) == found


class Account:
    """The books of a position actor in small."""

    def __init__(self) -> None:
        self.absences = Absences()
        self.ours = Decimal(0)
        self.booked: set[str] = set()
        self.seen: dict[tuple[str, int], PositionSeen] = {}

    def ask(self, order: str, quantity: int = 100, held: int = 100, ts_ns: int = 1) -> None:
        self.absences.ask(ExplainAbsence(
            bracket_id=order.partition(".")[0], order_id=order, account="DU1234567", conid=265598, side=Side("BUY"),
            quantity=Decimal(quantity), held=Decimal(held), avg_cost=Decimal("99.5"), ts_ns=ts_ns,
        ))  # fmt: skip

    def answer(self, now: int = 10**12) -> dict[str, Decimal]:
        said = self.absences.answer(lambda account, conid: self.ours, self.booked.__contains__, self.seen, now)
        return {each.order_id: each.filled for each in said}


def test_two_that_ask_one_after_the_other_do_not_share_one_difference() -> None:
    account = Account()
    account.ask("B1-a.entry")
    assert account.answer() == {"B1-a.entry": 100}
    account.ask("B2-b.entry")
    assert account.answer() == {"B2-b.entry": 0}


def test_what_was_answered_is_answered_again_whether_booked_or_not() -> None:
    account = Account()
    account.ask("B1-a.entry")
    account.answer()
    account.ask("B1-a.entry")
    account.ask("B2-b.entry", held=200, ts_ns=2)
    assert account.answer() == {"B1-a.entry": 100, "B2-b.entry": 100}
    account.absences.filled(builders.fill("B1-a.entry", 100, 100, exec_id="inferred:B1-a.entry"), 1)
    account.ours, account.booked = Decimal(100), {"inferred:B1-a.entry"}
    account.ask("B1-a.entry", held=200)
    account.ask("B3-c.entry", held=300, ts_ns=2)
    assert account.answer() == {"B1-a.entry": 100, "B3-c.entry": 100}


def test_after_a_fill_the_position_must_settle_first() -> None:
    account = Account()
    account.absences.filled(builders.fill("B9-x.entry", 50, 100), 10**12)
    account.ask("B1-a.entry")
    assert account.answer(10**12 + 1) == {}
    account.ours = Decimal(50)
    account.seen["DU1234567", 265598] = PositionSeen(
        account="DU1234567", conid=265598, instrument="AAPL", quantity=Decimal(150), avg_cost=Decimal(99), ts_ns=10**12
    )
    assert account.answer(10**12 + 5 * builders.SECOND) == {"B1-a.entry": 100}
