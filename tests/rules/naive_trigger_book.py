"""The trigger book written as the rules read: every arm looks at every price. It is the yardstick, and slow.

Shares no arithmetic with the real one: natural prices, Fractions for percents and midpoints, one loop over all arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from actors.rules.trigger_arm import Arm, Fired, TrailState
from messages.market import TriggerMethod as M

TRADES = {M.LAST, M.DOUBLE_LAST, M.LAST_OR_BID_ASK}
QUOTES = {M.BID_ASK, M.DOUBLE_BID_ASK, M.LAST_OR_BID_ASK, M.MIDPOINT}


@dataclass
class NaiveArm:
    arm: Arm
    seq: int
    waiting: bool = True
    dormant: bool = False
    high: int | None = None
    stop: int | None = None
    ratchets: int = 0

    def __post_init__(self) -> None:
        arm = self.arm
        self.sell = arm.side == "SELL"
        self.trail = arm.kind.startswith("trail")
        self.double = arm.method in (M.DOUBLE_LAST, M.DOUBLE_BID_ASK)
        self.fires_low = self.sell != (arm.kind == "lit")
        self.high = arm.high_water
        self.stop = arm.level if not self.trail else arm.initial_stop
        if self.trail and self.high is not None:
            self.tighten()

    def derived(self, high: int) -> int:
        offset = self.arm.offset
        if self.arm.kind == "trail_amount":
            return high - offset if self.sell else high + offset
        part = Fraction(offset, 100 * 10**6)
        return math.floor(high * (1 - part)) if self.sell else math.ceil(high * (1 + part))

    def tighten(self) -> None:
        stop = self.derived(self.high)
        if self.stop is None:
            self.stop = stop
        else:
            self.stop = max(self.stop, stop) if self.sell else min(self.stop, stop)

    def through(self, price: Fraction | int) -> bool:
        if self.stop is None or self.dormant or self.waiting:
            return False
        return price <= self.stop if self.fires_low else price >= self.stop

    def ratchet(self, price: int) -> None:
        if not self.trail or self.dormant or self.waiting:
            return
        if self.high is None:
            self.high = price
        elif (price > self.high) if self.sell else (price < self.high):
            self.high = price
            self.ratchets += 1
        self.tighten()

    def awake(self, price: int) -> bool:
        if self.arm.activation is None:
            return True
        return price >= self.arm.activation if self.sell else price <= self.arm.activation

    def safe(self, price: Fraction | int) -> int:
        """The price as an extreme: half a unit of a midpoint goes away from an early trigger."""
        return math.floor(price) if self.fires_low else math.ceil(price)


@dataclass
class NaiveBook:
    in_session: bool = True
    halted: bool = False
    arms: list[NaiveArm] = field(default_factory=list)
    seq: int = 0
    trade_floor: int = 0
    quote_floor: int = 0
    before: dict = field(default_factory=dict)  # (source, rth_only) -> the last price(s), absent after a break
    known: dict = field(default_factory=dict)  # source -> (prices, ts)

    # -- arming

    def arm(self, arm: Arm, use_evidence: bool = False) -> list[Fired]:
        self.disarm(arm.arm_id)
        self.seq += 1
        naive = NaiveArm(arm, self.seq)
        self.arms.append(naive)
        if not use_evidence or not self.acts(naive):
            return []
        for source, methods in (("trade", TRADES), ("quote", QUOTES)):
            if arm.method not in methods or (source, arm.rth_only) not in self.before:
                continue
            prices, ts = self.known[source]
            floor = self.trade_floor if source == "trade" else self.quote_floor
            if ts < floor or ts < arm.fresh_after_ns:
                continue
            self.raise_floor(source, arm.fresh_after_ns)
            price = prices if source == "trade" else self.watched(naive, *prices)
            if self.begin(naive, price, fires=not naive.double):
                return [self.event(naive, price, ts)]
            return []
        return []

    def disarm(self, arm_id: str) -> bool:
        kept = [naive for naive in self.arms if naive.arm.arm_id != arm_id]
        found = len(kept) != len(self.arms)
        self.arms = kept
        return found

    # -- evidence

    def on_trade(self, price: int, ts: int, eligible: bool = True) -> list[Fired]:
        if not eligible or price <= 0 or self.halted or ts < self.trade_floor:
            return []
        fired = []
        for naive in list(self.arms):
            if naive.arm.method in TRADES and self.acts(naive):
                self.judge(naive, "trade", price, self.before.get(("trade", naive.arm.rth_only)), ts, fired)
        self.seen("trade", price, ts)
        return fired

    def on_quote(self, bid: int, ask: int, ts: int) -> list[Fired]:
        if bid <= 0 or ask <= 0 or bid > ask or self.halted or ts < self.quote_floor:
            return []
        fired = []
        floor = self.quote_floor
        for naive in list(self.arms):
            if naive.arm.method not in QUOTES or not self.acts(naive):
                continue
            last = self.before.get(("quote", naive.arm.rth_only))
            if naive.double and last == (bid, ask):
                continue
            before = None if last is None else self.watched(naive, *last)
            self.judge(naive, "quote", self.watched(naive, bid, ask), before, ts, fired)
        assert self.quote_floor >= floor
        self.seen("quote", (bid, ask), ts)
        return fired

    def judge(self, naive: NaiveArm, source: str, price, before, ts: int, fired: list[Fired]) -> None:
        if naive.waiting:
            if naive.arm.fresh_after_ns <= ts:
                self.raise_floor(source, naive.arm.fresh_after_ns)
                if self.begin(naive, price, fires=not naive.double):
                    fired.append(self.event(naive, price, ts))
            return
        if naive.dormant:
            if naive.awake(naive.safe(price)) and self.begin(naive, price, fires=not naive.double):
                fired.append(self.event(naive, price, ts))
            return
        if naive.through(price) and (not naive.double or (before is not None and naive.through(before))):
            fired.append(self.event(naive, price, ts))
            return
        naive.ratchet(naive.safe(price))

    def begin(self, naive: NaiveArm, price, *, fires: bool) -> bool:
        naive.waiting = False
        naive.dormant = naive.trail and not naive.awake(naive.safe(price))
        if fires and naive.through(price):
            return True
        naive.ratchet(naive.safe(price))
        return False

    def on_conflated(self, first: int, high: int, low: int, last: int, ts: int, fire_ambiguous: bool) -> list[Fired]:
        if low <= 0 or not low <= first <= high or not low <= last <= high or self.halted or ts < self.trade_floor:
            return []
        fired = []
        for naive in list(self.arms):
            if naive.arm.method not in TRADES or not self.acts(naive):
                continue
            if naive.waiting:
                self.judge(naive, "trade", last, None, ts, fired)
                continue
            worst, best = (low, high) if naive.fires_low else (high, low)
            before = self.before.get(("trade", naive.arm.rth_only))
            price = None
            ambiguous = False
            if naive.dormant:
                naive.dormant = not naive.awake(best)
                if naive.dormant:
                    continue
            elif not naive.double and naive.through(worst):
                price = worst
            elif naive.double and before is not None and naive.through(before) and naive.through(first):
                price = first
            elif naive.double and naive.through(best):
                price = last
            if price is None:
                naive.ratchet(best)
                if naive.through(last):
                    price, ambiguous = last, naive.double
                elif fire_ambiguous and naive.through(worst):
                    price, ambiguous = worst, True
            if price is not None:
                fired.append(self.event(naive, price, ts, ambiguous))
        self.seen("trade", last, ts)
        return fired

    # -- gates

    def set_halted(self, halted: bool) -> None:
        if self.halted and not halted:
            self.before.clear()
        self.halted = halted

    def set_session(self, in_session: bool) -> None:
        if in_session and not self.in_session:
            self.before.pop(("trade", True), None)
            self.before.pop(("quote", True), None)
        self.in_session = in_session

    # -- the rest

    def acts(self, naive: NaiveArm) -> bool:
        return not self.halted and (self.in_session or not naive.arm.rth_only)

    def seen(self, source: str, what, ts: int) -> None:
        self.known[source] = (what, ts)
        self.before[source, False] = what
        if self.in_session or (source, True) in self.before:
            self.before[source, True] = what

    def raise_floor(self, source: str, to: int) -> None:
        if source == "trade":
            self.trade_floor = max(self.trade_floor, to)
        else:
            self.quote_floor = max(self.quote_floor, to)

    def watched(self, naive: NaiveArm, bid: int, ask: int):
        if naive.arm.method == M.MIDPOINT:
            return Fraction(bid + ask, 2)
        return bid if naive.sell else ask

    def event(self, naive: NaiveArm, price, ts: int, ambiguous: bool = False) -> Fired:
        self.arms.remove(naive)
        price = naive.safe(price)
        return Fired(naive.arm.arm_id, price, naive.stop, naive.high, naive.ratchets, ts, ambiguous)

    def state_of(self, arm_id: str) -> TrailState | None:
        for naive in self.arms:
            if naive.arm.arm_id == arm_id:
                active = not naive.waiting and not naive.dormant
                return TrailState(naive.high, naive.stop, naive.ratchets, active)
        return None
