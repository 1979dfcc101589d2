"""The life cycle of an order: a closed table, FIX 4.2 Appendix D replayed, and late news of every kind."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rules.order import (
    IMPOSSIBLE,
    TABLE,
    TERMINAL,
    FixEvent,
    ImpossibleTransition,
    OrderLife,
    Pending,
    Report,
    combined,
    is_possible,
    life_after,
    new_life,
    ord_status,
    step,
)
from messages.orders import OrderState, OrderStatus, Role

pytestmark = pytest.mark.unit
E, S, W = FixEvent, OrderState, OrderStatus
D = Decimal


def entry(quantity: int = 100) -> OrderLife:
    return new_life(Role.ENTRY, D(quantity))


def exit_order(quantity: int = 100) -> OrderLife:
    return new_life(Role.EXIT, D(quantity))


def play(life: OrderLife, *events: FixEvent | tuple[FixEvent, int] | tuple[FixEvent, int, int]) -> OrderLife:
    """Feed events in order; (TRADE, 40) fills 40 at 100, (TRADE_CANCEL, 40) busts 40 at 100, (REPLACED, 70) is 70."""
    for event in events:
        kind, number, px = (*event, 100)[:3] if isinstance(event, tuple) else (event, 0, 100)
        if kind is E.TRADE:
            life = life_after(life, kind, last_qty=D(number), last_px=D(px))
        elif kind is E.TRADE_CANCEL:
            life = life_after(life, kind, prior_qty=D(number), prior_px=D(px))
        elif kind is E.REPLACED:
            life = life_after(life, kind, quantity=D(number))
        else:
            life = life_after(life, kind)
    return life


WORKING = (E.SCHEDULED, E.SUBMITTED, E.ACCEPTED)


# -- the table -------------------------------------------------------------------------------------------------


def test_the_states_are_exactly_the_ten_of_the_source():
    assert {str(state) for state in OrderState} == {
        "INTENT", "VALIDATED", "SCHEDULED", "PLACED", "PARTIAL_FILLED", "FILLED", "CLOSED", "REJECTED",
        "CANCEL_REQUESTED", "CANCELLED",
    }


def test_every_pair_of_state_and_event_is_decided():
    assert TABLE.keys() | IMPOSSIBLE == set(product(OrderState, FixEvent))
    assert not TABLE.keys() & IMPOSSIBLE


@pytest.mark.parametrize(("state", "event"), sorted(IMPOSSIBLE))
def test_an_impossible_event_raises_and_names_the_pair(state, event):
    life = OrderLife(role=Role.ENTRY, quantity=D(100), state=state)
    with pytest.raises(ImpossibleTransition, match=f"{state}: {event}"):
        step(life, Report(event=event))
    assert life.state is state
    assert not is_possible(state, event)


def test_every_state_can_be_reached_from_an_intent():
    seen, frontier = {S.INTENT}, [OrderLife(role=Role.ENTRY, quantity=D(100))]
    while frontier:
        life = frontier.pop()
        for event in FixEvent:
            if not is_possible(life.state, event):
                continue
            for qty in (D(40), D(100)) if event is E.TRADE else (D(0),):
                following = step(life, Report(event=event, last_qty=qty, last_px=D(1)))
                if following.state not in seen:
                    seen.add(following.state)
                    frontier.append(following)
    assert seen == set(OrderState)


# -- FIX 4.2 Appendix D ----------------------------------------------------------------------------------------

# (event, exec type, OrdStatus, OrderQty, CumQty, LeavesQty, LastQty); None: not said. Transcribed from the standard.
D4_CANCEL_WHILE_FILLING = (
    ("new", None, None, 10000, None, None, None),
    ("exec", "New", "New", 10000, 0, 10000, 0),
    ("exec", "Partial Fill", "Partially Filled", 10000, 2000, 8000, 2000),
    ("cancel_request", None, None, 10000, None, None, None),
    ("exec", "Partial Fill", "Partially Filled", 10000, 5000, 5000, 3000),
    ("exec", "Pending Cancel", "Pending Cancel", 10000, 5000, 5000, 0),
    ("exec", "Partial Fill", "Pending Cancel", 10000, 6000, 4000, 1000),
    ("exec", "Canceled", "Canceled", 10000, 6000, 0, 0),
)
D11_REPLACE_DOWN_TO_WHAT_IS_FILLED = (
    ("new", None, None, 10000, None, None, None),
    ("exec", "New", "New", 10000, 0, 10000, 0),
    ("replace_request", None, None, 7000, None, None, None),
    ("exec", "Partial Fill", "Partially Filled", 10000, 7000, 3000, 7000),
    ("exec", "Replace", "Filled", 7000, 7000, 0, 0),
)
J1B_BUST_AFTER_CANCEL = (
    ("new", None, None, 10000, None, None, None),
    ("exec", "New", "New", 10000, 0, 10000, 0),
    ("exec", "Trade", "Partially Filled", 10000, 5000, 5000, 5000),
    ("cancel_request", None, None, 10000, None, None, None),
    ("exec", "Pending Cancel", "Pending Cancel", 10000, 5000, 5000, 0),
    ("exec", "Canceled", "Canceled", 10000, 5000, 0, 0),
    ("exec", "Trade Cancel", "Canceled", 10000, 0, 0, 0),
    ("exec", "Trade", "Canceled", 10000, 4000, 0, 4000),
)
EXEC_TYPES = {
    "New": E.ACCEPTED, "Partial Fill": E.TRADE, "Fill": E.TRADE, "Trade": E.TRADE, "Trade Cancel": E.TRADE_CANCEL,
    "Pending Cancel": E.PENDING_CANCEL, "Canceled": E.CANCELED, "Pending Replace": E.PENDING_REPLACE,
    "Replace": E.REPLACED,
}


def replay(rows) -> None:
    """Feed one matrix row by row; after each report OrdStatus and every quantity that it states must agree."""
    life = None
    for number, (event, exec_type, status, order_qty, cum_qty, leaves_qty, last_qty) in enumerate(rows, 1):
        where = f"row {number}: {event} {exec_type}"
        if event == "new":
            life = play(new_life(Role.ENTRY, D(order_qty)), E.SCHEDULED, E.SUBMITTED)
            continue
        if event == "cancel_request":
            life = life_after(life, E.CANCEL_REQUESTED)
            continue
        if event == "replace_request":
            life = life_after(life, E.REPLACE_REQUESTED)
            continue
        if event == "cancel_reject":    # FIX answers a refused cancel and a refused replace with the same message
            asked = E.REPLACE_REJECTED if life.pending is Pending.REPLACE else E.CANCEL_REJECTED
            life = life_after(life, asked)
        else:
            assert event == "exec", where
            life = life_after(
                life, EXEC_TYPES[exec_type], last_qty=D(last_qty), last_px=D(1), prior_px=D(1),
                prior_qty=life.cum_qty - cum_qty if exec_type == "Trade Cancel" else D(0),
                quantity=D(order_qty) if exec_type == "Replace" else None,
            )
        assert ord_status(life) == status, where
        for said, found in ((order_qty, life.quantity), (cum_qty, life.cum_qty), (leaves_qty, life.leaves_qty)):
            assert said is None or said == found, where


@pytest.mark.parametrize("rows", [D4_CANCEL_WHILE_FILLING, D11_REPLACE_DOWN_TO_WHAT_IS_FILLED, J1B_BUST_AFTER_CANCEL])
def test_a_matrix_of_the_standard_replays_exactly(rows):
    replay(rows)


def test_all_nine_matrices_of_the_shared_data_replay_exactly():
    root = Path(os.environ.get("BRACKETEER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
    path = root / "fix_order_state_matrices.json"
    if not path.exists():
        pytest.skip("fix_order_state_matrices.json is not here: set BRACKETEER_DATA to the folder of shared data")
    scenarios = json.loads(path.read_text())["scenarios"]
    assert len(scenarios) == 9
    fields = ("event", "exec_type", "ord_status", "order_qty", "cum_qty", "leaves_qty", "last_qty")
    for name, scenario in scenarios.items():
        try:
            replay([tuple(row[field] for field in fields) for row in scenario["rows"]])
        except AssertionError as wrong:
            raise AssertionError(f"{name}: {wrong}") from wrong


# -- the words of 000 ------------------------------------------------------------------------------------------


def statuses(life: OrderLife, *events) -> list[str]:
    found = [str(life.status)]
    for event in events:
        life = play(life, event)
        if str(life.status) != found[-1]:
            found.append(str(life.status))
    return found


def test_the_parent_is_transmitted_at_once_and_then_filled():
    assert statuses(entry(), E.SUBMITTED, E.ACCEPTED, (E.TRADE, 40), (E.TRADE, 60)) == [
        "pending", "transmitted", "filled"]


def test_a_child_is_pending_then_ready_then_active_once_the_venue_has_it():
    assert statuses(exit_order(), *WORKING, (E.TRADE, 100)) == ["pending", "ready", "active", "filled"]
    assert statuses(exit_order(), *WORKING, E.CANCEL_REQUESTED, E.CANCELED) == [
        "pending", "ready", "active", "canceled"]


@pytest.mark.parametrize(("event", "state", "status"), [
    (E.CANCELED, S.CANCELLED, W.CANCELED),
    (E.EXPIRED, S.CANCELLED, W.EXPIRED),
    (E.REJECTED, S.REJECTED, W.REJECTED),
])
def test_how_a_working_order_ended_is_its_status(event, state, status):
    life = play(entry(), *WORKING, event)
    assert (life.state, life.status, life.leaves_qty) == (state, status, 0)


def test_an_order_that_we_refuse_to_send_is_denied_not_rejected():
    life = play(entry(), E.SCHEDULED, E.DENIED)
    assert (life.state, life.status) == (S.REJECTED, W.DENIED)


def test_children_of_an_entry_that_never_filled_are_cancelled_without_a_request():
    life = play(exit_order(), E.CANCELED)
    assert (life.state, life.status) == (S.CANCELLED, W.CANCELED)


# -- cancels ---------------------------------------------------------------------------------------------------


def test_cancelled_only_on_acknowledgement():
    life = play(entry(), *WORKING, E.CANCEL_REQUESTED)
    assert life.state is S.CANCEL_REQUESTED
    assert life.is_working
    assert life.leaves_qty == 100


def test_a_refused_cancel_goes_back_to_what_the_quantities_say():
    assert play(entry(), *WORKING, E.CANCEL_REQUESTED, E.CANCEL_REJECTED).state is S.PLACED
    assert play(entry(), *WORKING, (E.TRADE, 30), E.CANCEL_REQUESTED, E.CANCEL_REJECTED).state is S.PARTIAL_FILLED


def test_a_fill_that_wins_the_race_against_the_cancel_makes_it_filled():
    life = play(entry(), *WORKING, (E.TRADE, 30), E.CANCEL_REQUESTED, (E.TRADE, 20))
    assert life.state is S.CANCEL_REQUESTED
    life = play(life, (E.TRADE, 50))
    assert life.state is S.FILLED
    assert play(life, E.CANCEL_REJECTED, E.CANCELED).state is S.FILLED


def test_a_cancel_that_crosses_the_transmission_leaves_an_order_that_still_has_to_be_cancelled():
    life = play(exit_order(), E.SCHEDULED, E.CANCELED, E.SUBMITTED)
    assert life.state is S.PLACED
    assert life.is_working


# -- late news -------------------------------------------------------------------------------------------------


def test_a_fill_before_the_acknowledgement_counts_and_the_late_acknowledgement_changes_nothing():
    life = play(entry(), E.SCHEDULED, E.SUBMITTED, (E.TRADE, 100))
    assert life.state is S.FILLED
    assert play(life, E.ACCEPTED) == life


def test_a_fill_of_an_order_that_a_dead_predecessor_sent_counts():
    assert play(entry(), (E.TRADE, 40)).state is S.PARTIAL_FILLED
    assert play(entry(), E.SCHEDULED, (E.TRADE, 100)).state is S.FILLED


@pytest.mark.parametrize(("ending", "late", "state"), [
    (E.CANCELED, 20, S.CANCELLED),
    (E.CANCELED, 60, S.FILLED),
    (E.EXPIRED, 20, S.CANCELLED),
    (E.REJECTED, 20, S.PARTIAL_FILLED),
    (E.REJECTED, 60, S.FILLED),
])
def test_a_late_fill_after_the_end_is_never_dropped(ending, late, state):
    life = play(entry(), *WORKING, (E.TRADE, 40), ending, (E.TRADE, late))
    assert life.cum_qty == 40 + late
    assert life.state is state


def test_a_fill_beyond_the_quantity_is_counted_too():
    life = play(exit_order(), *WORKING, (E.TRADE, 100), (E.TRADE, 30))
    assert (life.state, life.cum_qty, life.leaves_qty) == (S.FILLED, 130, 0)


def test_closed_means_flat_so_that_any_execution_opens_it_again():
    closed = play(exit_order(), *WORKING, (E.TRADE, 100), E.CLOSED)
    assert closed.state is S.CLOSED
    assert closed.status is W.FILLED
    assert play(closed, (E.TRADE, 10)).state is S.FILLED
    assert play(closed, (E.TRADE_CANCEL, 100)).state is S.CANCELLED


def test_a_bust_of_a_working_order_gives_its_quantity_back():
    life = play(entry(), *WORKING, (E.TRADE, 40), (E.TRADE_CANCEL, 40))
    assert (life.state, life.cum_qty, life.leaves_qty, life.avg_px) == (S.PLACED, 0, 100, None)


def test_a_bust_of_a_filled_order_leaves_it_dead_and_incomplete():
    life = play(entry(), *WORKING, (E.TRADE, 40), (E.TRADE, 60), (E.TRADE_CANCEL, 60))
    assert (life.state, life.status, life.cum_qty, life.leaves_qty) == (S.CANCELLED, W.CANCELED, 40, 0)


def test_a_correction_replaces_the_price_of_its_execution_exactly():
    life = play(entry(), *WORKING, (E.TRADE, 40, 100), (E.TRADE, 60, 101))
    life = life_after(life, E.TRADE_CORRECT, last_qty=D(60), last_px=D("101.5"), prior_qty=D(60), prior_px=D(101))
    assert life.avg_px == D("100.9")
    assert life.state is S.FILLED


def test_a_bust_of_more_than_was_filled_is_a_bug():
    with pytest.raises(ImpossibleTransition, match="below 0"):
        play(entry(), *WORKING, (E.TRADE, 40), (E.TRADE_CANCEL, 50))


def test_an_order_that_never_arrived_may_go_again():
    life = play(entry(), E.SUBMITTED, E.ABSENT)
    assert (life.state, life.status) == (S.SCHEDULED, W.READY)
    assert play(entry(), E.SUBMITTED, E.CANCEL_REQUESTED, E.ABSENT).state is S.CANCELLED


def test_a_group_that_the_venue_reduces_to_what_is_filled_is_filled():
    life = play(exit_order(), *WORKING, (E.TRADE, 30), (E.REPLACED, 30))
    assert (life.state, life.quantity) == (S.FILLED, 30)


def test_a_replacement_below_what_is_filled_means_what_is_filled():
    life = play(entry(), *WORKING, (E.TRADE, 60), (E.REPLACED, 50))
    assert (life.state, life.quantity, life.cum_qty) == (S.FILLED, 60, 60)


# -- rows of several venue orders ------------------------------------------------------------------------------


def test_a_row_with_two_lots_shows_their_sum():
    first, second = play(exit_order(40), *WORKING), play(exit_order(35), *WORKING)
    row = combined([first, second])
    assert (row.state, row.status, row.quantity, row.leaves_qty) == (S.PLACED, W.ACTIVE, 75, 75)
    row = combined([play(first, (E.TRADE, 40)), second])
    assert (row.state, row.status, row.quantity, row.cum_qty) == (S.PARTIAL_FILLED, W.ACTIVE, 75, 40)
    row = combined([play(first, (E.TRADE, 40)), play(second, (E.TRADE, 35))])
    assert (row.state, row.status, row.quantity) == (S.FILLED, W.FILLED, 75)


def test_a_row_that_was_protected_again_is_filled_by_its_second_order():
    rejected, again = play(exit_order(), *WORKING, E.REJECTED), play(exit_order(), *WORKING)
    assert combined([rejected, again]).status is W.ACTIVE
    row = combined([rejected, play(again, (E.TRADE, 100))])
    assert (row.state, row.quantity, row.cum_qty) == (S.FILLED, 100, 100)


def test_a_row_whose_orders_are_all_gone_says_how_the_last_ended():
    row = combined([play(exit_order(40), *WORKING, (E.TRADE, 40)), play(exit_order(60), *WORKING, E.CANCELED)])
    assert (row.state, row.status, row.quantity, row.cum_qty) == (S.CANCELLED, W.CANCELED, 100, 40)


# -- any order of events ---------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(FixEvent), st.integers(1, 60)), max_size=25), st.sampled_from(Role))
def test_quantities_add_up_under_any_sequence_of_events(events, role):
    life, executions = new_life(role, D(100)), []
    for event, number in events:
        if not is_possible(life.state, event) or (event in (E.TRADE_CORRECT, E.TRADE_CANCEL) and not executions):
            continue
        before = life
        if event is E.TRADE:
            executions.append(D(number))
            life = life_after(life, event, last_qty=D(number), last_px=D(2))
        elif event in (E.TRADE_CORRECT, E.TRADE_CANCEL):
            prior, after = executions.pop(0), D(number if event is E.TRADE_CORRECT else 0)
            executions.append(after)
            life = life_after(life, event, prior_qty=prior, prior_px=D(2), last_qty=after, last_px=D(2))
        else:
            life = life_after(life, event, quantity=D(number) if event is E.REPLACED else None)
            assert life.cum_qty == before.cum_qty, "only an execution changes what is filled"
        assert life.cum_qty == sum(executions)
        assert life.notional == 2 * life.cum_qty
        assert life.leaves_qty == (0 if life.state in TERMINAL else max(life.quantity - life.cum_qty, 0))
        if life.state in (S.FILLED, S.CLOSED):
            assert life.cum_qty >= life.quantity
        if life.state is S.PARTIAL_FILLED:
            assert life.cum_qty > 0
        assert (life.status is W.FILLED) == (life.state in (S.FILLED, S.CLOSED))
        assert (life.status in (W.CANCELED, W.REJECTED, W.DENIED, W.EXPIRED)) == (
            life.state in (S.CANCELLED, S.REJECTED))
