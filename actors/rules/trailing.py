"""What a trailing stop's level is, and how trailing stops that share a high water move as one.

Law: integers only. A stop follows its extreme and never loosens; a percent stop is floored (SELL) or ceiled (BUY) on
the integer scale, never rounded to a tick before it is compared. Everything below is written for a SELL; a BUY is the
same with prices negated ("signed"), which turns its ceiling into the same floor.

Trailing stops are kept in groups that share one high water. A new high lifts the lowest group and swallows each group
that it overtakes: one number changes, whatever the number of stops inside. A stop finds its own high water through the
group that swallowed its group (union-find; each link carries the difference of the two ratchet counts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.rules.meldable_heap import Node, meld, without
from actors.rules.scale import PERCENT_WHOLE

if TYPE_CHECKING:
    from actors.rules.ladder import Armed


def percent_stop(high: int, key: int) -> int:
    """Return the signed stop of a percent trail whose key is minus its percent, floored.

    floor(high - |high| x percent): for a BUY, whose signed high is negative, the ceiling of low x (1 + percent).
    """
    return high + abs(high) * key // PERCENT_WHOLE


class Group(Node):
    """Trailing stops that share one high water. As a Node it is keyed by minus that high water."""

    __slots__ = (
        "amounts", "cursor", "delta", "high", "into", "left_to_report", "live", "moves", "percents", "queued",
        "stop_node",
    )  # fmt: skip

    def __init__(self, high: int) -> None:
        super().__init__(-high)
        self.high = high
        self.moves = 0
        self.into: Group | None = None
        """The group that swallowed this one; None while it stands by itself."""
        self.delta = 0
        """What must be added to the ratchets of `into` to get the ratchets of this group."""
        self.amounts: Armed | None = None
        """Heap by minus the amount: the highest stop on top."""
        self.percents: Armed | None = None
        """Heap by minus the percent: the highest stop on top."""
        self.stop_node: StopNode | None = None
        self.live = 0
        self.cursor: Armed | None = None
        """The members form a ring; this one is the next to be reported."""
        self.left_to_report = 0
        """How many members from the cursor on have not been looked at since the last move."""
        self.queued = False

    def best_stop(self) -> int | None:
        """Return the highest (signed) stop in the group; None when it is empty."""
        best = None
        if self.amounts is not None:
            best = self.high + self.amounts.key
        if self.percents is not None:
            stop = percent_stop(self.high, self.percents.key)
            if best is None or stop > best:
                best = stop
        return best

    def stop_of(self, armed: Armed) -> int:
        """Return the (signed) stop of a member, a held initial stop included."""
        stop = percent_stop(self.high, armed.key) if armed.percent else self.high + armed.key
        guard = armed.guard
        return guard.key if guard is not None and guard.key > stop else stop

    def add(self, armed: Armed, ratchets: int) -> None:
        """Take in a stop whose high water is this group's."""
        armed.group = self
        armed.delta = ratchets - self.moves
        self.push(armed)
        self.live += 1
        cursor = self.cursor
        if cursor is None:
            self.cursor = armed.after = armed.before = armed
        else:  # before the cursor, so that those left to report stay next to it
            last = cursor.before
            armed.before, armed.after = last, cursor
            last.after = cursor.before = armed

    def push(self, armed: Armed) -> None:
        if armed.percent:
            self.percents = meld(self.percents, armed)
        else:
            self.amounts = meld(self.amounts, armed)

    def drop(self, armed: Armed) -> None:
        """Take a member out."""
        if armed.percent:
            self.percents = without(self.percents, armed)
        else:
            self.amounts = without(self.amounts, armed)
        self.live -= 1
        before, after = armed.before, armed.after
        before.after, after.before = after, before
        armed.before = armed.after = None
        if self.cursor is armed:
            self.cursor = after if self.live else None


class StopNode(Node):
    """A level that stands for something else: an initial stop for its arm, a best stop for its group."""

    __slots__ = ("owner",)

    def __init__(self, key: int, owner: Armed | Group) -> None:
        super().__init__(key)
        self.owner = owner


def unite(a: Group, b: Group) -> Group:
    """Make one group of two with the same high water. O(log n)."""
    if a.live < b.live:
        a, b = b, a
    b.into = a
    b.delta = b.moves - a.moves
    a.amounts = meld(a.amounts, b.amounts)
    a.percents = meld(a.percents, b.percents)
    first, second = a.cursor, b.cursor
    if first is not None and second is not None:
        first_last, second_last = first.before, second.before
        first_last.after, second.before = second, first_last
        second_last.after, first.before = first, second_last
    a.live += b.live
    b.live = 0
    b.amounts = b.percents = b.cursor = None
    return a


def group_of(armed: Armed) -> Group:
    """Return the group that a started trailing stop belongs to now, shortening the way for the next time."""
    group = armed.group
    assert group is not None
    if group.into is None:
        return group
    delta = armed.delta
    while (parent := group.into) is not None:
        if (above := parent.into) is not None:
            group.delta += parent.delta
            group.into = parent = above
        delta += group.delta
        group = parent
    armed.group = group
    armed.delta = delta
    return group
