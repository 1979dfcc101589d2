"""What a bracket does, told event by event."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from actors.rules.bracket import IMPOSSIBLE, MOVES, TABLE, Trigger
from actors.rules.bracket_state import Phase, Policy
from messages.exits import BracketStarted, ConditionMet
from messages.orders import (
    BracketPictured,
    CancelBracket,
    CancelEntry,
    DetachBracket,
    FlattenBracket,
    GateOpened,
    ModifyBracket,
    OrderAccepted,
    OrderDeferred,
    OrderDenied,
    PicturedOrder,
)
from tests import builders
from tests.rules.desk import ArmExit, Desk, DisarmExit, Incident, QueryOrder, Refusal, SubmitOrder


def worked(native: bool = True, policy: Policy | None = None, **changes: object) -> Desk:
    """The worked example, its entry acknowledged."""
    desk = Desk(builders.definition(oca_native=native, **changes), policy)
    desk.ack("entry")
    return desk


def protected(native: bool = True, policy: Policy | None = None, **changes: object) -> Desk:
    desk = worked(native, policy, **changes)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    return desk


def test_every_pair_of_phase_and_trigger_is_decided() -> None:
    assert TABLE.keys() | IMPOSSIBLE == set(product(Phase, Trigger))
    assert not TABLE.keys() & IMPOSSIBLE
    assert MOVES.keys() == set(Phase)


def test_the_entry_goes_at_once_and_alone() -> None:
    desk = Desk(builders.definition())
    assert desk.sent() == ["entry 100"]
    entry = desk.asked(SubmitOrder)[0]
    assert entry.oca_group is None
    assert not entry.oca_native
    assert [desk.words(leg) for leg in ("entry", "target", "stop")] == ["ready", "pending", "pending"]
    desk.ack("entry")
    assert desk.words("entry") == "transmitted"
    assert desk.bracket.phase is Phase.ENTERING


def test_the_first_fill_activates_both_exits_in_one_group_stop_first() -> None:
    desk = worked()
    said = desk.fill("entry", 100, 100)
    assert desk.sent(said) == ["stop.1 100", "target.1 100"]
    stop, target = desk.asked(SubmitOrder, said)
    assert stop.oca_group == target.oca_group == "B1-test.g1"
    assert (stop.stop_price, target.limit_price) == (Decimal(95), Decimal(110))
    assert desk.words("target") == "ready"
    desk.ack_all()
    assert desk.words("target") == desk.words("stop") == "active"
    assert desk.bracket.phase is Phase.PROTECTED


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("winner", "loser", "price"), [("target", "stop", 110), ("stop", "target", 95)])
def test_one_exit_fills_and_the_engine_cancels_the_other(native: bool, winner: str, loser: str, price: int) -> None:
    desk = protected(native)
    said = desk.fill(f"{winner}.1", 100, price)
    assert desk.cancels(said) == [f"{loser}.1"]
    assert desk.bracket.phase is Phase.CLOSING
    desk.cancel(f"{loser}.1")
    assert desk.bracket.phase is Phase.CLOSED
    assert (desk.words("entry"), desk.words(winner), desk.words(loser)) == ("filled", "filled", "canceled")
    states = [str(desk.row(leg).state) for leg in ("entry", winner, loser)]
    assert states == ["FILLED", "FILLED", "CANCELLED"]
    assert desk.bracket.open_qty == 0


def test_without_native_groups_later_fills_amend_the_same_exits() -> None:
    desk = worked(native=False)
    assert desk.sent(desk.fill("entry", 40, 100)) == ["stop.1 40", "target.1 40"]
    desk.ack_all()
    assert desk.amends(desk.fill("entry", 35, 100)) == ["stop.1 75", "target.1 75"]
    desk.echo("stop.1", 75)
    desk.echo("target.1", 75)
    assert desk.amends(desk.fill("entry", 25, 100)) == ["stop.1 100", "target.1 100"]
    desk.echo("stop.1", 100)
    desk.echo("target.1", 100)
    assert sorted(desk.sent()) == ["entry 100", "stop.1 40", "target.1 40"]
    assert desk.amends(desk.fill("target.1", 30, 110)) == ["stop.1 70"]


def test_with_native_groups_later_fills_open_new_groups_after_a_quiet_moment() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    assert desk.sent(desk.fill("entry", 35, 100)) == []
    assert desk.sent(desk.fill("entry", 25, 100)) == ["stop.2 60", "target.2 60"]  # the entry is complete: no waiting
    desk.ack_all()
    assert desk.row("target").quantity == desk.row("stop").quantity == 100
    groups = {order.group for order in desk.bracket.orders.values() if order.group}
    assert groups == {"B1-test.g1", "B1-test.g2"}


def test_a_quiet_moment_ends_by_its_timer() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.fill("entry", 35, 100)
    assert desk.sent(desk.time("cover")) == ["stop.2 35", "target.2 35"]


def test_a_group_that_does_not_shrink_is_placed_anew() -> None:
    desk = protected()
    desk.fill("target.1", 30, 110)
    said = desk.time("echo:1")
    assert sorted(desk.cancels(said)) == ["stop.1", "target.1"]
    desk.cancel("stop.1")
    assert sorted(desk.sent(desk.cancel("target.1"))) == ["stop.2 70", "target.2 70"]


def test_a_group_that_shrinks_in_time_is_left_alone() -> None:
    desk = protected()
    desk.fill("target.1", 30, 110)
    desk.echo("stop.1", 70)
    assert desk.cancels(desk.time("echo:1")) == []


def test_both_exits_fill_and_the_excess_is_flattened_once() -> None:
    desk = protected()
    desk.fill("target.1", 100, 110)
    desk.fill("stop.1", 100, 95)
    assert "oca_overfill" in desk.codes(Incident)
    assert desk.bracket.open_qty == -100
    assert desk.asked(QueryOrder)
    said = desk.time("excess")
    assert desk.sent(said) == ["excess.1 100"]
    assert str(desk.asked(SubmitOrder, said)[0].side) == "BUY_TO_COVER"  # the account is short by 100
    desk.ack("excess.1")
    desk.fill("excess.1", 100, 95, side="BUY", role="excess")
    assert desk.bracket.phase is Phase.CLOSED
    assert desk.bracket.open_qty == 0


def test_a_stop_that_fills_while_the_entry_works_cancels_it_and_exits_late_fills_at_once() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    said = desk.fill("stop.1", 40, 95)
    assert set(desk.cancels(said)) == {"entry", "target.1"}
    said = desk.fill("entry", 20, 100)
    orders = desk.asked(SubmitOrder, said)
    assert [(str(o.order_type), o.quantity) for o in orders] == [("MKT", Decimal(20))]
    assert desk.bracket.phase is Phase.EXITING


def test_an_entry_that_fills_through_its_stop_is_exited_at_once() -> None:
    desk = worked()
    said = desk.fill("entry", 100, 94)
    orders = desk.asked(SubmitOrder, said)
    assert [(o.leg, str(o.order_type)) for o in orders] == [("stop", "MKT")]
    assert "already through" in desk.bracket.reason


def test_an_entry_that_ends_unfilled_takes_its_children_along() -> None:
    for how in ("cancel", "reject", "expire"):
        desk = worked()
        getattr(desk, how)("entry")
        assert desk.bracket.phase is Phase.CLOSED
        assert desk.sent() == ["entry 100"]
        assert desk.words("target") == desk.words("stop") == "canceled"


def test_an_entry_that_ends_half_filled_leaves_the_filled_half_protected() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.cancel("entry")
    assert desk.bracket.phase is Phase.PROTECTED
    desk.fill("target.1", 40, 110)
    desk.cancel("stop.1")
    assert desk.bracket.phase is Phase.CLOSED


def test_a_trailing_stop_is_armed_not_sent_and_fires_into_its_group() -> None:
    exits = (builders.tranche(target=builders.target(), trail=builders.trail(2)),)
    desk = worked(exits=exits)
    said = desk.fill("entry", 100, 100)
    assert desk.sent(said) == ["target.1 100"]
    arm = desk.asked(ArmExit, said)[0]
    assert arm.orders[0].order_id == "B1-test.trail.1"
    assert arm.orders[0].oca_group == "B1-test.g1"
    desk.ack_all()
    said = desk.trigger("trail", 103, 103)
    assert desk.sent(said) == ["trail.1 100"]
    desk.ack("trail.1")
    said = desk.fill("trail.1", 100, 103)
    assert desk.cancels(said) == ["target.1"]
    desk.cancel("target.1")
    assert desk.bracket.phase is Phase.CLOSED


def test_without_groups_a_fired_exit_waits_for_its_sibling_to_die() -> None:
    exits = (builders.tranche(target=builders.target(), trail=builders.trail(2)),)
    desk = worked(native=False, exits=exits)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    assert desk.asked(ArmExit)[-1].orders == ()
    said = desk.trigger("trail", 103, 103)
    assert desk.sent(said) == []
    assert desk.cancels(said) == ["target.1"]
    assert desk.sent(desk.cancel("target.1")) == ["trail.1 100"]


@pytest.mark.parametrize(("race", "sent"), [("safe", []), ("fast", ["trail.1 100"])])
def test_a_sibling_that_does_not_die_is_waited_for_or_not_as_configured(race: str, sent: list[str]) -> None:
    exits = (builders.tranche(target=builders.target(), trail=builders.trail(2)),)
    desk = worked(native=False, policy=Policy(exit_race=race), exits=exits)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    desk.trigger("trail", 103, 103)
    assert desk.sent(desk.time("race:1")) == sent
    assert "exit_race" in desk.codes()


def test_a_lone_trailing_stop_grows_with_partial_fills_and_sends_one_order() -> None:
    exits = (builders.tranche(trail=builders.trail(2)),)
    desk = worked(exits=exits)
    for quantity in (40, 35, 25):
        desk.fill("entry", quantity, 100)
    arm = desk.asked(ArmExit)[-1]
    assert [o.quantity for o in arm.orders] == [Decimal(100)]
    assert desk.sent(desk.trigger("trail", 98, 98)) == ["trail.1 100"]


def test_a_rejected_exit_is_placed_again_twice_then_the_bracket_is_frozen() -> None:
    desk = protected()
    for n in (1, 2):
        assert f"stop.{n + 1} 100" in desk.sent(desk.reject(f"stop.{n}"))
        desk.ack(f"stop.{n + 1}")
    desk.reject("stop.3")
    assert desk.bracket.phase is Phase.FROZEN
    assert "reprotect_spent" in desk.codes()
    assert "target.1" not in desk.cancels()


def test_a_cancel_that_nobody_here_asked_for_freezes_and_pages() -> None:
    desk = protected()
    desk.cancel("stop.1", requested=False)
    desk.time("judge:1")
    assert desk.bracket.phase is Phase.FROZEN
    assert "human_cancel" in desk.codes()


def test_a_cancel_that_its_sibling_explains_a_moment_later_is_natural() -> None:
    desk = protected()
    desk.cancel("stop.1", requested=False)
    desk.fill("target.1", 100, 110)
    desk.time("judge:1")
    assert desk.bracket.phase is Phase.CLOSED


def test_a_late_fill_after_closed_is_protected_again() -> None:
    desk = worked()
    desk.tell(CancelBracket(bracket_id=desk.id, command_id="c"))
    desk.cancel("entry")
    assert desk.bracket.phase is Phase.CLOSED
    assert desk.sent(desk.fill("entry", 60, 100)) == ["stop.1 60", "target.1 60"]
    assert desk.bracket.phase is Phase.PROTECTED


def test_a_bust_of_the_entry_takes_the_exits_down() -> None:
    desk = protected()
    first = next(iter(desk.bracket.fills))
    fill = builders.fill(desk.name("entry"), 100, 100, exec_id=first)
    desk.tell(builders.corrected(fill, 0))
    assert desk.bracket.open_qty == 0
    assert set(desk.cancels()) == {"stop.1", "target.1"}


def test_a_correction_counts_once() -> None:
    desk = worked()
    fill = builders.fill(desk.name("entry"), 60, 100)
    desk.tell(fill)
    desk.tell(fill)
    desk.tell(builders.corrected(fill, 50))
    desk.tell(builders.corrected(fill, 50))
    assert desk.bracket.entry_filled == 50


def test_cancel_is_refused_once_something_is_filled_and_names_the_choices() -> None:
    desk = protected()
    said = desk.tell(CancelBracket(bracket_id=desk.id, command_id="c"))
    sentence = desk.asked(Refusal, said)[0].sentence
    assert "cancel-entry" in sentence
    assert "flatten" in sentence
    assert desk.cancels() == []


def test_cancel_entry_keeps_the_protection() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    assert desk.cancels(desk.tell(CancelEntry(bracket_id=desk.id, command_id="c"))) == ["entry"]
    desk.cancel("entry")
    assert desk.bracket.phase is Phase.PROTECTED


@pytest.mark.parametrize("native", [True, False])
def test_flatten_closes_everything(native: bool) -> None:
    desk = worked(native)
    desk.fill("entry", 40, 100)
    desk.ack_all()
    said = desk.tell(FlattenBracket(bracket_id=desk.id, command_id="c"))
    assert "entry" in desk.cancels(said)
    if not native:
        desk.cancel("stop.1")
        said = desk.cancel("target.1")
    assert desk.sent(said) == ["flat.1 40"]
    desk.ack("flat.1")
    desk.fill("flat.1", 40, 99)
    for leg in ("entry", "stop.1", "target.1"):
        desk.cancel(leg)
    assert desk.bracket.phase is Phase.CLOSED


def test_detach_leaves_the_orders_and_forgets_what_is_held() -> None:
    desk = protected(exits=(builders.tranche(stop=builders.stop(), trail=builders.trail(2)),))
    said = desk.tell(DetachBracket(bracket_id=desk.id, command_id="c"))
    assert desk.asked(DisarmExit, said)
    assert desk.cancels() == []
    assert desk.bracket.phase is Phase.DETACHED


def test_modify_before_the_fill_amends_the_entry_and_after_it_only_exits() -> None:
    desk = worked()
    said = desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m", limit_price=Decimal("99.5"), stop=Decimal(94)))
    assert desk.amends(said) == ["entry 100"]
    desk.fill("entry", 100, 99)
    desk.ack_all()
    refused = desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m2", limit_price=Decimal(98)))
    assert "after the first fill" in desk.asked(Refusal, refused)[0].sentence
    said = desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m3", target=Decimal(112)))
    assert set(desk.cancels(said)) == {"stop.1", "target.1"}
    desk.cancel("stop.1")
    said = desk.cancel("target.1")
    assert [o.limit_price for o in desk.asked(SubmitOrder, said) if o.leg == "target"] == [Decimal(112)]


def test_modify_refuses_a_stop_on_the_wrong_side() -> None:
    desk = worked()
    said = desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m", stop=Decimal(105)))
    assert "must be below" in desk.asked(Refusal, said)[0].sentence


def test_a_closed_gate_defers_the_entry_and_the_open_gate_sends_it_under_the_same_id() -> None:
    desk = Desk(builders.definition())
    desk.tell(OrderDeferred(bracket_id=desk.id, order_id=desk.name("entry"), ts_ns=desk.now, reason="gate closed"))
    assert desk.bracket.phase is Phase.SCHEDULED
    assert desk.sent(desk.tell(GateOpened(ts_ns=desk.now, client_id=1))) == ["entry 100"]


def test_a_stale_entry_is_denied() -> None:
    desk = Desk(builders.definition(), start=False)
    desk.now += 200 * builders.SECOND
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=1, ts_ns=desk.now))
    desk.tell(BracketPictured(bracket_id=desk.id, orders=(), ts_ns=desk.now))
    assert desk.sent() == []
    assert desk.words("entry") == "denied"
    assert desk.bracket.phase is Phase.CLOSED


def test_a_denial_by_the_broker_ends_an_empty_bracket() -> None:
    desk = Desk(builders.definition())
    desk.tell(
        OrderDenied(bracket_id=desk.id, order_id=desk.name("entry"), ts_ns=desk.now, code="stale", reason="too late")
    )
    assert desk.bracket.phase is Phase.CLOSED
    assert desk.words("entry") == "denied"


def test_a_rule_waits_for_its_price() -> None:
    desk = Desk(builders.definition(when=builders.when(price=190)))
    assert desk.sent() == []
    desk.tell(ConditionMet(bracket_id=desk.id, price=Decimal(190), tick_ts_ns=desk.now, ts_ns=desk.now))
    assert desk.sent() == ["entry 100"]


def test_an_oco_covers_its_claim_without_an_entry() -> None:
    desk = Desk(builders.definition(of=builders.oco_intent()))
    assert desk.sent() == ["stop.1 100", "target.1 100"]
    desk.ack_all()
    assert desk.bracket.phase is Phase.PROTECTED
    desk.fill("target.1", 100, 110)
    desk.cancel("stop.1")
    assert desk.bracket.phase is Phase.CLOSED


def test_a_short_bracket_is_the_mirror_image() -> None:
    desk = Desk(builders.definition(of=builders.short_intent()))
    desk.ack("entry")
    said = desk.fill("entry", 100, 100, side="SELL")
    stop, target = desk.asked(SubmitOrder, said)
    assert str(stop.side) == str(target.side) == "BUY_TO_COVER"
    assert (stop.stop_price, target.limit_price) == (Decimal(105), Decimal(90))


def test_tranches_take_the_fill_in_order_and_hold_their_own_groups() -> None:
    exits = (
        builders.tranche(quantity=60, target=builders.target(110), stop=builders.stop(95)),
        builders.tranche(quantity=40, target=builders.target(120), stop=builders.stop(95)),
    )
    desk = worked(exits=exits)
    assert desk.sent(desk.fill("entry", 70, 100)) == [
        "stop.1 60", "target.1 60", "stop2.1 10", "target2.1 10",
    ]
    desk.ack_all()
    assert sorted(desk.sent(desk.fill("entry", 30, 100))) == ["stop2.2 30", "target2.2 30"]


def test_offsets_follow_the_actual_average_fill() -> None:
    exits = (builders.tranche(target=builders.target(offset=3), stop=builders.stop(percent=1)),)
    desk = worked(exits=exits)
    said = desk.fill("entry", 100, "99.50")
    stop, target = desk.asked(SubmitOrder, said)
    assert target.limit_price == Decimal("102.50")
    assert stop.stop_price == Decimal("98.50")  # 98.505 rounded away from an early trigger


def test_a_safety_stop_stands_beside_a_held_stop_in_its_group() -> None:
    exits = (builders.tranche(stop=builders.stop(95, hold="engine")),)
    desk = worked(exits=exits, safety_stop=builders.safety(90))
    said = desk.fill("entry", 100, 100)
    assert desk.sent(said) == ["safety.1 100"]
    assert desk.asked(SubmitOrder, said)[0].oca_native
    desk.ack_all()
    assert desk.sent(desk.trigger("stop", 95, 95)) == ["stop.1 100"]


def test_a_restart_takes_up_what_the_venue_shows() -> None:
    desk = worked()
    desk.fill("entry", 100, 100)  # crash: nothing of the exits was recorded
    again = Desk(desk.bracket.definition, start=False)
    again.tell(BracketStarted(bracket_id=again.id, incarnation=2, ts_ns=again.now))
    again.fill("entry", 100, 100)
    assert again.sent() == []  # not before the picture
    seen = tuple(
        PicturedOrder(
            order_id=again.name(f"{leg}.1"), perm_id=9, client_id=1, quantity=Decimal(100), limit_price=None,
            stop_price=None, oca_group="B1-test.g1", live=True, status="Submitted",
        )
        for leg in ("stop", "target")
    )
    again.tell(BracketPictured(bracket_id=again.id, orders=seen, ts_ns=again.now))
    assert again.sent() == []
    assert again.bracket.phase is Phase.PROTECTED


def test_an_entry_proved_absent_after_a_restart_is_sent_under_a_new_id() -> None:
    desk = Desk(builders.definition())  # it was sent, and the venue never said that it had it
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=2, ts_ns=desk.now))
    said = desk.tell(BracketPictured(bracket_id=desk.id, orders=(), ts_ns=desk.now))
    assert desk.sent(said) == ["entry.2 100"]


def test_a_false_cancel_is_revived_by_the_venue() -> None:
    desk = worked()
    desk.cancel("entry", requested=False)
    desk.tell(
        OrderAccepted(bracket_id=desk.id, order_id=desk.name("entry"), ts_ns=desk.now, perm_id=7001, client_id=1)
    )
    assert desk.bracket.orders[desk.name("entry")].alive
