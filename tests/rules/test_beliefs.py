"""What a bracket tells a broker about orders that it wrote in another life."""

from __future__ import annotations

import msgspec
import pytest

from actors.rules.beliefs import beliefs, unexplained
from tests import builders as b
from tests.rules.desk import Desk, SubmitOrder

pytestmark = pytest.mark.unit


def protected(native: bool, **changes: object) -> tuple[Desk, list[SubmitOrder]]:
    desk = Desk(b.definition(oca_native=native, **changes))
    desk.ack("entry")
    said = desk.fill("entry", 100, 100)
    assert beliefs(desk.bracket) == ()  # on their way under this incarnation: nothing of them is old
    desk.ack_all()
    return desk, desk.asked(SubmitOrder, said)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("limit", [None, "0.5"])
def test_they_are_told_in_the_words_in_which_they_were_sent(native, limit):
    exits = (b.tranche(target=b.target(110), stop=b.stop(95, limit_offset=limit)),)
    desk, sent = protected(native, exits=exits)
    assert list(beliefs(desk.bracket)) == [msgspec.structs.replace(order, accept_race=False) for order in sent]


def test_what_has_ended_is_believed_no_more():
    desk, _ = protected(False)
    desk.fill("target.1", 100, 110)
    assert {order.leg for order in beliefs(desk.bracket)} == {"stop"}


def test_only_groups_that_the_venue_cannot_know_need_to_be_told():
    desk, sent = protected(False)
    told = {order.order_id: order.oca_group for order in sent}
    assert unexplained(desk.bracket, {})
    assert unexplained(desk.bracket, {sent[0].order_id: sent[0].oca_group})
    assert not unexplained(desk.bracket, told)
    native, _ = protected(True)
    assert not unexplained(native.bracket, {})


def test_a_held_exit_that_has_not_fired_is_nowhere():
    exits = (b.tranche(target=b.target(110), stop=b.stop(95, hold="engine")),)
    desk, _ = protected(False, exits=exits)
    assert {order.leg for order in beliefs(desk.bracket)} == {"target"}
