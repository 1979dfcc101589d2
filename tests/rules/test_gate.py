"""The last gate: exits may never exceed what is open, whatever the venue does."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.rules.gate import BracketBook
from messages.orders import Role

D = Decimal
G1, G2 = "B1.g1", "B1.g2"


def book(entry: int = 100, exits: int = 0) -> BracketBook:
    return BracketBook(entry_filled=D(entry), exit_filled=D(exits))


def ask(of: BracketBook, quantity: int, group: str | None = G1, order_id: str = "new", **more) -> Decimal:
    return of.decide(order_id, more.pop("role", Role.EXIT), group, D(quantity), **more).quantity


def test_an_entry_passes_and_a_quantity_of_nothing_does_not():
    assert ask(book(0), 100, None, role=Role.ENTRY) == 100
    assert ask(book(), 0) == 0
    assert ask(book(), -1) == 0


@pytest.mark.parametrize(("entry", "exited", "asked", "reduce", "granted"), [
    (100, 0, 100, False, 100),
    (100, 0, 101, False, 0),
    (100, 0, 101, True, 100),
    (100, 40, 100, True, 60),
    (100, 100, 1, True, 0),
    (0, 0, 1, True, 0),
    (100, 130, 1, True, 0),
])
def test_an_exit_is_bounded_by_what_is_open(entry, exited, asked, reduce, granted):
    assert ask(book(entry, exited), asked, reduce=reduce) == granted


def test_a_refusal_says_every_number_that_decided():
    reason = book(100, 40).decide("x", Role.EXIT, None, D(61)).reason
    assert "entry filled 100" in reason
    assert "exits filled 40" in reason
    assert "room 60" in reason


def test_members_of_one_group_count_once_and_groups_are_summed():
    b = book(100)
    b.placed("target", Role.EXIT, G1, D(60))
    b.placed("stop", Role.EXIT, G1, D(60))
    assert b.committed() == 60
    assert ask(b, 60, G1, "trail") == 60, "a fired exit joins its group"
    assert ask(b, 41, G2) == 0
    assert ask(b, 40, G2) == 40
    b.placed("target2", Role.EXIT, G2, D(40))
    assert b.committed() == 100
    assert ask(b, 1, None) == 0


def test_a_group_counts_at_most_its_lot_less_its_fills_before_the_venue_has_cut_the_siblings():
    b = book(100)
    b.placed("target", Role.EXIT, G1, D(100))
    b.placed("stop", Role.EXIT, G1, D(100))
    b.filled("target", Role.EXIT, D(40))
    assert (b.open_qty, b.committed()) == (60, 60)
    assert ask(b, 60, G1, "trail") == 60
    assert ask(b, 61, G1, "trail") == 0


def test_an_order_counts_until_it_is_known_to_be_over_and_a_late_fill_counts_then_too():
    b = book(100)
    b.placed("stop", Role.EXIT, None, D(100))
    assert ask(b, 100, None) == 0
    assert ask(b, 100, None, accept_race=True) == 100, "exit_race = fast leaves the sibling out of account"
    b.ended("stop")
    assert ask(b, 100, None) == 100
    b.filled("stop", Role.EXIT, D(30))
    assert ask(b, 100, None) == 0
    assert ask(b, 70, None) == 70


def test_a_bust_opens_again_what_it_closed():
    b = book(100)
    b.placed("stop", Role.EXIT, None, D(100))
    b.filled("stop", Role.EXIT, D(100))
    b.filled("stop", Role.EXIT, D(-100))
    b.ended("stop")
    assert ask(b, 100, None) == 100


def test_a_bust_of_a_complete_exit_gives_back_what_is_open_and_not_its_leaves():
    b = book(100)
    b.placed("stop", Role.EXIT, None, D(100))
    b.filled("stop", Role.EXIT, D(100))
    b.filled("stop", Role.EXIT, D(-100))
    assert ask(b, 100, None) == 100


def test_the_excess_may_be_bought_back_once_and_no_further():
    b = book(100, 160)
    assert ask(b, 60, None, role=Role.EXCESS) == 60
    assert ask(b, 61, None, role=Role.EXCESS) == 0
    b.placed("excess", Role.EXCESS, None, D(60))
    assert ask(b, 1, None, role=Role.EXCESS) == 0
    b.filled("excess", Role.EXCESS, D(60))
    assert (b.open_qty, ask(b, 1, None, role=Role.EXCESS)) == (0, 0)


def test_raising_an_exit_is_judged_as_a_new_one_would_be():
    b = book(100)
    b.placed("stop", Role.EXIT, G1, D(60))
    assert ask(b, 100, G1, "stop") == 100
    assert ask(b, 101, G1, "stop") == 0
    b.placed("other", Role.EXIT, G2, D(30))
    assert ask(b, 100, G1, "stop") == 0
    assert ask(b, 70, G1, "stop") == 70


actions = st.lists(st.tuples(
    st.sampled_from(["entry", "exit", "fill", "cut", "end"]), st.integers(1, 60), st.sampled_from([G1, G2, None]),
    st.booleans()), max_size=40)


@settings(max_examples=150, deadline=None)
@given(actions)
def test_native_groups_and_obedient_venues_never_exit_more_than_was_open(steps):
    """Against a venue that keeps its word on groups (a fill cuts the siblings), nothing written can ever reverse us."""
    b = BracketBook()
    venue: dict[str, list] = {}  # order id -> [group, leaves]
    for number, (verb, quantity, group, reduce) in enumerate(steps):
        order_id = f"o{number}"
        if verb == "entry":
            b.filled("entry", Role.ENTRY, D(quantity))
        elif verb == "exit":
            granted = b.decide(order_id, Role.EXIT, group, D(quantity), reduce=reduce).quantity
            assert granted <= quantity
            if granted:
                b.placed(order_id, Role.EXIT, group, granted)
                venue[order_id] = [group, granted]
        elif venue:
            key = sorted(venue)[quantity % len(venue)]
            mine, leaves = venue[key]
            if verb == "fill":
                part = min(leaves, D(quantity))
                for other, entry in list(venue.items()):
                    if other == key or (mine is not None and entry[0] == mine):
                        entry[1] = entry[1] - part
                        if entry[1] <= 0:
                            del venue[other]
                b.filled(key, Role.EXIT, part)
            elif verb == "cut":
                b.resized(key, b.orders[key].filled + leaves)
            else:
                del venue[key]
                b.ended(key)
        assert b.open_qty >= 0, "exits filled more than was open"
