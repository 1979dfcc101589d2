"""Orders that wait for a time or for conditions, and orders that conditions shall cancel (ib-wire.md 4.1 and 6.4).

Law: this file judges and remembers; the exchange lets the orders go, or cancels them.

`goodAfterTime` keeps an order from the market until then, a short sale that waits for its shares is kept `locate_ms`.
Conditions keep it until they hold all at once; with `conditionsCancelOrder` the order works meanwhile and is cancelled
when they hold. A conjunction joins a condition to the next one, and binds closer than or; the last one's is not looked
at. Once let go, an order stays let go.

| condition | holds when |
|---|---|
| price | the price that its trigger method looks at (as a stop's; up like a BUY, down like a SELL) is at the level or \
beyond; double methods need it at two changes of the market running |
| time | the exchange's clock is at or past the time; "less": not past it |
| margin | the account's cushion (excess liquidity in percent of net liquidation value) is at the level or beyond |
| execution | since the order began to wait, its account had an execution in that symbol and type at that exchange |
| volume | the day's volume is at the level or beyond |
| percent change | the last price against the previous close is; without one, against the contract's reference price |

One market is known for each contract, so a condition's exchange is echoed only. Unless `conditionsIgnoreRth` is set,
conditions hold in regular hours only where the rules say `conditions_in_hours`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.venue.simulator.book import watched_prices
from actors.venue.simulator.hours import Hours, Phase
from actors.venue.simulator.instructions import (
    Condition,
    ExecutionCondition,
    MarginCondition,
    PercentChangeCondition,
    PriceCondition,
    TimeCondition,
    VolumeCondition,
)
from actors.venue.simulator.orders import Execution, Key, Order
from actors.venue.simulator.previews import cushion
from actors.venue.simulator.validation import parse_ib_time_ns

if TYPE_CHECKING:
    from actors.venue.simulator.rolls import Rolls

NS = 1_000_000_000
USUAL_HOURS = Hours()
DOUBLE = frozenset({1, 3})
LOCATE = "locate"
"""What holds a short sale until shares to borrow are found, which takes `locate_ms` of the rules."""


class Watch:
    """One order under watch. `waits`: it must not work yet."""

    def __init__(self, order: Order, now_ns: int, locate_ms: int) -> None:
        self.order = order
        after = parse_ib_time_ns(order.extras.get("goodAfterTime", ""))
        if order.why_held == LOCATE:
            after = max(after or 0, now_ns + locate_ms * 1_000_000)
        self.after_ns = after if after is not None and after > now_ns else None
        self.waits = True
        self.wakes: set[int] = set()
        self.touches = [0] * len(order.instructions.conditions)
        self.executed = [False] * len(order.instructions.conditions)


class Holds:
    """All orders under watch, oldest first."""

    def __init__(self, exchange: Rolls) -> None:
        self._exchange = exchange
        self.watches: dict[Key, Watch] = {}
        self._by_contract: dict[int, dict[Key, Watch]] = {}
        self._by_margin: dict[Key, Watch] = {}
        self._by_execution: dict[Key, Watch] = {}
        self._times: list[tuple[int, Key]] = []

    def knows(self, order: Order) -> bool:
        return order.key in self.watches

    @staticmethod
    def wanted(order: Order) -> bool:
        """Return whether this order has anything to be watched for."""
        return bool(order.instructions.conditions or order.extras.get("goodAfterTime") or order.why_held == LOCATE)

    def waits(self, order: Order) -> bool:
        watch = self.watches.get(order.key)
        return watch is not None and watch.waits

    def watch(self, order: Order, now_ns: int) -> bool:
        """Begin to watch an order that is ready to work; return whether it must wait."""
        if not self.wanted(order):
            return False
        conditions = order.instructions.conditions
        watch = self.watches[order.key] = Watch(order, now_ns, self._exchange.rules.locate_ms)
        for condition in conditions:
            if isinstance(condition, PriceCondition | VolumeCondition | PercentChangeCondition):
                self._by_contract.setdefault(condition.con_id, {})[order.key] = watch
            elif isinstance(condition, MarginCondition):
                self._by_margin[order.key] = watch
            elif isinstance(condition, ExecutionCondition):
                self._by_execution[order.key] = watch
            elif isinstance(condition, TimeCondition) and condition.is_more:
                self._wake(watch, parse_ib_time_ns(condition.time))
        self._wake(watch, watch.after_ns)
        for con_id in {c.con_id for c in conditions if isinstance(c, PriceCondition)}:
            self._touch(watch, con_id)
        watch.waits = watch.after_ns is not None or not order.instructions.conditions_cancel
        if self._holds(watch, now_ns):
            watch.waits = False
            if not order.instructions.conditions_cancel:
                self.leave(order)
        return watch.waits

    def leave(self, order: Order) -> None:
        """Forget an order: it was let go, or it ended."""
        if self.watches.pop(order.key, None) is None:
            return
        self._by_margin.pop(order.key, None)
        self._by_execution.pop(order.key, None)
        for condition in order.instructions.conditions:
            con_id = getattr(condition, "con_id", 0)
            watches = self._by_contract.get(con_id, {})
            watches.pop(order.key, None)
            if not watches:
                self._by_contract.pop(con_id, None)

    # what has come true ------------------------------------------------------------------------------------------

    def moved(self, con_id: int, now_ns: int) -> list[Order]:
        """Return the orders whose time has come by a change of this contract's market."""
        watches = self._by_contract.get(con_id, {})
        for watch in watches.values():
            self._touch(watch, con_id)
        return self._come_true([*watches.values(), *self._by_margin.values()], now_ns)

    def traded(self, execution: Execution, now_ns: int) -> list[Order]:
        """Return the orders whose time has come by this execution."""
        concerned = dict(self._by_margin)
        for key, watch in self._by_execution.items():
            for n, condition in enumerate(watch.order.instructions.conditions):
                if isinstance(condition, ExecutionCondition) and _fits(condition, execution, watch.order.account):
                    watch.executed[n] = True
                    concerned[key] = watch
        return self._come_true(concerned.values(), now_ns)

    def timed(self, now_ns: int) -> list[Order]:
        """Return the orders whose time has come by the clock."""
        due: dict[Key, Watch] = {}
        while (first := self.next_ns()) is not None and first <= now_ns:
            _, key = heapq.heappop(self._times)
            due[key] = self.watches[key]
        return self._come_true(due.values(), now_ns)

    def next_ns(self) -> int | None:
        """Return when the clock alone may change something, or None."""
        while self._times and self._times[0][1] not in self.watches:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None

    def _come_true(self, watches: Iterable[Watch], now_ns: int) -> list[Order]:
        ready = []
        for watch in list(watches):
            if watch.after_ns is not None and watch.after_ns <= now_ns:
                watch.after_ns = None
            cancels = watch.order.instructions.conditions_cancel
            if self._holds(watch, now_ns) or (cancels and watch.waits and watch.after_ns is None):
                ready.append(watch.order)
        return ready

    def let_go(self, order: Order, now_ns: int) -> bool | None:
        """Take one of the orders that have come true: True when it shall work now, False when it shall be cancelled.

        None: another order's fill has settled it meanwhile.
        """
        watch = self.watches.get(order.key)
        if watch is None:
            return None
        if not order.instructions.conditions_cancel:
            self.leave(order)
            return True
        if watch.waits:
            watch.waits = False
            return True
        return False if self._holds(watch, now_ns) else None

    def cancels(self, order: Order, now_ns: int) -> bool:
        """Return whether the conditions of a working order say that it shall be cancelled."""
        watch = self.watches.get(order.key)
        return watch is not None and not watch.waits and self._holds(watch, now_ns)

    # judging -----------------------------------------------------------------------------------------------------

    def _holds(self, watch: Watch, now_ns: int) -> bool:
        i = watch.order.instructions
        if watch.after_ns is not None:
            return False
        if not i.conditions:
            return True
        hours = self._exchange.hours or USUAL_HOURS
        in_hours_only = self._exchange.rules.conditions_in_hours and not i.conditions_ignore_rth
        if in_hours_only and hours.phase(now_ns) is not Phase.REGULAR:
            self._wake(watch, hours.next_open_ns(now_ns, extended=False))
            return False
        every = True                               # of the conditions that and has joined so far
        for n, condition in enumerate(i.conditions):
            every = every and self._one(watch, n, condition, now_ns)
            if condition.conjunction == "o" and n + 1 < len(i.conditions):
                if every:
                    return True
                every = True
        return every

    def _one(self, watch: Watch, n: int, c: Condition, now_ns: int) -> bool:
        if isinstance(c, ExecutionCondition):
            return watch.executed[n]
        if isinstance(c, PriceCondition):
            return watch.touches[n] >= (2 if self._method(c) in DOUBLE else 1)
        if isinstance(c, TimeCondition):
            at = parse_ib_time_ns(c.time)
            return at is not None and (now_ns >= at if c.is_more else now_ns <= at)
        if isinstance(c, MarginCondition):
            have = cushion(self._exchange, watch.order.account)
            return have >= c.percent if c.is_more else have <= c.percent
        quote = self._exchange.quote_of(c.con_id)
        if isinstance(c, VolumeCondition):
            return quote.volume >= c.volume if c.is_more else quote.volume <= c.volume
        close = quote.close or self._exchange.book(c.con_id).contract.reference_price
        if quote.last is None or not close:
            return False
        change = (quote.last - close) * 100 / close
        return change >= c.change_percent if c.is_more else change <= c.change_percent

    def _touch(self, watch: Watch, con_id: int) -> None:
        """Count how often running the market has been at the level of each price condition on this contract."""
        quote = self._exchange.quote_of(con_id)
        for n, c in enumerate(watch.order.instructions.conditions):
            if isinstance(c, PriceCondition) and c.con_id == con_id:
                prices = watched_prices(quote, self._method(c), c.is_more)
                reached = any(p >= c.price if c.is_more else p <= c.price for p in prices)
                watch.touches[n] = watch.touches[n] + 1 if reached else 0

    def _method(self, c: PriceCondition) -> int:
        return c.trigger_method or self._exchange.book(c.con_id).default_method

    def _wake(self, watch: Watch, when_ns: int | None) -> None:
        if when_ns is not None and when_ns not in watch.wakes:
            watch.wakes.add(when_ns)
            heapq.heappush(self._times, (when_ns, watch.order.key))


def _fits(c: ExecutionCondition, e: Execution, account: str) -> bool:
    return (e.account == account and e.contract.symbol == c.symbol and c.sec_type in ("", e.contract.sec_type)
            and c.exchange in ("", "*", "SMART", e.contract.exchange, e.contract.primary_exchange))
