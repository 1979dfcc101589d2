"""The trigger book of one symbol: every held level, and the few comparisons that say that a tick meets none of them.

Law: a tick that fires nothing and lifts no high water costs a handful of integer comparisons, whatever the number of
arms; everything else costs amortised O(log n) per arm that is touched. No clock, no float; prices are millionths.

What fires (trading-rules.md 11-13, 16, 17; domain.md 2.3, 2.4):
- `stop`: SELL when the watched price <= level, BUY when >= level. `lit` (limit if touched): SELL when >=, BUY when <=.
- `trail_amount`, `trail_percent`: the OLD stop is tested first, then the stop follows the extreme (trailing.py). A
  trail begins with its first valid price, or with the first that reaches its activation price (SELL at or above, BUY
  at or below; a dormant trail has no stop, not even its initial one). A known high water or initial stop, given when
  arming, is tested on the very first price. A ratchet is one price that raised the high water (lowered the low, BUY).
- Levels, not edges: whatever is already through fires on its first fresh price. Events of one tick are in the order of
  arming. An arm fires once and leaves. An arm id armed again replaces the old arm and begins anew.

Which price is watched: last: trades. double_last: two consecutive valid trades, both at or through; each of them
ratchets. bid_ask: the bid for SELL, the ask for BUY. double_bid_ask: the same, two consecutive quotes that differ (in
bid or ask) from the one before; a repeated quote is not evidence. last_or_bid_ask: either. midpoint: (bid + ask) / 2 is
compared exactly with the level; as an extreme it is rounded half a millionth away from an early trigger.
Both halves of a "double" must come after arming, and a halt or the opening between them parts them.

What is not evidence: an ineligible trade; a price <= 0; a one-sided or crossed quote; anything during a halt, anything
out of session for `rth_only` arms (they neither fire nor ratchet); for an arm, what is older than its `fresh_after_ns`;
for everybody, what is older than the newest `fresh_after_ns` that this source (trades, quotes) has already met.

Conflated trades are judged as trading-rules.md 12 says: the worst price against the old stop, ratchet with the best,
the last price against the new stop. See `on_conflated` for what is ambiguous.
"""

from __future__ import annotations

from collections import deque

from actors.rules.ladder import GONE, NEVER, TRAILING, Armed, Hit, Ladder, first_stop
from actors.rules.tick_filter import quote_is_usable
from actors.rules.trailing import Group, group_of
from actors.rules.trigger_arm import DOUBLE, ON_TRADES, WATCHED_BY_METHOD, Arm, Fired, Moved, TrailState, check_arm
from messages.market import TriggerMethod

__all__ = ["Arm", "Fired", "Moved", "TrailState", "TriggerBook"]


class _Source:
    """Trades, or quotes: whom they concern, and whether a "double" may lean on the one seen last."""

    __slots__ = ("gap_extended", "gap_rth", "ladders", "shared")

    def __init__(self) -> None:
        self.ladders: list[Ladder] = []
        self.shared = False
        """Whether one of the ladders listens to the other source too (last_or_bid_ask)."""
        self.part()

    def part(self) -> None:
        """What was seen so far and what comes next are not consecutive."""
        self.gap_rth = self.gap_extended = True

    def gap(self, ladder: Ladder) -> bool:
        return self.gap_rth if ladder.rth_only else self.gap_extended

    def seen(self, in_session: bool) -> None:
        self.gap_extended = False
        if in_session:
            self.gap_rth = False


class TriggerBook:
    """All held triggers of one symbol. Starts unhalted; `in_session` says whether rth-only arms may act."""

    __slots__ = (
        "_arms", "_ask", "_ask_hi", "_ask_lo", "_bid", "_bid_hi", "_bid_lo", "_halted", "_in_session", "_ladders",
        "_last", "_mid_hi", "_mid_lo", "_moved", "_quote_floor", "_quote_ns", "_quotes", "_seq", "_started",
        "_trade_floor", "_trade_hi", "_trade_lo", "_trade_ns", "_trades",
    )  # fmt: skip

    def __init__(self, *, in_session: bool = True) -> None:
        self._arms: dict[str, Armed] = {}
        self._ladders: dict[tuple[TriggerMethod, str, int, bool], Ladder] = {}
        self._trades, self._quotes = _Source(), _Source()
        self._moved: deque[Group] = deque()
        self._started: deque[Armed] = deque()
        self._seq = 0
        self._halted = False
        self._in_session = in_session
        self._last = self._bid = self._ask = 0
        self._trade_ns = self._quote_ns = 0
        self._trade_floor = self._quote_floor = 0
        self._refresh()

    def __len__(self) -> int:
        return len(self._arms)

    def __contains__(self, arm_id: str) -> bool:
        return arm_id in self._arms

    # -- arming -------------------------------------------------------------------------------------------------

    def arm(self, arm: Arm, *, use_evidence: bool = False) -> list[Fired]:
        """Watch a trigger; an arm of the same id is replaced. Raises ValueError for an arm that makes no sense.

        With `use_evidence` the last price counts as its first one, if it is fresh enough for it, so that a stop that is
        through already fires at once; without, the next fresh price decides.
        """
        check_arm(arm)
        self.disarm(arm.arm_id)
        self._seq += 1
        ladder = self._ladder_for(arm)
        armed = Armed(arm.arm_id, self._seq, ladder, arm)
        self._arms[arm.arm_id] = armed
        fired: list[Fired] = []
        if not (use_evidence and self._acts(ladder) and self._begin_on_evidence(ladder, armed, arm, fired)):
            ladder.enter(armed)
        self._refresh()
        self._tidy()
        return fired

    def _begin_on_evidence(self, ladder: Ladder, armed: Armed, arm: Arm, fired: list[Fired]) -> bool:
        hits: list[Hit] = []
        if ladder in self._trades.ladders and not self._trades.gap(ladder):
            ts_ns = self._trade_ns
            if ts_ns >= self._trade_floor and ts_ns >= arm.fresh_after_ns:
                self._trade_floor = max(self._trade_floor, arm.fresh_after_ns)
                price = ladder.sign * self._last
                ladder.take(armed, price, price, hits)
                fired += self._report(hits, ts_ns)
                return True
        if ladder in self._quotes.ladders and not self._quotes.gap(ladder):
            ts_ns = self._quote_ns
            if ts_ns >= self._quote_floor and ts_ns >= arm.fresh_after_ns:
                self._quote_floor = max(self._quote_floor, arm.fresh_after_ns)
                test, price = _watched(ladder, self._bid, self._ask)
                ladder.take(armed, test, price, hits)
                fired += self._report(hits, ts_ns)
                return True
        return False

    def disarm(self, arm_id: str) -> bool:
        """Stop watching; False when nothing of that id is armed (it may have fired)."""
        armed = self._arms.pop(arm_id, None)
        if armed is None:
            return False
        armed.ladder.leave(armed)
        self._forget_if_empty(armed.ladder)
        self._refresh()
        return True

    def _ladder_for(self, arm: Arm) -> Ladder:
        watched = WATCHED_BY_METHOD[arm.method][arm.side == "BUY"]
        sign = 1 if (arm.side == "SELL") != (arm.kind == "lit") else -1
        key = (arm.method, watched, sign, arm.rth_only)
        ladder = self._ladders.get(key)
        if ladder is None:
            ladder = self._ladders[key] = Ladder(
                sign, watched, double=arm.method in DOUBLE, rth_only=arm.rth_only,
                moved=self._moved, started=self._started,
            )  # fmt: skip
            if arm.method in ON_TRADES:
                self._trades.ladders.append(ladder)
            if watched != "last":
                self._quotes.ladders.append(ladder)
            self._note_shared()
        return ladder

    def _note_shared(self) -> None:
        shared = any(method == TriggerMethod.LAST_OR_BID_ASK for method, *_ in self._ladders)
        self._trades.shared = self._quotes.shared = shared

    def _forget_if_empty(self, ladder: Ladder) -> None:
        if ladder.size == 0:
            self._ladders = {key: kept for key, kept in self._ladders.items() if kept is not ladder}
            for source in (self._trades, self._quotes):
                source.ladders = [kept for kept in source.ladders if kept is not ladder]
            # `shared` stays until a ladder comes: by now the other source's bounds may still be the gone one's.

    # -- evidence -----------------------------------------------------------------------------------------------

    def on_trade(self, price: int, ts_ns: int, *, eligible: bool = True) -> list[Fired]:
        """Judge one trade. `eligible`: its sale conditions let it move prices (tick_filter.py)."""
        if self._trade_lo < price < self._trade_hi and eligible and ts_ns >= self._trade_floor:
            self._last = price
            self._trade_ns = ts_ns
            return []
        if not eligible or price <= 0 or self._halted or ts_ns < self._trade_floor:
            return []
        hits: list[Hit] = []
        floor = self._trade_floor
        for ladder in self._trades.ladders:
            if ladder.lo < price < ladder.hi or not self._acts(ladder):
                continue
            signed = ladder.sign * price
            test: int | None = signed
            if ladder.double:
                test = None if self._trades.gap(ladder) else max(ladder.sign * self._last, signed)
            floor = max(floor, ladder.meet(test, signed, ts_ns, hits))
        return self._trade_done(price, ts_ns, floor, hits)

    def on_conflated(
        self, first: int, high: int, low: int, last: int, ts_ns: int, *, fire_ambiguous: bool = False
    ) -> list[Fired]:
        """Judge a batch of at least two eligible trades, of which only these four prices are known; `ts_ns`: the last.

        SELL: low against the old stop, ratchet with the high, last against the new stop. Where the order inside the
        batch would decide (the low is through the new stop only) nothing fires, unless `fire_ambiguous`; then the event
        says so. A "double last" fires for certain when two neighbours are known to qualify (the one before with
        `first`, or all), and ambiguously when only `last` is known to. A new arm sees only `last`; a dormant one may
        wake on the high. A batch that contradicts itself (low above last, say) is no evidence.
        """
        if not 0 < low <= min(first, last) <= max(first, last) <= high:
            return []
        if self._halted or ts_ns < self._trade_floor:
            return []
        if self._trade_lo < low and high < self._trade_hi:
            self._last = last
            self._trade_ns = ts_ns
            return []
        hits: list[Hit] = []
        floor = self._trade_floor
        for ladder in self._trades.ladders:
            if (ladder.lo < low and high < ladder.hi) or not self._acts(ladder):
                continue
            before = None if self._trades.gap(ladder) else ladder.sign * self._last
            prices = (first, low, high, last) if ladder.sign > 0 else (-first, -high, -low, -last)
            floor = max(floor, ladder.meet_batch(prices, before, ts_ns, hits, fire_ambiguous))
        return self._trade_done(last, ts_ns, floor, hits)

    def _trade_done(self, price: int, ts_ns: int, floor: int, hits: list[Hit]) -> list[Fired]:
        self._last = price
        self._trade_ns = ts_ns
        self._trade_floor = floor
        self._trades.seen(self._in_session)
        fired = self._report(hits, ts_ns) if hits else []
        self._refresh_trades()
        if self._quotes.shared:
            self._refresh_quotes()
        return fired

    def on_quote(self, bid: int, ask: int, ts_ns: int) -> list[Fired]:
        """Judge one quote. Of conflated quotes the newest is enough: a quote is a state, not an event."""
        if (
            self._bid_lo < bid < self._bid_hi
            and self._ask_lo < ask < self._ask_hi
            and self._mid_lo < bid + ask < self._mid_hi
            and bid <= ask
            and ts_ns >= self._quote_floor
        ):
            self._bid = bid
            self._ask = ask
            self._quote_ns = ts_ns
            return []
        if not quote_is_usable(bid, ask) or self._halted or ts_ns < self._quote_floor:
            return []
        hits: list[Hit] = []
        floor = self._quote_floor
        repeated = bid == self._bid and ask == self._ask
        for ladder in self._quotes.ladders:
            if not self._acts(ladder):
                continue
            level_test, price = _watched(ladder, bid, ask)
            test: int | None = level_test
            if ladder.double:
                if self._quotes.gap(ladder):
                    test = None
                elif repeated:
                    continue
                else:
                    test = max(level_test, _watched(ladder, self._bid, self._ask)[0])
            floor = max(floor, ladder.meet(test, price, ts_ns, hits))
        self._bid = bid
        self._ask = ask
        self._quote_ns = ts_ns
        self._quote_floor = floor
        self._quotes.seen(self._in_session)
        fired = self._report(hits, ts_ns) if hits else []
        self._refresh_quotes()
        if self._trades.shared:
            self._refresh_trades()
        return fired

    # -- gates --------------------------------------------------------------------------------------------------

    def set_halted(self, halted: bool) -> None:
        """While halted nothing is evidence; what comes after does not continue what came before."""
        if self._halted and not halted:
            self._trades.part()
            self._quotes.part()
        self._halted = halted
        self._refresh()

    def set_session(self, in_session: bool) -> None:
        """Open or close the regular session: out of it, rth-only arms neither fire nor ratchet."""
        if in_session and not self._in_session:
            self._trades.gap_rth = self._quotes.gap_rth = True
        self._in_session = in_session
        self._refresh()

    def _acts(self, ladder: Ladder) -> bool:
        return not self._halted and (self._in_session or not ladder.rth_only)

    # -- questions ----------------------------------------------------------------------------------------------

    def state_of(self, arm_id: str) -> TrailState | None:
        """Say where an arm stands; None when it is not armed."""
        armed = self._arms.get(arm_id)
        if armed is None:
            return None
        sign, spec = armed.ladder.sign, armed.spec
        if armed.state == TRAILING:
            return self._trail_state(armed)
        if spec is None:
            return TrailState(None, sign * armed.key, 0, True)
        if spec.offset is None:
            return TrailState(None, spec.level, 0, False)
        stop = first_stop(sign, spec)
        return TrailState(spec.high_water, None if stop is None else sign * stop, 0, False)

    @staticmethod
    def _trail_state(armed: Armed) -> TrailState:
        group = group_of(armed)  # first: it shortens the way, which changes armed.delta
        sign = armed.ladder.sign
        return TrailState(sign * group.high, sign * group.stop_of(armed), armed.delta + group.moves, True)

    @property
    def has_moved(self) -> bool:
        """Whether `moved_since` has more to look at."""
        return bool(self._started or self._moved)

    def moved_since(self, limit: int = 64) -> list[Moved]:
        """Return trailing stops that began or ratcheted since they were last returned, looking at `limit` at most.

        For the throttled journal. Ask again while `has_moved`; a list may be empty before that. A stop that ratcheted
        many times is returned once, as it stands now.
        """
        moved: list[Moved] = []
        while limit > 0 and self._started:
            self._note(self._started.popleft(), moved)
            limit -= 1
        while limit > 0 and self._moved:
            group = self._moved[0]
            while limit > 0 and group.left_to_report > 0 and (armed := group.cursor) is not None:
                group.cursor = armed.after
                group.left_to_report -= 1
                limit -= 1
                self._note(armed, moved)
            if group.left_to_report <= 0 or group.cursor is None:
                group.left_to_report = 0
                group.queued = False
                self._moved.popleft()
        return moved

    def _note(self, armed: Armed, moved: list[Moved]) -> None:
        if armed.state == GONE:
            return
        state = self._trail_state(armed)
        if state.ratchets != armed.reported and state.high_water is not None and state.stop is not None:
            armed.reported = state.ratchets
            moved.append(Moved(armed.arm_id, state.high_water, state.stop, state.ratchets))

    # -- housekeeping -------------------------------------------------------------------------------------------

    def _report(self, hits: list[Hit], ts_ns: int) -> list[Fired]:
        hits.sort()
        fired = []
        for _, armed, price, level, high, ratchets, ambiguous in hits:
            sign = armed.ladder.sign
            high_water = None if high is None else sign * high
            fired.append(Fired(armed.arm_id, sign * price, sign * level, high_water, ratchets, ts_ns, ambiguous))
            del self._arms[armed.arm_id]
        for ladder in {hit[1].ladder for hit in hits}:
            self._forget_if_empty(ladder)
        return fired

    def _tidy(self) -> None:
        """Keep what waits to be reported bounded by what is armed, also when nobody ever asks."""
        if len(self._started) > 2 * len(self._arms) + 64:
            alive = [armed for armed in self._started if armed.state != GONE]
            self._started.clear()
            self._started.extend(alive)
        if len(self._moved) > 2 * len(self._arms) + 64:
            standing = [group for group in self._moved if group.live and group.into is None]
            self._moved.clear()
            self._moved.extend(standing)

    def _refresh(self) -> None:
        """Work out again between which prices a tick concerns nobody."""
        self._refresh_trades()
        self._refresh_quotes()

    def _refresh_trades(self) -> None:
        self._trade_lo, self._trade_hi = self._bounds(self._trades, None)

    def _refresh_quotes(self) -> None:
        self._bid_lo, self._bid_hi = self._bounds(self._quotes, "bid")
        self._ask_lo, self._ask_hi = self._bounds(self._quotes, "ask")
        lo, hi = self._bounds(self._quotes, "mid")
        self._mid_lo, self._mid_hi = 2 * lo, 2 * hi

    def _bounds(self, source: _Source, watched: str | None) -> tuple[int, int]:
        if self._halted or source.gap_extended or (self._in_session and source.gap_rth):
            return 0, 0
        lo, hi = 0, NEVER
        for ladder in source.ladders:
            if (watched is None or ladder.watched == watched) and (self._in_session or not ladder.rth_only):
                if ladder.lo > lo:
                    lo = ladder.lo
                if ladder.hi < hi:
                    hi = ladder.hi
        return lo, hi


def _watched(ladder: Ladder, bid: int, ask: int) -> tuple[int, int]:
    """Return (signed price to test, signed price to ratchet with); they differ for half a unit of a midpoint only."""
    if ladder.watched == "bid":
        return ladder.sign * bid, ladder.sign * bid
    if ladder.watched == "ask":
        return ladder.sign * ask, ladder.sign * ask
    twice = ladder.sign * (bid + ask)
    return -(-twice // 2), twice // 2
