"""What market data decides: which feed an arm needs, which ticks are evidence, who is told, what a price last was.

Law: a tick is judged by its own time (session, freshness); a feed is asked for once, whoever needs it, and is given up
only after a quiet while, because the venue limits how often it may be asked for again. Every reply is returned, none
is sent from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from actors.rules.regular_hours import stretch_at
from actors.rules.scale import from_scaled, to_scaled
from actors.rules.trigger_book import Arm, Fired, TriggerBook
from messages.base import Message
from messages.market import (
    ArmTrigger,
    DisarmTrigger,
    Feed,
    FeedChanged,
    QuoteTick,
    Subscribe,
    TradeTick,
    TrailRatcheted,
    TriggerArmed,
    TriggerFired,
    TriggerMethod,
    TriggerRefused,
    Unsubscribe,
)

NS = 1_000_000_000
EVIDENCE_NS = 10 * NS
"""How old the last price may be to fire a stop at the moment when it is armed (trading-rules.md 11)."""
LINGER_NS = 30 * NS
"""How long an unused feed is kept: IB wants 15 s between two tick-by-tick requests for one instrument."""
MAX_REPORTED = 512
"""Trailing stops that are looked at for the journal in one go."""

DEFAULT_METHODS = {
    "OPT": TriggerMethod.DOUBLE_BID_ASK,
    "CASH": TriggerMethod.BID_ASK,
}
"""IB's defaults by type of instrument (domain.md 2.3); everything else: last."""

FEEDS = {
    TriggerMethod.LAST: Feed.TICK_BY_TICK,
    TriggerMethod.DOUBLE_LAST: Feed.TICK_BY_TICK,
    TriggerMethod.BID_ASK: Feed.SNAPSHOT,
    TriggerMethod.DOUBLE_BID_ASK: Feed.SNAPSHOT,
    TriggerMethod.LAST_OR_BID_ASK: Feed.SNAPSHOT,
    TriggerMethod.MIDPOINT: Feed.SNAPSHOT,
}
NO_TICK_BY_TICK = frozenset({"OPT", "FOP", "BAG"})
"""What has no tick-by-tick stream live (trading-rules.md 17): its last price comes with the snapshots."""

Line = tuple[str, Feed]
Send = tuple[Any, Message]
"""To whom (a service's name or an address) and what."""


class Standing(NamedTuple):
    """One arm: whom to tell, and what it holds on to."""

    armer: Any
    bracket_id: str
    incarnation: int
    instrument: str
    feed: Feed
    method: TriggerMethod
    rth_only: bool


class _Instrument:
    """A book, and what is known of its instrument."""

    __slots__ = (
        "blind", "book", "changed", "end_ns", "fresh_after_ns", "halted", "heard_ns", "is_open", "mark", "marked",
        "name", "quote_ns", "refused", "said_ns", "start_ns", "trade_ns", "users",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.book = TriggerBook(in_session=False)
        self.start_ns = self.end_ns = 0
        self.is_open = False
        self.fresh_after_ns = 0
        """Snapshot trades older than this are no evidence; tick-by-tick ones are newer than their subscription."""
        self.trade_ns = self.quote_ns = 0
        self.heard_ns = -EVIDENCE_NS
        """When a tick of it last came in, by our clock: a recorded tick is as fresh as its telling."""
        self.mark = 0
        """The last eligible trade; the middle of a quote until there is one. In millionths."""
        self.changed = False
        self.halted = False
        self.said_ns = 0
        self.users: dict[Feed, set[str]] = {feed: set() for feed in Feed}
        self.marked = False
        """Somebody wants the price for its own sake: any feed will do."""
        self.blind: dict[Feed, str] = {}
        self.refused: set[Feed] = set()


class MarketDesk:
    """All books, feeds and marks. `notices` collects (code, sentence) for a person."""

    def __init__(self) -> None:
        self._instruments: dict[str, _Instrument] = {}
        self._arms: dict[str, Standing] = {}
        self._open: dict[Line, int] = {}
        """Lines that were asked for, and since when nobody needs them (0: somebody does)."""
        self._changed: list[_Instrument] = []
        self._unsettled: dict[str, None] = {}
        """Instruments whose lines are looked at in the next second: an exit that fires must not wait for that, and a
        price that is wanted for its own sake may come with the feed that an exit is about to need."""
        self._asks: list[Send] = []
        self.notices: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._arms)

    # -- arming ------------------------------------------------------------------------------------------------

    def arm(self, ask: ArmTrigger, armer: Any, now_ns: int) -> list[Send]:
        """Watch a trigger for `armer`, or say why not. Asks for the feed if nobody has."""
        known = self._arms.get(ask.arm_id)
        if known is not None and known.incarnation > ask.incarnation:
            return _refusal(armer, ask.arm_id, f"incarnation {ask.incarnation} of bracket {ask.bracket_id} is over;"
                            f" {known.incarnation} has armed it")
        method = ask.method
        if method is TriggerMethod.DEFAULT:
            method = DEFAULT_METHODS.get(ask.sec_type, TriggerMethod.LAST)
        state = self._state(ask.instrument)
        feed = self._feed_for(state, method, ask.sec_type)
        if feed is None:
            return _refusal(armer, ask.arm_id, f"method {method}: {ask.instrument} has no such feed here")
        try:
            arm = _scaled(ask, method)
            fired = state.book.arm(arm, use_evidence=self._has_evidence(state, ask, feed, now_ns))
        except ValueError as problem:
            return _refusal(armer, ask.arm_id, str(problem))
        if known is not None:
            self._forget(ask.arm_id, known, keep_in_book=known.instrument == ask.instrument)
        self._arms[ask.arm_id] = Standing(
            armer, ask.bracket_id, ask.incarnation, ask.instrument, feed, method, ask.rth_only)
        state.users[feed].add(ask.arm_id)
        self._lines(state, now_ns)
        if known is not None and known.instrument != ask.instrument:
            self._lines(self._instruments[known.instrument], now_ns)
        sends = [*self.take_asks(), (armer, TriggerArmed(arm_id=ask.arm_id, feed=feed))]
        sends += [self.report(each, now_ns) for each in fired]
        return sends + self.take_asks()

    def _state(self, instrument: str) -> _Instrument:
        state = self._instruments.get(instrument)
        if state is None:
            state = self._instruments[instrument] = _Instrument(instrument)
        return state

    @staticmethod
    def _feed_for(state: _Instrument, method: TriggerMethod, sec_type: str) -> Feed | None:
        """Return the feed that a method is judged on; a single last price also comes with the snapshots."""
        feed = FEEDS[method]
        no_tick_by_tick = sec_type in NO_TICK_BY_TICK or Feed.TICK_BY_TICK in state.refused
        if feed is Feed.TICK_BY_TICK and no_tick_by_tick:
            if method is TriggerMethod.DOUBLE_LAST:
                return None
            feed = Feed.SNAPSHOT
        return None if feed in state.refused else feed

    @staticmethod
    def _has_evidence(state: _Instrument, ask: ArmTrigger, feed: Feed, now_ns: int) -> bool:
        """A stop that is through already goes at once, if the last price is fresh; a trail begins with the next."""
        is_trail = ask.amount is not None or ask.percent is not None
        return not is_trail and feed not in state.blind and now_ns - state.heard_ns < EVIDENCE_NS

    def disarm(self, ask: DisarmTrigger, now_ns: int) -> list[Send]:
        """Stop watching; a word of an older incarnation than the one that armed it is ignored."""
        known = self._arms.get(ask.arm_id)
        if known is not None and ask.incarnation >= known.incarnation:
            self._forget(ask.arm_id, known)
            self._lines(self._instruments[known.instrument], now_ns)
        return self.take_asks()

    def _forget(self, arm_id: str, standing: Standing, *, keep_in_book: bool = False) -> None:
        del self._arms[arm_id]
        state = self._instruments[standing.instrument]
        state.users[standing.feed].discard(arm_id)
        if not keep_in_book:
            state.book.disarm(arm_id)

    # -- feeds -------------------------------------------------------------------------------------------------

    def mark_wanted(self, instrument: str, wanted: bool) -> None:
        """Keep some feed of an instrument for the sake of its price (a position's), or no longer: from the next second
        on, as prices are told once a second."""
        if wanted or instrument in self._instruments:
            self._state(instrument).marked = wanted
            self._unsettled[instrument] = None

    def take_asks(self) -> list[Send]:
        """Return what is to be asked of the broker since the last time."""
        asks, self._asks = self._asks, []
        return asks

    def _lines(self, state: _Instrument, now_ns: int) -> None:
        """Ask for the lines that are needed and note which are no longer."""
        for feed in Feed:
            line = (state.name, feed)
            needed = feed not in state.refused and (bool(state.users[feed]) or (
                feed is Feed.SNAPSHOT and state.marked and not state.users[Feed.TICK_BY_TICK]))
            if needed and line not in self._open:
                self._asks.append(("broker", Subscribe(instrument=state.name, feed=feed)))
            if needed:
                self._open[line] = 0
            elif line in self._open:
                self._open[line] = self._open[line] or now_ns

    def settle_lines(self, now_ns: int) -> list[Send]:
        """Ask for what is needed, unsubscribe what nobody has needed for a while, forget instruments without a feed."""
        for name in self._unsettled:
            if name in self._instruments:
                self._lines(self._instruments[name], now_ns)
        self._unsettled.clear()
        gone = [line for line, since in self._open.items() if since and now_ns - since >= LINGER_NS]
        for line in gone:
            del self._open[line]
            state = self._instruments[line[0]]
            state.blind.pop(line[1], None)
            if not state.refused and not any((line[0], feed) in self._open for feed in Feed):
                del self._instruments[line[0]]
        asks = self.take_asks()
        return asks + [("broker", Unsubscribe(instrument=instrument, feed=feed)) for instrument, feed in gone]

    def subscriptions(self) -> list[Send]:
        """Ask for every feed again: a new broker knows none of them. What was refused may be had now."""
        for state in self._instruments.values():
            state.refused.clear()
        return [("broker", Subscribe(instrument=line[0], feed=line[1])) for line in self._open]

    def feed_changed(self, event: FeedChanged, now_ns: int) -> list[Send]:
        """Believe only what is newer than a gap, and find another way for whom a feed is refused."""
        state = self._instruments.get(event.instrument)
        if state is None or event.feed is None:
            return []
        if event.feed is Feed.SNAPSHOT:
            # The venue's times are whole seconds: a trade in the second of the subscription came after it.
            state.fresh_after_ns = max(state.fresh_after_ns, event.fresh_after_ns // NS * NS)
        was_blind = event.feed in state.blind
        if event.live:
            state.blind.pop(event.feed, None)
        else:
            state.blind[event.feed] = event.reason
        if was_blind or not event.live:
            self._part(state)
        if event.refused:
            return self._refused(state, event, now_ns)
        armed = len(state.users[event.feed])
        if armed and not event.live and not was_blind:
            self.notices.append(("blind", f"{state.name}: no live feed ({event.reason}); {_triggers(armed)} not judged"
                                 " until it is back"))
        elif armed and event.live and was_blind:
            self.notices.append(("seeing", f"{state.name}: the feed is back; {_triggers(armed)} judged by what is"
                                 " newer"))
        return []

    def _refused(self, state: _Instrument, event: FeedChanged, now_ns: int) -> list[Send]:
        """Move what a snapshot can judge to the snapshots; tell the others that nobody watches for them."""
        assert event.feed is not None
        state.refused.add(event.feed)
        self._open.pop((state.name, event.feed), None)
        sends: list[Send] = [("broker", Unsubscribe(instrument=state.name, feed=event.feed))]
        for arm_id in sorted(state.users[event.feed]):
            standing = self._arms[arm_id]
            feed = self._feed_for(state, standing.method, "")
            if feed is None:
                self._forget(arm_id, standing)
                sends += _refusal(standing.armer, arm_id, f"{state.name}: {event.reason}")
            else:
                state.users[event.feed].discard(arm_id)
                state.users[feed].add(arm_id)
                self._arms[arm_id] = standing._replace(feed=feed)
                sends.append((standing.armer, TriggerArmed(arm_id=arm_id, feed=feed)))
        self._lines(state, now_ns)
        return sends + self.take_asks()

    @staticmethod
    def _part(state: _Instrument) -> None:
        """Two prices on both sides of a gap are not consecutive."""
        state.book.set_halted(True)
        if not state.halted:
            state.book.set_halted(False)

    def halt(self, instrument: str, halted: bool) -> None:
        """While an instrument is halted, nothing fires."""
        state = self._instruments.get(instrument)
        if state is not None:
            state.halted = halted
            state.book.set_halted(halted)

    # -- ticks -------------------------------------------------------------------------------------------------

    def ticks(self, batch: Iterable[TradeTick | QuoteTick], tell: Callable[[Fired], None], now_ns: int) -> None:
        """Judge ticks in order; `tell` hears of each firing at once. This is the hot path."""
        instruments = self._instruments
        for tick in batch:
            state = instruments.get(tick[0])
            if state is None:
                continue
            ts_ns = tick[3]
            if ts_ns < state.fresh_after_ns and not state.users[Feed.TICK_BY_TICK]:
                continue
            if not state.start_ns <= ts_ns < state.end_ns:
                self._move_session(state, ts_ns)
            if tick.__class__ is TradeTick:
                fired = state.book.on_trade(tick[1], ts_ns, eligible=tick[4])
                if tick[4] and tick[1] > 0:
                    state.mark = tick[1]
                    state.trade_ns = ts_ns
            else:
                fired = state.book.on_quote(tick[1], tick[2], ts_ns)  # type: ignore[arg-type]
                if 0 < tick[1] <= tick[2]:
                    state.quote_ns = ts_ns
                    if not state.trade_ns:
                        state.mark = (tick[1] + tick[2]) // 2  # type: ignore[assignment]
            state.heard_ns = now_ns
            if not state.changed:
                state.changed = True
                self._changed.append(state)
            for each in fired:
                tell(each)

    def _move_session(self, state: _Instrument, ts_ns: int) -> None:
        stretch = stretch_at(ts_ns)
        state.start_ns, state.end_ns = stretch.start_ns, stretch.end_ns
        if stretch.is_open != state.is_open:
            state.is_open = stretch.is_open
            state.book.set_session(stretch.is_open)
        if not stretch.is_open and stretch.start_ns > state.said_ns:
            held = sum(each.rth_only and each.instrument == state.name for each in self._arms.values())
            if held:
                state.said_ns = stretch.start_ns
                self.notices.append(("out_of_hours", f"{state.name}: {_triggers(held)} for regular hours only; prices"
                                     " move outside them (09:30 to 16:00 New York) and nothing fires"))

    def report(self, fired: Fired, now_ns: int) -> Send:
        """Return who is to be told of a firing, and what; its feed is let go, within a second."""
        standing = self._arms[fired.arm_id]
        self._forget(fired.arm_id, standing, keep_in_book=True)     # the book has let it go itself
        self._unsettled[standing.instrument] = None
        return standing.armer, TriggerFired(
            arm_id=fired.arm_id, bracket_id=standing.bracket_id, price=from_scaled(fired.price),
            level=from_scaled(fired.level), ratchets=fired.ratchets, ambiguous=fired.ambiguous,
            high_water=None if fired.high_water is None else from_scaled(fired.high_water),
            tick_ts_ns=fired.ts_ns, ts_ns=now_ns)

    # -- once a second -----------------------------------------------------------------------------------------

    def ratcheted(self, now_ns: int, limit: int = MAX_REPORTED) -> Iterator[Send]:
        """Report trailing stops that moved since the last time, a bounded number; ask again while `has_moved`."""
        for state in self._instruments.values():
            if limit <= 0:
                return
            while limit > 0 and state.book.has_moved:
                looked = min(limit, 64)
                limit -= looked
                for moved in state.book.moved_since(looked):
                    standing = self._arms[moved.arm_id]
                    yield standing.armer, TrailRatcheted(
                        arm_id=moved.arm_id, bracket_id=standing.bracket_id, high_water=from_scaled(moved.high_water),
                        stop=from_scaled(moved.stop), ratchets=moved.ratchets, ts_ns=now_ns)

    @property
    def has_moved(self) -> bool:
        """Whether `ratcheted` has more to report."""
        return any(state.book.has_moved for state in self._instruments.values())

    def marks(self) -> tuple[tuple[str, Decimal], ...]:
        """Return the last known price of every instrument that ticked since the last time."""
        changed, self._changed = self._changed, []
        found = []
        for state in changed:
            state.changed = False
            if state.mark > 0:
                found.append((state.name, from_scaled(state.mark)))
        return tuple(found)

    def facts(self) -> dict[str, object]:
        """Return arms, feeds and instruments as plain data."""
        return {
            "armed": len(self._arms),
            "feeds": sorted(f"{instrument} {feed}" for instrument, feed in self._open),
            "instruments": {
                name: {
                    "armed": len(state.book), "mark": str(from_scaled(state.mark)) if state.mark else None,
                    "last_trade_ns": state.trade_ns, "last_quote_ns": state.quote_ns, "in_session": state.is_open,
                    "halted": state.halted, "blind": {str(feed): reason for feed, reason in state.blind.items()},
                }
                for name, state in sorted(self._instruments.items())
            },
        }


def _refusal(armer: Any, arm_id: str, reason: str) -> list[Send]:
    return [(armer, TriggerRefused(arm_id=arm_id, reason=reason))]


def _triggers(count: int) -> str:
    return "1 held trigger is" if count == 1 else f"{count} held triggers are"


def _scaled(ask: ArmTrigger, method: TriggerMethod) -> Arm:
    """Turn an arm's Decimals into the book's integers, exactly. Raises ValueError for what does not fit."""
    def scaled(value: Decimal | None) -> int | None:
        return None if value is None else to_scaled(value)

    offset = ask.amount if ask.amount is not None else ask.percent
    # A trail that stood somewhere before has been activated: it goes on, and is not to wait for that price again.
    activation = ask.activation if ask.high_water is None and ask.initial_stop is None else None
    return Arm(
        arm_id=ask.arm_id, side=ask.side, kind=str(ask.kind), level=scaled(ask.level), offset=scaled(offset),
        method=method, activation=scaled(activation), high_water=scaled(ask.high_water),
        initial_stop=scaled(ask.initial_stop), rth_only=ask.rth_only)
