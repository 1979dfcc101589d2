"""The working orders of one contract against its quote: who may trade, and at what price.

Law: nothing here changes an order except its trigger and trail; the exchange books the fills. A price change that can
reach no resting order costs a few comparisons, however many orders rest.
"""

from __future__ import annotations

from decimal import Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.orders import ZERO, Key, Order, Quote

STOPS = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})
TRAILS = frozenset({"TRAIL", "TRAIL LIMIT"})
LIMITED = frozenset({"LMT", "STP LMT", "TRAIL LIMIT"})
HUNDRED = Decimal(100)


class Book:
    """All orders that work on one contract, and the market they meet."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.quote = Quote()
        self.default_method = 1 if contract.sec_type == "OPT" else 2      # what trigger method 0 stands for
        self.combined = contract.sec_type == "BAG"                        # its prices may be 0 and below
        self.orders: dict[Key, Order] = {}
        self._stale = True
        self._always = False
        # The nearest price of each kind: nothing can happen until the market reaches one of them.
        self._buy_limit: Decimal | None = None
        self._sell_limit: Decimal | None = None
        self._buy_stop: Decimal | None = None
        self._sell_stop: Decimal | None = None

    def add(self, order: Order) -> None:
        self.orders[order.key] = order
        self._include(order)

    def remove(self, order: Order) -> None:
        # The bounds stay too wide until the next scan: harmless.
        if self.orders.pop(order.key, None) is not None and not self.orders:
            self._stale = True

    def touched(self) -> list[Order]:
        """Return the orders that the present quote may trigger or fill, oldest first; usually none."""
        if not self.orders:
            return []
        if self._stale:
            self._rebuild()
        if not self._always and not self._reached():
            return []
        self._stale = True
        return sorted(self.orders.values(), key=lambda o: o.seq)

    def _reached(self) -> bool:
        last, bid, ask = self.quote.last, self.quote.bid, self.quote.ask
        if self._buy_limit is not None and (_le(last, self._buy_limit) or _le(ask, self._buy_limit)):
            return True
        if self._sell_limit is not None and (_le(self._sell_limit, last) or _le(self._sell_limit, bid)):
            return True
        if self._buy_stop is not None and _le(self._buy_stop, last):
            return True
        return self._sell_stop is not None and _le(last, self._sell_stop)

    def dirty(self) -> None:
        """Say that an order's price or state has changed."""
        self._stale = True

    def _rebuild(self) -> None:
        self._stale = False
        self._always = False
        self._buy_limit = self._sell_limit = self._buy_stop = self._sell_stop = None
        for order in self.orders.values():
            self._include(order)

    def _include(self, order: Order) -> None:
        """Widen the bounds by one order. Trails, other trigger methods and unpriced orders are looked at every time."""
        waiting = order.order_type in STOPS and not order.triggered
        level = order.aux if waiting else order.lmt
        if waiting:
            plain = order.order_type not in TRAILS and (order.trigger_method or self.default_method) == 2
        else:
            plain = order.order_type in LIMITED and not order.legging
            if level is not None:
                level += order.instructions.discretionary * (1 if order.is_buy else -1)
        if not plain or level is None:
            self._always = True
        elif waiting and order.is_buy:
            self._buy_stop = level if self._buy_stop is None else min(level, self._buy_stop)
        elif waiting:
            self._sell_stop = level if self._sell_stop is None else max(level, self._sell_stop)
        elif order.is_buy:
            self._buy_limit = level if self._buy_limit is None else max(level, self._buy_limit)
        else:
            self._sell_limit = level if self._sell_limit is None else min(level, self._sell_limit)

    # triggers ------------------------------------------------------------------------------------------------

    def trigger_prices(self, order: Order) -> tuple[Decimal, ...]:
        """Return the prices that the order's trigger method looks at (domain.md 2.3)."""
        return watched_prices(self.quote, order.trigger_method or self.default_method, order.is_buy)

    def check_trigger(self, order: Order) -> bool:
        """Return True at the moment when a stop triggers; ratchet a trail that does not."""
        prices = self.trigger_prices(order)
        if not prices:
            return False
        level = order.trail_stop if order.order_type in TRAILS else order.aux
        if level is None:
            self._ratchet(order, prices)
            return False
        through = any(p >= level if order.is_buy else p <= level for p in prices)
        if not through:
            order.touches = 0
            if order.order_type in TRAILS:
                self._ratchet(order, prices)
            return False
        order.touches += 1
        needed = 2 if (order.trigger_method or self.default_method) in (1, 3) else 1
        if order.touches < needed:
            return False
        order.triggered = True
        return True

    @staticmethod
    def _ratchet(order: Order, prices: tuple[Decimal, ...]) -> None:
        best = min(prices) if order.is_buy else max(prices)
        if order.trail_percent is not None:
            away = best * order.trail_percent / HUNDRED
        else:
            away = order.aux or ZERO
        stop = best + away if order.is_buy else best - away
        old = order.trail_stop
        if old is None or (stop < old if order.is_buy else stop > old):
            order.trail_stop = stop
            if order.order_type == "TRAIL LIMIT" and order.lmt_offset is not None:
                order.lmt = stop + order.lmt_offset if order.is_buy else stop - order.lmt_offset

    # prices --------------------------------------------------------------------------------------------------

    def fill_price(self, order: Order, arriving: bool) -> Decimal | None:
        """Return the price at which a ready order trades now, or None.

        An arriving order takes the touch; a resting limit is taken at its own price when the market trades at it or
        through it.
        """
        q = self.quote
        touch = q.ask if order.is_buy else q.bid
        offered = touch is not None and (touch > 0 or self.combined)
        if order.order_type not in LIMITED:
            return touch if offered or self.combined else q.last
        limit = order.lmt
        if limit is None:
            return None
        if touch is not None and offered and (touch <= limit if order.is_buy else touch >= limit):
            return touch if arriving else limit
        if touch is not None and offered and order.instructions.discretionary:
            # Beyond its limit, but within its discretion: it goes to the other side and takes what is there.
            worst = limit + order.instructions.discretionary * (1 if order.is_buy else -1)
            if touch <= worst if order.is_buy else touch >= worst:
                return touch
        if (touch is None or not arriving) and not self.combined:      # the legs' lasts are no trade of a combination
            last = q.last
            if last is not None and (last <= limit if order.is_buy else last >= limit):
                return last if arriving else limit
        return None

    def available(self, order: Order, displayed: bool) -> Decimal:
        """Return how many shares the market offers to this order now."""
        size = self.quote.ask_size if order.is_buy else self.quote.bid_size
        if not displayed or size is None:
            return order.remaining
        return min(order.remaining, size)

    def takes(self, order: Order, displayed: bool) -> Decimal:
        """Return how many shares this order trades of what is offered: 0 where it wants more at once."""
        quantity = self.available(order, displayed)
        least = ZERO if order.filled else min(order.instructions.min_quantity, order.remaining)
        if order.tif == "FOK" or order.all_or_none:
            least = order.remaining
        return quantity if quantity >= least else ZERO

    def consume(self, order: Order, quantity: Decimal) -> None:
        """Take shares off the displayed size of the touch."""
        q = self.quote
        if order.is_buy and q.ask_size is not None:
            q.ask_size = max(ZERO, q.ask_size - quantity)
        elif not order.is_buy and q.bid_size is not None:
            q.bid_size = max(ZERO, q.bid_size - quantity)


def watched_prices(q: Quote, method: int, upward: bool) -> tuple[Decimal, ...]:
    """Return the prices that a trigger method looks at: of bid and ask, the ask for a trigger above the market."""
    touch = q.ask if upward else q.bid
    picked: tuple[Decimal | None, ...]
    if method in (1, 4):
        picked = (touch,)
    elif method == 7:
        picked = (q.last, touch)
    elif method == 8:
        picked = ((q.bid + q.ask) / 2 if q.bid is not None and q.ask is not None else None,)
    else:
        picked = (q.last,)
    return tuple(p for p in picked if p is not None and p > 0)


def _le(low: Decimal | None, high: Decimal | None) -> bool:
    return low is not None and high is not None and low <= high
