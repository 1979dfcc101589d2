"""What the venue's picture means: by orderRef, and executions before any end is believed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.rules.reconcile import Evidence, Fate, judge, parse_ref
from messages.orders import Role

D = Decimal


@pytest.mark.parametrize(("ref", "found"), [
    ("B3-k4f2.entry", ("B3-k4f2", "entry", 1, Role.ENTRY)),
    ("B3-k4f2.stop2.7", ("B3-k4f2", "stop2", 7, Role.EXIT)),
    ("B3-k4f2.excess.1", ("B3-k4f2", "excess", 1, Role.EXCESS)),
    ("", None), ("mine", None), ("B3.entry", None), ("B3-k4f2", None), ("B3-k4f2.entry.x", None),
    ("XB3-k4f2.entry", None), ("B3-k4f2.entry.1 ", None),
])
def test_only_refs_of_ours_are_taken_apart(ref, found):
    got = parse_ref(ref)
    assert (None if got is None else (got.bracket_id, got.leg, got.number, got.role)) == found


@pytest.mark.parametrize(("facts", "fate"), [
    ({"open_now": True}, Fate.WORKING),
    ({"open_now": True, "filled": D(100)}, Fate.WORKING),
    ({"filled": D(100)}, Fate.FILLED),
    ({"filled": D(100), "completed": "Cancelled"}, Fate.FILLED),
    ({"filled": D(40), "completed": "Cancelled"}, Fate.CANCELED),
    ({"completed": "Filled"}, Fate.UNSURE),
    ({"completed": "Inactive"}, Fate.REJECTED),
    ({"filled": D(40)}, Fate.CANCELED),
    ({"filled": D(40), "complete_list": False}, Fate.UNSURE),
    ({"acknowledged": True}, Fate.CANCELED),
    ({"acknowledged": True, "complete_list": False}, Fate.UNSURE),
    ({"refused": True}, Fate.REJECTED),
    ({}, Fate.ABSENT),
    ({"complete_list": False}, Fate.UNSURE),
])
def test_the_fate_of_an_order_in_doubt(facts, fate):
    fields = {"quantity": D(100), "filled": D(0), "acknowledged": False, "open_now": False, **facts}
    assert judge(Evidence(**fields)) is fate
