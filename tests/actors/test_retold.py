"""A bracket that is rebuilt knows what its tables were not told before the crash."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from actors.rules.bracket import new_bracket, step
from actors.rules.bracket_state import Phase, Policy
from actors.rules.rows import changes, rows
from actors.rules.story import retold
from messages.exits import BracketSpec, BracketStarted
from messages.ledger import BracketMoved
from messages.orders import BracketPictured, OrderStatus, OrderSubmitted
from tests import builders as b

pytestmark = pytest.mark.unit
POLICY = Policy()


def story():
    """The worked example up to its entry's fill: the inputs, and behind each what the tables are told of it."""
    definition = b.definition()
    bracket_id, state, told = definition.bracket_id, new_bracket(definition), []
    shared = {"bracket_id": bracket_id, "ts_ns": b.NOW_NS}
    for event in (
        BracketStarted(**shared, incarnation=1),
        BracketPictured(**shared, orders=()),
        OrderSubmitted(**shared, order_id=f"{bracket_id}.entry", leg="entry", quantity=Decimal(100), client_id=1,
                       venue_order_id=3),
        b.fill(f"{bracket_id}.entry", 100, price=100),
    ):
        before = rows(state)
        state, _ = step(state, event, b.NOW_NS, POLICY)
        said = [event, *changes(before, state, "", b.NOW_NS)]
        said.append(BracketMoved(**shared, phase=str(state.phase), reason="", open_qty=state.open_qty,
                                 entry_filled=state.entry_filled, exit_filled=state.exit_filled))
        told.append(said)
    return definition, state, told


def spec(definition, told, keep):
    """Write the story, of its last turn only the first `keep` records."""
    records = [record for turn in told[:-1] for record in turn] + told[-1][:keep]
    return BracketSpec(definition=definition, events=tuple(msgspec.json.encode(record) for record in records))


def test_what_was_told_in_full_is_not_told_again():
    definition, state, told = story()
    again = retold(spec(definition, told, None), POLICY)
    assert changes(again.rows, again.bracket, "", b.NOW_NS) == []
    assert again.moved == (Phase.PROTECTED, Decimal(100)) == (state.phase, state.open_qty)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_crash_between_a_fill_and_its_rows_leaves_them_to_be_told(keep):
    definition, state, told = story()
    again = retold(spec(definition, told, keep), POLICY)
    assert again.bracket.entry_filled == state.entry_filled == 100
    left = changes(again.rows, again.bracket, "", b.NOW_NS)
    assert [(each.row_id, each.status) for each in left] == [
        (each.row_id, each.status) for each in told[-1][keep:-1]
    ]  # fmt: skip
    if keep == 1:
        assert (left[0].status, left[0].filled_qty) == (OrderStatus.FILLED, Decimal(100))
    assert again.moved == (Phase.ENTERING, Decimal(0))
    assert again.incarnation == 1
