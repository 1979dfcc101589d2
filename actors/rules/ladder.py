"""All triggers of one book that watch the same price and fall in the same direction.

Law: on one price the triggers are tested on the old stops first, then stops ratchet, then sleepers wake and newcomers
begin. Prices here are signed so that everything fires when the price falls to its level: a trigger that fires on the
way up (BUY stop, SELL limit-if-touched) lives in a ladder with sign -1, where prices and levels are negated.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from actors.rules.meldable_heap import Node, meld, without
from actors.rules.trailing import Group, StopNode, group_of, percent_stop, unite
from actors.rules.trigger_arm import Arm

NEVER = 1 << 80
PENDING, DORMANT, LEVEL, TRAILING, GONE = range(5)


class Armed(Node):
    """One armed trigger. Its key is what its present heap sorts by: freshness, activation, level or offset."""

    __slots__ = (
        "after", "arm_id", "before", "delta", "group", "guard", "ladder", "percent", "reported", "seq", "spec", "state",
    )  # fmt: skip

    def __init__(self, arm_id: str, seq: int, ladder: Ladder, spec: Arm) -> None:
        super().__init__(-spec.fresh_after_ns)
        self.arm_id = arm_id
        self.seq = seq
        self.ladder = ladder
        self.spec: Arm | None = spec
        """What was asked for; let go once the trigger has begun, because a hundred thousand of them weigh."""
        self.state = PENDING
        self.percent = False
        self.group: Group | None = None
        self.delta = 0
        self.before: Any = None
        self.after: Any = None
        self.guard: StopNode | None = None
        self.reported = -1


Hit = tuple[int, Armed, int, int, "int | None", int, bool]
"""seq, who, price, level, high water, ratchets, ambiguous: signed prices."""


class Ladder:
    """Triggers that fall due when one watched, signed price falls to their level."""

    __slots__ = (
        "back_stops", "backs", "by_high", "dormant", "double", "front", "hi", "levels", "lo", "moved", "pending",
        "rth_only", "sign", "size", "started", "watched",
    )  # fmt: skip

    def __init__(
        self, sign: int, watched: str, *, double: bool, rth_only: bool, moved: deque[Group], started: deque[Armed]
    ) -> None:
        self.sign = sign
        self.watched = watched
        self.double = double
        self.rth_only = rth_only
        self.size = 0
        self.pending: Armed | None = None
        self.dormant: Armed | None = None
        self.levels: Node | None = None
        self.front: Group | None = None
        """The group with the lowest high water: the only one that the next new high can lift."""
        self.backs: Group | None = None
        self.back_stops: StopNode | None = None
        self.by_high: dict[int, Group] = {}
        self.moved = moved
        self.started = started
        # An unsigned price p with lo < p < hi changes nothing here.
        self.lo = -NEVER
        self.hi = NEVER

    # -- arming -------------------------------------------------------------------------------------------------

    def enter(self, armed: Armed) -> None:
        """Let a trigger wait for its first fresh evidence."""
        self.size += 1
        self.pending = meld(self.pending, armed)
        self.refresh()

    def take(self, armed: Armed, test: int, price: int, hits: list[Hit]) -> None:
        """Let a trigger begin at once, on a price seen before."""
        self.size += 1
        self.admit_one(armed, None if self.double else test, price, hits)
        self.refresh()

    def leave(self, armed: Armed) -> None:
        """Take a live trigger out, whatever its state."""
        if armed.state == PENDING:
            self.pending = without(self.pending, armed)
        elif armed.state == DORMANT:
            self.dormant = without(self.dormant, armed)
        elif armed.state == LEVEL:
            self.levels = without(self.levels, armed)
        else:
            group = group_of(armed)
            self._drop(group, armed)
            self._settle(group)
        self._bury(armed)
        self.refresh()

    def _bury(self, armed: Armed) -> None:
        armed.state = GONE
        armed.group = None
        armed.spec = None
        self.size -= 1

    def _drop(self, group: Group, armed: Armed) -> None:
        group.drop(armed)
        if armed.guard is not None:
            self.levels = without(self.levels, armed.guard)
            armed.guard = None

    # -- one price ----------------------------------------------------------------------------------------------

    def meet(self, test: int | None, price: int, ts_ns: int, hits: list[Hit]) -> int:
        """Judge one price. `test` is what levels are compared with, None when nothing may fire on it.

        Returns the newest freshness that a newcomer had asked for and got, 0 when there was none.
        """
        if test is not None:
            self.sweep(test, price, hits)
        self.lift(price)
        alone = None if self.double else test
        if self.dormant is not None:
            self.wake(alone, price, hits)
        newest = 0 if self.pending is None else self.admit(alone, price, ts_ns, hits)
        self.refresh()
        return newest

    def meet_batch(
        self, prices: tuple[int, int, int, int], before: int | None, ts_ns: int, hits: list[Hit], fire_ambiguous: bool
    ) -> int:
        """Judge a conflated batch: (first, worst, best, last), and the price before it where a "double" may use it."""
        first, worst, best, last = prices
        if not self.double:
            self.sweep(worst, worst, hits)
        else:
            if before is not None:
                self.sweep(max(before, first), first, hits)
            self.sweep(best, last, hits)  # every price of the batch qualifies, and it holds two at least
        self.lift(best)
        self.wake(None, best, hits)
        self.sweep(last, last, hits, ambiguous=self.double)
        if fire_ambiguous:
            self.sweep(worst, worst, hits, ambiguous=True)
        newest = self.admit(None if self.double else last, last, ts_ns, hits)
        self.refresh()
        return newest

    def sweep(self, test: int, price: int, hits: list[Hit], *, ambiguous: bool = False) -> None:
        """Fire whatever has its level at or above `test`."""
        while (top := self.levels) is not None and top.key >= test:
            if isinstance(top, StopNode):
                armed: Any = top.owner
                self._fire_trail(group_of(armed), armed, price, hits, ambiguous)
            else:
                armed = top
                self.levels = without(self.levels, armed)
                hits.append((armed.seq, armed, price, armed.key, None, 0, ambiguous))
                self._bury(armed)
        while (stop := self.back_stops) is not None and stop.key >= test:
            owner: Any = stop.owner
            self._sweep_group(owner, test, price, hits, ambiguous)
        # Last, because a front that is emptied takes a shelved group as the new front: by now that one is swept.
        if self.front is not None:
            self._sweep_group(self.front, test, price, hits, ambiguous)

    def _sweep_group(self, group: Group, test: int, price: int, hits: list[Hit], ambiguous: bool) -> None:
        high = group.high
        before = len(hits)
        while (top := group.amounts) is not None and high + top.key >= test:
            self._fire_trail(group, top, price, hits, ambiguous, settle=False)
        while (top := group.percents) is not None and percent_stop(high, top.key) >= test:
            self._fire_trail(group, top, price, hits, ambiguous, settle=False)
        if len(hits) != before:
            self._settle(group)

    def _fire_trail(
        self, group: Group, armed: Armed, price: int, hits: list[Hit], ambiguous: bool, *, settle: bool = True
    ) -> None:
        ratchets = armed.delta + group.moves if armed.group is group else self._ratchets(armed)
        hits.append((armed.seq, armed, price, group.stop_of(armed), group.high, ratchets, ambiguous))
        self._drop(group, armed)
        if settle:
            self._settle(group)
        self._bury(armed)

    @staticmethod
    def _ratchets(armed: Armed) -> int:
        group = group_of(armed)  # this first: it changes armed.delta
        return armed.delta + group.moves

    def lift(self, price: int) -> None:
        """Ratchet: `price` is the new high water of every group that is below it."""
        front = self.front
        if front is None or price <= front.high:
            return
        front.high = price
        front.moves += 1
        while (group := self.backs) is not None and group.high <= price:
            self._unshelve(group)
            if group.high < price:
                group.high = price
                group.moves += 1
            front = unite(front, group)
        self.front = front
        front.left_to_report = front.live
        if not front.queued:
            front.queued = True
            self.moved.append(front)

    def wake(self, test: int | None, price: int, hits: list[Hit]) -> None:
        """Begin the sleepers whose activation price is reached, with this as their first price."""
        while (armed := self.dormant) is not None and -armed.key <= price:
            self.dormant = without(self.dormant, armed)
            self._begin(armed, test, price, hits)

    def admit(self, test: int | None, price: int, ts_ns: int, hits: list[Hit]) -> int:
        """Give the newcomers for whom this evidence is fresh their first price; return the newest freshness met.

        `test` is None where one price cannot fire (the "double" methods).
        """
        newest = 0
        while (armed := self.pending) is not None and -armed.key <= ts_ns:
            newest = max(newest, -armed.key)
            self.pending = without(self.pending, armed)
            self.admit_one(armed, test, price, hits)
        return newest

    def admit_one(self, armed: Armed, test: int | None, price: int, hits: list[Hit]) -> None:
        """Give one newcomer, held by no heap, its first price."""
        spec, sign = armed.spec, self.sign
        assert spec is not None
        if spec.level is None:
            if spec.activation is not None and sign * spec.activation > price:
                armed.key = -sign * spec.activation
                armed.state = DORMANT
                self.dormant = meld(self.dormant, armed)
            else:
                self._begin(armed, test, price, hits)
            return
        level = sign * spec.level
        if test is not None and level >= test:
            hits.append((armed.seq, armed, price, level, None, 0, False))
            self._bury(armed)
            return
        armed.key = level
        armed.state = LEVEL
        armed.spec = None
        self.levels = meld(self.levels, armed)

    def _begin(self, armed: Armed, test: int | None, price: int, hits: list[Hit]) -> None:
        """Start a trail on its first price: its old stop, when it came with one, is tested before it ratchets."""
        spec = armed.spec
        assert spec is not None
        stop = first_stop(self.sign, spec)
        if test is not None and stop is not None and stop >= test:
            high = spec.high_water
            hits.append((armed.seq, armed, price, stop, None if high is None else self.sign * high, 0, False))
            self._bury(armed)
        else:
            self._begin_trail(armed, price)

    def _begin_trail(self, armed: Armed, price: int) -> None:
        spec, sign = armed.spec, self.sign
        assert spec is not None
        armed.spec = None
        armed.state = TRAILING
        armed.percent = spec.kind == "trail_percent"
        assert spec.offset is not None
        armed.key = -spec.offset
        high, ratchets = price, 0
        if spec.high_water is not None:
            known = sign * spec.high_water
            high, ratchets = (known, 0) if known >= price else (price, 1)
        group = self._group_at(high)
        group.add(armed, ratchets)
        if spec.initial_stop is not None and (initial := sign * spec.initial_stop) > group.stop_of(armed):
            # Two levels for one arm, the initial one and the trailing one: whichever is met first fires it.
            armed.guard = StopNode(initial, armed)
            self.levels = meld(self.levels, armed.guard)
        self._settle(group)
        self.started.append(armed)

    # -- groups -------------------------------------------------------------------------------------------------

    def _group_at(self, high: int) -> Group:
        front = self.front
        if front is not None and front.high == high:
            return front
        found = self.by_high.get(high)
        if found is not None:
            return found
        group = Group(high)
        if front is None:
            self.front = group
        elif high < front.high:
            self._shelve(front)
            self.front = group
        else:
            self._shelve(group)
        return group

    def _shelve(self, group: Group) -> None:
        group.key = -group.high
        self.backs = meld(self.backs, group)
        self.by_high[group.high] = group
        self._settle(group, shelving=True)

    def _unshelve(self, group: Group) -> None:
        self.backs = without(self.backs, group)
        del self.by_high[group.high]
        if group.stop_node is not None:
            self.back_stops = without(self.back_stops, group.stop_node)
            group.stop_node = None

    def _settle(self, group: Group, *, shelving: bool = False) -> None:
        """After its members changed: forget an empty group, keep the best stop of a shelved one in its place."""
        if group is self.front and not shelving:
            if group.live == 0:
                self.front = self.backs
                if self.front is not None:
                    self._unshelve(self.front)
            return
        best, node = group.best_stop(), group.stop_node
        if node is not None and node.key != best:
            self.back_stops = without(self.back_stops, node)
            group.stop_node = node = None
        if node is None and best is not None:
            group.stop_node = StopNode(best, group)
            self.back_stops = meld(self.back_stops, group.stop_node)
        if best is None and not shelving:
            self._unshelve(group)

    # -- the bounds ---------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Work out again between which prices nothing happens."""
        if self.pending is not None:
            self.lo = self.hi = 0  # somebody waits for evidence: look at every price
            return
        fire, top = -NEVER, NEVER
        if self.levels is not None:
            fire = self.levels.key
        if self.back_stops is not None and self.back_stops.key > fire:
            fire = self.back_stops.key
        front = self.front
        if front is not None:
            best = front.best_stop()
            if best is not None and best > fire:
                fire = best
            top = front.high + 1
        if self.dormant is not None and -self.dormant.key < top:
            top = -self.dormant.key
        if self.sign > 0:
            self.lo, self.hi = fire, top
        else:
            self.lo, self.hi = -top, -fire


def first_stop(sign: int, spec: Arm) -> int | None:
    """Return the (signed) stop that a trail comes with, from its initial stop, its known high water, or both."""
    stop: int | None = None if spec.initial_stop is None else sign * spec.initial_stop
    if spec.high_water is not None:
        assert spec.offset is not None
        high = sign * spec.high_water
        known = percent_stop(high, -spec.offset) if spec.kind == "trail_percent" else high - spec.offset
        if stop is None or known > stop:
            stop = known
    return stop
