"""Looks inside a trigger book: are its heaps heaps, its groups whole, and its bounds what its contents say?"""

from __future__ import annotations

from actors.rules.ladder import Ladder
from actors.rules.trailing import Group, StopNode, group_of
from actors.rules.trigger_book import TriggerBook


def nodes_of(root) -> list:
    """All nodes of a heap, checked: larger keys above, ranks true and leaning left, links both ways."""
    if root is None:
        return []
    assert root.up is None, "a root hangs on something"
    found, to_see = [], [root]
    while to_see:
        node = to_see.pop()
        found.append(node)
        left, right = node.left, node.right
        ranks = [child.rank if child is not None else 0 for child in (left, right)]
        assert ranks[0] >= ranks[1]
        assert node.rank == ranks[1] + 1
        for child in (left, right):
            if child is not None:
                assert child.up is node
                assert child.key <= node.key
                to_see.append(child)
    return found


def audit_group(group: Group) -> set[str]:
    inside = nodes_of(group.amounts) + nodes_of(group.percents)
    assert len(inside) == group.live > 0
    assert group.into is None
    ring = [group.cursor]
    while (after := ring[-1].after) is not group.cursor:
        assert after.before is ring[-1]
        ring.append(after)
    assert group.cursor.before is ring[-1]
    assert sorted(armed.arm_id for armed in ring) == sorted(armed.arm_id for armed in inside)
    for armed in inside:
        assert group_of(armed) is group
    return {armed.arm_id for armed in inside}


def audit_ladder(ladder: Ladder) -> set[str]:
    waiting = [armed.arm_id for armed in nodes_of(ladder.pending) + nodes_of(ladder.dormant)]
    levels = nodes_of(ladder.levels)
    static = [node.arm_id for node in levels if not isinstance(node, StopNode)]
    backs = nodes_of(ladder.backs)
    trailing = [arm_id for group in backs for arm_id in audit_group(group)]
    if ladder.front is None:
        assert not backs
    else:
        trailing += audit_group(ladder.front)
        assert all(group.high > ladder.front.high for group in backs)
    for node in levels:
        if isinstance(node, StopNode):
            assert node.owner.guard is node
            assert node.owner.arm_id in trailing
    assert {group.high: group for group in backs} == ladder.by_high
    stops = nodes_of(ladder.back_stops)
    assert {id(stop.owner) for stop in stops} == {id(group) for group in backs}
    assert all(stop.key == stop.owner.best_stop() for stop in stops)
    ids = waiting + static + trailing
    assert len(ids) == len(set(ids)) == ladder.size > 0
    bounds = ladder.lo, ladder.hi
    ladder.refresh()
    assert bounds == (ladder.lo, ladder.hi), "stale bounds"
    return set(ids)


def audit(book: TriggerBook) -> None:
    ladders = list(book._ladders.values())
    ids = [arm_id for ladder in ladders for arm_id in audit_ladder(ladder)]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(book._arms)
    assert all(book._arms[arm_id].ladder in ladders for arm_id in ids)
    listed = {id(ladder) for source in (book._trades, book._quotes) for ladder in source.ladders}
    assert listed == {id(ladder) for ladder in ladders}
    names = [name for name in TriggerBook.__slots__ if name.endswith(("_lo", "_hi"))]
    bounds = [getattr(book, name) for name in names]
    book._refresh()
    assert bounds == [getattr(book, name) for name in names], "stale bounds"
