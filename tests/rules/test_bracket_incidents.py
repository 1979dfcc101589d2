"""One test for each way in which a bracket has lost money, or could have: found by reading or by the hostile venue."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from actors.rules.bracket_state import Life, Phase, Policy
from messages.exits import BracketStarted
from messages.ledger import TrailMoved
from messages.orders import (
    AmendRejected,
    BracketPictured,
    CancelBracket,
    DetachBracket,
    FlattenBracket,
    GateClosed,
    GateOpened,
    ModifyBracket,
    OrderAbsent,
    OrderDeferred,
    OrderDenied,
    OrderSubmitted,
    OrderUnknown,
    PicturedOrder,
)
from tests import builders
from tests.rules.desk import Alert, ArmExit, CancelOrder, Desk, Incident, QueryOrder, StartTimer, SubmitOrder
from tests.rules.test_bracket import protected, worked

LONE_TRAIL = (builders.tranche(trail=builders.trail(2)),)
TARGET_AND_TRAIL = (builders.tranche(target=builders.target(), trail=builders.trail(2)),)
TWO = (
    builders.tranche(quantity=60, target=builders.target(110), stop=builders.stop(95)),
    builders.tranche(quantity=40, target=builders.target(120), stop=builders.stop(95)),
)


def say(desk: Desk, kind: type[Any], order: str, **more: Any) -> list[Any]:
    return desk.tell(kind(bracket_id=desk.id, order_id=desk.name(order), ts_ns=desk.now, **more))


def submitted(desk: Desk, leg: str, quantity: int) -> list[Any]:
    return say(desk, OrderSubmitted, leg, leg=leg.partition(".")[0], quantity=Decimal(quantity), client_id=1,
               venue_order_id=3)


def bust(desk: Desk, leg: str) -> list[Any]:
    exec_id, fill = next((key, f) for key, f in desk.bracket.fills.items() if f.order_id == desk.name(leg))
    role = str(fill.role)
    side = "BUY" if role == "entry" else "SELL"
    return desk.tell(
        builders.corrected(
            builders.fill(desk.name(leg), fill.qty, fill.px, exec_id=exec_id, role=role, side=side), 0
        )
    )


def restarted(desk: Desk, *shown: PicturedOrder) -> list[Any]:
    incarnation = desk.bracket.incarnation + 1
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=incarnation, ts_ns=desk.now))
    return desk.tell(BracketPictured(bracket_id=desk.id, orders=shown, ts_ns=desk.now))


def picture(desk: Desk, leg: str, quantity: int, live: bool = True, group: str | None = "g1") -> PicturedOrder:
    return PicturedOrder(
        order_id=desk.name(leg), perm_id=9, client_id=1, quantity=Decimal(quantity), limit_price=None,
        stop_price=None, oca_group=f"{desk.id}.{group}" if group else None, live=live,
        status="Submitted" if live else "Cancelled",
    )


# -- sent twice ------------------------------------------------------------------------------------------------


def test_a_bust_of_the_whole_entry_does_not_send_the_entry_again() -> None:
    desk = protected()
    assert desk.sent(bust(desk, "entry")) == []
    assert "entry.2 100" not in desk.sent()


def test_a_template_that_its_child_has_sent_is_known_before_the_trigger_is_heard() -> None:
    desk = worked(exits=TARGET_AND_TRAIL)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    submitted(desk, "trail.1", 100)
    desk.fill("trail.1", 30, 98)
    assert desk.bracket.orders[desk.name("trail.1")].leaves == 70
    assert "trail.2 70" not in desk.sent()


def test_a_second_lots_template_is_booked_in_the_second_lot() -> None:
    desk = worked(exits=TARGET_AND_TRAIL)
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.fill("entry", 60, 100)
    desk.ack_all()
    submitted(desk, "trail.2", 60)
    assert desk.bracket.orders[desk.name("trail.2")].lot == 2


def test_an_oca_cancel_heard_before_its_fill_places_nothing() -> None:
    desk = protected()
    assert desk.sent(desk.cancel("stop.1", requested=True)) == []
    desk.fill("target.1", 100, 110)
    assert desk.bracket.phase is Phase.CLOSED


def test_an_oca_cancel_that_no_fill_explains_is_placed_again_after_a_moment() -> None:
    desk = protected()
    desk.cancel("stop.1", requested=True)
    assert desk.sent(desk.time("settle:1")) == ["stop.2 100"]


def test_a_flatten_takes_the_id_of_a_lone_held_exit_that_may_have_been_sent() -> None:
    desk = worked(exits=LONE_TRAIL)
    desk.fill("entry", 100, 100)
    said = desk.tell(FlattenBracket(bracket_id=desk.id, command_id="f"))
    assert desk.sent(said)[-1] == "trail.1 100"  # the broker transmits an id once: the flatten, or the trigger


def test_a_flatten_that_crosses_a_trigger_in_one_group_counts_both() -> None:
    desk = worked(exits=TARGET_AND_TRAIL)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    arm = desk.bracket.armed["trail"]
    desk.tell(FlattenBracket(bracket_id=desk.id, command_id="f"))
    desk.bracket = msgspec.structs.replace(desk.bracket, armed={"trail": arm})  # what the child still holds
    assert desk.sent(desk.trigger("trail", 98, 98)) == ["trail.1 100"]
    assert desk.sent(desk.reject("flat.1")) == []  # the trail's order is on its way
    assert desk.bracket.orders[desk.name("trail.1")].group == desk.bracket.orders[desk.name("flat.1")].group


def test_a_held_exit_never_sends_by_itself_beside_a_sibling_without_a_group() -> None:
    exits = (builders.tranche(target=builders.target(hold="engine"), trail=builders.trail()),)
    desk = worked(native=False, exits=exits)
    desk.fill("entry", 100, 100)
    assert [arm.orders for arm in desk.asked(ArmExit)] == [(), ()]


@pytest.mark.parametrize("kind", ["picture", "absent", "stale"])
def test_what_this_incarnation_has_just_asked_for_is_not_absent(kind: str) -> None:
    desk = Desk(builders.definition())
    if kind == "picture":
        said = desk.tell(BracketPictured(bracket_id=desk.id, orders=(), ts_ns=desk.now))
    elif kind == "absent":
        said = say(desk, OrderAbsent, "entry")
    else:
        said = say(desk, OrderDenied, "entry", code="incarnation", reason="stale")
    assert desk.sent(said) == []
    assert desk.bracket.orders[desk.name("entry")].life is Life.ASKED


def test_an_id_that_was_written_for_a_dead_incarnation_is_asked_about_not_sent_anew() -> None:
    desk = Desk(builders.definition())
    said = say(desk, OrderDenied, "entry", code="duplicate", reason="known")
    assert [query.order_id for query in desk.asked(QueryOrder, said)] == [desk.name("entry")]
    assert desk.bracket.phase is Phase.ENTERING
    assert desk.sent(say(desk, OrderAbsent, "entry")) == ["entry.2 100"]


def test_groups_are_named_anew_in_each_incarnation() -> None:
    desk = worked()
    restarted(desk, picture(desk, "entry", 100, group=None))
    desk.fill("entry", 100, 100)
    assert {order.oca_group for order in desk.asked(SubmitOrder) if order.oca_group} == {"B1-test.g101"}


# -- lost or naked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_a_fired_exit_that_the_venue_cancels_is_placed_again_twice_then_frozen(native: bool) -> None:
    desk = worked(native=native, exits=LONE_TRAIL)
    desk.fill("entry", 100, 100)
    desk.trigger("trail", 98, 98)
    for n in (1, 2):
        desk.ack(f"trail.{n}")
        assert desk.sent(desk.cancel(f"trail.{n}", requested=False)) == [f"trail.{n + 1} 100"]
    desk.ack("trail.3")
    assert desk.sent(desk.cancel("trail.3", requested=False)) == []
    assert desk.bracket.phase is Phase.FROZEN


def test_a_rejection_that_is_said_twice_counts_once() -> None:
    desk = protected()
    desk.reject("stop.1")
    desk.reject("stop.1")
    assert len(desk.bracket.reprotects) == 1
    assert desk.sent().count("stop.2 100") == 1


def test_without_groups_a_stop_that_fills_in_part_takes_its_target_away() -> None:
    desk = protected(native=False)
    assert "target.1" in desk.cancels(desk.fill("stop.1", 30, 95))


@pytest.mark.parametrize("native", [True, False])
def test_freezing_takes_the_rest_of_the_entry_away(native: bool) -> None:
    desk = worked(native=native)
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.cancel("target.1", requested=False)
    said = desk.time("judge:1")
    assert desk.bracket.phase is Phase.FROZEN
    assert desk.cancels(said) == ["entry"]


def test_while_frozen_without_groups_the_sibling_of_a_filled_exit_is_cancelled() -> None:
    desk = protected(native=False, exits=TWO)
    desk.cancel("target2.1", requested=False)
    desk.time("judge:2")
    assert desk.bracket.phase is Phase.FROZEN
    assert desk.cancels(desk.fill("target.1", 60, 110)) == ["stop.1"]


def test_a_fill_of_the_entry_while_frozen_calls_a_person() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.cancel("stop.1", requested=False)
    desk.time("judge:1")
    desk.fill("entry", 10, 100)
    assert "filled_frozen" in desk.codes()


@pytest.mark.parametrize("native", [True, False])
def test_a_held_stop_that_fires_while_frozen_closes_the_position(native: bool) -> None:
    exits = (builders.tranche(target=builders.target(), stop=builders.stop(hold="engine")),)
    desk = protected(native=native, exits=exits)
    desk.cancel("target.1", requested=False)
    desk.time("judge:1")
    assert desk.bracket.phase is Phase.FROZEN
    assert desk.sent(desk.trigger("stop", 95, 95)) == ["stop.1 100"]


def test_a_frozen_bracket_arms_its_held_exits_again_after_a_restart() -> None:
    exits = (builders.tranche(target=builders.target(), stop=builders.stop(hold="engine")),)
    desk = protected(exits=exits)
    desk.cancel("target.1", requested=False)
    desk.time("judge:1")
    said = restarted(desk, picture(desk, "entry", 100, live=False, group=None), picture(desk, "target.1", 100, False))
    assert [arm.leg for arm in desk.asked(ArmExit, said)] == ["stop"]


def test_a_waiting_lot_is_not_waited_for_for_ever_after_a_restart() -> None:
    desk = protected()
    desk.cancel("stop.1", requested=True)
    said = restarted(
        desk, picture(desk, "entry", 100, False, None), picture(desk, "stop.1", 100, False),
        picture(desk, "target.1", 100),
    )
    assert "judge:1" in [timer.key for timer in desk.asked(StartTimer, said)]


def test_every_lot_of_a_tranche_follows_a_stop_that_filled_whole() -> None:
    exits = (builders.tranche(target=builders.target(), stop=builders.stop(hold="engine")),)
    desk = worked(exits=exits, safety_stop=builders.safety(90))
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.fill("entry", 60, 100)
    desk.ack_all()
    desk.fill("safety.1", 40, 90)
    assert desk.bracket.lots[2].fired == "safety"


def test_a_flatten_before_the_picture_closes_what_the_picture_shows() -> None:
    desk = worked(exits=TARGET_AND_TRAIL)
    again = Desk(desk.bracket.definition, start=False)
    again.tell(BracketStarted(bracket_id=again.id, incarnation=2, ts_ns=again.now))
    again.tell(FlattenBracket(bracket_id=again.id, command_id="f"))
    again.fill("entry", 100, 100)
    shown = (picture(again, "entry", 100, False, None), picture(again, "target.1", 100))
    said = again.tell(BracketPictured(bracket_id=again.id, orders=shown, ts_ns=again.now))
    assert again.sent(said) == ["flat.1 100"]


def test_cancels_are_not_spent_on_a_closed_gate() -> None:
    desk = worked()
    desk.tell(GateClosed(reason="socket", ts_ns=desk.now))
    assert desk.cancels(desk.tell(FlattenBracket(bracket_id=desk.id, command_id="f"))) == []
    assert desk.cancels(desk.tell(GateOpened(ts_ns=desk.now, client_id=1))) == ["entry"]


def test_a_cancel_is_repeated_for_ever_but_slowly_once_a_person_was_called() -> None:
    desk = worked()
    desk.tell(FlattenBracket(bracket_id=desk.id, command_id="f"))
    for _ in range(6):
        said = desk.time("recancel:B1-test.entry")
        assert desk.cancels(said) == ["entry"]
    assert desk.codes().count("cancel_unanswered") == 1
    assert desk.asked(StartTimer, said)[0].seconds > desk.policy.recancel_s
    ids = [command.command_id for command in desk.asked(CancelOrder)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("how", ["silent", "deferred", "refused"])
def test_an_amendment_that_leads_nowhere_is_asked_for_again_then_the_exit_is_placed_anew(how: str) -> None:
    desk = worked(native=False)
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.fill("entry", 35, 100)
    if how == "deferred":
        say(desk, OrderDeferred, "stop.1", reason="gate closed")
        assert "stop.1 75" in desk.amends(desk.tell(GateOpened(ts_ns=desk.now, client_id=1)))
        return
    for _ in range(3):
        if how == "silent":
            said = desk.time("amend:B1-test.stop.1")
        else:
            said = say(desk, AmendRejected, "stop.1", code=201, reason="no")
        if "stop.1" in desk.cancels(said):
            break
        assert desk.amends(said) == ["stop.1 75"]
    assert desk.cancels(said) == ["stop.1"]
    assert desk.sent(desk.cancel("stop.1")) == ["stop.2 75"]


def test_a_refused_amendment_of_the_entry_leaves_the_old_intent_in_force() -> None:
    desk = worked()
    desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m", quantity=Decimal(150)))
    say(desk, AmendRejected, "entry", code=201, reason="no")
    assert desk.cancels() == []
    desk.fill("entry", 100, 100)
    assert desk.words("entry") == "filled"


def test_an_order_that_its_group_cut_to_what_it_had_filled_is_over() -> None:
    desk = protected()
    desk.fill("stop.1", 30, 95)
    desk.echo("stop.1", 30)
    assert not desk.bracket.orders[desk.name("stop.1")].alive


def test_an_order_nobody_knows_of_is_asked_about_until_somebody_does() -> None:
    desk = worked()
    say(desk, OrderUnknown, "entry", reason="no answer")
    for _ in range(3):
        assert desk.asked(QueryOrder, desk.time("query:B1-test.entry"))


# -- too much --------------------------------------------------------------------------------------------------


def overfilled(**changes: Any) -> Desk:
    desk = protected(**changes)
    desk.fill("target.1", 100, 110)
    desk.fill("stop.1", 100, 95)
    return desk


def test_an_overfill_survives_a_restart_and_is_flattened_once() -> None:
    desk = overfilled()
    said = restarted(desk)
    assert "excess" in [timer.key for timer in desk.asked(StartTimer, said)]
    assert desk.sent(desk.time("excess")) == ["excess.1 100"]


def test_a_deferred_or_rejected_flattening_of_an_excess_is_asked_for_again() -> None:
    desk = overfilled()
    desk.time("excess")
    say(desk, OrderDeferred, "excess.1", reason="gate closed")
    assert desk.sent(desk.tell(GateOpened(ts_ns=desk.now, client_id=1))) == ["excess.1 100"]
    desk.reject("excess.1")
    assert desk.sent(desk.time("excess")) == ["excess.2 100"]


def test_a_bust_after_the_excess_was_bought_back_is_protected_again() -> None:
    desk = overfilled()
    desk.time("excess")
    desk.fill("excess.1", 100, 95, side="BUY", role="excess")
    said = bust(desk, "stop.1")
    assert desk.bracket.open_qty == 100
    assert desk.sent(said) == ["stop.2 100"]  # its stop had fired: what is open again is closed
    assert desk.bracket.phase is not Phase.CLOSED


def test_what_one_tranche_closed_too_much_the_others_do_not_close_again() -> None:
    desk = protected(exits=TWO)
    desk.fill("target.1", 60, 110)
    said = desk.fill("stop.1", 20, 95)
    assert "oca_overfill" not in desk.codes(Incident)
    assert set(desk.cancels(said)) >= {"stop2.1", "target2.1"}
    desk.cancel("stop2.1")
    assert sorted(desk.sent(desk.cancel("target2.1"))) == ["stop2.2 20", "target2.2 20"]


def test_nothing_is_placed_beside_a_lot_that_is_still_dying() -> None:
    desk = protected(native=False, exits=TWO)
    desk.fill("target.1", 60, 110)
    desk.cancel("stop2.1", requested=True)
    assert desk.sent(desk.time("settle:2")) == []  # stop.1 may still fill
    assert desk.sent(desk.cancel("stop.1")) == ["stop2.2 40"]


def test_an_oco_that_is_cancelled_while_it_fills_has_not_overfilled() -> None:
    desk = Desk(builders.definition(of=builders.oco_intent()))
    desk.ack_all()
    said = desk.tell(CancelBracket(bracket_id=desk.id, command_id="c"))
    assert set(desk.cancels(said)) == {"stop.1", "target.1"}
    desk.fill("target.1", 100, 110)
    desk.cancel("stop.1")
    assert desk.codes(Incident) == []
    assert desk.bracket.phase is Phase.CLOSED


# -- who remembers what ----------------------------------------------------------------------------------------


def test_a_rebuilt_bracket_sizes_its_lots_by_what_the_venue_shows() -> None:
    desk = Desk(builders.definition(), start=False)
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=2, ts_ns=desk.now))
    desk.fill("entry", 100, 100)
    desk.fill("target.1", 30, 110)
    said = desk.tell(
        BracketPictured(
            bracket_id=desk.id, ts_ns=desk.now,
            orders=(
                picture(desk, "entry", 100, False, None), picture(desk, "target.1", 100), picture(desk, "stop.1", 70)
            ),
        )
    )
    assert desk.sent(said) == []
    assert desk.cancels(said) == []
    assert desk.bracket.phase is Phase.PROTECTED


def test_versions_rise_over_disarming_and_a_ratchet_arms_nothing_anew() -> None:
    desk = protected(exits=TARGET_AND_TRAIL)
    moved = {"bracket_id": desk.id, "row_id": f"{desk.id}.trail", "ratchets": 1, "ts_ns": desk.now}
    assert desk.tell(TrailMoved(high_water=Decimal(105), stop=Decimal(103), **moved)) == []
    desk.tell(TrailMoved(high_water=Decimal(104), stop=Decimal(102), **moved))  # late news
    assert desk.bracket.trails["trail"] == (Decimal(105), Decimal(103))
    before = desk.asked(ArmExit)[-1].version
    desk.tell(ModifyBracket(bracket_id=desk.id, command_id="m", target=Decimal(112)))
    said = desk.cancel("target.1")
    arm = desk.asked(ArmExit, said)[-1]
    assert arm.version > before
    assert arm.initial_stop == 103


def test_a_filled_single_order_can_be_detached() -> None:
    desk = Desk(builders.definition(shape="single", exits=()))
    desk.fill("entry", 100, 100)
    assert desk.bracket.phase is Phase.CLOSED
    desk.tell(DetachBracket(bracket_id=desk.id, command_id="d"))
    assert desk.bracket.phase is Phase.DETACHED


def test_a_detached_bracket_acts_on_nothing_that_happens() -> None:
    desk = worked()
    desk.fill("entry", 40, 100)
    desk.ack_all()
    desk.tell(DetachBracket(bracket_id=desk.id, command_id="d"))
    assert desk.fill("stop.1", 40, 95) == []
    assert desk.reject("target.1") == []
    assert desk.bracket.exit_filled == 40
    assert desk.bracket.phase is Phase.DETACHED


def test_a_lost_race_calls_a_person_once() -> None:
    desk = worked(native=False, policy=Policy(), exits=TARGET_AND_TRAIL)
    desk.fill("entry", 100, 100)
    desk.ack_all()
    desk.trigger("trail", 98, 98)
    for _ in range(3):
        desk.time("race:1")
        desk.time("recancel:B1-test.target.1")
    assert desk.codes().count("exit_race") == 1


def test_an_exit_that_turns_up_proves_that_its_entry_was_sent() -> None:
    """A rebuilt bracket that lost its story hears of an exit that is then busted: the entry is never sent again."""
    desk = Desk(builders.definition(), start=False)
    desk.tell(BracketStarted(bracket_id=desk.id, incarnation=2, ts_ns=desk.now))
    fill = builders.fill(desk.name("stop.1"), 100, 95)
    desk.tell(fill)
    desk.tell(BracketPictured(bracket_id=desk.id, orders=(), ts_ns=desk.now))
    desk.tell(builders.corrected(fill, 0))
    assert "entry 100" not in desk.sent()


# -- a group that nobody may join --------------------------------------------------------------------------------


def test_a_fired_exit_that_may_not_join_its_group_is_sent_alone_once_its_sibling_is_dead() -> None:
    """Found with the gateway's `oca_late_join = false`: sent again into the same group until the bracket froze."""
    desk = protected(exits=TARGET_AND_TRAIL)
    assert desk.sent(desk.trigger("trail", 106, 106)) == ["trail.1 100"]
    assert desk.cancels(desk.reject("trail.1", 10326, "OCA group revision is not allowed")) == ["target.1"]
    again = desk.cancel("target.1")
    assert desk.sent(again) == ["trail.2 100"]
    assert [command.oca_group for command in desk.asked(SubmitOrder, again)] == [f"{desk.id}.g2"]
    desk.ack("trail.2")
    desk.fill("trail.2", 100, 106)
    assert desk.bracket.phase is Phase.CLOSED
    assert "group_closed" in [alert.code for alert in desk.asked(Alert)]


def test_a_sibling_that_fills_while_its_group_is_taken_down_leaves_nothing_to_send() -> None:
    desk = protected(exits=TARGET_AND_TRAIL)
    desk.trigger("trail", 106, 106)
    desk.reject("trail.1", 10326, "OCA group revision is not allowed")
    assert desk.sent(desk.fill("target.1", 60, 110)) == []
    assert desk.sent(desk.cancel("target.1")) == ["trail.2 40"]


def test_a_resting_exit_that_may_not_join_again_takes_its_group_to_a_new_one() -> None:
    desk = protected()
    desk.reject("stop.1", 10326, "OCA group revision is not allowed")
    assert sorted(desk.sent(desk.cancel("target.1"))) == ["stop.2 100", "target.2 100"]
    assert {command.oca_group for command in desk.asked(SubmitOrder)[-2:]} == {f"{desk.id}.g2"}


def test_a_crash_after_the_last_refused_amendment_does_not_leave_an_exit_too_small() -> None:
    """Fuzz seed 4393: the refusals were remembered, the cancel was not, and 90 stayed where 100 were open."""
    desk = worked(native=False)
    desk.fill("entry", 90, 100)
    desk.ack_all()
    desk.fill("entry", 10, 100)
    for _ in range(2):
        said = say(desk, AmendRejected, "stop.1", code=104, reason="busy")
    assert desk.cancels(said) == ["stop.1"]
    again = restarted(desk, picture(desk, "stop.1", 90), picture(desk, "target.1", 100))
    assert desk.cancels(again) == ["stop.1"]
    assert desk.sent(desk.cancel("stop.1")) == ["stop.2 100"]
