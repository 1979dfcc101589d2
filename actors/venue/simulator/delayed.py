"""Delayed market data: what happens is told to subscribers of delayed data so many seconds late.

Law: the order of events is kept and their own times are told; only the telling is late. The first subscriber of a
contract meets its present prices, as if they had stood for the whole delay: nothing older is kept for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator.feeds import Trade, Watcher
from actors.venue.simulator.orders import Quote

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

MOST_EVENTS = 500_000
"""Of one contract; beyond it the oldest are told early, so that memory stays bounded."""


class Delayed:
    """The past of one contract, as far as it is still to be told, and who waits for it."""

    def __init__(self, present: Quote, delay_ns: int) -> None:
        self.quote = msgspec.structs.replace(present)
        self.watchers: list[tuple[Session, Watcher]] = []
        self._delay_ns = delay_ns
        self._events: deque[tuple[int, Quote, Trade | None]] = deque()

    def push(self, q: Quote, trade: Trade | None, ex_ns: int) -> None:
        """Keep a change of the quote, or a print, for later."""
        self._events.append((ex_ns + self._delay_ns, msgspec.structs.replace(q), trade))
        if len(self._events) > MOST_EVENTS:
            self._tell()

    def next_ns(self) -> int | None:
        return self._events[0][0] if self._events else None

    def run(self, until_ns: int) -> None:
        """Tell everything whose time has come."""
        while self._events and self._events[0][0] <= until_ns:
            self._tell()

    def _tell(self) -> None:
        _, quote, trade = self._events.popleft()
        self.quote = quote
        self.tell(lambda watcher: watcher.quote(quote) if trade is None else watcher.trade(trade, quote))

    def tell(self, say: Callable[[Watcher], bytes]) -> None:
        """Send to every subscriber what is to be said to it."""
        for session, watcher in self.watchers:
            data = say(watcher)
            if data:
                session.send_tick(data)
